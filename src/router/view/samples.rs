//! Where the primary's WAL ended, and when that was asked: the one history that consistency and
//! lag are read from.
//!
//! A position that was *requested* at some moment covers every write acknowledged before that
//! moment, and a replica that has replayed the position has all of them. This room does not know
//! who asks and how; positions of different timelines or incarnations never meet in one history.

use std::time::{Duration, Instant};

use crate::types::Lsn;

/// One sample of the primary's insert position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The number of the request that brought it. Rounds only grow.
    pub round: u64,
    /// When the request was about to be sent.
    pub requested: Instant,
    /// `pg_current_wal_insert_lsn()`, with page headers taken off.
    pub lsn: Lsn,
}

/// Samples of one primary on one timeline, oldest first.
///
/// Invariants: `round`, `requested` and `lsn` all grow, `lsn` strictly (an idle primary's samples
/// are one point, as new as the newest); at most [`KEPT`] points. Where points had to go, the
/// answers err towards a later position and an older age, never the other way.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    points: Vec<Point>,
}

/// Most points kept. Old ones are thinned by half each time, so that the spacing grows with the age.
const KEPT: usize = 128;

impl Samples {
    /// Takes in a sample that was requested after all that are here.
    ///
    /// A position before the newest one means that the primary lost WAL (it crashed): what was
    /// known is forgotten.
    pub fn push(&mut self, point: Point) {
        match self.points.last_mut() {
            Some(last) if point.round <= last.round => return,
            Some(last) if point.lsn == last.lsn => {
                *last = point;
                return;
            }
            Some(last) if point.lsn < last.lsn => self.points.clear(),
            _ => {}
        }
        if self.points.len() >= KEPT {
            self.thin();
        }
        self.points.push(point);
    }

    fn thin(&mut self) {
        let mut index = 0;
        self.points.retain(|_| {
            index += 1;
            index > KEPT / 2 || index % 2 == 0
        });
    }

    /// The newest sample.
    pub fn newest(&self) -> Option<Point> {
        self.points.last().copied()
    }

    /// What a node must have replayed to have every write that `round` covers; `None` while no
    /// sample of that round or a later one is here.
    pub fn token(&self, round: u64) -> Option<Lsn> {
        let at = self.points.partition_point(|point| point.round < round);
        self.points.get(at).map(|point| point.lsn)
    }

    /// The moment before which every acknowledged write has been replayed by a node that reached
    /// `lsn`; `None` when that is not known.
    pub fn covered(&self, lsn: Lsn) -> Option<Instant> {
        let after = self.points.partition_point(|point| point.lsn <= lsn);
        after.checked_sub(1).and_then(|at| self.points.get(at)).map(|point| point.requested)
    }

    /// For how long, at least, a node that had only reached `lsn` at `asked` had been behind.
    /// A guess for deciding whether waiting is worth while, never a promise.
    pub fn behind(&self, lsn: Lsn, asked: Instant) -> Duration {
        let after = self.points.partition_point(|point| point.lsn <= lsn);
        self.points.get(after).map_or(Duration::ZERO, |missing| asked.saturating_duration_since(missing.requested))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(base: Instant, round: u64, millis: u64, lsn: u64) -> Point {
        Point { round, requested: base + Duration::from_millis(millis), lsn: Lsn(lsn) }
    }

    fn history(base: Instant, points: &[(u64, u64, u64)]) -> Samples {
        let mut samples = Samples::default();
        for &(round, millis, lsn) in points {
            samples.push(point(base, round, millis, lsn));
        }
        samples
    }

    #[test]
    fn the_earliest_sample_of_a_round_or_later_is_the_token() {
        let base = Instant::now();
        let samples = history(base, &[(3, 0, 100), (5, 10, 200), (9, 20, 300)]);
        for (round, token) in
            [(0, Some(100)), (3, Some(100)), (4, Some(200)), (5, Some(200)), (9, Some(300)), (10, None)]
        {
            assert_eq!(samples.token(round), token.map(Lsn), "round {round}");
        }
        assert_eq!(Samples::default().token(0), None);
    }

    #[test]
    fn an_idle_primary_is_one_point_as_new_as_its_newest_sample() {
        let base = Instant::now();
        let samples = history(base, &[(1, 0, 100), (2, 1000, 100), (3, 2000, 100)]);
        assert_eq!(samples.points, [point(base, 3, 2000, 100)]);
        assert_eq!(samples.covered(Lsn(100)), Some(base + Duration::from_secs(2)));
        assert_eq!(samples.covered(Lsn(99)), None);
    }

    #[test]
    fn lag_is_the_age_of_the_newest_sample_that_was_replayed() {
        let base = Instant::now();
        let at = |millis| base + Duration::from_millis(millis);
        let samples = history(base, &[(1, 0, 100), (2, 1000, 200), (3, 2000, 300)]);
        for (lsn, covered) in [(99, None), (100, Some(0)), (199, Some(0)), (200, Some(1000)), (999, Some(2000))] {
            assert_eq!(samples.covered(Lsn(lsn)), covered.map(at), "{lsn}");
        }
        assert_eq!(samples.behind(Lsn(300), at(5000)), Duration::ZERO);
        assert_eq!(samples.behind(Lsn(200), at(5000)), Duration::from_secs(3));
        assert_eq!(samples.behind(Lsn(200), at(1900)), Duration::ZERO);
    }

    #[test]
    fn a_primary_that_lost_wal_starts_anew_and_late_rounds_are_ignored() {
        let base = Instant::now();
        let samples = history(base, &[(1, 0, 100), (2, 10, 200), (3, 20, 150)]);
        assert_eq!(samples.points, [point(base, 3, 20, 150)]);
        let samples = history(base, &[(4, 0, 100), (2, 10, 200)]);
        assert_eq!(samples.points, [point(base, 4, 0, 100)]);
    }

    proptest! {
        /// Whatever was thinned out: a token is never below what the full history says, an age never younger.
        #[test]
        fn thinning_errs_on_the_safe_side(
            steps in proptest::collection::vec((1_u64..3, 0_u64..50, 0_u64..40), 1..600),
            ask in 0_u64..1200,
            replayed in 0_u64..24_000,
        ) {
            let base = Instant::now();
            let (mut round, mut millis, mut lsn) = (0, 0, 0);
            let mut full = Vec::new();
            let mut samples = Samples::default();
            for (rounds, pause, bytes) in steps {
                round += rounds;
                millis += pause;
                lsn += bytes;
                full.push(point(base, round, millis, lsn));
                samples.push(point(base, round, millis, lsn));
            }
            prop_assert!(samples.points.len() <= KEPT);
            prop_assert!(samples.points.windows(2).all(|pair| pair[0].lsn < pair[1].lsn && pair[0].round < pair[1].round));
            let exact = full.iter().find(|point| point.round >= ask).map(|point| point.lsn);
            prop_assert_eq!(samples.token(ask).is_some(), exact.is_some());
            prop_assert!(samples.token(ask) >= exact);
            let covered = full.iter().rev().find(|point| point.lsn <= Lsn(replayed)).map(|point| point.requested);
            prop_assert!(samples.covered(Lsn(replayed)) <= covered);
        }
    }
}
