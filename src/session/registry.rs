//! Prepared statement texts, shared by all clients: one entry per distinct text and parameter types.
//!
//! The registry is cut into shards, so that no lock is common to all; an entry lives as long as some
//! client or server knows it.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};

use foldhash::fast::FixedState;

use super::scope::Outlook;
use super::settings::Sets;
use crate::protocol::frontend::Parse;
use crate::sql::command::{self, Command, Parsed};
use crate::sql::hint::{self, Hint};
use crate::sql::{Analysis, Effects};

/// A prepared statement.
#[derive(Debug)]
pub struct Statement {
    /// Unique in this process; names the statement on servers.
    pub id: u64,
    /// What its text means besides its letters; 0 for one that is not shared.
    scope: u64,
    /// What was known of the database when it was analysed.
    known: Moment,
    /// The name it has on every server.
    pub server_name: Box<str>,
    /// Its text.
    pub text: Box<[u8]>,
    /// Count and OIDs of parameter types as Parse gave them.
    pub types: Box<[u8]>,
    /// What the text says.
    analysis: Analysis,
    /// What a comment in front of the text orders, each time the statement runs.
    pub hint: Option<Arc<Hint>>,
    /// The statement itself, when it concerns the session.
    pub parsed: Option<Parsed>,
    /// Whether some server has accepted it.
    accepted: AtomicBool,
    /// The body of the `ParameterDescription` that clients were given: as `types`, with those that the server has inferred.
    described: OnceLock<Box<[u8]>>,
    /// The columns of the result that clients were told of (`protocol::columns::shape`).
    columns: OnceLock<u64>,
    /// With which definitions a server was last asked whether it would give the same columns.
    looked: AtomicU64,
    /// Whether it would not.
    changed: AtomicBool,
}

/// How things stood in the database when a statement was made.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// What was known of it.
    catalog: u64,
    /// Its definitions.
    objects: u64,
}

impl Moment {
    /// Now.
    pub const fn of(outlook: &Outlook<'_>) -> Self {
        Self { catalog: outlook.catalog.seed(), objects: outlook.objects }
    }
}

impl Statement {
    /// A statement of one client, which has been given the number `id`.
    pub fn new(id: u64, text: &[u8], types: &[u8], analysis: Analysis, known: Moment) -> Self {
        let concerns = analysis.effects.has(Effects::COMMANDS);
        let parsed = if concerns { command::parse(text).into_iter().next() } else { None };
        let hint = hint::parse(text);
        let (server_name, accepted) = (server_name(id).into(), AtomicBool::new(false));
        Self {
            id,
            scope: 0,
            known,
            server_name,
            text: text.into(),
            types: types.into(),
            analysis,
            hint,
            parsed,
            accepted,
            described: OnceLock::new(),
            columns: OnceLock::new(),
            looked: AtomicU64::new(known.objects),
            changed: AtomicBool::new(false),
        }
    }

    /// What the text says; asks again when more is known of the database than when it was last asked.
    pub fn analysis(&self, outlook: &Outlook<'_>) -> Analysis {
        if outlook.catalog.seed() == self.known.catalog {
            self.analysis
        } else {
            outlook.analyse_with(&self.text, &self.types)
        }
    }

    /// Whether it is what `parse` would make.
    pub fn is(&self, parse: Parse<'_>, analysis: Analysis) -> bool {
        *self.text == *parse.text && *self.types == *parse.types && self.analysis == analysis
    }

    /// What the session must know of it, whatever the database contains.
    pub const fn effects(&self) -> Effects {
        self.analysis.effects
    }

    /// Whether the session must know when it runs.
    pub fn concerns_session(&self) -> bool {
        self.parsed.is_some() || self.analysis.effects.concern_session()
    }

    /// Whether it runs or drops a statement that it names (`EXECUTE`, `DEALLOCATE`).
    pub fn names_another(&self) -> bool {
        let command = self.parsed.as_ref().map(|parsed| &parsed.command);
        matches!(command, Some(Command::Execute { .. } | Command::Deallocate { .. }))
    }

    /// Whether some server has accepted it.
    pub fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The types of its parameters for a server that is to have it too: those that clients were told, who send values of these
    /// types even if another server, after DDL, would infer others from the text.
    pub fn parameter_types(&self) -> &[u8] {
        self.described.get().unwrap_or(&self.types)
    }

    /// Clients are told the types of its parameters, by the body of a `ParameterDescription`.
    pub fn described(&self, parameters: &[u8]) {
        self.described.get_or_init(|| parameters.into());
    }

    /// Clients are told what its result looks like.
    pub fn showed(&self, shape: u64) {
        self.columns.get_or_init(|| shape);
    }

    /// Whether some client was told.
    pub fn is_shown(&self) -> bool {
        self.columns.get().is_some()
    }

    /// Whether a server that prepared it with these definitions might give another result than clients were told of, for
    /// all that is known.
    pub fn may_have_changed(&self, objects: u64) -> bool {
        self.is_shown() && self.looked.load(Ordering::Relaxed) != objects
    }

    /// A server that prepares it with these definitions gives this result.
    pub fn looked_at(&self, objects: u64, shape: u64) {
        self.changed.store(self.columns.get().is_some_and(|told| *told != shape), Ordering::Relaxed);
        self.looked.store(objects, Ordering::Relaxed);
    }

    /// Whether a server that has not prepared it gives another result than clients were told of.
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// A server has accepted it.
    pub fn accept(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }
}

/// The name that statement `id` has on every server. Another one in each process, so that no client hits upon it.
#[must_use]
pub fn server_name(id: u64) -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| std::hash::RandomState::new().hash_one(0) & 0xFFFF_FFFF);
    format!("howdah_{:08x}_{id}", *PROCESS)
}

const SHARDS: usize = 64;

/// How often a shard is swept of dead entries: every so many insertions.
const SWEEP: usize = 256;

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<u64, Vec<Weak<Statement>>, FixedState>,
    insertions: usize,
}

/// All statements that somebody knows.
#[derive(Debug)]
pub struct Registry {
    /// What clients have set.
    pub sets: Sets,
    shards: Box<[Mutex<Shard>]>,
    next_id: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            sets: Sets::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next_id: AtomicU64::new(1),
        }
    }
}

impl Registry {
    /// A number for a statement that is not shared: the unnamed one.
    pub fn fresh_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The one statement with this text and these types in `scope`; `outlook` is asked only for a new one.
    pub fn intern(&self, scope: u64, text: &[u8], types: &[u8], outlook: &Outlook<'_>) -> Arc<Statement> {
        self.one(scope, text, types, |id| {
            Statement::new(id, text, types, outlook.analyse_with(text, types), Moment::of(outlook))
        })
    }

    /// The statement that stands for the text of one that is retired.
    pub fn renewed(&self, retired: &Statement) -> Arc<Statement> {
        let Statement { scope, text, types, analysis, known, .. } = retired;
        let new = |id| Statement::new(id, text, types, *analysis, *known);
        if *scope == 0 { Arc::new(new(self.fresh_id())) } else { self.one(*scope, text, types, new) }
    }

    /// The same for one client, which may have been told the types of its parameters.
    pub fn renewed_as_described(&self, retired: &Statement) -> Arc<Statement> {
        let Statement { text, analysis, known, .. } = retired;
        Arc::new(Statement::new(self.fresh_id(), text, retired.parameter_types(), *analysis, *known))
    }

    fn one(&self, scope: u64, text: &[u8], types: &[u8], new: impl FnOnce(u64) -> Statement) -> Arc<Statement> {
        let hash = FixedState::default().hash_one((scope, text, types));
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
        let same = |statement: &Arc<Statement>| {
            statement.scope == scope && *statement.text == *text && *statement.types == *types
        };
        let known = shard.entries.get(&hash).and_then(|list| list.iter().filter_map(Weak::upgrade).find(same));
        if let Some(statement) = known {
            return statement;
        }
        let statement = Arc::new(Statement { scope, ..new(self.fresh_id()) });
        shard.insertions += 1;
        if shard.insertions.is_multiple_of(SWEEP) {
            shard.entries.retain(|_, list| {
                list.retain(|entry| entry.strong_count() > 0);
                !list.is_empty()
            });
        }
        shard.entries.entry(hash).or_default().push(Arc::downgrade(&statement));
        statement
    }

    /// Forgets `statement`, which is out of date: its text becomes another statement when it is next prepared.
    pub fn retire(&self, statement: &Arc<Statement>) {
        let hash = FixedState::default().hash_one((statement.scope, &*statement.text, &*statement.types));
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = shard.entries.get_mut(&hash) {
            list.retain(|entry| entry.as_ptr() != Arc::as_ptr(statement));
        }
    }

    /// How many statements somebody knows.
    pub fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.entries.values().flatten().filter(|entry| entry.strong_count() > 0).count()
        };
        self.shards.iter().map(count).sum()
    }

    /// Whether nobody knows any statement.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
