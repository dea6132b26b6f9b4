//! From an accepted socket to a client that has said who it wants to be, or to a cancel request.
//!
//! ```text
//! socket --SSLRequest/'S'+handshake--> TLS --StartupMessage--> Client
//!    |  --SSLRequest/'N', GSSENCRequest/'N'--> (once each)  --CancelRequest--> Cancel
//!    \--TLS handshake at once (ALPN postgresql)--> TLS
//! ```
//!
//! Knows nothing of users, databases or passwords.

use std::io;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::auth::method::Tls;
use crate::config::model::ClientTlsMode;
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;
use crate::net::tls::{self, Acceptor};
use crate::protocol::backend;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::startup::{self, ALPN, Fault, First, StartupMessage, TLS_HANDSHAKE};

/// What a new connection turned out to be.
pub enum Opening {
    /// A cancel request. There is nothing to answer: the connection is closed.
    Cancel {
        /// To be closed when the request has been carried out, and not before: who has asked takes that for a promise that
        /// nothing more will be cancelled.
        stream: Stream,
        /// From `BackendKeyData`.
        process_id: i32,
        /// From `BackendKeyData`.
        key: Vec<u8>,
    },
    /// A client that waits to be authenticated.
    Client(Box<Client>),
}

/// A client that waits to be authenticated.
#[derive(Debug)]
pub struct Client {
    /// Its connection, encrypted if it asked for it.
    pub stream: Stream,
    /// What was read from it and not yet dealt with.
    pub ahead: BytesMut,
    /// How it introduced itself.
    pub message: StartupMessage,
    /// The minor version of protocol 3 that is spoken; the client was told if it asked for a newer one.
    pub minor: u16,
    /// What TLS has to say, over TLS.
    pub tls: Option<Tls>,
}

/// Why a connection came to nothing. The client has been told whatever it can be told.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// It closed or reset the connection before it said who it is, as load balancers' health checks do, and
    /// clients that were told that there is no TLS. Not worth a line in the log.
    #[error("connection closed before startup")]
    Closed,
    /// `limits.login_timeout` passed.
    #[error("no startup packet within limits.login_timeout")]
    Timeout,
    /// The connection broke.
    #[error("connection lost during startup: {0}")]
    Io(#[from] io::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    /// TLS at once, without `SSLRequest`, where there is none or without the protocol's ALPN name.
    #[error("{0}")]
    DirectTls(&'static str),
    /// A packet that cannot be accepted.
    #[error("{0}")]
    Packet(Fault),
    /// A client that was refused.
    #[error("{}", .0.message)]
    Refused(Report),
}

/// What the administrator decided about startup.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// `tls.mode`.
    pub mode: ClientTlsMode,
    /// TLS towards clients, when there is a certificate.
    pub acceptor: Option<&'a Acceptor>,
    /// The newest minor version of protocol 3 that servers speak (2 from PostgreSQL 18).
    pub max_minor: u16,
}

/// Takes a connection through everything that comes before authentication.
///
/// `socket` is plain TCP or a Unix socket; a Unix socket needs no TLS and gets none, as in PostgreSQL. Not
/// cancel safe: a startup given up is a connection given up.
pub async fn accept(socket: Stream, terms: Terms<'_>, deadline: Deadline) -> Result<Opening, StartupError> {
    // Boxed so that the handshake's state does not stay in the client's future for ever.
    match deadline.run(Box::pin(open(socket, terms))).await {
        Ok(Err(StartupError::Io(error))) if error.kind() == io::ErrorKind::ConnectionReset => Err(StartupError::Closed),
        Ok(result) => result,
        Err(_) => Err(StartupError::Timeout),
    }
}

async fn open(socket: Stream, terms: Terms<'_>) -> Result<Opening, StartupError> {
    let mut stream = socket;
    let mut arrived = 0;
    if let Stream::Tcp(tcp) = &stream {
        let mut seen = [0; FIRST];
        // Only looked at: if TLS begins here, rustls wants this byte too.
        let count = tcp.peek(&mut seen).await?;
        if count > 0 && seen[0] == TLS_HANDSHAKE {
            stream = direct_tls(stream, terms).await?;
        } else {
            let length = startup::packet_length(&seen[..count]).ok().flatten();
            arrived = length.map_or(0, |length| length.min(count));
        }
    }
    let (mut ssl, mut gss) = match stream {
        Stream::Tls(_) => (Asked::Before, Asked::Before),
        Stream::Tcp(_) | Stream::Unix(_) => (Asked::Not, Asked::Not),
    };
    loop {
        let packet = match read_packet(&mut stream, std::mem::take(&mut arrived)).await {
            Err(StartupError::Packet(fault)) => return Err(refuse_packet(stream, fault, terms).await),
            other => other?,
        };
        match packet {
            First::Ssl if ssl == Asked::Not => {
                ssl = Asked::Before;
                stream = answer_ssl(stream, terms).await?;
                if stream.is_tls() {
                    gss = Asked::Before;
                }
            }
            First::Gss if gss == Asked::Not => {
                gss = Asked::Before;
                stream.write_all(b"N").await?;
            }
            // PostgreSQL takes a second request for a version that it does not know.
            First::Ssl => return Err(refuse_packet(stream, Fault::Version { major: 1234, minor: 5679 }, terms).await),
            First::Gss => return Err(refuse_packet(stream, Fault::Version { major: 1234, minor: 5680 }, terms).await),
            // libpq before 17 cancels without TLS even where it is required; the key is proof enough.
            First::Cancel { process_id, key } => return Ok(Opening::Cancel { stream, process_id, key }),
            First::Startup(message) => return greet(stream, message, terms).await,
        }
    }
}

/// Whether the client asked for something before; it may ask once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Not,
    Before,
}

/// Bytes of the first packet that are looked at before it is read; most are shorter.
const FIRST: usize = 256;

/// Reads one packet and not a byte more: what follows may be a TLS handshake. So many of its bytes are known to have `arrived`.
async fn read_packet(stream: &mut Stream, arrived: usize) -> Result<First, StartupError> {
    let mut buffer = BytesMut::zeroed(arrived.max(4));
    let mut filled = stream.read(&mut buffer).await?;
    if filled == 0 {
        return Err(StartupError::Closed);
    }
    loop {
        if filled < buffer.len() {
            stream.read_exact(&mut buffer[filled..]).await?;
            filled = buffer.len();
        }
        if let Some((packet, _)) = startup::parse(&buffer).map_err(StartupError::Packet)? {
            return Ok(packet);
        }
        let length = startup::packet_length(&buffer).map_err(StartupError::Packet)?;
        buffer.resize(length.unwrap_or(4), 0);
    }
}

/// Tells the client what was wrong with its packet, if it looks like a client of PostgreSQL at all.
async fn refuse_packet(stream: Stream, fault: Fault, terms: Terms<'_>) -> StartupError {
    if fault != Fault::Length {
        refuse(stream, &fault.report(terms.max_minor)).await;
    }
    StartupError::Packet(fault)
}

/// Sends a last message. Whether it arrives changes nothing.
async fn refuse(mut stream: Stream, report: &Report) {
    let mut out = BytesMut::new();
    report.encode(&mut out);
    let _ = stream.write_all(&out).await;
    let _ = stream.shutdown().await;
}

async fn direct_tls(stream: Stream, terms: Terms<'_>) -> Result<Stream, StartupError> {
    let (Stream::Tcp(tcp), Some(acceptor)) = (stream, terms.acceptor) else {
        return Err(StartupError::DirectTls(
            "direct TLS connection refused: tls.mode is disable, or no tls.certificate",
        ));
    };
    let stream = acceptor.handshake(tcp).await.map_err(StartupError::Tls)?;
    // Without it a browser's request could be replayed here (ALPACA); PostgreSQL 17 insists too.
    if tls::alpn(&stream) != Some(ALPN) {
        return Err(StartupError::DirectTls("direct TLS connection refused: ALPN protocol postgresql not offered"));
    }
    Ok(Stream::Tls(Box::new(stream)))
}

async fn answer_ssl(mut stream: Stream, terms: Terms<'_>) -> Result<Stream, StartupError> {
    let Some(acceptor) = terms.acceptor else {
        stream.write_all(b"N").await?;
        return Ok(stream);
    };
    match stream {
        Stream::Tcp(mut tcp) => {
            if has_more(&tcp) {
                // Somebody in between may have put it there (CVE-2021-23214). It could only be taken for
                // part of the handshake, which fails; saying so is kinder.
                let report = Report::fatal(SqlState::PROTOCOL_VIOLATION, "received unencrypted data after SSL request");
                refuse(Stream::Tcp(tcp), &report).await;
                return Err(StartupError::Refused(report));
            }
            tcp.write_all(b"S").await?;
            let stream = acceptor.handshake(tcp).await.map_err(StartupError::Tls)?;
            Ok(Stream::Tls(Box::new(stream)))
        }
        mut other => {
            other.write_all(b"N").await?;
            Ok(other)
        }
    }
}

/// Whether bytes wait in the socket already.
fn has_more(tcp: &TcpStream) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let found = tcp.poll_peek(&mut Context::from_waker(Waker::noop()), &mut buffer);
    matches!(found, Poll::Ready(Ok(count)) if count > 0)
}

async fn greet(mut stream: Stream, message: StartupMessage, terms: Terms<'_>) -> Result<Opening, StartupError> {
    let plain = matches!(stream, Stream::Tcp(_));
    let required = match terms.mode {
        ClientTlsMode::Disable | ClientTlsMode::Prefer => None,
        ClientTlsMode::Require => Some("require"),
        ClientTlsMode::VerifyFull => Some("verify-full"),
    };
    if let Some(mode) = required.filter(|_| plain) {
        let text = format!("TLS required: connection is not encrypted and tls.mode is {mode}");
        let report = Report::fatal(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, text)
            .hint("Connect with sslmode=require, or set tls.mode: prefer to accept plain connections.");
        refuse(stream, &report).await;
        return Err(StartupError::Refused(report));
    }
    if let Some(told) = message.negotiation(terms.max_minor) {
        let mut out = BytesMut::new();
        backend::negotiate_protocol_version(&mut out, told.version, &told.unknown);
        stream.write_all(&out).await?;
    }
    let tls = match &stream {
        Stream::Tls(stream) => Some(Tls {
            end_point: terms.acceptor.and_then(Acceptor::end_point).cloned(),
            common_name: tls::peer_common_name(stream),
        }),
        Stream::Tcp(_) | Stream::Unix(_) => None,
    };
    let minor = message.spoken(terms.max_minor);
    Ok(Opening::Client(Box::new(Client { stream, ahead: BytesMut::new(), message, minor, tls })))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::net::{TcpListener, UnixStream};

    use super::*;
    use crate::config::model::{ServerTls, SslMode};
    use crate::net::testing::Certificates;
    use crate::net::tls::{Connector, acceptor, connector};
    use crate::protocol::error::ErrorFields;
    use crate::protocol::startup::{put_cancel_request, put_ssl_request, put_startup};

    const GSSENC_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

    fn ssl_request() -> BytesMut {
        let mut out = BytesMut::new();
        put_ssl_request(&mut out);
        out
    }

    fn hello(minor: u16) -> BytesMut {
        let mut out = BytesMut::new();
        put_startup(&mut out, minor, [("user", "u")].into_iter());
        out
    }

    fn terms(mode: ClientTlsMode, acceptor: Option<&Acceptor>) -> Terms<'_> {
        Terms { mode, acceptor, max_minor: 2 }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(30))
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    /// Lets a client send `bytes` and read all that comes back, after which it hangs up.
    async fn converse(bytes: &[u8], terms: Terms<'_>) -> (Result<Opening, StartupError>, Vec<u8>) {
        let (mut client, server) = pair().await;
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let opening = accept(Stream::Tcp(server), terms, soon()).await;
        // Kept open, it would keep the client reading.
        let (_, nobody) = pair().await;
        let nobody = Stream::Tcp(nobody);
        let opening = opening.map(|opening| match opening {
            Opening::Client(client) => Opening::Client(Box::new(Client { stream: nobody, ..*client })),
            Opening::Cancel { process_id, key, .. } => Opening::Cancel { stream: nobody, process_id, key },
        });
        let mut heard = Vec::new();
        let _ = client.read_to_end(&mut heard).await;
        (opening, heard)
    }

    fn client_of(opening: Result<Opening, StartupError>) -> Client {
        match opening {
            Ok(Opening::Client(client)) => *client,
            Ok(Opening::Cancel { .. }) => panic!("a cancel request"),
            Err(error) => panic!("{error}"),
        }
    }

    fn code(heard: &[u8]) -> Option<SqlState> {
        (heard.first() == Some(&b'E')).then(|| ErrorFields::parse(&heard[5..]).code).flatten()
    }

    #[tokio::test]
    async fn plain_clients_are_heard_whatever_they_ask_before() {
        let none = terms(ClientTlsMode::Prefer, None);
        for (asked, answered) in [
            (vec![], &b""[..]),
            (vec![&*ssl_request()], b"N"),
            (vec![GSSENC_REQUEST], b"N"),
            (vec![GSSENC_REQUEST, &*ssl_request()], b"NN"),
            (vec![&*ssl_request(), GSSENC_REQUEST], b"NN"),
        ] {
            let (opening, heard) = converse(&[&asked.concat()[..], &hello(0)].concat(), none).await;
            let client = client_of(opening);
            assert_eq!((client.message.user(), client.minor, &heard[..]), ("u", 0, answered));
            assert!(client.tls.is_none());
        }
        for twice in [[&*ssl_request(), &*ssl_request()].concat(), [GSSENC_REQUEST, GSSENC_REQUEST].concat()] {
            let (opening, heard) = converse(&twice, none).await;
            assert!(matches!(opening, Err(StartupError::Packet(Fault::Version { major: 1234, .. }))));
            assert_eq!((heard[0], code(&heard[1..])), (b'N', Some(SqlState::FEATURE_NOT_SUPPORTED)));
        }
    }

    #[tokio::test]
    async fn newer_clients_are_told_what_is_spoken() {
        let (opening, heard) = converse(&hello(9999), terms(ClientTlsMode::Disable, None)).await;
        let client = client_of(opening);
        assert_eq!((client.minor, &heard[..]), (2, &b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0"[..]));
        let older = Terms { max_minor: 0, ..terms(ClientTlsMode::Disable, None) };
        let (opening, heard) = converse(&hello(2), older).await;
        let client = client_of(opening);
        assert_eq!((client.minor, &heard[..]), (0, &b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0"[..]));
    }

    #[tokio::test]
    async fn what_is_not_a_client_gets_a_fitting_answer() {
        let none = terms(ClientTlsMode::Disable, None);
        let (opening, heard) = converse(b"", none).await;
        assert!(matches!(opening, Err(StartupError::Closed)) && heard.is_empty());
        let (opening, heard) = converse(b"GET / HTTP/1.1\r\n\r\n", none).await;
        assert!(matches!(opening, Err(StartupError::Packet(Fault::Length))) && heard.is_empty());
        let (opening, _) = converse(&hello(0)[..9], none).await;
        assert!(matches!(opening, Err(StartupError::Io(_))));
        let (opening, heard) = converse(&[0, 0, 0, 8, 0, 2, 0, 0], none).await;
        assert!(matches!(opening, Err(StartupError::Packet(Fault::Version { major: 2, minor: 0 }))));
        assert_eq!(code(&heard), Some(SqlState::FEATURE_NOT_SUPPORTED));
        let (opening, heard) = converse(b"\x16\x03\x01", none).await;
        assert!(matches!(opening, Err(StartupError::DirectTls(_))) && heard.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_deadline() {
        let (_client, server) = pair().await;
        let opening = accept(Stream::Tcp(server), terms(ClientTlsMode::Disable, None), soon()).await;
        assert!(matches!(opening, Err(StartupError::Timeout)));
    }

    #[tokio::test]
    async fn required_tls_is_required_of_tcp_only() {
        let files = Certificates::new("required");
        for mode in [ClientTlsMode::Require, ClientTlsMode::VerifyFull] {
            let acceptor = acceptor(&files.towards_clients(mode, "server")).unwrap().unwrap();
            let terms = terms(mode, Some(&acceptor));
            let (opening, heard) = converse(&hello(0), terms).await;
            assert!(matches!(opening, Err(StartupError::Refused(_))));
            assert_eq!(code(&heard), Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
            let mut cancel = BytesMut::new();
            put_cancel_request(&mut cancel, 7, b"secret key");
            let (opening, heard) = converse(&cancel, terms).await;
            assert!(heard.is_empty());
            assert!(matches!(opening, Ok(Opening::Cancel { process_id: 7, key, .. }) if key == b"secret key"));
            let (mut client, server) = UnixStream::pair().unwrap();
            client.write_all(&[&ssl_request()[..], &hello(0)].concat()).await.unwrap();
            assert!(matches!(accept(Stream::Unix(server), terms, soon()).await, Ok(Opening::Client(_))));
            assert_eq!(client.read_u8().await.unwrap(), b'N');
        }
    }

    #[tokio::test]
    async fn bytes_smuggled_behind_the_request_for_tls_are_refused() {
        let files = Certificates::new("smuggled");
        let acceptor = acceptor(&files.towards_clients(ClientTlsMode::Prefer, "server")).unwrap().unwrap();
        let bytes = [&ssl_request()[..], &hello(0)].concat();
        let (opening, heard) = converse(&bytes, terms(ClientTlsMode::Prefer, Some(&acceptor))).await;
        assert!(matches!(opening, Err(StartupError::Refused(_))));
        assert_eq!(code(&heard), Some(SqlState::PROTOCOL_VIOLATION));
    }

    /// A client that makes TLS at once, or asks first, and then sends `packet`.
    async fn over_tls(
        connector: &Connector,
        ask: &[u8],
        packet: &[u8],
        terms: Terms<'_>,
    ) -> Result<Opening, StartupError> {
        let (mut socket, server) = pair().await;
        let client = async {
            if !ask.is_empty() {
                socket.write_all(ask).await.unwrap();
                assert_eq!(socket.read_u8().await.unwrap(), b'S');
            }
            let mut stream = connector.handshake(socket, "localhost").await?;
            stream.write_all(packet).await?;
            stream.flush().await?;
            io::Result::Ok(stream)
        };
        let (opening, _client) = tokio::join!(accept(Stream::Tcp(server), terms, soon()), client);
        opening
    }

    #[tokio::test]
    async fn tls_is_made_on_request_and_at_once() {
        let files = Certificates::new("both");
        let acceptor = acceptor(&files.towards_clients(ClientTlsMode::Require, "server")).unwrap().unwrap();
        let terms = terms(ClientTlsMode::Require, Some(&acceptor));
        let plain = connector(&files.towards_servers(SslMode::VerifyFull, Some("ca"))).unwrap();
        let certified = ServerTls {
            certificate: Some(files.path("client.crt")),
            private_key: Some(files.path("client.key")),
            ..files.towards_servers(SslMode::Require, None)
        };
        let certified = connector(&certified).unwrap();
        let mut cancel = BytesMut::new();
        put_cancel_request(&mut cancel, 7, &[1; 256]);
        for ask in [&ssl_request()[..], b""] {
            for (connector, name) in [(&plain, None), (&certified, Some("u"))] {
                let client = client_of(over_tls(connector, ask, &hello(0), terms).await);
                let tls = client.tls.as_ref().unwrap();
                assert!(client.stream.is_tls());
                assert_eq!((tls.common_name.as_deref(), tls.end_point.as_ref()), (name, acceptor.end_point()));
            }
            let opening = over_tls(&plain, ask, &cancel, terms).await;
            assert!(matches!(opening, Ok(Opening::Cancel { process_id: 7, .. })));
            for packet in [&ssl_request()[..], GSSENC_REQUEST] {
                let opening = over_tls(&plain, ask, packet, terms).await;
                assert!(matches!(opening, Err(StartupError::Packet(Fault::Version { .. }))));
            }
        }
    }

    #[tokio::test]
    async fn direct_tls_must_name_the_protocol() {
        let files = Certificates::new("alpn");
        let acceptor = acceptor(&files.towards_clients(ClientTlsMode::Prefer, "server")).unwrap().unwrap();
        let terms = terms(ClientTlsMode::Prefer, Some(&acceptor));
        let unnamed = connector(&files.towards_servers(SslMode::Require, None)).unwrap().without_alpn();
        assert!(matches!(over_tls(&unnamed, b"", &hello(0), terms).await, Err(StartupError::DirectTls(_))));
        assert!(over_tls(&unnamed, &ssl_request(), &hello(0), terms).await.is_ok());
    }
}
