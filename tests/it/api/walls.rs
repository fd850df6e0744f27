//! The wall between teams: whoever names another team's things gets the answer for things that are not there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whistlestop::auth::action::{Access, Method as Verb, Row, TABLE};
use whistlestop::store::ReadTx;

use super::matrix::{Things, fill, fresh, prepared, send, world};
use crate::world::{Caller, World};

/// What an answer says, without what differs between two equal ones: the name that was asked for, and the time.
async fn said(caller: &Caller, row: &Row, path: &str, named: &[(&str, &str)]) -> (u16, String) {
    let answer = send(caller, row, path).await;
    let status = answer.status().as_u16();
    // The stream of a build that may be followed never ends.
    let text = if row.name == "BuildEvents" && status == 200 { String::new() } else { answer.text().await.unwrap() };
    (status, named.iter().fold(text, |text, (from, to)| text.replace(from, to)))
}

/// A world where alpha has things and bob of beta is a stranger to them.
async fn divided() -> (World, Things, Caller) {
    let world = world().await;
    let things = world.app().store.write(|tx| fresh(tx, "alpha", false)).await.unwrap();
    let bob = world.sign_in("bob").await;
    (world, things, bob)
}

/// Names that answers repeat, and what stands for them where there are none.
const REPEATED: &[(&str, &str)] = &[("'j'", "'zz'"), ("'r'", "'zz'")];

/// Theirs by every parameter, or nonsense in its place.
fn name_of(things: &Things, theirs: bool, team: &str, name: &str) -> String {
    let pick = |theirs_is: String, nonsense: &str| if theirs { theirs_is } else { nonsense.to_owned() };
    match name {
        "team_name" => team.to_owned(),
        "pipeline_name" => pick("p".into(), "zz"),
        "job_name" => pick("j".into(), "zz"),
        "resource_name" => pick("r".into(), "zz"),
        "resource_type_name" => pick("ty".into(), "zz"),
        "prototype_name" => pick("pro".into(), "zz"),
        "resource_config_version_id" => pick(things.version.to_string(), "987654"),
        "build_id" => pick(things.build.to_string(), "987654"),
        "artifact_id" => pick(things.artifact.to_string(), "987654"),
        "build_name" => "1".into(),
        "step_name" => "t".into(),
        "worker_name" | "component_name" => "zz".into(),
        "id" => pick("c-alpha".into(), "zz"),
        // Of anything else there is none.
        _ => "zz".into(),
    }
}

/// Whether the answer is the caller's own business: not about any team's things, or made by the call itself.
fn is_own_business(row: &Row) -> bool {
    !row.path.contains("{team_name}") && !row.path.contains("{build_id}")
        || matches!(row.name, "SaveConfig" | "CreateBuild" | "SetTeam" | "RenameTeam" | "DestroyTeam")
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_absent_look_alike_under_one_s_own_team() {
    let (world, things, bob) = divided().await;
    for row in TABLE.iter().filter(|r| !is_own_business(r)) {
        let theirs = fill(row.path, |n| name_of(&things, true, "beta", n));
        let absent = fill(row.path, |n| name_of(&things, false, "beta", n));
        if theirs == absent {
            continue;
        }
        let (theirs, absent) = (said(&bob, row, &theirs, REPEATED).await, said(&bob, row, &absent, REPEATED).await);
        assert_eq!(theirs, absent, "{}", row.name);
        // An order of nothing is kept for any name.
        let refused = [400, 401, 403, 404].contains(&theirs.0) || row.name == "OrderPipelinesWithinGroup";
        assert!(refused, "{}: {theirs:?}", row.name);
        let nobody = world.anonymous();
        let path = fill(row.path, |n| name_of(&things, true, "beta", n));
        assert!([301, 400, 401].contains(&said(&nobody, row, &path, &[]).await.0), "{} by nobody", row.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_absent_teams_look_alike() {
    let (world, things, bob) = divided().await;
    for row in TABLE.iter().filter(|r| r.path.contains("{team_name}")) {
        for (caller, who) in [(&bob, "bob"), (&world.anonymous(), "nobody")] {
            let of = |team: &str, theirs| fill(row.path, |n| name_of(&things, theirs, team, n));
            let alpha = said(caller, row, &of("alpha", true), &[]).await;
            for path in [of("nowhere", true), of("alpha", false), of("nowhere", false)] {
                assert_eq!(alpha, said(caller, row, &path, &[]).await, "{} by {who}: {path}", row.name);
            }
            let team_only = !row.path.contains("{pipeline_name}") && row.method == Verb::Get;
            let lists = team_only && matches!(row.access, Access::Open | Access::Authenticated);
            let expected: &[u16] = if lists { &[200, 401] } else { &[400, 401, 403] };
            assert!(expected.contains(&alpha.0), "{} by {who}: {alpha:?}", row.name);
        }
    }
}

/// What asks too much of a list, or nonsense.
const HOSTILE: [&str; 6] = [
    "?limit=-1",
    "?limit=nonsense",
    "?from=-1",
    "?from=9&to=3",
    "?timestamps=true&from=-1",
    "?limit=99999999999999999999",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_query_tells_no_more_of_a_foreign_team_than_of_an_absent_one() {
    let (world, _, bob) = divided().await;
    for list in ["builds", "pipelines", "containers", "volumes", "audit", "artifacts"] {
        for query in HOSTILE {
            for (caller, who) in [(&bob, "bob"), (&world.anonymous(), "nobody")] {
                let mut said = Vec::new();
                for team in ["alpha", "nowhere"] {
                    let answer = caller.get(&format!("/api/v1/teams/{team}/{list}{query}")).await;
                    let (status, link) = (answer.status(), answer.headers().get("link").cloned());
                    said.push((status, link, answer.text().await.unwrap()));
                }
                assert_eq!(said[0], said[1], "{list}{query} by {who}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_queries_never_show_another_team_s_rows() {
    let (world, things, bob) = divided().await;
    let (nobody, ann) = (world.anonymous(), world.sign_in("ann").await);
    for path in ["/builds", "/jobs", "/pipelines", "/resources", "/teams"] {
        let own = ann.get(&format!("/api/v1{path}")).await.text().await.unwrap();
        assert!(own.contains("alpha"), "{path} shows one's own: {own}");
        for query in [
            String::new(),
            format!("?from={0}&to={0}", things.build),
            "?timestamps=true&from=0".to_owned(),
            "?team_name=alpha&vars={}&pipeline_name=p".to_owned(),
        ] {
            for caller in [&bob, &nobody] {
                let answer = caller.get(&format!("/api/v1{path}{query}")).await;
                assert_eq!(answer.status(), 200);
                let text = answer.text().await.unwrap();
                assert!(!text.contains("alpha") && !text.contains("\"p\""), "{path}{query}: {text}");
            }
        }
    }
    for query in ["?pipeline_name=p", "?build_id=1", "?type=task&vars.x=1", "?vars=%7B%22a%22:1%7D"] {
        for list in ["containers", "volumes"] {
            let answer = bob.get(&format!("/api/v1/teams/beta/{list}{query}")).await;
            assert_eq!(answer.text().await.unwrap().trim(), "[]", "{list}{query}");
        }
    }
    let resumed = bob.request(reqwest::Method::GET, &format!("/api/v1/builds/{}/events", things.build));
    assert_eq!(resumed.header("last-event-id", "0").send().await.unwrap().status(), 404);
    let order = bob.put("/api/v1/teams/beta/pipelines/ordering").json(&["p"]).send().await.unwrap();
    assert_eq!((order.status().as_u16(), order.text().await.unwrap().as_str()), (400, "pipeline 'p' not found\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_cannot_read_any_token() {
    let (world, _, _) = divided().await;
    let path = "/api/v1/teams/alpha/pipelines/p/config";
    let text = async |who: &str| world.sign_in(who).await.get(path).await.text().await.unwrap();
    let (vic, olga, mem) = (text("vic").await, text("olga").await, text("mem").await);
    assert!(vic.contains(r#""webhook_token":"((redacted))""#) && !vic.contains("\"hook\""), "{vic}");
    assert_eq!(vic.replace("((redacted))", "hook"), mem, "and all else is the same");
    assert_eq!(olga, mem, "who may check anyway reads it");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_belongs_to_main_is_told_to_administrators_only() {
    let (world, things, _) = divided().await;
    let path = format!("/api/v1/builds/{}/secrets", things.build);
    let of = |user: &str| json!({"groups": [], "users": [format!("local:{user}")]});
    let own = json!({"member": of("mem"), "owner": of("ann"), "pipeline-operator": of("olga"), "viewer": of("vic")});
    let main = json!({"owner": of("admin")});
    for (who, administrators) in [
        ("mem", json!([{"team": "main"}])),
        ("ann", json!([{"team": "main"}])),
        ("admin", json!([{"team": "main", "auth": main}])),
    ] {
        let caller = world.sign_in(who).await;
        let readers = caller.json(&path).await["readers"].clone();
        assert_eq!(readers["administrators"], administrators, "to {who}");
        assert_eq!(readers["members"], json!([{"team": "alpha", "auth": own}]), "to {who}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_absent_are_answered_in_the_same_time() {
    let (world, things, bob) = divided().await;
    let pairs = [
        ("/api/v1/teams/alpha/pipelines/p".to_owned(), "/api/v1/teams/nowhere/pipelines/zz".to_owned()),
        ("/api/v1/teams/alpha/pipelines/p/jobs/j".to_owned(), "/api/v1/teams/alpha/pipelines/zz/jobs/zz".to_owned()),
        (format!("/api/v1/builds/{}", things.build), "/api/v1/builds/987654".to_owned()),
    ];
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    for (foreign, absent) in &pairs {
        // One after the other, so that what else the machine does falls on both; and again where it did not.
        let mut seen = Vec::new();
        let alike = async |seen: &mut Vec<(Duration, Duration)>| {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for _ in 0..40 {
                for (path, times) in [(foreign, &mut a), (absent, &mut b)] {
                    let began = Instant::now();
                    bob.get(path).await.bytes().await.unwrap();
                    times.push(began.elapsed());
                }
            }
            let (a, b) = (median(a), median(b));
            seen.push((a, b));
            a < b * 3 / 2 && b < a * 3 / 2
        };
        let mut rounds = 0;
        while !alike(&mut seen).await {
            rounds += 1;
            assert!(rounds < 20, "{foreign} and {absent} are told apart: {seen:?}");
        }
    }
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_get_changes_anything() {
    let world = world().await;
    let store = world.app().store.clone();
    let things = store.write(|tx| fresh(tx, "alpha", true)).await.unwrap();
    let rows = async || store.read(|tx| Ok(["alpha", "beta", "main"].map(|team| rows_of(tx, team)))).await.unwrap();
    let (before, teams) = (rows().await, async || store.read(|tx| tx.teams_with_auth()).await.unwrap());
    let teams_before = teams().await;
    for who in ["admin", "ann", "vic", "bob"] {
        let caller = world.sign_in(who).await;
        for row in TABLE.iter().filter(|row| row.method == Verb::Get) {
            let path = fill(row.path, |name| name_of(&things, true, "alpha", name));
            for query in ["", "?why&since=0&limit=1&vars.x=1&webhook_token=hook"] {
                let answer = send(&caller, row, &format!("{path}{query}")).await;
                if row.name != "BuildEvents" {
                    answer.bytes().await.unwrap();
                }
                assert_eq!((rows().await, teams().await), (before.clone(), teams_before.clone()), "{path} by {who}");
            }
        }
    }
}

/// All rows that belong to a team, by table.
pub fn rows_of(tx: &ReadTx<'_>, team: &str) -> BTreeMap<String, Vec<String>> {
    let id = tx.find_team(team).unwrap().unwrap().id.0;
    let texts = |sql: &str| -> Vec<String> {
        let mut query = tx.prepare(sql).unwrap();
        let columns = query.column_count();
        let row = query.query_map([], |r| {
            Ok((0..columns).map(|n| format!("{:?}", r.get_ref(n).unwrap())).collect::<Vec<_>>().join(" "))
        });
        row.unwrap().map(Result::unwrap).collect()
    };
    let named = |sql: &str| -> Vec<String> {
        let mut query = tx.prepare(sql).unwrap();
        let found = query.query_map([], |r| r.get::<_, String>(0)).unwrap();
        found.map(Result::unwrap).collect()
    };
    let pipelines = format!("(select id from pipelines where team_id = {id})");
    let mut all = BTreeMap::from([("teams".to_owned(), texts(&format!("select * from teams where id = {id}")))]);
    for table in named("select name from sqlite_master where type = 'table' and name <> 'audit'") {
        let columns = named(&format!("select name from pragma_table_info('{table}')"));
        let has = |column: &str| columns.iter().any(|c| c == column);
        let whose = match () {
            () if has("team_id") => format!("team_id = {id}"),
            () if has("pipeline_id") => format!("pipeline_id in {pipelines}"),
            () if has("scope_id") => format!("scope_id in (select id from scopes where team_id = {id})"),
            () if has("job_id") => format!("job_id in (select id from jobs where pipeline_id in {pipelines})"),
            () if has("build_id") => format!("build_id in (select id from builds where team_id = {id})"),
            () => continue,
        };
        all.insert(table.clone(), texts(&format!("select * from {table} where {whose}")));
    }
    all
}

/// How a request may try to speak of another team than its path does.
const WAYS: [&str; 5] = ["plain", "query", "headers", "body", "everything"];

/// Sends an action on beta's own things, with alpha's names in another place; what is said, without numbers, which differ
/// from call to call.
async fn sent(bob: &Caller, row: &Row, way: &str, beta: &Things, alpha: &Things) -> (u16, String) {
    let mut path = fill(row.path, |name| name_of(beta, true, "beta", name).replace("c-alpha", "c-beta"));
    match way {
        "query" => path.push_str("?team_name=alpha&team=alpha&team_id=2"),
        "everything" => path.push_str(&format!(
            "?team_name=alpha&team=alpha&vars.team=%22alpha%22&pipeline=p&pipeline_name=p&build_id={}&id=c-alpha",
            alpha.build
        )),
        _ => {}
    }
    let (mut request, mut body) = prepared(bob, row, &path);
    if matches!(way, "headers" | "everything") {
        let theirs = fill(row.path, |name| name_of(alpha, true, "alpha", name));
        for (name, value) in [
            ("x-team", "alpha"),
            ("x-team-name", "alpha"),
            ("x-concourse-team", "alpha"),
            ("x-original-url", &theirs),
            ("x-rewrite-url", &theirs),
            ("x-forwarded-host", "alpha"),
            ("x-forwarded-prefix", "/api/v1/teams/alpha"),
            ("x-http-method-override", "DELETE"),
        ] {
            request = request.header(name, value);
        }
    }
    if matches!(way, "body" | "everything") && row.name != "SaveConfig" && row.name != "CreateArtifact" {
        let more = json!({"team_name": "alpha", "team": "alpha", "team_id": 2, "pipeline_name": "p"});
        match &mut body {
            Some(Value::Object(members)) => members.extend(more.as_object().unwrap().clone()),
            Some(_) => {}
            None => body = Some(more),
        }
    }
    let answer = match body {
        Some(body) => request.json(&body).send().await.unwrap(),
        None => request.send().await.unwrap(),
    };
    let status = answer.status().as_u16();
    let text = if row.name == "BuildEvents" && status == 200 { String::new() } else { answer.text().await.unwrap() };
    (status, text.chars().filter(|c| !c.is_ascii_digit()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_header_or_body_leads_to_another_team_s_things() {
    let (world, alpha, bob) = divided().await;
    let store = world.app().store.clone();
    let before = store.read(|tx| Ok(rows_of(tx, "alpha"))).await.unwrap();
    assert!(before.values().map(Vec::len).sum::<usize>() > 10, "{before:?}");
    for row in TABLE.iter().filter(|r| r.path.contains("{team_name}") || r.path.contains("{build_id}")) {
        let mut plain = None;
        for way in WAYS {
            let beta = store.write(|tx| {
                let things = fresh(tx, "beta", false)?;
                tx.set_team("beta", &json!({"owner": {"users": ["local:bob"]}}))?;
                Ok(things)
            });
            let said = sent(&bob, row, way, &beta.await.unwrap(), &alpha).await;
            let after = store.read(|tx| Ok(rows_of(tx, "alpha"))).await.unwrap();
            assert_eq!(before, after, "{} by {way}", row.name);
            if row.name == "ListTeamAudit" {
                // It tells of each of these requests, with its parameters.
                assert!(!said.1.contains("\"team\":\"alpha\""), "by {way}: {said:?}");
                continue;
            }
            // With everything at once a list is filtered, and another instance named.
            let own = is_own_business(row) && row.name != "CreateBuild" && !row.path.contains("{build_id}");
            // What is wrong with a body is another thing when there is one.
            let malformed = way == "body" && said.0 == 400;
            if !own && !malformed && way != "everything" {
                assert_eq!(&said, plain.get_or_insert_with(|| said.clone()), "{} by {way}", row.name);
            }
            assert!(!said.1.contains("alpha"), "{} by {way}: {said:?}", row.name);
        }
    }
}
