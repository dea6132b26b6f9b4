//! Cutting what a client sends into batches: the messages up to the one after which it waits.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use super::answer;
use super::task::Client;
use crate::net::buffer::BUFFER;
use crate::net::wire::Filled;
use crate::protocol::error::Report;
use crate::protocol::frame::{Frame, FrameError, Incomplete, Next};
use crate::protocol::tag::frontend as tag;
use crate::relay::Until;
use crate::session::{Batch, Roaming};

/// What a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Messages, now in `Client::frames`, and whether the client waits for their answers.
    Batch(Until),
    /// Terminate.
    Terminate,
    /// It hung up.
    End,
}

/// Why nothing can be made of what a client sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("message longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("invalid frontend message type {tag}")]
    Unknown { tag: u8 },
    /// Somebody ended the connection, or the rest of a message was waited for in vain.
    #[error("no more is read")]
    Told(Box<Report>),
}

/// What came of waiting for more.
enum More {
    Bytes,
    /// Nothing for a while.
    Pause,
    End,
}

impl From<Filled> for More {
    fn from(filled: Filled) -> Self {
        if filled == Filled::End { Self::End } else { Self::Bytes }
    }
}

/// How long whole messages wait for the rest of their batch. PostgreSQL runs them as they come, and a client may wait for
/// an error, a notice or a lock before it goes on.
const PAUSE: Duration = Duration::from_millis(50);

/// A Bind longer than a buffer streams through, once its head, with the names in it, is here.
const BIND_HEAD: usize = BUFFER / 2;

/// Messages of most extended batches: Parse, Bind, Describe, Execute, Sync, and a few more.
const EXTENDED: usize = 7;

fn policy(kind: u8, total: usize, here: usize) -> Incomplete {
    match kind {
        tag::COPY_DATA | tag::FUNCTION_CALL => Incomplete::Stream,
        tag::BIND if total > BUFFER && here >= BIND_HEAD => Incomplete::Stream,
        _ => Incomplete::Wait,
    }
}

impl Client {
    /// The next batch. Cancel safe: what was framed is kept in `self.frames`.
    pub(super) async fn read_batch(&mut self) -> Result<Read, ReadError> {
        loop {
            match self.wire.frame(policy)? {
                Next::Frame(frame) => {
                    if let Some(read) = self.take(frame)? {
                        return Ok(read);
                    }
                }
                Next::Need { missing } => {
                    let full = self.frames.last().is_some_and(|frame| frame.end() >= BUFFER);
                    if !self.frames.is_empty() && (full || self.copying_in()) {
                        return Ok(Read::Batch(Until::Sent));
                    }
                    let limit = self.limits().max_query_size;
                    if missing > limit {
                        return Err(ReadError::TooLong { limit });
                    }
                    let want = missing.min(1 << 20);
                    let more = match poll_fn(|cx| Poll::Ready(self.wire.poll_fill(cx, want))).await {
                        Poll::Ready(filled) => More::from(filled?),
                        // Boxed, as few need it.
                        Poll::Pending => Box::pin(self.more(want)).await?,
                    };
                    match more {
                        More::Bytes => {}
                        More::Pause => return Ok(Read::Batch(Until::Sent)),
                        More::End => return Ok(Read::End),
                    }
                }
            }
        }
    }

    /// Waits for more; for what is already framed, not for long. Cancel safe.
    async fn more(&mut self, want: usize) -> Result<More, ReadError> {
        if self.frames.is_empty() {
            return self.rest(want).await.map(More::from);
        }
        match tokio::time::timeout(PAUSE, self.wire.fill(want)).await {
            Ok(filled) => Ok(filled?.into()),
            Err(_) => Ok(More::Pause),
        }
    }

    /// More of a message of which a part is here: like what is waited for between messages, for a time, and not if somebody ends the
    /// connection.
    async fn rest(&mut self, want: usize) -> Result<Filled, ReadError> {
        let limit = self.idle_limit();
        let fill = poll_fn(|cx| {
            if let Poll::Ready(filled) = self.wire.poll_fill(cx, want) {
                return Poll::Ready(filled.map_err(ReadError::from));
            }
            self.info.listen(cx.waker());
            if self.info.is_killed() {
                Poll::Ready(Err(ReadError::Told(Box::new(answer::killed()))))
            } else {
                Poll::Pending
            }
        });
        match limit {
            None => fill.await,
            Some((limit, report)) => match tokio::time::timeout(limit, fill).await {
                Ok(filled) => filled,
                Err(_) => Err(ReadError::Told(Box::new(report(self)))),
            },
        }
    }

    /// Whether the messages so far are a BEGIN of a transaction that may begin on a replica. JDBC sends it together with the
    /// first statement.
    fn has_begun(&self) -> bool {
        let executes = self.frames.last().is_some_and(|last| last.tag == tag::EXECUTE);
        if !executes || self.is_attached() || self.is_listening() || self.may_have_no_block() {
            return false;
        }
        let roaming = if self.may_roam() { Roaming::Allowed } else { Roaming::Forbidden };
        self.session.begins(Batch { buffer: self.wire.bytes(), frames: &self.frames }, roaming)
    }

    /// Adds `frame` to the batch; says when the batch is at its end.
    fn take(&mut self, frame: Frame) -> Result<Option<Read>, ReadError> {
        if self.session.passes_over(frame.tag) {
            self.wire.done();
            return Ok(None);
        }
        let stray = matches!(frame.tag, tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL);
        if stray && self.frames.is_empty() && !self.is_attached() {
            // Left over from a copy that failed: PostgreSQL ignores it too.
            self.wire.done();
            return Ok(None);
        }
        if frame.tag == tag::TERMINATE {
            if self.frames.is_empty() {
                return Ok(Some(Read::Terminate));
            }
            self.wire.unframe(frame);
            return Ok(Some(Read::Batch(Until::Replied)));
        }
        if matches!(frame.tag, tag::PARSE | tag::BIND) && self.has_begun() {
            self.wire.unframe(frame);
            return Ok(Some(Read::Batch(Until::Sent)));
        }
        if self.frames.len() == self.frames.inline_size() {
            // Room for an extended batch at once rather than little by little.
            self.frames.reserve(EXTENDED);
        }
        self.frames.push(frame);
        if !frame.is_end() {
            return Ok(Some(Read::Batch(Until::Sent)));
        }
        match frame.tag {
            tag::QUERY | tag::SYNC | tag::FLUSH | tag::FUNCTION_CALL => Ok(Some(Read::Batch(Until::Replied))),
            // In the simple protocol the copy's end is answered at once, in the extended one after Sync.
            tag::COPY_DONE | tag::COPY_FAIL if self.copies_simply() => Ok(Some(Read::Batch(Until::Replied))),
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => Ok(None),
            _ if stray => Ok(None),
            tag => Err(ReadError::Unknown { tag }),
        }
    }
}
