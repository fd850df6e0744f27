//! An operator who comes from Concourse and brings the flags, the environment and the proxy along.

use serde_json::Value;

use super::remote::{Remote, Transport};
use super::world::{PATIENCE, Runtime, World, binary, ended, until};

/// A task in files of the host that says how it would reach the network.
const SCRIPT: &str = "echo \"by $http_proxy but for $no_proxy\"; cat repo/message; echo v1 > tag/name";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_a_pipeline_does_passes_the_proxy() {
    let remote = Remote::new(Transport::Http).await;
    let mut source: Value = serde_json::from_str(&remote.source).unwrap();
    // The server answers for whatever host is asked of it, as a proxy does, and nobody else knows this one.
    let proxy = source["uri"].as_str().unwrap().trim_end_matches("/repo.git").to_owned();
    source["uri"] = "http://git.invalid/repo.git".into();
    let flags = ["--allow-host-rootfs", "--postgres-host", "db", "--enable-across-step"];
    let env = [
        ("http_proxy", proxy.as_str()),
        ("CONCOURSE_WORKER_NO_PROXY", "localhost,10.0.0.0/8"),
        ("CONCOURSE_HTTPS_PROXY", ""),
        ("CONCOURSE_TSA_HOST", "web:2222"),
        ("CONCOURSE_LDAP_HOST", "ldap:389"),
    ];
    let world = World::with_env(Runtime::Embedded, &flags, &env).await;
    let notice = until("the notice", PATIENCE, async || {
        world.log().lines().find(|line| line.contains("without effect")).map(str::to_owned)
    });
    let notice = notice.await;
    let expected = "without effect here: --postgres-host, --enable-across-step, CONCOURSE_TSA_HOST; not supported: \
                    CONCOURSE_LDAP_HOST (sign in through OpenID";
    assert!(notice.contains(expected), "{notice}");

    let config = format!(
        "resources: [{{name: repo, type: git, source: {source}}}]\njobs:\n- name: j\n  plan:\n  - {{get: repo}}\n  \
         - task: t\n    config:\n      platform: linux\n      rootfs_uri: host:///\n      inputs: [{{name: repo}}]\n      \
         outputs: [{{name: tag}}]\n      run: {{path: sh, args: [-ec, {}]}}\n  \
         - put: repo\n    params: {{repository: repo, only_tag: true, tag: tag/name}}\n",
        Value::from(SCRIPT)
    );
    world.pipeline("p", &config).await;
    let build = world.trigger("p", "j").await;
    let status = world.finish(build).await;
    let log = world.watch(build).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    assert!(log.contains(&format!("by {proxy} but for localhost,10.0.0.0/8\n")), "{log}");
    assert_eq!(remote.tags().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_for_what_is_not_done_are_refused_with_a_remedy_and_the_others_taken() {
    let run = async |args: &[&str]| {
        let mut command = binary();
        command.args(args);
        ended(command).await
    };
    for name in ["serve", "web", "quickstart"] {
        let refused = run(&[name, "--bind-port", "0", "--main-team-ldap-user", "ann"]).await;
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.starts_with("error: --main-team-ldap-user is not supported: sign in through OpenID"));
        let unknown = run(&[name, "--postgres-host", "db", "--no-such-flag"]).await;
        assert!(unknown.code == 2 && unknown.stderr.contains("'--no-such-flag'"), "{unknown:?}");
        let help = run(&[name, "--postgres-host", "db", "--runtime=houdini", "--worker-ephemeral", "--help"]).await;
        assert!(help.code == 0 && !help.stdout.contains("houdini"), "{help:?}");
    }
}
