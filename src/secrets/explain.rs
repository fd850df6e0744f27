//! Where a name is looked for, in which order, and which place answered. Never what it answered.

use serde::Serialize;

use super::broker::{LookupError, Session};
use super::{Manager, Name, Place, Secrets, is_readonly};
use crate::vars::{Missing, Reference, interpolate};

/// One place that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Which source.
    pub source: String,
    /// Where in it.
    pub path: String,
    /// Whether it has a value.
    pub found: bool,
}

/// The way of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The name, as written.
    pub name: String,
    /// Every place, in the order in which they are asked; a build stops at the first that has a value.
    pub tried: Vec<Tried>,
    /// What keeps it from being looked up, or empty.
    pub problem: String,
}

impl Secrets {
    /// Explains a variable for who asks.
    pub async fn explain(&self, session: &Session, reference: &Reference) -> Explained {
        let mut explained = Explained { name: reference.to_string(), tried: Vec::new(), problem: String::new() };
        if let Err(problem) = self.follow(session, reference, &mut explained.tried).await {
            explained.problem = problem.to_string();
        }
        explained
    }

    async fn follow(
        &self,
        session: &Session,
        reference: &Reference,
        tried: &mut Vec<Tried>,
    ) -> Result<(), LookupError> {
        let asker = session.asker();
        let name = Name::of_variable(&reference.path)?;
        let place = Place::new(&asker.team_name, asker.pipeline.as_ref().map(|(_, p)| p.as_str()))?;
        if !reference.source.is_empty() {
            let whole = Reference { fields: Vec::new(), ..reference.clone() };
            let values = self.values(session, std::slice::from_ref(&whole)).await?;
            let path = format!("{name}, as its var_source is configured");
            tried.push(Tried { source: reference.source.clone(), path, found: values.knows(&whole) });
            return Ok(());
        }
        if is_readonly(name.as_str()) {
            let found = self.platform.value(asker.team, &place, name.as_str()).await?.is_some();
            tried.push(Tried { source: "the platform".to_owned(), path: name.to_string(), found });
        }
        for manager in self.managers() {
            for path in manager.paths(asker.team, &place, &name) {
                let found = manager.patiently(std::slice::from_ref(&path)).await?.values.iter().any(Option::is_some);
                tried.push(Tried { source: source(manager), path: path.text, found });
            }
        }
        Ok(())
    }

    /// The problems of filling a whole configuration in: what nobody knows, and what stands in the way. Empty if all is
    /// well (`set-pipeline --check-creds`).
    pub async fn check(&self, session: &Session, config: &serde_json::Value) -> Vec<String> {
        let references = match crate::vars::references(config) {
            Ok(references) => references,
            Err(error) => return vec![error.to_string()],
        };
        let mut problems = Vec::new();
        let (local, wanted): (Vec<_>, Vec<_>) = references.into_iter().partition(|r| r.source == ".");
        drop(local);
        match self.values(session, &wanted).await {
            Ok(values) => {
                for reference in &wanted {
                    let text = serde_json::Value::String(format!("(({reference}))"));
                    if let Err(error) = interpolate(&text, &values, Missing::Error) {
                        let tried = values.missed(reference).map(|t| format!(" (tried {t})")).unwrap_or_default();
                        problems.push(format!("{error}{tried}"));
                    }
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
        problems
    }
}

fn source(manager: &Manager) -> String {
    manager.source().name().to_owned()
}
