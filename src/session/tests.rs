//! Conversations with a session in memory: what goes to the server, and what the session believes afterwards.

use std::sync::Arc;

use bytes::BytesMut;

use super::carried::Carried;
use super::encode::Upstream;
use super::pins::Pins;
use super::registry::Registry;
use super::{Batch, Intent, Note, Plan, Session, Standing, Tx, Work};
use crate::auth::Users;
use crate::auth::method::{Step, begin};
use crate::config::model::{AuthMethod, PoolOverrides, RoutingOverrides, User};
use crate::protocol::frame::{Framer, Incomplete, Next};
use crate::protocol::frontend;
use crate::protocol::outbox::Outbox;
use crate::protocol::replies::{Event, Replies};
use crate::protocol::tag::{TransactionStatus, frontend as tag};
use crate::sql::catalog::Catalog;
use crate::sql::classify::Classifier;

/// A session with one server.
struct Pair {
    session: Session,
    carried: Carried,
    replies: Replies<Note>,
    standing: Standing,
}

impl Pair {
    fn new() -> Self {
        let user = User {
            name: "app".into(),
            password: None,
            server_user: None,
            server_password: None,
            pool: PoolOverrides::default(),
            routing: RoutingOverrides::default(),
        };
        let users = Users::new(&[user], [0; 32]);
        let step = begin(AuthMethod::Trust, "app", &users, None, [0; 18]);
        let Ok(Step::Done(_, proof)) = step else { panic!("trust asks for nothing") };
        let registry = Arc::new(Registry::default());
        Self {
            session: Session::new(&proof, registry, Arc::default(), Arc::default(), Pins::default()),
            carried: Carried::new(Arc::default(), 2),
            replies: Replies::default(),
            standing: Standing::Detached,
        }
    }

    /// What becomes of a batch: the answer, or what a server sees of it.
    fn send(&mut self, batch: &[u8]) -> Result<Vec<u8>, String> {
        let (mut cutter, mut frames, mut at) = (Framer::default(), Vec::new(), 0);
        while let Ok(Next::Frame(frame)) = cutter.next(batch, at, |_, _, _| Incomplete::Wait) {
            frames.push(frame);
            at = frame.end();
        }
        let classifier = Classifier::default();
        let mut plan = Plan::new(self.standing);
        let batch = Batch { buffer: batch, frames: &frames };
        let catalog = Catalog::empty();
        let intent = self.session.observe(batch, &mut plan, &mut |text| classifier.analyse(text, &catalog));
        match intent {
            Intent::Answer(bytes) => return Ok(bytes.to_vec()),
            Intent::Run { work: Work::Read(_) | Work::Write(_) | Work::Transaction, .. } => {}
        }
        self.standing = Standing::Attached;
        let mut out = Outbox::default();
        let mut up = Upstream { carried: &mut self.carried, replies: &mut self.replies, out: &mut out };
        self.session.prelude(&mut up);
        self.session.encode(batch, &plan, &mut up);
        Err(String::from_utf8_lossy(&out.to_bytes(batch.buffer)).replace('\0', "."))
    }

    /// Server messages, by type; `first` is the first byte of `ReadyForQuery`.
    fn hear(&mut self, tags: &str, first: u8, body: &[u8]) {
        for kind in tags.bytes() {
            while self.replies.take_answered().is_some() {}
            let (_, event) = self.replies.on(kind, first).unwrap();
            if matches!(event, Event::Command) {
                if let Some(note) = self.replies.front_note() {
                    self.session.on_command(note, body, &mut self.carried);
                }
            } else {
                self.session.on_reply(event, kind, body, &mut self.carried);
            }
        }
        while self.replies.take_answered().is_some() {}
    }
}

fn query(text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    frontend::put_query(&mut out, text.as_bytes());
    out.to_vec()
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    frontend::put_parse(&mut out, name.as_bytes(), text.as_bytes(), &[0, 0]);
    out.to_vec()
}

fn bind(name: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    crate::protocol::backend::message(&mut out, tag::BIND, |out| {
        out.extend_from_slice(b"\0");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&[0; 7]);
    });
    out.to_vec()
}

fn sync() -> Vec<u8> {
    let mut out = BytesMut::new();
    frontend::put_sync(&mut out);
    out.to_vec()
}

#[test]
fn begin_is_answered_at_once_and_opened_with_the_first_statement() {
    let mut pair = Pair::new();
    assert_eq!(pair.send(&query("BEGIN")).unwrap(), b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T");
    assert_eq!(pair.session.status(), TransactionStatus::InTransaction);
    let sent = pair.send(&query("SELECT 1")).unwrap_err();
    assert!(sent.contains("BEGIN") && sent.contains("SELECT 1"), "{sent}");
    pair.hear("CZ", b'T', b"BEGIN\0");
    pair.hear("TDCZ", b'T', b"SELECT 1\0");
    assert_eq!(*pair.session.tx(), Tx::Open(TransactionStatus::InTransaction));
}

#[test]
fn a_transaction_that_no_server_saw_ends_without_one() {
    let mut pair = Pair::new();
    assert!(pair.send(&query("start transaction read only")).is_ok());
    assert_eq!(pair.send(&query("commit")).unwrap(), b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I");
    assert_eq!(*pair.session.tx(), Tx::Idle);
}

#[test]
fn settings_are_undone_with_their_transaction() {
    let mut pair = Pair::new();
    pair.send(&query("SET work_mem TO '1MB'")).unwrap_err();
    pair.hear("CZ", b'I', b"SET\0");
    pair.send(&query("BEGIN; SET work_mem TO '2MB'")).unwrap_err();
    pair.hear("C", b'T', b"BEGIN\0");
    pair.hear("C", b'T', b"SET\0");
    pair.hear("Z", b'T', b"");
    assert_eq!(pair.session.settings().get("work_mem").unwrap().text(), "2MB");
    pair.send(&query("ROLLBACK")).unwrap_err();
    pair.hear("CZ", b'I', b"ROLLBACK\0");
    assert_eq!(pair.session.settings().get("work_mem").unwrap().text(), "1MB");
}

#[test]
fn a_failed_parse_leaves_its_name_free() {
    let mut pair = Pair::new();
    let batch = [parse("s", "SELECT missing"), sync()].concat();
    assert!(pair.send(&batch).unwrap_err().contains("howdah_"));
    pair.hear("EZ", b'I', b"");
    assert_eq!(pair.session.prepared_count(), 0);
    assert!(!pair.send(&batch).unwrap_err().contains("howdah_refused"));
    pair.hear("1Z", b'I', b"");
    assert_eq!(pair.session.prepared_count(), 1);
    // Now the name is taken.
    assert!(pair.send(&batch).unwrap_err().contains("howdah_refused"));
}

#[test]
fn a_statement_that_the_server_lacks_is_supplied() {
    let mut pair = Pair::new();
    pair.send(&[parse("s", "SELECT 1"), sync()].concat()).unwrap_err();
    pair.hear("1Z", b'I', b"");
    pair.carried.forget_all();
    let sent = pair.send(&[bind("s"), sync()].concat()).unwrap_err();
    assert!(sent.starts_with('P') && sent.contains("SELECT 1"), "{sent}");
    pair.hear("12Z", b'I', b"");
    let again = pair.send(&[bind("s"), sync()].concat()).unwrap_err();
    assert!(again.starts_with('B'), "{again}");
}

#[test]
fn the_least_used_statement_makes_room_and_comes_back() {
    let mut pair = Pair::new();
    for (name, text) in [("a", "SELECT 1"), ("b", "SELECT 2, 2"), ("c", "SELECT 3, 3, 3")] {
        let sent = pair.send(&[parse(name, text), sync()].concat()).unwrap_err();
        let closes = name == "c";
        assert_eq!(sent.contains("Showdah_"), closes, "{sent}");
        pair.hear(if closes { "13Z" } else { "1Z" }, b'I', b"");
    }
    assert_eq!(pair.carried.count(), 2);
    assert!(pair.send(&[bind("a"), sync()].concat()).unwrap_err().starts_with('P'));
}

#[test]
fn anothers_unnamed_statement_is_not_used() {
    let mut pair = Pair::new();
    pair.carried.unnamed = Some(999);
    assert!(pair.send(&[bind(""), sync()].concat()).unwrap_err().contains("howdah_refused"));
}
