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

/// By which names a server knows named statements.
#[derive(Debug)]
enum Named {
    /// By those of Howdah, whoever has prepared them.
    ByHowdah(LruCache<u64, Arc<Statement>>),
    /// By those of the client that it is lent to. It has them all but these, which it has refused.
    ByClient(Vec<Box<[u8]>>),
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
    statements: Named,
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
pub struct Kept(Named);

impl Carried {
    /// A new server's, which keeps at most `capacity` statements.
    #[must_use]
    pub fn new(parameters: Arc<Parameters>, capacity: usize) -> Self {
        Self {
            startup: Settings::none(),
            settings: Settings::none(),
            parameters,
            reported: Reported::Now,
            statements: Named::none(),
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

    /// Whether statement `id` is there under Howdah's name; it counts as used.
    pub fn has(&mut self, id: u64) -> bool {
        self.howdahs().is_some_and(|statements| statements.get(&id).is_some())
    }

    /// Takes note that `statement` will be there; gives the one that must be closed to make room.
    pub fn remember(&mut self, statement: &Arc<Statement>) -> Option<Arc<Statement>> {
        let most = self.capacity.max(1);
        let statements = self.howdahs()?;
        statements.put(statement.id, Arc::clone(statement));
        if statements.len() <= most {
            return None;
        }
        statements.pop_lru().map(|(_, old)| old)
    }

    /// Takes note that `statement` is still there: it was to be closed, and was not.
    pub fn restore(&mut self, statement: Arc<Statement>) {
        if let Some(statements) = self.howdahs() {
            statements.put(statement.id, statement);
        }
    }

    /// Takes note that statement `id` is not there under Howdah's name; gives it if it was held to be.
    pub fn forget(&mut self, id: u64) -> Option<Arc<Statement>> {
        self.howdahs()?.pop(&id)
    }

    /// Takes note that the server will be asked for the client's statement `name`; says whether it has refused it so far.
    pub fn asks_for(&mut self, name: &[u8]) -> bool {
        let Named::ByClient(refused) = &mut self.statements else { return false };
        let before = refused.len();
        refused.retain(|known| **known != *name);
        refused.len() < before
    }

    /// Takes note that the server has refused the client's statement `name`, which it was asked for.
    pub fn refuses(&mut self, name: Box<[u8]>) {
        if let Named::ByClient(refused) = &mut self.statements {
            refused.push(name);
        }
    }

    /// Takes note that no named statement is there.
    pub fn forget_all(&mut self) {
        self.statements = Named::none();
    }

    /// Takes note that no named statement is there; gives what was, should it turn out otherwise.
    pub fn take_all(&mut self) -> Kept {
        let none = if self.has_clients_names() { Named::ByClient(Vec::new()) } else { Named::none() };
        Kept(std::mem::replace(&mut self.statements, none))
    }

    /// What was taken by [`Self::take_all`] is still there.
    pub fn put_back(&mut self, kept: Kept) {
        self.statements = kept.0;
    }

    /// The names of the statements that are there, where they are Howdah's.
    pub fn server_names(&self) -> impl Iterator<Item = &str> {
        let statements = match &self.statements {
            Named::ByHowdah(statements) => Some(statements),
            Named::ByClient(_) => None,
        };
        statements.into_iter().flatten().map(|(_, statement)| &*statement.server_name)
    }

    /// How many named statements are there under Howdah's names.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.statements {
            Named::ByHowdah(statements) => statements.len(),
            Named::ByClient(_) => 0,
        }
    }

    /// The statements under Howdah's names, where they have these.
    const fn howdahs(&mut self) -> Option<&mut LruCache<u64, Arc<Statement>>> {
        match &mut self.statements {
            Named::ByHowdah(statements) => Some(statements),
            Named::ByClient(_) => None,
        }
    }

    /// Takes note that its client's statements, and none else, are there under the client's names.
    pub fn take_clients_names(&mut self) {
        self.statements = Named::ByClient(Vec::new());
    }

    /// Whether its client's statements are there under the client's names, so that messages about them are relayed as they are.
    #[must_use]
    pub const fn has_clients_names(&self) -> bool {
        matches!(self.statements, Named::ByClient(_))
    }
}

impl Named {
    /// No statements. Unbounded as a table, so that it grows with use and never forgets on its own: `remember` bounds it.
    fn none() -> Self {
        Self::ByHowdah(LruCache::unbounded())
    }
}
