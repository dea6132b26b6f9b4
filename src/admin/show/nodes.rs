//! SHOW NODES: what the monitors know of every node. Howdah's own; PgBouncer knows no roles.

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::State;
use crate::telemetry::snapshot::{Cluster, Node, Pool};

pub(super) const COLUMNS: &[Column] = &[
    text("cluster"),
    text("node"),
    text("address"),
    text("role"),
    text("health"),
    int("weight"),
    int("lag_us"),
    int("lag_bytes"),
    text("lsn"),
    int("timeline"),
    int("sv_active"),
    int("sv_idle"),
    int("xact_count"),
    text("excluded"),
];

pub(super) fn rows(state: &State) -> Vec<Row> {
    let pools = &state.snapshot.pools;
    let clusters = state.snapshot.clusters.iter();
    clusters.flat_map(|cluster| cluster.nodes.iter().map(|node| row(cluster, node, pools))).collect()
}

fn row(cluster: &Cluster, node: &Node, pools: &[Pool]) -> Row {
    let own = || pools.iter().filter(|pool| pool.cluster == cluster.name && pool.node == node.name);
    vec![
        Value::text(&cluster.name),
        Value::text(&node.name),
        Value::text(&node.address),
        Value::text(node.role.as_str()),
        Value::text(node.health.as_str()),
        Value::Integer(i64::from(node.weight)),
        Value::or_null(node.lag, |lag| Value::count(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX))),
        Value::or_null(node.lag_bytes, Value::count),
        Value::or_null(node.replay_lsn, |lsn| Value::text(&lsn)),
        Value::or_null(node.timeline, |timeline| Value::Integer(i64::from(timeline.0))),
        Value::count(own().map(|pool| pool.servers_active).sum()),
        Value::count(own().map(|pool| pool.servers_idle).sum()),
        Value::count(own().map(|pool| pool.stats.xact_count).sum()),
        Value::text(&node.excluded),
    ]
}
