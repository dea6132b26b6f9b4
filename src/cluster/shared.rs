//! What the tasks of a cluster know together, and the one place where a new view is published.
//!
//! Each node's task reports what its node said; roles are decided from all of it under a lock that
//! is never held across an await, and readers see whole views only.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};

use super::clock::{Clocks, Rounds, Scope, ScopeClock, WriteClock};
use super::health::{Event, Health, Reach};
use super::probe::{Look, Position, ReplayState};
use super::roles::{Memory, Observation, Refusal, Verdict};
use super::tail::{Demand, Tail, Written};
use super::waiters::{Errand, Remaining, Waiters};
use crate::config::model;
use crate::router::view::samples::{Point, Samples};
use crate::router::view::{Load, Node, Replay, Role, State, View};
use crate::types::{DatabaseName, Lsn, Timeline};

/// What the tasks of a cluster share.
#[derive(Debug)]
pub(super) struct Shared {
    view: ArcSwap<View>,
    known: Mutex<Known>,
    pub(super) rounds: Rounds,
    pub(super) clocks: Clocks<DatabaseName, WriteClock>,
    pub(super) scopes: Clocks<Scope, ScopeClock>,
    pub(super) waiters: Arc<Waiters>,
    /// Samples that were asked for because somebody waited.
    pub(super) samples: AtomicU64,
    calls: Vec<Call>,
    epochs: watch::Sender<u64>,
}

/// How a node's task is called to work.
#[derive(Debug, Default)]
struct Call {
    bell: Notify,
    /// It should look at everything, not only run errands.
    look: AtomicBool,
}

/// What is known besides the view.
#[derive(Debug)]
struct Known {
    memory: Memory,
    nodes: Vec<Facts>,
    /// Whose positions the samples are.
    sampled: Option<Leader>,
    /// The end of its WAL.
    tail: Tail,
}

/// A primary: node, timeline, incarnation.
type Leader = (usize, Timeline, u64);

#[derive(Debug)]
struct Facts {
    health: Health,
    observation: Observation,
    replay: ReplayState,
    draining: bool,
    fault: Option<Arc<str>>,
}

impl Facts {
    const NEW: Self = Self {
        health: Health::NEW,
        observation: Observation::Pending,
        replay: ReplayState::Running,
        draining: false,
        fault: None,
    };
}

/// A request to the primary whose answer will be a sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    round: u64,
    requested: Instant,
}

impl Asked {
    /// When it was about to be sent.
    pub(super) const fn requested(&self) -> Instant {
        self.requested
    }
}

impl Shared {
    /// A cluster nothing is known of, whose rounds are numbered above `base`.
    pub(super) fn new(config: &model::Cluster, base: u64, now: Instant) -> Self {
        let rounds = Rounds::above(base);
        let node = |node: &model::Node| Node {
            name: node.name.clone(),
            role: Role::Unknown,
            state: State::Down,
            since: now,
            timeline: None,
            weight: node.weight,
            incarnation: 0,
            replay: None,
            received: None,
            receiver: None,
            version: 0,
            fault: None,
            load: Load::default(),
        };
        let view = View {
            cluster: config.name.clone(),
            nodes: config.nodes.iter().map(node).collect(),
            primary: None,
            timeline: None,
            epoch: 0,
            samples: Arc::new(Samples::default()),
            turn: Arc::default(),
        };
        let count = config.nodes.len();
        Self {
            view: ArcSwap::from_pointee(view),
            known: Mutex::new(Known {
                memory: Memory::default(),
                nodes: (0..count).map(|_| Facts::NEW).collect(),
                sampled: None,
                tail: Tail::default(),
            }),
            clocks: Clocks::starting_at(rounds.next()),
            scopes: Clocks::starting_at(rounds.next()),
            rounds,
            waiters: Arc::default(),
            samples: AtomicU64::new(0),
            calls: (0..count).map(|_| Call::default()).collect(),
            epochs: watch::Sender::new(0),
        }
    }

    /// The cluster as it is, for a short look.
    pub(super) fn load(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// The cluster as it is.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Tells of every change of the epoch.
    pub(super) fn epochs(&self) -> watch::Receiver<u64> {
        self.epochs.subscribe()
    }

    // === Calling tasks ===

    /// Wakes every node's task to see whether it has an errand.
    pub(super) fn ring(&self) {
        for call in &self.calls {
            call.bell.notify_one();
        }
    }

    /// Makes a node's task look at everything now.
    pub(super) fn suspect(&self, index: usize) {
        if let Some(call) = self.calls.get(index) {
            call.look.store(true, Ordering::SeqCst);
            call.bell.notify_one();
        }
    }

    fn suspect_all(&self) {
        for index in 0..self.calls.len() {
            self.suspect(index);
        }
    }

    /// Waits until somebody calls node `index`'s task. Cancel safe.
    pub(super) async fn called(&self, index: usize) {
        match self.calls.get(index) {
            Some(call) => call.bell.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Whether somebody wants everything looked at; the answer is given once.
    pub(super) fn take_suspicion(&self, index: usize) -> bool {
        self.calls.get(index).is_some_and(|call| call.look.swap(false, Ordering::SeqCst))
    }

    /// What node `index` should be asked for the sake of those who wait.
    pub(super) fn errand(&self, index: usize) -> Option<Errand> {
        self.waiters.errand(&self.view.load(), index)
    }

    /// What node `index` should be asked to flush, and when, if nothing else does until then.
    pub(super) fn unflushed(&self, index: usize) -> Option<(Lsn, Instant)> {
        if self.load().primary != Some(index) {
            return None;
        }
        let demand = if self.waiters.is_empty() { Demand::Nobody } else { Demand::Waiting };
        self.lock().tail.due(demand)
    }

    // === Reports of tasks ===

    /// To be called right before a request for the insert position is sent.
    pub(super) fn ask(&self) -> Asked {
        Asked { round: self.rounds.start(), requested: Instant::now() }
    }

    /// A connection to node `index` was made: what was known of it is void.
    pub(super) fn connected(&self, index: usize) {
        self.update(|_, view| {
            if let Some(node) = view.nodes.get_mut(index) {
                node.incarnation += 1;
                forget(node);
            }
        });
    }

    /// Node `index` answered `look`, which was asked as `asked`.
    pub(super) fn looked(&self, index: usize, look: &Look, asked: Asked) {
        self.update(|known, view| {
            let (Some(facts), Some(node)) = (known.nodes.get_mut(index), view.nodes.get_mut(index)) else { return };
            facts.health.step(Event::Answered, asked.requested);
            facts.fault = None;
            let mut claim = look.claim;
            // Within one incarnation a timeline only grows, though not every source shows it.
            claim.timeline = claim.timeline.max(node.timeline);
            facts.observation = Observation::Says(claim);
            node.timeline = claim.timeline;
            node.version = look.version;
            match &look.position {
                Position::Primary(_) => forget_positions(node),
                Position::Standby(standby) => {
                    facts.replay = standby.replay;
                    node.replay = standby.replayed.map(|lsn| Replay { lsn, requested: asked.requested });
                    node.received = standby.received;
                    if node.receiver.as_deref() != standby.receiver.as_deref() {
                        node.receiver = standby.receiver.as_deref().map(Arc::from);
                    }
                }
            }
            settle(known, view, asked.requested);
            if let Position::Primary(written) = look.position {
                take_sample(known, view, index, written, asked);
            }
        });
    }

    /// The primary answered a request for its insert position.
    pub(super) fn sampled(&self, index: usize, written: Written, asked: Asked) {
        self.update(|known, view| take_sample(known, view, index, written, asked));
    }

    /// Node `index` was asked to flush its WAL up to `end`.
    pub(super) fn flushed(&self, index: usize, end: Lsn) {
        if self.load().primary == Some(index) {
            self.lock().tail.asked(end);
        }
    }

    /// A standby answered how far it has replayed.
    pub(super) fn replayed(&self, index: usize, lsn: Option<Lsn>, requested: Instant) {
        self.update(|_, view| {
            if let Some(node) = view.nodes.get_mut(index) {
                node.replay = lsn.map(|lsn| Replay { lsn, requested });
            }
        });
    }

    /// Node `index` could not be asked. Answers how long to pause before the next attempt.
    pub(super) fn failed(&self, index: usize, event: Event, fault: &str, most: Duration) -> Duration {
        self.update(|known, view| {
            let (Some(facts), Some(node)) = (known.nodes.get_mut(index), view.nodes.get_mut(index)) else {
                return most;
            };
            let now = Instant::now();
            facts.health.step(event, now);
            if facts.fault.as_deref() != Some(fault) {
                facts.fault = Some(fault.into());
                tracing::warn!(cluster = %view.cluster, node = %node.name, fault, "node cannot be used");
            }
            facts.observation = Observation::Silent;
            forget(node);
            let pause = facts.health.pause(most, rand::random());
            settle(known, view, now);
            pause
        })
    }

    /// Takes node `index` out of service for reads, or back into it.
    pub(super) fn set_draining(&self, index: usize, drain: Drain) {
        self.update(|known, view| {
            if let Some(facts) = known.nodes.get_mut(index) {
                facts.draining = drain == Drain::Drain;
            }
            settle(known, view, Instant::now());
        });
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the view and publishes it; wakes whoever waited for what it says.
    fn update<T>(&self, change: impl FnOnce(&mut Known, &mut View) -> T) -> T {
        let mut known = self.lock();
        let before = self.view.load_full();
        let mut after = View::clone(&before);
        let answer = change(&mut known, &mut after);
        let after = Arc::new(after);
        self.view.store(Arc::clone(&after));
        drop(known);
        if self.waiters.release(&after) == Remaining::Somebody {
            self.ring();
        }
        if after.epoch != before.epoch {
            self.epochs.send_replace(after.epoch);
            match after.primary {
                // It may have been promoted already.
                None => self.suspect_all(),
                // It may have been found through another node's answer: its own gave no sample then.
                Some(primary) if after.samples.newest().is_none() => self.suspect(primary),
                Some(_) => {}
            }
        }
        answer
    }
}

/// Whether a node is being drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    /// It gets no new reads.
    Drain,
    /// It does.
    Restore,
}

// === Changing a view ===

fn forget(node: &mut Node) {
    node.timeline = None;
    forget_positions(node);
}

fn forget_positions(node: &mut Node) {
    node.replay = None;
    node.received = None;
    node.receiver = None;
}

/// Takes in a sample if it is the primary's.
fn take_sample(known: &mut Known, view: &mut View, index: usize, written: Written, asked: Asked) {
    if view.primary == Some(index) {
        let point = Point { round: asked.round, requested: asked.requested, lsn: written.end };
        Arc::make_mut(&mut view.samples).push(point);
        known.tail.sampled(written, asked.requested);
    }
}

/// Decides roles, states and the epoch from what is known.
fn settle(known: &mut Known, view: &mut View, now: Instant) {
    let observations: Vec<_> = known.nodes.iter().map(|facts| facts.observation).collect();
    let verdicts = known.memory.decide(&observations);
    for ((node, facts), verdict) in view.nodes.iter_mut().zip(&known.nodes).zip(&verdicts) {
        let (role, state, fault) = stand(facts, *verdict);
        if (role, state) != (node.role, node.state) {
            report(&view.cluster, node, role, state, fault.as_deref());
            (node.role, node.state, node.since) = (role, state, now);
        }
        node.fault = fault;
    }
    let primary = view.nodes.iter().position(|node| node.role == Role::Primary);
    let leader = primary.and_then(|index| leader(view, index));
    let present = view.primary.and_then(|index| leader_of_epoch(view, known, index));
    if leader == present {
        return;
    }
    view.epoch += 1;
    view.primary = leader.map(|(index, ..)| index);
    let Some((index, timeline, _)) = leader else {
        tracing::warn!(cluster = %view.cluster, epoch = view.epoch, "no primary: writes wait");
        return;
    };
    view.timeline = Some(timeline);
    // Positions of another timeline or incarnation do not compare.
    if known.sampled != leader {
        view.samples = Arc::default();
        known.tail = Tail::default();
        known.sampled = leader;
    }
    let name = view.nodes.get(index).map(|node| node.name.as_str());
    tracing::info!(cluster = %view.cluster, node = name, %timeline, epoch = view.epoch, "primary found");
}

fn leader(view: &View, index: usize) -> Option<Leader> {
    let node = view.nodes.get(index)?;
    Some((index, node.timeline?, node.incarnation))
}

/// The leader that the epoch began with, while there is one.
fn leader_of_epoch(view: &View, known: &Known, index: usize) -> Option<Leader> {
    known.sampled.filter(|(sampled, ..)| view.primary == Some(*sampled) && index == *sampled)
}

fn stand(facts: &Facts, verdict: Verdict) -> (Role, State, Option<Arc<str>>) {
    let up = |usual| if facts.draining { State::Draining } else { usual };
    match (facts.health.reach(), verdict) {
        (Reach::Starting, _) => (Role::Unknown, State::Starting, facts.fault.clone()),
        (Reach::Unknown | Reach::Down, _) => (Role::Unknown, State::Down, facts.fault.clone()),
        (Reach::Up, Verdict::Unknown) => {
            (Role::Unknown, up(State::Up), Some("which cluster this is will be known when every node was asked".into()))
        }
        (Reach::Up, Verdict::Primary) => (Role::Primary, up(State::Up), None),
        (Reach::Up, Verdict::Replica) if facts.replay == ReplayState::Paused => {
            (Role::Replica, up(State::Paused), Some("its replay is paused (pg_wal_replay_resume() ends that)".into()))
        }
        (Reach::Up, Verdict::Replica) => (Role::Replica, up(State::Up), None),
        (Reach::Up, Verdict::Refused(refusal)) => (Role::Unknown, State::Refused, Some(refusal_text(refusal))),
    }
}

fn refusal_text(refusal: Refusal) -> Arc<str> {
    refusal.to_string().into()
}

fn report(cluster: &crate::types::ClusterName, node: &Node, role: Role, state: State, fault: Option<&str>) {
    let (name, role) = (&node.name, role.as_str());
    match state {
        State::Refused => tracing::error!(%cluster, node = %name, role, fault, "node is refused: it gets no traffic"),
        State::Up if node.role == Role::Unknown && role == "unknown" => {}
        State::Up => tracing::info!(%cluster, node = %name, role, "node is up"),
        State::Paused | State::Draining => tracing::warn!(%cluster, node = %name, role, fault, "node takes no reads"),
        State::Down | State::Starting => tracing::warn!(%cluster, node = %name, fault, "node is {}", state.as_str()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::probe::Standby;
    use super::super::roles::{Claim, Kind, SystemId};
    use super::*;
    use crate::config::model::{Monitor, ServerAddress, ServerTls, SslMode};

    /// A cluster of this many nodes of which nothing is known.
    pub(in super::super) fn shared(nodes: usize) -> Shared {
        let node = |index: usize| model::Node {
            name: format!("n{index}").into(),
            address: ServerAddress::Tcp { host: "localhost".into(), port: 5432 },
            weight: 1,
        };
        let config = model::Cluster {
            name: "main".into(),
            nodes: (0..nodes).map(node).collect(),
            monitor: Monitor {
                user: "monitor".into(),
                password: None,
                database: "postgres".into(),
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
            },
            tls: ServerTls { mode: SslMode::Disable, ca: None, certificate: None, private_key: None },
            hold: Duration::from_secs(1),
        };
        Shared::new(&config, 0, Instant::now())
    }

    fn look(kind: Kind, timeline: u32, lsn: u64) -> Look {
        let position = match kind {
            Kind::Primary => Position::Primary(Written { end: Lsn(lsn), flushed: Lsn(lsn) }),
            Kind::Standby => Position::Standby(Standby {
                replayed: Some(Lsn(lsn)),
                received: Some(Lsn(lsn)),
                receiver: Some("streaming".to_owned()),
                replay: ReplayState::Running,
            }),
        };
        let claim = Claim { system: SystemId(1), kind, timeline: Some(Timeline(timeline)) };
        Look { claim, version: 150_000, position }
    }

    /// Reports what a node says of itself.
    pub(in super::super) fn looked(shared: &Shared, index: usize, kind: Kind, timeline: u32, lsn: u64) {
        shared.looked(index, &look(kind, timeline, lsn), shared.ask());
    }

    fn start() -> Shared {
        let shared = shared(2);
        (0..2).for_each(|index| shared.connected(index));
        looked(&shared, 1, Kind::Standby, 1, 100);
        looked(&shared, 0, Kind::Primary, 1, 100);
        shared
    }

    fn newest(shared: &Shared) -> Option<Lsn> {
        shared.view().samples.newest().map(|point| point.lsn)
    }

    #[test]
    fn looks_make_a_view() {
        let shared = start();
        let view = shared.view();
        assert_eq!((view.primary, view.timeline, view.epoch), (Some(0), Some(Timeline(1)), 1));
        assert_eq!((view.nodes[1].role, view.nodes[1].state), (Role::Replica, State::Up));
        assert_eq!(view.nodes[1].replay.map(|replay| replay.lsn), Some(Lsn(100)));
        assert_eq!(newest(&shared), Some(Lsn(100)));
    }

    #[test]
    fn a_promotion_starts_an_epoch_and_leaves_no_old_samples() {
        let shared = start();
        let epochs = shared.epochs();
        looked(&shared, 1, Kind::Primary, 2, 90);
        let view = shared.view();
        assert_eq!((view.primary, view.timeline, view.epoch), (Some(1), Some(Timeline(2)), 2));
        assert_eq!((view.nodes[0].role, view.nodes[0].state), (Role::Unknown, State::Refused));
        assert_eq!(newest(&shared), Some(Lsn(90)));
        assert!(epochs.has_changed().unwrap());
        // What the overtaken primary says is no sample any more.
        shared.sampled(0, Written { end: Lsn(500), flushed: Lsn(500) }, shared.ask());
        looked(&shared, 0, Kind::Primary, 1, 500);
        assert_eq!(newest(&shared), Some(Lsn(90)));
    }

    #[test]
    fn a_lost_node_is_forgotten_and_everybody_looks_for_a_new_primary() {
        let shared = start();
        let pause = shared.failed(0, Event::Failed, "gone", Duration::from_secs(1));
        assert!(pause < Duration::from_secs(2));
        let view = shared.view();
        assert_eq!((view.primary, view.epoch, view.nodes[0].state), (None, 2, State::Down));
        assert_eq!(view.nodes[0].fault.as_deref(), Some("gone"));
        assert!(shared.take_suspicion(1) && !shared.take_suspicion(1));
        // Reads may still be judged by what was sampled, until there is another primary.
        assert_eq!(newest(&shared), Some(Lsn(100)));
        shared.connected(0);
        looked(&shared, 0, Kind::Primary, 1, 40);
        let view = shared.view();
        assert_eq!((view.primary, view.epoch), (Some(0), 3));
        assert_eq!(newest(&shared), Some(Lsn(40)), "positions of another incarnation do not compare");
    }

    #[test]
    fn a_replica_that_comes_back_is_a_stranger() {
        let shared = start();
        let before = shared.view().nodes[1].incarnation;
        shared.failed(1, Event::StartingUp, "starting", Duration::from_secs(1));
        assert_eq!((shared.view().nodes[1].state, shared.view().nodes[1].replay), (State::Starting, None));
        shared.connected(1);
        assert_eq!(shared.view().nodes[1].replay, None);
        assert_eq!(shared.view().nodes[1].incarnation, before + 1);
        looked(&shared, 1, Kind::Standby, 1, 60);
        assert_eq!(shared.view().nodes[1].replay.map(|replay| replay.lsn), Some(Lsn(60)));
        assert_eq!(shared.view().epoch, 1);
    }

    #[test]
    fn pausing_and_draining_show() {
        let shared = start();
        let mut paused = look(Kind::Standby, 1, 100);
        if let Position::Standby(standby) = &mut paused.position {
            standby.replay = ReplayState::Paused;
        }
        shared.looked(1, &paused, shared.ask());
        assert_eq!(shared.view().nodes[1].state, State::Paused);
        looked(&shared, 1, Kind::Standby, 1, 100);
        assert_eq!(shared.view().nodes[1].state, State::Up);
        shared.set_draining(1, Drain::Drain);
        assert_eq!(shared.view().nodes[1].state, State::Draining);
        shared.set_draining(1, Drain::Restore);
        assert_eq!(shared.view().nodes[1].state, State::Up);
    }

    #[test]
    fn a_timeline_once_seen_stays_within_an_incarnation() {
        let shared = start();
        let mut silent = look(Kind::Standby, 1, 100);
        silent.claim.timeline = None;
        shared.looked(1, &silent, shared.ask());
        assert_eq!(shared.view().nodes[1].timeline, Some(Timeline(1)));
    }
}
