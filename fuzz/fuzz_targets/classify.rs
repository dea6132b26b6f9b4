//! The classifier on any bytes: it never panics, says the same each time, and the same with and without its cache.
#![no_main]

use std::sync::LazyLock;

use howdah::sql::catalog::Catalog;
use howdah::sql::classify::{self, Classifier};
use howdah::sql::{Class, hint, lasting};
use howdah_fuzz::{database, with_other_literals};
use libfuzzer_sys::fuzz_target;

static DATABASE: LazyLock<Catalog> = LazyLock::new(database);
static EMPTY: LazyLock<Catalog> = LazyLock::new(Catalog::empty);
static CACHE: LazyLock<Classifier> = LazyLock::new(Classifier::default);

fuzz_target!(|text: &[u8]| {
    let alone = Classifier::default().analyse(text, &DATABASE);
    // What comes from the cache may be from a text of the same shape, of this run or the next.
    if let Some(other) = with_other_literals(text) {
        let shape = CACHE.analyse(&other, &DATABASE);
        assert_eq!(shape.fingerprint, alone.fingerprint, "literals are no part of a shape");
    }
    for _ in 0..2 {
        let known = CACHE.analyse(text, &DATABASE);
        assert_eq!(known, alone, "the cache says something else");
        assert_eq!(known.read_only().is_some(), known.class() == Class::Read);
    }
    let _ = CACHE.analyse(text, &EMPTY);
    if alone.class() == Class::Read {
        assert_eq!(classify::culprit(text, &DATABASE), None);
    }
    let _ = (hint::parse(text), lasting(text));
});
