//! The configuration: read once, checked whole, handed to each room as that room's own values.
//!
//! No room asks for "the configuration"; `app` passes each its part and, after a reload, the change.

pub mod model;
pub mod secret;

use model::{Config, Database, Destination, PoolOverrides, PoolSettings, Routing, RoutingOverrides, User};

impl Config {
    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name.as_str() == name)
    }

    /// The database entry that `name` falls under: its own, or `*`.
    pub fn database(&self, name: &str) -> Option<&Database> {
        let named = |wanted: &str| {
            let wanted = wanted.to_owned();
            self.databases.iter().find(move |entry| entry.name.as_str() == wanted)
        };
        named(name).or_else(|| named("*"))
    }

    /// Where a client that logs in as `user` to `database` is served; `None` when either is unknown.
    pub fn destination(&self, user: &str, database: &str) -> Option<Destination> {
        let user = self.user(user)?;
        let entry = self.database(database)?;
        let mut pool = self.pool.clone();
        pool.apply(&entry.pool);
        pool.apply(&user.pool);
        let mut routing = self.routing.clone();
        routing.apply(&entry.routing);
        routing.apply(&user.routing);
        Some(Destination {
            cluster: entry.cluster.clone(),
            server_database: entry.server_database.clone().unwrap_or_else(|| database.into()),
            server_user: user.server_user.clone().unwrap_or_else(|| user.name.clone()),
            server_password: user.server_password.clone().or_else(|| user.password.clone()),
            pool,
            routing,
        })
    }
}

impl PoolSettings {
    fn apply(&mut self, over: &PoolOverrides) {
        self.mode = over.mode.unwrap_or(self.mode);
        self.size = over.size.unwrap_or(self.size);
        self.min_idle = over.min_idle.unwrap_or(self.min_idle);
        self.wait_timeout = over.wait_timeout.unwrap_or(self.wait_timeout);
    }
}

impl Routing {
    /// Replaces what `over` sets.
    pub fn apply(&mut self, over: &RoutingOverrides) {
        self.reads = over.reads.unwrap_or(self.reads);
        self.consistency = over.consistency.unwrap_or(self.consistency);
        self.wait = over.wait.unwrap_or(self.wait);
        self.max_lag = over.max_lag.unwrap_or(self.max_lag);
    }
}
