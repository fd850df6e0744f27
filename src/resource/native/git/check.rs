//! `check`: which commits or tags are new.
//!
//! A clone without trees or files is kept in the cache and fetched into; where nothing has changed on the branch
//! one `git ls-remote` answers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;

use super::session::{Call, Session};
use super::source::{MessageFilter, Source, TagPattern};
use crate::base::version::Version;
use crate::resource::Failure;

/// The branch's newest commit in the kept clone.
const HEAD: &str = "refs/whistlestop/head";

/// Commits whose message has one of these are not versions.
const CI_SKIP: [&str; 2] = [r"\[ci\sskip\]", r"\[skip\sci\]"];

/// Versions from `from` on, oldest first; without it, or where it is no more, the newest ones.
pub fn check(session: &mut Session<'_, '_>, source: &Source, from: Option<&str>) -> Result<Vec<Version>, Failure> {
    if source.tags.is_some() {
        return Kept::open(session, source)?.tags(session, source, from);
    }
    let Some(head) = remote_head(session, source)? else { return Ok(Vec::new()) };
    let newest_is_enough = source.disable_ci_skip && source.version_depth == 1 && from.is_none();
    if source.takes_every_commit() && (newest_is_enough || from == Some(head.commit.as_str())) {
        return Ok(vec![commit(&head.commit)]);
    }
    let clone = Kept::open(session, source)?;
    clone.fetch_branch(session, source, &head)?;
    clone.commits(session, source, from)
}

fn commit(id: &str) -> Version {
    Version::from([("ref", id)])
}

struct Head {
    name: String,
    commit: String,
}

/// What the branch is at now; `None` for a repository without any commit.
fn remote_head(session: &mut Session<'_, '_>, source: &Source) -> Result<Option<Head>, Failure> {
    let names = match &source.branch {
        Some(branch) => vec![format!("refs/heads/{branch}"), format!("refs/tags/{branch}")],
        None => vec!["HEAD".to_owned()],
    };
    let mut args = vec!["ls-remote", "--", &source.address.url];
    args.extend(names.iter().map(String::as_str));
    let list = session.must(&Call::new(Path::new("/"), &args).network())?;
    let find = |name: &String| {
        // The pattern also matches names that merely end like this one.
        let line = list.lines().filter_map(|line| line.split_once('\t')).find(|(_, n)| n == name)?;
        Some(Head { name: name.clone(), commit: line.0.to_owned() })
    };
    match (names.iter().find_map(find), &source.branch) {
        (None, Some(branch)) => {
            Err(Failure::Failed(format!("No commit returned. Invalid branch? The repository has no branch {branch}")))
        }
        (head, _) => Ok(head),
    }
}

/// A bare clone, locked while it is used.
struct Kept {
    dir: PathBuf,
    fresh: bool,
    _lock: Option<File>,
}

impl Kept {
    fn open(session: &mut Session<'_, '_>, source: &Source) -> Result<Kept, Failure> {
        let failed = |err| Failure::Failed(format!("cannot use the cached clone: {err}"));
        let (base, lock) = match session.cache().map(Path::to_owned) {
            None => (session.scratch("check")?, None),
            Some(cache) => {
                fs::create_dir_all(&cache).map_err(failed)?;
                let lock = File::create(cache.join("lock")).map_err(failed)?;
                while lock.try_lock().is_err() {
                    if session.cancelled() {
                        return Err(Failure::Failed("interrupted".into()));
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                (cache, Some(lock))
            }
        };
        let dir = base.join("repository.git");
        let clone = Kept { fresh: !dir.join("ready").exists(), dir, _lock: lock };
        if clone.fresh {
            clone.start(session, source)?;
        }
        Ok(clone)
    }

    /// Makes it anew, also over the ruins of one that was interrupted.
    fn start(&self, session: &mut Session<'_, '_>, source: &Source) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.dir) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::Failed(format!("cannot use the cached clone: {err}")));
            }
            _ => {}
        }
        fs::create_dir_all(&self.dir).map_err(|err| Failure::Failed(format!("cannot make a clone: {err}")))?;
        session.read(&self.dir, &["init", "--bare", "--quiet", "."])?;
        session.read(&self.dir, &["config", "remote.origin.url", &source.address.url]).map(drop)
    }

    fn fetch(&self, session: &mut Session<'_, '_>, source: &Source, specs: &[&str]) -> Result<(), Failure> {
        // Paths can only be told with the trees at hand; a check never needs the files themselves.
        let all = source.paths.is_empty() && source.ignore_paths.is_empty();
        let filter = if all { "--filter=tree:0" } else { "--filter=blob:none" };
        let mut args = vec!["fetch", "--force", "--prune", "--no-tags", "--no-write-fetch-head", filter, "origin"];
        args.extend(specs);
        let call = Call::new(&self.dir, &args).network();
        let mut done = session.run(&call)?;
        if !done.ok && !self.fresh {
            // A kept clone may be broken; a new one tells a broken clone from a broken remote.
            self.start(session, source)?;
            done = session.run(&call)?;
        }
        if !done.ok {
            return Err(session.failure(&call, &done));
        }
        fs::write(self.dir.join("ready"), "").map_err(|err| Failure::Failed(format!("cannot keep the clone: {err}")))
    }

    fn fetch_branch(&self, session: &mut Session<'_, '_>, source: &Source, head: &Head) -> Result<(), Failure> {
        let known = session.run(&Call::new(&self.dir, &["rev-parse", "--verify", "--quiet", HEAD]))?;
        if known.stdout.trim() == head.commit && !self.fresh {
            return Ok(());
        }
        self.fetch(session, source, &[&format!("+{}:{HEAD}", head.name)])
    }

    /// The commit that `name` stands for, if it is here.
    fn resolve(&self, session: &mut Session<'_, '_>, name: &str) -> Result<Option<String>, Failure> {
        let commit = format!("{name}^{{commit}}");
        let done = session.run(&Call::new(&self.dir, &["rev-parse", "--verify", "--quiet", &commit]))?;
        Ok(done.ok.then(|| done.stdout.trim().to_owned()))
    }

    fn commits(
        &self,
        session: &mut Session<'_, '_>,
        source: &Source,
        from: Option<&str>,
    ) -> Result<Vec<Version>, Failure> {
        let from = match from {
            Some(from) => {
                let call = Call::new(&self.dir, &["merge-base", "--is-ancestor", from, HEAD]);
                session.run(&call)?.ok.then_some(from)
            }
            None => None,
        };
        let limit = if from.is_none() { Some(source.version_depth) } else { None };
        let mut list = self.list(session, source, &[HEAD], from, limit)?;
        list.truncate(limit.unwrap_or(usize::MAX));
        Ok(list.iter().rev().map(|id| commit(id)).collect())
    }

    /// Commits that pass the filters, newest first; at least `limit` of them where there are as many.
    fn list(
        &self,
        session: &mut Session<'_, '_>,
        source: &Source,
        tips: &[&str],
        from: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Failure> {
        let mut args: Vec<String> = vec!["rev-list".into(), "--first-parent".into()];
        if !source.disable_ci_skip {
            args.extend(CI_SKIP.iter().map(|pattern| format!("--grep={pattern}")));
            args.push("--invert-grep".into());
        }
        let filters: Vec<(&MessageFilter, bool)> = [(&source.include, false), (&source.exclude, true)]
            .into_iter()
            .filter(|(filter, _)| !filter.patterns.is_empty())
            .collect();
        if let Some(limit) = limit.filter(|_| filters.is_empty()) {
            args.push(format!("--max-count={limit}"));
        }
        // Several lines of history may meet at commits of the same second.
        args.extend(source.tags.as_ref().map(|_| "--date-order".to_owned()));
        args.extend(tips.iter().map(|tip| (*tip).to_owned()));
        // All parents, so that a commit without any needs no exception.
        args.extend(from.map(|from| format!("^{from}^@")));
        if !source.paths.is_empty() || !source.ignore_paths.is_empty() {
            args.push("--".into());
            args.extend(if source.paths.is_empty() { vec![".".to_owned()] } else { source.paths.clone() });
            args.extend(source.ignore_paths.iter().map(|path| format!(":!{path}")));
        }
        let mut list = session.must(&Call::new(&self.dir, &args))?;
        for (filter, invert) in filters {
            list = self.filter(session, &list, filter, invert)?;
        }
        Ok(list.lines().map(str::to_owned).collect())
    }

    fn filter(
        &self,
        session: &mut Session<'_, '_>,
        list: &str,
        filter: &MessageFilter,
        invert: bool,
    ) -> Result<String, Failure> {
        if list.is_empty() {
            return Ok(String::new());
        }
        let mut args: Vec<String> = vec!["rev-list".into(), "--stdin".into(), "--no-walk=unsorted".into()];
        args.extend(filter.patterns.iter().map(|pattern| format!("--grep={pattern}")));
        args.extend(filter.all.then(|| "--all-match".to_owned()));
        args.extend(invert.then(|| "--invert-grep".to_owned()));
        let call = Call { stdin: list, ..Call::new(&self.dir, &args) };
        session.must(&call)
    }

    /// Tags of the pattern as versions, or with `match_tag_ancestors` the commits below them.
    fn tags(
        &self,
        session: &mut Session<'_, '_>,
        source: &Source,
        from: Option<&str>,
    ) -> Result<Vec<Version>, Failure> {
        self.fetch(session, source, &["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"])?;
        let start = match from {
            Some(from) => self.resolve(session, from)?.map(|commit| (from, commit)),
            None => None,
        };
        let tags =
            self.matching_tags(session, source, start.as_ref().map(|(name, commit)| (*name, commit.as_str())))?;
        let commits = if tags.is_empty() {
            Vec::new()
        } else {
            self.list(session, source, &["--all"], start.as_ref().map(|(_, commit)| commit.as_str()), None)?
        };
        let mut versions = Vec::new();
        if source.tag_ancestors {
            for id in commits.iter().rev() {
                let below = session.read(&self.dir, &["tag", "--contains", id])?;
                if below.lines().any(|tag| tags.iter().any(|(name, _)| name == tag)) {
                    versions.push(commit(id));
                }
            }
        } else {
            for (name, id) in tags.iter().filter(|(_, id)| commits.contains(id)) {
                versions.push(Version::from([("ref", name.as_str()), ("commit", id.as_str())]));
            }
        }
        let excess = versions.len().saturating_sub(source.version_depth);
        Ok(versions.split_off(excess))
    }

    /// Name and commit of the tags that match, oldest first, beginning with the version `from`.
    fn matching_tags(
        &self,
        session: &mut Session<'_, '_>,
        source: &Source,
        from: Option<(&str, &str)>,
    ) -> Result<Vec<(String, String)>, Failure> {
        let format = "--format=%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end) %(refname:strip=2)";
        let mut args = vec!["tag", "--sort=creatordate", format];
        let branch = source.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
        if let Some(branch) = &branch {
            args.extend(["--merged", branch]);
        }
        if let Some((_, commit)) = from.filter(|_| branch.is_some() || source.tag_ancestors) {
            args.extend(["--contains", commit]);
        }
        let regex = match source.tags.as_ref() {
            Some(TagPattern::Glob(glob)) => {
                args.extend(["--list", "--", glob]);
                None
            }
            Some(TagPattern::Regex(regex)) => Some(
                Regex::new(&format!("^(?:{regex})$"))
                    .map_err(|err| Failure::Config(format!("invalid tag_regex: {err}")))?,
            ),
            None => None,
        };
        let list = session.read(&self.dir, &args)?;
        let all = list.lines().filter_map(|line| line.split_once(' '));
        let matching = all.filter(|(_, name)| regex.as_ref().is_none_or(|regex| regex.is_match(name)));
        let tags = matching.map(|(commit, name)| (name.to_owned(), commit.to_owned()));
        Ok(match from.filter(|_| branch.is_none() && !source.tag_ancestors) {
            Some((first, _)) => tags.skip_while(|(name, _)| name != first).collect(),
            None => tags.collect(),
        })
    }
}
