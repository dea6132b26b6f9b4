//! Which round of the sampler covers the writes of a database, a scope or a session.
//!
//! Rounds are numbered when their request is about to be sent. A write that was acknowledged before
//! is covered by every later round, so all that a write leaves behind is one number; nobody asks
//! the primary anything until somebody reads.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::router::view::needs::{Needs, Seen};
use crate::sql::reach::{self, Reach};
use crate::types::UserName;

/// A round that only grows.
#[derive(Debug, Default)]
struct Round(AtomicU64);

impl Round {
    fn starting_at(round: u64) -> Self {
        Self(AtomicU64::new(round))
    }

    fn rise(&self, round: u64) {
        // Most writes between two rounds find the clock already there: no contended write then.
        if self.get() < round {
            self.0.fetch_max(round, Ordering::SeqCst);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The round that covers every write to one database through this process, and those that cover the writes to each
/// of its relations.
#[derive(Debug)]
pub struct WriteClock {
    all: Round,
    /// Covers the writes that may have been to any relation.
    anywhere: Round,
    /// By the marks of [`Reach`].
    relations: Box<[Round]>,
}

impl WriteClock {
    /// A write to `reach` was acknowledged that `round` covers.
    pub(super) fn rise(&self, round: u64, reach: Reach) {
        self.all.rise(round);
        if reach.is_everything() {
            self.anywhere.rise(round);
        }
        for relation in reach.marks().iter().filter_map(|mark| self.relations.get(usize::from(*mark))) {
            relation.rise(round);
        }
    }

    /// The round that covers all writes to `reach` so far; 0 when there was none.
    pub(super) fn round(&self, reach: Reach) -> u64 {
        if reach.is_everything() {
            return self.all.get();
        }
        let relations = reach.marks().iter().filter_map(|mark| self.relations.get(usize::from(*mark)));
        relations.map(Round::get).fold(self.anywhere.get(), u64::max)
    }
}

/// Clients that see what each other wrote and read (`routing.scope`, `howdah.scope`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All of this user.
    User(UserName),
    /// All that gave this key.
    Key(Box<str>),
}

/// The round that covers every write of a scope, and where its clients last read.
#[derive(Debug)]
pub(super) struct ScopeClock {
    writes: Round,
    seen: Mutex<Option<Seen>>,
}

impl ScopeClock {
    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read was answered that had to see what `basis` says.
    fn read(&self, seen: Seen, basis: Option<Seen>) {
        let mut last = self.seen();
        // Who read at the same time elsewhere may have seen more than this node has: none is known to have both then.
        let elsewhere = last.filter(|before| !before.is_of(&seen) && Some(*before) != basis);
        *last = Some(if elsewhere.is_some() { Seen { node: Seen::NOWHERE, ..seen } } else { seen });
    }
}

/// The round that covers every write of one session, and where it last read; and the scope that it shares.
///
/// A session that is moved to another `Cluster` value (after a reload) takes a new one.
#[derive(Debug, Default)]
pub struct SessionClock {
    /// Covers what it wrote.
    writes: u64,
    /// Covers what it must see besides, whichever relation it is in.
    floor: u64,
    seen: Option<Seen>,
    shared: Option<Box<Shared>>,
    /// How often it was asked what a read needs.
    asked: u16,
}

#[derive(Debug)]
struct Shared {
    scope: Scope,
    clock: Arc<ScopeClock>,
    /// What the read at hand has to have seen of the scope's.
    basis: Option<Seen>,
}

impl SessionClock {
    /// The scope that it shares.
    pub fn scope(&self) -> Option<&Scope> {
        self.shared.as_deref().map(|shared| &shared.scope)
    }

    /// Shares a scope from now on, or none. What it wrote and read before, `round` covers.
    pub(super) fn share(&mut self, scope: Option<(Scope, Arc<ScopeClock>)>, round: u64) {
        if self.shared.is_some() && scope.is_some() {
            // A connection that serves one after the other: the next one does not care.
            (self.writes, self.floor) = (0, 0);
        } else if self.shared.is_some() || self.seen.is_some() || self.writes != 0 {
            self.rise(round);
        }
        self.seen = None;
        self.shared = scope.map(|(scope, clock)| Box::new(Shared { scope, clock, basis: None }));
    }

    /// It must see what `round` covers.
    pub(super) fn rise(&mut self, round: u64) {
        self.floor = self.floor.max(round);
    }

    /// It wrote something that `round` covers.
    pub(super) fn wrote(&mut self, round: u64) {
        self.writes = self.writes.max(round);
        if let Some(shared) = &self.shared {
            shared.clock.writes.rise(round);
        }
    }

    /// A node has answered a read of its.
    pub(super) fn read(&mut self, seen: Seen) {
        match &self.shared {
            Some(shared) => shared.clock.read(seen, shared.basis),
            None => self.seen = Some(seen),
        }
    }

    /// What a read has to have seen of what it and its scope wrote and read, where `most` covers all writes to what it reads.
    pub(super) fn needs(&mut self, most: u64) -> Needs {
        let (writes, seen) = match &mut self.shared {
            Some(shared) => {
                shared.basis = *shared.clock.seen();
                (self.writes.max(shared.clock.writes.get()), shared.basis)
            }
            None => (self.writes, self.seen),
        };
        let round = writes.min(most).max(self.floor);
        self.asked = (self.asked + 1) % LOOKS;
        match seen {
            // Who always read where they last did would not come back to a node that was away. Who has to wait for an
            // answer asks twice.
            Some(seen) if self.asked < 2 => Needs { round: round.max(seen.round), anywhere: true, ..Needs::NONE },
            seen => Needs { round, seen, ..Needs::NONE },
        }
    }
}

/// One in so many reads (or two) looks whether another node would do.
const LOOKS: u16 = 256;

/// The rounds that have been started.
#[derive(Debug)]
pub(super) struct Rounds(AtomicU64);

impl Rounds {
    /// Numbers that are all above `base`.
    pub(super) const fn above(base: u64) -> Self {
        Self(AtomicU64::new(base))
    }

    /// Numbers a request that is about to be sent.
    pub(super) fn start(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The first round that will be requested after this moment.
    ///
    /// Sequentially consistent with `start`: whoever gets the number returned here increments the
    /// counter after this load, and sends after that.
    pub(super) fn next(&self) -> u64 {
        self.0.load(Ordering::SeqCst) + 1
    }
}

/// What [`Clocks`] keeps.
pub(super) trait Clock {
    /// One that says that `round` covers all that was before it.
    fn starting_at(round: u64) -> Self;

    /// The round that covers all that it stands for.
    fn covered_by(&self) -> u64;
}

impl Clock for WriteClock {
    fn starting_at(round: u64) -> Self {
        let relations = (0..reach::RELATIONS).map(|_| Round::default()).collect();
        Self { all: Round::starting_at(round), anywhere: Round::starting_at(round), relations }
    }

    fn covered_by(&self) -> u64 {
        self.all.get()
    }
}

impl Clock for ScopeClock {
    fn starting_at(round: u64) -> Self {
        Self { writes: Round::starting_at(round), seen: Mutex::new(None) }
    }

    fn covered_by(&self) -> u64 {
        self.seen().map_or(0, |seen| seen.round).max(self.writes.get())
    }
}

/// The clocks of all databases, or scopes, that clients have named.
#[derive(Debug)]
pub(super) struct Clocks<K, C>(Mutex<Known<K, C>>);

#[derive(Debug)]
struct Known<K, C> {
    clocks: HashMap<K, Arc<C>>,
    /// What new clocks start at: no clock that was dropped stood later.
    floor: u64,
    /// With how many those that nobody uses are looked for.
    most: usize,
}

/// Most clocks kept though nobody uses them.
const KEPT: usize = 1024;

impl<K: Clone + Eq + Hash, C: Clock> Clocks<K, C> {
    /// Clocks that start at `floor`: what was written before they were made is covered by that round.
    pub(super) fn starting_at(floor: u64) -> Self {
        Self(Mutex::new(Known { clocks: HashMap::new(), floor, most: KEPT }))
    }

    pub(super) fn of(&self, key: &K) -> Arc<C> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clock) = known.clocks.get(key) {
            return Arc::clone(clock);
        }
        if known.clocks.len() >= known.most {
            known.forget_unused();
        }
        let clock = Arc::new(C::starting_at(known.floor));
        known.clocks.insert(key.clone(), Arc::clone(&clock));
        clock
    }
}

impl<K: Eq + Hash, C: Clock> Known<K, C> {
    fn forget_unused(&mut self) {
        let Self { clocks, floor, most } = self;
        clocks.retain(|_, clock| {
            let used = Arc::strong_count(clock) > 1;
            if !used {
                *floor = (*floor).max(clock.covered_by());
            }
            used
        });
        // Where most are in use, looking through them for each new one would be all that is done.
        *most = (2 * clocks.len()).max(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DatabaseName;

    const fn seen(node: usize, round: u64) -> Seen {
        Seen { node, incarnation: 1, round }
    }

    #[test]
    fn a_scope_has_seen_what_any_of_its_clients_saw() {
        let clocks = Clocks::<Scope, ScopeClock>::starting_at(1);
        let scope = Scope::Key("cart".into());
        let join = |client: &mut SessionClock, round| client.share(Some((scope.clone(), clocks.of(&scope))), round);
        let needs = |client: &mut SessionClock| {
            let needs = client.needs(u64::MAX);
            (needs.round, needs.seen)
        };
        let (mut first, mut second, mut stranger) = <(SessionClock, SessionClock, SessionClock)>::default();
        stranger.wrote(2);
        join(&mut first, 3);
        assert_eq!(needs(&mut first), (1, None));
        second.wrote(2);
        join(&mut second, 3);
        assert_eq!(needs(&mut second), (3, None));
        first.wrote(5);
        assert_eq!(needs(&mut second), (5, None));
        assert_eq!(needs(&mut stranger), (2, None));
        first.read(seen(1, 6));
        assert_eq!(needs(&mut second), (5, Some(seen(1, 6))));
        // It had to see what the first one saw, so its node has both.
        second.read(seen(2, 7));
        assert_eq!(needs(&mut first), (5, Some(seen(2, 7))));
        // Now both read at once, elsewhere.
        assert_eq!(needs(&mut second), needs(&mut first));
        first.read(seen(1, 8));
        second.read(seen(2, 9));
        assert_eq!(needs(&mut first), (5, Some(seen(Seen::NOWHERE, 9))));
        second.share(None, 10);
        assert_eq!(needs(&mut second), (10, None));
        let other = Scope::Key("another cart".into());
        first.share(Some((other.clone(), clocks.of(&other))), 11);
        assert_eq!(needs(&mut first), (1, None));
    }

    #[test]
    fn a_client_looks_around_now_and_then() {
        let mut client = SessionClock::default();
        let looks = (0..512).filter(|round| {
            client.read(seen(1, *round));
            let needs = client.needs(u64::MAX);
            assert_eq!(needs.round.max(needs.seen.map_or(0, |seen| seen.round)), *round);
            needs.anywhere
        });
        assert_eq!(looks.count(), 4);
    }

    #[test]
    fn a_write_needs_the_round_after_the_one_under_way() {
        let rounds = Rounds::above(0);
        let clock = WriteClock::starting_at(0);
        let (a, b) = (Reach::of("a"), Reach::of("b"));
        assert_eq!(clock.round(Reach::EVERYTHING), 0);
        assert_eq!(rounds.start(), 1);
        clock.rise(rounds.next(), a);
        assert_eq!([a, b, a.with(b), Reach::EVERYTHING].map(|reach| clock.round(reach)), [2, 0, 2, 2]);
        clock.rise(1, a);
        assert_eq!(clock.round(a), 2);
        assert_eq!(rounds.start(), 2);
        clock.rise(rounds.next(), Reach::EVERYTHING);
        assert_eq!([a, b, Reach::NOTHING, Reach::EVERYTHING].map(|reach| clock.round(reach)), [3; 4]);
    }

    #[test]
    fn what_a_client_wrote_is_needed_where_it_was_written() {
        let mut client = SessionClock::default();
        client.wrote(5);
        let round = |client: &mut SessionClock, most| client.needs(most).round;
        assert_eq!([3, 5, 7].map(|most| round(&mut client, most)), [3, 5, 5]);
        // What it was told of is needed everywhere.
        client.rise(4);
        assert_eq!([3, 5, 7].map(|most| round(&mut client, most)), [4, 5, 5]);
    }

    #[test]
    fn a_clock_that_was_forgotten_leaves_its_mark() {
        let clocks = Clocks::<DatabaseName, WriteClock>::starting_at(1);
        let everywhere = |name: &str| clocks.of(&name.into()).round(Reach::NOTHING);
        assert_eq!(everywhere("new"), 1);
        let first = clocks.of(&"first".into());
        clocks.of(&"busy".into()).rise(42, Reach::of("a"));
        assert_eq!(clocks.of(&"busy".into()).round(Reach::of("a")), 42);
        for other in 0..KEPT {
            clocks.of(&format!("db{other}").into());
        }
        assert!(clocks.0.lock().unwrap().clocks.len() <= KEPT);
        assert!(everywhere("busy") >= 42);
        assert!(Arc::ptr_eq(&first, &clocks.of(&"first".into())));
    }
}
