//! What a statement's text means besides its letters: PostgreSQL fixes the types of parameters, the columns of the
//! result and the values of constants when it parses, so clients may share a statement only where all that
//! decides these is the same.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::pins::Reason;
use super::{Held, Session};
use crate::sql::Analysis;
use crate::sql::catalog::Catalog;
use crate::sql::classify::Classifier;

/// What is asked while messages are observed.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    /// Tells what texts do.
    pub classifier: &'a Classifier,
    /// What is known of the client's database.
    pub catalog: &'a Catalog,
    /// The client's database and role on the servers, and how often definitions there have changed.
    pub objects: u64,
}

impl Outlook<'_> {
    /// What a statement text does.
    pub(super) fn analyse(&self, text: &[u8]) -> Analysis {
        self.classifier.analyse(text, self.catalog)
    }

    /// What it does with parameters of `types`, which stand as in a Parse: their count and their object identifiers.
    pub(super) fn analyse_with(&self, text: &[u8], types: &[u8]) -> Analysis {
        let (identifiers, _) = types.get(2..).unwrap_or_default().as_chunks();
        self.analyse(text).given(identifiers.iter().map(|bytes| u32::from_be_bytes(*bytes)), self.catalog)
    }
}

/// Settings that do not touch how a text is understood. All others count, also those that nobody has heard of.
const INDIFFERENT: [&str; 10] = [
    "application_name",
    "bytea_output",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "synchronous_commit",
    "work_mem",
];

/// Words whose meaning as a constant is the moment at which they are parsed.
const MOMENTS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

impl Session {
    /// A number that is equal where a text means the same; `None` where it may mean something to this client only.
    pub(super) fn scope(&self, outlook: &Outlook<'_>, text: &[u8]) -> Option<u64> {
        // A temporary table may stand in front of a table of the same name, and nobody sees SET LOCAL.
        if self.pins.has(Reason::Temporary)
            || self.pins.has(Reason::SessionState)
            || self.pins.scrub().is_some()
            || self.strays == Held::Something
            || is_momentary(text)
        {
            return None;
        }
        let settings = self.settings();
        let hash = FixedState::default();
        let start = hash.hash_one((outlook.objects, outlook.catalog.seed()));
        let relevant = settings.iter().filter(|(name, _)| !INDIFFERENT.contains(name) && !name.starts_with("howdah."));
        Some(relevant.fold(start, |so_far, setting| hash.hash_one((so_far, setting))))
    }
}

/// Whether a constant like `'now'` stands in `text`.
pub(super) fn is_momentary(text: &[u8]) -> bool {
    let quotes = text.iter().enumerate().filter(|(_, byte)| **byte == b'\'').map(|(at, _)| &text[at + 1..]);
    quotes.map(<[u8]>::trim_ascii_start).any(|rest| {
        MOMENTS.iter().any(|word| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
    })
}

#[cfg(test)]
mod tests {
    use super::is_momentary;

    #[test]
    fn moments_are_seen_in_constants_only() {
        for (text, expected) in [
            ("select 'now'::timestamptz", true),
            ("select timestamp ' Tomorrow '", true),
            ("select now(), today from t", false),
            ("select 'x'", false),
            ("select '", false),
        ] {
            assert_eq!(is_momentary(text.as_bytes()), expected, "{text}");
        }
    }
}
