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
    /// One write made two versions: it was sent again.
    Repeated(Key, Value),
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
    let mut places: HashMap<(Key, Value), Version> = HashMap::new();
    let mut tell = |key, version, value| {
        let known = *values.entry((key, version)).or_insert(value);
        let place = *places.entry((key, value)).or_insert(version);
        let forked = (known != value).then_some(Violation::Forked(key, version));
        forked.or_else(|| (place != version).then_some(Violation::Repeated(key, value)))
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
        self.future(found);
        self.disorder(found);
        self.stale(found, max_lag, |_| true);
        if level == Level::Eventual {
            return;
        }
        for own in self.sessions() {
            own.stale(found, 0, |_| true);
            own.backwards(found);
        }
        match level {
            Level::Eventual | Level::Session => {}
            Level::Database => self.stale(found, 0, |write| write.via == Via::Howdah),
            Level::Strong => {
                self.stale(found, 0, |_| true);
                self.backwards(found);
            }
        }
    }

    /// The same of each session alone.
    fn sessions(&self) -> impl Iterator<Item = Self> {
        let mut sessions: HashMap<Session, Vec<usize>> = HashMap::new();
        for &index in &self.events {
            sessions.entry(self.history[index].session).or_default().push(index);
        }
        sessions.into_values().map(|events| Self {
            events,
            history: self.history,
            versions: self.versions,
            key: self.key,
        })
    }

    /// Reads that returned before what they show was called.
    fn future(&self, found: &mut Vec<Violation>) {
        for (read, shown) in self.reads() {
            let write = self.versions.get(&(self.key, shown.version)).copied().flatten();
            if let Some(write) = write
                && self.history[write].called > self.history[read].returned
            {
                found.push(Violation::Future { read, write });
            }
        }
    }

    /// Reads that miss one of those writes that had returned for `age` when they were called.
    fn stale(&self, found: &mut Vec<Violation>, age: Nanos, which: impl Fn(&Event) -> bool) {
        let highest = self.highest(self.done().filter(|(write, _)| which(&self.history[*write])));
        for (read, shown) in self.reads() {
            let before = self.history[read].called.checked_sub(age);
            if let Some((version, write)) = before.and_then(|before| highest.before(before))
                && shown.version < version
            {
                found.push(Violation::Stale { read, write });
            }
        }
    }

    /// Reads that show less than an earlier one.
    ///
    /// A standby may show a commit moments before the primary does, which no proxy can hide (docs/routing.md). So a read
    /// that the primary answers must show what the primary itself has shown before; a write that has returned it must show anyway.
    fn backwards(&self, found: &mut Vec<Violation>) {
        let version = |(index, read): (usize, &Read)| (index, read.version);
        let anywhere = self.highest(self.reads().map(version));
        let by_primary = self.highest(self.reads().filter(|(_, read)| read.role == Role::Primary).map(version));
        for (read, shown) in self.reads() {
            let called = self.history[read].called;
            let least = match shown.role {
                Role::Replica => anywhere.before(called),
                Role::Primary => by_primary.before(called),
            };
            if let Some((version, before)) = least
                && shown.version < version
            {
                found.push(Violation::Backwards { read, before });
            }
        }
    }

    /// Writes whose order contradicts the clock.
    fn disorder(&self, found: &mut Vec<Violation>) {
        let highest = self.highest(self.done());
        for (write, version) in self.done() {
            if let Some((later, before)) = highest.before(self.history[write].called)
                && later > version
            {
                found.push(Violation::Disorder { write, before });
            }
        }
    }

    fn reads(&self) -> impl Iterator<Item = (usize, &Read)> {
        self.events.iter().filter_map(|&index| Some((index, self.history[index].read()?)))
    }

    fn done(&self) -> impl Iterator<Item = (usize, Version)> {
        self.events.iter().filter_map(|&index| match self.history[index].act {
            Act::Write(_, Outcome::Done(version)) => Some((index, version)),
            _ => None,
        })
    }

    fn highest(&self, events: impl Iterator<Item = (usize, Version)>) -> Highest {
        Highest::new(events.map(|(index, version)| (self.history[index].returned, version, index)))
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
            Self::Repeated(key, value) => format!("value {value} was written to key {key} twice"),
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
mod tests {
    use super::*;

    /// A history in lines: `session way called-returned key act`, where an act is `w VALUE VERSION`, `w VALUE ?` (unknown),
    /// `w VALUE !` (failed), or `r VERSION VALUES ROLE` (`P` or `S`). Times are in nanoseconds.
    fn history(text: &str) -> Vec<Event> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(event).collect()
    }

    fn event(line: &str) -> Event {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (called, returned) = words[2].split_once('-').unwrap();
        let act = match words[4] {
            "w" => {
                let outcome = match words[6] {
                    "?" => Outcome::Unknown,
                    "!" => Outcome::Failed,
                    version => Outcome::Done(version.parse().unwrap()),
                };
                Act::Write(words[5].parse().unwrap(), outcome)
            }
            _ => Act::Read(Read {
                version: words[5].parse().unwrap(),
                values: words[6].split(',').filter_map(|value| value.parse().ok()).collect(),
                node: "n".into(),
                role: if words[7] == "P" { Role::Primary } else { Role::Replica },
            }),
        };
        Event {
            session: words[0].parse().unwrap(),
            via: if words[1] == "d" { Via::Direct } else { Via::Howdah },
            called: called.parse().unwrap(),
            returned: returned.parse().unwrap(),
            key: words[3].parse().unwrap(),
            act,
        }
    }

    /// Two writes, the second by another session and one by a writer that Howdah does not know; what comes after is up to each test.
    const WRITES: &str = "
    1 h 10-20 7 w 100 1
    2 h 30-40 7 w 200 2
    3 d 50-60 7 w 300 3
    ";

    /// Judges what comes after [`WRITES`] at each level, weakest first; `max_lag` is 1000.
    fn judge(text: &str) -> [Vec<Violation>; 4] {
        let history = history(&format!("{WRITES}{text}"));
        Level::ALL.map(|level| check(&history, level, 1000))
    }

    fn assert_sound(text: &str) {
        assert_eq!(judge(text), [const { Vec::new() }; 4], "{text}");
    }

    /// The levels at which something is wrong, by their first letters; every violation must be of the kind expected.
    fn wrong_at(text: &str, kind: impl Fn(&Violation) -> bool) -> String {
        let found = judge(text);
        assert!(found.iter().flatten().all(kind), "{found:?}");
        Level::ALL
            .iter()
            .zip(&found)
            .filter(|(_, found)| !found.is_empty())
            .map(|(level, _)| &level.as_str()[..1])
            .collect()
    }

    fn stale(violation: &Violation) -> bool {
        matches!(violation, Violation::Stale { .. })
    }

    fn backwards(violation: &Violation) -> bool {
        matches!(violation, Violation::Backwards { .. })
    }

    #[test]
    fn fresh_reads_are_sound() {
        assert_sound("4 h 70-80 7 r 3 300 S");
        assert_sound("4 h 70-80 7 r 3 100,200,300 S");
        assert_sound("4 h 55-80 7 r 2 200 S\n 4 h 90-95 7 r 3 300 P");
        // Another key knows nothing of this one.
        assert_sound("4 h 70-80 8 r 0 - S");
    }

    #[test]
    fn a_write_that_had_returned_is_missed() {
        assert_eq!(wrong_at("4 h 70-80 7 r 2 200 S", stale), "s");
        assert_eq!(wrong_at("4 h 70-80 7 r 1 100 S", stale), "ds");
        assert_eq!(wrong_at("2 h 70-80 7 r 1 100 S", stale), "sds");
        assert_eq!(wrong_at("4 h 2000-2010 7 r 2 200 S", stale), "esds");
        assert_eq!(wrong_at("4 h 70-80 7 r 0 - S", stale), "ds");
    }

    #[test]
    fn a_read_while_the_write_is_under_way_may_miss_it() {
        assert_sound("4 h 15-80 7 r 0 - S");
        assert_sound("4 h 60-80 7 r 2 200 S");
        assert_eq!(wrong_at("4 h 61-80 7 r 2 200 S", stale), "s");
    }

    #[test]
    fn reads_do_not_go_back() {
        // Another session's write under way: who has seen it goes on seeing it, everybody does where that is promised.
        let seen = "5 h 90-400 7 w 400 4\n 4 h 100-110 7 r 4 400 S\n";
        assert_eq!(wrong_at(&format!("{seen}4 h 120-130 7 r 3 300 S"), backwards), "sds");
        assert_eq!(wrong_at(&format!("{seen}6 h 120-130 7 r 3 300 S"), backwards), "s");
        assert_sound(&format!("{seen}6 h 105-130 7 r 3 300 S"));
    }

    #[test]
    fn a_standby_may_be_ahead_of_the_primary_and_the_primary_not_of_itself() {
        let open = "5 h 90-400 7 w 400 4\n";
        assert_sound(&format!("{open}4 h 100-110 7 r 4 400 S\n 4 h 120-130 7 r 3 300 P"));
        let by_primary = format!("{open}4 h 100-110 7 r 4 400 P\n 4 h 120-130 7 r 3 300 P");
        assert_eq!(wrong_at(&by_primary, backwards), "sds");
        // Once the write has returned, the primary shows it, too.
        assert_eq!(wrong_at(&format!("{open}4 h 100-110 7 r 4 400 S\n 9 h 410-420 7 r 3 300 P"), stale), "ds");
    }

    #[test]
    fn a_write_of_which_nobody_knows_may_come_whenever_it_likes() {
        let unknown = "5 h 90-95 7 w 400 ?\n";
        assert_sound(&format!("{unknown}4 h 100-110 7 r 3 300 S\n 4 h 120-130 7 r 4 400 S"));
        assert_eq!(wrong_at(&format!("{unknown}4 h 100-110 7 r 4 400 S\n 4 h 120-130 7 r 3 300 S"), backwards), "sds");
    }

    #[test]
    fn the_future_is_not_seen() {
        let future = |violation: &Violation| matches!(violation, Violation::Future { .. });
        assert_eq!(wrong_at("4 h 70-80 7 r 4 400 S\n 5 h 90-95 7 w 400 4", future), "esds");
    }

    #[test]
    fn what_was_not_written_is_not_seen() {
        let phantom = |violation: &Violation| matches!(violation, Violation::Phantom { .. });
        assert_eq!(wrong_at("4 h 70-80 7 r 4 400 S", phantom), "esds");
        assert_eq!(wrong_at("5 h 62-64 7 w 400 !\n 4 h 70-80 7 r 4 400 S", phantom), "esds");
    }

    #[test]
    fn two_values_of_one_version_are_found() {
        let forked = |violation: &Violation| matches!(violation, Violation::Forked(7, 3) | Violation::Phantom { .. });
        assert_eq!(wrong_at("5 h 62-64 7 w 400 3", forked), "esds");
        assert_eq!(wrong_at("5 h 62-64 7 w 400 ?\n 4 h 70-80 7 r 3 100,200,400 S", forked), "esds");
        // An element in the middle of a list that others know by another value.
        let swapped = |violation: &Violation| matches!(violation, Violation::Forked(7, _) | Violation::Phantom { .. });
        assert_eq!(wrong_at("4 h 70-80 7 r 3 200,100,300 S", swapped), "esds");
    }

    #[test]
    fn a_write_that_was_sent_again_is_found() {
        let repeated = |violation: &Violation| *violation == Violation::Repeated(7, 400);
        let twice = "5 h 62-64 7 w 400 ?\n 4 h 70-80 7 r 5 100,200,300,400,400 S";
        assert_eq!(wrong_at(twice, repeated), "esds");
    }

    #[test]
    fn writes_follow_the_clock() {
        let disorder = |violation: &Violation| matches!(violation, Violation::Disorder { .. });
        assert_eq!(wrong_at("5 h 80-90 7 w 500 5\n 5 h 100-110 7 w 400 4", disorder), "esds");
    }

    #[test]
    fn a_violation_is_told_with_the_events_that_show_it() {
        let history = history(&format!("{WRITES}4 h 70-80 7 r 2 200 S"));
        let found = check(&history, Level::Strong, 1000);
        let told = found[0].tell(&history);
        assert!(
            told.starts_with("a read misses a write\n") && told.contains("writes 300") && told.contains("version 2"),
            "{told}"
        );
    }
}
