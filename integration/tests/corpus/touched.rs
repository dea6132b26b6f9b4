//! What a transaction has really read and written, by the statistics that its server keeps of it.

use std::collections::BTreeMap;

use howdah::sql::reach::Reach;
use howdah_integration::wire::Message;

use crate::twin::values;

/// Scans and changed rows of relations, by name.
#[derive(Debug, Default)]
pub(crate) struct Touched(BTreeMap<String, [u64; 2]>);

/// What of it is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Scans = 0,
    Changes = 1,
}

impl Touched {
    /// What asks for it, within the transaction.
    pub(crate) const QUERY: &str = "SELECT relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0), \
         n_tup_ins + n_tup_upd + n_tup_del FROM pg_catalog.pg_stat_xact_user_tables \
         WHERE coalesce(seq_scan, 0) + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd + n_tup_del > 0";

    pub(crate) fn of(messages: &[Message]) -> Self {
        let mut all = Self::default();
        for row in messages.iter().filter(|message| message.tag == b'D') {
            if let [Some(name), Some(scans), Some(changes)] = values(&row.body).as_slice() {
                let counts = all.0.entry(name.clone()).or_default();
                counts[0] += scans.parse::<u64>().unwrap_or_default();
                counts[1] += changes.parse::<u64>().unwrap_or_default();
            }
        }
        all
    }

    /// A relation that was touched since `before` and is not within `reach`, where `alone` is what reading it alone reaches: itself and
    /// its family, and what its policies read.
    pub(crate) fn beyond(
        &self,
        before: &Self,
        touch: Touch,
        reach: Reach,
        alone: impl Fn(&str) -> Reach,
    ) -> Option<&str> {
        let within = |name: &str| {
            let alone = alone(name);
            // Of what may not be read on replicas it is not known.
            let known = !alone.is_everything() && !alone.marks().is_empty();
            !known || alone.marks().iter().any(|mark| reach.marks().contains(mark))
        };
        let more = |(name, counts): &(&String, &[u64; 2])| {
            let known = before.0.get(*name).copied().unwrap_or_default();
            counts[touch as usize] > known[touch as usize]
        };
        self.0.iter().filter(more).map(|(name, _)| name.as_str()).find(|name| !within(name))
    }
}
