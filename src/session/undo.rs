//! What was assumed of messages when they were sent, taken back when they fail or are passed over.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::carried::{Carried, Kept};
use super::registry::Statement;
use super::{Note, Session};
use crate::protocol::replies::Failure;
use crate::sql::Effects;
use crate::sql::command::Command;

/// Named statements that are no more once a message has succeeded. They are forgotten when it is sent, because the
/// messages that are sent behind it must find them gone.
#[derive(Debug)]
pub enum Forgotten {
    /// One.
    One {
        /// The client's name.
        name: Box<[u8]>,
        /// What it meant.
        statement: Arc<Statement>,
        /// The same, if the server held it.
        held: Option<Arc<Statement>>,
    },
    /// All that the client had, and all that the server held.
    All(Names, Kept),
}

/// A client's named statements.
pub type Names = HashMap<Box<[u8]>, Arc<Statement>, RandomState>;

/// What a client does not know of a statement from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learns {
    /// Neither its parameters nor its result.
    All,
    /// Its result; it may send values of the types that it was once told.
    Result,
}

/// Whether a message failed itself, or was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Failed,
    Skipped,
}

/// What `statement` is called.
fn name_in<'a>(names: &'a Names, statement: &Arc<Statement>) -> Option<&'a [u8]> {
    names.iter().find(|(_, known)| Arc::ptr_eq(known, statement)).map(|(name, _)| &**name)
}

impl Session {
    /// A server has refused `statement` because its result has changed: whoever prepares its text again gets a new
    /// statement on every server.
    pub fn outdated(&self, statement: &Arc<Statement>) {
        self.registry.retire(statement);
    }

    /// Has the client's `name` mean a new statement of the same text in the place of one that is out of date. Its other
    /// names do not: the client may know what the old result looked like.
    pub fn renew(&mut self, name: &[u8], outdated: &Statement, learns: Learns) {
        let renewed = match learns {
            Learns::All => self.registry.renewed(outdated),
            Learns::Result => self.registry.renewed_as_described(outdated),
        };
        if let Some(statement) = self.statements.get_mut(name) {
            *statement = renewed;
        }
    }

    /// Whether `name` is the client's for `statement`.
    #[must_use]
    pub fn means(&self, name: &[u8], statement: &Arc<Statement>) -> bool {
        self.statement(name).is_some_and(|known| Arc::ptr_eq(known, statement))
    }

    /// Takes back what was assumed of messages that failed or were skipped.
    pub fn undo(&mut self, failure: Failure<Note>, carried: &mut Carried) {
        self.failed = true;
        for note in failure.skipped {
            self.take_back(note, Fate::Skipped, carried);
        }
        if let Some(note) = failure.failed {
            self.take_back(note, Fate::Failed, carried);
        }
    }

    /// The body of an error about a statement, with the client's name for it in the place of the server's.
    pub fn in_clients_words(&self, failure: &Failure<Note>, body: &[u8]) -> Option<Vec<u8>> {
        let Some(Note::Bound(statement)) = &failure.failed else { return None };
        let theirs = statement.server_name.as_bytes();
        let at = body.windows(theirs.len()).position(|window| window == theirs)?;
        // What is passed over would have forgotten it.
        let forgotten = failure.skipped.iter().find_map(|note| match note {
            Note::Closed { name, statement: known } if Arc::ptr_eq(known, statement) => Some(&**name),
            Note::Executed { forgotten: Some(forgotten), .. } => match &**forgotten {
                Forgotten::One { name, statement: known, .. } if Arc::ptr_eq(known, statement) => Some(&**name),
                Forgotten::One { .. } => None,
                Forgotten::All(names, _) => name_in(names, statement),
            },
            _ => None,
        });
        let name = forgotten.or_else(|| name_in(&self.statements, statement))?;
        Some([&body[..at], name, &body[at + theirs.len()..]].concat())
    }

    fn take_back(&mut self, note: Note, fate: Fate, carried: &mut Carried) {
        match note {
            Note::Parsed { name, sent } => {
                self.statements.remove(&name);
                if let Some(id) = sent {
                    carried.forget(id);
                }
            }
            Note::Unnamed { before, held } if fate == Fate::Skipped => {
                self.unnamed = before;
                carried.unnamed = held;
            }
            // A Parse that fails has dropped the statement before (`exec_parse_message`, src/backend/tcop/postgres.c).
            Note::Unnamed { .. } => {
                self.unnamed = None;
                carried.unnamed = None;
            }
            Note::SuppliedUnnamed(held) => carried.unnamed = held.filter(|_| fate == Fate::Skipped),
            Note::Supplied(id) => drop(carried.forget(id)),
            Note::SuppliedAs(name) => carried.refuses(name),
            Note::Closed { name, statement } => {
                self.statements.insert(name, statement);
            }
            Note::Evicted(statement) => carried.restore(statement),
            Note::Executed { effects, forgotten, .. } => {
                if let Some(forgotten) = forgotten {
                    self.remember_again(*forgotten, carried);
                }
                self.may_have_locked(effects, fate);
            }
            Note::Query { effects, .. } => self.may_have_locked(effects, fate),
            Note::Bound(_) | Note::Shown(_) | Note::Begin | Note::Refused(_) | Note::Bringing | Note::Brought => {}
        }
    }

    /// Session locks survive the failure of the statement that took them.
    fn may_have_locked(&mut self, effects: Effects, fate: Fate) {
        if fate == Fate::Failed && effects.has(Effects::ADVISORY_LOCK) {
            self.took_effect(Effects::ADVISORY_LOCK);
        }
    }

    /// Forgets the statements that `command` deallocates; gives them, to be brought back should it fail.
    pub(super) fn forget(&mut self, command: &Command, carried: &mut Carried) -> Option<Box<Forgotten>> {
        match command {
            Command::DiscardAll | Command::DeallocateAll => {
                Some(Box::new(Forgotten::All(std::mem::take(&mut self.statements), carried.take_all())))
            }
            Command::Deallocate { name, .. } => {
                let (name, statement) = self.statements.remove_entry(name.as_bytes())?;
                let held = carried.forget(statement.id);
                Some(Box::new(Forgotten::One { name, statement, held }))
            }
            _ => None,
        }
    }

    fn remember_again(&mut self, forgotten: Forgotten, carried: &mut Carried) {
        match forgotten {
            Forgotten::One { name, statement, held } => {
                if let Some(held) = held {
                    carried.restore(held);
                }
                self.statements.insert(name, statement);
            }
            Forgotten::All(names, kept) => {
                self.statements = names;
                carried.put_back(kept);
            }
        }
    }

    /// Forgets that a batch failed of which nothing was run, and which will be sent again.
    pub fn unfail(&mut self) {
        self.failed = false;
        self.portals.clear();
    }

    /// Takes back what the session, not the server, has assumed of a batch that will be sent again elsewhere;
    /// the last message's note first.
    pub fn unsay(&mut self, notes: Vec<Note>) {
        for note in notes {
            match note {
                Note::Parsed { name, .. } => {
                    self.statements.remove(&name);
                }
                Note::Closed { name, statement } => {
                    self.statements.insert(name, statement);
                }
                _ => {}
            }
        }
        self.unfail();
    }
}
