//! Analyses by fingerprint, so that a statement is parsed once per shape and not once per execution.
//!
//! Shards behind short locks; nothing is parsed while one is held. It knows no clients and no nodes.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::catalog::Catalog;
use super::{Analysis, Class, WriteReason, classify, normal};

/// The analysis of texts, remembered.
#[derive(Debug)]
pub struct Classifier {
    shards: Box<[Mutex<Shard>]>,
    seed: u64,
}

/// Fingerprint and catalog version. Analyses that an older catalog gave are never found again, and age out.
type Key = (u64, u64);
type Shard = LruCache<Key, Entry, foldhash::fast::RandomState>;

#[derive(Clone, Copy, Debug)]
enum Entry {
    Known(Analysis),
    /// A replica refused a statement of this fingerprint, whose effects are not known (yet, or any more).
    Refused,
}

/// More shards than cores, usually.
const SHARDS: usize = 16;

// === impl Classifier ===

impl Classifier {
    /// Remembers up to about `entries` analyses. Fingerprints depend on `seed`: a random one keeps clients
    /// from making texts whose fingerprints collide, a fixed one makes fingerprints comparable between processes.
    #[must_use]
    pub fn new(entries: NonZeroUsize, seed: u64) -> Self {
        let each = NonZeroUsize::MIN.saturating_add(entries.get() / SHARDS);
        let shard = || Mutex::new(LruCache::with_hasher(each, foldhash::fast::RandomState::default()));
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), seed }
    }

    /// The class and effects of a text.
    #[must_use]
    pub fn analyse(&self, text: &[u8], catalog: &Catalog) -> Analysis {
        let fingerprint = normal::fingerprint(text, self.seed);
        let key = (fingerprint, catalog.version());
        let entry = self.shard(fingerprint).get(&key).copied();
        if let Some(Entry::Known(analysis)) = entry {
            return analysis;
        }
        let mut analysis = classify::analyse(text, catalog, fingerprint);
        if entry.is_some() {
            analysis = refused(&analysis);
        }
        self.shard(fingerprint).put(key, Entry::Known(analysis));
        analysis
    }

    /// A replica said that a statement of this fingerprint writes (SQLSTATE 25006): it goes to the primary until the
    /// next catalog version.
    pub fn correct(&self, fingerprint: u64, catalog: &Catalog) {
        let mut shard = self.shard(fingerprint);
        let key = (fingerprint, catalog.version());
        let entry = match shard.get(&key) {
            Some(Entry::Known(analysis)) => Entry::Known(refused(analysis)),
            Some(Entry::Refused) | None => Entry::Refused,
        };
        shard.put(key, entry);
    }

    /// How many analyses are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, fingerprint: u64) -> MutexGuard<'_, Shard> {
        // The shard's own table uses the low bits, after mixing; the high bits are as good.
        let index = usize::try_from(fingerprint >> 32).unwrap_or_default() % SHARDS;
        lock(&self.shards[index])
    }
}

/// A shard is whole whenever its lock is free: nothing in here panics half-way through a change.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(analysis: &Analysis) -> Analysis {
    match analysis.class {
        Class::Read => Analysis::write(WriteReason::Function, analysis.effects, analysis.fingerprint),
        Class::Write(_) => *analysis,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::catalog::Facts;

    fn classifier() -> Classifier {
        Classifier::new(NonZeroUsize::new(64).unwrap(), 1)
    }

    #[test]
    fn a_text_has_one_analysis_however_often_it_is_asked_for() {
        let classifier = classifier();
        let catalog = Catalog::empty();
        for text in ["select 1", "insert into t values (1)", "select f()", "set x to 1", "select 'a\\'"] {
            let first = classifier.analyse(text.as_bytes(), &catalog);
            assert_eq!(classifier.analyse(text.as_bytes(), &catalog), first);
            assert_eq!(first.read_only().is_some(), first.class == Class::Read, "{text}");
        }
        assert_eq!(classifier.len(), 5);
        let _ = classifier.analyse(b"SELECT /* again */ 2", &catalog);
        assert_eq!(classifier.len(), 5);
    }

    #[test]
    fn another_catalog_is_another_answer() {
        let classifier = classifier();
        let read = |catalog: &Catalog| classifier.analyse(b"select * from t", catalog).class;
        assert_eq!(read(&Catalog::empty()), Class::Write(WriteReason::CatalogUnknown));
        assert_eq!(read(&Catalog::new(1, Facts::default())), Class::Write(WriteReason::Relation));
    }

    #[test]
    fn a_refusal_is_remembered_until_the_next_catalog() {
        let classifier = classifier();
        let (old, new) = (Catalog::new(1, Facts::default()), Catalog::new(2, Facts::default()));
        let analysis = classifier.analyse(b"select 1", &old);
        assert_eq!(analysis.class, Class::Read);
        classifier.correct(analysis.fingerprint, &old);
        let corrected = classifier.analyse(b"select 2", &old);
        assert_eq!(corrected.class, Class::Write(WriteReason::Function));
        assert!(corrected.read_only().is_none());
        assert_eq!(classifier.analyse(b"select 1", &new).class, Class::Read);

        // Also when the analysis was forgotten in between: its effects are found again.
        let fingerprint = classifier.analyse(b"select 1 from f()", &Catalog::empty()).fingerprint;
        classifier.correct(fingerprint, &new);
        assert!(matches!(classifier.analyse(b"select 1 from f()", &new).class, Class::Write(_)));
        assert!(classifier.analyse(b"select 1 from f()", &new).read_only().is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let classifier = classifier();
        for column in 0..1000 {
            let _ = classifier.analyse(format!("select a{column}").as_bytes(), &Catalog::empty());
        }
        assert!(classifier.len() <= 64 + SHARDS, "{}", classifier.len());
    }
}
