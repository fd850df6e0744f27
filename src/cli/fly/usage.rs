//! Reads the command line, and words its mistakes as fly does.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use super::Cli;
use crate::base::CONCOURSE_VERSION;

/// What the command line asks for.
pub enum Usage {
    /// A command, and its target.
    Run(Box<Cli>, Option<String>),
    /// Text to show (help), and the exit code.
    Show(String),
    /// A mistake.
    Wrong(String),
}

/// The command tree, where a flag given twice counts once and words that nobody asked for are passed over, as in fly.
pub fn command() -> Command {
    Cli::command().args_override_self(true).mut_subcommands(|c| {
        let more = c.get_positionals().next().is_none().then(|| Arg::new("more words").num_args(0..).hide(true));
        // Ours, wherever it stands, unless the command means something else by it.
        let mut version = Arg::new("version of fly").action(ArgAction::Version).hide(true);
        if c.get_arguments().all(|a| a.get_long() != Some("version")) {
            version = version.long("version");
        }
        if c.get_arguments().all(|a| a.get_short() != Some('v')) {
            version = version.short('v');
        }
        let version = (version.get_short().is_some() || version.get_long().is_some()).then_some(version);
        c.version(CONCOURSE_VERSION).disable_version_flag(true).args_override_self(true).args(more).args(version)
    })
}

/// Reads `args`, the program's name first.
pub fn read(args: &[OsString]) -> Usage {
    let mut command = command();
    let matches = match command.try_get_matches_from_mut(args) {
        Ok(matches) => matches,
        Err(e) if e.kind() == ErrorKind::DisplayHelp => return Usage::Show(e.render().to_string()),
        Err(e) if e.kind() == ErrorKind::DisplayVersion => return Usage::Show(format!("{CONCOURSE_VERSION}\n")),
        Err(e) => return Usage::Wrong(explain(&command, args, &e)),
    };
    // A global flag is known to the innermost command, wherever it stood.
    let inner = matches.subcommand().map_or(&matches, |(_, inner)| inner);
    let target = inner.try_get_one::<String>("target").ok().flatten().cloned();
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => Usage::Run(Box::new(cli), target),
        Err(e) => Usage::Wrong(e.to_string()),
    }
}

fn explain(command: &Command, args: &[OsString], error: &clap::Error) -> String {
    let words: Vec<_> = args.iter().skip(1).filter_map(|a| a.to_str()).collect();
    let invoked = words.iter().find_map(|word| command.find_subcommand(word)).unwrap_or(command);
    let named = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => vec![arg.clone()],
        Some(ContextValue::Strings(args)) => args.clone(),
        _ => Vec::new(),
    };
    let flag = |arg: &str| format!("`{}'", flag_name(command, invoked, arg));
    let first = named.first().map(String::as_str).unwrap_or_default();
    match error.kind() {
        ErrorKind::InvalidSubcommand => match error.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(name)) => unknown_command(command, name),
            _ => plain(error),
        },
        ErrorKind::UnknownArgument if first.starts_with('-') => {
            format!("unknown flag `{}'", first.trim_start_matches('-'))
        }
        ErrorKind::MissingRequiredArgument => {
            let (flags, values): (Vec<&String>, Vec<&String>) = named.iter().partition(|n| n.starts_with('-'));
            if flags.is_empty() {
                let names = values.into_iter().map(|v| v.trim_matches(['<', '>']).to_owned());
                return format!("the required argument `{}` was not provided", join(names.collect()));
            }
            let mut names: Vec<String> = flags.into_iter().map(|n| flag(n)).collect();
            names.sort();
            let (s, was) = if names.len() == 1 { ("", "was") } else { ("s", "were") };
            format!("the required flag{s} {} {was} not specified", join(names))
        }
        ErrorKind::InvalidValue if error.get(ContextKind::InvalidValue).is_none_or(|v| v.to_string().is_empty()) => {
            let word = first.split([' ', '=']).next().unwrap_or(first);
            let short = flag_name(command, invoked, first).chars().take(2).collect::<String>();
            let next = words.iter().position(|w| *w == word || *w == short).and_then(|at| words.get(at + 1));
            let option = next.filter(|next| next.starts_with('-'));
            let but = option.map(|next| format!(", but got option `{next}'")).unwrap_or_default();
            format!("expected argument for flag {}{but}", flag(first))
        }
        ErrorKind::InvalidValue => match (error.get(ContextKind::InvalidValue), error.get(ContextKind::ValidValue)) {
            (Some(value), Some(ContextValue::Strings(valid))) => format!(
                "Invalid value `{value}' for option {}. Allowed values are: {}",
                flag(first),
                either(valid.clone())
            ),
            _ => plain(error),
        },
        ErrorKind::TooManyValues => format!("bool flag {} cannot have an argument", flag(first)),
        ErrorKind::ValueValidation => {
            let cause = match (go_type(first), error.get(ContextKind::InvalidValue)) {
                ("int", Some(value)) => format!("strconv.ParseInt: parsing \"{value}\": invalid syntax"),
                _ => std::error::Error::source(error).map(ToString::to_string).unwrap_or_default(),
            };
            format!("invalid argument for flag {} (expected {}): {cause}", flag(first), go_type(first))
        }
        _ => plain(error),
    }
}

/// clap's own words without its prefix and its hints.
fn plain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.strip_prefix("error: ").unwrap_or(&text).lines().next().unwrap_or_default().to_owned()
}

/// `-p, --pipeline` for clap's `--pipeline <PIPELINE>`.
fn flag_name(root: &Command, command: &Command, arg: &str) -> String {
    let word = arg.split([' ', '=']).next().unwrap_or(arg);
    let is_meant = |a: &&Arg| {
        a.get_long().is_some_and(|l| word.strip_prefix("--") == Some(l))
            || a.get_short().is_some_and(|s| word.strip_prefix('-').is_some_and(|w| w == s.to_string()))
    };
    let found = command.get_arguments().find(is_meant).or_else(|| root.get_arguments().find(is_meant));
    match found.map(|a| (a.get_short(), a.get_long())) {
        Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
        Some((None, Some(long))) => format!("--{long}"),
        _ => word.to_owned(),
    }
}

/// What fly says it expected there.
fn go_type(arg: &str) -> &'static str {
    match arg.trim_start_matches('-').split(' ').next().unwrap_or_default() {
        "var" => "[]flaghelpers.VariablePairFlag",
        "yaml-var" | "instance-var" => "[]flaghelpers.YAMLVariablePairFlag",
        "load-vars-from" => "[]atc.PathFlag",
        "config" | "ca-cert" | "client-cert" | "client-key" => "atc.PathFlag",
        "job" | "inputs-from" => "flaghelpers.JobFlag",
        "resource" | "resource-type" | "check" => "flaghelpers.ResourceFlag",
        "pipeline" => "flaghelpers.PipelineFlag",
        "input-mapping" => "[]flaghelpers.InputMappingPairFlag",
        "input" => "[]flaghelpers.InputPairFlag",
        "output" => "[]flaghelpers.OutputPairFlag",
        "count" => "int",
        "ttl" => "time.Duration",
        _ => "string",
    }
}

fn unknown_command(command: &Command, name: &str) -> String {
    let mut names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    names.sort();
    let closest = names.iter().min_by_key(|n| distance(name, n)).filter(|n| distance(name, n) * 2 < n.len());
    match closest {
        Some(closest) => format!("Unknown command `{name}', did you mean `{closest}'?"),
        None => {
            let last = names.pop().unwrap_or_default();
            format!("Unknown command `{name}'. Please specify one command of: {} or {last}", names.join(", "))
        }
    }
}

fn either(mut names: Vec<String>) -> String {
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} or {last}", names.join(", ")) }
}

fn join(mut names: Vec<String>) -> String {
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} and {last}", names.join(", ")),
        None => String::new(),
    }
}

/// How many letters must change to make `a` of `b`, as fly counts: the whole of `b` costs nothing to add at the start,
/// so that any word has a neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.is_empty() || b.is_empty() {
        return a.len().max(b.len());
    }
    let mut row: Vec<usize> = (0..b.len()).chain([0]).collect();
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1; b.len() + 1];
        for (j, to) in b.iter().enumerate() {
            next[j + 1] = if from == to { row[j] } else { 1 + row[j].min(next[j]).min(row[j + 1]) };
        }
        row = next;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &str) -> String {
        let args: Vec<OsString> = std::iter::once("fly").chain(line.split(' ')).map(OsString::from).collect();
        match read(&args) {
            Usage::Wrong(text) => text,
            Usage::Show(_) => "(shown)".to_owned(),
            Usage::Run(..) => "(run)".to_owned(),
        }
    }

    #[test]
    fn the_tree_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn mistakes_are_worded_as_fly_does() {
        for (line, text) in [
            ("-t x pipelines --zz", "unknown flag `zz'"),
            ("-t x pipelines -i a", "unknown flag `i'"),
            ("-t x set-pipeline", "the required flags `-c, --config' and `-p, --pipeline' were not specified"),
            ("-t x jobs", "the required flag `-p, --pipeline' was not specified"),
            ("-t x jobs -p", "expected argument for flag `-p, --pipeline'"),
            ("completion --shell x", "Invalid value `x' for option `--shell'. Allowed values are: bash, zsh or fish"),
            (
                "-t x builds -c x",
                "invalid argument for flag `-c, --count' (expected int): strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            ("-t x jobs -p --json", "expected argument for flag `-p, --pipeline', but got option `--json'"),
            ("-t x jobs -p a --json=true", "bool flag `--json' cannot have an argument"),
            ("-t x curl", "the required argument `PATH` was not provided"),
            (
                "-t x execute -c Cargo.toml -o a",
                "invalid argument for flag `-o, --output' (expected []flaghelpers.OutputPairFlag): invalid output pair 'a' (must be name=path)",
            ),
            ("pipelnes", "Unknown command `pipelnes', did you mean `pipelines'?"),
            (
                "watch -j a",
                "invalid argument for flag `-j, --job' (expected flaghelpers.JobFlag): argument format should be <pipeline>/<job>",
            ),
        ] {
            assert_eq!(wrong(line), text, "{line}");
        }
        assert_eq!(wrong("zz"), "Unknown command `zz', did you mean `abort-build'?");
    }

    #[test]
    fn words_that_nobody_asked_for_are_passed_over() {
        for line in ["-t x jobs -p a b c", "-t x jobs b -p a", "-t x ps a", "-t x e -c Cargo.toml a -- -b"] {
            assert_eq!(wrong(line), "(run)", "{line}");
        }
    }

    #[test]
    fn a_target_may_stand_anywhere() {
        for line in ["-t x pipelines", "pipelines -t x", "--target=x ps", "w --target x -t", "-t x w -t"] {
            let args: Vec<OsString> = std::iter::once("fly").chain(line.split(' ')).map(OsString::from).collect();
            match read(&args) {
                Usage::Run(_, target) => assert_eq!(target.as_deref(), Some("x"), "{line}"),
                Usage::Wrong(e) | Usage::Show(e) => panic!("{line}: {e}"),
            }
        }
    }
}
