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
    /// itself negotiates since 11; older poolers in front of it refuse.
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::config::model::ClientTlsMode;
    use crate::net::testing::Certificates;
    use crate::net::tls::{Acceptor, acceptor, connector};
    use crate::protocol::backend;
    use crate::protocol::startup::{First, parse};
    use crate::protocol::tag::TransactionStatus;

    /// What a scripted server offers and refuses.
    #[derive(Clone)]
    struct Script {
        acceptor: Option<Acceptor>,
        /// What `pg_hba.conf` has no entry for.
        refuses: Option<Encryption>,
        /// The newest minor version, beyond which it answers with an error instead of negotiating.
        strict_minor: Option<u16>,
    }

    const OPEN: Script = Script { acceptor: None, refuses: None, strict_minor: None };

    async fn first(stream: &mut Stream) -> Option<First> {
        let mut buffer = BytesMut::new();
        loop {
            if let Some((packet, _)) = parse(&buffer).unwrap() {
                return Some(packet);
            }
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Serves one connection; gives what it was about.
    async fn serve(mut socket: TcpStream, script: Script) -> Option<(First, Encryption)> {
        let mut head = [0; 8];
        // Only looked at, since it may be another packet.
        let count = socket.peek(&mut head).await.ok()?;
        let asks = matches!(parse(&head[..count]), Ok(Some((First::Ssl, _))));
        if asks {
            socket.read_exact(&mut head).await.ok()?;
        }
        let (mut stream, encryption) = match &script.acceptor {
            Some(acceptor) if asks => {
                socket.write_all(b"S").await.ok()?;
                (Stream::Tls(Box::new(acceptor.handshake(socket).await.ok()?)), Encryption::Tls)
            }
            _ => {
                socket.write_all(if asks { b"N" } else { b"" }).await.ok()?;
                (Stream::Tcp(socket), Encryption::Plain)
            }
        };
        let packet = first(&mut stream).await?;
        let mut out = BytesMut::new();
        if let First::Startup(message) = &packet {
            if script.refuses == Some(encryption) {
                let code = SqlState::INVALID_AUTHORIZATION_SPECIFICATION;
                Report::fatal(code, format!("no pg_hba.conf entry, {encryption:?}")).encode(&mut out);
            } else if script.strict_minor.is_some_and(|newest| message.minor > newest) {
                Report::fatal(SqlState::FEATURE_NOT_SUPPORTED, "unsupported frontend protocol").encode(&mut out);
            } else {
                backend::authentication(&mut out, 0, &[]);
                backend::backend_key_data(&mut out, 42, b"key!");
                backend::ready_for_query(&mut out, TransactionStatus::Idle);
            }
        }
        stream.write_all(&out).await.ok()?;
        stream.flush().await.ok()?;
        Some((packet, encryption))
    }

    type Served = JoinHandle<Vec<(First, Encryption)>>;

    /// A server for `count` connections.
    async fn server(script: Script, count: usize) -> (u16, Served) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..count {
                let (socket, _) = listener.accept().await.unwrap();
                seen.extend(serve(socket, script.clone()).await);
            }
            seen
        });
        (port, served)
    }

    fn login(port: u16, connector: Connector) -> Login {
        Login {
            address: ServerAddress::Tcp { host: "127.0.0.1".into(), port },
            connector: Arc::new(connector),
            user: "u".into(),
            password: None,
            database: "d".into(),
            application_name: "howdah".into(),
            options: vec![("TimeZone".into(), "UTC".into())],
            timeout: Duration::from_secs(30),
        }
    }

    #[tokio::test]
    async fn sslmodes_meet_servers_of_every_kind() {
        use Encryption::{Plain, Tls};
        use SslMode::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};
        let files = Certificates::new("connect");
        let tls = |name| acceptor(&files.towards_clients(ClientTlsMode::Prefer, name)).unwrap();
        let both = Script { acceptor: tls("server"), ..OPEN };
        let elsewhere = Script { acceptor: tls("elsewhere"), ..OPEN };
        let only_tls = Script { refuses: Some(Plain), ..both.clone() };
        let only_plain = Script { refuses: Some(Tls), ..both.clone() };
        let old = Script { strict_minor: Some(0), ..both.clone() };
        for (mode, ca, script, connections, expected) in [
            (Disable, None, &OPEN, 1, Some(Plain)),
            (Disable, None, &both, 1, Some(Plain)),
            (Disable, None, &only_tls, 1, None),
            (Allow, None, &OPEN, 1, Some(Plain)),
            (Allow, None, &both, 1, Some(Plain)),
            (Allow, None, &only_tls, 2, Some(Tls)),
            (Prefer, None, &OPEN, 1, Some(Plain)),
            (Prefer, None, &both, 1, Some(Tls)),
            (Prefer, None, &only_tls, 1, Some(Tls)),
            (Prefer, None, &only_plain, 2, Some(Plain)),
            (Prefer, None, &old, 2, Some(Tls)),
            (Prefer, Some("stranger"), &both, 2, Some(Plain)),
            (Prefer, Some("stranger"), &only_tls, 2, None),
            (Require, None, &OPEN, 1, None),
            (Require, None, &both, 1, Some(Tls)),
            (Require, None, &only_plain, 1, None),
            (Require, Some("stranger"), &both, 1, None),
            (VerifyCa, Some("ca"), &elsewhere, 1, Some(Tls)),
            (VerifyCa, Some("stranger"), &both, 1, None),
            (VerifyFull, Some("ca"), &both, 1, Some(Tls)),
            (VerifyFull, Some("ca"), &elsewhere, 1, None),
            (VerifyFull, Some("ca"), &OPEN, 1, None),
        ] {
            let (port, served) = server(script.clone(), connections).await;
            let connector = connector(&files.towards_servers(mode, ca)).unwrap();
            let found = connect(&login(port, connector)).await;
            let encryption = found.as_ref().ok().map(|connected| connected.peer.encryption);
            assert_eq!(encryption, expected, "{mode:?} {ca:?}: {found:?}");
            drop(found);
            // Every connection that the script expects was made.
            served.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_login_says_who_it_is() {
        let (port, served) = server(OPEN, 1).await;
        let connected = connect(&login(port, Connector::plain())).await.unwrap();
        assert_eq!((connected.process_id, &connected.key[..], connected.minor), (42, &b"key!"[..], 2));
        assert_eq!(connected.peer.to_string(), format!("127.0.0.1:{port}"));
        drop(connected);
        let seen = served.await.unwrap();
        let [(First::Startup(message), _)] = &seen[..] else { panic!("a login") };
        let given = [("user", "u"), ("database", "d"), ("application_name", "howdah"), ("TimeZone", "UTC")];
        assert_eq!(message.parameters, given.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[tokio::test]
    async fn a_cancel_request_goes_the_way_of_its_connection() {
        let files = Certificates::new("cancel");
        let acceptor = acceptor(&files.towards_clients(ClientTlsMode::Prefer, "server")).unwrap();
        let tls = connector(&files.towards_servers(SslMode::VerifyFull, Some("ca"))).unwrap();
        for (connector, expected) in [(Connector::plain(), Encryption::Plain), (tls, Encryption::Tls)] {
            let (port, served) = server(Script { acceptor: acceptor.clone(), ..OPEN }, 2).await;
            let login = login(port, connector);
            let connected = connect(&login).await.unwrap();
            let Connected { peer, process_id, key, .. } = &connected;
            let deadline = Deadline::after(Duration::from_secs(30));
            cancel(peer, &login.connector, *process_id, key, deadline).await.unwrap();
            let seen = served.await.unwrap();
            assert_eq!(seen[1], (First::Cancel { process_id: 42, key: b"key!".to_vec() }, expected));
        }
    }

    #[tokio::test]
    async fn failures_have_names() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let refused = connect(&login(port, Connector::plain())).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
        let mut nowhere = login(port, Connector::plain());
        nowhere.address = ServerAddress::Tcp { host: "no.such.host.invalid".into(), port };
        assert!(matches!(connect(&nowhere).await, Err(ConnectError::Dns { .. })));
        nowhere.address = ServerAddress::Unix("/nonexistent/.s.PGSQL.1".into());
        assert!(matches!(connect(&nowhere).await, Err(ConnectError::Refused { .. })));

        let (port, _served) = server(Script { refuses: Some(Encryption::Plain), ..OPEN }, 1).await;
        let server = connect(&login(port, Connector::plain())).await.unwrap_err();
        assert!(server.is_credentials() && !refused.is_credentials());
        assert_eq!(server.report().message, "no pg_hba.conf entry, Plain");
        assert_eq!(refused.report().code, SqlState::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION);
    }

    #[tokio::test]
    async fn a_silent_server_takes_no_longer_than_it_may() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut login = login(listener.local_addr().unwrap().port(), Connector::plain());
        login.timeout = Duration::from_millis(50);
        assert!(matches!(connect(&login).await, Err(ConnectError::Timeout { .. })));
    }
}
