//! Versions of a scope, in the order checks found them.

use rusqlite::{OptionalExtension, Row, params};

use super::column::Json;
use super::page::{Page, PageRequest};
use super::{ReadTx, Result, WriteTx};
use crate::base::id::{ResourceId, ScopeId, VersionId};
use crate::base::version::{MetadataField, Version};

/// A row of `versions`; `enabled` as the resource it was asked for sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// Its id.
    pub id: VersionId,
    /// Whose history.
    pub scope_id: ScopeId,
    /// The version.
    pub version: Version,
    /// What its type tells about it.
    pub metadata: Vec<MetadataField>,
    /// Place in the history, newest highest; 0 if no check has told of it.
    pub check_order: i64,
    /// Whether it may be used.
    pub enabled: bool,
}

impl VersionRow {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<VersionRow> {
        Ok(VersionRow {
            id: r.get(0)?,
            scope_id: r.get(1)?,
            version: r.get(2)?,
            metadata: r.get::<_, Json<Vec<MetadataField>>>(3)?.0,
            check_order: r.get(4)?,
            enabled: r.get(5)?,
        })
    }
}

/// What saving versions has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Whether any was new.
    pub new: bool,
    /// Whether jobs were asked to be looked at: then wake the schedule pass.
    pub marked: bool,
}

/// How many versions have a pair.
enum Pair<'v> {
    /// None: there is no version that has all pairs.
    Nowhere,
    /// A few have this one.
    Rare(&'v str, &'v str),
    /// Many have each of them, so that the newest with all is soon found.
    Common,
}

const COLUMNS: &str = "select v.id, v.scope_id, v.version, v.metadata, v.check_order,
  not exists (select 1 from disabled_versions d where d.resource_id = r.id and d.digest = v.digest)
  from versions v join resources r on r.scope_id = v.scope_id";

impl ReadTx<'_> {
    /// The version of that id, as that resource sees it; `None` if it is not in its present history.
    pub fn version(&self, resource: ResourceId, id: VersionId) -> Result<Option<VersionRow>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where r.id = ? and v.id = ?"))?;
        Ok(query.query_row(params![resource, id], VersionRow::from_row).optional()?)
    }

    /// That very version, as that resource sees it.
    pub fn find_version(&self, resource: ResourceId, version: &Version) -> Result<Option<VersionRow>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where r.id = ? and v.digest = ?"))?;
        Ok(query.query_row(params![resource, version.digest()], VersionRow::from_row).optional()?)
    }

    /// The newest version of a scope.
    pub fn latest_version(&self, scope: ScopeId) -> Result<Option<Version>> {
        let mut query = self.prepare_cached(
            "select version from versions where scope_id = ? order by check_order desc, id desc limit 1",
        )?;
        Ok(query.query_row([scope], |r| r.get(0)).optional()?)
    }

    /// The newest version of a scope that has every pair of `partial`.
    pub fn newest_containing(&self, scope: ScopeId, partial: &Version) -> Result<Option<Version>> {
        let whole: Option<Version> = self
            .prepare_cached("select version from versions where scope_id = ? and digest = ?")?
            .query_row(params![scope, partial.digest()], |r| r.get(0))
            .optional()?;
        if whole.is_some() {
            return Ok(whole);
        }
        let mut query;
        let mut rows = match self.rarest_pair(scope, partial)? {
            Pair::Nowhere => return Ok(None),
            Pair::Rare(key, value) => {
                query = self.prepare_cached(
                    "select v.version from version_pairs p join versions v on v.id = p.version_id
                     where p.scope_id = ? and p.key = ? and p.value = ? order by v.check_order desc, v.id desc",
                )?;
                query.query(params![scope, key, value])?
            }
            Pair::Common => {
                query = self.prepare_cached(
                    "select version from versions where scope_id = ? order by check_order desc, id desc",
                )?;
                query.query([scope])?
            }
        };
        while let Some(r) = rows.next()? {
            let version: Version = r.get(0)?;
            if version.contains(partial) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// How rare the rarest pair is among the versions of a scope.
    fn rarest_pair<'v>(&self, scope: ScopeId, partial: &'v Version) -> Result<Pair<'v>> {
        const MANY: i64 = 200;
        let mut count = self.prepare_cached(
            "select count(*) from (select 1 from version_pairs where scope_id = ? and key = ? and value = ? limit ?)",
        )?;
        let (mut fewest, mut rarest) = (MANY, Pair::Common);
        for (key, value) in &partial.0 {
            let n: i64 = count.query_row(params![scope, key, value, MANY], |r| r.get(0))?;
            if n == 0 {
                return Ok(Pair::Nowhere);
            }
            if n < fewest {
                (fewest, rarest) = (n, Pair::Rare(key, value));
            }
        }
        Ok(rarest)
    }

    /// Whether a check that returned these told nothing new: then nothing needs to be written.
    pub fn all_known(&self, scope: ScopeId, versions: &[Version]) -> Result<bool> {
        let mut query = self.prepare_cached(
            "select exists (select 1 from versions where scope_id = ? and digest = ? and check_order > 0)",
        )?;
        for version in versions {
            if !query.query_row(params![scope, version.digest()], |r| r.get::<_, bool>(0))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A resource's versions, newest first, of those that have every pair of `filter`.
    pub fn versions(&self, resource: ResourceId, filter: &Version, page: PageRequest) -> Result<Page<VersionRow>> {
        let bound = if page.upwards() {
            "v.check_order >= (select check_order from versions where id = ?2) order by v.check_order, v.id"
        } else {
            "(?2 is null or v.check_order <= (select check_order from versions where id = ?2))
             order by v.check_order desc, v.id desc"
        };
        let mut query = self.prepare_cached(&format!("{COLUMNS} where r.id = ?1 and {bound}"))?;
        let mut rows = query.query(params![resource, page.from.or(page.to)])?;
        let mut items = Vec::new();
        while items.len() < usize::try_from(page.limit).unwrap_or(0) {
            let Some(r) = rows.next()? else { break };
            if r.get::<_, Version>(2)?.contains(filter) {
                items.push(VersionRow::from_row(r)?);
            }
        }
        if page.upwards() {
            items.reverse();
        }
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            return Ok(Page { items, newer: None, older: None });
        };
        let neighbour = |query: &str, order: i64| -> Result<Option<i64>> {
            Ok(self.prepare_cached(query)?.query_row(params![first.scope_id, order], |r| r.get(0)).optional()?)
        };
        let newer = neighbour(
            "select id from versions where scope_id = ? and check_order > ? order by check_order, id limit 1",
            first.check_order,
        )?;
        let older = neighbour(
            "select id from versions where scope_id = ? and check_order < ? order by check_order desc, id desc limit 1",
            last.check_order,
        )?;
        Ok(Page { items, newer, older })
    }
}

impl WriteTx<'_> {
    /// Saves what a check returned, oldest first. If any was new, all of them become the newest in that order and the
    /// jobs that use the scope are asked to be looked at; else nothing changes.
    pub fn save_checked(&self, scope: ScopeId, versions: &[Version]) -> Result<Saved> {
        let mut new = false;
        for version in versions {
            new |= self.make_known(scope, version)?;
        }
        if !new {
            return Ok(Saved::default());
        }
        for version in versions {
            self.bump(scope, version)?;
        }
        Ok(Saved { new, marked: self.request_schedule_of_scope(scope)? })
    }

    /// Saves what a put made. It becomes the newest only if no check or put has told of it before.
    pub fn save_put(&self, scope: ScopeId, version: &Version, metadata: &[MetadataField]) -> Result<Saved> {
        let new = self.make_known(scope, version)?;
        self.save_metadata(scope, version, metadata)?;
        if !new {
            return Ok(Saved::default());
        }
        self.bump(scope, version)?;
        Ok(Saved { new, marked: self.request_schedule_of_scope(scope)? })
    }

    /// Keeps what a get or put told about a version; telling nothing changes nothing.
    pub fn save_metadata(&self, scope: ScopeId, version: &Version, metadata: &[MetadataField]) -> Result<()> {
        if !metadata.is_empty() {
            self.prepare_cached("update versions set metadata = ? where scope_id = ? and digest = ?")?
                .execute(params![Json(metadata), scope, version.digest()])?;
        }
        Ok(())
    }

    /// Forgets all versions of a scope; how many there were. What builds used stays with the builds.
    pub fn clear_versions(&self, scope: ScopeId) -> Result<usize> {
        let n = self.prepare_cached("delete from versions where scope_id = ?")?.execute([scope])?;
        self.prepare_cached("delete from version_pairs where scope_id = ?")?.execute([scope])?;
        self.request_schedule_of_scope(scope)?;
        Ok(n)
    }

    /// Asks for a look at the jobs with an input on that scope that must not have passed another job; whether any.
    pub fn request_schedule_of_scope(&self, scope: ScopeId) -> Result<bool> {
        let n = self
            .prepare_cached(
                "update jobs set schedule_requested = schedule_requested + 1 where id in (
                   select i.job_id from resources r join job_inputs i on i.resource_id = r.id
                   where r.scope_id = ? and i.passed_job_id is null)",
            )?
            .execute([scope])?;
        Ok(n > 0)
    }

    /// Whether it has no place in the history yet.
    fn make_known(&self, scope: ScopeId, version: &Version) -> Result<bool> {
        let digest = version.digest();
        let order: Option<i64> = self
            .prepare_cached("select check_order from versions where scope_id = ? and digest = ?")?
            .query_row(params![scope, digest], |r| r.get(0))
            .optional()?;
        if let Some(order) = order {
            return Ok(order == 0);
        }
        let id: VersionId = self
            .prepare_cached("insert into versions (scope_id, digest, version) values (?, ?, ?) returning id")?
            .query_row(params![scope, digest, version], |r| r.get(0))?;
        let mut pair = self.prepare_cached(
            "insert or ignore into version_pairs (scope_id, key, value, version_id) values (?, ?, ?, ?)",
        )?;
        for (key, value) in &version.0 {
            pair.execute(params![scope, key, value, id])?;
        }
        // A version that builds held before it was known: what the resolver found impossible may be possible now.
        self.prepare_cached(
            "update resources set reopened = reopened + 1 where scope_id = ?1 and (
               exists (select 1 from build_inputs where resource_id = resources.id and digest = ?2)
               or exists (select 1 from build_outputs where resource_id = resources.id and digest = ?2))",
        )?
        .execute(params![scope, digest])?;
        Ok(true)
    }

    fn bump(&self, scope: ScopeId, version: &Version) -> Result<()> {
        self.prepare_cached(
            "update versions set check_order = 1 + (select max(check_order) from versions where scope_id = ?1)
             where scope_id = ?1 and digest = ?2",
        )?
        .execute(params![scope, version.digest()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Store;
    use crate::store::fixture::{scoped, set, store, v};

    fn with_scope(f: impl FnOnce(&WriteTx<'_>, ResourceId, ScopeId)) -> (Store, tempfile::TempDir) {
        let (store, dir) = store();
        store
            .write_blocking(|tx| {
                let p = set(
                    tx,
                    "p",
                    json!({"resources": [{"name": "r", "type": "mock"}],
                           "jobs": [{"name": "j", "plan": [{"get": "r"}]},
                                    {"name": "k", "plan": [{"get": "r", "passed": ["j"]}]}]}),
                )?;
                let (resource, scope) = scoped(tx, p, "r");
                for (job, _) in tx.jobs_wanting_schedule()? {
                    tx.mark_scheduled(job, i64::MAX)?;
                }
                f(tx, resource, scope);
                Ok(())
            })
            .unwrap();
        (store, dir)
    }

    fn history(tx: &WriteTx<'_>, r: ResourceId, page: PageRequest) -> (Vec<String>, Option<i64>, Option<i64>) {
        let page = tx.versions(r, &Version::default(), page).unwrap();
        (page.items.iter().map(|row| row.version.0["v"].clone()).collect(), page.newer, page.older)
    }

    #[test]
    fn one_new_version_brings_all_returned_ones_to_the_top_in_their_order() {
        with_scope(|tx, r, scope| {
            let top = |tx: &WriteTx<'_>| history(tx, r, PageRequest::default()).0;
            assert_eq!(tx.save_checked(scope, &[v(1), v(2)]).unwrap(), Saved { new: true, marked: true });
            assert_eq!(top(tx), ["2", "1"]);
            assert_eq!(tx.save_checked(scope, &[v(1)]).unwrap(), Saved::default(), "nothing new, nothing moves");
            assert_eq!(top(tx), ["2", "1"]);
            tx.save_checked(scope, &[v(1), v(3)]).unwrap();
            assert_eq!(top(tx), ["3", "1", "2"]);
            tx.save_put(scope, &v(2), &[]).unwrap();
            assert_eq!(top(tx), ["3", "1", "2"], "what is put again does not move");
            tx.save_put(scope, &v(4), &[]).unwrap();
            assert_eq!(top(tx), ["4", "3", "1", "2"]);
            assert!(tx.all_known(scope, &[v(4), v(1)]).unwrap() && !tx.all_known(scope, &[v(5)]).unwrap());
        });
    }

    #[test]
    fn only_jobs_that_take_it_from_the_resource_are_looked_at() {
        with_scope(|tx, _, scope| {
            assert!(tx.save_checked(scope, &[v(1)]).unwrap().marked);
            let names: Vec<_> = tx
                .jobs_wanting_schedule()
                .unwrap()
                .into_iter()
                .map(|(j, _)| tx.job(j).unwrap().unwrap().name)
                .collect();
            assert_eq!(names, ["j"]);
        });
    }

    #[test]
    fn a_request_that_comes_while_a_job_is_looked_at_stays() {
        with_scope(|tx, _, scope| {
            tx.save_checked(scope, &[v(1)]).unwrap();
            let (job, _) = tx.jobs_wanting_schedule().unwrap()[0];
            let mark = tx.job(job).unwrap().unwrap().schedule_mark;
            tx.save_checked(scope, &[v(2)]).unwrap();
            tx.mark_scheduled(job, mark).unwrap();
            assert_eq!(tx.jobs_wanting_schedule().unwrap().len(), 1);
            let mark = tx.job(job).unwrap().unwrap().schedule_mark;
            tx.mark_scheduled(job, mark).unwrap();
            assert!(tx.jobs_wanting_schedule().unwrap().is_empty());
        });
    }

    #[test]
    fn pages_meet() {
        with_scope(|tx, r, scope| {
            let ids: Vec<i64> = (1..=5)
                .map(|n| {
                    tx.save_checked(scope, &[v(n)]).unwrap();
                    tx.find_version(r, &v(n)).unwrap().unwrap().id.0
                })
                .collect();
            let own = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            assert_eq!(history(tx, r, PageRequest::newest(2)), (own(&["5", "4"]), None, Some(ids[2])));
            let to = PageRequest { to: Some(ids[2]), ..PageRequest::newest(2) };
            assert_eq!(history(tx, r, to), (own(&["3", "2"]), Some(ids[3]), Some(ids[0])));
            let from = PageRequest { from: Some(ids[3]), ..PageRequest::newest(2) };
            assert_eq!(history(tx, r, from), (own(&["5", "4"]), None, Some(ids[2])));
            let filtered = tx.versions(r, &v(3), PageRequest::default()).unwrap();
            assert_eq!(filtered.items.len(), 1);
        });
    }

    #[test]
    fn metadata_is_replaced_by_more_only_and_versions_are_switched_off_and_on() {
        with_scope(|tx, r, scope| {
            tx.save_checked(scope, &[v(1)]).unwrap();
            let told = [MetadataField { name: "author".into(), value: "a".into() }];
            tx.save_metadata(scope, &v(1), &told).unwrap();
            tx.save_metadata(scope, &v(1), &[]).unwrap();
            let row = tx.find_version(r, &v(1)).unwrap().unwrap();
            assert_eq!((row.metadata.as_slice(), row.enabled), (&told[..], true));
            assert!(tx.set_version_enabled(r, row.id, false).unwrap());
            assert!(!tx.version(r, row.id).unwrap().unwrap().enabled);
            assert!(tx.set_version_enabled(r, row.id, true).unwrap());
            assert!(!tx.set_version_enabled(r, VersionId(99), true).unwrap());
            assert_eq!(tx.clear_versions(scope).unwrap(), 1);
            assert_eq!(tx.latest_version(scope).unwrap(), None);
        });
    }
}
