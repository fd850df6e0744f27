//! Containers, written before the runtime is asked.

use rusqlite::{OptionalExtension, Row, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, ResourceId, TeamId};

/// A row of `containers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name in the runtime.
    pub handle: String,
    /// Whose it is.
    pub team_id: TeamId,
    /// The build it runs a step of; none once the build is gone, and for checks without a row.
    pub build_id: Option<BuildId>,
    /// The step.
    pub plan_id: String,
    /// `task`, `get`, `put` or `check`.
    pub kind: String,
    /// Name of the step.
    pub step_name: String,
    /// `1`, `1.2`: which of the attempts; empty without any.
    pub attempt: String,
    /// User of the process.
    pub user: String,
    /// Where it runs.
    pub working_directory: String,
    /// When.
    pub created_at: Time,
    /// Kept until then because somebody is, or was, inside.
    pub hijacked_until: Time,
    /// For checks: of what.
    pub resource_id: Option<ResourceId>,
}

/// Which containers of builds that are over may go: those of builds that ended before the time for their kind.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// A job's last build that did not succeed.
    pub failed: Time,
    /// One-off builds.
    pub one_off: Time,
    /// Checks without a build (made before, not ended) of which there is a later one.
    pub superseded_checks: Time,
    /// All other checks.
    pub checks: Time,
}

const COLUMNS: &str = "select handle, team_id, build_id, plan_id, type, step_name, attempt, user, working_directory,
  created_at, hijacked_until, resource_id from containers";

impl Container {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<Container> {
        Ok(Container {
            handle: r.get(0)?,
            team_id: r.get(1)?,
            build_id: r.get(2)?,
            plan_id: r.get(3)?,
            kind: r.get(4)?,
            step_name: r.get(5)?,
            attempt: r.get(6)?,
            user: r.get(7)?,
            working_directory: r.get(8)?,
            created_at: r.get(9)?,
            hijacked_until: r.get(10)?,
            resource_id: r.get(11)?,
        })
    }
}

impl ReadTx<'_> {
    /// The container of that handle.
    pub fn container(&self, handle: &str) -> Result<Option<Container>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where handle = ?"))?;
        Ok(query.query_row([handle], Container::from_row).optional()?)
    }

    /// All of a team's, oldest first.
    pub fn containers_of_team(&self, team: TeamId) -> Result<Vec<Container>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where team_id = ? order by created_at, handle"))?;
        Ok(query.query_map([team], Container::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// All of a build's, oldest first.
    pub fn containers_of_build(&self, build: BuildId) -> Result<Vec<Container>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where build_id = ? order by created_at, handle"))?;
        Ok(query.query_map([build], Container::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Every handle there is.
    pub fn container_handles(&self) -> Result<Vec<String>> {
        let mut query = self.prepare_cached("select handle from containers")?;
        Ok(query.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Those that may go at `now`: nobody is inside, and it is a job's whose build succeeded, ended long ago or is not
    /// the job's last one any more; or a one-off build's that ended a while ago; or a check's that ended a while ago, was
    /// followed by another or is of a resource that the pipeline has no more; or its build is gone with its pipeline.
    pub fn removable_containers(&self, now: Time, kept: &Kept) -> Result<Vec<String>> {
        let mut query = self.prepare_cached(
            "select c.handle from containers c left join builds b on b.id = c.build_id
             where c.hijacked_until <= ?1 and (
               (c.build_id is not null and b.id is null)
               or (c.build_id is null and (c.created_at < ?5 or (c.created_at < ?4 and exists (
                 select 1 from containers n where n.team_id = c.team_id and n.type = c.type
                   and n.step_name = c.step_name and n.resource_id is c.resource_id and n.build_id is null
                   and n.created_at > c.created_at))))
               or (b.job_id is null and b.status not in ('pending', 'started') and b.ended_at < ?3)
               or (b.resource_id is not null and b.status not in ('pending', 'started') and (
                 not exists (select 1 from resources r where r.id = b.resource_id and r.active = 1)
                 or exists (select 1 from builds n where n.resource_id = b.resource_id and n.id > b.id
                            and n.ended_at <= ?1)))
               or (b.job_id is not null and b.status = 'succeeded')
               or (b.job_id is not null and b.status in ('failed', 'errored', 'aborted') and (
                 b.ended_at < ?2
                 or exists (select 1 from builds n where n.job_id = b.job_id and n.id > b.id
                            and n.status not in ('pending', 'started')))))",
        )?;
        let times = params![now, kept.failed, kept.one_off, kept.superseded_checks, kept.checks];
        Ok(query.query_map(times, |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Those of steps that have not ended yet, each with the volumes that were made for it.
    pub fn containers_with_volumes(&self) -> Result<Vec<(String, Vec<String>)>> {
        let mut query = self.prepare_cached(
            "select c.handle, v.handle from containers c join builds b on b.id = c.build_id and b.status = 'started'
               left join volumes v on v.container = c.handle
             where not exists (select 1 from results r where r.build_id = c.build_id and r.plan_id = c.plan_id)
             order by c.handle",
        )?;
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (container, volume): (String, Option<String>) = (row.get(0)?, row.get(1)?);
            match found.last_mut().filter(|(last, _)| *last == container) {
                Some((_, volumes)) => volumes.extend(volume),
                None => found.push((container, volume.into_iter().collect())),
            }
        }
        Ok(found)
    }

    /// Those of a build whose steps have not told how they ended.
    pub fn containers_going_on(&self, build: BuildId) -> Result<Vec<String>> {
        let mut query = self.prepare_cached(
            "select c.handle from containers c where c.build_id = ?
               and not exists (select 1 from results r where r.build_id = c.build_id and r.plan_id = c.plan_id)",
        )?;
        Ok(query.query_map([build], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Those that are still there although their build ended before a time.
    pub fn containers_of_builds_ended_before(&self, end: Time) -> Result<Vec<String>> {
        let mut query = self.prepare_cached(
            "select c.handle from containers c join builds b on b.id = c.build_id
             where b.status not in ('pending', 'started') and b.ended_at < ?",
        )?;
        Ok(query.query_map([end], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Writes down a container that is about to be made; one that is there already stays.
    pub fn insert_container(&self, c: &Container) -> Result<()> {
        self.prepare_cached(
            "insert into containers (handle, team_id, build_id, plan_id, type, step_name, attempt, user,
               working_directory, created_at, hijacked_until, resource_id)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
        )?
        .execute(params![
            c.handle,
            c.team_id,
            c.build_id,
            c.plan_id,
            c.kind,
            c.step_name,
            c.attempt,
            c.user,
            c.working_directory,
            c.created_at,
            c.hijacked_until,
            c.resource_id,
        ])?;
        Ok(())
    }

    /// Keeps a container until `until`; false if it is gone.
    pub fn keep_container(&self, handle: &str, until: Time) -> Result<bool> {
        let n = self
            .prepare_cached("update containers set hijacked_until = max(hijacked_until, ?) where handle = ?")?
            .execute(params![until, handle])?;
        Ok(n == 1)
    }

    /// Forgets a container that the runtime has removed.
    pub fn delete_container(&self, handle: &str) -> Result<()> {
        self.prepare_cached("delete from containers where handle = ?")?.execute([handle])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::build::Status;
    use crate::store::create::CheckBuild;
    use crate::store::fixture::{job, set, store};

    /// A container of a build that ended so at 10, or of a check.
    fn container(tx: &WriteTx<'_>, handle: &str, build: Option<BuildId>, made: i64) -> Result<()> {
        let team_id = tx.ensure_main(None)?;
        tx.insert_container(&Container {
            handle: handle.into(),
            team_id,
            build_id: build,
            plan_id: "1".into(),
            kind: if build.is_some() { "task" } else { "check" }.into(),
            step_name: "s".into(),
            attempt: String::new(),
            user: "root".into(),
            working_directory: "/tmp".into(),
            created_at: Time(made),
            hijacked_until: Time(0),
            resource_id: None,
        })
    }

    fn removable(store: &Store, now: i64) -> Vec<String> {
        let ago = |age: i64| Time(now - age);
        let kept = Kept { failed: ago(1000), one_off: ago(300), superseded_checks: ago(60), checks: ago(200) };
        let mut found = store.read_blocking(|tx| tx.removable_containers(Time(now), &kept)).unwrap();
        found.sort();
        found
    }

    #[test]
    fn containers_stay_as_long_as_concourse_keeps_them() {
        let (store, _dir) = store();
        let ended = |handle: &'static str, name: &'static str, status: Option<Status>| {
            store
                .write_blocking(|tx| {
                    let config = serde_json::json!({"jobs": [{"name": name, "plan": [{"task": "t", "file": "a/b"}]}]});
                    let pipeline = set(tx, name, config)?;
                    let job = job(tx, pipeline, name);
                    let build = tx.create_manual_build(job, "ann", Time(1))?;
                    container(tx, handle, Some(build), 1)?;
                    if let Some(status) = status {
                        tx.start_plain_build(build, "{}", "{}", Time(2))?;
                        tx.finish_build(build, status, Time(10))?;
                    }
                    Ok(())
                })
                .unwrap();
        };
        ended("good", "good", Some(Status::Succeeded));
        ended("failed", "failed", Some(Status::Failed));
        ended("errored", "errored", Some(Status::Errored));
        ended("aborted", "aborted", Some(Status::Aborted));
        ended("running", "running", None);
        assert_eq!(removable(&store, 20), ["good"]);
        ended("again", "failed", Some(Status::Aborted));
        assert_eq!(removable(&store, 20), ["failed", "good"], "a later build has ended");
        assert_eq!(removable(&store, 2000), ["aborted", "again", "errored", "failed", "good"]);
        let quiet = |end| store.read_blocking(move |tx| tx.containers_of_builds_ended_before(Time(end))).unwrap().len();
        assert_eq!((quiet(10), quiet(11)), (0, 5), "those of builds that have just ended are left alone");
    }

    #[test]
    fn what_a_removed_pipeline_or_resource_leaves_goes_at_once() {
        let (store, _dir) = store();
        let resources = |names: &[&str]| {
            let list: Vec<_> = names.iter().map(|n| serde_json::json!({"name": n, "type": "mock"})).collect();
            serde_json::json!({"resources": list, "jobs": [{"name": "j", "plan": []}]})
        };
        let check = |tx: &WriteTx<'_>, pipeline, resource: &str, handle: &str, now: i64| {
            let resource = tx.find_resource(pipeline, resource)?.map(|r| r.id);
            let (plan, by) = ("{}", Some("ann"));
            let new = CheckBuild { pipeline, resource, now: Time(now), by, plan, public_plan: plan, waits: true };
            let build = tx.create_check_build(&new)?;
            container(tx, handle, Some(build), now)?;
            tx.finish_build(build, Status::Succeeded, Time(now))
        };
        store
            .write_blocking(|tx| {
                let kept = set(tx, "kept", resources(&["a", "b"]))?;
                check(tx, kept, "a", "removed", 1)?;
                check(tx, kept, "b", "earlier", 2)?;
                check(tx, kept, "b", "later", 10)?;
                set(tx, "kept", resources(&["b"]))?;
                let gone = set(tx, "gone", resources(&[]))?;
                let failed = tx.create_manual_build(job(tx, gone, "j"), "ann", Time(1))?;
                container(tx, "orphan", Some(failed), 1)?;
                tx.finish_build(failed, Status::Failed, Time(10))?;
                tx.destroy_pipeline(gone)?;
                Ok(())
            })
            .unwrap();
        assert_eq!(removable(&store, 9), ["orphan", "removed"]);
        assert_eq!(removable(&store, 10), ["earlier", "orphan", "removed"], "a later check has ended");
    }

    #[test]
    fn one_off_builds_and_checks_have_times_of_their_own() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team = tx.ensure_main(None)?;
                let build = tx.create_one_off_build(team, "ann", Time(1))?;
                container(tx, "one-off", Some(build), 1)?;
                tx.start_plain_build(build, "{}", "{}", Time(2))?;
                tx.finish_build(build, Status::Succeeded, Time(10))?;
                container(tx, "check-1", None, 10)?;
                container(tx, "check-2", None, 100)
            })
            .unwrap();
        assert_eq!(removable(&store, 60), [""; 0]);
        assert_eq!(removable(&store, 150), ["check-1"], "a later check is there");
        assert_eq!(removable(&store, 311), ["check-1", "check-2", "one-off"]);
    }
}
