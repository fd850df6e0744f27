//! The threads that check passwords: few, with the lowest claim on the processors, so that no other request waits for
//! them, and with a short queue, so that guessing fills that and nothing else.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Checks that may wait; more are refused at once.
const QUEUE: usize = 200;
/// The scheduler's lowest claim.
const NICE: libc::c_int = 19;

type Work = Box<dyn FnOnce() + Send>;

/// Too many sign-ins are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many people are signing in at this moment; try again in a few seconds")]
pub struct Busy;

/// See the module's doc. The threads end with it.
pub struct Hasher(SyncSender<Work>);

impl Hasher {
    /// With a thread for every other processor.
    pub fn start() -> Hasher {
        let (sender, receiver) = sync_channel::<Work>(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)) {
            let receiver = receiver.clone();
            let thread = std::thread::Builder::new().name("passwords".to_owned());
            // A thread less makes sign-ins slower; without any they are refused, which says enough.
            drop(thread.spawn(move || work(&receiver)));
        }
        Hasher(sender)
    }

    /// Runs it on one of the threads.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let (done, result) = oneshot::channel();
        let work = Box::new(move || drop(done.send(work())));
        self.0.try_send(work).map_err(|_| Busy)?;
        result.await.map_err(|_| Busy)
    }
}

fn work(receiver: &Mutex<Receiver<Work>>) {
    // SAFETY: changes the priority of this thread only (0 is the caller) and touches no memory.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_an_empty_one_works() {
        let hasher = Hasher::start();
        assert_eq!(hasher.run(|| 7).await, Ok(7));
        let threads = std::thread::available_parallelism().unwrap().get().div_ceil(2);
        let gate = Arc::new(std::sync::Barrier::new(threads + 1));
        let (told, taken) = std::sync::mpsc::channel();
        for _ in 0..threads {
            let (gate, told) = (gate.clone(), told.clone());
            let work = move || {
                told.send(()).unwrap();
                gate.wait();
            };
            hasher.0.try_send(Box::new(work)).unwrap();
        }
        (0..threads).for_each(|_| taken.recv().unwrap());
        let fits = (0..=QUEUE).take_while(|_| hasher.0.try_send(Box::new(|| ())).is_ok()).count();
        assert_eq!((fits, hasher.run(|| ()).await), (QUEUE, Err(Busy)));
        gate.wait();
        while hasher.run(|| ()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
