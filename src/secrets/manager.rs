//! One source with the paths at which it is asked: templates in order, each for all names that are still missing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cache::Cached;
use super::{Answer, Found, Name, Path, Place, Source, SourceError, Template};
use crate::base::id::TeamId;

/// How often a source that is down is asked again (Concourse: `--secret-retry-…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Times it is asked in all.
    pub attempts: u32,
    /// The pause between two of them.
    pub interval: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 5, interval: Duration::from_secs(1) }
    }
}

/// See the module's doc.
pub struct Manager {
    cached: Cached,
    templates: Vec<Template>,
    retry: Retry,
}

/// What a search has found, and what it took.
#[derive(Debug, Default)]
pub struct Search {
    /// The values with the paths that had them.
    pub found: BTreeMap<String, (Path, Found)>,
    /// Requests that were made for it.
    pub calls: u32,
}

impl Manager {
    /// Asks `cached` at the paths that `templates` make.
    pub fn new(cached: Cached, templates: Vec<Template>, retry: Retry) -> Manager {
        Manager { cached, templates, retry }
    }

    /// The source behind it.
    pub fn source(&self) -> &dyn Source {
        &**self.cached.source()
    }

    /// The templates, in the order in which they are tried.
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// Forgets what is remembered of a team.
    pub fn forget(&self, team: TeamId) {
        self.cached.forget(team);
    }

    /// Where a variable's value may stand, in the order in which it is looked for.
    pub fn paths(&self, team: TeamId, place: &Place, name: &Name) -> Vec<Path> {
        self.templates.iter().filter_map(|template| path(template, team, place, name)).collect()
    }

    /// The path at which a value of this pipeline (or of the whole team) is written: the first template that is as
    /// particular.
    pub fn home(&self, team: TeamId, place: &Place, name: &Name) -> Option<Path> {
        let fits = |t: &&Template| t.names_team() && t.needs_pipeline() == place.pipeline.is_some();
        path(self.templates.iter().find(fits)?, team, place, name)
    }

    /// What stands before the names at that place.
    pub fn prefix(&self, team: TeamId, place: &Place) -> Option<Path> {
        let fits = |t: &&Template| t.names_team() && t.needs_pipeline() == place.pipeline.is_some();
        let text = self.templates.iter().find(fits)?.prefix(place)?;
        let (team_name, pipeline) = (place.team.to_string(), place.pipeline.as_ref().map(ToString::to_string));
        Some(Path { text, team, team_name, pipeline, name: String::new() })
    }

    /// Looks for all names, one template after the other.
    pub async fn find(&self, team: TeamId, place: &Place, names: &[Name]) -> Result<Search, SourceError> {
        let mut search = Search::default();
        for template in &self.templates {
            let missing = names.iter().filter(|n| !search.found.contains_key(n.as_str()));
            let wanted: Vec<(&Name, Path)> =
                missing.filter_map(|n| Some((n, path(template, team, place, n)?))).collect();
            if wanted.is_empty() {
                continue;
            }
            let paths: Vec<Path> = wanted.iter().map(|(_, path)| path.clone()).collect();
            let answer = self.patiently(&paths).await?;
            search.calls += answer.calls;
            for ((name, path), found) in wanted.into_iter().zip(answer.values) {
                if let Some(found) = found {
                    search.found.insert(name.as_str().to_owned(), (path, found));
                }
            }
        }
        Ok(search)
    }

    /// Asks again while the source is down, as often as the operator has set.
    pub async fn patiently(&self, paths: &[Path]) -> Result<Answer, SourceError> {
        let mut tried = 1;
        loop {
            match self.cached.get_many(paths).await {
                Err(error @ SourceError::Down { .. }) if tried < self.retry.attempts => {
                    tracing::warn!(%error, tried, "secrets cannot be read yet; it is tried again");
                    metrics::counter!("whistlestop_secret_retries_total").increment(1);
                    tried += 1;
                    tokio::time::sleep(self.retry.interval).await;
                }
                Err(SourceError::Down { source_name, why }) => {
                    let why = format!(
                        "{why} (asked {tried} times, {} apart)",
                        crate::base::duration::format(self.retry.interval)
                    );
                    return Err(SourceError::Down { source_name, why });
                }
                other => return other,
            }
        }
    }
}

fn path(template: &Template, team: TeamId, place: &Place, name: &Name) -> Option<Path> {
    let text = template.path(place, name)?;
    let pipeline = template.needs_pipeline().then(|| place.pipeline.as_ref().map(|p| p.as_str().to_owned())).flatten();
    Some(Path { text, team, team_name: place.team.to_string(), pipeline, name: name.to_string() })
}
