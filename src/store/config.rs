//! Saving a pipeline's configuration: one transaction that brings jobs, resources and what connects them in line.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};

use super::column::Json;
use super::pipeline::PipelineRef;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, PipelineId, ResourceId, TeamId};
use crate::base::version::canonical_json;
use crate::pipeline::{Config, VersionConfig};

/// What is to be saved.
#[derive(Debug, Clone, Copy)]
pub struct SaveConfig<'a> {
    /// In which team.
    pub team: TeamId,
    /// As what.
    pub pipeline: &'a PipelineRef,
    /// The configuration, valid.
    pub config: &'a Config,
    /// The version it replaces; does not matter for a pipeline that is not there yet.
    pub from_version: i64,
    /// Whether a new pipeline starts paused. If not, one that was archived goes on too.
    pub paused_if_new: bool,
    /// The build whose `set_pipeline` step does it.
    pub parent: Option<(JobId, BuildId)>,
    /// When.
    pub now: Time,
}

/// How saving went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedConfig {
    /// It is saved. Wake the check and schedule passes.
    Saved {
        /// The pipeline.
        pipeline: PipelineId,
        /// Whether it is new.
        created: bool,
    },
    /// Somebody else has saved it since; nothing has changed.
    StaleVersion,
    /// A later build of the same parent has set it; nothing has changed.
    SetByNewerBuild,
}

impl WriteTx<'_> {
    /// Saves a configuration.
    pub fn save_config(&self, save: &SaveConfig<'_>) -> Result<SavedConfig> {
        let text = serde_json::to_string(save.config)?;
        let vars = save.pipeline.vars_text();
        let existing: Option<(PipelineId, i64, Option<BuildId>, Option<String>)> = self
            .prepare_cached(
                "select id, config_version, parent_build_id, config from pipelines
                 where team_id = ? and name = ? and instance_vars = ?",
            )?
            .query_row(params![save.team, save.pipeline.name, vars], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
            })
            .optional()?;
        let (pipeline, created, before) = match existing {
            None => (self.insert_pipeline(save, &vars, &text)?, true, None),
            Some((_, version, by, _)) if version != save.from_version => {
                let newer = by.zip(save.parent).is_some_and(|(by, (_, build))| build < by);
                return Ok(if newer { SavedConfig::SetByNewerBuild } else { SavedConfig::StaleVersion });
            }
            Some((_, _, Some(by), _)) if save.parent.is_some_and(|(_, build)| build < by) => {
                return Ok(SavedConfig::SetByNewerBuild);
            }
            Some((id, _, _, before)) => {
                self.update_pipeline(id, save, &text)?;
                (id, false, before.map(|text| serde_json::from_str::<Config>(&text)).transpose()?)
            }
        };
        let resources = self.save_resources(pipeline, save.config, before.as_ref())?;
        let jobs = self.save_jobs(pipeline, save.config)?;
        self.connect(pipeline, save.config, &jobs, &resources)?;
        self.request_schedule_of_pipeline(pipeline)?;
        Ok(SavedConfig::Saved { pipeline, created })
    }

    fn insert_pipeline(&self, save: &SaveConfig<'_>, vars: &str, text: &str) -> Result<PipelineId> {
        let version = self.next_in_sequence("config_version")?;
        let (job, build) = save.parent.unzip();
        // Instances of one name stand together; a new name comes last.
        self.prepare_cached(
            "insert into pipelines (team_id, name, instance_vars, config, config_version, paused, last_updated,
               parent_job_id, parent_build_id, ordering, secondary_ordering)
             select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
               coalesce(max(case when name = ?2 then ordering end), coalesce(max(ordering), 0) + 1),
               coalesce(max(case when name = ?2 then secondary_ordering end), 0) + 1
             from pipelines where team_id = ?1",
        )?
        .execute(params![
            save.team,
            save.pipeline.name,
            vars,
            text,
            version,
            save.paused_if_new,
            save.now,
            job,
            build
        ])?;
        Ok(PipelineId(self.last_insert_rowid()))
    }

    fn update_pipeline(&self, id: PipelineId, save: &SaveConfig<'_>, text: &str) -> Result<()> {
        let version = self.next_in_sequence("config_version")?;
        let (job, build) = save.parent.unzip();
        self.prepare_cached(
            "update pipelines set config = ?2, config_version = ?3, last_updated = ?4, parent_job_id = ?5,
               parent_build_id = ?6, paused = paused and (?7 or not archived), archived = 0
             where id = ?1",
        )?
        .execute(params![id, text, version, save.now, job, build, save.paused_if_new])?;
        Ok(())
    }

    /// Brings the rows of resources in line, by name.
    fn save_resources(
        &self,
        pipeline: PipelineId,
        config: &Config,
        before: Option<&Config>,
    ) -> Result<BTreeMap<String, ResourceId>> {
        let renames = config.resources.iter().map(|r| (r.old_name.as_str(), r.name.as_str())).collect::<Vec<_>>();
        self.rename_rows("resources", pipeline, &renames)?;
        self.prepare_cached("update resources set active = 0 where pipeline_id = ?")?.execute([pipeline])?;
        let mut ids = BTreeMap::new();
        for (ordering, resource) in config.resources.iter().enumerate() {
            let old_name = if resource.old_name.is_empty() { &resource.name } else { &resource.old_name };
            let same = before.is_some_and(|before| {
                [old_name, &resource.name].into_iter().filter_map(|n| before.resource(n)).next().is_some_and(|old| {
                    identity(before, &old.kind, old.source.as_ref())
                        == identity(config, &resource.kind, resource.source.as_ref())
                })
            });
            let pin = resource.version.as_ref().filter(|v| !v.0.is_empty());
            let id = self
                .prepare_cached(
                    "insert into resources (pipeline_id, name, ordering, type, config, config_pin)
                     values (?1, ?2, ?3, ?4, ?5, ?6)
                     on conflict (pipeline_id, name) do update set active = 1, ordering = ?3, type = ?4, config = ?5,
                       config_pin = ?6, api_pin = case when ?6 is null then api_pin end,
                       pin_comment = case when ?6 is null then pin_comment else '' end,
                       scope_id = case when ?7 then scope_id end,
                       last_attempt = case when ?7 then last_attempt else 0 end,
                       last_attempt_error = case when ?7 then last_attempt_error else '' end
                     returning id",
                )?
                .query_row(
                    params![pipeline, resource.name, ordering as i64, resource.kind, Json(resource), pin, same],
                    |r| r.get(0),
                )?;
            ids.insert(resource.name.clone(), id);
        }
        Ok(ids)
    }

    /// Brings the rows of jobs and their serial groups in line, by name.
    fn save_jobs(&self, pipeline: PipelineId, config: &Config) -> Result<BTreeMap<String, JobId>> {
        let renames = config.jobs.iter().map(|j| (j.old_name.as_str(), j.name.as_str())).collect::<Vec<_>>();
        self.rename_rows("jobs", pipeline, &renames)?;
        self.prepare_cached("update jobs set active = 0 where pipeline_id = ?")?.execute([pipeline])?;
        self.prepare_cached("delete from serial_groups where pipeline_id = ?")?.execute([pipeline])?;
        let mut ids = BTreeMap::new();
        for (ordering, job) in config.jobs.iter().enumerate() {
            let id: JobId = self
                .prepare_cached(
                    "insert into jobs (pipeline_id, name, ordering, config) values (?, ?, ?, ?)
                     on conflict (pipeline_id, name) do update set active = 1, ordering = excluded.ordering,
                       config = excluded.config
                     returning id",
                )?
                .query_row(params![pipeline, job.name, ordering as i64, Json(job)], |r| r.get(0))?;
            let mut groups: BTreeSet<&str> = job.serial_groups.iter().map(String::as_str).collect();
            if groups.is_empty() && job.limit() > 0 {
                groups.insert(&job.name);
            }
            for group in groups {
                self.prepare_cached("insert into serial_groups (job_id, name, pipeline_id) values (?, ?, ?)")?
                    .execute(params![id, group, pipeline])?;
            }
            ids.insert(job.name.clone(), id);
        }
        Ok(ids)
    }

    /// Writes down which job reads and makes what, with globs of `passed` resolved.
    fn connect(
        &self,
        pipeline: PipelineId,
        config: &Config,
        jobs: &BTreeMap<String, JobId>,
        resources: &BTreeMap<String, ResourceId>,
    ) -> Result<()> {
        for table in ["job_inputs", "job_outputs"] {
            self.prepare_cached(&format!(
                "delete from {table} where job_id in (select id from jobs where pipeline_id = ?)"
            ))?
            .execute([pipeline])?;
        }
        let mut add_input = self.prepare_cached(
            "insert into job_inputs (job_id, name, resource_id, passed_job_id, trigger, version) values (?, ?, ?, ?, ?, ?)",
        )?;
        let mut add_output =
            self.prepare_cached("insert into job_outputs (job_id, name, resource_id) values (?, ?, ?)")?;
        for job in &config.jobs {
            let Some(id) = jobs.get(&job.name) else { continue };
            for input in job.inputs() {
                let Some(resource) = resources.get(&input.resource) else { continue };
                let version = match &input.version {
                    Some(VersionConfig::Every) => "every".to_owned(),
                    Some(VersionConfig::Pinned(version)) => version.canonical(),
                    Some(VersionConfig::Latest | VersionConfig::Unset) | None => "latest".to_owned(),
                };
                let passed: BTreeSet<Option<JobId>> = if input.passed.is_empty() {
                    [None].into()
                } else {
                    input.passed.iter().flat_map(|glob| matching(glob, jobs)).map(Some).collect()
                };
                for passed in passed {
                    add_input.execute(params![id, input.name, resource, passed, input.trigger, version])?;
                }
            }
            for output in job.outputs() {
                let Some(resource) = resources.get(&output.resource) else { continue };
                add_output.execute(params![id, output.name, resource])?;
            }
        }
        Ok(())
    }

    /// Gives rows the names they have now, so that they keep their history. Names may be swapped. A name that an
    /// active row has and keeps is not taken from it.
    fn rename_rows(&self, table: &str, pipeline: PipelineId, renames: &[(&str, &str)]) -> Result<()> {
        let mut set_aside = Vec::new();
        let mut rename =
            self.prepare_cached(&format!("update {table} set name = ? where pipeline_id = ? and name = ?"))?;
        for (old, new) in renames.iter().filter(|(old, new)| !old.is_empty() && old != new) {
            // No name a user can give starts with NUL.
            if rename.execute(params![format!("\0{new}"), pipeline, old])? == 1 {
                set_aside.push((*old, *new));
            }
        }
        for (old, new) in set_aside {
            self.prepare_cached(&format!("delete from {table} where pipeline_id = ? and name = ? and active = 0"))?
                .execute(params![pipeline, new])?;
            let taken: bool = self
                .prepare_cached(&format!("select exists (select 1 from {table} where pipeline_id = ? and name = ?)"))?
                .query_row(params![pipeline, new], |r| r.get(0))?;
            rename.execute(params![if taken { old } else { new }, pipeline, format!("\0{new}")])?;
        }
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Names of the serial groups of a job.
    pub fn serial_groups(&self, job: JobId) -> Result<Vec<String>> {
        let mut query = self.prepare_cached("select name from serial_groups where job_id = ? order by name")?;
        Ok(query.query_map([job], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }
}

/// Jobs whose names match a glob as `passed` reads it.
fn matching(glob: &str, jobs: &BTreeMap<String, JobId>) -> Vec<JobId> {
    jobs.iter().filter(|(name, _)| crate::pipeline::glob::passes(glob, name)).map(|(_, id)| *id).collect()
}

/// What a version history depends on: the source, and the chain of custom types down to a built-in one.
fn identity(config: &Config, kind: &str, source: Option<&crate::pipeline::Object>) -> String {
    let mut chain = Vec::new();
    let mut seen = BTreeSet::new();
    let mut kind = kind;
    while let Some(custom) = config.resource_type(kind) {
        // A type may shadow the built-in one that its own image is of.
        if !seen.insert(kind) {
            break;
        }
        chain.push(json!([custom.kind, custom.source, custom.params, custom.defaults, custom.privileged]));
        kind = &custom.kind;
    }
    canonical_json(&json!([source.map(|s| Value::Object(s.clone())), kind, chain]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{config, job, scoped, set, store, v};

    fn pipeline_config(extra: Value) -> Value {
        let mut base = json!({
            "resources": [{"name": "src", "type": "git", "source": {"uri": "x"}}, {"name": "out", "type": "mock", "source": null}],
            "jobs": [
                {"name": "unit-a", "plan": [{"get": "src", "trigger": true}]},
                {"name": "unit-b", "serial": true, "plan": [{"get": "src", "version": "every"}]},
                {"name": "ship", "serial_groups": ["g", "h"], "plan": [
                    {"get": "src", "passed": ["unit-*"]}, {"put": "out"}]},
            ],
        });
        for (key, value) in extra.as_object().cloned().unwrap_or_default() {
            base[key] = value;
        }
        base
    }

    #[test]
    fn jobs_resources_and_what_connects_them_follow_the_configuration() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let p = set(tx, "p", pipeline_config(json!({})))?;
                let inputs = tx.job_inputs_of_pipeline(p)?;
                let passed: Vec<_> = inputs[2].passed.iter().map(|(_, name)| name.as_str()).collect();
                assert_eq!(passed, ["unit-a", "unit-b"]);
                assert_eq!((inputs[0].trigger, inputs[1].version.as_str()), (true, "every"));
                assert_eq!(tx.job_outputs_of_pipeline(p)?[0].resource_name, "out");
                assert_eq!(tx.serial_groups(job(tx, p, "unit-a"))?, Vec::<String>::new());
                assert_eq!(tx.serial_groups(job(tx, p, "unit-b"))?, ["unit-b"]);
                assert_eq!(tx.serial_groups(job(tx, p, "ship"))?, ["g", "h"]);
                assert_eq!(tx.jobs_wanting_schedule()?.len(), 3);
                assert_eq!(tx.pipeline_config(p)?.unwrap(), config(pipeline_config(json!({}))));

                let unit_a = job(tx, p, "unit-a");
                let build = tx.create_manual_build(unit_a, "somebody", Time(1))?;
                set(tx, "p", pipeline_config(json!({"jobs": []})))?;
                assert!(tx.jobs_of_pipeline(p)?.is_empty() && tx.build(build)?.is_some());
                set(tx, "p", pipeline_config(json!({})))?;
                assert_eq!(job(tx, p, "unit-a"), unit_a, "a job that returns is the same");
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_history_is_in_force_until_type_or_source_change() {
        let (store, _dir) = store();
        let with_type = |source: &str, tag: &str| {
            pipeline_config(json!({
                "resource_types": [{"name": "git", "type": "registry-image", "source": {"tag": tag}}],
                "resources": [{"name": "src", "type": "git", "source": {"uri": source}}, {"name": "out", "type": "mock"}],
            }))
        };
        store
            .write_blocking(|tx| {
                let p = set(tx, "p", pipeline_config(json!({})))?;
                let (resource, scope) = scoped(tx, p, "src");
                let in_force = |tx: &WriteTx<'_>| tx.resource(resource).unwrap().unwrap().scope_id;
                for (value, kept) in [
                    (pipeline_config(json!({"display": {"background_image": "x"}})), true),
                    (with_type("x", "1"), false),
                    (with_type("x", "1"), true),
                    (with_type("y", "1"), false),
                    (with_type("y", "2"), false),
                ] {
                    tx.set_scope(resource, scope)?;
                    set(tx, "p", value.clone())?;
                    assert_eq!(in_force(tx), kept.then_some(scope), "{value}");
                }
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_is_renamed_keeps_its_history_also_where_names_are_swapped() {
        let (store, _dir) = store();
        let jobs = |names: &[(&str, &str)]| {
            let jobs: Vec<_> = names.iter().map(|(n, old)| json!({"name": n, "old_name": old, "plan": []})).collect();
            json!({"jobs": jobs, "resources": []})
        };
        store
            .write_blocking(|tx| {
                let p = set(tx, "p", jobs(&[("a", ""), ("b", "")]))?;
                let (a, b) = (job(tx, p, "a"), job(tx, p, "b"));
                set(tx, "p", jobs(&[("a", "b"), ("b", "a")]))?;
                assert_eq!((job(tx, p, "a"), job(tx, p, "b")), (b, a));
                set(tx, "p", jobs(&[("c", "a"), ("b", "")]))?;
                assert_eq!((job(tx, p, "c"), job(tx, p, "b")), (b, a));
                set(tx, "p", jobs(&[("c", "a"), ("b", "")]))?;
                assert_eq!(job(tx, p, "c"), b, "the old name may stay in the file");
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn who_saves_over_a_version_that_is_not_there_any_more_is_told() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team = tx.ensure_main(None)?;
                let p = set(tx, "p", pipeline_config(json!({})))?;
                let version = tx.pipeline(p)?.unwrap().config_version;
                let (config, pipeline) = (config(pipeline_config(json!({}))), PipelineRef::named("p"));
                let parent = |build: i64| Some((JobId(1), BuildId(build)));
                let save = SaveConfig {
                    team,
                    pipeline: &pipeline,
                    config: &config,
                    from_version: version,
                    paused_if_new: true,
                    parent: parent(7),
                    now: Time(5),
                };
                assert_eq!(tx.save_config(&save)?, SavedConfig::Saved { pipeline: p, created: false });
                assert_eq!(tx.save_config(&save)?, SavedConfig::StaleVersion);
                let from_version = tx.pipeline(p)?.unwrap().config_version;
                assert!(from_version > version);
                let older = SaveConfig { from_version, parent: parent(6), ..save };
                assert_eq!(tx.save_config(&older)?, SavedConfig::SetByNewerBuild);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn an_archived_pipeline_goes_on_when_it_is_set_again() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let p = set(tx, "p", pipeline_config(json!({})))?;
                tx.archive_pipeline(p, Time(9))?;
                let archived = tx.pipeline(p)?.unwrap();
                assert!(archived.archived && archived.paused && archived.config_version == 0);
                assert!(tx.pipeline_config(p)?.is_none() && tx.jobs_of_pipeline(p)?.len() == 3);
                set(tx, "p", pipeline_config(json!({})))?;
                let again = tx.pipeline(p)?.unwrap();
                assert!(!again.archived && !again.paused);
                tx.pause_pipeline(p, "somebody", Time(10))?;
                set(tx, "p", pipeline_config(json!({})))?;
                assert!(tx.pipeline(p)?.unwrap().paused, "a paused one stays so");
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_pin_in_the_configuration_replaces_a_persons() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let p = set(tx, "p", pipeline_config(json!({})))?;
                let (resource, scope) = scoped(tx, p, "src");
                tx.save_checked(scope, &[v(1)])?;
                let id = tx.find_version(resource, &v(1))?.unwrap().id;
                tx.pin_version(resource, id)?;
                assert_eq!(tx.resource(resource)?.unwrap().pin(), Some(&v(1)));
                let source = json!({"uri": "x"});
                let pinned = json!({"resources": [{"name": "src", "type": "git", "source": source, "version": {"v": "2"}},
                                                  {"name": "out", "type": "mock"}]});
                set(tx, "p", pipeline_config(pinned))?;
                let row = tx.resource(resource)?.unwrap();
                assert_eq!((row.config_pin, row.api_pin), (Some(v(2)), None));
                assert_eq!(tx.unpin(resource)?, crate::store::resource::Pinned::InConfig);
                Ok(())
            })
            .unwrap();
    }
}
