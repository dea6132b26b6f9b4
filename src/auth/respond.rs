//! Howdah's answers when a server asks who it is (the client's side of src/backend/libpq/auth.c).
//!
//! Knows one user's secret and one conversation, not the socket it runs over.

use bytes::{BufMut, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::md5::Md5Hash;
use super::method::{CLEARTEXT_PASSWORD, MD5_PASSWORD, SASL, SASL_CONTINUE, SASL_FINAL};
use super::scram_client::{self, Binding, ClientKeys};
use super::scram_server::{NONCE, PLAIN, PLUS};
use super::verifier::ScramKeys;
use crate::config::secret::Secret;
use crate::protocol::backend::message;
use crate::protocol::tag::frontend as tag;
use crate::protocol::text::split_cstr;

/// Where the conversation stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Send what was appended, if anything, and wait for the next request.
    More,
    /// The server let us in, and has proven itself if the method makes it do so.
    Accepted,
}

/// Why a server's request cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RespondError {
    /// The server wants a password and the configuration has none.
    #[error("the server asks for a password and none is configured")]
    NoPassword,
    /// The stored form of the password cannot answer this method.
    #[error("the server asks for {asked}, which needs the clear password; the configuration has {stored}")]
    UnsuitableSecret {
        /// The method.
        asked: &'static str,
        /// What the configuration holds instead.
        stored: &'static str,
    },
    /// A method that Howdah does not speak.
    #[error("the server asks for an unsupported authentication method ({0})")]
    Unsupported(u32),
    /// SASL without a mechanism of ours.
    #[error("the server offers no SASL mechanism that is supported")]
    Mechanism,
    /// The server did not keep to the protocol, or could not prove that it knows the password.
    #[error("authentication of the server failed: {0}")]
    Server(String),
}

/// One conversation.
pub struct Responder<'a> {
    user: &'a str,
    password: Option<&'a Secret>,
    /// Hash of the server's certificate, over TLS.
    end_point: Option<&'a [u8]>,
    nonce: [u8; NONCE],
    state: State,
}

enum State {
    /// Nothing, or only a password, was exchanged.
    Open,
    /// SASL began: the server must prove itself before it may let us in.
    Scram(Scram),
    /// The server's signature was right.
    Proven,
}

/// An exchange by somebody who has the password, or only its keys.
enum Scram {
    Password(Box<ScramSha256>),
    Keys(Box<scram_client::Exchange>),
}

impl Scram {
    fn message(&self) -> &[u8] {
        match self {
            Self::Password(scram) => scram.message(),
            Self::Keys(scram) => scram.message(),
        }
    }

    fn update(&mut self, data: &[u8]) -> Result<(), RespondError> {
        match self {
            Self::Password(scram) => scram.update(data).map_err(server),
            Self::Keys(scram) => scram.update(data).map_err(|fault| RespondError::Server(fault.into())),
        }
    }

    fn finish(&mut self, data: &[u8]) -> Result<(), RespondError> {
        match self {
            Self::Password(scram) => scram.finish(data).map_err(server),
            Self::Keys(scram) => scram.finish(data).map_err(|fault| RespondError::Server(fault.into())),
        }
    }
}

impl<'a> Responder<'a> {
    /// A conversation in which `user` logs in; `end_point` is the hash of the server's certificate (RFC 5929 §4),
    /// `nonce` is random and used once.
    #[must_use]
    pub fn new(user: &'a str, password: Option<&'a Secret>, end_point: Option<&'a [u8]>, nonce: [u8; NONCE]) -> Self {
        Self { user, password, end_point, nonce, state: State::Open }
    }

    /// Takes the code and data of an authentication request; appends the answer to `out`.
    pub fn on_request(&mut self, code: u32, data: &[u8], out: &mut BytesMut) -> Result<Progress, RespondError> {
        match code {
            OK => return self.accepted(),
            CLEARTEXT_PASSWORD => {
                let password = self.clear("the password in clear text")?;
                put_password(out, password.as_bytes());
            }
            MD5_PASSWORD => {
                let salt = data.try_into().map_err(|_| RespondError::Server("malformed MD5 request".into()))?;
                let hash = self.md5()?;
                put_password(out, &hash.answer(salt));
            }
            SASL => self.sasl(data, out)?,
            SASL_CONTINUE => {
                let scram = self.scram()?;
                scram.update(data)?;
                message(out, tag::PASSWORD, |out| out.put_slice(scram.message()));
            }
            SASL_FINAL => {
                self.scram()?.finish(data)?;
                self.state = State::Proven;
            }
            other => return Err(RespondError::Unsupported(other)),
        }
        Ok(Progress::More)
    }

    fn accepted(&self) -> Result<Progress, RespondError> {
        match self.state {
            State::Open | State::Proven => Ok(Progress::Accepted),
            State::Scram(_) => Err(RespondError::Server("it let us in before it proved itself".into())),
        }
    }

    fn clear(&self, asked: &'static str) -> Result<&'a str, RespondError> {
        let text = self.password.ok_or(RespondError::NoPassword)?.expose();
        if Md5Hash::parse(text).is_some() {
            return Err(RespondError::UnsuitableSecret { asked, stored: "an MD5 hash" });
        }
        if ScramKeys::parse(text).is_some() {
            return Err(RespondError::UnsuitableSecret { asked, stored: "a SCRAM verifier" });
        }
        if ClientKeys::parse(text).is_some() {
            return Err(RespondError::UnsuitableSecret { asked, stored: "a SCRAM verifier and its client's proof" });
        }
        Ok(text)
    }

    fn md5(&self) -> Result<Md5Hash, RespondError> {
        let stored = self.password.and_then(|secret| Md5Hash::parse(secret.expose()));
        match stored {
            Some(hash) => Ok(hash),
            None => Ok(Md5Hash::derive(self.clear("MD5")?.as_bytes(), self.user)),
        }
    }

    fn sasl(&mut self, offered: &[u8], out: &mut BytesMut) -> Result<(), RespondError> {
        let (mut plain, mut plus) = (false, false);
        let mut rest = offered;
        while let Some((mechanism, tail)) = split_cstr(rest) {
            plain |= mechanism == PLAIN.as_bytes();
            plus |= mechanism == PLUS.as_bytes();
            rest = tail;
        }
        let (mechanism, binding) = match self.end_point {
            Some(end_point) if plus => (PLUS, Binding::EndPoint(end_point)),
            // We could bind, and the server did not offer it: saying so lets an honest server notice a
            // man in the middle who took the offer away.
            Some(_) if plain => (PLAIN, Binding::Unrequested),
            None if plain => (PLAIN, Binding::Unsupported),
            _ => return Err(RespondError::Mechanism),
        };
        if !matches!(self.state, State::Open) {
            return Err(RespondError::Server("it asked for SASL twice".into()));
        }
        let keys = self.password.and_then(|secret| ClientKeys::parse(secret.expose()));
        let scram = if let Some(keys) = keys {
            Scram::Keys(Box::new(scram_client::Exchange::new(keys, binding, self.nonce)))
        } else {
            let password = self.clear("SCRAM-SHA-256")?.as_bytes();
            let binding = match binding {
                Binding::EndPoint(hash) => ChannelBinding::tls_server_end_point(hash.to_vec()),
                Binding::Unrequested => ChannelBinding::unrequested(),
                Binding::Unsupported => ChannelBinding::unsupported(),
            };
            Scram::Password(Box::new(ScramSha256::new(password, binding)))
        };
        message(out, tag::PASSWORD, |out| {
            out.put_slice(mechanism.as_bytes());
            out.put_u8(0);
            out.put_u32(u32::try_from(scram.message().len()).unwrap_or(u32::MAX));
            out.put_slice(scram.message());
        });
        self.state = State::Scram(scram);
        Ok(())
    }

    fn scram(&mut self) -> Result<&mut Scram, RespondError> {
        match &mut self.state {
            State::Scram(scram) => Ok(scram),
            State::Open | State::Proven => Err(RespondError::Server("it continued SASL that had not begun".into())),
        }
    }
}

fn put_password(out: &mut BytesMut, password: &[u8]) {
    message(out, tag::PASSWORD, |out| {
        out.put_slice(password);
        out.put_u8(0);
    });
}

#[allow(clippy::needless_pass_by_value, reason = "made for map_err")]
fn server(error: std::io::Error) -> RespondError {
    RespondError::Server(error.to_string())
}

const OK: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(secret: Option<&str>, requests: &[(u32, &[u8])]) -> Result<Progress, RespondError> {
        let secret = secret.map(Secret::new);
        let mut responder = Responder::new("u", secret.as_ref(), None, [4; NONCE]);
        let mut last = Ok(Progress::More);
        for (code, data) in requests {
            last = responder.on_request(*code, data, &mut BytesMut::new());
            last.clone()?;
        }
        last
    }

    #[test]
    fn secrets_that_cannot_answer_say_so() {
        let scram = postgres_protocol::password::scram_sha_256(b"x");
        let md5 = postgres_protocol::password::md5(b"x", "u");
        let asked = |request, secret| match ask(secret, &[request]) {
            Err(RespondError::UnsuitableSecret { stored, .. }) => stored,
            Err(RespondError::NoPassword) => "nothing",
            Ok(_) => "it",
            Err(other) => panic!("{other}"),
        };
        for (request, clear, hash, verifier) in [
            ((3, &b""[..]), "it", "an MD5 hash", "a SCRAM verifier"),
            ((5, b"salt"), "it", "it", "a SCRAM verifier"),
            ((10, b"SCRAM-SHA-256\0\0"), "it", "an MD5 hash", "a SCRAM verifier"),
        ] {
            assert_eq!(asked(request, Some("x")), clear);
            assert_eq!(asked(request, Some(&md5)), hash);
            assert_eq!(asked(request, Some(&scram)), verifier);
            assert_eq!(asked(request, None), "nothing");
        }
    }

    #[test]
    fn a_server_must_prove_itself_once_sasl_began() {
        let sasl: (u32, &[u8]) = (10, b"SCRAM-SHA-256\0\0");
        assert_eq!(ask(None, &[(0, b"")]), Ok(Progress::Accepted));
        for requests in [&[sasl, (0, b"")][..], &[sasl, sasl], &[sasl, (12, b"v=AAAA")], &[(11, b"")], &[(12, b"")]] {
            assert!(matches!(ask(Some("x"), requests), Err(RespondError::Server(_))), "{requests:?}");
        }
        assert_eq!(ask(Some("x"), &[(7, b"")]), Err(RespondError::Unsupported(7)));
        assert_eq!(ask(Some("x"), &[(10, b"SCRAM-SHA-512\0\0")]), Err(RespondError::Mechanism));
        assert_eq!(ask(Some("x"), &[(10, b"SCRAM-SHA-256-PLUS\0\0")]), Err(RespondError::Mechanism));
    }
}
