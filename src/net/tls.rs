//! TLS in both directions: configurations made from files, and the handshakes.
//!
//! Knows certificates and sockets, not users or messages. The cryptography is *ring*, handed to rustls
//! explicitly: nothing process-wide is set.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::certificate;
use super::trust::{Authorities, Check, Verifier};
use crate::config::model::{ClientTls, ClientTlsMode, ServerTls, SslMode};
use crate::protocol::startup::ALPN;

/// Why TLS cannot be set up. Each says which setting to change.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or holds no PEM.
    #[error("{setting}: cannot read {}: {source}", path.display())]
    Read {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A PEM file without a certificate.
    #[error("{setting}: {} holds no certificate", path.display())]
    Empty {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A setting that is missing though another needs it.
    #[error("{needed_by} needs {setting}")]
    Missing {
        /// What needs it.
        needed_by: &'static str,
        /// The setting.
        setting: &'static str,
    },
    /// A certificate and a private key that do not belong together.
    #[error("tls.private_key is not the key of tls.certificate")]
    Mismatch,
    /// What rustls does not accept.
    #[error("{setting}: {source}")]
    Rejected {
        /// The setting at fault.
        setting: &'static str,
        /// Why.
        source: rustls::Error,
    },
    /// Authorities for client certificates that cannot be used.
    #[error("tls.client_ca: {0}")]
    ClientCa(#[from] VerifierBuilderError),
}

// === towards clients ===

/// Accepts TLS from clients.
#[derive(Clone, Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
}

/// How an [`Acceptor`] is made from the settings: `None` when TLS is disabled, or preferred and without
/// a certificate. Call it again after a reload.
pub fn acceptor(tls: &ClientTls) -> Result<Option<Acceptor>, TlsError> {
    let (needed_by, needed) = match tls.mode {
        ClientTlsMode::Disable => return Ok(None),
        ClientTlsMode::Prefer => ("tls.mode prefer", false),
        ClientTlsMode::Require => ("tls.mode require", true),
        ClientTlsMode::VerifyFull => ("tls.mode verify-full", true),
    };
    let Some(certificate) = &tls.certificate else {
        let missing = TlsError::Missing { needed_by, setting: "tls.certificate" };
        return if needed { Err(missing) } else { Ok(None) };
    };
    let key = tls.private_key.as_ref().ok_or(TlsError::Missing { needed_by, setting: "tls.private_key" })?;
    let provider = Arc::new(ring::default_provider());
    let identity = identity(&provider, certificate, key)?;
    let end_point = identity.cert.first().and_then(|own| certificate::end_point(own)).map(Arc::from);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Rejected { setting: "tls", source })?;
    let builder = match &tls.client_ca {
        None if tls.mode == ClientTlsMode::VerifyFull => {
            return Err(TlsError::Missing { needed_by, setting: "tls.client_ca" });
        }
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("tls.client_ca", path)? {
                roots.add(authority).map_err(|source| TlsError::Rejected { setting: "tls.client_ca", source })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let optional = tls.mode != ClientTlsMode::VerifyFull;
            let verifier = if optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Some(Acceptor { config: config.into(), end_point }))
}

impl Acceptor {
    /// The server's side of the handshake. Not cancel safe: a handshake given up is a connection given up.
    pub async fn handshake(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let stream = TlsAcceptor::from(self.config.clone()).accept(socket).await?;
        Ok(TlsStream::Server(stream))
    }

    /// Hash of the certificate shown to clients (`tls-server-end-point`, RFC 5929 §4), for SCRAM's channel binding.
    pub fn end_point(&self) -> Option<&Arc<[u8]>> {
        self.end_point.as_ref()
    }
}

/// The common name in the peer's certificate, when it showed one; it was verified in the handshake.
pub fn peer_common_name(stream: &TlsStream<TcpStream>) -> Option<String> {
    let shown = stream.get_ref().1.peer_certificates()?.first()?;
    certificate::common_name(shown)
}

/// The application protocol that both sides agreed upon.
pub fn alpn(stream: &TlsStream<TcpStream>) -> Option<&[u8]> {
    stream.get_ref().1.alpn_protocol()
}

/// Hash of the peer's certificate (`tls-server-end-point`), for SCRAM's channel binding towards servers.
pub fn peer_end_point(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let shown = stream.get_ref().1.peer_certificates()?.first()?;
    certificate::end_point(shown)
}

// === towards servers ===

/// Makes TLS connections to the servers of one cluster.
#[derive(Clone, Debug)]
pub struct Connector {
    mode: SslMode,
    /// `None` for `disable`.
    config: Option<Arc<ClientConfig>>,
}

/// How a [`Connector`] is made from the settings. Call it again after a reload.
pub fn connector(tls: &ServerTls) -> Result<Connector, TlsError> {
    if tls.mode == SslMode::Disable {
        return Ok(Connector::plain());
    }
    let provider = Arc::new(ring::default_provider());
    let check = match (tls.mode, &tls.ca) {
        (SslMode::VerifyFull, Some(path)) => Check::ChainAndName(authorities(path)?),
        (SslMode::VerifyFull, None) => {
            return Err(TlsError::Missing { needed_by: "tls.mode verify-full", setting: "tls.ca" });
        }
        (SslMode::VerifyCa, None) => {
            return Err(TlsError::Missing { needed_by: "tls.mode verify-ca", setting: "tls.ca" });
        }
        // A configured authority is checked in every mode, as libpq does.
        (_, Some(path)) => Check::Chain(authorities(path)?),
        (_, None) => Check::Nothing,
    };
    let rejected = |setting| move |source| TlsError::Rejected { setting, source };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(rejected("tls"))?
        .dangerous()
        .with_custom_certificate_verifier(Verifier::new(check, &provider));
    let mut config = match (&tls.certificate, &tls.private_key) {
        (Some(certificate), Some(key)) => {
            let identity = identity(&provider, certificate, key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        (Some(_), None) => return Err(TlsError::Missing { needed_by: "tls.certificate", setting: "tls.private_key" }),
        (None, _) => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // PostgreSQL resumes no sessions; keeping them would only take memory.
    config.resumption = Resumption::disabled();
    Ok(Connector { mode: tls.mode, config: Some(config.into()) })
}

impl Connector {
    /// Never uses TLS.
    #[must_use]
    pub const fn plain() -> Self {
        Self { mode: SslMode::Disable, config: None }
    }

    /// When TLS is used.
    pub const fn mode(&self) -> SslMode {
        self.mode
    }

    /// The client's side of the handshake with `host`. Not cancel safe.
    pub async fn handshake(&self, socket: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let Some(config) = self.config.clone() else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "tls.mode is disable"));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, socket).await?;
        Ok(TlsStream::Client(stream))
    }
}

// === files ===

fn authorities(path: &Path) -> Result<Authorities, TlsError> {
    let listed = certificates("tls.ca", path)?;
    Authorities::new(listed).map_err(|source| TlsError::Rejected { setting: "tls.ca", source })
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read { setting, path: path.to_owned(), source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(read)?.collect();
    let found = found.map_err(read)?;
    if found.is_empty() { Err(TlsError::Empty { setting, path: path.to_owned() }) } else { Ok(found) }
}

/// A certificate chain with its key. Unlike rustls' own shortcut it takes certificates of X.509 version 1.
fn identity(provider: &CryptoProvider, certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates("tls.certificate", certificate)?;
    let setting = "tls.private_key";
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Read { setting, path: key.to_owned(), source })?;
    let key = provider.key_provider.load_private_key(key).map_err(|source| TlsError::Rejected { setting, source })?;
    let own = chain.first().and_then(|own| certificate::public_key(own));
    match (key.public_key(), own) {
        (Some(of_key), Some(of_certificate)) if of_key.as_ref() != of_certificate => Err(TlsError::Mismatch),
        _ => Ok(CertifiedKey::new(chain, key)),
    }
}

#[cfg(test)]
impl Connector {
    /// As clients older than ALPN connect.
    pub(crate) fn without_alpn(mut self) -> Self {
        if let Some(config) = &mut self.config {
            Arc::make_mut(config).alpn_protocols.clear();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::testing::Certificates;
    use super::*;

    /// One handshake between `connector` and a server that shows the certificate `name`; both ends then
    /// agree on the channel binding.
    async fn meet(files: &Certificates, name: &str, connector: &Connector, host: &str) -> io::Result<()> {
        let acceptor = acceptor(&files.towards_clients(ClientTlsMode::Prefer, name)).unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let socket = TcpStream::connect(listener.local_addr()?).await?;
        let server = async {
            let mut stream = acceptor.handshake(listener.accept().await?.0).await?;
            stream.write_all(b"x").await?;
            stream.flush().await?;
            assert_eq!(alpn(&stream), Some(ALPN));
            io::Result::Ok(peer_common_name(&stream))
        };
        let client = async {
            let mut stream = connector.handshake(socket, host).await?;
            assert_eq!(stream.read_u8().await?, b'x');
            assert_eq!(peer_end_point(&stream).as_deref(), acceptor.end_point().map(AsRef::as_ref));
            io::Result::Ok(())
        };
        let (_, met) = tokio::join!(server, client);
        met
    }

    #[tokio::test]
    async fn each_sslmode_checks_what_libpq_checks() {
        use SslMode::{Allow, Prefer, Require, VerifyCa, VerifyFull};
        let files = Certificates::new("modes");
        for (mode, ca, server, host, expected) in [
            // Nothing is checked …
            (Require, None, "server", "elsewhere", true),
            (Prefer, None, "own", "localhost", true),
            (Allow, None, "version1", "localhost", true),
            (Require, None, "version1", "localhost", true),
            // … unless there is an authority.
            (Require, Some("ca"), "server", "elsewhere", true),
            (Require, Some("stranger"), "server", "localhost", false),
            (Prefer, Some("stranger"), "server", "localhost", false),
            (VerifyCa, Some("ca"), "server", "elsewhere", true),
            (VerifyCa, Some("ca"), "elsewhere", "localhost", true),
            (VerifyCa, Some("stranger"), "server", "localhost", false),
            (VerifyCa, Some("ca"), "own", "localhost", false),
            (VerifyCa, Some("own"), "own", "elsewhere", true),
            (VerifyCa, Some("ca"), "version1", "localhost", false),
            (VerifyCa, Some("version1-ca"), "version1", "elsewhere", true),
            (VerifyFull, Some("ca"), "server", "localhost", true),
            (VerifyFull, Some("ca"), "server", "127.0.0.1", true),
            (VerifyFull, Some("ca"), "server", "127.0.0.2", false),
            (VerifyFull, Some("ca"), "server", "server", false),
            (VerifyFull, Some("ca"), "elsewhere", "localhost", false),
            (VerifyFull, Some("ca"), "elsewhere", "127.0.0.1", false),
            (VerifyFull, Some("ca"), "common", "localhost", true),
            (VerifyFull, Some("ca"), "common", "elsewhere", false),
            (VerifyFull, Some("own"), "own", "localhost", true),
            (VerifyFull, Some("own"), "own", "elsewhere", false),
            (VerifyFull, Some("version1-ca"), "version1", "localhost", true),
            (VerifyFull, Some("version1-ca"), "version1", "elsewhere", false),
            (VerifyFull, Some("stranger"), "server", "localhost", false),
        ] {
            let connector = connector(&files.towards_servers(mode, ca)).unwrap();
            let met = Box::pin(meet(&files, server, &connector, host)).await;
            assert_eq!(met.is_ok(), expected, "{mode:?} {ca:?} {server} {host}: {met:?}");
        }
    }

    #[tokio::test]
    async fn client_certificates_are_shown_and_verified() {
        let files = Certificates::new("client");
        let acceptor = acceptor(&files.towards_clients(ClientTlsMode::VerifyFull, "server")).unwrap().unwrap();
        let name_of = async |certificate: Option<&str>| {
            let mut tls = files.towards_servers(SslMode::Require, None);
            tls.certificate = certificate.map(|name| files.path(&format!("{name}.crt")));
            tls.private_key = certificate.map(|name| files.path(&format!("{name}.key")));
            let connector = connector(&tls).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let server = async { acceptor.handshake(listener.accept().await.unwrap().0).await };
            let (server, _client) = tokio::join!(server, connector.handshake(socket, "localhost"));
            server.map(|stream| peer_common_name(&stream))
        };
        assert_eq!(name_of(Some("client")).await.unwrap().as_deref(), Some("u"));
        assert!(name_of(None).await.is_err());
        assert!(name_of(Some("own")).await.is_err());
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        use ClientTlsMode::{Disable, Prefer, Require, VerifyFull};
        let files = Certificates::new("faults");
        let tls = |mode| files.towards_clients(mode, "server");
        assert!(acceptor(&tls(Disable)).unwrap().is_none());
        assert!(acceptor(&ClientTls { certificate: None, ..tls(Prefer) }).unwrap().is_none());
        assert!(acceptor(&files.towards_clients(Require, "version1")).unwrap().is_some());
        for (faulty, expected) in [
            (ClientTls { certificate: None, ..tls(Require) }, "tls.mode require needs tls.certificate"),
            (ClientTls { private_key: None, ..tls(Prefer) }, "tls.mode prefer needs tls.private_key"),
            (ClientTls { client_ca: None, ..tls(VerifyFull) }, "tls.mode verify-full needs tls.client_ca"),
            (
                ClientTls { private_key: Some(files.path("own.key")), ..tls(Require) },
                "tls.private_key is not the key of tls.certificate",
            ),
            (ClientTls { certificate: Some(files.path("server.key")), ..tls(Require) }, "holds no certificate"),
            (ClientTls { private_key: Some(files.path("server.crt")), ..tls(Require) }, "tls.private_key: cannot read"),
            (ClientTls { client_ca: Some(files.path("none")), ..tls(Prefer) }, "tls.client_ca: cannot read"),
        ] {
            let error = acceptor(&faulty).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        for (faulty, expected) in [
            (files.towards_servers(SslMode::VerifyCa, None), "tls.mode verify-ca needs tls.ca"),
            (files.towards_servers(SslMode::VerifyFull, None), "tls.mode verify-full needs tls.ca"),
            (
                ServerTls {
                    certificate: Some(files.path("client.crt")),
                    ..files.towards_servers(SslMode::Prefer, None)
                },
                "tls.certificate needs tls.private_key",
            ),
        ] {
            let error = connector(&faulty).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
