//! The one place where a batch waits: for whichever socket is ready first.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::{Heard, Hold, Relay, Watch};
use crate::net::wire::Filled;

/// What ended the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// A socket took all that was waiting for it.
    Written,
    /// The server sent something.
    ServerSpoke,
    /// The server hung up.
    ServerEnded,
    /// The client sent something.
    ClientSpoke,
    /// The client hung up.
    ClientEnded,
    /// The client's socket failed.
    ClientFailed,
}

impl Relay<'_> {
    pub(super) async fn wait(&mut self) -> Happened {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        if let Poll::Ready(happened) = self.poll_upstream(cx) {
            return Poll::Ready(happened);
        }
        if let Poll::Ready(happened) = self.poll_downstream(cx) {
            return Poll::Ready(happened);
        }
        self.poll_client(cx)
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        if self.up.is_empty() {
            return Poll::Pending;
        }
        match self.server.wire.poll_send(cx, &mut self.up, self.client.bytes()) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(Happened::Written),
            Poll::Ready(Err(_)) => {
                // It may have said why before it hung up: what is left to read decides.
                self.up.clear();
                self.server.break_off("write failed");
                Poll::Pending
            }
        }
    }

    fn poll_downstream(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        if !self.down.is_empty() && self.hold == Hold::No {
            self.heard = Heard::Something;
            match self.client.poll_send(cx, &mut self.down, self.server.wire.bytes()) {
                // Back-pressure: the server is not read while the client does not take its bytes.
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {
                    self.server.wire.done();
                    return Poll::Ready(Happened::Written);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Happened::ClientFailed),
            }
        }
        match self.server.wire.poll_fill(cx, 1) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Filled::Bytes(_))) => Poll::Ready(Happened::ServerSpoke),
            Poll::Ready(Ok(Filled::End) | Err(_)) => Poll::Ready(Happened::ServerEnded),
        }
    }

    /// Watches the client, so that its end is noticed and its next messages are at hand; bounded by the buffer.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        if self.watch == Watch::Ended || !self.client.has_room() {
            return Poll::Pending;
        }
        match self.client.poll_fill(cx, 1) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Filled::Bytes(_))) => Poll::Ready(Happened::ClientSpoke),
            Poll::Ready(Ok(Filled::End)) => Poll::Ready(Happened::ClientEnded),
            Poll::Ready(Err(_)) => Poll::Ready(Happened::ClientFailed),
        }
    }
}
