//! What one client believes about its session, kept while servers come and go.
//!
//! Batches and replies in, bytes and decisions out. This room never waits, reads no socket and knows
//! neither nodes nor pools; it cannot say where a statement runs, only what the statement needs.
//!
//! ```text
//!            BEGIN                      first statement              COMMIT, ROLLBACK
//!   Idle ------------> Deferred ------------------------> Open --------------------> Idle
//!     \                    \__ COMMIT, ROLLBACK: answered here ____________________/
//!      \__ any other statement that opens a transaction block: as the server's status says
//! ```

pub mod audit;
mod bring;
pub mod carried;
pub mod columns;
mod effects;
pub mod encode;
pub mod listens;
mod lone;
pub mod named;
mod observe;
pub mod parameters;
pub mod pins;
mod policy;
mod portals;
pub mod registry;
pub mod roam;
pub mod scope;
mod sequences;
pub mod settings;
pub mod signals;
mod trifles;
mod tx;
mod undo;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::auth::Authenticated;
use crate::protocol::error::Report;
use crate::protocol::replies::Event;
use crate::protocol::tag::{TransactionStatus, backend as tag};
use crate::protocol::text::split_cstr;
use crate::sql::Effects;
use crate::sql::command::Parsed;
use carried::{Carried, Reported};
use listens::Listens;
pub use lone::Roaming;
pub use observe::{Batch, Intent, Plan, Standing, Work};
use parameters::Parameters;
use pins::{HeldCursors, Pins, Reason};
pub use policy::foreseen;
use portals::Portals;
use registry::{Registry, Statement};
use settings::{Difference, Ledger, Settings, Value};
use tx::Sequence;
pub use tx::{Deferred, Tx};
pub use undo::{Forgotten, Learns, Names};

/// What a server's reply queue remembers for the session.
#[derive(Debug)]
pub enum Note {
    /// A Query with commands: which, and how many of its statements are done.
    Query {
        /// Its statements; empty when none of them concerns the session.
        statements: Vec<Parsed>,
        /// What else the session must know of it.
        effects: Effects,
        /// Statements done so far.
        done: usize,
    },
    /// The BEGIN that the client was told had happened.
    Begin,
    /// The client's Parse of a named statement; undone by what the name meant before.
    Parsed {
        /// The client's name.
        name: Box<[u8]>,
        /// The statement, when the server was asked to parse it too.
        sent: Option<u64>,
    },
    /// The client's Parse or Close of the unnamed statement; undone by what there was before.
    Unnamed {
        /// The client's.
        before: Option<Arc<Statement>>,
        /// The server's.
        held: Option<u64>,
    },
    /// A Parse of ours that gives the server a statement that the client believes is there.
    Supplied(u64),
    /// The same under the client's name.
    SuppliedAs(Box<[u8]>),
    /// The same for the unnamed statement; undone by what the server had before.
    SuppliedUnnamed(Option<u64>),
    /// The client's Close of a named statement.
    Closed {
        /// The client's name.
        name: Box<[u8]>,
        /// What it meant.
        statement: Arc<Statement>,
    },
    /// A Bind or Describe of a named statement.
    Bound(Arc<Statement>),
    /// A Describe of a portal of a named statement.
    Shown(Arc<Statement>),
    /// A Close of ours that makes room.
    Evicted(Arc<Statement>),
    /// An Execute of a statement that concerns the session.
    Executed {
        /// The statement.
        statement: Parsed,
        /// What else the session must know of it.
        effects: Effects,
        /// The statements that it deallocates.
        forgotten: Option<Box<Forgotten>>,
    },
    /// Something that Howdah refuses, in PostgreSQL's words.
    Refused(Box<Report>),
    /// One of the messages that bring the client's settings to its server.
    Bringing,
    /// The last of them: from then on the server carries the settings.
    Brought,
}

/// The setting that SET changes in part.
const MERGED: &str = "datestyle";

/// One client's session.
#[derive(Debug)]
pub struct Session {
    registry: Arc<Registry>,
    statements: Names,
    unnamed: Option<Arc<Statement>>,
    /// Those whose statements concern the session.
    portals: Portals,
    ledger: Ledger,
    /// The settings of the server that is lent to this client, while one is.
    server: Ledger,
    /// The parameters as the client was last told.
    pub believed: Arc<Parameters>,
    tx: Tx,
    pins: Pins,
    /// Cursors that a rollback brings back.
    before: Option<Box<HeldCursors>>,
    /// What it listens to, if it ever did.
    listens: Option<Box<Listens>>,
    /// Whether something failed since the transaction, or the implicit one of this batch, began.
    failed: bool,
    /// What becomes of messages.
    sequence: Sequence,
    /// Whether the transaction has set something for itself alone, which the ledger does not know.
    strays: Held,
    /// Whether it asks what it did with sequences, now and then.
    asks_sequences: Held,
    /// What the current transaction did that a pin may begin or end with.
    doubt: Effects,
    /// How definitions stood when it began (`Outlook::objects`).
    objects: u64,
    /// The statement of the unnamed portal, while clients have not been told what its result looks like.
    shown: Option<Arc<Statement>>,
}

impl Session {
    /// The session of a client that has proved who it is. `startup` are the settings of its startup packet.
    #[must_use]
    pub fn new(
        _proof: &Authenticated,
        registry: Arc<Registry>,
        startup: Arc<Settings>,
        believed: Arc<Parameters>,
        pins: Pins,
    ) -> Self {
        Self {
            registry,
            statements: Names::default(),
            unnamed: None,
            portals: Portals::default(),
            ledger: Ledger::new(Arc::clone(&startup), startup),
            server: Ledger::default(),
            believed,
            tx: Tx::Idle,
            pins,
            before: None,
            listens: None,
            failed: false,
            sequence: Sequence::Sound,
            strays: Held::Nothing,
            asks_sequences: Held::Nothing,
            doubt: Effects::default(),
            objects: 0,
            shown: None,
        }
    }

    /// Why the client keeps its server.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// How many named statements the client has prepared.
    #[must_use]
    pub fn prepared_count(&self) -> usize {
        self.statements.len()
    }

    /// The settings that hold for the client.
    #[must_use]
    pub const fn settings(&self) -> &Arc<Settings> {
        self.ledger.current()
    }

    /// A server is lent: gives what makes it carry the client's settings, if it does not.
    pub fn attach(&mut self, carried: &mut Carried) -> Option<Difference> {
        self.server = carried.ledger();
        if Arc::ptr_eq(&carried.settings, self.ledger.current()) {
            return None;
        }
        let difference = carried.settings.difference(self.ledger.current());
        if difference.is_none() && *carried.settings == **self.ledger.current() {
            carried.settings = Arc::clone(self.ledger.current());
        }
        difference
    }

    /// The server has taken over the client's settings.
    pub fn attached(&mut self, carried: &mut Carried) {
        carried.settings = Arc::clone(self.ledger.current());
        self.server = carried.ledger();
    }

    /// What gives the server that the client has what it lacks of the client's settings: after a RESET, the
    /// server is back at its own, and the client at those of its startup.
    #[must_use]
    pub fn lacks(&self) -> Option<Difference> {
        let (has, wants) = (self.server.current(), self.ledger.current());
        if Arc::ptr_eq(has, wants) { None } else { has.difference(wants) }
    }

    /// The server was given what it lacked.
    pub fn supplied(&mut self) {
        self.server.adopt(self.ledger.current());
    }

    /// The server is about to go back: it keeps what it carries.
    pub fn detach(&mut self, carried: &mut Carried) {
        self.unlistened();
        carried.settings = Arc::clone(self.server.current());
        self.portals.clear();
    }

    /// The server is lost, and with it everything that lived there only.
    pub fn lost(&mut self) {
        self.tx = Tx::Idle;
        self.failed = false;
        self.strays = Held::Nothing;
        self.pins.forget();
        self.portals.clear();
        self.ledger.rollback();
        self.listens_rollback();
    }

    /// The client has left in the middle of a transaction, which was rolled back.
    pub fn abandoned(&mut self, carried: &mut Carried) {
        if self.tx != Tx::Idle || self.failed {
            self.server.rollback();
        }
        self.tx = Tx::Idle;
        self.detach(carried);
    }

    /// The server was reset: it carries nothing.
    pub fn reset(&mut self, carried: &mut Carried) {
        self.server = carried.ledger();
        self.tx = Tx::Idle;
        self.pins.forget();
    }

    /// Whether the server must be asked if a pin began or ended, now that the transaction is over.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        let pinned = self.pins.has(Reason::Temporary) || self.pins.has(Reason::AdvisoryLock);
        pinned && self.tx == Tx::Idle && self.doubt != Effects::default()
    }

    /// What the server said when asked: whether it holds temporary objects and advisory locks.
    pub fn resolve_doubt(&mut self, temporary: Held, locks: Held) {
        self.doubt = Effects::default();
        for (held, reason) in [(temporary, Reason::Temporary), (locks, Reason::AdvisoryLock)] {
            if held == Held::Nothing {
                self.pins.end(reason);
            }
        }
    }

    /// A reply of the server: what it means for the session. `body` is the message's, as far as it is needed.
    pub fn on_reply(&mut self, event: Event<Note>, server_tag: u8, body: &[u8], carried: &mut Carried) {
        match event {
            // A portal that is suspended has run as far as it was asked to.
            Event::Done(Some(Note::Executed { statement, effects, .. }))
                if matches!(server_tag, tag::COMMAND_COMPLETE | tag::PORTAL_SUSPENDED) =>
            {
                self.completed(&statement, effects, body);
            }
            Event::Done(Some(Note::Parsed { name, sent: Some(_) })) => {
                if let Some(statement) = self.statements.get(&name) {
                    statement.accept();
                }
            }
            Event::Done(Some(Note::Brought)) => self.attached(carried),
            Event::Failed(failure) | Event::Refused(failure) => self.undo(failure, carried),
            Event::Ready(status) => {
                if carried.reported == Reported::Later {
                    self.reported_at_last(carried);
                }
                self.ready(status);
            }
            Event::Parameter => {
                if let Some((name, value)) = parameter(body) {
                    self.reported(name, value);
                    if carried.reported == Reported::Now {
                        parameters::report(&mut self.believed, name, value);
                    }
                    parameters::report(&mut carried.parameters, name, value);
                }
            }
            Event::Done(_) | Event::None | Event::Command | Event::CopyIn | Event::Asynchronous => {}
        }
    }

    /// One statement of a Query is done; `note` is that of its entry.
    pub fn on_command(&mut self, note: &mut Note, body: &[u8], carried: &mut Carried) {
        let Note::Query { statements, effects, done } = note else { return };
        let statement = statements.get(*done).cloned();
        *done += 1;
        if let Some(statement) = statement {
            drop(self.forget(&statement.command, carried));
            self.completed(&statement, *effects, body);
        } else {
            self.took_effect(*effects);
        }
    }

    /// The server tells what a setting is now that the client has just made. That is what the next server must be
    /// told: the words may have meant a change of what was before (`SET datestyle TO dmy`).
    fn reported(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        if self.strays == Held::Something || MERGED != name || !self.ledger.differs_from_startup(&name) {
            return;
        }
        let value = Value::Text(value.into());
        if self.ledger.current().get(&name) != Some(&value) {
            self.each_ledger(|ledger| ledger.set(&name, value.clone()));
        }
    }

    /// The server has reported all that changed. What was brought and then set by the client may be what the server had
    /// before, which is no news to it, but is to the ledger.
    fn reported_at_last(&mut self, carried: &mut Carried) {
        carried.reported = Reported::Now;
        let merged = carried.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(MERGED));
        if let Some((name, value)) = merged {
            self.reported(name, value);
        }
    }

    /// Sets something for the client, until [`Session::told`]: its server is told, and so can tell the client.
    pub fn tell(&mut self, name: &str, value: &str) {
        self.ledger.set(name, Value::Text(value.into()));
    }

    /// What was set is no setting of the client's any more; its server is told when it serves others.
    pub fn told(&mut self, name: &str) {
        self.ledger.reset(name);
        if self.tx == Tx::Idle {
            self.ledger.commit(&self.registry.sets);
        }
    }

    /// Where the client is in a transaction, to be given to [`Session::go_back_to`].
    #[must_use]
    pub fn mark(&self) -> Tx {
        self.tx.clone()
    }

    /// Undoes the change of transaction that a batch made which will be sent again elsewhere.
    pub fn go_back_to(&mut self, mark: Tx) {
        self.tx = mark;
    }

    /// Tells the client of parameters that its new server reports otherwise than the last one did; once it has.
    pub fn catch_up(&mut self, carried: &mut Carried, tell: impl FnMut(&str, &str)) {
        if carried.reported == Reported::Now {
            parameters::catch_up(&mut self.believed, &mut carried.parameters, tell);
        }
    }

    fn ready(&mut self, status: TransactionStatus) {
        if status != TransactionStatus::Idle {
            self.tx = Tx::Open(status);
            return;
        }
        if self.failed {
            self.rolled_back();
        } else {
            self.committed();
        }
        self.tx = Tx::Idle;
        self.strays = Held::Nothing;
        self.portals.clear();
    }

    fn committed(&mut self) {
        let sets = &self.registry.sets;
        self.ledger.commit(sets);
        self.server.commit(sets);
        self.listens_commit();
        self.before = None;
        self.failed = false;
    }

    fn rolled_back(&mut self) {
        self.ledger.rollback();
        self.server.rollback();
        self.listens_rollback();
        if let Some(before) = self.before.take() {
            self.pins.restore(*before);
        }
        // What was created in the transaction is gone.
        if self.pins.has(Reason::Temporary) {
            self.doubt = self.doubt.with(Effects::DROP);
        }
        self.failed = false;
    }
}

/// Whether something is there, as a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Something.
    Something,
    /// Nothing.
    Nothing,
}

/// Name and value of a `ParameterStatus`.
#[must_use]
pub fn parameter(body: &[u8]) -> Option<(&str, &str)> {
    let (name, rest) = split_cstr(body)?;
    let (value, _) = split_cstr(rest)?;
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}
