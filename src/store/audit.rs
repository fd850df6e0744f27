//! Who did what. Each row carries a digest over itself and the row before, so that a gap or a change shows.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::TeamId;
use crate::base::version::digest;

/// A row of `audit`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its id; 0 before it is stored.
    pub id: i64,
    /// When, in milliseconds.
    pub at: i64,
    /// The route's name, such as `CreateJobBuild`, or `SignIn`.
    pub action: String,
    /// The name shown.
    pub user: String,
    /// The identity behind it.
    pub sub: String,
    /// How they signed in.
    pub connector: String,
    /// From where.
    pub address: String,
    /// The team it was done to.
    pub team_id: Option<TeamId>,
    /// The name of that team at the time, or nothing.
    pub team: String,
    /// What it was done to.
    pub object: String,
    /// Parameters of the request, without secrets.
    pub parameters: Value,
    /// HTTP status of the answer.
    pub status: u16,
}

/// Which rows are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Of this team; none for all.
    pub team: Option<TeamId>,
    /// By this name.
    pub user: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// Older than this row.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// Whether the rows are as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    /// So many rows, each following the one before.
    Whole(usize),
    /// This row does not follow the one before: it was changed, or one was taken out or put in.
    Broken(i64),
}

const COLUMNS: &str = "id, at, action, user, sub, connector, address, team_id, team, object, parameters, status";

impl AuditEntry {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<AuditEntry> {
        Ok(AuditEntry {
            id: r.get(0)?,
            at: r.get(1)?,
            action: r.get(2)?,
            user: r.get(3)?,
            sub: r.get(4)?,
            connector: r.get(5)?,
            address: r.get(6)?,
            team_id: r.get(7)?,
            team: r.get(8)?,
            object: r.get(9)?,
            parameters: r.get::<_, Json<Value>>(10)?.0,
            status: r.get(11)?,
        })
    }

    /// Over everything but the team's id, which is taken away when the team goes.
    fn chained(&self, before: &str) -> String {
        let Self { at, action, user, sub, connector, address, team, object, parameters, status, .. } = self;
        let row =
            serde_json::json!([before, at, action, user, sub, connector, address, team, object, parameters, status]);
        digest(row.to_string().as_bytes())
    }
}

impl ReadTx<'_> {
    /// Rows, newest first.
    pub fn audit_entries(&self, wanted: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let team = if wanted.team.is_some() { "team_id = ?1" } else { "?1 is null" };
        let mut query = self.prepare_cached(&format!(
            "select {COLUMNS} from audit where {team} and (?2 is null or user = ?2) and (?3 is null or action = ?3)
               and (?4 is null or id < ?4) order by id desc limit ?5"
        ))?;
        let values = params![wanted.team, wanted.user, wanted.action, wanted.before, wanted.limit];
        Ok(query.query_map(values, AuditEntry::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether there is something for [`WriteTx::purge_audit`] to forget.
    pub fn has_old_audit(&self, time: Time) -> Result<bool> {
        let mut query = self
            .prepare_cached("select exists (select 1 from audit where at < ? and id < (select max(id) from audit))")?;
        Ok(query.query_row([time], |r| r.get(0))?)
    }

    /// Follows the chain through the newest rows, at most so many: each is digested again, which takes its time.
    pub fn audit_chain(&self, newest: usize) -> Result<Chain> {
        let mut query = self.prepare_cached(&format!(
            "select {COLUMNS}, chain from (select * from audit order by id desc limit ?) order by id"
        ))?;
        let mut rows = query.query([i64::try_from(newest).unwrap_or(i64::MAX)])?;
        let (mut before, mut count) = (None::<String>, 0);
        while let Some(row) = rows.next()? {
            let (entry, chain): (_, String) = (AuditEntry::from_row(row)?, row.get(12)?);
            // What the oldest one follows is not looked at, or gone by retention.
            if before.is_some_and(|before| entry.chained(&before) != chain) {
                return Ok(Chain::Broken(entry.id));
            }
            before = Some(chain);
            count += 1;
        }
        Ok(Chain::Whole(count))
    }
}

impl WriteTx<'_> {
    /// Adds an entry. Its team is the one of its id if there still is one, else the one of its name.
    pub fn add_audit_entry(&self, e: &AuditEntry) -> Result<i64> {
        let before: Option<String> = self
            .prepare_cached("select chain from audit order by id desc limit 1")?
            .query_row([], |r| r.get(0))
            .optional()?;
        let chain = e.chained(&before.unwrap_or_default());
        let team: Option<TeamId> = self
            .prepare_cached("select id from teams where case when ?1 is null then name = ?2 else id = ?1 end")?
            .query_row(params![e.team_id, e.team], |r| r.get(0))
            .optional()?;
        self.prepare_cached(
            "insert into audit (at, action, user, sub, connector, address, team_id, team, object, parameters, status, chain)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            e.at,
            e.action,
            e.user,
            e.sub,
            e.connector,
            e.address,
            team,
            e.team,
            e.object,
            Json(&e.parameters),
            e.status,
            chain
        ])?;
        Ok(self.last_insert_rowid())
    }

    /// Forgets entries from before `time`.
    pub fn purge_audit(&self, time: Time) -> Result<usize> {
        // The newest stays, so that the chain goes on from it.
        let mut delete = self.prepare_cached("delete from audit where at < ? and id < (select max(id) from audit)")?;
        Ok(delete.execute([time])?)
    }

    /// Takes a team's rows away from whoever has its id later; administrators still see them.
    pub(super) fn orphan_audit(&self, team: TeamId) -> Result<()> {
        self.prepare_cached("update audit set team_id = null where team_id = ?")?.execute([team])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::fixture::store;

    fn entry(at: i64, team: &str) -> AuditEntry {
        AuditEntry {
            at,
            action: "SetTeam".into(),
            user: "a".into(),
            team: team.into(),
            parameters: json!({"n": at}),
            status: 200,
            ..AuditEntry::default()
        }
    }

    #[test]
    fn entries_come_newest_first_and_by_team() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let x = tx.set_team("x", &json!({}))?.0.id;
                tx.set_team("y", &json!({}))?;
                for (at, team) in [(1, "x"), (2, "y"), (3, "x")] {
                    tx.add_audit_entry(&entry(at, team))?;
                }
                let at = |wanted: AuditQuery| -> Result<Vec<i64>> {
                    Ok(tx.audit_entries(&AuditQuery { limit: 10, ..wanted })?.iter().map(|e| e.at).collect())
                };
                assert_eq!(at(AuditQuery::default())?, [3, 2, 1]);
                assert_eq!(at(AuditQuery { team: Some(x), ..AuditQuery::default() })?, [3, 1]);
                assert_eq!(at(AuditQuery { team: Some(x), before: Some(3), ..AuditQuery::default() })?, [1]);
                assert_eq!(at(AuditQuery { user: Some("b".into()), ..AuditQuery::default() })?, [] as [i64; 0]);
                tx.destroy_team(x)?;
                assert_eq!(at(AuditQuery { team: Some(x), ..AuditQuery::default() })?, [] as [i64; 0]);
                assert_eq!(tx.purge_audit(Time(3))?, 2);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_changed_or_missing_row_breaks_the_chain_and_an_old_end_does_not() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                for at in 1..=5 {
                    tx.add_audit_entry(&entry(at, ""))?;
                }
                tx.purge_audit(Time(2))?;
                assert_eq!((tx.audit_chain(9)?, tx.audit_chain(2)?), (Chain::Whole(4), Chain::Whole(2)));
                tx.execute("delete from audit where id = 4", [])?;
                assert_eq!((tx.audit_chain(9)?, tx.audit_chain(1)?), (Chain::Broken(5), Chain::Whole(1)));
                tx.execute("update audit set user = 'b' where id = 3", [])?;
                assert_eq!(tx.audit_chain(9)?, Chain::Broken(3));
                Ok(())
            })
            .unwrap();
    }
}
