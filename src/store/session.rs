//! Sessions: tokens by digest, and who has signed in.

use rusqlite::{OptionalExtension, params};

use super::{ReadTx, Result, WriteTx};
use crate::auth::Claims;
use crate::base::clock::Time;

impl ReadTx<'_> {
    /// What the token with this digest says, unless it has expired.
    pub fn session(&self, digest: &str, now: Time) -> Result<Option<Claims>> {
        let claims: Option<String> = self
            .prepare_cached("select claims from tokens where digest = ? and expires_at > ?")?
            .query_row(params![digest, now.0], |r| r.get(0))
            .optional()?;
        Ok(claims.map(|text| serde_json::from_str(&text)).transpose()?)
    }
}

impl WriteTx<'_> {
    /// Keeps a token's digest until it expires, notes that its bearer was here, and forgets expired tokens.
    pub fn start_session(&self, digest: &str, claims: &Claims, now: Time, expires: Time) -> Result<()> {
        self.prepare_cached("delete from tokens where expires_at <= ?")?.execute([now.0])?;
        self.prepare_cached("insert into tokens (digest, claims, expires_at) values (?, ?, ?)")?.execute(params![
            digest,
            serde_json::to_string(claims)?,
            expires.0
        ])?;
        self.prepare_cached(
            "insert into users (sub, username, connector, last_login) values (?, ?, ?, ?)
             on conflict (sub) do update set username = excluded.username, last_login = excluded.last_login",
        )?
        .execute(params![claims.sub, claims.display_name(), claims.federated_claims.connector_id, now.0])?;
        Ok(())
    }

    /// Forgets a token; one that is not there is fine.
    pub fn end_session(&self, digest: &str) -> Result<()> {
        self.prepare_cached("delete from tokens where digest = ?")?.execute([digest])?;
        Ok(())
    }

    /// Forgets every token of local users who are not among `names`, so that removing a user signs them out.
    pub fn end_sessions_of_others(&self, names: &[String]) -> Result<()> {
        self.prepare_cached(
            "delete from tokens where json_extract(claims, '$.federated_claims.connector_id') = 'local'
               and json_extract(claims, '$.federated_claims.user_id') not in (select value from json_each(?))",
        )?
        .execute([serde_json::to_string(names)?])?;
        Ok(())
    }
}
