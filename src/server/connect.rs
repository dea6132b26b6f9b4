//! Opening a connection to a server: addresses, encryption as `sslmode` says, login; and cancel requests,
//! which need the same without the login.
//!
//! Knows one login at a time. How often to try, and what to do meanwhile, is the pool's business.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::startup::{Established, Identity, LoginError, Parameters, Stage, log_in};
use crate::auth::respond::RespondError;
use crate::config::model::{ServerAddress, SslMode};
use crate::config::secret::Secret;
use crate::net::deadline::Deadline;
use crate::net::listen::tune;
use crate::net::stream::Stream;
use crate::net::tls::{self, Connector};
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::startup::{NEWEST_MINOR, put_cancel_request, put_ssl_request};
use crate::types::{DatabaseName, UserName};

/// All that is needed to log in to a server.
#[derive(Clone, Debug)]
pub struct Login {
    /// Where it listens.
    pub address: ServerAddress,
    /// TLS as the cluster's `tls` says.
    pub connector: Arc<Connector>,
    /// The role.
    pub user: UserName,
    /// Its password.
    pub password: Option<Secret>,
    /// The database.
    pub database: DatabaseName,
    /// What the server shows in `pg_stat_activity`; none when empty.
    pub application_name: String,
    /// More startup parameters.
    pub options: Vec<(String, String)>,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// A server connection that is ready for its first query.
#[derive(Debug)]
pub struct Connected {
    /// The connection; nothing is unread on it.
    pub stream: Stream,
    /// Every ParameterStatus so far.
    pub parameters: Parameters,
    /// From BackendKeyData; 0 when the server sent none.
    pub process_id: i32,
    /// From BackendKeyData: 4 bytes in protocol 3.0, up to 256 in 3.2; empty when the server sent none.
    pub key: Vec<u8>,
    /// The minor version of protocol 3 that the server speaks.
    pub minor: u16,
    /// Whom we are connected to, for cancel requests.
    pub peer: Peer,
}

/// The very server that a connection leads to, where a host name may lead to several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    target: Target,
    /// The name that its certificate must bear.
    host: Arc<str>,
    encryption: Encryption,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Plain,
    Tls,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            Target::Tcp(address) => address.fmt(f),
            Target::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host name does not resolve.
    #[error("cannot resolve {address}: {source}")]
    Dns {
        /// The server.
        address: ServerAddress,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers at the address, or the network does not lead there.
    #[error("cannot connect to {address}: {source}")]
    Refused {
        /// The server.
        address: ServerAddress,
        /// Why.
        source: io::Error,
    },
    /// It took longer than `pool.connect_timeout`.
    #[error("connecting to {address} took longer than {timeout:?}")]
    Timeout {
        /// The server.
        address: ServerAddress,
        /// The time it had.
        timeout: Duration,
    },
    /// TLS was refused by the server, or the handshake failed.
    #[error("cannot use TLS with {address}: {source}")]
    Tls {
        /// The server.
        address: ServerAddress,
        /// Why.
        source: io::Error,
    },
    /// Howdah cannot answer how the server wants to authenticate it, or the server could not prove itself.
    #[error("cannot log in to {address}: {source}")]
    Auth {
        /// The server.
        address: ServerAddress,
        /// Why.
        source: RespondError,
    },
    /// The server's own error.
    #[error("{address} refused the login: {}", .report.message)]
    Server {
        /// The server.
        address: ServerAddress,
        /// What it said.
        report: Report,
    },
    /// The connection broke during login, or what came was not PostgreSQL's protocol.
    #[error("connection to {address} failed during login: {source}")]
    Broken {
        /// The server.
        address: ServerAddress,
        /// Why.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether trying again can only help after somebody changed a password or a permission.
    pub fn is_credentials(&self) -> bool {
        match self {
            Self::Auth { .. } => true,
            Self::Server { report, .. } => {
                [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(&report.code)
            }
            _ => false,
        }
    }

    /// What a client is told that waits for this connection: the server's own words, if there are any.
    pub fn report(&self) -> Report {
        match self {
            Self::Server { report, .. } => report.clone(),
            Self::Auth { .. } => Report::fatal(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, self.to_string())
                .hint("users.password or users.server_password must be the clear password to log in with."),
            Self::Tls { .. } => Report::fatal(SqlState::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, self.to_string())
                .hint("clusters.tls says when TLS is used and what is verified."),
            Self::Timeout { .. } => {
                Report::fatal(SqlState::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, self.to_string())
                    .hint("pool.connect_timeout bounds the time to connect.")
            }
            Self::Dns { .. } | Self::Refused { .. } => {
                Report::fatal(SqlState::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, self.to_string())
            }
            Self::Broken { .. } => Report::fatal(SqlState::CONNECTION_FAILURE, self.to_string()),
        }
    }
}

/// Connects and logs in. The host name is resolved once; its addresses are tried in order. Cancel safe in
/// that a future dropped half-way only leaves a connection closed.
pub async fn connect(login: &Login) -> Result<Connected, ConnectError> {
    let deadline = Deadline::after(login.timeout);
    // Boxed so that TLS and SCRAM do not swell the caller's future.
    let result = deadline.run(Box::pin(try_targets(login, deadline))).await;
    result.unwrap_or_else(|_| Err(ConnectError::Timeout { address: login.address.clone(), timeout: login.timeout }))
}

async fn try_targets(login: &Login, deadline: Deadline) -> Result<Connected, ConnectError> {
    let (host, targets) = resolve(&login.address).await?;
    let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    let mut last = None;
    for (target, left) in targets.into_iter().zip((1..=count).rev()) {
        // An address that swallows packets must leave time for the next.
        let share = Deadline::after(deadline.remaining() / left);
        let attempt = Attempt { login, share, target, host: host.clone() };
        match attempt.run().await {
            Err(error @ ConnectError::Refused { .. }) => last = Some(error),
            result => return result,
        }
    }
    let nothing = || io::Error::new(io::ErrorKind::NotFound, "no address");
    Err(last.unwrap_or_else(|| ConnectError::Dns { address: login.address.clone(), source: nothing() }))
}

async fn resolve(address: &ServerAddress) -> Result<(Arc<str>, Vec<Target>), ConnectError> {
    match address {
        ServerAddress::Unix(path) => Ok(("localhost".into(), vec![Target::Unix(path.clone())])),
        ServerAddress::Tcp { host, port } => {
            let found = lookup_host((&**host, *port)).await;
            let found = found.map_err(|source| ConnectError::Dns { address: address.clone(), source })?;
            Ok((host.clone(), found.map(Target::Tcp).collect()))
        }
    }
}

/// How encryption is tried, one after the other (`PQconnectPoll`, `src/interfaces/libpq/fe-connect.c`).
fn plan(mode: SslMode, target: &Target) -> &'static [Encryption] {
    match (target, mode) {
        // libpq ignores sslmode on Unix sockets too.
        (Target::Unix(_), _) | (_, SslMode::Disable) => &[Encryption::Plain],
        (_, SslMode::Allow) => &[Encryption::Plain, Encryption::Tls],
        (_, SslMode::Prefer) => &[Encryption::Tls, Encryption::Plain],
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Encryption::Tls],
    }
}

/// One address of one login.
struct Attempt<'a> {
    login: &'a Login,
    /// When to give up connecting to this address.
    share: Deadline,
    target: Target,
    host: Arc<str>,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<Connected, ConnectError> {
        let mut refused = None;
        for encryption in plan(self.login.connector.mode(), &self.target) {
            match self.with_version_fallback(*encryption).await {
                // Another kind of encryption may be what the server, or its pg_hba.conf, wants.
                Err(error) if wants_other_encryption(&error) => refused = refused.or(Some(error)),
                result => return result,
            }
        }
        Err(refused.unwrap_or_else(|| self.broken(io::Error::other("no way to connect"))))
    }

    /// Asks for the newest protocol; for 3.0 if the server does not understand the question. PostgreSQL
    /// itself negotiates since 9.3; older poolers in front of it refuse.
    async fn with_version_fallback(&self, encryption: Encryption) -> Result<Connected, ConnectError> {
        match self.once(encryption, NEWEST_MINOR).await {
            Err(Failure::Login(LoginError::Server { report, stage: Stage::Startup }))
                if [SqlState::FEATURE_NOT_SUPPORTED, SqlState::PROTOCOL_VIOLATION].contains(&report.code) =>
            {
                self.once(encryption, 0).await.map_err(|failure| self.named(failure))
            }
            result => result.map_err(|failure| self.named(failure)),
        }
    }

    async fn once(&self, wanted: Encryption, minor: u16) -> Result<Connected, Failure> {
        let connector = &self.login.connector;
        let opened = open(&self.target, &self.host, wanted, connector, self.share).await?;
        let (stream, encryption) = match opened {
            Opened::Agreed(stream) => (stream, wanted),
            Opened::NoTls(stream) if connector.mode() == SslMode::Prefer => (stream, Encryption::Plain),
            Opened::NoTls(_) => return Err(Failure::Tls(io::Error::other("the server does not support TLS"))),
        };
        let (stream, established) = self.log_in(stream, minor).await.map_err(Failure::Login)?;
        let Established { parameters, process_id, key, minor } = established;
        let peer = Peer { target: self.target.clone(), host: self.host.clone(), encryption };
        Ok(Connected { stream, parameters, process_id, key, minor, peer })
    }

    async fn log_in(&self, stream: Stream, minor: u16) -> Result<(Stream, Established), LoginError> {
        let login = self.login;
        let mut parameters = vec![("user", login.user.as_str()), ("database", login.database.as_str())];
        if !login.application_name.is_empty() {
            parameters.push(("application_name", &login.application_name));
        }
        parameters.extend(login.options.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let end_point = match &stream {
            Stream::Tls(tls) => tls::peer_end_point(tls),
            Stream::Tcp(_) | Stream::Unix(_) => None,
        };
        let identity = Identity {
            user: login.user.as_str(),
            password: login.password.as_ref(),
            parameters: &parameters,
            end_point: end_point.as_deref(),
        };
        log_in(stream, identity, minor).await
    }

    fn named(&self, failure: Failure) -> ConnectError {
        let address = self.login.address.clone();
        match failure {
            Failure::Refused(source) => ConnectError::Refused { address, source },
            Failure::Tls(source) => ConnectError::Tls { address, source },
            Failure::Login(LoginError::Server { report, .. }) => ConnectError::Server { address, report },
            Failure::Login(LoginError::Auth(source)) => ConnectError::Auth { address, source },
            Failure::Login(LoginError::Io(source)) => ConnectError::Broken { address, source },
            Failure::Login(error @ LoginError::Unexpected(_)) => self.broken(super::wire::invalid(error)),
        }
    }

    fn broken(&self, source: io::Error) -> ConnectError {
        ConnectError::Broken { address: self.login.address.clone(), source }
    }
}

fn wants_other_encryption(error: &ConnectError) -> bool {
    match error {
        ConnectError::Tls { .. } => true,
        ConnectError::Server { report, .. } => report.code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        _ => false,
    }
}

/// [`ConnectError`] before it knows the address.
enum Failure {
    Refused(io::Error),
    Tls(io::Error),
    Login(LoginError),
}

enum Opened {
    /// With the encryption that was asked for.
    Agreed(Stream),
    /// The server said that it has no TLS; the plain connection can be used.
    NoTls(Stream),
}

/// Opens a connection and encrypts it if `wanted` says so.
async fn open(
    target: &Target,
    host: &str,
    wanted: Encryption,
    connector: &Connector,
    deadline: Deadline,
) -> Result<Opened, Failure> {
    let stream = deadline.io(dial(target)).await.map_err(Failure::Refused)?;
    let tcp = match (stream, wanted) {
        (Stream::Tcp(tcp), Encryption::Tls) => tcp,
        (stream, _) => return Ok(Opened::Agreed(stream)),
    };
    encrypt(tcp, host, connector).await.map_err(Failure::Tls)
}

async fn dial(target: &Target) -> io::Result<Stream> {
    match target {
        Target::Tcp(address) => {
            let tcp = TcpStream::connect(address).await?;
            tune(&tcp)?;
            Ok(Stream::Tcp(tcp))
        }
        Target::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
    }
}

async fn encrypt(mut tcp: TcpStream, host: &str, connector: &Connector) -> io::Result<Opened> {
    let mut out = BytesMut::new();
    put_ssl_request(&mut out);
    tcp.write_all(&out).await?;
    // One byte and not more: what follows it must come from inside TLS (CVE-2021-23222).
    match tcp.read_u8().await? {
        b'S' => Ok(Opened::Agreed(Stream::Tls(Box::new(connector.handshake(tcp, host).await?)))),
        b'N' => Ok(Opened::NoTls(Stream::Tcp(tcp))),
        // An error from a server that does not know the request, or is out of processes: its text could
        // come from anybody and is not shown (CVE-2024-10977).
        _ => Err(io::Error::other("the server answered the request for TLS with an error")),
    }
}

/// Sends a cancel request to the very server that `peer` is, over TLS if its connection is encrypted, and waits
/// until the server has taken it. That says nothing about whether there was anything to cancel.
pub async fn cancel(
    peer: &Peer,
    connector: &Connector,
    process_id: i32,
    key: &[u8],
    deadline: Deadline,
) -> io::Result<()> {
    deadline.io(Box::pin(send_cancel(peer, connector, process_id, key, deadline))).await
}

async fn send_cancel(
    peer: &Peer,
    connector: &Connector,
    process_id: i32,
    key: &[u8],
    deadline: Deadline,
) -> io::Result<()> {
    let opened = open(&peer.target, &peer.host, peer.encryption, connector, deadline).await;
    let mut stream = match opened {
        Ok(Opened::Agreed(stream)) => stream,
        Ok(Opened::NoTls(_)) => return Err(io::Error::other("the server does not support TLS any more")),
        Err(Failure::Refused(error) | Failure::Tls(error)) => return Err(error),
        Err(Failure::Login(error)) => return Err(io::Error::other(error)),
    };
    let mut out = BytesMut::new();
    put_cancel_request(&mut out, process_id, key);
    stream.write_all(&out).await?;
    stream.flush().await?;
    // The server closes when the signal is sent; until then the next query could be hit instead.
    let mut rest = [0; 64];
    loop {
        match stream.read(&mut rest).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // It does not say goodbye in TLS, and resets what it did not read.
            Err(error) if CLOSED.contains(&error.kind()) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

const CLOSED: [io::ErrorKind; 2] = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
