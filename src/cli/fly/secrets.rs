//! `whistlestop secrets …`: a team's secrets over the server's API, so that members need no rights of their own where
//! they are kept.
//!
//! Three spellings of `add` and `rm` are understood: `-t TARGET add [PIPELINE/]NAME VALUE`, and those of an older tool,
//! `add PIPELINE/NAME VALUE` with one saved target and `add TARGET PIPELINE/NAME VALUE`.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Answer, ApiError, Call};
use super::console::{Console, Style};
use super::failure::{Failure, Outcome};
use super::prompt;
use super::table::{Cell, Table};
use super::target::Targets;
use super::{Fly, Session, go_time};
use crate::base::clock::System;
use crate::base::secret::Secret;
use crate::cli::said;

/// Secrets of your team, as its members use them.
#[derive(Debug, Parser)]
#[command(name = "secrets", about)]
struct Cli {
    /// Saved target of fly [default: the only one there is]
    #[arg(short, long, global = true, value_name = "TARGET")]
    target: Option<String>,
    /// Team, if different from the target's
    #[arg(long, global = true, value_name = "TEAM")]
    team: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set a secret: [PIPELINE/]NAME [VALUE]; without VALUE it is asked for, or read from a pipe
    Add {
        /// [TARGET] [PIPELINE/]NAME [VALUE]
        #[arg(required = true, num_args = 1..=3, value_name = "NAME VALUE", allow_hyphen_values = true)]
        words: Vec<String>,
        /// Read the value from a file
        #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
        file: Option<PathBuf>,
        /// Read the value from standard input
        #[arg(long)]
        stdin: bool,
    },
    /// Remove a secret
    Rm {
        /// [TARGET] [PIPELINE/]NAME
        #[arg(required = true, num_args = 1..=2, value_name = "NAME")]
        words: Vec<String>,
    },
    /// List secrets: names, age, who wrote them, when they were last used; never values
    Ls {
        /// Only those of one pipeline
        #[arg(value_name = "PIPELINE")]
        pipeline: Option<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a secret's value, where the operator allows it
    Get {
        /// [TARGET] [PIPELINE/]NAME
        #[arg(required = true, num_args = 1..=2, value_name = "NAME")]
        words: Vec<String>,
    },
    /// Show where a variable is looked for, in which order, and which place has it
    Explain {
        /// [PIPELINE/]NAME, with SOURCE: before the name for a var_source
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// List the builds that were given a secret, by its name or path
    Uses {
        /// As written in the pipeline, or the whole path
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Take what leaked out of one build's log: the build's own secrets, and texts that are asked for
    RedactLog {
        /// The build's number, as in its address (/builds/NUMBER)
        #[arg(value_name = "BUILD")]
        build: u64,
        /// Read further texts to take out from standard input, one a line
        #[arg(long)]
        stdin: bool,
    },
    /// Remove one build's log
    DeleteLog {
        /// The build's number, as in its address (/builds/NUMBER)
        #[arg(value_name = "BUILD")]
        build: u64,
    },
    /// Show which secrets a build was given, and who can read its log
    WhoSaw {
        /// The build's number, as in its address (/builds/NUMBER)
        #[arg(value_name = "BUILD")]
        build: u64,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Give the team's own user a new password (owners)
    RotateUser,
    /// Seal everything with a new key (administrators)
    RotateKey,
}

/// Runs `secrets` with these arguments, the name of the program first, and tells the exit code.
pub fn main(args: &[OsString]) -> i32 {
    let console = Console::of_process();
    let matches = match Cli::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Nobody reads any more where this fails.
            let _ = error.print();
            return error.exit_code();
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => {
            said::complain(&format!("error: {error}"));
            return 1;
        }
    };
    let program = args.first().map_or("whistlestop secrets".into(), |a| a.to_string_lossy()).into_owned();
    let clock = Arc::new(System);
    let fly = Fly { target: cli.target.clone(), verbose: false, headers: false, console, program, clock };
    super::block_on(run(cli, &fly), &fly)
}

/// Words of `add`, `rm` and `get`: an older tool puts the target first.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    target: Option<String>,
    name: String,
    value: Option<String>,
}

/// Sorts the words out. `saved` are the names of saved targets; `values`: a value may follow the name.
fn sorted(words: Vec<String>, target_given: bool, saved: &[String], values: bool) -> Result<Words, String> {
    let mut words = words;
    let most = usize::from(values) + 1;
    let first_is_target = !target_given && (words.len() > most || words.len() == 2 && saved.contains(&words[0]));
    let target = first_is_target.then(|| words.remove(0));
    if words.len() > most {
        return Err("too many words: put a value with spaces in quotes".to_owned());
    }
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_default();
    Ok(Words { target, name, value: words.next() })
}

/// `PIPELINE/NAME`, or a name of the whole team.
fn place(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("", name))
}

async fn run(cli: Cli, fly: &Fly) -> Outcome {
    let saved: Vec<String> = Targets::load().map(|t| t.saved.keys().cloned().collect()).unwrap_or_default();
    let given = cli.target.is_some();
    let sorted = |words, values| sorted(words, given, &saved, values).map_err(Failure::said);
    let team = cli.team.as_deref();
    match cli.command {
        Command::Add { words, file, stdin } => {
            let words = sorted(words, true)?;
            let (session, team) = connect(fly, words.target, &saved, team).await?;
            let value = value(&words.name, words.value, file, stdin)?;
            add(fly, &session, &team, &words.name, &value).await
        }
        Command::Rm { words } => {
            let words = sorted(words, false)?;
            let (session, team) = connect(fly, words.target, &saved, team).await?;
            remove(fly, &session, &team, &words.name).await
        }
        Command::Get { words } => {
            let words = sorted(words, false)?;
            let (session, team) = connect(fly, words.target, &saved, team).await?;
            let (pipeline, name) = place(&words.name);
            let call = session.client.get(&["teams", &team, "secrets", "value"]);
            let answer: Value = read(call.query("pipeline", pipeline).query("name", name), &words.name).await?;
            match &answer["value"] {
                Value::String(text) => fly.say(text),
                other => fly.json(other),
            }
        }
        Command::Ls { pipeline, json } => {
            let (session, team) = connect(fly, None, &saved, team).await?;
            list(fly, &session, &team, pipeline.as_deref().unwrap_or_default(), json).await
        }
        Command::Explain { name } => {
            let (session, team) = connect(fly, None, &saved, team).await?;
            explain(fly, &session, &team, &name).await
        }
        Command::Uses { name } => {
            let (session, team) = connect(fly, None, &saved, team).await?;
            uses(fly, &session, &team, &name).await
        }
        Command::RedactLog { build, stdin } => {
            let (session, _) = connect(fly, None, &saved, team).await?;
            redact(fly, &session, build, stdin).await
        }
        Command::DeleteLog { build } => {
            let (session, _) = connect(fly, None, &saved, team).await?;
            let call = session.client.call(Method::DELETE, &["builds", &build.to_string(), "log"]);
            done(call, &format!("build {build}")).await?;
            fly.say(format!("the log of build {build} is removed"))
        }
        Command::WhoSaw { build, json } => {
            let (session, _) = connect(fly, None, &saved, team).await?;
            let call = session.client.get(&["builds", &build.to_string(), "secrets"]);
            let answer = read(call, &format!("build {build}")).await?;
            if json { fly.json(&answer) } else { who_saw(fly, build, &answer) }
        }
        Command::RotateUser => {
            let (session, team) = connect(fly, None, &saved, team).await?;
            done(session.client.put(&["teams", &team, "secrets", "user"]), &team).await?;
            fly.say(format!(
                "the user of team {team} has a new password; builds read it as ((readonly_local_user_password))"
            ))
        }
        Command::RotateKey => {
            let (session, _) = connect(fly, None, &saved, team).await?;
            let answer: Value = read(session.client.put(&["secrets-key"]), "secrets-key").await?;
            fly.say(format!("{} secrets are sealed with the new key {}", answer["sealed"], answer["key"]))
        }
    }
}

/// The target that is meant, and the team.
async fn connect(
    fly: &Fly,
    target: Option<String>,
    saved: &[String],
    team: Option<&str>,
) -> Result<(Session, String), Failure> {
    let name = match (fly.target.clone().or(target), saved) {
        (Some(name), _) => name,
        (None, [only]) => only.clone(),
        (None, []) => return Err(Failure::said("no target is saved: log in first, with fly -t NAME login -c URL")),
        (None, several) => {
            return Err(Failure::said(format!("which target? add -t NAME; there are {}", several.join(", "))));
        }
    };
    let targets = Targets::load()?;
    let session = fly.connect(&name, targets.get(&name)?.clone())?;
    let team = team.map_or_else(|| session.target.team.clone(), str::to_owned);
    Ok((session, team))
}

/// The value: given, from a file, from a pipe, or asked for without showing it.
fn value(name: &str, given: Option<String>, file: Option<PathBuf>, stdin: bool) -> Result<Secret<String>, Failure> {
    let text = match (given, file) {
        (Some(_), Some(_)) => return Err(Failure::said("give the value or --file, not both")),
        (None, Some(file)) => {
            std::fs::read_to_string(&file).map_err(|e| Failure::said(format!("cannot read {}: {e}", file.display())))?
        }
        (Some(text), None) if text != "-" => return Ok(Secret::new(text)),
        (_, None) if stdin || !std::io::stdin().is_terminal() => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        _ => prompt::hidden(&format!("value of {name}"))?,
    };
    // The newline that editors and echo put at the end is no part of a value of one line.
    let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
    Ok(Secret::new(if trimmed.contains('\n') { text } else { trimmed.to_owned() }))
}

/// A failure in the server's own words, which say what to do.
fn refused(answer: Answer, what: &str) -> Failure {
    let text = answer.text().trim().to_owned();
    match answer.status {
        StatusCode::UNAUTHORIZED => Failure::Api(ApiError::Unauthorized),
        StatusCode::NOT_FOUND if text.is_empty() => Failure::said(format!("{what} is not there")),
        StatusCode::FORBIDDEN if text == "forbidden" => {
            Failure::said("you are not allowed to: secrets are for members and owners of a team")
        }
        _ if !text.is_empty() => Failure::said(text),
        _ => Failure::Api(answer.unexpected()),
    }
}

async fn done(call: Call<'_>, what: &str) -> Result<Answer, Failure> {
    let answer = call.send().await?;
    if answer.status.is_success() { Ok(answer) } else { Err(refused(answer, what)) }
}

async fn read(call: Call<'_>, what: &str) -> Result<Value, Failure> {
    let answer = done(call, what).await?;
    Ok(serde_json::from_slice(&answer.body).map_err(ApiError::from)?)
}

async fn add(fly: &Fly, session: &Session, team: &str, whole: &str, value: &Secret<String>) -> Outcome {
    let (pipeline, name) = place(whole);
    let call = session.client.put(&["teams", team, "secrets"]).query("pipeline", pipeline).query("name", name);
    let answer = read(call.json(&json!({"value": value.expose()})), whole).await?;
    let path = answer["path"].as_str().unwrap_or(whole);
    fly.say(format!("set {path} in {}", answer["source"].as_str().unwrap_or_default()))
}

async fn remove(fly: &Fly, session: &Session, team: &str, whole: &str) -> Outcome {
    let (pipeline, name) = place(whole);
    let call = session.client.call(Method::DELETE, &["teams", team, "secrets"]);
    done(call.query("pipeline", pipeline).query("name", name), whole).await?;
    fly.say(format!("removed {whole}"))
}

async fn list(fly: &Fly, session: &Session, team: &str, pipeline: &str, json: bool) -> Outcome {
    let call = session.client.get(&["teams", team, "secrets"]).query("pipeline", pipeline);
    let all = read(call, team).await?;
    if json {
        return fly.json(&all);
    }
    let mut table = Table::new(["name", "changed", "by", "last used"]);
    for row in all.as_array().into_iter().flatten() {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let time = |key: &str| Cell::or_none(go_time(row[key].as_i64().unwrap_or_default()));
        let pipeline = text("pipeline");
        let name = if pipeline.is_empty() { text("name") } else { format!("{pipeline}/{}", text("name")) };
        table.push(vec![name.into(), time("changed_at"), Cell::or_none(text("changed_by")), time("last_used")]);
    }
    fly.table(&table)
}

async fn explain(fly: &Fly, session: &Session, team: &str, whole: &str) -> Outcome {
    let (pipeline, name) = place(whole);
    let call = session.client.get(&["teams", team, "secrets", "explain"]);
    let answer = read(call.query("pipeline", pipeline).query("name", name), whole).await?;
    let mut first = true;
    for tried in answer["tried"].as_array().into_iter().flatten() {
        let (source, path) = (tried["source"].as_str().unwrap_or_default(), tried["path"].as_str().unwrap_or_default());
        let (mark, style) = match tried["found"].as_bool().unwrap_or_default() {
            true if std::mem::take(&mut first) => ("used", Style::Green),
            true => ("hidden", Style::Yellow),
            false => ("absent", Style::Red),
        };
        fly.console.say(format!("{}  {path} in {source}", fly.console.paint(style, &format!("{mark:7}"))))?;
    }
    match answer["problem"].as_str() {
        Some(problem) if !problem.is_empty() => Err(Failure::said(problem)),
        _ if first => Err(Failure::said(format!("nobody knows (({name}))"))),
        _ => Ok(0),
    }
}

async fn uses(fly: &Fly, session: &Session, team: &str, name: &str) -> Outcome {
    let all = read(session.client.get(&["teams", team, "secrets", "uses"]).query("name", name), name).await?;
    let mut table = Table::new(["build", "of", "path", "at"]);
    for row in all.as_array().into_iter().flatten() {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let of = [text("pipeline"), text("job"), text("build_name")]
            .iter()
            .filter(|t| !t.is_empty())
            .copied()
            .collect::<Vec<_>>();
        let at = go_time(row["at"].as_i64().unwrap_or_default());
        table.push(vec![row["build"].to_string().into(), of.join("/").into(), text("path").into(), at.into()]);
    }
    fly.table(&table)
}

/// What a build was given, and who could have read it.
fn who_saw(fly: &Fly, build: u64, answer: &Value) -> Outcome {
    let say = |text: String| fly.console.say(text);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (secrets, readers) = (list(&answer["secrets"]), &answer["readers"]);
    match secrets.is_empty() {
        true => say(format!("build {build} was given no secret"))?,
        false => say(format!("build {build} was given:"))?,
    }
    for secret in secrets {
        let text = |key: &str| secret[key].as_str().unwrap_or_default().to_owned();
        say(format!("  {}  {}", text("name"), text("path")))?;
    }
    if readers["everybody"] == true {
        say("everybody can read its log: the pipeline is exposed and its job public".to_owned())?;
    }
    say("its log can be read by:".to_owned())?;
    for (what, teams) in [("", &readers["members"]), ("administrators in ", &readers["administrators"])] {
        for team in list(teams) {
            if team["auth"].is_null() {
                // Who they are is told to administrators only.
                say(format!("  {what}team {}", team["team"].as_str().unwrap_or_default()))?;
            }
            for (role, who) in team["auth"].as_object().into_iter().flatten() {
                let names = [list(&who["users"]), list(&who["groups"])].concat();
                let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                if what.is_empty() || role == "owner" {
                    let team = team["team"].as_str().unwrap_or_default();
                    say(format!("  {what}team {team}, {role}: {}", names.join(", ")))?;
                }
            }
        }
    }
    say("of them were here:".to_owned())?;
    let mut table = Table::new(["name", "by", "role", "last seen"]);
    for person in list(&readers["people"]) {
        let text = |key: &str| person[key].as_str().unwrap_or_default().to_owned();
        let seen = go_time(person["last_seen"].as_i64().unwrap_or_default());
        table.push(vec![text("name").into(), text("connector").into(), text("role").into(), seen.into()]);
    }
    fly.table(&table)
}

async fn redact(fly: &Fly, session: &Session, build: u64, stdin: bool) -> Outcome {
    let mut texts = Vec::new();
    if stdin || !std::io::stdin().is_terminal() {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        texts.extend(text.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned));
    } else {
        std::io::stdout().flush()?;
        texts.extend(
            Some(prompt::hidden("text to take out (nothing for the build's own secrets only)")?)
                .filter(|t| !t.is_empty()),
        );
    }
    let call = session.client.put(&["builds", &build.to_string(), "log"]).json(&json!({"texts": texts}));
    let answer = read(call, &format!("build {build}")).await?;
    fly.say(format!("{} events of build {build} were changed", answer["events"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_understood() {
        let saved = ["cd-team".to_owned(), "other".to_owned()];
        let read = |words: &[&str], given, values| {
            let words = words.iter().map(|w| (*w).to_owned()).collect();
            sorted(words, given, &saved, values).map(|w| (w.target, w.name, w.value))
        };
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(read(&["p/n", "v"], true, true), Ok((None, "p/n".into(), some("v"))));
        assert_eq!(read(&["p/n", "v"], false, true), Ok((None, "p/n".into(), some("v"))));
        assert_eq!(read(&["cd-team", "p/n", "v"], false, true), Ok((some("cd-team"), "p/n".into(), some("v"))));
        assert_eq!(read(&["cd-team", "p/n"], false, true), Ok((some("cd-team"), "p/n".into(), None)));
        assert_eq!(read(&["n"], true, true), Ok((None, "n".into(), None)));
        assert_eq!(read(&["cd-team", "p/n"], false, false), Ok((some("cd-team"), "p/n".into(), None)));
        assert_eq!(read(&["p/n"], false, false), Ok((None, "p/n".into(), None)));
        assert!(read(&["n", "v", "w"], true, true).is_err());
        assert_eq!((place("p/a/b"), place("n")), (("p", "a/b"), ("", "n")));
    }

    #[test]
    fn the_command_line_reads() {
        Cli::command().debug_assert();
        for line in [
            "secrets -t x --team y add p/n v",
            "secrets add -t x n --file f",
            "secrets add n -----BEGIN",
            "secrets ls -t x p",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap();
        }
    }
}
