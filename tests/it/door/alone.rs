//! The binary in an empty root directory, as in an image of nothing else.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use super::images::certificates;
use super::world::ended;

/// A directory that becomes the root of processes; nothing is in it but the binary, `/proc` and `/dev/null`.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Root {
        assert!(nix::unistd::geteuid().is_root(), "this test changes its root directory, so it must be run as root");
        let binary = Path::new(env!("CARGO_BIN_EXE_whistlestop"));
        // Beside the binary, so that it need not be copied.
        let root = tempfile::tempdir_in(binary.parent().unwrap()).unwrap();
        std::fs::hard_link(binary, root.path().join("whistlestop")).unwrap();
        for directory in ["proc", "dev", "home"] {
            std::fs::create_dir(root.path().join(directory)).unwrap();
        }
        std::fs::write(root.path().join("dev/null"), "").unwrap();
        Root(root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The binary with nothing around it.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/whistlestop");
        command.args(args).env_clear().env("HOME", "/home").kill_on_drop(true).stdin(Stdio::null());
        let [root, proc, null] = [self.0.path().to_owned(), self.path("proc"), self.path("dev/null")]
            .map(|path| CString::new(path.into_os_string().into_encoded_bytes()).unwrap());
        // The directory takes the place of the whole root, as a container's does: a mere chroot could have no namespaces.
        let enter = move || {
            let none = None::<&str>;
            let bind = |from: &CStr, to: &CStr| mount(Some(from), to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none);
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            bind(&root, &root)?;
            bind(c"/proc", &proc)?;
            bind(c"/dev/null", &null)?;
            nix::unistd::chdir(root.as_c_str())?;
            mount(Some("."), "/", none, MsFlags::MS_MOVE, none)?;
            nix::unistd::chroot(".")?;
            Ok(nix::unistd::chdir("/")?)
        };
        // SAFETY: between fork and exec there are only system calls on strings made before.
        unsafe { command.pre_exec(enter) };
        command
    }
}

#[tokio::test]
async fn it_serves_and_runs_a_build_of_built_in_types() {
    let root = Root::new();
    let flags =
        ["serve", "--runtime", "embedded", "--bind-ip", "127.0.0.1", "--bind-port", "0", "--state-dir", "/state"];
    let user = ["--add-local-user", "ann:secret", "--main-team-local-user", "ann"];
    let mut server = root.command(&[&flags[..], &user].concat()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let mut told = String::new();
    let address = loop {
        let Some(line) = lines.next_line().await.unwrap() else { panic!("it does not serve:\n{told}") };
        told.push_str(&format!("{line}\n"));
        if let Some((_, rest)) = line.split_once("ready address=") {
            break rest.split_whitespace().next().unwrap().to_owned();
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let info = reqwest::get(format!("http://{address}/api/v1/info")).await.unwrap();
    assert!(info.text().await.unwrap().contains("\"version\":\"8."));

    let pipeline = "
resources: [{name: now, type: time, source: {interval: 1h}}]
jobs: [{name: go, plan: [{get: now}]}]
";
    std::fs::write(root.path("p.yml"), pipeline).unwrap();
    let url = format!("http://{address}");
    for (args, says) in [
        (&["login", "-c", &url, "-u", "ann", "-p", "secret"][..], ""),
        (&["set-pipeline", "-n", "-p", "p", "-c", "/p.yml"], ""),
        (&["unpause-pipeline", "-p", "p"], ""),
        (&["check-resource", "-r", "p/now"], "succeeded"),
        (&["trigger-job", "-j", "p/go", "-w"], "succeeded"),
    ] {
        let ended = ended(root.command(&[&["fly", "-t", "ci"], args].concat())).await;
        assert!(ended.code == 0 && ended.stdout.contains(says), "{args:?}: {ended:?}");
    }
    server.kill().await.unwrap();
}

#[tokio::test]
async fn where_the_host_has_no_authorities_those_of_its_own_judge() {
    let root = Root::new();
    certificates(root.0.path()).await;
    let address = serve_tls(&root.path("cert.pem"), &root.path("key.pem")).await;
    let login = ["fly", "-t", "ci", "login", "-c", &format!("https://{address}"), "-u", "ann", "-p", "x"];

    let distrusted = ended(root.command(&login)).await;
    assert!(distrusted.stderr.contains("unknown authority"), "nobody's word was asked for: {distrusted:?}");
    // Who names authorities means no others.
    let mut command = root.command(&login);
    command.env("SSL_CERT_FILE", "/nothing.pem");
    let unset = ended(command).await;
    assert!(unset.stderr.contains("SSL_CERT_FILE or SSL_CERT_DIR is set"), "{unset:?}");
    let mut command = root.command(&login);
    command.env("SSL_CERT_FILE", "/ca.pem");
    let trusted = ended(command).await;
    assert!(!trusted.stderr.contains("ertificate"), "{trusted:?}");
}

/// Listens with this certificate, and says nothing to whoever believes in it.
async fn serve_tls(certificate: &Path, key: &Path) -> std::net::SocketAddr {
    let certificates = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let acceptor =
        TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(certificates, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(acceptor.accept(stream).await);
        }
    });
    address
}
