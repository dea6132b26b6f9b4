//! One look at the running system, as plain data: what `/metrics`, `/readyz` and the console show.
//!
//! `app` fills it from the rooms' counters; this room only reads it.

use std::time::{Duration, SystemTime};

use super::counters::{ClientTotals, PoolTotals, ServerTotals};
use crate::types::{ClusterName, DatabaseName, Lsn, NodeName, Timeline, UserName};

/// The system at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Howdah's version.
    pub version: &'static str,
    /// When this process started.
    pub started: SystemTime,
    /// Whether it takes clients.
    pub phase: Phase,
    /// Every cluster with its nodes.
    pub clusters: Vec<Cluster>,
    /// Every pool.
    pub pools: Vec<Pool>,
    /// What clients did, by database and user.
    pub clients: Vec<Clients>,
    /// Client connections that are open now, those still logging in included.
    pub clients_connected: u64,
    /// Of these, clients that are still logging in.
    pub clients_logging_in: u64,
    /// The most there may be (`limits.max_clients`).
    pub clients_max: u64,
    /// Log-ins that failed since the start.
    pub login_failures: u64,
    /// Statements by where they went and why.
    pub routed: Vec<Routed>,
    /// Statements that Howdah repeated unseen, by cause.
    pub retries: Vec<(&'static str, u64)>,
    /// Cancel requests by outcome.
    pub cancels: Vec<(&'static str, u64)>,
    /// Pins by reason.
    pub pins: Vec<Pins>,
    /// Clients that were pinned and idle for too long.
    pub pin_timeouts: u64,
    /// Servers that were asked what they carry.
    pub audits: u64,
    /// What they carried that they should not have, by kind.
    pub leaks: Vec<(&'static str, u64)>,
    /// Errors sent to clients by SQLSTATE class.
    pub errors: Vec<(String, u64)>,
}

/// Whether this process takes clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does.
    Running,
    /// It does, but PAUSE keeps all databases from getting servers.
    Paused,
    /// It ends as soon as its clients have.
    ShuttingDown,
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// The primary, when there is one.
    pub primary: Option<NodeName>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Queries for WAL positions that the shared sampler made.
    pub samples: u64,
    /// Reads that waited for a replica to catch up.
    pub sampler_waits: u64,
    /// Reads that waited in vain and went to the primary.
    pub sampler_timeouts: u64,
    /// Connections that listen for clients.
    pub listeners: Vec<Listener>,
    /// Notifications that they brought.
    pub notifications: u64,
    /// Clients that were let go because too many waited for them (`limits.notify_queue`).
    pub notify_overflows: u64,
    /// Listening connections that were lost while somebody listened.
    pub notify_losses: u64,
}

/// What listens in one database for all of its clients that have one encoding.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The database, as servers call it.
    pub database: DatabaseName,
    /// The encoding.
    pub encoding: String,
    /// The node and the server process that its connection leads to; an error says why there is none.
    pub connection: Result<(NodeName, i32), String>,
    /// Channels that are listened to.
    pub channels: u64,
    /// Clients that listen.
    pub clients: u64,
}

/// What a node is, as far as anybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Primary,
    /// In recovery.
    Replica,
    /// Not reached yet, or refused.
    Unknown,
}

/// Whether a node can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last look succeeded.
    Up,
    /// It did not.
    Down,
}

/// A node of a cluster.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Where it listens.
    pub address: String,
    /// What it is.
    pub role: Role,
    /// Whether it can be reached.
    pub health: Health,
    /// Its configured weight.
    pub weight: u32,
    /// How old a replica's data is.
    pub lag: Option<Duration>,
    /// How much WAL a replica has yet to replay, in bytes.
    pub lag_bytes: Option<u64>,
    /// What a replica has replayed, or a primary has inserted.
    pub replay_lsn: Option<Lsn>,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// Why it gets no reads; empty when it does.
    pub excluded: String,
}

/// A pool: the server connections of one node × database × user.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The cluster.
    pub cluster: ClusterName,
    /// The node.
    pub node: NodeName,
    /// What the node is.
    pub role: Role,
    /// The database, as clients name it.
    pub database: DatabaseName,
    /// The user, as clients name it.
    pub user: UserName,
    /// `session` or `transaction`.
    pub mode: &'static str,
    /// Clients that have a server of this pool.
    pub clients_active: u64,
    /// Clients that wait for one.
    pub clients_waiting: u64,
    /// How long the first of them has waited.
    pub max_wait: Duration,
    /// Most servers there may be.
    pub size: u64,
    /// Servers lent to clients, pinned ones included.
    pub servers_active: u64,
    /// Servers that a cancel request is on its way to.
    pub servers_canceling: u64,
    /// Servers pinned to a client.
    pub servers_pinned: u64,
    /// Servers that wait for work.
    pub servers_idle: u64,
    /// Servers being connected or logged in.
    pub servers_opening: u64,
    /// What its servers did.
    pub stats: PoolTotals,
    /// What became of its connections.
    pub servers: ServerTotals,
}

/// What the clients of one database and user did.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The database, as clients name it.
    pub database: DatabaseName,
    /// The user, as clients name it.
    pub user: UserName,
    /// What they did.
    pub stats: ClientTotals,
}

/// Statements that went to one kind of target for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// `read` or `write`.
    pub class: &'static str,
    /// `primary` or `replica`.
    pub target: &'static str,
    /// The router's reason.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// Pins for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pins {
    /// The session's reason.
    pub reason: &'static str,
    /// Clients that are pinned for it now.
    pub current: u64,
    /// How often it pinned a client since the start.
    pub total: u64,
    /// Statements that were refused because of its policy.
    pub rejected: u64,
    /// Statements that were refused because the budget was used up.
    pub over_budget: u64,
}

// === impl Snapshot ===

impl Snapshot {
    /// Why this process should get no clients; `None` when it should.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.phase == Phase::ShuttingDown {
            return Some("shutting down".to_owned());
        }
        let headless: Vec<&str> = self
            .clusters
            .iter()
            .filter(|cluster| cluster.primary.is_none())
            .map(|cluster| cluster.name.as_str())
            .collect();
        if headless.is_empty() { None } else { Some(format!("no primary is known in: {}", headless.join(", "))) }
    }
}

// === impl Role ===

impl Role {
    /// The label in metrics and on the console.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Unknown => "unknown",
        }
    }
}

// === impl Health ===

impl Health {
    /// The word on the console.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn empty() -> Snapshot {
        Snapshot {
            version: "1.2.3",
            started: SystemTime::UNIX_EPOCH,
            phase: Phase::Running,
            clusters: Vec::new(),
            pools: Vec::new(),
            clients: Vec::new(),
            clients_connected: 0,
            clients_logging_in: 0,
            clients_max: 100,
            login_failures: 0,
            routed: Vec::new(),
            retries: Vec::new(),
            cancels: Vec::new(),
            pins: Vec::new(),
            pin_timeouts: 0,
            audits: 0,
            leaks: Vec::new(),
            errors: Vec::new(),
        }
    }

    pub(crate) fn pool(node: &str, role: Role) -> Pool {
        Pool {
            cluster: "main".into(),
            node: node.into(),
            role,
            database: "app".into(),
            user: "me".into(),
            mode: "transaction",
            clients_active: 1,
            clients_waiting: 2,
            max_wait: Duration::from_millis(1250),
            size: 20,
            servers_active: 1,
            servers_canceling: 0,
            servers_pinned: 1,
            servers_idle: 4,
            servers_opening: 0,
            stats: PoolTotals::default(),
            servers: ServerTotals::default(),
        }
    }

    pub(crate) fn cluster(primary: Option<&str>) -> Cluster {
        Cluster {
            name: "main".into(),
            primary: primary.map(NodeName::from),
            nodes: Vec::new(),
            samples: 0,
            sampler_waits: 0,
            sampler_timeouts: 0,
            listeners: Vec::new(),
            notifications: 0,
            notify_overflows: 0,
            notify_losses: 0,
        }
    }

    #[test]
    fn readiness_needs_every_primary_and_no_shutdown() {
        let mut snapshot = empty();
        assert_eq!(snapshot.unready(), None);
        snapshot.clusters.push(cluster(Some("pg1")));
        assert_eq!(snapshot.unready(), None);
        snapshot.clusters.push(cluster(None));
        assert_eq!(snapshot.unready().unwrap(), "no primary is known in: main");
        snapshot.phase = Phase::ShuttingDown;
        assert_eq!(snapshot.unready().unwrap(), "shutting down");
    }
}
