//! What a decision about a job costs, with a thousand and with a million builds of history behind it, for inputs that
//! can be satisfied and for ones that cannot; and what it costs to look at a whole large pipeline.
//! `cargo bench --bench resolve [-- --pairs N]`
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here has failed")]

mod yard;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whistlestop::base::clock::Time;
use whistlestop::base::id::{JobId, PipelineId, ResourceId, ScopeId};
use whistlestop::base::version::Version;
use whistlestop::schedule::due::Intervals;
use whistlestop::store::advance::{Advanced, Look};
use whistlestop::store::build::Status;
use whistlestop::store::config::{SaveConfig, SavedConfig};
use whistlestop::store::finish::{Start, StartInput};
use whistlestop::store::pipeline::PipelineRef;
use whistlestop::store::{ReadTx, Store, WriteTx};
use yard::{Pairs, line, ms, pairs};

const SHORT: i64 = 1_000;
const LONG: i64 = 1_000_000;
const WIDE: usize = 250;
const MINUTE: Duration = Duration::from_secs(60);

fn main() {
    if !yard::wanted() {
        return;
    }
    yard::title();
    if yard::asked("pipeline") {
        pipeline("each gets 4 of them", 4);
        pipeline("each gets all of them", WIDE);
    }
    if yard::asked("history") {
        history();
    }
}

struct Yard {
    store: Store,
    _directory: tempfile::TempDir,
    pipeline: PipelineId,
}

impl Yard {
    fn new(config: &Value) -> Yard {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let config = serde_json::from_value(config.clone()).unwrap();
        let pipeline = store.write_blocking(|tx| {
            let pipeline = PipelineRef::named("p");
            let save = SaveConfig {
                team: tx.ensure_main(None)?,
                pipeline: &pipeline,
                config: &config,
                from_version: 0,
                paused_if_new: false,
                parent: None,
                now: Time(1),
            };
            match tx.save_config(&save)? {
                SavedConfig::Saved { pipeline, .. } => Ok(pipeline),
                other => panic!("not saved: {other:?}"),
            }
        });
        Yard { store, _directory: directory, pipeline: pipeline.unwrap() }
    }

    fn job(&self, tx: &ReadTx<'_>, name: &str) -> JobId {
        tx.find_job(self.pipeline, name).unwrap().unwrap().id
    }

    /// A resource that was just checked, with its history.
    fn scope(&self, tx: &WriteTx<'_>, name: &str) -> (ResourceId, ScopeId) {
        let resource = tx.find_resource(self.pipeline, name).unwrap().unwrap();
        let scope = tx.find_or_create_scope(name, resource.team_id).unwrap().id;
        tx.set_scope(resource.id, scope).unwrap();
        tx.check_ended(scope, None, Time(i64::MAX / 2)).unwrap();
        (resource.id, scope)
    }
}

fn version(n: i64) -> Version {
    Version::from([("v", n.to_string().as_str())])
}

fn look(tx: &WriteTx<'_>, job: JobId) -> Advanced {
    let intervals = Intervals { usual: MINUTE, webhook: MINUTE };
    let look = Look { intervals: &intervals, now: Time(1_000), given: None };
    tx.advance_job(job, &look, &mut |_, _, _| Some(("{}".to_owned(), "{}".to_owned()))).unwrap()
}

/// 250 jobs and 250 resources; each job is triggered by its own, takes some of the others, and one that has passed the
/// job before it.
fn pipeline(what: &str, each: usize) {
    let name = |i: usize| format!("r{}", i % WIDE);
    let resources: Vec<_> = (0..WIDE).map(|i| json!({"name": name(i), "type": "mock"})).collect();
    let jobs: Vec<_> = (0..WIDE)
        .map(|i| {
            let mut plan = vec![json!({"get": name(i), "trigger": true})];
            plan.extend((1..each - 1).map(|k| json!({"get": name(i + k)})));
            if i > 0 {
                plan.push(json!({"get": "before", "resource": name(i - 1), "passed": [format!("j{}", i - 1)]}));
            }
            json!({"name": format!("j{i}"), "plan": plan})
        })
        .collect();
    let yard = Yard::new(&json!({"resources": resources, "jobs": jobs}));
    yard.store
        .write_blocking(|tx| {
            for i in 0..WIDE {
                let (_, scope) = yard.scope(tx, &name(i));
                tx.save_checked(scope, &(1..=20).map(version).collect::<Vec<_>>())?;
            }
            Ok(())
        })
        .unwrap();
    // Every job has had its versions: from then on a look finds nothing to do.
    while whole(&yard) > 0 {
        yard.store
            .write_blocking(|tx| {
                for build in tx.started_builds()? {
                    tx.finish_build(build.id, Status::Succeeded, Time(2))?;
                }
                Ok(())
            })
            .unwrap();
    }
    let mut times = Vec::new();
    for _ in 0..pairs().min(20) {
        yard.store.write_blocking(|tx| tx.request_schedule_of_pipeline(yard.pipeline)).unwrap();
        let begin = Instant::now();
        assert_eq!(whole(&yard), 0);
        times.push(ms(begin.elapsed()));
    }
    let goal = if each == WIDE { "" } else { "<= 50 ms" };
    line(
        &format!("a pipeline of 250 jobs, 250 resources, {what}"),
        goal,
        (yard::median(&times), "ms"),
        None,
        times.len(),
    );
}

/// Looks at all that want it; how many builds were started.
fn whole(yard: &Yard) -> usize {
    let mut started = 0;
    loop {
        let wanting = yard.store.read_blocking(|tx| tx.jobs_wanting_schedule()).unwrap();
        if wanting.is_empty() {
            return started;
        }
        for some in wanting.chunks(whistlestop::engine::schedule::TOGETHER) {
            let looked = yard
                .store
                .write_blocking(|tx| Ok(some.iter().map(|(job, _)| look(tx, *job).started.len()).sum::<usize>()));
            started += looked.unwrap();
        }
    }
}

/// Jobs whose builds are the history. `odd` and `even` never had the same version of r; `crossed` never had the same
/// pair of versions as `unit`; `slow` succeeded once, at the beginning.
fn config() -> Value {
    let get = |passed: &[&str], resource: &str| json!({"get": resource, "passed": passed});
    let takes = |name: &str, plan: Value| json!({"name": name, "plan": plan});
    let both = json!([{"get": "r"}, {"get": "s"}]);
    json!({
        "resources": [{"name": "r", "type": "mock"}, {"name": "s", "type": "mock"}],
        "jobs": [
            takes("unit", both.clone()), takes("lint", both.clone()), takes("crossed", both),
            takes("odd", json!([{"get": "r"}])), takes("even", json!([{"get": "r"}])),
            takes("slow", json!([{"get": "r"}])), takes("never", json!([{"get": "r"}])),
            takes("newest", json!([{"get": "r"}])),
            takes("every", json!([{"get": "r", "version": "every"}])),
            takes("passed", json!([get(&["unit", "lint"], "r"), get(&["unit", "lint"], "s")])),
            takes("passed-every", json!([{"get": "r", "passed": ["unit"], "version": "every"}])),
            takes("behind", json!([get(&["unit", "slow"], "r")])),
            takes("nothing-yet", json!([get(&["unit", "never"], "r")])),
            takes("apart", json!([get(&["odd", "even"], "r")])),
            takes("pairs-apart", json!([get(&["unit", "crossed"], "r"), get(&["unit", "crossed"], "s")])),
            takes("pinned", json!([{"get": "r", "passed": ["unit", "slow"], "version": {"v": "3"}}])),
            takes("pin-missing", json!([{"get": "r", "version": {"v": "nowhere"}}])),
        ],
    })
}

/// The jobs that are looked at, and what they stand for.
const LOOKS: [(&str, &str); 10] = [
    ("newest", "the newest version"),
    ("every", "every version in turn"),
    ("passed", "two inputs passed two jobs"),
    ("passed-every", "every version that passed a job"),
    ("behind", "passed a job that is far behind"),
    ("nothing-yet", "none: a job never succeeded"),
    ("apart", "none: two jobs never had the same version"),
    ("pairs-apart", "none: two jobs never had the same pair"),
    ("pinned", "none: pinned to what one job never had"),
    ("pin-missing", "none: the pin is in no version"),
];

fn history() {
    let yards = [grown(SHORT), grown(LONG)];
    let mut costs: Vec<Pairs> = LOOKS.iter().map(|_| Pairs::default()).collect();
    for round in 0..=pairs() as i64 {
        // Each decision comes after something new: another version, and another success of `unit` and `lint`.
        for yard in &yards {
            yard.store.write_blocking(|tx| news(tx, yard, round)).unwrap();
        }
        for ((job, _), pairs) in LOOKS.iter().zip(&mut costs) {
            let [short, long] = [&yards[0], &yards[1]].map(|yard| {
                let begin = Instant::now();
                let done = yard.store.write_blocking(|tx| Ok(look(tx, yard.job(tx, job)))).unwrap();
                assert!(!done.search, "{job}: still searching");
                begin.elapsed()
            });
            // The first round only warms up.
            if round > 0 {
                pairs.add(long, short);
            }
        }
    }
    for ((_, what), pairs) in LOOKS.iter().zip(&costs) {
        pairs.show(&format!("decision, {what} (floor: 1,000 builds)"), "<= 2 x");
    }
}

/// A store with so many builds of history, whose long searches were made.
fn grown(builds: i64) -> Yard {
    let yard = Yard::new(&config());
    let begin = Instant::now();
    let each = builds / 5;
    // Making it at once wants more room than the server takes.
    yard.store.write_blocking(|tx| Ok(tx.execute_batch("pragma cache_size = -1500000")?)).unwrap();
    yard.store
        .write_blocking(|tx| {
            for name in ["r", "s"] {
                let (_, scope) = yard.scope(tx, name);
                // Digests are made here; the rest is copied by the database.
                for n in 1..=each + 1 {
                    let version = version(n);
                    tx.prepare_cached(
                        "insert into versions (scope_id, digest, version, check_order) values (?, ?, ?, ?)",
                    )?
                    .execute((scope.0, version.digest(), version.canonical(), n))?;
                }
            }
            tx.execute_batch(
                "insert into version_pairs (scope_id, key, value, version_id)
                 select scope_id, 'v', version ->> '$.v', id from versions",
            )?;
            for (job, r, s) in [
                ("unit", "n", Some("n")),
                ("lint", "n", Some("n")),
                ("crossed", "n", Some("n + 1")),
                ("odd", "2 * (n / 2) + 1", None),
                ("even", "2 * (n / 2) + 2", None),
            ] {
                succeed(tx, &yard, job, each - 2, [Some(r), s]);
            }
            succeed(tx, &yard, "slow", 1, [Some("n"), None]);
            tx.execute_batch("analyze")?;
            Ok(())
        })
        .unwrap();
    yard.store.write_blocking(|tx| Ok(tx.execute_batch("pragma cache_size = -2048")?)).unwrap();
    println!("  {builds} builds made in {:.1} s", begin.elapsed().as_secs_f64());
    for (job, what) in LOOKS {
        let id = yard.store.read_blocking(|tx| Ok(yard.job(tx, job))).unwrap();
        let done = yard.store.write_blocking(|tx| Ok(look(tx, id))).unwrap();
        if done.search {
            let begin = Instant::now();
            let found = yard.store.read_blocking(|tx| tx.search_inputs(id)).unwrap();
            println!("  {what}: {:.2} s of reading once, beside everything else", begin.elapsed().as_secs_f64());
            let intervals = Intervals { usual: MINUTE, webhook: MINUTE };
            let look = Look { intervals: &intervals, now: Time(1_000), given: found };
            let plan = &mut |_: &_, _, _: &[StartInput]| Some(("{}".to_owned(), "{}".to_owned()));
            assert!(!yard.store.write_blocking(|tx| tx.advance_job(id, &look, plan)).unwrap().search);
        }
    }
    // Where every version is wanted in turn, the job has had all but the newest.
    yard.store
        .write_blocking(|tx| {
            for job in ["every", "passed-every"] {
                build(tx, &yard, job, &[("r", each)])?;
            }
            Ok(())
        })
        .unwrap();
    yard
}

/// `count` builds of a job that succeeded, the n-th with the versions that the expressions say.
fn succeed(tx: &WriteTx<'_>, yard: &Yard, job: &str, count: i64, versions: [Option<&str>; 2]) {
    let id = yard.job(tx, job).0;
    let base: i64 = tx.query_row("select coalesce(max(id), 0) from builds", (), |r| r.get(0)).unwrap();
    let team: i64 = tx.query_row("select id from teams", (), |r| r.get(0)).unwrap();
    tx.execute(
        "with recursive c (n) as (select 1 union all select n + 1 from c where n < ?5)
         insert into builds (id, name, status, team_id, pipeline_id, job_id, created_at, started_at, ended_at, scheduled, success)
         select ?1 + n, cast(n as text), 'succeeded', ?2, ?3, ?4, n, n, n, 1, n from c",
        (base, team, yard.pipeline.0, id, count),
    )
    .unwrap();
    tx.execute(
        "update jobs set build_count = ?1, latest_completed_build_id = ?2 where id = ?3",
        (count, base + count, id),
    )
    .unwrap();
    for (resource, expression) in ["r", "s"].iter().zip(versions) {
        let Some(expression) = expression else { continue };
        let row = tx.find_resource(yard.pipeline, resource).unwrap().unwrap();
        let (resource_id, scope) = (row.id.0, row.scope_id.unwrap().0);
        tx.execute(
            &format!(
                "insert into build_inputs (build_id, name, resource_id, digest, version, first_occurrence, job_id)
                 select ?1 + n, '{resource}', ?2, v.digest, v.version, 1, ?3
                 from (select id - ?1 as n from builds where job_id = ?3) cross join versions v
                 on v.scope_id = ?4 and v.check_order = {expression}"
            ),
            (base, resource_id, id, scope),
        )
        .unwrap();
    }
    tx.execute(
        "insert into vouchers (job_id, resource_id, digest, origin, build_id)
         select job_id, resource_id, digest, build_id, build_id from build_inputs where job_id = ?1",
        [id],
    )
    .unwrap();
}

/// A build of a job that is made, started and succeeds as any other.
fn build(tx: &WriteTx<'_>, yard: &Yard, job: &str, inputs: &[(&str, i64)]) -> whistlestop::store::Result<()> {
    let build = tx.create_manual_build(yard.job(tx, job), "bench", Time(1_000))?;
    let inputs: Vec<_> = inputs
        .iter()
        .map(|(name, n)| StartInput {
            name: (*name).to_owned(),
            resource_id: tx.find_resource(yard.pipeline, name).unwrap().unwrap().id,
            version: version(*n),
            first_occurrence: false,
            from_builds: vec![],
        })
        .collect();
    tx.start_build(&Start { build, plan: "{}", public_plan: "{}", inputs: &inputs, now: Time(1_000) })?;
    tx.finish_build(build, Status::Succeeded, Time(1_000))?;
    Ok(())
}

/// A new version of both resources, which passes `unit` and `lint`.
fn news(tx: &WriteTx<'_>, yard: &Yard, round: i64) -> whistlestop::store::Result<()> {
    let n = 10 * LONG + round;
    for name in ["r", "s"] {
        let scope = tx.find_resource(yard.pipeline, name)?.unwrap().scope_id.unwrap();
        tx.save_checked(scope, &[version(n)])?;
    }
    for job in ["unit", "lint"] {
        build(tx, yard, job, &[("r", n), ("s", n)])?;
    }
    Ok(())
}
