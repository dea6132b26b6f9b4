//! What a client leaves behind: a server that is cancelled, rolled back and reset, and goes back to its pool.
//!
//! A client that vanishes costs no server connection; one that cannot be cleaned in time is closed.

use std::time::Duration;

use bytes::BytesMut;

use super::task::{Attachment, Client};
use crate::net::wire::Filled;
use crate::protocol::frame::{Frame, Incomplete, Next};
use crate::protocol::frontend;
use crate::protocol::replies::{Event, Kind, Whose};
use crate::protocol::tag::{TransactionStatus, frontend as tag};
use crate::server::Server;
use crate::session::Session;
use crate::session::pins::Scrub;

impl Client {
    /// Leaves in good order.
    pub(super) async fn leave(mut self: Box<Self>) {
        let Attachment::Lent(_) = &self.attachment else { return };
        let timeout = self.limits().cancel_timeout;
        if tokio::time::timeout(timeout, self.clean_up(timeout)).await.is_err()
            && let Attachment::Lent(held) = &mut self.attachment
        {
            held.lease.break_off("not clean in time after its client left");
        }
        if let Attachment::Lent(held) = &mut self.attachment {
            held.choose_audit();
        }
        self.release().await;
    }

    async fn clean_up(&mut self, timeout: Duration) {
        let Attachment::Lent(held) = &mut self.attachment else { return };
        let server: &mut Server = &mut held.lease;
        if server.broken().is_some() {
            return;
        }
        if !server.replies.is_empty() || server.replies.copying_in() {
            self.key.slot.cancel(timeout).await;
        }
        if server.drain(&mut self.session).await.is_err() {
            server.break_off("lost after its client left");
            return;
        }
        if server.replies.status() != TransactionStatus::Idle && server.run_own("ROLLBACK", timeout).await.is_err() {
            server.break_off("could not be rolled back");
            return;
        }
        if self.session.pins().needs_reset() {
            if self.session.pins().scrub() == Some(Scrub::Close) {
                return server.break_off("holds what no reset removes");
            }
            if server.discard_all(timeout).await.is_err() {
                return server.break_off("could not be reset");
            }
            self.session.reset(&mut server.carried);
        } else if self.session.must_unlisten() && server.run_own("UNLISTEN *", timeout).await.is_err() {
            server.break_off("listens to what nobody hears");
        } else {
            self.session.abandoned(&mut server.carried);
        }
    }
}

impl Server {
    /// Reads and drops all that it owes; ends a copy and an extended query that its client left open.
    ///
    /// The session hears of everything, so that the books of the server are true afterwards.
    async fn drain(&mut self, session: &mut Session) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        if self.wire.is_torn() {
            // A message was left half sent: no other can follow.
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        if self.replies.copying_in() {
            crate::protocol::backend::message(&mut out, tag::COPY_FAIL, |out| out.extend_from_slice(b"client left\0"));
            self.replies.expect(Kind::CopyEnd, Whose::Ours, None);
        }
        if self.replies.is_unsynced() {
            if !self.replies.is_skipping() {
                // A Sync alone would commit what its client never did.
                frontend::put_refused(&mut out);
                self.replies.expect(Kind::Refused, Whose::Ours, None);
            }
            frontend::put_sync(&mut out);
            self.replies.expect(Kind::Sync, Whose::Ours, None);
        }
        self.wire.send(&out).await?;
        while !self.replies.is_empty() {
            match self.wire.frame(|_, _, _| Incomplete::Stream).map_err(|_| std::io::ErrorKind::InvalidData)? {
                Next::Need { missing } => {
                    if self.wire.fill(missing.min(4096)).await? == Filled::End {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Next::Frame(frame) => {
                    self.dropped(frame, session)?;
                    self.wire.done();
                }
            }
        }
        Ok(())
    }

    /// Takes note of a message that nobody reads.
    fn dropped(&mut self, frame: Frame, session: &mut Session) -> std::io::Result<()> {
        if !frame.is_start() {
            return Ok(());
        }
        let Self { wire, replies, carried, .. } = self;
        let body = frame.body(wire.bytes());
        while replies.take_answered().is_some() {}
        let heard = replies.on(frame.tag, body.first().copied().unwrap_or(0));
        match heard.map_err(|_| std::io::ErrorKind::InvalidData)?.1 {
            Event::Command => {
                if let Some(note) = replies.front_note() {
                    session.on_command(note, body, carried);
                }
            }
            event => session.on_reply(event, frame.tag, body, carried),
        }
        while replies.take_answered().is_some() {}
        Ok(())
    }
}
