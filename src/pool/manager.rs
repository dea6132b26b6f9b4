//! How server connections are made, and which of them may be lent.
//!
//! `create` runs while its caller holds one of the pool's permits, so the limit on logins at once and
//! the back-off after failures live here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, RecycleResult};
use rand::RngExt;
use tokio::sync::Semaphore;

use super::key::PoolKey;
use super::registry::Servers;
use crate::net::buffer::Stash;
use crate::server::connect::{self, ConnectError, Login};
use crate::server::{Identity, Server};
use crate::session::pins::Room;
use crate::telemetry::counters::ServerStats;
use crate::types::ServerId;

/// After a refused login, others wait at least this long before the next try ...
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
/// ... doubling up to this.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Makes the servers of one pool.
#[derive(Debug)]
pub struct Manager {
    key: PoolKey,
    login: Login,
    lifetime: Duration,
    prepared_statements: usize,
    /// Bounds logins at once.
    connecting: Semaphore,
    /// Servers made before this generation are not lent again.
    generation: AtomicU64,
    last_failure: Mutex<Option<Failure>>,
    servers: Arc<Servers>,
    stash: Arc<Stash>,
    stats: Arc<ServerStats>,
    /// Counts those that are pinned.
    room: Arc<Room>,
}

#[derive(Clone, Debug)]
struct Failure {
    at: Instant,
    back_off: Duration,
    error: Arc<ConnectError>,
}

/// Why no server could be made, shared by all who were waiting for it.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct CreateError(pub Arc<ConnectError>);

/// What a pool needs to make its servers.
#[derive(Debug)]
pub struct Making {
    /// Which pool.
    pub key: PoolKey,
    /// How to log in.
    pub login: Login,
    /// How long a server may live.
    pub lifetime: Duration,
    /// Most prepared statements on one server.
    pub prepared_statements: usize,
    /// Most logins at once.
    pub connect_concurrency: usize,
}

impl Manager {
    pub(super) fn new(making: Making, servers: Arc<Servers>, stash: Arc<Stash>, stats: Arc<ServerStats>) -> Self {
        Self {
            key: making.key,
            login: making.login,
            lifetime: making.lifetime,
            prepared_statements: making.prepared_statements,
            connecting: Semaphore::new(making.connect_concurrency.max(1)),
            generation: AtomicU64::new(0),
            last_failure: Mutex::new(None),
            servers,
            stash,
            stats,
            room: Arc::default(),
        }
    }

    /// From now on, no server that exists today is lent again.
    pub(super) fn retire_all(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.servers.condemn(&self.key);
    }

    /// Whether its servers log in as `login` says.
    pub(super) fn logs_in_as(&self, login: &Login) -> bool {
        self.login.address == login.address
            && self.login.password == login.password
            && Arc::ptr_eq(&self.login.connector, &login.connector)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Whether a server that lies idle may be lent.
    pub(super) fn may_be_lent(&self, pooled: &Pooled) -> bool {
        // Whatever an idle server has to say, it is a farewell or can be said to a new one.
        pooled.generation == self.generation() && !pooled.server.wire.is_readable_now()
    }

    /// Whether a server that was lent at `since` may be lent again.
    pub(super) fn may_stay(&self, pooled: &Pooled, since: Instant) -> bool {
        pooled.generation == self.generation() && since < pooled.expires_at && pooled.server.is_clean()
    }

    /// How long the next login is better put off.
    pub(super) fn back_off(&self, now: Instant) -> Duration {
        self.recent_failure(now).map_or(BACK_OFF_MIN, |failure| (failure.at + failure.back_off).duration_since(now))
    }

    /// The failure that the next login would only repeat, while its back-off lasts.
    fn recent_failure(&self, now: Instant) -> Option<Failure> {
        let failure = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().filter(|failure| now < failure.at + failure.back_off)
    }

    fn failed(&self, error: ConnectError, now: Instant) -> CreateError {
        let error = Arc::new(error);
        let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        let doubled = last.as_ref().map_or(BACK_OFF_MIN, |failure| failure.back_off * 2);
        let back_off = doubled.min(BACK_OFF_MAX);
        *last = Some(Failure { at: now, back_off, error: Arc::clone(&error) });
        CreateError(error)
    }

    fn succeeded(&self) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A server with what its pool remembers of it.
#[derive(Debug)]
pub struct Pooled {
    /// The server.
    pub server: Server,
    generation: u64,
    expires_at: Instant,
    stats: Arc<ServerStats>,
}

impl managed::Manager for Manager {
    /// Boxed: deadpool's futures move it about, and every client's task would be as large as several of it.
    type Type = Box<Pooled>;
    type Error = CreateError;

    async fn create(&self) -> Result<Box<Pooled>, CreateError> {
        if let Some(failure) = self.recent_failure(Instant::now()) {
            return Err(CreateError(failure.error));
        }
        let _permit = self.connecting.acquire().await;
        // Those who waited behind a login that failed need not try it again.
        if let Some(failure) = self.recent_failure(Instant::now()) {
            return Err(CreateError(failure.error));
        }
        let generation = self.generation();
        // Boxed: every client would carry its size, and few ever log a server in.
        let connected = match Box::pin(connect::connect(&self.login)).await {
            Ok(connected) => connected,
            Err(error) => {
                self.stats.connect_failures.increment();
                tracing::warn!(pool = %self.key, %error, "server login failed");
                return Err(self.failed(error, Instant::now()));
            }
        };
        self.succeeded();
        self.stats.connects.increment();
        let now = Instant::now();
        let identity = Identity {
            id: self.servers.next_id(),
            node: self.key.node.clone(),
            connector: Arc::clone(&self.login.connector),
            prepared_statements: self.prepared_statements,
        };
        let mut server = Server::new(connected, identity, Arc::clone(&self.stash), now);
        server.carried.room = Arc::clone(&self.room);
        self.servers.add(&self.key, &server.info);
        let jitter = rand::rng().random_range(0.9..=1.0);
        let stats = Arc::clone(&self.stats);
        let expires_at = now + self.lifetime.mul_f64(jitter);
        Ok(Box::new(Pooled { server, generation, expires_at, stats }))
    }

    /// Whether a server may be lent is asked when it is (`Lease::begin`); none lies in deadpool's own queue.
    async fn recycle(&self, _: &mut Box<Pooled>, _: &Metrics) -> RecycleResult<CreateError> {
        Ok(())
    }

    fn detach(&self, pooled: &mut Box<Pooled>) {
        self.servers.remove(pooled.server.id);
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        // `detach` is not called for objects that die with their pool; removing twice does no harm.
        self.server.info.gone();
        let (received, sent) = self.server.wire.traffic();
        self.stats.bytes_received.add(received);
        self.stats.bytes_sent.add(sent);
        self.stats.disconnects.increment();
    }
}

impl Pooled {
    /// Its number.
    pub const fn id(&self) -> ServerId {
        self.server.id
    }
}
