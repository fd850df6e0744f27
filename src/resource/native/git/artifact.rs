//! The repository that a `put` was given.
//!
//! A task may have written anything into it, and git would run programs that its configuration or hooks name; here
//! they would run on the server. So git never works in it: it is read as a remote, which git makes safe, into a
//! repository of our own that borrows its objects.

use std::fs;
use std::path::{Path, PathBuf};

use super::address::Address;
use super::session::{Call, Session};
use super::settings::{self, Setting};
use crate::resource::Failure;

/// Settings of the artifact that shape commits and cannot run anything.
const KEPT: [&str; 6] = ["user.name", "user.email", "author.name", "author.email", "committer.name", "committer.email"];

/// Our own repository with all that the artifact has.
#[derive(Debug)]
pub struct Copy {
    /// Its working directory, which is empty at first.
    pub dir: PathBuf,
    /// Where the artifact came from, for the link to the commit.
    pub origin: String,
}

/// A file or directory that a parameter names, which must lie in `directory`; links are followed, but not out of it.
pub fn inside(directory: &Path, name: &str) -> Option<PathBuf> {
    let path = directory.join(name).canonicalize().ok()?;
    path.starts_with(directory.canonicalize().ok()?).then_some(path)
}

/// Copies the repository `name` of the step's `directory`.
pub fn copy(session: &mut Session<'_, '_>, directory: &Path, name: &str) -> Result<Copy, Failure> {
    let missing = || Failure::Failed(format!("params.repository: there is no git repository at {name:?}"));
    let git_dir = git_dir(directory, name).ok_or_else(missing)?;
    let objects = objects(directory, &git_dir, name)?;
    let dir = session.scratch("put")?;
    let failed = |err| Failure::Failed(format!("cannot copy the repository: {err}"));
    session.read(&dir, &["init", "--quiet", "."])?;
    fs::write(dir.join(".git/objects/info/alternates"), format!("{}\n", objects.display())).map_err(failed)?;
    let from = git_dir.display().to_string();
    let args = [
        "fetch",
        "--quiet",
        "--update-shallow",
        "--update-head-ok",
        "--no-tags",
        "--no-write-fetch-head",
        "--",
        &from,
        "+refs/heads/*:refs/heads/*",
        "+refs/tags/*:refs/tags/*",
        "+refs/notes/*:refs/notes/*",
        "+HEAD:refs/whistlestop/head",
    ];
    let file_only = vec![("GIT_ALLOW_PROTOCOL".into(), "file".into())];
    session.must(&Call { vars: file_only, ..Call::new(&dir, &args) })?;
    let head = fs::read_to_string(git_dir.join("HEAD")).map_err(failed)?;
    match head.trim().strip_prefix("ref: ").filter(|name| name.starts_with("refs/heads/")) {
        Some(branch) => session.read(&dir, &["symbolic-ref", "HEAD", branch])?,
        None => session.read(&dir, &["update-ref", "--no-deref", "HEAD", "refs/whistlestop/head"])?,
    };
    let config = git_dir.join("config").display().to_string();
    let mut kept = Vec::new();
    for key in KEPT {
        let done = session.run(&Call::new(&dir, &["config", "--file", &config, "--get", key]))?;
        kept.extend(done.ok.then(|| Setting::checked(key, done.stdout.trim_end()).ok()).flatten());
    }
    let mut own = fs::read_to_string(dir.join(".git/config")).map_err(failed)?;
    own.push_str(&settings::file(&kept));
    fs::write(dir.join(".git/config"), own).map_err(failed)?;
    let origin = session.run(&Call::new(&dir, &["config", "--file", &config, "--get", "remote.origin.url"]))?.stdout;
    let origin = Address::parse(&origin, true).map(|address| address.url).unwrap_or_default();
    Ok(Copy { dir, origin })
}

fn git_dir(directory: &Path, name: &str) -> Option<PathBuf> {
    let top = inside(directory, name)?;
    let dot = top.join(".git");
    let path = if dot.is_dir() {
        dot
    } else if dot.is_file() {
        // A submodule or a further work tree: the file says where its repository is.
        let text = fs::read_to_string(&dot).ok()?;
        top.join(text.trim().strip_prefix("gitdir: ")?)
    } else {
        top
    };
    let path = inside(directory, path.to_str()?)?;
    path.join("HEAD").is_file().then_some(path)
}

fn objects(directory: &Path, git_dir: &Path, name: &str) -> Result<PathBuf, Failure> {
    let common = fs::read_to_string(git_dir.join("commondir"));
    let base = common.map_or_else(|_| git_dir.to_owned(), |to| git_dir.join(to.trim()));
    let path = base.join("objects");
    let elsewhere =
        || Failure::Failed(format!("params.repository: {name:?} keeps its objects outside of the step's artifacts"));
    let objects = path.to_str().and_then(|path| inside(directory, path)).ok_or_else(elsewhere)?;
    let borrowed = fs::read_to_string(objects.join("info/alternates")).unwrap_or_default();
    for line in borrowed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        objects.join(line).to_str().and_then(|path| inside(directory, path)).ok_or_else(elsewhere)?;
    }
    if objects.to_str().is_none_or(|path| path.contains('\n')) {
        return Err(elsewhere());
    }
    Ok(objects)
}
