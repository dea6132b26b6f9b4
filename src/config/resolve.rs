//! Which keys there are, what each may hold and what stands in when it is absent.
//!
//! Knows nothing of YAML (that is `file`) and nothing of how keys must agree (that is `agree`). A value
//! that is wrong is replaced by a placeholder, so that one reading finds every fault; a configuration
//! with a placeholder never leaves this room.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::address;
use super::fault::{Misread, advice};
use super::file::{Reader, Section, Tree, Zero, name};
use super::hba;
use super::model::{
    Admin, Auth, AuthMethod, Balance, ClientTls, ClientTlsMode, Cluster, Config, Consistency, Database, Limits, Listen,
    Log, LogFormat, Monitor, Node, PoolMode, PoolOverrides, PoolSettings, Reads, Routing, RoutingOverrides, Scope,
    ServerAddress, ServerTls, SslMode, Transactions, User,
};
use super::pins;

/// Reads the whole tree; what is wrong is left in `reader.faults`.
pub(super) fn resolve(tree: &Tree, reader: &mut Reader<'_>) -> Config {
    reader.top(tree, |file| {
        let listen = listens(file);
        let tls = file.section("tls", client_tls);
        let (auth, auth_query) = file.section("auth", |section| (auth(section), section.text("query", auth_query)));
        Config {
            listen,
            tls,
            auth,
            auth_query,
            users: users(file),
            clusters: clusters(file),
            databases: databases(file),
            pool: file.section("pool", pool),
            pins: file.section("pins", pins::settings),
            routing: file.section("routing", routing),
            admin: file
                .section("admin", |admin| Admin { users: admin.names("users").into_iter().map(Into::into).collect() }),
            metrics: file.section("metrics", |metrics| metrics.text("address", address::socket)),
            limits: file.section("limits", limits),
            log: file.section("log", log),
            workers: file.count("workers", 0..=MAX_WORKERS).unwrap_or(0),
            shutdown_timeout: file.duration("shutdown_timeout", Zero::Allowed).unwrap_or(MINUTE),
        }
    })
}

/// Most workers; more threads than this are a mistake.
const MAX_WORKERS: usize = 256;

// === where clients connect ===

fn listens(file: &mut Section<'_, '_, '_>) -> Vec<Listen> {
    let mut seen: Vec<Listen> = Vec::new();
    let listed = file.list("listen", |entry| {
        let found = listen(entry)?;
        // Port 0 lets the system choose, so two of them are two sockets.
        let chosen = matches!(&found, Listen::Tcp(address) if address.port() == 0);
        if seen.contains(&found) && !chosen {
            entry.fault_here("listens where an earlier entry listens already", "leave one of the two out");
        }
        seen.push(found);
        Some(())
    });
    match listed {
        None => vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6432)))],
        Some(_) => seen,
    }
}

fn listen(entry: &mut Section<'_, '_, '_>) -> Option<Listen> {
    const RIGHT: &str = "give either `address: 0.0.0.0:6432`, or `unix: /run/howdah` with a port";
    let tcp = entry.text("address", address::socket);
    let directory = entry.directory("unix");
    let port = entry.count("port", 1..=65_535);
    let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(6432);
    match (entry.has("address"), entry.has("unix")) {
        (true, false) => {
            if entry.has("port") {
                entry.fault("port", "belongs to `unix`", "write the port behind the address: 0.0.0.0:6432");
            }
            tcp.map(Listen::Tcp)
        }
        (false, true) => {
            let directory = directory?;
            if let Err(misread) = address::socket_in(&directory, port) {
                entry.fault("unix", &misread.wrong, &misread.right);
            }
            Some(Listen::Unix { directory, port })
        }
        (true, true) => {
            entry.fault_here("has both `address` and `unix`", RIGHT);
            None
        }
        (false, false) => {
            entry.fault_here("has neither `address` nor `unix`", RIGHT);
            None
        }
    }
}

fn client_tls(tls: &mut Section<'_, '_, '_>) -> ClientTls {
    let certificate = tls.file("certificate");
    let private_key = tls.file("private_key");
    let client_ca = tls.file("client_ca");
    let unset = if tls.has("certificate") { ClientTlsMode::Prefer } else { ClientTlsMode::Disable };
    let mode = tls.choice("mode", CLIENT_TLS_MODES).unwrap_or(unset);
    key_pair(tls);
    if matches!(mode, ClientTlsMode::Require | ClientTlsMode::VerifyFull) && !tls.has("certificate") {
        tls.fault("certificate", "is missing", "this mode needs a certificate and its key: name their PEM files");
    }
    if mode == ClientTlsMode::VerifyFull && !tls.has("client_ca") {
        tls.fault("client_ca", "is missing", "mode verify-full needs the PEM file of the authorities of your clients");
    }
    ClientTls { mode, certificate, private_key, client_ca }
}

fn auth(auth: &mut Section<'_, '_, '_>) -> Auth {
    let method = auth.choice("method", AUTH_METHODS);
    let rules =
        auth.contents("hba_file", "name an existing file, relative to the configuration's directory", hba::parse);
    if auth.has("method") && auth.has("hba_file") {
        auth.fault("hba_file", "stands beside `method`", "leave one out: the file's lines say the method");
    }
    rules.map_or_else(|| Auth::Method(method.unwrap_or(AuthMethod::ScramSha256)), Auth::Rules)
}

fn auth_query(text: &str) -> Result<Arc<str>, Misread> {
    if text.contains("$1") {
        return Ok(text.into());
    }
    let right = "give a query of a name and its password, such as SELECT * FROM howdah_user($1)";
    Err(Misread::new("does not ask about anybody", right))
}

/// A certificate is of no use without its key, nor the key without it.
fn key_pair(tls: &mut Section<'_, '_, '_>) {
    match (tls.has("certificate"), tls.has("private_key")) {
        (true, false) => tls.fault("private_key", "is missing", "name the PEM file with the certificate's key"),
        (false, true) => tls.fault("certificate", "is missing", "name the PEM file with the key's certificate"),
        _ => {}
    }
}

// === who and what ===

fn users(file: &mut Section<'_, '_, '_>) -> Vec<User> {
    let users = file.list("users", |user| User {
        name: user.required("name", "name the role that clients log in with", name).unwrap_or_default().into(),
        password: user.secret("password"),
        server_user: user.text("server_user", name).map(Into::into),
        server_password: user.secret("server_password"),
        pool: user.section("pool", pool_overrides),
        routing: user.section("routing", routing_overrides),
        pins: user.section("pins", pins::overrides),
    });
    at_least_one(file, "users", users, "list the roles that may log in: - {name: app, password: …}")
}

fn clusters(file: &mut Section<'_, '_, '_>) -> Vec<Cluster> {
    let clusters = file.named("clusters", |name, cluster| {
        let nodes = cluster.list("nodes", node);
        Cluster {
            name: name.into(),
            nodes: at_least_one(cluster, "nodes", nodes, "list the servers: - {name: pg1, address: 10.0.0.1:5432}"),
            monitor: cluster.section("monitor", monitor),
            tls: cluster.section("tls", server_tls),
            hold: cluster.duration("hold", Zero::Allowed).unwrap_or(Duration::from_secs(30)),
        }
    });
    at_least_one(file, "clusters", clusters, "name a cluster and list its nodes: main: {nodes: […], monitor: {…}}")
}

fn node(node: &mut Section<'_, '_, '_>) -> Node {
    let nowhere = || ServerAddress::Tcp { host: Arc::from(""), port: 0 };
    let weight = node.count("weight", 0..=10_000);
    Node {
        name: node.required("name", "give the server a name such as pg1", name).unwrap_or_default().into(),
        address: node
            .required("address", "give host:port such as 10.0.0.1:5432, or a socket's path", address::server)
            .unwrap_or_else(nowhere),
        weight: weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1),
    }
}

fn monitor(monitor: &mut Section<'_, '_, '_>) -> Monitor {
    let role = "name a role that may log in on every node; it needs no rights beyond pg_monitor";
    Monitor {
        user: monitor.required("user", role, name).unwrap_or_default().into(),
        password: monitor.secret("password"),
        database: monitor.text("database", name).unwrap_or_else(|| "postgres".to_owned()).into(),
        interval: monitor.duration("interval", Zero::Refused).unwrap_or(Duration::from_secs(1)),
        timeout: monitor.duration("timeout", Zero::Refused).unwrap_or(Duration::from_secs(2)),
    }
}

fn server_tls(tls: &mut Section<'_, '_, '_>) -> ServerTls {
    let found = ServerTls {
        mode: tls.choice("mode", SSL_MODES).unwrap_or(SslMode::Prefer),
        ca: tls.file("ca"),
        certificate: tls.file("certificate"),
        private_key: tls.file("private_key"),
    };
    key_pair(tls);
    if matches!(found.mode, SslMode::VerifyCa | SslMode::VerifyFull) && !tls.has("ca") {
        tls.fault("ca", "is missing", "this mode needs the PEM file of the authorities you trust");
    }
    found
}

fn databases(file: &mut Section<'_, '_, '_>) -> Vec<Database> {
    let databases = file.list("databases", |database| Database {
        name: database.required("name", "name the database, or \"*\" for all", name).unwrap_or_default().into(),
        cluster: database.required("cluster", "name the cluster it lives on", name).unwrap_or_default().into(),
        server_database: database.text("server_database", name).map(Into::into),
        pool: database.section("pool", pool_overrides),
        routing: database.section("routing", routing_overrides),
        pins: database.section("pins", pins::overrides),
    });
    at_least_one(file, "databases", databases, "say which cluster serves them: - {name: \"*\", cluster: main}")
}

fn at_least_one<T>(section: &mut Section<'_, '_, '_>, key: &str, entries: Option<Vec<T>>, right: &str) -> Vec<T> {
    entries.unwrap_or_else(|| {
        section.fault(key, "is missing", right);
        Vec::new()
    })
}

// === settings ===

fn pool(pool: &mut Section<'_, '_, '_>) -> PoolSettings {
    let over = pool_overrides(pool);
    PoolSettings {
        mode: over.mode.unwrap_or(PoolMode::Transaction),
        size: over.size.unwrap_or(20),
        min_idle: over.min_idle.unwrap_or(0),
        wait_timeout: over.wait_timeout.unwrap_or(Duration::from_secs(30)),
        idle_timeout: pool.duration("idle_timeout", Zero::Refused).unwrap_or(10 * MINUTE),
        lifetime: pool.duration("lifetime", Zero::Refused).unwrap_or(60 * MINUTE),
        connect_timeout: pool.duration("connect_timeout", Zero::Refused).unwrap_or(Duration::from_secs(5)),
        connect_concurrency: pool.count("connect_concurrency", 1..=MOST_CONNECTIONS).unwrap_or(4),
        prepared_statements: pool.count("prepared_statements", 1..=100_000).unwrap_or(500),
        audit: pool.count("audit", 0..=usize::MAX).unwrap_or(10_000),
    }
}

fn pool_overrides(pool: &mut Section<'_, '_, '_>) -> PoolOverrides {
    PoolOverrides {
        mode: pool.choice("mode", POOL_MODES),
        size: pool.count("size", 1..=MOST_CONNECTIONS),
        min_idle: pool.count("min_idle", 0..=MOST_CONNECTIONS),
        wait_timeout: pool.duration("wait_timeout", Zero::Refused),
    }
}

fn routing(routing: &mut Section<'_, '_, '_>) -> Routing {
    let over = routing_overrides(routing);
    Routing {
        reads: over.reads.unwrap_or(Reads::Replicas),
        consistency: over.consistency.unwrap_or(Consistency::Database),
        scope: over.scope.unwrap_or(Scope::Client),
        tables: over.tables.unwrap_or(false),
        wait: over.wait.unwrap_or(Duration::from_millis(20)),
        max_lag: over.max_lag.unwrap_or(Duration::from_secs(10)),
        transactions: routing.choice("transactions", TRANSACTIONS).unwrap_or(Transactions::Primary),
        balance: routing.choice("balance", BALANCES).unwrap_or(Balance::LeastOutstanding),
    }
}

/// `min_lsn` is for sessions only: a position in a file would be of the past for ever.
fn routing_overrides(routing: &mut Section<'_, '_, '_>) -> RoutingOverrides {
    RoutingOverrides {
        reads: routing.choice("reads", READS),
        consistency: routing.choice("consistency", CONSISTENCIES),
        scope: routing.choice("scope", SCOPES),
        tables: routing.choice("tables", SWITCH),
        wait: routing.duration("wait", Zero::Allowed),
        max_lag: routing.duration("max_lag", Zero::Refused),
        min_lsn: None,
    }
}

fn limits(limits: &mut Section<'_, '_, '_>) -> Limits {
    let mut unless_zero = |key| limits.duration(key, Zero::Allowed).unwrap_or(Duration::ZERO);
    let client_idle_timeout = unless_zero("client_idle_timeout");
    let idle_transaction_timeout = unless_zero("idle_transaction_timeout");
    let query_timeout = unless_zero("query_timeout");
    Limits {
        max_clients: limits.count("max_clients", 1..=10_000_000).unwrap_or(10_000),
        login_timeout: limits.duration("login_timeout", Zero::Refused).unwrap_or(MINUTE),
        client_idle_timeout,
        idle_transaction_timeout,
        query_timeout,
        max_query_size: limits.size("max_query_size", 1024..=MOST_MESSAGE).unwrap_or(64 << 20),
        cancel_timeout: limits.duration("cancel_timeout", Zero::Refused).unwrap_or(Duration::from_secs(10)),
        notify_queue: limits.size("notify_queue", 16384..=MOST_MESSAGE).unwrap_or(4 << 20),
    }
}

fn log(log: &mut Section<'_, '_, '_>) -> Log {
    Log {
        level: log.text("level", log_filter).unwrap_or_else(|| "info".to_owned()),
        format: log.choice("format", LOG_FORMATS).unwrap_or(LogFormat::Text),
    }
}

/// A filter of `tracing`; a lone word must be a level, since the filter would take a misspelt one for
/// the name of a module and log everything of it and nothing else.
fn log_filter(text: &str) -> Result<String, Misread> {
    const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
    let mut directives = text.split(',').map(str::trim);
    if let Some(word) = directives.find(|part| !part.contains(['=', '[']) && !LEVELS.contains(part)) {
        return Err(Misread::new("is not a log level", advice(word, LEVELS)));
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(Misread::new(format!("is not a log filter ({error})"), "write info, or howdah::cluster=debug,info"))
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// PostgreSQL's own bound on `max_connections` (`MAX_BACKENDS`, src/include/postmaster/postmaster.h).
pub(super) const MOST_CONNECTIONS: usize = 262_143;

/// PostgreSQL's own bound on a message (`PQ_LARGE_MESSAGE_LIMIT`, src/include/libpq/libpq.h).
const MOST_MESSAGE: usize = 0x3FFF_FFFF;

const CLIENT_TLS_MODES: &[(&str, ClientTlsMode)] = &[
    ("disable", ClientTlsMode::Disable),
    ("prefer", ClientTlsMode::Prefer),
    ("require", ClientTlsMode::Require),
    ("verify-full", ClientTlsMode::VerifyFull),
];

const AUTH_METHODS: &[(&str, AuthMethod)] = &[
    ("trust", AuthMethod::Trust),
    ("password", AuthMethod::Password),
    ("md5", AuthMethod::Md5),
    ("scram-sha-256", AuthMethod::ScramSha256),
    ("cert", AuthMethod::Cert),
];

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

const POOL_MODES: &[(&str, PoolMode)] = &[
    (PoolMode::Session.as_str(), PoolMode::Session),
    (PoolMode::Transaction.as_str(), PoolMode::Transaction),
    (PoolMode::Statement.as_str(), PoolMode::Statement),
];

const READS: &[(&str, Reads)] = &[("primary", Reads::Primary), ("replicas", Reads::Replicas), ("any", Reads::Any)];

const CONSISTENCIES: &[(&str, Consistency)] = &[
    ("eventual", Consistency::Eventual),
    ("session", Consistency::Session),
    ("database", Consistency::Database),
    ("global", Consistency::Database),
    ("strong", Consistency::Strong),
    ("strict", Consistency::Strong),
];

const SWITCH: &[(&str, bool)] = &[("true", true), ("false", false)];
const SCOPES: &[(&str, Scope)] = &[("client", Scope::Client), ("user", Scope::User)];
const TRANSACTIONS: &[(&str, Transactions)] =
    &[("primary", Transactions::Primary), ("until_write", Transactions::UntilWrite)];

const BALANCES: &[(&str, Balance)] = &[
    ("least_outstanding", Balance::LeastOutstanding),
    ("round_robin", Balance::RoundRobin),
    ("random", Balance::Random),
];

const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
