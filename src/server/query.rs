//! A small client for Howdah's own SQL: the monitor's questions and the catalog's.
//!
//! Knows the simple query protocol and text values. Clients' statements never come here.

use std::io;
use std::time::Duration;

use bytes::BytesMut;

use super::connect::{Connected, Peer};
use super::startup::{Parameters, remember, report};
use super::wire::{Wire, invalid};
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;
use crate::protocol::error::Report;
use crate::protocol::frontend::{put_query, put_terminate};
use crate::protocol::tag::backend as tag;

/// Longest message taken, in bytes: one row.
const MAX_MESSAGE: usize = 64 << 20;

/// Most bytes of rows taken from one query.
const MAX_RESULT: usize = 256 << 20;

/// The rows of a result: one value per column, `None` for NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// Why a query has no result.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server's own error. The connection can be used again, unless the error is fatal.
    #[error("{}", .0.message)]
    Server(Report),
    /// The connection broke, or what came was not the protocol. It cannot be used any more.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No result in time. The connection cannot be used any more.
    #[error("no result within {0:?}")]
    Timeout(Duration),
    /// An earlier query failed with `Io` or `Timeout`, or was given up half-way.
    #[error("the connection is out of step after a query that was given up")]
    OutOfStep,
}

/// A server connection that asks Howdah's own questions, one at a time.
#[derive(Debug)]
pub struct Direct {
    wire: Wire<Stream>,
    parameters: Parameters,
    peer: Peer,
    step: Step,
}

/// Whether the next message read will answer the next question asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    In,
    /// A query is running, or was given up.
    Out,
}

impl Direct {
    /// Takes a connection over.
    #[must_use]
    pub fn new(connected: Connected) -> Self {
        let Connected { stream, parameters, peer, .. } = connected;
        Self { wire: Wire::new(stream, MAX_MESSAGE), parameters, peer, step: Step::In }
    }

    /// What the server last reported as `name` (ParameterStatus), up to the last query's answer.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| &**known == name);
        found.map(|(_, value)| &**value)
    }

    /// Everything that the server last reported.
    #[must_use]
    pub fn parameters(&self) -> &[(Box<str>, Box<str>)] {
        &self.parameters
    }

    /// Whom it is connected to.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether another query can be asked.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.step == Step::In
    }

    /// Waits until something can be read though nothing was asked: the server's farewell, as a rule. Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.wire.readable().await
    }

    /// Runs `sql` and gives the rows of all its statements, one after the other.
    ///
    /// Not cancel safe: a future dropped before its end leaves the connection unusable, and it says so.
    pub async fn query(&mut self, sql: &str, timeout: Duration) -> Result<Rows, QueryError> {
        if self.step == Step::Out {
            return Err(QueryError::OutOfStep);
        }
        self.step = Step::Out;
        let answer = Deadline::after(timeout).run(self.ask(sql)).await;
        let result = answer.map_err(|_| QueryError::Timeout(timeout))??;
        self.step = Step::In;
        result.map_err(QueryError::Server)
    }

    /// Says goodbye, so that the server logs no lost connection.
    pub async fn close(mut self) {
        let mut out = BytesMut::new();
        put_terminate(&mut out);
        let _ = Deadline::after(Duration::from_secs(1)).io(self.wire.send(&mut out)).await;
    }

    /// The inner result is what the server said up to its ReadyForQuery.
    async fn ask(&mut self, sql: &str) -> Result<Result<Rows, Report>, QueryError> {
        let mut out = BytesMut::new();
        put_query(&mut out, sql.as_bytes());
        self.wire.send(&mut out).await?;
        let (mut rows, mut bytes, mut error) = (Rows::new(), 0, None);
        loop {
            let (tag, body) = match self.wire.message().await {
                Ok(message) => message,
                // The server's last words say more than that it hung up.
                Err(lost) => return Err(error.map_or(QueryError::Io(lost), QueryError::Server)),
            };
            match tag {
                tag::DATA_ROW => {
                    bytes += body.len();
                    if bytes > MAX_RESULT {
                        return Err(invalid("result longer than 256 MiB").into());
                    }
                    rows.push(row(&body).ok_or_else(|| invalid("malformed row"))?);
                }
                tag::ERROR_RESPONSE => error = Some(report(&body)),
                tag::PARAMETER_STATUS => remember(&mut self.parameters, &body),
                tag::READY_FOR_QUERY => return Ok(error.map_or(Ok(rows), Err)),
                tag::ROW_DESCRIPTION
                | tag::COMMAND_COMPLETE
                | tag::EMPTY_QUERY_RESPONSE
                | tag::NOTICE_RESPONSE
                | tag::NOTIFICATION_RESPONSE => {}
                other => return Err(invalid(format!("unexpected message type {other}")).into()),
            }
        }
    }
}

/// Opens a DataRow.
fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk()?;
    let count = u16::from_be_bytes(*count);
    let mut values = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (length, tail) = rest.split_first_chunk()?;
        rest = tail;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            values.push(None);
            continue;
        };
        let (value, tail) = rest.split_at_checked(length)?;
        rest = tail;
        values.push(Some(String::from_utf8_lossy(value).into_owned()));
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::connect::{Login, connect};
    use super::*;
    use crate::config::model::ServerAddress;
    use crate::net::tls::Connector;
    use crate::protocol::backend;
    use crate::protocol::sqlstate::SqlState;
    use crate::protocol::tag::TransactionStatus;

    const SECOND: Duration = Duration::from_secs(1);

    /// A logged-in connection, and the server's end of it.
    async fn connected() -> (Direct, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let login = Login {
            address: ServerAddress::Tcp { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() },
            connector: Arc::new(Connector::plain()),
            user: "u".into(),
            password: None,
            database: "d".into(),
            application_name: String::new(),
            options: Vec::new(),
            timeout: SECOND * 30,
        };
        let server = async {
            let mut socket = listener.accept().await.unwrap().0;
            let length = socket.read_u32().await.unwrap();
            socket.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
            let mut out = BytesMut::new();
            backend::authentication(&mut out, 0, &[]);
            backend::parameter_status(&mut out, "in_hot_standby", "on");
            backend::ready_for_query(&mut out, TransactionStatus::Idle);
            socket.write_all(&out).await.unwrap();
            socket
        };
        let (connected, socket) = tokio::join!(connect(&login), server);
        (Direct::new(connected.unwrap()), socket)
    }

    /// Asks `SELECT`, to which the server answers with what `answer` writes.
    async fn ask(
        direct: &mut Direct,
        server: &mut TcpStream,
        answer: impl FnOnce(&mut BytesMut),
    ) -> Result<Rows, QueryError> {
        let mut out = BytesMut::new();
        answer(&mut out);
        let server = async {
            let mut heard = [0; 12];
            server.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"Q\0\0\0\x0bSELECT\0");
            server.write_all(&out).await.unwrap();
        };
        tokio::join!(direct.query("SELECT", SECOND * 30), server).0
    }

    fn rows(out: &mut BytesMut, values: &[Option<&str>]) {
        backend::row_description(out, &[("a", backend::TEXT), ("b", backend::TEXT)]);
        backend::data_row(out, values.iter().map(|value| value.map(str::as_bytes)));
        backend::command_complete(out, "SELECT 1");
    }

    #[tokio::test]
    async fn rows_and_reports_arrive() {
        let (mut direct, mut server) = connected().await;
        assert_eq!(direct.parameter("in_hot_standby"), Some("on"));
        let found = ask(&mut direct, &mut server, |out| {
            rows(out, &[Some("1"), None]);
            backend::parameter_status(out, "in_hot_standby", "off");
            rows(out, &[Some(""), Some("\u{e4}")]);
            backend::ready_for_query(out, TransactionStatus::Idle);
        });
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(found.await.unwrap(), [vec![text("1"), None], vec![text(""), text("\u{e4}")]]);
        assert_eq!(direct.parameter("in_hot_standby"), Some("off"));
    }

    #[tokio::test]
    async fn an_error_leaves_the_connection_in_step() {
        let (mut direct, mut server) = connected().await;
        let failed = ask(&mut direct, &mut server, |out| {
            Report::error(SqlState::UNDEFINED_TABLE, "no such table").encode(out);
            backend::ready_for_query(out, TransactionStatus::Idle);
        });
        let Err(QueryError::Server(report)) = failed.await else { panic!("an error") };
        assert_eq!((report.code, report.message.as_str()), (SqlState::UNDEFINED_TABLE, "no such table"));
        let found = ask(&mut direct, &mut server, |out| backend::ready_for_query(out, TransactionStatus::Idle));
        assert_eq!(found.await.unwrap(), Rows::new());
        direct.close().await;
        assert_eq!(server.read_u8().await.unwrap(), b'X');
    }

    #[tokio::test]
    async fn last_words_are_heard() {
        let (mut direct, mut server) = connected().await;
        let dying = async {
            server.read_exact(&mut [0; 12]).await.unwrap();
            let mut out = BytesMut::new();
            Report::fatal(SqlState::ADMIN_SHUTDOWN, "terminating").encode(&mut out);
            server.write_all(&out).await.unwrap();
            drop(server);
        };
        let (found, ()) = tokio::join!(direct.query("SELECT", SECOND * 30), dying);
        assert!(matches!(found, Err(QueryError::Server(report)) if report.code == SqlState::ADMIN_SHUTDOWN));
        assert!(!direct.is_usable());
    }

    #[tokio::test]
    async fn a_query_given_up_leaves_the_connection_unusable() {
        let (mut direct, _server) = connected().await;
        let short = Duration::from_millis(10);
        assert!(matches!(direct.query("SELECT", short).await, Err(QueryError::Timeout(_))));
        assert!(matches!(direct.query("SELECT", short).await, Err(QueryError::OutOfStep)));

        let (mut direct, _server) = connected().await;
        assert!(Deadline::after(short).run(direct.query("SELECT", SECOND * 30)).await.is_err());
        assert!(matches!(direct.query("SELECT", short).await, Err(QueryError::OutOfStep)));
    }

    #[tokio::test]
    async fn what_is_not_the_protocol_is_an_error() {
        for answer in [&b"D\0\0\0\x08\0\x01\0\0"[..], b"G\0\0\0\x04", b"D\x7f\0\0\0", b"Z\0\0\0\x03"] {
            let (mut direct, mut server) = connected().await;
            let found = ask(&mut direct, &mut server, |out| out.extend_from_slice(answer)).await;
            assert!(matches!(found, Err(QueryError::Io(_))), "{answer:?}");
            assert!(!direct.is_usable());
        }
    }
}
