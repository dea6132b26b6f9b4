//! Traps that poolers have fallen into: odd verifiers and errors, servers that refuse, and settings that cannot be made.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::settings::users_and;
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::psql;
use howdah_integration::wire::{self, Message, Wire, error_code};
use howdah_integration::{Howdah, Node};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Client;

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &ONE_SERVER,
        howdah_integration::checks![
            salts_of_32_bytes,
            errors_without_sqlstate_are_relayed,
            refused_logins_say_what_the_server_said,
            servers_that_do_not_answer_are_given_up,
            clusters_that_are_not_there_are_given_up,
            a_role_that_was_revoked_is_not_replaced,
            a_parameter_that_was_revoked_is_not_replaced,
            nothing_is_run_behind_settings_that_are_refused,
            a_transaction_without_its_settings_fails_and_ends,
            settings_are_sent_with_the_statement,
            statements_run_under_their_own_settings,
            plans_from_before_a_change_are_made_anew,
            messages_run_without_a_sync,
            a_copy_in_pieces_behind_begin,
        ],
    )
}

const ONE_SERVER: [(&str, &str); 3] = [("pool.size", "1"), ("workers", "1"), ("routing.reads", "primary")];

/// Longest time for what must not take until `pool.wait_timeout` (30 s).
const SOON: Duration = Duration::from_secs(15);

/// A verifier of `salted-secret` whose salt is 32 bytes long; PostgreSQL makes salts of 16, and takes any.
const LONG_SALT: &str = "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\
                         $2+RWhOurBqUqMAlgZcRT2I5tsLvODL0xsK49rzvDaMU=:SILRL/MfwO4cpsX20XRQwf7dMiDRTWWGzu/O0EKjiA8=";

async fn salts_of_32_bytes(env: &Env) {
    let primary = env.cluster.primary();
    primary.query(&format!("CREATE ROLE salted LOGIN PASSWORD '{LONG_SALT}'")).await;
    env.cluster.caught_up(primary).await;
    let login = |port| Login { user: "salted".into(), password: "salted-secret".into(), ..Login::app(port) };
    login(primary.port).connect().await.expect("PostgreSQL takes the verifier");
    for (password, why) in [("salted-secret", "Howdah's own proof"), (LONG_SALT, "the client's proof")] {
        let users = users_and(&[("salted", password)]);
        let howdah = Howdah::start(&env.cluster, &[("users", &users)]).await;
        let client = login(howdah.port).connect().await.expect(why);
        assert_eq!(rows(&client, "SELECT current_user").await.unwrap()[0][0].as_deref(), Some("salted"), "{why}");
        let wrong = Login { password: "guess".into(), ..login(howdah.port) };
        assert_eq!(wrong.connect().await.unwrap_err().code().unwrap().code(), "28P01", "{why}");
    }
}

// === A PostgreSQL that misbehaves ===

/// What happens to logins of the application's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// They go through.
    Honest,
    /// The postmaster cannot fork, which it says in the words of protocol 2.
    CannotFork,
    /// There is no answer.
    Silent,
    /// They go through; what is answered afterwards waits until "wait for me" was sent.
    Late,
}

/// Stands before a PostgreSQL, takes the SQLSTATE from errors that say "no code", and has its moods.
struct Trickster {
    port: u16,
    mood: Arc<Mutex<Mood>>,
}

impl Trickster {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mood = Arc::new(Mutex::new(Mood::Honest));
        let trickster = Self { port: listener.local_addr().unwrap().port(), mood: Arc::clone(&mood) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mood = Arc::clone(&mood);
                tokio::spawn(async move {
                    // Either side may hang up at any time.
                    let _ended = pass(client, port, &mood).await;
                });
            }
        });
        trickster
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

async fn pass(mut client: TcpStream, port: u16, shared: &Arc<Mutex<Mood>>) -> std::io::Result<()> {
    let mut startup = vec![0; 4];
    client.read_exact(&mut startup).await?;
    startup.resize(u32::from_be_bytes(startup[..4].try_into().unwrap()) as usize, 0);
    client.read_exact(&mut startup[4..]).await?;
    let is_apps = startup.windows(9).any(|window| window == b"user\0app\0");
    let mood = if is_apps { *shared.lock().unwrap() } else { Mood::Honest };
    match mood {
        Mood::Honest | Mood::Late => {}
        Mood::CannotFork => {
            return client.write_all(b"Ecould not fork new process for connection: Out of memory\n\0").await;
        }
        Mood::Silent => return client.read_to_end(&mut Vec::new()).await.map(drop),
    }
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    server.write_all(&startup).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (asked, mut waits) = tokio::sync::watch::channel(false);
    let late = Arc::clone(shared);
    let there = tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            if to_server.write_all(&buffer[..length]).await.is_err() {
                break;
            }
            let late = *late.lock().unwrap() == Mood::Late;
            let asks = buffer[..length].windows(11).any(|window| window == b"wait for me");
            asked.send_modify(|asked| *asked = late && (*asked || asks));
        }
    });
    while let Ok(tag) = from_server.read_u8().await {
        if is_apps && *shared.lock().unwrap() == Mood::Late {
            // When the client hangs up, there is nobody to wait for.
            let _asked = waits.wait_for(|asked| *asked).await;
        }
        let mut body = vec![0; from_server.read_u32().await? as usize - 4];
        from_server.read_exact(&mut body).await?;
        if tag == b'E' && body.windows(7).any(|window| window == b"no code") {
            body = without_code(&body);
        }
        to_client.write_all(&wire::message(tag, &body)).await?;
    }
    there.abort();
    Ok(())
}

/// The body of an ErrorResponse without its field C.
fn without_code(body: &[u8]) -> Vec<u8> {
    body.split_inclusive(|byte| *byte == 0).filter(|field| field[0] != b'C').collect::<Vec<_>>().concat()
}

/// A Howdah whose only node is the trickster's.
async fn howdah_behind(env: &Env, trickster: &Trickster) -> Howdah {
    let nodes = format!("[{{name: pg1, address: '127.0.0.1:{}'}}]", trickster.port);
    let overrides = [("clusters.main.nodes", nodes.as_str()), ("clusters.main.tls.mode", "disable")];
    // No audit: its question would wait for a late answer too.
    let more = [("pool.connect_timeout", "1s"), ("pool.audit", "0")];
    Howdah::start(&env.cluster, &[&ONE_SERVER[..], &overrides, &more].concat()).await
}

async fn errors_without_sqlstate_are_relayed(env: &Env) {
    const FAILS: &str = "SELECT 'no code'::int";
    let error = |messages: &[Message]| messages.iter().find(|message| message.tag == b'E').unwrap().body.clone();
    let mut direct = Wire::connect(&Login::app(env.cluster.primary().port)).await;
    let expected = without_code(&error(&direct.query(FAILS).await));
    let trickster = Trickster::before(env.cluster.primary().port).await;
    let howdah = howdah_behind(env, &trickster).await;
    let login = Login::app(howdah.port);
    let mut client = Wire::connect(&login).await;
    for _ in 0..2 {
        assert_eq!(error(&client.query(FAILS).await), expected);
        client.query("BEGIN").await;
        assert_eq!(error(&client.query(FAILS).await), expected);
        assert_eq!(error_code(&client.query("SELECT 1").await).as_deref(), Some("25P02"));
        assert_eq!(error_code(&client.query("ROLLBACK").await), None);
    }
    // At Parse, and at Bind: a statement that is known remains so.
    client.send(&[wire::parse("fails", FAILS, &[]), wire::sync()].concat()).await;
    assert_eq!(error(&client.until_ready().await), expected);
    client.send(&[wire::parse("s", "SELECT $1::int", &[]), wire::sync()].concat()).await;
    assert_eq!(error_code(&client.until_ready().await), None);
    for (value, fails) in [("no code", true), ("1", false), ("no code", true), ("2", false)] {
        let bind = [wire::bind("", "s", &[Some(value)]), wire::execute("", 0), wire::sync()];
        client.send(&bind.concat()).await;
        let answer = client.until_ready().await;
        assert_eq!(answer.iter().any(|message| message.tag == b'E'), fails, "{value}");
        assert!(fails || wire::first_column(&answer) == [value], "{value}");
    }
    let said = psql(&login, &format!("{FAILS}; SELECT 'goes on';")).await;
    assert!(said.err.contains("no code") && said.out.contains("goes on"), "{said:?}");
    // At a login to the server.
    let refused = psql(&login.database("no code"), "SELECT 1").await;
    assert!(refused.err.contains("database \"no code\" does not exist"), "{refused:?}");
}

// === Servers that refuse ===

async fn refused_logins_say_what_the_server_said(env: &Env) {
    let primary = env.cluster.primary();
    primary.query("CREATE ROLE crowded LOGIN PASSWORD 'x' CONNECTION LIMIT 0").await;
    primary.query("CREATE ROLE barred NOLOGIN PASSWORD 'x'").await;
    primary.query("CREATE ROLE outsider LOGIN PASSWORD 'x'").await;
    primary.query("CREATE DATABASE closed").await;
    primary.query("ALTER DATABASE closed ALLOW_CONNECTIONS false").await;
    primary.query("CREATE DATABASE guarded").await;
    primary.query("REVOKE CONNECT ON DATABASE guarded FROM public").await;
    let names = ["crowded", "barred", "stranger", "outsider"];
    let users = users_and(&names.map(|name| (name, "x")));
    let howdah = Howdah::start(&env.cluster, &[&ONE_SERVER[..], &[("users", &users)]].concat()).await;
    for (user, database) in [
        ("crowded", "app"),
        ("barred", "app"),
        ("stranger", "app"),
        ("outsider", "closed"),
        ("outsider", "guarded"),
        ("outsider", "nowhere"),
    ] {
        let said = async |port| {
            let login = Login { user: user.into(), password: "x".into(), ..Login::app(port) }.database(database);
            let refused = tokio::time::timeout(SOON, login.connect()).await.expect("nobody hangs").unwrap_err();
            let refused = refused.as_db_error().unwrap_or_else(|| panic!("{user} on {database}: {refused:?}"));
            format!("{} {} {}", refused.severity(), refused.code().code(), refused.message())
        };
        let expected = said(primary.port).await;
        // Again: what follows a failure at once is told the same.
        for _ in 0..2 {
            assert_eq!(said(howdah.port).await, expected, "{user} on {database}");
        }
    }
    rows(&Login::app(howdah.port).connect().await.unwrap(), "SELECT 1").await.expect("others are served");
}

async fn servers_that_do_not_answer_are_given_up(env: &Env) {
    let trickster = Trickster::before(env.cluster.primary().port).await;
    let howdah = howdah_behind(env, &trickster).await;
    let login = Login::app(howdah.port);
    for mood in [Mood::CannotFork, Mood::Silent] {
        trickster.is(Mood::Honest);
        let first = login.connect().await.unwrap();
        let pid = rows(&first, "SELECT pg_backend_pid()").await.unwrap()[0][0].clone().unwrap();
        trickster.is(mood);
        let end =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid} OR usename = 'app'");
        env.cluster.primary().query(&end).await;
        // Those who are here and those who come, three at a time for one server.
        let here = async {
            let refused = rows(&first, "SELECT 1").await.expect_err("no server comes");
            assert!(refused.as_db_error().is_some(), "{mood:?}: {refused:?}");
        };
        let new = || refused(login.clone().database("template1"), mood);
        let all = Box::pin(async { tokio::join!(here, new(), new(), new()) });
        tokio::time::timeout(SOON, all).await.unwrap_or_else(|_| panic!("{mood:?}: nobody hangs"));
    }
    trickster.is(Mood::Honest);
    let last = login.connect().await.unwrap();
    eventually("all is well again", SOON, async || rows(&last, "SELECT 1").await.is_ok()).await;
}

/// A new client hears of it at its login, or with its first statement when the pool has greeted others before.
async fn refused(login: Login, mood: Mood) {
    let refused = match login.connect().await {
        Ok(client) => rows(&client, "SELECT 1").await.expect_err("no server comes"),
        Err(refused) => refused,
    };
    assert!(refused.as_db_error().is_some(), "{mood:?}: {refused:?}");
}

async fn clusters_that_are_not_there_are_given_up(env: &Env) {
    // One port where nobody listens, and one where nobody accepts.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    for (port, why) in [(closed, "nobody listens"), (deaf.local_addr().unwrap().port(), "nobody accepts")] {
        let nodes = format!("[{{name: pg1, address: '127.0.0.1:{port}'}}]");
        let howdah = Howdah::spawn(
            &env.cluster,
            &[
                ("clusters.main.nodes", &nodes),
                ("clusters.main.monitor.timeout", "500ms"),
                ("clusters.main.hold", "1s"),
            ],
        );
        eventually("Howdah listens", SOON, async || TcpStream::connect(("127.0.0.1", howdah.port)).await.is_ok()).await;
        let connecting = tokio::time::timeout(SOON, Login::app(howdah.port).connect()).await;
        let refused = connecting.unwrap_or_else(|_| panic!("{why}: nobody hangs")).unwrap_err();
        let code = refused.code().map(tokio_postgres::error::SqlState::code);
        assert_eq!(code, Some("57P03"), "{why}: {refused:?}");
    }
}

// === Settings that cannot be made ===

/// A table of what statements were to run under and what they ran under.
async fn seen(env: &Env, more: &str) {
    let sql = "DROP TABLE IF EXISTS seen; CREATE TABLE seen (wanted text, got text); GRANT ALL ON seen TO public;";
    env.cluster.primary().query_in("app", &format!("{sql} GRANT USAGE ON SCHEMA public TO public; {more}")).await;
}

/// Panics unless all of `count` statements ran under what they were to.
async fn assert_seen(env: &Env, count: u64) {
    let sql = "SELECT count(*), string_agg(wanted || ' but ' || got, ', ') FILTER (WHERE wanted <> got) FROM seen";
    let found = env.cluster.primary().query_in("app", sql).await;
    assert_eq!(found[0], [Some(count.to_string()), None]);
}

/// Has the pool's only server taken by another client.
async fn elsewhere(other: &Client) {
    rows(other, "SELECT 1").await.unwrap();
}

/// What a client was promised (`wanted`, shown by `expression`) and cannot be given any more is refused each time, and the
/// statement does not run.
async fn assert_never_under_another(env: &Env, client: &Client, other: &Client, wanted: &str, expression: &str) {
    let insert = format!("INSERT INTO seen VALUES ('{wanted}', {expression})");
    for sql in [insert.clone(), format!("SELECT 1; {insert}"), insert.clone()] {
        elsewhere(other).await;
        let refused = rows(client, &sql).await.expect_err("the right is gone");
        assert_eq!(refused.code().unwrap().code(), "42501", "{refused:?}");
    }
    elsewhere(other).await;
    let prepared = client.execute(&insert, &[]).await.expect_err("the right is gone");
    assert_eq!(prepared.code().unwrap().code(), "42501", "{prepared:?}");
    assert_seen(env, 1).await;
}

async fn a_role_that_was_revoked_is_not_replaced(env: &Env) {
    env.cluster
        .primary()
        .query("DROP ROLE IF EXISTS for_a_while; CREATE ROLE for_a_while; GRANT for_a_while TO app")
        .await;
    seen(env, "").await;
    let client = env.app().connect().await.unwrap();
    let other = env.app().connect().await.unwrap();
    rows(&client, "SET ROLE for_a_while").await.unwrap();
    elsewhere(&other).await;
    rows(&client, "INSERT INTO seen VALUES ('for_a_while', current_user)").await.unwrap();
    elsewhere(&other).await;
    env.cluster.primary().query("REVOKE for_a_while FROM app").await;
    assert_never_under_another(env, &client, &other, "for_a_while", "current_user").await;
    // The client can help itself.
    rows(&client, "RESET ROLE").await.unwrap();
    elsewhere(&other).await;
    rows(&client, "INSERT INTO seen VALUES ('app', current_user)").await.unwrap();
    rows(&other, "INSERT INTO seen VALUES ('app', current_user)").await.unwrap();
    assert_seen(env, 3).await;
}

/// Gives the application's user that right, for a while; the primary, or nothing where there are no such rights.
async fn app_may_set_track_functions(env: &Env) -> Option<&Node> {
    let primary = env.cluster.primary();
    if primary.scalar("SELECT current_setting('server_version_num')::int < 150000").await == "t" {
        eprintln!("rights to parameters came with PostgreSQL 15");
        return None;
    }
    primary.query("GRANT SET ON PARAMETER track_functions TO app").await;
    Some(primary)
}

async fn a_parameter_that_was_revoked_is_not_replaced(env: &Env) {
    let Some(primary) = app_may_set_track_functions(env).await else { return };
    seen(env, "").await;
    let client = env.app().connect().await.unwrap();
    let other = env.app().connect().await.unwrap();
    let insert = |wanted| format!("INSERT INTO seen VALUES ('{wanted}', current_setting('track_functions'))");
    rows(&client, "SET track_functions = 'all'").await.unwrap();
    elsewhere(&other).await;
    rows(&client, &insert("all")).await.unwrap();
    // The server has what its next client cannot undo.
    primary.query("REVOKE SET ON PARAMETER track_functions FROM app").await;
    elsewhere(&other).await;
    let expression = "current_setting('track_functions')";
    assert_never_under_another(env, &client, &other, "all", expression).await;
    rows(&other, &insert("none")).await.unwrap();
    // The right comes back, and with it what was promised.
    primary.query("GRANT SET ON PARAMETER track_functions TO app").await;
    rows(&client, &insert("all")).await.unwrap();
    rows(&other, &insert("none")).await.unwrap();
    assert_seen(env, 4).await;
}

/// What a client sends while its settings are on their way to a server that refuses them has no effect at all.
async fn nothing_is_run_behind_settings_that_are_refused(env: &Env) {
    if app_may_set_track_functions(env).await.is_some() {
        let grant = "GRANT SET ON PARAMETER track_functions TO app";
        let revoke = "REVOKE SET ON PARAMETER track_functions FROM app";
        let words =
            ["SET track_functions = 'all'", "RESET track_functions", "current_setting('track_functions')", "none"];
        nothing_is_run_behind(env, [grant, revoke], words).await;
    }
    env.cluster.primary().query("DROP ROLE IF EXISTS for_a_while; CREATE ROLE for_a_while").await;
    let words = ["SET ROLE for_a_while", "RESET ROLE", "current_user", "app"];
    nothing_is_run_behind(env, ["GRANT for_a_while TO app", "REVOKE for_a_while FROM app"], words).await;
    env.cluster.primary().query("DROP ROLE for_a_while").await;
}

/// The same of a setting that takes the right that `grant` gives: how it is set and reset, its value in SQL, the default.
async fn nothing_is_run_behind(env: &Env, [grant, revoke]: [&str; 2], [set, reset, value, default]: [&str; 4]) {
    let primary = env.cluster.primary();
    primary.query(grant).await;
    seen(env, "").await;
    let other = env.app().connect().await.unwrap();
    let mut client = Wire::connect(&env.app()).await;
    assert_eq!(error_code(&client.query(set).await), None);
    primary.query(revoke).await;
    let insert = format!("INSERT INTO seen VALUES ('set', {value})");
    let parse = wire::parse("s", &insert, &[]);
    let run = [wire::bind("", "s", &[]), wire::execute("", 0)].concat();
    let rollback = [wire::parse("", "ROLLBACK", &[]), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    for batch in [
        wire::query(&format!("ROLLBACK; {insert}")),
        wire::query(&format!("COMMIT; {insert}")),
        wire::query(&format!("ABORT; BEGIN; {insert}; COMMIT")),
        [&parse[..], &run, &wire::sync()].concat(),
        [&rollback[..], &parse, &run, &wire::sync()].concat(),
    ] {
        elsewhere(&other).await;
        client.send(&batch).await;
        let answer = client.until_ready().await;
        assert_eq!(error_code(&answer).as_deref(), Some("42501"), "{set}");
        assert_eq!(answer.len(), 2, "an error, and no more: {answer:?}");
    }
    assert_seen(env, 0).await;
    // The name that was parsed behind them is free.
    primary.query(grant).await;
    assert_eq!(error_code(&client.query(reset).await), None);
    let insert = wire::parse("s", &format!("INSERT INTO seen VALUES ('{default}', {value})"), &[]);
    client.send(&[&insert[..], &run, &wire::sync()].concat()).await;
    assert_eq!(error_code(&client.until_ready().await), None);
    assert_seen(env, 1).await;
}

/// Where settings are refused within a transaction, that has failed, as after any error: the client ends it and goes on.
/// Whatever it says meanwhile, and in one message with the end, does not run.
async fn a_transaction_without_its_settings_fails_and_ends(env: &Env) {
    let primary = env.cluster.primary();
    primary.query("DROP ROLE IF EXISTS for_a_while; CREATE ROLE for_a_while").await;
    // A role is brought before anything is sent, ...
    fails_and_ends(env, ("for_a_while", "for_a_while TO app", "for_a_while FROM app"), ["role", "for_a_while"]).await;
    primary.query("DROP ROLE for_a_while").await;
    // ... other settings with the statement.
    if app_may_set_track_functions(env).await.is_some() {
        let right = "SET ON PARAMETER track_functions";
        let (grant, revoke) = (format!("{right} TO app"), format!("{right} FROM app"));
        fails_and_ends(env, ("all", &grant, &revoke), ["track_functions", "all"]).await;
    }
}

async fn fails_and_ends(env: &Env, (wanted, grant, revoke): (&str, &str, &str), [name, value]: [&str; 2]) {
    let primary = env.cluster.primary();
    seen(env, "").await;
    let other = env.app().connect().await.unwrap();
    let insert = &format!("INSERT INTO seen VALUES ('{wanted}', current_setting('{name}'))")[..];
    let run = |sql: &str| [wire::parse("", sql, &[]), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let extended = [run(insert), wire::sync()].concat();
    let flushed = [wire::parse("", insert, &[]), wire::describe_object(b'S', ""), wire::flush()].concat();
    let rollback = [wire::bind("", "end", &[]), wire::execute("", 0), wire::sync()].concat();
    let behind = [run("COMMIT"), run(insert), wire::sync()].concat();
    for (first, end) in [
        (wire::query(insert), wire::query("ROLLBACK")),
        (extended.clone(), rollback.clone()),
        (wire::query(&format!("{insert}; COMMIT; {insert}")), wire::query("COMMIT")),
        ([run("SELECT 1"), run(insert), wire::sync()].concat(), rollback),
        ([flushed.clone(), wire::sync()].concat(), wire::query("ROLLBACK")),
    ] {
        let mut client = Wire::connect(&env.app()).await;
        client.send(&[wire::parse("end", "ROLLBACK", &[]), wire::sync()].concat()).await;
        client.until_ready().await;
        primary.query(&format!("GRANT {grant}")).await;
        assert_eq!(error_code(&client.query(&format!("SET {name} TO '{value}'")).await), None);
        elsewhere(&other).await;
        primary.query(&format!("REVOKE {revoke}")).await;
        client.query("BEGIN").await;
        client.send(&first).await;
        assert_error(&client.until_ready().await, "42501", b'E', "the first");
        for next in [wire::query(insert), extended.clone(), wire::query(&format!("ROLLBACK; {insert}")), behind.clone()]
        {
            client.send(&next).await;
            assert_error(&client.until_ready().await, "25P02", b'E', "the next");
        }
        client.send(&end).await;
        let ended = client.until_ready().await;
        assert_eq!((error_code(&ended), ended.last().unwrap().body.as_slice()), (None, &b"I"[..]));
        assert!(ended.iter().any(|message| message.body == b"ROLLBACK\0"), "{ended:?}");
        // Outside it is as it was: each statement is refused by itself, until the role is given back.
        assert_error(&client.query(insert).await, "42501", b'I', "outside");
        client.send(&flushed).await;
        client.send(&wire::sync()).await;
        assert_error(&client.until_ready().await, "42501", b'I', "outside, without a Sync");
        primary.query(&format!("GRANT {grant}")).await;
        assert_eq!(error_code(&client.query(&format!("RESET {name}")).await), None);
        primary.query(&format!("REVOKE {revoke}")).await;
        assert_eq!(wire::first_column(&client.query("SELECT 'goes on'").await), ["goes on"]);
    }
    assert_seen(env, 0).await;
}

fn assert_error(answer: &[Message], code: &str, status: u8, what: &str) {
    assert_eq!(answer.iter().filter(|message| message.tag == b'E').count(), 1, "{what}: {answer:?}");
    assert_eq!(error_code(answer).as_deref(), Some(code), "{what}: {answer:?}");
    assert_eq!(answer.last().unwrap().body, [status], "{what}");
}

/// A server that says nothing before it has the client's own statement gets it: settings are not waited for.
async fn settings_are_sent_with_the_statement(env: &Env) {
    let trickster = Trickster::before(env.cluster.primary().port).await;
    let howdah = howdah_behind(env, &trickster).await;
    let mut client = Wire::connect(&Login::app(howdah.port)).await;
    let other = Login::app(howdah.port).connect().await.unwrap();
    assert_eq!(error_code(&client.query("SET work_mem = '7MB'").await), None);
    assert_eq!(error_code(&client.query("SET application_name = 'mine'").await), None);
    let sql = "SELECT current_setting('work_mem') || current_setting('application_name') AS \"wait for me\"";
    let extended = [wire::parse("", sql, &[]), wire::bind("", "", &[]), wire::execute("", 0), wire::sync()].concat();
    for (begin, batch) in [(None, wire::query(sql)), (None, extended), (Some("BEGIN"), wire::query(sql))] {
        trickster.is(Mood::Honest);
        elsewhere(&other).await;
        if let Some(begin) = begin {
            client.query(begin).await;
        }
        trickster.is(Mood::Late);
        client.send(&batch).await;
        let answer = tokio::time::timeout(SOON, client.until_ready()).await.expect("settings are not waited for");
        assert_eq!(wire::first_column(&answer), ["7MBmine"], "{answer:?}");
        // What the server reports of them is no news to the client.
        assert!(answer.iter().all(|message| message.tag != b'S'), "{answer:?}");
    }
}

/// Clients that differ in everything and change it all the time, on one server.
async fn statements_run_under_their_own_settings(env: &Env) {
    const CLIENTS: usize = 6;
    const ROUNDS: usize = 30;
    let roles: Vec<String> = (0..CLIENTS).map(|n| format!("role_{n}")).collect();
    for role in &roles {
        env.cluster.primary().query(&format!("CREATE ROLE {role}; GRANT {role} TO app")).await;
    }
    let schemas: Vec<_> = (0..CLIENTS).map(|n| format!("CREATE SCHEMA place_{n} AUTHORIZATION app;")).collect();
    seen(env, &schemas.concat()).await;
    let clients = roles.iter().enumerate().map(|(number, role)| {
        let login = env.app();
        async move {
            let client = login.connect().await.unwrap();
            for round in 0..ROUNDS {
                let place = format!("place_{}", (number + round) % CLIENTS);
                let role = if round % 3 == 0 { "app" } else { role };
                let memory = format!("{}MB", 5 + (number + round) % 7);
                let settings = format!("SET search_path = {place}, public; SET ROLE {role}");
                rows(&client, &settings).await.unwrap();
                let changes: &[String] = match round % 4 {
                    0 => &[format!("SET work_mem = '{memory}'")],
                    1 => &[format!(
                        "BEGIN; SET work_mem = '{memory}'; SAVEPOINT s; SET ROLE none; ROLLBACK TO s; COMMIT"
                    )],
                    2 => &[format!("SELECT set_config('work_mem', '{memory}', false)")],
                    _ => &[format!("SET work_mem = '{memory}'"), "BEGIN; SET search_path = nowhere; ROLLBACK".into()],
                };
                for change in changes {
                    rows(&client, change).await.unwrap();
                }
                let wanted = format!("{place}, public {role} {memory}");
                let got = "current_setting('search_path') || ' ' || current_user || ' ' || current_setting('work_mem')";
                rows(&client, &format!("INSERT INTO public.seen VALUES ('{wanted}', {got})")).await.unwrap();
                client.execute(&format!("INSERT INTO public.seen VALUES ($1, {got})"), &[&wanted]).await.unwrap();
                if round == ROUNDS / 2 {
                    // What a path names may go; the path stays.
                    rows(&client, &format!("RESET ROLE; DROP SCHEMA IF EXISTS place_{number}")).await.unwrap();
                }
            }
        }
    });
    futures_util::future::join_all(clients).await;
    assert_seen(env, u64::try_from(2 * CLIENTS * ROUNDS).unwrap()).await;
}

/// A table changes behind Howdah's back: who prepares a statement, or asks for its description, gets what a new session
/// would; who believes in an older description is told that it holds no more, as PostgreSQL does.
async fn plans_from_before_a_change_are_made_anew(env: &Env) {
    let primary = env.cluster.primary();
    let change = async |column: &str| {
        let sql = format!("ALTER TABLE changing ADD {column} int DEFAULT 1");
        primary.query_in("app", &sql).await;
    };
    let sql = "DROP TABLE IF EXISTS changing; CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)";
    primary.query_in("app", &format!("{sql}; GRANT SELECT ON changing TO public")).await;
    let mut old = Wire::connect(&env.app()).await;
    let parse = |name: &str| wire::parse(name, "SELECT * FROM changing", &[]);
    let run = |name: &str| [wire::bind("", name, &[]), wire::execute("", 0), wire::sync()].concat();
    let described = |name: &str| {
        [wire::bind("", name, &[]), wire::describe_object(b'P', ""), wire::execute("", 0), wire::sync()].concat()
    };
    let ask = async |client: &mut Wire, batch: &[u8]| {
        client.send(batch).await;
        let answer = client.until_ready().await;
        let row = answer.iter().find(|message| message.tag == b'D');
        let tags: String = answer.iter().map(|message| char::from(message.tag)).collect();
        let columns = row.map(|row| i16::from_be_bytes([row.body[0], row.body[1]]));
        (tags, columns, error_code(&answer))
    };
    let works = |tags: &str, columns| (tags.to_owned(), Some(columns), None);
    let outdated = || ("EZ".to_owned(), None, Some("0A000".to_owned()));
    assert_eq!(ask(&mut old, &[parse("s"), described("s")].concat()).await, works("12TDCZ", 1));

    change("b").await;
    let mut new = Wire::connect(&env.app()).await;
    assert_eq!(ask(&mut new, &[parse("t"), run("t")].concat()).await, works("12DCZ", 2));
    assert_eq!(ask(&mut old, &run("s")).await, outdated());
    // Another name for it is mended, and this one is not: the client may still have its old description.
    assert_eq!(ask(&mut old, &[parse("again"), run("again")].concat()).await, works("12DCZ", 2));
    assert_eq!(ask(&mut old, &run("s")).await, outdated());
    assert_eq!(ask(&mut old, &described("s")).await, works("2TDCZ", 2));
    assert_eq!(ask(&mut old, &run("s")).await, works("2DCZ", 2));

    change("c").await;
    // As JDBC and asyncpg do: first the description, then the rows.
    let describe = [parse("u"), wire::describe_object(b'S', "u"), wire::sync()].concat();
    let mut third = Wire::connect(&env.app()).await;
    assert_eq!(ask(&mut third, &describe).await, ("1tTZ".to_owned(), None, None));
    assert_eq!(ask(&mut third, &run("u")).await, works("2DCZ", 3));

    change("d").await;
    // In a transaction nothing is repeated, and behind what was run neither.
    third.query("BEGIN").await;
    assert_eq!(ask(&mut third, &described("u")).await, outdated());
    third.query("ROLLBACK").await;
    let one = [wire::parse("", "SELECT 1", &[]), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let (tags, _, code) = ask(&mut old, &[one, described("s")].concat()).await;
    assert_eq!((tags.as_str(), code.as_deref()), ("12DCEZ", Some("0A000")));
    assert_eq!(ask(&mut third, &described("u")).await, works("2TDCZ", 4));
}

/// A client that waits in the middle of a pipeline hears of its errors, and what it sent has its effect, as with PostgreSQL.
async fn messages_run_without_a_sync(env: &Env) {
    let mut client = Wire::connect(&env.app()).await;
    let run = |sql: &str| [wire::parse("", sql, &[]), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    client.send(&run("SELECT 1/0")).await;
    let mut said = Vec::new();
    while error_code(&said).is_none() {
        said.push(client.receive_within(SOON).await.expect("an error before the Sync"));
    }
    assert_eq!(error_code(&said).as_deref(), Some("22012"));
    client.send(&[run("SELECT 1"), wire::sync()].concat()).await;
    let answer = client.until_ready().await;
    assert_eq!(answer.len(), 1, "what follows an error is passed over: {answer:?}");

    client.send(&run("SELECT pg_advisory_xact_lock(4711)")).await;
    let held = async || {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711";
        env.cluster.primary().scalar(sql).await
    };
    eventually("the lock is taken", SOON, async || held().await == "1").await;
    client.send(&wire::sync()).await;
    assert_eq!(error_code(&client.until_ready().await), None);
    assert_eq!(held().await, "0");
}

/// Where a client pauses is nobody's business: the end of an extended copy is not answered before its Sync.
async fn a_copy_in_pieces_behind_begin(env: &Env) {
    let copy =
        [wire::parse("", "COPY in_pieces FROM STDIN", &[]), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let all = [&copy[..], &wire::copy_data(b"1\n"), &wire::copy_done(), &wire::sync()].concat();
    let mut client = Wire::connect(&env.app()).await;
    client.query("CREATE TABLE in_pieces (a int)").await;
    for cut in (copy.len() - 12..all.len()).step_by(3) {
        client.query("BEGIN").await;
        client.send(&all[..cut]).await;
        // Longer than whole messages wait for others.
        tokio::time::sleep(Duration::from_millis(70)).await;
        client.send(&all[cut..]).await;
        let tags: String = client.until_ready().await.iter().map(|message| char::from(message.tag)).collect();
        assert_eq!(tags, "12GCZ", "cut at {cut} of {}", all.len());
        client.query("COMMIT").await;
    }
}
