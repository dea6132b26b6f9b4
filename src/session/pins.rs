//! Why a client keeps its server after its transaction: a set of reasons, each of which can be seen and ends.

use std::collections::BTreeSet;

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
    /// A replication connection, which has a server of its own for as long as it lasts.
    Replication,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::SessionMode,
        Self::Temporary,
        Self::HoldCursor,
        Self::AdvisoryLock,
        Self::Prepare,
        Self::Load,
        Self::SessionState,
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
            Self::Replication => "replication",
        }
    }
}

/// The reasons that hold for one client now.
#[derive(Debug, Default)]
pub struct Pins {
    session_mode: Option<()>,
    reasons: BTreeSet<Reason>,
    cursors: BTreeSet<String>,
    prepared: BTreeSet<String>,
}

/// The cursors that a client held at some time.
#[derive(Debug)]
pub(super) struct HeldCursors(BTreeSet<String>);

impl Pins {
    /// The pins of a new client in session pooling.
    #[must_use]
    pub fn for_session_mode() -> Self {
        Self { session_mode: Some(()), ..Self::default() }
    }

    /// Whether nothing keeps the server.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.session_mode.is_none() && self.reasons.is_empty() && self.cursors.is_empty() && self.prepared.is_empty()
    }

    /// Whether `reason` holds.
    #[must_use]
    pub fn has(&self, reason: Reason) -> bool {
        match reason {
            Reason::SessionMode => self.session_mode.is_some(),
            Reason::HoldCursor => !self.cursors.is_empty(),
            Reason::Prepare => !self.prepared.is_empty(),
            _ => self.reasons.contains(&reason),
        }
    }

    /// The reasons that hold.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(|reason| self.has(*reason))
    }

    /// Whether the server holds anything that a reset must remove before another client may have it.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.reasons().next().is_some()
    }

    pub(super) fn add(&mut self, reason: Reason) {
        self.reasons.insert(reason);
    }

    /// Takes note that `reason` has ended, as the server itself said.
    pub fn end(&mut self, reason: Reason) {
        self.reasons.remove(&reason);
    }

    pub(super) fn hold_cursor(&mut self, name: String) {
        self.cursors.insert(name);
    }

    pub(super) fn close_cursor(&mut self, name: &str) {
        self.cursors.remove(name);
    }

    pub(super) fn close_cursors(&mut self) {
        self.cursors.clear();
    }

    pub(super) fn prepare(&mut self, name: String) {
        self.prepared.insert(name);
    }

    pub(super) fn deallocate(&mut self, name: &str) {
        self.prepared.remove(name);
    }

    pub(super) fn deallocate_all(&mut self) {
        self.prepared.clear();
    }

    pub(super) fn discard_all(&mut self) {
        *self = Self { session_mode: self.session_mode, ..Self::default() };
    }

    /// What a rollback brings back.
    pub(super) fn held_cursors(&self) -> HeldCursors {
        HeldCursors(self.cursors.clone())
    }

    pub(super) fn restore(&mut self, held: HeldCursors) {
        self.cursors = held.0;
    }
}
