//! TLS, proxies, and who may call.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::json;

use crate::world::World;

/// A certificate and key that nobody else has, of this name.
fn certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    certificate_with(directory, name, "CA:FALSE")
}

/// One that may be an authority too, as `openssl req -x509` makes it when nothing is said.
fn certificate_with(directory: &Path, name: &str, constraints: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    let config = directory.join("openssl.cnf");
    let text = format!(
        "[req]\ndistinguished_name=dn\nx509_extensions=own\nprompt=no\n[dn]\nCN={name}\n\
         [own]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,{constraints}\n"
    );
    std::fs::write(&config, text).unwrap();
    let done = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-config",
        ])
        .arg(&config)
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    (certificate, key)
}

fn trusting(certificate: &Path) -> Client {
    let pem = reqwest::Certificate::from_pem(&std::fs::read(certificate).unwrap()).unwrap();
    Client::builder().tls_certs_only([pem]).redirect(Policy::none()).build().unwrap()
}

#[tokio::test]
async fn https_is_served_plain_http_leads_there_and_a_new_certificate_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let (file, key) = certificate(directory.path(), "first");
    let flags = ["--tls-bind-port", "0", "--tls-cert", file.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let world = World::with(&flags).await;
    let url = world.app().settings.external_url.clone();
    assert!(url.starts_with("https://127.0.0.1:"));
    let answer = trusting(&file).get(format!("{url}/sky/login")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["strict-transport-security"]),
        (200, &"max-age=31536000".parse().unwrap())
    );
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("; Secure; SameSite=Strict") && cookie.contains("HttpOnly"), "{cookie}");
    let plain = Client::builder().redirect(Policy::none()).build().unwrap();
    let answer = plain.get(world.url("/teams/a?b=c")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
        (308, &*format!("{url}/teams/a?b=c"))
    );
    let answer = plain.post(world.url("/sky/issuer/token")).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains(&format!("https only; use {url}")));
    assert_eq!(plain.get(world.url("/api/v1/health")).send().await.unwrap().status(), 200);
    let old = trusting(&file);
    certificate(directory.path(), "second certificate");
    assert_eq!(trusting(&file).get(format!("{url}/api/v1/info")).send().await.unwrap().status(), 200);
    assert!(
        old.get(format!("{url}/api/v1/info")).send().await.is_err(),
        "who trusts the old one only sees the new one"
    );
    // Half of a change: what works stays.
    std::fs::write(&key, "nonsense").unwrap();
    assert_eq!(trusting(&file).get(format!("{url}/api/v1/info")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_client_believes_a_certificate_that_is_its_own_authority_and_says_what_to_do_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let (file, key) = certificate_with(directory.path(), "own", "CA:TRUE");
    let (file, key) = (file.to_str().unwrap(), key.to_str().unwrap());
    let world = World::with(&["--tls-bind-port", "0", "--tls-cert", file, "--tls-key", key]).await;
    let url = world.app().settings.external_url.clone();
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let login = async |url: &str, more: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_whistlestop"));
        command.args(["fly", "-t", "ci", "login", "-c", url, "-u", "admin", "-p", "admin"]).args(more);
        let output = command.env("HOME", directory.path()).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(login(&url, &["--ca-cert", file]).await, (Some(0), String::new()));
    assert_eq!(login(&url, &["-k"]).await, (Some(0), String::new()));
    let (code, told) = login(&url, &[]).await;
    assert!(code == Some(1) && told.contains("signed by unknown authority") && told.contains("--ca-cert"), "{told}");
    let (code, told) = login(&elsewhere, &["--ca-cert", file]).await;
    assert!(code == Some(1) && told.contains("certificate is valid for 127.0.0.1, not localhost"), "{told}");
    let (code, told) = login(&world.url("").replace("http:", "https:"), &["--ca-cert", file]).await;
    assert!(code == Some(1) && told.contains("server gave HTTP response to HTTPS client"), "{told}");
}

#[tokio::test]
async fn only_listed_networks_get_in_and_a_proxy_is_believed_only_if_trusted() {
    let world = World::with(&["--allow-network", "10.0.0.0/8", "--trusted-proxy", "127.0.0.1"]).await;
    let from = |address: &str| {
        world.anonymous().request(reqwest::Method::GET, "/api/v1/info").header("x-forwarded-for", address).send()
    };
    assert_eq!(from("10.1.2.3").await.unwrap().status(), 200);
    assert_eq!(from("10.1.2.3, 10.9.9.9").await.unwrap().status(), 200);
    let refused = from("10.1.2.3, 192.0.2.1").await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.headers()["x-frame-options"], "deny");
    assert!(refused.text().await.unwrap().contains("192.0.2.1 is in none of the networks"));
    let world = World::with(&["--allow-network", "10.0.0.0/8"]).await;
    let answer = world.anonymous().request(reqwest::Method::GET, "/api/v1/info").header("x-forwarded-for", "10.1.2.3");
    assert_eq!(answer.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_team_s_networks_hold_for_its_members_wherever_they_sign_in() {
    let world = World::with(&["--trusted-proxy", "127.0.0.1"]).await;
    world.team("alpha", "ann").await;
    let ann = world.sign_in("ann").await;
    let set = |networks: serde_json::Value| {
        ann.put("/api/v1/teams/alpha/networks").json(&json!({"networks": networks})).send()
    };
    let told = set(json!(["10.0.0.0/8"])).await.unwrap();
    assert_eq!(told.status(), 400, "owners cannot lock themselves out");
    assert!(told.text().await.unwrap().contains("you would lock yourself out"));
    assert_eq!(set(json!(["somewhere"])).await.unwrap().status(), 400);
    let done = set(json!(["127.0.0.0/8", "10.1.0.0/16"])).await.unwrap();
    assert_eq!(done.json::<serde_json::Value>().await.unwrap(), json!({"networks": ["127.0.0.0/8", "10.1.0.0/16"]}));
    let as_from = |address: &str| {
        ann.request(reqwest::Method::GET, "/api/v1/teams/alpha").header("x-forwarded-for", address).send()
    };
    for (address, status) in [("10.1.2.3", 200), ("10.2.2.3", 403), ("192.0.2.1", 403)] {
        assert_eq!(as_from(address).await.unwrap().status(), status, "{address}");
    }
    let elsewhere =
        ann.request(reqwest::Method::GET, "/api/v1/user").header("x-forwarded-for", "192.0.2.1").send().await.unwrap();
    assert_eq!(elsewhere.json::<serde_json::Value>().await.unwrap()["teams"], json!({}));
}
