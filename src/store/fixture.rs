//! A store with something in it, for tests of this module.

use super::Store;
use super::config::{SaveConfig, SavedConfig};
use super::pipeline::PipelineRef;
use super::volume::Volume;
use super::{Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{JobId, PipelineId, ResourceId, ScopeId, TeamId};
use crate::base::version::Version;
use crate::pipeline::Config;

/// A store in a directory that goes when the second value does.
pub fn store() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Store::open(dir.path()).unwrap(), dir)
}

/// A configuration from JSON.
pub fn config(value: serde_json::Value) -> Config {
    serde_json::from_value(value).unwrap()
}

/// Saves a configuration as a pipeline of team `main`, over whatever is there.
pub fn set(tx: &WriteTx<'_>, name: &str, value: serde_json::Value) -> Result<PipelineId> {
    let team = tx.ensure_main(None)?;
    let pipeline = PipelineRef::named(name);
    let from_version = tx.find_pipeline(team, &pipeline)?.map_or(0, |p| p.config_version);
    let save = SaveConfig {
        team,
        pipeline: &pipeline,
        config: &config(value),
        from_version,
        paused_if_new: false,
        parent: None,
        now: Time(1000),
    };
    match tx.save_config(&save)? {
        SavedConfig::Saved { pipeline, .. } => Ok(pipeline),
        other => panic!("not saved: {other:?}"),
    }
}

/// The job of that name.
pub fn job(tx: &WriteTx<'_>, pipeline: PipelineId, name: &str) -> JobId {
    tx.find_job(pipeline, name).unwrap().unwrap().id
}

/// The resource of that name, with a scope of its own.
pub fn scoped(tx: &WriteTx<'_>, pipeline: PipelineId, name: &str) -> (ResourceId, ScopeId) {
    let resource = tx.find_resource(pipeline, name).unwrap().unwrap();
    let scope = tx.find_or_create_scope(&format!("{pipeline}/{name}"), resource.team_id).unwrap().id;
    tx.set_scope(resource.id, scope).unwrap();
    (resource.id, scope)
}

/// A fetched version's volume, of no container.
pub fn volume(team_id: TeamId, handle: &str) -> Volume {
    Volume {
        handle: handle.into(),
        team_id,
        kind: "resource".into(),
        parent: None,
        container: None,
        build_id: None,
        path: String::new(),
        created_at: Time(1),
    }
}

/// The version `{"v": n}`.
pub fn v(n: i64) -> Version {
    Version::from([("v", n.to_string().as_str())])
}
