//! Leave to start containers, and to run tasks, given to teams in turn: two hundred builds of one team do not delay
//! another's first.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::base::id::TeamId;
use crate::schedule::turn;

struct Queue {
    /// Below zero where more go on than there are places, after a restart with fewer.
    free: isize,
    waiting: turn::Turns<TeamId, oneshot::Sender<Turn>>,
}

/// So many at once; more wait. Clones share it.
#[derive(Clone)]
pub struct Turns(Arc<Mutex<Queue>>);

/// Leave for one, until dropped.
pub struct Turn(Option<Turns>);

impl Turns {
    /// At most `places` at once. More starts than about twice the cores only make each of them slower.
    pub fn new(places: usize) -> Turns {
        Turns(Arc::new(Mutex::new(Queue {
            free: isize::try_from(places.max(1)).unwrap_or(isize::MAX),
            waiting: turn::Turns::new(),
        })))
    }

    /// Waits for `team`'s turn.
    pub async fn take(&self, team: TeamId) -> Turn {
        let waiting = {
            let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.free > 0 {
                queue.free -= 1;
                return Turn(Some(self.clone()));
            }
            let (sender, receiver) = oneshot::channel();
            queue.waiting.push(team, sender);
            receiver
        };
        // The sender is kept until it is used, so this cannot fail.
        waiting.await.unwrap_or(Turn(None))
    }

    /// A turn, if there is one without waiting.
    pub fn try_take(&self) -> Option<Turn> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (queue.free > 0).then(|| {
            queue.free -= 1;
            Turn(Some(self.clone()))
        })
    }

    /// A turn for who goes on already, whether a place is free or not.
    pub fn join(&self) -> Turn {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).free -= 1;
        Turn(Some(self.clone()))
    }

    fn give_back(&self) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.free < 0 {
            queue.free += 1;
            return;
        }
        while let Some((_, next)) = queue.waiting.pop() {
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // Whoever waited has gone: the turn that comes back must not be given back once more.
                Err(mut turn) => turn.0 = None,
            }
        }
        queue.free += 1;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn teams_are_served_in_turn() {
        let turns = Turns::new(1);
        let first = turns.take(TeamId(1)).await;
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        for team in [1, 1, 1, 2, 1, 3] {
            let (turns, sender) = (turns.clone(), sender.clone());
            tokio::spawn(async move {
                let _turn = turns.take(TeamId(team)).await;
                sender.send(team).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        let mut served = Vec::new();
        for _ in 0..6 {
            served.push(order.recv().await.unwrap());
        }
        assert_eq!(served, [1, 2, 3, 1, 1, 1]);
    }

    #[tokio::test]
    async fn who_goes_on_already_is_counted_but_does_not_wait() {
        let turns = Turns::new(1);
        let (first, second) = (turns.join(), turns.join());
        assert!(turns.try_take().is_none());
        drop(first);
        assert!(turns.try_take().is_none());
        drop(second);
        let third = turns.try_take();
        assert!(third.is_some() && turns.try_take().is_none());
    }

    #[tokio::test]
    async fn who_gave_up_waiting_is_passed_over() {
        let turns = Turns::new(1);
        let first = turns.take(TeamId(1)).await;
        let gone = tokio::time::timeout(std::time::Duration::from_millis(1), turns.take(TeamId(1))).await;
        assert!(gone.is_err());
        drop(first);
        let _again = turns.take(TeamId(2)).await;
    }
}
