//! From a configuration to what it describes; what has not changed is taken over.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::catalogs::Loaders;
use crate::auth;
use crate::client::lookup::Lookup;
use crate::client::services::{Current, Destinations, Served, Services};
use crate::cluster::Cluster;
use crate::cluster::catalog::Catalogs;
use crate::config::model::{self, Config};
use crate::net::tls::{self, TlsError};
use crate::notify::hub::Hubs;
use crate::notify::listener::{Listeners, Source};
use crate::server::connect::Login;
use crate::telemetry::counters::Counter;
use crate::types::ClusterName;

/// Why a configuration cannot be put to work.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A certificate, key or authority for clients is not what it should be.
    #[error(transparent)]
    Clients(#[from] TlsError),
    /// The same for the servers of a cluster.
    #[error("clusters.{cluster}: {error}")]
    Servers {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        error: TlsError,
    },
}

/// What is to be started, or told, once nothing can go wrong any more.
#[derive(Default)]
pub(super) struct Begun {
    loaders: Loaders,
    listeners: Vec<Listeners>,
    changed: Vec<(Arc<Hubs>, Source)>,
}

impl Begun {
    pub(super) fn spawn(self, services: &Arc<Services>, tasks: &mut JoinSet<()>) {
        self.loaders.spawn(services, tasks);
        for listeners in self.listeners {
            tasks.spawn(listeners.run());
        }
        for (hubs, source) in self.changed {
            hubs.follow(source);
        }
    }

    /// Who listens in the databases of `cluster`: those who did before, if it was there before.
    fn hubs(&mut self, cluster: &ClusterName, before: Option<&Current>, source: Source) -> Arc<Hubs> {
        if let Some(served) = before.and_then(|before| before.clusters.get(cluster)) {
            self.changed.push((Arc::clone(&served.hubs), source));
            return Arc::clone(&served.hubs);
        }
        let (hubs, listeners) = Hubs::new(source);
        self.listeners.push(listeners);
        hubs
    }
}

/// What `config` describes. Clusters whose description is the same as in `before` go on.
pub(super) fn current(
    config: Config,
    before: Option<&Current>,
    tasks: &mut JoinSet<()>,
) -> Result<(Current, Begun), BuildError> {
    let tls = tls::acceptor(&config.tls)?;
    let users = match before {
        Some(before) => before.users.reload(&config.users),
        None => auth::Users::new(&config.users, rand::random()),
    };
    let mut clusters = HashMap::new();
    let mut begun = Begun::default();
    for cluster in &config.clusters {
        let known = before.and_then(|before| {
            let same = before.config.clusters.iter().any(|other| other == cluster);
            before.clusters.get(&cluster.name).filter(|_| same)
        });
        let served = match known {
            Some(served) => Arc::clone(served),
            None => Arc::new(serve(cluster, before, tasks, &mut begun)?),
        };
        clusters.insert(cluster.name.clone(), served);
    }
    Ok((Current { config, users, tls, clusters, destinations: Destinations::default() }, begun))
}

fn serve(
    cluster: &model::Cluster,
    before: Option<&Current>,
    tasks: &mut JoinSet<()>,
    begun: &mut Begun,
) -> Result<Served, BuildError> {
    let connector = tls::connector(&cluster.tls);
    let connector = connector.map_err(|error| BuildError::Servers { cluster: cluster.name.clone(), error })?;
    let connector = Arc::new(connector);
    let login = |node: &model::Node| Login {
        address: node.address.clone(),
        connector: Arc::clone(&connector),
        user: cluster.monitor.user.clone(),
        password: cluster.monitor.password.clone(),
        database: cluster.monitor.database.clone(),
        application_name: "howdah monitor".to_owned(),
        options: Vec::new(),
        timeout: cluster.monitor.timeout,
    };
    let watched = Cluster::start(cluster, login, tasks);
    let (catalogs, wanted) = Catalogs::new();
    let catalogs = Arc::new(catalogs);
    let logins: Vec<Login> = cluster.nodes.iter().map(login).collect();
    let mut lookups = logins.clone();
    for login in &mut lookups {
        "howdah lookup".clone_into(&mut login.application_name);
    }
    let named = cluster.nodes.iter().map(|node| node.name.clone()).zip(logins.iter().cloned());
    let source = Source { cluster: Arc::clone(&watched), logins: named.collect() };
    let hubs = begun.hubs(&cluster.name, before, source);
    begun.loaders.add(Arc::clone(&watched), Arc::clone(&catalogs), wanted, logins);
    Ok(Served {
        cluster: watched,
        connector: Arc::clone(&connector),
        nodes: cluster.nodes.iter().map(|node| (node.name.clone(), node.address.clone())).collect(),
        catalogs,
        lookup: Lookup::new(lookups),
        hubs,
        hold: cluster.hold,
        waits: Counter::default(),
        timeouts: Counter::default(),
    })
}
