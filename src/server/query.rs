//! Stand-in until the server room is merged.
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::connect::{ConnectError, Connected, error, message};

/// A small client.
#[derive(Debug)]
pub struct Direct(Connected);

/// Why not.
pub type QueryError = ConnectErrorOf;

/// Why not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectErrorOf(ConnectError);

impl Direct {
    /// Takes over.
    pub fn new(connected: Connected) -> Self {
        Self(connected)
    }

    /// Asks.
    pub async fn query(&mut self, sql: &str, timeout: Duration) -> Result<Vec<Vec<Option<String>>>, QueryError> {
        match tokio::time::timeout(timeout, self.run(sql)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(ConnectErrorOf(error)),
            Err(_) => Err(ConnectErrorOf(std::io::Error::from(std::io::ErrorKind::TimedOut).into())),
        }
    }

    async fn run(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ConnectError> {
        let stream = &mut self.0.stream;
        let mut out = vec![b'Q'];
        out.extend_from_slice(&u32::try_from(sql.len() + 5).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(sql.as_bytes());
        out.push(0);
        stream.write_all(&out).await?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let (tag, body) = message(stream).await?;
            match tag {
                b'E' => failed = Some(error(&body)),
                b'Z' => return failed.map_or(Ok(rows), Err),
                b'D' => rows.push(row(&body)),
                _ => {}
            }
        }
    }
}

fn row(mut body: &[u8]) -> Vec<Option<String>> {
    let mut row = Vec::new();
    body = &body[2..];
    while body.len() >= 4 {
        let length = i32::from_be_bytes([body[0], body[1], body[2], body[3]]);
        body = &body[4..];
        match usize::try_from(length) {
            Ok(length) => {
                row.push(Some(String::from_utf8_lossy(&body[..length]).into_owned()));
                body = &body[length..];
            }
            Err(_) => row.push(None),
        }
    }
    row
}
