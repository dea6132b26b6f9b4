//! Stand-in.
use std::sync::Arc;
/// Stand-in.
#[derive(Debug)]
pub struct Connector;
/// E.
#[derive(Debug, thiserror::Error)]
#[error("tls")]
pub struct TlsError;
/// S.
pub fn server_config(_: &crate::config::model::ClientTls) -> Result<Option<Arc<rustls::ServerConfig>>, TlsError> {
    Ok(None)
}
/// C.
pub fn connector(_: &crate::config::model::ServerTls) -> Result<Connector, TlsError> {
    Ok(Connector)
}
