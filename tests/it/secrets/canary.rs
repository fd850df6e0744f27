//! A secret in every disguise, through every way out of a build: none of it is stored or sent.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Home, OWN, bench, given, put, task};
use crate::engine::Bench;

/// What nobody must see.
pub const SECRET: &str = "C4n4ry/+s3cr3t\"<&>'$x y=ö~!";

/// The secret as other programs write it (made with Python and bash).
pub const FORMS: &[(&str, &str)] = &[
    ("raw", "C4n4ry/+s3cr3t\"<&>'$x y=ö~!"),
    ("base64", "QzRuNHJ5LytzM2NyM3QiPCY+JyR4IHk9w7Z+IQ=="),
    ("base64 of a line", "QzRuNHJ5LytzM2NyM3QiPCY+JyR4IHk9w7Z+IQo="),
    ("base64url", "QzRuNHJ5LytzM2NyM3QiPCY-JyR4IHk9w7Z-IQ=="),
    ("base64 within more", "dXNlcjpDNG40cnkvK3MzY3IzdCI8Jj4nJHggeT3Dtn4hQGhvc3Q="),
    ("hex", "43346e3472792f2b733363723374223c263e27247820793dc3b67e21"),
    ("HEX", "43346E3472792F2B733363723374223C263E27247820793DC3B67E21"),
    ("percent", "C4n4ry%2F%2Bs3cr3t%22%3C%26%3E%27%24x%20y%3D%C3%B6~%21"),
    ("percent with slashes", "C4n4ry/%2Bs3cr3t%22%3C%26%3E%27%24x%20y%3D%C3%B6~%21"),
    ("form", "C4n4ry%2F%2Bs3cr3t%22%3C%26%3E%27%24x+y%3D%C3%B6~%21"),
    ("JSON", "C4n4ry/+s3cr3t\\\"<&>'$x y=ö~!"),
    ("JSON in ASCII", "C4n4ry/+s3cr3t\\\"<&>'$x y=\\u00f6~!"),
    ("JSON of Go", "C4n4ry/+s3cr3t\\\"\\u003c\\u0026\\u003e'$x y=ö~!"),
    ("HTML", "C4n4ry/+s3cr3t&quot;&lt;&amp;&gt;&#x27;$x y=ö~!"),
    ("HTML of Go", "C4n4ry/+s3cr3t&#34;&lt;&amp;&gt;&#39;$x y=ö~!"),
    ("%q", "C4n4ry/+s3cr3t\\\"<&>'$x y=ö~!"),
    ("shell by Python", "C4n4ry/+s3cr3t\"<&>'\"'\"'$x y=ö~!"),
    ("shell by bash -x", "C4n4ry/+s3cr3t\"<&>'\\''$x y=ö~!"),
    ("printf %q", "C4n4ry/+s3cr3t\\\"\\<\\&\\>\\'\\$x\\ y=ö~\\!"),
];

/// Everything that anybody can read: each table but the sealed secrets, and each log.
async fn stored(bench: &Bench) -> String {
    let store = &bench.world.app().store;
    let dump = store.read(|tx| {
        let mut text = String::new();
        let tables: Vec<String> = tx
            .prepare("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'")?
            .query_map([], |r| r.get(0))?
            .collect::<Result<_, _>>()?;
        for table in tables {
            let mut query = tx.prepare(&format!("select * from {table}"))?;
            let columns = query.column_count();
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                for n in 0..columns {
                    let value = row.get_ref(n)?;
                    text.push_str(&format!("{table} {value:?} {}\n", value.as_str().unwrap_or_default()));
                }
            }
        }
        Ok(text)
    });
    let mut text = dump.await.unwrap();
    let builds =
        store.read(|tx| Ok(tx.query_row("select coalesce(max(id), 0) from builds", [], |r| r.get::<_, i64>(0))?));
    for id in 1..=builds.await.unwrap() {
        for event in bench.events(id).await {
            text.push_str(&event.to_string());
            text.push_str(event["data"]["payload"].as_str().or(event["data"]["message"].as_str()).unwrap_or_default());
            text.push('\n');
        }
    }
    text
}

/// What the API and the pages say.
async fn sent(bench: &Bench, build: i64) -> String {
    let mut text = String::new();
    for path in [
        "/api/v1/teams/main/pipelines/p/config",
        "/api/v1/teams/main/pipelines/p/resources",
        "/api/v1/teams/main/pipelines/p/jobs",
        "/api/v1/teams/main/pipelines/p/resources/r",
        "/api/v1/teams/main/pipelines/p/resources/r/versions",
        "/api/v1/teams/main/pipelines/p/resources/bad",
        "/api/v1/builds",
        "/api/v1/teams/main/secrets",
        "/api/v1/teams/main/containers",
        "/api/v1/info/creds",
        "/teams/main/pipelines/p",
        "/teams/main/pipelines/p/resources/r",
        "/teams/main/pipelines/p/resources/bad",
        "/teams/main/secrets",
    ] {
        text.push_str(&bench.admin.get(path).await.text().await.unwrap());
    }
    for rest in ["", "/plan", "/resources", "/secrets", "/preparation"] {
        text.push_str(&bench.admin.get(&format!("/api/v1/builds/{build}{rest}")).await.text().await.unwrap());
    }
    for rest in ["", "/log.txt"] {
        text.push_str(&bench.admin.get(&format!("/builds/{build}{rest}")).await.text().await.unwrap());
    }
    let metrics = bench.world.server().metrics_address().unwrap();
    text.push_str(&reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await.unwrap());
    text
}

fn clean(what: &str, text: &str) {
    for (name, form) in FORMS {
        if let Some(at) = text.find(form) {
            let around: String = text[..at].chars().rev().take(80).collect::<Vec<_>>().into_iter().rev().collect();
            panic!("{what} holds the secret as {name}, after {around:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_disguise_gets_out() {
    let bench = bench(&["--prometheus-bind-port", "0"]).await;
    put(&bench.admin, "p", "canary", SECRET).await;
    put(
        &bench.admin,
        "p",
        "pem",
        "-----BEGIN KEY-----\nfirst-line-of-the-key\nsecond-line-of-the-key\n-----END KEY-----\n",
    )
    .await;
    // One process that says it in every form, whole, cut in two, and over lines.
    let mut words: Vec<String> = vec!["out:begins\n".into()];
    for (name, form) in FORMS {
        words.push(format!("out:{name}: {form}\n"));
        let middle = form.char_indices().nth(form.chars().count() / 2).unwrap().0;
        words.push(format!("err:cut {}", &form[..middle]));
        words.push(format!("err:{}\r\n", &form[middle..]));
    }
    words.push("out:c29tZSB0ZXh0IGJlZm9yZSB0aGUgc2VjcmV0IHNvIHRoYXQgYSBsaW5lIGJyZWFrIGZhbGxzIGlu\r\ndG8gaXQgQzRuNHJ5LytzM2NyM3Qi\r\nPCY+JyR4IHk9w7Z+IQ==\r\n".into());
    words.push("out:pem first-line-of-the-key and\nsecond-line-of-the-key\n".into());
    words.push("out:ends.\n".into());
    words.push("exit:1".into());
    let mut say = task("say", json!({"SECRET": "((canary))", "PEM": "((pem))"}));
    // The words are the program's own: what stands in a pipeline is no secret.
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    bench.world.runtime.script("/opt/resource/say", &words);
    say["config"]["run"] = json!({"path": "/opt/resource/say", "args": ["((canary))"], "dir": "x"});
    let run = json!({"path": "do", "args": ["err:((canary))\n", "exit:1"]});
    say["on_failure"] = json!({"task": "hook", "config": {"platform": "linux", "rootfs_uri": "host:///", "run": run}});
    let lost = json!({"task": "lost", "config": {"platform": "linux", "rootfs_uri": "host:///", "run": {"path": "do", "args": ["lost:it had ((canary))"]}}});
    let metadata = json!([{"name": "told", "value": "((canary))"}]);
    let source = json!({"initial_version": "1", "metadata": metadata, "log": "((canary))"});
    let bad = json!({"check_failure": "it said ((canary))"});
    let resources =
        json!([{"name": "r", "type": "mock", "source": source}, {"name": "bad", "type": "mock", "source": bad}]);
    let answer = json!({"version": {"version": "1"}, "metadata": [{"name": "told", "value": SECRET}]});
    bench.world.runtime.script("whistlestop", &[&format!("err:{SECRET}\n"), &format!("answer:{answer}")]);
    let jobs = json!([
        {"name": "j", "plan": [{"get": "r"}, {"try": say}, {"put": "r"}, lost]},
        {"name": "b", "plan": [{"get": "bad"}]},
        {"name": "hang", "plan": [{"task": "hang", "config": {"platform": "linux", "rootfs_uri": "host:///", "params": {"S": "((canary))"}, "run": {"path": "do", "args": ["hang"]}}}]},
    ]);
    bench.set(json!({"resources": resources, "jobs": jobs})).await;
    for resource in ["r", "bad"] {
        let path = format!("/api/v1/teams/main/pipelines/p/resources/{resource}/check");
        let answer = bench.admin.post(&path).json(&json!({"from": null})).send().await.unwrap();
        let id = answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap();
        bench.ended(id).await;
    }
    let build = bench.trigger("j").await;
    let ended = bench.ended(build).await;
    assert_eq!(ended.status, "errored", "{ended:?}");
    assert_eq!(given(&bench, "say", "SECRET").as_deref(), Some(SECRET), "the step itself has it");

    let text = stored(&bench).await;
    assert!(text.contains("begins") && text.contains("ends") && text.contains("((redacted))"), "{text}");
    clean("what is stored", &text);
    for line in ["first-line-of-the-key", "second-line-of-the-key", "PCY+JyR4IHk9w7Z+IQ", "NG40cnkvK3MzY3IzdCI8Jj4n"] {
        assert!(!text.contains(line), "{line}");
    }
    clean("what is sent", &sent(&bench, build).await);

    // While a build knows it, the server's own log and the words of a panic do not say it either.
    let hanging = bench.trigger("hang").await;
    bench.until(hanging, "start-task").await;
    for (name, form) in FORMS {
        let said = whistlestop::base::secret::redact_everything(&format!("panicked at {form}: {form}"));
        assert!(!said.contains(form), "{name}");
    }
    let path = format!("/api/v1/builds/{hanging}/abort");
    assert!(bench.admin.put(&path).send().await.unwrap().status().is_success());
    tokio::time::timeout(Duration::from_secs(120), bench.ended(hanging)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_diff_of_a_pipeline_nor_the_client_shows_it() {
    let bench = bench(&[]).await;
    put(&bench.admin, "p", "canary", SECRET).await;
    // The file has the secret too, as somebody may have written it there.
    let child = json!({"jobs": [{"name": "born", "plan": [
        {"task": "t", "file": "a/b", "params": {"WHO": "((who))", "RAW": SECRET}}]}]});
    let words = [format!("write:/made:child.yml:{child}"), format!("out:{SECRET}\n")];
    bench.world.runtime.script("/opt/resource/write", &words.each_ref().map(String::as_str));
    let mut write = task("write", json!({}));
    write["config"]["run"] = json!({"path": "/opt/resource/write"});
    write["config"]["outputs"] = json!([{"name": "out", "path": "/made"}]);
    let set = json!({"set_pipeline": "child", "file": "out/child.yml", "vars": {"who": "((canary))"}});
    // The step that is given the secret comes first: from then on the build knows it.
    let given = task("given", json!({"S": "((canary))"}));
    bench.job(json!({"name": "j", "plan": [given, write, set]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "succeeded");
    let mut text = String::new();
    for event in bench.events(id).await {
        text.push_str(&format!("{event}{}\n", event["data"]["payload"].as_str().unwrap_or_default()));
    }
    assert!(text.contains("job born has been added") && text.contains("WHO: ((redacted))"), "{text}");
    clean("the build's events", &text);

    let (code, text) = Home::of(&bench).run(OWN, &["fly", "-t", "cd-main", "watch", "-b", &id.to_string()], None);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("WHO: ((redacted))"), "{text}");
    clean("fly watch", &text);
}
