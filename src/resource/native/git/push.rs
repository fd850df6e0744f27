//! `out`: pushes commits, tags and notes, on top of what others pushed in the meantime where that is asked for.

use std::fs;
use std::path::{Path, PathBuf};

use super::artifact::{self, Copy};
use super::describe::Commit;
use super::local;
use super::session::{Call, Session};
use super::source::{Members, Source, ref_name, refuse_unknown, word};
use crate::base::version::Version;
use crate::resource::{Failure, Response};

const KEYS: &[&str] = &[
    "repository",
    "rebase",
    "rebase_strategy",
    "rebase_strategy_option",
    "merge",
    "returning",
    "tag",
    "only_tag",
    "tag_prefix",
    "force",
    "annotate",
    "notes",
    "branch",
    "refs_prefix",
    "debug",
    "push_options",
];

/// Git's own strategies; any other name would be looked up as a program.
const STRATEGIES: [&str; 6] = ["ort", "recursive", "resolve", "octopus", "ours", "subtree"];

/// How often somebody else may be faster before it is given up.
const ATTEMPTS: usize = 50;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Strategy {
    Plain,
    Merge,
    Rebase { flags: Vec<String> },
    OnlyTag,
}

/// The parameters of a put.
#[derive(Debug)]
pub struct Params {
    repository: String,
    strategy: Strategy,
    branch: String,
    branch_overridden: bool,
    refs_prefix: String,
    return_unmerged: bool,
    tag_file: Option<String>,
    tag_prefix: String,
    annotation_file: Option<String>,
    notes_file: Option<String>,
    flags: Vec<String>,
}

impl Params {
    /// Reads and checks them.
    pub fn read(source: &Source, m: Members<'_>) -> Result<Params, Failure> {
        if let Some(params) = m.0 {
            refuse_unknown(params, KEYS, "put params")?;
        }
        let invalid = |text: &str| Failure::Config(text.to_owned());
        let overriding = m.text("branch").map(|b| ref_name("params.branch", b)).transpose()?;
        let branch_overridden = overriding.is_some();
        let branch = overriding.or_else(|| source.branch.clone());
        if branch.is_none() && !m.flag("only_tag") {
            return Err(invalid("invalid payload (missing branch)"));
        }
        let strategy = match (m.flag("only_tag"), m.flag("merge"), m.flag("rebase")) {
            (_, true, true) => {
                return Err(invalid("invalid push strategy (either merge or rebase can be set, but not both)"));
            }
            (true, ..) => Strategy::OnlyTag,
            (_, true, _) => Strategy::Merge,
            (.., true) => Strategy::Rebase { flags: rebase_flags(m)? },
            _ => Strategy::Plain,
        };
        let mut flags: Vec<String> = m.flag("force").then(|| "--force".to_owned()).into_iter().collect();
        flags.extend(m.list("push_options")?.into_iter().map(|option| format!("--push-option={option}")));
        Ok(Params {
            repository: m.text("repository").ok_or_else(|| invalid("invalid payload (missing repository)"))?,
            strategy,
            branch: branch.unwrap_or_default(),
            branch_overridden,
            refs_prefix: ref_name("params.refs_prefix", m.text("refs_prefix").unwrap_or_else(|| "refs/heads".into()))?,
            return_unmerged: m.text("returning").as_deref() == Some("unmerged"),
            tag_file: m.text("tag"),
            tag_prefix: m.text("tag_prefix").unwrap_or_default(),
            annotation_file: m.text("annotate"),
            notes_file: m.text("notes"),
            flags,
        })
    }
}

fn rebase_flags(m: Members<'_>) -> Result<Vec<String>, Failure> {
    let mut flags = Vec::new();
    if let Some(strategy) = m.text("rebase_strategy") {
        if !STRATEGIES.contains(&strategy.as_str()) {
            let known = STRATEGIES.join(", ");
            return Err(Failure::Config(format!("invalid rebase_strategy: it must be one of {known}")));
        }
        flags.push(format!("--strategy={strategy}"));
    }
    let options = m.list("rebase_strategy_option")?;
    flags.extend(options.iter().flat_map(|option| option.split_whitespace()).map(|option| format!("-X{option}")));
    Ok(flags)
}

/// What goes along with the commits.
struct Extras {
    tag: Option<String>,
    annotation: Option<PathBuf>,
    notes: Option<PathBuf>,
}

enum Pushed {
    Yes,
    Outrun,
}

/// Pushes from the artifacts in `directory`.
pub fn put(
    session: &mut Session<'_, '_>,
    source: &Source,
    params: &Params,
    directory: &Path,
) -> Result<Response, Failure> {
    let extras = extras(session, params, directory)?;
    if params.branch_overridden {
        session.say(&format!("Override {} with {}", source.branch.as_deref().unwrap_or_default(), params.branch))?;
    }
    // A merge needs the files, but not the large ones.
    session.set("GIT_LFS_SKIP_SMUDGE", "1");
    let copy = artifact::copy(session, directory, &params.repository)?;
    let dir = copy.dir.as_path();
    session.read(dir, &["config", "remote.push-target.url", &source.address.url])?;
    if let Some(receiver) = local::path(&source.address.url).and_then(|path| local::receiver(&path)) {
        session.read(dir, &["config", "remote.push-target.receivepack", &receiver])?;
    }
    let given = session.read(dir, &["rev-parse", "HEAD"])?;
    match &params.strategy {
        Strategy::Plain => {
            tag(session, dir, &extras)?;
            session.show(dir, &commits_and_tags(params))?;
            notes(session, dir, params, &extras)?;
        }
        Strategy::OnlyTag => {
            tag(session, dir, &extras)?;
            let mut args = vec!["push".to_owned(), "--tags".into()];
            args.extend(params.flags.iter().cloned());
            args.push("push-target".into());
            session.show(dir, &args)?;
        }
        Strategy::Merge | Strategy::Rebase { .. } => combine(session, dir, params, &extras, &given)?,
    }
    answer(session, params, &copy, given)
}

fn answer(session: &mut Session<'_, '_>, params: &Params, copy: &Copy, given: String) -> Result<Response, Failure> {
    let commit = Commit::read(session, &copy.dir, &copy.origin)?;
    let unmerged = params.strategy == Strategy::Merge && params.return_unmerged;
    let reference = if unmerged { given } else { commit.id.clone() };
    let mut version = Version::from([("ref", reference.as_str())]);
    if params.branch_overridden {
        version.0.insert("branch".into(), params.branch.clone());
    }
    Ok(Response { version, metadata: commit.metadata() })
}

fn extras(session: &Session<'_, '_>, params: &Params, directory: &Path) -> Result<Extras, Failure> {
    let missing = |what: &str, name: &str| Failure::Failed(format!("{what} file '{name}' does not exist"));
    let read = |what: &str, name: &str| {
        let path = artifact::inside(directory, name).filter(|path| path.is_file());
        path.and_then(|path| fs::read_to_string(path).ok()).ok_or_else(|| missing(what, name))
    };
    // Copied, so that a link put in its place later leads nowhere.
    let copied = |what: &str, name: &str| -> Result<PathBuf, Failure> {
        let path = session.scratch("texts")?.join(what);
        fs::write(&path, read(what, name)?).map_err(|err| Failure::Failed(format!("cannot copy '{name}': {err}")))?;
        Ok(path)
    };
    let tag = match &params.tag_file {
        None => None,
        Some(file) => {
            let name = format!("{}{}", params.tag_prefix, read("tag", file)?.trim_end());
            Some(ref_name("the tag", name)?)
        }
    };
    let annotation = params.annotation_file.as_ref().map(|file| copied("annotation", file)).transpose()?;
    // Relative to the directory that the repository is in.
    let notes = params.notes_file.as_ref().map(|file| copied("notes", &format!("{}/../{file}", params.repository)));
    Ok(Extras { tag, annotation, notes: notes.transpose()? })
}

fn tag(session: &mut Session<'_, '_>, dir: &Path, extras: &Extras) -> Result<(), Failure> {
    let Some(name) = &extras.tag else { return Ok(()) };
    let mut args = vec!["tag".to_owned(), "-f".into()];
    if let Some(file) = &extras.annotation {
        args.extend(["-a".into(), "-F".into(), file.display().to_string()]);
    }
    args.extend(["--".into(), word("the tag", name.clone())?]);
    session.show(dir, &args)
}

fn commits_and_tags(params: &Params) -> Vec<String> {
    let mut args = vec!["push".to_owned(), "--tags".into()];
    args.extend(params.flags.iter().cloned());
    args.extend(["push-target".into(), format!("HEAD:{}/{}", params.refs_prefix, params.branch)]);
    args
}

fn notes(session: &mut Session<'_, '_>, dir: &Path, params: &Params, extras: &Extras) -> Result<(), Failure> {
    let Some(file) = &extras.notes else { return Ok(()) };
    session.show(dir, &["notes", "add", "-F", &file.display().to_string()])?;
    let mut args = vec!["push".to_owned()];
    args.extend(params.flags.iter().filter(|flag| *flag != "--force").cloned());
    args.extend(["push-target".into(), "refs/notes/*".into()]);
    session.show(dir, &args)
}

/// Merges or rebases and pushes, again whenever somebody else pushed in between.
fn combine(
    session: &mut Session<'_, '_>,
    dir: &Path,
    params: &Params,
    extras: &Extras,
    given: &str,
) -> Result<(), Failure> {
    let (doing, pull) = match &params.strategy {
        Strategy::Rebase { flags } => {
            let mut pull = vec!["pull".to_owned(), "--rebase=merges".into()];
            pull.extend(flags.iter().cloned());
            ("rebasing", pull)
        }
        _ => ("merging", vec!["pull".to_owned(), "--no-edit".into()]),
    };
    session.read(dir, &["reset", "--hard", "--quiet", given])?;
    for _ in 0..ATTEMPTS {
        if doing == "merging" {
            session.say("merging...")?;
            session.read(dir, &["reset", "--hard", "--quiet", given])?;
        } else {
            let command = format!("git {} push-target {}", pull.join(" "), params.branch);
            session.say(&format!("rebasing using rebase command: {command}..."))?;
        }
        session.show(dir, &["fetch", "push-target", "refs/notes/*:refs/notes/*"])?;
        let full = format!("refs/heads/{}", params.branch);
        let there = session.must(&Call::new(dir, &["ls-remote", "push-target", &full]).network())?;
        // Into an empty repository, or as a new branch, there is nothing to combine with.
        if !there.trim().is_empty() {
            let mut args = pull.clone();
            args.extend(["push-target".into(), params.branch.clone()]);
            session.show(dir, &args)?;
        }
        match push(session, dir, params, extras)? {
            Pushed::Yes => return session.say("pushed"),
            Pushed::Outrun => session.say(&format!("{doing} and trying again..."))?,
        }
    }
    Err(Failure::Failed(format!("others pushed to {} {ATTEMPTS} times in between: given up", params.branch)))
}

fn push(session: &mut Session<'_, '_>, dir: &Path, params: &Params, extras: &Extras) -> Result<Pushed, Failure> {
    tag(session, dir, extras)?;
    let mut args = commits_and_tags(params);
    // All or nothing, lest a tag stays behind at a commit that is then rebased.
    args.insert(1, "--atomic".into());
    let mut call = Call::new(dir, &args).network().shown();
    let mut done = session.run(&call)?;
    if !done.ok && done.stderr.contains("does not support --atomic") {
        call.args.remove(1);
        done = session.run(&call)?;
    }
    if done.ok {
        notes(session, dir, params, extras)?;
        return Ok(Pushed::Yes);
    }
    // A tag that is there already stays in the way however often it is tried.
    let outrun = |line: &str| {
        (line.contains("[rejected]") && !line.contains("(already exists)") && !line.contains("(atomic push failed)"))
            || (line.contains("cannot lock ref")
                && (line.contains("[remote rejected]") || line.contains("but expected")))
    };
    if done.stderr.lines().chain(done.stdout.lines()).any(outrun) {
        return Ok(Pushed::Outrun);
    }
    session.say("failed with non-rebase error")?;
    Err(session.failure(&call, &done))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(branch: Option<&str>, params: Value) -> Result<Params, String> {
        let source = json!({"uri": "/r", "branch": branch});
        let source = Source::read(source.as_object().unwrap(), true).unwrap();
        Params::read(&source, Members(params.as_object())).map_err(|f| f.to_string())
    }

    #[test]
    fn mistakes_are_named() {
        for (branch, params, text) in [
            (None, json!({"repository": "r"}), "invalid payload (missing branch)"),
            (Some("b"), json!({}), "invalid payload (missing repository)"),
            (Some("b"), json!({"repository": "r", "rebase": true, "merge": true}), "invalid push strategy"),
            (Some("b"), json!({"repository": "r", "repo": 1}), "Found unknown keys in put params:\n\"repo\""),
            (
                Some("b"),
                json!({"repository": "r", "rebase": true, "rebase_strategy": "evil"}),
                "invalid rebase_strategy",
            ),
            (Some("b"), json!({"repository": "r", "branch": "--all"}), "params.branch must be one word"),
            (Some("b"), json!({"repository": "r", "refs_prefix": "refs/heads:x"}), "params.refs_prefix is not"),
        ] {
            let err = read(branch, params.clone()).unwrap_err();
            assert!(err.starts_with(text), "{params}: {err}");
        }
    }

    #[test]
    fn options_become_flags() {
        let p = read(
            None,
            json!({"repository": "r", "branch": "x", "force": true, "push_options": ["ci.skip"],
            "rebase": true, "rebase_strategy": "ort", "rebase_strategy_option": "ours patience"}),
        )
        .unwrap();
        assert_eq!(
            p.strategy,
            Strategy::Rebase { flags: ["--strategy=ort", "-Xours", "-Xpatience"].map(str::to_owned).into() }
        );
        assert_eq!(
            commits_and_tags(&p),
            ["push", "--tags", "--force", "--push-option=ci.skip", "push-target", "HEAD:refs/heads/x"]
        );
        assert!(p.branch_overridden);
    }
}
