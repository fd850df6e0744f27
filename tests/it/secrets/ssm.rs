//! AWS SSM: what is found where, and how often it is asked.

use std::time::Duration;

use serde_json::{Value, json};

use super::moto::Moto;
use super::{bench, errors, given, put, task};

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
    let flags = flags(&moto, &["--aws-ssm-kms-key", "alias/ci-{{.Team}}", "--secret-retry-interval", "10ms"]);
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
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_delays_an_outage_errors_and_others_go_on() {
    let moto = Moto::start().await;
    let role = "arn:aws:iam::123456789012:role/ci-{{.Team}}";
    let flags =
        flags(&moto, &["--secret-retry-interval", "20ms", "--secret-retry-attempts", "3", "--aws-team-role", role]);
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
    for name in ["../other/x", "a/../../other/x", "..", "a//b"] {
        bench.job(json!({"name": "j", "plan": [task("t", json!({"A": format!("((\"{name}\"))")}))]})).await;
        let id = bench.trigger("j").await;
        assert_eq!(bench.ended(id).await.status, "errored", "{name}");
        let error = errors(&bench.events(id).await);
        assert!(error.contains("cannot be looked up") || error.contains("undefined"), "{name}: {error}");
    }
    assert_eq!(moto.asked(), Vec::<String>::new());

    // The team's role: its credentials are renewed, and what is checked with them keeps its history.
    let source = json!({"initial_version": "1", "create_files": {"key": "((readonly_session_token))"}});
    let resources = json!([{"name": "r", "type": "mock", "source": source}]);
    let jobs = json!([{"name": "j", "plan": [{"get": "r", "trigger": true}, task("t", json!({"K": "((readonly_access_key_id))"}))]}]);
    bench.set(json!({"resources": resources, "jobs": jobs})).await;
    bench.build("j", "5").await;
    let check = async || {
        let admin = bench.world.admin().await;
        let path = "/api/v1/teams/main/pipelines/p/resources/r/check";
        let answer = admin.post(path).json(&json!({"from": null})).send().await.unwrap();
        let id = answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap();
        assert_eq!(bench.ended(id).await.status, "succeeded");
    };
    check().await;
    assert!(count(&moto.asked(), "AssumeRole") >= 1);
    let scopes = async || -> i64 {
        let read =
            bench.world.app().store.read(|tx| Ok(tx.query_row("select count(*) from scopes", [], |r| r.get(0))?));
        read.await.unwrap()
    };
    let before = scopes().await;
    // Far enough, whatever day it is: moto's credentials end in an hour of its own time.
    bench.world.clock.advance(Duration::from_secs(3650 * 86_400));
    let admin = bench.world.admin().await;
    check().await;
    assert!(count(&moto.asked(), "AssumeRole") >= 1, "they were renewed");
    assert_eq!(scopes().await, before, "and the history is the same");
    let answer =
        admin.put("/api/v1/teams/main/secrets?name=readonly_x").json(&json!({"value": "v"})).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    let answer = admin
        .request(reqwest::Method::DELETE, "/api/v1/teams/main/secrets?name=READONLY_x&pipeline=p")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 403);
}
