//! What a read must have seen, and what is worth waiting for.

use std::time::{Duration, Instant};

use crate::types::Lsn;

/// What a read must have seen before it may run on a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Everything that this round of the sampler covers; 0 asks for nothing.
    pub round: u64,
    /// This position (`howdah.min_lsn`); 0/0 asks for nothing.
    pub min_lsn: Lsn,
    /// Everything that an earlier read of the same scope saw.
    pub seen: Option<Seen>,
    /// Whether the primary, if it is one of several that take reads, should not be taken only because nobody has asked
    /// yet what the others would need.
    pub anywhere: bool,
}

/// Where a scope has read, for reads that must not go back in time.
///
/// The node that answered has what it showed. Another one has it once it has replayed what the
/// primary had written when the read was over, which is what `round` covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The node that answered.
    pub node: usize,
    /// Its incarnation at that time.
    pub incarnation: u64,
    /// A round requested after the answer.
    pub round: u64,
}

impl Seen {
    /// The node of what several nodes showed.
    pub const NOWHERE: usize = usize::MAX;

    /// Whether `other` is of the same node, and that has not been away since.
    pub const fn is_of(&self, other: &Self) -> bool {
        self.node == other.node && self.incarnation == other.incarnation
    }
}

impl Needs {
    /// Nothing beyond the bound on the age.
    pub const NONE: Self = Self { round: 0, min_lsn: Lsn(0), seen: None, anywhere: false };
}

/// How fresh a replica must be, at one moment: the needs of one read and the bound on its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// What the read must have seen.
    pub needs: Needs,
    /// How old its data may be.
    pub max_lag: Duration,
    /// Hence: everything acknowledged before this must have been replayed; `None` is no bound.
    pub horizon: Option<Instant>,
}

impl Bar {
    /// The bar for a read that arrives at `now` and may miss at most the last `max_lag`.
    pub fn new(needs: Needs, max_lag: Duration, now: Instant) -> Self {
        Self { needs, max_lag, horizon: now.checked_sub(max_lag) }
    }
}

/// What a read waits for: some replica, on the present timeline, to pass the bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUp {
    /// How fresh.
    pub(in crate::router) bar: Bar,
    /// The epoch it was judged in; a change of roles ends the wait.
    pub(in crate::router) epoch: u64,
}

impl CatchUp {
    /// How fresh a replica must be.
    pub const fn bar(&self) -> &Bar {
        &self.bar
    }

    /// The epoch that the wait belongs to.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}
