//! Conversations with a session in memory: what goes to the server, and what the session believes afterwards.

use std::sync::Arc;

use bytes::BytesMut;

use super::carried::Carried;
use super::encode::Upstream;
use super::pins::{Cause, Pins, Reason, Refusal, Scrub};
use super::registry::Registry;
use super::scope::Outlook;
use super::settings::Difference;
use super::{Batch, Held, Intent, Note, Plan, Session, Standing, Tx};
use crate::auth::Users;
use crate::auth::method::{Step, begin};
use crate::config::model::{AuthMethod, User};
use crate::config::pins::PinSettings;
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
    objects: u64,
    /// What the server lacks of the client's settings, sent along with the next batch.
    lacks: Option<Difference>,
}

impl Pair {
    fn new() -> Self {
        Self::obeying("")
    }

    /// A client for whom this is said of pins.
    fn obeying(pins: &str) -> Self {
        let user = User::named("app");
        let users = Users::new(&[user], [0; 32]);
        let step = begin(AuthMethod::Trust, "app", &users, None, [0; 18]);
        let Ok(Step::Done(_, proof)) = step else { panic!("trust asks for nothing") };
        let registry = Arc::new(Registry::default());
        Self {
            session: Session::new(&proof, registry, Arc::default(), Arc::default(), Pins::new(pin_settings(pins))),
            carried: Carried::new(Arc::default(), 2),
            replies: Replies::default(),
            standing: Standing::Detached,
            objects: 0,
            lacks: None,
        }
    }

    /// A client that has set `work_mem` and comes to a server that carries nothing.
    fn on_another_server() -> Self {
        let mut pair = Self::new();
        pair.send(&query("SET work_mem TO '1MB'")).unwrap_err();
        pair.hear("CZ", b'I', b"SET\0");
        pair.session.detach(&mut pair.carried);
        pair.carried = Carried::new(Arc::default(), 2);
        pair.lacks = pair.session.attach(&mut pair.carried);
        assert!(pair.lacks.is_some());
        pair
    }

    /// What becomes of a batch: the answer, or what a server sees of it.
    fn send(&mut self, batch: &[u8]) -> Result<Vec<u8>, String> {
        let (mut cutter, mut frames, mut at) = (Framer::default(), Vec::new(), 0);
        while let Ok(Next::Frame(frame)) = cutter.next(batch, at, |_, _, _| Incomplete::Wait) {
            frames.push(frame);
            at = frame.end();
        }
        let mut plan = Plan::new(self.standing);
        let batch = Batch { buffer: batch, frames: &frames };
        let (classifier, catalog) = (Classifier::default(), Catalog::empty());
        let outlook = Outlook { classifier: &classifier, catalog: &catalog, objects: self.objects };
        let intent = self.session.observe(batch, &mut plan, &outlook);
        match intent {
            Intent::Answer(bytes) => return Ok(bytes.to_vec()),
            Intent::Run { .. } => {}
        }
        self.standing = Standing::Attached;
        let mut out = Outbox::default();
        let mut up = Upstream { carried: &mut self.carried, replies: &mut self.replies, out: &mut out };
        if let Some(difference) = self.lacks.take() {
            self.session.bring(&difference, &mut up);
        }
        self.session.prelude(&mut up);
        self.session.encode(batch, &plan, 0, &mut up);
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

fn pin_settings(text: &str) -> Arc<PinSettings> {
    const REST: &str = "users: [{name: app, password: x}]\ndatabases: [{name: '*', cluster: main}]\n\
        clusters: {main: {nodes: [{name: pg1, address: h}], monitor: {user: m}}}\n";
    let config = crate::config::parse(&format!("{REST}pins: {{{text}}}"), std::path::Path::new(""));
    Arc::new(config.unwrap_or_else(|faults| panic!("{faults}")).pins)
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

fn execute(portal: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    crate::protocol::backend::message(&mut out, tag::EXECUTE, |out| {
        out.extend_from_slice(portal.as_bytes());
        out.extend_from_slice(&[0; 5]);
    });
    out.to_vec()
}

#[test]
fn a_statement_is_shared_where_its_text_means_the_same() {
    let mut pair = Pair::new();
    pair.carried = Carried::new(Arc::default(), 10);
    let named = |sent: Result<Vec<u8>, String>| {
        let sent = sent.unwrap_err();
        sent[sent.find("howdah_").unwrap()..].split('.').next().unwrap().to_owned()
    };
    let first = named(pair.send(&[parse("a", "select 1"), sync()].concat()));
    pair.hear("1Z", b'I', b"");
    // Another path, another shape of the database, a moment: another statement.
    pair.send(&query("set search_path to other")).unwrap_err();
    pair.hear("CZ", b'I', b"SET\0");
    let elsewhere = named(pair.send(&[parse("b", "select 1"), sync()].concat()));
    pair.hear("1Z", b'I', b"");
    pair.send(&query("reset search_path")).unwrap_err();
    pair.hear("CZ", b'I', b"RESET\0");
    pair.objects = 1;
    let later = named(pair.send(&[parse("c", "select 1"), sync()].concat()));
    pair.hear("1Z", b'I', b"");
    let moments: Vec<_> = ["d", "e"]
        .iter()
        .map(|name| {
            let sent = named(pair.send(&[parse(name, "select 'now'"), sync()].concat()));
            pair.hear("1Z", b'I', b"");
            sent
        })
        .collect();
    let mut all = vec![first, elsewhere, later];
    all.extend(moments);
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn a_failed_transaction_does_not_part_a_server_from_its_books() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "rollback"), sync()].concat()).unwrap_err();
    pair.hear("1Z", b'I', b"");
    pair.send(&query("select 1/0")).unwrap_err();
    pair.hear("EZ", b'E', b"");
    // Closed first: PostgreSQL would say that the name is taken.
    let sent = pair.send(&[parse("b", "rollback"), sync()].concat()).unwrap_err();
    assert!(sent.starts_with("C.") && sent.contains("rollback"), "{sent}");
    pair.hear("31Z", b'E', b"");
    assert_eq!(pair.carried.count(), 1);
    let sent = pair.send(&[parse("c", "rollback"), sync()].concat()).unwrap_err();
    assert!(sent.starts_with("C."), "{sent}");
    pair.hear("3EZ", b'E', b"");
    assert_eq!(pair.carried.count(), 0);
}

#[test]
fn what_follows_a_deallocation_in_its_batch_is_not_lost() {
    let mut pair = Pair::new();
    pair.send(&[parse("s", "select 1"), sync()].concat()).unwrap_err();
    pair.hear("1Z", b'I', b"");
    let deallocate = [parse("", "deallocate all"), bind(""), execute("")].concat();
    let again = [&deallocate[..], &parse("s", "select 1"), &bind("s"), &execute(""), &sync()].concat();
    let sent = pair.send(&again).unwrap_err();
    assert!(!sent.contains("refused"), "{sent}");
    pair.hear("12C12CZ", b'I', b"DEALLOCATE ALL\0");
    assert_eq!((pair.session.prepared_count(), pair.carried.count()), (1, 1));
    // What was passed over has happened to nobody.
    let failing = [&parse("", "select broken")[..], &deallocate, &parse("t", "select 2"), &sync()].concat();
    pair.send(&failing).unwrap_err();
    pair.hear("EZ", b'I', b"");
    assert_eq!((pair.session.prepared_count(), pair.carried.count()), (1, 1));
}

#[test]
fn an_unnamed_statement_survives_what_is_passed_over() {
    let mut pair = Pair::new();
    pair.send(&[parse("", "select 1"), sync()].concat()).unwrap_err();
    pair.hear("1Z", b'I', b"");
    let held = pair.carried.unnamed;
    pair.send(&[bind("missing"), parse("", "select 2"), sync()].concat()).unwrap_err();
    pair.hear("EZ", b'I', b"");
    assert_eq!(pair.carried.unnamed, held);
    // One that fails itself takes its predecessor with it.
    pair.send(&[parse("", "select broken"), sync()].concat()).unwrap_err();
    pair.hear("EZ", b'I', b"");
    assert_eq!(pair.carried.unnamed, None);
}

#[test]
fn another_session_user_has_no_role_taken() {
    let mut pair = Pair::new();
    for text in ["set role alice", "set session authorization bob"] {
        pair.send(&query(text)).unwrap_err();
        pair.hear("CZ", b'I', b"SET\0");
    }
    assert_eq!(pair.session.settings().get("role"), None);
    pair.send(&query("set transaction_isolation to serializable")).unwrap_err();
    pair.hear("CZ", b'I', b"SET\0");
    assert_eq!(pair.session.settings().get("transaction_isolation"), None);
}

#[test]
fn a_lock_outlives_the_statement_that_failed_after_taking_it() {
    let mut pair = Pair::new();
    pair.send(&query("select pg_advisory_lock(1), 1/0")).unwrap_err();
    pair.hear("EZ", b'I', b"");
    assert!(pair.session.in_doubt());
}

/// The replies to the messages that bring one setting, but for the last: BEGIN, SET, and the COMMIT that follows.
const BRINGING: &str = "12C12C12";

#[test]
fn settings_go_along_and_hold_when_they_are_committed() {
    let mut pair = Pair::on_another_server();
    let sent = pair.send(&query("SELECT 1")).unwrap_err();
    let at = |what: &str| sent.find(what).unwrap_or_else(|| panic!("{what}: {sent}"));
    assert!(at("BEGIN") < at("SET \"work_mem\"") && at("SET \"work_mem\"") < at(".COMMIT."), "{sent}");
    assert!(at(".COMMIT.") < at("SELECT 1"), "{sent}");
    pair.hear(BRINGING, 0, b"");
    assert!(pair.carried.settings.is_empty());
    pair.hear("C", 0, b"COMMIT\0");
    assert!(Arc::ptr_eq(&pair.carried.settings, pair.session.settings()));
    pair.hear("TDCZ", b'I', b"SELECT 1\0");
    assert!(pair.replies.is_clean());
    assert_eq!(*pair.session.tx(), Tx::Idle);
}

#[test]
fn nothing_is_believed_of_what_is_passed_over_behind_settings() {
    // The transaction may not begin, the setting may be refused, the commit may fail.
    for (heard, status) in [("E", b'I'), ("12C1E", b'E'), (BRINGING, b'I')] {
        let mut pair = Pair::on_another_server();
        let batch = [parse("s", "select pg_advisory_lock(1)"), bind("s"), execute(""), sync()].concat();
        pair.send(&batch).unwrap_err();
        pair.hear(heard.trim_end_matches('E'), 0, b"");
        pair.hear("EZ", status, b"");
        assert!(pair.carried.settings.is_empty(), "{heard}");
        assert_eq!((pair.session.prepared_count(), pair.carried.count()), (0, 0), "{heard}");
        assert!(!pair.session.in_doubt(), "{heard}");
        assert!(pair.replies.is_empty(), "{heard}");
    }
}

#[test]
fn a_simple_query_is_passed_over_behind_settings_that_are_refused() {
    let mut pair = Pair::on_another_server();
    pair.send(&query("SELECT 1")).unwrap_err();
    pair.hear("12C1E", 0, b"");
    // What it waits for is a Sync.
    assert!(pair.replies.is_empty() && pair.replies.is_skipping());
}

#[test]
fn howdahs_own_unnamed_statement_is_nobodys() {
    let mut pair = Pair::on_another_server();
    assert!(pair.send(&[bind(""), sync()].concat()).unwrap_err().contains("howdah_refused"));
}

#[test]
fn what_would_pin_is_refused_in_its_place() {
    let mut pair = Pair::obeying("temporary: reject, advisory_lock: reject");
    let refusal = |reason| Refusal { reason, cause: Cause::Policy };
    let sent = pair.send(&query("SELECT 1; CREATE TEMP TABLE t ()")).unwrap_err();
    assert!(sent.contains("howdah_refused") && !sent.contains("SELECT 1"), "{sent}");
    pair.hear("EZ", b'I', b"");
    assert!(pair.replies.is_clean() && pair.session.pins().is_empty());
    assert_eq!(pair.session.take_refusals(), [refusal(Reason::Temporary)]);
    let batch = [parse("", "select pg_advisory_lock(1)"), bind(""), execute(""), execute(""), sync()];
    let sent = pair.send(&batch.concat()).unwrap_err();
    assert!(sent.contains("select pg_advisory_lock(1)") && sent.contains("howdah_refused"), "{sent}");
    pair.hear("12EZ", b'I', b"");
    assert!(pair.replies.is_clean() && pair.session.pins().is_empty());
    assert_eq!(pair.session.take_refusals().first(), Some(&refusal(Reason::AdvisoryLock)));
    // What nobody has forbidden pins.
    pair.send(&query("PREPARE p AS SELECT 1")).unwrap_err();
    pair.hear("CZ", b'I', b"PREPARE\0");
    assert!(pair.session.pins().has(Reason::Prepare));
}

#[test]
fn the_budget_is_for_all_servers_of_a_pool() {
    let (mut first, mut second) = (Pair::obeying("budget: 1"), Pair::obeying("budget: 1"));
    second.carried.room = Arc::clone(&first.carried.room);
    for pair in [&mut first, &mut second] {
        assert!(!pair.send(&query("SELECT 1")).unwrap_err().contains("howdah_refused"));
        pair.hear("TDCZ", b'I', b"SELECT 1\0");
    }
    let lock = query("SELECT pg_advisory_lock(1)");
    assert!(!first.send(&lock).unwrap_err().contains("howdah_refused"));
    assert!(second.send(&lock).unwrap_err().contains("howdah_refused"));
    second.hear("EZ", b'I', b"");
    let refusal = Refusal { reason: Reason::AdvisoryLock, cause: Cause::Budget };
    assert_eq!(second.session.take_refusals(), [refusal]);
    first.hear("TDCZ", b'I', b"SELECT 1\0");
    first.session.settle_pins(&first.carried);
    assert!(second.send(&lock).unwrap_err().contains("howdah_refused"));
    second.hear("EZ", b'I', b"");
    first.session.resolve_doubt(Held::Nothing, Held::Nothing);
    first.session.settle_pins(&first.carried);
    assert!(!second.send(&lock).unwrap_err().contains("howdah_refused"));
}

#[test]
fn what_is_ignored_pins_nothing_and_leaves_a_mark() {
    let mut pair = Pair::obeying("temporary: ignore, session_state: ignore");
    pair.send(&query("CREATE TEMP TABLE t ()")).unwrap_err();
    pair.hear("CZ", b'I', b"CREATE TABLE\0");
    assert!(pair.session.pins().is_empty() && pair.session.pins().needs_reset());
    assert_eq!(pair.session.pins().scrub(), Some(Scrub::Discard));
    pair.send(&query("SELECT setseed(0.5)")).unwrap_err();
    pair.hear("TDCZ", b'I', b"SELECT 1\0");
    assert_eq!(pair.session.pins().scrub(), Some(Scrub::Close));
    pair.send(&query("DISCARD ALL")).unwrap_err();
    pair.hear("CZ", b'I', b"DISCARD ALL\0");
    assert_eq!(pair.session.pins().scrub(), Some(Scrub::Close), "the seed is not discarded");
    pair.session.forget_pins();
    assert!(pair.session.pins().is_untouched());
}

#[test]
fn a_server_with_the_clients_names_sees_messages_as_they_are() {
    let mut pair = Pair::new();
    for (name, text) in [("s", "SELECT 1"), ("t", "SELECT 2, 2")] {
        pair.send(&[parse(name, text), sync()].concat()).unwrap_err();
        pair.hear("1Z", b'I', b"");
    }
    let messages = pair.session.name_statements(&mut pair.carried);
    let text = String::from_utf8_lossy(&messages.out).replace('\0', ".");
    assert_eq!(text.matches("Showdah_").count(), 2, "others' and Howdah's names go: {text}");
    assert!(text.contains("s.SELECT 1.") && text.contains("t.SELECT 2, 2."), "{text}");
    let whole = |messages: &[Vec<u8>]| String::from_utf8_lossy(&messages.concat()).replace('\0', ".");
    for (batch, answers) in [
        (vec![bind("s"), bind("t"), sync()], "22Z"),
        (vec![parse("u", "SELECT 3, 3, 3"), sync()], "1Z"),
        (vec![bind("u"), sync()], "2Z"),
    ] {
        assert_eq!(pair.send(&batch.concat()).unwrap_err(), whole(&batch));
        pair.hear(answers, b'I', b"");
    }
    // What the server could not parse is tried again when it is used.
    pair.carried.refuses(b"t".as_slice().into());
    let sent = pair.send(&[bind("t"), sync()].concat()).unwrap_err();
    assert!(sent.starts_with('P') && sent.contains("t.SELECT 2, 2."), "{sent}");
    pair.hear("EZ", b'I', b"");
    assert!(pair.send(&[bind("t"), sync()].concat()).unwrap_err().starts_with('P'));
    pair.hear("12Z", b'I', b"");
    assert!(pair.send(&[bind("t"), sync()].concat()).unwrap_err().starts_with('B'));
    pair.hear("2Z", b'I', b"");
    let messages = pair.session.unname_statements(&mut pair.carried);
    assert_eq!(messages.expected.len(), 4, "three statements and a Sync");
    assert!(!pair.carried.has_clients_names() && pair.carried.count() == 0);
    assert!(pair.send(&[bind("s"), sync()].concat()).unwrap_err().starts_with('P'));
}
