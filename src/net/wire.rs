//! One side of an exchange: a stream, the buffer that its bytes are in, and how far they are framed.
//!
//! ```text
//! buffer:  | done          | framed, not done | read, not framed |
//!          0            done               at            buffer.len()      0 <= done <= at <= len
//! ```

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::buffer::{BUFFER, LARGE, Stash};
use super::stream::Stream;
use super::worker;
use crate::protocol::frame::{Frame, FrameError, Framer, HEADER, Incomplete, Next};
use crate::protocol::outbox::Outbox;

/// A Terminate message.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// A framed connection.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    stash: Arc<Stash>,
    /// What was read and not yet dealt with.
    buffer: BytesMut,
    at: usize,
    framer: Framer,
    received: u64,
    sent: u64,
    /// Where in a message the last thing sent ended.
    torn: Torn,
    /// The last read took all there was room for: TLS may hold more that no socket event announces.
    full: bool,
    /// The worker that the socket is registered with.
    worker: usize,
}

/// Where in a message something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// At its end.
    Whole,
    /// Before its end.
    Midway,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// This many bytes.
    Bytes(usize),
    /// The end of the stream.
    End,
}

impl Wire {
    /// A wire over `stream`, which is registered with this thread's runtime, with `ahead` already read from it.
    pub fn new(stream: Stream, stash: Arc<Stash>, ahead: &[u8]) -> Self {
        let mut buffer = BytesMut::new();
        if !ahead.is_empty() {
            buffer = stash.take();
            buffer.extend_from_slice(ahead);
        }
        Self {
            stream,
            stash,
            buffer,
            at: 0,
            framer: Framer::default(),
            received: 0,
            sent: 0,
            torn: Torn::Whole,
            full: false,
            worker: worker::here(),
        }
    }

    /// The stream itself.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The worker that the socket is registered with.
    pub const fn worker(&self) -> usize {
        self.worker
    }

    /// Registers the socket with this thread's runtime, unless it is; see [`Stream::settle`].
    pub fn settle(&mut self) -> io::Result<()> {
        let here = worker::here();
        if std::mem::replace(&mut self.worker, here) == here { Ok(()) } else { self.stream.settle() }
    }

    /// The bytes that frames point into.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Puts `bytes` in the place of those that are at `at`.
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.buffer.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// The body of `frame`, as far as it is here.
    pub fn body_mut(&mut self, frame: Frame) -> &mut [u8] {
        self.buffer.get_mut(frame.start + HEADER..frame.end()).unwrap_or_default()
    }

    /// Bytes read that are not yet framed.
    pub fn unframed(&self) -> usize {
        self.buffer.len() - self.at
    }

    /// Whether messages were read that are not framed yet, and that say more than goodbye.
    pub fn has_more_to_say(&self) -> bool {
        let rest = &self.buffer[self.at..];
        !rest.is_empty() && rest != TERMINATE
    }

    /// Bytes received and sent so far.
    pub const fn traffic(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// Whether the next byte belongs to a message whose head was framed before.
    pub const fn in_message(&self) -> bool {
        self.framer.in_message()
    }

    /// The next message or piece of one; see [`Framer::next`].
    pub fn frame(&mut self, incomplete: impl Fn(u8, usize, usize) -> Incomplete) -> Result<Next, FrameError> {
        let next = self.framer.next(&self.buffer, self.at, incomplete)?;
        if let Next::Frame(frame) = next {
            self.at = frame.end();
        }
        Ok(next)
    }

    /// Puts `frame`, the last one framed, back.
    pub fn unframe(&mut self, frame: Frame) {
        debug_assert_eq!(frame.end(), self.at);
        self.at = frame.start;
    }

    /// Forgets everything that was read, framed or not.
    pub fn skip(&mut self) {
        self.at = self.buffer.len();
        self.done();
    }

    /// Forgets the bytes of all frames so far; nothing may point into them any more.
    pub fn done(&mut self) {
        self.done_until(self.at);
    }

    /// Forgets the first `end` bytes.
    pub fn done_until(&mut self, end: usize) {
        self.buffer.advance(end);
        self.at -= end;
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.stash.give(std::mem::take(&mut self.buffer));
        }
    }

    /// Whether the peer waits for the rest of a message that was sent in part: nothing else may be sent to it.
    pub const fn is_torn(&self) -> bool {
        matches!(self.torn, Torn::Midway)
    }

    /// Takes note of whether what is sent now ends in the middle of a message.
    pub fn tear(&mut self, torn: Torn) {
        self.torn = torn;
    }

    /// Takes out the buffer with all that was framed; what was read beyond stays.
    pub fn take_framed(&mut self) -> BytesMut {
        let rest = self.unframed();
        if rest == 0 {
            self.at = 0;
            return std::mem::take(&mut self.buffer);
        }
        let mut next = self.stash.take();
        next.extend_from_slice(&self.buffer[self.at..]);
        self.buffer.truncate(self.at);
        self.at = 0;
        std::mem::replace(&mut self.buffer, next)
    }

    /// Gives a buffer that came from a wire back to the stash.
    pub fn keep(&self, buffer: BytesMut) {
        if buffer.capacity() > 0 {
            self.stash.give(buffer);
        }
    }

    /// Whether there is room for a read without a new allocation.
    pub fn has_room(&self) -> bool {
        self.buffer.len() < BUFFER
    }

    /// Ready when there is something to read; takes no buffer.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.full && self.stream.is_tls() {
            return Poll::Ready(Ok(()));
        }
        self.stream.poll_readable(cx)
    }

    /// Whether something has arrived, without a system call.
    pub fn is_readable_now(&self) -> bool {
        !self.buffer.is_empty() || self.stream.is_readable_now()
    }

    /// Reads once, at least `want` bytes having room. Takes a buffer only when there is something to read.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<Filled>> {
        if self.buffer.capacity() == 0 {
            if let Stream::Tcp(tcp) = &self.stream {
                ready!(tcp.poll_read_ready(cx))?;
            }
            self.buffer = self.stash.take();
        }
        // What filled a whole buffer is likely to go on: fewer and larger reads then.
        let want = if self.full { want.max(LARGE) } else { want.max(1) };
        if self.buffer.capacity() - self.buffer.len() < want {
            self.buffer.reserve(want.max(BUFFER));
        }
        let (before, room) = (self.buffer.len(), self.buffer.capacity());
        let polled = self.poll_read_into_spare(cx);
        if self.buffer.is_empty() {
            self.stash.give(std::mem::take(&mut self.buffer));
        }
        self.full = self.buffer.len() == room;
        ready!(polled)?;
        let count = self.buffer.len().saturating_sub(before);
        self.received += count as u64;
        Poll::Ready(Ok(if count == 0 { Filled::End } else { Filled::Bytes(count) }))
    }

    fn poll_read_into_spare(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The future of `read_buf` holds no state, so one made for each poll is as good as one kept.
        let read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(&mut self.stream, &mut self.buffer));
        read.poll(cx).map_ok(drop)
    }

    /// Whether the peer has hung up, and has said no more than goodbye since the last frame. Reads what has come
    /// beyond it, as far as there is room.
    pub fn has_hung_up(&mut self, cx: &mut Context<'_>) -> bool {
        self.has_room()
            && matches!(self.poll_fill(cx, 1), Poll::Ready(Ok(Filled::End) | Err(_)))
            && !self.has_more_to_say()
    }

    /// Reads once. Cancel safe.
    pub async fn fill(&mut self, want: usize) -> io::Result<Filled> {
        poll_fn(|cx| self.poll_fill(cx, want)).await
    }

    /// Writes as much of `outbox` as the socket takes; ready when all of it is written.
    /// `source` is the wire whose buffer the outbox's spans point into.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, source: &[u8]) -> Poll<io::Result<()>> {
        while !outbox.is_empty() {
            let mut room = Outbox::room();
            let count = outbox.slices(source, &mut room);
            let written = match &room[..count] {
                [one] => ready!(Pin::new(&mut self.stream).poll_write(cx, one))?,
                many => ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, many))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written as u64;
            outbox.advance(written);
        }
        if self.stream.is_tls() {
            return Pin::new(&mut self.stream).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all of `bytes`.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut outbox = Outbox::default();
        outbox.relay(0..bytes.len());
        poll_fn(|cx| self.poll_send(cx, &mut outbox, bytes)).await
    }

    /// Says farewell to the peer's socket; errors do not matter any more.
    pub async fn shutdown(&mut self) {
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.buffer.capacity() > 0 {
            self.stash.give(std::mem::take(&mut self.buffer));
        }
    }
}
