//! Server connections kept and shared: one pool for each node × database × user.
//!
//! How pools and workers meet is this room's secret; `Pool::checkout` is the only way to a server.

pub mod key;
pub mod lease;
pub mod manager;
pub mod registry;
mod waiters;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use deadpool::managed::{self, PoolError, QueueMode, TimeoutType, Timeouts};
use tokio::sync::watch;

use crate::config::model::PoolSettings;
use crate::net::buffer::Stash;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::server::connect::Login;
use crate::telemetry::counters::{PoolStats, PoolTotals, ServerStats, ServerTotals, Tallied};
use key::PoolKey;
use lease::Lease;
use manager::{CreateError, Making, Manager};
use registry::Servers;
use waiters::Waiters;

/// The pool of one node × database × user.
#[derive(Debug)]
pub struct Pool {
    key: PoolKey,
    settings: PoolSettings,
    inner: managed::Pool<Manager>,
    paused: watch::Receiver<bool>,
    retired: AtomicBool,
    waiters: Waiters,
    /// What its servers do for clients.
    pub stats: PoolStats,
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

    pub(crate) fn generation(&self) -> u64 {
        self.inner.manager().generation()
    }

    /// Borrows a server: an idle one, the last used first, or a new one. Waits its turn for at most
    /// `pool.wait_timeout`, the time that the pool is paused included. Cancel safe.
    pub async fn checkout(self: &Arc<Self>) -> Result<Lease, CheckoutError> {
        let started = Instant::now();
        let deadline = started + self.settings.wait_timeout;
        if *self.paused.borrow() {
            let _waiting = self.waiters.join(started);
            let mut paused = self.paused.clone();
            let resumed = tokio::time::timeout_at(deadline.into(), paused.wait_for(|paused| !paused)).await;
            if !matches!(resumed, Ok(Ok(_))) {
                return Err(self.timed_out(started));
            }
        }
        let timeouts =
            Timeouts { wait: Some(deadline.saturating_duration_since(Instant::now())), create: None, recycle: None };
        let mut get = pin!(self.inner.timeout_get(&timeouts));
        // Who gets a server at once never stood in the queue, nor touched its lock.
        let got = match poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx))).await {
            Poll::Ready(got) => got,
            Poll::Pending => {
                let _waiting = self.waiters.join(started);
                get.await
            }
        };
        let object = match got {
            Ok(object) => object,
            Err(PoolError::Timeout(TimeoutType::Wait | TimeoutType::Create | TimeoutType::Recycle)) => {
                return Err(self.timed_out(started));
            }
            Err(PoolError::Backend(error)) => return Err(CheckoutError::Connect { key: self.key.clone(), error }),
            Err(PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
                return Err(CheckoutError::Closed { key: self.key.clone() });
            }
        };
        let now = Instant::now();
        Ok(self.lend(object, now, now - started))
    }

    /// Borrows an idle server, if there is one and nobody waits for it.
    pub fn checkout_now(self: &Arc<Self>, now: Instant) -> Option<Lease> {
        if self.inner.status().available == 0 || *self.paused.borrow() {
            return None;
        }
        let timeouts = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };
        // Only a login takes time, and with a server idle none begins; should somebody else have been quicker, the
        // attempt is given up, and the client waits its turn.
        let get = pin!(self.inner.timeout_get(&timeouts));
        match get.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(object)) => Some(self.lend(object, now, Duration::ZERO)),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }

    fn lend(self: &Arc<Self>, object: managed::Object<Manager>, now: Instant, waited: Duration) -> Lease {
        self.stats.server_assignment_count.increment();
        self.stats.wait_time.record(waited);
        Lease::new(object, Arc::clone(self), now)
    }

    fn timed_out(&self, started: Instant) -> CheckoutError {
        let waiting = self.waiters.count();
        CheckoutError::Timeout { key: self.key.clone(), waited: started.elapsed(), waiting }
    }

    /// Closes idle servers that are older than they may be, or that lay idle too long; keeps `min_idle`.
    fn tidy(&self, now: Instant) {
        let keep = self.settings.min_idle;
        let mut kept = 0;
        let idle_timeout = self.settings.idle_timeout;
        self.inner.retain(|pooled, metrics| {
            let fresh = now < pooled.expires_at && pooled.generation == self.generation();
            let used = metrics.last_used() < idle_timeout;
            let keep = fresh && !pooled.server.wire.is_readable_now() && (used || kept < keep);
            kept += usize::from(keep);
            keep
        });
    }

    /// Opens servers until `min_idle` are there.
    async fn warm(self: &Arc<Self>) {
        let missing = self.settings.min_idle.saturating_sub(self.inner.status().size);
        let mut leases = Vec::new();
        for _ in 0..missing {
            match self.checkout().await {
                Ok(lease) => leases.push(lease),
                Err(_) => break,
            }
        }
    }

    /// How many servers exist, lie idle, and how many clients wait.
    pub fn status(&self) -> Status {
        let status = self.inner.status();
        Status {
            servers: status.size,
            idle: status.available,
            waiting: self.waiters.count(),
            longest_wait: self.waiters.oldest().map_or(Duration::ZERO, |since| since.elapsed()),
            stats: self.stats.read(),
            connections: self.connections.read(),
        }
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
    paused: RwLock<HashMap<String, watch::Sender<bool>>>,
    servers: Arc<Servers>,
    stash: Arc<Stash>,
}

impl Pools {
    /// No pools yet.
    pub fn new(stash: Arc<Stash>) -> Self {
        Self { all: RwLock::default(), paused: RwLock::default(), servers: Arc::default(), stash }
    }

    /// The pool for `key`; made, or made anew, when it does not exist with these settings and this login.
    pub fn get(&self, key: &PoolKey, settings: &PoolSettings, login: Login) -> Arc<Pool> {
        if let Some(pool) = self.find(key)
            && pool.settings == *settings
            && pool.inner.manager().logs_in_as(&login)
        {
            return pool;
        }
        let paused = self.pause_switch(key.database.as_str()).subscribe();
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
        let inner = managed::Pool::builder(manager)
            .max_size(settings.size)
            .queue_mode(QueueMode::Lifo)
            .runtime(deadpool::Runtime::Tokio1)
            .build();
        let Ok(inner) = inner else {
            // The builder fails only when time-outs are set without a runtime, and one is given above.
            unreachable!("a pool with a runtime can be built")
        };
        let pool = Arc::new(Pool {
            key: key.clone(),
            settings: settings.clone(),
            inner,
            paused,
            retired: AtomicBool::new(false),
            waiters: Waiters::default(),
            stats: PoolStats::default(),
            connections,
        });
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = all.insert(key.clone(), Arc::clone(&pool)) {
            old.retired.store(true, Ordering::Relaxed);
            old.inner.manager().retire_all();
            old.tidy(Instant::now());
        }
        pool
    }

    fn find(&self, key: &PoolKey) -> Option<Arc<Pool>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn pause_switch(&self, database: &str) -> watch::Sender<bool> {
        let mut paused = self.paused.write().unwrap_or_else(PoisonError::into_inner);
        paused.entry(database.to_owned()).or_insert_with(|| watch::Sender::new(false)).clone()
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
        for pool in self.of(database) {
            self.pause_switch(pool.key.database.as_str()).send_replace(true);
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
        let paused = self.paused.read().unwrap_or_else(PoisonError::into_inner);
        for (name, switch) in paused.iter() {
            if database.is_none_or(|wanted| wanted == name) {
                switch.send_replace(false);
            }
        }
    }

    /// Whether `database` (its name on servers) is paused.
    pub fn is_paused(&self, database: &str) -> bool {
        let paused = self.paused.read().unwrap_or_else(PoisonError::into_inner);
        paused.get(database).is_some_and(|switch| *switch.borrow())
    }

    /// RECONNECT: every server that exists now is closed as soon as nobody uses it.
    pub fn reconnect(&self, database: Option<&str>) {
        let now = Instant::now();
        for pool in self.of(database) {
            pool.inner.manager().retire_all();
            pool.tidy(now);
        }
    }

    /// Closes the idle servers of a node that is gone or has changed its role.
    pub fn drop_idle(&self, node: &str) {
        let now = Instant::now();
        for pool in self.all().iter().filter(|pool| pool.key.node.as_str() == node) {
            pool.inner.manager().retire_all();
            pool.tidy(now);
        }
    }

    /// What must be done now and then: closes what is too old or idle too long, and warms pools up.
    pub async fn tend(&self) {
        let now = Instant::now();
        for pool in self.all() {
            pool.tidy(now);
            if !*pool.paused.borrow() {
                pool.warm().await;
            }
        }
    }

    /// Closes every pool: waiting clients get an error, idle servers end.
    pub fn close(&self) {
        for pool in self.all() {
            pool.inner.close();
        }
    }
}

impl Pool {
    /// Servers on loan.
    pub fn lent(&self) -> usize {
        let status = self.inner.status();
        status.size.saturating_sub(status.available)
    }
}
