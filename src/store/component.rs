//! The parts of the server that work by themselves: when each last did, and whether an administrator has stopped it.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;

/// A row of `components`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Concourse's name for who does its work.
    pub name: String,
    /// How long it waits at most.
    pub interval: Duration,
    /// When it last looked.
    pub last_ran: Time,
    /// Whether it must not.
    pub paused: bool,
}

impl ReadTx<'_> {
    /// All that have ever run, by name.
    pub fn components(&self) -> Result<Vec<Component>> {
        let mut query = self.prepare_cached("select name, interval, last_ran, paused from components order by name")?;
        let rows = query.query_map([], |r| {
            Ok(Component {
                name: r.get(0)?,
                interval: Duration::from_millis(r.get::<_, i64>(1)?.unsigned_abs()),
                last_ran: r.get(2)?,
                paused: r.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether the component is paused.
    pub fn component_paused(&self, name: &str) -> Result<bool> {
        let mut query = self.prepare_cached("select paused from components where name = ?")?;
        Ok(query.query_row([name], |r| r.get(0)).optional()?.unwrap_or(false))
    }
}

impl WriteTx<'_> {
    /// Remembers that a component has looked.
    pub fn component_ran(&self, name: &str, interval: Duration, now: Time) -> Result<()> {
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        self.prepare_cached(
            "insert into components (name, interval, last_ran) values (?, ?, ?)
             on conflict (name) do update set interval = excluded.interval, last_ran = excluded.last_ran",
        )?
        .execute(params![name, interval, now])?;
        Ok(())
    }

    /// Pauses a component or lets it go on; every one without a name. How many there are.
    pub fn pause_components(&self, name: Option<&str>, paused: bool) -> Result<usize> {
        Ok(self
            .prepare_cached("update components set paused = ?2 where ?1 is null or name = ?1")?
            .execute(params![name, paused])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::store;

    #[test]
    fn a_component_that_ran_can_be_paused() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                assert_eq!(tx.pause_components(Some("a"), true)?, 0);
                tx.component_ran("a", Duration::from_secs(10), Time(5))?;
                tx.component_ran("b", Duration::from_secs(10), Time(5))?;
                assert_eq!(tx.pause_components(Some("a"), true)?, 1);
                tx.component_ran("a", Duration::from_secs(10), Time(7))?;
                assert!(tx.component_paused("a")? && !tx.component_paused("b")? && !tx.component_paused("z")?);
                assert_eq!(tx.components()?[0].last_ran, Time(7));
                assert_eq!(tx.pause_components(None, false)?, 2);
                assert!(!tx.component_paused("a")?);
                Ok(())
            })
            .unwrap();
    }
}
