//! Plain counters that rooms hold and bump; somebody else reads and exports them.
//!
//! Every operation is one relaxed atomic addition: no names, no locks, no allocation. What several
//! workers count at once is kept per worker in [`Sharded`] and summed when it is read, so that no
//! cache line travels between cores with every transaction.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A count that goes up and down, such as connections that are open now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// How long something took: counts in fixed buckets ([`LATENCY_BOUNDS_US`]) and their sum.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [Counter; LATENCY_BUCKETS],
    sum_us: Counter,
}

/// Upper bounds of the buckets of a [`Latency`] in microseconds, inclusive; the last bucket has none.
pub const LATENCY_BOUNDS_US: [u64; LATENCY_BUCKETS - 1] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Buckets of a [`Latency`], the unbounded one included.
pub const LATENCY_BUCKETS: usize = 19;

/// What a [`Latency`] held when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyTotals {
    /// Events per bucket, each counted once (not cumulative).
    pub buckets: [u64; LATENCY_BUCKETS],
    /// Sum of all durations in microseconds.
    pub sum_us: u64,
}

/// Something that can be read into a plain value.
pub trait Tallied {
    /// The plain value; values of several shards add up.
    type Total: Default + AddAssign;

    /// What was counted so far.
    fn read(&self) -> Self::Total;
}

/// One `T` for each worker.
#[derive(Debug)]
pub struct Sharded<T> {
    shards: Box<[Padded<T>]>,
}

/// Two cache lines: neighbours are fetched in pairs on current x86.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// Counts by a small set of labels known in advance, such as reasons for pinning.
#[derive(Debug)]
pub struct Tally {
    labels: &'static [&'static str],
    counts: Box<[Counter]>,
}

/// Counts of errors by SQLSTATE class, the first two characters.
#[derive(Debug)]
pub struct SqlStateTally {
    counts: Box<[Counter]>,
}

macro_rules! stats {
    (
        $(#[$meta:meta])* $stats:ident,
        $(#[$totals_meta:meta])* $totals:ident
        { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $stats { $($(#[$field_meta])* pub $field: $type,)* }

        $(#[$totals_meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $totals { $($(#[$field_meta])* pub $field: <$type as Tallied>::Total,)* }

        impl Tallied for $stats {
            type Total = $totals;

            fn read(&self) -> $totals {
                $totals { $($field: self.$field.read(),)* }
            }
        }

        impl AddAssign for $totals {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

stats! {
    /// What clients of one database and user did.
    ClientStats,
    /// What [`ClientStats`] held when it was read.
    ClientTotals {
        /// Clients that logged in.
        logins: Counter,
        /// Bytes received from clients.
        bytes_received: Counter,
        /// Bytes sent to clients.
        bytes_sent: Counter,
        /// Parse messages from clients.
        client_parse_count: Counter,
        /// Bind messages from clients.
        bind_count: Counter,
    }
}

stats! {
    /// What the servers of one pool (node × database × user) did for clients.
    PoolStats,
    /// What [`PoolStats`] held when it was read.
    PoolTotals {
        /// Times a server was lent to a client.
        server_assignment_count: Counter,
        /// Transactions.
        xact_count: Counter,
        /// Queries: batches that ended with `ReadyForQuery`.
        query_count: Counter,
        /// Parse messages sent to servers.
        server_parse_count: Counter,
        /// Time servers spent in transactions, waits for the client included.
        xact_time: Latency,
        /// Time servers spent on queries.
        query_time: Latency,
        /// Time clients waited for a server.
        wait_time: Latency,
    }
}

stats! {
    /// What became of the server connections of one pool (node × database × user).
    ServerStats,
    /// What [`ServerStats`] held when it was read.
    ServerTotals {
        /// Connections that were opened and logged in.
        connects: Counter,
        /// Attempts that failed.
        connect_failures: Counter,
        /// Connections that ended, whoever ended them.
        disconnects: Counter,
        /// Bytes received from servers.
        bytes_received: Counter,
        /// Bytes sent to servers.
        bytes_sent: Counter,
    }
}

// === impl Counter ===

impl Counter {
    /// What was counted so far.
    pub fn value(&self) -> u64 {
        self.read()
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

impl Tallied for Counter {
    type Total = u64;

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Gauge ===

impl Gauge {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less; each call must answer one `increment`.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Latency ===

impl Latency {
    /// Counts one event that took `duration`.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|&bound| bound < micros);
        self.buckets[bucket].increment();
        self.sum_us.add(micros);
    }
}

impl Tallied for Latency {
    type Total = LatencyTotals;

    fn read(&self) -> LatencyTotals {
        LatencyTotals { buckets: std::array::from_fn(|bucket| self.buckets[bucket].read()), sum_us: self.sum_us.read() }
    }
}

// === impl LatencyTotals ===

impl LatencyTotals {
    /// How many events were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl AddAssign for LatencyTotals {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_us += other.sum_us;
    }
}

// === impl Sharded ===

impl<T: Default> Sharded<T> {
    /// One `T` for each of `workers`; at least one.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { shards: (0..workers.max(1)).map(|_| Padded::default()).collect() }
    }
}

impl<T> Sharded<T> {
    /// The shard of `worker`; workers beyond those it was made for share.
    pub fn of(&self, worker: usize) -> &T {
        &self.shards[worker % self.shards.len()].0
    }

    /// All shards.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|shard| &shard.0)
    }
}

impl<T: Tallied> Tallied for Sharded<T> {
    type Total = T::Total;

    fn read(&self) -> T::Total {
        let mut total = T::Total::default();
        for shard in self.iter() {
            total += shard.read();
        }
        total
    }
}

// === impl Tally ===

impl Tally {
    /// Counts for each of `labels`, all zero.
    #[must_use]
    pub fn new(labels: &'static [&'static str]) -> Self {
        Self { labels, counts: labels.iter().map(|_| Counter::default()).collect() }
    }

    /// Adds one to the label at `index`; nothing when there is no such label.
    pub fn increment(&self, index: usize) {
        if let Some(counter) = self.counts.get(index) {
            counter.increment();
        }
    }

    /// Every label with its count.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.labels.iter().zip(&self.counts).map(|(&label, counter)| (label, counter.read()))
    }
}

// === impl SqlStateTally ===

impl Default for SqlStateTally {
    fn default() -> Self {
        Self { counts: (0..DIGITS.len() * DIGITS.len()).map(|_| Counter::default()).collect() }
    }
}

impl SqlStateTally {
    /// Counts one error; codes that are none count as `XX`.
    pub fn record(&self, code: [u8; 5]) {
        let class = digit(code[0]).zip(digit(code[1])).unwrap_or(UNKNOWN_CLASS);
        self.counts[class.0 * DIGITS.len() + class.1].increment();
    }

    /// Every class that occurred with its count.
    pub fn read(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let class = |index: usize| [DIGITS[index / DIGITS.len()], DIGITS[index % DIGITS.len()]].map(char::from);
        self.counts
            .iter()
            .map(Counter::read)
            .enumerate()
            .filter(|&(_, count)| count > 0)
            .map(move |(index, count)| (class(index).iter().collect(), count))
    }
}

fn digit(byte: u8) -> Option<usize> {
    DIGITS.iter().position(|&digit| digit == byte)
}

/// What SQLSTATE codes are made of.
const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// `XX`: internal error.
const UNKNOWN_CLASS: (usize, usize) = (33, 33);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up_and_strangers_share() {
        let stats = Sharded::<PoolStats>::new(2);
        for worker in 0..3 {
            stats.of(worker).xact_count.increment();
            stats.of(worker).wait_time.record(Duration::from_micros(10));
        }
        assert_eq!(stats.of(2).xact_count.read(), 2);
        let total = stats.read();
        assert_eq!((total.xact_count, total.wait_time.count(), total.wait_time.sum_us), (3, 3, 30));
        assert_eq!(Sharded::<ClientStats>::new(0).read(), ClientTotals::default());
    }

    #[test]
    fn bounds_are_inclusive_and_the_last_bucket_takes_all() {
        let check = |duration: Duration, bucket: usize| {
            let latency = Latency::default();
            latency.record(duration);
            assert_eq!(latency.read().buckets[bucket], 1, "{duration:?}");
        };
        assert!(LATENCY_BOUNDS_US.is_sorted());
        check(Duration::ZERO, 0);
        check(Duration::from_micros(50), 0);
        check(Duration::from_micros(51), 1);
        check(Duration::from_secs(30), LATENCY_BUCKETS - 2);
        check(Duration::from_secs(31), LATENCY_BUCKETS - 1);
        check(Duration::MAX, LATENCY_BUCKETS - 1);
    }

    #[test]
    fn errors_count_by_class() {
        let tally = SqlStateTally::default();
        for code in [b"25006", b"25P02", b"ZZZZZ", b"??006"] {
            tally.record(*code);
        }
        let read: Vec<_> = tally.read().collect();
        assert_eq!(read, [("25".to_owned(), 2), ("XX".to_owned(), 1), ("ZZ".to_owned(), 1)]);
    }

    #[test]
    fn a_tally_ignores_what_it_does_not_know() {
        let tally = Tally::new(&["a", "b"]);
        tally.increment(1);
        tally.increment(2);
        assert_eq!(tally.read().collect::<Vec<_>>(), [("a", 0), ("b", 1)]);
    }
}
