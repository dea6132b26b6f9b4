//! The configuration: read once, checked whole, handed to each room as that room's own values.
//!
//! No room asks for "the configuration"; `app` passes each its part and, after a reload, the change.

mod address;
mod agree;
pub mod diff;
pub mod fault;
mod file;
pub mod hba;
pub mod model;
pub mod pins;
mod resolve;
pub mod secret;
mod units;

use std::collections::BTreeSet;
use std::env;
use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use diff::{Change, diff};
pub use fault::{Fault, Faults};

use model::{Config, Database, Destination, PoolOverrides, PoolSettings, Routing, RoutingOverrides, User};
use secret::{Form, Secret};

/// Reads the configuration in the file `path`; relative paths in it start from its directory.
pub fn load(path: &Path) -> Result<Config, Faults> {
    let unreadable = |reason: String| {
        let right = "give the path of a readable YAML file";
        Fault::new(path.display().to_string(), format!("cannot be read ({reason})"), right)
    };
    let text = read_bounded(path).map_err(unreadable)?;
    parse(&text, path.parent().unwrap_or(path))
}

/// The text in a file that is no longer than any meant for us; else why it cannot be had.
fn read_bounded(path: &Path) -> Result<String, String> {
    /// No configuration is this long; what is was given by mistake.
    const LONGEST: u64 = 16 * 1024 * 1024;
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if read as u64 > LONGEST { Err("larger than 16 MiB".to_owned()) } else { Ok(text) }
}

/// Reads the configuration in `text`; relative paths in it start from `base_dir`, and `${VAR}` is taken
/// from the process's environment.
pub fn parse(text: &str, base_dir: &Path) -> Result<Config, Faults> {
    parse_in(text, base_dir, &|name| env::var(name).ok())
}

fn parse_in(text: &str, base_dir: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let tree = file::parse(text)?;
    let mut reader = file::Reader::new(environment, base_dir);
    let config = resolve::resolve(&tree, &mut reader);
    let mut faults = reader.faults;
    // A key that could not be read looks absent; to call it missing as well would mislead.
    let read: BTreeSet<String> = faults.iter().map(|fault| fault.path.clone()).collect();
    faults.extend(agree::check(&config).into_iter().filter(|fault| !read.contains(&fault.path)));
    Faults::or(faults, config)
}

/// Every key that the reader understands, as `clusters.*.nodes[].address`: `[]` stands for any entry of
/// a list, `*` for any name.
pub fn known_keys() -> BTreeSet<String> {
    // One entry of everything, so that everything in it is asked for; its faults do not matter.
    const ONE_OF_EACH: &str = "{listen: [{}], users: [{}], clusters: {any: {nodes: [{}]}}, databases: [{}]}";
    let Ok(tree) = file::parse(ONE_OF_EACH) else { return BTreeSet::new() };
    let mut reader = file::Reader::new(&|_| None, Path::new(""));
    resolve::resolve(&tree, &mut reader);
    reader.asked
}

impl Config {
    /// What is allowed and yet seldom meant, one sentence each, beginning with the key.
    pub fn warnings(&self) -> Vec<String> {
        agree::warnings(self)
    }

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
        self.destination_of(self.user(user)?, database)
    }

    /// The same for a user that need not be in `users`.
    pub fn destination_of(&self, user: &User, database: &str) -> Option<Destination> {
        let entry = self.database(database)?;
        let mut pool = self.pool.clone();
        pool.apply(&entry.pool);
        pool.apply(&user.pool);
        let mut routing = self.routing.clone();
        routing.apply(&entry.routing);
        routing.apply(&user.routing);
        let mut pins = self.pins.clone();
        pins.apply(&entry.pins);
        pins.apply(&user.pins);
        Some(Destination {
            cluster: entry.cluster.clone(),
            server_database: entry.server_database.clone().unwrap_or_else(|| database.into()),
            server_user: user.server_user.clone().unwrap_or_else(|| user.name.clone()),
            server_password: user.server_password.clone().or_else(|| usable(user.password.as_ref()?)),
            pool,
            routing,
            pins: pins.into(),
        })
    }
}

/// A verifier proves that somebody else knows the password; with it nobody can log in.
fn usable(password: &Secret) -> Option<Secret> {
    match password.form() {
        Form::Clear | Form::Md5 => Some(password.clone()),
        Form::Scram => None,
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
        self.scope = over.scope.unwrap_or(self.scope);
        self.tables = over.tables.unwrap_or(self.tables);
        self.wait = over.wait.unwrap_or(self.wait);
        self.max_lag = over.max_lag.unwrap_or(self.max_lag);
    }
}

#[cfg(test)]
mod tests;
