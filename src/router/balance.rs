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

    pub(super) fn contains(self, index: usize) -> bool {
        self.0 & bit(index) != 0
    }

    fn without(self, index: usize) -> Self {
        Self(self.0 & !bit(index))
    }

    fn iter(self, view: &View) -> impl Iterator<Item = (usize, u64)> {
        let weighted = view.nodes.iter().map(|node| u64::from(node.weight)).enumerate();
        weighted.filter(move |(index, _)| self.contains(*index))
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::view::sketch::Clock;
    use super::*;

    fn all(view: &View) -> Nodes {
        let mut nodes = Nodes::default();
        (0..view.nodes.len()).for_each(|index| nodes.insert(index));
        nodes
    }

    /// How often each node is drawn in `times`, with numbers that are spread evenly.
    fn count(view: &View, balance: Balance, times: u64) -> Vec<usize> {
        let mut counts = vec![0; view.nodes.len()];
        for turn in 0..times {
            let random = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            counts[pick(view, all(view), balance, random).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_in_proportion_to_weights() {
        let view = Clock(Instant::now()).sketch("S S:weight2 S:weight0", &[]);
        assert_eq!(count(&view, Balance::RoundRobin, 300), [100, 200, 0]);
        let counts = count(&view, Balance::Random, 30_000);
        assert!(counts[0].abs_diff(10_000) < 500 && counts[2] == 0, "{counts:?}");
    }

    #[test]
    fn the_less_busy_of_two_is_taken_with_regard_to_weight() {
        let view = Clock(Instant::now()).sketch("S S:weight2", &[]);
        let busy: Vec<_> = (0..2).map(|_| view.nodes[0].load.begin()).collect();
        assert_eq!(count(&view, Balance::LeastOutstanding, 100), [0, 100]);
        let more: Vec<_> = (0..5).map(|_| view.nodes[1].load.begin()).collect();
        assert_eq!(count(&view, Balance::LeastOutstanding, 100), [100, 0]);
        drop((busy, more));
    }

    #[test]
    fn nobody_is_drawn_from_nobody() {
        let view = Clock(Instant::now()).sketch("S:weight0 S", &[]);
        for balance in [Balance::LeastOutstanding, Balance::RoundRobin, Balance::Random] {
            assert_eq!(pick(&view, Nodes::default(), balance, 7), None);
            let mut weightless = Nodes::default();
            weightless.insert(0);
            weightless.insert(MOST);
            assert_eq!(pick(&view, weightless, balance, 7), None);
        }
    }

    const MOST: usize = super::super::view::MOST_NODES;
}
