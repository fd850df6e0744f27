//! Answers the resolver's questions about history. Each is a few steps down an index, however long history is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{OptionalExtension, Row, params};

use super::column::Json;
use super::{Error, ReadTx, Result, WriteTx};
use crate::base::id::{BuildId, JobId, ResourceId, ScopeId};
use crate::base::version::Version;
use crate::schedule::history::{Heard, Held, History, Holding, News, Place, Walk};
use crate::schedule::input::{Decision, Input, Picked};
use crate::schedule::memory::Memory;
use crate::schedule::resolve;

/// Before, or after, every place there is.
const START: Place = Place { origin: BuildId(i64::MIN), build: BuildId(i64::MIN) };
const END: Place = Place { origin: BuildId(i64::MAX), build: BuildId(i64::MAX) };

/// A stretch of a job's history, both ends inclusive, and the way through it.
struct Stretch {
    from: Place,
    to: Place,
    upwards: bool,
}

impl Stretch {
    fn of(walk: Walk) -> Stretch {
        let below = |p: Place| Place { build: BuildId(p.build.0.saturating_sub(1)), ..p };
        let above = |p: Place| match p.build.0 {
            i64::MAX => Place { origin: BuildId(p.origin.0.saturating_add(1)), build: START.build },
            n => Place { build: BuildId(n + 1), ..p },
        };
        match walk {
            Walk::Down => Stretch { from: START, to: END, upwards: false },
            Walk::DownFrom(p) => Stretch { from: START, to: p, upwards: false },
            Walk::DownBelow(p) => Stretch { from: START, to: below(p), upwards: false },
            Walk::DownAbove(to, p) => Stretch { from: above(p), to: to.map_or(END, below), upwards: false },
            Walk::UpAbove(p) => Stretch { from: above(p), to: END, upwards: true },
        }
    }

    fn order(&self) -> &'static str {
        if self.upwards { "asc" } else { "desc" }
    }
}

/// Why a reader stops.
enum Stop {
    Store(Error),
    /// It has read as much as it may.
    Enough,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Store(error)
    }
}

/// History as one job reads it.
struct Reader<'r, 'c> {
    tx: &'r ReadTx<'c>,
    job: JobId,
    /// Of what builds hold, only versions of these are told.
    wanted: BTreeSet<ResourceId>,
    /// How much may still be read.
    left: usize,
}

impl Reader<'_, '_> {
    fn spend(&mut self, reads: usize) -> std::result::Result<(), Stop> {
        self.left = self.left.checked_sub(reads).ok_or(Stop::Enough)?;
        Ok(())
    }
}

impl History for Reader<'_, '_> {
    type Error = Stop;

    fn latest(&mut self, resource: ResourceId) -> std::result::Result<Option<Picked>, Stop> {
        Ok(match self.tx.scope_of(resource)? {
            Some(scope) => self.tx.enabled(scope, resource, i64::MAX)?,
            None => None,
        })
    }

    fn every(&mut self, resource: ResourceId) -> std::result::Result<Option<(Picked, bool)>, Stop> {
        Ok(self.tx.every(self.job, resource)?)
    }

    fn pinned(&mut self, resource: ResourceId, pin: &Version) -> std::result::Result<Option<Picked>, Stop> {
        Ok(match self.tx.scope_of(resource)? {
            Some(scope) => self.tx.newest_containing(scope, pin)?.map(Picked::from),
            None => None,
        })
    }

    fn seen(&mut self, input: &str, resource: ResourceId, digest: &str) -> std::result::Result<bool, Stop> {
        Ok(self.tx.seen(self.job, input, resource, digest)?)
    }

    fn last_used(&mut self, resource: ResourceId) -> std::result::Result<Option<BTreeMap<JobId, Place>>, Stop> {
        Ok(self.tx.last_used(self.job, resource)?)
    }

    fn builds(
        &mut self,
        job: JobId,
        holding: &Holding,
        walk: Walk,
        limit: usize,
    ) -> std::result::Result<(Vec<Place>, bool), Stop> {
        let stretch = Stretch::of(walk);
        let mut places = match holding.len() {
            0 => self.tx.succeeded(job, &stretch, limit + 1)?,
            _ => self.tx.succeeded_holding(job, holding, stretch, limit + 1, &mut self.left)?.ok_or(Stop::Enough)?,
        };
        self.spend(1)?;
        let more = places.len() > limit;
        places.truncate(limit);
        Ok((places, more))
    }

    fn holds(&mut self, build: BuildId) -> std::result::Result<Vec<Held>, Stop> {
        self.spend(1)?;
        Ok(self.tx.holds(build, &self.wanted)?)
    }

    fn news(&mut self, heard: &Heard) -> std::result::Result<News, Stop> {
        let news = self.tx.news(heard)?;
        self.spend(news.builds.len())?;
        Ok(news)
    }

    fn basis(&mut self, resources: &BTreeSet<ResourceId>) -> std::result::Result<String, Stop> {
        Ok(self.tx.basis(resources)?)
    }
}

impl ReadTx<'_> {
    /// Says which versions a job's inputs get; `None` if more than `limit` pages would have to be read for that.
    pub fn resolve_inputs(&self, job: JobId, inputs: &[Input], limit: usize) -> Result<Option<Decision>> {
        let wanted = inputs.iter().map(|i| i.resource).collect();
        let mut reader = Reader { tx: self, job, wanted, left: limit };
        match resolve(inputs, &mut reader, &self.memories(job)?) {
            Ok(decision) => Ok(Some(decision)),
            Err(Stop::Enough) => Ok(None),
            Err(Stop::Store(error)) => Err(error),
        }
    }

    /// What the resolver remembers of a job's inputs.
    pub fn memories(&self, job: JobId) -> Result<BTreeMap<String, Memory>> {
        let mut query = self.prepare_cached("select input, memory from resolver_memories where job_id = ?")?;
        let rows = query.query_map([job], |r| Ok((r.get(0)?, r.get::<_, Json<Memory>>(1)?.0)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn seen(&self, job: JobId, input: &str, resource: ResourceId, digest: &str) -> Result<bool> {
        let mut query = self.prepare_cached(
            "select exists (select 1 from build_inputs
               where job_id = ? and resource_id = ? and digest = ? and name = ?)",
        )?;
        Ok(query.query_row(params![job, resource, digest, input], |r| r.get(0))?)
    }

    fn news(&self, heard: &Heard) -> Result<News> {
        let mut newest = self
            .prepare_cached("select coalesce(max(success), 0) from builds where job_id = ? and success is not null")?;
        let mut since = self.prepare_cached(
            "select coalesce(rerun_of, id), id from builds where job_id = ? and success is not null and success > ?",
        )?;
        let mut news = News::default();
        for (&job, &count) in heard {
            let now: i64 = newest.query_row([job], |r| r.get(0))?;
            news.heard.insert(job, now);
            if (0..now).contains(&count) {
                for at in since.query_map(params![job, count], place)? {
                    news.builds.push((job, at?));
                }
            }
        }
        Ok(news)
    }

    fn basis(&self, resources: &BTreeSet<ResourceId>) -> Result<String> {
        let mut query = self.prepare_cached("select coalesce(scope_id, 0), reopened from resources where id = ?")?;
        let mut basis = String::new();
        for resource in resources {
            let (scope, reopened): (i64, i64) = query.query_row([resource], |r| Ok((r.get(0)?, r.get(1)?)))?;
            basis.push_str(&format!("{resource} {scope} {reopened};"));
        }
        Ok(basis)
    }

    fn scope_of(&self, resource: ResourceId) -> Result<Option<ScopeId>> {
        let mut query = self.prepare_cached("select scope_id from resources where id = ?")?;
        Ok(query.query_row([resource], |r| r.get(0)).optional()?.flatten())
    }

    /// The newest enabled version up to that place in the history.
    fn enabled(&self, scope: ScopeId, resource: ResourceId, up_to: i64) -> Result<Option<Picked>> {
        let mut query = self.prepare_cached(
            "select v.version, v.digest from versions v where v.scope_id = ?1 and v.check_order <= ?3
               and not exists (select 1 from disabled_versions d where d.resource_id = ?2 and d.digest = v.digest)
             order by v.check_order desc, v.id desc limit 1",
        )?;
        Ok(query.query_row(params![scope, resource, up_to], picked).optional()?)
    }

    /// The next enabled version after the newest that the job had; without one, the newest up to there.
    fn every(&self, job: JobId, resource: ResourceId) -> Result<Option<(Picked, bool)>> {
        let Some(scope) = self.scope_of(resource)? else { return Ok(None) };
        let Some((order, _)) = self.newest_used(job, resource, scope)? else {
            return Ok(self.enabled(scope, resource, i64::MAX)?.map(|p| (p, false)));
        };
        let next: Vec<Picked> = self
            .prepare_cached(
                "select v.version, v.digest from versions v where v.scope_id = ?1 and v.check_order > ?3
                   and not exists (select 1 from disabled_versions d where d.resource_id = ?2 and d.digest = v.digest)
                 order by v.check_order, v.id limit 2",
            )?
            .query_map(params![scope, resource, order], picked)?
            .collect::<rusqlite::Result<_>>()?;
        let more = next.len() > 1;
        match next.into_iter().next() {
            Some(next) => Ok(Some((next, more))),
            None => Ok(self.enabled(scope, resource, order)?.map(|p| (p, false))),
        }
    }

    /// Place and digest of the newest version that the job had as any input. It looks at those that came since.
    fn newest_used(&self, job: JobId, resource: ResourceId, scope: ScopeId) -> Result<Option<(i64, String)>> {
        let any: bool = self
            .prepare_cached("select exists (select 1 from build_inputs where job_id = ? and resource_id = ?)")?
            .query_row(params![job, resource], |r| r.get(0))?;
        if !any {
            return Ok(None);
        }
        let mut query = self.prepare_cached(
            "select v.check_order, v.digest from versions v where v.scope_id = ?3
               and exists (select 1 from build_inputs i
                           where i.job_id = ?1 and i.resource_id = ?2 and i.digest = v.digest)
             order by v.check_order desc, v.id desc limit 1",
        )?;
        Ok(query.query_row(params![job, resource, scope], |r| Ok((r.get(0)?, r.get(1)?))).optional()?)
    }

    /// Where the upstream builds stand that vouched for the build with the newest version.
    fn last_used(&self, job: JobId, resource: ResourceId) -> Result<Option<BTreeMap<JobId, Place>>> {
        let Some(scope) = self.scope_of(resource)? else { return Ok(None) };
        let Some((_, digest)) = self.newest_used(job, resource, scope)? else { return Ok(None) };
        let mut query = self.prepare_cached(
            "select b.job_id, coalesce(b.rerun_of, b.id), b.id
             from build_pipes p join builds b on b.id = p.from_build_id
             where b.job_id is not null and p.to_build_id = (
               select max(build_id) from build_inputs where job_id = ? and resource_id = ? and digest = ?)",
        )?;
        let mut used: BTreeMap<JobId, Place> = BTreeMap::new();
        let mut rows = query.query(params![job, resource, digest])?;
        while let Some(r) = rows.next()? {
            let place = Place { origin: r.get(1)?, build: r.get(2)? };
            used.entry(r.get(0)?).and_modify(|p| *p = place.max(*p)).or_insert(place);
        }
        Ok(Some(used))
    }

    fn succeeded(&self, job: JobId, stretch: &Stretch, limit: usize) -> Result<Vec<Place>> {
        let order = stretch.order();
        let mut query = self.prepare_cached(&format!(
            "select coalesce(rerun_of, id), id from builds
             where job_id = ?1 and status = 'succeeded'
               and coalesce(rerun_of, id) >= ?2 and (coalesce(rerun_of, id) > ?2 or id >= ?3)
               and coalesce(rerun_of, id) <= ?4 and (coalesce(rerun_of, id) < ?4 or id <= ?5)
             order by coalesce(rerun_of, id) {order}, id {order} limit ?6"
        ))?;
        let (from, to) = (stretch.from, stretch.to);
        let rows = query.query_map(params![job, from.origin, from.build, to.origin, to.build, limit as i64], place)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Builds that hold all of these versions: each version in turn says where the next build is that holds it, until
    /// they agree. So it takes as long as the rarest of them. `None` if that is more than is `left`.
    fn succeeded_holding(
        &self,
        job: JobId,
        holding: &Holding,
        mut stretch: Stretch,
        limit: usize,
        left: &mut usize,
    ) -> Result<Option<Vec<Place>>> {
        let order = stretch.order();
        let mut query = self.prepare_cached(&format!(
            "select origin, build_id from vouchers
             where job_id = ?1 and resource_id = ?2 and digest = ?3
               and origin >= ?4 and (origin > ?4 or build_id >= ?5)
               and origin <= ?6 and (origin < ?6 or build_id <= ?7)
             order by origin {order}, build_id {order} limit 1"
        ))?;
        let mut places = Vec::new();
        let mut agreed = 0;
        let mut versions = holding.iter().cycle();
        while places.len() < limit {
            let Some((resource, digest)) = versions.next() else { break };
            match left.checked_sub(1) {
                Some(rest) => *left = rest,
                None => return Ok(None),
            }
            let (from, to) = (stretch.from, stretch.to);
            let next = query
                .query_row(params![job, resource, digest, from.origin, from.build, to.origin, to.build], place)
                .optional()?;
            let Some(next) = next else { break };
            let here = if stretch.upwards { &mut stretch.from } else { &mut stretch.to };
            agreed = if next == *here { agreed + 1 } else { 1 };
            *here = next;
            if agreed >= holding.len() {
                places.push(next);
                agreed = 0;
                let walk = if stretch.upwards { Walk::UpAbove(next) } else { Walk::DownBelow(next) };
                // A walk that ends somewhere goes on to there.
                let rest = Stretch::of(walk);
                stretch = match stretch.upwards {
                    true => Stretch { from: rest.from, ..stretch },
                    false => Stretch { to: rest.to, ..stretch },
                };
            }
        }
        Ok(Some(places))
    }

    /// What a build holds of the wanted resources.
    fn holds(&self, build: BuildId, wanted: &BTreeSet<ResourceId>) -> Result<Vec<Held>> {
        let mut query = self.prepare_cached(
            "select h.resource_id, h.digest, h.version,
               exists (select 1 from versions v where v.digest = h.digest
                       and v.scope_id = (select scope_id from resources where id = h.resource_id)),
               exists (select 1 from disabled_versions d where d.resource_id = h.resource_id and d.digest = h.digest)
             from (select resource_id, digest, version, 0 as given, name from build_outputs where build_id = ?1
                   union all select resource_id, digest, version, 1, name from build_inputs where build_id = ?1) h
             order by h.resource_id, h.given, h.name, h.digest",
        )?;
        let mut holds: Vec<Held> = Vec::new();
        let mut rows = query.query([build])?;
        while let Some(r) = rows.next()? {
            let (resource, digest): (ResourceId, String) = (r.get(0)?, r.get(1)?);
            let twice = holds.iter().any(|h| h.resource == resource && h.picked.digest == digest);
            if wanted.contains(&resource) && !twice {
                let picked = Arc::new(Picked { version: r.get(2)?, digest });
                holds.push(Held { resource, picked, known: r.get(3)?, disabled: r.get(4)? });
            }
        }
        Ok(holds)
    }
}

impl WriteTx<'_> {
    /// Keeps what the resolver wants to remember; writes only what has changed.
    pub fn save_memories(&self, job: JobId, memories: &BTreeMap<String, Memory>) -> Result<()> {
        let before = self.memories(job)?;
        for input in before.keys().filter(|input| !memories.contains_key(*input)) {
            self.prepare_cached("delete from resolver_memories where job_id = ? and input = ?")?
                .execute(params![job, input])?;
        }
        for (input, memory) in memories.iter().filter(|(input, memory)| before.get(*input) != Some(memory)) {
            self.prepare_cached("insert or replace into resolver_memories (job_id, input, memory) values (?, ?, ?)")?
                .execute(params![job, input, Json(memory)])?;
        }
        Ok(())
    }
}

fn picked(r: &Row<'_>) -> rusqlite::Result<Picked> {
    Ok(Picked { version: r.get::<_, Version>(0)?, digest: r.get(1)? })
}

fn place(r: &Row<'_>) -> rusqlite::Result<Place> {
    Ok(Place { origin: r.get(0)?, build: r.get(1)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::params;
    use serde_json::json;

    use super::*;
    use crate::base::clock::Time;
    use crate::schedule::model::{OWN, RESOURCES, UPSTREAM, VERSIONS, World, name, version, world};
    use crate::store::finish::{Start, StartInput};
    use crate::store::fixture::{scoped, set, store};
    use crate::store::{Store, WriteTx};

    /// Writes the world into tables; jobs, resources and builds get the ids they have in the model.
    fn write(tx: &WriteTx<'_>, world: &World) -> Result<()> {
        let resources: Vec<_> = RESOURCES.map(|r| json!({"name": name(r), "type": "mock"})).collect();
        let jobs: Vec<_> = (OWN.0..=*UPSTREAM.end()).map(|j| json!({"name": format!("j{j}"), "plan": []})).collect();
        let pipeline = set(tx, "p", json!({"resources": resources, "jobs": jobs}))?;
        for r in RESOURCES {
            let (resource, scope) = scoped(tx, pipeline, &name(r));
            assert_eq!(resource.0, r);
            for v in VERSIONS {
                tx.save_checked(scope, &[version(v)])?;
                if world.disabled.contains(&(r, v)) {
                    let id = tx.find_version(resource, &version(v))?.unwrap().id;
                    tx.set_version_enabled(resource, id, false)?;
                }
            }
            let gone = version(*VERSIONS.end());
            tx.execute("delete from versions where scope_id = ? and digest = ?", params![scope, gone.digest()])?;
        }
        for (index, b) in world.builds.iter().enumerate() {
            let id = tx.create_manual_build(JobId(b.job), "somebody", Time(1))?;
            assert_eq!(id.0, index as i64 + 1);
            let rerun_of = b.rerun_of.map(|of| of as i64 + 1);
            tx.execute("update builds set rerun_of = ? where id = ?", params![rerun_of, id])?;
            let inputs: Vec<_> = b
                .inputs
                .iter()
                .map(|(r, v)| StartInput {
                    name: name(*r),
                    resource_id: ResourceId(*r),
                    version: version(*v),
                    first_occurrence: false,
                    from_builds: b.from.iter().map(|f| BuildId(*f as i64 + 1)).collect(),
                })
                .collect();
            tx.start_build(&Start { build: id, plan: "{}", public_plan: "{}", inputs: &inputs, now: Time(1) })?;
            // Where a build had no inputs it has no pipes either, in the model too.
            for (r, v) in &b.outputs {
                tx.execute(
                    "insert into build_outputs (build_id, name, resource_id, digest, version) values (?, ?, ?, ?, ?)",
                    params![id, name(*r), r, version(*v).digest(), version(*v)],
                )?;
            }
            let status = if b.succeeded { "succeeded" } else { "failed" };
            let status = crate::store::build::Status::ALL.into_iter().find(|s| s.as_str() == status).unwrap();
            tx.finish_build(id, status, Time(2))?;
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn the_queries_say_what_the_model_says(world in prop_oneof![world(true, false), world(true, true)]) {
            let (store, _dir) = store();
            let found = store
                .write_blocking(|tx| {
                    write(tx, &world)?;
                    tx.resolve_inputs(OWN, &world.inputs, usize::MAX)
                })
                .unwrap();
            prop_assert_eq!(found.unwrap().resolution, world.resolve());
        }
    }

    /// What SQLite does for a query.
    fn query_plan(store: &Store, query: &str) -> String {
        store
            .read_blocking(|tx| {
                let mut explain = tx.prepare(&format!("explain query plan {query}"))?;
                let n = explain.parameter_count();
                let rows = explain.query_map(rusqlite::params_from_iter(vec![1; n]), |r| r.get::<_, String>(3))?;
                Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.join("; "))
            })
            .unwrap()
    }

    #[test]
    fn going_through_history_is_a_walk_down_an_index() {
        let (store, _dir) = store();
        for (query, index) in [
            (
                "select coalesce(rerun_of, id), id from builds where job_id = ?1 and status = 'succeeded'
                   and coalesce(rerun_of, id) >= ?2 and (coalesce(rerun_of, id) > ?2 or id >= ?3)
                   and coalesce(rerun_of, id) <= ?4 and (coalesce(rerun_of, id) < ?4 or id <= ?5)
                 order by coalesce(rerun_of, id) desc, id desc limit ?6",
                "builds_succeeded (job_id=? AND <expr>>? AND <expr><?)",
            ),
            (
                "select origin, build_id from vouchers where job_id = ?1 and resource_id = ?2 and digest = ?3
                   and origin >= ?4 and (origin > ?4 or build_id >= ?5) and origin <= ?6 and (origin < ?6 or build_id <= ?7)
                 order by origin desc, build_id desc limit 1",
                "PRIMARY KEY (job_id=? AND resource_id=? AND digest=? AND origin>? AND origin<?)",
            ),
            (
                "select v.version from versions v where v.scope_id = ?1 and v.check_order <= ?2
                 order by v.check_order desc, v.id desc limit 1",
                "versions_newest (scope_id=? AND check_order<?)",
            ),
        ] {
            let plan = query_plan(&store, query);
            assert!(plan.contains(index) && !plan.contains("B-TREE"), "{plan}");
        }
    }
}
