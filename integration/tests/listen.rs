//! LISTEN and NOTIFY between several clients: what PostgreSQL says directly, and what it says through Howdah.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::Howdah;
use howdah_integration::node::{Shutdown, signal};
use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::wire::{self, Message, Wire, describe, error_code, first_column};
use tokio_postgres::Client;

/// Few servers, so that none stays with a client.
const CROWDED: [(&str, &str); 4] = [
    ("pool.size", "2"),
    ("auth.method", "trust"),
    ("limits.notify_queue", "64KiB"),
    // A read behind a NOTIFY waits until replicas have it, which takes PostgreSQL a while.
    ("routing.reads", "primary"),
];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &CROWDED,
        howdah_integration::checks![
            conversations_are_the_same,
            a_client_knows_its_own_notifications,
            many_listen_with_few_servers,
            nothing_is_missed_and_nothing_comes_twice,
            encodings_are_the_clients,
            names_that_cannot_be_read_are_refused,
            who_cannot_listen_is_told_why,
            who_does_not_read_is_let_go,
            a_long_transaction_with_too_many_is_let_go,
            a_lost_connection_is_told_of,
            a_connection_that_hangs_is_lost,
            a_listener_that_is_not_needed_ends,
            a_reload_leaves_listeners_alone,
            a_reload_to_another_database_ends_them,
            promotion_is_followed,
        ],
    )
}

// === Conversations ===

/// What several clients say one after another: `1` is the number of a client, who reads up to ReadyForQuery; `1 hears`
/// is a client that waits for so many notifications and says nothing.
const CONVERSATIONS: &[&[&str]] = &[
    &[
        "1 LISTEN ear",
        "2 NOTIFY ear, 'one'",
        "1 hears 1",
        "2 NOTIFY ear, 'two'; NOTIFY ear, 'two'",
        "1 hears 1",
        "1 SELECT 1",
    ],
    // Who asks hears at the latest with the answer.
    &["1 LISTEN ear", "2 NOTIFY ear, 'one'", "1 SELECT 1", "2 NOTIFY ear, 'two'", "1 BEGIN", "1 COMMIT"],
    // Order is that of commits, also with one's own.
    &[
        "1 LISTEN ear",
        "2 BEGIN",
        "2 NOTIFY ear, 'second'",
        "1 NOTIFY ear, 'first'",
        "2 COMMIT",
        "1 hears 1",
        "1 NOTIFY ear, 'third'",
        "2 NOTIFY ear, 'fourth'",
        "1 hears 1",
    ],
    // Not inside a transaction, but at its end; also after an error.
    &["1 LISTEN ear", "1 BEGIN", "1 SELECT 1", "2 NOTIFY ear, 'one'", "1 SELECT 2", "2 NOTIFY ear, 'two'", "1 COMMIT"],
    &["1 LISTEN ear", "1 BEGIN", "2 NOTIFY ear, 'one'", "1 SELECT 1/0", "1 SELECT 2", "1 ROLLBACK"],
    // Nothing from before a LISTEN, nor from before it committed.
    &["2 NOTIFY ear, 'early'", "1 LISTEN ear", "1 SELECT 1", "2 NOTIFY ear, 'late'", "1 hears 1"],
    &[
        "1 BEGIN",
        "1 LISTEN ear",
        "2 NOTIFY ear, 'early'",
        "1 SELECT 1",
        "1 COMMIT",
        "2 NOTIFY ear, 'late'",
        "1 hears 1",
    ],
    &["1 BEGIN", "1 LISTEN ear", "1 NOTIFY ear, 'own'", "1 COMMIT"],
    // LISTEN that is undone.
    &[
        "1 BEGIN",
        "1 LISTEN ear",
        "1 ROLLBACK",
        "2 NOTIFY ear",
        "1 SELECT 1",
        "1 LISTEN other",
        "2 NOTIFY ear",
        "1 SELECT 1",
    ],
    &[
        "1 BEGIN",
        "1 LISTEN a",
        "1 SAVEPOINT s",
        "1 LISTEN b",
        "1 ROLLBACK TO s",
        "1 LISTEN c",
        "1 RELEASE s",
        "1 COMMIT",
        "2 NOTIFY b",
        "2 NOTIFY c",
        "2 NOTIFY a",
        "1 hears 2",
        "1 SELECT * FROM pg_listening_channels()",
    ],
    &["1 LISTEN a; SELECT 1/0", "2 NOTIFY a", "1 SELECT 1"],
    &["1 BEGIN; LISTEN a; COMMIT; SELECT 1/0", "2 NOTIFY a", "1 hears 1"],
    &["1 BEGIN", "1 LISTEN a", "1 COMMIT AND CHAIN", "2 NOTIFY a", "1 SELECT 1", "1 COMMIT"],
    // UNLISTEN, done and undone.
    &[
        "1 LISTEN a; LISTEN b",
        "1 UNLISTEN a",
        "2 NOTIFY a",
        "2 NOTIFY b",
        "1 hears 1",
        "1 UNLISTEN *",
        "2 NOTIFY b",
        "1 SELECT 1",
    ],
    &["1 LISTEN a", "1 BEGIN", "1 UNLISTEN a", "2 NOTIFY a, 'one'", "1 ROLLBACK", "2 NOTIFY a, 'two'", "1 hears 1"],
    &["1 LISTEN a", "1 BEGIN", "2 NOTIFY a", "1 UNLISTEN a", "1 COMMIT", "1 SELECT 1"],
    &["1 LISTEN a", "1 BEGIN", "1 UNLISTEN a", "1 LISTEN a", "2 NOTIFY a", "1 COMMIT"],
    &["1 LISTEN a", "1 DISCARD ALL", "2 NOTIFY a", "1 SELECT 1", "1 LISTEN a", "2 NOTIFY a, 'again'", "1 hears 1"],
    // Names.
    &[
        "1 LISTEN Ear",
        "2 NOTIFY \"Ear\"",
        "2 NOTIFY EAR",
        "1 hears 1",
        "1 LISTEN \"Ear\"",
        "2 NOTIFY \"Ear\"",
        "1 hears 1",
    ],
    &["1 LISTEN \"it's \"\"one\"\"\"", "2 SELECT pg_notify('it''s \"one\"', 'x')", "1 hears 1"],
    &["1 LISTEN \u{e4}\u{f6}\u{fc}", "2 NOTIFY \u{e4}\u{f6}\u{fc}, 'n\u{e9}'", "1 hears 1"],
    &[
        "1 LISTEN a23456789_123456789_123456789_123456789_123456789_123456789_123456789",
        "2 NOTIFY a23456789_123456789_123456789_123456789_123456789_123456789_123456789",
        "1 hears 1",
    ],
    &["1 LISTEN", "1 LISTEN \"\"", "1 LISTEN select", "1 LISTEN a.b", "1 SELECT 1"],
    // From a function, a trigger and a procedure that commits.
    &[
        "2 CREATE TABLE told (n int)",
        "2 CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('ear', NEW.n::text); RETURN NEW; END$$",
        "2 CREATE TRIGGER tell BEFORE INSERT ON told FOR EACH ROW EXECUTE FUNCTION tell()",
        "1 LISTEN ear",
        "1 INSERT INTO told VALUES (1)",
        "2 INSERT INTO told VALUES (2), (3)",
        "1 hears 2",
        "1 DO $$BEGIN NOTIFY ear, 'a'; COMMIT; NOTIFY ear, 'b'; END$$",
        "1 DROP TABLE told; DROP FUNCTION tell",
    ],
    // Several who listen, and one who comes and goes.
    &[
        "1 LISTEN ear",
        "2 LISTEN ear",
        "3 NOTIFY ear, 'to both'",
        "1 hears 1",
        "2 hears 1",
        "2 UNLISTEN ear",
        "3 NOTIFY ear, 'to one'",
        "1 hears 1",
        "2 SELECT 1",
        "2 LISTEN ear",
        "1 NOTIFY ear, 'back'",
        "2 hears 1",
        "2 PREPARE TRANSACTION 'x'",
    ],
    // With other reasons to keep a server.
    &[
        "1 CREATE TEMP TABLE own (n int)",
        "1 LISTEN ear",
        "2 NOTIFY ear, 'pinned'",
        "1 hears 1",
        "1 NOTIFY ear, 'own'",
        "1 SELECT * FROM pg_listening_channels()",
        "1 DROP TABLE own",
        "2 NOTIFY ear, 'free'",
        "1 hears 1",
    ],
    &["1 LISTEN b; LISTEN a", "1 LISTEN c", "1 UNLISTEN b", "1 SELECT 1", "1 SELECT * FROM pg_listening_channels()"],
];

/// What each line brought: notifications apart, for they may come before the answer that they would stand in.
async fn hear(port: u16, conversation: &[&str]) -> Vec<String> {
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Wire::connect(&Login::app(port)).await);
    }
    let mut heard = Vec::new();
    for line in conversation {
        let (number, said) = line.split_once(' ').unwrap();
        let client = &mut clients[number.parse::<usize>().unwrap() - 1];
        let messages = match said.strip_prefix("hears ") {
            Some(count) => hears(client, count.parse().unwrap()).await,
            None => client.query(said).await,
        };
        let (told, answers): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.tag == b'A');
        let answers: Vec<_> = answers.iter().map(without_place).collect();
        let told: Vec<_> = told.iter().map(|message| notification(client, message)).collect();
        heard.push(format!("{line}: {answers:?} {told:?}"));
    }
    heard
}

async fn hears(client: &mut Wire, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.push(client.receive().await);
    }
    messages
}

/// A message without the place in PostgreSQL's source that an error comes from.
fn without_place(message: &Message) -> String {
    let text = describe(message);
    text.split(" F=").next().unwrap_or_default().to_owned()
}

/// Channel and payload, and whether the client itself has sent it.
fn notification(client: &Wire, message: &Message) -> String {
    let whose = if message.body[..4] == client.key[..4] { "own" } else { "others'" };
    format!("{whose} {}", message.body[4..].escape_ascii())
}

async fn conversations_are_the_same(env: &Env) {
    let session = [("pool.mode", "session"), ("auth.method", "trust"), ("routing.reads", "primary")];
    let session = Howdah::start(&env.cluster, &session).await;
    let mut different = Vec::new();
    for conversation in CONVERSATIONS {
        let expected = hear(env.cluster.primary().port, conversation).await;
        for (mode, port) in [("transaction", env.port()), ("session", session.port)] {
            let got = tokio::time::timeout(PATIENCE, hear(port, conversation)).await;
            let got = got.unwrap_or_else(|_| vec![format!("silence in {conversation:?}")]);
            if got != expected {
                different.push(format!("{mode}:\n{expected:#?}\n{got:#?}"));
            }
        }
    }
    assert!(different.is_empty(), "{} differ\n{}", different.len(), different.join("\n"));
}

async fn a_client_knows_its_own_notifications(env: &Env) {
    // Two take turns on one server: what one has sent before is not the other's own.
    let alone = [("pool.size", "1"), ("auth.method", "trust"), ("routing.reads", "primary")];
    let howdah = Howdah::start(&env.cluster, &alone).await;
    let (mut one, mut two) =
        (Wire::connect(&Login::app(howdah.port)).await, Wire::connect(&Login::app(howdah.port)).await);
    one.query("LISTEN turns").await;
    two.query("LISTEN turns").await;
    for turn in 0..50 {
        let (mine, others) = (one.query(&format!("NOTIFY turns, '{turn}'")).await, two.query("SELECT 1").await);
        let find = |messages: &[Message]| messages.iter().find(|message| message.tag == b'A').cloned();
        assert_eq!(notification(&one, &find(&mine).unwrap()), format!("own turns\\x00{turn}\\x00"));
        assert!(notification(&two, &find(&others).unwrap()).starts_with("others'"));
        // It stands where PostgreSQL has it: in front of ReadyForQuery.
        assert_eq!(mine.iter().map(|message| message.tag).collect::<Vec<_>>(), b"CAZ");
        std::mem::swap(&mut one, &mut two);
    }
}

async fn listeners(env: &Env) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'howdah listener' AND datname = 'app'";
    let found = env.cluster.primary().query(sql).await;
    found.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect()
}

async fn many_listen_with_few_servers(env: &Env) {
    let mut many = Vec::new();
    for number in 0..50 {
        let mut client = Wire::connect(&env.app()).await;
        client.query(&format!("LISTEN crowd; LISTEN only_{number}")).await;
        many.push(client);
    }
    assert_eq!(listeners(env).await.len(), 1, "one connection listens for all");
    let teller = env.app().connect().await.unwrap();
    for round in 0..20 {
        let only = round * 2;
        rows(&teller, &format!("NOTIFY crowd, '{round}'; NOTIFY only_{only}, 'you'")).await.unwrap();
    }
    for (number, client) in many.iter_mut().enumerate() {
        let (mut rounds, mut alone) = (Vec::new(), 0);
        while rounds.len() < 20 || (number % 2 == 0 && number < 40 && alone == 0) {
            let told = client.receive().await;
            assert_eq!(told.tag, b'A', "{}", describe(&told));
            let mut parts = told.body[4..].split(|&byte| byte == 0).map(String::from_utf8_lossy);
            match (parts.next().unwrap().as_ref(), parts.next().unwrap().as_ref()) {
                ("crowd", round) => rounds.push(round.parse::<usize>().unwrap()),
                (channel, "you") if channel == format!("only_{number}") => alone += 1,
                other => panic!("{number} was told {other:?}"),
            }
        }
        assert!(rounds.iter().copied().eq(0..20), "{rounds:?}");
        // And it still runs statements.
        assert_eq!(first_column(&client.query("SELECT 7").await), ["7"]);
    }
    assert!(env.cluster.primary().sessions_of("app").await <= 2, "clients that listen keep no server");
}

/// The payloads, as numbers, of all notifications up to that of `last`.
async fn numbers_until(client: &mut Wire, mut heard: Vec<u32>, last: u32) -> Vec<u32> {
    while heard.last() != Some(&last) {
        let told = client.receive().await;
        assert_eq!(told.tag, b'A', "{}", describe(&told));
        heard.push(number_of(&told));
    }
    heard
}

fn number_of(told: &Message) -> u32 {
    let payload = told.body[4..].split(|&byte| byte == 0).nth(1).unwrap();
    String::from_utf8_lossy(payload).parse().unwrap()
}

async fn nothing_is_missed_and_nothing_comes_twice(env: &Env) {
    const LAST: u32 = 2000;
    let (said, saying) = tokio::sync::watch::channel(0);
    let login = env.app();
    let teller = tokio::spawn(async move {
        let teller = login.connect().await.unwrap();
        for number in 1..=LAST {
            rows(&teller, &format!("NOTIFY stream, '{number}'")).await.unwrap();
            said.send_replace(number);
        }
    });
    let listeners = (0..8).map(|index: u32| {
        let (login, mut saying) = (env.app(), saying.clone());
        async move {
            let mut client = Wire::connect(&login).await;
            saying.wait_for(|said| *said > index * 100).await.unwrap();
            let before = *saying.borrow();
            let listen = if index.is_multiple_of(2) { "LISTEN stream" } else { "BEGIN; LISTEN stream; COMMIT" };
            let answer = client.query(listen).await;
            let after = *saying.borrow();
            let mut heard: Vec<_> = answer.iter().filter(|message| message.tag == b'A').map(number_of).collect();
            for _ in 0..50 {
                // The client is not only idle: notifications come with its answers, too.
                let answer = client.query("SELECT 1").await;
                heard.extend(answer.iter().filter(|message| message.tag == b'A').map(number_of));
            }
            let heard = numbers_until(&mut client, heard, LAST).await;
            let first = heard[0];
            assert!(heard.iter().copied().eq(first..=LAST), "{index}: {heard:?}");
            assert!(before < first && first <= after + 2, "{index}: {before} {first} {after}");
        }
    });
    let listened = tokio::time::timeout(PATIENCE * 2, futures_util::future::join_all(listeners));
    listened.await.expect("all hear the last one");
    teller.await.unwrap();
}

async fn encodings_are_the_clients(env: &Env) {
    let latin = [("client_encoding", "LATIN1")];
    let mut heard = Vec::new();
    for port in [env.cluster.primary().port, env.port()] {
        let mut client = Wire::connect_with(&Login::app(port), &latin).await;
        client.query("LISTEN letters").await;
        let teller = env.app().connect().await.unwrap();
        rows(&teller, "NOTIFY letters, 'na\u{ef}ve'").await.unwrap();
        heard.push(client.receive().await.body[4..].to_vec());
    }
    assert_eq!(heard[0], b"letters\0na\xefve\0");
    assert_eq!(heard[1], heard[0]);
}

async fn names_that_cannot_be_read_are_refused(env: &Env) {
    let mut client = Wire::connect(&env.app()).await;
    let refused = client.query("LISTEN U&\"\\0061\"").await;
    assert_eq!(error_code(&refused).as_deref(), Some("0A000"), "{refused:?}");
    assert_eq!(first_column(&client.query("SELECT 7").await), ["7"]);
}

async fn who_cannot_listen_is_told_why(env: &Env) {
    let primary = env.cluster.primary();
    primary.query("CREATE DATABASE closed").await;
    primary.query("REVOKE CONNECT ON DATABASE closed FROM PUBLIC").await;
    primary.query("GRANT CONNECT ON DATABASE closed TO app").await;
    let mut client = Wire::connect(&env.app().database("closed")).await;
    let refused = client.query("LISTEN ear").await;
    assert_eq!(error_code(&refused).as_deref(), Some("42501"), "{refused:?}");
    assert_eq!(first_column(&client.query("SELECT 7").await), ["7"]);
    primary.query("GRANT CONNECT ON DATABASE closed TO PUBLIC").await;
    let answer = client.query("LISTEN ear").await;
    assert_eq!(error_code(&answer), None, "{answer:?}");
    let own = client.query("NOTIFY ear").await;
    assert_eq!(own.iter().map(|message| message.tag).collect::<Vec<_>>(), b"CAZ");
}

// === Slow clients ===

async fn metric(howdah: &Howdah, name: &str) -> u64 {
    let (_, page) = howdah.http("/metrics").await.unwrap();
    let line = page.lines().find(|line| line.starts_with(name)).expect("the metric is there");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn flood(teller: &Client, count: usize) {
    let sql = format!("SELECT pg_notify('flood', repeat('x', 7000) || n) FROM generate_series(1, {count}) n");
    rows(teller, &sql).await.unwrap();
}

async fn who_does_not_read_is_let_go(env: &Env) {
    let before = metric(env.howdah(), "howdah_notify_overflows_total").await;
    let mut slow = Wire::connect(&env.app()).await;
    slow.query("LISTEN flood").await;
    let mut other = Wire::connect(&env.app()).await;
    other.query("LISTEN calm").await;
    let teller = env.app().connect().await.unwrap();
    // More than all sockets on the way take.
    eventually("the slow one is let go", PATIENCE, async || {
        flood(&teller, 500).await;
        metric(env.howdah(), "howdah_notify_overflows_total").await > before
    })
    .await;
    let mut heard = 0u64;
    while let Some(message) = slow.next_or_end().await {
        match message.tag {
            b'A' => heard += 1,
            b'E' => assert_eq!(error_code(&[message]).as_deref(), Some("53400")),
            _ => panic!("{}", describe(&message)),
        }
    }
    assert!(heard > 0);
    // Nobody else has lost anything.
    rows(&teller, "NOTIFY calm").await.unwrap();
    assert_eq!(other.receive().await.tag, b'A');
}

async fn a_long_transaction_with_too_many_is_let_go(env: &Env) {
    let mut slow = Wire::connect(&env.app()).await;
    slow.query("LISTEN flood").await;
    slow.query("BEGIN; CREATE TABLE kept (n int)").await;
    let teller = env.app().connect().await.unwrap();
    flood(&teller, 20).await;
    slow.send(&wire::query("COMMIT")).await;
    let mut tags = Vec::new();
    let mut last = None;
    while let Some(message) = slow.next_or_end().await {
        tags.push(message.tag);
        last = error_code(&[message]).or(last);
    }
    // What it did took effect, and it knows that; then it hears that it has missed something.
    assert_eq!((tags, last.as_deref()), (b"CZE".to_vec(), Some("53400")));
    rows(&teller, "DROP TABLE kept").await.unwrap();
}

// === Lost and moved connections ===

async fn a_lost_connection_is_told_of(env: &Env) {
    let losses = metric(env.howdah(), "howdah_notify_losses_total").await;
    let mut client = Wire::connect(&env.app()).await;
    client.query("LISTEN ear").await;
    for pid in listeners(env).await {
        env.cluster.primary().query(&format!("SELECT pg_terminate_backend({pid})")).await;
    }
    let warning = client.receive().await;
    assert_eq!((warning.tag, error_field(&warning, b'C').as_str()), (b'N', "01000"), "{}", describe(&warning));
    assert!(error_field(&warning, b'M').contains("may have been missed"), "{}", describe(&warning));
    // It is told once it listens again, so that nothing is missed from then on.
    let teller = env.app().connect().await.unwrap();
    rows(&teller, "NOTIFY ear, 'again'").await.unwrap();
    assert_eq!(next_notification(&mut client).await, "others' ear\\x00again\\x00");
    assert_eq!(metric(env.howdah(), "howdah_notify_losses_total").await, losses + 1);
    // Who comes later is told of nothing.
    let mut late = Wire::connect(&env.app()).await;
    late.query("LISTEN ear").await;
    let own = late.query("NOTIFY ear").await;
    assert_eq!(own.iter().map(|message| message.tag).collect::<Vec<_>>(), b"CAZ");
}

/// A server that answers no more is lost, and be it asked more and more.
async fn a_connection_that_hangs_is_lost(env: &Env) {
    let losses = metric(env.howdah(), "howdah_notify_losses_total").await;
    let (mut idle, mut busy) = (Wire::connect(&env.app()).await, Wire::connect(&env.app()).await);
    idle.query("LISTEN ear").await;
    busy.query("LISTEN ear").await;
    let mut more = Vec::new();
    for _ in 0..40 {
        more.push(Wire::connect(&env.app()).await);
    }
    for client in &mut more {
        client.query("LISTEN ear").await;
    }
    let hung: Vec<u32> = listeners(env).await.into_iter().map(i32::unsigned_abs).collect();
    signal("STOP", &hung);
    // More often than the server has time to answer.
    let more = async {
        for client in &mut more {
            client.send(&wire::query("BEGIN")).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let told = tokio::select! {
        told = async { tokio::join!(idle.receive(), busy.query("SELECT 7")) } => Some(told),
        () = more => None,
    };
    signal("CONT", &hung);
    let told = told.expect("it is given up although it is asked and asked");
    assert_eq!((told.0.tag, error_field(&told.0, b'C').as_str()), (b'N', "01000"), "{}", describe(&told.0));
    assert_eq!(first_column(&told.1), ["7"]);
    let teller = env.app().connect().await.unwrap();
    rows(&teller, "NOTIFY ear, 'again'").await.unwrap();
    assert_eq!(next_notification(&mut idle).await, "others' ear\\x00again\\x00");
    assert_eq!(metric(env.howdah(), "howdah_notify_losses_total").await, losses + 1);
}

async fn next_notification(client: &mut Wire) -> String {
    let message = client.receive().await;
    assert_eq!(message.tag, b'A', "{}", describe(&message));
    notification(client, &message)
}

fn error_field(message: &Message, field: u8) -> String {
    let mut fields = message.body.split(|&byte| byte == 0);
    let found = fields.find(|text| text.first() == Some(&field));
    found.map(|text| String::from_utf8_lossy(&text[1..]).into_owned()).unwrap_or_default()
}

async fn shown(env: &Env) -> Vec<Vec<Option<String>>> {
    let console = Login::console(env.port()).connect().await.unwrap();
    rows(&console, "SHOW LISTENERS").await.unwrap()
}

async fn a_listener_that_is_not_needed_ends(env: &Env) {
    env.cluster.primary().query("CREATE DATABASE passing").await;
    let mut client = Wire::connect(&env.app().database("passing")).await;
    client.query("LISTEN ear; LISTEN other").await;
    let found = shown(env).await;
    let row = found.iter().find(|row| row[1].as_deref() == Some("passing")).expect("it is shown");
    let text = |index: usize| row[index].as_deref().unwrap_or_default();
    assert_eq!((text(5), text(6), text(7)), ("2", "1", ""), "{row:?}");
    drop(client);
    // As long as somebody is connected PostgreSQL drops no database; who goes through Howdah is not hindered.
    let superuser = Login::superuser(env.port()).connect().await.unwrap();
    rows(&superuser, "DROP DATABASE passing").await.unwrap();
    eventually("it is gone", PATIENCE, async || {
        !shown(env).await.iter().any(|row| row[1].as_deref() == Some("passing"))
    })
    .await;
}

async fn a_reload_leaves_listeners_alone(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("auth.method", "trust")]).await;
    let mut client = Wire::connect(&Login::app(howdah.port)).await;
    client.query("LISTEN ear").await;
    // All of the cluster is made anew, and it is the same database.
    howdah.reload(&env.cluster, &[("auth.method", "trust"), ("clusters.main.monitor.interval", "700ms")]);
    eventually("it is reloaded", PATIENCE, async || howdah.log().contains("configuration reloaded")).await;
    let teller = Login::app(howdah.port).connect().await.unwrap();
    rows(&teller, "NOTIFY ear, 'still'").await.unwrap();
    assert_eq!(next_notification(&mut client).await, "others' ear\\x00still\\x00");
    let own = client.query("NOTIFY ear").await;
    assert_eq!(own.iter().map(|message| message.tag).collect::<Vec<_>>(), b"CAZ");
    assert_eq!(metric(&howdah, "howdah_notify_losses_total").await, 0);
}

async fn a_reload_to_another_database_ends_them(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("auth.method", "trust")]).await;
    let mut client = Wire::connect(&Login::app(howdah.port)).await;
    client.query("LISTEN ear").await;
    let elsewhere = "[{name: app, cluster: main, server_database: postgres}, {name: '*', cluster: main}]";
    howdah.reload(&env.cluster, &[("auth.method", "trust"), ("databases", elsewhere)]);
    let end = client.receive().await;
    assert_eq!(error_code(&[end]).as_deref(), Some("57P01"));
    assert_eq!(client.next_or_end().await, None);
}

async fn promotion_is_followed(env: &Env) {
    let mut client = Wire::connect(&env.app()).await;
    client.query("LISTEN ear").await;
    let (old, new) = (env.cluster.primary(), &env.cluster.replicas()[0]);
    env.cluster.caught_up(old).await;
    old.stop(Shutdown::Fast).await;
    new.promote().await;
    let warning = client.receive().await;
    assert_eq!((warning.tag, error_field(&warning, b'C').as_str()), (b'N', "01000"), "{}", describe(&warning));
    // By whoever, on the new primary.
    new.query_in("app", "NOTIFY ear, 'from the new one'").await;
    assert_eq!(next_notification(&mut client).await, "others' ear\\x00from the new one\\x00");
    let own = client.query("NOTIFY ear").await;
    assert_eq!(own.iter().map(|message| message.tag).collect::<Vec<_>>(), b"CAZ");
}
