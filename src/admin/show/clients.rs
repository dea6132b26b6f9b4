//! SHOW CLIENTS, and what it has in common with SHOW SERVERS.

use std::net::SocketAddr;

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::{Client, Connection, Fate, State};
use super::time;

pub(super) fn columns() -> Vec<Column> {
    let mut columns = CONNECTION_COLUMNS.to_vec();
    columns.extend([text("node"), text("pins")]);
    columns
}

/// The columns that clients and servers share.
pub(super) const CONNECTION_COLUMNS: &[Column] = &[
    text("type"),
    text("user"),
    text("database"),
    text("replication"),
    text("state"),
    text("addr"),
    int("port"),
    text("local_addr"),
    int("local_port"),
    text("connect_time"),
    text("request_time"),
    int("wait"),
    int("wait_us"),
    int("close_needed"),
    text("ptr"),
    text("link"),
    int("remote_pid"),
    text("tls"),
    text("application_name"),
    int("prepared_statements"),
    int("id"),
];

/// What the shared columns show that a [`Connection`] does not have.
pub(super) struct Ends {
    pub(super) kind: &'static str,
    pub(super) wait: std::time::Duration,
    pub(super) fate: Fate,
    pub(super) ptr: String,
    pub(super) link: Option<String>,
    pub(super) process_id: i32,
    pub(super) id: u64,
}

pub(super) fn rows(state: &State) -> Vec<Row> {
    state.clients.iter().map(row).collect()
}

fn row(client: &Client) -> Row {
    let ends = Ends {
        kind: "C",
        wait: client.wait,
        fate: Fate::Reuse,
        ptr: format!("c{}", client.id),
        link: client.server.map(|server| format!("s{server}")),
        process_id: 0,
        id: client.id.0,
    };
    let mut row = connection(&client.connection, ends);
    row.extend([Value::or_null(client.node.as_ref(), Value::text), Value::Text(client.pins.join(","))]);
    row
}

/// The values of [`CONNECTION_COLUMNS`].
pub(super) fn connection(connection: &Connection, ends: Ends) -> Row {
    let [remote, remote_port] = address(connection.remote);
    let [local, local_port] = address(connection.local);
    let [wait, wait_us] = time::wait(ends.wait);
    vec![
        Value::text(ends.kind),
        Value::text(&connection.user),
        Value::text(&connection.database),
        Value::text(connection.replication),
        Value::text(connection.state.as_str()),
        remote,
        remote_port,
        local,
        local_port,
        time::moment(connection.connected),
        time::moment(connection.requested),
        wait,
        wait_us,
        Value::Integer(i64::from(ends.fate == Fate::Close)),
        Value::Text(ends.ptr),
        Value::Text(ends.link.unwrap_or_default()),
        Value::Integer(i64::from(ends.process_id)),
        Value::text(&connection.tls),
        Value::text(&connection.application_name),
        Value::count(connection.prepared_statements),
        Value::count(ends.id),
    ]
}

pub(super) fn address(address: Option<SocketAddr>) -> [Value; 2] {
    match address {
        Some(address) => [Value::text(&address.ip()), Value::Integer(i64::from(address.port()))],
        None => [Value::text("unix"), Value::Integer(0)],
    }
}
