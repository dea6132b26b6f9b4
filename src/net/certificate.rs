//! What X.509 certificates say about themselves, where neither rustls nor webpki tells.
//!
//! Verifies nothing: who calls has verified, or must.

use rustls::pki_types::{SignatureVerificationAlgorithm, UnixTime};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::X509Version;

/// The channel binding `tls-server-end-point` of a server's certificate (RFC 5929 §4.1): its hash by the hash
/// function of its signature, with SHA-256 in place of MD5 and SHA-1. `None` when the signature has
/// no hash function of its own, as with Ed25519: then nobody agrees on a binding.
#[must_use]
pub fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let algorithm = &certificate.signature_algorithm;
    let hash = match algorithm.algorithm.to_id_string().as_str() {
        RSA_PSS => {
            let parameters = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
            Hash::of_digest(&parameters.hash_algorithm_oid().to_id_string())
        }
        signature => Hash::of_signature(signature),
    };
    Some(match hash? {
        Hash::Sha224 => Sha224::digest(der).to_vec(),
        Hash::Sha256 => Sha256::digest(der).to_vec(),
        Hash::Sha384 => Sha384::digest(der).to_vec(),
        Hash::Sha512 => Sha512::digest(der).to_vec(),
    })
}

#[derive(Clone, Copy)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

const RSA_PSS: &str = "1.2.840.113549.1.1.10";

impl Hash {
    /// By signature algorithm: RSA (RFC 8017 appendix C), ECDSA (RFC 5758 §3.2, RFC 3279 §2.2.3), DSA.
    fn of_signature(id: &str) -> Option<Self> {
        match id {
            // MD5 and SHA-1 …
            "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3"
            // … and SHA-256 itself.
            | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" | "2.16.840.1.101.3.4.3.2" => Some(Self::Sha256),
            "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.3.1" => Some(Self::Sha224),
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Self::Sha384),
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn of_digest(id: &str) -> Option<Self> {
        match id {
            // SHA-1 is the default of RSASSA-PSS.
            "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(Self::Sha256),
            "2.16.840.1.101.3.4.2.4" => Some(Self::Sha224),
            "2.16.840.1.101.3.4.2.2" => Some(Self::Sha384),
            "2.16.840.1.101.3.4.2.3" => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// The common name of a certificate's subject: the first, when there are several. A name with a zero
/// byte is nobody's (CVE-2009-4034).
#[must_use]
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    (!name.contains('\0')).then(|| name.to_owned())
}

/// Whether a certificate names hosts in the modern way; if not, its common name counts (RFC 6125 §6.4.4).
#[must_use]
pub fn has_alternative_names(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return true;
    };
    match certificate.subject_alternative_name() {
        Ok(None) => false,
        Ok(Some(names)) => {
            let names = &names.value.general_names;
            names.iter().any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))
        }
        Err(_) => true,
    }
}

/// Whether `now` lies within a certificate's dates.
#[must_use]
pub fn is_current(der: &[u8], now: UnixTime) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return false;
    };
    let (validity, now) = (certificate.validity(), i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
}

/// The public key, as `SubjectPublicKeyInfo`, of a certificate of any version.
#[must_use]
pub fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.public_key().raw.to_vec())
}

/// Whether a certificate is of X.509 version 1: it has no extensions, and so cannot say what it is for.
#[must_use]
pub fn is_version_1(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.version() == X509Version::V1)
}

/// Whether the holder of the certificate `issuer` signed the certificate `der`.
#[must_use]
pub fn is_signed_by(der: &[u8], issuer: &[u8], algorithms: &[&dyn SignatureVerificationAlgorithm]) -> bool {
    let (Ok((_, certificate)), Ok((_, issuer))) = (X509Certificate::from_der(der), X509Certificate::from_der(issuer))
    else {
        return false;
    };
    if certificate.issuer().as_raw() != issuer.subject().as_raw() {
        return false;
    }
    let key = &issuer.public_key().subject_public_key.data;
    let (signed, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
    // Each of them is safe by itself, and a key of one kind does not parse as another's.
    algorithms.iter().any(|algorithm| algorithm.verify_signature(key, signed, signature).is_ok())
}

/// Whether the host name `name` is meant by `pattern`, which may begin with `*.` for any one label
/// (`wildcard_certificate_match`, `src/interfaces/libpq/fe-secure-common.c`).
#[must_use]
pub fn host_matches(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    match (pattern.strip_prefix("*."), name.split_once('.')) {
        (Some(suffix), Some((label, rest))) => !label.is_empty() && suffix.eq_ignore_ascii_case(rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SignatureAlgorithm};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::super::testing::Certificates;
    use super::*;

    fn certificate(algorithm: &'static SignatureAlgorithm, name: &str, hosts: &[&str]) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(hosts).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn end_points_follow_the_signature() {
        let check = |algorithm, hash: fn(&[u8]) -> Option<Vec<u8>>| {
            let der = certificate(algorithm, "x", &[]);
            assert_eq!(end_point(&der), hash(&der));
        };
        check(&rcgen::PKCS_ECDSA_P256_SHA256, |der| Some(Sha256::digest(der).to_vec()));
        check(&rcgen::PKCS_ECDSA_P384_SHA384, |der| Some(Sha384::digest(der).to_vec()));
        check(&rcgen::PKCS_ED25519, |_| None);
        assert_eq!(end_point(b"not a certificate"), None);
    }

    #[test]
    fn names() {
        let old = certificate(&rcgen::PKCS_ED25519, "db.example.com", &[]);
        let new = certificate(&rcgen::PKCS_ED25519, "db", &["db.example.com"]);
        assert_eq!(common_name(&old).as_deref(), Some("db.example.com"));
        assert_eq!((has_alternative_names(&old), has_alternative_names(&new)), (false, true));
        assert!(is_current(&old, UnixTime::now()));
        assert!(!is_current(&old, UnixTime::since_unix_epoch(std::time::Duration::ZERO)));
    }

    #[test]
    fn wildcards_stand_for_one_label() {
        for (pattern, name, expected) in [
            ("db.example.com", "DB.example.COM", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*", "db", false),
            ("d*.example.com", "db.example.com", false),
        ] {
            assert_eq!(host_matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn version_1_is_judged_by_signature_and_date() {
        let files = Certificates::new("version1");
        let read = |name| CertificateDer::from_pem_file(files.path(name)).unwrap();
        let (server, authority, stranger) = (read("version1.crt"), read("version1-ca.crt"), read("ca.crt"));
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        assert!(is_version_1(&server) && !is_version_1(&authority) && !is_version_1(b""));
        assert!(is_signed_by(&server, &authority, algorithms));
        assert!(!is_signed_by(&server, &stranger, algorithms) && !is_signed_by(&stranger, &authority, algorithms));
        // One bit in what was signed: the name.
        let mut forged = server.to_vec();
        let at = forged.windows(9).position(|window| window == b"localhost").unwrap();
        forged[at] ^= 1;
        assert!(is_version_1(&forged) && !is_signed_by(&forged, &authority, algorithms));
    }
}
