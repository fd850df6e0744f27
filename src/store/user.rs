//! Who has signed in.

use rusqlite::{Row, params};

use super::{ReadTx, Result, WriteTx};
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
}

impl User {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<User> {
        Ok(User { id: r.get(0)?, sub: r.get(1)?, username: r.get(2)?, connector: r.get(3)?, last_login: r.get(4)? })
    }
}

impl ReadTx<'_> {
    /// Who has signed in at or after `since`, by name.
    pub fn users_since(&self, since: Time) -> Result<Vec<User>> {
        let mut query = self.prepare_cached(
            "select id, sub, username, connector, last_login from users where last_login >= ? order by id",
        )?;
        Ok(query.query_map([since], User::from_row)?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Remembers that somebody has signed in.
    pub fn saw_user(&self, sub: &str, username: &str, connector: &str, now: Time) -> Result<()> {
        self.prepare_cached(
            "insert into users (sub, username, connector, last_login) values (?, ?, ?, ?)
             on conflict (sub) do update set username = excluded.username, connector = excluded.connector,
               last_login = excluded.last_login",
        )?
        .execute(params![sub, username, connector, now])?;
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
                tx.saw_user("s", "old", "local", Time(1))?;
                tx.saw_user("s", "new", "github", Time(5))?;
                let users = tx.users_since(Time(5))?;
                assert_eq!(users.len(), 1);
                assert_eq!((users[0].username.as_str(), users[0].last_login), ("new", Time(5)));
                assert!(tx.users_since(Time(6))?.is_empty());
                Ok(())
            })
            .unwrap();
    }
}
