//! `whistlestop doctor`: looks at the host and at what lies around, says what follows and what to do, and clears away.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use anyhow::Context;
use clap::{ArgMatches, Args, FromArgMatches};

use super::said;
use crate::base::clock::Clock;
use crate::engine::usage::{self, Usage};
use crate::runtime;
use crate::runtime::network::Doors;
use crate::runtime::stray::{Known, Stray};
use crate::server::Serve;
use crate::server::config::RuntimeChoice;
use crate::server::doctor::{self, Finding, Level};
use crate::server::lock::RoleLock;
use crate::server::runtimes::Both;
use crate::store::Store;

/// Say what this host isolates and what not, and find what lies around
///
/// Takes the flags of `serve` as well: give it those that the server has. Ends with status 1 if something is wrong that keeps steps from running, or if something lies around that --fix would remove.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Remove what lies around of this installation and belongs to nothing; nothing of others
    #[arg(long)]
    fix: bool,
    /// Say what is kept because it may be used again: fetched versions and task caches, the last used first, with whose it is and the room it takes
    #[arg(long)]
    usage: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: Serve,
}

/// What was found.
#[derive(serde::Serialize)]
struct Report {
    findings: Vec<Finding>,
    strays: Vec<Stray>,
    /// What became of them.
    removed: usize,
    failed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Vec<Usage>>,
}

/// Looks, and says so; the exit status.
pub fn run(matches: &ArgMatches) -> anyhow::Result<i32> {
    let doctor = Doctor::from_arg_matches(matches)?;
    let serve = Serve::complete(matches, |name| std::env::var(name).ok())?;
    let report = super::runtime()?.block_on(look(&serve, doctor.fix, doctor.usage))?;
    let mut out = Vec::new();
    if doctor.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        tell(&mut out, &report, doctor.fix)?;
    }
    said::text(&String::from_utf8_lossy(&out))?;
    let bad = report.findings.iter().any(|f| f.level == Level::Bad);
    let left = !report.failed.is_empty() || (!doctor.fix && !report.strays.is_empty());
    Ok(i32::from(bad || left))
}

async fn look(serve: &Serve, fix: bool, usage: bool) -> anyhow::Result<Report> {
    let mut findings = doctor::of_host(serve);
    // Only what a server has made can have left something: nothing is made by looking.
    let store = match serve.state_dir.join("state.db").exists() {
        true => Some(Store::open(&serve.state_dir).context("cannot open the installation's database")?),
        false => None,
    };
    let scratch = tempfile::tempdir()?;
    let both = match &store {
        Some(store) => Both::of(serve, store, &Doors::default()).await?,
        None => Both::without_state(serve, scratch.path())?,
    };
    if serve.runtime != RuntimeChoice::Embedded {
        findings.extend(doctor::of_docker(&both.docker, true).await);
        if serve.runtime == RuntimeChoice::Docker || both.docker.ping(serve.runtime.patience()).await.is_ok() {
            findings.extend(doctor::of_natives(both.embedded.shortcoming().await.as_deref()));
        }
    }
    if serve.runtime != RuntimeChoice::Docker {
        let served = store.is_some();
        findings.extend(doctor::of_embedded(&both.embedded).await);
        if !served {
            runtime::Runtime::close(&*both.embedded).await;
        }
    }
    let mut report = Report { findings, strays: Vec::new(), removed: 0, failed: Vec::new(), usage: None };
    if let Some(store) = &store {
        strays(serve, store, &both, fix, &mut report).await;
        if usage {
            report.usage = Some(kept(serve, store, &both).await?);
        }
    }
    Ok(report)
}

/// What is kept, wherever that is.
async fn kept(serve: &Serve, store: &Store, both: &Both) -> anyhow::Result<Vec<Usage>> {
    let mut places: Vec<Arc<dyn runtime::Runtime>> = vec![both.embedded.clone()];
    if serve.runtime != RuntimeChoice::Embedded && both.docker.ping(serve.runtime.patience()).await.is_ok() {
        places.push(Arc::new(both.docker.clone()));
    }
    Ok(usage::look(store, &places).await?)
}

async fn strays(serve: &Serve, store: &Store, both: &Both, fix: bool, report: &mut Report) {
    // Taken for as long as this lasts: a server that starts meanwhile waits for us.
    let lock = RoleLock::take(&serve.state_dir, "worker");
    let served = lock.is_err();
    let known = async || {
        let rows = store.read(|tx| Ok((tx.container_handles()?, tx.volume_handles()?))).await;
        let (containers, volumes) = rows.map_err(|e| runtime::Error::Failed(e.to_string()))?;
        Ok(Known { containers: containers.into_iter().collect(), volumes: volumes.into_iter().collect(), served })
    };
    match both.embedded.strays(known).await {
        Ok(found) => {
            for stray in found {
                let removed = if fix { both.embedded.remove_stray(&stray).await } else { Ok(()) };
                report.keep(stray, removed, fix);
            }
        }
        Err(error) => report.failed.push(error.to_string()),
    }
    if serve.runtime != RuntimeChoice::Embedded && both.docker.ping(serve.runtime.patience()).await.is_ok() {
        match both.docker.strays(known).await {
            Ok(found) => {
                for stray in found {
                    let removed = if fix { both.docker.remove_stray(&stray).await } else { Ok(()) };
                    report.keep(stray, removed, fix);
                }
            }
            Err(error) => report.failed.push(error.to_string()),
        }
    }
}

impl Report {
    fn keep(&mut self, stray: Stray, removed: runtime::Result<()>, fix: bool) {
        match removed {
            Ok(()) => self.removed += usize::from(fix),
            Err(error) => self.failed.push(error.to_string()),
        }
        self.strays.push(stray);
    }
}

fn tell(out: &mut impl Write, report: &Report, fix: bool) -> io::Result<()> {
    let colour = io::stdout().is_terminal();
    let paint =
        |code: &str, text: &str| if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() };
    for finding in &report.findings {
        let mark = match finding.level {
            Level::Good => paint("32", "ok  "),
            Level::Note => paint("33", "note"),
            Level::Bad => paint("31", "bad "),
        };
        writeln!(out, "{mark}  {:<20} {}", finding.what, finding.found)?;
        if !finding.follows.is_empty() {
            writeln!(out, "{:26} so: {}", "", finding.follows)?;
        }
        if !finding.remedy.is_empty() {
            writeln!(out, "{:26} do: {}", "", finding.remedy)?;
        }
    }
    for stray in &report.strays {
        let mark = if fix { paint("32", "gone") } else { paint("33", "left") };
        writeln!(out, "{mark}  {:<20} {}: {}", stray.kind, stray.name, stray.why)?;
    }
    if let Some(usage) = &report.usage {
        tell_usage(out, usage)?;
    }
    for text in &report.failed {
        writeln!(out, "{}  {text}", paint("31", "bad "))?;
    }
    match (report.strays.len(), fix) {
        (0, _) => writeln!(out, "nothing of this installation lies around"),
        (n, true) => writeln!(out, "{} of {n} removed", report.removed),
        (n, false) => writeln!(out, "{n} of this installation lie around and belong to nothing; --fix removes them"),
    }
}

fn tell_usage(out: &mut impl Write, usage: &[Usage]) -> io::Result<()> {
    let now = crate::base::clock::System.now();
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / f64::from(1 << 20));
    for kept in usage {
        let ago = crate::base::duration::format(std::time::Duration::from_secs(now.since(kept.last_used).as_secs()));
        let (bytes, team, what) = (megabytes(kept.bytes), &kept.team, &kept.what);
        writeln!(out, "{bytes:>12}  {:<16} {team}: {what}, used {ago} ago", kept.kind)?;
    }
    let all = usage.iter().map(|kept| kept.bytes).sum();
    writeln!(out, "{:>12}  in all is kept to be used again; --max-cache-size bounds it", megabytes(all))
}
