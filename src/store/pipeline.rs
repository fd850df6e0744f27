//! Pipelines: identity, state, and where they stand on the dashboard. Saving a configuration is in `config.rs`.

use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use super::team::Renamed;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, PipelineId, TeamId};
use crate::base::version::canonical_json;
use crate::pipeline::{Config, Object, VarSource, instance};

/// What names a pipeline within its team.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PipelineRef {
    /// Its name.
    pub name: String,
    /// The variables that make it an instance; an empty map is the same as none.
    pub instance_vars: Option<Object>,
}

impl PipelineRef {
    /// A pipeline that is no instance.
    pub fn named(name: &str) -> Self {
        PipelineRef { name: name.to_owned(), instance_vars: None }
    }

    /// `name`, or `name/branch:main` where it is an instance.
    pub fn shown(&self) -> String {
        match &self.instance_vars {
            Some(vars) if !vars.is_empty() => format!("{}/{}", self.name, instance::text(vars)),
            _ => self.name.clone(),
        }
    }

    /// The column's text: canonical JSON, or nothing.
    pub fn vars_text(&self) -> String {
        match &self.instance_vars {
            Some(vars) if !vars.is_empty() => canonical_json(&Value::Object(vars.clone())),
            _ => String::new(),
        }
    }
}

/// A row of `pipelines` without its configuration, with its team's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Its id.
    pub id: PipelineId,
    /// Whose it is.
    pub team_id: TeamId,
    /// That team's name.
    pub team_name: String,
    /// Its name.
    pub name: String,
    /// The variables that make it an instance.
    pub instance_vars: Option<Object>,
    /// Sent as `X-Concourse-Config-Version`; 0 when archived.
    pub config_version: i64,
    /// Whether nothing is checked or started.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// When.
    pub paused_at: Option<Time>,
    /// Whether everybody may look.
    pub public: bool,
    /// Whether it is kept for its history only.
    pub archived: bool,
    /// When it was last set or archived.
    pub last_updated: Time,
    /// The build whose `set_pipeline` step made it.
    pub parent_build_id: Option<BuildId>,
    /// That build's job.
    pub parent_job_id: Option<JobId>,
    /// Groups, display and user data of its configuration.
    pub face: Face,
}

/// What of a configuration lists of pipelines show.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Face {
    /// Tabs of the dashboard.
    pub groups: Vec<crate::pipeline::Group>,
    /// How it looks.
    pub display: Option<crate::pipeline::Display>,
    /// Anything.
    pub user_data: Value,
}

impl Pipeline {
    /// What names it within its team.
    pub fn reference(&self) -> PipelineRef {
        PipelineRef { name: self.name.clone(), instance_vars: self.instance_vars.clone() }
    }

    fn from_row(r: &Row<'_>) -> rusqlite::Result<Pipeline> {
        Ok(Pipeline {
            id: r.get(0)?,
            team_id: r.get(1)?,
            team_name: r.get(2)?,
            name: r.get(3)?,
            instance_vars: vars(&r.get::<_, String>(4)?)?,
            config_version: r.get(5)?,
            paused: r.get(6)?,
            paused_by: r.get(7)?,
            paused_at: r.get(8)?,
            public: r.get(9)?,
            archived: r.get(10)?,
            last_updated: r.get(11)?,
            parent_build_id: r.get(12)?,
            parent_job_id: r.get(13)?,
            face: Face {
                groups: part(r, 14)?.unwrap_or_default(),
                display: part(r, 15)?,
                user_data: part(r, 16)?.unwrap_or_default(),
            },
        })
    }
}

/// Reads a column that is JSON or null.
fn part<T: serde::de::DeserializeOwned>(r: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    r.get::<_, Option<super::column::Json<T>>>(column).map(|j| j.map(|j| j.0))
}

/// Reads a column of instance variables.
pub(in crate::store) fn vars(text: &str) -> rusqlite::Result<Option<Object>> {
    match text {
        "" => Ok(None),
        _ => serde_json::from_str(text)
            .map(Some)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(e))),
    }
}

const COLUMNS: &str =
    "select p.id, p.team_id, t.name, p.name, p.instance_vars, p.config_version, p.paused, p.paused_by,
  p.paused_at, p.public, p.archived, p.last_updated, p.parent_build_id, p.parent_job_id,
  p.config -> '$.groups', p.config -> '$.display', p.config -> '$.user_data'
  from pipelines p join teams t on t.id = p.team_id";

impl ReadTx<'_> {
    /// The pipeline of that id.
    pub fn pipeline(&self, id: PipelineId) -> Result<Option<Pipeline>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where p.id = ?"))?;
        Ok(query.query_row([id], Pipeline::from_row).optional()?)
    }

    /// The pipeline that is named so in that team.
    pub fn find_pipeline(&self, team: TeamId, pipeline: &PipelineRef) -> Result<Option<Pipeline>> {
        let mut query =
            self.prepare_cached(&format!("{COLUMNS} where p.team_id = ? and p.name = ? and p.instance_vars = ?"))?;
        Ok(query.query_row(params![team, pipeline.name, pipeline.vars_text()], Pipeline::from_row).optional()?)
    }

    /// A team's pipelines in the order of its dashboard.
    pub fn pipelines_of_team(&self, team: TeamId) -> Result<Vec<Pipeline>> {
        let mut query = self.prepare_cached(&format!(
            "{COLUMNS} where p.team_id = ? order by p.ordering, p.secondary_ordering, p.id"
        ))?;
        Ok(query.query_map([team], Pipeline::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// All pipelines, by team and in the order of each dashboard.
    pub fn pipelines(&self) -> Result<Vec<Pipeline>> {
        let mut query =
            self.prepare_cached(&format!("{COLUMNS} order by t.name, p.ordering, p.secondary_ordering, p.id"))?;
        Ok(query.query_map([], Pipeline::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Its configuration as text and the version to send with it; `None` once archived or gone.
    pub fn pipeline_config_text(&self, id: PipelineId) -> Result<Option<(String, i64)>> {
        let mut query =
            self.prepare_cached("select config, config_version from pipelines where id = ? and config is not null")?;
        Ok(query.query_row([id], |r| Ok((r.get(0)?, r.get(1)?))).optional()?)
    }

    /// Its configuration; `None` once archived or gone.
    pub fn pipeline_config(&self, id: PipelineId) -> Result<Option<Config>> {
        Ok(match self.pipeline_config_text(id)? {
            Some((text, _)) => Some(serde_json::from_str(&text)?),
            None => None,
        })
    }

    /// Its own sources of variables, without reading the rest of its configuration.
    pub fn pipeline_var_sources(&self, id: PipelineId) -> Result<Vec<VarSource>> {
        let mut query = self.prepare_cached("select config -> '$.var_sources' from pipelines where id = ?")?;
        let text: Option<Option<String>> = query.query_row([id], |r| r.get(0)).optional()?;
        Ok(text.flatten().map(|t| serde_json::from_str(&t)).transpose()?.unwrap_or_default())
    }

    /// Pipelines made by a `set_pipeline` step that is no longer there to set them.
    pub fn abandoned_pipelines(&self) -> Result<Vec<PipelineId>> {
        let mut query = self.prepare_cached(
            "select p.id from pipelines p
               left join jobs j on j.id = p.parent_job_id
               left join pipelines parent on parent.id = j.pipeline_id
               left join builds b on b.id = j.latest_completed_build_id
             where p.parent_job_id is not null and p.archived = 0
               and (j.id is null or j.active = 0 or parent.archived = 1
                    or (p.parent_build_id < b.id and b.status = 'succeeded'))",
        )?;
        Ok(query.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Pauses a pipeline.
    pub fn pause_pipeline(&self, id: PipelineId, by: &str, now: Time) -> Result<bool> {
        let n = self
            .prepare_cached(
                "update pipelines set paused = 1, paused_by = ?, paused_at = ? where id = ? and paused = 0",
            )?
            .execute(params![by, now, id])?;
        Ok(n == 1)
    }

    /// Lets a pipeline go on, and asks for all its jobs to be looked at.
    pub fn unpause_pipeline(&self, id: PipelineId) -> Result<bool> {
        let n = self
            .prepare_cached("update pipelines set paused = 0, paused_by = null, paused_at = null where id = ?")?
            .execute([id])?;
        self.request_schedule_of_pipeline(id)?;
        Ok(n == 1)
    }

    /// Shows a pipeline to everybody, or hides it.
    pub fn set_pipeline_public(&self, id: PipelineId, public: bool) -> Result<bool> {
        Ok(self.prepare_cached("update pipelines set public = ? where id = ?")?.execute(params![public, id])? == 1)
    }

    /// Renames all pipelines of that name, instances of it included.
    pub fn rename_pipelines(&self, team: TeamId, old: &str, new: &str) -> Result<Renamed> {
        if old != new {
            let taken: bool = self
                .prepare_cached(
                    "select exists (select 1 from pipelines a join pipelines b using (team_id, instance_vars)
                     where a.team_id = ? and a.name = ? and b.name = ?)",
                )?
                .query_row(params![team, old, new], |r| r.get(0))?;
            if taken {
                return Ok(Renamed::Taken);
            }
        }
        let n = self
            .prepare_cached("update pipelines set name = ? where team_id = ? and name = ?")?
            .execute(params![new, team, old])?;
        Ok(if n > 0 { Renamed::Done } else { Renamed::NotFound })
    }

    /// Removes a pipeline with all its builds, whose ids it returns so that their logs can be forgotten too.
    pub fn destroy_pipeline(&self, id: PipelineId) -> Result<Vec<BuildId>> {
        let builds = self
            .prepare_cached("select id from builds where pipeline_id = ?")?
            .query_map([id], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        self.prepare_cached("delete from pipelines where id = ?")?.execute([id])?;
        Ok(builds)
    }

    /// Puts a team's pipelines of these names first, in this order. Returns the first name there is none of, if any:
    /// then nothing should be kept.
    pub fn order_pipelines(&self, team: TeamId, names: &[String]) -> Result<Option<String>> {
        // The rest follows in the order it had.
        self.prepare_cached("update pipelines set ordering = ordering + ?2 where team_id = ?1")?
            .execute(params![team, names.len() as i64 + 1])?;
        let mut query = self.prepare_cached("update pipelines set ordering = ? where team_id = ? and name = ?")?;
        for (place, name) in names.iter().enumerate() {
            if query.execute(params![place as i64 + 1, team, name])? == 0 {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    /// Puts the instances of one name in this order; false if one of them is not there.
    pub fn order_instances(&self, team: TeamId, name: &str, instances: &[PipelineRef]) -> Result<bool> {
        let mut query = self.prepare_cached(
            "update pipelines set secondary_ordering = ? where team_id = ? and name = ? and instance_vars = ?",
        )?;
        for (place, instance) in instances.iter().enumerate() {
            if query.execute(params![place as i64 + 1, team, name, instance.vars_text()])? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps a pipeline for its history only: paused, without configuration; waiting builds are to be aborted by the
    /// schedule pass, which is asked for. Children that it had set follow when they are found abandoned.
    pub fn archive_pipeline(&self, id: PipelineId, now: Time) -> Result<bool> {
        let n = self
            .prepare_cached(
                "update pipelines set archived = 1, paused = 1, paused_by = 'automatic-pipeline-archiver', paused_at = ?2,
                   last_updated = ?2, config_version = 0, config = null where id = ?1",
            )?
            .execute(params![id, now])?;
        self.prepare_cached("update jobs set config = '{}' where pipeline_id = ?")?.execute([id])?;
        self.prepare_cached("update resources set config = '{}' where pipeline_id = ?")?.execute([id])?;
        self.request_schedule_of_pipeline(id)?;
        Ok(n == 1)
    }

    /// Remembers which build set it, so that it is archived when that job no longer does; false where a newer build
    /// has set it since.
    pub fn set_pipeline_parent(&self, id: PipelineId, job: JobId, build: BuildId) -> Result<bool> {
        let changed = self
            .prepare_cached(
                "update pipelines set parent_job_id = ?1, parent_build_id = ?2
                 where id = ?3 and coalesce(parent_build_id, 0) <= ?2",
            )?
            .execute(params![job, build, id])?;
        Ok(changed == 1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::config::SaveConfig;
    use crate::store::fixture::{config, set, store};

    fn names(tx: &ReadTx<'_>, team: TeamId) -> Vec<String> {
        let rows = tx.pipelines_of_team(team).unwrap().into_iter();
        rows.map(|p| format!("{}{}", p.name, p.reference().vars_text())).collect()
    }

    fn instance(branch: &str) -> PipelineRef {
        let vars = json!({"branch": branch}).as_object().cloned();
        PipelineRef { name: "a".into(), instance_vars: vars }
    }

    #[test]
    fn a_dashboard_keeps_the_order_it_was_given() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team = tx.ensure_main(None)?;
                for name in ["a", "b", "c"] {
                    set(tx, name, json!({}))?;
                }
                let (config, instance_x, instance_y) = (config(json!({})), instance("x"), instance("y"));
                for pipeline in [&instance_x, &instance_y] {
                    tx.save_config(&SaveConfig {
                        team,
                        pipeline,
                        config: &config,
                        from_version: 0,
                        paused_if_new: true,
                        parent: None,
                        now: Time(1),
                    })?;
                }
                let (x, y) = (r#"a{"branch":"x"}"#, r#"a{"branch":"y"}"#);
                assert_eq!(names(tx, team), ["a", x, y, "b", "c"]);
                assert_eq!(tx.order_pipelines(team, &["c".into(), "a".into()])?, None);
                assert_eq!(names(tx, team), ["c", "a", x, y, "b"]);
                assert!(tx.order_instances(team, "a", &[instance_y, PipelineRef::named("a"), instance_x])?);
                assert_eq!(names(tx, team), ["c", y, "a", x, "b"]);
                assert_eq!(tx.order_pipelines(team, &["nope".into()])?, Some("nope".into()));
                assert_eq!(tx.rename_pipelines(team, "a", "b")?, Renamed::Taken);
                assert_eq!(tx.rename_pipelines(team, "a", "d")?, Renamed::Done);
                assert_eq!(tx.rename_pipelines(team, "a", "e")?, Renamed::NotFound);
                assert!(tx.find_pipeline(team, &PipelineRef { name: "d".into(), ..instance("x") })?.is_some());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn destroying_takes_everything_along() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let jobs = json!({"jobs": [{"name": "j", "plan": [{"get": "r"}]}], "resources": [{"name": "r", "type": "mock"}]});
                let p = set(tx, "p", jobs.clone())?;
                let build = tx.create_manual_build(crate::store::fixture::job(tx, p, "j"), "alice", Time(1))?;
                assert_eq!(tx.destroy_pipeline(p)?, [build]);
                assert!(tx.build(build)?.is_none() && tx.jobs()?.is_empty() && tx.resources()?.is_empty());
                // Its containers, which are named for it, may still be there: nobody else may get that name.
                let next = set(tx, "p", jobs)?;
                let next_build = tx.create_manual_build(crate::store::fixture::job(tx, next, "j"), "alice", Time(1))?;
                assert!(next.0 > p.0 && next_build.0 > build.0, "{next:?} {next_build:?}");
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_child_is_abandoned_when_its_job_no_longer_sets_it() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let parent = set(tx, "parent", json!({"jobs": [{"name": "j", "plan": []}]}))?;
                let child = set(tx, "child", json!({}))?;
                let job = crate::store::fixture::job(tx, parent, "j");
                let end = |tx: &WriteTx<'_>| -> Result<BuildId> {
                    let build = tx.create_manual_build(job, "alice", Time(1))?;
                    tx.finish_build(build, crate::store::build::Status::Succeeded, Time(2))?;
                    Ok(build)
                };
                let build = end(tx)?;
                tx.set_pipeline_parent(child, job, build)?;
                assert!(tx.abandoned_pipelines()?.is_empty());
                end(tx)?;
                assert_eq!(tx.abandoned_pipelines()?, [child]);
                tx.archive_pipeline(child, Time(3))?;
                assert!(tx.abandoned_pipelines()?.is_empty());
                Ok(())
            })
            .unwrap();
    }
}
