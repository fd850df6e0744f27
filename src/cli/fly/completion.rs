//! `completion`: what a shell needs to complete this client's words, and those words when the shell asks.
//!
//! The shell's part is fly's own: it runs the client again with `GO_FLAGS_COMPLETION` set and the words so far.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, Command};

use super::client::ApiError;
use super::failure::Outcome;
use super::reference::PipelineRef;
use super::shapes::Pipeline;
use super::target::Targets;
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

/// One line a command and flag.
fn fish(root: &Command) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let flag = |arg: &Arg, command: Option<&str>| {
        let seen = command.map(|c| format!(" -n \"__fish_seen_subcommand_from {c}\"")).unwrap_or_default();
        let help = arg.get_help().map(|h| format!(" -d \"{}\"", quoted(&h.to_string()))).unwrap_or_default();
        let long = arg.get_long().map(|l| format!(" -l \"{l}\"")).unwrap_or_default();
        let short = arg.get_short().map(|s| format!(" -s \"{s}\"")).unwrap_or_default();
        format!("complete -c fly{seen}{help}{long}{short}\n")
    };
    let flags = |command: &Command, name: Option<&str>| -> String {
        let own = command.get_arguments().filter(|a| a.get_long().is_some() && !a.is_global_set() | name.is_none());
        own.map(|a| flag(a, name)).collect()
    };
    let mut text = flags(root, None);
    for command in root.get_subcommands() {
        let name = command.get_name();
        let aliases: Vec<&str> = command.get_all_aliases().collect();
        let alias = if aliases.is_empty() { String::new() } else { format!(" (alias: {})", aliases.join(", ")) };
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let about = quoted(&about);
        text.push_str(&format!("complete -c fly -n __fish_use_subcommand -a \"{name}\" -d \"{about}{alias}\"\n"));
        text.push_str(&flags(command, Some(name)));
    }
    text
}

/// What the last of the words may become.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'w> {
    /// One of these.
    Words(Vec<String>),
    /// A value of this flag that begins so; the part before it stays.
    Value { flag: String, kept: String, begun: &'w str },
}

/// Prints what the last word may become, one a line. Where the server does not answer there is nothing to print.
pub async fn complete(fly: &Fly, words: &[String]) -> Outcome {
    let root = super::usage::command();
    let mut found = match wanted(&root, words) {
        Wanted::Words(words) => words,
        Wanted::Value { flag, kept, begun } => {
            let values = values(fly, &flag, begun).await;
            values.into_iter().map(|v| format!("{kept}{v}")).collect()
        }
    };
    found.sort();
    for word in found {
        fly.console.say(word)?;
    }
    Ok(0)
}

/// Reads the words as the client would.
fn wanted<'w>(root: &Command, words: &'w [String]) -> Wanted<'w> {
    let (last, before) = words.split_last().map_or(("", &[][..]), |(l, b)| (l.as_str(), b));
    let mut command = root;
    let mut waiting: Option<&Arg> = None;
    for word in before {
        if waiting.take().is_some() {
            continue;
        }
        match word.strip_prefix('-').filter(|w| !w.is_empty()) {
            Some(_) if word.contains('=') => {}
            Some(_) => waiting = find(root, command, word).filter(|a| takes_value(a)),
            None => command = command.find_subcommand(word).unwrap_or(command),
        }
    }
    if let Some(flag) = waiting {
        // The only flag of that name that stands for a team.
        let team = command.get_name() == "rename-team" && flag.get_long() == Some("old-name");
        let flag = if team { "team".to_owned() } else { long(flag) };
        return Wanted::Value { flag, kept: String::new(), begun: last };
    }
    if !last.starts_with('-') {
        let help = std::ptr::eq(command, root).then_some("help");
        let names = command.get_subcommands().map(Command::get_name).chain(help);
        return Wanted::Words(names.filter(|n| n.starts_with(last)).map(str::to_owned).collect());
    }
    if let Some((name, begun)) = last.split_once('=') {
        return match find(root, command, name) {
            Some(flag) => Wanted::Value { flag: long(flag), kept: format!("{name}="), begun },
            None => Wanted::Words(Vec::new()),
        };
    }
    let begun = last.trim_start_matches('-');
    let inherited = root.get_arguments().filter(|_| !std::ptr::eq(command, root));
    let names = command.get_arguments().chain(inherited).filter_map(Arg::get_long).chain(["help"]);
    let names: BTreeSet<String> = names.filter(|l| l.starts_with(begun)).map(|l| format!("--{l}")).collect();
    Wanted::Words(names.into_iter().collect())
}

fn long(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().to_owned()
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// The flag that a word names; of several short ones the last.
fn find<'c>(root: &'c Command, command: &'c Command, word: &str) -> Option<&'c Arg> {
    let is_meant = |a: &&Arg| match word.strip_prefix("--") {
        Some(name) => a.get_long() == Some(name),
        None => a.get_short() == word.chars().last(),
    };
    command.get_arguments().find(is_meant).or_else(|| root.get_arguments().find(is_meant))
}

/// Values of a flag that begin so.
async fn values(fly: &Fly, flag: &str, begun: &str) -> Vec<String> {
    let found = match flag {
        "target" => Ok(Targets::load().map(|t| t.saved.into_keys().collect()).unwrap_or_default()),
        "config" | "ca-cert" | "client-cert" | "client-key" | "load-vars-from" => Ok(files(begun)),
        "pipeline" | "job" | "inputs-from" | "team" | "team-name" | "worker" => match fly.saved() {
            Ok(session) => of_server(&session, flag, begun).await,
            Err(_) => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    found.unwrap_or_default().into_iter().filter(|v: &String| v.starts_with(begun)).collect()
}

async fn of_server(session: &Session, flag: &str, begun: &str) -> Result<Vec<String>, ApiError> {
    let names = |list: Vec<serde_json::Value>| {
        list.iter().filter_map(|v| v["name"].as_str()).map(str::to_owned).collect::<Vec<_>>()
    };
    let team = session.own_team();
    match flag {
        "team" | "team-name" => Ok(names(session.client.get(&["teams"]).fetch().await?)),
        "worker" => Ok(names(session.client.get(&["workers"]).fetch().await?)),
        "pipeline" => Ok(team.pipelines().await?.iter().map(|p| reference(p).to_string()).collect()),
        _ => match begun.rsplit_once('/') {
            None => Ok(team.pipelines().await?.iter().map(|p| format!("{}/", reference(p))).collect()),
            Some((pipeline, _)) => {
                let Ok(of) = pipeline.parse::<PipelineRef>() else { return Ok(Vec::new()) };
                let jobs = team.on_pipeline(reqwest::Method::GET, &of, &["jobs"]).fetch().await?;
                let instances = team.pipelines().await?.into_iter().filter(|p| p.instance_vars.is_some());
                let instances = instances.map(|p| format!("{}/", reference(&p)));
                Ok(names(jobs).into_iter().map(|job| format!("{of}/{job}")).chain(instances).collect())
            }
        },
    }
}

fn reference(pipeline: &Pipeline) -> PipelineRef {
    PipelineRef { name: pipeline.name.clone(), vars: pipeline.instance_vars.clone() }
}

/// Paths that begin so; a directory that is the only one goes on.
fn files(begun: &str) -> Vec<String> {
    let (directory, name) =
        begun.rsplit_once('/').map_or((".", begun), |(d, n)| (if d.is_empty() { "/" } else { d }, n));
    let kept = &begun[..begun.len() - name.len()];
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(String, bool)> = entries
        .filter_map(|e| Some((e.file_name().into_string().ok()?, e.path().is_dir())))
        .filter(|(n, _)| n.starts_with(name) && (!name.is_empty() || !n.starts_with('.')))
        .collect();
    if let [(only, true)] = found.as_mut_slice() {
        only.push('/');
    }
    found.into_iter().map(|(n, _)| format!("{kept}{n}")).collect()
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
            Wanted::Words(words) => words,
            Wanted::Value { flag, kept, begun } => vec![format!("{flag}:{kept}:{begun}")],
        };
        assert_eq!(names("pause-c"), ["pause-component"]);
        assert_eq!(names("-t ci unpause-p"), ["unpause-pipeline"]);
        assert_eq!(names("-t c"), ["target::c"]);
        assert_eq!(names("pause-job --jo"), ["--job"]);
        assert_eq!(names("-t ci pause-job -j k/"), ["job::k/"]);
        assert_eq!(names("-t ci set-pipeline --config=a"), ["config:--config=:a"]);
        assert!(names("jobs --").contains(&"--print-table-headers".to_owned()));
    }

    #[test]
    fn fish_is_told_every_command_and_flag() {
        let text = fish(&super::super::usage::command());
        assert!(text.contains("complete -c fly -n __fish_use_subcommand -a \"pipelines\" -d \""));
        assert!(text.contains("complete -c fly -n \"__fish_seen_subcommand_from jobs\" -d"));
        assert!(text.contains("-l \"target\" -s \"t\""));
    }

    #[test]
    fn files_are_completed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("only")).unwrap();
        let begun = format!("{}/on", dir.path().display());
        assert_eq!(files(&begun), [format!("{}/only/", dir.path().display())]);
    }
}
