//! psql and `pg_dump`, as people use them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::binaries;
use howdah_integration::session::{Login, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{Finished, psql, psql_with, run};

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Drivers,
        // So few servers that sessions must share them.
        &[("pool.size", "3")],
        howdah_integration::checks![
            statements_go_where_they_belong,
            transactions_stay_together,
            several_statements_in_one_message,
            errors_have_a_position,
            notices_arrive,
            describe_without_running,
            bind_parameters,
            backslash_commands,
            copy_in_and_out,
            settings_survive_among_other_sessions,
            sql_level_prepared_statements_survive,
            temporary_tables_survive,
            listen_and_notify,
            cursors,
            large_result,
            wrong_password_and_database,
            dump_is_the_same_as_without,
            locks_of_others_hold_up_no_reads,
        ],
    )
}

async fn statements_go_where_they_belong(env: &Env) {
    let script = "
        CREATE TABLE items (id int PRIMARY KEY, name text);
        INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 100) i;
        SELECT count(*) FROM items AS marker_read;
        SELECT count(*) AS marker_catalog FROM pg_class;
        UPDATE items SET name = 'changed' WHERE id = 1;
        SELECT name FROM items AS marker_after_write WHERE id = 1;
        WITH gone AS (DELETE FROM items WHERE id = 2 RETURNING id) SELECT id AS marker_hidden_write FROM gone;
        SELECT id AS marker_lock FROM items WHERE id = 3 FOR UPDATE;
        TABLE items;
    ";
    let out = psql(&env.app(), script).await.expect_success();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[0], lines[2], lines[3], lines[4], lines.len()), ("100", "changed", "2", "3", 5 + 99));
    for pattern in ["INSERT INTO items%", "UPDATE items%", "%marker_hidden_write%", "%marker_lock%"] {
        env.assert_only_on_primary(pattern).await;
    }
    // Right after a write a replica may be too late, and then the primary answers; not on a quiet cluster.
    env.read_by_replicas("items").await;
    env.cluster.forget_calls().await;
    for _ in 0..10 {
        psql(&env.app(), "SELECT name FROM items AS marker_quiet WHERE id = 5;").await.expect_success();
    }
    env.assert_only_on_replicas("%marker_quiet%").await;
}

async fn transactions_stay_together(env: &Env) {
    let script = "
        CREATE TABLE ledger (n int);
        BEGIN;
        INSERT INTO ledger VALUES (1);
        SELECT sum(n) FROM ledger AS marker_in_transaction;
        ROLLBACK;
        SELECT count(*) FROM ledger;
        BEGIN;
        INSERT INTO ledger VALUES (2);
        SAVEPOINT s;
        INSERT INTO ledger VALUES ('x');
        ROLLBACK TO s;
        INSERT INTO ledger VALUES (3);
        COMMIT;
        SELECT sum(n) FROM ledger;
    ";
    let done = psql(&env.app(), script).await;
    assert_eq!(done.out, "1\n0\n5\n");
    assert!(done.err.contains("invalid input syntax for type integer"), "{}", done.err);
    env.assert_only_on_primary("%marker_in_transaction%").await;
}

async fn several_statements_in_one_message(env: &Env) {
    let out = psql(&env.app(), "SELECT 1\\; SELECT 2 AS marker_several\\; SELECT 3;").await.expect_success();
    assert_eq!(out, "1\n2\n3\n");
    // One message is one transaction: an error undoes what came before it.
    let script = "CREATE TABLE whole (n int);
        INSERT INTO whole VALUES (1)\\; SELECT 1/0\\; INSERT INTO whole VALUES (2);
        SELECT count(*) FROM whole;";
    let done = psql(&env.app(), script).await;
    assert_eq!(done.out, "0\n");
    assert!(done.err.contains("division by zero"), "{}", done.err);
    env.assert_only_on_primary("INSERT INTO whole%").await;
}

async fn errors_have_a_position(env: &Env) {
    let done = psql(&env.app(), "SELECT 1 +\n  missing_column;\n").await;
    assert!(done.err.contains("column \"missing_column\" does not exist"), "{}", done.err);
    assert!(done.err.contains("LINE 2:   missing_column;\n          ^"), "{}", done.err);
    // The first statement of a transaction whose BEGIN may not have been sent yet.
    let done = psql(&env.app(), "BEGIN;\nSELECT 1 +\n  missing_column;\nROLLBACK;\nSELECT 'after';").await;
    assert!(done.err.contains("LINE 2:   missing_column;\n          ^"), "{}", done.err);
    assert_eq!(done.out, "after\n");
    let done = psql_with(&env.app(), &["-v", "ON_ERROR_STOP=1"], "SELECT 1/0;").await;
    assert_eq!(done.code, Some(3));
}

async fn notices_arrive(env: &Env) {
    let script = "DO $$ BEGIN RAISE NOTICE 'marker %', 6 * 7; RAISE WARNING 'careful' USING HINT = 'a hint'; END $$;
        DROP TABLE IF EXISTS never_was;";
    let done = psql(&env.app(), script).await;
    for expected in ["NOTICE:  marker 42", "WARNING:  careful", "HINT:  a hint", "table \"never_was\" does not exist"] {
        assert!(done.err.contains(expected), "{expected} is not in {}", done.err);
    }
}

async fn describe_without_running(env: &Env) {
    let out = psql(&env.app(), "SELECT 1::bigint AS a, 'x'::varchar(5) AS b \\gdesc").await.expect_success();
    assert_eq!(out, "a|bigint\nb|character varying(5)\n");
}

async fn bind_parameters(env: &Env) {
    let version = psql_with(&env.app(), &["--version"], "").await.expect_success();
    let release = version.split_whitespace().nth(2).and_then(|text| text.split('.').next()?.parse::<u32>().ok());
    if release.unwrap() < 16 {
        // \bind came with psql 16; elsewhere in these tests drivers bind parameters.
        return;
    }
    let out = psql(&env.app(), "SELECT $1::int + $2::int \\bind 20 22 \\g").await.expect_success();
    assert_eq!(out, "42\n");
}

async fn backslash_commands(env: &Env) {
    let script =
        "CREATE TABLE shown (id serial PRIMARY KEY, t text UNIQUE);\n\\d shown\n\\dt\n\\l\n\\du\n\\df\n\\conninfo\n";
    let done = psql_with(&env.app(), &["-P", "tuples_only=off"], script).await;
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    for expected in ["nextval('shown_id_seq'::regclass)", "shown_t_key", "pg_monitor", "UTF8"] {
        assert!(done.out.contains(expected), "{expected} is not in {}", done.out);
    }
    // What they ask is the same everywhere.
    env.read_by_replicas("shown").await;
    env.cluster.forget_calls().await;
    let script = "\\d shown\n\\du\n\\dp\nSELECT count(*) AS marker_standard FROM information_schema.columns;";
    psql(&env.app(), script).await.expect_success();
    for pattern in [
        "%pg_get_indexdef%",
        "%pg_get_statisticsobjdef_columns%",
        "%pg_relation_is_publishable%",
        "%pg_catalog.pg_policy pol%",
        "%FROM pg_catalog.pg_roles r%",
        "%c.relacl%",
        "%marker_standard%",
    ] {
        env.assert_only_on_replicas(pattern).await;
    }
}

async fn copy_in_and_out(env: &Env) {
    let input = env.cluster.directory().join("copy.in");
    let output = env.cluster.directory().join("copy.out");
    let lines = (0..50_000).map(|i| format!("{i}\trow number {i}")).collect::<Vec<_>>().join("\n") + "\n";
    std::fs::write(&input, &lines).unwrap();
    let script = format!(
        "CREATE TABLE copied (id int, t text);
        \\copy copied FROM '{}'
        SELECT count(*) FROM copied;
        \\copy (SELECT * FROM copied ORDER BY id) TO '{}'
        COPY (SELECT 'marker_copy_out') TO STDOUT;
        COPY copied FROM STDIN;\n1\tlast\n\\.\n
        SELECT count(*) FROM copied;\n",
        input.display(),
        output.display()
    );
    let out = psql(&env.app(), &script).await.expect_success();
    assert_eq!(out, "50000\nmarker_copy_out\n50001\n");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), lines);
    env.assert_only_on_primary("COPY%copied%FROM STDIN%").await;
    let done = psql(&env.app(), "COPY copied FROM STDIN;\nnot a number\tx\n\\.\n\nSELECT 'lives';").await;
    assert!(done.err.contains("invalid input syntax for type integer"), "{}", done.err);
    assert_eq!(done.out, "lives\n");
}

/// Runs `work` while eight sessions with other settings use the same few servers.
async fn among_others(env: &Env, work: impl Future<Output = Finished>) -> Finished {
    let login = env.app();
    let others = (0..8).map(|number| other_session(&login, number));
    tokio::select! {
        done = work => done,
        (fault, _, _) = futures_util::future::select_all(others.map(Box::pin)) => panic!("another session: {fault:?}"),
    }
}

/// Works until something is wrong, and returns what.
async fn other_session(login: &Login, number: u32) -> tokio_postgres::Error {
    let endless = async {
        let client = login.connect().await?;
        let set = format!("SET work_mem = '{}kB'; SET search_path = other_{number}", 100 + number);
        rows(&client, &set).await?;
        loop {
            let value = rows(&client, "SHOW work_mem").await?;
            assert_eq!(value[0][0].as_deref(), Some(format!("{}kB", 100 + number).as_str()));
            rows(&client, "BEGIN; SELECT pg_sleep(0.002); COMMIT").await?;
        }
    };
    let result: Result<std::convert::Infallible, tokio_postgres::Error> = endless.await;
    match result {
        Err(error) => error,
    }
}

async fn settings_survive_among_other_sessions(env: &Env) {
    let mut script =
        String::from("SET work_mem = '7777kB'; SET search_path = mine, public; SET TIME ZONE 'Asia/Tokyo';\n");
    for _ in 0..40 {
        script
            .push_str("SHOW work_mem; SELECT current_setting('search_path'); SHOW timezone; SELECT pg_sleep(0.01);\n");
    }
    script.push_str("BEGIN; SET LOCAL work_mem = '8888kB'; SHOW work_mem; COMMIT; SHOW work_mem;\n");
    script.push_str("BEGIN; SET work_mem = '9999kB'; ROLLBACK; SHOW work_mem; RESET work_mem; SHOW work_mem;\n");
    let out = among_others(env, psql(&env.app(), &script)).await.expect_success();
    let expected = "7777kB\nmine, public\nAsia/Tokyo\n\n".repeat(40) + "8888kB\n7777kB\n7777kB\n4MB\n";
    assert_eq!(out, expected);
}

async fn sql_level_prepared_statements_survive(env: &Env) {
    let mut script = String::from("PREPARE double (int) AS SELECT $1 * 2 AS marker_prepared;\n");
    for _ in 0..40 {
        script.push_str("EXECUTE double(21); SELECT pg_sleep(0.01);\n");
    }
    script.push_str("DEALLOCATE double;\nEXECUTE double(1);\n");
    let done = among_others(env, psql(&env.app(), &script)).await;
    assert_eq!(done.out, "42\n\n".repeat(40));
    assert!(done.err.contains("prepared statement \"double\" does not exist"), "{}", done.err);
}

async fn temporary_tables_survive(env: &Env) {
    let mut script = String::from("CREATE TEMP TABLE mine AS SELECT 42 AS n;\n");
    for _ in 0..40 {
        script.push_str("SELECT n FROM mine AS marker_temporary; SELECT pg_sleep(0.01);\n");
    }
    let out = among_others(env, psql(&env.app(), &script)).await.expect_success();
    assert_eq!(out, "42\n\n".repeat(40));
    env.assert_only_on_primary("%marker_temporary%").await;
}

async fn listen_and_notify(env: &Env) {
    let login = env.app();
    let listening =
        psql(&login, "LISTEN news;\nSELECT pg_sleep(2);\nNOTIFY news, 'own';\nSELECT pg_sleep(0.5);\nSELECT 1;\n");
    let telling = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        psql(&env.app(), "NOTIFY news, 'hello'; NOTIFY other, 'not for us';").await.expect_success()
    };
    let (listened, _) = tokio::join!(listening, telling);
    let out = listened.expect_success();
    for payload in ["hello", "own"] {
        let expected = format!("Asynchronous notification \"news\" with payload \"{payload}\" received");
        assert!(out.contains(&expected), "{expected} is not in {out}");
    }
    assert!(!out.contains("not for us"), "{out}");
}

async fn cursors(env: &Env) {
    let script = "
        BEGIN;
        DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 1000) i;
        FETCH 2 FROM c;
        MOVE 500 FROM c;
        FETCH 1 FROM c;
        CLOSE c;
        COMMIT;
        DECLARE held CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 3) i;
        FETCH 1 FROM held;
        SELECT pg_sleep(0.01);
        FETCH ALL FROM held;
        CLOSE held;
    ";
    let out = among_others(env, psql(&env.app(), script)).await.expect_success();
    assert_eq!(out, "1\n2\n503\n1\n\n2\n3\n");
    // psql's own way of reading by cursor.
    let script = "\\set FETCH_COUNT 100\nSELECT i FROM generate_series(1, 1000) i;\n";
    assert_eq!(psql(&env.app(), script).await.expect_success().lines().count(), 1000);
}

async fn large_result(env: &Env) {
    const ROWS: usize = 100_000;
    let script =
        format!("\\o | wc -c\nSELECT repeat('x', 1000) AS marker_large FROM generate_series(1, {ROWS});\n\\o\n");
    let out = psql(&env.app(), &script).await.expect_success();
    assert_eq!(out.trim(), (ROWS * 1001).to_string());
    env.assert_only_on_replicas("%marker_large%").await;
    let script = format!(
        "\\copy (SELECT repeat('y', 1000) FROM generate_series(1, {ROWS})) TO PROGRAM 'wc -c >{}'\n",
        env.cluster.directory().join("count").display()
    );
    psql(&env.app(), &script).await.expect_success();
    let count = std::fs::read_to_string(env.cluster.directory().join("count")).unwrap();
    assert_eq!(count.trim(), (ROWS * 1001).to_string());
}

async fn wrong_password_and_database(env: &Env) {
    let wrong = Login { password: "guess".into(), ..env.app() };
    let done = psql(&wrong, "SELECT 1").await;
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("password authentication failed for user \"app\""), "{}", done.err);
    let done = psql(&env.app().database("nowhere"), "SELECT 1").await;
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("database \"nowhere\" does not exist"), "{}", done.err);
}

async fn dump_is_the_same_as_without(env: &Env) {
    let script = "CREATE SCHEMA dumped; CREATE TABLE dumped.t (id serial PRIMARY KEY, v jsonb);
        INSERT INTO dumped.t (v) SELECT jsonb_build_object('n', i) FROM generate_series(1, 5000) i;
        CREATE VIEW dumped.v AS SELECT count(*) FROM dumped.t;";
    psql(&env.app(), script).await.expect_success();
    let dump = async |login: Login| {
        let mut command = binaries::client_program("pg_dump");
        command.args(["--schema=dumped", "--no-sync"]).envs(login.environment());
        run(command, "", Duration::from_secs(60)).await.expect_success()
    };
    let through = dump(env.app()).await;
    assert_eq!(comparable(&through), comparable(&dump(Login::app(env.cluster.primary().port)).await));
    assert!(through.contains("5000\t{\"n\": 5000}"), "the data is part of it");
    // And back in.
    psql(&env.app(), "DROP SCHEMA dumped CASCADE;").await.expect_success();
    psql_with(&env.app(), &["-v", "ON_ERROR_STOP=1", "-1"], &through).await.expect_success();
    assert_eq!(psql(&env.app(), "SELECT count FROM dumped.v;").await.expect_success(), "5000\n");
}

/// Newer releases guard a dump against psql commands in data with a random key.
fn comparable(dump: &str) -> Vec<&str> {
    dump.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict")).collect()
}

/// To give out the text of a view, PostgreSQL locks what the view reads: Howdah must neither wait for that nor be waited for.
async fn locks_of_others_hold_up_no_reads(env: &Env) {
    let holder = env.app().connect().await.unwrap();
    rows(&holder, "CREATE TABLE held (n int); CREATE VIEW held_view AS SELECT n FROM held").await.unwrap();
    rows(&holder, "BEGIN; LOCK TABLE held").await.unwrap();
    let beside = env.app().connect().await.unwrap();
    rows(&beside, "CREATE TABLE beside_held (n int)").await.unwrap();
    env.read_by_replicas("beside_held").await;
    rows(&holder, "COMMIT").await.unwrap();
    env.read_by_replicas("held_view").await;
}
