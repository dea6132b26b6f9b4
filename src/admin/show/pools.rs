//! SHOW POOLS: one row for each database and user, as PgBouncer has it.
//!
//! Howdah has a pool for every node; exporters take a second row of one database and user for a
//! mistake, so they are summed here. SHOW `NODE_POOLS` has them one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::{Activeness, State};
use super::time;
use crate::types::{DatabaseName, UserName};

pub(super) const COLUMNS: &[Column] = &[
    text("database"),
    text("user"),
    int("cl_active"),
    int("cl_waiting"),
    int("cl_active_cancel_req"),
    int("cl_waiting_cancel_req"),
    int("sv_active"),
    int("sv_active_cancel"),
    int("sv_being_canceled"),
    int("sv_idle"),
    int("sv_used"),
    int("sv_tested"),
    int("sv_login"),
    int("maxwait"),
    int("maxwait_us"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int("sv_pinned"),
    int("nodes"),
];

#[derive(Default)]
struct Sum {
    clients: u64,
    waiting: u64,
    active: u64,
    canceling: u64,
    idle: u64,
    opening: u64,
    pinned: u64,
    nodes: u64,
    max_wait: Duration,
    mode: &'static str,
}

pub(super) fn rows(state: &State) -> Vec<Row> {
    let mut sums: BTreeMap<(&DatabaseName, &UserName), Sum> = BTreeMap::new();
    for pool in &state.snapshot.pools {
        let sum = sums.entry((&pool.database, &pool.user)).or_default();
        sum.active += pool.servers_active;
        sum.canceling += pool.servers_canceling;
        sum.idle += pool.servers_idle;
        sum.opening += pool.servers_opening;
        sum.pinned += pool.servers_pinned;
        sum.nodes += 1;
        sum.max_wait = sum.max_wait.max(pool.max_wait);
        sum.mode = pool.mode;
    }
    for client in &state.clients {
        let connection = &client.connection;
        let sum = sums.entry((&connection.database, &connection.user)).or_default();
        match connection.state {
            Activeness::Waiting => sum.waiting += 1,
            Activeness::Login => {}
            // PgBouncer, too, counts idle clients as active.
            Activeness::Active | Activeness::Idle | Activeness::BeingCanceled => sum.clients += 1,
        }
        if sum.mode.is_empty() {
            let database = state.databases.iter().find(|database| database.name == connection.database);
            sum.mode = database.map_or("", |database| database.mode);
        }
    }
    sums.into_iter().map(|((database, user), sum)| row(database, user, &sum)).collect()
}

fn row(database: &DatabaseName, user: &UserName, sum: &Sum) -> Row {
    let [maxwait, maxwait_us] = time::wait(sum.max_wait);
    vec![
        Value::text(database),
        Value::text(user),
        Value::count(sum.clients),
        Value::count(sum.waiting),
        Value::Integer(0),
        Value::Integer(0),
        Value::count(sum.active),
        Value::Integer(0),
        Value::count(sum.canceling),
        Value::count(sum.idle),
        Value::Integer(0),
        Value::Integer(0),
        Value::count(sum.opening),
        maxwait,
        maxwait_us,
        Value::text(sum.mode),
        Value::Null,
        Value::count(sum.pinned),
        Value::count(sum.nodes),
    ]
}
