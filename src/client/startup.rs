//! Stand-in.
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::model::ClientTlsMode;
use crate::net::stream::Stream;
use crate::protocol::startup::StartupMessage;

/// Socket.
pub type Socket = TcpStream;
/// Arrived.
#[derive(Debug)]
pub struct Arrived {
    /// Stream.
    pub stream: Stream,
    /// Message.
    pub message: StartupMessage,
    /// Minor.
    pub minor: u16,
}
/// Opening.
#[derive(Debug)]
pub enum Opening {
    /// Cancel.
    Cancel {
        /// Pid.
        process_id: i32,
        /// Key.
        key: Vec<u8>,
    },
    /// Client.
    Client(Arrived),
}
/// Accept.
pub async fn accept(mut socket: Socket, _: Option<Arc<rustls::ServerConfig>>, _: ClientTlsMode, _: Instant) -> std::io::Result<Opening> {
    loop {
        let length = socket.read_u32().await?;
        let mut body = vec![0; length.saturating_sub(4).min(10_000) as usize];
        socket.read_exact(&mut body).await?;
        let code = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
        match code {
            80_877_103 | 80_877_104 => socket.write_all(b"N").await?,
            80_877_102 => {
                let process_id = i32::from_be_bytes([body[4], body[5], body[6], body[7]]);
                return Ok(Opening::Cancel { process_id, key: body[8..].to_vec() });
            }
            _ => {
                let mut parts = body[4..].split(|b| *b == 0).map(|p| String::from_utf8_lossy(p).into_owned());
                let mut all = Vec::new();
                while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                    if name.is_empty() {
                        break;
                    }
                    all.push((name, value));
                }
                return Ok(Opening::Client(Arrived { stream: Stream::Tcp(socket), message: StartupMessage(all), minor: 0 }));
            }
        }
    }
}
