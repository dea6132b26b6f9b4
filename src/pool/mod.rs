//! Server connections kept and shared: one pool for each node × database × user.
//!
//! How pools and workers meet is this room's secret; `Pool::checkout` is the only way to a server.

pub mod key;
pub mod lease;
mod lobby;
pub mod manager;
pub mod registry;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Object, PoolError, Timeouts};
use tokio::sync::oneshot;

use crate::config::model::PoolSettings;
use crate::net::buffer::Stash;
use crate::net::worker;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::server::connect::Login;
use crate::session::settings::Settings;
use crate::telemetry::counters::{PoolStats, PoolTotals, ServerStats, ServerTotals, Sharded, Tallied};
use key::PoolKey;
use lease::{Idle, Lease};
use lobby::{Bounds, Entered, Failed, Gate, Grow, Lobby, Put};
use manager::{CreateError, Making, Manager};
use registry::Servers;

/// The pool of one node × database × user.
#[derive(Debug)]
pub struct Pool {
    key: PoolKey,
    settings: PoolSettings,
    /// Makes servers, and bounds how many there are.
    inner: managed::Pool<Manager>,
    /// Has those that are not lent.
    lobby: Lobby<Idle, Lease, CreateError>,
    retired: AtomicBool,
    /// What its servers do for clients.
    pub stats: Sharded<PoolStats>,
    /// What becomes of its server connections.
    connections: Arc<ServerStats>,
}

/// Why no server was to be had.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// Nobody gave one back in time.
    #[error("no server connection to {key} became free within {waited:?}")]
    Timeout {
        /// The pool.
        key: PoolKey,
        /// How long the client waited.
        waited: Duration,
        /// How many clients wait.
        waiting: usize,
    },
    /// None could be made.
    #[error("no server connection to {key} could be made: {error}")]
    Connect {
        /// The pool.
        key: PoolKey,
        /// Why.
        error: CreateError,
    },
    /// The cluster has no such node any more.
    #[error("the cluster has no node with index {index}")]
    UnknownNode {
        /// Its index.
        index: usize,
    },
    /// The pool is being closed.
    #[error("pool {key} is closed")]
    Closed {
        /// The pool.
        key: PoolKey,
    },
}

impl CheckoutError {
    /// What the client is told; FATAL only where PostgreSQL's own answer is.
    pub fn report(&self) -> Report {
        match self {
            Self::Timeout { key, waited, waiting } => Report::error(
                SqlState::TOO_MANY_CONNECTIONS,
                format!(
                    "query_wait_timeout: no server connection to node {} for database {} and user {} within {} ms, {waiting} waiting",
                    key.node, key.database, key.user, waited.as_millis()
                ),
            )
            .hint("Raise pool.size or pool.wait_timeout, or shorten transactions."),
            Self::Connect { error, .. } => error.0.report(),
            Self::UnknownNode { .. } => Report::error(SqlState::CANNOT_CONNECT_NOW, "the node is gone"),
            Self::Closed { .. } => Report::error(SqlState::CANNOT_CONNECT_NOW, "the pool is being closed"),
        }
    }

    /// Whether the node itself is to blame.
    pub const fn blames_node(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}

impl Pool {
    /// What it is.
    pub const fn key(&self) -> &PoolKey {
        &self.key
    }

    /// Its settings.
    pub const fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    /// Whether another pool has taken its place.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    fn manager(&self) -> &Manager {
        self.inner.manager()
    }

    /// Borrows a server: an idle one, with these `settings` if there is one, the last used first; or a new one. Waits its turn for at most
    /// `pool.wait_timeout`, the time that the pool is paused included. Cancel safe.
    pub async fn checkout(self: &Arc<Self>, settings: &Arc<Settings>) -> Result<Lease, CheckoutError> {
        let started = Instant::now();
        let deadline = started + self.settings.wait_timeout;
        let mut number = None;
        loop {
            let lease = match self.lobby.enter(worker::here(), started, number, |idle| idle.carries(settings)) {
                Entered::Served(idle) => Lease::new(idle, Arc::clone(self)),
                Entered::Closed => return Err(CheckoutError::Closed { key: self.key.clone() }),
                Entered::InLine(place, told) => {
                    self.grow();
                    number = Some(place.number());
                    match tokio::time::timeout_at(deadline.into(), told).await {
                        Ok(Ok(Ok(lease))) => lease,
                        Ok(Ok(Err(error))) => return Err(CheckoutError::Connect { key: self.key.clone(), error }),
                        Ok(Err(_)) => return Err(CheckoutError::Closed { key: self.key.clone() }),
                        Err(_) => return Err(self.timed_out(started)),
                    }
                }
            };
            let now = Instant::now();
            if let Some(lease) = self.lend(lease, now, now - started) {
                return Ok(lease);
            }
        }
    }

    /// Borrows an idle server, if there is one and nobody waits for it.
    pub fn checkout_now(self: &Arc<Self>, settings: &Arc<Settings>, now: Instant) -> Option<Lease> {
        loop {
            let idle = self.lobby.take(worker::here(), |idle| idle.carries(settings))?;
            if let Some(lease) = self.lend(Lease::new(idle, Arc::clone(self)), now, Duration::ZERO) {
                return Some(lease);
            }
        }
    }

    /// Lends it, unless it turns out to be of no use; it is closed then.
    fn lend(&self, mut lease: Lease, now: Instant, waited: Duration) -> Option<Lease> {
        if !lease.begin(now) {
            return None;
        }
        let stats = self.stats.of(worker::here());
        stats.server_assignment_count.increment();
        stats.wait_time.record(waited);
        Some(lease)
    }

    /// Takes a server back that can be lent again: to whoever waits for it, or to lie idle.
    fn put(self: &Arc<Self>, mut idle: Idle) {
        loop {
            match self.lobby.put(idle.object.server.wire.worker(), idle, Instant::now) {
                Put::Kept => return,
                Put::Refused(idle) => return self.discard(idle),
                Put::For(given, waiter) => match hand(waiter, Lease::new(given, Arc::clone(self))) {
                    None => return,
                    Some(back) => idle = back,
                },
            }
        }
    }

    /// Closes a server.
    fn discard(self: &Arc<Self>, idle: Idle) {
        drop(Object::take(idle.object));
        self.lobby.lost();
        self.grow();
    }

    /// Makes as many servers as are wanted; whoever waits first gets the first.
    fn grow(self: &Arc<Self>) {
        while self.lobby.grow() == Grow::Yes {
            // There is none when the process ends.
            let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
            runtime.spawn(Arc::clone(self).make());
        }
    }

    /// Makes a server, and tries again for as long as one is wanted and there are others to wait for.
    async fn make(self: Arc<Self>) {
        // Bounded as the lobby is; deadpool has the last word on how many there may be.
        let timeouts = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };
        loop {
            match self.inner.timeout_get(&timeouts).await {
                Ok(object) => {
                    self.lobby.made();
                    self.put(Idle { object, since: Instant::now() });
                    return self.grow();
                }
                Err(error) => match self.lobby.failed() {
                    Failed::Again => tokio::time::sleep(self.manager().back_off(Instant::now())).await,
                    Failed::Left => return,
                    Failed::Tell(waiters) => {
                        let PoolError::Backend(error) = error else { return };
                        for waiter in waiters {
                            // Who has gone need not know.
                            let _ = waiter.send(Err(error.clone()));
                        }
                        return;
                    }
                },
            }
        }
    }

    fn timed_out(&self, started: Instant) -> CheckoutError {
        let waiting = self.lobby.census().waiting;
        CheckoutError::Timeout { key: self.key.clone(), waited: started.elapsed(), waiting }
    }

    /// Lends servers from now on, or not; serves those who have waited for it.
    fn set_gate(self: &Arc<Self>, gate: Gate) {
        for idle in self.lobby.set_gate(gate) {
            self.discard(idle);
        }
        while let Some((idle, waiter)) = self.lobby.pair(Instant::now()) {
            if let Some(back) = hand(waiter, Lease::new(idle, Arc::clone(self))) {
                self.put(back);
            }
        }
        self.grow();
    }

    /// Closes idle servers that are older than they may be, or that lay idle too long; keeps `min_idle`.
    fn tidy(self: &Arc<Self>, now: Instant) {
        let keep = self.settings.min_idle;
        let mut kept = 0;
        let idle_timeout = self.settings.idle_timeout;
        let weeded = self.lobby.weed(|idle| {
            let fresh = self.manager().may_stay(&idle.object, now) && self.manager().may_be_lent(&idle.object);
            let used = now.saturating_duration_since(idle.since) < idle_timeout;
            let keep = fresh && (used || kept < keep);
            kept += usize::from(keep);
            keep
        });
        for idle in weeded {
            self.discard(idle);
        }
    }

    /// How many servers exist, lie idle, and how many clients wait.
    pub fn status(&self) -> Status {
        let census = self.lobby.census();
        Status {
            servers: census.servers,
            idle: census.idle,
            waiting: census.waiting,
            longest_wait: census.oldest.map_or(Duration::ZERO, |since| since.elapsed()),
            stats: self.stats.read(),
            connections: self.connections.read(),
        }
    }

    /// Servers on loan.
    pub fn lent(&self) -> usize {
        self.lobby.census().lent
    }
}

/// Gives a server to `waiter`; gives it back when the waiter has gone.
fn hand(waiter: oneshot::Sender<Result<Lease, CreateError>>, lease: Lease) -> Option<Idle> {
    match waiter.send(Ok(lease)) {
        Ok(()) | Err(Err(_)) => None,
        Err(Ok(lease)) => lease.into_idle(),
    }
}

/// A pool as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Servers that exist or are being made.
    pub servers: usize,
    /// Servers that lie idle.
    pub idle: usize,
    /// Clients that wait for one.
    pub waiting: usize,
    /// For how long the first of them has waited.
    pub longest_wait: Duration,
    /// What its servers did for clients.
    pub stats: PoolTotals,
    /// What became of its server connections.
    pub connections: ServerTotals,
}

/// All pools. Looked up when a client first needs a node, not per transaction.
#[derive(Debug)]
pub struct Pools {
    all: RwLock<HashMap<PoolKey, Arc<Pool>>>,
    /// Databases that are paused, as servers call them. Locked before `all`.
    paused: RwLock<HashSet<String>>,
    servers: Arc<Servers>,
    stash: Arc<Stash>,
    /// How many threads borrow servers; see [`worker::Workers::sides`].
    sides: usize,
}

impl Pools {
    /// No pools yet, for threads with so many `sides` to borrow servers from.
    pub fn new(stash: Arc<Stash>, sides: usize) -> Self {
        Self { all: RwLock::default(), paused: RwLock::default(), servers: Arc::default(), stash, sides }
    }

    /// The pool for `key`; made, or made anew, when it does not exist with these settings and this login.
    pub fn get(&self, key: &PoolKey, settings: &PoolSettings, login: Login) -> Arc<Pool> {
        if let Some(pool) = self.find(key)
            && pool.settings == *settings
            && pool.manager().logs_in_as(&login)
        {
            return pool;
        }
        // Held until the pool is among the others: it is paused now, or with them.
        let paused = self.paused.read().unwrap_or_else(PoisonError::into_inner);
        let gate = if paused.contains(key.database.as_str()) { Gate::Paused } else { Gate::Open };
        let making = Making {
            key: key.clone(),
            login,
            lifetime: settings.lifetime,
            prepared_statements: settings.prepared_statements,
            connect_concurrency: settings.connect_concurrency,
        };
        let connections = Arc::new(ServerStats::default());
        let manager =
            Manager::new(making, Arc::clone(&self.servers), Arc::clone(&self.stash), Arc::clone(&connections));
        let inner = managed::Pool::builder(manager).max_size(settings.size).runtime(deadpool::Runtime::Tokio1).build();
        let Ok(inner) = inner else {
            // The builder fails only when time-outs are set without a runtime, and one is given above.
            unreachable!("a pool with a runtime can be built")
        };
        let bounds =
            Bounds { size: settings.size, min_idle: settings.min_idle, growing: settings.connect_concurrency.max(1) };
        let pool = Arc::new(Pool {
            key: key.clone(),
            settings: settings.clone(),
            inner,
            lobby: Lobby::new(self.sides, bounds, gate),
            retired: AtomicBool::new(false),
            stats: Sharded::new(self.sides),
            connections,
        });
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = all.insert(key.clone(), Arc::clone(&pool)) {
            old.retired.store(true, Ordering::Relaxed);
            old.manager().retire_all();
            old.tidy(Instant::now());
        }
        pool
    }

    fn find(&self, key: &PoolKey) -> Option<Arc<Pool>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// All pools, ordered by key.
    pub fn all(&self) -> Vec<Arc<Pool>> {
        let mut pools: Vec<_> = self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        pools.sort_by(|one, other| one.key.cmp(&other.key));
        pools
    }

    /// All server connections.
    pub const fn servers(&self) -> &Arc<Servers> {
        &self.servers
    }

    /// The pools of `database` (its name on servers), or all.
    fn of(&self, database: Option<&str>) -> Vec<Arc<Pool>> {
        let mut pools = self.all();
        pools.retain(|pool| database.is_none_or(|name| pool.key.database.as_str() == name));
        pools
    }

    /// PAUSE: lends no more servers of `database`, or of all, and waits until those on loan are back.
    /// Gives false when `timeout` passed first; the pools stay paused.
    pub async fn pause(&self, database: Option<&str>, timeout: Duration) -> bool {
        {
            let mut paused = self.paused.write().unwrap_or_else(PoisonError::into_inner);
            paused.extend(database.map(str::to_owned));
            for pool in self.of(database) {
                paused.insert(pool.key.database.as_str().to_owned());
                pool.set_gate(Gate::Paused);
            }
        }
        let deadline = Instant::now() + timeout;
        while self.of(database).iter().any(|pool| pool.lent() > 0) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.reconnect(database);
        true
    }

    /// RESUME.
    pub fn resume(&self, database: Option<&str>) {
        let mut paused = self.paused.write().unwrap_or_else(PoisonError::into_inner);
        paused.retain(|name| database.is_some_and(|wanted| wanted != name));
        for pool in self.of(database) {
            pool.set_gate(Gate::Open);
        }
    }

    /// Whether `database` (its name on servers) is paused.
    pub fn is_paused(&self, database: &str) -> bool {
        let paused = self.paused.read().unwrap_or_else(PoisonError::into_inner);
        paused.contains(database)
    }

    /// RECONNECT: every server that exists now is closed as soon as nobody uses it.
    pub fn reconnect(&self, database: Option<&str>) {
        self.renew(|key| database.is_none_or(|name| key.database.as_str() == name));
    }

    /// Closes every server that exists now, of the pools that are meant, as soon as nobody uses it.
    pub fn renew(&self, meant: impl Fn(&PoolKey) -> bool) {
        let now = Instant::now();
        for pool in self.all().iter().filter(|pool| meant(&pool.key)) {
            pool.manager().retire_all();
            pool.tidy(now);
        }
    }

    /// What must be done now and then: closes what is too old or idle too long, and warms pools up.
    pub fn tend(&self) {
        let now = Instant::now();
        for pool in self.all() {
            pool.tidy(now);
            pool.grow();
        }
    }

    /// Closes every pool: waiting clients get an error, idle servers end.
    pub fn close(&self) {
        for pool in self.all() {
            pool.set_gate(Gate::Closed);
            pool.inner.close();
        }
    }
}
