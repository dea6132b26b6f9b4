//! Which of several nodes gets the next read.
//!
//! Knows weights and loads only; chance comes in as a number.

use std::sync::atomic::Ordering;

use super::view::View;
use crate::config::model::Balance;

/// A set of nodes, as indices into a view. A node beyond [`MOST_NODES`](super::view::MOST_NODES)
/// cannot be in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nodes(u64);

impl Nodes {
    pub(super) fn insert(&mut self, index: usize) {
        self.0 |= bit(index);
    }

    fn without(self, index: usize) -> Self {
        Self(self.0 & !bit(index))
    }

    fn iter(self, view: &View) -> impl Iterator<Item = (usize, u64)> {
        let weighted = view.nodes.iter().map(|node| u64::from(node.weight)).enumerate();
        weighted.filter(move |(index, _)| self.0 & bit(*index) != 0)
    }
}

fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}

/// Draws one of `nodes`; `None` when none of them has any weight.
pub(super) fn pick(view: &View, nodes: Nodes, balance: Balance, random: u64) -> Option<usize> {
    match balance {
        Balance::Random => draw(view, nodes, random),
        Balance::RoundRobin => draw(view, nodes, view.turn.fetch_add(1, Ordering::Relaxed)),
        Balance::LeastOutstanding => {
            let first = draw(view, nodes, random >> 32)?;
            match draw(view, nodes.without(first), random & 0xFFFF_FFFF) {
                Some(second) if load(view, second) < load(view, first) => Some(second),
                _ => Some(first),
            }
        }
    }
}

/// Requests in flight in proportion to the weight, in 1/65536.
fn load(view: &View, index: usize) -> u64 {
    let Some(node) = view.nodes.get(index) else { return u64::MAX };
    let outstanding = u64::try_from(node.load.outstanding()).unwrap_or(u64::MAX);
    outstanding.saturating_mul(1 << 16) / u64::from(node.weight.max(1))
}

/// The node that `at` falls on when each node's stretch is as long as its weight, over and over.
fn draw(view: &View, nodes: Nodes, at: u64) -> Option<usize> {
    let total: u64 = nodes.iter(view).map(|(_, weight)| weight).sum();
    let mut rest = at.checked_rem(total)?;
    for (index, weight) in nodes.iter(view) {
        if rest < weight {
            return Some(index);
        }
        rest -= weight;
    }
    None
}
