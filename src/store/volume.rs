//! Volumes, written before the runtime is asked.

use rusqlite::{OptionalExtension, Row, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, TeamId};

/// A row of `volumes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the runtime.
    pub handle: String,
    /// Whose it is.
    pub team_id: TeamId,
    /// `artifact`, `input`, `cache` or `resource`.
    pub kind: String,
    /// What it is a copy-on-write child of.
    pub parent: Option<String>,
    /// The container it is mounted in.
    pub container: Option<String>,
    /// The build it was made by.
    pub build_id: Option<BuildId>,
    /// Name of the artifact or path of the mount, for people.
    pub path: String,
    /// When.
    pub created_at: Time,
}

const COLUMNS: &str = "select handle, team_id, kind, parent, container, build_id, path, created_at from volumes";

impl Volume {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<Volume> {
        Ok(Volume {
            handle: r.get(0)?,
            team_id: r.get(1)?,
            kind: r.get(2)?,
            parent: r.get(3)?,
            container: r.get(4)?,
            build_id: r.get(5)?,
            path: r.get(6)?,
            created_at: r.get(7)?,
        })
    }
}

impl ReadTx<'_> {
    /// The volume of that handle.
    pub fn volume(&self, handle: &str) -> Result<Option<Volume>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where handle = ?"))?;
        Ok(query.query_row([handle], Volume::from_row).optional()?)
    }

    /// All of a team's, oldest first.
    pub fn volumes_of_team(&self, team: TeamId) -> Result<Vec<Volume>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where team_id = ? order by created_at, handle"))?;
        Ok(query.query_map([team], Volume::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// How many copy-on-write children it has.
    pub fn volume_children(&self, handle: &str) -> Result<i64> {
        let mut query = self.prepare_cached("select count(*) from volumes where parent = ?")?;
        Ok(query.query_row([handle], |r| r.get(0))?)
    }

    /// Every handle there is.
    pub fn volume_handles(&self) -> Result<Vec<String>> {
        let mut query = self.prepare_cached("select handle from volumes")?;
        Ok(query.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Those made before `made_before` that nothing needs: no child, no container, no cache, no running build. Those of
    /// builds that are over whenever they were made, if `soon`.
    pub fn removable_volumes(&self, made_before: Time, soon: bool) -> Result<Vec<String>> {
        let mut query = self.prepare_cached(
            "select v.handle from volumes v
             where (v.created_at < ?1 or (?2 and exists (select 1 from builds b where b.id = v.build_id)))
               and not exists (select 1 from volumes c where c.parent = v.handle)
               and (v.container is null or not exists (select 1 from containers c where c.handle = v.container))
               and not exists (select 1 from resource_caches c where c.volume = v.handle)
               and not exists (select 1 from task_caches c where c.volume = v.handle)
               and not exists (select 1 from artifacts a where a.volume = v.handle)
               and not exists (select 1 from builds b where b.id = v.build_id and b.status in ('pending', 'started'))",
        )?;
        Ok(query.query_map(params![made_before, soon], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Writes down a volume that is about to be made; one that is there already stays.
    pub fn insert_volume(&self, v: &Volume) -> Result<()> {
        self.prepare_cached(
            "insert into volumes (handle, team_id, kind, parent, container, build_id, path, created_at)
             values (?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
        )?
        .execute(params![
            v.handle,
            v.team_id,
            v.kind,
            v.parent,
            v.container,
            v.build_id,
            v.path,
            v.created_at
        ])?;
        Ok(())
    }

    /// Forgets a volume that the runtime has removed; false if something has come to need it meanwhile.
    pub fn delete_volume(&self, handle: &str) -> Result<bool> {
        let n = self
            .prepare_cached(
                "delete from volumes where handle = ?1
                   and not exists (select 1 from volumes c where c.parent = ?1)
                   and not exists (select 1 from resource_caches c where c.volume = ?1)
                   and not exists (select 1 from task_caches c where c.volume = ?1)
                   and not exists (select 1 from artifacts a where a.volume = ?1)",
            )?
            .execute([handle])?;
        Ok(n == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::build::Status;
    use crate::store::cache::ResourceCache;
    use crate::store::container::{Container, Kept};
    use crate::store::fixture::store;

    #[test]
    fn a_volume_goes_when_nothing_needs_it_any_more() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team_id = tx.ensure_main(None)?;
                let build = tx.create_one_off_build(team_id, "alice", Time(1))?;
                tx.start_plain_build(build, "{}", "{}", Time(1))?;
                let volume = |handle: &str, kind: &str, parent: Option<&str>, container: Option<&str>| Volume {
                    handle: handle.into(),
                    team_id,
                    kind: kind.into(),
                    parent: parent.map(str::to_owned),
                    container: container.map(str::to_owned),
                    build_id: (kind != "resource").then_some(build),
                    path: String::new(),
                    created_at: Time(1),
                };
                tx.insert_container(&Container {
                    handle: "c".into(),
                    team_id,
                    build_id: Some(build),
                    plan_id: "1".into(),
                    kind: "task".into(),
                    step_name: "t".into(),
                    attempt: String::new(),
                    user: "root".into(),
                    working_directory: "/tmp".into(),
                    created_at: Time(1),
                    hijacked_until: Time(0),
                    resource_id: None,
                })?;
                tx.insert_volume(&volume("fetched", "resource", None, None))?;
                tx.insert_volume(&volume("input", "input", Some("fetched"), Some("c")))?;
                tx.insert_volume(&volume("made", "artifact", None, None))?;
                tx.keep_resource_cache(&ResourceCache {
                    key: "k".into(),
                    team_id,
                    volume: "fetched".into(),
                    base_type: "mock".into(),
                    response: "{}".into(),
                    image: None,
                    last_used: Time(5),
                })?;
                let removable = |tx: &ReadTx<'_>| tx.removable_volumes(Time(9), false).unwrap();
                let at =
                    |now| Kept { failed: Time(0), one_off: Time(now), superseded_checks: Time(0), checks: Time(0) };
                let containers = |tx: &ReadTx<'_>, now| tx.removable_containers(Time(now), &at(now)).unwrap();
                assert!(removable(tx).is_empty() && containers(tx, 2).is_empty(), "the build runs");
                tx.finish_build(build, Status::Succeeded, Time(2))?;
                assert_eq!(removable(tx), ["made"]);
                assert!(tx.removable_volumes(Time(1), false)?.is_empty(), "it is new");
                assert_eq!(tx.removable_volumes(Time(1), true)?, ["made"], "of a build that is over");
                tx.keep_container("c", Time(100))?;
                assert!(containers(tx, 99).is_empty(), "somebody is inside");
                assert_eq!(containers(tx, 100), ["c"]);
                tx.delete_container("c")?;
                assert_eq!(removable(tx), ["input", "made"]);
                assert!(!tx.delete_volume("fetched")? && tx.delete_volume("input")?);
                assert_eq!(tx.idle_resource_caches(Time(6))?, ["k"]);
                tx.drop_resource_cache("k")?;
                assert_eq!(removable(tx), ["fetched", "made"]);
                Ok(())
            })
            .unwrap();
    }
}
