//! Pins: what keeps a server for one client, what policies make of it, and how it is bounded.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::Howdah;
use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::wire::{self, Message, Wire, describe, error_code, first_column};

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &SETTINGS,
        howdah_integration::checks![
            what_is_rejected_does_not_happen,
            a_message_is_rejected_as_a_whole,
            a_pipeline_is_rejected_from_the_statement_on,
            what_is_harmless_is_not_rejected,
            what_cannot_be_seen_pins_all_the_same,
            what_is_ignored_is_lost_and_found_by_nobody,
            what_is_ignored_lasts_for_its_transaction,
            no_reset_removes_a_library,
            who_pins_for_good_leaves_no_server_behind,
            who_moves_a_sequence_keeps_its_server,
            who_asks_for_sequences_elsewhere_is_refused,
            others_sequences_are_not_told,
            the_budget_is_kept,
            the_budget_is_kept_for_sequences,
            who_is_idle_for_too_long_is_let_go,
            pins_are_shown_for_as_long_as_they_last,
            policies_change_with_a_reload,
        ],
    )
}

/// All of these are the same database on the servers, and share its pool.
const DATABASES: &str = "[\
    {name: '*', cluster: main}, \
    {name: rejects, cluster: main, server_database: app, pins: {temporary: reject, hold_cursor: reject, \
        advisory_lock: reject, prepare: reject, load: reject, session_state: reject}}, \
    {name: ignores, cluster: main, server_database: app, pins: {temporary: ignore, hold_cursor: ignore, \
        advisory_lock: ignore, prepare: ignore, load: ignore, session_state: ignore}}, \
    {name: keeps, cluster: main, server_database: app, pins: {sequences: pin}}, \
    {name: keeps_one, cluster: main, server_database: app, pins: {sequences: pin, budget: 1}}, \
    {name: asks_inside, cluster: main, server_database: app, pins: {sequences: reject}}, \
    {name: few, cluster: main, server_database: app, pins: {budget: 1}}, \
    {name: hasty, cluster: main, server_database: app, pins: {timeout: 200ms}}]";

const SETTINGS: [(&str, &str); 5] = [
    ("databases", DATABASES),
    ("pool.size", "3"),
    ("workers", "1"),
    ("routing.reads", "primary"),
    ("auth.method", "trust"),
];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Statements that pin, by reason, and whether a reset makes their server clean.
const PINNING: [(&str, &str, Reset); 9] = [
    ("temporary", "CREATE TEMP TABLE pinning (n int)", Reset::Helps),
    ("temporary", "SELECT 1 AS n INTO TEMP pinning", Reset::Helps),
    ("temporary", "CREATE TYPE pg_temp.pinning AS ENUM ('a')", Reset::Helps),
    ("hold_cursor", "DECLARE pinning CURSOR WITH HOLD FOR SELECT 1", Reset::Helps),
    ("advisory_lock", "SELECT pg_advisory_lock(7)", Reset::Helps),
    ("advisory_lock", "DO 'BEGIN PERFORM pg_try_advisory_lock(7); END'", Reset::Helps),
    ("prepare", "PREPARE pinning AS SELECT 1", Reset::Helps),
    ("session_state", "SELECT set_config('work_mem', '5' || 'MB', false)", Reset::Helps),
    ("session_state", "SELECT setseed(0.5)", Reset::DoesNot),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    Helps,
    DoesNot,
}

/// How a client says something.
#[derive(Clone, Copy, Debug)]
enum Way {
    Simple,
    Extended,
}

const WAYS: [Way; 2] = [Way::Simple, Way::Extended];

/// Parse, Bind and Execute of `sql`.
fn extended(sql: &str) -> Vec<u8> {
    [wire::parse("", sql, &[]), wire::bind("", "", &[]), wire::execute("", 0)].concat()
}

async fn say(client: &mut Wire, way: Way, sql: &str) -> Vec<Message> {
    match way {
        Way::Simple => client.send(&wire::query(sql)).await,
        Way::Extended => client.send(&[extended(sql), wire::sync()].concat()).await,
    }
    client.until_ready().await
}

async fn well(client: &mut Wire, sql: &str) -> Vec<String> {
    let answer = client.query(sql).await;
    assert_eq!(error_code(&answer), None, "{sql}: {answer:?}");
    first_column(&answer)
}

async fn enter(env: &Env, database: &str) -> Wire {
    Wire::connect(&env.app().database(database)).await
}

/// Panics unless `answer` is one error with this code that names `setting`, and leaves the transaction in `status`.
fn assert_refused(answer: &[Message], code: &str, setting: &str, status: u8, what: &str) {
    let errors: Vec<_> = answer.iter().filter(|message| message.tag == b'E').collect();
    assert_eq!(errors.len(), 1, "{what}: {answer:?}");
    let words = describe(errors[0]);
    assert!(words.contains(&format!("C={code}")) && words.contains(setting), "{what}: {words}");
    assert_eq!(answer.last().unwrap().body, [status], "{what}");
}

/// Asked past Howdah: whether anything is left that would pin.
async fn nothing_is_held(env: &Env, what: &str) {
    for sql in [
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        "SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid IN \
            (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_temp\\_%')",
    ] {
        let none = async || env.cluster.primary().query_in("app", sql).await[0][0].as_deref() == Some("0");
        eventually(&format!("{what}: nothing in {sql}"), PATIENCE, none).await;
    }
}

/// The rows of SHOW PINS for the clients of `database`.
async fn pins(howdah: &Howdah, database: &str) -> Vec<Vec<Option<String>>> {
    let console = Login::console(howdah.port).connect().await.unwrap();
    let mut shown = rows(&console, "SHOW PINS").await.unwrap();
    shown.retain(|row| row[0].as_deref() == Some(database));
    shown
}

/// The sum of a metric's series with this label.
async fn metric(howdah: &Howdah, name: &str, label: &str) -> u64 {
    let page = howdah.http("/metrics").await.unwrap().1;
    let series = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

async fn table(env: &Env) {
    let mut client = enter(env, "app").await;
    well(&mut client, "CREATE TABLE IF NOT EXISTS pins_seen (n int); TRUNCATE pins_seen").await;
}

async fn seen(env: &Env) -> Vec<String> {
    well(&mut enter(env, "app").await, "SELECT n FROM pins_seen ORDER BY n").await
}

// === Reject ===

async fn what_is_rejected_does_not_happen(env: &Env) {
    let refused = "howdah_pins_refused_total";
    let before = metric(env.howdah(), refused, "cause=\"policy\"").await;
    let mut count = 0;
    let load = [("load", "LOAD 'plpgsql'", Reset::DoesNot)];
    for (reason, sql, _) in PINNING.into_iter().chain(load) {
        for way in WAYS {
            let setting = format!("pins.{reason}: reject");
            let mut client = enter(env, "rejects").await;
            assert_refused(&say(&mut client, way, sql).await, "0A000", &setting, b'I', sql);
            well(&mut client, "SELECT 1").await;
            // In a block, which no server has begun yet, and which one has.
            for first in [None, Some("SELECT 1")] {
                well(&mut client, "BEGIN").await;
                if let Some(first) = first {
                    well(&mut client, first).await;
                }
                assert_refused(&say(&mut client, way, sql).await, "0A000", &setting, b'E', sql);
                assert_eq!(error_code(&say(&mut client, way, "SELECT 1").await).as_deref(), Some("25P02"), "{sql}");
                well(&mut client, "ROLLBACK").await;
            }
            well(&mut client, "SELECT 1").await;
            assert!(pins(env.howdah(), "rejects").await.is_empty(), "{sql}");
            count += 3;
        }
    }
    nothing_is_held(env, "rejected").await;
    assert_eq!(metric(env.howdah(), refused, "cause=\"policy\"").await - before, count);
}

async fn a_message_is_rejected_as_a_whole(env: &Env) {
    table(env).await;
    let mut client = enter(env, "rejects").await;
    for sql in [
        "INSERT INTO pins_seen VALUES (1); CREATE TEMP TABLE pinning ()",
        "BEGIN; INSERT INTO pins_seen VALUES (1); COMMIT; SELECT pg_advisory_lock(7)",
        "COMMIT; LOAD 'plpgsql'; INSERT INTO pins_seen VALUES (1)",
    ] {
        assert_refused(&client.query(sql).await, "0A000", "reject", b'I', sql);
    }
    assert_eq!(seen(env).await, [""; 0]);
    // Behind a savepoint the transaction goes on.
    well(&mut client, "BEGIN").await;
    well(&mut client, "INSERT INTO pins_seen VALUES (2)").await;
    well(&mut client, "SAVEPOINT s").await;
    assert_refused(&client.query("PREPARE pinning AS SELECT 1").await, "0A000", "pins.prepare", b'E', "savepoint");
    well(&mut client, "ROLLBACK TO s").await;
    well(&mut client, "COMMIT").await;
    assert_eq!(seen(env).await, ["2"]);
}

async fn a_pipeline_is_rejected_from_the_statement_on(env: &Env) {
    table(env).await;
    let mut client = enter(env, "rejects").await;
    let insert = |n: u32| extended(&format!("INSERT INTO pins_seen VALUES ({n})"));
    let batch = [insert(1), extended("SELECT pg_advisory_lock(7)"), insert(2), wire::sync(), insert(3), wire::sync()];
    client.send(&batch.concat()).await;
    assert_refused(&client.until_ready().await, "0A000", "pins.advisory_lock", b'I', "pipeline");
    assert_eq!(error_code(&client.until_ready().await), None, "the next part runs");
    assert_eq!(seen(env).await, ["3"], "what stands before it is rolled back with it");
    // Prepared before, under a name; executed by itself, and by EXECUTE.
    client.send(&[wire::parse("locks", "SELECT pg_advisory_lock($1)", &[]), wire::sync()].concat()).await;
    assert_eq!(error_code(&client.until_ready().await), None, "preparing it takes no lock");
    for _ in 0..2 {
        let batch = [wire::bind("", "locks", &[Some("7")]), wire::execute("", 0), wire::sync()];
        client.send(&batch.concat()).await;
        assert_refused(&client.until_ready().await, "0A000", "pins.advisory_lock", b'I', "named");
    }
    assert_refused(&client.query("EXECUTE locks (7)").await, "0A000", "pins.advisory_lock", b'I', "EXECUTE");
    nothing_is_held(env, "pipeline").await;
}

async fn what_is_harmless_is_not_rejected(env: &Env) {
    let mut client = enter(env, "rejects").await;
    for sql in [
        "SET work_mem = '5MB'",
        "SELECT set_config('work_mem', '6MB', false)",
        "SELECT pg_advisory_xact_lock(7)",
        "SELECT 'create temp table', 'load' AS prepare",
        "LISTEN pinning",
        "UNLISTEN *",
        "BEGIN; CREATE TEMP TABLE pinning () ON COMMIT DROP; COMMIT",
        "BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c; COMMIT",
    ] {
        well(&mut client, sql).await;
    }
    assert_eq!(well(&mut client, "SHOW work_mem").await, ["6MB"]);
    for sql in ["SELECT pg_advisory_xact_lock(7)", "SET work_mem = '7MB'"] {
        assert_eq!(error_code(&say(&mut client, Way::Extended, sql).await), None, "{sql}");
    }
}

/// `pg_advisory_lock(bigint)`, called without any SQL (`src/include/catalog/pg_proc.dat`).
const ADVISORY_LOCK: u32 = 2880;

async fn what_cannot_be_seen_pins_all_the_same(env: &Env) {
    let mut client = enter(env, "rejects").await;
    client.send(&wire::function_call(ADVISORY_LOCK, &["7"])).await;
    assert_eq!(error_code(&client.until_ready().await), None);
    assert_eq!(pins(env.howdah(), "rejects").await[0][8].as_deref(), Some("advisory_lock"));
    assert_eq!(well(&mut client, "SELECT pg_advisory_unlock(7)").await, ["t"]);
    assert!(pins(env.howdah(), "rejects").await.is_empty());
}

// === Ignore ===

async fn what_is_ignored_is_lost_and_found_by_nobody(env: &Env) {
    for (_, sql, reset) in PINNING {
        for way in WAYS {
            let mut client = enter(env, "ignores").await;
            let pid = {
                well(&mut client, "BEGIN").await;
                assert_eq!(error_code(&say(&mut client, way, sql).await), None, "{sql}");
                let pid = well(&mut client, "SELECT pg_backend_pid()").await.concat();
                well(&mut client, "COMMIT").await;
                pid
            };
            assert!(pins(env.howdah(), "ignores").await.is_empty(), "{sql}");
            nothing_is_held(env, sql).await;
            let lives = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
            let expected = if reset == Reset::Helps { "1" } else { "0" };
            eventually(&format!("{sql}: the server is kept, or not"), PATIENCE, async || {
                env.cluster.primary().scalar(&lives).await == expected
            })
            .await;
            // Outside a block; where this cannot fail, and a cursor needs a block.
            let answer = say(&mut client, way, sql).await;
            assert!(error_code(&answer).is_none(), "{sql}: {answer:?}");
            // Neither its own client nor anybody else finds anything.
            for database in ["ignores", "app", "app", "app"] {
                let mut other = if database == "ignores" { client } else { enter(env, database).await };
                for (sql, expected) in [
                    ("SELECT count(*) FROM pg_prepared_statements WHERE from_sql", "0"),
                    ("SELECT count(*) FROM pg_cursors", "0"),
                    ("SELECT to_regclass('pg_temp.pinning') IS NULL", "t"),
                    ("SHOW work_mem", "4MB"),
                ] {
                    assert_eq!(well(&mut other, sql).await, [expected], "{sql}");
                }
                client = other;
            }
        }
    }
}

async fn what_is_ignored_lasts_for_its_transaction(env: &Env) {
    let mut client = enter(env, "ignores").await;
    // What the client has set and prepared itself goes along with it, wherever it is led.
    well(&mut client, "SET work_mem = '5MB'").await;
    client.send(&[wire::parse("own", "SELECT 'own'", &[]), wire::sync()].concat()).await;
    client.until_ready().await;
    for _ in 0..3 {
        well(&mut client, "BEGIN").await;
        well(&mut client, "CREATE TEMP TABLE pinning AS SELECT 5 AS n").await;
        well(&mut client, "PREPARE pinning AS SELECT n FROM pinning").await;
        assert_eq!(well(&mut client, "EXECUTE pinning").await, ["5"]);
        client.send(&[wire::bind("", "own", &[]), wire::execute("", 0), wire::sync()].concat()).await;
        assert_eq!(first_column(&client.until_ready().await), ["own"]);
        well(&mut client, "COMMIT").await;
        assert_eq!(error_code(&client.query("EXECUTE pinning").await).as_deref(), Some("26000"));
        assert_eq!(error_code(&client.query("SELECT n FROM pinning").await).as_deref(), Some("42P01"));
        assert_eq!(well(&mut client, "SHOW work_mem").await, ["5MB"]);
        // Rolled back, it was never there.
        well(&mut client, "BEGIN; CREATE TEMP TABLE pinning (); ROLLBACK").await;
    }
    nothing_is_held(env, "ignored").await;
}

async fn no_reset_removes_a_library(env: &Env) {
    let login = Login::superuser(env.port()).database("ignores");
    let mut client = Wire::connect(&login).await;
    for way in WAYS {
        well(&mut client, "BEGIN").await;
        assert_eq!(error_code(&say(&mut client, way, "LOAD 'plpgsql'").await), None);
        let pid = well(&mut client, "SELECT pg_backend_pid()").await.concat();
        well(&mut client, "COMMIT").await;
        let lives = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        eventually("its server is closed", PATIENCE, async || env.cluster.primary().scalar(&lives).await == "0").await;
        // The next one is not.
        let pid = well(&mut client, "SELECT pg_backend_pid()").await;
        assert_eq!(well(&mut client, "SELECT pg_backend_pid()").await, pid);
    }
}

/// What no reset removes is not handed on when its client has left, or has discarded all that can be.
async fn who_pins_for_good_leaves_no_server_behind(env: &Env) {
    let login = Login::superuser(env.port()).database("app");
    for sql in ["LOAD 'plpgsql'", "SELECT setseed(0.5)", "BEGIN; LOAD 'plpgsql'; ROLLBACK"] {
        for farewell in [Some(wire::query("DISCARD ALL")), Some(wire::message(b'X', &[])), None] {
            let mut client = Wire::connect(&login).await;
            well(&mut client, sql).await;
            let pid = well(&mut client, "SELECT pg_backend_pid()").await.concat();
            assert_eq!(pins(env.howdah(), "app").await.len(), 1, "{sql}");
            let lives = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
            if let Some(farewell) = &farewell {
                client.send(farewell).await;
            } else {
                drop(client);
            }
            eventually("its server is closed", PATIENCE, async || env.cluster.primary().scalar(&lives).await == "0")
                .await;
        }
    }
}

// === Sequences ===

/// Tables that draw from sequences, each from another number on; they are known when this returns.
async fn sequences(env: &Env) {
    let mut client = enter(env, "app").await;
    well(
        &mut client,
        "CREATE TABLE IF NOT EXISTS pins_serial (id serial, n int); CREATE TABLE IF NOT EXISTS pins_identity (id int GENERATED ALWAYS AS \
         IDENTITY (START 1000), n int); CREATE SEQUENCE IF NOT EXISTS pins_sequence START 100000; \
         CREATE OR REPLACE FUNCTION pins_insert() RETURNS int LANGUAGE plpgsql AS $$ DECLARE given int; BEGIN \
         INSERT INTO pins_serial (n) VALUES (1) RETURNING id INTO given; RETURN given; END $$",
    )
    .await;
    eventually("the tables are known", PATIENCE, async || {
        let mut client = enter(env, "keeps").await;
        well(&mut client, "SELECT pins_insert()").await;
        let function = pins(env.howdah(), "keeps").await.len() == 1;
        let mut client = enter(env, "keeps").await;
        well(&mut client, "INSERT INTO pins_identity (n) VALUES (1)").await;
        function && !pins(env.howdah(), "keeps").await.is_empty()
    })
    .await;
    eventually("nobody is pinned", PATIENCE, async || pins(env.howdah(), "keeps").await.is_empty()).await;
}

/// Takes every server once, and moves another sequence there.
async fn others_move_sequences(env: &Env) {
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = enter(env, "app").await;
        well(&mut other, "BEGIN").await;
        well(&mut other, "SELECT nextval('pins_sequence')").await;
        others.push(other);
    }
    for other in &mut others {
        well(other, "COMMIT").await;
    }
}

async fn who_moves_a_sequence_keeps_its_server(env: &Env) {
    sequences(env).await;
    for (sql, way) in [
        ("INSERT INTO pins_serial (n) VALUES (1) RETURNING id", Way::Simple),
        ("INSERT INTO pins_identity (n) VALUES (2) RETURNING id", Way::Extended),
        ("SELECT pins_insert()", Way::Extended),
        ("SELECT nextval('pins_sequence')", Way::Simple),
    ] {
        let mut client = enter(env, "keeps").await;
        let given = say(&mut client, way, sql).await;
        assert_eq!(error_code(&given), None, "{sql}");
        assert_eq!(pins(env.howdah(), "keeps").await[0][8].as_deref(), Some("sequences"), "{sql}");
        others_move_sequences(env).await;
        assert_eq!(well(&mut client, "SELECT lastval()").await, first_column(&given), "{sql}");
        // An error takes nothing back.
        assert_eq!(error_code(&client.query("SELECT 1/0").await).as_deref(), Some("22012"));
        assert_eq!(
            first_column(&say(&mut client, Way::Extended, "SELECT lastval()").await),
            first_column(&given),
            "{sql}"
        );
        well(&mut client, "DISCARD SEQUENCES").await;
        assert!(pins(env.howdah(), "keeps").await.is_empty(), "{sql}");
        assert_eq!(error_code(&client.query("SELECT lastval()").await).as_deref(), Some("55000"), "{sql}");
        // What is kept from now on is the client's own alone.
        others_move_sequences(env).await;
        well(&mut client, "INSERT INTO pins_serial (n) VALUES (3)").await;
        let asked = client.query("SELECT currval('pins_sequence')").await;
        assert_eq!(error_code(&asked).as_deref(), Some("55000"), "{sql}: {asked:?}");
        well(&mut client, "DISCARD ALL").await;
        assert!(pins(env.howdah(), "keeps").await.is_empty(), "{sql}");
    }
}

async fn who_asks_for_sequences_elsewhere_is_refused(env: &Env) {
    sequences(env).await;
    let mut client = enter(env, "asks_inside").await;
    well(&mut client, "INSERT INTO pins_serial (n) VALUES (1)").await;
    for way in WAYS {
        for sql in ["SELECT lastval()", "SELECT pg_catalog.currval('pins_serial_id_seq')"] {
            assert_refused(&say(&mut client, way, sql).await, "0A000", "pins.sequences: reject", b'I', sql);
            well(&mut client, "SELECT 1").await;
        }
        // Where there can be no doubt they are welcome.
        well(&mut client, "BEGIN").await;
        let given = well(&mut client, "INSERT INTO pins_serial (n) VALUES (1) RETURNING id").await;
        assert_eq!(first_column(&say(&mut client, way, "SELECT lastval()").await), given);
        well(&mut client, "COMMIT").await;
        let both = say(&mut client, way, "SELECT nextval('pins_sequence') - currval('pins_sequence')").await;
        assert_eq!(first_column(&both), ["0"]);
    }
    well(&mut client, "INSERT INTO pins_serial (n) VALUES (1); SELECT lastval()").await;
    assert!(pins(env.howdah(), "asks_inside").await.is_empty());
}

/// Whatever the policy: not even in a transaction in which the client has not written before it asks.
async fn others_sequences_are_not_told(env: &Env) {
    sequences(env).await;
    for database in ["app", "asks_inside", "keeps"] {
        others_move_sequences(env).await;
        let mut client = enter(env, database).await;
        well(&mut client, "BEGIN").await;
        well(&mut client, "SELECT 1").await;
        assert_eq!(error_code(&client.query("SELECT lastval()").await).as_deref(), Some("55000"), "{database}");
        well(&mut client, "ROLLBACK").await;
    }
}

// === Bounds ===

async fn the_budget_is_kept(env: &Env) {
    let refused = "howdah_pins_refused_total";
    let before = metric(env.howdah(), refused, "cause=\"budget\"").await;
    let (mut first, mut second) = (enter(env, "few").await, enter(env, "few").await);
    well(&mut first, "SELECT pg_advisory_lock(1)").await;
    for way in WAYS {
        for sql in ["SELECT pg_advisory_lock(2)", "CREATE TEMP TABLE pinning ()", "PREPARE pinning AS SELECT 1"] {
            assert_refused(&say(&mut second, way, sql).await, "53300", "pins.budget", b'I', sql);
            well(&mut second, "BEGIN").await;
            assert_refused(&say(&mut second, way, sql).await, "53300", "pins.budget", b'E', sql);
            well(&mut second, "ROLLBACK").await;
        }
    }
    assert_eq!(metric(env.howdah(), refused, "cause=\"budget\"").await - before, 12);
    // Who is pinned may have more reasons, and others go on.
    well(&mut first, "CREATE TEMP TABLE pinning ()").await;
    well(&mut second, "SELECT 1").await;
    well(&mut first, "DROP TABLE pinning; SELECT pg_advisory_unlock(1)").await;
    assert!(pins(env.howdah(), "few").await.is_empty());
    // A statement that fails, or pins nothing after all, takes no place.
    assert_eq!(error_code(&first.query("CREATE TEMP TABLE pinning (n nonsense)").await).as_deref(), Some("42704"));
    well(&mut first, "BEGIN; CREATE TEMP TABLE pinning () ON COMMIT DROP; COMMIT").await;
    assert_eq!(say(&mut second, Way::Extended, "SELECT pg_advisory_lock(2)").await.last().unwrap().body, b"I");
    assert_eq!(pins(env.howdah(), "few").await.len(), 1);
    assert_refused(&first.query("SELECT pg_advisory_lock(1)").await, "53300", "pins.budget", b'I', "the second's");
    // A client that leaves gives its place up.
    drop(second);
    eventually("the place is free", PATIENCE, async || {
        error_code(&first.query("SELECT pg_advisory_lock(1)").await).is_none()
    })
    .await;
    // What is seen too late is over the budget, and counted.
    let mut third = enter(env, "few").await;
    third.send(&wire::function_call(ADVISORY_LOCK, &["3"])).await;
    assert_eq!(error_code(&third.until_ready().await), None);
    assert_eq!(pins(env.howdah(), "few").await.len(), 2);
    well(&mut first, "SELECT pg_advisory_unlock_all()").await;
    assert_refused(&first.query("SELECT pg_advisory_lock(1)").await, "53300", "pins.budget", b'I', "the third's");
    well(&mut third, "SELECT pg_advisory_unlock_all()").await;
    well(&mut first, "SELECT pg_advisory_lock(1), pg_advisory_unlock(1)").await;
}

async fn the_budget_is_kept_for_sequences(env: &Env) {
    sequences(env).await;
    let (mut first, mut second) = (enter(env, "keeps_one").await, enter(env, "keeps_one").await);
    well(&mut first, "INSERT INTO pins_serial (n) VALUES (1)").await;
    for way in WAYS {
        for sql in ["INSERT INTO pins_serial (n) VALUES (1)", "SELECT nextval('pins_sequence')"] {
            assert_refused(&say(&mut second, way, sql).await, "53300", "pins.budget", b'I', sql);
            well(&mut second, "BEGIN").await;
            assert_refused(&say(&mut second, way, sql).await, "53300", "pins.budget", b'E', sql);
            well(&mut second, "ROLLBACK").await;
        }
    }
    well(&mut first, "DISCARD SEQUENCES").await;
    well(&mut second, "INSERT INTO pins_serial (n) VALUES (1)").await;
}

async fn who_is_idle_for_too_long_is_let_go(env: &Env) {
    let timeouts = "howdah_pin_timeouts_total";
    let before = metric(env.howdah(), timeouts, "").await;
    let (mut pinned, mut free) = (enter(env, "hasty").await, enter(env, "hasty").await);
    well(&mut free, "SELECT 1").await;
    well(&mut pinned, "SELECT pg_advisory_lock(7)").await;
    let farewell = pinned.receive().await;
    let words = describe(&farewell);
    assert!(words.contains("C=57P05") && words.contains("pins.timeout"), "{words}");
    assert!(words.contains("S=FATAL") && words.contains("advisory_lock"), "{words}");
    assert!(pinned.next_or_end().await.is_none());
    nothing_is_held(env, "let go").await;
    well(&mut free, "SELECT 1").await;
    assert_eq!(metric(env.howdah(), timeouts, "").await - before, 1);
}

async fn pins_are_shown_for_as_long_as_they_last(env: &Env) {
    let howdah = env.howdah();
    assert!(pins(howdah, "app").await.is_empty());
    let mut client = enter(env, "app").await;
    well(&mut client, "CREATE TEMP TABLE pinning (n int)").await;
    let pid = well(&mut client, "SELECT pg_backend_pid()").await.concat();
    let shown = pins(howdah, "app").await;
    let [row] = &shown[..] else { panic!("{shown:?}") };
    let text = |at: usize| row[at].clone().unwrap_or_default();
    assert_eq!((text(1).as_str(), text(3).as_str()), ("app", "127.0.0.1"));
    assert_eq!((text(7), text(8)), (pid, "temporary".to_owned()));
    assert!(text(9).len() == 16 && u64::from_str_radix(&text(9), 16).is_ok(), "{row:?}");
    assert!(text(10).parse::<u64>().is_ok() && text(11).parse::<u64>().is_ok(), "{row:?}");
    let digest = text(9);
    // Another reason joins; the statement is the one that pinned first.
    well(&mut client, "PREPARE pinning AS SELECT 1").await;
    let shown = pins(howdah, "app").await;
    assert_eq!(shown[0][8].as_deref(), Some("temporary,prepare"));
    assert_eq!(shown[0][9].as_ref(), Some(&digest));
    well(&mut client, "DROP TABLE pinning").await;
    assert_eq!(pins(howdah, "app").await[0][8].as_deref(), Some("prepare"));
    well(&mut client, "DEALLOCATE pinning").await;
    assert!(pins(howdah, "app").await.is_empty());
    let console = Login::console(howdah.port).connect().await.unwrap();
    let totals = rows(&console, "SHOW PIN_TOTALS").await.unwrap();
    let temporary = totals.iter().find(|row| row[0].as_deref() == Some("temporary")).unwrap();
    assert!(temporary[2].as_deref().unwrap().parse::<u64>().unwrap() >= 1, "{temporary:?}");
    // The same statement has the same digest, whoever runs it and whatever its literals are.
    let mut other = enter(env, "app").await;
    say(&mut other, Way::Extended, "CREATE  TEMP  TABLE pinning (n int)").await;
    assert_eq!(pins(howdah, "app").await[0][9].as_ref(), Some(&digest));
}

async fn policies_change_with_a_reload(env: &Env) {
    let settings = [("auth.method", "trust"), ("routing.reads", "primary")];
    let howdah = Howdah::start(&env.cluster, &settings).await;
    let (mut pinned, mut free) =
        (Wire::connect(&Login::app(howdah.port)).await, Wire::connect(&Login::app(howdah.port)).await);
    for client in [&mut pinned, &mut free] {
        well(client, "PREPARE before AS SELECT 1").await;
    }
    well(&mut free, "DEALLOCATE before").await;
    howdah.reload(&env.cluster, &[&settings[..], &[("pins.prepare", "reject")]].concat());
    eventually("it is reloaded", PATIENCE, async || howdah.log().contains("configuration reloaded")).await;
    for client in [&mut pinned, &mut free] {
        assert_refused(&client.query("PREPARE after AS SELECT 1").await, "0A000", "pins.prepare", b'I', "reloaded");
    }
    assert_eq!(well(&mut pinned, "EXECUTE before").await, ["1"], "what pins already goes on");
    // A time-out holds for those who wait already.
    howdah.reload(&env.cluster, &[&settings[..], &[("pins.timeout", "100ms")]].concat());
    assert!(describe(&pinned.receive().await).contains("pins.timeout"));
    well(&mut free, "SELECT 1").await;
}
