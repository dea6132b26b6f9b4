//! Which replicas a read may run on, and the proof that it may.
//!
//! This is the only place that makes a [`Fresh`], and it takes a [`ReadOnly`] to make one: a
//! statement that may write cannot be sent to a replica, nor a read to a stale one, because no
//! value that says so can be had. Replay positions only grow on a timeline, so a proof does not
//! expire on its way to the server.

use std::time::{Duration, Instant};

use super::balance::Nodes;
use super::view::needs::Bar;
use super::view::{Out, Replay, Standing, View};
use crate::sql::classify::ReadOnly;
use crate::types::Lsn;

/// Proof that a statement which changes nothing may run on this replica.
#[derive(Debug)]
pub struct Fresh {
    proof: ReadOnly,
    node: usize,
    incarnation: u64,
    replay: Replay,
}

impl Fresh {
    /// The replica, as an index into the view's nodes.
    pub const fn node(&self) -> usize {
        self.node
    }

    /// The incarnation of the replica that the proof is about.
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// How far the replica had replayed.
    pub const fn lsn(&self) -> Lsn {
        self.replay.lsn
    }

    /// When that was asked. The proof holds on server connections that were made before; on a
    /// younger one the replica may have crashed and come back older than it was.
    pub const fn sampled_at(&self) -> Instant {
        self.replay.requested
    }

    /// Gives up the replica, for asking the router again.
    pub fn into_read_only(self) -> ReadOnly {
        self.proof
    }
}

/// The replicas that pass a bar, and what keeps the others from it.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    view: &'a View,
    bar: &'a Bar,
    /// The replicas that pass.
    pub(super) fresh: Nodes,
    /// For how long the least late of those has been behind that may pass soon; `None` without any.
    pub(super) behind: Option<Duration>,
    /// The most telling obstacle of the others.
    pub(super) out: Out,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(view: &'a View, bar: &'a Bar) -> Self {
        let mut found = Self { view, bar, fresh: Nodes::default(), behind: None, out: Out::NotReplica };
        for index in 0..view.nodes.len() {
            match view.standing(index, bar) {
                Standing::Fresh(_) => found.fresh.insert(index),
                Standing::Behind(by) => found.behind = Some(found.behind.map_or(by, |least| least.min(by))),
                Standing::Out(out) => found.out = found.out.max(out),
            }
        }
        found
    }

    /// The proof for replica `index`; gives `proof` back when it does not pass the bar.
    pub(super) fn mint(&self, proof: ReadOnly, index: usize) -> Result<Fresh, ReadOnly> {
        match (self.view.standing(index, self.bar), self.view.nodes.get(index)) {
            (Standing::Fresh(replay), Some(node)) => {
                Ok(Fresh { proof, node: index, incarnation: node.incarnation, replay })
            }
            _ => Err(proof),
        }
    }
}
