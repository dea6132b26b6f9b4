//! SHOW SERVERS.

use super::super::rows::{Column, Row, Value, text};
use super::super::state::{Server, State};
use super::clients::{self, Ends};

pub(super) fn columns() -> Vec<Column> {
    let mut columns = clients::CONNECTION_COLUMNS.to_vec();
    columns.extend([text("cluster"), text("node")]);
    columns
}

pub(super) fn rows(state: &State) -> Vec<Row> {
    state.servers.iter().map(row).collect()
}

fn row(server: &Server) -> Row {
    let ends = Ends {
        kind: "S",
        wait: std::time::Duration::ZERO,
        fate: server.fate,
        ptr: format!("s{}", server.id),
        link: server.client.map(|client| format!("c{client}")),
        process_id: server.process_id,
        id: server.id.0,
    };
    let mut row = clients::connection(&server.connection, ends);
    row.extend([Value::text(&server.cluster), Value::text(&server.node)]);
    row
}
