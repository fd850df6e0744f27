//! Containers and volumes with the names of what they belong to.

use rusqlite::{OptionalExtension, params};

use crate::base::id::{BuildId, JobId, PipelineId, TeamId};
use crate::base::version::Version;
use crate::pipeline::Object;
use crate::store::container::Container;
use crate::store::volume::Volume;
use crate::store::{ReadTx, Result, pipeline};

/// A container and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerView {
    /// The row.
    pub container: Container,
    /// Where it belongs.
    pub place: Place,
}

/// Where something that a build made belongs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Place {
    /// Its pipeline.
    pub pipeline_id: Option<PipelineId>,
    /// That pipeline's name.
    pub pipeline_name: Option<String>,
    /// That pipeline's instance variables.
    pub pipeline_instance_vars: Option<Object>,
    /// Its job.
    pub job_id: Option<JobId>,
    /// That job's name.
    pub job_name: Option<String>,
    /// Its build.
    pub build_id: Option<BuildId>,
    /// That build's number.
    pub build_name: Option<String>,
    /// For checks: the resource's name.
    pub resource_name: Option<String>,
}

/// A volume and what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeView {
    /// The row.
    pub volume: Volume,
    /// What was fetched into it: the base type at the end of the chain of types, and the version.
    pub fetched: Option<(String, Version)>,
    /// The task whose cache it is: its place, and the step's name.
    pub cache: Option<(Place, String)>,
}

impl ReadTx<'_> {
    /// A team's volumes, oldest first.
    pub fn volume_views(&self, team: TeamId) -> Result<Vec<VolumeView>> {
        self.volumes_of_team(team)?.into_iter().map(|v| self.volume_view_of(v)).collect()
    }

    fn volume_view_of(&self, volume: Volume) -> Result<VolumeView> {
        let mut fetched = self.prepare_cached(
            "select base_type, json_extract(response, '$.version') from resource_caches where volume = ? limit 1",
        )?;
        let fetched = fetched.query_row([&volume.handle], |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
        let mut cache = self.prepare_cached(
            "select p.id, p.name, p.instance_vars, j.id, j.name, c.step_name from task_caches c
             join jobs j on j.id = c.job_id join pipelines p on p.id = j.pipeline_id where c.volume = ? limit 1",
        )?;
        let cache = cache.query_row([&volume.handle], |r| {
            let place = Place {
                pipeline_id: r.get(0)?,
                pipeline_name: r.get(1)?,
                pipeline_instance_vars: pipeline::vars(&r.get::<_, String>(2)?)?,
                job_id: r.get(3)?,
                job_name: r.get(4)?,
                ..Place::default()
            };
            Ok((place, r.get(5)?))
        });
        Ok(VolumeView { volume, fetched, cache: cache.optional()? })
    }

    /// A team's containers, oldest first.
    pub fn container_views(&self, team: TeamId) -> Result<Vec<ContainerView>> {
        self.containers_of_team(team)?.into_iter().map(|c| self.container_view_of(c)).collect()
    }

    /// One container of a team.
    pub fn container_view(&self, team: TeamId, handle: &str) -> Result<Option<ContainerView>> {
        let found = self.container(handle)?.filter(|c| c.team_id == team);
        found.map(|c| self.container_view_of(c)).transpose()
    }

    fn container_view_of(&self, container: Container) -> Result<ContainerView> {
        let mut query = self.prepare_cached(
            "select p.id, p.name, coalesce(p.instance_vars, ''), j.id, j.name, b.id, b.name, r.name
             from (select ?1 as build_id, ?2 as resource_id) c
             left join builds b on b.id = c.build_id
             left join resources r on r.id = coalesce(c.resource_id, b.resource_id)
             left join pipelines p on p.id = coalesce(b.pipeline_id, r.pipeline_id)
             left join jobs j on j.id = b.job_id",
        )?;
        let place = query.query_row(params![container.build_id, container.resource_id], |r| {
            Ok(Place {
                pipeline_id: r.get(0)?,
                pipeline_name: r.get(1)?,
                pipeline_instance_vars: pipeline::vars(&r.get::<_, String>(2)?)?,
                job_id: r.get(3)?,
                job_name: r.get(4)?,
                build_id: r.get(5)?,
                build_name: r.get(6)?,
                resource_name: r.get(7)?,
            })
        })?;
        Ok(ContainerView { container, place })
    }

    /// How many containers and volumes there are.
    pub fn count_containers_and_volumes(&self) -> Result<(i64, i64)> {
        let mut query =
            self.prepare_cached("select (select count(*) from containers), (select count(*) from volumes)")?;
        Ok(query.query_row([], |r| Ok((r.get(0)?, r.get(1)?)))?)
    }
}
