//! Who may log in, with what their secrets became; and stand-ins for those who may not, so that
//! neither messages nor time tell which users exist.
//!
//! Knows names and verifiers, not methods or messages.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use subtle::Choice;

use super::md5::Md5Hash;
use super::verifier::{DEFAULT_ITERATIONS, DEFAULT_SALT, ScramKeys, Verifier, hmac};
use crate::config::model::User;
use crate::config::secret::Secret;
use crate::types::UserName;

/// The users of the configuration. Replaced as a whole after a reload.
pub struct Users {
    entries: HashMap<UserName, Entry>,
    /// Salts follow from it and the user's name: asked twice, an unknown user shows the same salt twice, as a
    /// known one does (`mock_authentication_nonce` in PostgreSQL).
    seed: [u8; 32],
    shape: Shape,
    stranger: Arc<Stranger>,
}

/// Secrets that nobody knows, for all who cannot be let in; nobody sees more of them than a salt of his own.
struct Stranger {
    password: Secret,
    md5: Md5Hash,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

struct Entry {
    secret: Option<Secret>,
    verifier: Option<Arc<Verifier>>,
}

/// What stand-ins look like: as the first user by name does.
#[derive(Clone, Copy)]
enum Shape {
    Clear,
    Md5,
    Scram { iterations: u32, salt: usize },
}

/// What an attempt to log in is checked against.
pub(super) struct Candidate {
    pub(super) verifier: Arc<Verifier>,
    pub(super) standing: Standing,
}

/// Whether a candidate can succeed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Known,
    Unknown,
    NoPassword,
}

impl Standing {
    pub(super) fn choice(self) -> Choice {
        Choice::from(u8::from(self == Self::Known))
    }
}

impl Users {
    /// Derives what each user's secret needs; takes about a millisecond per clear password.
    /// `seed` is random and stays within this process.
    #[must_use]
    pub fn new(users: &[User], seed: [u8; 32]) -> Self {
        let random = |purpose: &[u8]| hmac(&seed, &[purpose]);
        let password: String = random(b"password")[..8].iter().map(|byte| char::from(b'a' + byte % 16)).collect();
        let stranger = Arc::new(Stranger {
            password: Secret::new(&password),
            md5: Md5Hash::from_random(&random(b"md5")),
            stored_key: random(b"stored"),
            server_key: random(b"server"),
        });
        let none = Self { entries: HashMap::new(), seed, shape: Shape::Clear, stranger };
        none.reload(users)
    }

    /// The same for a new list, keeping what was derived from secrets that did not change.
    #[must_use]
    pub fn reload(&self, users: &[User]) -> Self {
        let entries: HashMap<_, _> = users.iter().map(|user| (user.name.clone(), self.entry(user))).collect();
        let first = users.iter().filter(|user| entries[&user.name].verifier.is_some()).min_by_key(|user| &user.name);
        let verifier = first.and_then(|user| entries[&user.name].verifier.as_deref());
        let shape = verifier.map_or(Shape::Clear, Shape::of);
        Self { entries, seed: self.seed, shape, stranger: Arc::clone(&self.stranger) }
    }

    fn entry(&self, user: &User) -> Entry {
        let secret = user.password.clone();
        let unchanged = self.entries.get(&user.name).filter(|old| old.secret == secret);
        let verifier = match unchanged {
            Some(old) => old.verifier.clone(),
            None => secret.as_ref().and_then(|secret| {
                let name = user.name.as_str();
                Verifier::new(name, secret, &self.salt(name, DEFAULT_SALT)).map(Arc::new)
            }),
        };
        Entry { secret, verifier }
    }

    /// Only `user`, who was looked up; strangers look as they do here.
    #[must_use]
    pub fn with(&self, user: &User) -> Self {
        let entries = HashMap::from([(user.name.clone(), self.entry(user))]);
        Self { entries, seed: self.seed, shape: self.shape, stranger: Arc::clone(&self.stranger) }
    }

    /// Whether there is such a user.
    #[must_use]
    pub fn contains(&self, user: &str) -> bool {
        self.entries.contains_key(user)
    }

    /// What `user` is checked against: a stand-in when there is no such user or no password.
    pub(super) fn candidate(&self, user: &str) -> Candidate {
        // Made for everyone, so that making it takes no time that others' logins do not take.
        let stand_in = self.stand_in(user);
        match self.entries.get(user) {
            None => Candidate { verifier: Arc::new(stand_in), standing: Standing::Unknown },
            Some(Entry { verifier: None, .. }) => {
                Candidate { verifier: Arc::new(stand_in), standing: Standing::NoPassword }
            }
            Some(Entry { verifier: Some(verifier), .. }) => {
                Candidate { verifier: verifier.clone(), standing: Standing::Known }
            }
        }
    }

    /// Keys for a SCRAM exchange that cannot succeed.
    pub(super) fn stand_in_keys(&self, user: &str) -> ScramKeys {
        let (iterations, salt) = match self.shape {
            Shape::Scram { iterations, salt } => (iterations, salt),
            Shape::Clear | Shape::Md5 => (DEFAULT_ITERATIONS, DEFAULT_SALT),
        };
        let Stranger { stored_key, server_key, .. } = *self.stranger;
        ScramKeys { iterations, salt: self.salt(user, salt).into(), stored_key, server_key }
    }

    fn stand_in(&self, user: &str) -> Verifier {
        let scram = Arc::new(self.stand_in_keys(user));
        let Stranger { password, md5, .. } = &*self.stranger;
        match self.shape {
            Shape::Md5 => Verifier::Md5(md5.clone()),
            Shape::Scram { .. } => Verifier::Scram(scram),
            Shape::Clear => Verifier::Clear { password: password.clone(), md5: md5.clone(), scram },
        }
    }

    fn salt(&self, user: &str, length: usize) -> Vec<u8> {
        let blocks = (0u64..).flat_map(|block| hmac(&self.seed, &[b"salt", &block.to_be_bytes(), user.as_bytes()]));
        blocks.take(length).collect()
    }
}

impl Shape {
    fn of(verifier: &Verifier) -> Self {
        match verifier {
            Verifier::Clear { .. } => Self::Clear,
            Verifier::Md5(_) => Self::Md5,
            Verifier::Scram(keys) => Self::Scram { iterations: keys.iterations, salt: keys.salt.len() },
        }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("count", &self.entries.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::auth) fn user(name: &str, password: Option<&str>) -> User {
        User { password: password.map(Secret::new), ..User::named(name) }
    }

    #[test]
    fn a_reload_derives_only_what_changed() {
        let before = Users::new(&[user("a", Some("1")), user("b", Some("2"))], [1; 32]);
        let after = before.reload(&[user("a", Some("1")), user("b", Some("3")), user("c", None)]);
        let same = |name| Arc::ptr_eq(&before.candidate(name).verifier, &after.candidate(name).verifier);
        assert!(same("a") && !same("b"));
        assert!(bool::from(after.candidate("b").verifier.accepts_password("b", b"3")));
        assert_eq!(after.candidate("c").standing, Standing::NoPassword);
        assert!(!before.contains("c") && after.contains("c"));
    }

    #[test]
    fn strangers_look_like_the_first_user_and_stay_the_same() {
        let verifier = "SCRAM-SHA-256$10000:".to_owned()
            + "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
            + "$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let users = Users::new(&[user("z", Some("clear")), user("a", Some(&verifier))], [1; 32]);
        let keys = |name| users.candidate(name).verifier.scram().cloned().unwrap();
        assert_eq!((keys("x").iterations, keys("x").salt.len()), (10_000, 32));
        assert_eq!(keys("x").salt, keys("x").salt);
        assert_ne!(keys("x").salt, keys("y").salt);
        assert_eq!(users.candidate("x").standing, Standing::Unknown);
        let md5 = Users::new(&[user("a", Some("md562af4dd09bbb41884907a838a3233294"))], [1; 32]);
        assert!(md5.candidate("x").verifier.md5().is_some() && md5.candidate("x").verifier.scram().is_none());
    }
}
