//! One client's conversation with the console: bytes of its messages in, bytes of replies out.
//!
//! Simple and extended protocol, no socket and no clock. What changes the system is handed out as
//! an [`Action`]; until its outcome comes back, the client's next messages wait in its buffer.
//!
//! ```text
//!            Query                      last command
//!   Ready ----------> Script (queue) ------------------> Ready
//!     |  ^              |    ^
//!     |  | outcome      v    | outcome
//!     |  +---- Acting(Extended)  Acting(Script)
//!     |  Sync
//!     +--------> Skipping   after an error in the extended protocol
//! ```

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, BytesMut};

use super::command::{Action, Command, Question};
use super::rows::{self, Column, Formats, Row, Value};
use super::state::State;
use super::{parse, show, trivial};
use crate::protocol::backend;
use crate::protocol::error::Report;
use crate::protocol::frame::{Frame, Framer, HEADER, Incomplete, Next};
use crate::protocol::frontend::{self, Bind, Malformed, Object, Parse};
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::{TransactionStatus, backend as reply, frontend as tag};
use crate::protocol::text::split_cstr;

/// The console as one client sees it.
#[derive(Debug, Default)]
pub struct Console {
    mode: Mode,
    /// What the client believes about a transaction that does not exist.
    status: TransactionStatus,
    statements: HashMap<Vec<u8>, Command>,
    portals: HashMap<Vec<u8>, Portal>,
}

/// What the caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends the replies and reads more.
    Read,
    /// Sends the replies, performs the action and hands its outcome to [`Console::complete`].
    Perform(Action),
    /// Sends the replies and closes the connection.
    Close,
}

/// Whom the console asks about the running system.
pub trait Informed {
    /// The system at this moment.
    fn state(&self) -> State;

    /// What is known of where a statement would go: a label and a value each.
    ///
    /// # Errors
    ///
    /// When what the question names is not there.
    fn explain(&self, question: &Question) -> Result<Vec<(String, String)>, Report>;
}

/// Who is asked.
pub type Source<'a> = &'a dyn Informed;

#[derive(Debug, Default)]
enum Mode {
    #[default]
    Ready,
    /// In the middle of a simple query: the commands that have not run.
    Script(VecDeque<Command>),
    /// Waiting for the outcome of an action; then its command tag is due.
    Acting(&'static str, Resume),
    /// Ignoring everything until Sync.
    Skipping,
}

/// How an action goes on once it is done.
#[derive(Debug)]
enum Resume {
    Script(VecDeque<Command>),
    Extended,
}

#[derive(Debug)]
struct Portal {
    command: Command,
    formats: Formats,
    /// The rows that have not been sent; `None` before the first Execute.
    rows: Option<VecDeque<Row>>,
}

/// What running a command came to.
enum Ran {
    Done,
    Act(Action),
    Failed(Report),
}

/// `ParameterStatus` values for a client that logged in to the console.
#[must_use]
pub fn parameters() -> &'static [(&'static str, &'static str)] {
    trivial::STATUS
}

// === impl Console ===

impl Console {
    /// A console that has just been logged in to, after the first `ReadyForQuery`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes whole messages off `buffer` and appends the replies to `out`, until the buffer has no
    /// more of them, an action is due or the connection ends. While an action is under way it takes nothing.
    pub fn receive(&mut self, buffer: &mut BytesMut, out: &mut BytesMut, state: Source<'_>) -> Step {
        loop {
            if let Mode::Acting(..) = self.mode {
                return Step::Read;
            }
            if let Step::Perform(action) = self.script(out, state) {
                return Step::Perform(action);
            }
            let frame = match next(buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Step::Read,
                Err(report) => {
                    report.encode(out);
                    return Step::Close;
                }
            };
            match self.message(frame.tag, frame.body(buffer), out, state) {
                Step::Read => buffer.advance(frame.end()),
                step => {
                    buffer.advance(frame.end());
                    return step;
                }
            }
        }
    }

    /// Tells the client what became of the action; call [`Console::receive`] again afterwards, even
    /// when nothing more has arrived.
    pub fn complete(&mut self, outcome: Result<(), Report>, out: &mut BytesMut) {
        let (command, resume) = match std::mem::take(&mut self.mode) {
            Mode::Acting(command, resume) => (command, resume),
            other => {
                self.mode = other;
                return;
            }
        };
        self.mode = match (resume, &outcome) {
            (Resume::Extended, Ok(())) => Mode::Ready,
            (Resume::Extended, Err(_)) => Mode::Skipping,
            (Resume::Script(rest), Ok(())) => Mode::Script(rest),
            (Resume::Script(_), Err(_)) => Mode::Script(VecDeque::new()),
        };
        match outcome {
            Ok(()) => backend::command_complete(out, command),
            Err(report) => report.encode(out),
        }
    }

    /// Runs what is left of a simple query.
    fn script(&mut self, out: &mut BytesMut, state: Source<'_>) -> Step {
        let Mode::Script(queue) = &mut self.mode else {
            return Step::Read;
        };
        let mut queue = std::mem::take(queue);
        while let Some(command) = queue.pop_front() {
            if let Some(columns) = columns(&command) {
                rows::put_description(out, &columns, &Formats::default());
            }
            match self.simple(command, out, state) {
                Ran::Done => {}
                Ran::Act(action) => {
                    self.mode = Mode::Acting(action.tag(), Resume::Script(queue));
                    return Step::Perform(action);
                }
                Ran::Failed(report) => {
                    report.encode(out);
                    break;
                }
            }
        }
        self.mode = Mode::Ready;
        backend::ready_for_query(out, self.status);
        Step::Read
    }

    fn simple(&mut self, command: Command, out: &mut BytesMut, state: Source<'_>) -> Ran {
        let mut portal = Portal { command, formats: Formats::default(), rows: None };
        self.run(&mut portal, usize::MAX, out, state)
    }

    fn message(&mut self, kind: u8, body: &[u8], out: &mut BytesMut, state: Source<'_>) -> Step {
        match (kind, &self.mode) {
            (tag::TERMINATE, _) => Step::Close,
            (tag::SYNC, _) => {
                self.mode = Mode::Ready;
                if self.status == TransactionStatus::Idle {
                    self.portals.clear();
                }
                backend::ready_for_query(out, self.status);
                Step::Read
            }
            (_, Mode::Skipping) | (tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL, _) => Step::Read,
            (tag::QUERY, _) => self.query(body, out, state),
            (tag::FUNCTION_CALL, _) => {
                no_functions().encode(out);
                backend::ready_for_query(out, self.status);
                Step::Read
            }
            (tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE, _) => {
                self.extended(kind, body, out, state).unwrap_or_else(|report| {
                    report.encode(out);
                    self.mode = Mode::Skipping;
                    Step::Read
                })
            }
            _ => {
                let message = format!("invalid frontend message type {kind}");
                Report::fatal(SqlState::PROTOCOL_VIOLATION, message).encode(out);
                Step::Close
            }
        }
    }

    fn query(&mut self, body: &[u8], out: &mut BytesMut, state: Source<'_>) -> Step {
        let commands = frontend::query(body).map_err(malformed).and_then(utf8).and_then(parse::parse_all);
        match commands {
            Ok(commands) => {
                self.mode = Mode::Script(commands.into());
                self.script(out, state)
            }
            Err(report) => {
                report.encode(out);
                backend::ready_for_query(out, self.status);
                Step::Read
            }
        }
    }

    fn extended(&mut self, kind: u8, body: &[u8], out: &mut BytesMut, state: Source<'_>) -> Result<Step, Report> {
        match kind {
            tag::PARSE => self.parse(Parse::open(body).map_err(malformed)?, out)?,
            tag::BIND => self.bind(Bind::open(body).map_err(malformed)?, out)?,
            tag::DESCRIBE => self.describe(body, out)?,
            tag::CLOSE => self.close(body, out)?,
            _ => return self.execute(body, out, state),
        }
        Ok(Step::Read)
    }

    fn parse(&mut self, message: Parse<'_>, out: &mut BytesMut) -> Result<(), Report> {
        if !message.name.is_empty() && self.statements.contains_key(message.name) {
            let name = String::from_utf8_lossy(message.name);
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Report::error(SqlState::DUPLICATE_PSTATEMENT, text));
        }
        let command = parse(utf8(message.text)?)?;
        bounded(&self.statements, message.name)?;
        self.statements.insert(message.name.to_vec(), command);
        backend::empty(out, reply::PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, message: Bind<'_>, out: &mut BytesMut) -> Result<(), Report> {
        let command = self.statement(message.statement)?.clone();
        let formats = Formats::parse(after_parameters(message.rest)?)?;
        if let Some(columns) = columns(&command) {
            formats.check(columns.len())?;
        }
        bounded(&self.portals, message.portal)?;
        self.portals.insert(message.portal.to_vec(), Portal { command, formats, rows: None });
        backend::empty(out, reply::BIND_COMPLETE);
        Ok(())
    }

    fn describe(&self, body: &[u8], out: &mut BytesMut) -> Result<(), Report> {
        let (columns, formats) = match frontend::object(body).map_err(malformed)? {
            (Object::Statement, name) => {
                let columns = columns(self.statement(name)?);
                backend::no_parameters(out);
                (columns, Formats::default())
            }
            (Object::Portal, name) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (columns(&portal.command), portal.formats.clone())
            }
        };
        match columns {
            Some(columns) => rows::put_description(out, &columns, &formats),
            None => backend::empty(out, reply::NO_DATA),
        }
        Ok(())
    }

    fn close(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), Report> {
        // As in PostgreSQL, closing what does not exist is no error.
        match frontend::object(body).map_err(malformed)? {
            (Object::Statement, name) => drop(self.statements.remove(name)),
            (Object::Portal, name) => drop(self.portals.remove(name)),
        }
        backend::empty(out, reply::CLOSE_COMPLETE);
        Ok(())
    }

    fn execute(&mut self, body: &[u8], out: &mut BytesMut, state: Source<'_>) -> Result<Step, Report> {
        let (name, rest) = split_cstr(body).ok_or_else(|| malformed(Malformed))?;
        let limit = <[u8; 4]>::try_from(rest).map_err(|_| malformed(Malformed))?;
        // Zero and negative mean no limit.
        let limit = usize::try_from(i32::from_be_bytes(limit)).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX);
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let ran = self.run(&mut portal, limit, out, state);
        self.portals.insert(name.to_vec(), portal);
        match ran {
            Ran::Done => Ok(Step::Read),
            Ran::Act(action) => {
                self.mode = Mode::Acting(action.tag(), Resume::Extended);
                Ok(Step::Perform(action))
            }
            Ran::Failed(report) => Err(report),
        }
    }

    /// Runs a command, or goes on with its rows: all but `RowDescription`, up to its end or to `PortalSuspended`.
    fn run(&mut self, portal: &mut Portal, limit: usize, out: &mut BytesMut, state: Source<'_>) -> Ran {
        match &portal.command {
            Command::Act(action) => return Ran::Act(action.clone()),
            Command::Empty => {
                backend::empty(out, reply::EMPTY_QUERY_RESPONSE);
                return Ran::Done;
            }
            Command::Show(table) => {
                let rows = portal.rows.get_or_insert_with(|| show::rows(*table, &state.state()).into());
                if put_rows(rows, &portal.formats, limit, out) == Left::Some {
                    return Ran::Done;
                }
            }
            Command::Explain(question) => {
                if portal.rows.is_none() {
                    match state.explain(question) {
                        Ok(facts) => portal.rows = Some(facts.into_iter().map(fact).collect()),
                        Err(report) => return Ran::Failed(report),
                    }
                }
                let rows = portal.rows.get_or_insert_default();
                if put_rows(rows, &portal.formats, limit, out) == Left::Some {
                    return Ran::Done;
                }
            }
            Command::Trivial(trivial) => rows::put_row(out, &trivial.row(), &portal.formats),
            Command::Help => Report::notice(show::HELP).encode(out),
            Command::IgnoredSet => Report::notice("SET ignored").encode(out),
            Command::Begin => self.status = TransactionStatus::InTransaction,
            Command::Commit | Command::Rollback => self.status = TransactionStatus::Idle,
            Command::Ignored("DISCARD ALL") | Command::Deallocate(None) => self.statements.clear(),
            Command::Deallocate(Some(name)) => drop(self.statements.remove(name.as_bytes())),
            Command::Ignored(_) => {}
        }
        backend::command_complete(out, &command_tag(&portal.command));
        Ran::Done
    }

    fn statement(&self, name: &[u8]) -> Result<&Command, Report> {
        self.statements.get(name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            Report::error(SqlState::INVALID_SQL_STATEMENT_NAME, format!("prepared statement \"{name}\" does not exist"))
        })
    }
}

// === Helpers ===

#[derive(PartialEq, Eq)]
enum Left {
    Some,
    Nothing,
}

/// Sends up to `limit` rows, and `PortalSuspended` when that was the limit.
fn put_rows(rows: &mut VecDeque<Row>, formats: &Formats, limit: usize, out: &mut BytesMut) -> Left {
    for row in rows.drain(..limit.min(rows.len())) {
        rows::put_row(out, &row, formats);
    }
    if rows.is_empty() {
        return Left::Nothing;
    }
    backend::empty(out, reply::PORTAL_SUSPENDED);
    Left::Some
}

fn fact((label, value): (String, String)) -> Row {
    vec![Value::text(&label), Value::text(&value)]
}

/// The columns of a command that returns rows.
fn columns(command: &Command) -> Option<Vec<Column>> {
    match command {
        Command::Show(table) => Some(show::columns(*table)),
        Command::Explain(_) => Some(vec![rows::text("item"), rows::text("value")]),
        Command::Trivial(trivial) => Some(trivial.columns()),
        _ => None,
    }
}

fn command_tag(command: &Command) -> String {
    match command {
        Command::Show(_) | Command::Help => "SHOW".to_owned(),
        Command::Explain(_) => "EXPLAIN".to_owned(),
        Command::Trivial(trivial) if trivial.tag == "SELECT" => "SELECT 1".to_owned(),
        Command::Trivial(trivial) => trivial.tag.to_owned(),
        Command::Act(action) => action.tag().to_owned(),
        Command::IgnoredSet => "SET".to_owned(),
        Command::Begin => "BEGIN".to_owned(),
        Command::Commit => "COMMIT".to_owned(),
        Command::Rollback => "ROLLBACK".to_owned(),
        Command::Ignored(tag) => (*tag).to_owned(),
        Command::Deallocate(None) => "DEALLOCATE ALL".to_owned(),
        Command::Deallocate(Some(_)) => "DEALLOCATE".to_owned(),
        Command::Empty => String::new(),
    }
}

/// The next whole message of `buffer`.
fn next(buffer: &[u8]) -> Result<Option<Frame>, Report> {
    match Framer::default().next(buffer, 0, |_, _, _| Incomplete::Wait) {
        Ok(Next::Frame(frame)) => Ok(Some(frame)),
        Ok(Next::Need { missing }) if buffer.len() >= HEADER && buffer.len() + missing > MAX_MESSAGE => {
            let text = format!("the console takes no message of more than {MAX_MESSAGE} bytes");
            Err(Report::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, text))
        }
        Ok(Next::Need { .. }) => Ok(None),
        Err(error) => Err(Report::fatal(SqlState::PROTOCOL_VIOLATION, error.to_string())),
    }
}

/// What follows the parameters of a Bind; there must be none, for no command takes any.
fn after_parameters(rest: &[u8]) -> Result<&[u8], Report> {
    let take_count = |bytes: &[u8]| bytes.first_chunk().map(|count| usize::from(u16::from_be_bytes(*count)));
    let formats = take_count(rest).ok_or_else(|| malformed(Malformed))?;
    let rest = rest.get(2 + formats * 2..).ok_or_else(|| malformed(Malformed))?;
    match take_count(rest) {
        Some(0) => Ok(&rest[2..]),
        Some(count) => Err(Report::error(
            SqlState::PROTOCOL_VIOLATION,
            format!("bind message supplies {count} parameters, but prepared statement requires 0"),
        )),
        None => Err(malformed(Malformed)),
    }
}

fn bounded<T>(map: &HashMap<Vec<u8>, T>, name: &[u8]) -> Result<(), Report> {
    if map.len() < MAX_OBJECTS || map.contains_key(name) {
        return Ok(());
    }
    let text = format!("the console keeps no more than {MAX_OBJECTS} prepared statements and portals each");
    Err(Report::error(SqlState::PROGRAM_LIMIT_EXCEEDED, text))
}

fn utf8(text: &[u8]) -> Result<&str, Report> {
    std::str::from_utf8(text)
        .map_err(|_| Report::error(CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding \"UTF8\""))
}

fn malformed(error: Malformed) -> Report {
    Report::error(SqlState::PROTOCOL_VIOLATION, error.to_string())
}

fn no_portal(name: &[u8]) -> Report {
    let name = String::from_utf8_lossy(name);
    Report::error(INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}

fn no_functions() -> Report {
    Report::error(SqlState::FEATURE_NOT_SUPPORTED, "the console has no functions")
}

const INVALID_CURSOR_NAME: SqlState = SqlState(*b"34000");
const CHARACTER_NOT_IN_REPERTOIRE: SqlState = SqlState(*b"22021");

/// Largest message that is taken, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// Most prepared statements, and most portals, of one client.
const MAX_OBJECTS: usize = 256;

#[cfg(test)]
mod tests;
