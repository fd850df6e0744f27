//! Bearer tokens, by digest only.

use rusqlite::{OptionalExtension, params};
use serde_json::Value;

use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;

impl ReadTx<'_> {
    /// The claims of the token with that digest, if it is still valid at `now`.
    pub fn token_claims(&self, digest: &str, now: Time) -> Result<Option<Value>> {
        let mut query = self.prepare_cached("select claims from tokens where digest = ? and expires_at > ?")?;
        Ok(query.query_row(params![digest, now], |r| r.get::<_, Json<Value>>(0)).optional()?.map(|c| c.0))
    }
}

impl WriteTx<'_> {
    /// Keeps a token by its digest.
    pub fn issue_token(&self, digest: &str, claims: &Value, expires_at: Time) -> Result<()> {
        self.prepare_cached("insert into tokens (digest, claims, expires_at) values (?, ?, ?) on conflict do nothing")?
            .execute(params![digest, Json(claims), expires_at])?;
        Ok(())
    }

    /// Ends a token.
    pub fn delete_token(&self, digest: &str) -> Result<bool> {
        Ok(self.prepare_cached("delete from tokens where digest = ?")?.execute([digest])? == 1)
    }

    /// Forgets tokens that have expired; how many.
    pub fn purge_tokens(&self, now: Time) -> Result<usize> {
        Ok(self.prepare_cached("delete from tokens where expires_at <= ?")?.execute([now])?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::fixture::store;

    #[test]
    fn a_token_is_valid_until_it_expires_or_is_deleted() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                tx.issue_token("a", &json!({"sub": "x"}), Time(10))?;
                tx.issue_token("b", &json!({}), Time(20))?;
                assert_eq!(tx.token_claims("a", Time(9))?, Some(json!({"sub": "x"})));
                assert_eq!(tx.token_claims("a", Time(10))?, None);
                assert_eq!(tx.purge_tokens(Time(10))?, 1);
                assert!(tx.delete_token("b")?);
                assert_eq!(tx.token_claims("b", Time(0))?, None);
                Ok(())
            })
            .unwrap();
    }
}
