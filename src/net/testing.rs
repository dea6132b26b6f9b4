//! Certificates for tests, in files of their own that vanish with the value.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::config::model::{ClientTls, ClientTlsMode, ServerTls, SslMode};

/// A directory with two authorities and what they signed.
pub(crate) struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// `name` tells the directories of tests apart that run side by side.
    pub(crate) fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("howdah-tls-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let certificates = Self { directory };
        let ours = certificates.authority("ca");
        certificates.authority("stranger");
        certificates.leaf("server", &["localhost", "127.0.0.1"], "server", &ours);
        certificates.leaf("elsewhere", &["elsewhere.example"], "127.0.0.1", &ours);
        certificates.leaf("common", &[], "localhost", &ours);
        certificates.leaf("client", &[], "u", &ours);
        certificates.own("own");
        certificates.write("version1.crt", VERSION_1);
        certificates.write("version1.key", VERSION_1_KEY);
        certificates.write("version1-ca.crt", VERSION_1_CA);
        certificates
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// TLS towards clients with the certificate `name`.
    pub(crate) fn towards_clients(&self, mode: ClientTlsMode, name: &str) -> ClientTls {
        let (certificate, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        ClientTls { mode, certificate: Some(certificate), private_key: Some(key), client_ca: Some(self.path("ca.crt")) }
    }

    /// TLS towards servers that trusts the authority `ca`, if any.
    pub(crate) fn towards_servers(&self, mode: SslMode, ca: Option<&str>) -> ServerTls {
        let ca = ca.map(|name| self.path(&format!("{name}.crt")));
        ServerTls { mode, ca, certificate: None, private_key: None }
    }

    fn authority(&self, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        self.write(&format!("{name}.crt"), &issuer.pem());
        issuer
    }

    fn leaf(&self, file: &str, hosts: &[&str], name: &str, issuer: &CertifiedIssuer<'_, KeyPair>) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(hosts).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        self.write(&format!("{file}.crt"), &parameters.signed_by(&key, issuer).unwrap().pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    /// Self-signed, as PostgreSQL's manual makes them: authority and server in one.
    fn own(&self, name: &str) {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        self.write(&format!("{name}.crt"), &parameters.self_signed(&key).unwrap().pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }
}

impl AsRef<Path> for Certificates {
    fn as_ref(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A server's certificate as `openssl x509 -req` made them for long: X.509 version 1, without
/// extensions. It names localhost and is valid from 2020 to 2119, like its authority's.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBGDCBvwIBAjAKBggqhkjOPQQDAjAbMRkwFwYDVQQDDBBhbiBvbGQgYXV0aG9y
aXR5MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAUMRIwEAYDVQQD
DAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATTLM/mM1oSwTcc
L3XXxeZkV8t3DPOZEP96+kTukq/LVbujgeFpfMqqQlPSSKvPPU5wfH5DiNoZ7Qqt
hrDPSA7SMAoGCCqGSM49BAMCA0gAMEUCIAiWc/kimjz67kSy+8CqjQY+YNTuh/xp
85mwt4HmZx5+AiEAuyqnVyfUETLVhs7pc31mp8V3cMv2TFjR7WitZseNX6c=
-----END CERTIFICATE-----
";

const VERSION_1_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEpyovDKYOEeb5MT4
UkzSPttaNul6coumQcSDoCzryNChRANCAATTLM/mM1oSwTccL3XXxeZkV8t3DPOZ
EP96+kTukq/LVbujgeFpfMqqQlPSSKvPPU5wfH5DiNoZ7QqthrDPSA7S
-----END PRIVATE KEY-----
";

const VERSION_1_CA: &str = "\
-----BEGIN CERTIFICATE-----
MIIBWDCB/6ADAgECAgEBMAoGCCqGSM49BAMCMBsxGTAXBgNVBAMMEGFuIG9sZCBh
dXRob3JpdHkwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBsxGTAX
BgNVBAMMEGFuIG9sZCBhdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AATgi2WHDv34mPisNpcS+hcdVDZUAz0lZ1qL1Q31pw31ZIGWsJrbkXnNZW6odpF9
o9t9Y48j69V/ajVfSc2R11HAozIwMDAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQW
BBS8R4kMipVoi772DCNnv8wVxRpeXDAKBggqhkjOPQQDAgNIADBFAiEA4qGuQJWL
1rK7QGZU9XHMgpB7wPNNL+WtO3zKwh2qYAoCIA/oFrgKSkwB5uiLGipeDf+S4GxW
O2hJe0A1OMSkxJWj
-----END CERTIFICATE-----
";
