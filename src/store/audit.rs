//! Who did what.

use rusqlite::{Row, params};
use serde_json::Value;

use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;

/// A row of `audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its id; 0 before it is stored.
    pub id: i64,
    /// When.
    pub at: Time,
    /// The route's name, such as `CreateJobBuild`.
    pub action: String,
    /// Who.
    pub user: String,
    /// In which team, or nothing.
    pub team: String,
    /// Parameters of the request, without secrets.
    pub parameters: Value,
    /// HTTP status of the answer.
    pub status: u16,
}

impl AuditEntry {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<AuditEntry> {
        Ok(AuditEntry {
            id: r.get(0)?,
            at: r.get(1)?,
            action: r.get(2)?,
            user: r.get(3)?,
            team: r.get(4)?,
            parameters: r.get::<_, Json<Value>>(5)?.0,
            status: r.get(6)?,
        })
    }
}

impl ReadTx<'_> {
    /// Entries older than `before` (or the newest), newest first; of one team or all.
    pub fn audit_entries(&self, team: Option<&str>, before: Option<i64>, limit: i64) -> Result<Vec<AuditEntry>> {
        let mut query = self.prepare_cached(
            "select id, at, action, user, team, parameters, status from audit
             where (?1 is null or team = ?1) and (?2 is null or id < ?2) order by id desc limit ?3",
        )?;
        Ok(query.query_map(params![team, before, limit], AuditEntry::from_row)?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Adds an entry.
    pub fn add_audit_entry(&self, e: &AuditEntry) -> Result<i64> {
        self.prepare_cached(
            "insert into audit (at, action, user, team, parameters, status) values (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![e.at, e.action, e.user, e.team, Json(&e.parameters), e.status])?;
        Ok(self.last_insert_rowid())
    }

    /// Forgets entries from before `time`.
    pub fn purge_audit(&self, time: Time) -> Result<usize> {
        Ok(self.prepare_cached("delete from audit where at < ?")?.execute([time])?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::fixture::store;

    #[test]
    fn entries_come_newest_first_and_by_team() {
        let (store, _dir) = store();
        let entry = |at: i64, team: &str| AuditEntry {
            id: 0,
            at: Time(at),
            action: "SetTeam".into(),
            user: "a".into(),
            team: team.into(),
            parameters: json!({"n": at}),
            status: 200,
        };
        store
            .write_blocking(|tx| {
                for (at, team) in [(1, "x"), (2, "y"), (3, "x")] {
                    tx.add_audit_entry(&entry(at, team))?;
                }
                let at = |rows: Vec<AuditEntry>| rows.iter().map(|e| e.at.0).collect::<Vec<_>>();
                assert_eq!(at(tx.audit_entries(None, None, 10)?), [3, 2, 1]);
                assert_eq!(at(tx.audit_entries(Some("x"), None, 1)?), [3]);
                assert_eq!(at(tx.audit_entries(Some("x"), Some(3), 10)?), [1]);
                assert_eq!(tx.purge_audit(Time(3))?, 2);
                Ok(())
            })
            .unwrap();
    }
}
