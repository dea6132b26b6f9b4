//! One socket, of whatever kind, without boxing or monomorphised copies of the relay.
//!
//! Knows bytes only.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;
use tokio_rustls::rustls::{CipherSuite, ProtocolVersion};

/// A connection to a client or a server.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP, from either side.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The two ends of a connection, for people; `None` where it has no address, as a Unix socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Ours.
    pub local: Option<SocketAddr>,
    /// The other.
    pub remote: Option<SocketAddr>,
}

/// How a connection is encrypted. Shown as `TLSv1.3/TLS13_AES_256_GCM_SHA384`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encryption {
    protocol: ProtocolVersion,
    suite: CipherSuite,
}

impl std::fmt::Display for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = self.protocol.as_str().unwrap_or("TLS").replace('_', ".");
        write!(f, "{protocol}/{}", self.suite.as_str().unwrap_or("unknown"))
    }
}

impl Stream {
    /// Its ends.
    pub fn ends(&self) -> Ends {
        let tcp = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Unix(_) => return Ends::default(),
        };
        Ends { local: tcp.local_addr().ok(), remote: tcp.peer_addr().ok() }
    }

    /// How it is encrypted, if it is.
    pub fn encryption(&self) -> Option<Encryption> {
        let Self::Tls(stream) = self else { return None };
        let session = stream.get_ref().1;
        let suite = session.negotiated_cipher_suite()?.suite();
        Some(Encryption { protocol: session.protocol_version()?, suite })
    }

    /// Ready when a read would find bytes, the end of the stream or an error; needs no buffer.
    ///
    /// May be early; a read that finds nothing simply waits. Over TLS it looks at the
    /// socket only: read until a read comes back short before waiting, so that no decrypted bytes lie unseen.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) => stream.get_ref().0.poll_read_ready(cx),
        }
    }

    /// Waits for what [`Stream::poll_readable`] tells. Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Whether the socket is known to have something to read, without a system call.
    pub fn is_readable_now(&self) -> bool {
        self.poll_readable(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    /// Registers the socket with the runtime of this thread, whichever it was registered with before. After an
    /// error the stream is of no use.
    pub fn settle(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => settle_tcp(stream),
            Self::Tls(stream) => settle_tcp(stream.get_mut().0),
            Self::Unix(stream) => {
                *stream = UnixStream::from_std(stream.as_fd().try_clone_to_owned()?.into())?;
                Ok(())
            }
        }
    }

    /// Whether the connection is encrypted.
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Waits for `interest` on the socket itself, below TLS.
    pub async fn ready(&self, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await.map(drop),
            Self::Unix(stream) => stream.ready(interest).await.map(drop),
            Self::Tls(stream) => stream.get_ref().0.ready(interest).await.map(drop),
        }
    }
}

/// A second descriptor for the same socket, so that there is a stream at every moment; the first one is closed.
fn settle_tcp(stream: &mut TcpStream) -> io::Result<()> {
    *stream = TcpStream::from_std(stream.as_fd().try_clone_to_owned()?.into())?;
    Ok(())
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
