//! PostgreSQL is the oracle: the same messages sent straight to it and through Howdah must bring
//! the same answers, message by message, byte by byte where that has a meaning.
//!
//! Each script runs three times: against the primary, through Howdah, and through Howdah with
//! every byte sent on its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

mod script;

use std::fmt::Write as _;
use std::time::Duration;

use howdah_integration::session::{Login, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::wire::{Message, Wire, describe};
use tokio_postgres::Client;

use script::{Script, scripts};

/// The scripts.
const FILES: [(&str, &str); 6] = [
    ("simple", include_str!("conversations/simple.txt")),
    ("transactions", include_str!("conversations/transactions.txt")),
    ("settings", include_str!("conversations/settings.txt")),
    ("extended", include_str!("conversations/extended.txt")),
    ("statements", include_str!("conversations/statements.txt")),
    ("copy", include_str!("conversations/copy.txt")),
];

/// What stands for an answer that does not come.
const SILENCE: &str = "… and then nothing for three seconds";

/// What every script finds.
const OBJECTS: &str = "
    SET lock_timeout = '2s';
    DROP SCHEMA IF EXISTS oracle CASCADE;
    CREATE SCHEMA oracle AUTHORIZATION app;
    SET ROLE app;
    CREATE TABLE oracle.t (id int PRIMARY KEY, v text);
    INSERT INTO oracle.t SELECT i, 'v' || i FROM generate_series(1, 10) i;
    CREATE SEQUENCE oracle.seq;
    RESET ROLE;
";

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Drivers,
        &[("pool.size", "3"), ("workers", "2")],
        howdah_integration::checks![login_says_the_same, conversations_are_the_same],
    )
}

async fn login_says_the_same(env: &Env) {
    let startups: [&[(&str, &str)]; 4] = [
        &[],
        &[("application_name", "an application")],
        &[("options", "-c DateStyle=German -c search_path=oracle"), ("client_encoding", "LATIN1")],
        &[("TimeZone", "Asia/Tokyo"), ("extra_float_digits", "2"), ("IntervalStyle", "iso_8601")],
    ];
    for parameters in startups {
        let direct = Wire::connect_with(&Login::app(env.cluster.primary().port), parameters).await;
        let through = Wire::connect_with(&env.app(), parameters).await;
        assert_eq!(through.parameters, direct.parameters, "{parameters:?}");
        assert_eq!(through.key.len(), direct.key.len());
    }
    for minor in [0, 2, 9] {
        let direct = Wire::connect_in(minor, &Login::app(env.cluster.primary().port), &[]).await;
        let through = Wire::connect_in(minor, &env.app(), &[]).await;
        assert_eq!(through.negotiated, direct.negotiated, "3.{minor}");
        assert_eq!(through.key.len(), direct.key.len(), "3.{minor}");
    }
}

async fn conversations_are_the_same(env: &Env) {
    let scripts: Vec<Script> = FILES.iter().flat_map(|(name, text)| scripts(name, text)).collect();
    let superuser = Login::superuser(env.cluster.primary().port).database("app").connect().await.unwrap();
    let mut different = Vec::new();
    for script in &scripts {
        let primary = env.cluster.primary().port;
        let mut expected = run(env, &superuser, script, primary, Writes::Whole).await;
        if expected.len() == 1 && expected[0].starts_with('…') {
            expected = run(env, &superuser, script, primary, Writes::Whole).await;
        }
        assert!(!expected.iter().any(|heard| heard == SILENCE), "{}: PostgreSQL itself: {expected:?}", script.name);
        for writes in [Writes::Whole, Writes::ByteByByte] {
            let got = run(env, &superuser, script, env.port(), writes).await;
            if got != expected {
                eprintln!("{} ({writes:?}):\n{}", script.name, difference(&expected, &got));
                different.push(&script.name);
            }
        }
    }
    different.dedup();
    assert_eq!(different, KNOWN, "of {} scripts these differ, and the second list is known to", scripts.len());
}

/// Scripts that are known to differ (docs/limitations.md); one that does not any more must be taken off.
const KNOWN: [&str; 1] = ["statements: SQL-level and protocol-level are one"];

/// How messages are cut into writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    Whole,
    ByteByByte,
}

/// Runs one script on objects made anew, and tells all that it heard.
async fn run(env: &Env, superuser: &Client, script: &Script, port: u16, writes: Writes) -> Vec<String> {
    if rows(superuser, OBJECTS).await.is_err() {
        // Said in place of an answer: the run before has left this one nothing to begin with.
        rows(superuser, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app'")
            .await
            .unwrap();
        return vec!["… a server was left behind that holds a lock".into()];
    }
    let mut heard = Vec::new();
    env.cluster.caught_up(env.cluster.primary()).await;
    let talking = talk(script, port, writes, &mut heard);
    if tokio::time::timeout(Duration::from_secs(3), talking).await.is_err() {
        heard.push(SILENCE.into());
    }
    heard
}

async fn talk(script: &Script, port: u16, writes: Writes, heard: &mut Vec<String>) {
    let mut wire = Wire::connect(&Login::app(port)).await;
    for exchange in &script.exchanges {
        let parts = match writes {
            Writes::Whole => exchange.send.len().max(1),
            Writes::ByteByByte => 1,
        };
        for part in exchange.send.chunks(parts) {
            // A server that has hung up said so before, or is found out below.
            let _sent = wire.try_send(part).await;
        }
        for tag in &exchange.until {
            hear_until(&mut wire, *tag, heard).await;
        }
    }
}

async fn hear_until(wire: &mut Wire, tag: u8, heard: &mut Vec<String>) {
    loop {
        let Some(message) = wire.next_or_end().await else {
            heard.push("… and the server hung up".into());
            return;
        };
        heard.push(normal(&message));
        if message.tag == tag {
            return;
        }
    }
}

/// A message as text, without what differs between two runs on one server, and without the place in
/// PostgreSQL's source that an error comes from: some errors are Howdah's to give.
fn normal(message: &Message) -> String {
    match message.tag {
        b'T' => row_description(&message.body),
        b'E' | b'N' => {
            let text = describe(message);
            text.split(" F=").next().unwrap_or_default().trim_end_matches('}').to_owned()
        }
        _ => describe(message),
    }
}

/// Columns without the table's OID: tables are made anew for every run.
fn row_description(body: &[u8]) -> String {
    let mut text = String::from("T");
    let mut rest = &body[2..];
    while let Some(end) = rest.iter().position(|&byte| byte == 0) {
        let (name, fields) = (&rest[..end], &rest[end + 1..end + 19]);
        let table = if fields[..4] == [0; 4] { "" } else { "*" };
        write!(text, " {}{table}:{}", name.escape_ascii(), fields[4..].escape_ascii()).unwrap();
        rest = &rest[end + 19..];
    }
    text
}

/// Both conversations side by side, from the first difference on.
fn difference(expected: &[String], got: &[String]) -> String {
    let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let short = |message: &String| message.chars().take(300).collect::<String>();
    let show = |messages: &[String]| -> String {
        messages[same..].iter().take(6).map(short).collect::<Vec<_>>().join("\n    ")
    };
    let last = same.checked_sub(1).map_or_else(|| "(start)".into(), |i| short(&expected[i]));
    let (expected, got) = (show(expected), show(got));
    format!("  after {same} equal messages, the last: {last}\n  PostgreSQL:\n    {expected}\n  Howdah:\n    {got}")
}
