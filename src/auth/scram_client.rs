//! The client's side of SCRAM-SHA-256 for somebody who has the keys and not the password (RFC 5802 §3).
//!
//! A client that proves itself to Howdah by SCRAM shows its `ClientKey` on the way; with the `ServerKey` of the
//! verifier that is all that logging in to a server with the same verifier takes. `postgres-protocol` does the rest,
//! but begins with a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::scram_server::NONCE;
use super::verifier::hmac;
use crate::config::secret::Secret;

/// What proves to know a password, and what proves to have its verifier.
#[derive(Clone)]
pub struct ClientKeys {
    client_key: [u8; 32],
    server_key: [u8; 32],
}

/// How a [`Secret`] that holds keys begins; no password from a configuration does.
const PREFIX: &str = "SCRAM-SHA-256-KEYS$";

impl ClientKeys {
    /// Reads what [`Self::secret`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (client, server) = text.strip_prefix(PREFIX)?.split_once(':')?;
        let key = |text| STANDARD.decode(text).ok()?.try_into().ok();
        Some(Self { client_key: key(client)?, server_key: key(server)? })
    }

    /// The keys as a secret to log in to servers with.
    #[must_use]
    pub fn secret(client_key: &[u8; 32], server_key: &[u8; 32]) -> Secret {
        Secret::new(&format!("{PREFIX}{}:{}", STANDARD.encode(client_key), STANDARD.encode(server_key)))
    }
}

/// How the exchange is bound to the TLS connection below it.
#[derive(Clone, Copy, Debug)]
pub enum Binding<'a> {
    /// Not at all, for there is none, or nothing to bind to.
    Unsupported,
    /// Not at all, for the server did not offer it.
    Unrequested,
    /// To the hash of the server's certificate.
    EndPoint(&'a [u8]),
}

impl Binding<'_> {
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::Unrequested => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }
}

/// One exchange.
pub struct Exchange {
    keys: ClientKeys,
    /// The next message to send.
    message: String,
    /// `c=` as the final message will have it.
    bound: String,
    nonce: String,
    state: State,
}

enum State {
    First,
    /// What the server's signature must be.
    Final([u8; 32]),
    Done,
}

impl Exchange {
    /// Begins one; `nonce` is random and used once.
    #[must_use]
    pub fn new(keys: ClientKeys, binding: Binding<'_>, nonce: [u8; NONCE]) -> Self {
        let header = binding.header();
        let end_point = if let Binding::EndPoint(hash) = binding { hash } else { &[] };
        let bound = STANDARD.encode([header.as_bytes(), end_point].concat());
        let nonce = STANDARD.encode(nonce);
        // The server knows the user from the startup message.
        let message = format!("{header}n=,r={nonce}");
        Self { keys, message, bound, nonce, state: State::First }
    }

    /// The message to send now.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// Takes the server's first message; [`Self::message`] is the proof then.
    pub fn update(&mut self, data: &[u8]) -> Result<(), &'static str> {
        const MALFORMED: &str = "malformed SCRAM message";
        let State::First = self.state else { return Err("SCRAM message out of turn") };
        let first = str::from_utf8(data).map_err(|_| MALFORMED)?;
        let mut parts = first.split(',');
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(MALFORMED)?;
        parts.next().filter(|part| part.starts_with("s=")).ok_or(MALFORMED)?;
        parts.next().filter(|part| part.starts_with("i=")).ok_or(MALFORMED)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server's SCRAM nonce does not continue ours");
        }
        let without_proof = format!("c={},r={nonce}", self.bound);
        let about = format!("n=,r={},{first},{without_proof}", self.nonce);
        let stored_key: [u8; 32] = Sha256::digest(self.keys.client_key).into();
        let mut proof = hmac(&stored_key, &[about.as_bytes()]);
        proof.iter_mut().zip(self.keys.client_key).for_each(|(byte, key)| *byte ^= key);
        self.message = format!("{without_proof},p={}", STANDARD.encode(proof));
        self.state = State::Final(hmac(&self.keys.server_key, &[about.as_bytes()]));
        Ok(())
    }

    /// Takes the server's last message: whether it knows the verifier.
    pub fn finish(&mut self, data: &[u8]) -> Result<(), &'static str> {
        let State::Final(expected) = self.state else { return Err("SCRAM message out of turn") };
        let signature = data.strip_prefix(b"v=").and_then(|text| STANDARD.decode(text).ok());
        let signature = signature.ok_or("the server sent no SCRAM signature")?;
        if !bool::from(signature.as_slice().ct_eq(&expected)) {
            return Err("the server's SCRAM signature is wrong: it does not know the password");
        }
        self.state = State::Done;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::scram_server::{AwaitFirst, PLAIN, PLUS, ScramFault};
    use super::super::verifier::ScramKeys;
    use super::*;

    const END_POINT: &[u8] = b"hash";

    fn keys(password: &str, salt: &[u8]) -> ClientKeys {
        let salted = super::super::verifier::salted_password(password.as_bytes(), salt, 64);
        ClientKeys { client_key: hmac(&salted, &[b"Client Key"]), server_key: hmac(&salted, &[b"Server Key"]) }
    }

    /// An exchange with Howdah's own server side, which other clients have proven.
    fn exchange(keys: ClientKeys, binding: Binding<'_>, end_point: Option<&[u8]>) -> Result<(), String> {
        let verifier = Arc::new(ScramKeys::derive(b"secret", b"salt", 64));
        let server = AwaitFirst::new(verifier, end_point.map(Arc::from), [1; NONCE]);
        let mut client = Exchange::new(keys, binding, [2; NONCE]);
        let mechanism = if matches!(binding, Binding::EndPoint(_)) { PLUS } else { PLAIN };
        let length = u32::try_from(client.message().len()).unwrap().to_be_bytes();
        let initial = [mechanism.as_bytes(), b"\0", &length, client.message()].concat();
        let say = |fault: ScramFault| fault.to_string();
        let (first, server) = server.on_initial_response(&initial).map_err(say)?;
        client.update(&first)?;
        let (last, _) = server.on_response(client.message()).map_err(say)?;
        client.finish(&last)?;
        Ok(())
    }

    #[test]
    fn keys_log_in_where_their_password_would() {
        let right = || keys("secret", b"salt");
        assert_eq!(exchange(right(), Binding::Unsupported, None), Ok(()));
        assert_eq!(exchange(right(), Binding::EndPoint(END_POINT), Some(END_POINT)), Ok(()));
        for (keys, binding) in [
            (keys("Secret", b"salt"), Binding::Unsupported),
            (keys("secret", b"pepper"), Binding::Unsupported),
            (right(), Binding::EndPoint(b"another")),
            (right(), Binding::Unrequested),
        ] {
            assert!(exchange(keys, binding, Some(END_POINT)).is_err(), "{binding:?}");
        }
    }

    #[test]
    fn a_server_that_lacks_the_verifier_is_found_out() {
        let mut client = Exchange::new(keys("secret", b"salt"), Binding::Unsupported, [2; NONCE]);
        assert!(client.finish(b"v=").is_err(), "out of turn");
        let ours = STANDARD.encode([2; NONCE]);
        for first in [format!("r={ours},s=c2FsdA==,i=64"), "r=x,s=,i=1".into(), format!("r={ours}x"), String::new()] {
            assert!(client.update(first.as_bytes()).is_err(), "{first}");
        }
        client.update(format!("r={ours}more,s=c2FsdA==,i=64").as_bytes()).unwrap();
        for last in ["", "e=other-error", "v=", "v=AAAA", &format!("v={}", STANDARD.encode([0; 32]))] {
            assert!(client.finish(last.as_bytes()).is_err(), "{last}");
        }
    }

    #[test]
    fn keys_travel_as_a_secret() {
        let keys = keys("secret", b"salt");
        let secret = ClientKeys::secret(&keys.client_key, &keys.server_key);
        let read = ClientKeys::parse(secret.expose()).unwrap();
        assert_eq!((read.client_key, read.server_key), (keys.client_key, keys.server_key));
        assert!(ClientKeys::parse("secret").is_none());
    }
}
