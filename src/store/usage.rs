//! What is kept because it may be used again: fetched versions and task caches, in one order of use.

use rusqlite::Row;

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::JobId;

/// A row of one of the two tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// Of `resource_caches`.
    Fetched {
        /// Its key.
        key: String,
    },
    /// Of `task_caches`.
    Task {
        /// The job.
        job: JobId,
        /// The task's step.
        step: String,
        /// The directory.
        path: String,
    },
}

impl Cache {
    /// For people.
    pub fn kind(&self) -> &'static str {
        match self {
            Cache::Fetched { .. } => "fetched version",
            Cache::Task { .. } => "task cache",
        }
    }
}

/// Something that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its row.
    pub cache: Cache,
    /// Its files.
    pub volume: String,
    /// The engine's image that it stands for.
    pub image: Option<String>,
    /// When it was last used.
    pub last_used: Time,
    /// Whose it is.
    pub team: String,
    /// Resource and version, or task and directory, for people.
    pub what: String,
}

impl Kept {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<Kept> {
        let cache = match r.get::<_, Option<i64>>(1)? {
            None => Cache::Fetched { key: r.get(0)? },
            Some(job) => Cache::Task { job: JobId(job), step: r.get(0)?, path: r.get(2)? },
        };
        Ok(Kept { cache, volume: r.get(3)?, image: r.get(4)?, last_used: r.get(5)?, team: r.get(6)?, what: r.get(7)? })
    }
}

impl ReadTx<'_> {
    /// All that is kept, the last used first.
    pub fn kept_by_use(&self) -> Result<Vec<Kept>> {
        let mut query = self.prepare_cached(
            "select c.key, null, null, c.volume, json_extract(c.image, '$.id'), c.last_used, t.name,
               coalesce((select p.name || '/' || r.name from resource_cache_uses u
                         join resources r on r.id = u.resource_id join pipelines p on p.id = r.pipeline_id
                         where u.key = c.key limit 1), c.base_type)
               || ' ' || coalesce(json_extract(c.response, '$.version'), '')
             from resource_caches c join teams t on t.id = c.team_id
             union all
             select c.step_name, c.job_id, c.path, c.volume, null, c.last_used, t.name,
               p.name || '/' || j.name || '/' || c.step_name || ' ' || c.path
             from task_caches c join jobs j on j.id = c.job_id join pipelines p on p.id = j.pipeline_id
             join teams t on t.id = p.team_id
             order by 6 desc, 1",
        )?;
        Ok(query.query_map([], Kept::from_row)?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Forgets something that is kept; its volume becomes removable.
    pub fn drop_kept(&self, cache: &Cache) -> Result<()> {
        match cache {
            Cache::Fetched { key } => self.drop_resource_cache(key),
            Cache::Task { job, step, path } => self.clear_task_cache(*job, step, Some(path)).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::cache::{ResourceCache, TaskCache};
    use crate::store::fixture::{job, set, store, volume};

    #[test]
    fn fetched_versions_and_task_caches_are_in_one_order() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team_id = tx.ensure_main(None)?;
                for handle in ["a", "b"] {
                    tx.insert_volume(&volume(team_id, handle))?;
                }
                let pipeline = set(tx, "p", json!({"jobs": [{"name": "j", "plan": []}]}))?;
                let job = job(tx, pipeline, "j");
                let (step, path, volume) = ("build".to_owned(), "target".to_owned(), "b".to_owned());
                tx.keep_task_cache(&TaskCache { job, step, path, volume, ttl: 0 }, Time(7))?;
                tx.keep_resource_cache(&ResourceCache {
                    key: "k".into(),
                    team_id,
                    volume: "a".into(),
                    base_type: "mock".into(),
                    response: r#"{"version": {"v": "1"}}"#.into(),
                    image: Some(r#"{"id": "sha256:1"}"#.into()),
                    last_used: Time(9),
                })?;
                assert_eq!(tx.engine_images_of_caches()?, ["sha256:1"]);
                let kept = tx.kept_by_use()?;
                let shown: Vec<_> = kept.iter().map(|k| (k.cache.kind(), k.what.as_str(), k.volume.as_str())).collect();
                assert_eq!(
                    shown,
                    [("fetched version", r#"mock {"v":"1"}"#, "a"), ("task cache", "p/j/build target", "b"),]
                );
                assert_eq!((kept[0].image.as_deref(), kept[1].team.as_str()), (Some("sha256:1"), "main"));
                for kept in kept {
                    tx.drop_kept(&kept.cache)?;
                }
                assert_eq!(tx.kept_by_use()?, []);
                Ok(())
            })
            .unwrap();
    }
}
