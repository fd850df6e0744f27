//! Roles of one person in several teams, and that a browser's cookie alone changes nothing.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use whistlestop::auth::Access;
use whistlestop::auth::action::{self, TABLE};

use crate::world::World;

const FILE: &str = "{resources: [{name: r, type: mock, source: {}}], jobs: [{name: j, plan: [{get: r}]}]}";

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn operators_run_what_members_configure_and_a_person_is_somebody_else_in_another_team() {
    let world = World::new().await;
    let admin = world.admin().await;
    let team = async |name: &str, auth: Value| {
        let answer = admin.put(&format!("/api/v1/teams/{name}")).json(&json!({"auth": auth})).send().await.unwrap();
        assert!(answer.status().is_success());
    };
    team("service-team-dev", json!({"owner": {"users": ["local:ann"]}})).await;
    let deploy = json!({"owner": {"users": ["local:admin"]}, "pipeline-operator": {"users": ["local:ann", "local:eve"]},
        "member": {"users": ["local:bob"]}, "viewer": {"users": ["local:eve"]}});
    team("service-team-deploy", deploy).await;
    let (ann, bob, eve) = (world.sign_in("ann").await, world.sign_in("bob").await, world.sign_in("eve").await);
    let teams = async |who: &crate::world::Caller| who.json("/api/v1/user").await["teams"].clone();
    let expected = json!({"service-team-deploy": ["pipeline-operator"], "service-team-dev": ["owner"]});
    assert_eq!(teams(&ann).await, expected);
    assert_eq!(teams(&eve).await, json!({"service-team-deploy": ["pipeline-operator", "viewer"]}), "roles add up");

    // In her own team she sets; in the other a member does, and she runs.
    ann.set_pipeline("service-team-dev", "p", FILE).await;
    bob.set_pipeline("service-team-deploy", "p", FILE).await;
    let p = "/api/v1/teams/service-team-deploy/pipelines/p";
    let config = |who: &crate::world::Caller| {
        who.put(&format!("{p}/config")).header("content-type", "application/x-yaml").body(FILE)
    };
    assert_eq!((status(config(&ann)).await, status(config(&eve)).await), (403, 403));
    assert_eq!(status(ann.request(Method::DELETE, p)).await, 403);
    assert_eq!(
        status(ann.put("/api/v1/teams/service-team-deploy/secrets?name=x").json(&json!({"value": "v"}))).await,
        403
    );
    assert_eq!(ann.get("/api/v1/teams/service-team-deploy/audit").await.status(), 403);
    for path in [format!("{p}/unpause"), format!("{p}/jobs/j/pause"), format!("{p}/jobs/j/unpause")] {
        assert_eq!(status(ann.put(&path)).await, 200, "{path}");
    }
    assert_eq!(status(ann.post(&format!("{p}/jobs/j/builds"))).await, 200);
    assert_eq!(status(bob.put("/api/v1/teams/service-team-deploy").json(&json!({"auth": {}}))).await, 403);
    assert_eq!(bob.get("/api/v1/teams/service-team-dev/pipelines/p").await.status(), 403);
    // A role that is taken away is gone at once, with the same token.
    team("service-team-deploy", json!({"owner": {"users": ["local:admin"]}})).await;
    assert_eq!(teams(&eve).await, json!({}));
    assert_eq!(status(ann.post(&format!("{p}/jobs/j/builds"))).await, 403);
}

#[tokio::test]
async fn no_route_is_changed_by_a_cookie_alone() {
    let world = World::new().await;
    let token = world.admin().await.token.unwrap();
    let cookies = format!("skymarshal_auth=\"bearer {token}\"; skymarshal_csrf=c");
    for row in TABLE.iter().filter(|row| row.method != action::Method::Get) {
        // Whoever may without a session does not do it by the session.
        if matches!(row.access, Access::Open | Access::SystemToken) {
            continue;
        }
        let parts = row.path.split(['{', '}']).enumerate();
        let path: String = parts
            .map(|(n, part)| match (n % 2, part) {
                (0, part) => part,
                (_, "team_name") => "main",
                (_, part) if part.ends_with("id") => "999999",
                _ => "nothing",
            })
            .collect();
        let method = match row.method {
            action::Method::Post => Method::POST,
            action::Method::Delete => Method::DELETE,
            _ => Method::PUT,
        };
        for guess in [None, Some(""), Some("c"), Some("d")] {
            let mut request = world.anonymous().request(method.clone(), &path).header("cookie", &cookies).body("{}");
            if let Some(guess) = guess {
                request = request.header("x-csrf-token", guess);
            }
            let status = status(request).await;
            // A build that is not there is told first.
            let absent = row.path.contains("{build_id}") && status == 404;
            assert!(status == 401 || absent, "{} {path} with {guess:?}: {status}", row.name);
        }
    }
}
