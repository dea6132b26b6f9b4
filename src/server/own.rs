//! Howdah's own SQL on a pooled server, between clients' statements: settings, probes, resets.
//!
//! Off the hot path, so messages are opened one by one.

use std::time::Duration;

use bytes::BytesMut;

use super::Server;
use crate::net::wire::Filled;
use crate::protocol::columns;
use crate::protocol::error::ErrorFields;
use crate::protocol::frame::{Frame, Incomplete, Next};
use crate::protocol::frontend::{self, Object};
use crate::protocol::replies::{Event, Kind, Whose};
use crate::protocol::tag::{backend as tag, frontend as sent};
use crate::session::{Note, parameter, parameters};

/// Why Howdah's own statement did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The server refused it; the connection goes on. The body of its `ErrorResponse`.
    #[error("the server refused Howdah's own statement")]
    Refused(BytesMut),
    /// The connection is of no use any more.
    #[error("the server connection was lost")]
    Lost,
    /// It took too long; the connection is of no use any more.
    #[error("the server did not answer in time")]
    Timeout,
}

/// Rows of text values.
pub type Rows = Vec<Vec<Option<String>>>;

/// What came of an exchange of Howdah's own.
#[derive(Debug, Default)]
struct Answer {
    rows: Rows,
    /// What the result looks like.
    shape: u64,
    /// The body of an `ErrorResponse`.
    refused: Option<BytesMut>,
    /// The notes of the messages that were refused.
    failed: Vec<Note>,
}

impl Answer {
    /// Itself, if nothing was refused.
    fn accepted(mut self) -> Result<Self, OwnError> {
        self.refused.take().map_or(Ok(self), |body| Err(OwnError::Refused(body)))
    }
}

impl Server {
    /// Runs `sql` and gives back the rows. Nothing may be outstanding. Not cancel safe: a server whose
    /// future was dropped owes a reply, and is therefore not clean.
    pub async fn run_own(&mut self, sql: &str, timeout: Duration) -> Result<Rows, OwnError> {
        let mut out = BytesMut::new();
        frontend::put_query(&mut out, sql.as_bytes());
        self.limited(&out, [(Kind::Query, None)], timeout).await?.accepted().map(|answer| answer.rows)
    }

    /// What the result of a statement with this text and these parameter types (as in a Parse) would look like: its
    /// `protocol::columns::shape`. Otherwise as [`Self::run_own`].
    pub async fn describe_own(&mut self, text: &[u8], types: &[u8], timeout: Duration) -> Result<u64, OwnError> {
        let mut out = BytesMut::new();
        frontend::put_parse(&mut out, b"", text, types);
        frontend::put_object(&mut out, sent::DESCRIBE, Object::Statement, b"");
        frontend::put_sync(&mut out);
        let expected = [Kind::Parse, Kind::Describe, Kind::Sync].map(|kind| (kind, None));
        self.limited(&out, expected, timeout).await?.accepted().map(|answer| answer.shape)
    }

    /// Sends these messages, the last of which ends with a `ReadyForQuery`, and gives the notes of those that were refused.
    /// Otherwise as [`Self::run_own`].
    pub async fn send_own(
        &mut self,
        out: &[u8],
        expected: Vec<(Kind, Option<Note>)>,
        timeout: Duration,
    ) -> Result<Vec<Note>, OwnError> {
        self.limited(out, expected, timeout).await.map(|answer| answer.failed)
    }

    async fn limited(
        &mut self,
        out: &[u8],
        expected: impl IntoIterator<Item = (Kind, Option<Note>)>,
        timeout: Duration,
    ) -> Result<Answer, OwnError> {
        for (kind, note) in expected {
            self.replies.expect(kind, Whose::Ours, note);
        }
        let result = match tokio::time::timeout(timeout, self.exchange_own(out)).await {
            Ok(result) => result,
            Err(_) => Err(OwnError::Timeout),
        };
        if matches!(result, Err(OwnError::Lost | OwnError::Timeout)) {
            self.break_off("own statement failed");
        }
        result
    }

    async fn exchange_own(&mut self, out: &[u8]) -> Result<Answer, OwnError> {
        self.carried.unnamed = None;
        self.wire.send(out).await.map_err(|_| OwnError::Lost)?;
        let mut answer = Answer::default();
        while !self.replies.is_empty() {
            match self.wire.frame(|_, _, _| Incomplete::Wait).map_err(|_| OwnError::Lost)? {
                Next::Need { missing } => match self.wire.fill(missing).await {
                    Ok(Filled::Bytes(_)) => {}
                    Ok(Filled::End) | Err(_) => return Err(OwnError::Lost),
                },
                Next::Frame(frame) => self.own_reply(frame, &mut answer)?,
            }
        }
        Ok(answer)
    }
}

impl Server {
    fn own_reply(&mut self, frame: Frame, answer: &mut Answer) -> Result<(), OwnError> {
        let body = frame.body(self.wire.bytes());
        let first = body.first().copied().unwrap_or(0);
        let (_, event) = self.replies.on(frame.tag, first).map_err(|_| OwnError::Lost)?;
        match (event, frame.tag) {
            (Event::Parameter, _) => {
                if let Some((name, value)) = parameter(body) {
                    parameters::report(&mut self.carried.parameters, name, value);
                }
            }
            (_, tag::DATA_ROW) => answer.rows.push(row(body)),
            (_, tag::ROW_DESCRIPTION | tag::NO_DATA) => answer.shape = columns::shape(frame.tag, body),
            (_, tag::ERROR_RESPONSE) if ErrorFields::parse(body).is_fatal() => return Err(OwnError::Lost),
            (Event::Failed(failure), _) => {
                answer.refused = Some(BytesMut::from(body));
                answer.failed.extend(failure.failed);
            }
            _ => {}
        }
        self.wire.done();
        Ok(())
    }
}

/// The text values of a `DataRow`.
fn row(body: &[u8]) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let Some((_, mut rest)) = body.split_at_checked(2) else { return values };
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, after) = match length.and_then(|length| after.split_at_checked(length)) {
            Some((value, after)) => (Some(String::from_utf8_lossy(value).into_owned()), after),
            None => (None, after),
        };
        values.push(value);
        rest = after;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::protocol::backend;
    use bytes::BytesMut;

    #[test]
    fn rows_are_opened() {
        let mut out = BytesMut::new();
        backend::data_row(&mut out, [Some(&b"ab"[..]), None, Some(&b""[..])].into_iter());
        assert_eq!(row(&out[5..]), [Some("ab".to_owned()), None, Some(String::new())]);
        assert!(row(b"").is_empty());
    }
}
