//! Listening sockets, and how TCP sockets are set up on both sides.
//!
//! Knows addresses and sockets, not what is said over them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};

use super::stream::Stream;
use crate::config::model::Listen;

/// Connections that the kernel completes before they are accepted; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long a TCP connection may be silent before the kernel asks whether the peer is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Time between such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Where a client connects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket, whose clients have no address.
    Unix,
}

impl std::fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("[local]"),
        }
    }
}

/// One listening socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Begins to listen. Errors name the address.
    pub fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => tcp(*address).map(Self::Tcp).map_err(|error| named(&error, address)),
            Listen::Unix { directory, port } => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                let bound = unix(&path).map_err(|error| named(&error, path.display()))?;
                Ok(Self::Unix(bound.0, bound.1))
            }
        }
    }

    /// Waits for the next client. Cancel safe. An error concerns one connection or, when descriptors ran
    /// out, all of them for a while: wait a little before the next call.
    pub async fn accept(&self) -> io::Result<(Stream, ClientAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), ClientAddress::Tcp(address)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), ClientAddress::Unix))
            }
        }
    }

    /// The TCP address listened at, with the port that the kernel chose when 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

/// Sends small messages at once and notices a peer that is gone.
pub fn tune(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL))
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that a restart need not wait for the old connections' TIME_WAIT to pass.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and :: can be listened at side by side, as PostgreSQL does.
        socket.set_only_v6(true)?;
    }
    // Inherited by all that is accepted, without a call for each (Linux, tcp(7)).
    tune(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let file = SocketFile::new(path)?;
    // Everybody may connect; who may log in is a matter of authentication.
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into())?;
    Ok((listener, file))
}

/// Removes a socket file at which nobody listens any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

fn named(error: &io::Error, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen at {what}: {error}"))
}

/// The file of a Unix socket: removed when dropped, unless another process has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |found: fs::Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // Whoever listens here next removes it if this fails.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// A directory of its own for a test, removed afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("howdah-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn tcp_clients_are_accepted_and_tuned() {
        let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let mut client = TcpStream::connect(listener.local_address().unwrap()).await.unwrap();
        let (mut server, address) = listener.accept().await.unwrap();
        assert_eq!(address, ClientAddress::Tcp(client.local_addr().unwrap()));
        let Stream::Tcp(stream) = &server else { panic!("TCP") };
        assert!(stream.nodelay().unwrap() && SockRef::from(stream).keepalive().unwrap());
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let first = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = first.local_address().unwrap();
        let error = Listener::bind(&Listen::Tcp(address)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let scratch = Scratch::new("listen");
        let path = scratch.0.join(".s.PGSQL.6432");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listen = Listen::Unix { directory: scratch.0.clone(), port: 6432 };
        let listener = Listener::bind(&listen).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o777);
        let _client = tokio::net::UnixStream::connect(&path).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().1, ClientAddress::Unix);
        assert_eq!(Listener::bind(&listen).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_successors_socket_file_is_left_alone() {
        let scratch = Scratch::new("successor");
        let path = scratch.0.join(".s.PGSQL.1");
        let listener = Listener::bind(&Listen::Unix { directory: scratch.0.clone(), port: 1 }).unwrap();
        // Bound elsewhere first, so that the file system cannot hand out the same inode again.
        let successor = std::os::unix::net::UnixListener::bind(scratch.0.join("new")).unwrap();
        fs::rename(scratch.0.join("new"), &path).unwrap();
        drop(listener);
        assert!(path.exists());
        drop(successor);
    }
}
