//! What clients leave behind that are killed, or leave in session pooling: nothing that the next one could find.
//!
//! One server serves all, so that the next client gets the very server of the last one. What is left is looked for
//! past Howdah, as superuser, and by the next client.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::process::Stdio;
use std::time::Duration;

use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::wire::{self, Wire};
use howdah_integration::{Howdah, binaries, node};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &ONE_SERVER,
        howdah_integration::checks![
            nothing_to_hold,
            advisory_locks,
            temporary_objects,
            channels,
            cursors_with_hold,
            statements_and_settings,
            open_transactions,
            prepared_transactions_survive,
            statements_that_run,
            results_that_nobody_reads,
            copies_in,
            copies_out,
            extended_queries_without_sync,
            session_pooling_keeps_and_cleans,
            session_pooling_has_a_server_for_each,
        ],
    )
}

/// Without passwords: proving to know one takes longer than the rest.
const ONE_SERVER: [(&str, &str); 4] =
    [("pool.size", "1"), ("workers", "1"), ("routing.reads", "primary"), ("auth.method", "trust")];

/// How long cleaning up may take.
const CLEANING: Duration = Duration::from_secs(10);

const TABLE: &str = "CREATE TABLE IF NOT EXISTS left_behind (n int); TRUNCATE left_behind";

/// How a client's end looks from the other side.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// `kill -9`: the kernel closes the socket.
    Killed,
    /// The socket is reset.
    Reset,
}

/// The process of the pool's only server, which a new client of the pool gets.
async fn server(login: &Login) -> String {
    let client = login.connect().await.unwrap();
    rows(&client, "SELECT pg_backend_pid()").await.unwrap()[0][0].clone().unwrap()
}

/// When a client dies.
#[derive(Clone, Copy, Debug)]
enum When {
    /// When it has heard the answer.
    Answered,
    /// While `pg_stat_activity` says this of its server.
    Server(&'static str),
}

/// While it sleeps.
const SLEEPING: When = When::Server("wait_event = 'PgSleep'");

/// Waits for what `pg_stat_activity` is to say of `pid`, asked past Howdah.
async fn server_is(env: &Env, pid: &str, condition: &str) {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND {condition}");
    eventually(condition, CLEANING, async || env.cluster.primary().scalar(&sql).await == "1").await;
}

/// Has a client say `sql` on the pool's only server, and die. What is left, nobody finds.
///
/// psql sends one message for each statement, unless `\;` ends it; the other client sends one for all.
async fn die_of(env: &Env, sql: &str, when: When) {
    rows(&env.app().connect().await.unwrap(), TABLE).await.unwrap();
    for death in [Death::Killed, Death::Reset] {
        let before = server(&env.app()).await;
        match death {
            Death::Killed => kill(env, &before, sql, when).await,
            Death::Reset => reset(env, &before, &wire::query(&sql.replace("\\;", ";")), when).await,
        }
        nothing_is_left(env, &before, &format!("{death:?}: {sql}")).await;
    }
}

async fn kill(env: &Env, pid: &str, sql: &str, when: When) {
    let mut command = binaries::client_program("psql");
    command.args(["-X", "-q"]).envs(env.app().environment());
    let mut psql = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut stdin, stdout) = (psql.stdin.take().unwrap(), psql.stdout.take().unwrap());
    stdin.write_all(format!("{sql};\n\\echo answered\n").as_bytes()).await.unwrap();
    match when {
        When::Answered => {
            let mut lines = BufReader::new(stdout).lines();
            while lines.next_line().await.unwrap().expect("psql goes on") != "answered" {}
        }
        When::Server(condition) => server_is(env, pid, condition).await,
    }
    node::signal("KILL", &[psql.id().unwrap()]);
    psql.wait().await.unwrap();
}

async fn reset(env: &Env, pid: &str, message: &[u8], when: When) {
    let mut client = Wire::connect(&env.app()).await;
    client.send(message).await;
    match when {
        When::Answered => drop(client.until_ready().await),
        When::Server(condition) => server_is(env, pid, condition).await,
    }
    client.reset();
}

/// Panics unless the server that was `pid` is as new, and lent to the next client.
async fn nothing_is_left(env: &Env, pid: &str, what: &str) {
    let next = tokio::time::timeout(CLEANING, server(&env.app())).await;
    assert_eq!(next.expect("the server comes free"), pid, "{what}: the server is kept");
    // Howdah may be looking at the server itself for a moment.
    for sql in [
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND usename = 'app'",
        "SELECT count(*) FROM pg_prepared_xacts",
    ] {
        eventually(&format!("{what}: nothing in {sql}"), CLEANING, async || {
            env.cluster.primary().scalar(sql).await == "0"
        })
        .await;
    }
    let temporary = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'";
    assert_eq!(env.cluster.primary().query_in("app", temporary).await[0][0].as_deref(), Some("0"), "{what}");
    let next = env.app().connect().await.unwrap();
    for (sql, expected) in [
        ("SELECT count(*) FROM pg_cursors", "0"),
        ("SELECT count(*) FROM pg_listening_channels()", "0"),
        ("SELECT count(*) FROM pg_prepared_statements WHERE from_sql", "0"),
        ("SELECT count(*) FROM left_behind", "0"),
        ("SHOW work_mem", "4MB"),
    ] {
        assert_eq!(rows(&next, sql).await.unwrap()[0][0].as_deref(), Some(expected), "{what}: {sql}");
    }
}

async fn nothing_to_hold(env: &Env) {
    die_of(env, "SELECT 'nothing to hold'", When::Answered).await;
}

async fn advisory_locks(env: &Env) {
    die_of(env, "SELECT pg_advisory_lock(77)", When::Answered).await;
    die_of(env, "SELECT pg_advisory_lock(77), pg_sleep(600)", SLEEPING).await;
}

async fn temporary_objects(env: &Env) {
    die_of(env, "CREATE TEMP TABLE t (n int)", When::Answered).await;
    die_of(env, "CREATE TYPE pg_temp.t AS ENUM ('a')", When::Answered).await;
    die_of(env, "CREATE TEMP TABLE t (n int)\\; SELECT pg_sleep(600)", SLEEPING).await;
}

async fn channels(env: &Env) {
    die_of(env, "LISTEN left_behind", When::Answered).await;
}

async fn cursors_with_hold(env: &Env) {
    let sql = "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 10); COMMIT";
    die_of(env, sql, When::Answered).await;
}

async fn statements_and_settings(env: &Env) {
    die_of(env, "PREPARE p AS SELECT 1; SET work_mem = '5MB'", When::Answered).await;
    die_of(env, "SET work_mem = '5MB'\\; SELECT pg_sleep(600)", SLEEPING).await;
}

async fn open_transactions(env: &Env) {
    die_of(env, "BEGIN; INSERT INTO left_behind VALUES (1); SET work_mem = '5MB'", When::Answered).await;
    die_of(env, "BEGIN; LOCK TABLE left_behind; SELECT 1/0", When::Answered).await;
}

/// The one thing that must stay: a transaction that was prepared belongs to nobody.
async fn prepared_transactions_survive(env: &Env) {
    let login = env.app();
    rows(&login.connect().await.unwrap(), TABLE).await.unwrap();
    let pid = server(&login).await;
    let prepare = "BEGIN; INSERT INTO left_behind VALUES (1); PREPARE TRANSACTION 'survivor'";
    kill(env, &pid, prepare, When::Answered).await;
    assert_eq!(server(&login).await, pid);
    assert_eq!(env.cluster.primary().scalar("SELECT gid FROM pg_prepared_xacts").await, "survivor");
    let other = login.connect().await.unwrap();
    assert_eq!(rows(&other, "SELECT count(*) FROM left_behind").await.unwrap()[0][0].as_deref(), Some("0"));
    rows(&other, "COMMIT PREPARED 'survivor'").await.unwrap();
    assert_eq!(rows(&other, "SELECT count(*) FROM left_behind").await.unwrap()[0][0].as_deref(), Some("1"));
    rows(&other, "TRUNCATE left_behind").await.unwrap();
    drop(other);
    nothing_is_left(env, &pid, "committed by another").await;
}

async fn statements_that_run(env: &Env) {
    die_of(env, "SELECT pg_sleep(600)", SLEEPING).await;
    die_of(env, "INSERT INTO left_behind VALUES (1)\\; SELECT pg_sleep(600)", SLEEPING).await;
    die_of(env, "BEGIN; INSERT INTO left_behind VALUES (1); SELECT pg_sleep(600)", SLEEPING).await;
}

/// A result of several gigabytes: more than sockets and buffers hold, so that the server waits for its reader.
async fn results_that_nobody_reads(env: &Env) {
    let pid = server(&env.app()).await;
    let sql = "SELECT repeat('x', 1000) FROM generate_series(1, 5000000)";
    reset(env, &pid, &wire::query(sql), When::Server("wait_event = 'ClientWrite'")).await;
    nothing_is_left(env, &pid, sql).await;
}

async fn copies_in(env: &Env) {
    let sql = "COPY left_behind FROM STDIN";
    die_of(env, sql, When::Server("state = 'active' AND wait_event = 'ClientRead'")).await;
    // With rows on their way.
    let mut client = copying(env).await;
    let pid = env.cluster.primary().scalar("SELECT pid FROM pg_stat_progress_copy").await;
    client.reset();
    nothing_is_left(env, &pid, "COPY with rows").await;
    // With half a message on its way, which nothing can follow: the server ends.
    client = copying(env).await;
    client.send(&wire::copy_data(&b"2\n".repeat(100_000))[..100_000]).await;
    // Not reset: what is on its way arrives.
    drop(client);
    let next = tokio::time::timeout(CLEANING, server(&env.app())).await.expect("another server comes");
    assert_ne!(next, pid);
    nothing_is_left(env, &next, "COPY with half a message").await;
}

/// A client in the middle of a COPY of which rows have arrived.
async fn copying(env: &Env) -> Wire {
    let mut client = Wire::connect(&env.app()).await;
    let rows = wire::copy_data(&b"1\n".repeat(10_000));
    client.send(&[wire::query("COPY left_behind FROM STDIN"), rows].concat()).await;
    eventually("rows arrive", CLEANING, async || {
        let sql = "SELECT coalesce(sum(tuples_processed), 0) > 1000 FROM pg_stat_progress_copy";
        env.cluster.primary().scalar(sql).await == "t"
    })
    .await;
    client
}

async fn copies_out(env: &Env) {
    let pid = server(&env.app()).await;
    let sql = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 5000000)) TO STDOUT";
    reset(env, &pid, &wire::query(sql), When::Server("wait_event = 'ClientWrite'")).await;
    nothing_is_left(env, &pid, sql).await;
}

/// Without Sync there is no commit, whoever sends the Sync in the client's place.
async fn extended_queries_without_sync(env: &Env) {
    let pid = server(&env.app()).await;
    let insert = "WITH slow AS (SELECT pg_sleep(600)) INSERT INTO left_behind SELECT 1 FROM slow";
    for sql in ["INSERT INTO left_behind VALUES (1)", insert, "SELECT generate_series(1, 100)"] {
        for fails in ["SELECT 1", "SELECT 1/0"] {
            let statement = |sql| [wire::parse("", sql, &[]), wire::bind("", "", &[]), wire::execute("", 5)].concat();
            let mut client = Wire::connect(&env.app()).await;
            client.send(&[statement("SET work_mem = '5MB'"), statement(sql)].concat()).await;
            client.send(&[statement(fails), wire::flush()].concat()).await;
            if sql == insert {
                server_is(env, &pid, "wait_event = 'PgSleep'").await;
            } else {
                // The last answer, of the Execute.
                while !matches!(client.receive().await.tag, b'E' | b'D') {}
            }
            client.reset();
            nothing_is_left(env, &pid, &format!("{sql}, {fails}")).await;
        }
    }
}

/// In session pooling a server is its client's until that leaves, and then as new.
async fn session_pooling_keeps_and_cleans(env: &Env) {
    let overrides = [&ONE_SERVER[..], &[("pool.mode", "session")]].concat();
    let howdah = Howdah::start(&env.cluster, &overrides).await;
    let login = Login::app(howdah.port);
    let first = login.connect().await.unwrap();
    let pid = rows(&first, "SELECT pg_backend_pid()").await.unwrap();
    // None of these is seen by reading statements: that is what the mode is for.
    let state = "
        CREATE TEMP TABLE hold (n int);
        DO 'BEGIN PERFORM set_config(''work_mem'', ''5MB'', false), pg_advisory_lock(1); END';
        PREPARE p AS SELECT 'prepared';
        LISTEN left_behind;
        BEGIN;
        DECLARE c CURSOR WITH HOLD FOR SELECT 'held';
        COMMIT;
        SET search_path = nowhere;
    ";
    rows(&first, state).await.unwrap();
    let second = {
        let login = login.clone();
        tokio::spawn(async move {
            let second = login.connect().await.unwrap();
            rows(&second, "SELECT pg_backend_pid()").await.map(|pid| (second, pid)).unwrap()
        })
    };
    for (sql, expected) in [
        ("SELECT count(*) FROM hold", "0"),
        ("SHOW work_mem", "5MB"),
        ("EXECUTE p", "prepared"),
        ("FETCH c", "held"),
        ("SHOW search_path", "nowhere"),
        ("SELECT pg_advisory_unlock(1)", "t"),
    ] {
        assert_eq!(rows(&first, sql).await.unwrap()[0][0].as_deref(), Some(expected), "{sql}");
    }
    assert_eq!(rows(&first, "SELECT pg_backend_pid()").await.unwrap(), pid);
    assert!(!second.is_finished(), "the only server is taken");
    rows(&first, "SELECT pg_advisory_lock(2)").await.unwrap();
    drop(first);
    let (second, its_pid) = tokio::time::timeout(CLEANING, second).await.expect("the server comes free").unwrap();
    assert_eq!(its_pid, pid, "it is kept");
    for (sql, expected) in [
        ("SELECT count(*) FROM pg_class WHERE relpersistence = 't'", "0"),
        ("SELECT count(*) FROM pg_prepared_statements", "0"),
        ("SELECT count(*) FROM pg_cursors", "0"),
        ("SELECT count(*) FROM pg_listening_channels()", "0"),
        ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0"),
        ("SHOW work_mem", "4MB"),
        ("SHOW search_path", "\"$user\", public"),
    ] {
        assert_eq!(rows(&second, sql).await.unwrap()[0][0].as_deref(), Some(expected), "{sql}");
    }
}

async fn session_pooling_has_a_server_for_each(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("pool.size", "3"), ("pool.mode", "session")]).await;
    let login = Login::app(howdah.port);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = login.connect().await.unwrap();
        let pid = rows(&client, "SELECT pg_backend_pid()").await.unwrap()[0][0].clone().unwrap();
        clients.push((client, pid));
    }
    for _ in 0..10 {
        for (client, pid) in &clients {
            let now = rows(client, "BEGIN; SELECT pg_backend_pid(); COMMIT").await.unwrap();
            assert_eq!(now[0][0].as_ref(), Some(pid));
        }
    }
    let mut pids: Vec<_> = clients.iter().map(|(_, pid)| pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 3);
}
