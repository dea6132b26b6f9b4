//! SHOW LISTS: how many there are of everything. What Howdah has not (peers, DNS caches) is 0.

use std::collections::BTreeSet;

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::{Activeness, State};

pub(super) const COLUMNS: &[Column] = &[text("list"), int("items")];

pub(super) fn rows(state: &State) -> Vec<Row> {
    let pools: BTreeSet<_> = state.snapshot.pools.iter().map(|pool| (&pool.database, &pool.user)).collect();
    let idle = |activeness| activeness == Activeness::Idle;
    let free_servers = state.servers.iter().filter(|server| idle(server.connection.state)).count();
    let login_clients = state.snapshot.clients_logging_in;
    let nodes: usize = state.snapshot.clusters.iter().map(|cluster| cluster.nodes.len()).sum();
    [
        ("databases", state.databases.len()),
        ("users", state.users.len()),
        ("peers", 0),
        ("pools", pools.len()),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", state.clients.len()),
        ("login_clients", usize::try_from(login_clients).unwrap_or(usize::MAX)),
        ("free_servers", free_servers),
        ("used_servers", state.servers.len() - free_servers),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
        ("clusters", state.snapshot.clusters.len()),
        ("nodes", nodes),
    ]
    .map(|(list, items)| vec![Value::text(list), Value::count(items as u64)])
    .into()
}
