//! The command line: one subcommand a file.

mod demo;
mod doctor;
pub mod fly;
mod format;
mod image;
mod input;
mod said;
mod schema;
mod serve;
mod user;
mod validate;

use std::ffi::OsString;
use std::path::Path;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::server::program;

/// A whole Concourse CI in one binary.
#[derive(Debug, Parser)]
#[command(name = "whistlestop", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: web, scheduler and worker in one process (also as `web` or `quickstart`)
    #[command(aliases = ["web", "quickstart"])]
    Serve(Box<crate::server::Serve>),
    /// Run a server of its own on this machine, with a pipeline that goes green by itself
    Demo(Box<demo::Demo>),
    /// Say what this host isolates and what not, and find what lies around
    Doctor(Box<doctor::Doctor>),
    /// Images from files, for servers without a way to a registry
    Image(image::Image),
    /// Users who sign in with a password: add, remove, list; also while the server runs
    User(user::User),
    /// Check pipelines and tasks without a server, in Concourse's words
    Validate(validate::Validate),
    /// Print a pipeline in its canonical form, or write it back
    Format(format::Format),
    /// Print the JSON Schema of pipelines or tasks, for editors
    Schema(schema::Schema),
    /// The client: every command of fly (also when this program is called fly), and sessions, end-session,
    /// service-accounts, create-service-account, remove-service-account and audit
    Fly(Rest),
    /// Secrets of your team: add, rm, ls, get, explain, uses, and what to do when one leaked
    Secrets(Rest),
}

#[derive(Debug, Args)]
struct Rest {
    /// The command and its flags; see `whistlestop fly --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

impl Command {
    /// Runs a command that needs no more than its own flags.
    fn run(self) -> anyhow::Result<i32> {
        match self {
            Command::Validate(validate) => validate.run(),
            Command::Format(format) => format.run(),
            Command::Schema(schema) => schema.run(),
            Command::Image(image) => image::run(image).map(|()| 0),
            Command::User(user) => user::run(&user).map(|()| 0),
            Command::Serve(_) | Command::Demo(_) | Command::Doctor(_) | Command::Secrets(_) | Command::Fly(_) => Ok(0),
        }
    }
}

/// Commands that also know what becomes of Concourse's flags.
const SERVING: &[&str] = &["serve", "web", "quickstart", "doctor"];

/// Runs the program with these arguments and gives its exit status.
pub fn main(mut args: Vec<OsString>) -> i32 {
    if args.first().is_some_and(|name| is_fly(Path::new(name))) {
        return fly::main(args);
    }
    if let Some(args) = of_secrets(&args) {
        return fly::secrets::main(&args);
    }
    if args.get(1).is_some_and(|word| word == "fly") {
        args.remove(0);
        args[0] = format!("{} fly", program::name()).into();
        return fly::main(args);
    }
    let mut dropped = Vec::new();
    if args.get(1).and_then(|word| word.to_str()).is_some_and(|word| SERVING.contains(&word)) {
        match crate::server::foreign_flags::translate(&args.split_off(2), crate::server::config::is_own) {
            Ok(translated) => {
                args.extend(translated.args);
                dropped = translated.dropped;
            }
            Err(error) => {
                said::complain(&format!("error: {error}"));
                return 2;
            }
        }
    }
    let matches = match Cli::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Nobody reads any more where this fails.
            let _ = error.print();
            return error.exit_code();
        }
    };
    let result = match matches.subcommand() {
        Some(("doctor", matches)) => doctor::run(matches),
        Some(("serve", matches)) => serve::run(matches, &dropped).map(|()| 0),
        Some(("demo", matches)) => demo::run(matches).map(|()| 0),
        _ => Cli::from_arg_matches(&matches).map_err(Into::into).and_then(|cli| cli.command.run()),
    };
    match result {
        Ok(status) => status,
        Err(error) => said::failure(&error),
    }
}

/// Whether the program was called under the client's name; people keep several of them, as `fly-8.2` or `fly2`.
fn is_fly(program: &Path) -> bool {
    let rest = program.file_name().and_then(|name| name.to_str()?.strip_prefix("fly"));
    rest.is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
}

/// The arguments of `secrets`, where they are for it: `whistlestop secrets …`, or `gds cd secrets …` under the name of an
/// older tool.
fn of_secrets(args: &[OsString]) -> Option<Vec<OsString>> {
    let name = args.first()?;
    let is = |at: usize, word: &str| args.get(at).is_some_and(|a| a == word);
    let rest = if Path::new(name).file_name().is_some_and(|n| n == "gds") {
        (is(1, "cd") && is(2, "secrets")).then_some(3)?
    } else {
        is(1, "secrets").then_some(2)?
    };
    let called = args[..rest].join(" ".as_ref());
    Some(std::iter::once(called).chain(args[rest..].iter().cloned()).collect())
}

/// A runtime for as many threads as there are processors, with small stacks: most of them wait.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    give_memory_back();
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("whistlestop").build()?)
}

/// What was needed once, such as for a large pipeline, goes back to the host: the allocator would keep it, in a pool for
/// each thread, and a server that idles would seem to need it.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [(libc::M_ARENA_MAX, 2), (libc::M_TRIM_THRESHOLD, 128 * 1024), (libc::M_TOP_PAD, 0)] {
        // SAFETY: sets a number of the allocator; no other thread runs yet.
        unsafe { libc::mallopt(option, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_client_under_the_clients_names() {
        for (program, fly) in [
            ("fly", true),
            ("/usr/local/bin/fly", true),
            ("fly-8.2.5", true),
            ("/tmp/fly1440637863", true),
            ("fly.old", true),
            ("whistlestop", false),
            ("/opt/fly/whistlestop", false),
            ("flying", false),
        ] {
            assert_eq!(is_fly(Path::new(program)), fly, "{program}");
        }
    }
}
