//! Stand-in until the server room is merged: plain TCP, trust.
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::model::ServerAddress;

/// How to log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Where.
    pub address: ServerAddress,
    /// Who.
    pub user: String,
    /// What.
    pub database: String,
}

/// A server connection.
#[derive(Debug)]
pub struct Connected(pub(super) TcpStream);

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Socket.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server said no.
    #[error("{0}: {1}")]
    Server(String, String),
}

/// Connects.
pub async fn connect(login: &Login) -> Result<Connected, ConnectError> {
    let ServerAddress::Tcp { host, port } = &login.address else {
        return Err(std::io::Error::other("unix").into());
    };
    let mut stream = TcpStream::connect((&**host, *port)).await?;
    stream.set_nodelay(true)?;
    let mut body = vec![0, 3, 0, 0];
    for text in ["user", &login.user, "database", &login.database, ""] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    let length = u32::try_from(body.len() + 4).unwrap_or(0);
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&body).await?;
    loop {
        let (tag, body) = message(&mut stream).await?;
        match tag {
            b'E' => return Err(error(&body)),
            b'Z' => return Ok(Connected(stream)),
            _ => {}
        }
    }
}

pub(super) fn error(body: &[u8]) -> ConnectError {
    let fields = crate::protocol::error::ErrorFields::parse(body);
    ConnectError::Server(
        fields.code.map(|code| code.as_str().to_owned()).unwrap_or_default(),
        String::from_utf8_lossy(fields.message).into_owned(),
    )
}

pub(super) async fn message(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let tag = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut body = vec![0; length.saturating_sub(4) as usize];
    stream.read_exact(&mut body).await?;
    Ok((tag, body))
}

/// Unused.
pub const STAND_IN: Duration = Duration::ZERO;
