//! A statement whose result has changed since its server planned it, prepared anew without its client's knowledge.
//!
//! PostgreSQL refuses it in the session that prepared it (0A000, "cached plan must not change result type"). Through
//! Howdah the plan may be that of another client, from before the change, while a session that prepares the text now
//! would have no trouble. What has failed is the batch's first Bind or Describe, so nothing was run: the server is given
//! the text under a new name, and the batch goes on where it stopped. Only where the client learns in this batch what
//! the result looks like, for it might take the new rows for what the old ones were.

use super::{Job, Relay, Until};
use crate::protocol::frontend::{self, Bind, Object};
use crate::protocol::replies::Failure;
use crate::protocol::tag::frontend as tag;
use crate::server::Server;
use crate::session::{Batch, Learns, Note, Session, Tx};

/// Whether a batch can be healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heal {
    /// It cannot be, or has been.
    No,
    /// It can be.
    Could,
    /// It goes on with this message when the server is ready.
    From(usize),
}

impl Heal {
    /// At the beginning: outside a transaction, and with nothing unsynced before it.
    pub(super) fn of(job: &Job<'_>, session: &Session, server: &Server) -> Self {
        let whole = job.until == Until::Replied && job.frames.last().is_some_and(|frame| frame.tag == tag::SYNC);
        if whole && *session.tx() == Tx::Idle && server.replies.is_clean() { Self::Could } else { Self::No }
    }

    /// How `batch` can go on after `failure`, of a statement whose result has changed.
    pub(super) fn cure(self, batch: Batch<'_>, session: &Session, failure: &Failure<Note>) -> Option<Cure> {
        let (Self::Could, Some(Note::Bound(outdated))) = (self, &failure.failed) else { return None };
        let (at, (frame, body)) =
            batch.messages().enumerate().find(|(_, (frame, _))| !matches!(frame.tag, tag::PARSE | tag::CLOSE))?;
        let (name, learns) = match frame.tag {
            tag::BIND => {
                let name = Bind::open(body).ok()?.statement;
                let described = batch.frames[at..].iter().any(|frame| frame.tag == tag::DESCRIBE);
                if batch.parses_before(name, frame) {
                    (name, Learns::All)
                } else if described {
                    (name, Learns::Result)
                } else {
                    return None;
                }
            }
            tag::DESCRIBE => match frontend::object(body).ok()? {
                (Object::Statement, name) => (name, Learns::All),
                (Object::Portal, _) => return None,
            },
            _ => return None,
        };
        session.means(name, outdated).then(|| Cure { at, name: name.into(), learns })
    }
}

/// How a batch goes on.
#[derive(Debug)]
pub(super) struct Cure {
    /// With which message.
    pub(super) at: usize,
    /// What the client calls the statement.
    pub(super) name: Box<[u8]>,
    /// What the client does not know from before.
    pub(super) learns: Learns,
}

impl Relay<'_> {
    /// Goes on with the batch, if that is what the server was waited for.
    pub(super) fn go_on(&mut self) -> bool {
        let Heal::From(at) = self.heal else { return false };
        self.heal = Heal::No;
        self.encode(at);
        true
    }
}
