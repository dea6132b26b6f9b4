//! Classes by shape: a text is parsed once for each catalog, however often it comes and whatever its literals are.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::catalog::Catalog;
use super::{Analysis, WriteReason, classify, normal};

/// The cache is cut into parts, so that no lock is common to all.
const SHARDS: usize = 16;

/// Shapes kept per part.
const SHAPES: NonZeroUsize = match NonZeroUsize::new(1024) {
    Some(bound) => bound,
    None => NonZeroUsize::MIN,
};

/// Which catalog an analysis was made with, and what it says. Databases number their catalogs alike, so the
/// hash of a shape is salted with the catalog's own identity.
type Shard = LruCache<u64, Analysis>;

/// Tells what statement texts do.
#[derive(Debug)]
pub struct Classifier {
    shards: Box<[Mutex<Shard>]>,
}

impl Default for Classifier {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::new(LruCache::new(SHAPES))).collect() }
    }
}

impl Classifier {
    /// What `text` does in a database that contains `catalog`.
    pub fn analyse(&self, text: &[u8], catalog: &Catalog) -> Analysis {
        let fingerprint = normal::fingerprint(text, catalog.seed());
        if let Some(known) = self.shard(fingerprint).get(&fingerprint) {
            return *known;
        }
        let analysis = classify::analyse(text, fingerprint, catalog);
        self.shard(fingerprint).put(fingerprint, analysis);
        analysis
    }

    /// A replica has refused a text of this shape as a write: it is one, until the catalog is loaded anew.
    pub fn correct(&self, fingerprint: u64) {
        let mut shard = self.shard(fingerprint);
        if let Some(known) = shard.get_mut(&fingerprint) {
            *known = Analysis::write(WriteReason::Function, known.effects, fingerprint);
        }
    }

    fn shard(&self, fingerprint: u64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(fingerprint >> 32).unwrap_or(0) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
