//! Which round of the sampler covers the writes of a database or a session.
//!
//! Rounds are numbered when their request is about to be sent. A write that was acknowledged before
//! is covered by every later round, so all that a write leaves behind is one number; nobody asks
//! the primary anything until somebody reads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::router::view::needs::Seen;
use crate::types::DatabaseName;

/// The round that covers every write to one database through this process.
#[derive(Debug)]
pub struct WriteClock(AtomicU64);

impl WriteClock {
    fn starting_at(round: u64) -> Self {
        Self(AtomicU64::new(round))
    }

    /// A write was acknowledged that `round` covers.
    pub(super) fn rise(&self, round: u64) {
        // Most writes between two rounds find the clock already there: no contended write then.
        if self.round() < round {
            self.0.fetch_max(round, Ordering::SeqCst);
        }
    }

    /// The round that covers all writes so far; 0 when there was none.
    pub(super) fn round(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The round that covers every write of one session, and where it last read. Belongs to one cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionClock {
    pub(super) round: u64,
    pub(super) seen: Option<Seen>,
}

/// The rounds that have been started.
#[derive(Debug, Default)]
pub(super) struct Rounds(AtomicU64);

impl Rounds {
    /// Numbers a request that is about to be sent.
    pub(super) fn start(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The first round that will be requested after this moment.
    ///
    /// Sequentially consistent with `start`: whoever gets the number returned here increments the
    /// counter after this load, and sends after that.
    pub(super) fn next(&self) -> u64 {
        self.0.load(Ordering::SeqCst) + 1
    }
}

/// The write clocks of all databases that clients have named.
#[derive(Debug, Default)]
pub(super) struct Clocks(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    clocks: HashMap<DatabaseName, Arc<WriteClock>>,
    /// What new clocks start at: no clock that was dropped stood later.
    floor: u64,
}

/// Most clocks kept though nobody uses them.
const KEPT: usize = 1024;

impl Clocks {
    pub(super) fn of(&self, database: &DatabaseName) -> Arc<WriteClock> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clock) = known.clocks.get(database) {
            return Arc::clone(clock);
        }
        if known.clocks.len() >= KEPT {
            known.forget_unused();
        }
        let clock = Arc::new(WriteClock::starting_at(known.floor));
        known.clocks.insert(database.clone(), Arc::clone(&clock));
        clock
    }
}

impl Known {
    fn forget_unused(&mut self) {
        let Self { clocks, floor } = self;
        clocks.retain(|_, clock| {
            let used = Arc::strong_count(clock) > 1;
            if !used {
                *floor = (*floor).max(clock.round());
            }
            used
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_needs_the_round_after_the_one_under_way() {
        let rounds = Rounds::default();
        let clock = WriteClock::starting_at(0);
        assert_eq!(clock.round(), 0);
        assert_eq!(rounds.start(), 1);
        clock.rise(rounds.next());
        assert_eq!(clock.round(), 2);
        clock.rise(1);
        assert_eq!(clock.round(), 2);
        assert_eq!(rounds.start(), 2);
        clock.rise(rounds.next());
        assert_eq!(clock.round(), 3);
    }

    #[test]
    fn a_clock_that_was_forgotten_leaves_its_mark() {
        let clocks = Clocks::default();
        let first = clocks.of(&"first".into());
        clocks.of(&"busy".into()).rise(42);
        assert_eq!(clocks.of(&"busy".into()).round(), 42);
        for other in 0..KEPT {
            clocks.of(&format!("db{other}").into());
        }
        assert!(clocks.0.lock().unwrap().clocks.len() <= KEPT);
        assert!(clocks.of(&"busy".into()).round() >= 42);
        assert!(Arc::ptr_eq(&first, &clocks.of(&"first".into())));
    }
}
