//! The image of nothing but the binary, made and run as its file says: beside the engine that it is given.

use std::path::{Path, PathBuf};

use super::image::Registry;
use super::world::{PATIENCE, binary, clear, ended, run, until};

/// A server in a container, and what has to go with it.
struct Packed {
    directory: tempfile::TempDir,
    name: String,
}

impl Packed {
    /// The image's own file around the binary under test, without what debuggers read.
    async fn build() -> Packed {
        let directory = tempfile::Builder::new().prefix("whistlestop-packed-").tempdir().unwrap();
        let name = directory.path().file_name().unwrap().to_str().unwrap().to_lowercase();
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let context = directory.path().join("context");
        std::fs::create_dir_all(context.join("dist")).unwrap();
        let file = format!("dist/whistlestop-{arch}");
        run(&context, "strip", &["-o", &file, env!("CARGO_BIN_EXE_whistlestop")]).await;
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/Dockerfile");
        let arch = format!("TARGETARCH={arch}");
        let how = ["build", "-q", "--target", "native", "--build-arg", &arch, "-t", &name, "-f"];
        run(&context, "docker", &[&how[..], &[recipe.to_str().unwrap(), "."]].concat()).await;
        Packed { directory, name }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// As the file says, but on this host's network, where the test's registry is. Where it serves.
    async fn start(&self) -> String {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
        let (socket, state) = (format!("{socket}:/var/run/docker.sock"), format!("{}:/state", self.state().display()));
        let container = ["run", "-d", "--init", "--network", "host", "--name", &self.name, "-v", &state, "-v", &socket];
        let serve = ["serve", "--runtime", "docker", "--bind-ip", "127.0.0.1", "--bind-port", "0"];
        let user = ["--add-local-user", "ann:secret", "--main-team-local-user", "ann"];
        run(self.directory.path(), "docker", &[&container[..], &[&self.name], &serve, &user].concat()).await;
        until("the server serves", PATIENCE, async || {
            let log = self.log().await;
            let (_, rest) = log.split_once("ready address=")?;
            Some(rest.split_whitespace().next().unwrap().to_owned())
        })
        .await
    }

    async fn log(&self) -> String {
        let mut command = tokio::process::Command::new("docker");
        command.args(["logs", &self.name]);
        ended(command).await.stderr
    }

    async fn fly(&self, args: &[&str]) -> String {
        let mut command = binary();
        command.args(["fly", "-t", "ci"]).args(args).env("HOME", self.directory.path());
        let ended = ended(command).await;
        assert_eq!(ended.code, 0, "fly {args:?}: {}{}\n{}", ended.stdout, ended.stderr, self.log().await);
        ended.stdout
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        let docker = |args: &[&str]| std::process::Command::new("docker").args(args).output().ok();
        docker(&["stop", "-t", "20", &self.name]);
        docker(&["rm", "-f", &self.name]);
        docker(&["rmi", "-f", &self.name]);
        let state = self.state();
        let cleared = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(clear(&state));
        });
        cleared.join().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gets_and_puts_of_built_in_types_run_beside_the_engine() {
    let packed = Packed::build().await;
    let registry = Registry::new().await;
    let address = packed.start().await;
    packed.fly(&["login", "-c", &format!("http://{address}"), "-u", "ann", "-p", "secret"]).await;
    let image = format!("{{type: registry-image, source: {{repository: {}/busybox}}}}", registry.address);
    let config = format!(
        r"
resources:
- {{name: now, type: time, source: {{interval: 1h}}}}
- {{name: mine, type: mock, source: {{initial_version: one, create_files: {{greeting: hello}}}}}}
jobs:
- name: go
  plan:
  - get: now
  - get: mine
  - task: look
    config:
      platform: linux
      image_resource: {image}
      inputs: [{{name: now}}, {{name: mine}}]
      outputs: [{{name: made}}]
      run: {{path: sh, args: [-ec, 'cat mine/greeting; test -s now/input; echo two > made/version']}}
  - put: mine
    inputs: [made]
    params: {{file: made/version}}
"
    );
    let file = packed.directory.path().join("p.yml");
    std::fs::write(&file, config).unwrap();
    packed.fly(&["set-pipeline", "-n", "-p", "p", "-c", file.to_str().unwrap()]).await;
    packed.fly(&["unpause-pipeline", "-p", "p"]).await;
    packed.fly(&["check-resource", "-r", "p/now"]).await;
    packed.fly(&["check-resource", "-r", "p/mine"]).await;
    let said = packed.fly(&["trigger-job", "-j", "p/go", "-w"]).await;
    assert!(said.contains("hello") && said.contains("succeeded"), "{said}");
    let versions = packed.fly(&["resource-versions", "-r", "p/mine"]).await;
    assert!(versions.contains("two"), "{versions}");
    let log = packed.log().await;
    assert!(log.contains("containers of our own beside Docker: none"), "{log}");
    // There is no git beside it, so an image does it.
    let workers: serde_json::Value = serde_json::from_str(&packed.fly(&["workers", "--json"]).await).unwrap();
    let types = workers[0]["resource_types"].as_array().unwrap();
    let version =
        |name: &str| types.iter().find(|t| t["type"] == name).unwrap()["version"].as_str().unwrap().to_owned();
    assert_eq!((version("git").as_str(), version("time").as_str()), ("latest", env!("CARGO_PKG_VERSION")));
}
