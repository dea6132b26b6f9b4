//! What the console shows, as plain data: `app` makes it when somebody asks.
//!
//! Pools, nodes, counters and reasons are in the telemetry's [`Snapshot`]; here is the rest.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::show::stats::DatabaseTotals;
use crate::telemetry::Snapshot;
use crate::types::{ClientId, ClusterName, DatabaseName, NodeName, ServerId, UserName};

/// The system at one moment, in more detail than metrics want.
#[derive(Clone, Debug)]
pub struct State {
    /// Pools, nodes, counters.
    pub snapshot: Snapshot,
    /// Totals at both ends of the last full statistics period; `None` before the first has passed.
    pub period: Option<Period>,
    /// Databases of the configuration and those that clients of a `*` entry named.
    pub databases: Vec<Database>,
    /// Users that may log in.
    pub users: Vec<User>,
    /// Client connections.
    pub clients: Vec<Client>,
    /// Server connections.
    pub servers: Vec<Server>,
    /// The configuration in force; secrets are not in it.
    pub config: Vec<Setting>,
    /// Memory by kind.
    pub memory: Vec<Memory>,
}

/// What averages are made from; see [`super::show::stats::totals`].
#[derive(Clone, Debug)]
pub struct Period {
    /// Totals when it began.
    pub from: Vec<DatabaseTotals>,
    /// Totals when it ended.
    pub to: Vec<DatabaseTotals>,
    /// How long it was.
    pub length: Duration,
}

/// A database that clients may name.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name.
    pub name: DatabaseName,
    /// The cluster it lives on.
    pub cluster: ClusterName,
    /// Host of the primary, or of the first node while there is none.
    pub host: String,
    /// Port of the same.
    pub port: u16,
    /// Its name on the servers.
    pub server_database: DatabaseName,
    /// `session` or `transaction`.
    pub mode: &'static str,
    /// `pool.size`.
    pub pool_size: u64,
    /// `pool.min_idle`.
    pub min_idle: u64,
    /// `pool.lifetime`.
    pub lifetime: Duration,
    /// Where its reads may go (`routing.reads`).
    pub reads: &'static str,
    /// What its reads may miss (`routing.consistency`).
    pub consistency: &'static str,
    /// Whether it takes clients.
    pub activity: Activity,
}

/// Whether the clients of a database get servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// They do.
    Active,
    /// They wait for RESUME.
    Paused,
}

/// A user that may log in.
#[derive(Clone, Debug)]
pub struct User {
    /// The name.
    pub name: UserName,
    /// `session` or `transaction`, when the user has a mode of its own.
    pub mode: Option<&'static str>,
    /// `pool.size`, when the user has one of its own.
    pub pool_size: Option<u64>,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activeness {
    /// A client that has a server, or a server that has a client.
    Active,
    /// Nobody uses it.
    Idle,
    /// A client that waits for a server.
    Waiting,
    /// Still logging in.
    Login,
    /// A server that a cancel request is on its way to.
    BeingCanceled,
}

/// What clients and servers have in common.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The user, as clients name it.
    pub user: UserName,
    /// The database, as clients name it.
    pub database: DatabaseName,
    /// Which replication it is for: `none`, `logical` or `physical`.
    pub replication: &'static str,
    /// What it does.
    pub state: Activeness,
    /// The other end; `None` for a Unix socket.
    pub remote: Option<SocketAddr>,
    /// Our end; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
    /// When it was made.
    pub connected: SystemTime,
    /// When its last request began.
    pub requested: SystemTime,
    /// Protocol and cipher, such as `TLSv1.3/TLS13_AES_256_GCM_SHA384`; empty without TLS.
    pub tls: String,
    /// `application_name`.
    pub application_name: String,
    /// Prepared statements that it holds.
    pub prepared_statements: u64,
}

/// A client connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its id, for `KILL_CLIENT`.
    pub id: ClientId,
    /// The connection.
    pub connection: Connection,
    /// How long it has waited for a server.
    pub wait: Duration,
    /// The server it has.
    pub server: Option<ServerId>,
    /// The node of that server.
    pub node: Option<NodeName>,
    /// Why it is pinned to that server.
    pub pins: Vec<&'static str>,
    /// How that began.
    pub pin: Option<Pin>,
}

/// The beginning of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// How long ago it was.
    pub age: Duration,
    /// The shape of the statement, if it was one.
    pub digest: Option<u64>,
}

/// A server connection.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// The connection.
    pub connection: Connection,
    /// The cluster.
    pub cluster: ClusterName,
    /// The node.
    pub node: NodeName,
    /// The process id of its backend.
    pub process_id: i32,
    /// The client that has it.
    pub client: Option<ClientId>,
    /// What will become of it when nobody uses it.
    pub fate: Fate,
}

/// What becomes of a server when nobody uses it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits for the next client.
    Reuse,
    /// It is closed (RECONNECT, a changed configuration, its lifetime).
    Close,
}

/// A setting of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path, such as `pool.size`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it would be if nobody had set it.
    pub default: String,
    /// Whether RELOAD applies a change.
    pub change: Change,
}

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// With RELOAD.
    Reload,
    /// With the next start.
    Restart,
}

/// Memory of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What it is for.
    pub name: String,
    /// Bytes of one item.
    pub size: u64,
    /// Items in use.
    pub used: u64,
    /// Items kept for later use.
    pub free: u64,
}

impl Activeness {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Login => "login",
            Self::BeingCanceled => "being_canceled",
        }
    }
}
