//! The connections to one database file: one that writes, a few that read.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::hooks::Action;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rusqlite_migration::Migrations;

use super::{ReadTx, Result, WriteTx};

/// Idle readers kept open; more are opened when more reads run at once.
const READERS: usize = 4;

/// See the module's doc.
pub struct Lanes {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Lanes {
    /// Opens the file and brings its schema up to date.
    pub fn open(path: &Path, migrations: &Migrations<'_>) -> Result<Lanes> {
        let mut writer = Connection::open(path)?;
        writer.pragma_update(None, "journal_mode", "wal")?;
        prepare(&writer)?;
        migrations.to_latest(&mut writer)?;
        Ok(Lanes { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) })
    }

    /// Tells `on` of each row that a write changes, by its table; not of tables without rowid.
    pub fn observe(&self, mut on: impl FnMut(Action, &str) + Send + 'static) -> Result<()> {
        let connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(connection.update_hook(Some(move |action, _: &str, table: &str, _| on(action, table)))?)
    }

    /// One write transaction; others wait their turn.
    pub fn write<T>(&self, f: impl FnOnce(&WriteTx<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = f(&WriteTx(ReadTx(&tx)))?;
        tx.commit()?;
        Ok(value)
    }

    /// Takes the journal into the file and empties it.
    pub fn settle(&self) -> Result<()> {
        let connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
        Ok(())
    }

    /// One read transaction on a connection of its own.
    pub fn read<T>(&self, f: impl FnOnce(&ReadTx<'_>) -> Result<T>) -> Result<T> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(c) => c,
            None => {
                let c = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                prepare(&c)?;
                c.pragma_update(None, "query_only", true)?;
                c
            }
        };
        let tx = connection.transaction()?;
        let value = f(&ReadTx(&tx));
        tx.finish()?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS {
            readers.push(connection);
        }
        value
    }
}

/// Settings of every connection. NORMAL survives a killed process, which is what must lose nothing.
fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -2048)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}
