//! Stand-in.
use super::catalog::Catalog;
use super::hint::Hint;
use super::{Analysis, Class, Effects, WriteReason};

/// Proof that a statement changes nothing. Stand-in until the real one is merged.
#[derive(Debug)]
pub struct ReadOnly(());

impl ReadOnly {
    /// The proof, when the analysis gives it.
    pub fn of(analysis: &Analysis) -> Option<Self> {
        (analysis.class == Class::Read).then_some(Self(()))
    }
    /// T.
    pub fn transaction() -> Self {
        Self(())
    }
    /// H.
    pub fn by_order(_: &Hint) -> Option<Self> {
        None
    }
}
/// C.
#[derive(Debug, Default)]
pub struct Classifier;
impl Classifier {
    /// A.
    pub fn analyse(&self, text: &[u8], _: &Catalog) -> Analysis {
        let t = String::from_utf8_lossy(text).to_lowercase();
        let w = t.trim_start().split(|c: char| !c.is_alphabetic()).next().unwrap_or("").to_owned();
        let class =
            if w == "select" && !t.contains("pg_") { Class::Read } else { Class::Write(WriteReason::Statement) };
        let effects =
            if ["begin", "commit", "rollback", "end", "set", "reset", "discard", "start"].contains(&w.as_str()) {
                Effects::COMMANDS
            } else {
                Effects::default()
            };
        Analysis { class, effects, fingerprint: 0 }
    }
    /// C.
    pub fn correct(&self, _: u64) {}
}
