//! What a growing log has in the store, read once for all followers who fell behind to the same place. Without this
//! a crowd that falls behind once stays behind: each unpacks, splits and packs the same chunk for itself.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Batch;

/// Places that are remembered; each costs a few words.
const PLACES: usize = 64;

/// The batch that begins at a place, as long as some follower has it. Locked while one of them reads it.
type Place = Arc<tokio::sync::Mutex<Weak<Batch>>>;

/// Batches of one log by the number of their first event.
#[derive(Default)]
pub struct Shared(Mutex<VecDeque<(i64, Place)>>);

impl Shared {
    /// What another follower holds of number `from`, else what `read` finds, for others too.
    pub async fn get(&self, from: i64, read: impl Future<Output = Option<Arc<Batch>>>) -> Option<Arc<Batch>> {
        let place = self.place(from);
        let mut known = place.lock().await;
        if let Some(batch) = known.upgrade() {
            return Some(batch);
        }
        let batch = read.await?;
        *known = Arc::downgrade(&batch);
        Some(batch)
    }

    fn place(&self, from: i64) -> Place {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, place)) = places.iter().find(|(number, _)| *number == from) {
            return place.clone();
        }
        places.truncate(PLACES - 1);
        places.push_front((from, Place::default()));
        places[0].1.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::Frame;
    use super::*;

    #[tokio::test]
    async fn a_crowd_at_one_place_reads_once_and_nothing_is_kept_for_nobody() {
        let (shared, reads) = (Shared::default(), AtomicU32::new(0));
        let read = async |from: i64| {
            let read = async {
                reads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Some(Batch::new(from, vec![Frame::new(from, "{}")]))
            };
            shared.get(from, read).await.unwrap()
        };
        let crowd = futures_util::future::join_all((0..100).map(|_| read(7))).await;
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        assert_eq!(read(8).await.first_event, 8);
        assert_eq!(read(7).await.first_event, 7);
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        drop(crowd);
        read(7).await;
        assert_eq!(reads.load(Ordering::Relaxed), 3);
        assert!(shared.get(9, async { None }).await.is_none());
        for from in 10..10 + PLACES as i64 {
            read(from).await;
        }
        assert_eq!(shared.0.lock().unwrap().len(), PLACES);
    }
}
