//! Where a client is: in a transaction or not, in a sequence of messages that has failed.

use super::Session;
use crate::protocol::tag::{TransactionStatus, frontend as tag};
use crate::sql::command::TransactionModes;

/// A transaction that the client began and no server knows of yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// The statement that began it, as the client wrote it.
    pub text: Box<[u8]>,
    /// What it asked for.
    pub modes: TransactionModes,
    /// Whether it has failed since, for want of a server.
    pub failed: bool,
}

/// Where the client is in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tx {
    /// Outside.
    Idle,
    /// Inside one that no server has begun.
    Deferred(Deferred),
    /// Inside one that its server has begun.
    Open(TransactionStatus),
}

/// How messages of the extended protocol stand that no server has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequence {
    Sound,
    /// An error came: what is before the next Sync does nothing (protocol chapter, Extended Query).
    Failed,
}

impl Session {
    /// Where the client is in a transaction.
    #[must_use]
    pub const fn tx(&self) -> &Tx {
        &self.tx
    }

    /// The transaction status as the client believes it.
    #[must_use]
    pub const fn status(&self) -> TransactionStatus {
        match &self.tx {
            Tx::Idle => TransactionStatus::Idle,
            Tx::Deferred(Deferred { failed: true, .. }) => TransactionStatus::Failed,
            Tx::Deferred(_) => TransactionStatus::InTransaction,
            Tx::Open(status) => *status,
        }
    }

    /// No server could be had for a batch: says whether the client may go on all the same, outside of a transaction, or in one that
    /// has failed.
    pub fn goes_on_without(&mut self) -> bool {
        if let Tx::Deferred(begun) = &mut self.tx {
            begun.failed = true;
        }
        !matches!(self.tx, Tx::Open(_))
    }

    /// An error was the answer to messages that are not followed by a Sync yet: all others before it are passed over.
    pub const fn pass_over(&mut self) {
        self.sequence = Sequence::Failed;
    }

    /// Whether a message of the client's is passed over.
    pub const fn passes_over(&mut self, frontend_tag: u8) -> bool {
        if frontend_tag == tag::SYNC {
            self.sequence = Sequence::Sound;
        }
        matches!(self.sequence, Sequence::Failed) && frontend_tag != tag::TERMINATE
    }
}
