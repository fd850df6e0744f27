//! Whose turn it is: what waits for capacity is served team by team, so that one team's two hundred builds do not
//! delay another's first.

use std::collections::VecDeque;

/// Waiting things by owner; owners are served in turn, each one's things in the order they came.
#[derive(Debug, Clone)]
pub struct Turns<K, T> {
    waiting: VecDeque<(K, VecDeque<T>)>,
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Turns { waiting: VecDeque::new() }
    }
}

impl<K: PartialEq, T> Turns<K, T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets something wait. An owner that has nothing waiting comes after those that have.
    pub fn push(&mut self, owner: K, thing: T) {
        match self.waiting.iter_mut().find(|(k, _)| *k == owner) {
            Some((_, things)) => things.push_back(thing),
            None => self.waiting.push_back((owner, VecDeque::from([thing]))),
        }
    }

    /// The next thing. Its owner comes last from then on.
    pub fn pop(&mut self) -> Option<(K, T)>
    where
        K: Clone,
    {
        self.pop_where(|_, _| true)
    }

    /// The next thing that `may` go now; the others keep their turn.
    pub fn pop_where(&mut self, mut may: impl FnMut(&K, &T) -> bool) -> Option<(K, T)>
    where
        K: Clone,
    {
        let turn = self.waiting.iter().position(|(k, things)| things.front().is_some_and(|t| may(k, t)))?;
        let (owner, mut things) = self.waiting.remove(turn)?;
        let thing = things.pop_front()?;
        if !things.is_empty() {
            self.waiting.push_back((owner.clone(), things));
        }
        Some((owner, thing))
    }

    /// Takes out what is no longer wanted.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &T) -> bool) {
        for (owner, things) in &mut self.waiting {
            things.retain(|t| keep(owner, t));
        }
        self.waiting.retain(|(_, things)| !things.is_empty());
    }

    /// How many things wait.
    pub fn len(&self) -> usize {
        self.waiting.iter().map(|(_, things)| things.len()).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_team_with_one_build_does_not_wait_for_two_hundred_of_another() {
        let mut turns = Turns::new();
        for n in 0..200 {
            turns.push("big", n);
        }
        turns.push("small", 0);
        assert_eq!(turns.len(), 201);
        assert_eq!(turns.pop(), Some(("big", 0)));
        assert_eq!(turns.pop(), Some(("small", 0)));
        assert_eq!(turns.pop(), Some(("big", 1)));
    }

    #[test]
    fn who_may_not_go_yet_keeps_the_turn() {
        let mut turns = Turns::new();
        turns.push("a", 1);
        turns.push("b", 2);
        assert_eq!(turns.pop_where(|k, _| *k != "a"), Some(("b", 2)));
        assert_eq!(turns.pop_where(|k, _| *k != "a"), None);
        assert_eq!(turns.pop(), Some(("a", 1)));
        assert!(turns.is_empty());
    }

    proptest! {
        #[test]
        fn everything_comes_out_once_and_in_order_and_nobody_is_passed_over_twice(
            pushes in proptest::collection::vec(0u8..4, 0..60)
        ) {
            let mut turns = Turns::new();
            for (n, owner) in pushes.iter().enumerate() {
                turns.push(*owner, n);
            }
            let mut out = Vec::new();
            while let Some(next) = turns.pop() {
                // Between two turns of one owner everybody else who waits has had one.
                if let Some(last) = out.iter().rposition(|(k, _)| *k == next.0) {
                    let between: std::collections::BTreeSet<u8> = out[last + 1..].iter().map(|(k, _)| *k).collect();
                    turns.retain(|k, _| { assert!(*k == next.0 || between.contains(k)); true });
                }
                out.push(next);
            }
            for owner in 0..4 {
                let expected: Vec<_> = (0..pushes.len()).filter(|n| pushes[*n] == owner).collect();
                let got: Vec<_> = out.iter().filter(|(k, _)| *k == owner).map(|(_, n)| *n).collect();
                prop_assert_eq!(expected, got);
            }
        }
    }
}
