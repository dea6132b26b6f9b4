//! Transactions that can begin anew on another node, because all that they have done is read.
//!
//! At READ COMMITTED every statement sees what is committed when it begins, so a transaction that has done nothing but plain
//! reads is at any moment like one that begins now. Whatever would be lost with the server (a savepoint, a cursor, a
//! portal, a setting for the transaction, its time) has to be done where it stays.

use super::lone::Lone;
use super::observe::{Batch, Plan};
use super::scope::is_momentary;
use super::{Deferred, Session, Tx};
use crate::protocol::tag::{TransactionStatus, frontend as tag};
use crate::sql::Effects;
use crate::sql::command::{Command, Isolation};

/// What a batch is to a transaction that could begin anew elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It reads, and leaves nothing behind: after it the transaction still can.
    Reads,
    /// It ends the transaction, or does nothing: wherever.
    Passes,
    /// Anything else.
    Stays,
}

/// Whether a transaction is READ COMMITTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It is what the server's sessions begin with.
    AsServer,
}

impl Committed {
    /// For a level that is known, or that nobody knows.
    #[must_use]
    pub fn at(level: Option<Isolation>) -> Self {
        if level.is_some_and(Isolation::is_read_committed) { Self::Yes } else { Self::No }
    }
}

impl Session {
    /// What `batch` is to the transaction that is open.
    #[must_use]
    pub fn step_of(&self, batch: Batch<'_>, plan: &Plan) -> Step {
        if self.tx == Tx::Open(TransactionStatus::Failed) {
            return Step::Passes;
        }
        if is_whole(batch) && batch.frames.iter().all(|frame| matches!(frame.tag, tag::SYNC | tag::CLOSE)) {
            return Step::Passes;
        }
        if let Some(Command::Commit { chain: false } | Command::Rollback { chain: false }) =
            self.lone_command(batch, plan).as_ref().and_then(Lone::command)
        {
            return Step::Passes;
        }
        if is_plain(batch, plan) { Step::Reads } else { Step::Stays }
    }

    /// Whether `begun` is READ COMMITTED, as far as the client has a say in it.
    #[must_use]
    pub fn read_committed(&self, begun: &Deferred) -> Committed {
        let level = match (begun.modes.isolation, self.settings().get("default_transaction_isolation")) {
            (Some(level), _) => Some(level),
            (None, Some(value)) => Isolation::of_setting(value.text()),
            (None, None) => return Committed::AsServer,
        };
        Committed::at(level)
    }
}

/// Whether `batch` reads, and leaves nothing open where it ran.
pub(super) fn is_plain(batch: Batch<'_>, plan: &Plan) -> bool {
    plan.only_reads
        && plan.effects == Effects::default()
        && is_whole(batch)
        && batch.messages().all(|(frame, body)| match frame.tag {
            _ if !frame.is_start() || !frame.is_end() => false,
            tag::QUERY | tag::PARSE => !is_momentary(body),
            tag::DESCRIBE | tag::CLOSE | tag::SYNC => true,
            tag::BIND => body.first() == Some(&0),
            // With a number of rows it may leave a portal that can go on.
            tag::EXECUTE => body == b"\0\0\0\0\0" && batch.binds_before(frame),
            _ => false,
        })
}

/// Whether the server is done with the batch when it has answered it.
fn is_whole(batch: Batch<'_>) -> bool {
    batch.frames.last().is_some_and(|frame| matches!(frame.tag, tag::QUERY | tag::SYNC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{Frame, Part};

    #[test]
    fn values_of_the_default_are_levels() {
        for (words, is) in [
            ("read committed", true),
            ("'READ UNCOMMITTED'", true),
            ("repeatable read", false),
            ("serializable", false),
            ("", false),
        ] {
            assert_eq!(Committed::at(Isolation::of_setting(words)) == Committed::Yes, is, "{words}");
        }
    }

    #[test]
    fn nothing_may_be_left_open() {
        const BIND: (u8, &[u8]) = (tag::BIND, b"\0\0\0\0\0\0\0\0");
        const EXECUTE: (u8, &[u8]) = (tag::EXECUTE, b"\0\0\0\0\0");
        const SYNC: (u8, &[u8]) = (tag::SYNC, b"");
        for (messages, plain) in [
            (&[BIND, EXECUTE, SYNC][..], true),
            (&[EXECUTE, SYNC], false),
            (&[BIND, (tag::EXECUTE, b"\0\0\0\0\x05"), SYNC], false),
            (&[(tag::BIND, b"c\0\0\0\0\0\0\0\0"), (tag::EXECUTE, b"c\0\0\0\0\0"), SYNC], false),
            (&[BIND, EXECUTE, (tag::FLUSH, b"")], false),
            (&[BIND, EXECUTE], false),
            (&[(tag::QUERY, b"select 1\0")], true),
            (&[(tag::QUERY, b"select 'now'::timestamptz\0")], false),
            (&[(tag::FUNCTION_CALL, b"")], false),
        ] {
            let (mut buffer, mut frames) = (Vec::new(), Vec::new());
            for (tag, body) in messages {
                frames.push(Frame { tag: *tag, start: buffer.len(), len: body.len() + 5, part: Part::Whole });
                buffer.push(*tag);
                buffer.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
                buffer.extend_from_slice(body);
            }
            let plan = Plan { only_reads: true, ..Plan::default() };
            assert_eq!(is_plain(Batch { buffer: &buffer, frames: &frames }, &plan), plain, "{messages:?}");
        }
    }
}
