//! Wake-ups between two processes on one state directory, one of which serves the web and the other schedules.
//!
//! Each has a socket named for its role and tells the other when it has written something. A message says nothing more:
//! the tables are the truth. Whoever misses one looks at the end of its period all the same.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::sync::watch;

use super::config::RoleChoice;
use crate::base::shutdown::Shutdown;
use crate::engine::{Feed, Wakes};
use crate::store::Store;

/// Writes that follow one another so closely are told once.
const PAUSE: Duration = Duration::from_millis(20);

/// What is rung for what another process has written.
#[derive(Clone)]
pub struct Rung {
    /// Whose readers look again.
    pub store: Store,
    /// The passes, if they are in this process.
    pub wakes: Wakes,
    /// Followers of logs.
    pub feed: Feed,
}

impl Rung {
    /// Another process has written something.
    fn ring(&self) {
        self.store.written_elsewhere();
        self.feed.written_elsewhere();
        for wake in [&self.wakes.check, &self.wakes.schedule, &self.wakes.track] {
            wake.ring();
        }
    }
}

/// This process's end. It holds its role's lock, so no other process has the socket.
pub struct Bells {
    socket: UnixDatagram,
    /// The directory, open: its name may be longer than a socket's may be.
    directory: File,
    other: &'static str,
    rung: Rung,
    /// What is told.
    writes: watch::Receiver<u64>,
}

impl Bells {
    /// For a process with these roles; none where it has both, and nobody to tell.
    pub fn open(directory: &Path, roles: &[RoleChoice], rung: Rung) -> io::Result<Option<Bells>> {
        let roles: BTreeSet<_> = roles.iter().collect();
        let (own, other) = match (roles.contains(&RoleChoice::Web), roles.contains(&RoleChoice::Scheduler)) {
            (true, false) => (RoleChoice::Web, RoleChoice::Scheduler),
            (false, true) => (RoleChoice::Scheduler, RoleChoice::Web),
            _ => return Ok(None),
        };
        let directory = File::open(directory)?;
        let path = place(&directory, own.name());
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let (socket, writes) = (UnixDatagram::bind(path)?, rung.store.own_writes());
        Ok(Some(Bells { socket, directory, other: other.name(), rung, writes }))
    }

    /// Tells and hears until the stop is asked for.
    pub async fn run(self, shutdown: Shutdown) {
        let Bells { socket, directory, other, rung, mut writes } = self;
        let hear = async {
            loop {
                match socket.recv(&mut [0; 1]).await {
                    Ok(_) => rung.ring(),
                    Err(error) => {
                        tracing::warn!(%error, "wake-ups of the other process are not heard");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        };
        let other = place(&directory, other);
        let tell = async {
            while writes.changed().await.is_ok() {
                // One that is not there reads the tables when it starts; one that is full of messages is about to.
                socket.try_send_to(&[1], &other).ok();
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = hear => {}
            () = tell => {}
            () = shutdown.asked() => {}
        }
    }
}

fn place(directory: &File, role: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{role}.bell", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::clock::{Manual, Time};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn rung(directory: &Path) -> Rung {
        let store = Store::open(directory).unwrap();
        let feed = Feed::new(store.clone(), Arc::new(Manual::new(Time(0))));
        Rung { store, wakes: Wakes::default(), feed }
    }

    #[tokio::test]
    async fn what_one_process_writes_wakes_the_other_and_no_message_comes_back() {
        let deep = tempfile::tempdir().unwrap();
        let directory = deep.path().join("d".repeat(120));
        std::fs::create_dir(&directory).unwrap();
        let (web, scheduler) = (rung(&directory), rung(&directory));
        let both = [RoleChoice::Web, RoleChoice::Scheduler];
        assert!(Bells::open(&directory, &both, web.clone()).unwrap().is_none(), "there is nobody to tell");
        let shutdown = Shutdown::new();
        for (rung, roles) in [(&web, &both[..1]), (&scheduler, &both[1..])] {
            // As a process has left it that was killed.
            drop(Bells::open(&directory, roles, rung.clone()).unwrap());
            let bells = Bells::open(&directory, roles, rung.clone()).unwrap().unwrap();
            shutdown.spawn(bells.run(shutdown.clone()));
        }
        let (mut here, mut there) = (web.store.writes(), scheduler.store.writes());
        let told = scheduler.store.own_writes();
        for value in ["1", "2", "3"] {
            web.store.write(move |tx| tx.set_setting("x", value)).await.unwrap();
            tokio::time::timeout(PATIENCE, there.changed()).await.expect("the scheduler hears").unwrap();
            let begun = tokio::time::Instant::now();
            scheduler.wakes.schedule.wait(PATIENCE).await;
            assert!(begun.elapsed() < PATIENCE, "its pass is woken");
            assert!(!told.has_changed().unwrap(), "what was heard is not told again");
        }
        here.mark_unchanged();
        scheduler.store.write(|tx| tx.set_setting("y", "1")).await.unwrap();
        tokio::time::timeout(PATIENCE, here.changed()).await.expect("the web hears").unwrap();
        shutdown.ask();
        shutdown.finished().await;
    }
}
