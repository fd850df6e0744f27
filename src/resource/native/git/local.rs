//! Repositories on this machine: what a push into one changes, and as whom.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::address::{Address, Transport, decode};
use crate::resource::{SCRIPTS, child};

/// The path that an address names, if it names one.
pub fn path(uri: &str) -> Option<PathBuf> {
    let address = Address::parse(uri, true).ok().filter(|address| address.transport == Transport::Local)?;
    let path = match address.url.split_once("://") {
        Some((_, rest)) => PathBuf::from(format!("/{}", decode(rest).trim_start_matches('/'))),
        None => PathBuf::from(address.url),
    };
    path.is_absolute().then_some(path)
}

/// A repository as git finds it.
struct Repository {
    /// Its files, where it has some.
    work: Option<PathBuf>,
    git: PathBuf,
    /// What a work tree beside others shares with them.
    common: PathBuf,
}

impl Repository {
    fn find(path: &Path) -> Option<Repository> {
        let plain: PathBuf = path.components().collect();
        // In git's own order.
        ["/.git", "", ".git/.git", ".git"].into_iter().find_map(|suffix| {
            let mut name = OsString::from(&plain);
            name.push(suffix);
            let entry = PathBuf::from(name);
            let git = if entry.is_file() { named_in(&entry, "gitdir: ")? } else { entry.clone() };
            let common = named_in(&git.join("commondir"), "").unwrap_or_else(|| git.clone());
            let whole = git.join("HEAD").symlink_metadata().is_ok() && common.join("objects").is_dir();
            let work = entry.parent().filter(|_| entry.ends_with(".git")).map(Path::to_path_buf);
            whole.then_some(Repository { work, git, common })
        })
    }
}

/// The directory that a file names, from its own if it says no whole path.
fn named_in(file: &Path, prefix: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(file).ok()?;
    Some(file.parent()?.join(text.strip_prefix(prefix)?.trim_end_matches(['\r', '\n'])))
}

/// The directories that a push to the repository at `path` changes, by their real names; none if there is none. Objects
/// that it borrows are elsewhere and stay as they are.
pub fn places(path: &Path) -> Vec<PathBuf> {
    let Some(Repository { work, git, common }) = Repository::find(path) else { return Vec::new() };
    let all = work.into_iter().chain([git, common]);
    let mut all: Vec<PathBuf> = all.filter_map(|path| fs::canonicalize(path).ok()).collect();
    all.sort();
    all.dedup_by(|next, earlier| next.starts_with(earlier));
    all
}

/// The command by which git receives a push as the repository's owner, if that is somebody else whom this process may
/// become: what is new belongs to them, and their hooks run with their rights only.
pub fn receiver(path: &Path) -> Option<String> {
    let owner = fs::metadata(Repository::find(path)?.common).ok()?;
    let own = nix::unistd::geteuid();
    if !own.is_root() || owner.uid() == own.as_raw() || !is_mapped("uid", owner.uid()) || !is_mapped("gid", owner.gid())
    {
        return None;
    }
    let program = std::env::current_exe().ok().filter(|path| !path.starts_with(SCRIPTS))?;
    let program = program.to_str()?.replace('\'', r"'\''");
    Some(format!("'{program}' {} {}{}:{} git receive-pack", child::COMMAND, child::AS, owner.uid(), owner.gid()))
}

/// Whether a user or group exists where this process is.
fn is_mapped(kind: &str, id: u32) -> bool {
    let map = fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap_or_default();
    map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers.as_slice(), [first, _, count] if id.checked_sub(*first).is_some_and(|n| n < *count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        let who = ["-c", "user.name=n", "-c", "user.email=e", "-c", "protocol.file.allow=always"];
        let done = std::process::Command::new("git").args(who).args(args).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    fn addresses_name_paths() {
        for (uri, expected) in [
            ("/srv/r.git", Some("/srv/r.git")),
            ("file:///srv/a%20b", Some("/srv/a b")),
            ("file://srv/r", Some("/srv/r")),
            ("/srv/a%20b", Some("/srv/a%20b")),
            ("../r", None),
            ("https://h/r", None),
            ("git@h:/r", None),
        ] {
            assert_eq!(path(uri), expected.map(PathBuf::from), "{uri}");
        }
    }

    #[test]
    fn a_push_changes_a_repository_wherever_its_parts_are() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        git(&root, &["init", "--quiet", "plain"]);
        git(&root.join("plain"), &["commit", "--quiet", "--allow-empty", "--message=x"]);
        git(&root.join("plain"), &["worktree", "add", "--quiet", "../linked"]);
        git(&root, &["clone", "--quiet", "--bare", "plain", "bare.git"]);
        git(&root, &["init", "--quiet", "--separate-git-dir=apart", "files"]);
        git(&root.join("plain"), &["submodule", "--quiet", "add", "../bare.git", "module"]);
        std::os::unix::fs::symlink(root.join("bare.git"), root.join("link")).unwrap();
        for (path, expected) in [
            ("plain", ["plain"].as_slice()),
            ("plain/", &["plain"]),
            ("plain/.git", &["plain"]),
            ("bare.git", &["bare.git"]),
            ("bare", &["bare.git"]),
            ("link", &["bare.git"]),
            ("linked", &["linked", "plain/.git"]),
            ("files", &["apart", "files"]),
            ("plain/module", &["plain/.git/modules/module", "plain/module"]),
            ("missing", &[]),
            ("plain/.git/objects", &[]),
        ] {
            let expected: Vec<PathBuf> = expected.iter().map(|path| root.join(path)).collect();
            assert_eq!(places(&root.join(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_user_exists_where_it_is_mapped() {
        assert!(is_mapped("uid", nix::unistd::geteuid().as_raw()));
        assert!(!is_mapped("uid", u32::MAX));
    }
}
