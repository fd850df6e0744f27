//! Where the values of `((source:path))` come from: the pipeline's own `var_sources`, asked by name, each configured
//! with values of those it depends on.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::Shared;
use crate::base::id::PipelineId;
use crate::exec::WorldError;
use crate::pipeline::VarSource;
use crate::vars::{self, Missing, Reference, Values};

type Result<T> = std::result::Result<T, WorldError>;

/// Whose build asks: sources look below these names first.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Its team.
    pub team: String,
    /// Its pipeline, if it has one.
    pub pipeline: Option<(PipelineId, String)>,
}

/// The values of `wanted`. What no source knows is left out; a source that is not there or cannot answer is an error.
pub async fn values(shared: &Shared, asker: &Asker, wanted: &[Reference]) -> Result<Values> {
    let sources = match &asker.pipeline {
        Some((id, _)) => {
            let id = *id;
            shared.store.read(move |tx| tx.pipeline_var_sources(id)).await?
        }
        None => Vec::new(),
    };
    Search { asker, sources, opened: BTreeMap::new() }.all(wanted).await
}

/// One search: every source is opened at most once.
struct Search<'a> {
    asker: &'a Asker,
    sources: Vec<VarSource>,
    opened: BTreeMap<String, Source>,
}

/// A source whose configuration has been filled in.
#[derive(Clone)]
enum Source {
    /// Values that stand in the configuration itself.
    Dummy(Map<String, Value>),
}

impl Search<'_> {
    async fn all(&mut self, wanted: &[Reference]) -> Result<Values> {
        let mut found = Values::default();
        for reference in wanted {
            if found.knows(reference) {
                continue;
            }
            let value = match reference.source.as_str() {
                "" => None,
                _ => self.open(reference).await?.get(self.asker, &reference.path),
            };
            if let Some(value) = value {
                found.insert(reference, value);
            }
        }
        Ok(found)
    }

    /// The source that a reference names. Its configuration may name other sources; that they do not go round in a
    /// circle is seen to when the pipeline is set.
    fn open<'b>(&'b mut self, reference: &'b Reference) -> BoxFuture<'b, Result<Source>> {
        Box::pin(async move {
            let name = &reference.source;
            if let Some(source) = self.opened.get(name) {
                return Ok(source.clone());
            }
            let Some(at) = self.sources.iter().position(|s| s.name == *name) else {
                return Err(told(vars::Error::MissingSource { var: reference.to_string(), name: name.clone() }));
            };
            // Out of the list while it is opened, so that it cannot be asked for its own configuration.
            let source = self.sources.remove(at);
            let unfilled = |e: vars::Error| WorldError(format!("evaluate var_source '{name}' error: {e}"));
            let needed: Vec<_> = vars::references(&source.config).map_err(unfilled)?.into_iter().collect();
            let values = self.all(&needed).await?;
            let config = vars::interpolate(&source.config, &values, Missing::Error).map_err(unfilled)?;
            let opened = Source::new(&source.kind, config)
                .map_err(|why| WorldError(format!("create var_source '{name}' error: {why}")))?;
            self.opened.insert(name.clone(), opened.clone());
            Ok(opened)
        })
    }
}

impl Source {
    fn new(kind: &str, config: Value) -> std::result::Result<Source, String> {
        match (kind, config) {
            ("dummy", Value::Object(mut config)) => match config.remove("vars") {
                Some(Value::Object(vars)) => Ok(Source::Dummy(vars)),
                _ => Err("config.vars must be a map".to_owned()),
            },
            ("dummy", _) => Err("its config must be a map with the key `vars`".to_owned()),
            (other, _) => Err(format!("sources of type {other} are not known to this server")),
        }
    }

    /// The value of a path, first the one for the pipeline, then for the team, then for all.
    fn get(&self, asker: &Asker, path: &str) -> Option<Value> {
        let Source::Dummy(vars) = self;
        let team = &asker.team;
        let of_pipeline = asker.pipeline.as_ref().and_then(|(_, name)| vars.get(&format!("{team}/{name}/{path}")));
        of_pipeline.or_else(|| vars.get(&format!("{team}/{path}"))).or_else(|| vars.get(path)).cloned()
    }
}

fn told(error: vars::Error) -> WorldError {
    WorldError(error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn find(sources: Value, wanted: &[&str]) -> std::result::Result<Values, String> {
        let asker = Asker { team: "t".into(), pipeline: Some((PipelineId(1), "p".into())) };
        let sources = serde_json::from_value(sources).unwrap();
        let wanted: Vec<_> = wanted.iter().map(|w| Reference::parse(w).unwrap()).collect();
        Search { asker: &asker, sources, opened: BTreeMap::new() }.all(&wanted).await.map_err(|e| e.to_string())
    }

    fn value(values: &Values, name: &str) -> Option<Value> {
        vars::Lookup::get(values, &Reference::parse(name).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn sources_are_configured_from_each_other_and_the_nearest_name_wins() {
        let sources = json!([
            {"name": "b", "type": "dummy", "config": {"vars": {"x": "((a:inner.k))", "t/y": "team", "y": "all", "t/p/y": "own"}}},
            {"name": "a", "type": "dummy", "config": {"vars": {"inner": {"k": 7}}}},
        ]);
        let found = find(sources.clone(), &["b:x", "b:y", "b:none", "plain"]).await.unwrap();
        assert_eq!(value(&found, "b:x"), Some(json!(7)));
        assert_eq!(value(&found, "b:y"), Some(json!("own")));
        assert_eq!(value(&found, "b:none"), None);
        assert_eq!(find(sources, &["zz:x.y"]).await.unwrap_err(), "missing source 'zz' in var: zz:x.y");
    }

    #[tokio::test]
    async fn a_source_that_needs_itself_is_an_error() {
        let sources = json!([{"name": "a", "type": "dummy", "config": {"vars": {"x": "((a:x))"}}}]);
        assert_eq!(find(sources, &["a:x"]).await.unwrap_err(), "missing source 'a' in var: a:x");
    }
}
