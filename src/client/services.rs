//! What every client needs and none owns: made once by `app`, replaced in part when the configuration changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use lru::LruCache;
use tokio::sync::watch;

use super::answer;
use super::counters::Counters;
use super::directory::Directory;
use super::lookup::Lookup;
use crate::auth;
use crate::cancel;
use crate::cluster::Cluster;
use crate::cluster::catalog::Catalogs;
use crate::config::model::{Config, Destination, ServerAddress, User};
use crate::config::secret::Secret;
use crate::net::buffer::Stash;
use crate::net::tls::{Acceptor, Connector};
use crate::net::worker::{self, Workers};
use crate::notify::hub::Hubs;
use crate::pool::key::PoolKey;
use crate::pool::{Pool, Pools};
use crate::protocol::error::Report;
use crate::protocol::startup::NEWEST_MINOR;
use crate::server::connect::Login;
use crate::session::parameters::Parameters;
use crate::session::registry::Registry;
use crate::session::settings::Settings;
use crate::sql::classify::Classifier;
use crate::telemetry::counters::{Counter, Sharded};
use crate::types::{ClusterName, DatabaseName, NodeName, UserName};

/// A cluster with what it takes to reach its nodes.
#[derive(Debug)]
pub struct Served {
    /// Its roles and positions.
    pub cluster: Arc<Cluster>,
    /// TLS towards its servers.
    pub connector: Arc<Connector>,
    /// Its nodes, in the order of the view's.
    pub nodes: Vec<(NodeName, ServerAddress)>,
    /// What its databases contain.
    pub catalogs: Arc<Catalogs>,
    /// Where its users are looked up.
    pub lookup: Lookup,
    /// Who listens in its databases.
    pub hubs: Arc<Hubs>,
    /// How long statements wait for a primary.
    pub hold: Duration,
    /// Reads that waited for a replica to catch up.
    pub waits: Counter,
    /// Reads that waited in vain.
    pub timeouts: Counter,
}

/// What the configuration decides; replaced as a whole.
#[derive(Debug)]
pub struct Current {
    /// The configuration itself.
    pub config: Config,
    /// Who may log in, and what proves it.
    pub users: auth::Users,
    /// TLS towards clients.
    pub tls: Option<Acceptor>,
    /// The clusters.
    pub clusters: HashMap<ClusterName, Arc<Served>>,
    /// Where clients are led, so that those with the same destination share it.
    pub destinations: Destinations,
}

/// Destinations by user and database, as clients call them; one that nobody has any more is forgotten in time.
#[derive(Debug, Default)]
pub struct Destinations(Mutex<HashMap<(UserName, DatabaseName), Arc<Destination>>>);

/// With more destinations than this, a new one has those forgotten that nobody has.
const DESTINATIONS: usize = 1024;

/// `server_version_num` of the first PostgreSQL that speaks protocol 3.2.
const SPEAKS_3_2: u32 = 180_000;

impl Current {
    /// The newest minor version of protocol 3 that every server speaks: what clients are offered.
    pub fn max_minor(&self) -> u16 {
        let speaks = |version: u32| version >= SPEAKS_3_2;
        let all =
            self.clusters.values().all(|served| served.cluster.view().nodes.iter().all(|node| speaks(node.version)));
        if all { NEWEST_MINOR } else { 0 }
    }

    /// Where `user` is led who asks for `database`; `None` when there is no such database for it.
    pub fn destination_of(&self, user: &User, database: &DatabaseName) -> Option<Arc<Destination>> {
        let destination = self.config.destination_of(user, database.as_str())?;
        let mut known = self.destinations.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (user.name.clone(), database.clone());
        if let Some(same) = known.get(&key).filter(|known| ***known == destination) {
            return Some(Arc::clone(same));
        }
        if known.len() >= DESTINATIONS {
            known.retain(|_, destination| Arc::strong_count(destination) > 1);
        }
        let destination = Arc::new(destination);
        known.insert(key, Arc::clone(&destination));
        Some(destination)
    }
}

/// How far the shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No shutdown.
    Running,
    /// Nobody new is let in; those who are here stay for as long as they like.
    Closed,
    /// Clients are let go as soon as they are outside a transaction.
    Draining,
}

/// What a new client is told, by pool and startup settings.
type Greetings = LruCache<(PoolKey, Arc<Settings>), (Instant, Arc<Parameters>)>;

/// How long a greeting may be used: a server's own settings change now and then.
const GREETING_LIFE: Duration = Duration::from_secs(30);

/// What every client needs.
#[derive(Debug)]
pub struct Services {
    /// What the configuration decides.
    pub current: ArcSwap<Current>,
    /// Buffers.
    pub stash: Arc<Stash>,
    /// Prepared statements.
    pub registry: Arc<Registry>,
    /// Cancel keys.
    pub cancels: Arc<cancel::Registry>,
    /// What statement texts do.
    pub classifier: Arc<Classifier>,
    /// Server connections.
    pub pools: Arc<Pools>,
    /// Connected clients.
    pub directory: Arc<Directory>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// How far the shutdown is.
    pub phase: watch::Receiver<Phase>,
    greetings: Mutex<Greetings>,
    /// What users proved themselves with when they last did, for the servers.
    proofs: Mutex<HashMap<UserName, Secret>>,
    /// Where clients live.
    pub workers: Arc<Workers>,
    /// Each thread's.
    draws: Sharded<Draws>,
}

#[derive(Debug)]
struct Draws(AtomicU64);

impl Default for Draws {
    fn default() -> Self {
        Self(AtomicU64::new(rand::random()))
    }
}

/// Greetings that are kept.
const GREETINGS: std::num::NonZeroUsize = match std::num::NonZeroUsize::new(256) {
    Some(bound) => bound,
    None => std::num::NonZeroUsize::MIN,
};

/// Idle buffers that each worker keeps: 16 MiB of them at most.
const BUFFERS: usize = 1024;

impl Services {
    /// Services for `current`, and for clients on `workers`.
    pub fn new(current: Current, phase: watch::Receiver<Phase>, workers: Arc<Workers>) -> Self {
        let sides = workers.sides();
        let stash = Arc::new(Stash::new(BUFFERS, sides));
        Self {
            current: ArcSwap::from_pointee(current),
            pools: Arc::new(Pools::new(Arc::clone(&stash), sides)),
            stash,
            registry: Arc::default(),
            cancels: Arc::default(),
            classifier: Arc::default(),
            directory: Arc::default(),
            counters: Arc::new(Counters::new(sides)),
            phase,
            greetings: Mutex::new(LruCache::new(GREETINGS)),
            proofs: Mutex::default(),
            draws: Sharded::new(sides),
            workers,
        }
    }

    /// Whether nobody new is let in.
    pub fn is_closed(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Whether clients are being let go.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// The greeting for clients of `pool` with these startup settings, if it is known and recent; `settings`
    /// become those that others with the same have.
    pub fn greeting(&self, pool: &PoolKey, settings: &mut Arc<Settings>, now: Instant) -> Option<Arc<Parameters>> {
        let mut greetings = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        let ((_, shared), (made, parameters)) = greetings.get_key_value(&(pool.clone(), Arc::clone(settings)))?;
        *settings = Arc::clone(shared);
        (now.duration_since(*made) < GREETING_LIFE).then(|| Arc::clone(parameters))
    }

    /// Remembers a greeting.
    pub fn learn_greeting(&self, pool: PoolKey, settings: Arc<Settings>, parameters: Arc<Parameters>, now: Instant) {
        let mut greetings = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        greetings.put((pool, settings), (now, parameters));
    }

    /// What new sessions begin with has changed in `cluster`, or has arrived at one of its nodes: servers that
    /// began otherwise are lent no more.
    pub fn defaults_changed(&self, cluster: &ClusterName, node: Option<&NodeName>) {
        self.pools.renew(|key| key.cluster == *cluster && node.is_none_or(|node| key.node == *node));
        self.greetings.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// `user` has logged in and shown `proof`, by which servers let it in, too.
    pub fn proved(&self, user: &UserName, proof: &Secret) {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        if proofs.get(user) != Some(proof) {
            proofs.insert(user.clone(), proof.clone());
        }
    }

    /// What `user` showed when it last logged in. The same for all its clients: they share pools.
    fn proof(&self, user: &UserName) -> Option<Secret> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner).get(user).cloned()
    }

    /// A number to draw lots with: nothing depends on its being unpredictable.
    pub fn draw(&self) -> u64 {
        // splitmix64 (Steele, Lea, Flood, 2014).
        let mut z = self.draws.of(worker::here()).0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Served {
    /// The index of the primary, for which it waits for a while when there is none. An error says that there is none.
    pub(super) async fn primary(&self, destination: &Destination) -> Result<usize, Report> {
        let hold = Instant::now() + self.hold;
        loop {
            if let Some(node) = self.cluster.view().primary {
                return Ok(node);
            }
            if self.cluster.hold(hold).await.is_err() {
                return Err(answer::no_primary(destination.cluster.as_str()));
            }
        }
    }

    /// The pool of `destination` on the node with index `node`.
    pub fn pool(&self, services: &Services, destination: &Destination, node: usize) -> Option<Arc<Pool>> {
        let (name, _) = self.nodes.get(node)?;
        let key = PoolKey {
            cluster: destination.cluster.clone(),
            node: name.clone(),
            database: destination.server_database.clone(),
            user: destination.server_user.clone(),
        };
        let login = self.login(services, destination, node)?;
        Some(services.pools.get(&key, &destination.pool, login))
    }

    /// How servers of `destination` log in to the node with index `node`.
    pub(super) fn login(&self, services: &Services, destination: &Destination, node: usize) -> Option<Login> {
        let (_, address) = self.nodes.get(node)?;
        Some(Login {
            address: address.clone(),
            connector: Arc::clone(&self.connector),
            user: destination.server_user.clone(),
            password: destination.server_password.clone().or_else(|| services.proof(&destination.server_user)),
            database: destination.server_database.clone(),
            // Reported to clients that give none of their own, and what RESET goes back to: as on a server of their own.
            application_name: String::new(),
            options: Vec::new(),
            timeout: destination.pool.connect_timeout,
        })
    }
}
