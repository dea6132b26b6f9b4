//! One script on one connection, and what was heard, as text that two runs can be compared by.

use std::fmt::Write as _;
use std::time::Duration;

use howdah_integration::session::Login;
use howdah_integration::wire::{Message, Wire, describe};

use crate::script::Script;

/// What stands for an answer that does not come.
pub(crate) const SILENCE: &str = "… and then nothing for five seconds";

/// How long a whole script may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The least OID of what is not PostgreSQL's own (`FirstNormalObjectId`).
const FIRST_NORMAL_OID: u32 = 16384;

/// How messages are cut into writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// A line is one write.
    Whole,
    /// Every byte is sent on its own, and before one of a long line the client pauses.
    ByteByByte,
}

/// Lines longer than this have a pause in them.
const LONG: usize = 60;

/// For longer than Howdah waits for the rest of a batch.
const PAUSE: Duration = Duration::from_millis(60);

/// All that a client hears that says `script` to the server at `port`.
pub(crate) async fn hear(script: &Script, port: u16, writes: Writes) -> Vec<String> {
    let mut heard = Vec::new();
    if tokio::time::timeout(PATIENCE, talk(script, port, writes, &mut heard)).await.is_err() {
        heard.push(SILENCE.into());
    }
    heard
}

async fn talk(script: &Script, port: u16, writes: Writes, heard: &mut Vec<String>) {
    let startup: Vec<_> = script.startup.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut wire = Wire::connect_with(&Login::app(port), &startup).await;
    heard.push(format!("login {:?}", wire.parameters));
    for exchange in &script.exchanges {
        let parts = match writes {
            Writes::Whole => exchange.send.len().max(1),
            Writes::ByteByByte => 1,
        };
        let pause = pause_in(&exchange.send).filter(|_| writes == Writes::ByteByByte);
        for (at, part) in exchange.send.chunks(parts).enumerate() {
            if pause == Some(at) {
                tokio::time::sleep(PAUSE).await;
            }
            // A server that has hung up said so before, or is found out below.
            let _sent = wire.try_send(part).await;
        }
        for tag in &exchange.until {
            hear_until(&mut wire, *tag, heard).await;
        }
    }
}

/// Where in `line` the client pauses: always in the same place, and in each line in another.
fn pause_in(line: &[u8]) -> Option<usize> {
    let mixed = line.iter().fold(0_usize, |mixed, byte| mixed.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    (line.len() > LONG).then(|| mixed % line.len())
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
        // A notification begins with the process that sent it.
        b'A' => format!("A * {}", message.body[4..].escape_ascii()),
        b'E' | b'N' => {
            let text = describe(message);
            let text = text.split(" F=").next().unwrap_or_default().trim_end_matches('}');
            without_numbers_behind("pg_temp_", text)
        }
        _ => describe(message),
    }
}

/// `text` without the numbers that follow `word`: which schema of temporary objects a server has is chance.
fn without_numbers_behind(word: &str, text: &str) -> String {
    let mut parts = text.split(word);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |so_far, part| so_far + word + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Columns without the OIDs of tables and types that are made anew for every run.
fn row_description(body: &[u8]) -> String {
    let mut text = String::from("T");
    let mut rest = &body[2..];
    while let Some(end) = rest.iter().position(|&byte| byte == 0) {
        let (name, fields) = (&rest[..end], &rest[end + 1..end + 19]);
        let table = if fields[..4] == [0; 4] { "" } else { "*" };
        write!(text, " {}{table}:{}", name.escape_ascii(), fields[4..6].escape_ascii()).unwrap();
        if fields[6..10] < FIRST_NORMAL_OID.to_be_bytes()[..] {
            write!(text, "{}", fields[6..10].escape_ascii()).unwrap();
        }
        write!(text, "{}", fields[10..].escape_ascii()).unwrap();
        rest = &rest[end + 19..];
    }
    text
}

/// Both conversations side by side, from the first difference on.
pub(crate) fn difference(expected: &[String], got: &[String]) -> String {
    let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let short = |message: &String| message.chars().take(300).collect::<String>();
    let show = |messages: &[String]| -> String {
        messages[same..].iter().take(6).map(short).collect::<Vec<_>>().join("\n    ")
    };
    let last = same.checked_sub(1).map_or_else(|| "(start)".into(), |i| short(&expected[i]));
    let (expected, got) = (show(expected), show(got));
    format!("  after {same} equal messages, the last: {last}\n  PostgreSQL:\n    {expected}\n  Howdah:\n    {got}")
}
