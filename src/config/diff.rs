//! What differs between two configurations, and whether a running Howdah can take it up.
//!
//! Compares values, not files: a certificate or password file whose content changed under the same
//! name is seen through the password it holds, or (certificates) not at all; `app` reads certificates
//! anew at every reload.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use super::model::Config;
use crate::types::{ClusterName, DatabaseName, UserName};

/// One part of the configuration that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An entry of `users`.
    User(UserName, Edit),
    /// An entry of `databases`.
    Database(DatabaseName, Edit),
    /// An entry of `clusters`.
    Cluster(ClusterName, Edit),
    /// `pool`, for those that do not override it.
    Pool,
    /// `pins`, for those that do not override it.
    Pins,
    /// `routing`, for those that do not override it.
    Routing,
    /// `auth`, for clients that log in from now on.
    Auth,
    /// `tls`, for clients that connect from now on.
    Tls,
    /// `admin`.
    Admin,
    /// `limits`.
    Limits,
    /// `log`.
    Log,
    /// `workers`.
    Workers,
    /// `shutdown_timeout`.
    ShutdownTimeout,
    /// `listen`.
    Listen,
    /// `metrics`.
    Metrics,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has other values.
    Altered,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// With the reload.
    Effect,
    /// Only a restart: sockets are opened once.
    Restart,
}

/// Everything that differs, in the order of the file's sections.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    entries(&old.users, &new.users, |user| &user.name, Change::User, &mut changes);
    entries(&old.clusters, &new.clusters, |cluster| &cluster.name, Change::Cluster, &mut changes);
    entries(&old.databases, &new.databases, |database| &database.name, Change::Database, &mut changes);
    let sections = [
        (old.listen != new.listen, Change::Listen),
        (old.tls != new.tls, Change::Tls),
        ((&old.auth, &old.auth_query) != (&new.auth, &new.auth_query), Change::Auth),
        (old.pool != new.pool, Change::Pool),
        (old.pins != new.pins, Change::Pins),
        (old.routing != new.routing, Change::Routing),
        (old.admin != new.admin, Change::Admin),
        (old.metrics != new.metrics, Change::Metrics),
        (old.limits != new.limits, Change::Limits),
        (old.log != new.log, Change::Log),
        (old.workers != new.workers, Change::Workers),
        (old.shutdown_timeout != new.shutdown_timeout, Change::ShutdownTimeout),
    ];
    changes.extend(sections.into_iter().filter(|(differs, _)| *differs).map(|(_, change)| change));
    changes
}

/// Compares two lists by name; their order means nothing.
fn entries<T: PartialEq, N: Eq + Hash + Clone>(
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &N,
    change: impl Fn(N, Edit) -> Change,
    changes: &mut Vec<Change>,
) {
    let mut added: HashMap<&N, &T> = new.iter().map(|entry| (name(entry), entry)).collect();
    for before in old {
        match added.remove(name(before)) {
            None => changes.push(change(name(before).clone(), Edit::Removed)),
            Some(after) if after != before => changes.push(change(name(before).clone(), Edit::Altered)),
            Some(_) => {}
        }
    }
    let added = new.iter().map(name).filter(|name| added.contains_key(name));
    changes.extend(added.map(|name| change(name.clone(), Edit::Added)));
}

impl Change {
    /// Whether a reload is enough.
    pub fn takes(&self) -> Takes {
        match self {
            Self::Listen | Self::Metrics => Takes::Restart,
            Self::User(..)
            | Self::Database(..)
            | Self::Cluster(..)
            | Self::Pool
            | Self::Pins
            | Self::Routing
            | Self::Auth
            | Self::Tls
            | Self::Admin
            | Self::Limits
            | Self::Log
            | Self::Workers
            | Self::ShutdownTimeout => Takes::Effect,
        }
    }
}

/// As a log line names it: `user app added`, `pool altered`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section = match self {
            Self::User(name, edit) => return write!(f, "user {name} {edit}"),
            Self::Database(name, edit) => return write!(f, "database {name} {edit}"),
            Self::Cluster(name, edit) => return write!(f, "cluster {name} {edit}"),
            Self::Pool => "pool",
            Self::Pins => "pins",
            Self::Routing => "routing",
            Self::Auth => "auth",
            Self::Tls => "tls",
            Self::Admin => "admin",
            Self::Limits => "limits",
            Self::Log => "log",
            Self::Workers => "workers",
            Self::ShutdownTimeout => "shutdown_timeout",
            Self::Listen => "listen",
            Self::Metrics => "metrics",
        };
        write!(f, "{section} altered")
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Altered => "altered",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BEFORE: &str = "
users: [{name: app, password: x}, {name: old, password: x}]
clusters:
  main: {nodes: [{name: a, address: h}], monitor: {user: m}}
databases: [{name: '*', cluster: main}]
";

    /// What changes when `old` is replaced in `BEFORE` and `more` is added to it.
    fn changes(old: &str, new: &str, more: &str) -> Vec<String> {
        assert!(BEFORE.contains(old), "{old}");
        let parse = |text: &str| super::super::parse(text, Path::new("")).unwrap_or_else(|faults| panic!("{faults}"));
        let after = BEFORE.replace(old, new) + more;
        let found = diff(&parse(BEFORE), &parse(&after));
        found.iter().map(|change| format!("{change} ({:?})", change.takes())).collect()
    }

    #[test]
    fn entries_are_compared_by_name() {
        let check = |old: &str, new: &str, expected: &[&str]| assert_eq!(changes(old, new, ""), expected, "{new}");
        check("", "", &[]);
        check(
            "{name: app, password: x}, {name: old, password: x}",
            "{name: old, password: x}, {name: app, password: x}",
            &[],
        );
        check("{name: app, password: x}", "{name: app, password: y}", &["user app altered (Effect)"]);
        check("name: old", "name: new", &["user old removed (Effect)", "user new added (Effect)"]);
        check("address: h", "address: i", &["cluster main altered (Effect)"]);
        check(
            "cluster: main}",
            "cluster: main, pool: {size: 3}}, {name: shop, cluster: main}",
            &["database * altered (Effect)", "database shop added (Effect)"],
        );
    }

    #[test]
    fn sections_are_compared_as_a_whole() {
        let check = |more: &str, expected: &[&str]| assert_eq!(changes("", "", more), expected, "{more}");
        check("pool: {size: 20}", &[]);
        check("pool: {size: 21}", &["pool altered (Effect)"]);
        check("pins: {load: reject}", &["pins altered (Effect)"]);
        check("routing: {wait: 1s}", &["routing altered (Effect)"]);
        check("auth: {method: trust}", &["auth altered (Effect)"]);
        check("tls: {mode: prefer}", &["tls altered (Effect)"]);
        check("admin: {users: [app]}", &["admin altered (Effect)"]);
        check("limits: {max_clients: 5}", &["limits altered (Effect)"]);
        check("log: {level: debug}", &["log altered (Effect)"]);
        check("workers: 3", &["workers altered (Effect)"]);
        check("shutdown_timeout: 1s", &["shutdown_timeout altered (Effect)"]);
        check("metrics: {address: 127.0.0.1:9930}", &["metrics altered (Restart)"]);
        check("listen: [{address: 127.0.0.1:6432}]", &["listen altered (Restart)"]);
    }
}
