//! SHOW `NODE_POOLS`: pools as Howdah has them, one for each node, database and user.

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::State;
use super::time;
use crate::telemetry::counters::LatencyTotals;
use crate::telemetry::snapshot::Pool;

pub(super) const COLUMNS: &[Column] = &[
    text("cluster"),
    text("node"),
    text("role"),
    text("database"),
    text("user"),
    text("pool_mode"),
    int("pool_size"),
    int("cl_active"),
    int("cl_waiting"),
    int("maxwait"),
    int("maxwait_us"),
    int("sv_active"),
    int("sv_pinned"),
    int("sv_canceling"),
    int("sv_idle"),
    int("sv_opening"),
    int("assignments"),
    int("xact_count"),
    int("query_count"),
    int("avg_query_us"),
    int("avg_wait_us"),
    int("connects"),
    int("connect_failures"),
];

pub(super) fn rows(state: &State) -> Vec<Row> {
    state.snapshot.pools.iter().map(row).collect()
}

fn row(pool: &Pool) -> Row {
    let [maxwait, maxwait_us] = time::wait(pool.max_wait);
    vec![
        Value::text(&pool.cluster),
        Value::text(&pool.node),
        Value::text(pool.role.as_str()),
        Value::text(&pool.database),
        Value::text(&pool.user),
        Value::text(pool.mode),
        Value::count(pool.size),
        Value::count(pool.clients_active),
        Value::count(pool.clients_waiting),
        maxwait,
        maxwait_us,
        Value::count(pool.servers_active),
        Value::count(pool.servers_pinned),
        Value::count(pool.servers_canceling),
        Value::count(pool.servers_idle),
        Value::count(pool.servers_opening),
        Value::count(pool.stats.server_assignment_count),
        Value::count(pool.stats.xact_count),
        Value::count(pool.stats.query_count),
        mean(&pool.stats.query_time),
        mean(&pool.stats.wait_time),
        Value::count(pool.servers.connects),
        Value::count(pool.servers.connect_failures),
    ]
}

/// The mean since the start; 0 when nothing was counted.
fn mean(latency: &LatencyTotals) -> Value {
    Value::count(latency.sum_us.checked_div(latency.count()).unwrap_or(0))
}
