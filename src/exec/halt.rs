//! When a step should stop, and why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use super::outcome::Stop;

/// Asked to stop once, and with everything inside it. Clones share it.
#[derive(Debug, Clone)]
pub struct Halt {
    token: CancellationToken,
    /// Its time is over; otherwise somebody stopped it.
    expired: Arc<AtomicBool>,
    around: Option<Arc<Halt>>,
}

impl Halt {
    /// Stopped with `token`.
    pub fn new(token: CancellationToken) -> Halt {
        Halt { token, expired: Arc::default(), around: None }
    }

    /// One that is stopped with this one, and can be stopped alone.
    #[must_use]
    pub fn inner(&self) -> Halt {
        Halt { token: self.token.child_token(), expired: Arc::default(), around: Some(Arc::new(self.clone())) }
    }

    /// Stops what is inside because a sibling failed.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Stops what is inside because its time is over.
    pub fn expire(&self) {
        self.expired.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Waits until it is to stop; gives the reason.
    pub async fn asked(&self) -> Stop {
        self.token.cancelled().await;
        self.reason()
    }

    /// Why it is to stop, if it is.
    pub fn why(&self) -> Option<Stop> {
        self.token.is_cancelled().then(|| self.reason())
    }

    fn reason(&self) -> Stop {
        if self.expired.load(Ordering::Acquire) {
            return Stop::TimedOut;
        }
        self.around.as_ref().and_then(|around| around.why()).unwrap_or(Stop::Aborted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_nearest() {
        let build = Halt::new(CancellationToken::new());
        let bound = build.inner();
        let step = bound.inner();
        assert!(step.why().is_none());
        bound.expire();
        assert!(matches!(step.why(), Some(Stop::TimedOut)));
        assert!(build.why().is_none());
        let sibling = build.inner();
        sibling.cancel();
        assert!(matches!(sibling.why(), Some(Stop::Aborted)));
        build.cancel();
        assert!(matches!(bound.why(), Some(Stop::TimedOut)));
    }
}
