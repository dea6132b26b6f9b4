//! The conversation of `auth::method` over a client's socket.
//!
//! Knows how to send and receive it, not how to judge it. `AuthenticationOk` is left to the caller,
//! who sends it in one write with all that follows it.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::auth::Users;
use crate::auth::method::{self, Authenticated, Random, Step, Tls};
use crate::config::model::AuthMethod;
use crate::net::deadline::Deadline;
use crate::protocol::error::Report;
use crate::protocol::frame::{Framer, HEADER, Incomplete, Next};
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::frontend as tag;

/// Longest message that a client may send before it is let in (`PG_MAX_AUTH_TOKEN_LENGTH`,
/// `src/include/libpq/auth.h`).
const MAX_MESSAGE: usize = 65_535;

/// Why a client was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It could not prove who it is, or broke the rules.
    #[error(transparent)]
    Refused(#[from] method::AuthError),
    /// A message that is not an answer to what was asked.
    #[error("expected password response, got message type {0}")]
    Unexpected(u8),
    /// A message longer than any answer may be.
    #[error("password response is too long or malformed")]
    Length,
    /// `limits.login_timeout` passed.
    #[error("no password within limits.login_timeout")]
    Timeout,
    /// The client went away: most likely to ask its user for a password. Not worth a line in the log.
    #[error("connection closed during authentication")]
    Closed,
    /// The connection broke.
    #[error("connection lost during authentication: {0}")]
    Io(#[from] io::Error),
}

impl AuthError {
    /// What to tell the client, if there still is one.
    pub fn report(&self) -> Option<Report> {
        match self {
            Self::Refused(refused) => Some(refused.report()),
            Self::Unexpected(_) | Self::Length => Some(Report::fatal(SqlState::PROTOCOL_VIOLATION, self.to_string())),
            Self::Timeout => {
                let report = Report::fatal(SqlState::QUERY_CANCELED, "canceling authentication due to timeout");
                Some(report.hint("limits.login_timeout bounds the time to log in."))
            }
            Self::Closed | Self::Io(_) => None,
        }
    }
}

/// Makes the client at the other end of `stream` prove that it is `user`.
///
/// Sends every request but `AuthenticationOk`; the last one (`AuthenticationSASLFinal`) is appended to `out`,
/// for the caller to send with what follows. What the client sent behind its last answer is left in `ahead`. On
/// failure the caller sends [`AuthError::report`]. Not cancel safe.
pub async fn run(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    who: Who<'_>,
    random: Random,
    deadline: Deadline,
    Talk { out, ahead }: Talk<'_>,
) -> Result<Authenticated, AuthError> {
    deadline.run(Box::pin(converse(stream, who, random, out, ahead))).await.unwrap_or(Err(AuthError::Timeout))
}

/// The two ends of the conversation.
#[derive(Debug)]
pub struct Talk<'a> {
    /// What is to be sent next.
    pub out: &'a mut BytesMut,
    /// What was read and not yet dealt with.
    pub ahead: &'a mut BytesMut,
}

/// Who wants to be let in, and how that is checked.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// `auth.method`.
    pub method: AuthMethod,
    /// `users`.
    pub users: &'a Users,
    /// The name in the client's startup message.
    pub user: &'a str,
    /// What TLS has to say about the connection, over TLS.
    pub tls: Option<&'a Tls>,
}

async fn converse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    who: Who<'_>,
    random: Random,
    out: &mut BytesMut,
    ahead: &mut BytesMut,
) -> Result<Authenticated, AuthError> {
    let mut step = method::begin(who.method, who.user, who.users, who.tls, random)?;
    loop {
        match step {
            Step::Done(last, proof) => {
                if let Some(last) = last {
                    last.encode(out);
                }
                return Ok(proof);
            }
            Step::Ask(request, exchange) => {
                request.encode(out);
                stream.write_all_buf(out).await?;
                stream.flush().await?;
                let answer = read_answer(stream, ahead).await?;
                step = exchange.answer(&answer)?;
            }
        }
    }
}

/// Room for an answer as most clients give it, so that it is read at once.
const USUAL: usize = 512;

/// The body of the client's next message, which must be of type `p`; what follows it stays in `ahead`.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin), ahead: &mut BytesMut) -> Result<BytesMut, AuthError> {
    loop {
        if let Some(&found) = ahead.first()
            && found != tag::PASSWORD
        {
            return Err(if found == tag::TERMINATE { AuthError::Closed } else { AuthError::Unexpected(found) });
        }
        let next = Framer::default().next(ahead, 0, |_, _, _| Incomplete::Wait).map_err(|_| AuthError::Length)?;
        let missing = match next {
            Next::Frame(frame) => {
                let mut answer = ahead.split_to(frame.end());
                answer.advance(HEADER);
                return Ok(answer);
            }
            Next::Need { missing } => missing,
        };
        if missing > MAX_MESSAGE {
            return Err(AuthError::Length);
        }
        ahead.reserve(missing.max(USUAL));
        match stream.read_buf(ahead).await {
            Ok(0) => return Err(AuthError::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(AuthError::Closed),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::auth::respond::{Progress, Responder};
    use crate::config::model::User;
    use crate::config::secret::Secret;
    use crate::protocol::backend;

    fn users() -> Users {
        let user = User { password: Some(Secret::new("secret")), ..User::named("u") };
        Users::new(&[user], [5; 32])
    }

    /// What a driver does: answers requests until it is let in, byte by byte.
    async fn client(mut stream: DuplexStream, password: &str) -> Result<Progress, ()> {
        let secret = Secret::new(password);
        let mut responder = Responder::new("u", Some(&secret), None, [4; 18]);
        loop {
            if stream.read_u8().await.map_err(drop)? != b'R' {
                return Err(());
            }
            let length = stream.read_u32().await.map_err(drop)?;
            let mut body = vec![0; length as usize - 4];
            stream.read_exact(&mut body).await.map_err(drop)?;
            let (code, data) = body.split_first_chunk().unwrap();
            let mut out = BytesMut::new();
            if responder.on_request(u32::from_be_bytes(*code), data, &mut out).map_err(drop)? == Progress::Accepted {
                return Ok(Progress::Accepted);
            }
            for byte in out {
                stream.write_u8(byte).await.map_err(drop)?;
            }
        }
    }

    async fn log_in(method: AuthMethod, password: &str) -> Result<Authenticated, AuthError> {
        let (mut ours, theirs) = duplex(16);
        let users = users();
        let server = async {
            let who = Who { method, users: &users, user: "u", tls: None };
            let mut out = BytesMut::new();
            let talk = Talk { out: &mut out, ahead: &mut BytesMut::new() };
            let result = run(&mut ours, who, [1; 18], Deadline::after(Duration::from_secs(60)), talk).await;
            match &result {
                Ok(_) => backend::authentication(&mut out, 0, &[]),
                Err(error) => error.report().unwrap().encode(&mut out),
            }
            // A refused client hangs up before it has read all of the refusal.
            assert!(ours.write_all(&out).await.is_ok() || result.is_err());
            result
        };
        let (result, accepted) = tokio::join!(server, client(theirs, password));
        assert_eq!(result.is_ok(), accepted.is_ok());
        result
    }

    #[tokio::test]
    async fn every_method_over_a_socket() {
        for method in [AuthMethod::Trust, AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256] {
            assert_eq!(log_in(method, "secret").await.unwrap().user().as_str(), "u");
        }
        for method in [AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256] {
            let error = log_in(method, "wrong").await.unwrap_err();
            assert!(matches!(error, AuthError::Refused(method::AuthError::WrongPassword(_))), "{error}");
        }
    }

    /// What happens when the client sends `bytes` and hangs up.
    async fn after(bytes: &[u8]) -> AuthError {
        let (mut ours, mut theirs) = duplex(1 << 17);
        theirs.write_all(bytes).await.unwrap();
        theirs.shutdown().await.unwrap();
        let users = users();
        let who = Who { method: AuthMethod::Password, users: &users, user: "u", tls: None };
        let deadline = Deadline::after(Duration::from_secs(60));
        let talk = Talk { out: &mut BytesMut::new(), ahead: &mut BytesMut::new() };
        run(&mut ours, who, [1; 18], deadline, talk).await.unwrap_err()
    }

    #[tokio::test]
    async fn what_follows_the_answer_is_kept() {
        let (mut ours, mut theirs) = duplex(1 << 17);
        theirs.write_all(b"p\0\0\0\x0bsecret\0Q\0\0").await.unwrap();
        let users = users();
        let who = Who { method: AuthMethod::Password, users: &users, user: "u", tls: None };
        let mut ahead = BytesMut::new();
        let talk = Talk { out: &mut BytesMut::new(), ahead: &mut ahead };
        run(&mut ours, who, [1; 18], Deadline::after(Duration::from_secs(60)), talk).await.unwrap();
        assert_eq!(&ahead[..], b"Q\0\0");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_refused() {
        assert!(matches!(after(b"").await, AuthError::Closed));
        assert!(matches!(after(b"p\0\0").await, AuthError::Closed));
        assert!(matches!(after(b"X\0\0\0\x04").await, AuthError::Closed));
        assert!(matches!(after(b"Q").await, AuthError::Unexpected(b'Q')));
        assert!(matches!(after(b"p\0\0\0\x03").await, AuthError::Length));
        assert!(matches!(after(b"p\0\x02\0\0").await, AuthError::Length));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_deadline() {
        let (mut ours, _theirs) = duplex(1024);
        let users = users();
        let who = Who { method: AuthMethod::Md5, users: &users, user: "u", tls: None };
        let deadline = Deadline::after(Duration::from_secs(60));
        let talk = Talk { out: &mut BytesMut::new(), ahead: &mut BytesMut::new() };
        let error = run(&mut ours, who, [1; 18], deadline, talk).await.unwrap_err();
        assert!(matches!(error, AuthError::Timeout));
        assert_eq!(error.report().unwrap().code, SqlState::QUERY_CANCELED);
    }
}
