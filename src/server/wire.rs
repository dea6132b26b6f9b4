//! Whole messages from a server, one after the other, for the cold paths: login and Howdah's own queries.
//!
//! Knows messages as tag and body; the relay has nothing to do with it.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::protocol::frame::{Framer, HEADER, Incomplete, Next};

/// Room for one read, in bytes.
const READ: usize = 8192;

/// A server's connection, with what was read of it and not yet taken.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    buffer: BytesMut,
    /// Longest message that is taken, in bytes.
    limit: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, limit: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), limit }
    }

    /// Sends `out` and empties it. Not cancel safe.
    pub(super) async fn send(&mut self, out: &mut BytesMut) -> io::Result<()> {
        self.stream.write_all_buf(out).await?;
        self.stream.flush().await
    }

    /// Waits for the next message: its type and its body. Cancel safe.
    pub(super) async fn message(&mut self) -> io::Result<(u8, BytesMut)> {
        loop {
            let next = Framer::default().next(&self.buffer, 0, |_, _, _| Incomplete::Wait).map_err(invalid)?;
            match next {
                Next::Frame(frame) => {
                    let mut message = self.buffer.split_to(frame.len);
                    message.advance(HEADER);
                    return Ok((frame.tag, message));
                }
                Next::Need { missing } if missing > self.limit => {
                    return Err(invalid(format!("message longer than {} bytes", self.limit)));
                }
                Next::Need { missing } => self.buffer.reserve(missing.max(READ)),
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether nothing was read that was not taken.
    pub(super) fn is_drained(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The connection itself, once it is drained.
    pub(super) fn into_inner(self) -> S {
        debug_assert!(self.is_drained());
        self.stream
    }
}

impl Wire<crate::net::stream::Stream> {
    /// Waits until something can be read. Cancel safe.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if self.buffer.is_empty() { self.stream.readable().await } else { Ok(()) }
    }
}

pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
