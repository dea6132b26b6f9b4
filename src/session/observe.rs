//! What a batch of client messages needs, before a server is chosen. Changes nothing but the plan.

use bytes::BytesMut;
use smallvec::SmallVec;

use super::registry::Moment;
use super::roam::{Committed, is_plain};
use super::scope::Outlook;
use super::{Deferred, Session, Statement, Tx};
use crate::protocol::error::Report;
use crate::protocol::frame::Frame;
use crate::protocol::frontend::{self, Bind, Object, Parse};
use crate::protocol::tag::frontend as tag;
use crate::sql::classify::ReadOnly;
use crate::sql::command::{self, Isolation, Parsed};
use crate::sql::hint::{self, Hint};
use crate::sql::reach::Reach;
use crate::sql::{Analysis, Class, Effects, WriteReason};
use std::sync::Arc;

/// Whole messages of one client, in the buffer that they were read into.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The buffer.
    pub buffer: &'a [u8],
    /// The messages.
    pub frames: &'a [Frame],
}

impl<'a> Batch<'a> {
    /// The messages with their bodies.
    pub fn messages(self) -> impl Iterator<Item = (Frame, &'a [u8])> {
        self.frames.iter().map(move |frame| (*frame, if frame.is_start() { frame.body(self.buffer) } else { &[][..] }))
    }

    /// Whether a Bind stands before `frame`.
    #[must_use]
    pub fn binds_before(self, frame: Frame) -> bool {
        self.frames.iter().any(|other| other.tag == tag::BIND && other.start < frame.start)
    }

    /// Whether a Parse of `name` stands before `frame`.
    #[must_use]
    pub fn parses_before(self, name: &[u8], frame: Frame) -> bool {
        self.parse_before(name, frame).is_some()
    }

    /// Which of the messages is the last Parse of `name` before `frame`.
    pub(super) fn parse_before(self, name: &[u8], frame: Frame) -> Option<usize> {
        self.frames.iter().rposition(|other| {
            let is_parse = other.start < frame.start && other.tag == tag::PARSE && other.is_start();
            is_parse && Parse::open(other.body(self.buffer)).is_ok_and(|parse| parse.name == name)
        })
    }
}

/// What was learnt of one message, so that it is learnt once.
#[derive(Debug)]
pub(super) enum Step {
    Query { statements: Vec<Parsed>, effects: Effects },
    Parse(Arc<Statement>),
    Pass,
}

/// Whether the client holds a server while it sends a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It holds none: what needs no server can be answered here.
    #[default]
    Detached,
    /// It holds one, which must see everything that the client sends.
    Attached,
}

/// What was learnt of a batch.
#[derive(Debug, Default)]
pub struct Plan {
    /// Whether the client holds a server.
    pub standing: Standing,
    pub(super) steps: SmallVec<[Step; 1]>,
    /// The shape of its strictest statement, to be corrected should a replica refuse it.
    pub fingerprint: Option<u64>,
    /// What all its statements together do.
    pub effects: Effects,
    /// Whether it is certain to change nothing.
    pub only_reads: bool,
    /// What it reads, if it only reads; what it may change, if not.
    pub reach: Reach,
    /// The moment (`Contents::settled`) for which that is true; `None` at no moment.
    pub moment: Option<u64>,
    /// A database that it drops or renames.
    pub vacated: Option<Box<str>>,
    /// Statements that it binds whose results may have changed since their client was told.
    pub outdated: Box<[Arc<Statement>]>,
    /// What it is answered in place of being run.
    pub(super) denial: Option<Box<Denial>>,
}

/// An error in place of a batch, or of a part of it, which puts the server's transaction where the error belongs.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) report: Report,
    pub(super) extent: Extent,
}

/// What is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// What it runs; it may prepare statements.
    Running,
    /// All of it.
    Everything,
}

impl Denial {
    /// Whether the error stands in the place of messages of this type.
    pub(super) const fn covers(&self, frontend_tag: u8) -> bool {
        match self.extent {
            Extent::Running => matches!(frontend_tag, tag::QUERY | tag::EXECUTE),
            Extent::Everything => {
                !matches!(frontend_tag, tag::SYNC | tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL)
            }
        }
    }
}

impl Plan {
    /// Nothing learnt yet.
    #[must_use]
    pub fn new(standing: Standing) -> Self {
        Self { standing, ..Self::default() }
    }

    /// Has the server fail in the place of the whole batch, and the client told this.
    pub fn deny(&mut self, report: Report) {
        self.denial = Some(Box::new(Denial { report, extent: Extent::Everything }));
    }

    /// The same in the place of what it runs.
    pub(super) fn deny_running(&mut self, report: Report) {
        self.denial = Some(Box::new(Denial { report, extent: Extent::Running }));
    }

    /// Whether nothing of it, or not all of it, will be run.
    #[must_use]
    pub const fn is_denied(&self) -> bool {
        self.denial.is_some()
    }

    /// Whether it runs one statement at most, and nothing behind that: should it end a transaction, nothing follows.
    #[must_use]
    pub fn runs_one(&self, frames: &[Frame]) -> bool {
        let mut run = 0;
        for (frame, step) in frames.iter().zip(&self.steps) {
            match (frame.tag, step) {
                (tag::QUERY, Step::Query { statements, .. }) => run += statements.len().max(1),
                (tag::QUERY | tag::EXECUTE | tag::FUNCTION_CALL, _) => run += 1,
                (tag::SYNC | tag::FLUSH | tag::CLOSE, _) => {}
                _ if run > 0 => return false,
                _ => {}
            }
        }
        run <= 1
    }

    /// It was taken for a read and is none.
    pub const fn writes_after_all(&mut self) {
        self.only_reads = false;
        self.reach = Reach::EVERYTHING;
    }

    /// Whether it takes settings back and does nothing else.
    #[must_use]
    pub fn only_resets(&self) -> bool {
        // Statements that do nothing to the session are not taken apart: there may be a text and none here.
        let resets = |step: &Step| match step {
            Step::Query { statements, .. } => !statements.is_empty() && statements.iter().all(Parsed::is_reset),
            Step::Parse(_) | Step::Pass => false,
        };
        !self.steps.is_empty() && self.steps.iter().all(resets)
    }
}

/// What a batch asks of a server.
#[derive(Debug)]
pub enum Work {
    /// It reads, and nothing else.
    Read(ReadOnly),
    /// It may change something.
    Write(WriteReason),
    /// It belongs to a transaction that may write.
    Transaction,
    /// It reads, and begins a transaction that may write later, which can begin anew elsewhere then.
    Roam(ReadOnly),
}

/// What to do with a batch.
#[derive(Debug)]
pub enum Intent {
    /// Nothing needs a server: these bytes are the answer.
    Answer(BytesMut),
    /// A server is needed.
    Run {
        /// For what.
        work: Work,
        /// What a comment in front of it orders.
        hint: Option<Arc<Hint>>,
    },
}

impl Session {
    /// Learns what `batch` needs.
    pub fn observe(&mut self, batch: Batch<'_>, plan: &mut Plan, outlook: &Outlook<'_>) -> Intent {
        plan.steps.clear();
        plan.steps.reserve(batch.frames.len());
        plan.fingerprint = None;
        plan.effects = Effects::default();
        plan.reach = Reach::NOTHING;
        let mut strictest: Option<Analysis> = None;
        let mut unknown = false;
        let mut found = None;
        for (frame, body) in batch.messages() {
            let (step, analysis) = self.step(frame, body, batch, outlook);
            match analysis {
                Known::Nothing => {}
                Known::Unknown => {
                    unknown = true;
                    plan.reach = Reach::EVERYTHING;
                }
                Known::Analysis(analysis, hint) => {
                    found = found.or(hint);
                    plan.effects = plan.effects.with(analysis.effects);
                    plan.reach = plan.reach.with(analysis.reach);
                    if strictest.as_ref().is_none_or(|so_far| so_far.class() == Class::Read) {
                        strictest = Some(analysis);
                    }
                }
            }
            if plan.effects.has(Effects::DDL) {
                let vacated = text_of(frame, body).and_then(command::vacated_database);
                plan.vacated = vacated.map(String::into_boxed_str).or_else(|| plan.vacated.take());
            }
            plan.steps.push(step);
        }
        if self.objects != outlook.objects {
            plan.outdated = if self.objects == 0 { Box::default() } else { self.outdated_in(batch, outlook) };
            self.objects = if self.objects == 0 { outlook.objects } else { self.objects };
        }
        plan.only_reads = !unknown && strictest.as_ref().is_some_and(|analysis| analysis.class() == Class::Read);
        plan.fingerprint = strictest.as_ref().map(|analysis| analysis.fingerprint);
        if let Some(answer) = self.answer(batch, plan) {
            return Intent::Answer(answer);
        }
        let decisive = strictest.as_ref().filter(|analysis| !unknown || analysis.class() != Class::Read);
        if let Tx::Deferred(begun) = &self.tx {
            found = found.or_else(|| hint::parse(&begun.text));
        }
        let work = match self.work(decisive) {
            Work::Roam(_) if !is_plain(batch, plan) => Work::Transaction,
            work => work,
        };
        Intent::Run { work, hint: found }
    }

    fn step(&self, frame: Frame, body: &[u8], batch: Batch<'_>, outlook: &Outlook<'_>) -> (Step, Known) {
        if !frame.is_start() {
            return (Step::Pass, Known::Unknown);
        }
        let known = match frame.tag {
            tag::QUERY => {
                let Ok(text) = frontend::query(body) else { return (Step::Pass, Known::Unknown) };
                let analysis = outlook.analyse(text);
                let effects = analysis.effects;
                let statements = if effects.has(Effects::COMMANDS) { command::parse(text) } else { Vec::new() };
                return (Step::Query { statements, effects }, Known::Analysis(analysis, hint::parse(text)));
            }
            tag::PARSE => {
                let Ok(parse) = Parse::open(body) else { return (Step::Pass, Known::Unknown) };
                let statement = self.make_statement(parse, outlook);
                let known = Known::of(&statement, parse.name, outlook);
                return (Step::Parse(statement), known);
            }
            tag::BIND => match Bind::open(body) {
                Ok(bind) => self.known(bind.statement, frame, batch, outlook),
                Err(_) => Known::Unknown,
            },
            tag::DESCRIBE => match frontend::object(body) {
                Ok((Object::Statement, name)) => self.known(name, frame, batch, outlook),
                // A portal is described where it was bound: in this batch, or on a server already held.
                _ => Known::Nothing,
            },
            tag::FUNCTION_CALL => Known::Unknown,
            _ => Known::Nothing,
        };
        (Step::Pass, known)
    }

    /// What the statement `name`, used by the message `frame`, is known to do.
    fn known(&self, name: &[u8], frame: Frame, batch: Batch<'_>, outlook: &Outlook<'_>) -> Known {
        // Parsed earlier in this batch, it has been counted there.
        if batch.parses_before(name, frame) {
            return Known::Nothing;
        }
        let statement = if name.is_empty() { self.unnamed.as_ref() } else { self.statements.get(name) };
        statement.map_or(Known::Unknown, |statement| Known::of(statement, name, outlook))
    }

    fn make_statement(&self, parse: Parse<'_>, outlook: &Outlook<'_>) -> Arc<Statement> {
        if !parse.name.is_empty()
            && let Some(scope) = self.scope(outlook, parse.text)
        {
            return self.registry.intern(scope, parse.text, parse.types, outlook);
        }
        let analysis = outlook.analyse_with(parse.text, parse.types);
        let own = |analysis| {
            let (id, known) = (self.registry.fresh_id(), Moment::of(outlook));
            Arc::new(Statement::new(id, parse.text, parse.types, analysis, known))
        };
        if !parse.name.is_empty() {
            return own(analysis);
        }
        // Drivers that name no statements parse the same one over and over.
        let known = self.unnamed.as_ref().filter(|known| known.is(parse, analysis)).cloned();
        known.unwrap_or_else(|| own(analysis))
    }

    /// What to ask for a batch whose strictest statement is `strictest`; `None` when nobody knows.
    fn work(&self, strictest: Option<&Analysis>) -> Work {
        let read = strictest.and_then(Analysis::read_only);
        match &self.tx {
            Tx::Open(_) => Work::Transaction,
            Tx::Deferred(begun) if begun.failed => Work::Transaction,
            Tx::Deferred(begun) => match (read, begun.modes.read_only) {
                (Some(_), Some(true)) if !self.serializable(begun) => Work::Read(ReadOnly::transaction()),
                // A standby would have to be told READ WRITE, and refuse.
                (Some(proof), None) if self.read_committed(begun) != Committed::No => Work::Roam(proof),
                _ => Work::Transaction,
            },
            Tx::Idle => match (read, strictest.map(Analysis::class)) {
                (Some(_), _) if self.default_isolation_is_doubtful() => Work::Write(WriteReason::Session),
                (Some(proof), _) => Work::Read(proof),
                (None, Some(Class::Write(reason))) => Work::Write(reason),
                (None, _) => Work::Write(WriteReason::Session),
            },
        }
    }

    fn serializable(&self, begun: &Deferred) -> bool {
        match begun.modes.isolation {
            Some(level) => level == Isolation::Serializable,
            None => self.default_isolation_is_doubtful(),
        }
    }

    /// A standby cannot run serializable transactions, and the client may have asked for them all to be.
    fn default_isolation_is_doubtful(&self) -> bool {
        let level =
            self.settings().get("default_transaction_isolation").map(|value| Isolation::of_setting(value.text()));
        level.is_some_and(|level| level.is_none_or(|level| level == Isolation::Serializable))
    }
}

/// What is known of the statement that a message names.
enum Known {
    Nothing,
    Unknown,
    Analysis(Analysis, Option<Arc<Hint>>),
}

impl Known {
    fn of(statement: &Statement, name: &[u8], outlook: &Outlook<'_>) -> Self {
        let mut analysis = statement.analysis(outlook);
        if !name.is_empty() && statement.names_another() {
            // Its text cannot be the client's own, because the server's is shared; so the names must be.
            analysis.effects = analysis.effects.with(Effects::STATEMENTS);
        }
        Self::Analysis(analysis, statement.hint.clone())
    }
}

pub(super) fn text_of(frame: Frame, body: &[u8]) -> Option<&[u8]> {
    match frame.tag {
        _ if !frame.is_start() => None,
        tag::QUERY => frontend::query(body).ok(),
        tag::PARSE => Parse::open(body).ok().map(|parse| parse.text),
        _ => None,
    }
}

pub(super) fn starts_with_ignoring_case(text: &[u8], word: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    text.len() >= word.len() && text[..word.len()].eq_ignore_ascii_case(word)
}
