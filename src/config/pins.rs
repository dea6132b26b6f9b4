//! What becomes of clients that want a server for themselves: the section `pins`, general and as users and databases
//! override it.

use std::time::Duration;

use super::file::{Section, Zero};
use super::resolve::MOST_CONNECTIONS;

/// What becomes of a statement after which a client would keep its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinPolicy {
    /// The client keeps its server.
    #[default]
    Pin,
    /// The statement is refused before it takes effect.
    Reject,
    /// The server goes back when the transaction ends, and is reset; the client loses what it had there.
    Ignore,
}

/// What a client can be pinned by that has a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinClass {
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
    /// State that cannot be replayed.
    SessionState,
    /// What the session did with sequences.
    Sequences,
}

/// Which statements pin, and how long, and how many clients may be pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinSettings {
    /// In the order of [`PinClass::ALL`].
    policies: [PinPolicy; PinClass::ALL.len()],
    /// Most pinned servers of one pool; 0 for as many as the pool has.
    pub budget: usize,
    /// How long a pinned client may be idle between transactions; zero for ever.
    pub timeout: Duration,
}

/// What a user or a database sets for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinOverrides {
    policies: [Option<PinPolicy>; PinClass::ALL.len()],
    budget: Option<usize>,
    timeout: Option<Duration>,
}

impl PinPolicy {
    /// The word for it in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Reject => "reject",
            Self::Ignore => "ignore",
        }
    }
}

impl PinClass {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Temporary,
        Self::HoldCursor,
        Self::AdvisoryLock,
        Self::Prepare,
        Self::Load,
        Self::SessionState,
        Self::Sequences,
    ];

    /// The key of its policy, from the top of the file.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Temporary => "pins.temporary",
            Self::HoldCursor => "pins.hold_cursor",
            Self::AdvisoryLock => "pins.advisory_lock",
            Self::Prepare => "pins.prepare",
            Self::Load => "pins.load",
            Self::SessionState => "pins.session_state",
            Self::Sequences => "pins.sequences",
        }
    }

    /// Its policy where none is given. Few clients ask what they did with sequences; for them all who write would be pinned.
    const fn usual(self) -> PinPolicy {
        match self {
            Self::Sequences => PinPolicy::Ignore,
            _ => PinPolicy::Pin,
        }
    }

    /// The key within its section.
    fn name(self) -> &'static str {
        &self.key()["pins.".len()..]
    }
}

impl Default for PinSettings {
    fn default() -> Self {
        Self { policies: PinClass::ALL.map(PinClass::usual), budget: 0, timeout: Duration::ZERO }
    }
}

impl PinSettings {
    /// The policy for `class`.
    #[must_use]
    pub const fn policy(&self, class: PinClass) -> PinPolicy {
        self.policies[class as usize]
    }

    /// Whether nothing is refused or ignored, however much is pinned; sequences apart, of which a server forgets by itself
    /// what is no longer its client's.
    #[must_use]
    pub fn is_lenient(&self) -> bool {
        let pins = |class: &PinClass| *class == PinClass::Sequences || self.policy(*class) == PinPolicy::Pin;
        self.budget == 0 && PinClass::ALL.iter().all(pins)
    }

    /// Replaces what `over` sets.
    pub fn apply(&mut self, over: &PinOverrides) {
        for (policy, over) in self.policies.iter_mut().zip(over.policies) {
            *policy = over.unwrap_or(*policy);
        }
        self.budget = over.budget.unwrap_or(self.budget);
        self.timeout = over.timeout.unwrap_or(self.timeout);
    }
}

/// The section, and the same in `users[]` and `databases[]`.
pub(super) fn overrides(pins: &mut Section<'_, '_, '_>) -> PinOverrides {
    PinOverrides {
        policies: PinClass::ALL.map(|class| pins.choice(class.name(), POLICIES)),
        budget: pins.count("budget", 0..=MOST_CONNECTIONS),
        timeout: pins.duration("timeout", Zero::Allowed),
    }
}

/// The section at the top of the file.
pub(super) fn settings(pins: &mut Section<'_, '_, '_>) -> PinSettings {
    let mut settings = PinSettings::default();
    settings.apply(&overrides(pins));
    settings
}

const POLICIES: &[(&str, PinPolicy)] = &[
    (PinPolicy::Pin.as_str(), PinPolicy::Pin),
    (PinPolicy::Reject.as_str(), PinPolicy::Reject),
    (PinPolicy::Ignore.as_str(), PinPolicy::Ignore),
];
