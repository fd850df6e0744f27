//! A whole server for a test: random loopback port, state directory of its own, manual clock, fake runtime.

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use whistlestop::base::clock::{Manual, Time};
use whistlestop::exec::NativeHost;
use whistlestop::front::App;
use whistlestop::runtime::fake::Fake;
use whistlestop::runtime::{self, Attached, ContainerHandle, ContainerSpec, Runtime};
use whistlestop::server::compose::Seams;
use whistlestop::server::runtimes::Runtimes;
use whistlestop::server::{Serve, World as Server};

/// 2026-11-22T12:00:00Z
pub const NOW: Time = Time(1_795_348_800_000);

/// Nothing moves but what a test moves; [`WHOLE`] starts the engine too.
const WITHOUT_ENGINE: [&str; 2] = ["--roles", "web"];
/// Every role, and the host's own files as a root file system.
pub const WHOLE: &[&str] = &["--roles", "web,scheduler,worker", "--allow-host-rootfs", "--allow-local-git"];

/// Native children as processes of a fake runtime.
struct FakeNatives(Arc<dyn Runtime>);

#[async_trait::async_trait]
impl NativeHost for FakeNatives {
    async fn start(
        &self,
        container: &ContainerHandle,
        spec: &ContainerSpec,
        _changes: &[PathBuf],
    ) -> runtime::Result<Attached> {
        self.0.start(container, spec).await
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        self.0.clone()
    }

    fn program(&self) -> String {
        "whistlestop".to_owned()
    }
}

/// The server, and what a test turns.
pub struct World {
    server: Option<Server>,
    /// Stands at [`NOW`] until moved.
    pub clock: Arc<Manual>,
    /// Runs nothing.
    pub runtime: Arc<Fake>,
    /// Where native types run, if elsewhere.
    natives: Option<Arc<Fake>>,
    directory: tempfile::TempDir,
}

impl World {
    /// With the users `admin` (owner of main) and `ann`, `bob`, `eve` (nobody yet), whose passwords are their names.
    pub async fn new() -> World {
        World::with(&[]).await
    }

    /// Where native types run elsewhere than other steps, as beside Docker.
    pub async fn beside(natives: Arc<Fake>) -> World {
        let (clock, runtime) = (Arc::new(Manual::new(NOW)), Arc::new(Fake::new()));
        let directory = tempfile::tempdir().unwrap();
        let mut world = World { server: None, clock, runtime, natives: Some(natives), directory };
        world.start(&[]).await;
        world
    }

    /// With further flags.
    pub async fn with(flags: &[&str]) -> World {
        let clock = Arc::new(Manual::new(NOW));
        let runtime = Arc::new(Fake::new());
        let directory = tempfile::tempdir().unwrap();
        let mut world = World { server: None, clock, runtime, natives: None, directory };
        world.start(flags).await;
        world
    }

    async fn start(&mut self, flags: &[&str]) {
        let state = self.directory.path().to_str().unwrap().to_owned();
        let mut args = vec!["--bind-ip", "127.0.0.1", "--bind-port", "0", "--state-dir", &state];
        args.extend(["--add-local-user", "admin:admin", "--add-local-user", "ann:ann", "--add-local-user", "bob:bob"]);
        args.extend(["--add-local-user", "eve:eve", "--main-team-local-user", "admin", "--log-level", "error"]);
        if !flags.contains(&"--roles") {
            args.extend(WITHOUT_ENGINE);
        }
        args.extend(flags);
        let serve = Serve::from_args(args).unwrap();
        let containers: Arc<dyn Runtime> = self.runtime.clone();
        let natives: Arc<dyn Runtime> = match &self.natives {
            Some(natives) => natives.clone(),
            None => containers.clone(),
        };
        let runtimes = Runtimes { natives: Arc::new(FakeNatives(natives)), containers, isolation: Arc::default() };
        let seams = Seams { clock: self.clock.clone(), runtime: Some(runtimes) };
        self.server = Some(Server::start(serve, seams).await.unwrap());
    }

    /// Stops the server and starts another on the same state.
    pub async fn restart(&mut self, flags: &[&str]) {
        self.restart_after(flags, |_| {}).await;
    }

    /// As [`World::restart`], with something that happens while no server is there.
    pub async fn restart_after(&mut self, flags: &[&str], meanwhile: impl FnOnce(&World)) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        meanwhile(self);
        self.start(flags).await;
    }

    /// Where its state is.
    pub fn state_dir(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The running server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// What handlers reach: the store, the wakes.
    pub fn app(&self) -> &App {
        &self.server().app
    }

    /// The address of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server().address())
    }

    /// A caller without a token.
    pub fn anonymous(&self) -> Caller {
        Caller { base: self.url(""), token: None, client: client() }
    }

    /// A caller who has signed in as the client does.
    pub async fn sign_in(&self, name: &str) -> Caller {
        let caller = self.anonymous();
        let form = [("grant_type", "password"), ("username", name), ("password", name), ("scope", "openid")];
        let request = caller.client.post(self.url("/sky/issuer/token")).basic_auth("fly", Some("Zmx5")).form(&form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}"));
        Caller { token: Some(token.to_owned()), ..caller }
    }

    /// The administrator.
    pub async fn admin(&self) -> Caller {
        self.sign_in("admin").await
    }

    /// A team that one of the users owns.
    pub async fn team(&self, name: &str, owner: &str) {
        let auth = json!({"auth": {"owner": {"users": [format!("local:{owner}")], "groups": []}}});
        let answer = self.admin().await.put(&format!("/api/v1/teams/{name}")).json(&auth).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }
}

fn client() -> Client {
    Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Somebody who sends requests.
#[derive(Clone)]
pub struct Caller {
    base: String,
    /// What they present.
    pub token: Option<String>,
    client: Client,
}

impl Caller {
    /// The same, presenting this token.
    pub fn with_token(self, token: &str) -> Caller {
        Caller { token: Some(token.to_owned()), ..self }
    }

    /// A request to a path.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// `GET`, which must succeed, as JSON.
    pub async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    /// `PUT`, still without body.
    pub fn put(&self, path: &str) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// `POST`, still without body.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// Sets a pipeline from its file, which must succeed.
    pub async fn set_pipeline(&self, team: &str, name: &str, file: &str) {
        let path = format!("/api/v1/teams/{team}/pipelines/{name}/config");
        let version = self.get(&path).await.headers().get("x-concourse-config-version").cloned();
        let mut request = self.put(&path).header("content-type", "application/x-yaml").body(file.to_owned());
        if let Some(version) = version {
            request = request.header("x-concourse-config-version", version);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status}: {text}");
    }
}
