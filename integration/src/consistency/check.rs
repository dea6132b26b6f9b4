//! What is wrong with a history. Pure.
//!
//! No general search for a linearization (Knossos, Porcupine, the testers of `stateright` and `todc-utils`) is needed: the
//! primary numbers the writes of each key under the row's lock, so their order is known. A register whose writes are ordered
//! is linearizable exactly when that order does not contradict the clock, no read returned before its write was called, none
//! shows less than a write that had returned before it was called, and none shows less than a read that had. Each is
//! one sweep over sorted times, whatever the length of the history and the number of writes whose end nobody knows; for a search
//! those are what makes it exponential. Keys are judged one by one (linearizability is local); a transaction writes one key.

use std::collections::HashMap;
use std::fmt;

use super::history::{Act, Event, Key, Nanos, Outcome, Read, Role, Session, Value, Version, Via};

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `eventual`: everything committed `max_lag` ago.
    Eventual,
    /// `session`: and what the session itself has written and seen.
    Session,
    /// `database`: and what anybody has written through this Howdah.
    Database,
    /// `strong`: and what anybody has written, or seen.
    Strong,
}

impl Level {
    /// All, the weakest first.
    pub const ALL: [Self; 4] = [Self::Eventual, Self::Session, Self::Database, Self::Strong];

    /// The word of `routing.consistency`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Session => "session",
            Self::Database => "database",
            Self::Strong => "strong",
        }
    }
}

/// A promise that was not kept. The events are indices into the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two operations were told of different values of one version: a write was lost, or two primaries took them.
    Forked(Key, Version),
    /// A read shows what nobody wrote, or what certainly was not committed.
    Phantom { read: usize },
    /// A read shows what was written only after it had returned.
    Future { read: usize, write: usize },
    /// A read misses a write that it must see.
    Stale { read: usize, write: usize },
    /// A read shows less than a read before it that it must not fall behind.
    Backwards { read: usize, before: usize },
    /// A write came before one that had returned when it was called.
    Disorder { write: usize, before: usize },
}

/// All that is wrong with `history` where `level` is promised, with a `max_lag` in nanoseconds.
pub fn check(history: &[Event], level: Level, max_lag: Nanos) -> Vec<Violation> {
    let (mut found, versions) = arrange(history);
    let mut keys: HashMap<Key, Vec<usize>> = HashMap::new();
    for (index, event) in history.iter().enumerate() {
        keys.entry(event.key).or_default().push(index);
    }
    for (key, events) in keys {
        OfKey { history, versions: &versions, key, events }.check(level, max_lag, &mut found);
    }
    found
}

// === Which write made which version ===

/// The write behind each version, as far as anybody has been told; `None` is a write that is not in the history.
type Versions = HashMap<(Key, Version), Option<usize>>;

fn arrange(history: &[Event]) -> (Vec<Violation>, Versions) {
    let mut found = Vec::new();
    let mut values: HashMap<(Key, Version), Value> = HashMap::new();
    let mut tell = |key, version, value| {
        let known = *values.entry((key, version)).or_insert(value);
        (known != value).then_some(Violation::Forked(key, version))
    };
    let mut writes: HashMap<(Key, Value), usize> = HashMap::new();
    for (index, event) in history.iter().enumerate() {
        if let Act::Write(value, outcome) = event.act {
            writes.insert((event.key, value), index);
            if let Outcome::Done(version) = outcome {
                found.extend(tell(event.key, version, value));
            }
        }
    }
    for (index, event) in history.iter().enumerate() {
        let Some(read) = event.read() else { continue };
        for (version, value) in read.shown() {
            found.extend(tell(event.key, version, value));
            let write = writes.get(&(event.key, value)).and_then(|write| history.get(*write));
            let possible = write.is_some_and(|write| match write.act {
                Act::Write(_, Outcome::Done(done)) => done == version,
                Act::Write(_, Outcome::Unknown) => true,
                _ => false,
            });
            if !possible {
                found.push(Violation::Phantom { read: index });
            }
        }
    }
    let versions = values.iter().map(|(&(key, version), value)| ((key, version), writes.get(&(key, *value)).copied()));
    let versions = versions.collect();
    (found, versions)
}

impl Read {
    /// Versions and their values.
    fn shown(&self) -> impl Iterator<Item = (Version, Value)> {
        let first = (self.version + 1).saturating_sub(self.values.len());
        (first..).zip(self.values.iter().copied())
    }
}

// === One key ===

struct OfKey<'a> {
    history: &'a [Event],
    versions: &'a Versions,
    key: Key,
    /// Its events, as indices into the history.
    events: Vec<usize>,
}

impl OfKey<'_> {
    fn check(&self, level: Level, max_lag: Nanos, found: &mut Vec<Violation>) {
        let reads = || self.reads(|_, _| true);
        for (read, shown) in reads() {
            if let Some(write) = self.write_of(shown.version)
                && self.history[write].called > self.history[read].returned
            {
                found.push(Violation::Future { read, write });
            }
        }
        self.stale(found, max_lag, reads().map(|(read, _)| read), |_| true);
        self.disorder(found);
        if level == Level::Eventual {
            return;
        }
        for session in self.sessions() {
            let own = |event: &Event| event.session == session;
            self.stale(found, 0, self.reads(|event, _| own(event)).map(|(read, _)| read), own);
            self.backwards(found, own);
        }
        match level {
            Level::Eventual | Level::Session => {}
            Level::Database => {
                let through = self.reads(|event, _| event.via == Via::Howdah);
                self.stale(found, 0, through.map(|(read, _)| read), |write| write.via == Via::Howdah);
            }
            Level::Strong => {
                self.stale(found, 0, reads().map(|(read, _)| read), |_| true);
                self.backwards(found, |_| true);
            }
        }
    }

    /// What `reads` miss of those of the writes that had returned for `age` when they were called.
    fn stale(
        &self,
        found: &mut Vec<Violation>,
        age: Nanos,
        reads: impl Iterator<Item = usize>,
        of_writes: impl Fn(&Event) -> bool,
    ) {
        let highest =
            Highest::new(self.done(&of_writes).map(|(write, version)| (self.history[write].returned, version, write)));
        for read in reads {
            let event = &self.history[read];
            let least = event.called.checked_sub(age).and_then(|before| highest.before(before));
            match (least, event.read()) {
                (Some((version, write)), Some(shown)) if shown.version < version => {
                    found.push(Violation::Stale { read, write });
                }
                _ => {}
            }
        }
    }

    /// Reads of those that `which` admits, that show less than an earlier one.
    ///
    /// A standby may show a commit moments before the primary does, which no proxy can hide (docs/routing.md). So a read
    /// that the primary answers must show what the primary itself has shown before; a write that has returned it must show anyway.
    fn backwards(&self, found: &mut Vec<Violation>, which: impl Fn(&Event) -> bool) {
        let shown = |of: &dyn Fn(&Read) -> bool| {
            let reads = self.reads(|event, read| which(event) && of(read));
            Highest::new(reads.map(|(index, read)| (self.history[index].returned, read.version, index)))
        };
        let anywhere = shown(&|_| true);
        let by_primary = shown(&|read| read.role == Role::Primary);
        for (index, read) in self.reads(|event, _| which(event)) {
            let called = self.history[index].called;
            let least = match read.role {
                Role::Replica => anywhere.before(called),
                Role::Primary => by_primary.before(called),
            };
            if let Some((version, before)) = least
                && read.version < version
            {
                found.push(Violation::Backwards { read: index, before });
            }
        }
    }

    /// Writes whose order contradicts the clock.
    fn disorder(&self, found: &mut Vec<Violation>) {
        let highest =
            Highest::new(self.done(&|_| true).map(|(write, version)| (self.history[write].returned, version, write)));
        for (write, version) in self.done(&|_| true) {
            if let Some((later, before)) = highest.before(self.history[write].called)
                && later > version
            {
                found.push(Violation::Disorder { write, before });
            }
        }
    }

    fn write_of(&self, version: Version) -> Option<usize> {
        self.versions.get(&(self.key, version)).copied().flatten()
    }

    fn reads(&self, which: impl Fn(&Event, &Read) -> bool) -> impl Iterator<Item = (usize, &Read)> {
        let reads = self.events.iter().filter_map(|&index| Some((index, self.history[index].read()?)));
        reads.filter(move |(index, read)| which(&self.history[*index], read))
    }

    fn done(&self, which: &impl Fn(&Event) -> bool) -> impl Iterator<Item = (usize, Version)> {
        self.events.iter().filter_map(|&index| match self.history[index].act {
            Act::Write(_, Outcome::Done(version)) if which(&self.history[index]) => Some((index, version)),
            _ => None,
        })
    }

    fn sessions(&self) -> Vec<Session> {
        let mut sessions: Vec<_> = self.events.iter().map(|&index| self.history[index].session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }
}

/// The highest version that had returned before a moment, and with which event.
struct Highest(Vec<(Nanos, Version, usize)>);

impl Highest {
    fn new(events: impl Iterator<Item = (Nanos, Version, usize)>) -> Self {
        let mut all: Vec<_> = events.collect();
        all.sort_unstable();
        for at in 1..all.len() {
            if all[at].1 < all[at - 1].1 {
                (all[at].1, all[at].2) = (all[at - 1].1, all[at - 1].2);
            }
        }
        Self(all)
    }

    fn before(&self, moment: Nanos) -> Option<(Version, usize)> {
        let at = self.0.partition_point(|(returned, ..)| *returned < moment);
        let (_, version, event) = self.0.get(at.checked_sub(1)?)?;
        Some((*version, *event))
    }
}

// === Telling ===

impl Violation {
    /// In words, with the events that show it.
    pub fn tell(&self, history: &[Event]) -> String {
        let events = |these: &[usize]| {
            let lines = these.iter().filter_map(|index| history.get(*index)).map(|event| format!("\n    {event}"));
            lines.collect::<String>()
        };
        match self {
            Self::Forked(key, version) => format!("version {version} of key {key} has two values"),
            Self::Phantom { read } => format!("a read shows what was not written{}", events(&[*read])),
            Self::Future { read, write } => format!("a read shows what came later{}", events(&[*read, *write])),
            Self::Stale { read, write } => format!("a read misses a write{}", events(&[*write, *read])),
            Self::Backwards { read, before } => format!("a read goes back in time{}", events(&[*before, *read])),
            Self::Disorder { write, before } => format!("a write was overtaken{}", events(&[*before, *write])),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[allow(clippy::cast_precision_loss, reason = "shown with three decimals")]
        let millis = |nanos: Nanos| nanos as f64 / 1e6;
        let (from, to) = (millis(self.called), millis(self.returned));
        write!(f, "{from:10.3} - {to:10.3} ms  session {} {:?} key {}: ", self.session, self.via, self.key)?;
        match &self.act {
            Act::Write(value, outcome) => write!(f, "writes {value}: {outcome:?}"),
            Act::Read(read) => write!(f, "reads version {} from {} ({:?})", read.version, read.node, read.role),
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
