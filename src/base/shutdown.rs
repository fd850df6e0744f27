//! Stop in two stages: the first signal asks everything to finish, the second ends the process at once.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handed to every worker: says when to stop, and keeps count of who has not yet.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A fresh one, not yet asked to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Resolves when the stop has been asked for.
    pub async fn asked(&self) {
        self.token.cancelled().await;
    }

    /// Whether the stop has been asked for.
    pub fn is_asked(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The token itself, for passing on to what takes one.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Asks everything to stop.
    pub fn ask(&self) {
        self.token.cancel();
        self.tasks.close();
    }

    /// Runs a task that `finished` waits for.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(future)
    }

    /// Resolves when the stop was asked for and every spawned task has ended.
    pub async fn finished(&self) {
        self.asked().await;
        self.tasks.wait().await;
    }
}
