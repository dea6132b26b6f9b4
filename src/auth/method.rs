//! The conversation that lets a client in, for each method of `pg_hba.conf` (`src/backend/libpq/auth.c`).
//!
//! ```text
//! begin --> Done                                             trust, cert
//!       \-> Ask(request, Exchange) --answer--> Done          password, md5
//!                                          \-> Ask …         scram-sha-256
//! ```
//!
//! Knows messages, not sockets. `AuthenticationOk` is not sent from here: it goes out together with
//! what follows it.

use std::sync::Arc;

use bytes::BytesMut;

use super::scram_server::{self, AwaitFinal, AwaitFirst, ScramFault};
use super::users::{Candidate, Standing, Users};
use crate::config::model::AuthMethod;
use crate::config::secret::Secret;
use crate::protocol::backend;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::text::split_cstr;
use crate::types::UserName;

/// Proof that a client is who it says it is. Made in this file only; a session demands it.
#[derive(Debug)]
pub struct Authenticated {
    user: UserName,
    proof: Option<Secret>,
}

impl Authenticated {
    const fn new(user: UserName, proof: Option<Secret>) -> Self {
        Self { user, proof }
    }

    /// The user that the client proved to be.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// What it showed on the way, if that is enough to log in to servers: the password, or the keys of SCRAM, which
    /// are good where the server has the same verifier.
    pub const fn proof(&self) -> Option<&Secret> {
        self.proof.as_ref()
    }
}

/// What TLS has to say about a client's connection.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Hash of the certificate shown to the client (`tls-server-end-point`, RFC 5929 §4); `None` when
    /// its signature algorithm defines no hash.
    pub end_point: Option<Arc<[u8]>>,
    /// Common name in the client's certificate, when it showed one that was verified.
    pub common_name: Option<String>,
}

/// Random bytes that one login needs at most.
pub type Random = [u8; scram_server::NONCE];

/// An authentication request to send to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    code: u32,
    data: Vec<u8>,
}

impl Request {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        backend::authentication(out, self.code, &self.data);
    }
}

/// What comes next.
pub enum Step {
    /// Send the request; hand the body of the client's answer to [`Exchange::answer`].
    Ask(Request, Exchange),
    /// Send the request, if there is one: the client is let in.
    Done(Option<Request>, Authenticated),
}

/// Why a client is not let in. `Display` is for the log and says more than the client may know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The name is not in `users`.
    #[error("user \"{0}\" is not in users")]
    UnknownUser(UserName),
    /// `users` has no password for the name.
    #[error("user \"{0}\" has no password in users")]
    NoPassword(UserName),
    /// The stored secret cannot serve the method (an MD5 hash cannot serve SCRAM).
    #[error("the password of user \"{0}\" is an MD5 hash, which auth.method scram-sha-256 cannot use")]
    UnsuitableSecret(UserName),
    /// The password is wrong.
    #[error("wrong password for user \"{0}\"")]
    WrongPassword(UserName),
    /// The method asks for no password and the name is not in `users`.
    #[error("role \"{0}\" does not exist")]
    NoRole(UserName),
    /// `cert`, and the client showed no certificate.
    #[error("connection requires a valid client certificate")]
    NoCertificate,
    /// `cert`, and the certificate is somebody else's.
    #[error("certificate of \"{common_name}\" does not let in user \"{user}\"")]
    Certificate {
        /// Who wants to log in.
        user: UserName,
        /// Whose certificate it is.
        common_name: String,
    },
    /// The client broke the rules of SASL.
    #[error(transparent)]
    Scram(#[from] ScramFault),
    /// A password message that is not one zero-terminated string.
    #[error("invalid password packet size")]
    PasswordPacket,
}

impl AuthError {
    /// What the client is told, in PostgreSQL's words. An unknown user and a wrong password read the same.
    pub fn report(&self) -> Report {
        let (code, message) = match self {
            Self::UnknownUser(user)
            | Self::NoPassword(user)
            | Self::UnsuitableSecret(user)
            | Self::WrongPassword(user) => {
                (SqlState::INVALID_PASSWORD, format!("password authentication failed for user \"{user}\""))
            }
            Self::Certificate { user, .. } => (
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("certificate authentication failed for user \"{user}\""),
            ),
            Self::NoCertificate | Self::NoRole(_) | Self::Scram(ScramFault::Binding | ScramFault::Downgrade) => {
                (SqlState::INVALID_AUTHORIZATION_SPECIFICATION, self.to_string())
            }
            Self::Scram(ScramFault::Unsupported(_)) => (SqlState::FEATURE_NOT_SUPPORTED, self.to_string()),
            Self::Scram(_) | Self::PasswordPacket => (SqlState::PROTOCOL_VIOLATION, self.to_string()),
        };
        Report::fatal(code, message)
    }
}

/// A conversation that waits for the client's answer.
pub struct Exchange {
    user: UserName,
    state: State,
}

enum State {
    Password(Candidate),
    Md5 { candidate: Candidate, salt: [u8; 4] },
    // Sent: AuthenticationSASL. A doomed exchange runs like any other and fails at its end.
    ScramFirst { scram: AwaitFirst, doom: Option<AuthError> },
    ScramFinal { scram: AwaitFinal, doom: Option<AuthError> },
}

/// Begins to let in a client that calls itself `user`.
pub fn begin(
    method: AuthMethod,
    user: &str,
    users: &Users,
    tls: Option<&Tls>,
    random: Random,
) -> Result<Step, AuthError> {
    let name = UserName::from(user);
    match method {
        AuthMethod::Trust if users.contains(user) => Ok(Step::Done(None, Authenticated::new(name, None))),
        AuthMethod::Trust => Err(AuthError::NoRole(name)),
        AuthMethod::Cert => certificate(name, users, tls),
        AuthMethod::Password => {
            let request = Request { code: CLEARTEXT_PASSWORD, data: Vec::new() };
            Ok(Step::Ask(request, Exchange { user: name, state: State::Password(users.candidate(user)) }))
        }
        AuthMethod::Md5 => {
            let candidate = users.candidate(user);
            // Only SCRAM keys: ask for SCRAM, as PostgreSQL does for method md5 (`CheckPWChallengeAuth`).
            if candidate.verifier.md5().is_none() {
                return Ok(scram(name, &candidate, users, tls, random));
            }
            let [a, b, c, d, ..] = random;
            let salt = [a, b, c, d];
            let request = Request { code: MD5_PASSWORD, data: salt.to_vec() };
            Ok(Step::Ask(request, Exchange { user: name, state: State::Md5 { candidate, salt } }))
        }
        AuthMethod::ScramSha256 => Ok(scram(name, &users.candidate(user), users, tls, random)),
    }
}

fn certificate(user: UserName, users: &Users, tls: Option<&Tls>) -> Result<Step, AuthError> {
    let common_name = tls.and_then(|tls| tls.common_name.as_deref()).ok_or(AuthError::NoCertificate)?;
    if common_name != user.as_str() {
        return Err(AuthError::Certificate { common_name: common_name.to_owned(), user });
    }
    if !users.contains(user.as_str()) {
        return Err(AuthError::NoRole(user));
    }
    Ok(Step::Done(None, Authenticated::new(user, None)))
}

fn scram(user: UserName, candidate: &Candidate, users: &Users, tls: Option<&Tls>, nonce: Random) -> Step {
    let end_point = tls.and_then(|tls| tls.end_point.clone());
    let (keys, doom) = match candidate.verifier.scram() {
        Some(keys) => (keys.clone(), refusal(candidate.standing, &user)),
        None => (Arc::new(users.stand_in_keys(user.as_str())), Some(AuthError::UnsuitableSecret(user.clone()))),
    };
    let request = Request { code: SASL, data: scram_server::mechanisms(end_point.as_deref()) };
    let scram = AwaitFirst::new(keys, end_point, nonce);
    Step::Ask(request, Exchange { user, state: State::ScramFirst { scram, doom } })
}

/// Why a candidate of this standing cannot be let in whatever it answers.
fn refusal(standing: Standing, user: &UserName) -> Option<AuthError> {
    match standing {
        Standing::Known => None,
        Standing::Unknown => Some(AuthError::UnknownUser(user.clone())),
        Standing::NoPassword => Some(AuthError::NoPassword(user.clone())),
    }
}

// === impl Exchange ===

impl Exchange {
    /// Takes the body of the client's next message of type `p`.
    pub fn answer(self, body: &[u8]) -> Result<Step, AuthError> {
        let Self { user, state } = self;
        match state {
            // Password => (Done | refused)
            State::Password(candidate) => {
                let given = password(body)?;
                let right = candidate.verifier.accepts_password(user.as_str(), given);
                verdict(user, candidate.standing, right, str::from_utf8(given).ok().map(Secret::new))
            }
            // Md5 => (Done | refused)
            State::Md5 { candidate, salt } => {
                let answer = password(body)?;
                let right = candidate.verifier.md5().map_or_else(|| 0.into(), |hash| hash.accepts(answer, salt));
                verdict(user, candidate.standing, right, None)
            }
            // ScramFirst => (ScramFinal | refused)
            State::ScramFirst { scram, doom } => {
                let (data, scram) = scram.on_initial_response(body)?;
                let state = State::ScramFinal { scram, doom };
                Ok(Step::Ask(Request { code: SASL_CONTINUE, data }, Self { user, state }))
            }
            // ScramFinal => (Done | refused)
            State::ScramFinal { scram, doom } => match (scram.on_response(body), doom) {
                (Ok((data, proof)), None) => {
                    Ok(Step::Done(Some(Request { code: SASL_FINAL, data }), Authenticated::new(user, Some(proof))))
                }
                (Ok(_) | Err(ScramFault::Proof), Some(doom)) => Err(doom),
                (Err(ScramFault::Proof), None) => Err(AuthError::WrongPassword(user)),
                (Err(fault), _) => Err(fault.into()),
            },
        }
    }
}

fn verdict(
    user: UserName,
    standing: Standing,
    right: subtle::Choice,
    proof: Option<Secret>,
) -> Result<Step, AuthError> {
    if bool::from(right & standing.choice()) {
        return Ok(Step::Done(None, Authenticated::new(user, proof)));
    }
    Err(refusal(standing, &user).unwrap_or(AuthError::WrongPassword(user)))
}

fn password(body: &[u8]) -> Result<&[u8], AuthError> {
    match split_cstr(body) {
        Some((password, [])) => Ok(password),
        _ => Err(AuthError::PasswordPacket),
    }
}

/// Codes of the authentication requests (src/include/libpq/protocol.h).
pub(super) const CLEARTEXT_PASSWORD: u32 = 3;
pub(super) const MD5_PASSWORD: u32 = 5;
pub(super) const SASL: u32 = 10;
pub(super) const SASL_CONTINUE: u32 = 11;
pub(super) const SASL_FINAL: u32 = 12;

#[cfg(test)]
mod tests {
    use super::super::respond::{Progress, Responder};
    use super::super::users::tests::user;
    use super::*;
    use crate::config::secret::Secret;

    const HASH: &str = "md5fb7f0f2a4ae1dd6d3a5a3ca1d8bcc0d6";

    fn users() -> Users {
        let scram = postgres_protocol::password::scram_sha_256(b"secret");
        let md5 = postgres_protocol::password::md5(b"secret", "md5");
        let list = [
            user("clear", Some("secret")),
            user("md5", Some(&md5)),
            user("scram", Some(&scram)),
            user("nobody", None),
            user("other", Some(HASH)),
        ];
        Users::new(&list, [5; 32])
    }

    fn tls(name: Option<&str>) -> Tls {
        Tls { end_point: Some(Arc::from(&b"end point"[..])), common_name: name.map(str::to_owned) }
    }

    /// Howdah's server side against Howdah's client side, whose SCRAM and MD5 are rust-postgres'.
    fn log_in(method: AuthMethod, name: &str, secret: &str, tls: Option<&Tls>) -> Result<UserName, AuthError> {
        let secret = Secret::new(secret);
        let end_point = tls.and_then(|tls| tls.end_point.as_deref());
        let mut client = Responder::new(name, Some(&secret), end_point, [4; 18]);
        let mut step = begin(method, name, &users(), tls, [8; 18])?;
        loop {
            let (request, exchange) = match step {
                Step::Ask(request, exchange) => (request, exchange),
                Step::Done(last, proof) => {
                    if let Some(last) = last {
                        client.on_request(last.code, &last.data, &mut BytesMut::new()).unwrap();
                    }
                    assert_eq!(client.on_request(0, &[], &mut BytesMut::new()), Ok(Progress::Accepted));
                    return Ok(proof.user().clone());
                }
            };
            let mut out = BytesMut::new();
            assert_eq!(client.on_request(request.code, &request.data, &mut out), Ok(Progress::More));
            step = exchange.answer(&out[5..])?;
        }
    }

    #[test]
    fn every_method_takes_every_secret_that_postgresql_would_take() {
        use AuthMethod::{Md5, Password, ScramSha256, Trust};
        for channel in [None, Some(tls(None))] {
            let channel = channel.as_ref();
            for (method, names) in [
                (Trust, &["clear", "md5", "scram", "nobody"][..]),
                (Password, &["clear", "md5", "scram"]),
                (Md5, &["clear", "md5", "scram"]),
                (ScramSha256, &["clear", "scram"]),
            ] {
                for name in names {
                    let found = log_in(method, name, "secret", channel);
                    assert_eq!(found, Ok((*name).into()), "{method:?} {name}");
                }
            }
        }
    }

    #[test]
    fn the_wrong_are_told_the_same_and_the_log_knows_why() {
        use AuthMethod::{Md5, Password, ScramSha256};
        for method in [Password, Md5, ScramSha256] {
            for (name, secret, reason) in [
                ("clear", "wrong", AuthError::WrongPassword("clear".into())),
                ("scram", "wrong", AuthError::WrongPassword("scram".into())),
                ("nobody", "secret", AuthError::NoPassword("nobody".into())),
                ("stranger", "secret", AuthError::UnknownUser("stranger".into())),
            ] {
                let found = log_in(method, name, secret, None).unwrap_err();
                assert_eq!(found, reason, "{method:?} {name}");
                assert_eq!(found.report().code, SqlState::INVALID_PASSWORD);
                assert_eq!(found.report().message, format!("password authentication failed for user \"{name}\""));
            }
        }
        let found = log_in(ScramSha256, "md5", "secret", None).unwrap_err();
        assert_eq!(found, AuthError::UnsuitableSecret("md5".into()));
        assert_eq!(found.report().code, SqlState::INVALID_PASSWORD);
        assert!(log_in(Md5, "md5", "wrong", None).is_err());
    }

    #[test]
    fn certificates_let_in_their_owner() {
        let check = |name, certificate: Option<Tls>, expected: Result<UserName, AuthError>| {
            assert_eq!(log_in(AuthMethod::Cert, name, "", certificate.as_ref()), expected);
        };
        check("clear", Some(tls(Some("clear"))), Ok("clear".into()));
        check("nobody", Some(tls(Some("nobody"))), Ok("nobody".into()));
        check("clear", None, Err(AuthError::NoCertificate));
        check("clear", Some(tls(None)), Err(AuthError::NoCertificate));
        check("stranger", Some(tls(Some("stranger"))), Err(AuthError::NoRole("stranger".into())));
        let others = AuthError::Certificate { user: "clear".into(), common_name: "md5".into() };
        assert_eq!(others.report().code, SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
        check("clear", Some(tls(Some("md5"))), Err(others));
    }

    #[test]
    fn trust_knows_its_users() {
        let found = log_in(AuthMethod::Trust, "stranger", "", None);
        assert_eq!(found, Err(AuthError::NoRole("stranger".into())));
    }

    #[test]
    fn a_password_message_is_one_string() {
        for body in [&b""[..], b"secret", b"secret\0\0", b"secret\0x"] {
            let Ok(Step::Ask(_, exchange)) = begin(AuthMethod::Password, "clear", &users(), None, [0; 18]) else {
                panic!("password asks");
            };
            assert_eq!(exchange.answer(body).err(), Some(AuthError::PasswordPacket), "{body:?}");
        }
    }
}
