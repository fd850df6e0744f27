//! Teams: who may do what after a role was moved, and what goes when a team goes.

use serde_json::{Value, json};

use super::matrix::{fresh, world};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_team_takes_along_all_that_is_its_own() {
    let world = world().await;
    let things = world.app().store.write(|tx| fresh(tx, "alpha", false)).await.unwrap();
    let (admin, ann) = (world.admin().await, world.sign_in("ann").await);
    let renamed = ann.put("/api/v1/teams/alpha/rename").json(&json!({"name": "omega"})).send().await.unwrap();
    assert_eq!(renamed.status(), 200);
    assert_eq!(ann.get("/api/v1/teams/alpha/pipelines/p").await.status(), 403);
    assert_eq!(ann.json("/api/v1/teams/omega/pipelines/p").await["team_name"], "omega");
    assert_eq!(ann.json(&format!("/api/v1/builds/{}", things.build)).await["team_name"], "omega");

    let destroy = |path: &'static str| admin.request(reqwest::Method::DELETE, path).send();
    assert_eq!(destroy("/api/v1/teams/main").await.unwrap().status(), 403);
    assert_eq!(destroy("/api/v1/teams/omega").await.unwrap().status(), 204);
    assert_eq!(destroy("/api/v1/teams/omega").await.unwrap().status(), 404);
    for path in ["/builds/1", "/builds/2", "/teams/omega", "/teams/omega/pipelines/p"] {
        assert_eq!(admin.get(&format!("/api/v1{path}")).await.status(), 404, "{path}");
    }
    let left = |tx: &whistlestop::store::ReadTx<'_>| {
        let count = |table: &str| tx.query_row(&format!("select count(*) from {table}"), [], |r| r.get::<_, i64>(0));
        ["pipelines", "jobs", "resources", "builds", "versions", "artifacts"].map(|t| count(t).unwrap())
    };
    assert_eq!(world.app().store.read(move |tx| Ok(left(tx))).await.unwrap(), [0; 6]);
    // What may still be on the runtime waits for the collector.
    let kept = world.app().store.read(|tx| Ok((tx.container_handles()?, tx.volume_handles()?))).await.unwrap();
    assert_eq!(kept, (vec!["c-alpha".to_owned()], vec!["v-alpha".to_owned()]));
}

#[tokio::test]
async fn names_that_differ_in_case_only_are_one_team() {
    let world = World::new().await;
    world.team("foo", "ann").await;
    let (admin, ann) = (world.admin().await, world.sign_in("ann").await);
    ann.set_pipeline("foo", "p", "jobs: [{name: j, plan: []}]").await;
    let auth = json!({"auth": {"owner": {"users": ["local:ann", "local:bob"]}}});
    let set = admin.put("/api/v1/teams/Foo").json(&auth).send().await.unwrap();
    assert_eq!(set.status(), 200, "it changes the one that is there");
    assert_eq!(set.json::<Value>().await.unwrap()["team"]["name"], "foo");
    let teams = admin.json("/api/v1/teams").await;
    assert_eq!(teams.as_array().unwrap().len(), 2, "{teams}");
    for path in ["/api/v1/teams/FOO", "/api/v1/teams/FOO/pipelines/p"] {
        assert_eq!(admin.get(path).await.status(), 200, "{path}");
        // Roles go by the name as it is written.
        let (other, absent) = (ann.get(path).await, ann.get(&path.replace("FOO", "bar")).await);
        assert_eq!((other.status().as_u16(), absent.status().as_u16()), (403, 403), "{path}");
        assert_eq!(ann.get(&path.replace("FOO", "foo")).await.status(), 200, "{path}");
    }
    assert_eq!(ann.put("/api/v1/teams/FOO").json(&auth).send().await.unwrap().status(), 403);
    let rename =
        |from: &str, to: &str| admin.put(&format!("/api/v1/teams/{from}/rename")).json(&json!({"name": to})).send();
    assert_eq!(rename("foo", "Main").await.unwrap().status(), 409);
    assert_eq!(rename("foo", "fOO").await.unwrap().status(), 200);
    assert_eq!(ann.get("/api/v1/teams/fOO").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_owner_renames_a_team_where_its_name_decides_what_it_gets() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    for (flags, decides) in [
        (&["--team-privileged-mode", "ops=full"][..], true),
        (&["--secrets-dir", place], true),
        (&["--aws-ssm-region", "eu-west-2"], true),
        (&["--aws-team-role", "arn:aws:iam::1:role/{{.Team}}"], true),
        (&["--privileged-mode", "ignore"], false),
    ] {
        let world = World::with(flags).await;
        world.team("alpha", "ann").await;
        let rename = async |who: &str, from: &str| {
            let request = world.sign_in(who).await.put(&format!("/api/v1/teams/{from}/rename"));
            let answer = request.json(&json!({"name": "ops"})).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        let (status, text) = rename("ann", "alpha").await;
        assert_eq!((status, text.contains(flags[0])), if decides { (403, true) } else { (200, false) }, "{text}");
        if decides {
            assert_eq!(rename("admin", "alpha").await.0, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_role_counts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rbac.yml");
    std::fs::write(&file, "viewer: [PausePipeline]\nowner: [CreateJobBuild]\n").unwrap();
    let file = file.to_str().unwrap();
    let world =
        World::with(&["--config-rbac", file, "--add-local-user", "vic:vic", "--add-local-user", "olga:olga"]).await;
    world.app().store.write(|tx| fresh(tx, "alpha", false)).await.unwrap();
    let (vic, olga) = (world.sign_in("vic").await, world.sign_in("olga").await);
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    let path = "/api/v1/teams/alpha/pipelines/p";
    assert_eq!(status(vic.put(&format!("{path}/pause"))).await, 200);
    assert_eq!(status(vic.put(&format!("{path}/unpause"))).await, 403);
    assert_eq!(status(olga.post(&format!("{path}/jobs/j/builds"))).await, 403);
    assert_eq!(status(world.sign_in("ann").await.post(&format!("{path}/jobs/j/builds"))).await, 200);
}
