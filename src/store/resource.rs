//! Resources: rows, pins, disabled versions, and when they were last checked.

use rusqlite::{OptionalExtension, Row, params};

use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, JobId, PipelineId, ResourceId, ScopeId, TeamId, VersionId};
use crate::base::version::Version;
use crate::pipeline;

/// A row of `resources`, with what its scope, pipeline and team add.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Its id.
    pub id: ResourceId,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// That pipeline's team.
    pub team_id: TeamId,
    /// Its name.
    pub name: String,
    /// Whether it is in the configuration.
    pub active: bool,
    /// Its type.
    pub kind: String,
    /// Its part of the configuration.
    pub config: pipeline::Resource,
    /// The version history in force.
    pub scope_id: Option<ScopeId>,
    /// Pinned by the configuration, which wins.
    pub config_pin: Option<Version>,
    /// Pinned by a person.
    pub api_pin: Option<Version>,
    /// Why.
    pub pin_comment: String,
    /// The last check that was a build of its own.
    pub last_check_build_id: Option<BuildId>,
    /// The id of the last check that has no row among the builds.
    pub last_check_id: Option<BuildId>,
    /// When the last check started, ended and how; `Time(0)` for never.
    pub last_check_started: Time,
    /// See above.
    pub last_check_ended: Time,
    /// See above.
    pub last_check_succeeded: bool,
    /// What the last check said if it failed.
    pub last_check_error: String,
    /// The time to hand to [`WriteTx::answer_check`]; later than `check_answered` if a check was asked for.
    pub check_requested: Time,
    /// Requests up to here were answered.
    pub check_answered: Time,
    /// Whether the check that was asked for is to ask the types it builds on too.
    pub check_deeply: bool,
}

impl Resource {
    /// The version it is pinned to, by configuration or person.
    pub fn pin(&self) -> Option<&Version> {
        self.config_pin.as_ref().or(self.api_pin.as_ref())
    }

    fn from_row(r: &Row<'_>) -> rusqlite::Result<Resource> {
        Ok(Resource {
            id: r.get(0)?,
            pipeline_id: r.get(1)?,
            team_id: r.get(2)?,
            name: r.get(3)?,
            active: r.get(4)?,
            kind: r.get(5)?,
            config: r.get::<_, Json<pipeline::Resource>>(6)?.0,
            scope_id: r.get(7)?,
            config_pin: r.get(8)?,
            api_pin: r.get(9)?,
            pin_comment: r.get(10)?,
            last_check_build_id: r.get(11)?,
            last_check_started: r.get(12)?,
            last_check_ended: r.get(13)?,
            last_check_succeeded: r.get(14)?,
            last_check_error: r.get(15)?,
            check_requested: r.get(16)?,
            check_answered: r.get(17)?,
            check_deeply: r.get(18)?,
            last_check_id: r.get(19)?,
        })
    }
}

/// A failed attempt that never came to a scope counts if it is later than the scope's own last check.
const COLUMNS: &str =
    "select r.id, r.pipeline_id, p.team_id, r.name, r.active, r.type, r.config, r.scope_id, r.config_pin,
  r.api_pin, r.pin_comment, r.last_check_build_id,
  max(coalesce(s.last_check_started, 0), iif(r.last_attempt_error <> '', r.last_attempt_started, 0)),
  max(coalesce(s.last_check_ended, 0), r.last_attempt),
  coalesce(s.last_check_succeeded, 0) and r.last_attempt_error = '',
  case when r.last_attempt_error <> '' then r.last_attempt_error else coalesce(s.last_check_error, '') end,
  r.check_requested, r.last_check_answered, r.check_deeply, r.last_check_id
  from resources r join pipelines p on p.id = r.pipeline_id left join scopes s on s.id = r.scope_id";

impl ReadTx<'_> {
    /// The resource of that id.
    pub fn resource(&self, id: ResourceId) -> Result<Option<Resource>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where r.id = ?"))?;
        Ok(query.query_row([id], Resource::from_row).optional()?)
    }

    /// The active resource of that name.
    pub fn find_resource(&self, pipeline: PipelineId, name: &str) -> Result<Option<Resource>> {
        let mut query =
            self.prepare_cached(&format!("{COLUMNS} where r.pipeline_id = ? and r.name = ? and r.active = 1"))?;
        Ok(query.query_row(params![pipeline, name], Resource::from_row).optional()?)
    }

    /// A pipeline's active resources by name.
    pub fn resources_of_pipeline(&self, pipeline: PipelineId) -> Result<Vec<Resource>> {
        let mut query =
            self.prepare_cached(&format!("{COLUMNS} where r.pipeline_id = ? and r.active = 1 order by r.name"))?;
        Ok(query.query_map([pipeline], Resource::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// All active resources by pipeline and name.
    pub fn resources(&self) -> Result<Vec<Resource>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where r.active = 1 order by r.pipeline_id, r.name"))?;
        Ok(query.query_map([], Resource::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Active resources that use that scope.
    pub fn resources_of_scope(&self, scope: ScopeId) -> Result<Vec<ResourceId>> {
        let mut query = self.prepare_cached("select id from resources where scope_id = ? and active = 1")?;
        Ok(query.query_map([scope], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }
}

/// Why a resource could not be pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// It was.
    Done,
    /// The configuration pins it.
    InConfig,
    /// It has no such version.
    NotFound,
    /// It is not pinned.
    Not,
}

impl WriteTx<'_> {
    /// Says which version history is in force. Returns whether that is a change; then jobs are asked to be looked at.
    pub fn set_scope(&self, id: ResourceId, scope: ScopeId) -> Result<bool> {
        let n = self
            .prepare_cached("update resources set scope_id = ?1 where id = ?2 and scope_id is not ?1")?
            .execute(params![scope, id])?;
        if n == 1 {
            self.request_schedule_of_resource(id)?;
        }
        Ok(n == 1)
    }

    /// Pins a resource to one of its versions.
    pub fn pin_version(&self, id: ResourceId, version: VersionId) -> Result<Pinned> {
        let Some(resource) = self.resource(id)? else { return Ok(Pinned::NotFound) };
        if resource.config_pin.is_some() {
            return Ok(Pinned::InConfig);
        }
        let n = self
            .prepare_cached(
                "update resources set api_pin = v.version, pin_comment = case when api_pin is null then '' else pin_comment end
                 from versions v where v.id = ?2 and v.scope_id = resources.scope_id and resources.id = ?1",
            )?
            .execute(params![id, version])?;
        self.request_schedule_of_resource(id)?;
        Ok(if n == 1 { Pinned::Done } else { Pinned::NotFound })
    }

    /// Takes a person's pin away.
    pub fn unpin(&self, id: ResourceId) -> Result<Pinned> {
        match self.resource(id)? {
            None => Ok(Pinned::NotFound),
            Some(r) if r.config_pin.is_some() => Ok(Pinned::InConfig),
            Some(r) if r.api_pin.is_none() => Ok(Pinned::Not),
            Some(_) => {
                self.prepare_cached("update resources set api_pin = null, pin_comment = '' where id = ?")?
                    .execute([id])?;
                self.request_schedule_of_resource(id)?;
                Ok(Pinned::Done)
            }
        }
    }

    /// Says why it is pinned.
    pub fn set_pin_comment(&self, id: ResourceId, comment: &str) -> Result<bool> {
        Ok(self.prepare_cached("update resources set pin_comment = ? where id = ?")?.execute(params![comment, id])?
            == 1)
    }

    /// Lets a version be used again, or not. False if the resource has no such version.
    pub fn set_version_enabled(&self, id: ResourceId, version: VersionId, enabled: bool) -> Result<bool> {
        let digest: Option<String> = self
            .prepare_cached(
                "select v.digest from versions v join resources r on r.scope_id = v.scope_id where v.id = ? and r.id = ?",
            )?
            .query_row(params![version, id], |r| r.get(0))
            .optional()?;
        let Some(digest) = digest else { return Ok(false) };
        let query = if enabled {
            "delete from disabled_versions where resource_id = ? and digest = ?"
        } else {
            "insert into disabled_versions (resource_id, digest) values (?, ?) on conflict do nothing"
        };
        let changed = self.prepare_cached(query)?.execute(params![id, digest])?;
        if enabled && changed > 0 {
            self.prepare_cached("update resources set reopened = reopened + 1 where id = ?")?.execute([id])?;
        }
        self.request_schedule_of_resource(id)?;
        Ok(true)
    }

    /// Asks for a check at once, whatever the interval; `deeply`: of the types it builds on too.
    pub fn request_check(&self, id: ResourceId, deeply: bool, now: Time) -> Result<()> {
        self.prepare_cached(
            "update resources set check_requested = max(check_requested + 1, ?1),
               check_deeply = case when check_requested > last_check_answered then check_deeply or ?2 else ?2 end
             where id = ?3",
        )?
        .execute(params![now, deeply, id])?;
        Ok(())
    }

    /// Asks for the checks that a build which a person asked for waits for: of all inputs whose newest version it would
    /// take.
    pub fn request_checks_of_job(&self, job: JobId, now: Time) -> Result<()> {
        let resources: Vec<ResourceId> = self
            .prepare_cached(
                "select distinct r.id from job_inputs i join resources r on r.id = i.resource_id
                 where i.job_id = ? and i.passed_job_id is null and r.config_pin is null and r.api_pin is null",
            )?
            .query_map([job], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        resources.into_iter().try_for_each(|resource| self.request_check(resource, true, now))
    }

    /// Takes back requests for a check up to `requested`, which was read before the check started.
    pub fn answer_check(&self, id: ResourceId, requested: Time) -> Result<()> {
        self.prepare_cached("update resources set last_check_answered = max(last_check_answered, ?) where id = ?")?
            .execute(params![requested, id])?;
        Ok(())
    }

    /// Remembers that a check of it that began at `started` has ended: with what error, if it failed before it could name
    /// a scope, else with ''. One that did not come so far gets its id here.
    pub fn checked(&self, id: ResourceId, error_before_scope: &str, started: Time, now: Time) -> Result<()> {
        let mut has_id = self.prepare_cached(
            "select exists (select 1 from resources r join scopes s on s.id = r.scope_id
               where r.id = ? and s.last_check_started >= ?)",
        )?;
        if !error_before_scope.is_empty() && !has_id.query_row(params![id, started], |r| r.get(0))? {
            let check = self.take_build_id()?;
            self.prepare_cached("update resources set last_check_id = ? where id = ?")?.execute(params![check, id])?;
        }
        self.prepare_cached(
            "update resources set last_attempt = ?, last_attempt_started = ?, last_attempt_error = ? where id = ?",
        )?
        .execute(params![now, started, error_before_scope, id])?;
        Ok(())
    }

    /// Gives a check that has no row an id among those of builds, as each check of a resource has one.
    pub fn number_check(&self, scope: ScopeId) -> Result<()> {
        if !self.resources_of_scope(scope)?.is_empty() {
            let check = self.take_build_id()?;
            self.prepare_cached("update resources set last_check_id = ? where scope_id = ?")?
                .execute(params![check, scope])?;
        }
        Ok(())
    }

    /// Points to the last check that was a build of its own.
    pub fn set_last_check_build(&self, id: ResourceId, build: BuildId) -> Result<()> {
        self.prepare_cached("update resources set last_check_build_id = ? where id = ?")?
            .execute(params![build, id])?;
        Ok(())
    }
}
