//! SHOW STATS, `STATS_TOTALS`, `STATS_AVERAGES` and TOTALS: PgBouncer's counters by database.
//!
//! Times are microseconds. Averages are per second of the last full statistics period; those of
//! times are per transaction, query or assignment in it (PgBouncer's src/stats.c, `calc_average`).

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

use super::super::rows::{Column, Row, Value, int, text};
use super::super::state::State;
use crate::telemetry::Snapshot;
use crate::types::DatabaseName;

/// The counters of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseTotals {
    /// The database, as clients name it.
    pub database: DatabaseName,
    /// Its counters.
    pub totals: Totals,
}

/// PgBouncer's counters, in the order of its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals([u64; FIELDS]);

/// The counters of every database that has any, by name.
#[must_use]
pub fn totals(snapshot: &Snapshot) -> Vec<DatabaseTotals> {
    let mut sums: BTreeMap<&DatabaseName, Totals> = BTreeMap::new();
    for pool in &snapshot.pools {
        let stats = &pool.stats;
        let sum = sums.entry(&pool.database).or_default();
        sum.add(ASSIGNMENTS, stats.server_assignment_count);
        sum.add(XACTS, stats.xact_count);
        sum.add(QUERIES, stats.query_count);
        sum.add(XACT_TIME, stats.xact_time.sum_us);
        sum.add(QUERY_TIME, stats.query_time.sum_us);
        sum.add(WAIT_TIME, stats.wait_time.sum_us);
        sum.add(SERVER_PARSES, stats.server_parse_count);
    }
    for clients in &snapshot.clients {
        let stats = &clients.stats;
        let sum = sums.entry(&clients.database).or_default();
        sum.add(RECEIVED, stats.bytes_received);
        sum.add(SENT, stats.bytes_sent);
        sum.add(CLIENT_PARSES, stats.client_parse_count);
        sum.add(BINDS, stats.bind_count);
        sum.add(LOGINS, stats.logins);
    }
    sums.into_iter().map(|(database, totals)| DatabaseTotals { database: database.clone(), totals }).collect()
}

// === Tables ===

pub(super) const COLUMNS: &[Column] = &[
    text("database"),
    int("total_server_assignment_count"),
    int("total_xact_count"),
    int("total_query_count"),
    int("total_received"),
    int("total_sent"),
    int("total_xact_time"),
    int("total_query_time"),
    int("total_wait_time"),
    int("total_client_parse_count"),
    int("total_server_parse_count"),
    int("total_bind_count"),
    int("avg_server_assignment_count"),
    int("avg_xact_count"),
    int("avg_query_count"),
    int("avg_recv"),
    int("avg_sent"),
    int("avg_xact_time"),
    int("avg_query_time"),
    int("avg_wait_time"),
    int("avg_client_parse_count"),
    int("avg_server_parse_count"),
    int("avg_bind_count"),
    // Not in a release of PgBouncer yet; its next one has them in front of the averages.
    int("total_client_login_count"),
    int("avg_client_login_count"),
];

pub(super) const TOTALS_COLUMNS: &[Column] = &[
    text("database"),
    int("server_assignment_count"),
    int("xact_count"),
    int("query_count"),
    int("bytes_received"),
    int("bytes_sent"),
    int("xact_time"),
    int("query_time"),
    int("wait_time"),
    int("client_parse_count"),
    int("server_parse_count"),
    int("bind_count"),
    int("client_login_count"),
];

pub(super) const AVERAGES_COLUMNS: &[Column] = &[
    text("database"),
    int("server_assignment_count"),
    int("xact_count"),
    int("query_count"),
    int("bytes_received"),
    int("bytes_sent"),
    int("xact_time"),
    int("query_time"),
    int("wait_time"),
    int("avg_client_parse_count"),
    int("avg_server_parse_count"),
    int("avg_bind_count"),
    int("client_login_count"),
];

pub(super) const LIST_COLUMNS: &[Column] = &[text("name"), int("value")];

/// The counters' names in SHOW TOTALS, after `total_` and `avg_`.
const LIST_NAMES: [&str; FIELDS] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

pub(super) fn rows(state: &State) -> Vec<Row> {
    let row = |entry: &DatabaseTotals| {
        let (totals, averages) = (entry.totals.0, averages(state, &entry.database).0);
        let released = totals[..LOGINS].iter().chain(&averages[..LOGINS]);
        named(&entry.database, released.chain([&totals[LOGINS], &averages[LOGINS]]))
    };
    totals(&state.snapshot).iter().map(row).collect()
}

pub(super) fn totals_rows(state: &State) -> Vec<Row> {
    totals(&state.snapshot).iter().map(|entry| named(&entry.database, &entry.totals.0)).collect()
}

pub(super) fn averages_rows(state: &State) -> Vec<Row> {
    let row = |entry: &DatabaseTotals| named(&entry.database, &averages(state, &entry.database).0);
    totals(&state.snapshot).iter().map(row).collect()
}

pub(super) fn list_rows(state: &State) -> Vec<Row> {
    let totals = sum(&totals(&state.snapshot));
    let averages = state
        .period
        .as_ref()
        .map_or_else(Totals::default, |period| Totals::average(&sum(&period.from), &sum(&period.to), period.length));
    let rows = |prefix: &'static str, values: Totals| {
        LIST_NAMES
            .into_iter()
            .zip(values.0)
            .map(move |(name, value)| vec![Value::Text(format!("{prefix}_{name}")), Value::count(value)])
    };
    rows("total", totals).chain(rows("avg", averages)).collect()
}

fn named<'a>(database: &DatabaseName, values: impl IntoIterator<Item = &'a u64>) -> Row {
    let values = values.into_iter().map(|&value| Value::count(value));
    std::iter::once(Value::text(database)).chain(values).collect()
}

fn averages(state: &State, database: &DatabaseName) -> Totals {
    let Some(period) = &state.period else {
        return Totals::default();
    };
    let of = |totals: &[DatabaseTotals]| {
        totals.iter().find(|entry| entry.database == *database).map(|entry| entry.totals).unwrap_or_default()
    };
    Totals::average(&of(&period.from), &of(&period.to), period.length)
}

fn sum(totals: &[DatabaseTotals]) -> Totals {
    let mut sum = Totals::default();
    for entry in totals {
        sum += entry.totals;
    }
    sum
}

// === impl Totals ===

impl Totals {
    fn add(&mut self, field: usize, count: u64) {
        self.0[field] += count;
    }

    /// What happened from `from` to `to`, per second or per event.
    fn average(from: &Self, to: &Self, length: Duration) -> Self {
        let grown = |field: usize| to.0[field].saturating_sub(from.0[field]);
        Self(std::array::from_fn(|field| match field {
            XACT_TIME => grown(field).checked_div(grown(XACTS)).unwrap_or(0),
            QUERY_TIME => grown(field).checked_div(grown(QUERIES)).unwrap_or(0),
            WAIT_TIME => grown(field).checked_div(grown(ASSIGNMENTS)).unwrap_or(0),
            _ => per_second(grown(field), length),
        }))
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

fn per_second(count: u64, length: Duration) -> u64 {
    let micros = u128::from(count) * 1_000_000;
    u64::try_from(micros.checked_div(length.as_micros()).unwrap_or(0)).unwrap_or(u64::MAX)
}

const ASSIGNMENTS: usize = 0;
const XACTS: usize = 1;
const QUERIES: usize = 2;
const RECEIVED: usize = 3;
const SENT: usize = 4;
const XACT_TIME: usize = 5;
const QUERY_TIME: usize = 6;
const WAIT_TIME: usize = 7;
const CLIENT_PARSES: usize = 8;
const SERVER_PARSES: usize = 9;
const BINDS: usize = 10;
/// The last one: SHOW STATS has it after all that PgBouncer releases have.
const LOGINS: usize = 11;
const FIELDS: usize = 12;
