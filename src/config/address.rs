//! Where to listen and where servers listen, as people write it.
//!
//! Only the form is judged: nothing is resolved, opened or reached.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::Misread;
use super::model::ServerAddress;

/// The port of a server whose address gives none.
const DEFAULT_SERVER_PORT: u16 = 5432;

/// Longest path of a Unix socket: `sun_path` without its final zero byte (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// Reads `127.0.0.1:6432` or `[::1]:6432`.
pub(super) fn socket(text: &str) -> Result<SocketAddr, Misread> {
    text.parse().map_err(|_| {
        let right = match text.rsplit_once(':') {
            Some(("*", port)) => format!("write 0.0.0.0:{port} for every IPv4 address, [::]:{port} for IPv6"),
            Some(("localhost", port)) => format!("write 127.0.0.1:{port}"),
            _ => "write an address and a port such as 127.0.0.1:6432, 0.0.0.0:6432 or [::1]:6432".to_owned(),
        };
        Misread::new("is not an IP address and a port", right)
    })
}

/// Reads `host`, `host:port`, `[::1]:port`, a socket file, or a directory of sockets with or without
/// `:port`.
pub(super) fn server(text: &str) -> Result<ServerAddress, Misread> {
    if text.starts_with('/') {
        return unix(text).map(ServerAddress::Unix);
    }
    let (host, port) = split(text)?;
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| invalid("has no valid port"))?,
        None => DEFAULT_SERVER_PORT,
    };
    Ok(ServerAddress::Tcp { host: Arc::from(host), port })
}

/// Splits host and port; the host comes without its brackets.
fn split(text: &str) -> Result<(&str, Option<&str>), Misread> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| invalid("lacks its closing bracket"))?;
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return Err(invalid("is not host:port")),
            port => port,
        };
        return match host.parse::<Ipv6Addr>() {
            Ok(_) => Ok((host, port)),
            Err(_) => Err(invalid("has something else than an IPv6 address in brackets")),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Misread::new("is an IPv6 address without brackets", "write it as [::1]:5432"));
    }
    let (host, port) = match text.split_once(':') {
        Some((_, rest)) if rest.starts_with("//") => return Err(invalid("is not host:port")),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(invalid("is not host:port"));
    }
    Ok((host, port))
}

fn invalid(wrong: &str) -> Misread {
    let right = "write host:port such as 10.0.0.1:5432, db1.example.com:5432 or [::1]:5432, or a socket's path";
    Misread::new(wrong, right)
}

fn unix(text: &str) -> Result<PathBuf, Misread> {
    let path = Path::new(text);
    let is_socket = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".s.PGSQL."));
    if is_socket {
        return fitting(path.to_owned());
    }
    match text.rsplit_once(':') {
        None => socket_in(path, DEFAULT_SERVER_PORT),
        Some((directory, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => socket_in(Path::new(directory), port),
            _ => Err(Misread::new("has no valid port", "write a directory and a port such as /run/postgresql:5432")),
        },
    }
}

/// The socket file of PostgreSQL's naming (`UNIXSOCK_PATH`, src/include/libpq/pqcomm.h).
pub(super) fn socket_in(directory: &Path, port: u16) -> Result<PathBuf, Misread> {
    fitting(directory.join(format!(".s.PGSQL.{port}")))
}

fn fitting(path: PathBuf) -> Result<PathBuf, Misread> {
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        let wrong = format!("makes a socket path of more than {LONGEST_SOCKET_PATH} bytes");
        return Err(Misread::new(wrong, "choose a shorter directory"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn servers() {
        let check = |text: &str, expected: &str| {
            assert_eq!(server(text).map(|address| address.to_string()).as_deref(), Ok(expected), "{text}");
        };
        check("10.0.0.1:5432", "10.0.0.1:5432");
        check("10.0.0.1", "10.0.0.1:5432");
        check("db-1.example.com:5433", "db-1.example.com:5433");
        check("[::1]:5433", "[::1]:5433");
        check("[fe80::1]", "[fe80::1]:5432");
        check("/var/run/postgresql/.s.PGSQL.5433", "/var/run/postgresql/.s.PGSQL.5433");
        check("/var/run/postgresql", "/var/run/postgresql/.s.PGSQL.5432");
        check("/var/run/postgresql:5434", "/var/run/postgresql/.s.PGSQL.5434");
    }

    #[test]
    fn refused_servers() {
        let check = |text: &str, wrong: &str| assert_eq!(server(text).unwrap_err().wrong, wrong, "{text}");
        check("", "is not host:port");
        check(":5432", "is not host:port");
        check("postgres://db1:5432", "is not host:port");
        check("db 1:5432", "is not host:port");
        check("db1:", "has no valid port");
        check("db1:0", "has no valid port");
        check("db1:65536", "has no valid port");
        check("db1:http", "has no valid port");
        check("::1", "is an IPv6 address without brackets");
        check("[::1", "lacks its closing bracket");
        check("[::1]5432", "is not host:port");
        check("[db1]:5432", "has something else than an IPv6 address in brackets");
        check("/run/postgresql:x", "has no valid port");
        check(&format!("/{}", "x".repeat(100)), "makes a socket path of more than 107 bytes");
    }

    #[test]
    fn sockets() {
        let check = |text: &str| socket(text).map(|address| address.to_string()).map_err(|misread| misread.right);
        assert_eq!(check("0.0.0.0:6432").as_deref(), Ok("0.0.0.0:6432"));
        assert_eq!(check("[::1]:6432").as_deref(), Ok("[::1]:6432"));
        assert_eq!(check("localhost:6432").unwrap_err(), "write 127.0.0.1:6432");
        assert!(check("*:6432").unwrap_err().contains("0.0.0.0:6432"));
        for text in ["", "6432", "127.0.0.1", "127.0.0.1:65536", "example.com:6432"] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = server(&text);
            let _ = socket(&text);
        }
    }
}
