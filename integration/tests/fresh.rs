//! Whose writes a read sees, and that time does not go back for who reads, while replicas apply late.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::Howdah;
use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::wire::{Message, Wire, bind, execute, parse, query, sync};
use tokio_postgres::Client;

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &[("routing.consistency", "session"), ("routing.wait", "20ms"), ("clusters.main.monitor.interval", "200ms")],
        howdah_integration::checks![
            a_scope_sees_what_its_clients_wrote,
            a_position_can_be_handed_on,
            time_does_not_go_back,
            transactions_read_on_replicas_until_they_write,
            the_time_of_a_transaction_is_one,
            a_transaction_sees_what_was_written_meanwhile,
            a_transaction_outlives_its_replica,
            transactions_that_cannot_move_do_not_start_on_replicas,
            what_comes_with_begin_decides_where,
            only_what_was_written_to_is_waited_for,
            a_write_that_passed_for_a_read_is_waited_for,
            nothing_comes_behind_a_begin_that_is_refused,
        ],
    )
}

/// A table of one row, which is on all nodes, and known to be read there.
async fn register(env: &Env, name: &str) {
    let client = env.app().connect().await.unwrap();
    client.batch_execute(&format!("CREATE TABLE {name} (n int); INSERT INTO {name} VALUES (0)")).await.unwrap();
    env.read_by_replicas(name).await;
    env.cluster.caught_up(env.cluster.primary()).await;
}

/// Has both replicas apply what was committed so many milliseconds ago.
async fn apply_late(env: &Env, milliseconds: u32) {
    for replica in env.cluster.replicas() {
        replica.apply_late(milliseconds).await;
    }
}

async fn read(client: &Client, table: &str) -> i32 {
    rows(client, &format!("SELECT n FROM {table}")).await.unwrap()[0][0].as_deref().unwrap().parse().unwrap()
}

async fn write(client: &Client, table: &str, value: i32) {
    rows(client, &format!("UPDATE {table} SET n = {value}")).await.unwrap();
}

async fn set(client: &Client, name: &str, value: &str) {
    rows(client, &format!("SET howdah.{name} = '{value}'")).await.unwrap();
}

async fn a_scope_sees_what_its_clients_wrote(env: &Env) {
    register(env, "scoped").await;
    apply_late(env, 1500).await;
    let (writer, friend, stranger) =
        (env.app().connect().await.unwrap(), env.app().connect().await.unwrap(), env.app().connect().await.unwrap());
    set(&writer, "scope", "cart").await;
    set(&friend, "scope", "cart").await;
    set(&stranger, "scope", "another cart").await;
    // The first read behind a SET is not one behind a write, but may be one behind WAL that came meanwhile, by itself.
    read(&friend, "scoped").await;
    eventually("a replica answers the stranger", Duration::from_secs(20), async || {
        env.cluster.forget_calls().await;
        read(&stranger, "scoped").await;
        env.cluster.calls("SELECT n FROM scoped").await.on_replicas() > 0
    })
    .await;
    let mut old = 0;
    for value in 1..=20 {
        write(&writer, "scoped", value).await;
        assert_eq!(read(&friend, "scoped").await, value, "the scope's write");
        assert_eq!(read(&writer, "scoped").await, value, "its own write");
        old += i32::from(read(&stranger, "scoped").await < value);
        let hinted = rows(&stranger, "/* howdah: scope=cart */ SELECT n AS hinted FROM scoped").await.unwrap();
        assert_eq!(hinted[0][0].as_deref(), Some(&*value.to_string()), "by a hint");
    }
    let (_, page) = env.howdah().http("/metrics").await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix("howdah_sampler_samples_total{cluster=\"main\"} "));
    let samples: u64 = line.unwrap().parse().unwrap();
    assert!((1..10_000).contains(&samples), "the reads behind writes had the primary asked: {samples}");
    assert!(old > 0, "somebody else is content with replicas, or this shows nothing");
    // Who leaves the scope takes along what it knew.
    write(&writer, "scoped", 99).await;
    rows(&writer, "RESET howdah.scope").await.unwrap();
    assert_eq!(read(&writer, "scoped").await, 99);
    apply_late(env, 0).await;
}

async fn a_position_can_be_handed_on(env: &Env) {
    register(env, "handed").await;
    apply_late(env, 1500).await;
    let (writer, reader) = (env.app().connect().await.unwrap(), env.app().connect().await.unwrap());
    let shown = rows(&reader, "SHOW howdah.last_lsn").await.unwrap();
    assert_eq!(shown[0][0].as_deref(), Some("0/0"), "nothing was written yet");
    for value in 1..=5 {
        write(&writer, "handed", value).await;
        // By the extended protocol, and as a prepared statement.
        let row = writer.query_one("SHOW howdah.last_lsn", &[]).await.unwrap();
        set(&reader, "min_lsn", row.get(0)).await;
        assert_eq!(read(&reader, "handed").await, value);
        rows(&reader, "RESET howdah.min_lsn").await.unwrap();
        assert!(!rows(&writer, "SHOW howdah.last_lsn").await.unwrap().is_empty());
    }
    let left = rows(&writer, "SELECT current_setting('howdah.last_lsn', true)").await.unwrap();
    assert!(
        left[0][0].as_deref().unwrap_or_default().is_empty(),
        "a setting that is told is not one that stays: {left:?}"
    );
    apply_late(env, 0).await;
}

async fn time_does_not_go_back(env: &Env) {
    register(env, "ticks").await;
    let [prompt, late] = env.cluster.replicas() else { panic!("two replicas") };
    late.apply_late(700).await;
    let login = env.app();
    let readers = futures_util::future::try_join_all((0..8).map(|_| login.connect())).await.unwrap();
    let mut last = vec![0; readers.len()];
    let mut apart = false;
    env.cluster.forget_calls().await;
    for value in 1..=25 {
        // Past Howdah, so that no level but `strong` has to see it.
        env.cluster
            .primary()
            .query_in(howdah_integration::APP_DATABASE, &format!("UPDATE ticks SET n = {value}"))
            .await;
        let answers = futures_util::future::join_all(readers.iter().map(async |reader| {
            let mut seen = Vec::new();
            for _ in 0..8 {
                seen.push(read(reader, "ticks").await);
            }
            seen
        }))
        .await;
        for (reader, (answers, last)) in answers.iter().zip(&mut last).enumerate() {
            for answer in answers {
                assert!(answer >= last, "client {reader} saw {last}, and then {answer}");
                *last = *answer;
            }
        }
        apart |= last.iter().min() != last.iter().max();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(apart, "the replicas showed different states");
    for replica in [prompt, late] {
        assert!(replica.calls("SELECT n FROM ticks").await > 0, "{} had its part in this", replica.name);
    }
    late.apply_late(0).await;
}

async fn until_write(env: &Env, consistency: &str, wait: &str) -> Howdah {
    let settings =
        [("routing.transactions", "until_write"), ("routing.consistency", consistency), ("routing.wait", wait)];
    Howdah::start(&env.cluster, &settings).await
}

async fn run(client: &Client, statements: &[&str]) -> Vec<String> {
    let mut last = Vec::new();
    for sql in statements {
        let rows = rows(client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        last.extend(rows.first().and_then(|row| row[0].clone()));
    }
    last
}

async fn transactions_read_on_replicas_until_they_write(env: &Env) {
    register(env, "moves").await;
    let howdah = until_write(env, "session", "10s").await;
    let mut client = Login::app(howdah.port).connect().await.unwrap();
    env.cluster.reads_through(&Login::app(howdah.port), "moves").await;
    env.cluster.forget_calls().await;
    for round in 1..=10 {
        let begins = "SELECT n AS begins FROM moves";
        let saw = run(
            &client,
            &[
                "BEGIN",
                begins,
                "SAVEPOINT a",
                "UPDATE moves SET n = n + 1",
                "SELECT n AS behind FROM moves",
                "ROLLBACK TO a",
                "UPDATE moves SET n = n + 1",
                "RELEASE a",
                "COMMIT",
            ],
        )
        .await;
        assert_eq!(saw, [(round - 1).to_string(), round.to_string()]);
        let saw = run(
            &client,
            &["BEGIN", begins, "DECLARE c CURSOR FOR SELECT n AS fetched FROM moves", "FETCH c", "COMMIT"],
        )
        .await;
        assert_eq!(saw, vec![round.to_string(); 2]);
        let saw = run(
            &client,
            &["BEGIN", begins, "SET LOCAL work_mem = '77MB'", "SHOW work_mem", "ROLLBACK", "SHOW work_mem"],
        )
        .await;
        assert_eq!(saw[1], "77MB");
        assert_ne!(saw[2], "77MB");
        let saw = run(&client, &["BEGIN", begins, "SHOW transaction_read_only", "END"]).await;
        assert_eq!(saw[1], "off");
        // As drivers do, with statements prepared inside.
        let transaction = client.transaction().await.unwrap();
        let row = transaction.query_one(begins, &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), round);
        transaction.execute("UPDATE moves SET n = n + $1", &[&0]).await.unwrap();
        let portal = transaction.bind("SELECT n AS in_portal FROM moves", &[]).await.unwrap();
        assert_eq!(transaction.query_portal(&portal, 1).await.unwrap().len(), 1);
        transaction.commit().await.unwrap();
        // An error is an error where it happened.
        assert!(run(&client, &["BEGIN", begins]).await.len() == 1);
        assert!(rows(&client, "SELECT 1 / (n - n) AS failing FROM moves").await.is_err());
        let refused = rows(&client, "SELECT 1").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "25P02");
        run(&client, &["ROLLBACK"]).await;
    }
    env.assert_only_on_replicas("SELECT n AS begins FROM moves").await;
    env.assert_only_on_primary("%behind%").await;
    env.assert_only_on_primary("%fetched%").await;
}

async fn the_time_of_a_transaction_is_one(env: &Env) {
    register(env, "timed").await;
    let primary = env.cluster.primary();
    let login = Login::superuser(primary.port).database("app").connect().await.unwrap();
    rows(
        &login,
        "CREATE VIEW stamped AS SELECT CURRENT_TIMESTAMP AS t; CREATE VIEW restamped AS SELECT t FROM stamped; \
         CREATE FUNCTION stamp() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT t FROM public.restamped'; \
         GRANT SELECT ON stamped, restamped TO app",
    )
    .await
    .unwrap();
    let howdah = until_write(env, "session", "10s").await;
    let client = Login::app(howdah.port).connect().await.unwrap();
    env.cluster.reads_through(&Login::app(howdah.port), "timed").await;
    for clock in [
        "SELECT now()::text AS clock",
        "SELECT t::text AS viewed FROM restamped",
        "SELECT stamp()::text AS stamped",
        "SELECT 'now'::timestamptz::text AS constant",
    ] {
        let saw = run(&client, &["BEGIN", clock, "UPDATE timed SET n = n", clock, "COMMIT"]).await;
        assert_eq!(saw[0], saw[1], "{clock}");
    }
}

async fn a_transaction_sees_what_was_written_meanwhile(env: &Env) {
    register(env, "meanwhile").await;
    let howdah = until_write(env, "database", "20ms").await;
    let (reader, writer) =
        (Login::app(howdah.port).connect().await.unwrap(), Login::app(howdah.port).connect().await.unwrap());
    for begin in ["BEGIN", "BEGIN READ ONLY"] {
        apply_late(env, 1500).await;
        run(&writer, &["UPDATE meanwhile SET n = 0"]).await;
        env.cluster.caught_up(env.cluster.primary()).await;
        env.cluster.reads_through(&Login::app(howdah.port), "meanwhile").await;
        let started = async || {
            env.cluster.forget_calls().await;
            assert_eq!(run(&reader, &["ROLLBACK", begin, "SELECT n AS early FROM meanwhile"]).await, ["0"]);
            env.cluster.calls("%early%").await.on_replicas() > 0
        };
        eventually("a transaction starts on a replica", Duration::from_secs(20), started).await;
        run(&writer, &["UPDATE meanwhile SET n = 1"]).await;
        assert_eq!(
            run(&reader, &["SELECT n FROM meanwhile", "SHOW transaction_isolation", "COMMIT"]).await,
            ["1", "read committed"]
        );
    }
    // A hint at BEGIN holds for all of it.
    let begin = "/* howdah: consistency=eventual */ BEGIN";
    run(&writer, &["UPDATE meanwhile SET n = 0"]).await;
    env.cluster.caught_up(env.cluster.primary()).await;
    env.cluster.forget_calls().await;
    run(&writer, &["UPDATE meanwhile SET n = 1"]).await;
    assert_eq!(
        run(&reader, &[begin, "SELECT n AS lazily FROM meanwhile", "SELECT n AS lazily FROM meanwhile", "COMMIT"])
            .await,
        ["0", "0"]
    );
    run(&reader, &["/* howdah: primary */ BEGIN READ ONLY", "SELECT n AS ordered FROM meanwhile", "COMMIT"]).await;
    env.assert_only_on_replicas("%lazily%").await;
    env.assert_only_on_primary("%ordered%").await;
    // One snapshot is one snapshot.
    run(&writer, &["UPDATE meanwhile SET n = 0"]).await;
    env.cluster.caught_up(env.cluster.primary()).await;
    let repeatable = "BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ";
    run(&reader, &[repeatable, "SELECT n FROM meanwhile"]).await;
    run(&writer, &["UPDATE meanwhile SET n = 1"]).await;
    assert_eq!(run(&reader, &["SELECT n FROM meanwhile", "COMMIT"]).await, ["0"]);
    apply_late(env, 0).await;
}

async fn a_transaction_outlives_its_replica(env: &Env) {
    register(env, "outlived").await;
    let howdah = until_write(env, "session", "20ms").await;
    let client = Login::app(howdah.port).connect().await.unwrap();
    for _ in 0..4 {
        assert_eq!(run(&client, &["BEGIN", "SELECT n FROM outlived"]).await, ["0"]);
        for replica in env.cluster.replicas() {
            replica.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app' AND state = 'idle in transaction'").await;
        }
        assert_eq!(run(&client, &["SELECT n FROM outlived", "UPDATE outlived SET n = n", "COMMIT"]).await, ["0"]);
    }
}

async fn transactions_that_cannot_move_do_not_start_on_replicas(env: &Env) {
    register(env, "stays").await;
    let howdah = until_write(env, "session", "20ms").await;
    let client = Login::app(howdah.port).connect().await.unwrap();
    env.cluster.forget_calls().await;
    for begin in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN READ WRITE"] {
        run(&client, &[begin, "SELECT n AS at_once FROM stays", "COMMIT"]).await;
    }
    run(
        &client,
        &["SET default_transaction_isolation = 'repeatable read'", "BEGIN", "SELECT n AS at_once FROM stays", "COMMIT"],
    )
    .await;
    env.assert_only_on_primary("%at_once%").await;
    // What servers begin with counts, too.
    env.cluster.primary().query("ALTER ROLE app SET default_transaction_isolation = 'repeatable read'").await;
    env.cluster.caught_up(env.cluster.primary()).await;
    let howdah = until_write(env, "session", "20ms").await;
    let client = Login::app(howdah.port).connect().await.unwrap();
    env.cluster.forget_calls().await;
    for _ in 0..3 {
        run(&client, &["BEGIN", "SELECT n AS by_role FROM stays", "UPDATE stays SET n = n", "COMMIT"]).await;
    }
    env.cluster.primary().query("ALTER ROLE app RESET default_transaction_isolation").await;
    env.assert_only_on_primary("%by_role%").await;
}

async fn nothing_comes_behind_a_begin_that_is_refused(env: &Env) {
    let settings = [("pool.mode", "statement"), ("routing.transactions", "until_write")];
    let howdah = Howdah::start(&env.cluster, &settings).await;
    let mut wire = Wire::connect(&Login::app(howdah.port)).await;
    let messages = ["BEGIN", "SELECT 1"].map(|sql| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat());
    wire.send(&[messages.concat(), sync()].concat()).await;
    let mut last = None;
    while let Some(message) = wire.next_or_end().await {
        last = Some(message.tag);
    }
    assert_eq!(last, Some(b'E'), "the connection ends, as it did not learn of the error in its place");
}

/// The tags of an answer, and the transaction status at its end.
fn shape(messages: &[Message]) -> String {
    let tags = messages.iter().map(|message| message.tag);
    tags.chain(messages.last().map(|last| last.body[0])).map(char::from).collect()
}

async fn what_comes_with_begin_decides_where(env: &Env) {
    register(env, "fronts").await;
    let howdah = until_write(env, "session", "10s").await;
    env.cluster.reads_through(&Login::app(howdah.port), "fronts").await;
    let behind = |sql| [parse("", sql, &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    let read = behind("SELECT n AS behind_begin FROM fronts");
    let run = |name| [bind("", name, &[]), execute("", 0)].concat();
    let make = |name, sql| [parse(name, sql, &[]), run(name)].concat();
    for (port, begin) in [(howdah.port, "BEGIN"), (howdah.port, "start transaction"), (env.port(), "BEGIN READ ONLY")] {
        env.cluster.forget_calls().await;
        let mut wire = Wire::connect(&Login::app(port)).await;
        // Without a name, as JDBC does at first, and later with one.
        for (front, expected) in
            [(make("", begin), "12C12DCZT"), (make("b", begin), "12C12DCZT"), (run("b"), "2C12DCZT")]
        {
            wire.send(&[front, read.clone()].concat()).await;
            assert_eq!(shape(&wire.until_ready().await), expected, "{begin}");
            wire.send(&behind("COMMIT")).await;
            assert_eq!(shape(&wire.until_ready().await), "12CZI");
        }
        // A COMMIT that has a name ends the transaction where it is.
        for (end, expected) in [(make("c", "COMMIT"), "12CZI"), (run("c"), "2CZI")] {
            wire.send(&[run("b"), read.clone()].concat()).await;
            wire.until_ready().await;
            wire.send(&[end, sync()].concat()).await;
            assert_eq!(shape(&wire.until_ready().await), expected);
        }
        wire.send(&[run("b"), behind("SELECT n AS failing FROM fronts WHERE 1 / (n - n) = 1")].concat()).await;
        assert_eq!(shape(&wire.until_ready().await), "2C12EZE", "{begin}");
        assert_eq!(shape(&wire.query("ROLLBACK").await), "CZI");
        env.assert_only_on_replicas("SELECT n AS behind_begin FROM fronts").await;
        env.assert_only_on_replicas(&format!("{begin}%")).await;
    }
    env.cluster.forget_calls().await;
    let mut wire = Wire::connect(&Login::app(howdah.port)).await;
    wire.send(&[make("", "BEGIN"), behind("UPDATE fronts SET n = n + 1 RETURNING n AS changed")].concat()).await;
    assert_eq!(shape(&wire.until_ready().await), "12C12DCZT");
    assert_eq!(shape(&wire.query("COMMIT").await), "CZI");
    env.assert_only_on_primary("UPDATE fronts%").await;
    // Alone, and in the other protocol, as ever.
    wire.send(&[make("", "BEGIN"), sync()].concat()).await;
    assert_eq!(shape(&wire.until_ready().await), "12CZT");
    wire.send(&query("ROLLBACK")).await;
    assert_eq!(shape(&wire.until_ready().await), "CZI");
}

async fn only_what_was_written_to_is_waited_for(env: &Env) {
    let tables = [("routing.tables", "true"), ("routing.consistency", "database"), ("routing.wait", "20ms")];
    let howdah = Howdah::start(&env.cluster, &tables).await;
    let login = Login::app(howdah.port);
    // Who has read on the primary stays there while replicas are late: each other read is by somebody else.
    let (writer, reader) = (login.connect().await.unwrap(), login.connect().await.unwrap());
    let read = async |sql: &str| run(&login.connect().await.unwrap(), &[sql]).await;
    let objects = "
        CREATE TABLE hot (n int); INSERT INTO hot VALUES (0); CREATE VIEW warm AS SELECT n FROM hot;
        CREATE TABLE cold (n int); INSERT INTO cold VALUES (0);
        CREATE TABLE whole (n int) PARTITION BY RANGE (n); CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (9);
        CREATE TABLE owner (n int PRIMARY KEY); INSERT INTO owner VALUES (1);
        CREATE TABLE owned (n int REFERENCES owner ON DELETE CASCADE); INSERT INTO owned VALUES (1);
        CREATE TABLE log (n int);
        CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN INSERT INTO log VALUES (1); RETURN NEW; END$$;
        CREATE TABLE logged (n int); CREATE TRIGGER t BEFORE INSERT ON logged FOR EACH ROW EXECUTE FUNCTION log_it();
        CREATE TABLE drawn (n int DEFAULT 1); CREATE FUNCTION look() RETURNS bigint STABLE LANGUAGE sql AS
            'SELECT count(*) FROM public.hot'";
    writer.batch_execute(objects).await.unwrap();
    env.cluster.caught_up(env.cluster.primary()).await;
    for table in ["hot", "cold", "whole", "owned", "log"] {
        env.cluster.reads_through(&login, table).await;
    }
    apply_late(env, 4000).await;
    env.cluster.forget_calls().await;
    for round in 1..=5 {
        run(&writer, &[&format!("UPDATE hot SET n = {round}")]).await;
        run(&writer, &["BEGIN", &format!("UPDATE hot SET n = {round}"), "COMMIT"]).await;
        assert_eq!(run(&reader, &["SELECT n FROM cold"]).await, ["0"]);
        for sql in ["SELECT n FROM hot", "SELECT n FROM warm", "SELECT hot.n FROM cold, hot"] {
            assert_eq!(read(sql).await, [round.to_string()], "{sql}");
        }
    }
    env.assert_only_on_replicas("SELECT n FROM cold").await;
    for (write, sql, expected) in [
        ("INSERT INTO whole VALUES (1)", "SELECT count(*) FROM part", "1"),
        ("INSERT INTO part VALUES (1)", "SELECT count(*) FROM whole", "2"),
        ("DELETE FROM owner", "SELECT count(*) FROM owned", "0"),
        ("WITH d AS (DELETE FROM hot RETURNING n) INSERT INTO cold SELECT 7 FROM d", "SELECT max(n) FROM cold", "7"),
        ("INSERT INTO hot VALUES (1), (2)", "SELECT look()", "2"),
        ("INSERT INTO logged VALUES (1)", "SELECT count(*) FROM log", "1"),
        // What a definition changes holds at once.
        (
            "CREATE TRIGGER t BEFORE UPDATE ON cold FOR EACH ROW EXECUTE FUNCTION log_it()",
            "SELECT count(*) FROM log",
            "1",
        ),
        ("UPDATE cold SET n = 8 WHERE n = 7", "SELECT count(*) FROM log", "2"),
        (
            "BEGIN; CREATE RULE r AS ON INSERT TO drawn DO ALSO INSERT INTO hot VALUES (3); COMMIT",
            "SELECT max(n) FROM hot",
            "2",
        ),
        ("INSERT INTO drawn DEFAULT VALUES", "SELECT max(n) FROM hot", "3"),
    ] {
        run(&writer, &[write]).await;
        assert_eq!(read(sql).await, [expected], "{write}");
    }
    apply_late(env, 0).await;
}

async fn a_write_that_passed_for_a_read_is_waited_for(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("routing.consistency", "database"), ("routing.wait", "20ms")]).await;
    let login = Login::app(howdah.port);
    let writer = login.connect().await.unwrap();
    let objects = "
        CREATE TABLE sly (n int);
        CREATE FUNCTION really() RETURNS int VOLATILE LANGUAGE sql AS 'INSERT INTO sly VALUES (1) RETURNING n';
        CREATE FUNCTION seemingly() RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN RETURN really(); END'";
    writer.batch_execute(objects).await.unwrap();
    env.cluster.caught_up(env.cluster.primary()).await;
    env.cluster.reads_through(&login, "sly").await;
    apply_late(env, 3000).await;
    assert_eq!(run(&writer, &["SELECT seemingly()"]).await, ["1"]);
    let (_, page) = howdah.http("/metrics").await.unwrap();
    let retried = page.lines().any(|line| line.starts_with("howdah_retries_total") && !line.ends_with(" 0"));
    assert!(retried, "a replica was asked first");
    assert_eq!(run(&login.connect().await.unwrap(), &["SELECT count(*) FROM sly"]).await, ["1"]);
    apply_late(env, 0).await;
}
