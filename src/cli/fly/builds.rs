//! `builds`: builds of everything, of teams, of a pipeline or of a job.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::client::{ApiError, Call, Found};
use super::failure::{Failure, Outcome};
use super::number::integer;
use super::reference::{JobRef, PipelineRef};
use super::shapes::{Build, TeamInfo};
use super::table::{Cell, Table};
use super::team::{Page, Team, list};
use super::{Fly, Session, local, printed};
use crate::base::duration;

/// Arguments of `builds`.
#[derive(Debug, Clone, clap::Args)]
pub struct Builds {
    /// Show builds for the all teams that user has access to
    #[arg(short, long)]
    all_teams: bool,
    /// Number of builds you want to limit the return to
    #[arg(short, long, default_value_t = 50, value_parser = integer)]
    count: i64,
    /// Show builds for the currently targeted team
    #[arg(long)]
    current_team: bool,
    /// Name of a job to get builds for
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: Option<JobRef>,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
    /// Name of a pipeline to get builds for
    #[arg(short, long)]
    pipeline: Option<PipelineRef>,
    /// Show builds for these teams
    #[arg(short = 'n', long)]
    team: Vec<String>,
    /// Start of the range to filter builds, as 'yyyy-mm-dd HH:mm:ss'
    #[arg(long)]
    since: Option<String>,
    /// End of the range to filter builds, as 'yyyy-mm-dd HH:mm:ss'
    #[arg(long)]
    until: Option<String>,
}

impl Builds {
    /// Lists them, newest first.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let page = self.page()?;
        self.pipeline.as_ref().map_or(Ok(()), PipelineRef::named)?;
        let mut raw: Vec<Value> = Vec::new();
        let teams = self.teams(&session).await?;
        if teams.is_empty() {
            raw.extend(self.fetch(&session, None, &page).await?);
        }
        for team in &teams {
            raw.extend(self.fetch(&session, Some(team), &page).await?);
        }
        if self.json {
            return fly.json_of(printed::BUILD, &Value::Array(raw));
        }
        let builds: Vec<Build> = serde_json::from_value(Value::Array(raw)).map_err(ApiError::from)?;
        let now = fly.clock.now().unix();
        if self.count < 0 {
            return fly.refuse_count(self.count);
        }
        let mut table = Table::new(["id", "name", "status", "start", "end", "duration", "team", "created by"]);
        for build in builds.into_iter().take(usize::try_from(self.count).unwrap_or(0)) {
            table.push(row(build, now));
        }
        fly.table(&table)
    }

    fn page(&self) -> Result<Page, Failure> {
        let given = |time: &'_ Option<String>| time.clone().filter(|t| !t.is_empty());
        let since = given(&self.since).as_deref().map(|t| moment(t, "Since")).transpose()?;
        let until = given(&self.until).as_deref().map(|t| moment(t, "Until")).transpose()?;
        let refuse = |text: &str| Err(Failure::said(text));
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            return refuse("Cannot have --since after --until");
        }
        if self.pipeline.is_some() && self.job.is_some() {
            return refuse("Cannot specify both --pipeline and --job");
        }
        if self.current_team && self.all_teams {
            return refuse("Cannot specify both --all-teams and --current-team");
        }
        if !self.team.is_empty() && self.all_teams {
            return refuse("Cannot specify both --all-teams and --team");
        }
        let timestamps = since.is_some() || until.is_some();
        Ok(Page { from: since, to: until, limit: Some(self.count), timestamps })
    }

    async fn teams<'a>(&self, session: &'a Session) -> Result<Vec<Team<'a>>, Failure> {
        if self.all_teams {
            let teams: Vec<TeamInfo> = list(session.client.get(&["teams"])).await?;
            return Ok(teams.iter().map(|t| session.team_named(&t.name)).collect());
        }
        let current = self.current_team.then(|| session.own_team());
        Ok(current.into_iter().chain(self.team.iter().map(|name| session.team_named(name))).collect())
    }

    async fn fetch(&self, session: &Session, team: Option<&Team<'_>>, page: &Page) -> Result<Vec<Value>, Failure> {
        let own = session.own_team();
        let of = team.unwrap_or(&own);
        let (call, what): (Call<'_>, _) = match (&self.pipeline, &self.job, team) {
            (Some(pipeline), ..) => (of.on_pipeline(Method::GET, pipeline, &["builds"]), Some("pipeline not found")),
            (_, Some(job), _) => (of.on_job(Method::GET, job, &["builds"]), Some("pipeline/job not found")),
            (_, _, Some(team)) => (team.call(Method::GET, &["builds"]), None),
            _ => (session.client.get(&["builds"]), None),
        };
        let builds = list(page.on(call)).await;
        match what {
            None => Ok(builds?),
            Some(what) => builds.found()?.ok_or_else(|| Failure::bare(what).see("pipelines")),
        }
    }
}

/// Reads a local time.
fn moment(text: &str, which: &str) -> Result<i64, Failure> {
    let wrong = || Failure::said(format!("{which} time should be in the format: 2006-01-02 15:04:05"));
    let at = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text).map_err(|_| wrong())?;
    let at = at.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| wrong())?;
    Ok(at.timestamp().as_second())
}

fn row(build: Build, now: i64) -> Vec<Cell> {
    let show = |unix: i64| match unix {
        0 => "n/a".to_owned(),
        unix => local(unix).strftime("%Y-%m-%d@%H:%M:%S%z").to_string(),
    };
    vec![
        Cell::from(build.id),
        Cell::from(build.path()),
        Cell::status(&build.status),
        Cell::from(show(build.start_time)),
        Cell::from(show(build.end_time)),
        Cell::from(lasted(build.start_time, build.end_time, now)),
        Cell::from(build.team_name),
        Cell::from(build.created_by.unwrap_or_else(|| "system".to_owned())),
    ]
}

fn lasted(start: i64, end: i64, now: i64) -> String {
    let between = |end: i64| duration::format(Duration::from_secs(u64::try_from(end - start).unwrap_or(0)));
    match (start, end) {
        (0, _) => "n/a".to_owned(),
        (_, 0) => format!("{}+", between(now)),
        (_, end) => between(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_lasts_until_it_ends_or_now() {
        for (start, end, text) in [(0, 0, "n/a"), (10, 0, "1m30s+"), (10, 13, "3s"), (10, 3611, "1h0m1s")] {
            assert_eq!(lasted(start, end, 100), text);
        }
    }
}
