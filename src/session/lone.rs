//! Batches that are one command and nothing else, and those that begin with BEGIN.

use std::sync::Arc;

use super::observe::{Batch, Plan, Step, starts_with_ignoring_case, text_of};
use super::registry::Statement;
use super::{Session, Tx};
use crate::protocol::frontend::{self, Bind, Object, Parse};
use crate::protocol::tag::frontend as tag;
use crate::sql::Effects;
use crate::sql::command::{self, Command, Parsed};

/// The one command of a batch.
#[derive(Debug)]
pub(super) enum Lone<'a> {
    /// Of a Query: its text and what it says.
    Simple(&'a [u8], &'a Command),
    /// Of a statement, and the name that the batch gives it if it parses it.
    Extended(Arc<Statement>, Option<&'a [u8]>),
}

impl Lone<'_> {
    pub(super) fn text(&self) -> &[u8] {
        match self {
            Self::Simple(text, _) => text,
            Self::Extended(statement, _) => &statement.text,
        }
    }

    pub(super) fn command(&self) -> Option<&Command> {
        match self {
            Self::Simple(_, command) => Some(command),
            Self::Extended(statement, _) => statement.parsed.as_ref().map(|parsed| &parsed.command),
        }
    }
}

/// Whether transactions that may write can begin on a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roaming {
    /// They can.
    Allowed,
    /// They begin on the primary.
    Forbidden,
}

impl Session {
    /// The one command of a batch that is nothing else: a Query, or Parse, Bind, Describe, Execute, Sync, of which Bind and
    /// Execute alone must be there.
    pub(super) fn lone_command<'a>(&self, batch: Batch<'a>, plan: &'a Plan) -> Option<Lone<'a>> {
        if !plan.effects.has(Effects::COMMANDS) {
            return None;
        }
        if let ([Step::Query { statements, .. }], [first]) = (&plan.steps[..], batch.frames) {
            let [Parsed { command, set_configs }] = &statements[..] else { return None };
            let text = set_configs.is_empty().then(|| text_of(*first, first.body(batch.buffer)))??;
            return Some(Lone::Simple(text, command));
        }
        let mut tags = batch.frames.iter().map(|frame| frame.tag).filter(|kind| *kind != tag::DESCRIBE).peekable();
        let parses = tags.next_if_eq(&tag::PARSE).is_some();
        if tags.next() != Some(tag::BIND) || tags.next() != Some(tag::EXECUTE) {
            return None;
        }
        tags.next_if_eq(&tag::SYNC);
        let name =
            batch.messages().find_map(|(frame, body)| (frame.tag == tag::BIND).then(|| Bind::open(body)))?.ok()?;
        let name = (name.portal.is_empty() && tags.next().is_none()).then_some(name.statement)?;
        let is_its_own = batch.messages().all(|(frame, body)| match frame.tag {
            tag::PARSE => {
                let is_free = name.is_empty() || !self.statements.contains_key(name);
                is_free && Parse::open(body).is_ok_and(|parse| parse.name == name)
            }
            tag::DESCRIBE => match frontend::object(body) {
                Ok((Object::Statement, described)) => described == name,
                object => object == Ok((Object::Portal, b"")),
            },
            tag::EXECUTE => body.first() == Some(&0),
            _ => true,
        });
        let statement = match plan.steps.first() {
            Some(Step::Parse(statement)) if parses => Some(statement),
            _ if parses => None,
            _ if name.is_empty() => self.unnamed.as_ref(),
            _ => self.statements.get(name),
        };
        let statement = statement.filter(|_| is_its_own)?;
        Some(Lone::Extended(Arc::clone(statement), parses.then_some(name)))
    }

    /// Whether `batch`, behind which its pipeline goes on, is a BEGIN of a transaction that may begin on a replica: answered by
    /// itself, it lets what is behind it decide.
    pub fn begins(&self, batch: Batch<'_>, roams: Roaming) -> bool {
        const MOST: usize = 4;
        let is_first = self.tx == Tx::Idle && batch.frames.len() <= MOST;
        let Some((first, body)) = batch.messages().next().filter(|_| is_first) else { return false };
        let parsed = match first.tag {
            tag::PARSE => text_of(first, body).filter(|text| is_begin(text)).map(command::parse),
            tag::BIND => Bind::open(body).ok().and_then(|bind| {
                let statement = self.statements.get(bind.statement).filter(|_| !bind.statement.is_empty());
                statement?.parsed.clone().map(|parsed| vec![parsed])
            }),
            _ => None,
        };
        match parsed.as_deref() {
            Some([Parsed { command: Command::Begin(modes), .. }]) => match modes.read_only {
                Some(read_only) => read_only,
                None => roams == Roaming::Allowed,
            },
            _ => false,
        }
    }
}

/// Whether `text` begins as BEGIN and START TRANSACTION do.
fn is_begin(text: &[u8]) -> bool {
    starts_with_ignoring_case(text, b"begin") || starts_with_ignoring_case(text, b"start")
}
