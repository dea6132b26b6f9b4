//! Stand-in.
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use crate::config::model::Listen;
/// L.
pub type Listener = Inner;
/// I.
#[derive(Debug)]
pub struct Inner(TcpListener);
impl Inner {
    /// A.
    pub async fn accept(&self) -> std::io::Result<(TcpStream, Option<SocketAddr>)> {
        let (s, p) = self.0.accept().await?;
        s.set_nodelay(true)?;
        Ok((s, Some(p)))
    }
}
/// B.
pub async fn bind(listen: &Listen) -> std::io::Result<Listener> {
    match listen {
        Listen::Tcp(a) => Ok(Inner(TcpListener::bind(a).await?)),
        Listen::Unix { .. } => Err(std::io::Error::other("unix")),
    }
}
/// D.
pub fn describe(listen: &Listen) -> String {
    format!("{listen:?}")
}
