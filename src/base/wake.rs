//! A wake-up: makes the next pass of a worker sooner. It carries nothing; the tables are the truth.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// A named bell. Ringing while nobody waits is remembered once, so no change is ever missed.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Makes the waiting pass, or the next one, run at once.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for the bell, at most `period`: the safety net.
    pub async fn wait(&self, period: Duration) {
        let _ = tokio::time::timeout(period, self.0.notified()).await;
    }
}
