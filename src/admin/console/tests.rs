//! Conversations with the console.

use proptest::prelude::*;

use super::super::show::tests::sample;
use super::*;
use crate::protocol::error::ErrorFields;

/// Knows one database, `app`.
struct Sample;

impl Informed for Sample {
    fn state(&self) -> State {
        sample()
    }

    fn explain(&self, question: &Question) -> Result<Vec<(String, String)>, Report> {
        match &question.database {
            Some(name) if name.as_str() != "app" => {
                Err(Report::error(SqlState::INVALID_CATALOG_NAME, "no such database"))
            }
            _ => Ok(vec![("target".into(), "primary".into()), ("reason".into(), "read".into())]),
        }
    }
}

/// A client with its console: sends bytes, reads replies as short texts.
#[derive(Default)]
struct Talk {
    console: Console,
    buffer: BytesMut,
    out: BytesMut,
}

impl Talk {
    fn step(&mut self) -> Step {
        self.console.receive(&mut self.buffer, &mut self.out, &Sample)
    }

    /// Sends `message` and returns the step; replies stay until `replies`.
    fn send(&mut self, message: impl FnOnce(&mut BytesMut)) -> Step {
        message(&mut self.buffer);
        self.step()
    }

    /// What came back: a tag each, with the text of what carries one.
    fn replies(&mut self) -> Vec<String> {
        let mut replies = Vec::new();
        while let Ok(Next::Frame(frame)) = Framer::default().next(&self.out, 0, |_, _, _| Incomplete::Wait) {
            let body = frame.body(&self.out);
            let kind = char::from(frame.tag);
            replies.push(match frame.tag {
                b'C' => format!("C {}", String::from_utf8_lossy(&body[..body.len() - 1])),
                b'E' | b'N' => {
                    let fields = ErrorFields::parse(body);
                    format!("{kind} {}", fields.code.map_or_else(String::new, |code| code.as_str().to_owned()))
                }
                b'Z' => format!("Z {}", char::from(body[0])),
                b'T' => format!("T {}", u16::from_be_bytes([body[0], body[1]])),
                _ => kind.to_string(),
            });
            self.out.advance(frame.end());
        }
        assert!(self.out.is_empty());
        replies
    }
}

fn query(text: &str) -> impl FnOnce(&mut BytesMut) {
    move |out| frontend::put_query(out, text.as_bytes())
}

fn bind(out: &mut BytesMut, portal: &str, statement: &str, rest: &[u8]) {
    backend::message(out, tag::BIND, |out| {
        for name in [portal, statement] {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\0");
        }
        out.extend_from_slice(rest);
    });
}

fn execute(out: &mut BytesMut, portal: &str, limit: i32) {
    backend::message(out, tag::EXECUTE, |out| {
        out.extend_from_slice(portal.as_bytes());
        out.extend_from_slice(b"\0");
        out.extend_from_slice(&limit.to_be_bytes());
    });
}

/// Parse, Bind with text results, Describe, Execute, Sync: what drivers send for one statement.
fn extended(text: &str) -> impl FnOnce(&mut BytesMut) {
    move |out| {
        frontend::put_parse(out, b"", text.as_bytes(), &[0, 0]);
        bind(out, "", "", b"\0\0\0\0\0\0");
        frontend::put_object(out, tag::DESCRIBE, Object::Portal, b"");
        execute(out, "", 0);
        frontend::put_sync(out);
    }
}

#[track_caller]
fn check(message: impl FnOnce(&mut BytesMut), expected: &[&str]) {
    let mut talk = Talk::default();
    assert_eq!(talk.send(message), Step::Read);
    assert_eq!(talk.replies(), expected);
}

#[test]
fn simple_queries() {
    check(query("SHOW CLIENTS"), &["T 23", "D", "D", "C SHOW", "Z I"]);
    check(query("SELECT 1"), &["T 1", "D", "C SELECT 1", "Z I"]);
    check(query("SHOW HELP"), &["N 00000", "C SHOW", "Z I"]);
    check(query("SET application_name = 'x'"), &["N 00000", "C SET", "Z I"]);
    check(query(""), &["I", "Z I"]);
    check(query("SHOW VERSION; SELECT 1;"), &["T 1", "D", "C SHOW", "T 1", "D", "C SELECT 1", "Z I"]);
    check(query("SHOW nonsense"), &["E 42704", "Z I"]);
    check(query("SHOW VERSION; nonsense"), &["E 42601", "Z I"]);
}

#[test]
fn the_extended_protocol_does_the_same() {
    check(extended("SHOW CLIENTS"), &["1", "2", "T 23", "D", "D", "C SHOW", "Z I"]);
    check(extended("SHOW HELP"), &["1", "2", "n", "N 00000", "C SHOW", "Z I"]);
    check(extended(""), &["1", "2", "n", "I", "Z I"]);
    check(extended("nonsense"), &["E 42601", "Z I"]);
    check(extended("SHOW POOLS; SHOW POOLS"), &["E 42601", "Z I"]);
}

#[test]
fn a_believed_transaction_is_answered_as_believed() {
    let mut talk = Talk::default();
    talk.send(query("BEGIN"));
    assert_eq!(talk.replies(), ["C BEGIN", "Z T"]);
    talk.send(extended("SHOW VERSION"));
    assert_eq!(talk.replies(), ["1", "2", "T 1", "D", "C SHOW", "Z T"]);
    talk.send(query("COMMIT"));
    assert_eq!(talk.replies(), ["C COMMIT", "Z I"]);
}

#[test]
fn an_action_holds_everything_back_until_its_outcome_is_known() {
    let mut talk = Talk::default();
    let both = |out: &mut BytesMut| {
        frontend::put_query(out, b"PAUSE app; SHOW VERSION");
        frontend::put_query(out, b"RELOAD");
    };
    assert_eq!(talk.send(both), Step::Perform(Action::Pause(Some("app".into()))));
    assert_eq!(talk.step(), Step::Read);
    assert!(talk.replies().is_empty());
    talk.console.complete(Ok(()), &mut talk.out);
    assert_eq!(talk.step(), Step::Perform(Action::Reload));
    assert_eq!(talk.replies(), ["C PAUSE", "T 1", "D", "C SHOW", "Z I"]);
    talk.console.complete(Err(Report::error(SqlState::CONFIG_FILE_ERROR, "no")), &mut talk.out);
    assert_eq!(talk.step(), Step::Read);
    assert_eq!(talk.replies(), ["E F0000", "Z I"]);
}

#[test]
fn a_failed_action_ends_the_script_and_skips_to_sync() {
    let failed = || Err(Report::error(SqlState::INVALID_CATALOG_NAME, "no such database"));
    let mut talk = Talk::default();
    assert!(matches!(talk.send(query("KILL nobody; SHOW VERSION")), Step::Perform(_)));
    talk.console.complete(failed(), &mut talk.out);
    talk.step();
    assert_eq!(talk.replies(), ["E 3D000", "Z I"]);

    let twice = |out: &mut BytesMut| {
        frontend::put_parse(out, b"", b"KILL nobody", &[0, 0]);
        bind(out, "", "", b"\0\0\0\0\0\0");
        execute(out, "", 0);
        execute(out, "", 0);
        frontend::put_sync(out);
    };
    assert!(matches!(talk.send(twice), Step::Perform(_)));
    talk.console.complete(failed(), &mut talk.out);
    assert_eq!(talk.step(), Step::Read);
    assert_eq!(talk.replies(), ["1", "2", "E 3D000", "Z I"]);
}

#[test]
fn prepared_statements_live_until_they_are_closed() {
    let mut talk = Talk::default();
    let prepare = |out: &mut BytesMut| {
        frontend::put_parse(out, b"s", b"SHOW POOLS", &[0, 0]);
        frontend::put_object(out, tag::DESCRIBE, Object::Statement, b"s");
        frontend::put_sync(out);
    };
    let run = |out: &mut BytesMut| {
        bind(out, "", "s", b"\0\0\0\0\0\x01\0\x01");
        execute(out, "", 0);
        frontend::put_sync(out);
    };
    talk.send(prepare);
    assert_eq!(talk.replies(), ["1", "t", "T 19", "Z I"]);
    talk.send(run);
    assert_eq!(talk.replies(), ["2", "D", "C SHOW", "Z I"]);
    talk.send(prepare);
    assert_eq!(talk.replies(), ["E 42P05", "Z I"]);
    talk.send(|out| {
        frontend::put_object(out, tag::CLOSE, Object::Statement, b"s");
        frontend::put_object(out, tag::CLOSE, Object::Statement, b"s");
        frontend::put_sync(out);
    });
    assert_eq!(talk.replies(), ["3", "3", "Z I"]);
    talk.send(run);
    assert_eq!(talk.replies(), ["E 26000", "Z I"]);
    for forget in ["DEALLOCATE s", "DEALLOCATE ALL", "DISCARD ALL"] {
        talk.send(prepare);
        talk.send(query(forget));
        talk.replies();
        talk.send(run);
        assert_eq!(talk.replies(), ["E 26000", "Z I"], "{forget}");
    }
}

#[test]
fn portals_hand_out_rows_as_asked() {
    let mut talk = Talk::default();
    talk.send(|out| {
        frontend::put_parse(out, b"", b"SHOW CLIENTS", &[0, 0]);
        bind(out, "p", "", b"\0\0\0\0\0\0");
        execute(out, "p", 1);
        execute(out, "p", 1);
        execute(out, "p", 1);
        execute(out, "nobody", 1);
        frontend::put_sync(out);
    });
    assert_eq!(talk.replies(), ["1", "2", "D", "s", "D", "C SHOW", "C SHOW", "E 34000", "Z I"]);
    talk.send(|out| {
        execute(out, "p", 1);
        frontend::put_sync(out);
    });
    assert_eq!(talk.replies(), ["E 34000", "Z I"]);
}

#[test]
fn binds_that_cannot_be_are_refused() {
    for (rest, code) in [
        (&b"\0\0\0\x01\0\0\0\x011\0\0"[..], "E 08P01"),
        (b"\0\0\0\0\0\x02\0\0\0\0", "E 08P01"),
        (b"\0\0\0\0\0\x01\0\x07", "E 22023"),
        (b"\0\x05\0\0", "E 08P01"),
        (b"\0", "E 08P01"),
    ] {
        let message = |out: &mut BytesMut| {
            frontend::put_parse(out, b"", b"SHOW VERSION", &[0, 0]);
            bind(out, "", "", rest);
            frontend::put_sync(out);
        };
        check(message, &["1", code, "Z I"]);
    }
}

#[test]
fn the_connection_ends_when_it_must_and_only_then() {
    let closes = |bytes: &[u8]| {
        let mut talk = Talk::default();
        let step = talk.send(|out| out.extend_from_slice(bytes));
        (step, talk.replies())
    };
    let replies = |text: &[&str]| text.iter().map(|&reply| reply.to_owned()).collect::<Vec<_>>();
    assert_eq!(closes(b"X\0\0\0\x04"), (Step::Close, vec![]));
    assert_eq!(closes(b"Q\0\0\0\x01"), (Step::Close, replies(&["E 08P01"])));
    assert_eq!(closes(b"?\0\0\0\x04"), (Step::Close, replies(&["E 08P01"])));
    assert_eq!(closes(b"Q\x01\0\0\0"), (Step::Close, replies(&["E 54000"])));
    assert_eq!(closes(b"Q\0\0\0\x06\xff\0"), (Step::Read, replies(&["E 22021", "Z I"])));
    assert_eq!(closes(b"F\0\0\0\x04"), (Step::Read, replies(&["E 0A000", "Z I"])));
    assert_eq!(closes(b"c\0\0\0\x04"), (Step::Read, vec![]));
}

#[test]
fn statements_are_bounded() {
    let mut talk = Talk::default();
    for number in 0..=MAX_OBJECTS {
        talk.send(|out| frontend::put_parse(out, number.to_string().as_bytes(), b"", &[0, 0]));
    }
    assert_eq!(talk.replies().last().unwrap(), "E 54000");
    assert_eq!(talk.console.statements.len(), MAX_OBJECTS);
}

proptest! {
    /// Whatever arrives, in whatever pieces, the replies are the same and nothing panics.
    #[test]
    fn pieces_do_not_matter(noise in prop::collection::vec(any::<u8>(), 0..40), cut in 0usize..400) {
        let mut stream = BytesMut::new();
        extended("SHOW POOLS")(&mut stream);
        query("SHOW LISTS; SELECT 1")(&mut stream);
        stream.extend_from_slice(&noise);
        let mut whole = Talk::default();
        let last = whole.send(|out| out.extend_from_slice(&stream));
        let mut pieces = Talk::default();
        let cut = cut.min(stream.len());
        let first = pieces.send(|out| out.extend_from_slice(&stream[..cut]));
        let second = if first == Step::Read {
            pieces.send(|out| out.extend_from_slice(&stream[cut..]))
        } else {
            first
        };
        prop_assert_eq!(second, last);
        prop_assert_eq!(whole.replies(), pieces.replies());
    }
}

#[test]
fn a_route_is_explained() {
    let mut talk = Talk::default();
    talk.send(query("EXPLAIN ROUTE IN app SELECT 1"));
    assert_eq!(talk.replies(), ["T 2", "D", "D", "C EXPLAIN", "Z I"]);
    talk.send(query("EXPLAIN ROUTE IN elsewhere SELECT 1"));
    assert_eq!(talk.replies(), ["T 2", "E 3D000", "Z I"]);
    for (database, expected) in
        [("app", vec!["1", "2", "D", "D", "C EXPLAIN"]), ("elsewhere", vec!["1", "2", "E 3D000"])]
    {
        talk.send(|out| {
            let text = format!("EXPLAIN ROUTE IN {database} SELECT 1");
            frontend::put_parse(out, b"", text.as_bytes(), &[0, 0]);
            bind(out, "", "", &[0; 6]);
            backend::message(out, tag::EXECUTE, |out| out.extend_from_slice(&[0; 5]));
            frontend::put_sync(out);
        });
        assert_eq!(talk.replies(), [expected, vec!["Z I"]].concat());
    }
}
