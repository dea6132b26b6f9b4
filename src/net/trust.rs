//! Whether a server's certificate is good enough, for each meaning that libpq gives to `sslmode`
//! (PostgreSQL manual, "SSL Support"; `src/interfaces/libpq/fe-secure-openssl.c`).
//!
//! Whatever is not checked about a certificate, the signature of the handshake always is: without it
//! a certificate, which is public, would prove nothing. Knows no sockets.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate;

/// What is checked about a server's certificate.
#[derive(Debug)]
pub(super) enum Check {
    /// Nothing: the line is safe from listeners, not from impostors.
    Nothing,
    /// That an authority signed it.
    Chain(Authorities),
    /// And that it was issued for the host that was asked for.
    ChainAndName(Authorities),
}

/// Whom to trust.
#[derive(Debug)]
pub(super) struct Authorities {
    roots: RootCertStore,
    /// The same certificates once more. One of them may be the server's own: PostgreSQL's manual makes
    /// self-signed certificates that way and libpq takes them, while webpki tells servers from authorities.
    listed: Vec<CertificateDer<'static>>,
}

impl Authorities {
    pub(super) fn new(listed: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for authority in &listed {
            roots.add(authority.clone())?;
        }
        Ok(Self { roots, listed })
    }

    fn check(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        if self.listed.contains(server) {
            return if certificate::is_current(server, now) { Ok(()) } else { Err(CertificateError::Expired.into()) };
        }
        if certificate::is_version_1(server) {
            return self.check_version_1(server, now, algorithms);
        }
        let server = ParsedCertificate::try_from(server)?;
        verify_server_cert_signed_by_trust_anchor(&server, &self.roots, intermediates, now, algorithms.all)
    }
}

impl Authorities {
    /// webpki opens certificates of version 3 only, yet `openssl x509 -req`, as PostgreSQL's manual uses it,
    /// makes version 1 with OpenSSL 3.0, and libpq takes them. Such a one must be signed by a listed
    /// authority directly.
    fn check_version_1(
        &self,
        server: &CertificateDer<'_>,
        now: UnixTime,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        if !self.listed.iter().any(|authority| certificate::is_signed_by(server, authority, algorithms.all)) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        if certificate::is_current(server, now) { Ok(()) } else { Err(CertificateError::Expired.into()) }
    }
}

fn check_name(server: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    if certificate::has_alternative_names(server) {
        return verify_server_name(&ParsedCertificate::try_from(server)?, name);
    }
    let common_name = certificate::common_name(server).unwrap_or_default();
    if certificate::host_matches(&common_name, &name.to_str()) {
        return Ok(());
    }
    let presented = vec![format!("CN={common_name}")];
    Err(CertificateError::NotValidForNameContext { expected: name.to_owned(), presented }.into())
}

/// The checks of one connector.
#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(check: Check, provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self { check, algorithms: provider.signature_verification_algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.check {
            Check::Nothing => {}
            Check::Chain(authorities) => authorities.check(end_entity, intermediates, now, self.algorithms)?,
            Check::ChainAndName(authorities) => {
                authorities.check(end_entity, intermediates, now, self.algorithms)?;
                check_name(end_entity, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match (verify_tls13_signature(message, cert, dss, &self.algorithms), certificate::public_key(cert)) {
            // A certificate of version 1, which webpki does not open: what is to be checked is the key's signature.
            (Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::BadEncoding)), Some(key)) => {
                let key = SubjectPublicKeyInfoDer::from(key);
                verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
            }
            (result, _) => result,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
