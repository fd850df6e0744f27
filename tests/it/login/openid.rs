//! A real OpenID provider: npm's oidc-provider, which insists on PKCE.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::json;

use super::{Browser, EXTERNAL};
use crate::world::World;

/// The provider's process.
pub struct Provider {
    child: Child,
    issuer: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where it is installed; the script does that the first time.
fn place() -> &'static str {
    static PLACE: OnceLock<String> = OnceLock::new();
    PLACE.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/oidc/install");
        let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "tests/data/oidc/install failed; it needs npm");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

impl Provider {
    pub fn start() -> Provider {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/oidc/provider.mjs");
        let mut child = Command::new("node")
            .args([script, place(), &format!("{EXTERNAL}/sky/issuer/callback")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the OpenID provider of the tests needs node");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It has a few things to say before.
        let issuer = lines.by_ref().map(Result::unwrap).find(|l| l.starts_with("http://")).unwrap();
        // It must not find a closed pipe when it says more.
        std::thread::spawn(move || lines.for_each(drop));
        Provider { child, issuer }
    }

    pub async fn world(&self, flags: &[&str]) -> World {
        let own = ["--external-url", EXTERNAL, "--oidc-client-id", "ci", "--oidc-client-secret", "hush"];
        let more = ["--oidc-issuer", &self.issuer, "--oidc-display-name", "Example", "--oidc-scope", "email"];
        let scopes = ["--oidc-scope", "profile", "--oidc-scope", "groups"];
        World::with(&[&own[..], &more, &scopes, flags].concat()).await
    }
}

#[tokio::test]
async fn people_sign_in_and_only_what_the_provider_has_verified_gives_roles() {
    let provider = Provider::start();
    let world = provider.world(&["--main-team-oidc-user", "ann@example.com"]).await;
    let mut browser = Browser::new(&world);
    let page = browser.get("/sky/login").await.text().await.unwrap();
    assert!(page.contains("Sign in with Example"), "{page}");
    browser.person = Some("sub-ann".to_owned());
    let answer = browser.sign_in("oidc", "/").await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (303, &"/".parse().unwrap()));
    let user = browser.user().await;
    assert_eq!(
        (&user["is_admin"], &user["user_id"], &user["email"]),
        (&json!(true), &json!("sub-ann"), &json!("ann@example.com"))
    );
    assert_eq!(user["groups"], json!(["dev", "ops"]));
    // The same address, not verified; the address as a name; the subject as a preferred name.
    let mut clone = Browser::new(&world);
    clone.person = Some("sub-mallory".to_owned());
    assert_eq!(clone.sign_in("oidc", "/").await.status(), 303);
    let user = clone.user().await;
    assert_eq!((&user["is_admin"], &user["teams"], &user["email"]), (&json!(false), &json!({}), &json!("")));
}

#[tokio::test]
async fn groups_give_roles_and_a_refusal_is_told() {
    let provider = Provider::start();
    let world = provider.world(&["--main-team-oidc-group", "ops"]).await;
    let mut browser = Browser::new(&world);
    let answer = browser.sign_in("oidc", "/").await;
    assert_eq!(answer.status(), 403);
    let page = answer.text().await.unwrap();
    assert!(page.contains("Example did not sign you in: no thanks"), "{page}");
    browser.person = Some("sub-ann".to_owned());
    browser.sign_in("oidc", "/").await;
    assert_eq!(browser.user().await["teams"], json!({"main": ["owner"]}));
    let trail = browser.get("/api/v1/audit").await.json::<serde_json::Value>().await.unwrap();
    let rows: Vec<_> =
        trail.as_array().unwrap().iter().map(|r| (&r["action"], &r["connector"], &r["status"])).collect();
    assert_eq!(
        rows,
        [(&json!("SignIn"), &json!("oidc"), &json!(200)), (&json!("SignIn"), &json!("elsewhere"), &json!(403)),]
    );
}

#[tokio::test]
async fn a_wrong_secret_and_a_provider_that_is_gone_are_told() {
    let provider = Provider::start();
    let own = ["--external-url", EXTERNAL, "--oidc-client-id", "ci", "--oidc-client-secret", "wrong"];
    let world = World::with(&[&own[..], &["--oidc-issuer", &provider.issuer]].concat()).await;
    let mut browser = Browser::new(&world);
    browser.person = Some("sub-ann".to_owned());
    let answer = browser.sign_in("oidc", "/").await;
    assert_eq!(answer.status(), 403);
    let page = answer.text().await.unwrap();
    assert!(page.contains("refused") && page.contains("client"), "{page}");
    drop(provider);
    world.clock.advance(std::time::Duration::from_secs(7200));
    let answer = browser.get("/sky/login/oidc").await;
    assert_eq!(answer.status(), 502);
}
