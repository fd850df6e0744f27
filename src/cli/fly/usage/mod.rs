//! Reads the command line, and words its mistakes as fly does.

mod help;
pub mod texts;
pub mod words;

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use self::words::{End, Words};
use super::{Cli, terminal};
use crate::base::CONCOURSE_VERSION;

/// What the command line asks for.
pub enum Usage {
    /// A command, and its target.
    Run(Box<Cli>, Option<String>),
    /// Text to show (help).
    Show(String),
    /// A mistake, and the words that show how it is done.
    Wrong(String, String),
}

/// The command tree, where a flag given twice counts once and words that nobody asked for are passed over, as in fly.
pub fn command() -> Command {
    let tree = Cli::command().args_override_self(true).mut_subcommands(|c| {
        let more = c.get_positionals().next().is_none().then(|| Arg::new("more words").num_args(0..).hide(true));
        c.disable_help_flag(true).args_override_self(true).args(more)
    });
    // Asked for before anything runs; the tree only knows its name.
    texts::apply(tree.arg(Arg::new("version").short('v').long("version").action(ArgAction::SetTrue)))
}

/// Reads `args`, the program's name first.
pub fn read(args: &[OsString]) -> Usage {
    let command = command();
    let Words { plain, command: named, end } = words::read(&command, args.get(1..).unwrap_or_default());
    let parsed = command.clone().try_get_matches_from([vec!["fly".into()], plain.clone()].concat());
    let wrong = parsed.as_ref().err().map(|error| (error.kind(), explain(&command, named.as_deref(), error)));
    // A value that does not fit came before whatever ended the reading.
    let shown = named.as_ref().map_or_else(|| "-h".to_owned(), |name| format!("{name} -h"));
    if let Some((ErrorKind::ValueValidation | ErrorKind::InvalidValue, text)) = wrong {
        return Usage::Wrong(text, shown);
    }
    match end {
        End::Wrong(text) => return Usage::Wrong(text, shown),
        End::Version => return Usage::Show(format!("{CONCOURSE_VERSION}\n")),
        End::Help(of) => return Usage::Show(format!("{}\n", help(args, &command, of.as_deref()))),
        End::All if matches!(named.as_deref(), None | Some("help")) => {
            return Usage::Show(help(args, &with_target(command, &plain), None));
        }
        End::All => {}
    }
    let matches = match parsed {
        Ok(matches) => matches,
        Err(error) => return Usage::Wrong(wrong.map_or_else(|| plain_text(&error), |(_, text)| text), shown),
    };
    // A global flag is known to the innermost command, wherever it stood.
    let inner = matches.subcommand().map_or(&matches, |(_, inner)| inner);
    let target = inner.try_get_one::<String>("target").ok().flatten().cloned();
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => Usage::Run(Box::new(cli), target),
        Err(e) => Usage::Wrong(e.to_string(), shown),
    }
}

/// The tree where the target that was given is the one that is meant when none is: so fly's help says it where nothing else was said.
fn with_target(command: Command, given: &[OsString]) -> Command {
    let given = given.iter().rev().find_map(|word| word.to_str()?.strip_prefix("--target="));
    let Some(given) = given.filter(|target| !target.is_empty()) else { return command };
    command.mut_arg("target", |arg| {
        let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{text} (default: {given})"))
    })
}

/// Help for a command, or for all.
fn help(args: &[OsString], root: &Command, of: Option<&str>) -> String {
    let called = args.first().map(|name| Path::new(name).file_name().unwrap_or(name).to_string_lossy());
    let program = called.as_deref().filter(|name| !name.contains(' ')).unwrap_or("fly");
    help::text(program, root, of.and_then(|name| root.find_subcommand(name)), terminal::columns())
}

fn explain(command: &Command, named: Option<&str>, error: &clap::Error) -> String {
    let invoked = named.and_then(|name| command.find_subcommand(name)).unwrap_or(command);
    let args = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => vec![arg.clone()],
        Some(ContextValue::Strings(args)) => args.clone(),
        _ => Vec::new(),
    };
    let flag = |text: &String| find(command, invoked, text).map_or_else(|| text.clone(), name);
    let first = args.first().and_then(|text| find(command, invoked, text));
    match (error.kind(), first) {
        (ErrorKind::MissingRequiredArgument, None) => {
            let names = args.iter().map(|name| name.trim_matches(['<', '>']).to_owned()).collect();
            format!("the required argument `{}` was not provided", join(names))
        }
        (ErrorKind::MissingRequiredArgument, Some(_)) => {
            let flags = args.iter().filter(|text| text.starts_with('-'));
            let mut names: Vec<String> = flags.map(|text| format!("`{}'", flag(text))).collect();
            names.sort();
            let (s, was) = if names.len() == 1 { ("", "was") } else { ("s", "were") };
            format!("the required flag{s} {} {was} not specified", join(names))
        }
        (ErrorKind::InvalidValue, Some(arg)) => {
            match (error.get(ContextKind::InvalidValue), error.get(ContextKind::ValidValue)) {
                (Some(value), Some(ContextValue::Strings(valid))) => {
                    let allowed = either(valid.clone());
                    format!("Invalid value `{value}' for option `{}'. Allowed values are: {allowed}", name(arg))
                }
                _ => plain_text(error),
            }
        }
        (ErrorKind::ValueValidation, Some(arg)) => {
            invalid(arg, &std::error::Error::source(error).map(ToString::to_string).unwrap_or_default())
        }
        _ => plain_text(error),
    }
}

/// A value that a flag does not take.
fn invalid(arg: &Arg, why: &str) -> String {
    format!("invalid argument for flag `{}' (expected {}): {why}", name(arg), go_type(arg))
}

/// clap's own words without its prefix and its hints.
fn plain_text(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.strip_prefix("error: ").unwrap_or(&text).lines().next().unwrap_or_default().to_owned()
}

/// The flag that clap calls `--pipeline <PIPELINE>`.
fn find<'c>(root: &'c Command, command: &'c Command, text: &str) -> Option<&'c Arg> {
    let name = text.split([' ', '=']).next()?.strip_prefix("--")?;
    let is_meant = |arg: &&Arg| arg.get_long() == Some(name);
    command.get_arguments().find(is_meant).or_else(|| root.get_arguments().find(is_meant))
}

/// `-p, --pipeline`
fn name(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    arg.get_short().map_or_else(|| format!("--{long}"), |short| format!("-{short}, --{long}"))
}

/// Whether its value is a number, which may be negative.
fn is_number(arg: &Arg) -> bool {
    matches!(go_type(arg), "int" | "time.Duration")
}

/// What fly says it expected there.
fn go_type(arg: &Arg) -> &'static str {
    match arg.get_long().unwrap_or_default() {
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
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
    let mut names: Vec<String> = shown.map(|c| c.get_name().to_owned()).collect();
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
            Usage::Wrong(text, _) => text,
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
                Usage::Wrong(e, _) | Usage::Show(e) => panic!("{line}: {e}"),
            }
        }
    }
}
