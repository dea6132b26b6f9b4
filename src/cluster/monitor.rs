//! One task per node: it owns the monitor's connection, looks at the node at each tick, and runs
//! errands in between for those who wait for a position.
//!
//! One question is in flight at a time, whoever waits for the answer. A connection that breaks
//! makes the node unusable at once, and what was known of it void.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::health::Event;
use super::probe::{Probe, ProbeError};
use super::shared::Shared;
use super::waiters::Errand;
use crate::server::connect::Login;
use crate::server::query::QueryError;

/// What one node's task works with.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) shared: Arc<Shared>,
    /// The node's index in the view.
    pub(super) index: usize,
    pub(super) login: Login,
    /// `monitor.interval`.
    pub(super) interval: Duration,
    /// `monitor.timeout`.
    pub(super) timeout: Duration,
}

/// Most time between looks, and between attempts to connect, while there is no primary.
const WITHOUT_PRIMARY: Duration = Duration::from_millis(250);
/// Most time between looks at a replica that is behind: reads avoid it until it is seen to have caught up.
const LATE: Duration = Duration::from_millis(100);
/// Least time between looks, however many suspect the node.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// Least time between bursts of questions for errands.
const BETWEEN_ERRANDS: Duration = Duration::from_millis(1);
/// How many questions a burst has: a replica on the same host needs two to four to be seen catching up.
const EAGER: u32 = 5;

impl Monitor {
    /// Watches the node until `stop` is closed.
    pub(super) async fn run(self, mut stop: watch::Receiver<()>) {
        tokio::select! {
            () = self.watch() => {}
            // Nothing is ever sent: the cluster was dropped.
            _ = stop.changed() => {}
        }
    }

    async fn watch(&self) {
        loop {
            let Err(error) = Box::pin(self.attend()).await;
            let event = if error.is_starting() { Event::StartingUp } else { Event::Failed };
            let pause = self.shared.failed(self.index, event, &error.to_string(), self.pace());
            sleep(pause).await;
        }
    }

    /// Time between looks as things are.
    fn pace(&self) -> Duration {
        let view = self.shared.load();
        let now = Instant::now();
        if view.primary.is_none() {
            self.interval.min(WITHOUT_PRIMARY)
        } else if view.lag(self.index, now).bytes.is_some_and(|bytes| bytes > 0) {
            self.interval.min(LATE)
        } else {
            self.interval
        }
    }

    /// Looks and runs errands for as long as the connection lasts.
    async fn attend(&self) -> Result<Infallible, ProbeError> {
        let mut probe = Probe::open(&self.login, self.timeout).await?;
        self.shared.connected(self.index);
        let mut looked = self.look(&mut probe).await?;
        let mut pace = Pace::default();
        let mut suspected = false;
        let mut deaf_until = looked;
        loop {
            suspected |= self.shared.take_suspicion(self.index);
            let due = looked + if suspected { BETWEEN_LOOKS } else { self.pace() };
            if due <= Instant::now() {
                suspected = false;
                looked = self.look(&mut probe).await?;
                continue;
            }
            let unflushed = self.shared.unflushed(self.index);
            let flush = unflushed.filter(|(_, due)| *due <= Instant::now()).map(|(end, _)| Errand::Flush(end));
            let Some(errand) = self.shared.errand(self.index).or(flush) else {
                let due = unflushed.map_or(due, |(_, flush)| due.min(flush));
                tokio::select! {
                    () = self.shared.called(self.index) => {}
                    () = sleep_until(due.into()) => {}
                    // It speaks unasked: most likely a farewell, which the look will find.
                    () = probe.stirs(), if deaf_until <= Instant::now() => {
                        suspected = true;
                        // Should it have been nothing, once per interval is enough.
                        deaf_until = Instant::now() + self.interval;
                    }
                }
                continue;
            };
            if let Some(until) = pace.pause(Instant::now()) {
                sleep_until(until.into()).await;
                continue;
            }
            looked = self.errand(&mut probe, errand, looked).await?;
        }
    }

    async fn look(&self, probe: &mut Probe) -> Result<Instant, ProbeError> {
        let asked = self.shared.ask();
        let look = probe.look().await?;
        self.shared.looked(self.index, &look, asked);
        Ok(asked.requested())
    }

    /// Answers when the node was last looked at.
    async fn errand(&self, probe: &mut Probe, errand: Errand, looked: Instant) -> Result<Instant, ProbeError> {
        match errand {
            Errand::Sample => {
                self.shared.samples.fetch_add(1, Ordering::Relaxed);
                let asked = self.shared.ask();
                let written = probe.sample().await?;
                self.shared.sampled(self.index, written, asked);
            }
            Errand::Flush(end) => {
                match probe.flush(end).await {
                    // A server that does not let us flush is as good as one that flushes late.
                    Err(ProbeError::Query(QueryError::Server(report))) => {
                        tracing::debug!(error = report.message, "the primary's WAL could not be flushed");
                    }
                    done => done?,
                }
                self.shared.flushed(self.index, end);
            }
            Errand::Replay => {
                let timeline = self.shared.view().nodes.get(self.index).and_then(|node| node.timeline);
                let requested = Instant::now();
                match probe.replayed(timeline).await {
                    Ok(lsn) => self.shared.replayed(self.index, lsn, requested),
                    // It was promoted, or follows another primary now.
                    Err(ProbeError::Changed) => return self.look(probe).await,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(looked)
    }
}

/// The rhythm of errands: bursts of [`EAGER`] with [`BETWEEN_ERRANDS`] between them. The timer's grain
/// is a millisecond, so a pause before every question would cost every read that long.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    streak: u32,
}

impl Pace {
    /// When to ask, if not at once; counts the question when at once.
    fn pause(&mut self, now: Instant) -> Option<Instant> {
        let next = self.last.map(|last| last + BETWEEN_ERRANDS);
        match next {
            Some(next) if now < next && self.streak >= EAGER => return Some(next),
            Some(next) if now < next => self.streak += 1,
            _ => self.streak = 1,
        }
        self.last = Some(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_in_bursts() {
        let base = Instant::now();
        let at = |micros| base + Duration::from_micros(micros);
        let mut pace = Pace::default();
        for (micros, pause) in [
            (0, None),
            (100, None),
            (200, None),
            (300, None),
            (400, None),
            (500, Some(1400)),
            (1400, None),
            (1500, None),
            (9000, None),
        ] {
            assert_eq!(pace.pause(at(micros)), pause.map(at), "at {micros} µs");
        }
    }
}
