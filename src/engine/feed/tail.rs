//! The end of one build's log, in memory.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::pace::{Announce, Pace};
use super::shared::Shared;
use super::{Batch, CHUNK, Frame, INTERVAL, MOST};
use crate::base::clock::Time;
use crate::base::id::BuildId;
use crate::event::{Event, Origin};
use crate::store::Store;
use crate::store::log::Chunk;

/// Batches that followers may share: the newest, and some for those who come later and catch up.
const SHARED: usize = 8;
/// Stored frames are kept in memory up to this many bytes, for followers that are nearly up to date.
const KEEP: usize = 1024 * 1024;

/// So much of what is not stored is, where the disk is full …
const LAST: usize = 32 * 1024;
/// … and this in the place of the rest.
const LEFT_OUT: &str = "\n\u{1b}[1;33mthe disk was full: output is left out here\u{1b}[0m\n";

/// What of each step is in some part of a log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Marks {
    /// Plan id to the offset behind the last byte of its output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ends: BTreeMap<String, u64>,
    /// `plan id event` of events that happen once.
    #[serde(default, skip_serializing_if = "HashSet::is_empty")]
    pub once: HashSet<String>,
}

impl Marks {
    /// What all of these, in order, add up to.
    pub fn merge(texts: &[String]) -> Marks {
        let mut all = Marks::default();
        for marks in texts.iter().filter_map(|t| serde_json::from_str::<Marks>(t).ok()) {
            all.ends.extend(marks.ends);
            all.once.extend(marks.once);
        }
        all
    }
}

#[derive(Default)]
struct Inner {
    /// Frames in memory and the number (within the stored log) of the first.
    frames: VecDeque<Frame>,
    first: i64,
    kept: usize,
    /// What followers have just been given.
    recent: VecDeque<Arc<Batch>>,
    /// Everything before this number is stored.
    stored: i64,
    /// Bytes of the frames not yet stored.
    unstored: usize,
    fresh: Marks,
    known: Marks,
    ended: bool,
    /// Followers are given what comes before this number.
    told: i64,
    pace: Pace,
    /// Counts announcements, so that a waiter cannot miss one.
    version: u64,
}

impl Inner {
    fn next(&self) -> i64 {
        self.first + i64::try_from(self.frames.len()).unwrap_or(i64::MAX)
    }

    fn trim(&mut self) {
        while self.kept > KEEP && self.first < self.stored {
            if let Some(frame) = self.frames.pop_front() {
                self.kept -= frame.0.len();
                self.first += 1;
            }
        }
    }
}

/// See the module's doc.
pub struct Tail {
    build: BuildId,
    inner: Mutex<Inner>,
    grown: Notify,
    storing: tokio::sync::Mutex<()>,
    wanted: Notify,
    plenty: Notify,
    /// What followers read who fell behind what is in memory.
    pub older: Shared,
}

/// What a follower finds at its position.
pub enum Found {
    /// Frames in memory.
    Frames(Arc<Batch>),
    /// Older than what is in memory: look in the store.
    Stored,
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing will follow.
    Ended,
}

impl Tail {
    pub fn new(build: BuildId, stored: i64, known: Marks) -> Tail {
        let inner = Inner { first: stored, stored, told: stored, known, ..Inner::default() };
        Tail {
            build,
            inner: Mutex::new(inner),
            grown: Notify::new(),
            storing: tokio::sync::Mutex::new(()),
            wanted: Notify::new(),
            plenty: Notify::new(),
            older: Shared::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event; one that happens once and has happened is left out.
    pub fn push(self: &Arc<Self>, origin: &Origin, event: &Event, time: Time, end: Option<u64>) {
        let mut inner = self.lock();
        match (event, end) {
            (Event::Log(_), Some(end)) => {
                if inner.known.ends.get(&origin.id).is_some_and(|known| *known >= end) {
                    return;
                }
                inner.known.ends.insert(origin.id.clone(), end);
                inner.fresh.ends.insert(origin.id.clone(), end);
            }
            (Event::Log(text), None) => {
                if !inner.once(format!("{} log {}", origin.id, crate::base::version::digest(text.as_bytes()))) {
                    return;
                }
            }
            (Event::Error(_), _) => {
                if !inner.once(format!("{} error", origin.id)) {
                    return;
                }
            }
            _ => {
                if !inner.once(format!("{} {}", origin.id, event.name())) {
                    return;
                }
            }
        }
        // The wire's event 0 is the status `started`, which is not in the log.
        let number = inner.next() + 1;
        let frame = Frame::new(number, &event.to_wire(origin, time.unix(), number));
        inner.kept += frame.0.len();
        inner.unstored += frame.0.len();
        inner.frames.push_back(frame);
        let announce = inner.pace.event(Instant::now());
        drop(inner);
        match announce {
            Announce::Now => self.changed(),
            Announce::At(moment) => {
                let tail = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep_until(moment).await;
                    tail.lock().pace.announced(Instant::now());
                    tail.changed();
                });
            }
            Announce::Due => {}
        }
        self.wanted.notify_one();
    }

    /// Bytes not yet stored.
    pub fn unstored(&self) -> usize {
        self.lock().unstored
    }

    /// Has a chunk stored where there is enough for one, and waits for it only where the store lags far behind: whoever
    /// waits for the store has its followers wait as well.
    pub async fn settle(&self, store: &Store) -> crate::store::Result<()> {
        let unstored = self.unstored();
        if unstored >= MOST {
            return self.flush(store).await;
        }
        if unstored >= CHUNK {
            self.plenty.notify_one();
        }
        Ok(())
    }

    /// Waits until there is enough for a chunk.
    async fn enough(&self) {
        while self.unstored() < CHUNK {
            self.plenty.notified().await;
        }
    }

    /// See [`super::Log::output_end`].
    pub fn output_end(&self, plan: &str) -> u64 {
        self.lock().known.ends.get(plan).copied().unwrap_or(0)
    }

    /// Wakes followers, for all there is.
    pub fn changed(&self) {
        let mut inner = self.lock();
        inner.told = inner.next();
        inner.version += 1;
        drop(inner);
        self.grown.notify_waiters();
    }

    /// Nothing will be appended any more.
    pub fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.recent.clear();
        drop(inner);
        self.changed();
        self.wanted.notify_one();
    }

    /// Stores all that is in memory only, in chunks.
    pub async fn flush(&self, store: &Store) -> crate::store::Result<()> {
        let _one_at_a_time = self.storing.lock().await;
        self.put(store, false).await
    }

    /// Stores what is in memory only on a disk that is full: the last lines, and that others are missing.
    pub async fn flush_end(&self, store: &Store) -> crate::store::Result<()> {
        let _one_at_a_time = self.storing.lock().await;
        self.lock().shorten();
        self.put(store, true).await
    }

    /// Stores chunk by chunk; `end` with the space that is kept for the ends of builds.
    async fn put(&self, store: &Store, end: bool) -> crate::store::Result<()> {
        while let Some((chunk, bytes)) = self.take_chunk() {
            let next = chunk.first_event + chunk.events;
            match end {
                true => store.append_log_end(self.build, chunk).await?,
                false => store.append_log(self.build, chunk).await?,
            }
            self.stored(next, bytes);
        }
        Ok(())
    }

    fn stored(&self, end: i64, bytes: usize) {
        let mut inner = self.lock();
        inner.stored = end;
        inner.unstored -= bytes.min(inner.unstored);
        inner.trim();
    }

    /// The next chunk to store. Its marks may be ahead of its events only within one flush, which stores all of them.
    fn take_chunk(&self) -> Option<(Chunk, usize)> {
        let mut inner = self.lock();
        let start = usize::try_from(inner.stored - inner.first).unwrap_or(0);
        let (mut text, mut bytes, mut events) = (Vec::new(), 0, 0i64);
        for frame in inner.frames.iter().skip(start) {
            if !text.is_empty() {
                text.push(b'\n');
            }
            text.extend_from_slice(&frame.json());
            bytes += frame.0.len();
            events += 1;
        }
        if events == 0 {
            return None;
        }
        let marks = serde_json::to_string(&std::mem::take(&mut inner.fresh)).unwrap_or_default();
        Some((Chunk { first_event: inner.stored, events, text, marks }, bytes))
    }

    /// What is there from number `from` on.
    pub fn read(&self, from: i64) -> Found {
        let mut inner = self.lock();
        if from < inner.first {
            return Found::Stored;
        }
        let skip = usize::try_from(from - inner.first).unwrap_or(usize::MAX);
        let told = usize::try_from(inner.told - from).unwrap_or(0);
        let mut size = 0;
        let fits = |f: &&Frame| {
            size += f.0.len();
            size <= CHUNK || size == f.0.len()
        };
        let count = inner.frames.iter().skip(skip).take(told).take_while(fits).count();
        if count == 0 {
            return if inner.ended { Found::Ended } else { Found::Nothing };
        }
        let shared = inner.recent.iter().find(|b| b.first_event == from + 1 && b.frames.len() == count).cloned();
        Found::Frames(shared.unwrap_or_else(|| {
            let batch = Batch::new(from + 1, inner.frames.iter().skip(skip).take(count).cloned().collect());
            inner.recent.truncate(SHARED - 1);
            inner.recent.push_front(batch.clone());
            batch
        }))
    }

    /// Counts announcements; for [`Tail::wait`].
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Waits until something was announced since `version`.
    pub async fn wait(&self, version: u64) {
        let notified = self.grown.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.version() == version {
            notified.await;
        }
    }
}

impl Inner {
    /// Empties the lines that are not stored, but for the last ones. They stay in their places: followers have counted
    /// them.
    fn shorten(&mut self) {
        let first = usize::try_from(self.stored - self.first).unwrap_or(0);
        let (mut size, mut number) = (0, self.next());
        let mut emptied = None;
        for index in (first..self.frames.len()).rev() {
            size += self.frames[index].0.len();
            if size > LAST
                && let Some(frame) = self.frames[index].with_text("", number)
            {
                self.frames[index] = frame;
                emptied = Some((index, number));
            }
            number -= 1;
        }
        if let Some((index, number)) = emptied
            && let Some(frame) = self.frames[index].with_text(LEFT_OUT, number)
        {
            self.frames[index] = frame;
        }
    }

    /// Whether this happens for the first time.
    fn once(&mut self, mark: String) -> bool {
        if !self.known.once.insert(mark.clone()) {
            return false;
        }
        self.fresh.once.insert(mark);
        true
    }
}

/// Stores what has come together every second, and whenever it is enough for a chunk, as long as the tail lives.
pub fn store_regularly(tail: &Arc<Tail>, store: &Store) {
    let (weak, store): (Weak<Tail>, Store) = (Arc::downgrade(tail), store.clone());
    tokio::spawn(async move {
        loop {
            let Some(tail) = weak.upgrade() else { return };
            if tail.lock().ended {
                return;
            }
            // Idle logs cost nothing: wait for an event, then give others a second to join it.
            let _ = tokio::time::timeout(INTERVAL * 30, tail.wanted.notified()).await;
            let _ = tokio::time::timeout(INTERVAL, tail.enough()).await;
            if let Err(error) = tail.flush(&store).await {
                tracing::warn!(%error, build = tail.build.0, "log not stored yet");
                drop(tail);
                tokio::time::sleep(INTERVAL).await;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn whoever_appends_waits_for_the_store_only_where_it_lags_far_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let tail = Arc::new(Tail::new(BuildId(1), 0, Marks::default()));
        let slow = tail.storing.lock().await;
        let text = "x".repeat(CHUNK);
        for n in 1..MOST / CHUNK {
            let event = Event::Log(text.clone());
            tail.push(&Origin::step("1"), &event, Time(0), Some((n * CHUNK) as u64));
            assert!(tail.settle(&store).now_or_never().is_some(), "chunk {n}");
        }
        assert!(tail.enough().now_or_never().is_some(), "a chunk is to be stored");
        tail.push(&Origin::step("1"), &Event::Log(text), Time(0), Some(MOST as u64));
        assert!(tail.settle(&store).now_or_never().is_none(), "the store lags far behind");
        drop(slow);
        tail.settle(&store).await.unwrap();
        assert_eq!(tail.unstored(), 0);
    }
}
