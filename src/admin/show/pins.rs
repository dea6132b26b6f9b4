//! SHOW PINS: which clients keep a server for themselves, and why; SHOW `PIN_TOTALS`: how often they did.

use std::time::{Duration, SystemTime};

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::{Client, Pin, State};
use super::clients::address;
use crate::telemetry::snapshot::Pins;

pub(super) const COLUMNS: &[Column] = &[
    text("database"),
    text("user"),
    int("client"),
    text("addr"),
    int("port"),
    text("application_name"),
    text("node"),
    int("server_pid"),
    text("reasons"),
    text("digest"),
    int("age"),
    int("since_request"),
];

pub(super) const TOTALS_COLUMNS: &[Column] =
    &[text("reason"), int("current"), int("total"), int("rejected"), int("over_budget")];

pub(super) fn rows(state: &State) -> Vec<Row> {
    let pinned = state.clients.iter().filter_map(|client| Some((client, client.pin?)));
    pinned.map(|(client, pin)| row(client, pin, state)).collect()
}

fn row(client: &Client, pin: Pin, state: &State) -> Row {
    let connection = &client.connection;
    let [addr, port] = address(connection.remote);
    let server = state.servers.iter().find(|server| Some(server.id) == client.server);
    let quiet = SystemTime::now().duration_since(connection.requested).unwrap_or_default();
    let seconds = |duration: Duration| Value::count(duration.as_secs());
    vec![
        Value::text(&connection.database),
        Value::text(&connection.user),
        Value::count(client.id.0),
        addr,
        port,
        Value::text(&connection.application_name),
        Value::or_null(client.node.as_ref(), Value::text),
        Value::or_null(server, |server| Value::Integer(i64::from(server.process_id))),
        Value::Text(client.pins.join(",")),
        Value::or_null(pin.digest, |digest| Value::Text(format!("{digest:016x}"))),
        seconds(pin.age),
        seconds(quiet),
    ]
}

pub(super) fn totals_rows(state: &State) -> Vec<Row> {
    let row = |pins: &Pins| {
        let counts = [pins.current, pins.total, pins.rejected, pins.over_budget].map(Value::count);
        [vec![Value::text(pins.reason)], counts.to_vec()].concat()
    };
    state.snapshot.pins.iter().map(row).collect()
}
