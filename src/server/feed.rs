//! A server connection that listens: what it is told is sent at once, what comes is heard one message at a time.
//!
//! Knows LISTEN and Sync, and no result; who hears of a notification is not its business.

use std::io;
use std::time::Duration;

use bytes::BytesMut;

use super::connect::Connected;
use super::startup::report;
use super::wire::{Wire, invalid};
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;
use crate::protocol::error::{ErrorFields, Report};
use crate::protocol::frontend::{put_query, put_sync, put_terminate};
use crate::protocol::tag::backend as tag;

/// Longest message taken, in bytes: a notification is shorter than 8 KiB (`NOTIFY_PAYLOAD_MAX_LENGTH`,
/// src/backend/commands/async.c), in the server's encoding.
const MAX_MESSAGE: usize = 64 << 10;

/// A connection that listens.
#[derive(Debug)]
pub struct Feed {
    wire: Wire<Stream>,
    out: BytesMut,
    process_id: i32,
}

/// What a server said.
#[derive(Debug)]
pub enum Heard {
    /// A notification: the body of its message.
    Notification(BytesMut),
    /// The server has done what it was told.
    Ready,
    /// It has refused it, and goes on.
    Refused(Report),
}

impl Feed {
    /// Takes a connection over.
    #[must_use]
    pub fn new(connected: Connected) -> Self {
        let Connected { stream, process_id, .. } = connected;
        Self { wire: Wire::new(stream, MAX_MESSAGE), out: BytesMut::new(), process_id }
    }

    /// The server's process.
    #[must_use]
    pub const fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Has the server run `sql`; it will be [`Heard::Ready`] once. Sent with the next [`Self::send`].
    pub fn say(&mut self, sql: &str) {
        put_query(&mut self.out, sql.as_bytes());
    }

    /// Has the server say that it is [`Heard::Ready`], once. Sent with the next [`Self::send`].
    ///
    /// It says so after all notifications of transactions whose end anybody has heard of by now: a backend that commits
    /// signals the listeners before it answers its client (`AtCommit_Notify`), the kernel has a process take its signals
    /// before it takes what it has read, and PostgreSQL sends what it was signalled before every `ReadyForQuery`
    /// (`PostgresMain`, src/backend/tcop/postgres.c).
    pub fn sync(&mut self) {
        put_sync(&mut self.out);
    }

    /// Sends what was said. Not cancel safe.
    pub async fn send(&mut self, timeout: Duration) -> io::Result<()> {
        Deadline::after(timeout).io(self.wire.send(&mut self.out)).await
    }

    /// What the server says next. Cancel safe.
    pub async fn hear(&mut self) -> io::Result<Heard> {
        loop {
            let (tag, body) = self.wire.message().await?;
            match tag {
                tag::NOTIFICATION_RESPONSE => return Ok(Heard::Notification(body)),
                tag::READY_FOR_QUERY => return Ok(Heard::Ready),
                tag::ERROR_RESPONSE if ErrorFields::parse(&body).is_fatal() => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, report(&body).message));
                }
                tag::ERROR_RESPONSE => return Ok(Heard::Refused(report(&body))),
                tag::COMMAND_COMPLETE | tag::PARAMETER_STATUS | tag::NOTICE_RESPONSE => {}
                other => return Err(invalid(format!("unexpected message type {other}"))),
            }
        }
    }

    /// Says goodbye, so that the server logs no lost connection.
    pub async fn close(mut self) {
        put_terminate(&mut self.out);
        let _ = self.send(Duration::from_secs(1)).await;
    }
}
