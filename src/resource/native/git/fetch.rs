//! `in`: a clone at the version, and files about it in `.git`.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::Value;

use super::describe::Commit;
use super::session::{Call, Session};
use super::source::{Members, Source, ref_name, refuse_unknown, word};
use super::{settings, signature, submodule};
use crate::base::version::Version;
use crate::resource::{Failure, Request, Response};

const KEYS: &[&str] = &[
    "depth",
    "fetch",
    "fetch_tags",
    "submodules",
    "submodule_recursive",
    "submodule_remote",
    "disable_git_lfs",
    "clean_tags",
    "short_ref_format",
    "timestamp_format",
    "describe_ref_options",
    "all_branches",
    "debug",
];

/// A shallow clone that had to grow as deep as this is made a whole one.
const DEEPEST: usize = 127;

/// Which submodules to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submodules {
    /// Every one.
    All,
    /// Those at paths that end in one of these regular expressions; empty for none.
    Paths(Vec<String>),
}

/// The parameters of a get, with the version's own.
#[derive(Debug)]
pub struct Params {
    reference: String,
    branch: Option<String>,
    /// Commits to fetch; 0 for all.
    pub depth: usize,
    fetch: Vec<String>,
    fetch_tags: Option<bool>,
    /// Which submodules.
    pub submodules: Submodules,
    /// Submodules of submodules too.
    pub submodule_recursive: bool,
    /// Their branches instead of their recorded commits.
    pub submodule_remote: bool,
    disable_git_lfs: bool,
    clean_tags: bool,
    short_ref_format: String,
    timestamp_format: String,
    describe_options: Vec<String>,
    all_branches: bool,
}

impl Params {
    /// Reads and checks them.
    pub fn read(request: &Request) -> Result<Params, Failure> {
        if let Some(params) = &request.params {
            refuse_unknown(params, KEYS, "get params")?;
        }
        let m = Members(request.params.as_ref());
        let version = |key: &str| request.version.as_ref().and_then(|v| v.0.get(key)).filter(|v| !v.is_empty());
        let submodules = match m.get("submodules") {
            None => Submodules::All,
            Some(Value::String(text)) if text == "all" => Submodules::All,
            Some(Value::String(text)) if text == "none" => Submodules::Paths(Vec::new()),
            Some(_) => Submodules::Paths(m.list("submodules")?),
        };
        let fetch = m.list("fetch")?.into_iter().map(|b| word("params.fetch", b)).collect::<Result<_, _>>()?;
        let options = m.text("describe_ref_options").unwrap_or_else(|| "--always --dirty --broken".into());
        Ok(Params {
            reference: word("version.ref", version("ref").cloned().unwrap_or_else(|| "HEAD".into()))?,
            branch: version("branch").cloned().map(|b| ref_name("version.branch", b)).transpose()?,
            depth: m.number("depth", 0, 0)?,
            fetch,
            fetch_tags: m.choice("fetch_tags"),
            submodules,
            submodule_recursive: m.choice("submodule_recursive").unwrap_or(true),
            submodule_remote: m.flag("submodule_remote"),
            disable_git_lfs: m.flag("disable_git_lfs"),
            clean_tags: m.flag("clean_tags"),
            short_ref_format: m.text("short_ref_format").unwrap_or_else(|| "%s".into()),
            timestamp_format: m.text("timestamp_format").unwrap_or_else(|| "iso8601".into()),
            describe_options: options.split_whitespace().map(str::to_owned).collect(),
            all_branches: m.flag("all_branches"),
        })
    }

    fn tag_flag(&self, source: &Source) -> Option<&'static str> {
        match self.fetch_tags.or(source.fetch_tags) {
            Some(false) => Some("--no-tags"),
            Some(true) => Some("--tags"),
            None => source.tags.as_ref().map(|_| "--tags"),
        }
    }
}

/// Fetches the version into `dir`.
pub fn get(session: &mut Session<'_, '_>, source: &Source, params: &Params, dir: &Path) -> Result<Response, Failure> {
    if params.disable_git_lfs {
        session.set("GIT_LFS_SKIP_SMUDGE", "1");
    }
    let tag_flag = params.tag_flag(source);
    clone(session, source, params, dir, tag_flag)?;
    if !source.sparse_paths.is_empty() {
        session.read(dir, &["config", "core.sparseCheckout", "true"])?;
        append(&dir.join(".git/info/sparse-checkout"), &format!("{}\n", source.sparse_paths.join("\n")))?;
    }
    append(&dir.join(".git/config"), &settings::file(&source.settings))?;
    let mut notes = vec!["fetch", "origin", "refs/notes/*:refs/notes/*"];
    notes.extend(tag_flag);
    session.show(dir, &notes)?;
    check_out(session, source, params, dir, tag_flag)?;
    if let Some(signers) = &source.signers {
        signers.verify(session, &params.reference, dir)?;
    }
    session.show(dir, &["log", "-1", "--oneline"])?;
    session.show(dir, &["clean", "--force", "--force", "-d"])?;
    session.show(dir, &["submodule", "sync"])?;
    if let Some(key) = &source.crypt_key {
        signature::unlock(session, key, dir)?;
    }
    submodule::update(session, source, params, dir)?;
    if !params.disable_git_lfs && !session.has_lfs() {
        warn_of_lfs(session, dir)?;
    }
    for branch in &params.fetch {
        session.show(dir, &["fetch", "origin", branch])?;
        let local = format!("refs/heads/{branch}");
        if !session.run(&Call::new(dir, &["show-ref", "--verify", "--quiet", &local]))?.ok {
            session.show(dir, &["branch", "--", branch, "FETCH_HEAD"])?;
        }
    }
    let commit = Commit::read(session, dir, &source.address.url)?;
    let reference = if params.reference == "HEAD" { commit.id.clone() } else { params.reference.clone() };
    write_files(session, params, dir, &commit, &reference)?;
    if params.clean_tags {
        let tags = session.read(dir, &["tag"])?;
        let mut args = vec!["tag", "-d", "--"];
        args.extend(tags.lines());
        if args.len() > 3 {
            session.show(dir, &args)?;
        }
    }
    Ok(Response { version: Version::from([("ref", reference.as_str())]), metadata: commit.metadata() })
}

fn clone(
    session: &mut Session<'_, '_>,
    source: &Source,
    params: &Params,
    dir: &Path,
    tag_flag: Option<&str>,
) -> Result<(), Failure> {
    if let Some(branch) = &params.branch {
        session.say(&format!("Override {} with {branch}", source.branch.as_deref().unwrap_or_default()))?;
    }
    // Nothing is checked out before the version is known; the destination is where git runs, so that the log does
    // not show where that lies on the server.
    let mut args: Vec<String> = vec!["clone".into(), "--progress".into(), "--no-checkout".into()];
    args.extend((!params.all_branches).then(|| "--single-branch".into()));
    args.extend((params.depth > 0).then(|| format!("--depth={}", params.depth)));
    args.extend((params.depth > 0 && params.all_branches).then(|| "--no-single-branch".into()));
    args.extend(params.branch.as_ref().or(source.branch.as_ref()).map(|branch| format!("--branch={branch}")));
    args.extend(tag_flag.filter(|flag| *flag == "--no-tags").map(str::to_owned));
    args.extend(["--".into(), source.address.url.clone(), ".".into()]);
    session.show(dir, &args)
}

fn check_out(
    session: &mut Session<'_, '_>,
    source: &Source,
    params: &Params,
    dir: &Path,
    tag_flag: Option<&str>,
) -> Result<(), Failure> {
    let reference = params.reference.as_str();
    if params.depth > 0 {
        deepen(session, params, dir, tag_flag)?;
    } else if source.search_remote_refs
        && (source.branch.is_some() || params.branch.is_some())
        && !session.run(&Call::new(dir, &["rev-list", "-1", reference, "--"]))?.ok
    {
        let list = session.must(&Call::new(dir, &["ls-remote", "origin"]).network())?;
        match list.lines().find(|line| line.contains(reference)).and_then(|line| line.split_once('\t')) {
            Some((_, name)) => {
                session.say(&format!(
                    "{reference} not found locally, but search_remote_refs is enabled. Attempting to fetch {name} first."
                ))?;
                session.show(dir, &["fetch", "origin", name])?;
            }
            None => session.say(&format!("WARNING: couldn't find a ref for {reference} listed on the remote"))?,
        }
    }
    session.show(dir, &["checkout", "-f", "-q", reference, "--"])
}

/// Fetches more of a shallow clone until the version is in it.
fn deepen(session: &mut Session<'_, '_>, params: &Params, dir: &Path, tag_flag: Option<&str>) -> Result<(), Failure> {
    let wanted = format!("{}~{}^{{commit}}", params.reference, params.depth - 1);
    let (mut depth, mut total) = (params.depth, params.depth);
    while !session.run(&Call::new(dir, &["rev-parse", "--verify", "--quiet", &wanted]))?.ok {
        if !dir.join(".git/shallow").exists() {
            return session
                .say("Reached max depth of the origin repo while deepening the shallow clone, it's a deep clone now");
        }
        session.say(&format!(
            "Could not find ref {}~{} in a shallow clone of depth {total}",
            params.reference,
            params.depth - 1
        ))?;
        depth *= 2;
        if total >= DEEPEST {
            session.say(&format!("Reached depth threshold {DEEPEST}, falling back to deep clone..."))?;
            let mut args = vec!["fetch", "--unshallow", "origin"];
            args.extend(tag_flag);
            return session.show(dir, &args);
        }
        session.say(&format!("Deepening the shallow clone by an additional {depth}..."))?;
        let by = format!("--deepen={depth}");
        let mut args = vec!["fetch", by.as_str(), "origin"];
        args.extend(tag_flag);
        session.show(dir, &args)?;
        total += depth;
    }
    Ok(())
}

fn write_files(
    session: &mut Session<'_, '_>,
    params: &Params,
    dir: &Path,
    commit: &Commit,
    reference: &str,
) -> Result<(), Failure> {
    let date = format!("--date={}", params.timestamp_format);
    let timestamp = session.read(dir, &["log", "-1", "--format=%cd", &date])?;
    let mut describe = vec!["describe".to_owned()];
    describe.extend(params.describe_options.iter().cloned());
    let described = session.run(&Call::new(dir, &describe))?.stdout;
    let short: String = reference.chars().take(7).collect();
    let json = serde_json::to_string_pretty(&commit.to_json()).unwrap_or_default();
    let mut files = vec![
        ("committer", commit.email.clone()),
        ("committer_name", commit.author.clone()),
        ("ref", format!("{reference}\n")),
        ("metadata.json", format!("{json}\n")),
        ("short_ref", params.short_ref_format.replace("%s", &short)),
        ("commit_message", commit.message.clone()),
        ("commit_timestamp", format!("{timestamp}\n")),
        ("describe_ref", format!("{}\n", described.trim_end())),
    ];
    for name in ["commit", "author", "author_date", "branch", "tags", "url", "committer_date"] {
        let mut text = commit.field(name).to_owned();
        if !text.is_empty() {
            let _ = writeln!(text);
        }
        files.push((name, text));
    }
    for (name, text) in files {
        fs::write(dir.join(".git").join(name), text).map_err(|err| failed(name, &err))?;
    }
    Ok(())
}

fn warn_of_lfs(session: &mut Session<'_, '_>, dir: &Path) -> Result<(), Failure> {
    let attributes = fs::read_to_string(dir.join(".gitattributes")).unwrap_or_default();
    if attributes.contains("filter=lfs") {
        session.say(
            "WARNING: files kept in Git LFS were not fetched: install git-lfs on the server, or say disable_git_lfs",
        )?;
    }
    Ok(())
}

fn append(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
    };
    if text.is_empty() { Ok(()) } else { write().map_err(|err| failed(&path.display().to_string(), &err)) }
}

fn failed(name: &str, err: &io::Error) -> Failure {
    Failure::Failed(format!("cannot write {name}: {err}"))
}
