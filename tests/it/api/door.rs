//! What every request meets: headers, permissions, errors.

use whistlestop::store::audit::AuditQuery;

use crate::world::World;

#[tokio::test]
async fn every_answer_carries_the_headers_of_concourse() {
    let world = World::new().await;
    let answer = world.anonymous().get("/api/v1/info").await;
    assert_eq!(answer.status(), 200);
    for (name, value) in [
        ("cache-control", "no-store, private"),
        ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        ("referrer-policy", "same-origin"),
        ("content-type", "application/json"),
        ("x-concourse-version", "8.2.5"),
        ("x-whistlestop-concourse-version", "8.2.5"),
        ("x-content-type-options", "nosniff"),
        ("x-download-options", "noopen"),
        ("x-frame-options", "deny"),
        ("x-xss-protection", "1; mode=block"),
    ] {
        assert_eq!(answer.headers()[name], value, "{name}");
    }
    let url = world.url("");
    let expected = format!(
        r#"{{"version":"8.2.5","worker_version":"2.5","feature_flags":{{"build_rerun":false,"cache_streamed_volumes":true,"global_resources":false,"resource_causality":true}},"external_url":"{url}"}}"#
    );
    assert_eq!(answer.text().await.unwrap(), expected + "\n");
}

#[tokio::test]
async fn an_unknown_address_is_not_found() {
    let world = World::new().await;
    let answer = world.anonymous().get("/api/v1/nope").await;
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.text().await.unwrap(), "404 page not found\n");
}

#[tokio::test]
async fn who_may_not_is_told_why() {
    let world = World::new().await;
    world.team("alpha", "ann").await;
    for (who, status, text) in [("ann", 200, ""), ("eve", 403, "forbidden"), ("", 401, "not authorized")] {
        let caller = if who.is_empty() { world.anonymous() } else { world.sign_in(who).await };
        let answer = caller.get("/api/v1/teams/alpha").await;
        assert_eq!(answer.status(), status, "{who}");
        if !text.is_empty() {
            assert_eq!(answer.text().await.unwrap(), text);
        }
    }
    assert_eq!(world.sign_in("ann").await.get("/api/v1/teams/zz").await.status(), 403);
    assert_eq!(world.admin().await.get("/api/v1/teams/zz").await.status(), 404);
    assert_eq!(world.admin().await.get("/api/v1/builds/zz").await.status(), 400);
    assert_eq!(world.admin().await.get("/api/v1/builds/99").await.status(), 404);
}

#[tokio::test]
async fn no_address_is_deep_enough_to_end_the_server() {
    let world = World::new().await;
    let nobody = world.anonymous();
    let deep = format!("vars{}=1", ".a".repeat(30_000));
    for path in ["/api/v1/teams/main/pipelines/p", "/teams/main/pipelines/p", "/api/v1/teams/main/pipelines/p/jobs/j"] {
        let answer = nobody.get(&format!("{path}?{deep}")).await;
        assert_eq!(answer.status(), 400, "{path}");
        assert!(answer.text().await.unwrap().contains("deeper than 64 levels"), "{path}");
    }
    // What a signed-in caller filters a list by is read in another place.
    let list = world.admin().await.get(&format!("/api/v1/teams/main/containers?pipeline_name=p&{deep}")).await;
    assert_eq!(list.status(), 400);
    assert_eq!(nobody.get("/api/v1/info").await.status(), 200);
}

#[tokio::test]
async fn a_change_leaves_a_row_in_the_audit() {
    let world = World::new().await;
    world.team("alpha", "ann").await;
    let entries = world
        .app()
        .store
        .read(|tx| tx.audit_entries(&AuditQuery { limit: 10, ..AuditQuery::default() }))
        .await
        .unwrap();
    let rows: Vec<_> = entries
        .iter()
        .filter(|e| e.action != "SignIn")
        .map(|e| (e.action.as_str(), e.user.as_str(), e.team.as_str(), e.status))
        .collect();
    assert_eq!(rows, [("SetTeam", "admin", "alpha", 201)]);
}

#[tokio::test]
async fn strangers_do_not_fill_the_disk_with_the_audit() {
    let world = World::new().await;
    let nobody = world.anonymous();
    let (one, many) = ("x".repeat(60_000), "a=b&".repeat(15_000));
    for n in 0..1000 {
        let query = if n % 2 == 0 { &one } else { &many };
        let answer = nobody.put(&format!("/api/v1/teams/main/pipelines/p/pause?q={query}")).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
    let bytes = world.app().store.read(|tx| {
        let rows = tx.audit_entries(&AuditQuery { limit: 9_999, ..AuditQuery::default() })?;
        Ok(rows.iter().map(|r| serde_json::to_string(&r.parameters).unwrap().len() + r.object.len()).sum::<usize>())
    });
    let bytes = bytes.await.unwrap();
    assert!(bytes < 1_000_000, "{bytes}");
    let file = std::fs::metadata(world.state_dir().join("state.db")).unwrap().len();
    assert!(file < 2_000_000, "{file}");
    world.clock.advance(std::time::Duration::from_secs(60));
    nobody.get("/api/v1/info").await;
    let wanted = AuditQuery { action: Some("RefusedRequests".into()), limit: 9, ..AuditQuery::default() };
    let rows = world.app().store.read(move |tx| tx.audit_entries(&wanted)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].object, "900 more refused requests in one minute");
}

#[tokio::test]
async fn an_operator_says_who_may_frame_pages_and_that_histories_are_shared() {
    for (word, old, new) in [
        ("deny", Some("deny"), "frame-ancestors 'none'"),
        ("SAMEORIGIN", Some("sameorigin"), "frame-ancestors 'self'"),
        ("", None, "frame-ancestors *"),
    ] {
        let flag = format!("--x-frame-options={word}");
        let world = World::with(&[&flag, "--enable-global-resources"]).await;
        for path in ["/sky/login", "/api/v1/info"] {
            let answer = world.anonymous().get(path).await;
            assert_eq!(answer.headers().get("x-frame-options").map(|v| v.to_str().unwrap()), old, "{word} {path}");
            assert!(answer.headers()["content-security-policy"].to_str().unwrap().ends_with(new), "{word} {path}");
        }
        let info = world.anonymous().json("/api/v1/info").await;
        assert_eq!(info["feature_flags"]["global_resources"], true);
    }
    assert_eq!(World::new().await.anonymous().json("/api/v1/info").await["feature_flags"]["global_resources"], false);
}

#[tokio::test]
async fn the_callback_that_providers_were_told_of_long_ago_still_leads_on() {
    let world = World::new().await;
    let answer = world.anonymous().get("/auth/github/callback?code=a%2Fb&state=c").await;
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.headers()["location"], "/sky/issuer/callback?code=a%2Fb&state=c");
}

#[tokio::test]
async fn identity_tokens_have_the_issuer_that_is_set() {
    let world = World::with(&["--oidc-issuer-url", "https://tokens.example.com/ci/"]).await;
    let about = world.anonymous().json("/.well-known/openid-configuration").await;
    assert_eq!(about["issuer"], "https://tokens.example.com/ci");
    assert_eq!(about["jwks_uri"], "https://tokens.example.com/ci/.well-known/jwks.json");
}

#[tokio::test]
async fn metrics_are_on_a_listener_of_their_own() {
    let world = World::with(&["--prometheus-bind-port", "0"]).await;
    let address = world.server().metrics_address().unwrap();
    world.anonymous().get("/api/v1/info").await;
    let text = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    assert!(text.contains("concourse_builds_finished_total"), "{text}");
    assert!(text.contains("concourse_workers_registered{state=\"running\"} 1"), "{text}");
    assert!(
        text.contains("concourse_http_responses_duration_seconds_bucket{method=\"GET\",route=\"GetInfo\""),
        "{text}"
    );
    assert_eq!(world.anonymous().get("/metrics").await.status(), 404);
}
