//! What later steps may use again: fetched versions and task caches.

use rusqlite::{OptionalExtension, Row, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{JobId, ResourceId, TeamId};
use crate::base::version::Version;

/// A row of `resource_caches`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceCache {
    /// Digest over team, chain of types, source, version and params.
    pub key: String,
    /// Whose it is.
    pub team_id: TeamId,
    /// Where the files are.
    pub volume: String,
    /// The base type at the end of its chain of types.
    pub base_type: String,
    /// JSON of what the fetch answered.
    pub response: String,
    /// JSON of the engine's image where the fetch was an image pull.
    pub image: Option<String>,
    /// When it was last asked for.
    pub last_used: Time,
}

impl ResourceCache {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<ResourceCache> {
        Ok(ResourceCache {
            key: r.get(0)?,
            team_id: r.get(1)?,
            volume: r.get(2)?,
            base_type: r.get(3)?,
            response: r.get(4)?,
            image: r.get(5)?,
            last_used: r.get(6)?,
        })
    }
}

/// A directory that is kept between runs of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskCache {
    /// The job it belongs to.
    pub job: JobId,
    /// The task's step.
    pub step: String,
    /// The directory, as the task names it.
    pub path: String,
    /// Its files.
    pub volume: String,
    /// Milliseconds after its last use for which it is kept; 0 is for ever.
    pub ttl: i64,
}

impl ReadTx<'_> {
    /// The fetched version of that key.
    pub fn resource_cache(&self, key: &str) -> Result<Option<ResourceCache>> {
        let mut query = self.prepare_cached(
            "select key, team_id, volume, base_type, response, image, last_used from resource_caches where key = ?",
        )?;
        Ok(query.query_row([key], ResourceCache::from_row).optional()?)
    }

    /// The volume of a task's cache.
    pub fn task_cache(&self, job: JobId, step: &str, path: &str) -> Result<Option<String>> {
        let mut query =
            self.prepare_cached("select volume from task_caches where job_id = ? and step_name = ? and path = ?")?;
        Ok(query.query_row(params![job, step, path], |r| r.get(0)).optional()?)
    }

    /// The volumes that each task's cache is made of: itself first, then what it is a copy-on-write child of.
    pub fn task_cache_chains(&self) -> Result<Vec<Vec<String>>> {
        let mut query = self.prepare_cached(
            "with recursive chain (cache, handle, depth) as (
               select distinct volume, volume, 0 from task_caches
               union all
               select c.cache, v.parent, c.depth + 1 from chain c join volumes v on v.handle = c.handle
               where v.parent is not null)
             select cache, handle from chain order by cache, depth",
        )?;
        let mut chains: Vec<Vec<String>> = Vec::new();
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (cache, handle): (String, String) = (row.get(0)?, row.get(1)?);
            match chains.last_mut().filter(|chain| chain[0] == cache) {
                Some(chain) => chain.push(handle),
                None => chains.push(vec![handle]),
            }
        }
        Ok(chains)
    }

    /// Ids of the engine's images that fetched versions are.
    pub fn engine_images_of_caches(&self) -> Result<Vec<String>> {
        let mut query = self.prepare_cached(
            "select distinct json_extract(image, '$.id') from resource_caches
             where json_extract(image, '$.id') is not null",
        )?;
        Ok(query.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Keys of fetched versions that nobody has asked for since `before`.
    pub fn idle_resource_caches(&self, before: Time) -> Result<Vec<String>> {
        let mut query =
            self.prepare_cached("select key from resource_caches where last_used < ? order by last_used")?;
        Ok(query.query_map([before], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Keeps a fetched version. If one of that key is there already it stays, and is returned.
    pub fn keep_resource_cache(&self, cache: &ResourceCache) -> Result<ResourceCache> {
        self.prepare_cached(
            "insert into resource_caches (key, team_id, volume, base_type, response, image, last_used)
             values (?, ?, ?, ?, ?, ?, ?)
             on conflict (key) do update set last_used = max(last_used, excluded.last_used)",
        )?
        .execute(params![
            cache.key,
            cache.team_id,
            cache.volume,
            cache.base_type,
            cache.response,
            cache.image,
            cache.last_used
        ])?;
        Ok(self.resource_cache(&cache.key)?.unwrap_or_else(|| cache.clone()))
    }

    /// Remembers that it was asked for; false if it is gone.
    pub fn use_resource_cache(&self, key: &str, now: Time) -> Result<bool> {
        let n = self
            .prepare_cached("update resource_caches set last_used = max(last_used, ?) where key = ?")?
            .execute(params![now, key])?;
        Ok(n == 1)
    }

    /// Remembers that a resource has used the fetched version in this volume.
    pub fn use_fetched(&self, resource: ResourceId, version: &Version, volume: &str) -> Result<()> {
        self.prepare_cached(
            "insert into resource_cache_uses (key, resource_id, digest)
             select key, ?2, ?3 from resource_caches where volume = ?1 on conflict do nothing",
        )?
        .execute(params![volume, resource, version.digest()])?;
        Ok(())
    }

    /// Forgets what was fetched for a resource, of one version or of all; how many.
    pub fn clear_resource_cache(&self, resource: ResourceId, version: Option<&Version>) -> Result<usize> {
        Ok(self
            .prepare_cached(
                "delete from resource_caches where key in (
                   select key from resource_cache_uses where resource_id = ?1 and (?2 is null or digest = ?2))",
            )?
            .execute(params![resource, version.map(Version::digest)])?)
    }

    /// Forgets a fetched version; its volume becomes removable.
    pub fn drop_resource_cache(&self, key: &str) -> Result<()> {
        self.prepare_cached("delete from resource_caches where key = ?")?.execute([key])?;
        Ok(())
    }

    /// Makes a volume the task's cache in place of what was.
    pub fn keep_task_cache(&self, cache: &TaskCache, now: Time) -> Result<()> {
        self.prepare_cached(
            "insert into task_caches (job_id, step_name, path, volume, last_used, ttl) values (?, ?, ?, ?, ?, ?)
             on conflict (job_id, step_name, path) do update set volume = excluded.volume,
               last_used = excluded.last_used, ttl = excluded.ttl",
        )?
        .execute(params![cache.job, cache.step, cache.path, cache.volume, now, cache.ttl])?;
        Ok(())
    }

    /// Puts a volume in the place of another that holds the same; `false` if that is no cache any more.
    pub fn replace_task_cache(&self, old: &str, new: &str) -> Result<bool> {
        let n = self.prepare_cached("update task_caches set volume = ?2 where volume = ?1")?.execute([old, new])?;
        Ok(n > 0)
    }

    /// Forgets caches that nothing will ask for: of archived pipelines, of jobs that are paused with no build to come,
    /// and those whose time is over. How many.
    pub fn drop_stale_task_caches(&self, now: Time) -> Result<usize> {
        Ok(self
            .prepare_cached(
                "delete from task_caches where (ttl > 0 and last_used + ttl < ?1) or job_id in (
                   select j.id from jobs j join pipelines p on p.id = j.pipeline_id
                   where p.archived or ((p.paused or j.paused) and j.next_build_id is null))",
            )?
            .execute([now])?)
    }

    /// Forgets caches of a job's steps whose names are not among these.
    pub fn keep_task_caches_of(&self, job: JobId, steps: &[&str]) -> Result<()> {
        self.prepare_cached(
            "delete from task_caches where job_id = ?1 and step_name not in (select value from json_each(?2))",
        )?
        .execute(params![job, serde_json::to_string(steps)?])?;
        Ok(())
    }

    /// Forgets caches of a step, or of one path of it; how many.
    pub fn clear_task_cache(&self, job: JobId, step: &str, path: Option<&str>) -> Result<usize> {
        Ok(self
            .prepare_cached(
                "delete from task_caches where job_id = ?1 and step_name = ?2 and (?3 is null or path = ?3)",
            )?
            .execute(params![job, step, path])?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::fixture::{job, set, store, volume};
    use crate::store::volume::Volume;

    #[test]
    fn the_first_of_two_fetches_stays_and_a_task_cache_is_replaced() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team_id = tx.ensure_main(None)?;
                for handle in ["a", "b"] {
                    tx.insert_volume(&volume(team_id, handle))?;
                }
                let cache = |volume: &str, at: i64| ResourceCache {
                    key: "k".into(),
                    team_id,
                    volume: volume.into(),
                    base_type: "mock".into(),
                    response: "{}".into(),
                    image: None,
                    last_used: Time(at),
                };
                assert_eq!(tx.keep_resource_cache(&cache("a", 1))?.volume, "a");
                assert_eq!(tx.keep_resource_cache(&cache("b", 2))?, cache("a", 2));
                assert!(tx.use_resource_cache("k", Time(9))? && !tx.use_resource_cache("x", Time(9))?);
                assert!(tx.idle_resource_caches(Time(9))?.is_empty());

                let p = set(tx, "p", json!({"jobs": [{"name": "j", "plan": []}]}))?;
                let j = job(tx, p, "j");
                let cache = |volume: &str, ttl: i64| TaskCache {
                    job: j,
                    step: "build".into(),
                    path: "target".into(),
                    volume: volume.into(),
                    ttl,
                };
                tx.keep_task_cache(&cache("a", 0), Time(1))?;
                tx.keep_task_cache(&cache("b", 0), Time(2))?;
                assert_eq!(tx.task_cache(j, "build", "target")?.as_deref(), Some("b"));
                assert_eq!(tx.clear_task_cache(j, "build", Some("other"))?, 0);
                assert_eq!(tx.clear_task_cache(j, "build", None)?, 1);

                tx.insert_volume(&Volume { handle: "c".into(), parent: Some("a".into()), ..tx.volume("b")?.unwrap() })?;
                tx.keep_task_cache(&cache("c", 0), Time(3))?;
                assert_eq!(tx.task_cache_chains()?, [["c", "a"]]);
                assert!(!tx.replace_task_cache("a", "b")? && tx.replace_task_cache("c", "b")?);
                assert_eq!(tx.task_cache_chains()?, [["b"]]);

                tx.unpause_pipeline(p)?;
                tx.keep_task_cache(&cache("a", 10), Time(5))?;
                assert_eq!((tx.drop_stale_task_caches(Time(15))?, tx.drop_stale_task_caches(Time(16))?), (0, 1));
                tx.keep_task_cache(&cache("a", 0), Time(5))?;
                tx.keep_task_caches_of(j, &["build"])?;
                assert!(tx.task_cache(j, "build", "target")?.is_some());
                tx.keep_task_caches_of(j, &["other"])?;
                assert!(tx.task_cache(j, "build", "target")?.is_none());
                tx.keep_task_cache(&cache("a", 0), Time(5))?;
                tx.pause_job(j, "somebody", Time(6))?;
                assert_eq!(tx.drop_stale_task_caches(Time(7))?, 1);
                Ok(())
            })
            .unwrap();
    }
}
