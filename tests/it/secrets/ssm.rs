//! AWS SSM: what is found where, and how often it is asked.

use std::time::Duration;

use serde_json::{Value, json};

use super::moto::Moto;
use super::{bench, errors, given, put, task};
use crate::engine::Bench;

fn count(asked: &[String], name: &str) -> usize {
    asked.iter().filter(|a| *a == name).count()
}

fn flags(moto: &Moto, more: &[&str]) -> Vec<String> {
    [moto.flags(), more.iter().map(|f| (*f).to_owned()).collect()].concat()
}

fn borrowed(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn look_ups_are_few() {
    let moto = Moto::start().await;
    let flags = flags(&moto, &["--aws-ssm-kms-key", "alias/ci-{{.Team}}", "--prometheus-bind-port", "0"]);
    let bench = bench(&borrowed(&flags)).await;
    let admin = &bench.admin;
    let written = put(admin, "p", "a", "value-of-a").await;
    assert_eq!(written["path"], "/concourse/main/p/a");
    for (pipeline, name) in
        [("p", "b"), ("p", "c"), ("p", "d"), ("", "team-wide"), ("", "login/user"), ("", "login/password")]
    {
        put(admin, pipeline, name, &format!("value-of-{name}")).await;
    }
    let stored = moto.ssm("DescribeParameters", json!({})).await;
    let parameters = stored["Parameters"].as_array().unwrap();
    assert_eq!(parameters.len(), 7);
    assert!(parameters.iter().all(|p| p["Type"] == "SecureString" && p["KeyId"] == "alias/ci-main"), "{stored}");

    // Four names in two steps, found at the first path: once for all of them; the next build finds them remembered.
    let plan = json!([
        task("one", json!({"A": "((a))", "B": "((b))"})),
        task("two", json!({"C": "((c))", "D": "((d))", "A": "((a))"}))
    ]);
    bench.job(json!({"name": "j", "plan": plan})).await;
    moto.asked();
    assert_eq!(bench.run("j").await.status, "succeeded");
    assert_eq!(given(&bench, "two", "D").as_deref(), Some("value-of-d"));
    let asked = moto.asked();
    assert!(asked.len() <= 2 && count(&asked, "GetParameters") == asked.len(), "{asked:?}");
    assert_eq!(bench.run("j").await.status, "succeeded");
    assert_eq!(moto.asked(), Vec::<String>::new(), "warm");
    bench.world.clock.advance(Duration::from_secs(61));
    assert_eq!(bench.run("j").await.status, "succeeded");
    assert_eq!(count(&moto.asked(), "GetParameters"), 1, "after a minute they are asked for again");

    // A value of the team, and a path as a map: misses of the first template cost a listing each.
    let plan = json!([task("t", json!({"T": "((team-wide))", "U": "((login.user))", "P": "((login.password))"}))]);
    bench.job(json!({"name": "k", "plan": plan})).await;
    assert_eq!(bench.run("k").await.status, "succeeded");
    let login = (given(&bench, "t", "T").unwrap(), given(&bench, "t", "U").unwrap());
    assert_eq!(login, ("value-of-team-wide".into(), "value-of-login/user".into()));
    let asked = moto.asked();
    assert!(count(&asked, "GetParameters") <= 2 && count(&asked, "GetParametersByPath") <= 3, "{asked:?}");

    // An absent name says where it was looked for, and is looked for once.
    bench.job(json!({"name": "m", "plan": [task("t", json!({"X": "((none))"}))]})).await;
    let id = bench.trigger("m").await;
    assert_eq!(bench.ended(id).await.status, "errored");
    let error = errors(&bench.events(id).await);
    assert!(error.contains("undefined vars: none"), "{error}");
    assert!(error.contains("/concourse/main/p/none, /concourse/main/none in AWS SSM"), "{error}");
    let asked = moto.asked();
    assert_eq!((count(&asked, "GetParameters"), count(&asked, "GetParametersByPath")), (2, 2), "{asked:?}");
    assert_eq!(bench.run("m").await.status, "errored");
    assert_eq!(moto.asked(), Vec::<String>::new());

    // Twelve names are two requests, however many steps use them.
    for n in 0..12 {
        let body = json!({"Name": format!("/concourse/main/p/n{n}"), "Value": "v", "Type": "SecureString"});
        moto.ssm("PutParameter", body).await;
    }
    let steps: Vec<Value> = (0..12).map(|n| task(&format!("t{n}"), json!({"N": format!("((n{n}))")}))).collect();
    bench.job(json!({"name": "n", "plan": steps})).await;
    assert_eq!(bench.run("n").await.status, "succeeded");
    assert_eq!(moto.asked(), ["GetParameters", "GetParameters"]);
    // Eleven more that are the team's: again two for what the pipeline has not, and one listing for each that missed.
    for n in 0..11 {
        let body = json!({"Name": format!("/concourse/main/m{n}"), "Value": "v", "Type": "SecureString"});
        moto.ssm("PutParameter", body).await;
    }
    bench.world.clock.advance(Duration::from_secs(61));
    let name = |n: usize| if n < 12 { format!("((n{n}))") } else { format!("((m{}))", n - 12) };
    let steps: Vec<Value> = (0..23).map(|n| task(&format!("t{n}"), json!({"N": name(n)}))).collect();
    bench.job(json!({"name": "b", "plan": steps})).await;
    moto.asked();
    assert_eq!(bench.run("b").await.status, "succeeded");
    let asked = moto.asked();
    assert_eq!((count(&asked, "GetParameters"), count(&asked, "GetParametersByPath")), (3 + 2, 11), "{asked:?}");
    let metrics = bench.world.server().metrics_address().unwrap();
    let metrics = reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("whistlestop_secret_calls_per_build"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_delays_an_outage_errors_and_others_go_on() {
    let moto = Moto::start().await;
    let flags = flags(&moto, &["--secret-retry-interval", "20ms", "--secret-retry-attempts", "3"]);
    let bench = bench(&borrowed(&flags)).await;
    put(&bench.admin, "p", "a", "value-of-a").await;
    moto.throttle(5);
    bench.job(json!({"name": "j", "plan": [task("t", json!({"A": "((a))"}))]})).await;
    moto.asked();
    assert_eq!(bench.run("j").await.status, "succeeded");
    assert_eq!(count(&moto.asked(), "GetParameters"), 6);

    moto.down(true);
    bench.job(json!({"name": "j", "plan": [task("t", json!({"A": "((b))"}))]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "errored");
    let error = errors(&bench.events(id).await);
    assert!(error.contains("AWS SSM does not answer: it answers 503 (asked 3 times, 20ms apart)"), "{error}");
    bench.job(json!({"name": "j", "plan": [task("t", json!({"A": "plain"}))]})).await;
    assert_eq!(bench.run("j").await.status, "succeeded", "who needs no secret goes on");
    moto.down(false);

    // Names that lead elsewhere are refused before anything is asked.
    moto.asked();
    for name in ["/other/x", "..", "/../x"] {
        bench.job(json!({"name": "j", "plan": [task("t", json!({"A": format!("((\"{name}\"))")}))]})).await;
        let id = bench.trigger("j").await;
        assert_eq!(bench.ended(id).await.status, "errored", "{name}");
        let error = errors(&bench.events(id).await);
        let refused = ["cannot be looked up", "undefined", "empty field"].iter().any(|said| error.contains(said));
        assert!(refused, "{name}: {error}");
    }
    assert_eq!(moto.asked(), Vec::<String>::new());
}

/// Every version of the resource, newest first, with what is said of it; and what is pinned.
async fn history(bench: &Bench) -> (Value, Value) {
    let path = "/api/v1/teams/main/pipelines/p/resources/r";
    let resource = bench.admin.json(path).await;
    (bench.admin.json(&format!("{path}/versions")).await, resource["pinned_version"].clone())
}

/// Checks the resource, from this version on.
async fn check(bench: &Bench, from: Value) {
    let path = "/api/v1/teams/main/pipelines/p/resources/r/check";
    let answer = bench.admin.post(path).json(&json!({"from": from})).send().await.unwrap();
    let id = answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap();
    assert_eq!(bench.ended(id).await.status, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_credentials_change_nothing_but_themselves() {
    let moto = Moto::start().await;
    let flags = flags(&moto, &["--aws-team-role", "arn:aws:iam::123456789012:role/ci-{{.Team}}"]);
    let mut bench = bench(&borrowed(&flags)).await;
    // Kept in SSM by whoever renews it.
    let set = async |value: &str| {
        let name = "/concourse/main/readonly_codecommit_private_key";
        let body = json!({"Name": name, "Value": value, "Type": "SecureString", "Overwrite": true});
        moto.ssm("PutParameter", body).await;
    };
    set("first-key").await;
    let source = json!({"initial_version": "1", "create_files": {
        "token": "((readonly_session_token))", "key": "((readonly_codecommit_private_key))",
        "password": "((readonly_local_user_password))"}});
    let resources = json!([{"name": "r", "type": "mock", "source": source}]);
    let params = json!({"S": "((readonly_session_token))", "I": "((readonly_access_key_id))", "A": "((readonly_secret_access_key))",
        "K": "((readonly_codecommit_private_key))"});
    let jobs = json!([{"name": "j", "plan": [{"get": "r", "trigger": true}, task("t", params)]}]);
    bench.set(json!({"resources": resources, "jobs": jobs})).await;
    check(&bench, Value::Null).await;
    check(&bench, json!({"version": "2"})).await;
    let (versions, _) = history(&bench).await;
    let id = |n: usize| versions[n]["id"].as_i64().unwrap();
    assert_eq!(versions.as_array().unwrap().len(), 2, "{versions}");
    for change in [format!("{}/disable", id(1)), format!("{}/pin", id(0))] {
        let path = format!("/api/v1/teams/main/pipelines/p/resources/r/versions/{change}");
        assert_eq!(bench.admin.put(&path).send().await.unwrap().status(), 200, "{change}");
    }
    assert_eq!(bench.run("j").await.status, "succeeded");
    let given_before = ["S", "I", "A", "K"].map(|n| given(&bench, "t", n).unwrap());
    assert!(given_before.iter().all(|v| !v.is_empty() && !v.contains("((")), "{given_before:?}");
    let before = history(&bench).await;
    assert_eq!((&before.1, &before.0[1]["enabled"]), (&json!({"version": "2"}), &json!(false)));
    let builds = async |bench: &Bench| {
        let all = bench.admin.json("/api/v1/teams/main/pipelines/p/jobs/j/builds").await;
        all.as_array().unwrap().len()
    };
    let built = builds(&bench).await;

    moto.asked();
    set("second-key").await;
    let rotated = bench.admin.put("/api/v1/teams/main/secrets/user").send().await.unwrap();
    assert_eq!(rotated.status(), 204);
    // Far enough, whatever day it is: moto's credentials end in an hour of its own time.
    bench.world.clock.advance(Duration::from_secs(3650 * 86_400));
    bench.admin = bench.world.admin().await;
    check(&bench, Value::Null).await;
    assert!(count(&moto.asked(), "AssumeRole") >= 1, "they were renewed");
    assert_eq!(history(&bench).await, before);
    assert_eq!(bench.run("j").await.status, "succeeded");
    let given_now = ["S", "I", "A", "K"].map(|n| given(&bench, "t", n).unwrap());
    for (old, new) in given_before.iter().zip(&given_now) {
        assert_ne!(old, new);
    }
    assert_eq!(builds(&bench).await, built + 1, "only the one that was asked for");
    assert_eq!(history(&bench).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_read_back_where_the_operator_allows_it_and_rotated_ones_after_a_minute() {
    let moto = Moto::start().await;
    let path = "/api/v1/teams/main/secrets/value?pipeline=p&name=a";
    let flags = flags(&moto, &["--allow-secrets-get"]);
    let bench = bench(&borrowed(&flags)).await;
    put(&bench.admin, "p", "a", "value-of-a").await;
    assert_eq!(bench.admin.json(path).await, json!({"value": "value-of-a"}));
    assert_eq!(bench.admin.get("/api/v1/teams/main/secrets/value?pipeline=p&name=b").await.status(), 404);
    bench.world.team("other", "ann").await;
    let ann = bench.world.sign_in("ann").await;
    assert_eq!(ann.get(path).await.status(), 403);
    let trail = bench.admin.json("/api/v1/teams/main/audit").await;
    assert!(!trail.to_string().contains("value-of-a"), "{trail}");
    let reads = trail.as_array().unwrap().iter().filter(|r| r["action"] == "GetSecret");
    let reads: Vec<_> = reads.map(|r| (&r["user"], &r["outcome"])).collect();
    assert_eq!(reads.len(), 3, "each leaves a row: {trail}");
    assert_eq!(reads[0], (&json!("ann"), &json!("refused")));
    // What is written here is seen at once.
    put(&bench.admin, "p", "a", "other-value").await;
    assert_eq!(bench.admin.json(path).await, json!({"value": "other-value"}));
    let listed = bench.admin.json("/api/v1/teams/main/secrets?pipeline=p").await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &json!("p/a")));
    let removed = bench.admin.request(reqwest::Method::DELETE, "/api/v1/teams/main/secrets?pipeline=p&name=a");
    assert_eq!(removed.send().await.unwrap().status(), 204);
    assert_eq!(bench.admin.get(path).await.status(), 404);
}
