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

/// What `openssl x509 -req` makes by default: X.509 version 1, without extensions. Valid for a century.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBGDCBvgITdCR6EVYaHKb3Pb+42ZJjZ3pyRzAKBggqhkjOPQQDAjAOMQwwCgYD
VQQDDANvbGQwIBcNMjYxMTIzMDgwNDQ3WhgPMjEyNjEwMzAwODA0NDdaMA4xDDAK
BgNVBAMMA29sZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABGPBDpDKIulxo+5b
/W9rYuXBVXvUdCuK3VQsMuvdhF/RcuilAote9fjHS3pZLNyFkptLU6yhalpgA3Mf
3Br7CH0wCgYIKoZIzj0EAwIDSQAwRgIhAOUR5wozlDQ1dg+zTOcH6TCI3whVwmi5
PEKY8Qt0YyPoAiEA5YYlEDNgLeShmPZiTxxDYoD7rK3Cj/GUWDIU5YCWHdI=
-----END CERTIFICATE-----
";

const VERSION_1_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgSa4SwoRFQ5PD3Sc9
hq4vxaV/YLT9mml/C735yODmin6hRANCAARjwQ6QyiLpcaPuW/1va2LlwVV71HQr
it1ULDLr3YRf0XLopQKLXvX4x0t6WSzchZKbS1OsoWpaYANzH9wa+wh9
-----END PRIVATE KEY-----
";
