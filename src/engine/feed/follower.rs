//! A cursor into one build's log.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use super::tail::{Found, Tail};
use super::{Feed, Frame, packed};
use crate::base::id::BuildId;
use crate::event::{Event, Origin};

/// A follower looks at the build's row at least this often, in case a bell was lost with a crash of a pass.
const LOOK: Duration = Duration::from_secs(2);

/// Some frames in a row. Followers at the same place share one.
#[derive(Debug)]
pub struct Batch {
    /// Number of the first, as in its `id`.
    pub first_event: i64,
    /// The events.
    pub frames: Vec<Frame>,
    joined: OnceLock<Bytes>,
    packed: OnceLock<Bytes>,
}

/// See the module's doc.
pub struct Follower {
    feed: Feed,
    build: BuildId,
    /// Number of the next event to give, as on the wire.
    next: i64,
    /// Held, so that those who have not read the end when the log is closed need not all read it from the store.
    tail: Option<Arc<Tail>>,
    /// What was given last, for others who come to the same place while it is sent.
    given: Option<Arc<Batch>>,
    done: bool,
}

/// The part of a build's row that a follower needs.
struct Row {
    status: String,
    started: Option<i64>,
    ended: Option<i64>,
    reaped: bool,
}

impl Follower {
    pub(super) fn new(feed: Feed, build: BuildId, from: i64) -> Follower {
        Follower { feed, build, next: from.max(0), tail: None, given: None, done: false }
    }

    /// The next events; waits for them while the build goes on. `None` after the last, or if there is no such build.
    pub async fn next(&mut self) -> Option<Arc<Batch>> {
        if self.done {
            return None;
        }
        let batch = self.find().await;
        match &batch {
            Some(batch) => self.next = batch.first_event + i64::try_from(batch.frames.len()).unwrap_or(0),
            None => self.done = true,
        }
        self.given.clone_from(&batch);
        batch
    }

    async fn find(&mut self) -> Option<Arc<Batch>> {
        loop {
            if self.tail.is_none() {
                self.tail = self.feed.tail(self.build);
            }
            // Nothing but the end of the memory takes a look at the tables.
            if self.next > 0
                && let Some(tail) = self.tail.clone()
            {
                let version = tail.version();
                match tail.read(self.next - 1) {
                    Found::Frames(batch) => return Some(batch),
                    Found::Nothing => {
                        tail.wait(version).await;
                        continue;
                    }
                    Found::Stored => {}
                    Found::Ended => self.tail = None,
                }
            }
            if let Some(found) = self.look().await {
                return found;
            }
        }
    }

    /// Looks into the tables, and waits where they have nothing: `None` to look again.
    async fn look(&mut self) -> Option<Option<Arc<Batch>>> {
        // Enabled before the look, so that no change between the look and the wait is missed.
        let feed = self.feed.clone();
        let moved = feed.moved.notified();
        tokio::pin!(moved);
        moved.as_mut().enable();
        let tail = self.feed.tail(self.build);
        let version = tail.as_ref().map(|t| t.version());
        let Some(row) = self.row().await else { return Some(None) };
        if row.reaped {
            return Some(None);
        }
        if self.next == 0
            && let Some(batch) = self.first_status(&row)
        {
            return Some(Some(batch));
        }
        if row.started.is_some() {
            let from = self.next - 1;
            match tail.as_ref().map(|t| t.read(from)) {
                Some(Found::Frames(batch)) => return Some(Some(batch)),
                Some(Found::Nothing) => {}
                Some(Found::Stored | Found::Ended) | None => {
                    // What an ended build has stored may change (a secret is taken out), so nobody shares that.
                    let stored = match &tail {
                        Some(tail) => tail.older.get(from, self.stored(from)).await,
                        None => self.stored(from).await,
                    };
                    if let Some(batch) = stored {
                        return Some(Some(batch));
                    }
                }
            }
        }
        // A build that has ended has closed its log first or is about to: its tail is gone or ended.
        if let Some(ended) = row.ended
            && self.feed.tail(self.build).is_none()
        {
            return Some(self.last_status(&row, ended).await);
        }
        let grown = async {
            match (&tail, version) {
                (Some(tail), Some(version)) => tail.wait(version).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = grown => {}
            () = moved => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        None
    }

    /// Event 0: `started`, or the last status of a build that never started.
    fn first_status(&self, row: &Row) -> Option<Arc<Batch>> {
        let started = row.started?;
        Some(status_batch(0, "started", started))
    }

    async fn last_status(&mut self, row: &Row, ended: i64) -> Option<Arc<Batch>> {
        let stored = self.feed.store.log_length(self.build).await.ok()?;
        let number = if row.started.is_some() { stored + 1 } else { 0 };
        if self.next < number {
            // Events were stored between the two looks.
            return self.stored(self.next - 1).await;
        }
        if self.next > number {
            return None;
        }
        Some(status_batch(number, &row.status, ended))
    }

    async fn stored(&mut self, from: i64) -> Option<Arc<Batch>> {
        let chunk = self.feed.store.log_chunk(self.build, from.max(0)).await.ok()??;
        let skip = usize::try_from(from - chunk.first_event).unwrap_or(0);
        let first_event = chunk.first_event + i64::try_from(skip).unwrap_or(0) + 1;
        let text = String::from_utf8_lossy(&chunk.text);
        Some(Batch::of_lines(first_event, text.split('\n').skip(skip))).filter(|batch| !batch.frames.is_empty())
    }

    async fn row(&self) -> Option<Row> {
        let build = self.build;
        let row = self.feed.store.read(move |tx| {
            let mut query = tx.prepare_cached(
                "select status, started_at, ended_at, reap_time is not null from builds where id = ?",
            )?;
            Ok(query.query_row([build.0], |r| {
                Ok(Row { status: r.get(0)?, started: r.get(1)?, ended: r.get(2)?, reaped: r.get(3)? })
            })?)
        });
        row.await.ok()
    }
}

/// A status event, made from the build's row. `time` in milliseconds.
fn status_batch(number: i64, status: &str, time: i64) -> Arc<Batch> {
    let status = match status {
        "started" => "started",
        "succeeded" => "succeeded",
        "failed" => "failed",
        "aborted" => "aborted",
        "pending" => "pending",
        _ => "errored",
    };
    let json = Event::Status(status).to_wire(&Origin::step(""), time.div_euclid(1000), number);
    Batch::new(number, vec![Frame::new(number, &json)])
}

impl Batch {
    pub(super) fn new(first_event: i64, frames: Vec<Frame>) -> Arc<Batch> {
        Arc::new(Batch { first_event, frames, joined: OnceLock::new(), packed: OnceLock::new() })
    }

    /// Of events' JSON, in one piece that the frames share.
    fn of_lines<'a>(first_event: i64, lines: impl Iterator<Item = &'a str>) -> Arc<Batch> {
        let (mut joined, mut ends) = (Vec::new(), vec![0]);
        for (number, json) in (first_event..).zip(lines) {
            joined.extend_from_slice(Frame::new(number, json).0.as_ref());
            ends.push(joined.len());
        }
        let joined = Bytes::from(joined);
        let frames = ends.windows(2).map(|ends| Frame(joined.slice(ends[0]..ends[1]))).collect();
        Arc::new(Batch { first_event, frames, joined: joined.into(), packed: OnceLock::new() })
    }

    /// All frames as one piece for the wire, put together once for all followers.
    pub fn sse(&self) -> Bytes {
        if let [only] = self.frames.as_slice() {
            return only.sse();
        }
        let join = || Bytes::from(self.frames.iter().map(|f| f.0.as_ref()).collect::<Vec<_>>().concat());
        self.joined.get_or_init(join).clone()
    }

    /// As [`Batch::sse`], behind [`packed::HEAD`] and whatever else was packed.
    pub fn sse_packed(&self) -> Bytes {
        self.packed.get_or_init(|| packed::pack(&self.sse())).clone()
    }
}
