//! Stand-in: plain TCP, trust, password and SCRAM.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::model::ServerAddress;
use crate::config::secret::Secret;
use crate::net::stream::Stream;
use crate::net::tls::Connector;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::types::{DatabaseName, UserName};

/// Where.
pub type Peer = SocketAddr;

/// How to log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Where.
    pub address: ServerAddress,
    /// Tls.
    pub connector: Arc<Connector>,
    /// Who.
    pub user: UserName,
    /// Proof.
    pub password: Option<Secret>,
    /// What.
    pub database: DatabaseName,
    /// Name.
    pub application_name: String,
    /// Options.
    pub options: Vec<(String, String)>,
    /// Timeout.
    pub timeout: Duration,
}

/// A server connection.
#[derive(Debug)]
pub struct Connected {
    /// Stream.
    pub stream: Stream,
    /// Parameters.
    pub parameters: Vec<(Box<str>, Box<str>)>,
    /// Pid.
    pub process_id: i32,
    /// Key.
    pub key: Vec<u8>,
    /// Minor.
    pub minor: u16,
    /// Peer.
    pub peer: Peer,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Socket.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server said no.
    #[error("{0:?}")]
    Server(Report),
}

impl ConnectError {
    /// For clients.
    pub fn report(&self) -> Report {
        match self {
            Self::Io(error) => Report::error(SqlState::CONNECTION_FAILURE, error.to_string()),
            Self::Server(report) => report.clone(),
        }
    }
}

/// Connects.
pub async fn connect(login: &Login) -> Result<Connected, ConnectError> {
    tokio::time::timeout(login.timeout, attempt(login)).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

async fn attempt(login: &Login) -> Result<Connected, ConnectError> {
    let ServerAddress::Tcp { host, port } = &login.address else {
        return Err(std::io::Error::other("unix").into());
    };
    let mut stream = TcpStream::connect((&**host, *port)).await?;
    stream.set_nodelay(true)?;
    let mut body = vec![0, 3, 0, 0];
    for text in ["user", login.user.as_str(), "database", login.database.as_str(), "application_name", &login.application_name, ""] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    let length = u32::try_from(body.len() + 4).unwrap_or(0);
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&body).await?;
    let (mut parameters, mut process_id, mut key) = (Vec::new(), 0, Vec::new());
    let mut scram: Option<ScramSha256> = None;
    loop {
        let (tag, body) = message(&mut stream).await?;
        match tag {
            b'E' => return Err(error(&body)),
            b'R' => match u32::from_be_bytes([body[0], body[1], body[2], body[3]]) {
                10 => {
                    let password = login.password.as_ref().map(|p| p.expose().as_bytes().to_vec()).unwrap_or_default();
                    let s = ScramSha256::new(&password, ChannelBinding::unsupported());
                    let mut b = bytes::BytesMut::new();
                    let _ = postgres_protocol::message::frontend::sasl_initial_response(SCRAM_SHA_256, s.message(), &mut b);
                    stream.write_all(&b).await?;
                    scram = Some(s);
                }
                11 => {
                    if let Some(s) = scram.as_mut() {
                        s.update(&body[4..])?;
                        let mut b = bytes::BytesMut::new();
                        let _ = postgres_protocol::message::frontend::sasl_response(s.message(), &mut b);
                        stream.write_all(&b).await?;
                    }
                }
                _ => {}
            },
            b'S' => {
                if let Some((name, value)) = crate::session::parameter(&body) {
                    parameters.push((name.into(), value.into()));
                }
            }
            b'K' => {
                process_id = i32::from_be_bytes([body[0], body[1], body[2], body[3]]);
                key = body[4..].to_vec();
            }
            b'Z' => {
                let peer = stream.peer_addr()?;
                return Ok(Connected { stream: Stream::Tcp(stream), parameters, process_id, key, minor: 0, peer });
            }
            _ => {}
        }
    }
}

pub(super) fn error(body: &[u8]) -> ConnectError {
    let fields = crate::protocol::error::ErrorFields::parse(body);
    ConnectError::Server(Report::fatal(
        fields.code.unwrap_or(SqlState::INTERNAL_ERROR),
        String::from_utf8_lossy(fields.message).into_owned(),
    ))
}

pub(super) async fn message(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let tag = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut body = vec![0; length.saturating_sub(4) as usize];
    stream.read_exact(&mut body).await?;
    Ok((tag, body))
}

/// Cancels.
pub async fn cancel(peer: &Peer, _: &Connector, process_id: i32, key: &[u8], timeout: Duration) -> std::io::Result<()> {
    let work = async {
        let mut stream = TcpStream::connect(peer).await?;
        let mut body = Vec::new();
        body.extend_from_slice(&u32::try_from(12 + key.len()).unwrap_or(16).to_be_bytes());
        body.extend_from_slice(&80_877_102u32.to_be_bytes());
        body.extend_from_slice(&process_id.to_be_bytes());
        body.extend_from_slice(key);
        stream.write_all(&body).await?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.map(drop)
    };
    tokio::time::timeout(timeout, work).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}
