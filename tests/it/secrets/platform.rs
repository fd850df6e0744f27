//! What the platform gives each team, and sources beside the installation's.

use serde_json::{Value, json};

use super::{bench, errors, given, put, task};

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_s_values_are_used_and_never_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("platform.yml");
    let values = "'*': {readonly_private_bucket_name: shared-bucket, readonly_codecommit_pool_uri: pool}\n\
                  main: {readonly_private_bucket_name: bucket-of-main}\n\
                  other: {readonly_private_bucket_arn: arn-of-other}\n";
    std::fs::write(&file, values).unwrap();
    let flags = ["--platform-values", file.to_str().unwrap(), "--egress-ip", "192.0.2.7", "--egress-ip", "192.0.2.8"];
    let bench = bench(&flags).await;
    let names = ["private_bucket_name", "codecommit_pool_uri", "team_name", "secrets_path_prefix", "egress_ips"];
    let params: Value = names.iter().map(|n| ((*n).to_owned(), json!(format!("((readonly_{n}))")))).collect();
    let mut say = task("t", params);
    say["config"]["params"]["PASSWORD"] = json!("((readonly_local_user_password))");
    say["config"]["run"]["args"] = json!([
        "out:((readonly_team_name)) and ((readonly_private_bucket_name))\n",
        "out:not ((readonly_local_user_password))\n"
    ]);
    bench.job(json!({"name": "j", "plan": [say]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "succeeded");
    let log = bench.admin.get(&format!("/builds/{id}/log.txt")).await.text().await.unwrap();
    assert!(log.contains("main and bucket-of-main") && log.contains("not ((redacted))"), "names are no secrets: {log}");
    let expected = ["bucket-of-main", "pool", "main", "main", "192.0.2.7,192.0.2.8"];
    for (name, value) in names.iter().zip(expected) {
        assert_eq!(given(&bench, "t", name).as_deref(), Some(value), "{name}");
    }
    bench.job(json!({"name": "j", "plan": [task("t", json!({"X": "((readonly_private_bucket_arn))"}))]})).await;
    let id = bench.trigger("j").await;
    assert_eq!(bench.ended(id).await.status, "errored", "another team's");
    assert!(errors(&bench.events(id).await).contains("undefined vars: readonly_private_bucket_arn"));

    // Listed with the team's, without a value, and refused on every way to write or remove them.
    let listed = bench.admin.json("/api/v1/teams/main/secrets").await;
    let row = listed.as_array().unwrap().iter().find(|r| r["name"] == "readonly_private_bucket_name").unwrap();
    assert_eq!(row["changed_by"], json!("the platform"));
    assert!(!listed.to_string().contains("bucket-of-main"));
    for query in [
        "name=readonly_x",
        "name=READONLY_x&pipeline=p",
        "name=x/readonly_y",
        "name=readonly_x/y",
        "name=y&pipeline=readonly_p",
    ] {
        let path = format!("/api/v1/teams/main/secrets?{query}");
        let put = bench.admin.put(&path).json(&json!({"value": "v"})).send().await.unwrap();
        let delete = bench.admin.request(reqwest::Method::DELETE, &path).send().await.unwrap();
        assert_eq!((put.status().as_u16(), delete.status().as_u16()), (403, 403), "{query}");
        assert!(put.text().await.unwrap().contains("belongs to the platform"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_nearer_than_the_store() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("main/p/login")).unwrap();
    for (name, text) in [("main/p/key", "of-a-file\n"), ("main/p/login/user", "ann"), ("main/p/readonly_x", "theirs")] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let bench = bench(&["--secrets-dir", directory.path().to_str().unwrap()]).await;
    put(&bench.admin, "p", "key", "of-the-store").await;
    put(&bench.admin, "p", "other", "of-the-store").await;
    let params = json!({"K": "((key))", "U": "((login.user))", "O": "((other))", "R": "((readonly_x))"});
    bench.job(json!({"name": "j", "plan": [task("t", params)]})).await;
    assert_eq!(bench.run("j").await.status, "succeeded");
    for (name, value) in [("K", "of-a-file"), ("U", "ann"), ("O", "of-the-store"), ("R", "theirs")] {
        assert_eq!(given(&bench, "t", name).as_deref(), Some(value), "{name}");
    }
    let explained = bench.admin.json("/api/v1/teams/main/secrets/explain?pipeline=p&name=key").await;
    let tried: Vec<&str> =
        explained["tried"].as_array().unwrap().iter().map(|t| t["source"].as_str().unwrap()).collect();
    assert_eq!(tried[0], "the directory of secrets");
    assert_eq!(tried[2], "the store of this server");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_elsewhere_are_refused_by_every_door() {
    let bench = bench(&[]).await;
    bench.world.team("other", "ann").await;
    let ann = bench.world.sign_in("ann").await;
    let set = ann.put("/api/v1/teams/other/secrets?name=x").json(&json!({"value": "theirs"})).send().await.unwrap();
    assert!(set.status().is_success());
    for name in [
        "../other/x",
        "..%2Fother%2Fx",
        "%2e%2e/other/x",
        "a/../../other/x",
        "x\0",
        "x\n",
        "{{.Team}}/x",
        "/other/x",
        "..\\other\\x",
        "．．/other/x",
        "a//b",
        ".",
        "a b",
        "",
    ] {
        for pipeline in ["", "p"] {
            let query = [("name", name), ("pipeline", pipeline)];
            let put = bench.admin.put("/api/v1/teams/main/secrets").query(&query).json(&json!({"value": "v"}));
            assert_eq!(put.send().await.unwrap().status(), 400, "{name:?}");
            let delete = bench.admin.request(reqwest::Method::DELETE, "/api/v1/teams/main/secrets").query(&query);
            assert_eq!(delete.send().await.unwrap().status(), 400, "{name:?}");
            // As a variable it can be written in quotes only.
            let quoted = format!("\"{name}\"");
            let query = [("name", quoted.as_str()), ("pipeline", pipeline)];
            let explain = bench.admin.request(reqwest::Method::GET, "/api/v1/teams/main/secrets/explain").query(&query);
            let answer = explain.send().await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            // Concourse reads `../x` in quotes as `x`, which stays in the team's own place.
            let own = text.contains("\"path\":\"main/") && !text.contains("..");
            assert!(status == 400 || own || text.contains("cannot be looked up"), "{name:?}: {status} {text}");
            assert!(!text.contains("\"found\":true"), "{name:?}: {text}");
        }
    }
    for pipeline in ["../other", "..", "other/x", "%2e%2e"] {
        let query = [("name", "x"), ("pipeline", pipeline)];
        let put = bench.admin.put("/api/v1/teams/main/secrets").query(&query).json(&json!({"value": "v"}));
        assert_eq!(put.send().await.unwrap().status(), 400, "{pipeline}");
    }
}
