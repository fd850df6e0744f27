//! Who has signed in.

use rusqlite::{OptionalExtension, Row, params};

use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::auth::Claims;
use crate::base::clock::Time;

/// A row of `users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: i64,
    /// Subject of the token: unique.
    pub sub: String,
    /// Name to show.
    pub username: String,
    /// How they signed in, such as `local`.
    pub connector: String,
    /// When they last did.
    pub last_login: Time,
    /// What was learnt of them then.
    pub claims: Claims,
}

impl User {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<User> {
        Ok(User {
            id: r.get(0)?,
            sub: r.get(1)?,
            username: r.get(2)?,
            connector: r.get(3)?,
            last_login: r.get(4)?,
            claims: r.get::<_, Json<Claims>>(5)?.0,
        })
    }
}

impl ReadTx<'_> {
    /// Who has signed in at or after `since`, by name.
    pub fn users_since(&self, since: Time) -> Result<Vec<User>> {
        let mut query = self.prepare_cached(
            "select id, sub, username, connector, last_login, claims from users where last_login >= ? order by last_login, id",
        )?;
        Ok(query.query_map([since], User::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// The subject of a user.
    pub fn user_sub(&self, id: i64) -> Result<Option<String>> {
        let mut query = self.prepare_cached("select sub from users where id = ?")?;
        Ok(query.query_row([id], |r| r.get(0)).optional()?)
    }
}

impl WriteTx<'_> {
    /// Remembers that somebody has signed in.
    pub fn saw_user(&self, claims: &Claims, now: Time) -> Result<()> {
        self.prepare_cached(
            "insert into users (sub, username, connector, claims, last_login) values (?, ?, ?, ?, ?)
             on conflict (sub) do update set username = excluded.username, connector = excluded.connector,
               claims = excluded.claims, last_login = excluded.last_login",
        )?
        .execute(params![
            claims.sub,
            claims.display_name(),
            claims.federated_claims.connector_id,
            Json(claims),
            now
        ])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::store;

    #[test]
    fn the_last_sign_in_counts() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let claims = |name: &str| Claims { sub: "s".into(), name: name.into(), ..Claims::default() };
                tx.saw_user(&claims("old"), Time(1))?;
                tx.saw_user(&claims("new"), Time(5))?;
                let users = tx.users_since(Time(5))?;
                assert_eq!(users.len(), 1);
                assert_eq!((users[0].username.as_str(), users[0].last_login), ("new", Time(5)));
                assert!(tx.users_since(Time(6))?.is_empty());
                Ok(())
            })
            .unwrap();
    }
}
