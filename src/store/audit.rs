//! Who did what.

use rusqlite::params;
use serde_json::Value;

use super::{Result, WriteTx};
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

impl WriteTx<'_> {
    /// Adds an entry.
    pub fn add_audit_entry(&self, e: &AuditEntry) -> Result<i64> {
        self.prepare_cached(
            "insert into audit (at, action, user, team, parameters, status) values (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![e.at.0, e.action, e.user, e.team, e.parameters.to_string(), e.status])?;
        Ok(self.last_insert_rowid())
    }
}
