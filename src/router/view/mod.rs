//! The cluster as the router sees it: one immutable value, replaced as a whole when anything changes.
//!
//! Knows neither sockets nor clients. The only things in it that move are each node's count of
//! requests in flight and the round-robin counter, shared by all views of a cluster.

pub mod needs;
pub mod samples;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::types::{ClusterName, Lsn, NodeName, Timeline};
use needs::{Bar, CatchUp};
use samples::Samples;

/// Most nodes of a cluster that can take reads; those that the configuration names later get none.
pub const MOST_NODES: usize = 64;

/// A cluster at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Its nodes, in the order of the configuration.
    pub nodes: Vec<Node>,
    /// Which node takes writes, as an index into `nodes`.
    pub primary: Option<usize>,
    /// The timeline of the primary, or of the last one there was.
    pub timeline: Option<Timeline>,
    /// Grows whenever another node, timeline or incarnation becomes primary, and when there is none any more.
    pub epoch: u64,
    /// Where the primary's WAL ended, and when.
    pub samples: Arc<Samples>,
    /// The turn of round-robin balancing.
    pub turn: Arc<AtomicU64>,
}

/// One PostgreSQL instance at one moment.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name in the configuration.
    pub name: NodeName,
    /// What it says it is.
    pub role: Role,
    /// Whether it can be used.
    pub state: State,
    /// Since when it has been in this state and role.
    pub since: Instant,
    /// Its timeline, as far as known.
    pub timeline: Option<Timeline>,
    /// Its share of reads; 0 takes none.
    pub weight: u32,
    /// Counts connections of the monitor: positions of another incarnation say nothing.
    pub incarnation: u64,
    /// On a replica, how far it has replayed.
    pub replay: Option<Replay>,
    /// On a replica, how far it has received WAL.
    pub received: Option<Lsn>,
    /// On a replica, what its WAL receiver is doing (`streaming`, …); `None` when it has none.
    pub receiver: Option<Arc<str>>,
    /// `server_version_num`, 0 while unknown.
    pub version: u32,
    /// Why it is not up, or gets no traffic.
    pub fault: Option<Arc<str>>,
    /// Requests in flight.
    pub load: Load,
}

/// What a node says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has not been asked yet, or cannot be reached, or may not be used in this cluster.
    Unknown,
    /// The primary.
    Primary,
    /// A standby.
    Replica,
}

/// Whether a node can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Up,
    /// It answers that it is starting up or shutting down (SQLSTATE 57P03).
    Starting,
    /// A replica whose replay somebody has paused.
    Paused,
    /// It does not answer.
    Down,
    /// It answers, and belongs elsewhere: another system identifier, or an overtaken timeline.
    Refused,
    /// An administrator wants it to be left alone; it gets no new reads.
    Draining,
}

/// How far a replica has replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// `pg_last_wal_replay_lsn()`.
    pub lsn: Lsn,
    /// When that was asked. A connection made later than this may be to another incarnation.
    pub requested: Instant,
}

/// A replica's distance from the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// 0 when it has replayed the newest sample of the primary, else the age of the newest one
    /// that it has; `None` while unknown.
    pub time: Option<Duration>,
    /// Bytes of WAL between the newest sample and what it has replayed.
    pub bytes: Option<u64>,
}

/// What a replica is to one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has everything the read must see.
    Fresh(Replay),
    /// It takes reads and is not known to have everything, yet; for at least so long it has been behind.
    Behind(Duration),
    /// It gets no reads.
    Out(Out),
}

/// Why a node gets no reads. The order is from what says least to what says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Out {
    /// It is not a replica.
    NotReplica,
    /// It is down, starting, refused, on another timeline, or has weight 0.
    Unavailable,
    /// Somebody paused its replay, or it drains.
    Paused,
    /// It is known to be further behind than `max_lag`.
    Lagging,
}

// === impl View ===

impl View {
    /// What node `index` is to a read that must pass `bar`.
    pub fn standing(&self, index: usize, bar: &Bar) -> Standing {
        let Some(node) = self.nodes.get(index) else { return Standing::Out(Out::NotReplica) };
        match (node.role, node.state) {
            (Role::Replica, State::Up) => {}
            (Role::Replica, State::Paused | State::Draining) => return Standing::Out(Out::Paused),
            (Role::Primary, _) => return Standing::Out(Out::NotReplica),
            _ => return Standing::Out(Out::Unavailable),
        }
        if node.weight == 0 || node.timeline.is_none() || node.timeline != self.timeline {
            return Standing::Out(Out::Unavailable);
        }
        let Some(replay) = node.replay else { return Standing::Behind(Duration::ZERO) };
        if self.recent(replay.lsn, bar.horizon) && self.satisfied(index, node, replay.lsn, bar) {
            return Standing::Fresh(replay);
        }
        let behind = self.samples.behind(replay.lsn, replay.requested);
        // A primary that cannot be asked brings no newer sample: waiting for one would be in vain.
        if behind > bar.max_lag || (self.primary.is_none() && self.wants_sample(bar)) {
            return Standing::Out(Out::Lagging);
        }
        Standing::Behind(behind)
    }

    /// Whether a node that reached `lsn` has everything acknowledged before `horizon`.
    fn recent(&self, lsn: Lsn, horizon: Option<Instant>) -> bool {
        // Without a single sample the lag is unknown, which no bound, however wide, admits.
        self.samples.covered(lsn).is_some_and(|covered| horizon.is_none_or(|horizon| covered >= horizon))
    }

    fn satisfied(&self, index: usize, node: &Node, lsn: Lsn, bar: &Bar) -> bool {
        let reached = |round| round == 0 || self.samples.token(round).is_some_and(|token| token <= lsn);
        let needs = &bar.needs;
        needs.min_lsn <= lsn
            && reached(needs.round)
            && needs
                .seen
                .is_none_or(|seen| (seen.node == index && seen.incarnation == node.incarnation) || reached(seen.round))
    }

    /// Whether a wait is over: a replica passes the bar, or none can any more, or the roles have changed.
    pub fn ends(&self, wait: &CatchUp) -> bool {
        if wait.epoch() != self.epoch {
            return true;
        }
        let mut hope = false;
        for index in 0..self.nodes.len() {
            match self.standing(index, wait.bar()) {
                Standing::Fresh(_) => return true,
                Standing::Behind(_) => hope = true,
                Standing::Out(_) => {}
            }
        }
        !hope
    }

    /// Whether a wait needs a sample of the primary that is not here yet.
    pub fn wants_sample(&self, bar: &Bar) -> bool {
        let unsampled = |round| round != 0 && self.samples.token(round).is_none();
        match self.samples.newest() {
            None => true,
            Some(newest) => {
                unsampled(bar.needs.round)
                    || bar.needs.seen.is_some_and(|seen| unsampled(seen.round))
                    || bar.horizon.is_some_and(|horizon| newest.requested < horizon)
            }
        }
    }

    /// How far node `index` is from the primary, as far as samples tell.
    pub fn lag(&self, index: usize, now: Instant) -> Lag {
        let replay = self.nodes.get(index).filter(|node| node.role == Role::Replica).and_then(|node| node.replay);
        let (Some(replay), Some(newest)) = (replay, self.samples.newest()) else {
            return Lag { time: None, bytes: None };
        };
        let bytes = newest.lsn.bytes_since(replay.lsn);
        let time = match bytes {
            0 => Some(Duration::ZERO),
            _ => self.samples.covered(replay.lsn).map(|covered| now.saturating_duration_since(covered)),
        };
        Lag { time, bytes: Some(bytes) }
    }

    /// The index of the node of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name.as_str() == name)
    }
}

// === Words ===

impl Role {
    /// The word for SHOW commands and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

impl State {
    /// The word for SHOW commands and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Starting => "starting",
            Self::Paused => "paused",
            Self::Down => "down",
            Self::Refused => "refused",
            Self::Draining => "draining",
        }
    }
}

// === Load ===

/// How many requests a node is working on for us.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<AtomicUsize>);

/// One request in flight; ends when dropped.
#[derive(Debug)]
pub struct Busy(Arc<AtomicUsize>);

impl Load {
    /// Counts one request until the answer is dropped.
    #[must_use]
    pub fn begin(&self) -> Busy {
        self.0.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.0))
    }

    /// Requests in flight.
    pub fn outstanding(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
