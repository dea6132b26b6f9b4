//! SHOW LISTENERS: the connections that listen (LISTEN) for clients. Howdah's own; PgBouncer has none.

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::State;
use crate::telemetry::snapshot::{Cluster, Listener};

pub(super) const COLUMNS: &[Column] = &[
    text("cluster"),
    text("database"),
    text("encoding"),
    text("node"),
    int("remote_pid"),
    int("channels"),
    int("clients"),
    text("error"),
];

pub(super) fn rows(state: &State) -> Vec<Row> {
    let clusters = state.snapshot.clusters.iter();
    clusters.flat_map(|cluster| cluster.listeners.iter().map(|listener| row(cluster, listener))).collect()
}

fn row(cluster: &Cluster, listener: &Listener) -> Row {
    let connection = listener.connection.as_ref();
    vec![
        Value::text(&cluster.name),
        Value::text(&listener.database),
        Value::text(&listener.encoding),
        Value::or_null(connection.ok(), |(node, _)| Value::text(node)),
        Value::or_null(connection.ok(), |(_, process_id)| Value::Integer(i64::from(*process_id))),
        Value::count(listener.channels),
        Value::count(listener.clients),
        Value::text(connection.err().map_or("", String::as_str)),
    ]
}
