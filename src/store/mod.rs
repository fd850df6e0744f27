//! SQLite: the truth. One writing connection, a few readers, a noun a file (struct, queries, tests).
//!
//! Transactions are types: a query that writes takes a [`WriteTx`], and only [`Store::write`] makes one. A
//! transaction is a closure on a blocking thread, so none can be held across an await. `schema.sql` is the data
//! reference; `logs.db` beside it holds build logs.

pub mod advance;
pub mod artifact;
pub mod audit;
pub mod build;
pub mod cache;
mod column;
pub mod component;
pub mod config;
pub mod container;
pub mod create;
pub mod finish;
#[cfg(test)]
mod fixture;
mod history;
pub mod job;
mod lane;
pub mod local_user;
pub mod log;
pub mod next_input;
pub mod page;
pub mod pipeline;
mod reserve;
pub mod resource;
pub mod result;
mod retention;
mod schedule_read;
pub mod scope;
pub mod secret;
pub mod setting;
pub mod show;
pub mod team;
pub mod token;
pub mod usage;
pub mod user;
pub mod version;
pub mod volume;
pub mod web;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use rusqlite::hooks::Action;
use rusqlite_migration::{M, Migrations};
use tokio::sync::watch;

use lane::Lanes;
use reserve::Reserve;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full; nothing was changed.
    #[error("the disk that holds the state directory is full")]
    DiskFull,
    /// SQLite refused.
    #[error("database: {0}")]
    Sqlite(#[source] rusqlite::Error),
    /// The database is newer than this program, or a migration failed.
    #[error("database schema: {0}")]
    Schema(#[from] rusqlite_migration::Error),
    /// A stored JSON text does not have the form it was written in.
    #[error("stored JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The thread that ran the transaction ended early.
    #[error("the database task was cancelled")]
    Cancelled,
}

impl From<rusqlite::Error> for Error {
    fn from(e: rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Error::DiskFull,
            _ => Error::Sqlite(e),
        }
    }
}

/// Result of a query.
pub type Result<T> = std::result::Result<T, Error>;

/// A transaction that sees one moment of the database.
pub struct ReadTx<'c>(&'c Connection);

/// A transaction that may change it. It is also a [`ReadTx`].
pub struct WriteTx<'c>(ReadTx<'c>);

impl Deref for ReadTx<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.0
    }
}

impl<'c> Deref for WriteTx<'c> {
    type Target = ReadTx<'c>;
    fn deref(&self) -> &ReadTx<'c> {
        &self.0
    }
}

/// The database; clones share it.
#[derive(Clone)]
pub struct Store {
    main: Arc<Lanes>,
    logs: Arc<Lanes>,
    reserve: Arc<Reserve>,
    /// Counts writes, so that pages know when to look again.
    writes: Arc<watch::Sender<u64>>,
    /// Counts those of this process, logs included.
    own: Arc<watch::Sender<u64>>,
    access: Arc<Access>,
}

/// Counts the writes that may change what somebody is allowed.
#[derive(Default)]
struct Access {
    touched: AtomicBool,
    writes: watch::Sender<u64>,
}

impl Access {
    /// A row was changed. What a job shows changes only with its pipeline.
    fn see(&self, action: Action, table: &str) {
        let counts = match table {
            "teams" | "tokens" | "pipelines" => true,
            "jobs" | "builds" => action == Action::SQLITE_DELETE,
            _ => false,
        };
        self.touched.fetch_or(counts, Ordering::Relaxed);
    }

    fn tell(&self) {
        if self.touched.swap(false, Ordering::Relaxed) {
            self.writes.send_modify(|n| *n += 1);
        }
    }
}

impl Store {
    /// Opens, creating and migrating where needed, `state.db` and `logs.db` in `directory`.
    pub fn open(directory: &Path) -> Result<Store> {
        let main = Lanes::open(&directory.join("state.db"), &main_migrations())?;
        let logs = Lanes::open(&directory.join("logs.db"), &log_migrations())?;
        let reserve = Arc::new(Reserve::new(directory));
        reserve.take();
        let access = Arc::<Access>::default();
        let seen = access.clone();
        main.observe(move |action, table| seen.see(action, table))?;
        let (writes, own) = Default::default();
        Ok(Store { main: Arc::new(main), logs: Arc::new(logs), reserve, writes, own, access })
    }

    /// Runs `f` in a read transaction on a blocking thread.
    pub async fn read<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&ReadTx<'_>) -> Result<T> + Send + 'static,
    {
        let lanes = self.main.clone();
        blocking(move || lanes.read(f)).await
    }

    /// Runs `f` in the one write transaction; rolls back if it returns an error.
    pub async fn write<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTx<'_>) -> Result<T> + Send + 'static,
    {
        let lanes = self.main.clone();
        let written = blocking(move || lanes.write(f)).await;
        self.written();
        written
    }

    /// [`Store::read`] for callers that are on a blocking thread already.
    pub fn read_blocking<T>(&self, f: impl FnOnce(&ReadTx<'_>) -> Result<T>) -> Result<T> {
        self.main.read(f)
    }

    /// [`Store::write`] for callers that are on a blocking thread already.
    pub fn write_blocking<T>(&self, f: impl FnOnce(&WriteTx<'_>) -> Result<T>) -> Result<T> {
        let written = self.main.write(f);
        self.written();
        written
    }

    fn written(&self) {
        self.own_written();
        self.writes.send_modify(|n| *n += 1);
        self.access.tell();
    }

    fn own_written(&self) {
        self.own.send_modify(|n| *n += 1);
    }

    /// Another process has written something, whatever that was.
    pub fn written_elsewhere(&self) {
        self.writes.send_modify(|n| *n += 1);
        self.access.writes.send_modify(|n| *n += 1);
    }

    /// Says when this process has written something, to logs too: what another one should be told.
    pub fn own_writes(&self) -> watch::Receiver<u64> {
        self.own.subscribe()
    }

    /// Says when something was written. Another process may write untold: look now and then all the same.
    pub fn writes(&self) -> watch::Receiver<u64> {
        self.writes.subscribe()
    }

    /// As [`Store::writes`], of what decides who may do what: teams, tokens, and what pipelines show.
    pub fn access_writes(&self) -> watch::Receiver<u64> {
        self.access.writes.subscribe()
    }

    /// Gives up the space that is kept for the end of things, after [`Error::DiskFull`]; false if it is in use already.
    pub async fn give_way(&self) -> bool {
        let reserve = self.reserve.clone();
        blocking(move || Ok(reserve.give())).await.unwrap_or(false)
    }

    /// Takes that space again, if there is room.
    pub async fn keep_space(&self) -> Result<()> {
        let reserve = self.reserve.clone();
        blocking(move || {
            reserve.take();
            Ok(())
        })
        .await
    }

    pub(in crate::store) fn logs(&self) -> Arc<Lanes> {
        self.logs.clone()
    }
}

/// Runs `f` on a blocking thread.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(Error::Cancelled),
    }
}

fn main_migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(include_str!("schema.sql"))])
}

fn log_migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(include_str!("logs.sql"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migrations_are_valid() {
        main_migrations().validate().unwrap();
        log_migrations().validate().unwrap();
    }

    #[tokio::test]
    async fn no_id_is_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let again = "select name from sqlite_master where type = 'table' and sql like '%  id integer primary key%'
                       and sql not like '%  id integer primary key autoincrement%'";
        let again: Vec<String> = store
            .read(move |tx| Ok(tx.prepare(again)?.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?))
            .await
            .unwrap();
        assert!(again.is_empty(), "ids of these tables come again after rows were removed: {again:?}");
    }

    #[tokio::test]
    async fn writes_that_may_change_what_somebody_may_do_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut told = store.access_writes();
        let mut tells = async |sql: &'static str| {
            store.write(move |tx| Ok(tx.execute(sql, [])?)).await.unwrap();
            let is_new = told.has_changed().unwrap();
            told.borrow_and_update();
            is_new
        };
        assert!(tells("insert into teams (id, name, key) values (1, 'a', 'a')").await);
        assert!(!tells("insert into settings (name, value) values ('a', 'b')").await);
        assert!(tells("update teams set auth = '{}'").await);
        assert!(tells("insert into pipelines (id, team_id, name, config_version, ordering, last_updated) values (1, 1, 'p', 1, 1, 0)").await);
        assert!(tells("update pipelines set public = 1").await);
        assert!(
            !tells("insert into builds (id, team_id, name, status, created_at) values (1, 1, '1', 'pending', 0)").await
        );
        assert!(!tells("update builds set status = 'started'").await);
        assert!(tells("delete from builds where id = 1").await);
        assert!(tells("delete from pipelines where id = 1").await);
    }

    #[tokio::test]
    async fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let failed: Result<()> = store
            .write(|tx| {
                tx.execute("insert into teams (name, key) values ('a', 'a')", [])?;
                Err(Error::Cancelled)
            })
            .await;
        assert!(failed.is_err());
        let count = store.read(|tx| Ok(tx.query_row("select count(*) from teams", [], |r| r.get::<_, i64>(0))?)).await;
        assert_eq!(count.unwrap(), 0);
    }
}
