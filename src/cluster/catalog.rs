//! What the databases of a cluster contain, as the primary's catalogs say: loaded when a database is first
//! asked for, again now and then, and whenever DDL was seen.
//!
//! Until a catalog is loaded it is empty, and then every statement that touches a relation is a write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
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

    /// Replaces what is known.
    pub fn set(&self, catalog: Catalog) {
        self.catalog.store(Arc::new(catalog));
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
