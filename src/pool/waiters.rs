//! Who waits for a server of one pool, and since when: for the metrics and SHOW POOLS.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The clients that wait.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    since: BTreeSet<(Instant, u64)>,
    last: u64,
}

/// A place in the queue; left when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    waiters: &'a Waiters,
    at: (Instant, u64),
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits who came at `since`.
    pub(super) fn join(&self, since: Instant) -> Place<'_> {
        let mut queue = self.lock();
        queue.last += 1;
        let at = (since, queue.last);
        queue.since.insert(at);
        Place { waiters: self, at }
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.lock().since.len()
    }

    /// Since when the first of them has waited.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lock().since.first().map(|(since, _)| *since)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.lock().since.remove(&self.at);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_is_whoever_came_first_and_is_still_there() {
        let waiters = Waiters::default();
        let (early, late) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        assert_eq!((waiters.count(), waiters.oldest()), (0, None));
        let second = waiters.join(late);
        let first = waiters.join(early);
        let twin = waiters.join(early);
        assert_eq!((waiters.count(), waiters.oldest()), (3, Some(early)));
        drop(first);
        assert_eq!((waiters.count(), waiters.oldest()), (2, Some(early)));
        drop(twin);
        assert_eq!((waiters.count(), waiters.oldest()), (1, Some(late)));
        drop(second);
        assert_eq!((waiters.count(), waiters.oldest()), (0, None));
    }
}
