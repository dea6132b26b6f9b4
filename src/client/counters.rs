//! What is counted of clients in all; each is one relaxed addition.

use super::exchange::Ran;
use crate::router::reason::Reason;
use crate::telemetry::counters::Counter;

/// Totals since the start.
#[derive(Debug)]
pub struct Counters {
    /// Logins that were refused.
    pub login_failures: Counter,
    /// Batches that a replica would not do and the primary did, unseen.
    pub retries: Counter,
    /// Errors that Howdah itself sent to clients.
    pub client_errors: Counter,
    /// Cancel requests.
    pub cancels: Counter,
    /// Bytes received from clients that have left.
    pub bytes_received: Counter,
    /// Bytes sent to clients that have left.
    pub bytes_sent: Counter,
    primary: Box<[Counter]>,
    replica: Box<[Counter]>,
}

impl Default for Counters {
    fn default() -> Self {
        let by_reason = || Reason::ALL.iter().map(|_| Counter::default()).collect();
        Self {
            login_failures: Counter::default(),
            retries: Counter::default(),
            client_errors: Counter::default(),
            cancels: Counter::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            primary: by_reason(),
            replica: by_reason(),
        }
    }
}

impl Counters {
    pub(super) fn routed(&self, ran: Ran, reason: Reason) {
        let index = Reason::ALL.iter().position(|other| *other == reason);
        let counts = match ran {
            Ran::OnPrimary => &self.primary,
            Ran::OnReplica => &self.replica,
        };
        if let Some(count) = index.and_then(|index| counts.get(index)) {
            count.increment();
        }
    }

    /// Servers lent, by where they led and why: `primary` or `replica`, the reason, how often.
    pub fn by_reason(&self) -> Vec<(&'static str, Reason, u64)> {
        use crate::telemetry::counters::Tallied;
        let both = [("primary", &self.primary), ("replica", &self.replica)];
        let counted = both.into_iter().flat_map(|(target, counts)| {
            Reason::ALL.iter().zip(counts).map(move |(reason, count)| (target, *reason, count.read()))
        });
        counted.filter(|(_, _, count)| *count > 0).collect()
    }
}
