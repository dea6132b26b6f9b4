//! Why a client keeps its server after its transaction: a set of reasons, each of which can be seen and ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::pins::{PinClass, PinPolicy, PinSettings};

/// One reason for a pin. The label in metrics and SHOW commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The pool's mode is `session`.
    SessionMode,
    /// Temporary objects.
    Temporary,
    /// A cursor WITH HOLD.
    HoldCursor,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// SQL-level PREPARE.
    Prepare,
    /// LOAD.
    Load,
    /// State that cannot be replayed: `set_config` with a computed name or value, `setseed`, ….
    SessionState,
    /// What the session did with sequences, for `currval` and `lastval`.
    Sequences,
    /// A replication connection, which has a server of its own for as long as it lasts.
    Replication,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 9] = [
        Self::SessionMode,
        Self::Temporary,
        Self::HoldCursor,
        Self::AdvisoryLock,
        Self::Prepare,
        Self::Load,
        Self::SessionState,
        Self::Sequences,
        Self::Replication,
    ];

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionMode => "session_mode",
            Self::Temporary => "temporary",
            Self::HoldCursor => "hold_cursor",
            Self::AdvisoryLock => "advisory_lock",
            Self::Prepare => "prepare",
            Self::Load => "load",
            Self::SessionState => "session_state",
            Self::Sequences => "sequences",
            Self::Replication => "replication",
        }
    }

    /// What it is called in the configuration, where a policy for it can be set.
    #[must_use]
    pub const fn class(self) -> Option<PinClass> {
        match self {
            Self::Temporary => Some(PinClass::Temporary),
            Self::HoldCursor => Some(PinClass::HoldCursor),
            Self::AdvisoryLock => Some(PinClass::AdvisoryLock),
            Self::Prepare => Some(PinClass::Prepare),
            Self::Load => Some(PinClass::Load),
            Self::SessionState => Some(PinClass::SessionState),
            Self::Sequences => Some(PinClass::Sequences),
            Self::SessionMode | Self::Replication => None,
        }
    }
}

/// The reasons that hold for one client now, and what is to become of those that may yet come.
#[derive(Debug, Default)]
pub struct Pins {
    session_mode: Option<()>,
    settings: Arc<PinSettings>,
    /// Boxed: few clients are ever pinned.
    kept: Option<Box<Kept>>,
}

/// What lives on the server that nothing can bring along.
#[derive(Debug, Default)]
struct Kept {
    reasons: BTreeSet<Reason>,
    cursors: BTreeSet<String>,
    prepared: BTreeSet<String>,
    /// What must happen to the server before another client may have it, though nothing pins.
    scrub: Option<Scrub>,
    place: Option<Place>,
    refusals: Vec<Refusal>,
}

/// How a server is made clean of what a policy had ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scrub {
    /// By DISCARD ALL.
    Discard,
    /// Not at all: it is closed.
    Close,
}

/// A statement that was refused because it would have pinned its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For what.
    pub reason: Reason,
    /// Why.
    pub cause: Cause,
}

/// Why a statement that would have pinned was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The policy for its reason is `reject`.
    Policy,
    /// `pins.budget` was used up.
    Budget,
}

/// How many servers of one pool are pinned.
#[derive(Debug, Default)]
pub struct Room(AtomicUsize);

/// A pinned server's place among those of its pool; given up when dropped.
#[derive(Debug)]
struct Place(Arc<Room>);

/// The cursors that a client held at some time.
#[derive(Debug)]
pub(super) struct HeldCursors(BTreeSet<String>);

impl Room {
    /// A place for one more, if there are fewer than `most` (0: any number).
    fn enter(self: &Arc<Self>, most: usize) -> Option<Place> {
        let one_more = |pinned: usize| (most == 0 || pinned < most).then_some(pinned + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Kept {
    fn pins(&self) -> bool {
        !(self.reasons.is_empty() && self.cursors.is_empty() && self.prepared.is_empty())
    }
}

impl Pins {
    /// The pins of a new client.
    #[must_use]
    pub fn new(settings: Arc<PinSettings>) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The pins of a new client in session pooling.
    #[must_use]
    pub fn for_session_mode(settings: Arc<PinSettings>) -> Self {
        Self { session_mode: Some(()), ..Self::new(settings) }
    }

    /// Whether nothing keeps the server.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.session_mode.is_none() && self.kept.as_ref().is_none_or(|kept| !kept.pins())
    }

    /// Whether nothing keeps the server, and nothing that concerns pins has happened on it.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        self.session_mode.is_none() && self.kept.is_none()
    }

    /// Whether `reason` holds.
    #[must_use]
    pub fn has(&self, reason: Reason) -> bool {
        if reason == Reason::SessionMode {
            return self.session_mode.is_some();
        }
        self.kept.as_ref().is_some_and(|kept| match reason {
            Reason::HoldCursor => !kept.cursors.is_empty(),
            Reason::Prepare => !kept.prepared.is_empty(),
            _ => kept.reasons.contains(&reason),
        })
    }

    /// The reasons that hold.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(|reason| self.has(*reason))
    }

    /// Whether the server holds anything that a reset must remove before another client may have it.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.session_mode.is_some() || self.scrub().is_some() || !self.is_empty()
    }

    /// What must happen to the server before another client may have it.
    #[must_use]
    pub fn scrub(&self) -> Option<Scrub> {
        self.kept.as_ref().and_then(|kept| kept.scrub)
    }

    /// The settings that hold for it.
    #[must_use]
    pub const fn settings(&self) -> &Arc<PinSettings> {
        &self.settings
    }

    /// Follows other settings, for statements from now on.
    pub(super) fn obey(&mut self, settings: Arc<PinSettings>) {
        self.settings = settings;
    }

    /// Whether nothing is refused or ignored. In session pooling nothing is: the server is kept anyway.
    pub(super) fn is_lenient(&self) -> bool {
        self.session_mode.is_some() || self.settings.is_lenient()
    }

    /// What becomes of a statement that would pin for `reason`.
    #[must_use]
    pub fn policy(&self, reason: Reason) -> PinPolicy {
        let class = reason.class().filter(|_| self.session_mode.is_none());
        class.map_or(PinPolicy::Pin, |class| self.settings.policy(class))
    }

    /// Whether clients that move sequences keep their servers.
    pub(super) fn keeps_sequences(&self) -> bool {
        self.session_mode.is_none() && self.settings.policy(PinClass::Sequences) == PinPolicy::Pin
    }

    /// Takes a place among the pinned servers in `room`, unless it has one; false when the budget is used up.
    pub(super) fn reserve(&mut self, room: &Arc<Room>) -> bool {
        let most = self.settings.budget;
        let kept = self.kept();
        if kept.place.is_none() {
            kept.place = room.enter(most);
        }
        kept.place.is_some()
    }

    /// After a batch: has a place in `room` if it keeps its server, whether or not there was one left, and else none.
    pub(super) fn settle(&mut self, room: &Arc<Room>) {
        let Some(kept) = &mut self.kept else { return };
        if kept.pins() {
            if kept.place.is_none() && self.session_mode.is_none() {
                kept.place = room.enter(0);
            }
            return;
        }
        kept.place = None;
        if kept.scrub.is_none() && kept.refusals.is_empty() {
            self.kept = None;
        }
    }

    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.kept().refusals.push(refusal);
    }

    pub(super) fn take_refusals(&mut self) -> Vec<Refusal> {
        self.kept.as_mut().map(|kept| std::mem::take(&mut kept.refusals)).unwrap_or_default()
    }

    fn kept(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }

    /// Whether the policy for `reason` is to ignore it; the server must be cleaned by `scrub` then.
    fn ignores(&mut self, reason: Reason, scrub: Scrub) -> bool {
        let ignored = self.policy(reason) == PinPolicy::Ignore;
        if ignored {
            let kept = self.kept();
            kept.scrub = kept.scrub.max(Some(scrub));
        }
        ignored
    }

    /// Takes note that `reason` holds; `scrub` is what removes it.
    pub(super) fn add(&mut self, reason: Reason, scrub: Scrub) {
        if scrub == Scrub::Close {
            // Whenever the server goes back, and why ever: no DISCARD ALL makes it fit for others.
            self.kept().scrub = Some(scrub);
        }
        if !self.ignores(reason, scrub) {
            self.kept().reasons.insert(reason);
        }
    }

    /// Takes note that `reason` has ended, as the server itself said.
    pub fn end(&mut self, reason: Reason) {
        if let Some(kept) = &mut self.kept {
            kept.reasons.remove(&reason);
        }
    }

    pub(super) fn hold_cursor(&mut self, name: String) {
        if !self.ignores(Reason::HoldCursor, Scrub::Discard) {
            self.kept().cursors.insert(name);
        }
    }

    pub(super) fn close_cursor(&mut self, name: &str) {
        if let Some(kept) = &mut self.kept {
            kept.cursors.remove(name);
        }
    }

    pub(super) fn close_cursors(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.cursors.clear();
        }
    }

    pub(super) fn prepare(&mut self, name: String) {
        if !self.ignores(Reason::Prepare, Scrub::Discard) {
            self.kept().prepared.insert(name);
        }
    }

    pub(super) fn deallocate(&mut self, name: &str) {
        if let Some(kept) = &mut self.kept {
            kept.prepared.remove(name);
        }
    }

    pub(super) fn deallocate_all(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.prepared.clear();
        }
    }

    /// The client has discarded all; what no DISCARD removes remains.
    pub(super) fn discard_all(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        let Kept { scrub, refusals, .. } = *kept;
        let scrub = scrub.filter(|scrub| *scrub == Scrub::Close);
        if scrub.is_some() || !refusals.is_empty() {
            self.kept = Some(Box::new(Kept { scrub, refusals, ..Kept::default() }));
        }
    }

    /// The server is another one, or as if it were: nothing of this client is there.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    /// What a rollback brings back.
    pub(super) fn held_cursors(&self) -> HeldCursors {
        HeldCursors(self.kept.as_ref().map(|kept| kept.cursors.clone()).unwrap_or_default())
    }

    pub(super) fn restore(&mut self, held: HeldCursors) {
        if self.kept.is_some() || !held.0.is_empty() {
            self.kept().cursors = held.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_as_many_places_as_the_budget_allows() {
        let room = Arc::new(Room::default());
        let (first, second) = (room.enter(2), room.enter(2));
        assert!(first.is_some() && second.is_some());
        assert!(room.enter(2).is_none() && room.enter(0).is_some());
        drop(first);
        assert!(room.enter(2).is_some());
    }

    #[test]
    fn a_place_is_kept_for_as_long_as_something_pins() {
        let (room, mut pins) = (Arc::new(Room::default()), Pins::default());
        let pinned = || room.0.load(Ordering::Relaxed);
        assert!(pins.reserve(&room));
        assert_eq!(pinned(), 1);
        pins.settle(&room);
        assert!(pins.is_untouched() && pinned() == 0, "the statement pinned nothing");
        pins.add(Reason::Load, Scrub::Close);
        pins.settle(&room);
        assert_eq!(pinned(), 1, "what was seen too late counts, too");
        pins.prepare("p".to_owned());
        assert!(pins.reserve(&room) && pinned() == 1, "one place is enough");
        pins.discard_all();
        assert_eq!(pinned(), 0);
    }
}
