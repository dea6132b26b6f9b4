//! Whether a node can be reached, and when to try again. Pure.

use std::time::{Duration, Instant};

/// Whether a node answers.
///
/// ```text
///   Unknown --Answered--> Up --Failed--> Down --Answered--> Up
///      |                   ^               |
///      +---StartingUp--> Starting <--StartingUp
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It has not been tried to the end yet.
    Unknown,
    /// It answers.
    Up,
    /// It answers 57P03 (`cannot_connect_now`): it is starting up or shutting down.
    Starting,
    /// It does not answer.
    Down,
}

/// What happened on the way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It answered what it was asked.
    Answered,
    /// It said 57P03.
    StartingUp,
    /// It could not be reached, or the connection broke, or an answer did not come in time.
    Failed,
}

/// The health of one node. One broken connection is enough to be down: positions known of it are
/// void anyway, and the first attempt to come back follows at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Health {
    reach: Reach,
    /// Attempts since it was last up.
    attempts: u32,
    /// When it last came up.
    came: Option<Instant>,
}

/// The pause before the second attempt; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A node that was up for less than this gets no immediate attempt.
const STABLE: Duration = Duration::from_secs(1);

impl Health {
    pub(super) const NEW: Self = Self { reach: Reach::Unknown, attempts: 0, came: None };

    /// Whether the node answers.
    pub(super) const fn reach(&self) -> Reach {
        self.reach
    }

    /// Takes in what happened at `now`.
    pub(super) fn step(&mut self, event: Event, now: Instant) {
        match (self.reach, event) {
            // ## Up => Up
            (Reach::Up, Event::Answered) => {}
            // ## Unknown | Starting | Down => Up
            (_, Event::Answered) => {
                *self = Self { reach: Reach::Up, attempts: 0, came: Some(now) };
            }
            // ## Up => Starting | Down
            (Reach::Up, failure) => {
                let stable = self.came.is_some_and(|came| now.saturating_duration_since(came) >= STABLE);
                *self = Self { reach: after(failure), attempts: u32::from(!stable), came: None };
            }
            // ## Unknown | Starting | Down => Starting | Down
            (_, failure) => {
                self.reach = after(failure);
                self.attempts = self.attempts.saturating_add(1);
            }
        }
    }

    /// How long to pause before the next attempt: nothing after the loss of a stable connection,
    /// then 100 ms, doubling up to `most`; a quarter more or less by chance, so that many who
    /// lost a node together do not come back together.
    pub(super) fn pause(&self, most: Duration, random: u32) -> Duration {
        if self.attempts == 0 {
            return Duration::ZERO;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << (self.attempts - 1).min(16));
        let base = match self.reach {
            // It said that it will be there soon.
            Reach::Starting => FIRST_PAUSE,
            _ => doubled,
        };
        let base = base.min(most);
        base * 3 / 4 + base.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }
}

const fn after(failure: Event) -> Reach {
    match failure {
        Event::StartingUp => Reach::Starting,
        Event::Failed | Event::Answered => Reach::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Steps through events at given milliseconds and expects reach and pause (at middling chance).
    fn check(story: &[(u64, Event, Reach, u64)]) {
        let base = Instant::now();
        let mut health = Health::NEW;
        for (at, event, reach, pause) in story {
            health.step(*event, base + Duration::from_millis(*at));
            assert_eq!(health.reach(), *reach, "{story:?} at {at}");
            let got = health.pause(SECOND, u32::MAX / 2);
            assert_eq!(got.as_millis(), u128::from(*pause), "{story:?} at {at}");
        }
    }

    #[test]
    fn a_broken_connection_is_tried_again_at_once_then_with_growing_pauses() {
        use Event::{Answered, Failed, StartingUp};
        use Reach::{Down, Starting, Up};
        check(&[
            (0, Answered, Up, 0),
            (5000, Failed, Down, 0),
            (5001, Failed, Down, 99),
            (5101, Failed, Down, 199),
            (5301, StartingUp, Starting, 99),
            (5401, Answered, Up, 0),
            // Up for too short a time: no immediate attempt.
            (5402, Failed, Down, 99),
        ]);
    }

    #[test]
    fn pauses_are_bounded_and_spread() {
        let now = Instant::now();
        let mut health = Health::NEW;
        for _ in 0..100 {
            health.step(Event::Failed, now);
        }
        assert_eq!(health.pause(SECOND, 0), SECOND * 3 / 4);
        assert!(health.pause(SECOND, u32::MAX) <= SECOND * 5 / 4);
        assert!(health.pause(Duration::from_millis(10), u32::MAX) <= Duration::from_millis(13));
    }
}
