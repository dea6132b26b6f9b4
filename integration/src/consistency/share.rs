//! How many reads replicas answer while pgbench writes as fast as it can and nothing fails.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::check::Level;
use super::history::{Event, Role, Via};
use super::run::prepare;
use super::workload::{self, Chance, Ground, Habit, Protocol};
use crate::cluster::TestCluster;
use crate::howdah::Howdah;
use crate::session::Login;
use crate::tools::pgbench;

/// Clients whose reads are counted.
const CLIENTS: usize = 4;

/// Of how many reads how many were answered by replicas.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// `routing.consistency`.
    pub level: Level,
    /// `routing.tables`; what pgbench writes to is not what is read.
    pub tables: bool,
    /// How many of a hundred operations of those who read were writes.
    pub writes: u64,
    /// All reads.
    pub reads: usize,
    /// Those that replicas answered.
    pub by_replicas: usize,
}

/// Measures each level with clients that do not write and with clients that write once per ten reads, for `lasts` each; `told` is
/// given each figure.
pub async fn measure(lasts: Duration, told: impl Fn(Share)) {
    let cluster = TestCluster::start().await;
    pgbench(&Login::app(cluster.primary().port), &["-i", "-q", "-s", "10"]).await.expect_success();
    prepare(&cluster).await;
    let narrow = [Level::Session, Level::Database].map(|level| (level, true));
    for (level, tables) in Level::ALL.map(|level| (level, false)).into_iter().chain(narrow) {
        let narrow = tables.to_string();
        let overrides = [
            ("routing.consistency", level.as_str()),
            ("routing.tables", &narrow),
            ("routing.wait", "20ms"),
            ("pool.audit", "0"),
        ];
        let howdah = Howdah::start(&cluster, &overrides).await;
        workload::settle(howdah.port).await;
        for writes in [0, 9] {
            let (reads, by_replicas) = of(&howdah, writes, lasts).await;
            told(Share { level, tables, writes, reads, by_replicas });
        }
    }
}

/// How many reads there were, and how many of them replicas answered.
async fn of(howdah: &Howdah, writes: u64, lasts: Duration) -> (usize, usize) {
    let ground = Ground::new(howdah.port, howdah.port, lasts);
    // Nothing happens to the nodes.
    ground.struck.store(true, Ordering::SeqCst);
    let login = Login::app(howdah.port);
    // For longer than anybody reads.
    let seconds = (lasts.as_secs() + 1).to_string();
    let arguments = ["-n", "-M", "prepared", "-c", "4", "-j", "1", "-T", &seconds];
    let load = pgbench(&login, &arguments);
    let habit = |index: usize| {
        let protocol = if index.is_multiple_of(2) { Protocol::Prepared } else { Protocol::Simple };
        Habit { via: Via::Howdah, protocol, writes, pause: 1 }
    };
    let readers = (0..CLIENTS).map(|index| workload::client(&ground, habit(index), Chance(index as u64)));
    let (written, _) = futures_util::future::join(load, futures_util::future::join_all(readers)).await;
    written.expect_success();
    let history = ground.history.lock().expect("not poisoned");
    let reads = || history.iter().filter_map(Event::read);
    let by_replicas = reads().filter(|read| read.role == Role::Replica).count();
    (reads().count(), by_replicas)
}
