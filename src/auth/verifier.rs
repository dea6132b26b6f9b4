//! What is kept of a user's secret so that a login costs little: made once, when the configuration
//! is read, since deriving SCRAM keys from a password takes thousands of hashes.
//!
//! Knows one secret at a time; which users there are is `users`' business.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::md5::Md5Hash;
use crate::config::secret::Secret;

/// Iterations for verifiers derived here (`SCRAM_SHA_256_DEFAULT_ITERATIONS`, src/include/common/scram-common.h).
pub const DEFAULT_ITERATIONS: u32 = 4096;

/// Bytes of salt for verifiers derived here (`SCRAM_DEFAULT_SALT_LEN`, the same file).
pub const DEFAULT_SALT: usize = 16;

/// A user's secret, ready for every method that it can serve.
#[derive(Clone)]
pub enum Verifier {
    /// A clear password, and what follows from it.
    Clear {
        /// The password.
        password: Secret,
        /// For `md5`.
        md5: Md5Hash,
        /// For `scram-sha-256`.
        scram: Arc<ScramKeys>,
    },
    /// An MD5 hash: serves `md5` and `password`.
    Md5(Md5Hash),
    /// A SCRAM verifier: serves `scram-sha-256`, `password` and, as in PostgreSQL, `md5` by asking for SCRAM.
    Scram(Arc<ScramKeys>),
}

impl Verifier {
    /// Makes the verifier of `user` from `secret`; `None` when the secret is empty, which is no password
    /// (PostgreSQL refuses empty passwords too). `salt` is used only for a clear password.
    #[must_use]
    pub fn new(user: &str, secret: &Secret, salt: &[u8]) -> Option<Self> {
        let text = secret.expose();
        if text.is_empty() {
            return None;
        }
        if let Some(hash) = Md5Hash::parse(text) {
            return Some(Self::Md5(hash));
        }
        if let Some(keys) = ScramKeys::parse(text) {
            return Some(Self::Scram(keys.into()));
        }
        Some(Self::Clear {
            password: secret.clone(),
            md5: Md5Hash::derive(text.as_bytes(), user),
            scram: ScramKeys::derive(text.as_bytes(), salt, DEFAULT_ITERATIONS).into(),
        })
    }

    /// Whether `password` is the user's, in a time that depends on the kind of verifier only.
    #[must_use]
    pub fn accepts_password(&self, user: &str, password: &[u8]) -> Choice {
        match self {
            Self::Clear { password: stored, .. } => stored.expose().as_bytes().ct_eq(password),
            Self::Md5(hash) => hash.matches(password, user),
            Self::Scram(keys) => keys.matches(password),
        }
    }

    /// The MD5 hash, when there is one.
    #[must_use]
    pub fn md5(&self) -> Option<&Md5Hash> {
        match self {
            Self::Clear { md5, .. } | Self::Md5(md5) => Some(md5),
            Self::Scram(_) => None,
        }
    }

    /// The SCRAM keys, when there are any.
    #[must_use]
    pub fn scram(&self) -> Option<&Arc<ScramKeys>> {
        match self {
            Self::Clear { scram, .. } | Self::Scram(scram) => Some(scram),
            Self::Md5(_) => None,
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// The four parts of a SCRAM-SHA-256 verifier (RFC 5803; `parse_scram_secret`, src/backend/libpq/auth-scram.c).
#[derive(Clone)]
pub struct ScramKeys {
    pub(super) iterations: u32,
    pub(super) salt: Box<[u8]>,
    pub(super) stored_key: [u8; 32],
    pub(super) server_key: [u8; 32],
}

impl ScramKeys {
    /// Derives the keys of `password` (RFC 5802 §3). Takes `iterations` × 2 hashes.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = salted_password(password, salt, iterations);
        let stored_key = Sha256::digest(hmac(&salted, &[b"Client Key"])).into();
        Self { iterations, salt: salt.into(), stored_key, server_key: hmac(&salted, &[b"Server Key"]) }
    }

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; a salt may have any length.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        let iterations = iterations.parse().ok().filter(|&count| count > 0)?;
        let key = |text| STANDARD.decode(text).ok()?.try_into().ok();
        let salt = STANDARD.decode(salt).ok()?.into();
        Some(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }

    /// Whether the keys were derived from `password`.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> Choice {
        Self::derive(password, &self.salt, self.iterations).stored_key.ct_eq(&self.stored_key)
    }
}

/// HMAC-SHA-256 of `parts` after one another.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `Hi()` of RFC 5802 §2.2 over the password as `SASLprep` (RFC 4013) makes it. Like PostgreSQL,
/// a password that is not UTF-8 or not fit for `SASLprep` is taken as it is (`pg_saslprep`).
pub(super) fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let prepared = str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    let key = keyed(prepared.as_deref().map_or(password, str::as_bytes));
    let round = |input: &[u8]| -> [u8; 32] { key.clone().chain_update(input).finalize().into_bytes().into() };
    let mut block: [u8; 32] = key.clone().chain_update(salt).chain_update([0, 0, 0, 1]).finalize().into_bytes().into();
    let mut result = block;
    for _ in 1..iterations {
        block = round(&block);
        result.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    result
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // A key longer than a block is hashed first (RFC 2104 §2); done here because the fixed-size
    // constructor, unlike `new_from_slice`, cannot fail.
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into())
}

#[cfg(test)]
mod tests {
    use postgres_protocol::password::scram_sha_256;

    use super::*;

    fn accepts(stored: &str, password: &str) -> bool {
        Verifier::new("u", &Secret::new(stored), &[7; 16]).unwrap().accepts_password("u", password.as_bytes()).into()
    }

    #[test]
    fn every_kind_knows_its_password() {
        let scram = scram_sha_256(b"secret");
        let md5 = postgres_protocol::password::md5(b"secret", "u");
        for stored in ["secret", scram.as_str(), md5.as_str()] {
            assert!(accepts(stored, "secret"), "{stored}");
            for wrong in ["", "Secret", "secret ", stored.strip_prefix("secret").unwrap_or(stored)] {
                assert!(!accepts(stored, wrong), "{stored}: {wrong:?}");
            }
        }
    }

    #[test]
    fn verifiers_derived_here_are_those_that_clients_derive() {
        let long = "p".repeat(100);
        for password in ["secret", "p\u{e4}ss\u{a0}wort", "I\u{ad}X", "\u{7}bell", long.as_str()] {
            let theirs = ScramKeys::parse(&scram_sha_256(password.as_bytes())).unwrap();
            let ours = ScramKeys::derive(password.as_bytes(), &theirs.salt, theirs.iterations);
            assert_eq!((ours.stored_key, ours.server_key), (theirs.stored_key, theirs.server_key), "{password:?}");
        }
        let one = ScramKeys::derive(&[0xff, 0xfe], b"salt", 1);
        assert!(bool::from(one.matches(&[0xff, 0xfe])) && !bool::from(one.matches(&[0xff])));
    }

    #[test]
    fn what_is_not_a_verifier_is_a_password() {
        let good = scram_sha_256(b"x");
        assert!(ScramKeys::parse(&good).is_some());
        for bad in [
            good.replace("4096", "0"),
            good.replace("4096", "-1"),
            good.replace("4096:", "4096:!"),
            good.replace("SCRAM-SHA-256", "SCRAM-SHA-512"),
            good[..good.len() - 4].to_owned(),
            String::new(),
        ] {
            assert!(ScramKeys::parse(&bad).is_none(), "{bad}");
        }
        assert!(Verifier::new("u", &Secret::new(""), &[]).is_none());
        assert!(accepts("SCRAM-SHA-256$", "SCRAM-SHA-256$"));
    }

    #[test]
    fn debug_tells_nothing() {
        let verifier = Verifier::new("u", &Secret::new("secret"), &[7; 16]);
        assert_eq!(format!("{verifier:?}"), "Some(Verifier(…))");
    }
}
