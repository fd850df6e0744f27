//! `completion`: what a shell needs to complete this client's words, and those words when the shell asks.
//!
//! The shell's part is fly's own: it runs the client again with `GO_FLAGS_COMPLETION` set and the words so far.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use clap::{Arg, ArgAction, Command};

use super::client::ApiError;
use super::failure::Outcome;
use super::reference::PipelineRef;
use super::shapes::Pipeline;
use super::target::Targets;
use super::usage::texts::{self, Line};
use super::usage::words::{self, takes_value};
use super::{Fly, Session};

/// Set by the shell's part.
pub const ASKED: &str = "GO_FLAGS_COMPLETION";

const BASH: &str = r#"_fly_compl() {
    args=("${COMP_WORDS[@]:1:$COMP_CWORD}")
    local IFS=$'\n'
    COMPREPLY=($(GO_FLAGS_COMPLETION=1 ${COMP_WORDS[0]} "${args[@]}"))
    return 0
}
complete -F _fly_compl fly
"#;
const ZSH: &str = "autoload -Uz compinit && compinit\nautoload -Uz bashcompinit && bashcompinit\n";

/// Shells whose words can be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Arguments of `completion`.
#[derive(Debug, Clone, clap::Args)]
pub struct Completion {
    /// The shell to print code for
    #[arg(long, value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints the shell's part.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let text = match self.shell {
            Shell::Bash => BASH.to_owned(),
            Shell::Zsh => format!("{ZSH}{BASH}"),
            Shell::Fish => fish(&super::usage::command()),
        };
        fly.console.print(text)?;
        Ok(0)
    }
}

/// One line a command and flag, in fly's order.
fn fish(root: &Command) -> String {
    let flag = |arg: Option<&Arg>, text: &str, seen: &str| {
        let described = if text.is_empty() { String::new() } else { format!(" -d \"{text}\"") };
        let long = arg.and_then(Arg::get_long).map(|l| format!(" -l \"{l}\"")).unwrap_or_default();
        let short = arg.and_then(Arg::get_short).map(|s| format!(" -s \"{s}\"")).unwrap_or_default();
        format!("complete -c fly{seen}{described}{long}{short}\n")
    };
    let (mut text, mut seen, mut command) = (String::new(), String::new(), root);
    // Of a group there is one line, which says nothing; so there is of all words that stand alone.
    let (mut grouped, mut alone) = (false, false);
    for line in texts::lines() {
        let long = |of: &'_ Command, name: &str| of.get_arguments().find(|a| a.get_long() == Some(name)).cloned();
        let repeated = std::mem::replace(&mut alone, matches!(line, Line::Word(..)));
        match line {
            Line::Everywhere(name, told) => text.push_str(&flag(long(root, name).as_ref(), told, "")),
            Line::Command(name, told) => {
                command = root.find_subcommand(name).unwrap_or(root);
                let alias = command.get_all_aliases().next().map(|a| format!(" (alias: {a})")).unwrap_or_default();
                text.push_str(&format!(
                    "complete -c fly -n __fish_use_subcommand -a \"{name}\" -d \"{told}{alias}\"\n"
                ));
                (seen, grouped) = (format!(" -n \"__fish_seen_subcommand_from {name}\""), false);
            }
            Line::Flag(name, _, told) if !grouped => text.push_str(&flag(long(command, name).as_ref(), told, &seen)),
            Line::Word(..) if !repeated => text.push_str(&flag(None, "", &seen)),
            Line::Group(_) if !grouped => {
                grouped = true;
                text.push_str(&flag(None, "", &seen));
            }
            Line::Flag(..) | Line::Word(..) | Line::Group(_) => {}
        }
    }
    text
}

/// What the last of the words may become.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'w> {
    /// One of these.
    Words(Vec<String>),
    /// A value of this kind that begins so; the part before it stays.
    Value { kind: Kind, kept: String, begun: &'w str },
}

/// Values that can be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Target,
    File,
    Pipeline,
    Job,
    Team,
    Worker,
    Nothing,
}

impl Kind {
    fn of(command: &Command, flag: &Arg) -> Kind {
        match (command.get_name(), flag.get_long().unwrap_or_default()) {
            (_, "target") => Kind::Target,
            ("set-team", "config") => Kind::File,
            ("login" | "edit-target", "team-name") | ("builds", "team") => Kind::Nothing,
            ("set-pipeline" | "order-pipelines" | "order-instanced-pipelines", "pipeline") => Kind::Nothing,
            ("rename-team", "old-name") => Kind::Team,
            (_, "config" | "ca-cert" | "client-cert" | "client-key" | "load-vars-from") => Kind::File,
            (_, "pipeline") => Kind::Pipeline,
            (_, "job" | "inputs-from") => Kind::Job,
            (_, "team" | "team-name") => Kind::Team,
            (_, "worker") => Kind::Worker,
            _ => Kind::Nothing,
        }
    }
}

/// Prints what the last word may become, one a line. Where the server does not answer there is nothing to print.
pub async fn complete(fly: &Fly, words: &[String]) -> Outcome {
    let root = super::usage::command();
    let mut found = match wanted(&root, words) {
        Wanted::Words(words) => words,
        Wanted::Value { kind, kept, begun } => {
            let values = values(fly, kind, begun).await;
            values.into_iter().map(|v| format!("{kept}{v}")).collect()
        }
    };
    found.sort();
    for word in found {
        fly.console.say(word)?;
    }
    Ok(0)
}

/// What has been read of a line before its last word.
struct Begun<'c> {
    root: &'c Command,
    command: &'c Command,
    /// Words that the command may still have, and whether the last of them may be many.
    words: Vec<bool>,
}

/// Reads the words as the client would.
fn wanted<'w>(root: &Command, words: &'w [String]) -> Wanted<'w> {
    let (last, before) = words.split_last().map_or(("", &[][..]), |(l, b)| (l.as_str(), b));
    let mut begun = Begun { root, command: root, words: Vec::new() };
    let mut before = before.iter();
    while let Some(word) = before.next() {
        if word == "--" {
            let given = before.len();
            begun.words = begun.words.split_off(given.min(begun.words.len()));
            break;
        }
        if !words::is_flag(word.as_bytes()) {
            begun.alone(word);
        } else if let Some(flag) = begun.waiting(word)
            && before.next().is_none()
        {
            return Wanted::Value { kind: Kind::of(begun.command, flag), kept: String::new(), begun: last };
        }
    }
    match last.strip_prefix('-') {
        Some(rest) => begun.flag(last, rest),
        None => {
            // A word that stands alone may be anything.
            let none = !begun.words.is_empty();
            let shown = begun.command.get_subcommands().filter(|c| !none && !c.is_hide_set());
            let names = shown.map(Command::get_name).filter(|n| n.starts_with(last));
            Wanted::Words(names.map(str::to_owned).collect())
        }
    }
}

impl<'c> Begun<'c> {
    fn alone(&mut self, word: &str) {
        match self.words.first() {
            Some(true) => {}
            Some(false) => drop(self.words.remove(0)),
            None => {
                if let Some(command) = self.command.find_subcommand(word) {
                    self.command = command;
                    let words = command.get_positionals().filter(|arg| !arg.is_hide_set());
                    self.words = words.map(|arg| matches!(arg.get_action(), ArgAction::Append)).collect();
                }
            }
        }
    }

    fn find(&self, is_meant: impl Fn(&Arg) -> bool) -> Option<&'c Arg> {
        let own = self.command.get_arguments().find(|arg| is_meant(arg));
        own.or_else(|| self.root.get_arguments().find(|arg| is_meant(arg)))
    }

    fn long(&self, name: &str) -> Option<&'c Arg> {
        self.find(|arg| arg.get_long() == Some(name))
    }

    fn short(&self, letter: char) -> Option<&'c Arg> {
        self.find(|arg| arg.get_short() == Some(letter))
    }

    /// The flag in a word whose value is the next word.
    fn waiting(&self, word: &str) -> Option<&'c Arg> {
        let found = match word.strip_prefix("--") {
            Some(name) => self.long(name),
            None => {
                let letters = word.strip_prefix('-').unwrap_or_default();
                let first = letters.chars().next()?;
                let joined = letters.len() > first.len_utf8();
                if joined
                    && (letters[first.len_utf8()..].starts_with('=') || self.short(first).is_some_and(takes_value))
                {
                    return None;
                }
                letters.chars().map(|letter| self.short(letter)).try_fold(None, |_, arg| arg.map(Some))?
            }
        };
        found.filter(|arg| takes_value(arg))
    }

    /// A flag that is still being typed, or its value behind it.
    fn flag<'w>(&self, last: &'w str, rest: &'w str) -> Wanted<'w> {
        let value = |flag: &Arg, kept: String, begun| Wanted::Value { kind: Kind::of(self.command, flag), kept, begun };
        let Some(name) = rest.strip_prefix('-') else {
            let Some(first) = rest.chars().next() else { return Wanted::Words(self.names("")) };
            let behind = &rest[first.len_utf8()..];
            return match (self.short(first).filter(|arg| takes_value(arg)), behind.strip_prefix('=')) {
                (Some(flag), Some(begun)) => value(flag, format!("-{first}="), begun),
                (Some(flag), None) => value(flag, format!("-{first}"), behind),
                (None, _) => Wanted::Words(vec![last.to_owned()]),
            };
        };
        match name.split_once('=') {
            None => Wanted::Words(self.names(name)),
            Some((name, begun)) => match self.long(name) {
                Some(flag) => value(flag, format!("--{name}="), begun),
                None => Wanted::Words(Vec::new()),
            },
        }
    }

    /// Flags that begin so.
    fn names(&self, begun: &str) -> Vec<String> {
        let shown = |command: &'c Command| command.get_arguments().filter(|arg| !arg.is_hide_set());
        let names = shown(self.command).chain(shown(self.root)).filter_map(Arg::get_long).chain(["help"]);
        let names: BTreeSet<String> = names.filter(|l| l.starts_with(begun)).map(|l| format!("--{l}")).collect();
        names.into_iter().collect()
    }
}

/// Values of a kind that begin so.
async fn values(fly: &Fly, kind: Kind, begun: &str) -> Vec<String> {
    let found = match kind {
        Kind::Nothing => return Vec::new(),
        Kind::File => return files(begun),
        Kind::Target => Ok(Targets::load().map(|t| t.saved.into_keys().collect()).unwrap_or_default()),
        Kind::Pipeline | Kind::Job | Kind::Team | Kind::Worker => match fly.saved() {
            Ok(session) => of_server(&session, kind, begun).await,
            Err(_) => return Vec::new(),
        },
    };
    found.unwrap_or_default().into_iter().filter(|v: &String| v.starts_with(begun)).collect()
}

async fn of_server(session: &Session, kind: Kind, begun: &str) -> Result<Vec<String>, ApiError> {
    let names = |list: Vec<serde_json::Value>| {
        list.iter().filter_map(|v| v["name"].as_str()).map(str::to_owned).collect::<Vec<_>>()
    };
    let team = session.own_team();
    match kind {
        Kind::Team => Ok(names(session.client.get(&["teams"]).fetch().await?)),
        Kind::Worker => Ok(names(session.client.get(&["workers"]).fetch().await?)),
        Kind::Pipeline => Ok(team.pipelines().await?.iter().map(|p| reference(p).to_string()).collect()),
        _ => {
            let Some((name, rest)) = begun.split_once('/') else {
                return Ok(team.pipelines().await?.iter().map(|p| format!("{}/", p.name)).collect());
            };
            let vars = rest.split('/').next().unwrap_or_default();
            let instance = format!("{name}/{vars}").parse::<PipelineRef>();
            let of = match (instance, rest.contains('/')) {
                (Ok(instance), true) => instance,
                (Ok(_), false) => {
                    return Ok(team.pipelines().await?.iter().map(|p| format!("{}/", reference(p))).collect());
                }
                (Err(_), true) => return Ok(Vec::new()),
                (Err(_), false) => PipelineRef { name: name.to_owned(), vars: None },
            };
            let jobs = team.on_pipeline(reqwest::Method::GET, &of, &["jobs"]).fetch().await?;
            Ok(names(jobs).into_iter().map(|job| format!("{of}/{job}")).collect())
        }
    }
}

fn reference(pipeline: &Pipeline) -> PipelineRef {
    PipelineRef { name: pipeline.name.clone(), vars: pipeline.instance_vars.clone() }
}

/// Paths that begin so, in their shortest form.
fn files(begun: &str) -> Vec<String> {
    let (directory, name) =
        begun.rsplit_once('/').map_or((".", begun), |(d, n)| (if d.is_empty() { "/" } else { d }, n));
    let kept: PathBuf = Path::new(directory).components().filter(|c| *c != Component::CurDir).collect();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with(name));
    names.map(|n| kept.join(n).display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_last_word_is_a_command_a_flag_or_a_value() {
        let root = super::super::usage::command();
        let names = |line: &str| match wanted(&root, &words(line)) {
            Wanted::Words(words) => words.join(" "),
            Wanted::Value { kind, kept, begun } => format!("{kind:?}:{kept}:{begun}"),
        };
        for (line, expected) in [
            ("pause-c", "pause-component"),
            ("-t ci unpause-p", "unpause-pipeline"),
            ("-t c", "Target::c"),
            ("-tc", "Target:-t:c"),
            ("-t=c", "Target:-t=:c"),
            ("pause-job --jo", "--job"),
            ("-t ci pause-job -j k/", "Job::k/"),
            ("tj -js", "Job:-j:s"),
            ("tj -w", "-w"),
            ("ps -aj", "-aj"),
            ("-t ci set-pipeline --config=a", "File:--config=:a"),
            ("set-pipeline -p ", "Nothing::"),
            (
                "ps -",
                "--all --help --include-archived --json --print-table-headers --target --team --verbose --version",
            ),
            ("w --ti", "--timestamps"),
            ("curl p", ""),
            ("ps x", ""),
            (
                "-- p",
                "paused-jobs paused-pipelines pause-component pause-job pause-pipeline pin-resource pipelines prune-worker",
            ),
            ("aud", ""),
        ] {
            let mut found: Vec<String> = names(line).split(' ').map(str::to_owned).collect();
            let mut expected: Vec<&str> = expected.split(' ').collect();
            found.sort();
            expected.sort_unstable();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn fish_is_told_every_command_and_flag() {
        let text = fish(&super::super::usage::command());
        for line in [
            "complete -c fly -n __fish_use_subcommand -a \"help\" -d \"Print this help message\"\ncomplete -c fly -d \"Concourse target name\" -l \"target\" -s \"t\"\n",
            "-a \"hijack\" -d \"Execute a command in a container (alias: intercept)\"\n",
            "complete -c fly -n \"__fish_seen_subcommand_from set-team\"\ncomplete -c fly -n __fish_use_subcommand -a \"rename-team\"",
            "complete -c fly -n \"__fish_seen_subcommand_from completion\" -l \"shell\"\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn files_are_completed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("only")).unwrap();
        let begun = format!("{}/.//on", dir.path().display());
        assert_eq!(files(&begun), [format!("{}/only", dir.path().display())]);
    }
}
