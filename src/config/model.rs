//! What the rooms receive: a configuration that has been checked, with every default filled in.
//!
//! Nothing here is read from a file; `resolve` makes these values and nothing else does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::hba::{Hba, Refusal, Visitor};
use super::pins::{PinOverrides, PinSettings};
use super::secret::Secret;
use crate::types::{ClusterName, DatabaseName, Lsn, NodeName, UserName};

/// The whole configuration, as one file described it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect; at least one.
    pub listen: Vec<Listen>,
    /// TLS towards clients.
    pub tls: ClientTls,
    /// How clients prove who they are.
    pub auth: Auth,
    /// What is asked of the servers about users who are not in `users`; `$1` stands for the name.
    pub auth_query: Option<Arc<str>>,
    /// The roles that may log in.
    pub users: Vec<User>,
    /// Primaries with their standbys.
    pub clusters: Vec<Cluster>,
    /// Which database name leads to which cluster; the first match counts, `*` matches all.
    pub databases: Vec<Database>,
    /// Pool settings that users and databases do not override.
    pub pool: PoolSettings,
    /// Settings about pins that users and databases do not override.
    pub pins: PinSettings,
    /// Routing settings that users and databases do not override.
    pub routing: Routing,
    /// The admin console.
    pub admin: Admin,
    /// The metrics endpoint, when there is one.
    pub metrics: Option<SocketAddr>,
    /// Bounds on what one process and one client may take.
    pub limits: Limits,
    /// How log lines look.
    pub log: Log,
    /// Threads that serve clients; 0: as few as will do, up to one for each core.
    pub workers: usize,
    /// How long SIGTERM waits for clients to end their transactions.
    pub shutdown_timeout: Duration,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket `.s.PGSQL.<port>` in this directory.
    Unix {
        /// The directory that clients give as `host`.
        directory: PathBuf,
        /// The port that is part of the socket's file name.
        port: u16,
    },
}

/// Whether clients may, or must, use TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTlsMode {
    /// TLS is refused.
    Disable,
    /// Offered when there is a certificate; plain connections are accepted too.
    Prefer,
    /// Plain connections are refused.
    Require,
    /// As `require`, and the client must show a certificate that `client_ca` signed.
    VerifyFull,
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// What is asked of clients.
    pub mode: ClientTlsMode,
    /// PEM file with the certificate chain.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub private_key: Option<PathBuf>,
    /// PEM file with the authorities whose client certificates are accepted.
    pub client_ca: Option<PathBuf>,
}

/// What decides how a client proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The same for all.
    Method(AuthMethod),
    /// The lines of a file in the language of `pg_hba.conf`.
    Rules(Hba),
}

impl Auth {
    /// How `visitor` must prove who it is.
    pub fn method(&self, visitor: &Visitor<'_>) -> Result<AuthMethod, Refusal> {
        match self {
            Self::Method(method) => Ok(*method),
            Self::Rules(rules) => rules.method(visitor),
        }
    }

    /// Whether some client may be asked for its proof by `method`.
    pub fn may_ask(&self, method: AuthMethod) -> bool {
        match self {
            Self::Method(only) => *only == method,
            Self::Rules(rules) => rules.methods().any(|asked| asked == method),
        }
    }
}

/// How a client proves who it is (`pg_hba.conf`'s method names).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// No proof is asked.
    Trust,
    /// The password in clear text.
    Password,
    /// MD5 challenge.
    Md5,
    /// SCRAM-SHA-256 (RFC 7677), with channel binding over TLS.
    ScramSha256,
    /// The common name of a client certificate.
    Cert,
}

/// A role that may log in through Howdah.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The name clients log in with.
    pub name: UserName,
    /// Clear password, `md5…` hash or `SCRAM-SHA-256$…` verifier of what clients must prove.
    pub password: Option<Secret>,
    /// The role used on servers, when it is not `name`.
    pub server_user: Option<UserName>,
    /// The password used on servers, when it is not `password`.
    pub server_password: Option<Secret>,
    /// Overrides of `pool`.
    pub pool: PoolOverrides,
    /// Overrides of `routing`.
    pub routing: RoutingOverrides,
    /// Overrides of `pins`.
    pub pins: PinOverrides,
}

impl User {
    /// One of this name, with nothing else set.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            password: None,
            server_user: None,
            server_password: None,
            pool: PoolOverrides::default(),
            routing: RoutingOverrides::default(),
            pins: PinOverrides::default(),
        }
    }
}

/// A database that clients may name.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// The name, or `*` for all that no other entry names.
    pub name: DatabaseName,
    /// The cluster it lives on.
    pub cluster: ClusterName,
    /// Its name on the servers, when it is not the client's.
    pub server_database: Option<DatabaseName>,
    /// Overrides of `pool`.
    pub pool: PoolOverrides,
    /// Overrides of `routing`.
    pub routing: RoutingOverrides,
    /// Overrides of `pins`.
    pub pins: PinOverrides,
}

/// A primary and its standbys.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// Its instances; roles are discovered.
    pub nodes: Vec<Node>,
    /// How the monitor logs in and how often it looks.
    pub monitor: Monitor,
    /// TLS towards servers.
    pub tls: ServerTls,
    /// How long statements wait for a primary when there is none.
    pub hold: Duration,
}

/// One PostgreSQL instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in SHOW commands and metrics.
    pub name: NodeName,
    /// Where it listens.
    pub address: ServerAddress,
    /// Its share of reads relative to the other nodes; 0 takes no reads.
    pub weight: u32,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// A host name or address, and a port.
    Tcp {
        /// Name or literal address.
        host: Arc<str>,
        /// TCP port.
        port: u16,
    },
    /// The socket file itself.
    Unix(PathBuf),
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How the monitor looks at the nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// The role it logs in with.
    pub user: UserName,
    /// Its password.
    pub password: Option<Secret>,
    /// The database it connects to.
    pub database: DatabaseName,
    /// Time between looks when nobody waits for a position.
    pub interval: Duration,
    /// How long one look may take before the node counts as unreachable.
    pub timeout: Duration,
}

/// The six meanings of libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only if the server refuses a plain connection.
    Allow,
    /// If the server offers it.
    Prefer,
    /// Always, any certificate; verified when a root is configured (as libpq does).
    Require,
    /// Always, signed by a trusted authority.
    VerifyCa,
    /// Always, signed by a trusted authority and issued for this host.
    VerifyFull,
}

/// TLS towards the servers of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// When TLS is used and what is verified.
    pub mode: SslMode,
    /// PEM file of trusted authorities.
    pub ca: Option<PathBuf>,
    /// PEM file with Howdah's own certificate.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub private_key: Option<PathBuf>,
}

/// When a server goes back to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client disconnects.
    Session,
    /// When the transaction ends.
    Transaction,
    /// The same, and a transaction is one message or pipeline: blocks are refused.
    Statement,
}

impl PoolMode {
    /// The word for it in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// One pool's settings, for one node × database × user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// When a server goes back.
    pub mode: PoolMode,
    /// Most server connections per node, database and user.
    pub size: usize,
    /// Server connections kept open though nobody uses them.
    pub min_idle: usize,
    /// How long a client waits for a server before it gets an error.
    pub wait_timeout: Duration,
    /// How long a server may lie idle before it is closed.
    pub idle_timeout: Duration,
    /// How long a server may live; each gets up to a tenth less, at random.
    pub lifetime: Duration,
    /// How long opening a server connection may take, login included.
    pub connect_timeout: Duration,
    /// Most server connections being opened at once per pool.
    pub connect_concurrency: usize,
    /// Most prepared statements kept on one server connection.
    pub prepared_statements: usize,
    /// After how many loans a server is asked what it carries, before it is lent again; 0 for never.
    pub audit: usize,
}

/// Pool settings that a user or database sets for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolOverrides {
    /// Overrides [`PoolSettings::mode`].
    pub mode: Option<PoolMode>,
    /// Overrides [`PoolSettings::size`].
    pub size: Option<usize>,
    /// Overrides [`PoolSettings::min_idle`].
    pub min_idle: Option<usize>,
    /// Overrides [`PoolSettings::wait_timeout`].
    pub wait_timeout: Option<Duration>,
}

/// Where reads may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Everything goes to the primary.
    Primary,
    /// Reads go to replicas; to the primary when none qualifies.
    Replicas,
    /// Reads are spread over replicas and the primary.
    Any,
}

/// What a read may miss (docs/routing.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consistency {
    /// Sees everything committed `max_lag` ago.
    Eventual,
    /// And every write the same client, or its [`Scope`], committed before.
    Session,
    /// And every write to this database committed through this Howdah before the read arrived.
    Database,
    /// And every write committed anywhere in the cluster before the read arrived.
    Strong,
}

/// Which clients see each other's writes where [`Consistency`] speaks of the session's (docs/routing.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each client its own.
    Client,
    /// Those of one user.
    User,
}

/// Where explicit read-write transactions start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transactions {
    /// On the primary.
    Primary,
    /// On a replica, when they begin with a read at READ COMMITTED; on the primary from the first statement on that
    /// is not a plain read.
    UntilWrite,
}

/// How reads are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The less busy of two nodes drawn at random by weight.
    LeastOutstanding,
    /// In turn.
    RoundRobin,
    /// Drawn at random by weight.
    Random,
}

/// Where statements go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Where reads may go.
    pub reads: Reads,
    /// What a read may miss.
    pub consistency: Consistency,
    /// Who is one session to that.
    pub scope: Scope,
    /// `routing.tables`: whether only reads of relations that were written to must see those writes.
    pub tables: bool,
    /// How long a read waits for a replica to catch up before it goes to the primary.
    pub wait: Duration,
    /// How old a replica's data may be before it gets no reads.
    pub max_lag: Duration,
    /// Where explicit transactions start.
    pub transactions: Transactions,
    /// How reads are spread.
    pub balance: Balance,
}

/// Routing settings that a user, database or session sets for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingOverrides {
    /// Overrides [`Routing::reads`].
    pub reads: Option<Reads>,
    /// Overrides [`Routing::consistency`].
    pub consistency: Option<Consistency>,
    /// Overrides [`Routing::scope`].
    pub scope: Option<Scope>,
    /// Overrides [`Routing::tables`].
    pub tables: Option<bool>,
    /// Overrides [`Routing::wait`].
    pub wait: Option<Duration>,
    /// Overrides [`Routing::max_lag`].
    pub max_lag: Option<Duration>,
    /// A position that every read must have seen (`howdah.min_lsn`).
    pub min_lsn: Option<Lsn>,
}

/// Who may use the admin console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Users who may run every command; each is also in `users`.
    pub users: Vec<UserName>,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most client connections at once, those still logging in included.
    pub max_clients: usize,
    /// How long a client may take to log in.
    pub login_timeout: Duration,
    /// How long a client may be idle; zero for ever.
    pub client_idle_timeout: Duration,
    /// How long a client may be idle inside a transaction; zero for ever.
    pub idle_transaction_timeout: Duration,
    /// How long a statement may run before it is cancelled; zero for ever.
    pub query_timeout: Duration,
    /// Largest Query or Parse message in bytes.
    pub max_query_size: usize,
    /// How long a cancel request may take towards the server.
    pub cancel_timeout: Duration,
    /// Most bytes of notifications that wait for one client.
    pub notify_queue: usize,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One human-readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A `tracing` filter such as `info` or `howdah::cluster=debug,info`.
    pub level: String,
    /// The form of the lines.
    pub format: LogFormat,
}

/// What a client's user and database names lead to.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The cluster.
    pub cluster: ClusterName,
    /// The database's name on the servers.
    pub server_database: DatabaseName,
    /// The role on the servers.
    pub server_user: UserName,
    /// Its password.
    pub server_password: Option<Secret>,
    /// Pool settings: user's before database's before general.
    pub pool: PoolSettings,
    /// Routing settings: user's before database's before general.
    pub routing: Routing,
    /// Settings about pins: user's before database's before general.
    pub pins: Arc<PinSettings>,
}
