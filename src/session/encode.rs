//! A batch as its server must see it: names translated, missing statements supplied, replies expected.
//!
//! What is assumed of the server here is taken back by `Session::undo` when a message fails or is skipped.

use std::sync::Arc;

use bytes::BufMut;

use super::carried::Carried;
use super::observe::{Batch, Plan, Step};
use super::portals::Portal;
use super::registry::Statement;
use super::{Note, Session, Tx, columns};
use crate::protocol::error::Report;
use crate::protocol::frame::{Frame, HEADER};
use crate::protocol::frontend::{self, Bind, Object, Parse};
use crate::protocol::outbox::Outbox;
use crate::protocol::replies::{Kind, Replies, Whose};
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::{TransactionStatus, backend as answer, frontend as tag};
use crate::sql::Effects;
use crate::sql::command::{Command, Parsed, Value};

/// The server's side of an exchange, as far as a session may touch it.
#[derive(Debug)]
pub struct Upstream<'a> {
    /// What the server carries.
    pub carried: &'a mut Carried,
    /// What it owes.
    pub replies: &'a mut Replies<Note>,
    /// What goes to it.
    pub out: &'a mut Outbox,
}

/// A statement that has another name on servers, and where in a text the client names it.
type Renamed = (Arc<Statement>, std::ops::Range<usize>);

impl Upstream<'_> {
    fn expect(&mut self, kind: Kind, note: Option<Note>) {
        self.replies.expect(kind, Whose::Client, note);
    }

    fn relay(&mut self, frame: Frame) {
        self.out.relay(frame.start..frame.end());
    }

    /// Whether the server has the client's statements by the names that the client uses.
    fn has_clients_names(&self) -> bool {
        self.carried.has_clients_names()
    }

    /// Makes sure that the server has `statement`, by a Parse of ours if need be.
    fn supply(&mut self, statement: &Arc<Statement>) {
        if self.carried.has(statement.id) {
            return;
        }
        let name = &statement.server_name;
        self.out.make(|out| frontend::put_parse(out, name.as_bytes(), &statement.text, statement.parameter_types()));
        self.replies.expect(Kind::Parse, Whose::Ours, Some(Note::Supplied(statement.id)));
        self.remember(statement);
    }

    /// The same where the server knows it by the client's `name`: it has it, unless it has refused it before.
    fn supply_as(&mut self, name: &[u8], statement: &Statement) {
        if self.carried.asks_for(name) {
            self.out.make(|out| frontend::put_parse(out, name, &statement.text, &statement.types));
            self.replies.expect(Kind::Parse, Whose::Ours, Some(Note::SuppliedAs(name.into())));
        }
    }

    /// Puts the servers' names of `renamed`, which the server will have, in the place of the client's in `text`.
    fn rename(&mut self, text: &[u8], renamed: &[Renamed]) -> Vec<u8> {
        let mut text = text.to_vec();
        for (statement, at) in renamed.iter().rev() {
            self.supply(statement);
            text = replace(&text, at.clone(), &statement.server_name);
        }
        text
    }

    /// Makes room for a Parse of `statement`, which the server has.
    fn replace(&mut self, statement: &Arc<Statement>) {
        self.out.make(|out| frontend::put_object(out, tag::CLOSE, Object::Statement, statement.server_name.as_bytes()));
        self.replies.expect(Kind::Close, Whose::Ours, Some(Note::Evicted(Arc::clone(statement))));
        self.carried.forget(statement.id);
    }

    fn supply_unnamed(&mut self, statement: &Statement) {
        if self.carried.unnamed == Some(statement.id) {
            return;
        }
        self.out.make(|out| frontend::put_parse(out, b"", &statement.text, &statement.types));
        let held = self.carried.unnamed.replace(statement.id);
        self.replies.expect(Kind::Parse, Whose::Ours, Some(Note::SuppliedUnnamed(held)));
    }

    fn remember(&mut self, statement: &Arc<Statement>) {
        if let Some(old) = self.carried.remember(statement) {
            self.out.make(|out| {
                frontend::put_object(out, tag::CLOSE, Object::Statement, old.server_name.as_bytes());
            });
            self.replies.expect(Kind::Close, Whose::Ours, Some(Note::Evicted(old)));
        }
    }
}

impl Session {
    /// What must go to a fresh server before the batch: the BEGIN that was answered already, and what makes it fail if it has.
    pub fn prelude(&mut self, up: &mut Upstream<'_>) {
        let status = self.status();
        if let Tx::Deferred(begun) = &self.tx {
            up.out.make(|out| frontend::put_query(out, &begun.text));
            up.replies.expect(Kind::Query, Whose::Ours, Some(Note::Begin));
            if begun.failed {
                // A simple query, as the BEGIN: a Sync would end what a server passes over when it refuses settings.
                up.out.make(|out| frontend::put_query(out, b"ROLLBACK TO howdah_had_no_server"));
                up.replies.expect(Kind::Query, Whose::Ours, None);
            }
            up.carried.unnamed = None;
            // Sent once, even if the batch that follows goes out in pieces.
            self.tx = Tx::Open(status);
        }
    }

    /// Turns the messages of `batch`, from `from` on, into what the server must see.
    pub fn encode(&mut self, batch: Batch<'_>, plan: &Plan, from: usize, up: &mut Upstream<'_>) {
        let steps = plan.steps.iter().map(Some).chain(std::iter::repeat(None));
        for ((frame, body), step) in batch.messages().zip(steps).skip(from) {
            // What the server passes over has no answer and no effect.
            if !frame.is_start() || (up.replies.is_skipping() && frame.tag != tag::SYNC) {
                up.relay(frame);
                continue;
            }
            if let Some(denial) = plan.denial.as_deref().filter(|denial| denial.covers(frame.tag)) {
                self.refuse_instead(frame, denial.report.clone(), up);
                continue;
            }
            match (frame.tag, step) {
                (tag::QUERY, Some(Step::Query { statements, effects })) => {
                    self.encode_query(frame, body, statements, *effects, up);
                }
                (tag::PARSE, Some(Step::Parse(statement))) => self.encode_parse(frame, body, statement, up),
                (tag::BIND, _) => self.encode_bind(frame, frame.length(batch.buffer), body, up),
                _ => self.encode_other(frame, body, up),
            }
        }
    }

    /// Sends something that must fail in the place of a message.
    fn refuse_instead(&mut self, frame: Frame, report: Report, up: &mut Upstream<'_>) {
        if !matches!(frame.tag, tag::QUERY | tag::FUNCTION_CALL) {
            return refuse(report, up);
        }
        if frame.tag == tag::QUERY {
            // exec_simple_query drops the unnamed statement before it looks at the text.
            self.unnamed = None;
        }
        up.refuse_query(report);
    }

    fn encode_other(&mut self, frame: Frame, body: &[u8], up: &mut Upstream<'_>) {
        match frame.tag {
            tag::DESCRIBE => self.encode_describe(frame, body, up),
            tag::CLOSE => self.encode_close(frame, body, up),
            tag::EXECUTE => {
                if let Some(report) = self.refuses_execute(body, up.carried) {
                    return self.refuse_instead(frame, report, up);
                }
                up.relay(frame);
                let note = self.executed(body, up.carried);
                up.expect(Kind::Execute, note);
            }
            tag::SYNC => {
                up.relay(frame);
                up.expect(Kind::Sync, None);
            }
            tag::QUERY => {
                up.relay(frame);
                up.expect(Kind::Query, None);
            }
            tag::PARSE => {
                up.relay(frame);
                up.expect(Kind::Parse, None);
            }
            tag::FUNCTION_CALL => {
                up.relay(frame);
                // Which function it is cannot be seen: a lock is the worst that it may leave behind.
                self.took_effect(Effects::ADVISORY_LOCK);
                up.expect(Kind::Function, None);
            }
            tag::COPY_DONE | tag::COPY_FAIL => {
                up.relay(frame);
                up.expect(Kind::CopyEnd, None);
            }
            _ => up.relay(frame),
        }
    }

    fn encode_query(
        &mut self,
        frame: Frame,
        body: &[u8],
        statements: &[Parsed],
        effects: Effects,
        up: &mut Upstream<'_>,
    ) {
        let concerns = !statements.is_empty() || effects.concern_session();
        let refused = if concerns { self.refuses_query(body, statements, effects, up.carried) } else { None };
        if let Some(report) = refused {
            return self.refuse_instead(frame, report, up);
        }
        let renamed = self.renamed(statements, up);
        if renamed.is_empty() {
            up.relay(frame);
        } else {
            let text = up.rename(frontend::query(body).unwrap_or_default(), &renamed);
            up.out.make(|out| frontend::put_query(out, &text));
        }
        // exec_simple_query drops the unnamed statement (src/backend/tcop/postgres.c).
        self.unnamed = None;
        up.carried.unnamed = None;
        let note = concerns.then(|| Note::Query { statements: statements.to_vec(), effects, done: 0 });
        up.expect(Kind::Query, note);
    }

    /// The statements that EXECUTE and DEALLOCATE name and that Howdah has renamed, and where they are named.
    fn renamed(&self, statements: &[Parsed], up: &Upstream<'_>) -> Vec<Renamed> {
        if up.has_clients_names() {
            return Vec::new();
        }
        let named = statements.iter().filter_map(|parsed| match &parsed.command {
            Command::Execute { name, at } | Command::Deallocate { name, at } => Some((name, at)),
            _ => None,
        });
        let found =
            named.filter_map(|(name, at)| Some((Arc::clone(self.statements.get(name.as_bytes())?), at.clone())));
        found.collect()
    }

    fn encode_parse(&mut self, frame: Frame, body: &[u8], statement: &Arc<Statement>, up: &mut Upstream<'_>) {
        let name = Parse::open(body).map(|parse| parse.name).unwrap_or_default();
        if name.is_empty() {
            self.encode_parse_unnamed(frame, statement, up);
            return;
        }
        if up.has_clients_names() {
            up.relay(frame);
            let is_new = !self.statements.contains_key(name);
            let note = is_new.then(|| Note::Parsed { name: name.into(), sent: None });
            if is_new {
                self.statements.insert(name.into(), Arc::clone(statement));
                // Whatever had this name before is not what the server lacks.
                let _ = up.carried.asks_for(name);
            }
            up.expect(Kind::Parse, note);
            return;
        }
        if self.statements.contains_key(name) {
            // PostgreSQL looks at the text first, and at the transaction.
            if self.tx == Tx::Open(TransactionStatus::Failed) && up.carried.has(statement.id) {
                up.replace(statement);
            }
            up.supply(statement);
            let name = String::from_utf8_lossy(name);
            let words = format!("prepared statement \"{name}\" already exists");
            refuse(Report::error(SqlState::DUPLICATE_PSTATEMENT, words), up);
            return;
        }
        self.statements.insert(name.into(), Arc::clone(statement));
        if up.carried.has(statement.id) {
            // In a failed transaction even a known statement must not be said to be parsed, unless it ends it.
            if self.tx == Tx::Open(TransactionStatus::Failed) {
                up.replace(statement);
            } else {
                up.expect(Kind::Answered(answer::PARSE_COMPLETE), Some(Note::Parsed { name: name.into(), sent: None }));
                return;
            }
        }
        let server_name = &statement.server_name;
        up.out.make(|out| frontend::put_parse(out, server_name.as_bytes(), &statement.text, &statement.types));
        up.expect(Kind::Parse, Some(Note::Parsed { name: name.into(), sent: Some(statement.id) }));
        up.remember(statement);
    }

    fn encode_parse_unnamed(&mut self, frame: Frame, statement: &Arc<Statement>, up: &mut Upstream<'_>) {
        let renamed = self.renamed(statement.parsed.as_slice(), up);
        if renamed.is_empty() {
            up.relay(frame);
        } else {
            let text = up.rename(&statement.text, &renamed);
            up.out.make(|out| frontend::put_parse(out, b"", &text, &statement.types));
        }
        let before = self.unnamed.replace(Arc::clone(statement));
        let held = up.carried.unnamed.replace(statement.id);
        up.expect(Kind::Parse, Some(Note::Unnamed { before, held }));
    }

    fn encode_bind(&mut self, frame: Frame, length: usize, body: &[u8], up: &mut Upstream<'_>) {
        let Ok(bind) = Bind::open(body) else {
            up.relay(frame);
            up.expect(Kind::Bind, None);
            return;
        };
        let statement = self.statement(bind.statement).cloned();
        match &statement {
            Some(statement) if bind.statement.is_empty() => {
                up.supply_unnamed(statement);
                up.relay(frame);
            }
            Some(statement) if up.has_clients_names() => {
                up.supply_as(bind.statement, statement);
                up.relay(frame);
            }
            Some(statement) if statement.has_changed() && !up.carried.has(statement.id) => {
                refuse(columns::changed(), up);
                return;
            }
            Some(statement) => {
                up.supply(statement);
                put_bind(frame, length, bind, &statement.server_name, up);
            }
            None if is_strange(bind.statement, up.carried) => {
                refuse(unknown_statement(bind.statement), up);
                return;
            }
            // Unknown here: the server says so, in its own words, or knows it from SQL's PREPARE.
            None => up.relay(frame),
        }
        let named = statement.as_ref().filter(|_| !bind.statement.is_empty());
        if bind.portal.is_empty() {
            self.shown = named.filter(|named| !named.is_shown()).cloned();
        }
        let note = named.map(|named| Note::Bound(Arc::clone(named)));
        match statement.filter(|statement| statement.concerns_session()) {
            Some(statement) => {
                let parsed = statement.parsed.as_ref().map(|parsed| with_arguments(parsed, bind));
                self.portals.insert(bind.portal, Portal { statement, parsed });
            }
            None => self.portals.remove(bind.portal),
        }
        up.expect(Kind::Bind, note);
    }

    fn encode_describe(&mut self, frame: Frame, body: &[u8], up: &mut Upstream<'_>) {
        let named = match frontend::object(body) {
            Ok((Object::Statement, name)) => Some(name),
            _ => None,
        };
        let statement = named.and_then(|name| self.statement(name).cloned().map(|statement| (name, statement)));
        if let (Some(name), None) = (named, &statement)
            && is_strange(name, up.carried)
        {
            refuse(unknown_statement(name), up);
            return;
        }
        let note = match statement {
            Some(([], statement)) => {
                up.supply_unnamed(&statement);
                up.relay(frame);
                None
            }
            Some((name, statement)) if up.has_clients_names() => {
                up.supply_as(name, &statement);
                up.relay(frame);
                Some(Note::Bound(statement))
            }
            Some((_, statement)) => {
                up.supply(&statement);
                let name = &statement.server_name;
                up.out.make(|out| frontend::put_object(out, tag::DESCRIBE, Object::Statement, name.as_bytes()));
                Some(Note::Bound(statement))
            }
            None => {
                up.relay(frame);
                if body == b"P\0" { self.shown.take().map(Note::Shown) } else { None }
            }
        };
        up.expect(Kind::Describe, note);
    }

    fn encode_close(&mut self, frame: Frame, body: &[u8], up: &mut Upstream<'_>) {
        let Ok((Object::Statement, name)) = frontend::object(body) else {
            if let Ok((Object::Portal, name)) = frontend::object(body) {
                self.portals.remove(name);
            }
            up.relay(frame);
            up.expect(Kind::Close, None);
            return;
        };
        let Some(statement) = self.statements.remove(name) else {
            if name.is_empty() {
                let (before, held) = (self.unnamed.take(), up.carried.unnamed.take());
                up.relay(frame);
                up.expect(Kind::Close, Some(Note::Unnamed { before, held }));
            } else if is_strange(name, up.carried) {
                // Closing what is not there is no error; what is there is others'.
                up.expect(Kind::Answered(answer::CLOSE_COMPLETE), None);
            } else {
                up.relay(frame);
                up.expect(Kind::Close, None);
            }
            return;
        };
        if up.has_clients_names() {
            up.relay(frame);
            up.expect(Kind::Close, Some(Note::Closed { name: name.into(), statement }));
            return;
        }
        // The text stays on the server for whoever prepares it next.
        up.expect(Kind::Answered(answer::CLOSE_COMPLETE), Some(Note::Closed { name: name.into(), statement }));
    }

    pub(super) fn statement(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.statements.get(name) }
    }

    /// What to remember of an Execute.
    fn executed(&mut self, body: &[u8], carried: &mut Carried) -> Option<Note> {
        let portal = self.portals.get(frontend::execute(body).ok()?)?;
        let effects = portal.statement.effects();
        let statement = portal.parsed.clone().unwrap_or(Parsed { command: Command::Other, set_configs: Vec::new() });
        let forgotten = self.forget(&statement.command, carried);
        Some(Note::Executed { statement, effects, forgotten })
    }
}

/// Whether a name that the client does not know stands for something of Howdah's, or of another client's, on the server.
fn is_strange(name: &[u8], carried: &Carried) -> bool {
    if name.is_empty() { carried.unnamed.is_some() } else { name.starts_with(b"howdah_") }
}

fn unknown_statement(name: &[u8]) -> Report {
    let words = match name {
        [] => "unnamed prepared statement does not exist".to_owned(),
        name => format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name)),
    };
    Report::error(SqlState::INVALID_SQL_STATEMENT_NAME, words)
}

/// Has the server fail, so that it rolls back and skips as it would have, and words the error here.
pub(super) fn refuse(report: Report, up: &mut Upstream<'_>) {
    up.out.make(frontend::put_refused);
    up.expect(Kind::Refused, Some(Note::Refused(Box::new(report))));
}

/// A Bind under the statement's name on servers; its parameters stay where they are. `frame` may be only the
/// head of a long message, so `length` is what its length word says.
fn put_bind(frame: Frame, length: usize, bind: Bind<'_>, name: &str, up: &mut Upstream<'_>) {
    let head = HEADER + bind.portal.len() + 1 + bind.statement.len() + 1;
    let longer = length.saturating_sub(bind.statement.len()) + name.len();
    up.out.make(|out| {
        out.put_u8(tag::BIND);
        out.put_u32(u32::try_from(longer).unwrap_or(u32::MAX));
        for part in [bind.portal, name.as_bytes()] {
            out.put_slice(part);
            out.put_u8(0);
        }
    });
    up.out.relay(frame.start + head..frame.end());
}

fn replace(text: &[u8], at: std::ops::Range<usize>, with: &str) -> Vec<u8> {
    let (Some(before), Some(after)) = (text.get(..at.start), text.get(at.end..)) else { return text.to_vec() };
    [before, with.as_bytes(), after].concat()
}

/// A statement whose `set_config` arguments are replaced by what Bind gave for them.
fn with_arguments(parsed: &Parsed, bind: Bind<'_>) -> Parsed {
    let resolve = |value: &Value| match value {
        Value::Parameter(number) => {
            let bytes = number.checked_sub(1).and_then(|index| bind.parameter(usize::from(index)));
            bytes
                .and_then(|bytes| std::str::from_utf8(bytes).ok())
                .map_or_else(|| value.clone(), |text| Value::Literal(text.to_owned()))
        }
        Value::Literal(_) => value.clone(),
    };
    let resolve_call = |call: &Command| match call {
        Command::SetConfig { name, value, is_local } => {
            Command::SetConfig { name: resolve(name), value: resolve(value), is_local: resolve(is_local) }
        }
        other => other.clone(),
    };
    Parsed { command: parsed.command.clone(), set_configs: parsed.set_configs.iter().map(resolve_call).collect() }
}
