//! One look at everything that runs, for `/metrics`, `/readyz` and the console.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use crate::admin::state::{
    Activeness, Activity, Change, Client, Connection, Database, Fate, Memory, Period, Pin, Server, Setting, State, User,
};
use crate::client::directory::{ClientInfo, ClientState};
use crate::client::services::{Current, Served, Services};
use crate::config::model::{Consistency, Database as Entry, PoolMode, Reads, ServerAddress};
use crate::notify::hub::{Census as Listening, Connection as Link};
use crate::pool::Pool as RunningPool;
use crate::pool::key::PoolKey;
use crate::protocol::startup::Replication;
use crate::router::view::{self, View};
use crate::server::info::{ServerInfo, ServerState};
use crate::telemetry::snapshot::{self, Clients, Cluster, Health, Listener, Node, Pins, Pool, Role, Routed, Snapshot};
use crate::types::{ClientId, NodeName, ServerId};

/// What metrics show.
pub(super) fn snapshot(services: &Arc<Services>, started: SystemTime) -> Snapshot {
    let current = services.current.load();
    let infos = services.directory.snapshot();
    let census = Census::take(services, &infos);
    let connected = services.directory.connected();
    let counters = &services.counters;
    let routed = counters.by_reason().into_iter();
    let clients = counters.clients().into_iter();
    let now = |reason| count(infos.iter().filter(|client| client.pins().contains(&reason)).count());
    Snapshot {
        version: env!("CARGO_PKG_VERSION"),
        started,
        phase: phase(services, &current),
        clusters: current.clusters.values().map(|served| cluster(served)).collect(),
        pools: services.pools.all().iter().map(|pool| one_pool(pool, &current, &census)).collect(),
        clients: clients.map(|(database, user, stats)| Clients { database, user, stats }).collect(),
        clients_connected: count(connected),
        clients_logging_in: count(connected.saturating_sub(infos.len())),
        clients_max: count(current.config.limits.max_clients),
        login_failures: counters.login_failures.value(),
        routed: routed
            .map(|([class, target], reason, count)| Routed { class, target, reason: reason.as_str(), count })
            .collect(),
        retries: vec![("replica_failed", counters.retries.value())],
        cancels: counters.cancels(),
        pins: counters
            .pins()
            .into_iter()
            .map(|(reason, [total, rejected, over_budget])| Pins {
                reason: reason.as_str(),
                current: now(reason),
                total,
                rejected,
                over_budget,
            })
            .collect(),
        pin_timeouts: counters.pin_timeouts.value(),
        audits: counters.audits.value(),
        leaks: counters.leaks(),
        errors: counters.errors.read().collect(),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn phase(services: &Services, current: &Current) -> snapshot::Phase {
    if services.is_closed() {
        return snapshot::Phase::ShuttingDown;
    }
    let pools = services.pools.all();
    let paused = |pool: &Arc<RunningPool>| services.pools.is_paused(pool.key().database.as_str());
    let all = !current.config.databases.is_empty() && !pools.is_empty() && pools.iter().all(paused);
    if all { snapshot::Phase::Paused } else { snapshot::Phase::Running }
}

fn cluster(served: &Served) -> Cluster {
    let view = served.cluster.snapshot();
    let now = Instant::now();
    Cluster {
        name: view.cluster.clone(),
        primary: view.primary.and_then(|index| view.nodes.get(index)).map(|node| node.name.clone()),
        nodes: (0..view.nodes.len()).map(|index| node(served, &view, index, now)).collect(),
        samples: served.cluster.samples(),
        sampler_waits: served.waits.value(),
        sampler_timeouts: served.timeouts.value(),
        listeners: served.hubs.census().into_iter().map(listener).collect(),
        notifications: served.hubs.totals.notifications.value(),
        notify_overflows: served.hubs.totals.overflows.value(),
        notify_losses: served.hubs.totals.losses.value(),
    }
}

fn listener(census: Listening) -> Listener {
    Listener {
        database: census.database,
        encoding: census.encoding.into(),
        connection: match census.connection {
            Link::To(node, process_id) => Ok((node, process_id)),
            Link::None(why) | Link::Lost(why) => Err(why),
        },
        channels: count(census.channels),
        clients: count(census.clients),
    }
}

fn node(served: &Served, view: &View, index: usize, now: Instant) -> Node {
    let seen = &view.nodes[index];
    let lag = view.lag(index, now);
    let primary = view.primary == Some(index);
    Node {
        name: seen.name.clone(),
        address: served.nodes.get(index).map(|(_, address)| address.to_string()).unwrap_or_default(),
        role: role(seen.role),
        health: if seen.state == view::State::Up { Health::Up } else { Health::Down },
        weight: seen.weight,
        lag: lag.time,
        lag_bytes: lag.bytes,
        replay_lsn: if primary {
            view.samples.newest().map(|point| point.lsn)
        } else {
            seen.replay.map(|replay| replay.lsn)
        },
        timeline: seen.timeline,
        excluded: match (&seen.fault, seen.state) {
            (Some(fault), _) => fault.to_string(),
            (None, view::State::Up) => String::new(),
            (None, state) => state.as_str().to_owned(),
        },
    }
}

const fn role(role: view::Role) -> Role {
    match role {
        view::Role::Primary => Role::Primary,
        view::Role::Replica => Role::Replica,
        view::Role::Unknown => Role::Unknown,
    }
}

/// What server connections do, counted by pool.
struct Census(HashMap<PoolKey, Busy>);

#[derive(Clone, Copy, Default)]
struct Busy {
    active: u64,
    canceling: u64,
    pinned: u64,
}

impl Census {
    fn take(services: &Services, clients: &[Arc<ClientInfo>]) -> Self {
        let pinned: HashSet<_> =
            clients.iter().filter(|client| client.is_pinned()).filter_map(|client| client.state().1).collect();
        let mut pools: HashMap<_, Busy> = HashMap::new();
        for (key, info) in services.pools.servers().snapshot() {
            let busy = pools.entry(key).or_default();
            busy.active += u64::from(info.state().0 == ServerState::Active);
            busy.canceling += u64::from(info.socket.key.canceling.load(Ordering::Relaxed));
            busy.pinned += u64::from(pinned.contains(&info.id));
        }
        Self(pools)
    }
}

fn one_pool(pool: &RunningPool, current: &Current, census: &Census) -> Pool {
    let (key, status) = (pool.key(), pool.status());
    let view = current.clusters.get(&key.cluster).map(|served| served.cluster.snapshot());
    let seen = view.as_ref().and_then(|view| view.nodes.iter().find(|node| node.name == key.node));
    let Busy { active, canceling, pinned } = census.0.get(key).copied().unwrap_or_default();
    let idle = count(status.idle);
    Pool {
        cluster: key.cluster.clone(),
        node: key.node.clone(),
        role: seen.map_or(Role::Unknown, |node| role(node.role)),
        database: key.database.clone(),
        user: key.user.clone(),
        mode: pool.settings().mode.as_str(),
        clients_active: active,
        clients_waiting: count(status.waiting),
        max_wait: status.longest_wait,
        size: count(pool.settings().size),
        servers_active: active,
        servers_canceling: canceling,
        servers_pinned: pinned,
        servers_idle: idle,
        servers_opening: count(status.servers).saturating_sub(active + idle),
        stats: status.stats,
        servers: status.connections,
    }
}

/// What the console shows.
pub(super) fn state(services: &Arc<Services>, started: SystemTime, period: Option<Period>) -> State {
    let current = services.current.load();
    let clients = services.directory.snapshot();
    let servers = services.pools.servers().snapshot();
    let nodes: HashMap<_, _> = servers.iter().map(|(key, info)| (info.id, &key.node)).collect();
    let names: HashMap<_, _> = clients.iter().map(|client| (client.id, client.application_name())).collect();
    State {
        snapshot: snapshot(services, started),
        period,
        databases: current.config.databases.iter().filter_map(|entry| database(entry, &current, services)).collect(),
        users: users(&current),
        clients: clients.iter().map(|info| client(info, &nodes)).collect(),
        servers: servers.iter().map(|(key, info)| server(key, info, &names)).collect(),
        config: settings(&current),
        memory: memory(services),
    }
}

fn database(entry: &Entry, current: &Current, services: &Services) -> Option<Database> {
    let served = current.clusters.get(&entry.cluster)?;
    let primary = served.cluster.view().primary.unwrap_or(0);
    let (host, port) = match served.nodes.get(primary).map(|(_, address)| address) {
        Some(ServerAddress::Tcp { host, port }) => (host.to_string(), *port),
        Some(ServerAddress::Unix(path)) => (path.display().to_string(), 0),
        None => (String::new(), 0),
    };
    let server_database = entry.server_database.clone().unwrap_or_else(|| entry.name.clone());
    let config = &current.config;
    Some(Database {
        name: entry.name.clone(),
        cluster: entry.cluster.clone(),
        host,
        port,
        activity: if services.pools.is_paused(server_database.as_str()) { Activity::Paused } else { Activity::Active },
        server_database,
        mode: entry.pool.mode.unwrap_or(config.pool.mode).as_str(),
        pool_size: count(entry.pool.size.unwrap_or(config.pool.size)),
        min_idle: count(entry.pool.min_idle.unwrap_or(config.pool.min_idle)),
        lifetime: config.pool.lifetime,
        reads: match entry.routing.reads.unwrap_or(config.routing.reads) {
            Reads::Primary => "primary",
            Reads::Replicas => "replicas",
            Reads::Any => "any",
        },
        consistency: match entry.routing.consistency.unwrap_or(config.routing.consistency) {
            Consistency::Eventual => "eventual",
            Consistency::Session => "session",
            Consistency::Database => "database",
            Consistency::Strong => "strong",
        },
    })
}

fn users(current: &Current) -> Vec<User> {
    let user = |user: &crate::config::model::User| User {
        name: user.name.clone(),
        mode: user.pool.mode.map(PoolMode::as_str),
        pool_size: user.pool.size.map(count),
    };
    current.config.users.iter().map(user).collect()
}

/// The moment on the wall clock that `then` was.
fn wall(then: Instant) -> SystemTime {
    SystemTime::now().checked_sub(then.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn client(info: &ClientInfo, nodes: &HashMap<ServerId, &NodeName>) -> Client {
    let (state, server) = info.state();
    let node = server.and_then(|id| nodes.get(&id)).map(|node| NodeName::clone(node));
    let requested = info.requested_at();
    Client {
        id: info.id,
        connection: Connection {
            user: info.user.clone(),
            database: info.database.clone(),
            replication: info.replication.as_str(),
            state: match state {
                ClientState::Idle => Activeness::Idle,
                ClientState::Active => Activeness::Active,
                ClientState::Waiting => Activeness::Waiting,
            },
            remote: info.ends.remote,
            local: info.ends.local,
            connected: wall(info.connected_at),
            requested: wall(requested),
            tls: info.encryption.map(|encryption| encryption.to_string()).unwrap_or_default(),
            application_name: info.application_name(),
            prepared_statements: count(info.prepared.load(Ordering::Relaxed)),
        },
        wait: if state == ClientState::Waiting { requested.elapsed() } else { Duration::ZERO },
        server,
        node,
        pins: info.pins().into_iter().map(crate::session::pins::Reason::as_str).collect(),
        pin: info.pin().map(|pin| Pin { age: pin.since.elapsed(), digest: pin.digest }),
    }
}

fn server(key: &PoolKey, info: &ServerInfo, names: &HashMap<ClientId, String>) -> Server {
    let (state, client) = info.state();
    let canceling = info.socket.key.canceling.load(Ordering::Relaxed);
    Server {
        id: info.id,
        connection: Connection {
            user: key.user.clone(),
            database: key.database.clone(),
            replication: Replication::None.as_str(),
            state: match state {
                _ if canceling => Activeness::BeingCanceled,
                ServerState::Active => Activeness::Active,
                ServerState::Idle => Activeness::Idle,
            },
            remote: info.socket.ends.remote,
            local: info.socket.ends.local,
            connected: wall(info.connected_at),
            requested: wall(info.lent_at()),
            tls: info.socket.encryption.map(|encryption| encryption.to_string()).unwrap_or_default(),
            application_name: client.and_then(|client| names.get(&client).cloned()).unwrap_or_default(),
            prepared_statements: count(info.prepared.load(Ordering::Relaxed)),
        },
        cluster: key.cluster.clone(),
        node: key.node.clone(),
        process_id: info.socket.key.process_id,
        client,
        fate: if info.is_condemned() { Fate::Close } else { Fate::Reuse },
    }
}

/// The settings of the file that hold a single value; users, clusters and databases have tables of their own.
fn settings(current: &Current) -> Vec<Setting> {
    let values = super::defaults::values(&current.config);
    let defaults = super::defaults::defaults().map(|config| super::defaults::values(&config)).unwrap_or_default();
    let change = |key: &str| {
        if key.starts_with("listen") || key == "metrics.address" { Change::Restart } else { Change::Reload }
    };
    let pairs = values.into_iter().zip(defaults);
    pairs
        .map(|((key, value), (_, default))| Setting { key: key.to_owned(), value, default, change: change(key) })
        .collect()
}

fn memory(services: &Services) -> Vec<Memory> {
    let item = |name: &str, size: usize, used: usize, free: usize| Memory {
        name: name.to_owned(),
        size: count(size),
        used: count(used),
        free: count(free),
    };
    vec![
        item("buffer", crate::net::buffer::BUFFER, services.stash.in_use(), services.stash.idle()),
        item("client", size_of::<ClientInfo>(), services.directory.snapshot().len(), 0),
        item("server", size_of::<crate::server::Server>(), services.pools.servers().snapshot().len(), 0),
        item("statement", size_of::<crate::session::registry::Statement>(), services.registry.len(), 0),
    ]
}
