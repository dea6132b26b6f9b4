//! What a statement text says, before anyone knows where it will run.
//!
//! Text in, class and commands out. This room knows neither clusters nor sessions, and it never
//! raises an error about SQL: what it does not understand is a write, and the server judges it.

mod body;
mod cache;
mod call;
pub mod catalog;
pub mod classify;
pub mod command;
mod dialect;
mod effects;
mod functions;
pub mod hidden;
pub mod hint;
mod kin;
pub mod normal;
pub mod reach;
pub mod scan;
pub mod signals;
mod split;
mod types;
mod walk;
mod writes;

/// What kind of thing a statement text does; several statements take the strictest class of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nothing in it can change anything, and any node of the cluster gives the same answer.
    Read,
    /// It changes something, or depends on node or session, or nobody can be sure.
    Write(WriteReason),
}

/// Why a statement counts as a write. The label in metrics and in explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteReason {
    /// The statement is not a query (INSERT, DDL, CALL, …).
    Statement,
    /// It locks rows (`FOR UPDATE`, `FOR SHARE`).
    RowLock,
    /// `SELECT … INTO`.
    Into,
    /// A data-modifying part inside WITH.
    ModifyingCte,
    /// It calls a function that is volatile, or bound to a session or node.
    Function,
    /// It reads a relation that hides a volatile function, or is temporary, unlogged, foreign or a system view.
    Relation,
    /// It has to do with a type whose check, cast, operator or input calls a function that is volatile.
    Type,
    /// The parser does not understand it.
    Unparsed,
    /// Facts about functions and relations have not been loaded from the server.
    CatalogUnknown,
    /// It concerns the session (SET, LISTEN, DECLARE, …).
    Session,
    /// It is longer than what is looked at.
    TooLong,
}

impl WriteReason {
    /// The label in metrics and explanations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::RowLock => "row_lock",
            Self::Into => "select_into",
            Self::ModifyingCte => "modifying_cte",
            Self::Function => "function",
            Self::Relation => "relation",
            Self::Type => "type",
            Self::Unparsed => "unparsed",
            Self::CatalogUnknown => "catalog_unknown",
            Self::Session => "session",
            Self::TooLong => "too_long",
        }
    }
}

/// Things in a text that the session must know about, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Effects(pub u32);

impl Effects {
    /// Has commands that `command::parse` tells apart (SET, BEGIN, LISTEN, DECLARE, …).
    pub const COMMANDS: Self = Self(1);
    /// Creates a temporary object.
    pub const TEMPORARY: Self = Self(1 << 1);
    /// Takes a session-level advisory lock (`pg_advisory_lock`, `pg_try_advisory_lock`, shared ones too).
    pub const ADVISORY_LOCK: Self = Self(1 << 2);
    /// Releases advisory locks (`pg_advisory_unlock…`).
    pub const ADVISORY_UNLOCK: Self = Self(1 << 3);
    /// Calls `set_config` in a form whose name, value or scope is not a literal or a bind parameter.
    pub const SET_CONFIG_OPAQUE: Self = Self(1 << 4);
    /// Changes the catalog: facts must be loaded anew.
    pub const DDL: Self = Self(1 << 5);
    /// May end the life of a temporary object (`DROP`).
    pub const DROP: Self = Self(1 << 6);
    /// Depends on state of the session that outlives the transaction and cannot be replayed (`setseed`, …).
    pub const SESSION_STATE: Self = Self(1 << 7);
    /// Changes or removes what statements may have been parsed with (ALTER, DROP, CREATE OR REPLACE, …).
    pub const RESHAPES: Self = Self(1 << 8);
    /// Asks what the session did with sequences (`currval`, `lastval`).
    pub const SEQUENCES: Self = Self(1 << 9);
    /// Changes what new sessions begin with (`ALTER ROLE | DATABASE … SET | RESET`).
    pub const DEFAULTS: Self = Self(1 << 10);
    /// Listens to a channel (LISTEN).
    pub const LISTEN: Self = Self(1 << 11);
    /// Asks which channels the session listens to (`pg_listening_channels`).
    pub const CHANNELS: Self = Self(1 << 12);
    /// Asks how far what the session has written and seen reaches (`SHOW howdah.last_lsn`).
    pub const LAST_LSN: Self = Self(1 << 13);
    /// Asks when its transaction began (`now()`, `CURRENT_DATE`, …). A read may.
    pub const NOW: Self = Self(1 << 14);
    /// May move a sequence, and so change what `currval` and `lastval` say: `nextval`, `setval`, or a write to a relation
    /// with a column that takes its values from one.
    pub const MOVES_SEQUENCE: Self = Self(1 << 15);
    /// Asks which statements the session has prepared (`pg_prepared_statements`).
    pub const STATEMENTS: Self = Self(1 << 16);
    /// Signals a process (`pg_terminate_backend`, `pg_cancel_backend`).
    pub const SIGNALS: Self = Self(1 << 17);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the session must know of any of it.
    #[must_use]
    pub const fn concern_session(self) -> bool {
        self.without(Self::NOW.with(Self::MOVES_SEQUENCE).with(Self::STATEMENTS).with(Self::SIGNALS)).0 != 0
    }

    /// This set but for what is in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether any of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What the words of `text` themselves say that it does, whatever the code that it calls may do besides.
#[must_use]
pub fn own(text: &[u8]) -> Effects {
    effects::of(text)
}

/// What the words of `text` themselves say that it leaves behind when its transaction is over, whatever the code that it
/// calls may do besides.
#[must_use]
pub fn lasting(text: &[u8]) -> Effects {
    effects::lasting(text)
}

/// What is known of one statement text. One whose class is [`Class::Read`] comes from `classify` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// The strictest class of its statements.
    pub class: Class,
    /// What the session must know.
    pub effects: Effects,
    /// What it reads, if it is a read; what it may change, if not.
    pub reach: reach::Reach,
    /// A hash of the text without comments and literals: equal for statements of one shape.
    pub fingerprint: u64,
    /// Set by `classify` alone, so that no other room can make a proof out of a class it wrote itself.
    proven: bool,
}

// === impl Analysis ===

impl Analysis {
    /// The analysis of a text that must run on the primary, and may change whatever there is.
    #[must_use]
    pub const fn write(reason: WriteReason, effects: Effects, fingerprint: u64) -> Self {
        let reach = reach::Reach::EVERYTHING;
        Self { class: Class::Write(reason), effects, reach, fingerprint, proven: false }
    }

    /// The strictest class of its statements.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The same where the text has parameters of types with these object identifiers.
    #[must_use]
    pub fn given(self, parameters: impl Iterator<Item = u32>, catalog: &catalog::Catalog) -> Self {
        match catalog.types().of_parameters(parameters) {
            None => self,
            Some(catalog::Trust::Plain) => Self { reach: reach::Reach::EVERYTHING, ..self },
            Some(catalog::Trust::Doubtful) => Self::write(WriteReason::Type, self.effects, self.fingerprint),
        }
    }

    /// The proof that the text may run on a replica; `None` for a write.
    #[must_use]
    pub fn read_only(&self) -> Option<classify::ReadOnly> {
        (self.proven && self.class == Class::Read).then(classify::ReadOnly::of_a_read)
    }
}
