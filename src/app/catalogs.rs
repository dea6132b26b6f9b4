//! Loading what databases contain, from the primary of their cluster.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::services::Services;
use crate::cluster::Cluster;
use crate::cluster::catalog::{Catalogs, Contents};
use crate::protocol::sqlstate::SqlState;
use crate::server::connect::{ConnectError, Login, connect};
use crate::server::query::{Direct, QueryError, Rows};
use crate::sql::catalog::{self, Catalog};
use crate::sql::hidden::{self, Hidden};
use crate::types::{DatabaseName, Lsn};

/// How often everything is loaded anew though no DDL was seen: others may have changed the catalog.
const PERIOD: Duration = Duration::from_secs(60);

/// How long after a failure the next try comes.
const RETRY: Duration = Duration::from_secs(1);

/// How often a load is tried at once: what is dropped while it is described makes the query fail.
const TRIES: u32 = 3;

/// How long one load may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// For how long a replica that lags is watched, until it has what new sessions begin with.
const FOLLOW: Duration = Duration::from_secs(600);

/// Loaders that are yet to be started.
#[derive(Default)]
pub(super) struct Loaders(Vec<Loader>);

struct Loader {
    cluster: Arc<Cluster>,
    catalogs: Arc<Catalogs>,
    wanted: mpsc::Receiver<Arc<Contents>>,
    /// How to log in to each node, by index.
    logins: Vec<Login>,
    version: u64,
    /// What new sessions of each database begin with, as a hash.
    defaults: HashMap<DatabaseName, String>,
    /// What functions hide in each database, and the version of their code: that is much, and seldom changes.
    hidden: HashMap<DatabaseName, (String, Arc<Hidden>)>,
    /// Those who wait for replicas.
    followers: JoinSet<()>,
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("there is no primary")]
    NoPrimary,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Query(#[from] QueryError),
    /// All is loaded but these.
    #[error("definitions of views and policies could not be read: somebody has locked what they are about")]
    Locked,
}

impl LoadError {
    /// Logs it; what waits for a lock is nothing unusual.
    fn tell(&self, contents: &Contents) {
        if !matches!(self, Self::Locked) {
            tracing::warn!(database = %contents.database(), error = %self, "catalog not loaded: its reads go to the primary");
        }
    }
}

impl Loaders {
    pub(super) fn add(
        &mut self,
        cluster: Arc<Cluster>,
        catalogs: Arc<Catalogs>,
        wanted: mpsc::Receiver<Arc<Contents>>,
        logins: Vec<Login>,
    ) {
        self.0.push(Loader {
            cluster,
            catalogs,
            wanted,
            logins,
            version: 0,
            defaults: HashMap::new(),
            hidden: HashMap::new(),
            followers: JoinSet::new(),
        });
    }

    pub(super) fn spawn(self, services: &Arc<Services>, tasks: &mut JoinSet<()>) {
        for loader in self.0 {
            tasks.spawn(loader.run(Arc::clone(services)));
        }
    }
}

impl Loader {
    /// Loads what is asked for, one database after the other; ends when the cluster is not served any more.
    async fn run(mut self, services: Arc<Services>) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failed: Vec<Arc<Contents>> = Vec::new();
        let mut retry = Instant::now();
        loop {
            let due = tokio::select! {
                wanted = self.wanted.recv() => match wanted {
                    Some(contents) => self.gathered(contents),
                    None => return,
                },
                _ = period.tick() => self.catalogs.all(),
                () = sleep_until(retry), if !failed.is_empty() => std::mem::take(&mut failed),
            };
            for contents in due {
                failed.retain(|other| !Arc::ptr_eq(other, &contents));
                if let Err(error) = self.serve(&contents, &services).await {
                    error.tell(&contents);
                    failed.push(contents);
                    retry = Instant::now() + RETRY;
                }
            }
        }
    }

    /// `contents` and all else that is asked for by now, each once.
    fn gathered(&mut self, contents: Arc<Contents>) -> Vec<Arc<Contents>> {
        let mut due = vec![contents];
        while let Ok(more) = self.wanted.try_recv() {
            if !due.iter().any(|other| Arc::ptr_eq(other, &more)) {
                due.push(more);
            }
        }
        due
    }

    async fn serve(&mut self, contents: &Contents, services: &Arc<Services>) -> Result<(), LoadError> {
        let mut tries = 1;
        loop {
            let moment = contents.moment();
            match self.load(contents, services).await {
                Ok((catalog, rest)) => {
                    contents.set(catalog, moment);
                    return rest;
                }
                Err(LoadError::Query(QueryError::Server(_))) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The catalog, and what is wrong with it.
    async fn load(
        &mut self,
        contents: &Contents,
        services: &Arc<Services>,
    ) -> Result<(Catalog, Result<(), LoadError>), LoadError> {
        let primary = self.cluster.view().primary.ok_or(LoadError::NoPrimary)?;
        let mut login = self.logins.get(primary).cloned().ok_or(LoadError::NoPrimary)?;
        login.database = contents.database().clone();
        "howdah catalog".clone_into(&mut login.application_name);
        let mut connection = Direct::new(connect(&login).await?);
        connection.query(catalog::PATIENCE, TIMEOUT).await?;
        let version = connection.query(hidden::VERSION, TIMEOUT).await?.concat().into_iter().flatten().collect();
        let mut rest = Ok(());
        let mut answers = Vec::new();
        for (index, query) in catalog::QUERIES.iter().enumerate() {
            answers.push(if index == catalog::RELATIONS {
                unlocked(&mut connection, [query, catalog::UNDEFINED], &mut rest).await?
            } else {
                connection.query(query, TIMEOUT).await?
            });
        }
        if let [Some(hash), Some(end)] = connection.query(catalog::DEFAULTS, TIMEOUT).await?.concat().as_slice() {
            let before = self.defaults.insert(contents.database().clone(), hash.clone());
            if before.is_some_and(|before| before != *hash) {
                self.renew(services, end.parse().ok());
            }
        }
        let definitions = catalog::definitions(&answers[catalog::RELATIONS]);
        let (mark, hidden) = self.hidden(contents, &mut connection, (version, &definitions), &mut rest).await?;
        self.version += 1;
        Ok((catalog::build(&answers, (hidden, &mark), self.version), rest))
    }

    async fn hidden(
        &mut self,
        contents: &Contents,
        connection: &mut Direct,
        (version, definitions): (String, &[[String; 2]]),
        rest: &mut Result<(), LoadError>,
    ) -> Result<(String, Arc<Hidden>), LoadError> {
        if let Some(known) = self.hidden.get(contents.database()).filter(|(known, _)| *known == version) {
            return Ok(known.clone());
        }
        let functions = unlocked(connection, [hidden::QUERIES[hidden::FUNCTIONS], hidden::STRINGS], rest).await?;
        let triggers = pairs(connection.query(hidden::QUERIES[1], TIMEOUT).await?);
        let found = Arc::new(Hidden::new(&pairs(functions), &triggers, definitions));
        if rest.is_err() {
            // Not all of it: it is asked for again.
            return Ok((format!("{version} {}", self.version), found));
        }
        self.hidden.insert(contents.database().clone(), (version.clone(), Arc::clone(&found)));
        Ok((version, found))
    }

    /// Servers that began with other settings than new ones would are lent no more: on a replica, those that began before
    /// it had replayed up to `end`.
    fn renew(&mut self, services: &Arc<Services>, end: Option<Lsn>) {
        let cluster = Arc::clone(&self.cluster);
        tracing::info!(cluster = %cluster.view().cluster, "settings of roles or databases have changed: servers are renewed");
        services.defaults_changed(&cluster.view().cluster, None);
        let Some(end) = end else { return };
        while self.followers.try_join_next().is_some() {}
        let services = Arc::clone(services);
        self.followers.spawn(async move { follow(&services, &cluster, end).await });
    }
}

/// The answer to the first query, or to the second if the first has to wait for somebody's lock.
async fn unlocked(
    connection: &mut Direct,
    [query, otherwise]: [&str; 2],
    rest: &mut Result<(), LoadError>,
) -> Result<Rows, LoadError> {
    match connection.query(query, TIMEOUT).await {
        Err(QueryError::Server(error)) if error.code == SqlState::LOCK_NOT_AVAILABLE => {
            *rest = Err(LoadError::Locked);
            Ok(connection.query(otherwise, TIMEOUT).await?)
        }
        answer => Ok(answer?),
    }
}

/// Rows of two values.
fn pairs(rows: Rows) -> Vec<[String; 2]> {
    let pair = |row: Vec<Option<String>>| <[Option<String>; 2]>::try_from(row).ok();
    rows.into_iter().filter_map(pair).filter_map(|[one, other]| Some([one?, other?])).collect()
}

/// Renews the servers of each replica as soon as it has replayed up to `end`.
async fn follow(services: &Services, cluster: &Cluster, end: Lsn) {
    let deadline = Instant::now() + FOLLOW;
    let mut behind: Vec<usize> = (0..cluster.view().nodes.len()).collect();
    loop {
        let view = cluster.snapshot();
        behind.retain(|&index| {
            let Some(node) = view.nodes.get(index).filter(|_| view.primary != Some(index)) else { return false };
            let arrived = node.replay.is_some_and(|replay| replay.lsn >= end);
            if arrived {
                services.defaults_changed(&view.cluster, Some(&node.name));
            }
            !arrived
        });
        if behind.is_empty() || Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}
