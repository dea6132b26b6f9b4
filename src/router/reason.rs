//! Why a statement went where it went: one closed set, the label in metrics, in SHOW commands and
//! in explanations.

use crate::sql::WriteReason;

/// Why a statement goes to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It may change something.
    Write(WriteReason),
    /// It belongs to a transaction that is open on the primary, or opens one there.
    Transaction,
    /// A hint or setting asked for the primary.
    HintPrimary,
    /// The client is pinned to its server.
    Pinned,
    /// No replica had seen enough before `routing.wait` was over.
    WaitExpired,
    /// Replicas are known to need longer than `routing.wait`.
    TooFarBehind,
    /// No replica is up.
    NoReplica,
    /// Every replica that is up lags more than `routing.max_lag`.
    ReplicasLagging,
    /// Every replica that is up is paused or being drained.
    ReplicasPaused,
    /// `routing.reads` is `primary`.
    ReadsDisabled,
    /// A replica failed it, and it was repeated.
    ReplicaFailed,
    /// Every server connection to be had was younger than what is known of its node.
    ServerTooYoung,
    /// It is too large to be kept for repeating.
    TooLarge,
    /// It is a read.
    Read,
    /// It opens, or belongs to, a read-only transaction.
    ReadOnlyTransaction,
    /// A hint or setting asked for a replica.
    HintReplica,
    /// It belongs to a transaction that has only read so far (`routing.transactions` is `until_write`).
    OnlyReadSoFar,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 27] = [
        Self::Write(WriteReason::Statement),
        Self::Write(WriteReason::RowLock),
        Self::Write(WriteReason::Into),
        Self::Write(WriteReason::ModifyingCte),
        Self::Write(WriteReason::Function),
        Self::Write(WriteReason::Relation),
        Self::Write(WriteReason::Type),
        Self::Write(WriteReason::Unparsed),
        Self::Write(WriteReason::CatalogUnknown),
        Self::Write(WriteReason::Session),
        Self::Write(WriteReason::TooLong),
        Self::Transaction,
        Self::HintPrimary,
        Self::Pinned,
        Self::WaitExpired,
        Self::TooFarBehind,
        Self::NoReplica,
        Self::ReplicasLagging,
        Self::ReplicasPaused,
        Self::ReadsDisabled,
        Self::ReplicaFailed,
        Self::ServerTooYoung,
        Self::TooLarge,
        Self::Read,
        Self::ReadOnlyTransaction,
        Self::HintReplica,
        Self::OnlyReadSoFar,
    ];

    /// Its place in [`Reason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Write(reason) => reason as usize,
            Self::Transaction => 11,
            Self::HintPrimary => 12,
            Self::Pinned => 13,
            Self::WaitExpired => 14,
            Self::TooFarBehind => 15,
            Self::NoReplica => 16,
            Self::ReplicasLagging => 17,
            Self::ReplicasPaused => 18,
            Self::ReadsDisabled => 19,
            Self::ReplicaFailed => 20,
            Self::ServerTooYoung => 21,
            Self::TooLarge => 22,
            Self::Read => 23,
            Self::ReadOnlyTransaction => 24,
            Self::HintReplica => 25,
            Self::OnlyReadSoFar => 26,
        }
    }

    /// The label in metrics and SHOW commands.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write(WriteReason::Statement) => "write_statement",
            Self::Write(WriteReason::RowLock) => "write_row_lock",
            Self::Write(WriteReason::Into) => "write_select_into",
            Self::Write(WriteReason::ModifyingCte) => "write_modifying_cte",
            Self::Write(WriteReason::Function) => "write_function",
            Self::Write(WriteReason::Relation) => "write_relation",
            Self::Write(WriteReason::Type) => "write_type",
            Self::Write(WriteReason::Unparsed) => "write_unparsed",
            Self::Write(WriteReason::CatalogUnknown) => "write_catalog_unknown",
            Self::Write(WriteReason::Session) => "write_session",
            Self::Write(WriteReason::TooLong) => "write_too_long",
            Self::Transaction => "transaction",
            Self::HintPrimary => "hint_primary",
            Self::Pinned => "pinned",
            Self::WaitExpired => "wait_expired",
            Self::TooFarBehind => "too_far_behind",
            Self::NoReplica => "no_replica",
            Self::ReplicasLagging => "replicas_lagging",
            Self::ReplicasPaused => "replicas_paused",
            Self::ReadsDisabled => "reads_disabled",
            Self::ReplicaFailed => "replica_failed",
            Self::ServerTooYoung => "server_too_young",
            Self::TooLarge => "too_large",
            Self::Read => "read",
            Self::ReadOnlyTransaction => "read_only_transaction",
            Self::HintReplica => "hint_replica",
            Self::OnlyReadSoFar => "only_read_so_far",
        }
    }

    /// One sentence for people.
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Write(reason) => explain_write(reason),
            Self::Transaction => "it is part of a transaction that runs on the primary",
            Self::HintPrimary => "a hint asks for the primary",
            Self::Pinned => "the client is pinned to its server (SHOW PINS says why)",
            Self::WaitExpired => "no replica had replayed what it must see within routing.wait",
            Self::TooFarBehind => {
                "the replicas are further behind what it must see than routing.wait would make up for"
            }
            Self::NoReplica => "no replica is up",
            Self::ReplicasLagging => "every replica lags more than routing.max_lag",
            Self::ReplicasPaused => "every replica is paused or being drained",
            Self::ReadsDisabled => "routing.reads is primary",
            Self::ReplicaFailed => "a replica could not run it, so it was repeated",
            Self::ServerTooYoung => "every server connection was younger than what is known of its replica",
            Self::TooLarge => "it is too large to be kept for repeating it, should a replica fail",
            Self::Read => "it is a read",
            Self::ReadOnlyTransaction => "it is part of a read-only transaction",
            Self::HintReplica => "a hint asks for a replica",
            Self::OnlyReadSoFar => "it is part of a transaction that has only read so far",
        }
    }
}

const fn explain_write(reason: WriteReason) -> &'static str {
    match reason {
        WriteReason::Statement => "the statement is not a query",
        WriteReason::RowLock => "it locks rows",
        WriteReason::Into => "SELECT INTO creates a table",
        WriteReason::ModifyingCte => "a part of its WITH modifies data",
        WriteReason::Function => "it calls a function that is volatile, or bound to a session or a node",
        WriteReason::Relation => {
            "it uses a relation that is not the same on every node, or that hides a volatile function"
        }
        WriteReason::Type => {
            "a type that it has to do with has a check, cast, operator or input function that is volatile"
        }
        WriteReason::Unparsed => "it was not understood",
        WriteReason::CatalogUnknown => "the server's functions and relations are not known yet",
        WriteReason::Session => "it concerns the session",
        WriteReason::TooLong => "it is longer than what is looked at",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITES: [WriteReason; 11] = [
        WriteReason::Statement,
        WriteReason::RowLock,
        WriteReason::Into,
        WriteReason::ModifyingCte,
        WriteReason::Function,
        WriteReason::Relation,
        WriteReason::Type,
        WriteReason::Unparsed,
        WriteReason::CatalogUnknown,
        WriteReason::Session,
        WriteReason::TooLong,
    ];

    #[test]
    fn each_is_where_its_index_says() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index, "{reason:?}");
        }
    }

    #[test]
    fn write_labels_are_the_words_of_the_sql_room() {
        for reason in WRITES {
            assert_eq!(Reason::Write(reason).as_str(), format!("write_{}", reason.as_str()));
            assert!(!Reason::Write(reason).explain().is_empty());
        }
    }
}
