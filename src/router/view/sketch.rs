//! Views for tests, drawn in a line of text.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::needs::{Bar, CatchUp, Needs};
use super::samples::{Point, Samples};
use super::{Load, Node, Replay, Role, State, View};
use crate::types::{Lsn, Timeline};

/// Counts milliseconds from an hour after this moment, so that there are moments before it.
#[derive(Clone, Copy)]
pub(crate) struct Clock(pub(crate) Instant);

impl Clock {
    pub(crate) fn at(self, millis: u64) -> Instant {
        self.0 + Duration::from_secs(3600) + Duration::from_millis(millis)
    }

    pub(crate) fn bar(self, needs: Needs, max_lag_ms: u64, now_ms: u64) -> Bar {
        Bar::new(needs, Duration::from_millis(max_lag_ms), self.at(now_ms))
    }

    /// A wait, begun in the first epoch, for what `round` covers.
    pub(crate) fn wait_for(self, round: u64, now_ms: u64) -> CatchUp {
        CatchUp { bar: self.bar(Needs { round, ..Needs::NONE }, 10_000, now_ms), epoch: 1 }
    }

    /// `P` is the primary, `S@300+2000` a standby that said at 2000 ms to have replayed 300, `S` one that
    /// has said nothing, `-` a node that is down; after `:` what is unusual. Samples are (round, ms, lsn).
    pub(crate) fn sketch(self, nodes: &str, samples: &[(u64, u64, u64)]) -> View {
        let words = nodes.split_whitespace().enumerate();
        let nodes: Vec<Node> = words.map(|(index, word)| self.node(index, word)).collect();
        let mut history = Samples::default();
        for &(round, millis, lsn) in samples {
            history.push(Point { round, requested: self.at(millis), lsn: Lsn(lsn) });
        }
        View {
            cluster: "main".into(),
            primary: nodes.iter().position(|node| node.role == Role::Primary && node.state == State::Up),
            timeline: Some(Timeline(1)),
            nodes,
            epoch: 1,
            samples: Arc::new(history),
            turn: Arc::default(),
        }
    }

    fn node(self, index: usize, word: &str) -> Node {
        let mut words = word.split(':');
        let what = words.next().unwrap();
        let replay = what.split_once('@').map(|(_, replay)| {
            let (lsn, millis) = replay.split_once('+').unwrap();
            Replay { lsn: Lsn(lsn.parse().unwrap()), requested: self.at(millis.parse().unwrap()) }
        });
        let mut node = Node {
            name: format!("n{index}").into(),
            role: match &what[..1] {
                "P" => Role::Primary,
                "S" => Role::Replica,
                _ => Role::Unknown,
            },
            state: if what == "-" { State::Down } else { State::Up },
            since: self.at(0),
            timeline: Some(Timeline(1)),
            weight: 1,
            incarnation: 0,
            replay,
            received: None,
            receiver: None,
            version: 150_000,
            fault: None,
            load: Load::default(),
        };
        for word in words {
            match word {
                "paused" => node.state = State::Paused,
                "draining" => node.state = State::Draining,
                "down" => node.state = State::Down,
                "starting" => node.state = State::Starting,
                "timeline2" => node.timeline = Some(Timeline(2)),
                "timeline?" => node.timeline = None,
                word => node.weight = word.strip_prefix("weight").unwrap().parse().unwrap(),
            }
        }
        node
    }
}
