//! WAL that nobody has flushed, and when to have it flushed. Pure.
//!
//! Replicas get WAL once the primary has flushed it. Every commit that waits for the disk flushes, but
//! what a transaction that is rolled back leaves behind (a read prunes pages, too) is flushed by
//! nobody: `RecordTransactionAbort` (`xact.c`) asks for nothing when there was no transaction id, and
//! the WAL writer leaves an incomplete page alone until the background writer logs a snapshot, up to
//! 15 s later. The insert position stands behind that WAL, so replicas would look late for as long.

use std::time::{Duration, Instant};

use crate::types::Lsn;

/// Where a primary's WAL ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The end of its last record, `pg_current_wal_insert_lsn()` with page headers taken off.
    pub(super) end: Lsn,
    /// `pg_current_wal_flush_lsn()`: replicas get nothing beyond.
    pub(super) flushed: Lsn,
}

/// How long a commit under way gets to flush what somebody waits for, before we do.
const IN_DEMAND: Duration = Duration::from_millis(2);
/// The same while nobody waits: reads avoid replicas that seem late, and lag would be reported.
const UNASKED: Duration = Duration::from_secs(1);

/// The end of a primary's WAL, as far as it is not flushed.
#[derive(Debug, Default)]
pub(super) struct Tail(Option<Stuck>);

#[derive(Clone, Copy, Debug)]
struct Stuck {
    end: Lsn,
    since: Instant,
    /// Once per position is enough: where a flush was in vain, the next would be, too.
    asked: bool,
}

impl Tail {
    /// The primary has said `written` to a question asked at `requested`.
    pub(super) fn sampled(&mut self, written: Written, requested: Instant) {
        // While commits come, positions do not stay behind the flush position for long.
        if self.0.is_none_or(|stuck| stuck.end <= written.flushed) {
            let ahead = written.end > written.flushed;
            self.0 = ahead.then_some(Stuck { end: written.end, since: requested, asked: false });
        }
    }

    /// The position to flush, and when.
    pub(super) fn due(&self, demand: Demand) -> Option<(Lsn, Instant)> {
        let patience = match demand {
            Demand::Waiting => IN_DEMAND,
            Demand::Nobody => UNASKED,
        };
        self.0.filter(|stuck| !stuck.asked).map(|stuck| (stuck.end, stuck.since + patience))
    }

    /// The flush was asked for.
    pub(super) fn asked(&mut self, end: Lsn) {
        if let Some(stuck) = self.0.as_mut().filter(|stuck| stuck.end <= end) {
            stuck.asked = true;
        }
    }
}

/// Whether reads wait for replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Some do.
    Waiting,
    /// None does.
    Nobody,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(end: u64, flushed: u64) -> Written {
        Written { end: Lsn(end), flushed: Lsn(flushed) }
    }

    #[test]
    fn what_stays_unflushed_is_flushed_once() {
        let base = Instant::now();
        let at = |millis| base + Duration::from_millis(millis);
        let mut tail = Tail::default();
        tail.sampled(written(100, 100), at(0));
        assert_eq!(tail.due(Demand::Waiting), None);
        tail.sampled(written(110, 100), at(10));
        assert_eq!(tail.due(Demand::Waiting), Some((Lsn(110), at(12))));
        assert_eq!(tail.due(Demand::Nobody), Some((Lsn(110), at(1010))));
        // Asked again and again, for the sake of strong reads: it has been there since the first time.
        tail.sampled(written(120, 109), at(11));
        assert_eq!(tail.due(Demand::Waiting), Some((Lsn(110), at(12))));
        tail.asked(Lsn(110));
        assert_eq!(tail.due(Demand::Waiting), None);
        tail.sampled(written(120, 109), at(20));
        assert_eq!(tail.due(Demand::Nobody), None, "a flush that did not help is not repeated");
        tail.sampled(written(130, 110), at(30));
        assert_eq!(tail.due(Demand::Waiting), Some((Lsn(130), at(32))));
        tail.sampled(written(130, 140), at(40));
        assert_eq!(tail.due(Demand::Waiting), None);
    }

    #[test]
    fn commits_that_flush_leave_nothing_to_do() {
        let base = Instant::now();
        let mut tail = Tail::default();
        for step in 0..100 {
            let now = base + Duration::from_millis(step);
            tail.sampled(written(100 + 10 * step, 95 + 10 * step), now);
            assert!(tail.due(Demand::Waiting).is_some_and(|(_, due)| due > now), "at {step}");
        }
    }
}
