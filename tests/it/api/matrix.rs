//! Who gets which answer on which route: every action of the table, asked by everybody, against the recorded matrix. A
//! route that is in no row of it fails here.

use std::collections::BTreeMap;
use std::fmt::Write;

use reqwest::Method;
use serde_json::json;
use whistlestop::auth::action::{Access, Method as Verb, Row, TABLE};
use whistlestop::base::clock::Time;
use whistlestop::base::id::{ArtifactId, BuildId, TeamId, VersionId};
use whistlestop::base::version::Version;
use whistlestop::store::WriteTx;
use whistlestop::store::artifact::NewArtifact;
use whistlestop::store::build::Status;
use whistlestop::store::config::{SaveConfig, SavedConfig};
use whistlestop::store::container::Container;
use whistlestop::store::pipeline::PipelineRef;
use whistlestop::store::volume::Volume;

use crate::world::{Caller, World};

const FILE: &str = r#"{
  "resource_types": [{"name": "ty", "type": "mock", "source": {}}],
  "prototypes": [{"name": "pro", "type": "mock", "source": {}}],
  "resources": [{"name": "r", "type": "mock", "source": {}, "webhook_token": "hook"}],
  "jobs": [{"name": "j", "plan": [{"get": "r"}]}, {"name": "open", "public": true, "plan": [{"get": "r"}]}]}"#;

/// The users of the matrix in the order of its columns; the first has not signed in.
const WHO: [&str; 7] = ["", "vic", "olga", "mem", "ann", "bob", "admin"];

/// What there is to name.
pub struct Things {
    pub build: BuildId,
    pub open_build: BuildId,
    pub version: VersionId,
    pub artifact: ArtifactId,
}

/// A world with a team of every role, and another.
pub async fn world() -> World {
    let mut flags = Vec::new();
    for user in ["vic", "olga", "mem"] {
        flags.extend(["--add-local-user".to_owned(), format!("{user}:{user}")]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let world = World::with(&flags).await;
    world.team("beta", "bob").await;
    world
}

/// Puts `team` into the state every change starts from: its pipeline `p`, one build of each job, a version, a container,
/// an artifact.
pub fn fresh(tx: &WriteTx<'_>, team: &str, exposed: bool) -> whistlestop::store::Result<Things> {
    let auth = json!({"owner": {"users": ["local:ann"]}, "member": {"users": ["local:mem"]},
        "pipeline-operator": {"users": ["local:olga"]}, "viewer": {"users": ["local:vic"]}});
    let now = Time(1_000);
    for old in ["gamma", "gamma2"] {
        if let Some(team) = tx.find_team(old)? {
            tx.destroy_team(team.id)?;
        }
    }
    tx.set_team("gamma", &auth)?;
    let (name, team) = (team, tx.set_team(team, &auth)?.0.id);
    for pipeline in tx.pipelines_of_team(team)? {
        tx.destroy_pipeline(pipeline.id)?;
    }
    let (config, pipeline) = (serde_json::from_str(FILE)?, PipelineRef::named("p"));
    let save = SaveConfig {
        team,
        pipeline: &pipeline,
        config: &config,
        from_version: 0,
        paused_if_new: true,
        parent: None,
        now,
    };
    let SavedConfig::Saved { pipeline, .. } = tx.save_config(&save)? else { panic!("saved over nothing") };
    tx.set_pipeline_public(pipeline, exposed)?;
    let mut builds = Vec::new();
    for job in ["j", "open"] {
        let build = tx.create_manual_build(tx.find_job(pipeline, job)?.unwrap().id, "ann", now)?;
        tx.start_plain_build(build, "{}", "{}", now)?;
        tx.finish_build(build, Status::Succeeded, now)?;
        builds.push(build);
    }
    let resource = tx.find_resource(pipeline, "r")?.unwrap().id;
    let scope = tx.find_or_create_scope(&format!("scope of {team}"), team)?.id;
    tx.set_scope(resource, scope)?;
    tx.save_checked(scope, &[Version::from([("v", "1")])])?;
    let version =
        tx.versions(resource, &Version::default(), whistlestop::store::page::PageRequest::newest(9))?.items[0].id;
    tx.insert_container(&container(format!("c-{name}"), team, builds[0]))?;
    let volume = format!("v-{name}");
    tx.insert_volume(&Volume {
        handle: volume.clone(),
        team_id: team,
        kind: "artifact".into(),
        parent: None,
        container: None,
        build_id: None,
        path: String::new(),
        created_at: now,
    })?;
    let artifact = NewArtifact { team, name: "out".into(), volume, build: Some(builds[0]), now };
    let artifact = tx.add_artifact(&artifact)?.id;
    tx.component_ran("scheduler", std::time::Duration::from_secs(10), now)?;
    Ok(Things { build: builds[0], open_build: builds[1], version, artifact })
}

fn container(handle: String, team: TeamId, build: BuildId) -> Container {
    Container {
        handle,
        team_id: team,
        build_id: Some(build),
        plan_id: "1".into(),
        kind: "task".into(),
        step_name: "t".into(),
        attempt: String::new(),
        user: String::new(),
        working_directory: String::new(),
        created_at: Time(0),
        hijacked_until: Time(0),
        resource_id: None,
    }
}

/// The action's address with every parameter filled in by name.
pub fn fill(path: &str, value: impl Fn(&str) -> String) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap();
        write!(filled, "{before}{}", value(name)).unwrap();
        rest = after;
    }
    filled + rest
}

/// Sends an action with a body that it takes.
pub async fn send(who: &Caller, row: &Row, path: &str) -> reqwest::Response {
    let (request, body) = prepared(who, row, path);
    match body {
        Some(body) => request.json(&body).send().await.unwrap(),
        None => request.send().await.unwrap(),
    }
}

/// An action with a body that it takes; one of JSON is still to be added.
pub fn prepared(who: &Caller, row: &Row, path: &str) -> (reqwest::RequestBuilder, Option<serde_json::Value>) {
    let method = match row.method {
        Verb::Get => Method::GET,
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
        Verb::Delete => Method::DELETE,
    };
    let request = who.request(method, path);
    let task = json!({"task": {"name": "x", "config": {"platform": "linux", "run": {"path": "ls"}}}});
    let body = match row.name {
        "SaveConfig" => {
            let file = r#"{"jobs": [{"name": "j", "plan": []}]}"#;
            return (request.header("content-type", "application/json").body(file), None);
        }
        "SetLogLevel" => return (request.body("error"), None),
        "CreateArtifact" => return (request.body("xx"), None),
        "SetBuildComment" => json!({"comment": "c"}),
        "RenamePipeline" | "RenameTeam" => json!({"name": "gamma2"}),
        "OrderPipelines" | "OrderPipelinesWithinGroup" => json!([]),
        "SetPinCommentOnResource" => json!({"pin_comment": "x"}),
        "CheckResource" | "CheckResourceType" | "CheckPrototype" => json!({"from": null}),
        "SetWall" => json!({"message": "m", "TTL": 1_000_000_000}),
        "SetTeam" => json!({"auth": {"owner": {"users": ["local:ann"]}}}),
        "CreateBuild" | "CreatePipelineBuild" => task,
        _ => return (request, None),
    };
    (request, Some(body))
}

/// The value of a parameter, for team alpha.
fn value(things: &Things, row: &Row, open: bool, name: &str) -> String {
    match name {
        "team_name" if row.path == "/api/v1/teams/{team_name}" || row.name == "RenameTeam" => "gamma".into(),
        "team_name" => "alpha".into(),
        "pipeline_name" if row.name == "SaveConfig" => "new".into(),
        "pipeline_name" => "p".into(),
        "job_name" => if open { "open" } else { "j" }.into(),
        "resource_name" => "r".into(),
        "resource_type_name" => "ty".into(),
        "prototype_name" => "pro".into(),
        "resource_config_version_id" => things.version.to_string(),
        "build_id" => if open { things.open_build } else { things.build }.to_string(),
        "build_name" => "1".into(),
        "step_name" => "t".into(),
        "worker_name" => "nope".into(),
        "artifact_id" => "999".into(),
        "component_name" => "scheduler".into(),
        "id" => "c-alpha".into(),
        // Of anything else there is none.
        _ => "zz".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_the_answer_of_the_matrix() {
    let world = world().await;
    let mut callers = Vec::new();
    for name in WHO {
        callers.push(if name.is_empty() { world.anonymous() } else { world.sign_in(name).await });
    }
    let mut matrix = String::from(
        "# action, what is public of its pipeline, then the status for: nobody, viewer, operator, member, owner, owner of\n\
         # another team, administrator. Written by the test where UPDATE_GOLDEN is set.\n",
    );
    for (variant, exposed, open) in [("-", false, false), ("exposed", true, false), ("exposed,public", true, true)] {
        for row in TABLE {
            let of_job = row.path.contains("{job_name}") || row.path.contains("{build_id}");
            let of_pipeline = matches!(row.access, Access::Pipeline | Access::Build | Access::BuildOfPublicJob);
            if exposed && (row.method != Verb::Get || !of_pipeline || (open && !of_job)) {
                continue;
            }
            write!(matrix, "{:30} {variant:14}", row.name).unwrap();
            for caller in &callers {
                let things = world.app().store.write(move |tx| fresh(tx, "alpha", exposed)).await.unwrap();
                let path = fill(row.path, |name| value(&things, row, open, name));
                let answer = send(caller, row, &path).await;
                write!(matrix, " {}", answer.status().as_u16()).unwrap();
            }
            matrix.push('\n');
        }
    }
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/api/matrix.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &matrix).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    let rows = |text: &str| {
        let cells = |l: &str| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines = text.lines().filter(|l| !l.starts_with('#')).map(cells);
        lines.map(|c| (c[..2].join(" "), c[2..].join(" "))).collect::<BTreeMap<_, _>>()
    };
    let (got, expected) = (rows(&matrix), rows(&expected));
    for (row, statuses) in &got {
        // A route that says that it is not there yet is so to everybody.
        let absent = statuses.split(' ').all(|status| status == "501");
        let recorded = expected.get(row).unwrap_or_else(|| panic!("{row} is in no row of the matrix: {statuses}"));
        assert!(statuses == recorded || absent, "{row}: {statuses} instead of {recorded}");
    }
    assert_eq!(got.len(), expected.len(), "the matrix has rows of routes that are gone");
}
