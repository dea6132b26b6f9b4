//! PostgreSQL's MD5 password hashes (`src/common/md5_common.c`).
//!
//! Broken as a hash, and the hash itself is all that is needed to log in; offered because old
//! clients and old `pg_authid` entries know nothing else.

use md5::{Digest, Md5};
use subtle::{Choice, ConstantTimeEq};

/// `md5` followed by the digest of password and user name, in hexadecimal: what `pg_authid` stores.
#[derive(Clone)]
pub struct Md5Hash([u8; 32]);

impl Md5Hash {
    /// The hash that PostgreSQL would store for `password`.
    #[must_use]
    pub fn derive(password: &[u8], user: &str) -> Self {
        Self(hexadecimal(&[password, user.as_bytes()]))
    }

    /// Reads `md5` and 32 lower-case hexadecimal digits (`get_password_type`, `src/backend/libpq/crypt.c`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: [u8; 32] = text.strip_prefix("md5")?.as_bytes().try_into().ok()?;
        digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(digits))
    }

    /// A hash that no password is known for, made from random bytes.
    #[must_use]
    pub fn from_random(random: &[u8]) -> Self {
        Self(hexadecimal(&[random]))
    }

    /// What a client that knows the password answers to a challenge with `salt`.
    #[must_use]
    pub fn answer(&self, salt: [u8; 4]) -> [u8; 35] {
        let mut answer = *b"md5________________________________";
        answer[3..].copy_from_slice(&hexadecimal(&[&self.0, &salt]));
        answer
    }

    /// Whether `answer` is right, in the same time whatever the difference.
    #[must_use]
    pub fn accepts(&self, answer: &[u8], salt: [u8; 4]) -> Choice {
        self.answer(salt).ct_eq(answer)
    }

    /// Whether `password` has this hash.
    #[must_use]
    pub fn matches(&self, password: &[u8], user: &str) -> Choice {
        self.0.ct_eq(&Self::derive(password, user).0)
    }
}

fn hexadecimal(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest.finalize()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_answers_are_those_of_postgresql() {
        let stored = postgres_protocol::password::md5(b"password", "md5_user");
        let hash = Md5Hash::derive(b"password", "md5_user");
        assert_eq!(format!("md5{}", str::from_utf8(&hash.0).unwrap()), stored);
        assert_eq!(Md5Hash::parse(&stored).unwrap().0, hash.0);
        let salt = [0x2a, 0x3d, 0x8f, 0xe0];
        assert_eq!(&hash.answer(salt), b"md562af4dd09bbb41884907a838a3233294");
        assert!(bool::from(hash.accepts(b"md562af4dd09bbb41884907a838a3233294", salt)));
        assert!(!bool::from(hash.accepts(b"md562af4dd09bbb41884907a838a3233295", salt)));
        assert!(!bool::from(hash.accepts(b"md5", salt)));
        assert!(bool::from(hash.matches(b"password", "md5_user")));
        assert!(!bool::from(hash.matches(b"password", "other")));
    }

    #[test]
    fn what_is_not_a_hash_is_a_password() {
        for text in ["md5", "md5z2af4dd09bbb41884907a838a3233294", "md562AF4DD09BBB41884907A838A3233294", "x"] {
            assert!(Md5Hash::parse(text).is_none(), "{text}");
        }
    }
}
