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
}

/// What a node should be asked for the sake of those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// The primary: where its WAL ends.
    Sample,
    /// A replica: how far it has replayed.
    Replay,
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
        if self.count.load(Ordering::SeqCst) == 0 {
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

    /// What node `index` should be asked now, for anybody's sake.
    pub(super) fn errand(&self, view: &View, index: usize) -> Option<Errand> {
        if self.count.load(Ordering::SeqCst) == 0 {
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
        Want::CatchUp(wait) => view.ends(&wait),
        Want::Replay { node, incarnation, after } => view.nodes.get(node).is_none_or(|node| {
            node.incarnation != incarnation || node.replay.is_none_or(|replay| replay.requested > after)
        }),
    }
}

fn errand(view: &View, index: usize, want: &Want) -> Option<Errand> {
    match *want {
        Want::CatchUp(wait) => {
            if view.wants_sample(wait.bar()) {
                // Until it is here nobody knows what replicas must have replayed.
                return (view.primary == Some(index)).then_some(Errand::Sample);
            }
            matches!(view.standing(index, wait.bar()), Standing::Behind(_)).then_some(Errand::Replay)
        }
        Want::Replay { node, .. } => (node == index && !is_over(view, want)).then_some(Errand::Replay),
    }
}
