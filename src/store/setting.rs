//! Single values of the installation, and its number sequences.

use rusqlite::{OptionalExtension, params};

use super::{ReadTx, Result, WriteTx};

impl ReadTx<'_> {
    /// The value of that name.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        let mut query = self.prepare_cached("select value from settings where name = ?")?;
        Ok(query.query_row([name], |r| r.get(0)).optional()?)
    }
}

impl WriteTx<'_> {
    /// Sets the value of that name.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        self.prepare_cached(
            "insert into settings (name, value) values (?, ?) on conflict (name) do update set value = excluded.value",
        )?
        .execute([name, value])?;
        Ok(())
    }

    /// Forgets the value of that name.
    pub fn clear_setting(&self, name: &str) -> Result<()> {
        self.prepare_cached("delete from settings where name = ?")?.execute([name])?;
        Ok(())
    }

    /// The next number of a sequence, from 1.
    pub fn next_in_sequence(&self, name: &str) -> Result<i64> {
        let mut query = self.prepare_cached(
            "insert into settings (name, value) values (?1, '1')
             on conflict (name) do update set value = cast(value as integer) + 1
             returning cast(value as integer)",
        )?;
        Ok(query.query_row(params![name], |r| r.get(0))?)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::fixture::store;

    #[test]
    fn sequences_count_from_one() {
        let (store, _dir) = store();
        let three = store.write_blocking(|tx| (0..3).map(|_| tx.next_in_sequence("s")).collect::<Result<Vec<_>, _>>());
        assert_eq!(three.unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_setting_is_kept_replaced_and_cleared() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                tx.set_setting("wall", "a")?;
                tx.set_setting("wall", "b")?;
                assert_eq!(tx.setting("wall")?.as_deref(), Some("b"));
                tx.clear_setting("wall")?;
                assert_eq!(tx.setting("wall")?, None);
                Ok(())
            })
            .unwrap();
    }
}
