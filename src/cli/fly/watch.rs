//! `watch`: a build's output, named by job and number, by id, or by the address of its page.

use reqwest::Url;

use super::client::{ApiError, Client};
use super::failure::{Failure, Outcome};
use super::reference::{JobRef, PipelineRef};
use super::render::{Options, follow};
use super::shapes::Build;
use super::team::{Page, Team, one_page};
use super::{Fly, Session};

/// Arguments of `watch`.
#[derive(Debug, Clone, clap::Args)]
pub struct Watch {
    /// Concourse target name
    // Declared here because `-t` means something else after this command.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Watches builds of the given job
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: Option<JobRef>,
    /// Watches a specific build
    #[arg(short, long)]
    build: Option<String>,
    /// URL for the build or job to watch
    #[arg(short, long)]
    url: Option<String>,
    /// Print with local timestamp
    #[arg(short, long)]
    timestamps: bool,
    /// Ignore event parsing errors
    #[arg(long)]
    ignore_event_parsing_errors: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl Watch {
    /// Follows the build to its end.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let build = self.build.as_deref().filter(|b| !b.is_empty());
        let id = match (&self.job, build, &self.url) {
            (Some(job), number, _) => build_of(&team, job, number).await?.id,
            (None, Some(id), _) => number(id)?,
            (None, None, Some(url)) => from_url(&session, &team, url).await?,
            (None, None, None) => newest_one_off(&session.client).await?.id,
        };
        let options = Options { timestamps: self.timestamps, ignore_unknown: self.ignore_event_parsing_errors };
        follow(&session.client, fly.console, id, options).await
    }
}

fn number(text: &str) -> Result<i64, Failure> {
    text.parse().map_err(|_| Failure::said(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
}

/// The build of a job with that number, or the one that runs or ended last.
pub async fn build_of(team: &Team<'_>, job: &JobRef, number: Option<&str>) -> Result<Build, Failure> {
    if let Some(number) = number {
        let build = team.job_build(job, number).await.map_err(|e| wrap(e, "failed to get build"))?;
        return build.ok_or_else(|| Failure::said("build not found").see(format!("builds -j {job}")));
    }
    let found = team.job(job).await.map_err(|e| wrap(e, "failed to get job"))?;
    let found = found.ok_or_else(|| Failure::said("job not found").see(format!("jobs -p {}", job.pipeline)))?;
    found.next_build.or(found.finished_build).ok_or_else(|| {
        Failure::said("job has no builds").then(&format!("start one with `{{fly}} trigger-job -j {job}`"))
    })
}

/// The newest build that belongs to no job.
pub async fn newest_one_off(client: &Client) -> Result<Build, Failure> {
    let mut page = Page { limit: Some(100), ..Page::default() };
    loop {
        let (builds, older): (Vec<Build>, _) =
            one_page(page.on(client.get(&["builds"]))).await.map_err(|e| wrap(e, "failed to get builds"))?;
        if let Some(build) = builds.into_iter().find(|b| b.job_name.is_empty()) {
            return Ok(build);
        }
        page.to = older;
        if page.to.is_none() {
            return Err(Failure::said("no builds match job"));
        }
    }
}

fn wrap(error: ApiError, what: &str) -> Failure {
    match error {
        e @ (ApiError::Unauthorized | ApiError::Network { .. }) => e.into(),
        e => Failure::said(format!("{what} {e}")),
    }
}

/// What stands in the path of a page: `teams/x/pipelines/y` as pairs.
pub fn parts_of(url: &Url) -> std::collections::BTreeMap<String, String> {
    let decode = |s: &str| percent_decode(s);
    let segments: Vec<String> = url.path_segments().into_iter().flatten().map(decode).collect();
    segments.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match hex {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The instance that a page's `vars.…` parameters name.
pub fn instance_of(url: &Url) -> Option<serde_json::Map<String, serde_json::Value>> {
    let assignments: Vec<_> = url
        .query_pairs()
        .filter_map(|(name, value)| {
            let yaml = format!("{}={value}", name.strip_prefix("vars.")?);
            super::reference::yaml_assignment(&yaml).ok()
        })
        .collect();
    (!assignments.is_empty()).then(|| super::reference::expand(&assignments))
}

async fn from_url(session: &Session, team: &Team<'_>, text: &str) -> Result<i64, Failure> {
    let url = Url::parse(text).map_err(|e| Failure::said(format!("parse {text:?}: {e}")))?;
    let host = url.origin().ascii_serialization();
    if host != session.client.url() {
        return Err(Failure::said(format!("URL doesn't match target ({text}, {})", session.client.url())));
    }
    let parts = parts_of(&url);
    let part = |name: &str| parts.get(name).cloned();
    if part("teams").is_some_and(|name| name != team.name) {
        return Err(Failure::said(format!(
            "Team in URL doesn't match the provided team name or current team of the target  ({text}, {})",
            team.name
        )));
    }
    match (part("pipelines"), part("jobs"), part("builds")) {
        (Some(pipeline), Some(name), build) => {
            let pipeline = PipelineRef { name: pipeline, vars: instance_of(&url) };
            Ok(build_of(team, &JobRef { pipeline, name }, build.as_deref()).await?.id)
        }
        (_, _, Some(build)) => number(&build),
        _ => Err(Failure::said(format!("No build found in {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page_names_its_parts() {
        let url =
            Url::parse("http://ci/teams/main/pipelines/a%20b/jobs/j/builds/3?vars.branch=%22x%22&vars.n=1").unwrap();
        let parts = parts_of(&url);
        assert_eq!((parts["pipelines"].as_str(), parts["builds"].as_str()), ("a b", "3"));
        assert_eq!(json!(instance_of(&url)), json!({"branch": "x", "n": 1}));
    }
}
