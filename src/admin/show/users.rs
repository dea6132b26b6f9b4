//! SHOW USERS.

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::{State, User};

pub(super) const COLUMNS: &[Column] = &[
    text("name"),
    int("pool_size"),
    int("reserve_pool_size"),
    text("pool_mode"),
    int("max_user_connections"),
    int("current_connections"),
    int("max_user_client_connections"),
    int("current_client_connections"),
];

pub(super) fn rows(state: &State) -> Vec<Row> {
    state.users.iter().map(|user| row(user, state)).collect()
}

fn row(user: &User, state: &State) -> Row {
    let servers = state.servers.iter().filter(|server| server.connection.user == user.name).count();
    let clients = state.clients.iter().filter(|client| client.connection.user == user.name).count();
    vec![
        Value::text(&user.name),
        Value::or_null(user.pool_size, Value::count),
        Value::Null,
        Value::or_null(user.mode, Value::text),
        Value::Integer(0),
        Value::count(servers as u64),
        Value::Integer(0),
        Value::count(clients as u64),
    ]
}
