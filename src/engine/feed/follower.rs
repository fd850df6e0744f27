//! A cursor into one build's log.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::tail::Found;
use super::{Feed, Frame};
use crate::base::id::BuildId;
use crate::event::{Event, Origin};

/// Between two batches to one follower: what comes in between goes together. Costs 10 ms on average and spares a
/// thousand followers of a busy build most of their wake-ups.
const PAUSE: Duration = Duration::from_millis(20);
/// A follower looks at the build's row at least this often, in case a bell was lost with a crash of a pass.
const LOOK: Duration = Duration::from_secs(2);

/// Some frames in a row.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Number of the first, as in its `id`.
    pub first_event: i64,
    /// The events.
    pub frames: Vec<Frame>,
}

/// See the module's doc.
pub struct Follower {
    feed: Feed,
    build: BuildId,
    /// Number of the next event to give, as on the wire.
    next: i64,
    last: Option<Instant>,
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
        Follower { feed, build, next: from.max(0), last: None, done: false }
    }

    /// The next events; waits for them while the build goes on. `None` after the last, or if there is no such build.
    pub async fn next(&mut self) -> Option<Batch> {
        if self.done {
            return None;
        }
        if let Some(last) = self.last {
            tokio::time::sleep_until(last + PAUSE).await;
        }
        let batch = self.find().await;
        self.last = Some(Instant::now());
        match batch {
            Some(batch) => {
                self.next = batch.first_event + i64::try_from(batch.frames.len()).unwrap_or(0);
                Some(batch)
            }
            None => {
                self.done = true;
                None
            }
        }
    }

    async fn find(&mut self) -> Option<Batch> {
        loop {
            // Enabled before the look, so that no change between the look and the wait is missed.
            let feed = self.feed.clone();
            let moved = feed.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let tail = self.feed.tail(self.build);
            let version = tail.as_ref().map(|t| t.version());
            let row = self.row().await?;
            if row.reaped {
                return None;
            }
            if self.next == 0
                && let Some(batch) = self.first_status(&row)
            {
                return Some(batch);
            }
            if row.started.is_some() {
                let from = self.next - 1;
                match tail.as_ref().map(|t| t.read(from)) {
                    Some(Found::Frames(frames)) => return Some(Batch { first_event: self.next, frames }),
                    Some(Found::Nothing) => {}
                    Some(Found::Stored | Found::Ended) | None => {
                        if let Some(batch) = self.stored(from).await {
                            return Some(batch);
                        }
                    }
                }
            }
            // A build that has ended has closed its log first or is about to: its tail is gone or ended.
            if let Some(ended) = row.ended
                && self.feed.tail(self.build).is_none()
            {
                return self.last_status(&row, ended).await;
            }
            match (tail, version) {
                (Some(tail), Some(version)) => {
                    let _ = tokio::time::timeout(LOOK, tail.wait(version)).await;
                }
                _ => {
                    let _ = tokio::time::timeout(LOOK, moved).await;
                }
            }
        }
    }

    /// Event 0: `started`, or the last status of a build that never started.
    fn first_status(&self, row: &Row) -> Option<Batch> {
        let started = row.started?;
        Some(status_batch(0, "started", started))
    }

    async fn last_status(&mut self, row: &Row, ended: i64) -> Option<Batch> {
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

    async fn stored(&self, from: i64) -> Option<Batch> {
        let chunk = self.feed.store.log_chunk(self.build, from.max(0)).await.ok()??;
        let skip = usize::try_from(from - chunk.first_event).unwrap_or(0);
        let text = String::from_utf8_lossy(&chunk.text);
        let frames: Vec<Frame> = text
            .split('\n')
            .enumerate()
            .skip(skip)
            .map(|(i, json)| Frame::new(chunk.first_event + i64::try_from(i).unwrap_or(0) + 1, json))
            .collect();
        let first_event = chunk.first_event + i64::try_from(skip).unwrap_or(0) + 1;
        (!frames.is_empty()).then_some(Batch { first_event, frames })
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
fn status_batch(number: i64, status: &str, time: i64) -> Batch {
    let status = match status {
        "started" => "started",
        "succeeded" => "succeeded",
        "failed" => "failed",
        "aborted" => "aborted",
        "pending" => "pending",
        _ => "errored",
    };
    let json = Event::Status(status).to_wire(&Origin::step(""), time.div_euclid(1000), number);
    Batch { first_event: number, frames: vec![Frame::new(number, &json)] }
}

impl Batch {
    /// All frames as one piece for the wire.
    pub fn sse(&self) -> Vec<Bytes> {
        self.frames.iter().map(Frame::sse).collect()
    }
}
