//! Sessions: a token and the person behind it, taken together.

use super::{ReadTx, Result, WriteTx};
use crate::auth::Claims;
use crate::base::clock::Time;

impl ReadTx<'_> {
    /// What the token with this digest says, unless it has expired.
    pub fn session(&self, digest: &str, now: Time) -> Result<Option<Claims>> {
        Ok(self.token_claims(digest, now)?.map(serde_json::from_value).transpose()?)
    }
}

impl WriteTx<'_> {
    /// Keeps a token's digest until it expires, notes that its bearer was here, and forgets expired tokens.
    pub fn start_session(&self, digest: &str, claims: &Claims, now: Time, expires: Time) -> Result<()> {
        self.purge_tokens(now)?;
        self.issue_token(digest, &serde_json::to_value(claims)?, expires)?;
        self.saw_user(&claims.sub, claims.display_name(), &claims.federated_claims.connector_id, now)
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
