//! Who waits for positions, and what the nodes must therefore be asked.
//!
//! Only those whose wait is over are woken; a sample that satisfies nobody wakes nobody. Nothing
//! runs when the list is empty.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::router::view::needs::CatchUp;
use crate::router::view::{Standing, View};
use crate::types::Lsn;

/// What somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    /// Some replica to have seen enough.
    CatchUp(CatchUp),
    /// A replay position of this node that was requested after this moment.
    Replay {
        /// The node's index.
        node: usize,
        /// Its incarnation when the wait began; another one ends it.
        incarnation: u64,
        /// The moment.
        after: Instant,
    },
    /// A sample of this round, or a later one.
    Sample(u64),
}

/// What a node should be asked for the sake of those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// The primary: where its WAL ends.
    Sample,
    /// A replica: how far it has replayed.
    Replay,
    /// The primary: to flush its WAL up to here.
    Flush(Lsn),
}

/// The list of those who wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    list: Mutex<List>,
    /// Its length, readable without the lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct List {
    entries: Vec<Entry>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    want: Want,
    done: oneshot::Sender<()>,
}

/// A place in the list; leaves it when dropped.
#[derive(Debug)]
pub(super) struct Place {
    waiters: Arc<Waiters>,
    id: u64,
    done: oneshot::Receiver<()>,
}

impl Place {
    /// Waits until the want is satisfied. Cancel safe.
    pub(super) async fn satisfied(&mut self) {
        // The sender goes only when the entry leaves the list, after the message.
        let _ = (&mut self.done).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut list = self.waiters.lock();
        if let Some(at) = list.entries.iter().position(|entry| entry.id == self.id) {
            list.entries.swap_remove(at);
        }
        self.waiters.count.store(list.entries.len(), Ordering::SeqCst);
    }
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the list. Look at the view once more after this: what was published before is not noticed.
    pub(super) fn join(self: &Arc<Self>, want: Want) -> Place {
        let (sender, done) = oneshot::channel();
        let mut list = self.lock();
        list.last += 1;
        let id = list.last;
        list.entries.push(Entry { id, want, done: sender });
        self.count.store(list.entries.len(), Ordering::SeqCst);
        Place { waiters: Arc::clone(self), id, done }
    }

    /// Wakes those whose wait is over in `view`; says whether anybody is left.
    pub(super) fn release(&self, view: &View) -> Remaining {
        if self.is_empty() {
            return Remaining::Nobody;
        }
        let mut list = self.lock();
        let mut at = 0;
        while at < list.entries.len() {
            if is_over(view, &list.entries[at].want) {
                let entry = list.entries.swap_remove(at);
                let _ = entry.done.send(());
            } else {
                at += 1;
            }
        }
        self.count.store(list.entries.len(), Ordering::SeqCst);
        if list.entries.is_empty() { Remaining::Nobody } else { Remaining::Somebody }
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// What node `index` should be asked now, for anybody's sake.
    pub(super) fn errand(&self, view: &View, index: usize) -> Option<Errand> {
        if self.is_empty() {
            return None;
        }
        self.lock().entries.iter().find_map(|entry| errand(view, index, &entry.want))
    }
}

/// Whether somebody still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remaining {
    /// Somebody does.
    Somebody,
    /// Nobody does.
    Nobody,
}

/// Whether `want` is satisfied in `view`, or cannot be any more.
pub(super) fn is_over(view: &View, want: &Want) -> bool {
    match *want {
        Want::CatchUp(catch_up) => view.ends(&catch_up),
        Want::Replay { node, incarnation, after } => view.nodes.get(node).is_none_or(|node| {
            node.incarnation != incarnation || node.replay.is_none_or(|replay| replay.requested > after)
        }),
        Want::Sample(round) => view.samples.token(round).is_some(),
    }
}

fn errand(view: &View, index: usize, want: &Want) -> Option<Errand> {
    match *want {
        Want::CatchUp(catch_up) => {
            if view.wants_sample(catch_up.bar()) {
                // Until it is here nobody knows what replicas must have replayed.
                return (view.primary == Some(index)).then_some(Errand::Sample);
            }
            matches!(view.standing(index, catch_up.bar()), Standing::Behind(_)).then_some(Errand::Replay)
        }
        Want::Replay { node, .. } => (node == index && !is_over(view, want)).then_some(Errand::Replay),
        Want::Sample(_) => (view.primary == Some(index) && !is_over(view, want)).then_some(Errand::Sample),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::router::view::sketch::Clock;

    const SAMPLES: [(u64, u64, u64); 2] = [(1, 0, 100), (2, 1000, 200)];

    #[test]
    fn the_primary_is_asked_first_then_the_replicas_that_are_late() {
        let clock = Clock(Instant::now());
        let waiters = Arc::new(Waiters::default());
        let view = clock.sketch("P S@100+1100 S@200+1100 S@100+1100:paused", &SAMPLES);
        let errands =
            |waiters: &Waiters, view: &View| (0..4).map(|node| waiters.errand(view, node)).collect::<Vec<_>>();
        assert_eq!(errands(&waiters, &view), [None; 4]);
        let place = waiters.join(Want::CatchUp(clock.wait_for(3, 1500)));
        assert_eq!(errands(&waiters, &view), [Some(Errand::Sample), None, None, None]);
        let sampled = clock.sketch("P S@100+1100 S@200+1100 S@100+1100:paused", &[(2, 1000, 200), (3, 1600, 250)]);
        assert_eq!(errands(&waiters, &sampled), [None, Some(Errand::Replay), Some(Errand::Replay), None]);
        drop(place);
        assert_eq!(errands(&waiters, &sampled), [None; 4]);
    }

    #[tokio::test]
    async fn only_those_are_woken_whose_wait_is_over() {
        let clock = Clock(Instant::now());
        let waiters = Arc::new(Waiters::default());
        let view = clock.sketch("P S@100+1100", &SAMPLES);
        let mut near = waiters.join(Want::CatchUp(clock.wait_for(2, 1500)));
        let mut far = waiters.join(Want::CatchUp(clock.wait_for(3, 1500)));
        assert_eq!(waiters.release(&view), Remaining::Somebody);
        assert_eq!(waiters.release(&clock.sketch("P S@200+1600", &SAMPLES)), Remaining::Somebody);
        near.satisfied().await;
        let pending = tokio::time::timeout(Duration::from_millis(5), far.satisfied()).await;
        assert!(pending.is_err(), "woken though nothing covers its round");
        assert_eq!(waiters.release(&clock.sketch("P -", &SAMPLES)), Remaining::Nobody);
        far.satisfied().await;
    }

    #[test]
    fn a_replay_position_must_be_younger_than_the_wait() {
        let clock = Clock(Instant::now());
        let waiters = Arc::new(Waiters::default());
        let after = clock.at(1000);
        let want = Want::Replay { node: 1, incarnation: 0, after };
        let place = waiters.join(want);
        for (nodes, over) in [("P S@100+1000", false), ("P S@100+1001", true), ("P S", true), ("P", true)] {
            let view = clock.sketch(nodes, &SAMPLES);
            assert_eq!(is_over(&view, &want), over, "{nodes}");
            let errand = waiters.errand(&view, 1);
            assert_eq!(errand, (!over).then_some(Errand::Replay), "{nodes}");
        }
        let mut reborn = clock.sketch("P S@100+900", &SAMPLES);
        reborn.nodes[1].incarnation = 1;
        assert!(is_over(&reborn, &want));
        drop(place);
    }
}
