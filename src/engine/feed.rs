//! Build logs while they grow: producers append events, followers read them from any number on.
//!
//! A build that runs has a tail in memory. Each event is formatted once, as the frame that goes to followers. A
//! chunk goes to the store when 256 kB have come together or a second has passed; what was not stored when the
//! server dies is told again by the steps' supervisors, from the offsets in the last stored chunk on.
//!
//! Followers are cursors, not queues: a slow one holds nothing up and loses nothing, it reads older events from
//! the store. `status` events are made from the build's row, so the two databases cannot disagree: `started` is
//! event 0, the stored events follow from 1, the last status comes after them.

mod follower;
mod pace;
pub mod packed;
mod rewrite;
mod shared;
mod tail;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::base::clock::{Clock, Time};
use crate::base::id::BuildId;
use crate::event::{Event, Origin};
use crate::store::Store;
pub use follower::{Batch, Follower};
pub use tail::Marks;
use tail::Tail;

/// A chunk is stored when this many bytes have come together (larger ones compress better and waste less of a page) …
const CHUNK: usize = 256 * 1024;
/// … or after this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// Whoever appends waits for the store while this much is not stored.
const MOST: usize = 4 * CHUNK;

/// One event as it is sent to followers: a whole server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    fn new(number: i64, json: &str) -> Frame {
        Frame(Bytes::from(format!("id: {number}\nevent: event\ndata: {json}\n\n")))
    }

    /// The same with another text, where this is output; `number` is its own.
    fn with_text(&self, text: &str, number: i64) -> Option<Frame> {
        let mut json: serde_json::Value = serde_json::from_slice(&self.json()).ok()?;
        if json["event"] != "log" {
            return None;
        }
        json["data"]["payload"] = text.into();
        Some(Frame::new(number, &json.to_string()))
    }

    /// `id: …\nevent: event\ndata: …\n\n`
    pub fn sse(&self) -> Bytes {
        self.0.clone()
    }

    /// The JSON alone.
    pub fn json(&self) -> Bytes {
        let start = memchr_data(&self.0);
        self.0.slice(start..self.0.len() - 2)
    }
}

/// Where the JSON begins in a frame: after the third line's `data: `.
fn memchr_data(frame: &[u8]) -> usize {
    let lines = frame.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
    lines.take(2).last().map_or(0, |i| i + 1 + "data: ".len())
}

/// The logs of all builds; clones share it.
#[derive(Clone)]
pub struct Feed {
    store: Store,
    clock: Arc<dyn Clock>,
    tails: Arc<Mutex<HashMap<BuildId, Arc<Tail>>>>,
    /// A log was opened or closed, or a build without an open one has changed.
    moved: Arc<Notify>,
}

impl Feed {
    /// Over a store.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Feed {
        Feed { store, clock, tails: Arc::default(), moved: Arc::default() }
    }

    /// Opens the log of a build for writing, going on after what is stored. Repeated calls give the same log.
    pub async fn open(&self, build: BuildId) -> crate::store::Result<Log> {
        if let Some(tail) = self.tail(build) {
            return Ok(Log { feed: self.clone(), tail });
        }
        let stored = self.store.log_length(build).await?;
        let marks = Marks::merge(&self.store.log_marks(build).await?);
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = tails
            .entry(build)
            .or_insert_with(|| {
                let tail = Arc::new(Tail::new(build, stored, marks));
                tail::store_regularly(&tail, &self.store);
                tail
            })
            .clone();
        drop(tails);
        self.moved.notify_waiters();
        Ok(Log { feed: self.clone(), tail })
    }

    /// Reads the events of a build from number `from` on, waiting for more until it has ended.
    pub fn follow(&self, build: BuildId, from: i64) -> Follower {
        Follower::new(self.clone(), build, from)
    }

    /// Wakes the followers of a build whose row has changed.
    pub fn changed(&self, build: BuildId) {
        if let Some(tail) = self.tail(build) {
            tail.changed();
        }
        self.moved.notify_waiters();
    }

    /// Wakes the followers of builds that run in another process, which has written something.
    pub fn written_elsewhere(&self) {
        self.moved.notify_waiters();
    }

    /// Stores what is left of a build's log.
    pub async fn store_all(&self, build: BuildId) -> crate::store::Result<()> {
        match self.tail(build) {
            Some(tail) => tail.flush(&self.store).await,
            None => Ok(()),
        }
    }

    /// The same on a disk that is full: the last lines are stored.
    pub async fn store_end(&self, build: BuildId) -> crate::store::Result<()> {
        match self.tail(build) {
            Some(tail) => tail.flush_end(&self.store).await,
            None => Ok(()),
        }
    }

    /// Lets the memory of a build's log go, after [`Feed::store_all`] and after the build's row says that it has ended.
    pub fn close(&self, build: BuildId) {
        if let Some(tail) = self.tail(build) {
            tail.end();
        }
        self.tails.lock().unwrap_or_else(PoisonError::into_inner).remove(&build);
        self.moved.notify_waiters();
    }

    fn tail(&self, build: BuildId) -> Option<Arc<Tail>> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner).get(&build).cloned()
    }
}

/// The log of one build, open for writing.
#[derive(Clone)]
pub struct Log {
    feed: Feed,
    tail: Arc<Tail>,
}

impl Log {
    /// Appends an event, unless it can happen only once and is there already. Waits while the store lags far behind.
    pub async fn emit(&self, origin: &Origin, event: &Event) -> crate::store::Result<()> {
        let time = self.feed.clock.now();
        self.tail.push(origin, event, time, None);
        self.tail.settle(&self.feed.store).await
    }

    /// Appends output that ends at byte `end` of its step's output.
    pub async fn output(&self, origin: &Origin, text: String, end: u64) -> crate::store::Result<()> {
        let time = self.feed.clock.now();
        self.tail.push(origin, &Event::Log(text), time, Some(end));
        self.tail.settle(&self.feed.store).await
    }

    /// Up to which byte the output of a step is in the log.
    pub fn output_end(&self, plan: &str) -> u64 {
        self.tail.output_end(plan)
    }

    /// Stores everything appended so far.
    pub async fn flush(&self) -> crate::store::Result<()> {
        self.tail.flush(&self.feed.store).await
    }

    /// The time an event would get now.
    pub fn now(&self) -> Time {
        self.feed.clock.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Manual;

    async fn world() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store
            .write(|tx| {
                tx.execute_batch(
                    "insert into teams (id, name, key) values (1, 't', 't');
                     insert into builds (id, name, team_id, created_at) values (1, '1', 1, 0)",
                )?;
                Ok(())
            })
            .await
            .unwrap();
        (dir, store)
    }

    async fn set(store: &Store, sql: &'static str) {
        store.write(move |tx| Ok(tx.execute_batch(sql)?)).await.unwrap();
    }

    fn feed(store: &Store) -> Feed {
        Feed::new(store.clone(), Arc::new(Manual::new(Time(7000))))
    }

    async fn all(mut follower: Follower) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(batch) = follower.next().await {
            for (i, frame) in batch.frames.iter().enumerate() {
                let json: serde_json::Value = serde_json::from_slice(&frame.json()).unwrap();
                assert_eq!(json["event_id"], (batch.first_event + i as i64).to_string());
                let data = &json["data"];
                out.push(data["payload"].as_str().or(data["status"].as_str()).unwrap_or("?").to_owned());
            }
        }
        out
    }

    #[tokio::test]
    async fn a_follower_sees_every_event_once_whenever_it_comes() {
        let (_dir, store) = world().await;
        let feed = feed(&store);
        let early = tokio::spawn(all(feed.follow(BuildId(1), 0)));
        set(&store, "update builds set status = 'started', started_at = 1000").await;
        feed.changed(BuildId(1));
        let log = feed.open(BuildId(1)).await.unwrap();
        let origin = Origin::step("a");
        let mut end = 0;
        for i in 0..500 {
            end += 10;
            log.output(&origin, format!("{i} {}", "x".repeat(500)), end).await.unwrap();
        }
        let middle = tokio::spawn(all(feed.follow(BuildId(1), 250)));
        log.flush().await.unwrap();
        feed.store_all(BuildId(1)).await.unwrap();
        set(&store, "update builds set status = 'succeeded', ended_at = 2000").await;
        feed.close(BuildId(1));
        let late = all(feed.follow(BuildId(1), 0)).await;
        assert_eq!(late.len(), 502);
        assert_eq!(late[0], "started");
        assert_eq!(late[501], "succeeded");
        assert!(late[1].starts_with("0 ") && late[500].starts_with("499 "));
        assert_eq!(early.await.unwrap(), late);
        assert_eq!(middle.await.unwrap(), late[250..]);
    }

    #[tokio::test]
    async fn a_crowd_that_has_not_read_the_end_when_the_log_is_closed_reads_it_once() {
        let (_dir, store) = world().await;
        let feed = feed(&store);
        set(&store, "update builds set status = 'started', started_at = 1000").await;
        let log = feed.open(BuildId(1)).await.unwrap();
        let mut crowd = [feed.follow(BuildId(1), 0), feed.follow(BuildId(1), 0)];
        for follower in &mut crowd {
            assert_eq!(follower.next().await.unwrap().first_event, 0);
        }
        log.output(&Origin::step("a"), "first".into(), 5).await.unwrap();
        for follower in &mut crowd {
            assert_eq!(follower.next().await.unwrap().first_event, 1);
        }
        log.output(&Origin::step("a"), "last".into(), 9).await.unwrap();
        feed.store_all(BuildId(1)).await.unwrap();
        set(&store, "update builds set status = 'succeeded', ended_at = 2000").await;
        feed.close(BuildId(1));
        let [one, other] = &mut crowd;
        let (one, other) = (one.next().await.unwrap(), other.next().await.unwrap());
        assert_eq!(one.first_event, 2);
        assert!(Arc::ptr_eq(&one, &other), "each has read the store for itself");
    }

    #[tokio::test]
    async fn after_a_crash_what_is_told_again_is_not_repeated() {
        let (_dir, store) = world().await;
        set(&store, "update builds set status = 'started', started_at = 1000").await;
        let origin = Origin::step("a");
        let first = feed(&store).open(BuildId(1)).await.unwrap();
        first.emit(&origin, &Event::InitializeGet).await.unwrap();
        first.output(&origin, "one".into(), 3).await.unwrap();
        first.flush().await.unwrap();
        first.output(&origin, "lost".into(), 7).await.unwrap();
        drop(first);

        let again = feed(&store);
        let log = again.open(BuildId(1)).await.unwrap();
        assert_eq!(log.output_end("a"), 3);
        log.emit(&origin, &Event::InitializeGet).await.unwrap();
        log.output(&origin, "lost".into(), 7).await.unwrap();
        again.store_all(BuildId(1)).await.unwrap();
        set(&store, "update builds set status = 'failed', ended_at = 2000").await;
        again.close(BuildId(1));
        assert_eq!(all(again.follow(BuildId(1), 0)).await, ["started", "?", "one", "lost", "failed"]);
    }

    #[tokio::test]
    async fn the_end_of_a_log_is_short_and_in_its_place() {
        let (_dir, store) = world().await;
        set(&store, "update builds set status = 'started', started_at = 1000").await;
        let feed = feed(&store);
        let log = feed.open(BuildId(1)).await.unwrap();
        let origin = Origin::step("a");
        log.output(&origin, "stored".into(), 1).await.unwrap();
        log.flush().await.unwrap();
        for end in 2..=9 {
            log.output(&origin, format!("{end}{}", "x".repeat(9 << 10)), end).await.unwrap();
        }
        log.emit(&origin, &Event::Error("full".into())).await.unwrap();
        feed.store_end(BuildId(1)).await.unwrap();
        set(&store, "update builds set status = 'errored', ended_at = 2000").await;
        feed.close(BuildId(1));
        let all = all(feed.follow(BuildId(1), 0)).await;
        assert_eq!(all[..2], ["started", "stored"]);
        assert!(all[2].contains("output is left out here"), "{}", all[2]);
        assert!(all[3..7].iter().all(String::is_empty) && all[7].starts_with("7x") && all[9].starts_with("9x"));
        assert_eq!(all[10..], ["?", "errored"]);
    }

    #[tokio::test]
    async fn a_build_that_never_started_has_only_its_end() {
        let (_dir, store) = world().await;
        set(&store, "update builds set status = 'aborted', ended_at = 2000").await;
        assert_eq!(all(feed(&store).follow(BuildId(1), 0)).await, ["aborted"]);
        assert_eq!(all(feed(&store).follow(BuildId(2), 0)).await, Vec::<String>::new());
    }
}
