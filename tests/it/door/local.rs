//! Repositories on the server's own machine (`--allow-local-git`): what is put there is there.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::world::{Runtime, World, run};

/// Somebody who is not root.
const OTHER: u32 = 65534;

/// Where the repositories are; everybody may go there, as to most people's.
fn place() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("whistlestop-local-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

async fn git(dir: &Path, args: &[&str]) -> String {
    run(dir, "git", &[&["-c", "safe.directory=*", "-c", "init.defaultBranch=main"], args].concat()).await
}

/// A repository with files, and a commit.
async fn plain(dir: &Path, name: &str) -> PathBuf {
    git(dir, &["init", "--quiet", name]).await;
    let path = dir.join(name);
    git(&path, &["commit", "--quiet", "--allow-empty", "--message=first"]).await;
    path
}

fn hook(git_dir: &Path, script: &str) {
    let path = git_dir.join("hooks/post-receive");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\ncat > /dev/null\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn give(path: &Path, owner: u32) {
    chown(path, Some(owner), Some(owner)).unwrap();
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), owner));
    }
}

/// A job that gets `from` (its first commit), adds a commit, and puts that.
fn pipeline(from: &Path, first: &str, puts: &[(&str, String, &str)]) -> String {
    let mut text =
        format!("resources:\n- {{name: from, type: git, source: {{uri: '{}', branch: main}}}}\n", from.display());
    for (name, uri, _) in puts {
        text += &format!("- {{name: {name}, type: git, source: {{uri: '{uri}', branch: main}}}}\n");
    }
    text += "jobs:\n";
    for (name, _, params) in puts {
        text += &format!(
            "- name: {name}
  plan:
  - {{get: from, version: {{ref: {first}}}}}
  - task: commit
    config:
      platform: linux
      rootfs_uri: host:///
      inputs: [{{name: from}}]
      outputs: [{{name: made}}]
      run:
        path: sh
        args:
        - -ec
        - |
          cp -r from/. made
          cd made
          echo text > made
          git add made
          git -c user.name=Task -c user.email=task@localhost commit --quiet --message=made
  - {{put: {name}, params: {{repository: made, {params}}}}}
"
        );
    }
    text
}

async fn built(world: &World, job: &str) -> (String, String) {
    let build = world.trigger("local", job).await;
    let log = world.watch(build).await;
    (world.finish(build).await, log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_into_a_repository_on_this_host_is_there() {
    let dir = place();
    let world = World::new(Runtime::Embedded, &["--allow-local-git", "--allow-host-rootfs"]).await;
    let seed = plain(dir.path(), "seed").await;
    let first = git(&seed, &["rev-parse", "HEAD"]).await;
    git(&seed, &["worktree", "add", "--quiet", "-b", "side", "../linked"]).await;
    git(dir.path(), &["clone", "--quiet", "--bare", "seed", "moved.git"]).await;
    git(&seed, &["commit", "--quiet", "--allow-empty", "--message=second"]).await;
    git(&seed, &["push", "--quiet", "../moved.git", "main"]).await;
    git(dir.path(), &["init", "--quiet", "--bare", "the empty.git"]).await;
    std::os::unix::fs::symlink("the empty.git", dir.path().join("link")).unwrap();
    // A repository around the server's state directory, as where it was started in a project.
    let around = plain(&world.home().join(".."), ".").await.canonicalize().unwrap();
    hook(&around.join(".git"), "ls ../state | wc -l > seen");
    let theirs = plain(dir.path(), "theirs").await;
    git(&theirs, &["config", "receive.denyCurrentBranch", "updateInstead"]).await;
    hook(&theirs.join(".git"), "id -u > hooked");
    give(&theirs, OTHER);
    let kept = world.state().join("kept.git");
    git(dir.path(), &["init", "--quiet", "--bare", kept.to_str().unwrap()]).await;

    let at = |name: &str| dir.path().join(name).display().to_string();
    let branch = "branch: made, force: true";
    let puts = [
        ("rebased", at("moved.git"), "rebase: true"),
        ("empty", format!("file://{}", at("the%20empty.git")), "rebase: true"),
        ("link", at("link"), branch),
        ("linked", at("linked"), branch),
        ("theirs", at("theirs"), "force: true"),
        ("around", around.display().to_string(), branch),
        ("kept", kept.display().to_string(), branch),
        ("missing", at("missing"), branch),
    ];
    world.pipeline("local", &pipeline(Path::new(&at("moved.git")), &first, &puts)).await;
    world.fly(&["check-resource", "-r", "local/from", "-f", &format!("ref:{first}")]).await;
    for (job, uri, _) in &puts[..6] {
        let (status, log) = built(&world, job).await;
        assert_eq!(status, "succeeded", "{job}: {log}");
        let repository = uri.trim_start_matches("file://").replace("%20", " ");
        let name = if ["rebased", "empty", "theirs"].contains(job) { "main" } else { "made" };
        let made = git(Path::new(&repository), &["log", "--format=%s", name]).await;
        let expected = if *job == "rebased" { "made\nsecond\nfirst" } else { "made\nfirst" };
        assert_eq!(made, expected, "{job}: {log}");
    }
    let found = |path: &str| std::fs::read_to_string(dir.path().join(path)).unwrap_or_default();
    assert_eq!(found("theirs/.git/hooked").trim(), OTHER.to_string());
    assert_eq!(found("theirs/made"), "text\n");
    for path in ["theirs/made", "theirs/.git/refs/heads/main", "theirs/.git/index"] {
        assert_eq!(std::fs::metadata(dir.path().join(path)).unwrap().uid(), OTHER, "{path}");
    }
    assert_eq!(std::fs::read_to_string(around.join(".git/seen")).unwrap().trim(), "0");

    let (status, log) = built(&world, "kept").await;
    assert!(status == "errored" && log.contains("keeps") && log.contains("from all steps"), "{status}: {log}");
    let (status, log) = built(&world, "missing").await;
    assert!(status == "failed" && log.contains("does not appear to be a git repository"), "{status}: {log}");
    assert!(!dir.path().join("missing").exists());
    let entered = world.try_fly(&["hijack", "-j", "local/linked", "-s", "linked", "--", "true"]).await;
    assert!(entered.code != 0, "{entered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_beside_docker() {
    let dir = place();
    let world = World::new(Runtime::Docker, &["--allow-local-git"]).await;
    let seed = plain(dir.path(), "seed").await;
    git(dir.path(), &["init", "--quiet", "--bare", "empty.git"]).await;
    let source = |name: &str| format!("{{uri: {}, branch: main}}", dir.path().join(name).display());
    let config = format!(
        "resources:
- {{name: seed, type: git, source: {}}}
- {{name: empty, type: git, source: {}}}
jobs:
- name: copy
  plan:
  - get: seed
  - {{put: empty, params: {{repository: seed}}}}
",
        source("seed"),
        source("empty.git")
    );
    world.pipeline("local", &config).await;
    let (status, log) = built(&world, "copy").await;
    assert_eq!(status, "succeeded", "{log}");
    let heads =
        (git(&seed, &["rev-parse", "main"]).await, git(&dir.path().join("empty.git"), &["rev-parse", "main"]).await);
    assert_eq!(heads.0, heads.1, "{log}");
}
