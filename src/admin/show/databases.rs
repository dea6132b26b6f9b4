//! SHOW DATABASES.
//!
//! PgBouncer's columns for what Howdah has no limit on are 0, as in PgBouncer without that limit.

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::{Activity, Database, State};

pub(super) const COLUMNS: &[Column] = &[
    text("name"),
    text("host"),
    int("port"),
    text("database"),
    text("force_user"),
    int("pool_size"),
    int("min_pool_size"),
    int("reserve_pool_size"),
    int("server_lifetime"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int("max_connections"),
    int("current_connections"),
    int("max_client_connections"),
    int("current_client_connections"),
    int("paused"),
    int("disabled"),
    text("cluster"),
    text("reads"),
    text("consistency"),
];

pub(super) fn rows(state: &State) -> Vec<Row> {
    state.databases.iter().map(|database| row(database, state)).collect()
}

fn row(database: &Database, state: &State) -> Row {
    let pools = state.snapshot.pools.iter().filter(|pool| pool.database == database.name);
    let servers = pools.map(|pool| pool.servers_active + pool.servers_idle + pool.servers_canceling).sum();
    let clients = state.clients.iter().filter(|client| client.connection.database == database.name).count();
    vec![
        Value::text(&database.name),
        Value::text(&database.host),
        Value::Integer(i64::from(database.port)),
        Value::text(&database.server_database),
        Value::Null,
        Value::count(database.pool_size),
        Value::count(database.min_idle),
        Value::Integer(0),
        Value::count(database.lifetime.as_secs()),
        Value::text(database.mode),
        Value::Null,
        Value::Integer(0),
        Value::count(servers),
        Value::Integer(0),
        Value::count(clients as u64),
        Value::Integer(i64::from(database.activity == Activity::Paused)),
        Value::Integer(0),
        Value::text(&database.cluster),
        Value::text(database.reads),
        Value::text(database.consistency),
    ]
}
