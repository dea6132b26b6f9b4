//! Logging in to a server: from StartupMessage to the first ReadyForQuery.
//!
//! ```text
//! StartupMessage --[v]--> R … R(ok) --S* K--> Z
//!                     \--> E                        at any point
//! ```
//!
//! Knows messages, not addresses; whether the stream is encrypted is its caller's business.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::Wire;
use crate::auth::respond::{Progress, RespondError, Responder};
use crate::config::secret::Secret;
use crate::protocol::error::{ErrorFields, Report};
use crate::protocol::sqlstate::SqlState;
use crate::protocol::startup::put_startup;
use crate::protocol::tag::backend as tag;
use crate::protocol::text::split_cstr;

/// Longest message taken during login, in bytes. libpq takes 30 000 (`PQconnectPoll`).
const MAX_MESSAGE: usize = 65_536;

/// Most ParameterStatus taken during login.
const MAX_PARAMETERS: usize = 256;

/// What a server last reported about its settings, in the order of first report.
pub type Parameters = Vec<(Box<str>, Box<str>)>;

/// Who logs in, and how.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The role.
    pub user: &'a str,
    /// Its password, if it needs one.
    pub password: Option<&'a Secret>,
    /// The startup parameters, `user` included.
    pub parameters: &'a [(&'a str, &'a str)],
    /// Hash of the server's certificate, over TLS (RFC 5929 §4).
    pub end_point: Option<&'a [u8]>,
}

/// What a server said during login.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Established {
    /// Every ParameterStatus.
    pub parameters: Parameters,
    /// From BackendKeyData; 0 from servers that send none.
    pub process_id: i32,
    /// From BackendKeyData: 4 bytes in protocol 3.0, up to 256 in 3.2; empty from servers that send none.
    pub key: Vec<u8>,
    /// The minor version of protocol 3 agreed upon.
    pub minor: u16,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server's own error.
    #[error("{}", .report.message)]
    Server {
        /// What it said.
        report: Report,
        /// How far the login had come.
        stage: Stage,
    },
    /// The server asked for something that cannot be answered.
    #[error(transparent)]
    Auth(#[from] RespondError),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server did not keep to the protocol.
    #[error("unexpected message type {0} during login")]
    Unexpected(u8),
}

/// How far a login has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The server has not asked for anything: it may not even understand the protocol version.
    Startup,
    /// The server asks who we are.
    Authentication,
    /// It let us in and is starting the session.
    Session,
}

/// Logs in over `stream`, asking for protocol 3.`minor`. Gives the stream back with nothing unread on it.
/// Not cancel safe.
pub async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    identity: Identity<'_>,
    minor: u16,
) -> Result<(S, Established), LoginError> {
    let mut wire = Wire::new(stream, MAX_MESSAGE);
    let mut out = BytesMut::new();
    put_startup(&mut out, minor, identity.parameters.iter().copied());
    wire.send(&mut out).await?;
    let mut login = Login {
        responder: Responder::new(identity.user, identity.password, identity.end_point, rand::random()),
        stage: Stage::Startup,
        established: Established { minor, ..Established::default() },
    };
    let mut ready = false;
    // A server may report something more right behind ReadyForQuery: nothing may stay unread here.
    while !ready || !wire.is_drained() {
        let (tag, body) = wire.message().await?;
        ready |= login.on_message(tag, &body, &mut out)? == Next::Ready;
        if !out.is_empty() {
            wire.send(&mut out).await?;
        }
    }
    Ok((wire.into_inner(), login.established))
}

struct Login<'a> {
    responder: Responder<'a>,
    stage: Stage,
    established: Established,
}

#[derive(PartialEq, Eq)]
enum Next {
    More,
    Ready,
}

impl Login<'_> {
    fn on_message(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) -> Result<Next, LoginError> {
        match (self.stage, tag) {
            (Stage::Startup, tag::NEGOTIATE_PROTOCOL_VERSION) => self.negotiate(body)?,
            (Stage::Startup | Stage::Authentication, tag::AUTHENTICATION) => {
                let (code, data) = body.split_first_chunk().ok_or(LoginError::Unexpected(tag))?;
                self.stage = match self.responder.on_request(u32::from_be_bytes(*code), data, out)? {
                    Progress::More => Stage::Authentication,
                    Progress::Accepted => Stage::Session,
                };
            }
            (Stage::Session, tag::PARAMETER_STATUS) if self.established.parameters.len() < MAX_PARAMETERS => {
                remember(&mut self.established.parameters, body);
            }
            (Stage::Session, tag::BACKEND_KEY_DATA) => {
                let (process_id, key) = body.split_first_chunk().ok_or(LoginError::Unexpected(tag))?;
                self.established.process_id = i32::from_be_bytes(*process_id);
                self.established.key = key.to_vec();
            }
            (Stage::Session, tag::READY_FOR_QUERY) => return Ok(Next::Ready),
            (stage, tag::ERROR_RESPONSE) => return Err(LoginError::Server { report: report(body), stage }),
            (_, tag::NOTICE_RESPONSE) => {}
            _ => return Err(LoginError::Unexpected(tag)),
        }
        Ok(Next::More)
    }

    /// `NegotiateProtocolVersion`: the server speaks an older minor version. No protocol options were asked for.
    fn negotiate(&mut self, body: &[u8]) -> Result<(), LoginError> {
        let unexpected = LoginError::Unexpected(tag::NEGOTIATE_PROTOCOL_VERSION);
        let version = body.first_chunk().map(|version| u32::from_be_bytes(*version));
        // PostgreSQL's manual speaks of the minor version alone; PostgreSQL sends the major one too.
        let minor = version.filter(|version| matches!(version >> 16, 0 | 3)).map(|version| version & 0xFFFF);
        match minor.and_then(|minor| u16::try_from(minor).ok()) {
            Some(minor) if minor <= self.established.minor => {
                self.established.minor = minor;
                Ok(())
            }
            _ => Err(unexpected),
        }
    }
}

/// A server's error as one that can be told to clients.
pub(super) fn report(body: &[u8]) -> Report {
    let fields = ErrorFields::parse(body);
    let message = String::from_utf8_lossy(fields.message).into_owned();
    let code = fields.code.unwrap_or(SqlState::INTERNAL_ERROR);
    if fields.is_fatal() { Report::fatal(code, message) } else { Report::error(code, message) }
}

/// Takes the body of a ParameterStatus.
pub(super) fn remember(parameters: &mut Parameters, body: &[u8]) {
    let Some((name, rest)) = split_cstr(body) else {
        return;
    };
    let value = split_cstr(rest).map_or(rest, |(value, _)| value);
    let [name, value] = [name, value].map(|text| Box::<str>::from(String::from_utf8_lossy(text)));
    match parameters.iter_mut().find(|(known, _)| *known == name) {
        Some(known) => known.1 = value,
        None => parameters.push((name, value)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::protocol::backend;
    use crate::protocol::tag::TransactionStatus;

    /// Plays a server that says `bytes`, a few at a time, and hangs up.
    async fn told(minor: u16, bytes: &[u8]) -> Result<Established, LoginError> {
        let (ours, mut theirs) = duplex(64);
        let secret = Secret::new("secret");
        let parameters = [("user", "u"), ("database", "d")];
        let identity = Identity { user: "u", password: Some(&secret), parameters: &parameters, end_point: None };
        let server = async {
            let mut hello = BytesMut::new();
            put_startup(&mut hello, minor, parameters.into_iter());
            let mut heard = vec![0; hello.len()];
            theirs.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, hello);
            for piece in bytes.chunks(3) {
                let _ = theirs.write_all(piece).await;
            }
            theirs.shutdown().await.unwrap();
            let _ = theirs.read_to_end(&mut heard).await;
        };
        // The stream must go, or the server would wait for its end for ever.
        let client = async { log_in(ours, identity, minor).await.map(|(_, established)| established) };
        tokio::join!(client, server).0
    }

    fn accepted(key: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        backend::authentication(&mut out, 0, &[]);
        backend::parameter_status(&mut out, "server_version", "18.0");
        backend::parameter_status(&mut out, "TimeZone", "UTC");
        Report::notice("hello").encode(&mut out);
        backend::parameter_status(&mut out, "TimeZone", "GMT");
        backend::backend_key_data(&mut out, -7, key);
        backend::ready_for_query(&mut out, TransactionStatus::Idle);
        out
    }

    #[tokio::test]
    async fn a_login_ends_with_nothing_unread() {
        let mut said = accepted(&[9; 256]);
        backend::parameter_status(&mut said, "in_hot_standby", "off");
        let found = told(2, &said).await.unwrap();
        let parameters = [("server_version", "18.0"), ("TimeZone", "GMT"), ("in_hot_standby", "off")];
        let parameters = parameters.map(|(name, value)| (name.into(), value.into())).to_vec();
        assert_eq!(found, Established { parameters, process_id: -7, key: vec![9; 256], minor: 2 });
    }

    #[tokio::test]
    async fn servers_may_negotiate_down_but_not_up() {
        for (asked, version, expected) in [
            (2, 0x0003_0000, Some(0)),
            (2, 0, Some(0)),
            (2, 0x0003_0002, Some(2)),
            (0, 0x0003_0002, None),
            (2, 0x0004_0000, None),
        ] {
            let mut said = BytesMut::new();
            backend::negotiate_protocol_version(&mut said, version, &[]);
            said.put_slice(&accepted(b"1234"));
            assert_eq!(told(asked, &said).await.ok().map(|found| found.minor), expected, "{asked} {version:x}");
        }
    }

    #[tokio::test]
    async fn errors_tell_how_far_the_login_came() {
        let error = |before: &[u8]| {
            let mut out = BytesMut::from(before);
            Report::fatal(SqlState::INVALID_CATALOG_NAME, "no such database").encode(&mut out);
            out
        };
        let mut asked = BytesMut::new();
        backend::authentication(&mut asked, 5, b"salt");
        for (said, expected) in [
            (error(b""), Stage::Startup),
            (error(&asked), Stage::Authentication),
            (error(&accepted(b"1234")[..9]), Stage::Session),
        ] {
            let Err(LoginError::Server { report, stage }) = told(0, &said).await else { panic!("an error") };
            assert_eq!(
                (report.code, report.message.as_str(), stage),
                (SqlState::INVALID_CATALOG_NAME, "no such database", expected)
            );
        }
    }

    #[tokio::test]
    async fn what_breaks_the_rules_is_refused() {
        let good = accepted(b"1234");
        assert!(matches!(told(0, &good[..good.len() - 1]).await, Err(LoginError::Io(_))));
        assert!(matches!(told(0, &good[9..]).await, Err(LoginError::Unexpected(b'S'))));
        assert!(matches!(told(0, b"Z\0\0\0\x05I").await, Err(LoginError::Unexpected(b'Z'))));
        assert!(matches!(told(0, b"R\0\0\0\x04").await, Err(LoginError::Unexpected(b'R'))));
        assert!(matches!(told(0, b"R\x01\0\0\0").await, Err(LoginError::Io(_))));
        let mut gss = BytesMut::new();
        backend::authentication(&mut gss, 7, &[]);
        assert!(matches!(told(0, &gss).await, Err(LoginError::Auth(RespondError::Unsupported(7)))));
        let mut endless = accepted(b"1234").split_to(9);
        for number in 0..1000 {
            backend::parameter_status(&mut endless, &format!("p{number}"), "");
        }
        assert!(matches!(told(0, &endless).await, Err(LoginError::Unexpected(b'S'))));
    }
}
