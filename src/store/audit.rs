//! The rows of who did what.

use rusqlite::params;

use super::{Result, WriteTx};
use crate::base::clock::Time;

/// One change that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When it was answered.
    pub at: Time,
    /// The route's name.
    pub action: String,
    /// Who; empty for nobody known.
    pub user: String,
    /// The team in the path, if any.
    pub team: String,
    /// JSON of path and query.
    pub parameters: String,
    /// The answer's status.
    pub status: u16,
}

impl WriteTx<'_> {
    /// Writes a row.
    pub fn record_audit(&self, row: &AuditRow) -> Result<()> {
        self.prepare_cached(
            "insert into audit (at, action, user, team, parameters, status) values (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![row.at.0, row.action, row.user, row.team, row.parameters, row.status])?;
        Ok(())
    }
}
