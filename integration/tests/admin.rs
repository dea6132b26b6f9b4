//! The admin console, from psql and from a driver that speaks the extended protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{pgbench, psql, psql_with};
use howdah_integration::{APP_USER, Howdah};

/// The commands of `SHOW`, with the columns that PgBouncer's begin with, where it has the command.
const SHOWS: [(&str, &str); 11] = [
    ("VERSION", "version"),
    ("CONFIG", "key,value,default,changeable"),
    ("DATABASES", "name,host,port,database,force_user,pool_size"),
    ("USERS", "name"),
    ("POOLS", "database,user,cl_active,cl_waiting"),
    ("CLIENTS", "type,user,database"),
    ("SERVERS", "type,user,database"),
    ("NODES", ""),
    ("STATS", "database,total_"),
    ("MEM", "name,size,used,free,memtotal"),
    ("LISTS", "list,items"),
];

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &[("clusters.main.monitor.interval", "500ms")],
        howdah_integration::checks![
            shows_in_psql,
            shows_in_a_driver,
            nodes_tell_roles,
            clients_and_servers_are_listed,
            waits_and_requests_are_told,
            what_reconnect_will_close,
            clients_may_change_their_name,
            only_administrators,
            mistakes,
            pause_and_resume_under_load,
            reconnect_under_load,
            kill_and_resume,
            reload,
            shutdown,
            shutdown_that_waits_for_clients,
        ],
    )
}

fn console(env: &Env) -> Login {
    Login::console(env.port())
}

async fn shows_in_psql(env: &Env) {
    let client = env.app().connect().await.unwrap();
    client.batch_execute("SELECT 1").await.unwrap();
    for database in ["howdah", "pgbouncer"] {
        for (name, columns) in SHOWS {
            let arguments = ["--csv", "-P", "tuples_only=off", "-v", "ON_ERROR_STOP=1"];
            let done = psql_with(&console(env).database(database), &arguments, &format!("SHOW {name};")).await;
            let out = done.expect_success();
            let header = out.lines().next().unwrap_or_default();
            assert!(header.starts_with(columns), "SHOW {name}: {header}");
            assert!(out.lines().count() > 1, "SHOW {name} has no rows");
            let again = psql(&console(env), &format!("show {};", name.to_lowercase())).await;
            assert_eq!(again.code, Some(0), "{}", again.err);
        }
        let help = psql(&console(env).database(database), "SHOW HELP;").await;
        assert!(help.out.contains("SHOW") || help.err.contains("SHOW"), "{help:?}");
    }
    drop(client);
}

async fn shows_in_a_driver(env: &Env) {
    let application = env.app().connect().await.unwrap();
    application.batch_execute("SELECT 1").await.unwrap();
    let client = console(env).connect().await.unwrap();
    for (name, _) in SHOWS {
        let sql = format!("SHOW {name}");
        // Without a statement's name, with one, and with one used twice.
        assert!(!client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).is_empty(), "{sql}");
        let statement = client.prepare(&sql).await.unwrap();
        for _ in 0..2 {
            assert_eq!(client.query(&statement, &[]).await.unwrap().is_empty(), statement.columns().is_empty());
        }
    }
    let version: String = client.query_one("SHOW VERSION", &[]).await.unwrap().get(0);
    assert!(version.to_lowercase().contains("howdah"), "{version}");
}

async fn nodes_tell_roles(env: &Env) {
    let nodes = rows(&console(env).connect().await.unwrap(), "SHOW NODES").await.unwrap();
    for node in env.cluster.nodes() {
        let row = nodes.iter().find(|row| row.iter().flatten().any(|value| *value == node.name));
        let row = row.unwrap_or_else(|| panic!("{} is not in {nodes:?}", node.name));
        let role = if node.name == env.cluster.primary().name { "primary" } else { "replica" };
        assert!(row.iter().flatten().any(|value| value == role), "{row:?} does not say {role}");
    }
}

async fn clients_and_servers_are_listed(env: &Env) {
    let mut config = env.app().config();
    let (client, connection) = config.application_name("marker_client").connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let console = console(env).connect().await.unwrap();
    let clients = rows(&console, "SHOW CLIENTS").await.unwrap();
    assert!(clients.iter().any(|row| row.iter().flatten().any(|value| value == "marker_client")), "{clients:?}");
    let servers = rows(&console, "SHOW SERVERS").await.unwrap();
    let pid: String = rows(&client, "SELECT pg_backend_pid()").await.unwrap()[0][0].clone().unwrap();
    let pids_on_primary = env.cluster.primary().query("SELECT pid FROM pg_stat_activity").await;
    let listed = servers.iter().any(|row| {
        row.iter().flatten().any(|value| pids_on_primary.iter().any(|known| known[0].as_ref() == Some(value)))
    });
    assert!(listed, "no server's process ({pid} or another) is in {servers:?}");
    client.batch_execute("COMMIT").await.unwrap();
}

async fn clients_may_change_their_name(env: &Env) {
    let client = env.app().connect().await.unwrap();
    for name in ["renamed_once", "renamed_twice"] {
        rows(&client, &format!("SET application_name = {name}")).await.unwrap();
        rows(&client, "SELECT 1").await.unwrap();
        let named = async || shown(env.port(), "CLIENTS", ("application_name", name), "user").await == [APP_USER];
        eventually("the name is shown", Duration::from_secs(5), named).await;
    }
}

async fn only_administrators(env: &Env) {
    for database in ["howdah", "pgbouncer"] {
        let refused = env.app().database(database).connect().await.expect_err("app is no administrator");
        assert!(refused.as_db_error().is_some(), "{refused:?}");
    }
    let wrong = Login { password: "guess".into(), ..console(env) };
    assert_eq!(wrong.connect().await.unwrap_err().code().unwrap().code(), "28P01");
}

async fn mistakes(env: &Env) {
    let client = console(env).connect().await.unwrap();
    for sql in ["SHOW NOTHING", "SELECT * FROM pg_class", "DROP TABLE t", "KILL", "SHOW"] {
        let error = client.simple_query(sql).await.expect_err(sql);
        assert!(error.code().is_some_and(|code| code.code().len() == 5), "{sql}: {error:?}");
        assert!(client.query(sql, &[]).await.is_err(), "{sql}");
    }
    rows(&client, "SHOW VERSION").await.unwrap();
}

/// Runs the commands of `during` while pgbench reads and writes, which must see no error.
async fn under_load(env: &Env, during: impl AsyncFnOnce()) {
    pgbench(&env.app(), &["-i", "-s", "1", "-q"]).await.expect_success();
    let login = env.app();
    let arguments =
        ["-n", "-c", "8", "-j", "2", "-T", "6", "-b", "select-only", "-b", "simple-update", "-M", "prepared"];
    let running = tokio::spawn(async move { pgbench(&login, &arguments).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    during().await;
    let done = running.await.unwrap();
    assert!(!done.err.contains("ERROR") && !done.err.contains("aborted"), "{}", done.err);
    done.expect_success();
}

async fn pause_and_resume_under_load(env: &Env) {
    under_load(env, async || {
        let client = console(env).connect().await.unwrap();
        for pause in ["PAUSE", "PAUSE app"] {
            rows(&client, pause).await.unwrap();
            let paused = env.cluster.calls("%pgbench_accounts%").await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(env.cluster.calls("%pgbench_accounts%").await, paused, "{pause}: nothing runs in a pause");
            rows(&client, &pause.replace("PAUSE", "RESUME")).await.unwrap();
            eventually("work goes on", Duration::from_secs(5), async || {
                env.cluster.calls("%pgbench_accounts%").await.total() > paused.total() + 20
            })
            .await;
        }
    })
    .await;
}

async fn pids(env: &Env) -> Vec<String> {
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{APP_USER}'");
    let mut pids = Vec::new();
    for node in env.cluster.nodes() {
        pids.extend(node.query(&sql).await.into_iter().filter_map(|row| row[0].clone()));
    }
    pids
}

async fn reconnect_under_load(env: &Env) {
    under_load(env, async || {
        let before = pids(env).await;
        assert!(!before.is_empty());
        let client = console(env).connect().await.unwrap();
        rows(&client, "RECONNECT").await.unwrap();
        eventually("every server connection is a new one", Duration::from_secs(4), async || {
            pids(env).await.iter().all(|pid| !before.contains(pid))
        })
        .await;
    })
    .await;
}

async fn kill_and_resume(env: &Env) {
    let client = env.app().connect().await.unwrap();
    client.batch_execute("SELECT 1").await.unwrap();
    let console = console(env).connect().await.unwrap();
    rows(&console, "KILL app").await.unwrap();
    eventually("the client is gone", Duration::from_secs(5), async || client.is_closed()).await;
    eventually("so are its servers", Duration::from_secs(5), async || pids(env).await.is_empty()).await;
    rows(&console, "RESUME app").await.unwrap();
    env.app().connect().await.unwrap().batch_execute("SELECT 1").await.unwrap();
}

async fn reload(env: &Env) {
    let console = console(env).connect().await.unwrap();
    let settings = howdah_integration::settings::Settings::new(&env.cluster, env.port(), env.howdah().metrics_port);
    std::fs::write(env.howdah().file(), settings.with("pool.size", "7").to_string()).unwrap();
    rows(&console, "RELOAD").await.unwrap();
    eventually("the new size is in force", Duration::from_secs(5), async || {
        let config = rows(&console, "SHOW CONFIG").await.unwrap();
        config.iter().any(|row| row[0].as_deref() == Some("pool.size") && row[1].as_deref() == Some("7"))
    })
    .await;
}

/// The value in `column` of the rows of `SHOW what`, where `key` has the value `is`.
async fn shown(port: u16, what: &str, (key, is): (&str, &str), column: &str) -> Vec<String> {
    let console = Login::console(port).connect().await.unwrap();
    let rows = console.query(&format!("SHOW {what}"), &[]).await.unwrap();
    let text = |row: &tokio_postgres::Row, name: &str| {
        let at = row.columns().iter().position(|column| column.name() == name).unwrap();
        match row.columns()[at].type_().name() {
            "text" => row.get::<_, Option<String>>(at).unwrap_or_default(),
            "int4" => row.get::<_, Option<i32>>(at).unwrap_or_default().to_string(),
            _ => row.get::<_, Option<i64>>(at).unwrap_or_default().to_string(),
        }
    };
    rows.iter().filter(|row| text(row, key) == is).map(|row| text(row, column)).collect()
}

async fn waits_and_requests_are_told(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("pool.size", "1")]).await;
    let port = howdah.port;
    let login = Login::app(port);
    let connect = async |name: &str| {
        let mut config = login.config();
        let (client, connection) = config.application_name(name).connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let (holder, waiter) = (connect("marker_holder").await, connect("marker_waiter").await);
    holder.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let waiting = tokio::spawn(async move { waiter.batch_execute("SELECT pg_current_xact_id()").await });
    let waiter = ("application_name", "marker_waiter");
    let seconds = |shown: Vec<String>| shown.iter().map(|seconds| seconds.parse::<u64>().unwrap()).max();
    let waits = async || seconds(shown(port, "CLIENTS", waiter, "wait").await) >= Some(1);
    eventually("it has waited for a second", Duration::from_secs(10), waits).await;
    assert_eq!(shown(port, "CLIENTS", waiter, "state").await, ["waiting"]);
    assert_eq!(shown(port, "CLIENTS", ("application_name", "marker_holder"), "wait").await, ["0"]);
    let longest = shown(port, "POOLS", ("user", APP_USER), "maxwait").await;
    assert!(seconds(longest) >= Some(1));
    holder.batch_execute("COMMIT").await.unwrap();
    holder.batch_execute("SELECT 1").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(shown(port, "POOLS", ("user", APP_USER), "maxwait").await, ["0"]);
    let holder = ("application_name", "marker_holder");
    // Whole seconds: the last request came more than one after the connection.
    let [connected, requested] = ["connect_time", "request_time"].map(|column| shown(port, "CLIENTS", holder, column));
    let (connected, requested) = (connected.await, requested.await);
    assert!(requested > connected, "{requested:?} {connected:?}");
    for (column, expected) in [("addr", "127.0.0.1".to_owned()), ("local_port", port.to_string())] {
        assert_eq!(shown(port, "CLIENTS", holder, column).await, [expected]);
    }
    let ports = shown(port, "SERVERS", ("user", APP_USER), "port").await;
    assert!(ports.contains(&env.cluster.primary().port.to_string()), "{ports:?}");
}

async fn what_reconnect_will_close(env: &Env) {
    let client = env.app().connect().await.unwrap();
    client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let active = ("state", "active");
    assert_eq!(shown(env.port(), "SERVERS", active, "close_needed").await, ["0"]);
    rows(&console(env).connect().await.unwrap(), "RECONNECT").await.unwrap();
    assert_eq!(shown(env.port(), "SERVERS", active, "close_needed").await, ["1"]);
    client.batch_execute("COMMIT").await.unwrap();
    let condemned = async || shown(env.port(), "SERVERS", ("close_needed", "1"), "state").await.is_empty();
    eventually("it is closed", Duration::from_secs(5), condemned).await;
}

async fn shutdown_that_waits_for_clients(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[]).await;
    let login = Login::app(howdah.port);
    let client = login.connect().await.unwrap();
    let console = Login::console(howdah.port).connect().await.unwrap();
    let _connection_may_end_first = rows(&console, "SHUTDOWN WAIT_FOR_CLIENTS").await;
    eventually("nobody new is let in", Duration::from_secs(5), async || login.connect().await.is_err()).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.batch_execute("SELECT 1").await.expect("who is there may stay");
    }
    drop(client);
    assert_eq!(howdah.ended().await, Ok(0));
}

async fn shutdown(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[]).await;
    let console = Login::console(howdah.port).connect().await.unwrap();
    let _connection_may_end_first = rows(&console, "SHUTDOWN").await;
    assert_eq!(howdah.ended().await, Ok(0));
}
