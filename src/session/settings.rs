//! Settings (GUCs) that belong to a client and travel with it from server to server.
//!
//! What was set is kept as the client said it, so that PostgreSQL itself judges it again on the next
//! server; nothing here knows what a setting means. SET is transactional, and so is the ledger.

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use lru::LruCache;

use crate::protocol::text::{quote_identifier, quote_literal};

/// How a setting got its value, so that it can get it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The text that followed `SET name TO`.
    Sql(Arc<str>),
    /// The value itself, as startup parameters and `set_config` give it.
    Text(Arc<str>),
}

impl Value {
    /// The value as text: quotes around a single literal are dropped.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Sql(text) => text.trim().trim_matches(['\'', '"']),
            Self::Text(text) => text,
        }
    }
}

/// A set of settings, ordered by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    entries: Vec<(Arc<str>, Value)>,
}

/// The set of no settings, which most servers and clients begin with.
static NOTHING: LazyLock<Arc<Settings>> = LazyLock::new(Arc::default);

/// Equal sets are one: servers that carry what a client wants are told by an address.
#[derive(Debug)]
pub struct Sets(Mutex<LruCache<Arc<Settings>, ()>>);

/// Sets that are known; of more, those that were not wanted for the longest time may come to exist twice.
const SETS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

impl Default for Sets {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(SETS)))
    }
}

impl Sets {
    /// The one that is equal to `settings`.
    pub fn one(&self, settings: Arc<Settings>) -> Arc<Settings> {
        if settings.is_empty() {
            return Settings::none();
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, ())) = all.get_key_value(&settings) {
            return Arc::clone(known);
        }
        all.put(Arc::clone(&settings), ());
        settings
    }
}

impl Settings {
    /// The empty set, of which there is one.
    #[must_use]
    pub fn none() -> Arc<Self> {
        Arc::clone(&NOTHING)
    }

    /// The settings that a client's startup packet made.
    pub fn from_startup<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut settings = Self::default();
        for (name, value) in parameters {
            settings.put(&name.to_ascii_lowercase(), Value::Text(value.into()));
        }
        settings
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `name` (in lower case).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.position(name).ok().map(|index| &self.entries[index].1)
    }

    /// Whether any name begins with `prefix`.
    #[must_use]
    pub fn has_any(&self, prefix: &str) -> bool {
        let at = self.entries.partition_point(|(name, _)| **name < *prefix);
        self.entries.get(at).is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// All settings in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (&**name, value))
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(entry, _)| (**entry).cmp(name))
    }

    fn put(&mut self, name: &str, value: Value) {
        match self.position(name) {
            Ok(index) => self.entries[index].1 = value,
            Err(index) => self.entries.insert(index, (name.into(), value)),
        }
    }

    fn remove(&mut self, name: &str) {
        if let Ok(index) = self.position(name) {
            self.entries.remove(index);
        }
    }

    /// What makes a server that carries `self` carry `wanted`; `None` when it does already.
    ///
    /// The role is given back before anything else changes and taken last, because other settings may need rights
    /// that it lacks.
    #[must_use]
    pub fn difference(&self, wanted: &Self) -> Option<Difference> {
        let mut sql = Vec::new();
        let differs = |name: &str| self.get(name) != wanted.get(name);
        for name in [ROLE, AUTHORIZATION] {
            if self.get(name).is_some() && (differs(name) || differs(AUTHORIZATION)) {
                sql.push(format!("RESET {name}"));
            }
        }
        let is_identity = |name: &str| name == ROLE || name == AUTHORIZATION;
        for (name, _) in self.iter().filter(|(name, _)| !is_identity(name)) {
            if wanted.get(name).is_none() {
                sql.push(format!("RESET {}", qualified(name)));
            }
        }
        for (name, value) in wanted.iter().filter(|(name, _)| !is_identity(name)) {
            if self.get(name) != Some(value) {
                sql.push(set(name, value));
            }
        }
        for name in [AUTHORIZATION, ROLE] {
            if let Some(value) = wanted.get(name)
                && (differs(name) || differs(AUTHORIZATION))
            {
                sql.push(set(name, value));
            }
        }
        (!sql.is_empty()).then_some(Difference(sql))
    }
}

/// Statements that change a server's settings, in their order. They must be run in one transaction: the server is then
/// as wanted, or as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(Vec<String>);

impl Difference {
    /// Its statements.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// All of it as one simple query, of which a server applies everything or nothing.
    #[must_use]
    pub fn to_query(&self) -> String {
        self.0.join(";")
    }
}

const ROLE: &str = "role";
const AUTHORIZATION: &str = "session_authorization";

/// A setting's name as SQL: each part between dots is an identifier.
fn qualified(name: &str) -> String {
    name.split('.').map(quote_identifier).collect::<Vec<_>>().join(".")
}

fn set(name: &str, value: &Value) -> String {
    match value {
        Value::Sql(value) => format!("SET {} TO {value}", qualified(name)),
        Value::Text(value) => {
            format!("SELECT pg_catalog.set_config({},{},false)", quote_literal(name), quote_literal(value))
        }
    }
}

/// Settings over the course of transactions: what holds now, and what a rollback brings back.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// What RESET returns to.
    startup: Arc<Settings>,
    current: Arc<Settings>,
    /// What held when the transaction began.
    committed: Arc<Settings>,
    savepoints: Vec<(String, Arc<Settings>)>,
}

impl Default for Ledger {
    /// Nothing is set.
    fn default() -> Self {
        Self::new(Settings::none(), Settings::none())
    }
}

impl Ledger {
    /// A ledger in which `current` holds and RESET returns to `startup`.
    #[must_use]
    pub fn new(startup: Arc<Settings>, current: Arc<Settings>) -> Self {
        Self { startup, committed: Arc::clone(&current), current, savepoints: Vec::new() }
    }

    /// What holds now.
    #[must_use]
    pub const fn current(&self) -> &Arc<Settings> {
        &self.current
    }

    /// Whether `name` is set to something else than what RESET returns to.
    #[must_use]
    pub fn differs_from_startup(&self, name: &str) -> bool {
        let value = self.current.get(name);
        value.is_some() && value != self.startup.get(name)
    }

    /// `settings` hold now; a rollback brings back what held before.
    pub fn adopt(&mut self, settings: &Arc<Settings>) {
        self.current = Arc::clone(settings);
    }

    /// SET, and `set_config` for the session. Another session user has no role taken (`assign_session_authorization`,
    /// src/backend/commands/variable.c).
    pub fn set(&mut self, name: &str, value: Value) {
        let current = Arc::make_mut(&mut self.current);
        if name == AUTHORIZATION {
            current.remove(ROLE);
        }
        current.put(name, value);
    }

    /// RESET, and SET to DEFAULT.
    pub fn reset(&mut self, name: &str) {
        if let Some(value) = self.startup.get(name).cloned() {
            return self.set(name, value);
        }
        let current = Arc::make_mut(&mut self.current);
        if name == AUTHORIZATION {
            current.remove(ROLE);
        }
        current.remove(name);
    }

    /// RESET ALL: everything but the role and the session's user (`GUC_NO_RESET_ALL`, `src/backend/utils/misc/guc_tables.c`).
    pub fn reset_all(&mut self) {
        let identity = [ROLE, AUTHORIZATION].map(|name| (name, self.current.get(name).cloned()));
        let mut settings = (*self.startup).clone();
        for (name, value) in identity {
            if let Some(value) = value {
                settings.put(name, value);
            }
        }
        self.current = Arc::new(settings);
    }

    /// DISCARD ALL: everything.
    pub fn discard_all(&mut self) {
        self.current = Arc::clone(&self.startup);
    }

    /// How many savepoints there are.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.savepoints.len()
    }

    /// How many savepoints there were when `name` was made; `None` when there is no such savepoint.
    #[must_use]
    pub fn depth_of(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|(entry, _)| entry == name)
    }

    /// SAVEPOINT.
    pub fn savepoint(&mut self, name: String) {
        self.savepoints.push((name, Arc::clone(&self.current)));
    }

    /// RELEASE.
    pub fn release(&mut self, name: &str) {
        if let Some(index) = self.depth_of(name) {
            self.savepoints.truncate(index);
        }
    }

    /// ROLLBACK TO: the savepoint itself stays.
    pub fn rollback_to(&mut self, name: &str) {
        if let Some(index) = self.depth_of(name) {
            self.current = Arc::clone(&self.savepoints[index].1);
            self.savepoints.truncate(index + 1);
        }
    }

    /// COMMIT, also the silent one at the end of a statement outside a transaction block.
    pub fn commit(&mut self, sets: &Sets) {
        if !Arc::ptr_eq(&self.committed, &self.current) {
            self.current = sets.one(Arc::clone(&self.current));
            self.committed = Arc::clone(&self.current);
        }
        self.savepoints.clear();
    }

    /// ROLLBACK.
    pub fn rollback(&mut self) {
        self.current = Arc::clone(&self.committed);
        self.savepoints.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: &[(&str, &str)]) -> Arc<Settings> {
        Arc::new(Settings::from_startup(entries.iter().copied()))
    }

    fn sql(text: &str) -> Value {
        Value::Sql(text.into())
    }

    #[test]
    fn only_the_difference_is_said() {
        let carried = settings(&[("a", "1"), ("b", "2"), ("my.c", "3")]);
        let wanted = settings(&[("a", "1"), ("b", "it's")]);
        assert_eq!(carried.difference(&carried), None);
        assert_eq!(
            carried.difference(&wanted).map(|difference| difference.to_query()).as_deref(),
            Some("RESET \"my\".\"c\";SELECT pg_catalog.set_config('b','it''s',false)")
        );
    }

    #[test]
    fn the_role_is_given_back_first_and_taken_last() {
        let mut ledger = Ledger::new(settings(&[]), settings(&[]));
        ledger.set("role", sql("alice"));
        ledger.set("work_mem", sql("'1MB'"));
        let alice = Arc::clone(ledger.current());
        ledger.set("role", sql("bob"));
        ledger.set("work_mem", sql("'2MB'"));
        assert_eq!(
            alice.difference(ledger.current()).map(|difference| difference.to_query()).as_deref(),
            Some("RESET role;SET \"work_mem\" TO '2MB';SET \"role\" TO bob")
        );
        ledger.reset_all();
        assert_eq!(ledger.current().get("role"), Some(&sql("bob")));
        ledger.discard_all();
        assert!(ledger.current().is_empty());
    }

    #[test]
    fn rollback_brings_back_what_held() {
        let mut ledger = Ledger::new(settings(&[("x", "start")]), settings(&[("x", "start")]));
        ledger.set("x", sql("1"));
        ledger.commit(&Sets::default());
        ledger.set("x", sql("2"));
        ledger.savepoint("s".into());
        ledger.set("x", sql("3"));
        ledger.savepoint("t".into());
        ledger.set("x", sql("4"));
        ledger.rollback_to("s");
        assert_eq!(ledger.current().get("x"), Some(&sql("2")));
        ledger.rollback_to("t");
        assert_eq!(ledger.current().get("x"), Some(&sql("2")));
        ledger.release("s");
        ledger.set("x", sql("5"));
        ledger.rollback_to("s");
        assert_eq!(ledger.current().get("x"), Some(&sql("5")));
        ledger.rollback();
        assert_eq!(ledger.current().get("x"), Some(&sql("1")));
        ledger.reset("x");
        assert_eq!(ledger.current().get("x"), Some(&Value::Text("start".into())));
    }
}
