//! What one server holds of its clients' sessions: a value that the server owns and sessions read.

use std::sync::Arc;

use lru::LruCache;

use super::parameters::Parameters;
use super::pins::Room;
use super::registry::Statement;
use super::settings::{Ledger, Settings};
use crate::sql::command::Isolation;
use crate::types::ClientId;

/// What [`Carried::unnamed`] is when the server's unnamed statement is one of Howdah's own.
pub const STRANGE: u64 = u64::MAX;

/// Whether a server has reported the settings that it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It has.
    Now,
    /// It will, before its next `ReadyForQuery` (`ReportChangedGUCOptions`, src/backend/utils/misc/guc.c).
    Later,
}

/// Settings and prepared statements on one server.
#[derive(Debug)]
pub struct Carried {
    /// What RESET returns to.
    startup: Arc<Settings>,
    /// What was set by SET and not undone.
    pub settings: Arc<Settings>,
    /// What it reported with `ParameterStatus`.
    pub parameters: Arc<Parameters>,
    /// Whether `parameters` are those of `settings`.
    pub reported: Reported,
    /// Named statements, the most recently used first. Holding them keeps their registry entries alive.
    statements: LruCache<u64, Arc<Statement>>,
    /// Most named statements.
    capacity: usize,
    /// Which text its unnamed statement has.
    pub unnamed: Option<u64>,
    /// To whom it was lent last.
    pub last_client: Option<ClientId>,
    /// The isolation of its transactions, where nobody says otherwise; once somebody has asked.
    pub isolation: Option<Isolation>,
    /// The pinned servers of its pool.
    pub room: Arc<Room>,
}

/// The named statements of a server.
#[derive(Debug)]
pub struct Kept(LruCache<u64, Arc<Statement>>);

impl Carried {
    /// A new server's, which keeps at most `capacity` statements.
    #[must_use]
    pub fn new(parameters: Arc<Parameters>, capacity: usize) -> Self {
        // Unbounded as a table, so that it grows with use and never forgets on its own: `remember` bounds it.
        Self {
            startup: Settings::none(),
            settings: Settings::none(),
            parameters,
            reported: Reported::Now,
            statements: LruCache::unbounded(),
            capacity,
            unnamed: None,
            last_client: None,
            isolation: None,
            room: Arc::default(),
        }
    }

    /// The settings over the course of the transactions of a client that it is lent to.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::new(Arc::clone(&self.startup), Arc::clone(&self.settings))
    }

    /// Whether statement `id` is there; it counts as used.
    pub fn has(&mut self, id: u64) -> bool {
        self.statements.get(&id).is_some()
    }

    /// Takes note that `statement` will be there; gives the one that must be closed to make room.
    pub fn remember(&mut self, statement: &Arc<Statement>) -> Option<Arc<Statement>> {
        self.statements.put(statement.id, Arc::clone(statement));
        if self.statements.len() <= self.capacity.max(1) {
            return None;
        }
        self.statements.pop_lru().map(|(_, old)| old)
    }

    /// Takes note that `statement` is still there: it was to be closed, and was not.
    pub fn restore(&mut self, statement: Arc<Statement>) {
        self.statements.put(statement.id, statement);
    }

    /// Takes note that statement `id` is not there; gives it if it was held to be.
    pub fn forget(&mut self, id: u64) -> Option<Arc<Statement>> {
        self.statements.pop(&id)
    }

    /// Takes note that no named statement is there.
    pub fn forget_all(&mut self) {
        self.statements.clear();
    }

    /// Takes note that no named statement is there; gives what was, should it turn out otherwise.
    pub fn take_all(&mut self) -> Kept {
        Kept(std::mem::replace(&mut self.statements, LruCache::unbounded()))
    }

    /// What was taken by [`Self::take_all`] is still there.
    pub fn put_back(&mut self, kept: Kept) {
        self.statements = kept.0;
    }

    /// The names of the statements that are there.
    pub fn server_names(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().map(|(_, statement)| &*statement.server_name)
    }

    /// How many named statements are there.
    #[must_use]
    pub fn count(&self) -> usize {
        self.statements.len()
    }
}
