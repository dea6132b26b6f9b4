//! Tables from one made-up state, and their columns against PgBouncer's.

use std::time::{Duration, SystemTime};

use super::super::rows::Value;
use super::super::state::{
    Activeness, Activity, Change, Client, Connection, Database, Fate, Memory, Period, Pin, Server, Setting, State, User,
};
use super::*;
use crate::telemetry::counters::ClientTotals;
use crate::telemetry::snapshot::tests::{cluster, empty, pool};
use crate::telemetry::snapshot::{Clients, Health, Listener, Node, Pins, Role};
use crate::types::{ClientId, Lsn, ServerId, Timeline};

fn connection(state: Activeness) -> Connection {
    Connection {
        user: "me".into(),
        database: "app".into(),
        replication: "none",
        state,
        remote: Some("10.0.0.9:5000".parse().unwrap()),
        local: None,
        connected: SystemTime::UNIX_EPOCH,
        requested: SystemTime::UNIX_EPOCH + Duration::from_secs(61),
        tls: String::new(),
        application_name: "psql".to_owned(),
        prepared_statements: 3,
    }
}

fn client(id: u64, state: Activeness) -> Client {
    Client {
        id: ClientId(id),
        connection: connection(state),
        wait: Duration::from_micros(2_000_005),
        server: Some(ServerId(9)),
        node: Some("pg1".into()),
        pins: vec!["temporary", "prepare"],
        pin: (id == 1).then_some(Pin { age: Duration::from_millis(7900), digest: Some(0xBEEF) }),
    }
}

/// A primary and a replica with a pool each, two clients and a server.
pub(in crate::admin) fn sample() -> State {
    let mut snapshot = empty();
    let mut main = cluster(Some("pg1"));
    main.nodes.push(Node {
        name: "pg2".into(),
        address: "10.0.0.2:5432".to_owned(),
        role: Role::Replica,
        health: Health::Up,
        weight: 2,
        lag: Some(Duration::from_millis(3)),
        lag_bytes: Some(16),
        replay_lsn: Some(Lsn(0x16_0000_0028)),
        timeline: Some(Timeline(4)),
        excluded: "lag".to_owned(),
    });
    main.listeners.push(Listener {
        database: "app".into(),
        encoding: "UTF8".to_owned(),
        connection: Err("nobody answers".to_owned()),
        channels: 3,
        clients: 2,
    });
    snapshot.clusters.push(main);
    let (mut primary, mut replica) = (pool("pg1", Role::Primary), pool("pg2", Role::Replica));
    primary.stats.xact_count = 100;
    primary.stats.xact_time.sum_us = 5000;
    replica.stats.xact_count = 20;
    replica.max_wait = Duration::from_millis(50);
    snapshot.pools = vec![primary, replica];
    let stats = ClientTotals { logins: 5, bytes_received: 700, ..ClientTotals::default() };
    snapshot.clients.push(Clients { database: "app".into(), user: "me".into(), stats });
    snapshot.pins.push(Pins { reason: "prepare", current: 1, total: 2, rejected: 3, over_budget: 4 });
    State {
        snapshot,
        period: None,
        databases: vec![Database {
            name: "app".into(),
            cluster: "main".into(),
            host: "10.0.0.1".to_owned(),
            port: 5432,
            server_database: "app_v2".into(),
            mode: "transaction",
            pool_size: 20,
            min_idle: 1,
            lifetime: Duration::from_secs(3600),
            reads: "replicas",
            consistency: "database",
            activity: Activity::Paused,
        }],
        users: vec![User { name: "me".into(), mode: None, pool_size: Some(7) }],
        clients: vec![client(1, Activeness::Idle), client(2, Activeness::Waiting)],
        servers: vec![Server {
            id: ServerId(9),
            connection: connection(Activeness::Active),
            cluster: "main".into(),
            node: "pg1".into(),
            process_id: 4711,
            client: Some(ClientId(1)),
            fate: Fate::Close,
        }],
        config: vec![Setting {
            key: "pool.size".to_owned(),
            value: "20".to_owned(),
            default: "20".to_owned(),
            change: Change::Reload,
        }],
        memory: vec![Memory { name: "buffers".to_owned(), size: 16384, used: 2, free: 3 }],
    }
}

/// The value in `row` of the table's column `name`, as text.
fn value(show: Show, state: &State, row: usize, name: &str) -> String {
    let column = columns(show).iter().position(|column| column.name == name).expect(name);
    match &rows(show, state)[row][column] {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Null => "NULL".to_owned(),
    }
}

#[track_caller]
fn check(show: Show, row: usize, expected: &[(&str, &str)]) {
    for (name, wanted) in expected {
        assert_eq!(value(show, &sample(), row, name), *wanted, "{show:?} {name}");
    }
}

#[test]
fn every_row_has_its_columns_and_types() {
    let state = sample();
    for (name, show) in Show::ALL {
        let columns = columns(*show);
        let rows = rows(*show, &state);
        assert!(!rows.is_empty(), "{name}");
        for row in rows {
            assert_eq!(row.len(), columns.len(), "{name}");
            for (value, column) in row.iter().zip(&columns) {
                let fits = match value {
                    Value::Text(_) => column.oid == crate::protocol::backend::TEXT,
                    Value::Integer(_) => column.oid == crate::protocol::backend::INT8,
                    Value::Null => true,
                };
                assert!(fits, "{name}.{}", column.name);
            }
        }
    }
}

#[test]
fn columns_begin_as_pgbouncers() {
    for (show, expected) in [
        (
            Show::Pools,
            "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel \
             sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
        ),
        (
            Show::Clients,
            "type user database replication state addr port local_addr local_port connect_time request_time wait \
             wait_us close_needed ptr link remote_pid tls application_name prepared_statements id",
        ),
        (
            Show::Databases,
            "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode \
             load_balance_hosts max_connections current_connections max_client_connections \
             current_client_connections paused disabled",
        ),
        (
            Show::Stats,
            "database total_server_assignment_count total_xact_count total_query_count total_received total_sent \
             total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count \
             total_bind_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent \
             avg_xact_time avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count",
        ),
        (
            Show::Users,
            "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
             max_user_client_connections current_client_connections",
        ),
        (Show::Config, "key value default changeable"),
        (Show::Mem, "name size used free memtotal"),
    ] {
        let names: Vec<&str> = columns(show).iter().map(|column| column.name).collect();
        let expected: Vec<&str> = expected.split_whitespace().collect();
        assert_eq!(names[..expected.len()], expected, "{show:?}");
    }
    assert_eq!(columns(Show::Servers)[..21], columns(Show::Clients)[..21]);
}

#[test]
fn pools_are_one_row_for_database_and_user() {
    assert_eq!(rows(Show::Pools, &sample()).len(), 1);
    check(
        Show::Pools,
        0,
        &[
            ("cl_active", "1"),
            ("cl_waiting", "1"),
            ("sv_active", "2"),
            ("sv_idle", "8"),
            ("sv_pinned", "2"),
            ("maxwait", "1"),
            ("maxwait_us", "250000"),
            ("pool_mode", "transaction"),
            ("nodes", "2"),
        ],
    );
    check(Show::NodePools, 1, &[("node", "pg2"), ("role", "replica"), ("xact_count", "20"), ("avg_wait_us", "0")]);
}

#[test]
fn connections_name_each_other() {
    check(
        Show::Clients,
        0,
        &[
            ("type", "C"),
            ("addr", "10.0.0.9"),
            ("port", "5000"),
            ("local_addr", "unix"),
            ("request_time", "1970-01-01 00:01:01 UTC"),
            ("wait", "2"),
            ("wait_us", "5"),
            ("ptr", "c1"),
            ("link", "s9"),
            ("id", "1"),
            ("pins", "temporary,prepare"),
        ],
    );
    check(Show::Servers, 0, &[("ptr", "s9"), ("link", "c1"), ("remote_pid", "4711"), ("close_needed", "1")]);
}

#[test]
fn what_is_shown_is_what_is() {
    check(Show::Databases, 0, &[("database", "app_v2"), ("paused", "1"), ("current_connections", "10")]);
    check(Show::Nodes, 0, &[("lag_us", "3000"), ("lsn", "16/28"), ("timeline", "4"), ("xact_count", "20")]);
    check(Show::Listeners, 0, &[("node", "NULL"), ("channels", "3"), ("clients", "2"), ("error", "nobody answers")]);
    check(Show::Users, 0, &[("pool_size", "7"), ("pool_mode", "NULL"), ("current_client_connections", "2")]);
    check(
        Show::Pins,
        0,
        &[
            ("database", "app"),
            ("user", "me"),
            ("client", "1"),
            ("addr", "10.0.0.9"),
            ("server_pid", "4711"),
            ("reasons", "temporary,prepare"),
            ("digest", "000000000000beef"),
            ("age", "7"),
        ],
    );
    assert_eq!(rows(Show::Pins, &sample()).len(), 1, "the other client is not pinned");
    check(Show::PinTotals, 0, &[("reason", "prepare"), ("total", "2"), ("rejected", "3"), ("over_budget", "4")]);
    check(Show::Mem, 0, &[("memtotal", "81920")]);
    check(Show::State, 0, &[("key", "active"), ("value", "yes")]);
    check(Show::Version, 0, &[("version", "Howdah 1.2.3")]);
    check(Show::Lists, 9, &[("list", "used_servers"), ("items", "1")]);
}

#[test]
fn averages_are_of_the_last_period() {
    check(
        Show::Stats,
        0,
        &[
            ("total_xact_count", "120"),
            ("total_xact_time", "5000"),
            ("avg_xact_count", "0"),
            ("total_client_login_count", "5"),
        ],
    );
    let mut state = sample();
    let from = stats::totals(&state.snapshot);
    state.snapshot.pools[0].stats.xact_count += 40;
    state.snapshot.pools[0].stats.xact_time.sum_us += 400;
    state.snapshot.clients[0].stats.bytes_received += 3000;
    let to = stats::totals(&state.snapshot);
    state.period = Some(Period { from, to, length: Duration::from_secs(20) });
    for (name, wanted) in
        [("total_xact_count", "160"), ("avg_xact_count", "2"), ("avg_xact_time", "10"), ("avg_recv", "150")]
    {
        assert_eq!(value(Show::Stats, &state, 0, name), wanted, "{name}");
    }
    assert_eq!(value(Show::StatsAverages, &state, 0, "bytes_received"), "150");
    assert_eq!(value(Show::StatsTotals, &state, 0, "bytes_received"), "3700");
    let totals = rows(Show::Totals, &state);
    assert!(totals.contains(&vec![Value::text("total_client_bytes"), Value::Integer(3700)]));
    assert!(totals.contains(&vec![Value::text("avg_client_bytes"), Value::Integer(150)]));
}
