//! Classes by shape: a text is parsed once for each catalog, however often it comes and whatever its literals are.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// An analysis by its text's sketch, and the number of corrections that it knows of.
type Sketches = LruCache<u64, (Analysis, u64)>;

/// Which catalog an analysis was made with, and what it says. Databases number their catalogs alike, so the
/// hash of a shape is salted with the catalog's own identity.
type Shard = LruCache<u64, Analysis>;

/// Tells what statement texts do.
#[derive(Debug)]
pub struct Classifier {
    shards: Box<[Mutex<Shard>]>,
    /// In front of the shapes, for texts that need no lexer.
    sketches: Box<[Mutex<Sketches>]>,
    corrections: AtomicU64,
}

impl Default for Classifier {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(LruCache::new(SHAPES))).collect(),
            sketches: (0..SHARDS).map(|_| Mutex::new(LruCache::new(SHAPES))).collect(),
            corrections: AtomicU64::new(0),
        }
    }
}

impl Classifier {
    /// What `text` does in a database that contains `catalog`.
    pub fn analyse(&self, text: &[u8], catalog: &Catalog) -> Analysis {
        let Some(sketch) = normal::sketch(text, catalog.seed()) else { return self.analyse_shape(text, catalog) };
        let corrections = self.corrections.load(Ordering::Acquire);
        let sketches = &self.sketches[part(sketch)];
        if let Some((known, when)) = lock(sketches).get(&sketch)
            && *when == corrections
        {
            return *known;
        }
        let analysis = self.analyse_shape(text, catalog);
        lock(sketches).put(sketch, (analysis, corrections));
        analysis
    }

    fn analyse_shape(&self, text: &[u8], catalog: &Catalog) -> Analysis {
        let fingerprint = normal::fingerprint(text, catalog.seed());
        let known = self.shard(fingerprint).get(&fingerprint).copied();
        if let Some(known) = known {
            // What DO and SET leave behind is in their literals, which are no part of the shape.
            let literal = known.effects.concern_session();
            let effects = if literal { classify::effects(text, catalog) } else { known.effects };
            return Analysis { effects, ..known };
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
        drop(shard);
        self.corrections.fetch_add(1, Ordering::Release);
    }

    fn shard(&self, fingerprint: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[part(fingerprint)])
    }
}

fn part(hash: u64) -> usize {
    usize::try_from(hash >> 32).unwrap_or(0) % SHARDS
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Class;
    use super::*;

    #[test]
    fn a_correction_is_heeded_however_the_text_is_found() {
        let (classifier, catalog) = (Classifier::default(), Catalog::empty());
        let first = classifier.analyse(b"select 1", &catalog);
        assert_eq!(first.class(), Class::Read);
        assert_eq!(classifier.analyse(b"select 2", &catalog), first);
        classifier.correct(first.fingerprint);
        for text in [&b"select 1"[..], b"select 3", b"SELECT /* x */ 4"] {
            assert_eq!(classifier.analyse(text, &catalog).class(), Class::Write(WriteReason::Function));
        }
    }

    #[test]
    fn what_literals_do_is_not_remembered_for_others_of_the_shape() {
        let (classifier, catalog) = (Classifier::default(), Catalog::empty());
        for text in [
            "do $$ begin null; end $$",
            "do $$ begin create temp table t (); end $$",
            "do 'begin perform pg_advisory_lock(1); end'",
            "select set_config('a.b', 'c', false)",
            r"select set_config('a.b', E'\x41', false)",
            "do $$ begin null; end $$",
        ] {
            let alone = Classifier::default().analyse(text.as_bytes(), &catalog);
            assert_eq!(classifier.analyse(text.as_bytes(), &catalog), alone, "{text}");
        }
    }
}
