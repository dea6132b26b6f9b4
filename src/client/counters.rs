//! What is counted of clients; each is one relaxed addition.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::exchange::Ran;
use crate::net::worker;
use crate::router::reason::Reason;
use crate::server::cancel::Canceled;
use crate::session::{audit, pins};
use crate::telemetry::counters::{ClientStats, ClientTotals, Counter, Sharded, SqlStateTally, Tallied};
use crate::types::{DatabaseName, UserName};

/// Outcomes of cancel requests, and their labels.
const OUTCOMES: [(Canceled, &str); 4] = [
    (Canceled::Sent, "sent"),
    (Canceled::Nothing, "nothing_to_cancel"),
    (Canceled::Already, "already_on_its_way"),
    (Canceled::Failed, "failed"),
];

/// What the clients of one database and user do.
pub(super) type Stats = Arc<Sharded<ClientStats>>;

/// Totals since the start.
#[derive(Debug)]
pub struct Counters {
    /// Logins that were refused.
    pub login_failures: Counter,
    /// Batches that a replica would not do and the primary did, unseen.
    pub retries: Counter,
    /// Errors that Howdah itself sent to clients, by SQLSTATE class.
    pub errors: SqlStateTally,
    cancels: [Counter; 4],
    pins: [Counter; pins::Reason::ALL.len()],
    /// Statements that would have pinned, by policy, and those for which the budget did not suffice.
    rejected: [Counter; pins::Reason::ALL.len()],
    over_budget: [Counter; pins::Reason::ALL.len()],
    /// Clients that were let go because they were pinned and idle for too long.
    pub pin_timeouts: Counter,
    /// Servers that were asked what they carry.
    pub audits: Counter,
    leaks: [Counter; audit::Kind::ALL.len()],
    routes: Sharded<Routes>,
    clients: Mutex<HashMap<(DatabaseName, UserName), Stats>>,
    sides: usize,
}

/// What a batch was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It is certain to change nothing.
    Read,
    /// Anything else.
    Write,
}

/// By reason.
type Counts = [Counter; Reason::ALL.len()];

/// Batches that have run, by what they were taken for, where they went and why.
#[derive(Debug, Default)]
struct Routes([Counts; 4]);

/// The class and the target that each of [`Routes`]' counts is of.
const ROUTES: [[&str; 2]; 4] = [["read", "primary"], ["read", "replica"], ["write", "primary"], ["write", "replica"]];

fn increment(counts: &[Counter; pins::Reason::ALL.len()], reason: pins::Reason) {
    for (count, _) in counts.iter().zip(pins::Reason::ALL).filter(|(_, other)| *other == reason) {
        count.increment();
    }
}

impl Counters {
    /// All zero, on each of `sides`.
    #[must_use]
    pub fn new(sides: usize) -> Self {
        Self {
            login_failures: Counter::default(),
            retries: Counter::default(),
            errors: SqlStateTally::default(),
            cancels: Default::default(),
            pins: Default::default(),
            rejected: Default::default(),
            over_budget: Default::default(),
            pin_timeouts: Counter::default(),
            audits: Counter::default(),
            leaks: Default::default(),
            routes: Sharded::new(sides),
            clients: Mutex::default(),
            sides,
        }
    }

    pub(super) fn routed(&self, class: Class, ran: Ran, reason: Reason) {
        let at = match (class, ran) {
            (Class::Read, Ran::OnPrimary) => 0,
            (Class::Read, Ran::OnReplica) => 1,
            (Class::Write, Ran::OnPrimary) => 2,
            (Class::Write, Ran::OnReplica) => 3,
        };
        let Routes(counts) = self.routes.of(worker::here());
        if let Some(count) = counts[at].get(reason.index()) {
            count.increment();
        }
    }

    pub(super) fn canceled(&self, outcome: Canceled) {
        for (count, _) in self.cancels.iter().zip(OUTCOMES).filter(|(_, (other, _))| *other == outcome) {
            count.increment();
        }
    }

    pub(super) fn pinned(&self, reason: pins::Reason) {
        increment(&self.pins, reason);
    }

    /// Counts a statement that was refused because it would have pinned its client.
    pub(super) fn refused(&self, refusal: pins::Refusal) {
        let counts = match refusal.cause {
            pins::Cause::Policy => &self.rejected,
            pins::Cause::Budget => &self.over_budget,
        };
        increment(counts, refusal.reason);
    }

    pub(super) fn leaked(&self, kind: audit::Kind) {
        for (count, _) in self.leaks.iter().zip(audit::Kind::ALL).filter(|(_, other)| *other == kind) {
            count.increment();
        }
    }

    /// The counts of a database's and user's clients, to be asked for once per client. The two names become those that
    /// all these clients share.
    pub(super) fn of(&self, database: &mut DatabaseName, user: &mut UserName) -> Stats {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = clients.entry((database.clone(), user.clone()));
        (*database, *user) = stats.key().clone();
        Arc::clone(stats.or_insert_with(|| Arc::new(Sharded::new(self.sides))))
    }

    /// Batches that have run: `read` or `write`, `primary` or `replica`, the reason, how many.
    pub fn by_reason(&self) -> Vec<([&'static str; 2], Reason, u64)> {
        let all = ROUTES.iter().enumerate().flat_map(|(which, labels)| {
            let sum = move |at: usize| self.routes.iter().map(|Routes(counts)| counts[which][at].read()).sum();
            Reason::ALL.iter().enumerate().map(move |(at, reason)| (*labels, *reason, sum(at)))
        });
        all.filter(|(_, _, count)| *count > 0).collect()
    }

    /// Cancel requests by what became of them.
    pub fn cancels(&self) -> Vec<(&'static str, u64)> {
        self.cancels.iter().zip(OUTCOMES).map(|(count, (_, label))| (label, count.read())).collect()
    }

    /// By reason: how often clients were pinned, were refused that by policy, and for want of budget.
    pub fn pins(&self) -> Vec<(pins::Reason, [u64; 3])> {
        let counts = self.pins.iter().zip(&self.rejected).zip(&self.over_budget);
        let read = counts.map(|((pinned, rejected), over)| [pinned.read(), rejected.read(), over.read()]);
        pins::Reason::ALL.into_iter().zip(read).collect()
    }

    /// What servers were found to carry that they should not, by kind.
    pub fn leaks(&self) -> Vec<(&'static str, u64)> {
        self.leaks.iter().zip(audit::Kind::ALL).map(|(count, kind)| (kind.as_str(), count.read())).collect()
    }

    /// What clients did, by database and user.
    pub fn clients(&self) -> Vec<(DatabaseName, UserName, ClientTotals)> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |((database, user), stats): (&(DatabaseName, UserName), &Stats)| {
            (database.clone(), user.clone(), stats.read())
        };
        let mut all: Vec<_> = clients.iter().map(read).collect();
        all.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        all
    }
}
