//! Build logs as compressed chunks: append, read from an event on, forget.

use rusqlite::{OptionalExtension, params};

use super::{Error, Result, Store, blocking};
use crate::base::id::BuildId;

/// zstd's own default: 2 million lines a second on one core.
const LEVEL: i32 = 3;

/// Some events in a row of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Number of the first.
    pub first_event: i64,
    /// How many.
    pub events: i64,
    /// The events' JSON, separated by newlines.
    pub text: Vec<u8>,
    /// JSON of what of each step is in it (see `logs.sql`).
    pub marks: String,
}

impl Store {
    /// Stores a chunk; one with the same first event is stored already and stays. Where the disk is full, what is left of
    /// it is for the ends of logs.
    pub async fn append_log(&self, build: BuildId, chunk: Chunk) -> Result<()> {
        let reserve = self.reserve.clone();
        if blocking(move || Ok(reserve.is_given())).await? {
            return Err(Error::DiskFull);
        }
        self.append_log_end(build, chunk).await
    }

    /// As [`Store::append_log`], as long as there is any room.
    pub async fn append_log_end(&self, build: BuildId, chunk: Chunk) -> Result<()> {
        let lanes = self.logs();
        let appended = blocking(move || {
            let data = zstd::bulk::compress(&chunk.text, LEVEL).map_err(io)?;
            lanes.write(|tx| {
                tx.prepare_cached("insert into chunks (build_id, first_event, events, data, marks) values (?, ?, ?, ?, ?) on conflict do nothing")?
                    .execute(params![build.0, chunk.first_event, chunk.events, data, chunk.marks])?;
                Ok(())
            })
        });
        appended.await?;
        self.own_written();
        Ok(())
    }

    /// The chunk that holds event `from`, or the next after it, or `None` if nothing that new is stored.
    pub async fn log_chunk(&self, build: BuildId, from: i64) -> Result<Option<Chunk>> {
        let lanes = self.logs();
        blocking(move || {
            let row = lanes.read(|tx| {
                Ok(tx
                    .prepare_cached(
                        "select first_event, events, data, marks from chunks
                         where build_id = ?1 and first_event >= coalesce(
                           (select max(first_event) from chunks where build_id = ?1 and first_event <= ?2), 0)
                           and first_event + events > ?2
                         order by first_event limit 1",
                    )?
                    .query_row(params![build.0, from], |r| {
                        Ok((r.get(0)?, r.get(1)?, r.get::<_, Vec<u8>>(2)?, r.get(3)?))
                    })
                    .optional()?)
            })?;
            row.map(|(first_event, events, data, marks)| {
                let text = zstd::stream::decode_all(data.as_slice()).map_err(io)?;
                Ok(Chunk { first_event, events, text, marks })
            })
            .transpose()
        })
        .await
    }

    /// How many events of a build are stored.
    pub async fn log_length(&self, build: BuildId) -> Result<i64> {
        let lanes = self.logs();
        blocking(move || {
            lanes.read(|tx| {
                Ok(tx
                    .prepare_cached(
                        "select first_event + events from chunks where build_id = ? order by first_event desc limit 1",
                    )?
                    .query_row([build.0], |r| r.get(0))
                    .optional()?
                    .unwrap_or(0))
            })
        })
        .await
    }

    /// The marks of all chunks of a build, in order.
    pub async fn log_marks(&self, build: BuildId) -> Result<Vec<String>> {
        let lanes = self.logs();
        blocking(move || {
            lanes.read(|tx| {
                let mut query =
                    tx.prepare_cached("select marks from chunks where build_id = ? order by first_event")?;
                let rows = query.query_map([build.0], |r| r.get(0))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
        })
        .await
    }

    /// Puts other chunks in the place of a build's log (or none), and leaves nothing of what was there in the file.
    pub async fn replace_log(&self, build: BuildId, chunks: Vec<Chunk>) -> Result<()> {
        let lanes = self.logs();
        blocking(move || {
            lanes.write(|tx| {
                tx.pragma_update(None, "secure_delete", true)?;
                tx.prepare_cached("delete from chunks where build_id = ?")?.execute([build.0])?;
                for chunk in &chunks {
                    let data = zstd::bulk::compress(&chunk.text, LEVEL).map_err(io)?;
                    tx.prepare_cached(
                        "insert into chunks (build_id, first_event, events, data, marks) values (?, ?, ?, ?, ?)",
                    )?
                    .execute(params![
                        build.0,
                        chunk.first_event,
                        chunk.events,
                        data,
                        chunk.marks
                    ])?;
                }
                tx.pragma_update(None, "secure_delete", false)?;
                Ok(())
            })?;
            // What was there is still in the journal until it is taken in.
            lanes.settle()
        })
        .await
    }

    /// Builds after `after` that have a log, in order, at most so many.
    pub async fn logged_after(&self, after: BuildId, most: usize) -> Result<Vec<BuildId>> {
        let lanes = self.logs();
        blocking(move || {
            lanes.read(|tx| {
                // From each to the next by the index: a build may have thousands of chunks.
                let mut query = tx.prepare_cached(
                    "with recursive logged (id) as (
                       select min(build_id) from chunks where build_id > ?1
                       union all
                       select (select min(build_id) from chunks where build_id > logged.id) from logged
                       where logged.id is not null)
                     select id from logged where id is not null limit ?2",
                )?;
                let rows = query.query_map(params![after.0, i64::try_from(most).unwrap_or(i64::MAX)], |r| r.get(0))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
        })
        .await
    }

    /// Removes the logs of these builds.
    pub async fn forget_logs(&self, builds: Vec<BuildId>) -> Result<()> {
        let lanes = self.logs();
        blocking(move || {
            lanes.write(|tx| {
                let mut delete = tx.prepare_cached("delete from chunks where build_id = ?")?;
                for build in builds {
                    delete.execute([build.0])?;
                }
                Ok(())
            })
        })
        .await
    }
}

fn io(e: std::io::Error) -> Error {
    Error::Sqlite(rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chunks_are_found_by_any_event_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let build = BuildId(7);
        for (first, n) in [(0, 3), (3, 2), (5, 1)] {
            let text = (first..first + n).map(|i| format!("e{i}")).collect::<Vec<_>>().join("\n").into_bytes();
            store.append_log(build, Chunk { first_event: first, events: n, text, marks: "{}".into() }).await.unwrap();
        }
        assert_eq!(store.log_length(build).await.unwrap(), 6);
        for (from, first) in [(0, Some(0)), (2, Some(0)), (3, Some(3)), (4, Some(3)), (5, Some(5)), (6, None)] {
            assert_eq!(store.log_chunk(build, from).await.unwrap().map(|c| c.first_event), first, "from {from}");
        }
        assert_eq!(store.log_chunk(BuildId(8), 0).await.unwrap(), None);
        let other = Chunk { first_event: 0, events: 1, text: b"e".to_vec(), marks: "{}".into() };
        store.append_log(BuildId(9), other).await.unwrap();
        for (after, most, expected) in [(0, 9, vec![7, 9]), (0, 1, vec![7]), (7, 9, vec![9]), (9, 9, vec![])] {
            let logged = store.logged_after(BuildId(after), most).await.unwrap();
            assert_eq!(logged.iter().map(|b| b.0).collect::<Vec<_>>(), expected, "after {after}");
        }
        store.forget_logs(vec![build]).await.unwrap();
        assert_eq!(store.log_length(build).await.unwrap(), 0);
    }
}
