//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677, RFC 5929;
//! src/backend/libpq/auth-scram.c).
//!
//! ```text
//! AwaitFirst --client-first / server-first--> AwaitFinal --client-final / server-final--> Ok
//! ```
//!
//! Knows keys and messages, not users: a stranger's exchange runs with keys that nobody can match.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::scram_client::ClientKeys;
use super::verifier::{ScramKeys, hmac};
use crate::config::secret::Secret;

/// Random bytes in the server's part of the nonce (`SCRAM_RAW_NONCE_LEN`, src/include/common/scram-common.h).
pub const NONCE: usize = 18;

/// The mechanism without channel binding.
pub const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism with it.
pub const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramFault {
    /// A message that is not SCRAM's; the text says what is wrong.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// Something of SCRAM that PostgreSQL does not offer either.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// The client believes that channel binding was not offered, though it was: somebody in between
    /// may have removed the offer.
    #[error("SCRAM channel binding negotiation error")]
    Downgrade,
    /// The client's end of the TLS connection is not this one's: somebody sits in between.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The client's final nonce is not the one agreed upon.
    #[error("invalid SCRAM response: nonce does not match")]
    Nonce,
    /// The client does not know the password.
    #[error("SCRAM proof does not match")]
    Proof,
}

/// The mechanisms offered, as they stand in `AuthenticationSASL`.
#[must_use]
pub fn mechanisms(end_point: Option<&[u8]>) -> Vec<u8> {
    let offered = if end_point.is_some() { &[PLUS, PLAIN][..] } else { &[PLAIN][..] };
    let mut data = Vec::new();
    for mechanism in offered {
        data.extend_from_slice(mechanism.as_bytes());
        data.push(0);
    }
    data.push(0);
    data
}

/// Waits for the client's first message.
pub struct AwaitFirst {
    keys: Arc<ScramKeys>,
    /// The hash of the certificate shown to the client, over TLS (`tls-server-end-point`).
    end_point: Option<Arc<[u8]>>,
    nonce: [u8; NONCE],
}

/// Waits for the client's proof.
pub struct AwaitFinal {
    keys: Arc<ScramKeys>,
    /// What the client must repeat as `c=`, before base64.
    binding: Vec<u8>,
    /// The client's and the server's nonce.
    nonce: String,
    /// `client-first-message-bare "," server-first-message ","`.
    so_far: String,
}

/// The mechanism that the client chose.
#[derive(Clone, Copy)]
enum Mechanism {
    Plain,
    Plus,
}

impl AwaitFirst {
    /// An exchange about `keys`; `nonce` is random and used once.
    #[must_use]
    pub fn new(keys: Arc<ScramKeys>, end_point: Option<Arc<[u8]>>, nonce: [u8; NONCE]) -> Self {
        Self { keys, end_point, nonce }
    }

    /// Takes the body of `SASLInitialResponse`; gives the data of `AuthenticationSASLContinue`.
    pub fn on_initial_response(self, body: &[u8]) -> Result<(Vec<u8>, AwaitFinal), ScramFault> {
        let (mechanism, rest) = crate::protocol::text::split_cstr(body).ok_or(Malformed("no mechanism"))?;
        let (length, message) = rest.split_first_chunk::<4>().ok_or(Malformed("no length"))?;
        if usize::try_from(i32::from_be_bytes(*length)) != Ok(message.len()) {
            return Err(Malformed("length does not match"));
        }
        let chosen = match mechanism {
            name if name == PLUS.as_bytes() && self.end_point.is_some() => Mechanism::Plus,
            name if name == PLAIN.as_bytes() => Mechanism::Plain,
            _ => return Err(ScramFault::Mechanism),
        };
        let message = text(message)?;
        let (header, bare) = split_header(message)?;
        let binding = self.binding(header, chosen)?;
        let client_nonce = client_nonce(bare)?;
        // Not by `format!`, which grows its string piece by piece: these are for each login.
        let nonce = [client_nonce, &STANDARD.encode(self.nonce)].concat();
        let (salt, iterations) = (STANDARD.encode(&self.keys.salt), self.keys.iterations.to_string());
        let first = ["r=", &nonce, ",s=", &salt, ",i=", &iterations].concat();
        let so_far = [bare, ",", &first, ","].concat();
        Ok((first.into_bytes(), AwaitFinal { keys: self.keys, binding, nonce, so_far }))
    }

    /// What the client must repeat in its final message, given its gs2 header such as `n,,`.
    fn binding(&self, header: &str, chosen: Mechanism) -> Result<Vec<u8>, ScramFault> {
        let (flag, authorization) = header.split_once(',').ok_or(Malformed("no channel binding flag"))?;
        if authorization != "," {
            return Err(ScramFault::Unsupported("client uses authorization identity, but it is not supported"));
        }
        match (flag, chosen, &self.end_point) {
            ("n" | "y", Mechanism::Plus, _) => Err(Malformed("message does not include channel binding data")),
            ("y", Mechanism::Plain, Some(_)) => Err(ScramFault::Downgrade),
            ("n" | "y", Mechanism::Plain, _) => Ok(header.into()),
            ("p=tls-server-end-point", Mechanism::Plus, Some(end_point)) => Ok([header.as_bytes(), end_point].concat()),
            (other, Mechanism::Plus, _) if other.starts_with("p=") => {
                Err(ScramFault::Unsupported("unsupported SCRAM channel-binding type"))
            }
            (other, Mechanism::Plain, _) if other.starts_with("p=") => {
                Err(Malformed("message includes channel binding data without SCRAM-SHA-256-PLUS"))
            }
            _ => Err(Malformed("unexpected channel-binding flag")),
        }
    }
}

impl AwaitFinal {
    /// Takes the body of `SASLResponse`; gives the data of `AuthenticationSASLFinal` when the client
    /// has proven that it knows the password, and the keys that its proof shows.
    pub fn on_response(self, body: &[u8]) -> Result<(Vec<u8>, Secret), ScramFault> {
        let message = text(body)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Malformed("no proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|item| item.strip_prefix("c=")).ok_or(Malformed("no binding"))?;
        let nonce = attributes.next().and_then(|item| item.strip_prefix("r=")).ok_or(Malformed("no nonce"))?;
        if STANDARD.decode(binding).ok().as_deref() != Some(&self.binding) {
            return Err(ScramFault::Binding);
        }
        if !bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            return Err(ScramFault::Nonce);
        }
        let proof: [u8; 32] =
            STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or(Malformed("malformed proof"))?;
        let parts = [self.so_far.as_bytes(), without_proof.as_bytes()];
        let mut client_key = hmac(&self.keys.stored_key, &parts);
        client_key.iter_mut().zip(proof).for_each(|(byte, proof)| *byte ^= proof);
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&self.keys.stored_key)) {
            return Err(ScramFault::Proof);
        }
        let last = ["v=", &STANDARD.encode(hmac(&self.keys.server_key, &parts))].concat();
        Ok((last.into_bytes(), ClientKeys::secret(&client_key, &self.keys.server_key)))
    }
}

use ScramFault::Malformed;

fn text(bytes: &[u8]) -> Result<&str, ScramFault> {
    let found = str::from_utf8(bytes).map_err(|_| Malformed("not UTF-8"))?;
    if found.contains('\0') { Err(Malformed("zero byte")) } else { Ok(found) }
}

/// Splits after the second comma: the gs2 header, and the client's first message proper.
fn split_header(message: &str) -> Result<(&str, &str), ScramFault> {
    let mut commas = message.match_indices(',');
    let second = commas.nth(1).ok_or(Malformed("no gs2 header"))?;
    Ok(message.split_at(second.0 + 1))
}

/// The client's nonce. The user name (`n=`) is ignored, as PostgreSQL does: the one of the
/// `StartupMessage` counts. So are extensions, but for mandatory ones.
fn client_nonce(bare: &str) -> Result<&str, ScramFault> {
    let mut attributes = bare.split(',');
    let name = attributes.next().unwrap_or_default();
    if name.starts_with("m=") {
        return Err(ScramFault::Unsupported("client requires an unsupported SCRAM extension"));
    }
    if !name.starts_with("n=") {
        return Err(Malformed("no user name"));
    }
    let nonce = attributes.next().and_then(|item| item.strip_prefix("r=")).ok_or(Malformed("no nonce"))?;
    let printable = !nonce.is_empty() && nonce.bytes().all(|byte| matches!(byte, 0x21..=0x7e));
    if printable { Ok(nonce) } else { Err(Malformed("non-printable characters in SCRAM nonce")) }
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    use proptest::prelude::*;

    use super::*;

    const END_POINT: &[u8] = b"hash of a certificate";

    fn keys(salt: &[u8]) -> Arc<ScramKeys> {
        ScramKeys::derive(b"secret", salt, 64).into()
    }

    fn initial(mechanism: &str, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [mechanism.as_bytes(), b"\0", &length, message].concat()
    }

    fn server(end_point: Option<&[u8]>) -> AwaitFirst {
        AwaitFirst::new(keys(b"0123456789abcdef"), end_point.map(Arc::from), [3; NONCE])
    }

    /// Runs a whole exchange against the client that rust-postgres uses.
    fn exchange(server: AwaitFirst, mechanism: &str, mut client: ScramSha256) -> Result<(), ScramFault> {
        let (first, server) = server.on_initial_response(&initial(mechanism, client.message()))?;
        client.update(&first).unwrap();
        let (last, _) = server.on_response(client.message())?;
        client.finish(&last).unwrap();
        Ok(())
    }

    #[test]
    fn a_real_client_gets_in_with_the_password_only() {
        for salt in [&b""[..], b"x", &[9; 16], &[9; 32], &[9; 100]] {
            for (password, expected) in [("secret", Ok(())), ("Secret", Err(ScramFault::Proof))] {
                let server = AwaitFirst::new(keys(salt), None, [1; NONCE]);
                let client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                assert_eq!(exchange(server, PLAIN, client), expected, "{password} {salt:?}");
            }
        }
    }

    #[test]
    fn channel_binding_is_checked_and_cannot_be_argued_away() {
        let bound = |data: &[u8]| ChannelBinding::tls_server_end_point(data.to_vec());
        let check = |end_point, mechanism, binding, expected| {
            let found = exchange(server(end_point), mechanism, ScramSha256::new(b"secret", binding));
            assert_eq!(found, expected);
        };
        check(Some(END_POINT), PLUS, bound(END_POINT), Ok(()));
        check(Some(END_POINT), PLUS, bound(b"another certificate"), Err(ScramFault::Binding));
        check(Some(END_POINT), PLAIN, ChannelBinding::unsupported(), Ok(()));
        check(Some(END_POINT), PLAIN, ChannelBinding::unrequested(), Err(ScramFault::Downgrade));
        check(None, PLAIN, ChannelBinding::unrequested(), Ok(()));
        check(None, PLUS, bound(END_POINT), Err(ScramFault::Mechanism));
        let mismatch = Malformed("message includes channel binding data without SCRAM-SHA-256-PLUS");
        check(Some(END_POINT), PLAIN, bound(END_POINT), Err(mismatch));
        let missing = Malformed("message does not include channel binding data");
        check(Some(END_POINT), PLUS, ChannelBinding::unsupported(), Err(missing));
    }

    #[test]
    fn first_messages_that_are_refused() {
        let check = |message: &str, expected: ScramFault| {
            let found = server(None).on_initial_response(&initial(PLAIN, message.as_bytes()));
            assert_eq!(found.err(), Some(expected), "{message}");
        };
        check("", Malformed("no gs2 header"));
        check("n,,", Malformed("no user name"));
        check("n,,n=", Malformed("no nonce"));
        check("n,,n=,r=", Malformed("non-printable characters in SCRAM nonce"));
        check("n,,n=,r=a b", Malformed("non-printable characters in SCRAM nonce"));
        check("x,,n=,r=abc", Malformed("unexpected channel-binding flag"));
        check(
            "n,a=me,n=,r=abc",
            ScramFault::Unsupported("client uses authorization identity, but it is not supported"),
        );
        check("n,,m=x,n=,r=abc", ScramFault::Unsupported("client requires an unsupported SCRAM extension"));
        check("p=tls-unique,,n=,r=abc", Malformed("message includes channel binding data without SCRAM-SHA-256-PLUS"));
        let unique = initial(PLUS, b"p=tls-unique,,n=,r=abc");
        let found = server(Some(END_POINT)).on_initial_response(&unique).err();
        assert_eq!(found, Some(ScramFault::Unsupported("unsupported SCRAM channel-binding type")));
        let short = server(None).on_initial_response(b"SCRAM-SHA-256\0\0\0\0\x09n,,").err();
        assert_eq!(short, Some(Malformed("length does not match")));
    }

    #[test]
    fn final_messages_that_are_refused() {
        let start = || {
            let mut client = ScramSha256::new(b"secret", ChannelBinding::unsupported());
            let (first, server) = server(None).on_initial_response(&initial(PLAIN, client.message())).unwrap();
            client.update(&first).unwrap();
            (String::from_utf8(client.message().to_vec()).unwrap(), server)
        };
        let check = |change: &dyn Fn(String) -> String, expected: ScramFault| {
            let (message, server) = start();
            assert_eq!(server.on_response(change(message).as_bytes()), Err(expected));
        };
        check(&|message| message.replace("c=biws", "c=eSws"), ScramFault::Binding);
        check(&|message| message.replace(",p=", "x,p="), ScramFault::Nonce);
        check(&|message| message.replace(",r=", ",r=x"), ScramFault::Nonce);
        check(&|message| message.replace(",p=", ",x=1,p="), ScramFault::Proof);
        check(&|message| message.split(",p=").next().unwrap().to_owned(), Malformed("no proof"));
        check(&|message| message.split(",p=").next().unwrap().to_owned() + ",p=AAAA", Malformed("malformed proof"));
        check(&|message| message + "\0", Malformed("zero byte"));
    }

    #[test]
    fn offers_channel_binding_over_tls_only() {
        assert_eq!(mechanisms(None), b"SCRAM-SHA-256\0\0");
        assert_eq!(mechanisms(Some(END_POINT)), b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    }

    proptest! {
        #[test]
        fn no_bytes_let_anybody_in(first in ".{0,60}", last in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = server(None).on_initial_response(first.as_bytes());
            let _ = server(Some(END_POINT)).on_initial_response(&initial(PLUS, first.as_bytes()));
            let (_, server) = server(None).on_initial_response(&initial(PLAIN, b"n,,n=,r=abc")).unwrap();
            prop_assert!(server.on_response(&last).is_err());
        }
    }
}
