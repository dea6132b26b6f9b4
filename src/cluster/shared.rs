//! What the tasks of a cluster know together, and the one place where a new view is published.
//!
//! Each node's task reports what its node said; roles are decided from all of it under a lock that
//! is never held across an await, and readers see whole views only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};

use super::clock::{Clocks, Rounds};
use super::health::{Event, Health, Reach};
use super::probe::{Look, Position, ReplayState};
use super::roles::{Memory, Observation, Refusal, Verdict};
use super::waiters::{Errand, Remaining, Waiters};
use crate::config::model;
use crate::router::view::samples::{Point, Samples};
use crate::router::view::{Load, Node, Replay, Role, State, View};
use crate::types::{Lsn, Timeline};

/// What the tasks of a cluster share.
#[derive(Debug)]
pub(super) struct Shared {
    view: ArcSwap<View>,
    known: Mutex<Known>,
    pub(super) rounds: Rounds,
    pub(super) clocks: Clocks,
    pub(super) waiters: Arc<Waiters>,
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
    pub(super) fn new(config: &model::Cluster, now: Instant) -> Self {
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
            }),
            rounds: Rounds::default(),
            clocks: Clocks::default(),
            waiters: Arc::default(),
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
            if let Position::Primary(lsn) = look.position {
                take_sample(view, index, lsn, asked);
            }
        });
    }

    /// The primary answered a request for its insert position.
    pub(super) fn sampled(&self, index: usize, lsn: Lsn, asked: Asked) {
        self.update(|_, view| take_sample(view, index, lsn, asked));
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
            if after.primary.is_none() {
                self.suspect_all();
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
fn take_sample(view: &mut View, index: usize, lsn: Lsn, asked: Asked) {
    if view.primary == Some(index) {
        Arc::make_mut(&mut view.samples).push(Point { round: asked.round, requested: asked.requested, lsn });
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
    match leader {
        Some((index, timeline, _)) => {
            view.timeline = Some(timeline);
            // Positions of another timeline or incarnation do not compare.
            if known.sampled != leader {
                view.samples = Arc::default();
                known.sampled = leader;
            }
            let name = view.nodes.get(index).map(|node| node.name.as_str());
            tracing::info!(cluster = %view.cluster, node = name, %timeline, epoch = view.epoch, "primary found");
        }
        None => tracing::warn!(cluster = %view.cluster, epoch = view.epoch, "no primary: writes wait"),
    }
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
        State::Up => tracing::info!(%cluster, node = %name, role, "node is up"),
        State::Paused | State::Draining => tracing::warn!(%cluster, node = %name, role, fault, "node takes no reads"),
        State::Down | State::Starting => tracing::warn!(%cluster, node = %name, fault, "node is {}", state.as_str()),
    }
}
