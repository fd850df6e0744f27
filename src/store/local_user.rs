//! Local users: those the operator has added to the database, and the names of those who come by flag.

use rusqlite::{OptionalExtension, Row, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;

/// A row of `local_users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalUserRow {
    /// As it was given; names that differ in case only are one name.
    pub name: String,
    /// Hash of the password; none if the server's flags hold it.
    pub hash: Option<String>,
    /// When they were added.
    pub created: Time,
    /// When the password was last set.
    pub changed: Time,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChange {
    /// It was made.
    Done,
    /// There is a user of that name already.
    Taken,
    /// There is none.
    NotFound,
    /// The server's flags name this user, so the flags have to change.
    ByFlag,
}

impl LocalUserRow {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<LocalUserRow> {
        Ok(LocalUserRow { name: r.get(0)?, hash: r.get(1)?, created: r.get(2)?, changed: r.get(3)? })
    }
}

fn key(name: &str) -> String {
    name.to_lowercase()
}

impl ReadTx<'_> {
    /// The user of that name, however it is written.
    pub fn local_user(&self, name: &str) -> Result<Option<LocalUserRow>> {
        let mut query =
            self.prepare_cached("select name, hash, created_at, changed_at from local_users where key = ?")?;
        Ok(query.query_row([key(name)], LocalUserRow::from_row).optional()?)
    }

    /// All of them, by name.
    pub fn local_users(&self) -> Result<Vec<LocalUserRow>> {
        let mut query =
            self.prepare_cached("select name, hash, created_at, changed_at from local_users order by key")?;
        Ok(query.query_map([], LocalUserRow::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// The hash of one of them, the same one for the same number: what a wrong name is compared with.
    pub fn some_local_hash(&self, number: u32) -> Result<Option<String>> {
        let mut query = self.prepare_cached(
            "select hash from local_users where hash is not null order by key limit 1
             offset ? % max(1, (select count(*) from local_users where hash is not null))",
        )?;
        Ok(query.query_row([number], |r| r.get(0)).optional()?)
    }
}

impl WriteTx<'_> {
    /// Adds a user with the hash of their password.
    pub fn add_local_user(&self, name: &str, hash: &str, now: Time) -> Result<UserChange> {
        if let Some(there) = self.local_user(name)? {
            return Ok(if there.hash.is_some() { UserChange::Taken } else { UserChange::ByFlag });
        }
        self.prepare_cached(
            "insert into local_users (key, name, hash, created_at, changed_at) values (?1, ?2, ?3, ?4, ?4)",
        )?
        .execute(params![key(name), name, hash, now])?;
        Ok(UserChange::Done)
    }

    /// Sets another password and ends what was signed in with the old one.
    pub fn set_local_password(&self, name: &str, hash: &str, now: Time) -> Result<UserChange> {
        let there = match self.local_user(name)? {
            None => return Ok(UserChange::NotFound),
            Some(there) if there.hash.is_none() => return Ok(UserChange::ByFlag),
            Some(there) => there,
        };
        self.prepare_cached("update local_users set hash = ?, changed_at = ? where key = ?")?.execute(params![
            hash,
            now,
            key(name)
        ])?;
        self.end_local_sessions(&there.name)?;
        Ok(UserChange::Done)
    }

    /// Removes a user and signs them out.
    pub fn remove_local_user(&self, name: &str) -> Result<UserChange> {
        let there = match self.local_user(name)? {
            None => return Ok(UserChange::NotFound),
            Some(there) if there.hash.is_none() => return Ok(UserChange::ByFlag),
            Some(there) => there,
        };
        self.prepare_cached("delete from local_users where key = ?")?.execute([key(name)])?;
        self.end_local_sessions(&there.name)?;
        Ok(UserChange::Done)
    }

    /// Notes who comes by flag at this start, forgets who came so before, and signs out those who are no users any more.
    pub fn set_flag_users(&self, names: &[String], now: Time) -> Result<()> {
        self.prepare_cached("delete from local_users where hash is null")?.execute([])?;
        let mut insert = self.prepare_cached(
            "insert into local_users (key, name, hash, created_at, changed_at) values (?1, ?2, null, ?3, ?3)
             on conflict (key) do update set name = excluded.name, hash = null, changed_at = excluded.changed_at",
        )?;
        for name in names {
            insert.execute(params![key(name), name, now])?;
        }
        self.prepare_cached(
            "delete from tokens where json_extract(claims, '$.federated_claims.connector_id') = 'local'
               and json_extract(claims, '$.federated_claims.user_id') not in (select name from local_users)",
        )?
        .execute([])?;
        Ok(())
    }

    /// By the name as it is stored, which is what claims hold: SQLite knows upper and lower case of ASCII only.
    fn end_local_sessions(&self, name: &str) -> Result<()> {
        self.prepare_cached(
            "delete from tokens where json_extract(claims, '$.federated_claims.connector_id') = 'local'
               and json_extract(claims, '$.federated_claims.user_id') = ?",
        )?
        .execute([name])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Claims;
    use crate::auth::claims::Federated;
    use crate::store::fixture::store;
    use crate::store::token::{NewToken, TokenKind};

    #[test]
    fn a_user_is_added_changed_and_removed_whatever_the_case() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                assert_eq!(tx.some_local_hash(3)?, None);
                assert_eq!(tx.add_local_user("Ann", "h1", Time(1))?, UserChange::Done);
                assert_eq!(tx.add_local_user("ann", "h2", Time(2))?, UserChange::Taken);
                assert_eq!(tx.set_local_password("ANN", "h3", Time(3))?, UserChange::Done);
                let row = tx.local_user("aNN")?.unwrap();
                assert_eq!((row.name.as_str(), row.hash.as_deref(), row.changed), ("Ann", Some("h3"), Time(3)));
                assert_eq!(tx.some_local_hash(7)?.as_deref(), Some("h3"));
                assert_eq!(tx.remove_local_user("bob")?, UserChange::NotFound);
                assert_eq!(tx.remove_local_user("ann")?, UserChange::Done);
                assert_eq!(tx.local_users()?, []);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn whose_password_is_set_or_who_goes_is_signed_out_however_the_name_is_written() {
        let (store, _dir) = store();
        let session = |tx: &WriteTx<'_>, digest: &str, user: &str| {
            let federated_claims = Federated { connector_id: "local".into(), user_id: user.into() };
            let claims = Claims { sub: user.into(), federated_claims, ..Claims::default() };
            let (now, expires) = (Time(1), Time(9_000));
            let token = NewToken { digest: digest.into(), claims, now, expires, address: String::new() };
            tx.start_session(&token, TokenKind::Client, None)
        };
        store
            .write_blocking(|tx| {
                let is_in = |digest: &str| tx.bearer(digest, Time(2)).unwrap().is_some();
                tx.add_local_user("ÄNN", "h", Time(1))?;
                tx.add_local_user("anna", "h", Time(1))?;
                session(tx, "other", "anna")?;
                session(tx, "first", "ÄNN")?;
                assert_eq!(tx.set_local_password("änn", "h2", Time(2))?, UserChange::Done);
                assert!(!is_in("first"));
                session(tx, "second", "ÄNN")?;
                assert_eq!(tx.remove_local_user("änn")?, UserChange::Done);
                assert!(!is_in("second") && is_in("other"));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn who_comes_by_flag_is_changed_by_flag_only() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                tx.set_flag_users(&["ann".into(), "bob".into()], Time(1))?;
                assert_eq!(tx.add_local_user("Ann", "h", Time(2))?, UserChange::ByFlag);
                assert_eq!(tx.set_local_password("ann", "h", Time(2))?, UserChange::ByFlag);
                assert_eq!(tx.remove_local_user("ann")?, UserChange::ByFlag);
                tx.set_flag_users(&["bob".into()], Time(3))?;
                assert_eq!(tx.add_local_user("ann", "h", Time(4))?, UserChange::Done);
                Ok(())
            })
            .unwrap();
    }
}
