//! Where statements ran, as the nodes tell it.
//!
//! `pg_stat_statements` counts every finished statement at once, on standbys too, with its text;
//! `pg_stat_database` counts transactions, a second or so later. Neither asks Howdah. Statements
//! are found by a pattern of `LIKE` on their text, in which PostgreSQL has replaced constants by
//! `$1`, `$2`, …; comments and aliases remain, so tests mark what they look for by an alias.
//!
//! One trap: statements that differ in constants, aliases and comments alone are one entry, under
//! the text of the first. Counting starts afresh with every check; within a check, marked
//! statements must differ in shape, or `forget_calls` must stand between them.

use std::fmt;
use std::time::Duration;

use crate::cluster::TestCluster;
use crate::node::Node;
use crate::session::{Login, eventually, rows};

/// How often statements of one pattern finished, by node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// On the first primary.
    pub primary: u64,
    /// On each node that started as a replica.
    pub replicas: Vec<u64>,
}

impl Calls {
    /// On both replicas together.
    pub fn on_replicas(&self) -> u64 {
        self.replicas.iter().sum()
    }

    /// On all nodes.
    pub fn total(&self) -> u64 {
        self.primary + self.on_replicas()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "primary {}, replicas {:?}", self.primary, self.replicas)
    }
}

/// One database's line of `pg_stat_database`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Transactions committed.
    pub commits: u64,
    /// Transactions rolled back.
    pub rollbacks: u64,
    /// Rows inserted, updated and deleted.
    pub rows_written: u64,
    /// Queries cancelled because of conflicts with recovery.
    pub conflicts: u64,
}

impl TestCluster {
    /// Forgets the statements counted so far on all running nodes.
    pub async fn forget_calls(&self) {
        for node in self.nodes().iter().filter(|node| node.is_running()) {
            node.query("SELECT pg_stat_statements_reset()").await;
        }
    }

    /// Where statements of the application's database whose text is `LIKE pattern` finished.
    pub async fn calls(&self, pattern: &str) -> Calls {
        let mut counts = Vec::new();
        for node in self.nodes() {
            counts.push(if node.is_running() { node.calls(pattern).await } else { 0 });
        }
        Calls { primary: counts[0], replicas: counts.split_off(1) }
    }

    /// Waits until reads of `table` by `login` reach replicas.
    pub async fn reads_through(&self, login: &Login, table: &str) {
        let client = login.connect().await.expect("the application may log in");
        // A shape that no check marks.
        let sql = format!("SELECT 0 * count(*) FROM {table} AS settled");
        let settled = format!("%{table} AS settled%");
        // Another Howdah may have known it before.
        let before = self.calls(&settled).await.on_replicas();
        eventually(&format!("{table} is read by replicas"), Duration::from_secs(20), async || {
            rows(&client, &sql).await.expect("the table can be read");
            self.calls(&settled).await.on_replicas() > before
        })
        .await;
    }
}

impl Node {
    /// How often statements of the application's database whose text is `LIKE pattern` finished.
    pub async fn calls(&self, pattern: &str) -> u64 {
        let sql = format!(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
             WHERE d.datname = '{}' AND s.query LIKE '{}'",
            crate::APP_DATABASE,
            pattern.replace('\'', "''")
        );
        self.scalar(&sql).await.parse().expect("a count")
    }

    /// The counters of `database`. Sessions report theirs at most once per second, when idle.
    pub async fn counters(&self, database: &str) -> Counters {
        let sql = format!(
            "SELECT xact_commit, xact_rollback, tup_inserted + tup_updated + tup_deleted, conflicts \
             FROM pg_stat_database WHERE datname = '{database}'"
        );
        let rows = self.query(&sql).await;
        let number = |i: usize| rows[0][i].as_deref().expect("not null").parse().expect("a count");
        Counters { commits: number(0), rollbacks: number(1), rows_written: number(2), conflicts: number(3) }
    }

    /// Sessions of `user` on this node, Howdah's and others'.
    pub async fn sessions_of(&self, user: &str) -> u64 {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
        self.scalar(&sql).await.parse().expect("a count")
    }
}
