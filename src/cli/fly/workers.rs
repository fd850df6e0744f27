//! `workers`, `land-worker`, `prune-worker`.

use reqwest::StatusCode;
use serde_json::Value;

use super::client::{ApiError, Status};
use super::console::Style;
use super::failure::{Failure, Outcome};
use super::shapes::Worker;
use super::table::{Cell, Table};
use super::{Fly, printed, team};

/// Arguments of `workers`.
#[derive(Debug, Clone, clap::Args)]
pub struct List {
    /// Print additional information for each worker
    #[arg(short, long)]
    details: bool,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
}

impl List {
    /// Lists those that run, then the outdated, then the stalled.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let answer: Value = session.client.get(&["workers"]).fetch().await?;
        if self.json {
            return fly.json_of(printed::WORKER, &answer);
        }
        let workers: Option<Vec<Worker>> = serde_json::from_value(answer).map_err(ApiError::from)?;
        let mut workers = workers.unwrap_or_default();
        workers.sort_by(|a, b| a.name.cmp(&b.name));
        let required = &session.info().await?.worker_version;
        let (stalled, live): (Vec<_>, Vec<_>) = workers.into_iter().partition(|w| w.state == "stalled");
        let (running, outdated): (Vec<_>, Vec<_>) = live.into_iter().partition(|w| fits(&w.version, required));
        let now = fly.clock.now().unix();
        let table = |parts: &[(&[Worker], bool)]| {
            let mut table = self.table();
            for (workers, outdated) in parts {
                workers.iter().for_each(|w| table.push(self.row(w, *outdated, now)));
            }
            table
        };
        if !fly.console.is_terminal() {
            return fly.table(&table(&[(&running, false), (&outdated, true), (&stalled, false)]));
        }
        fly.table(&table(&[(&running, false)]))?;
        if !outdated.is_empty() {
            let version = fly.console.bold(required);
            fly.console.say(format!("\n\nthe following workers need to be updated to version {version}:\n"))?;
            fly.table(&table(&[(&outdated, true)]))?;
        }
        if !stalled.is_empty() {
            fly.console.say("\n\nthe following workers have not checked in recently:\n")?;
            fly.table(&table(&[(&stalled, false)]))?;
            let command = fly.console.bold(&format!("fly -t {} prune-worker -w (name)", session.name));
            fly.console.say(format!("\nthese stalled workers can be cleaned up by running:\n\n    {command}\n"))?;
        }
        Ok(0)
    }

    fn table(&self) -> Table {
        let mut headers = vec!["name", "containers", "platform", "tags", "team", "state", "version", "age"];
        if self.details {
            headers.extend(["garden address", "baggageclaim url", "active tasks", "resource types"]);
        }
        Table::new(headers)
    }

    fn row(&self, worker: &Worker, outdated: bool, now: i64) -> Vec<Cell> {
        let version = match (worker.version.as_str(), outdated) {
            ("", true) => Cell::styled("none", Style::Red),
            (version, true) => Cell::styled(version, Style::Red),
            (version, false) => Cell::or_none(version),
        };
        let mut row = vec![
            Cell::from(worker.name.as_str()),
            Cell::from(worker.active_containers),
            Cell::from(worker.platform.as_str()),
            Cell::or_none(worker.tags.join(", ")),
            Cell::or_none(worker.team.as_str()),
            Cell::from(worker.state.as_str()),
            version,
            age(worker.start_time, now),
        ];
        if self.details {
            let kinds: Vec<&str> = worker.resource_types.iter().map(|t| t.kind.as_str()).collect();
            row.extend([
                Cell::or_none(worker.addr.as_str()),
                Cell::or_none(worker.baggageclaim_url.as_str()),
                Cell::from(worker.active_tasks),
                Cell::or_none(kinds.join(", ")),
            ]);
        }
        row
    }
}

/// Whether a worker's version is one the server works with: the same major, and no older minor.
fn fits(version: &str, required: &str) -> bool {
    let parts = |v: &str| -> Option<(u64, u64)> {
        let mut numbers = v.split('.').map(|n| n.parse().ok());
        Some((numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    };
    match (parts(version), parts(required)) {
        (_, None) => true,
        (None, _) => false,
        (Some((major, minor)), Some((wanted, at_least))) => major == wanted && minor >= at_least,
    }
}

fn age(start: i64, now: i64) -> Cell {
    let seconds = now - start;
    if start <= 0 || seconds < 0 {
        return Cell::styled("n/a", Style::Faint);
    }
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600, seconds / 60);
    Cell::from(match (days, hours, minutes) {
        (1.., ..) => format!("{days}d"),
        (_, 1.., _) => format!("{hours}h{}m", minutes % 60),
        (_, _, 1..) => format!("{minutes}m{}s", seconds % 60),
        _ => format!("{seconds}s"),
    })
}

/// Arguments of `land-worker`.
#[derive(Debug, Clone, clap::Args)]
pub struct Land {
    /// Worker to land
    #[arg(short, long)]
    worker: String,
}

impl Land {
    /// Lets it finish what it has and take nothing new.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        session.client.put(&["workers", &self.worker, "land"]).done().await.map_err(missing)?;
        fly.say(format!("landed '{}'", self.worker))
    }
}

/// A worker that is not there, and where those are that are.
fn missing(error: ApiError) -> Failure {
    match error {
        error @ ApiError::NotFound(_) => Failure::from(error).see("workers"),
        error => error.into(),
    }
}

/// Arguments of `prune-worker`.
#[derive(Debug, Clone, clap::Args)]
pub struct Prune {
    /// Worker to prune
    #[arg(short, long)]
    worker: Option<String>,
    /// Prune all stalled workers
    #[arg(short, long)]
    all_stalled: bool,
}

impl Prune {
    /// Forgets workers that are gone.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let worker = self.worker.filter(|w| !w.is_empty());
        if worker.is_none() && !self.all_stalled {
            return Err(Failure::bare("Either a worker name or --all-stalled are required"));
        }
        let session = fly.session().await?;
        let mut names: Vec<String> = worker.into_iter().collect();
        if self.all_stalled {
            let workers: Vec<Worker> = team::list(session.client.get(&["workers"])).await?;
            names.extend(workers.into_iter().filter(|w| w.state == "stalled").map(|w| w.name));
            if names.is_empty() {
                fly.console.print(fly.console.paint(Style::Red, "WARNING: No stalled workers found.\n"))?;
            }
        }
        for name in names {
            match session.client.put(&["workers", &name, "prune"]).done().await {
                Err(ApiError::Unexpected { status: Status(StatusCode::BAD_REQUEST), body }) => {
                    let answer: Value = serde_json::from_str(&body).map_err(ApiError::from)?;
                    return Err(Failure::said(answer["stderr"].as_str().unwrap_or_default()));
                }
                other => other.map_err(missing)?,
            }
            fly.console.say(format!("pruned '{name}'"))?;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_fits_with_the_same_major_and_no_older_minor() {
        for (version, fit) in [("2.5", true), ("2.6", true), ("2.4", false), ("3.5", false), ("", false)] {
            assert_eq!(fits(version, "2.5"), fit, "{version}");
        }
        assert!(fits("", ""));
    }

    #[test]
    fn ages_have_two_units() {
        let shown = |seconds: i64| {
            let mut table = Table::new(["age"]);
            table.push(vec![age(1, 1 + seconds)]);
            table.render(false, false)
        };
        let ages: Vec<String> = [5, 608, 7260, 90000].into_iter().map(shown).collect();
        assert_eq!(ages, ["5s\n", "10m8s\n", "2h1m\n", "1d\n"]);
    }
}
