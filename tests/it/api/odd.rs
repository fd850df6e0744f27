//! Requests that no client of Concourse sends, answered as Concourse answers them.

use reqwest::Method;
use serde_json::{Value, json};

use super::pipelines::kitchen;
use crate::world::Caller;

const PIPELINE: &str = "/api/v1/teams/alpha/pipelines/kitchen";

async fn answer(caller: &Caller, method: Method, path: &str, body: &str) -> (u16, String, String) {
    let answer = caller.request(method, path).body(body.to_owned()).send().await.unwrap();
    let kind = answer.headers().get("content-type").map_or("", |v| v.to_str().unwrap()).to_owned();
    (answer.status().as_u16(), kind, answer.text().await.unwrap())
}

#[tokio::test]
async fn a_body_is_as_good_as_go_finds_it() {
    let (world, ann) = kitchen().await;
    let admin = world.admin().await;
    ann.post(&format!("{PIPELINE}/jobs/unit/builds")).send().await.unwrap();
    for (path, body, status) in [
        ("/api/v1/builds/1/comment", r#"{"comment":"why","more":1} and more"#, 200),
        ("/api/v1/builds/1/comment", r#"{"comment":null}"#, 200),
        ("/api/v1/builds/1/comment", "null", 200),
        ("/api/v1/builds/1/comment", r#"{"comment":1}"#, 400),
        ("/api/v1/builds/1/comment", "[]", 400),
        ("/api/v1/builds/1/comment", "", 400),
        ("/api/v1/teams/alpha/pipelines/ordering", "null", 200),
        ("/api/v1/teams/alpha/pipelines/ordering", "{}", 400),
        ("/api/v1/teams/alpha/pipelines/nope/rename", r#"{"name":"kitchen"}"#, 404),
        ("/api/v1/teams/alpha/rename", r#"{"name":""}"#, 400),
    ] {
        assert_eq!(answer(&ann, Method::PUT, path, body).await.0, status, "{path} {body}");
    }
    for body in ["null", "{}", r#"{"message":""}"#] {
        let told = answer(&admin, Method::PUT, "/api/v1/wall", body).await;
        assert_eq!((told.0, told.2.as_str()), (400, "Wall message cannot be empty"), "{body}");
    }
    for (level, status) in [("fatal", 200), ("error", 200), ("zz", 400), ("ERROR", 400), ("", 400), ("info\n", 400)] {
        assert_eq!(answer(&admin, Method::PUT, "/api/v1/log-level", level).await.0, status, "{level}");
    }
    let nameless = answer(&ann, Method::PUT, &format!("{PIPELINE}/rename"), "{}").await;
    assert_eq!(nameless.2.trim(), r#"{"errors":["pipeline: identifier cannot be an empty string"]}"#);
}

#[tokio::test]
async fn a_wrong_body_names_the_field() {
    let (world, ann) = kitchen().await;
    let admin = world.admin().await;
    ann.post(&format!("{PIPELINE}/jobs/unit/builds")).send().await.unwrap();
    let code = format!("{PIPELINE}/resources/code");
    for (method, path, body, said) in [
        (Method::PUT, "/api/v1/teams/alpha", r#"{"auth":{"owner":{"users":"ann"}}}"#, "auth.owner.users: invalid type"),
        (Method::PUT, "/api/v1/teams/alpha", r#"{"auth":{"owner":{"groups":[1]}}}"#, "auth.owner.groups[0]: "),
        (Method::PUT, "/api/v1/teams/alpha/rename", r#"{"name":1}"#, "name: invalid type: integer `1`"),
        (Method::PUT, &format!("{PIPELINE}/rename"), r#"{"name":{}}"#, "name: invalid type"),
        (Method::PUT, "/api/v1/builds/1/comment", r#"{"comment":[]}"#, "comment: invalid type"),
        (Method::PUT, "/api/v1/wall", r#"{"message":"m","TTL":"1h"}"#, "TTL: invalid type"),
        (Method::PUT, &format!("{code}/pin_comment"), r#"{"pin_comment":true}"#, "pin_comment: invalid type"),
        (Method::POST, &format!("{code}/check"), r#"{"from":{"ref":1}}"#, "from"),
        (Method::POST, &format!("{code}/check"), r#"{"shallow":"yes"}"#, "shallow: invalid type"),
        (Method::PUT, "/api/v1/builds/1/comment", r#"{"comment":"#, "malformed request: "),
    ] {
        let (status, _, text) = answer(&admin, method, path, body).await;
        assert_eq!(status, 400, "{path} {body}: {text}");
        assert!(text.contains(said), "{path} {body}: {text}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_route_s_own_form() {
    let (world, ann) = kitchen().await;
    let (json, plain) = ("application/json", "text/plain; charset=utf-8");
    let absent = |what: &str| {
        json!({"errors": [{"title": format!("{what} Not Found Error"), "detail": format!("{what} with name 'zz' not found."),
            "status": "404"}]})
        .to_string()
    };
    for (method, path, status, kind, body) in [
        (Method::GET, "/jobs/zz/inputs", 404, json, String::new()),
        (Method::POST, "/jobs/zz/builds", 404, json, String::new()),
        (Method::POST, "/jobs/unit/builds/zz", 404, json, String::new()),
        (Method::DELETE, "/jobs/zz/tasks/t/cache", 404, "application/vnd.api+json", absent("Job")),
        (Method::DELETE, "/resources/zz/cache", 404, "application/vnd.api+json", absent("Resource")),
        (Method::GET, "/resources/code/versions/zz/input_to", 200, json, "[]".to_owned()),
        (Method::GET, "/resources/code/versions/99/output_of", 200, json, "[]".to_owned()),
        (Method::GET, "/resources/code/versions/+1", 400, "", String::new()),
        (Method::GET, "/jobs/%zz", 400, plain, "400 Bad Request".to_owned()),
        (Method::GET, "/jobs/%ff", 400, plain, "400 Bad Request".to_owned()),
        (Method::POST, "/pause", 405, plain, "Method Not Allowed".to_owned()),
    ] {
        let told = answer(&ann, method, &format!("{PIPELINE}{path}"), "").await;
        assert_eq!((told.0, told.1.as_str(), told.2.trim()), (status, kind, body.as_str()), "{path}");
    }
    let admin = world.admin().await;
    let told = answer(&admin, Method::GET, "/api/v1/users?since=zz", "").await;
    assert_eq!((told.0, told.1.as_str()), (400, json), "{}", told.2);
    let told = answer(&admin, Method::DELETE, "/api/v1/teams/main", "").await;
    assert_eq!((told.0, told.2.as_str()), (403, ""), "the client has words for it");
    let told = answer(&ann, Method::GET, &format!("{PIPELINE}/config?vars=%7B"), "").await;
    assert!(told.2.starts_with(r#"{"errors":["instance vars are malformed: "#), "{}", told.2);
    for (worker, caller, status) in [("zz", &ann, 404), ("nobody", &admin, 404)] {
        assert_eq!(answer(caller, Method::PUT, &format!("/api/v1/workers/{worker}/prune"), "").await.0, status);
    }
    for path in ["pipelines", "builds", "cc.xml"] {
        let of_none = format!("/api/v1/teams/zz/{path}");
        assert_eq!(answer(&admin, Method::GET, &of_none, "").await.0, 404, "nothing is hidden from administrators");
        assert_eq!(answer(&ann, Method::GET, &of_none, "").await.0, 200, "{path}");
    }
    let rule = json!({"auth": {"owner": {"users": ["local:ann"]}, "viewer": {"users": ["local:bob"]}}});
    assert_eq!(answer(&admin, Method::PUT, "/api/v1/teams/alpha", &rule.to_string()).await.0, 200);
    let (bob, eve) = (world.sign_in("bob").await, world.sign_in("eve").await);
    for (caller, pipeline, status) in
        [(&bob, "kitchen", 403), (&bob, "zz", 404), (&eve, "kitchen", 403), (&eve, "zz", 403), (&ann, "zz", 404)]
    {
        let pause = format!("/api/v1/teams/alpha/pipelines/{pipeline}/pause");
        assert_eq!(answer(caller, Method::PUT, &pause, "").await.0, status, "{pipeline}");
    }
    let own = &admin.json("/api/v1/workers").await[0]["name"].as_str().unwrap().to_owned();
    let prune = format!("/api/v1/workers/{own}/prune");
    assert_eq!(answer(&ann, Method::PUT, &prune, "").await.0, 403);
    let told = answer(&admin, Method::PUT, &prune, "").await;
    assert!(told.0 == 400 && told.2.starts_with(r#"{"stderr":"#), "{}", told.2);
}

#[tokio::test]
async fn builds_are_picked_by_range_by_start_and_as_the_latest() {
    let (_world, ann) = kitchen().await;
    for _ in 0..4 {
        ann.post(&format!("{PIPELINE}/jobs/unit/builds")).send().await.unwrap();
    }
    let ids = async |query: &str| -> Result<Vec<i64>, u16> {
        let answer = ann.get(&format!("{PIPELINE}/builds?{query}")).await;
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        let rows: Vec<Value> = answer.json().await.unwrap();
        Ok(rows.iter().map(|b| b["id"].as_i64().unwrap()).collect())
    };
    for (query, expected) in [
        ("from=2&to=3", Ok(vec![2, 3])),
        ("from=3&to=2", Err(400)),
        ("from=-1", Err(400)),
        ("limit=-1", Err(400)),
        ("to=zz", Ok(vec![])),
        ("from=zz&limit=1", Ok(vec![1])),
        ("timestamps=true", Ok(vec![4, 3, 2, 1])),
        ("timestamps=true&from=1", Ok(vec![])),
    ] {
        assert_eq!(ids(query).await, expected, "{query}");
    }
    assert_eq!(ann.json(&format!("{PIPELINE}/jobs/unit/builds/latest")).await["name"], "4");
}

#[tokio::test]
async fn what_is_exposed_is_shown_to_those_whose_token_has_ended() {
    let (world, ann) = kitchen().await;
    ann.put(&format!("{PIPELINE}/expose")).send().await.unwrap();
    let status = async |path: &str, authorization: &str| {
        let request = world.anonymous().request(Method::GET, path).header("authorization", authorization);
        request.send().await.unwrap().status().as_u16()
    };
    for authorization in ["Bearer ended", "nonsense"] {
        assert_eq!(status(PIPELINE, authorization).await, 200);
        assert_eq!(status(&format!("{PIPELINE}/config"), authorization).await, 401);
        assert_eq!(status("/api/v1/pipelines", authorization).await, 401);
        ann.put(&format!("{PIPELINE}/hide")).send().await.unwrap();
        assert_eq!(status(PIPELINE, authorization).await, 401);
        ann.put(&format!("{PIPELINE}/expose")).send().await.unwrap();
    }
}

#[tokio::test]
async fn containers_are_asked_for_by_what_there_is() {
    let (_world, ann) = kitchen().await;
    for (query, status) in [
        ("type=zz", 400),
        ("pipeline_id=zz", 400),
        ("build_id=99999999999999999999", 400),
        ("build_id=", 200),
        ("type=check&build_id=zz", 200),
        ("pipeline_id=-1", 200),
    ] {
        assert_eq!(ann.get(&format!("/api/v1/teams/alpha/containers?{query}")).await.status(), status, "{query}");
    }
}
