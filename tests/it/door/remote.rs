//! Git servers made by the test: a bare repository behind sshd or behind `git http-backend`, and who works on it.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::world::run;

const LOGIN: &str = "robot:a secret";

/// How the repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Ssh,
    Http,
}

/// A repository on a server, with one commit on `main`.
pub struct Remote {
    directory: tempfile::TempDir,
    /// `source` of a git resource, as YAML on one line.
    pub source: String,
    _ssh: Option<Child>,
}

impl Remote {
    pub async fn new(transport: Transport) -> Remote {
        let directory = tempfile::Builder::new().prefix("whistlestop-git-server-").tempdir().unwrap();
        run(directory.path(), "git", &["init", "--quiet", "--bare", "--initial-branch=main", "repo.git"]).await;
        run(directory.path(), "git", &["init", "--quiet", "--initial-branch=main", "work"]).await;
        let mut remote = Remote { directory, source: String::new(), _ssh: None };
        run(&remote.bare(), "git", &["config", "http.receivepack", "true"]).await;
        run(&remote.work(), "git", &["remote", "add", "origin", "../repo.git"]).await;
        remote.commit("first").await;
        match transport {
            Transport::Ssh => remote.serve_ssh().await,
            Transport::Http => remote.serve_http().await,
        }
        remote
    }

    fn bare(&self) -> PathBuf {
        self.directory.path().join("repo.git")
    }

    fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Somebody commits and pushes; the commit's id.
    pub async fn commit(&self, message: &str) -> String {
        let work = self.work();
        std::fs::write(work.join("message"), message).unwrap();
        run(&work, "git", &["add", "."]).await;
        run(&work, "git", &["commit", "--quiet", "-m", message]).await;
        run(&work, "git", &["push", "--quiet", "origin", "main"]).await;
        run(&work, "git", &["rev-parse", "HEAD"]).await
    }

    /// Every tag with the commit it is on.
    pub async fn tags(&self) -> Vec<(String, String)> {
        let format = "--format=%(refname:short) %(objectname)";
        let listed = run(&self.bare(), "git", &["for-each-ref", format, "refs/tags"]).await;
        let pairs = listed.lines().map(|l| l.split_once(' ').unwrap());
        pairs.map(|(tag, commit)| (tag.to_owned(), commit.to_owned())).collect()
    }

    async fn serve_ssh(&mut self) {
        let (directory, bare) = (self.directory.path().to_owned(), self.bare());
        for key in ["host_key", "key"] {
            run(&directory, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key]).await;
        }
        std::fs::copy(directory.join("key.pub"), directory.join("authorized_keys")).unwrap();
        let user = run(&directory, "id", &["-un"]).await;
        let port = free_port();
        let place = directory.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host_key\nAuthorizedKeysFile {place}/authorized_keys\n\
             PidFile none\nUsePAM no\nPasswordAuthentication no\nStrictModes no\nPermitRootLogin prohibit-password\n\
             AllowUsers {user}\n"
        );
        std::fs::write(directory.join("sshd_config"), config).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let mut child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(directory.join("sshd_config"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs the package openssh-server");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("sshd ended");
            if line.contains("Server listening") {
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let key = std::fs::read_to_string(directory.join("key")).unwrap();
        let uri = format!("ssh://{user}@127.0.0.1:{port}{}", bare.display());
        self.source = serde_json::json!({"uri": uri, "branch": "main", "private_key": key}).to_string();
        self._ssh = Some(child);
    }

    async fn serve_http(&mut self) {
        let root: Arc<str> = self.directory.path().to_str().unwrap().into();
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let root = root.clone();
            async move { backend(&root, &method, &uri, &headers, &body).await }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/repo.git", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        let (username, password) = LOGIN.split_once(':').unwrap();
        let source = serde_json::json!({"uri": uri, "branch": "main", "username": username, "password": password});
        self.source = source.to_string();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One request through git's own CGI program, for who knows the password.
async fn backend(root: &str, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Response {
    let known = format!("Basic {}", BASE64.encode(LOGIN));
    if headers.get("authorization").is_none_or(|given| given.as_bytes() != known.as_bytes()) {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"git\"")]).into_response();
    }
    let header = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "robot")
        .env("PATH_INFO", uri.path())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("HTTP_GIT_PROTOCOL", header("git-protocol"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, body) = (child.stdin.take().unwrap(), body.clone());
    let feed = tokio::spawn(async move { stdin.write_all(&body).await });
    let output = child.wait_with_output().await.unwrap();
    feed.abort();
    let head = output.stdout.windows(4).position(|w| w == b"\r\n\r\n").expect("a CGI answer has a head");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output.stdout[..head]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(output.stdout[head + 4..].to_vec().into()).unwrap()
}
