//! One run: a cluster, Howdah, clients and faults, and what came of it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use super::check::{Level, Violation, check};
use super::history::{Act, Event, Outcome, Role};
use super::nemesis::{Fault, Nemesis};
use super::workload::{self, Chance, Ground, Habit, OBJECTS};
use crate::APP_DATABASE;
use crate::cluster::TestCluster;
use crate::howdah::Howdah;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// What Howdah is configured to promise.
    pub level: Level,
    /// `routing.tables`.
    pub tables: bool,
    /// For how long.
    pub lasts: Duration,
    /// Clients through Howdah.
    pub clients: usize,
    /// What happens meanwhile, in turn.
    pub faults: &'a [Fault],
    /// How long a fault lasts at most.
    pub longest: Duration,
    /// Where all chance comes from.
    pub seed: u64,
}

/// `routing.max_lag` of all runs.
const MAX_LAG: Duration = Duration::from_secs(1);
/// Writers that go past Howdah.
const DIRECT: usize = 2;
/// How many of a hundred reads replicas must have answered for a run to prove anything.
const LEAST_SHARE: usize = 10;

/// What came of a run.
#[derive(Debug)]
pub struct Findings {
    /// What happened.
    pub history: Vec<Event>,
    /// The faults, in their order.
    pub faults: Vec<Fault>,
}

impl Plan<'_> {
    /// Runs it on a cluster of its own.
    pub async fn run(&self) -> Findings {
        let cluster = TestCluster::start().await;
        prepare(&cluster).await;
        // A replica that is promoted has what the other one lacks.
        cluster.configure("wal_keep_size = 256MB").await;
        if self.faults.contains(&Fault::Failover) {
            cluster.configure("synchronous_standby_names = 'ANY 1 (pg1, pg2, pg3)'").await;
        }
        let tables = self.tables.to_string();
        let max_lag = format!("{}ms", MAX_LAG.as_millis());
        let overrides = [
            ("routing.consistency", self.level.as_str()),
            ("routing.tables", tables.as_str()),
            ("routing.max_lag", max_lag.as_str()),
            ("routing.wait", "50ms"),
            ("clusters.main.monitor.interval", "500ms"),
            ("pool.audit", "100"),
            ("workers", "2"),
        ];
        let howdah = Howdah::start(&cluster, &overrides).await;
        workload::settle(howdah.port).await;
        let ground = Ground::new(howdah.port, cluster.primary().port, self.lasts);
        let chance = |salt: usize| Chance(self.seed.wrapping_mul(1000).wrapping_add(salt as u64));
        let habits = (0..self.clients).map(Habit::of).chain([Habit::DIRECT; DIRECT]);
        let clients = habits.enumerate().map(|(index, habit)| workload::client(&ground, habit, chance(index)));
        let nemesis = Nemesis {
            cluster: &cluster,
            ground: &ground,
            faults: self.faults,
            longest: self.longest,
            chance: chance(usize::MAX),
        };
        let (_, faults) = futures_util::future::join(futures_util::future::join_all(clients), nemesis.strike()).await;
        let history = std::mem::take(&mut *ground.history.lock().expect("not poisoned"));
        Findings { history, faults }
    }
}

/// Makes the tables that clients work on.
pub(super) async fn prepare(cluster: &TestCluster) {
    cluster.primary().query_in(APP_DATABASE, OBJECTS).await;
}

impl Findings {
    /// What was not kept of what `level` promises.
    pub fn violations(&self, level: Level) -> Vec<Violation> {
        check(&self.history, level, u64::try_from(MAX_LAG.as_nanos()).expect("a second"))
    }

    /// What the run showed, in lines; the first of `violations` with the events that show them.
    pub fn tell(&self, violations: &[Violation]) -> String {
        const SHOWN: usize = 8;
        let writes = count(self.history.iter().filter_map(outcome));
        let reads = count(self.history.iter().filter_map(|event| Some(event.read()?.role)));
        let slowest = self.history.iter().map(|event| (event.returned - event.called) / 1_000_000).max();
        let mut lines = vec![
            format!("{} operations, the slowest took {} ms", self.history.len(), slowest.unwrap_or(0)),
            format!("  faults: {:?}", count(self.faults.iter())),
            format!("  writes: {writes:?}; reads: {reads:?}"),
            format!("  violations: {}", violations.len()),
        ];
        lines.extend(violations.iter().take(SHOWN).map(|violation| format!("  {}", violation.tell(&self.history))));
        lines.join("\n") + "\n"
    }

    /// Why the run proves nothing, if it does not.
    pub fn idle(&self) -> Option<&'static str> {
        let reads = || self.history.iter().filter_map(Event::read);
        let by_replicas = reads().filter(|read| read.role == Role::Replica).count();
        let nodes = count(reads().filter(|read| read.role == Role::Replica).map(|read| &read.node));
        let writes = self.history.iter().filter_map(outcome).filter(|outcome| *outcome == "done").count();
        if self.faults.is_empty() {
            Some("no fault happened")
        } else if by_replicas * 100 < reads().count() * LEAST_SHARE || nodes.len() < 2 {
            Some("replicas answered too few reads")
        } else if writes < 50 {
            Some("too little was written")
        } else {
            None
        }
    }
}

fn outcome(event: &Event) -> Option<&'static str> {
    match event.act {
        Act::Write(_, Outcome::Done(_)) => Some("done"),
        Act::Write(_, Outcome::Failed) => Some("failed"),
        Act::Write(_, Outcome::Unknown) => Some("unknown"),
        Act::Read(_) => None,
    }
}

fn count<T: Debug>(items: impl Iterator<Item = T>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(format!("{item:?}")).or_insert(0) += 1;
    }
    counts
}
