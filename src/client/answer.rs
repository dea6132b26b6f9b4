//! Replies that Howdah words itself.

use bytes::BytesMut;

use crate::cancel::Key;
use crate::protocol::backend;
use crate::protocol::error::{Report, Severity};
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::TransactionStatus;

/// An error, and that the next statement is welcome.
pub fn failed(report: &Report, status: TransactionStatus) -> BytesMut {
    let mut out = error(report);
    backend::ready_for_query(&mut out, status);
    out
}

/// An error's body as a server sent it.
pub fn relayed(body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    backend::message(&mut out, b'E', |out| out.extend_from_slice(body));
    out
}

/// An error, and nothing else.
pub fn error(report: &Report) -> BytesMut {
    let mut out = BytesMut::new();
    report.encode(&mut out);
    out
}

/// The server hung up in the middle of a statement.
pub fn server_lost(wrote: Wrote) -> Report {
    match wrote {
        Wrote::Nothing => {
            Report::fatal(SqlState::CONNECTION_FAILURE, "the server closed the connection in the middle of a read")
        }
        Wrote::Perhaps => Report::fatal(
            SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
            "the server closed the connection; whether the transaction took effect is unknown",
        ),
    }
}

/// A transaction block in statement pooling, in PgBouncer's words.
pub fn no_blocks(severity: Severity) -> Report {
    let words = "transaction blocks not allowed in statement pooling mode";
    let report = Report { severity, ..Report::error(SqlState::FEATURE_NOT_SUPPORTED, words) };
    report.hint("Set pool.mode to transaction, for this user or database if not for all.")
}

/// The server hung up before the client's statement was sent to it.
pub fn not_attached() -> Report {
    Report::error(SqlState::CONNECTION_FAILURE, "the server closed the connection before the statement was sent")
}

/// Whether what was lost may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It only read.
    Nothing,
    /// It may have.
    Perhaps,
}

/// What a client hears when it has logged in: everything up to its first statement.
pub(super) fn greeting<'a>(out: &mut BytesMut, parameters: impl Iterator<Item = (&'a str, &'a str)>, key: &Key) {
    backend::authentication(out, 0, &[]);
    for (name, value) in parameters {
        backend::parameter_status(out, name, value);
    }
    backend::backend_key_data(out, key.process_id, &key.secret);
    backend::ready_for_query(out, TransactionStatus::Idle);
}

/// An administrator has ended the connection.
pub fn killed() -> Report {
    Report::fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

/// A cancel request came while the statement waited for a server.
pub fn canceled() -> Report {
    Report::error(SqlState::QUERY_CANCELED, "canceling statement due to user request")
}

/// A transaction that has failed, in PostgreSQL's words.
pub fn aborted() -> Report {
    let words = "current transaction is aborted, commands ignored until end of transaction block";
    Report::error(SqlState::IN_FAILED_SQL_TRANSACTION, words)
}

/// A statement ran for too long.
pub fn timed_out() -> Report {
    Report::fatal(SqlState::QUERY_CANCELED, "canceling statement due to limits.query_timeout")
        .hint("Raise limits.query_timeout, or shorten the statement.")
}

/// There is no primary.
pub fn no_primary(cluster: &str) -> Report {
    Report::error(SqlState::CANNOT_CONNECT_NOW, format!("cluster \"{cluster}\" has no primary that answers"))
        .hint("Raise hold in the cluster's settings to wait longer for a new primary; SHOW NODES says what is known of each node.")
}
