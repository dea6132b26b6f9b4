//! What the databases of a cluster contain, as the primary's catalogs say: loaded when a database is first
//! asked for, again now and then, and whenever DDL was seen.
//!
//! Until a catalog is loaded it is empty, and then every statement that touches a relation is a write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::sql::catalog::Catalog;
use crate::types::DatabaseName;

/// What one database contains; replaced as a whole.
#[derive(Debug)]
pub struct Contents {
    database: DatabaseName,
    catalog: ArcSwap<Catalog>,
    wanted: mpsc::Sender<Arc<Self>>,
    /// Which it is of all that were ever made.
    number: u64,
    /// How often definitions have changed, as far as it was seen.
    reshaped: AtomicU64,
    /// Transactions with DDL that are going on.
    changing: AtomicUsize,
    /// How often one of those has begun or ended.
    changes: AtomicU64,
    /// How often when the catalog was loaded.
    loaded: AtomicU64,
}

/// A catalog that nobody can say how old it is.
const NEVER: u64 = u64::MAX;

/// A transaction with DDL.
#[derive(Debug)]
pub struct Changing(Arc<Contents>);

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        self.0.changing.fetch_sub(1, Ordering::SeqCst);
        self.0.refresh();
    }
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Requests that may wait for the loader; one more is not needed, since a load serves all that came before it.
const WANTED: usize = 64;

impl Contents {
    /// The database, as servers call it.
    pub const fn database(&self) -> &DatabaseName {
        &self.database
    }

    /// What is known now.
    pub fn get(&self) -> arc_swap::Guard<Arc<Catalog>> {
        self.catalog.load()
    }

    /// Replaces what is known; `moment` is what [`Contents::moment`] said before it was asked for.
    pub fn set(&self, catalog: Catalog, moment: Option<u64>) {
        self.catalog.store(Arc::new(catalog));
        self.loaded.store(moment.unwrap_or(NEVER), Ordering::SeqCst);
    }

    /// A number for this moment, unless definitions are about to change: the same for as long as none does, as far as it is
    /// seen here.
    pub fn moment(&self) -> Option<u64> {
        let moment = self.changes.load(Ordering::SeqCst);
        (self.changing.load(Ordering::SeqCst) == 0).then_some(moment)
    }

    /// The same, if whatever [`Contents::get`] gives from now on knows the definitions of this moment.
    pub fn settled(&self) -> Option<u64> {
        self.moment().filter(|moment| self.loaded.load(Ordering::SeqCst) == *moment)
    }

    /// DDL is about to be sent: until what this gives is dropped, when its transaction has ended, nobody knows what holds.
    pub fn change(self: &Arc<Self>) -> Changing {
        self.changing.fetch_add(1, Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
        Changing(Arc::clone(self))
    }

    /// Something was dropped or altered, or is about to be: what was parsed before may mean something else now.
    pub fn reshape(&self) {
        self.reshaped.fetch_add(1, Ordering::AcqRel);
    }

    /// Which database this is, and in which shape.
    pub fn shape(&self) -> (u64, u64) {
        (self.number, self.reshaped.load(Ordering::Acquire))
    }

    /// DDL was seen: asks for the catalog to be loaded anew.
    pub fn refresh(self: &Arc<Self>) {
        // A full queue means that a load is due anyway.
        let _ = self.wanted.try_send(Arc::clone(self));
    }
}

/// The databases of one cluster.
#[derive(Debug)]
pub struct Catalogs {
    all: Mutex<HashMap<DatabaseName, Arc<Contents>>>,
    wanted: mpsc::Sender<Arc<Contents>>,
}

impl Catalogs {
    /// No database yet, and where requests to load one arrive.
    pub fn new() -> (Self, mpsc::Receiver<Arc<Contents>>) {
        let (wanted, requests) = mpsc::channel(WANTED);
        (Self { all: Mutex::default(), wanted }, requests)
    }

    /// The contents of `database`, to be asked for once per client; loading begins with the first.
    pub fn of(&self, database: &DatabaseName) -> Arc<Contents> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(contents) = all.get(database) {
            return Arc::clone(contents);
        }
        let contents = Arc::new(Contents {
            database: database.clone(),
            catalog: ArcSwap::from_pointee(Catalog::empty()),
            wanted: self.wanted.clone(),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            reshaped: AtomicU64::new(0),
            changing: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            loaded: AtomicU64::new(NEVER),
        });
        all.insert(database.clone(), Arc::clone(&contents));
        contents.refresh();
        contents
    }

    /// The contents of `database`, if anybody has asked for them.
    pub fn known(&self, database: &DatabaseName) -> Option<Arc<Contents>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).get(database).cloned()
    }

    /// Every database that was asked for.
    pub fn all(&self) -> Vec<Arc<Contents>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_is_good_until_definitions_change() {
        let (catalogs, _requests) = Catalogs::new();
        let contents = catalogs.of(&"app".into());
        let load = |moment| contents.set(Catalog::empty(), moment);
        assert_eq!((contents.moment(), contents.settled()), (Some(0), None));
        load(contents.moment());
        assert_eq!(contents.settled(), Some(0));
        let before = contents.moment();
        let change = contents.change();
        assert_eq!((contents.moment(), contents.settled()), (None, None));
        // What was asked for in between, and before, says nothing.
        load(contents.moment());
        drop(change);
        assert_eq!(contents.settled(), None);
        load(before);
        assert_eq!(contents.settled(), None);
        load(contents.moment());
        assert_eq!(contents.settled(), contents.moment());
    }
}
