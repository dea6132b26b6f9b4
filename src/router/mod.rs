//! Where a statement goes: [`route`] takes what is asked and the cluster as it is, and answers
//! with a node or with what to wait for.
//!
//! Pure: no clock, no socket, no chance of its own. It does not know what a session is; the client
//! loop says whether a statement is bound to a transaction or a pin.

pub mod balance;
pub mod consistency;
pub mod reason;
pub mod view;

use std::time::Instant;

use crate::config::model::{Reads, Routing};
use crate::sql::classify::ReadOnly;
use consistency::{Candidates, Fresh};
use reason::Reason;
use view::needs::{Bar, CatchUp, Needs};
use view::{Out, Role, State, View};

/// What is to be routed.
#[derive(Debug)]
pub enum Ask<'a> {
    /// Something for the primary, and why.
    Primary(Reason),
    /// A read.
    Read {
        /// That it is one.
        proof: ReadOnly,
        /// The settings it is routed by.
        routing: &'a Routing,
        /// What it must have seen.
        needs: Needs,
        /// Why it may go to a replica.
        reason: Reason,
    },
}

/// Where something goes.
#[derive(Debug)]
pub enum Target {
    /// The primary, as an index into the view's nodes.
    Primary(usize),
    /// A replica that has seen enough.
    Replica(Fresh),
}

impl Target {
    /// The node, as an index into the view's nodes.
    pub const fn node(&self) -> usize {
        match self {
            Self::Primary(node) => *node,
            Self::Replica(fresh) => fresh.node(),
        }
    }
}

/// The answer.
#[derive(Debug)]
pub enum Verdict {
    /// It goes there.
    Go {
        /// Where.
        target: Target,
        /// Why.
        reason: Reason,
    },
    /// A replica may have seen enough soon: wait (`Cluster::catch_up`) and ask again with the
    /// proof; when `routing.wait` is over, ask for the primary with [`Reason::WaitExpired`].
    Wait {
        /// The proof, given back.
        proof: ReadOnly,
        /// What to wait for.
        wait: CatchUp,
    },
    /// It needs a primary and there is none: wait (`Cluster::hold`) and ask again.
    NoPrimary {
        /// The proof, given back when there was one.
        proof: Option<ReadOnly>,
        /// Why it needs the primary.
        reason: Reason,
    },
}

/// Decides where `ask` goes. `random` is a number that the caller drew.
pub fn route(ask: Ask<'_>, view: &View, now: Instant, random: u64) -> Verdict {
    match ask {
        Ask::Primary(reason) => to_primary(view, reason, None),
        Ask::Read { proof, routing, needs, reason } => match routing.reads {
            Reads::Primary => to_primary(view, Reason::ReadsDisabled, Some(proof)),
            Reads::Replicas | Reads::Any => {
                let bar = Bar::new(needs, routing.max_lag, now);
                read(proof, routing, &bar, reason, view, random)
            }
        },
    }
}

fn read(proof: ReadOnly, routing: &Routing, bar: &Bar, reason: Reason, view: &View, random: u64) -> Verdict {
    let candidates = Candidates::new(view, bar);
    let mut choice = candidates.fresh;
    if let (Reads::Any, Some(primary)) = (routing.reads, view.primary) {
        choice.insert(primary);
    }
    let Some(node) = balance::pick(view, choice, routing.balance, random) else {
        return without_replica(proof, routing, &candidates, bar, view);
    };
    if view.primary == Some(node) {
        return Verdict::Go { target: Target::Primary(node), reason };
    }
    match candidates.mint(proof, node) {
        Ok(fresh) => Verdict::Go { target: Target::Replica(fresh), reason },
        Err(proof) => to_primary(view, Reason::NoReplica, Some(proof)),
    }
}

/// No replica passes: is it worth waiting for one?
fn without_replica(proof: ReadOnly, routing: &Routing, found: &Candidates<'_>, bar: &Bar, view: &View) -> Verdict {
    match found.behind {
        // What has been behind for longer than we would wait is not expected to make it.
        Some(behind) if behind < routing.wait => {
            Verdict::Wait { proof, wait: CatchUp { bar: *bar, epoch: view.epoch } }
        }
        Some(_) => to_primary(view, Reason::TooFarBehind, Some(proof)),
        None => {
            let reason = match found.out {
                Out::NotReplica | Out::Unavailable => Reason::NoReplica,
                Out::Paused => Reason::ReplicasPaused,
                Out::Lagging => Reason::ReplicasLagging,
            };
            to_primary(view, reason, Some(proof))
        }
    }
}

fn to_primary(view: &View, reason: Reason, proof: Option<ReadOnly>) -> Verdict {
    let usable = |index: &usize| {
        view.nodes
            .get(*index)
            .is_some_and(|node| node.role == Role::Primary && matches!(node.state, State::Up | State::Draining))
    };
    match view.primary.filter(usable) {
        Some(primary) => Verdict::Go { target: Target::Primary(primary), reason },
        None => Verdict::NoPrimary { proof, reason },
    }
}
