//! The packets that come before any message has a type: StartupMessage, `SSLRequest`,
//! `GSSENCRequest` and CancelRequest (PostgreSQL manual, "Message Formats";
//! `src/backend/tcop/backend_startup.c`).
//!
//! Knows bytes and names, not sockets, users or TLS.

use bytes::{BufMut, BytesMut};

use super::error::Report;
use super::sqlstate::SqlState;
use super::text::split_cstr;

/// The newest minor version of protocol 3 that is spoken here.
pub const NEWEST_MINOR: u16 = 2;

/// Longest packet after its length word (`MAX_STARTUP_PACKET_LENGTH`, src/include/libpq/pqcomm.h).
pub const MAX_LENGTH: usize = 10_000;

/// First byte of a TLS record that begins a handshake (RFC 8446 §5.1): no packet can begin with it,
/// since its length would be above [`MAX_LENGTH`].
pub const TLS_HANDSHAKE: u8 = 0x16;

/// The ALPN name of PostgreSQL's protocol (registered with IANA).
pub const ALPN: &[u8] = b"postgresql";

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// What a client may send first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// `SSLRequest`: asks for TLS; answered with one byte.
    Ssl,
    /// `GSSENCRequest`: asks for GSSAPI encryption; answered with one byte.
    Gss,
    /// `CancelRequest`: never answered.
    Cancel {
        /// From `BackendKeyData`.
        process_id: i32,
        /// From `BackendKeyData`; 4 to 256 bytes.
        key: Vec<u8>,
    },
    /// `StartupMessage`.
    Startup(StartupMessage),
}

/// How a client introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupMessage {
    /// The minor version of protocol 3 that it asks for.
    pub minor: u16,
    /// Names and values in the order given, `user` and `database` included.
    pub parameters: Vec<(String, String)>,
}

/// A first packet that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The length word is too small or above [`MAX_LENGTH`]: most likely not a PostgreSQL client at all.
    #[error("invalid length of startup packet")]
    Length,
    /// The packet ends before its terminator, or goes on after it.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A cancel request whose key is not of 4 to 256 bytes.
    #[error("invalid length of query cancel packet")]
    CancelLength,
    /// A protocol that is not 3.
    #[error("unsupported frontend protocol {major}.{minor}")]
    Version {
        /// What was asked for, before the point.
        major: u16,
        /// And after it.
        minor: u16,
    },
    /// A parameter whose bytes are not UTF-8.
    #[error("startup parameter \"{0}\" is not valid UTF-8")]
    Encoding(String),
    /// No `user`, or an empty one.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// A value of `replication` that is neither a truth value nor `database`.
    #[error("invalid value for parameter \"replication\": \"{0}\"")]
    Replication(String),
}

/// Which replication a connection is for (protocol chapter "Streaming Replication Protocol").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// None: it is an ordinary one.
    #[default]
    None,
    /// Of the whole cluster: `replication=true`.
    Physical,
    /// Of a database: `replication=database`.
    Logical,
}

impl Replication {
    /// The word in SHOW CLIENTS.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Physical => "physical",
            Self::Logical => "logical",
        }
    }

    /// The value of the startup parameter (`ProcessStartupPacket`, src/backend/postmaster/postmaster.c).
    fn parse(value: &str) -> Option<Self> {
        let value = value.to_ascii_lowercase();
        let begins = |words: &[&str], least: usize| {
            value.len() >= least && words.iter().any(|word| word.starts_with(value.as_str()))
        };
        match value.as_str() {
            "database" => Some(Self::Logical),
            // `parse_bool` takes any beginning of a word that can be of no other.
            _ if value == "1" || begins(&["true", "yes"], 1) || value == "on" => Some(Self::Physical),
            _ if value == "0" || begins(&["false", "no"], 1) || begins(&["off"], 2) => Some(Self::None),
            _ => None,
        }
    }
}

impl Fault {
    /// What the client is told, in PostgreSQL's words; `max_minor` is the newest version offered.
    pub fn report(&self, max_minor: u16) -> Report {
        match self {
            Self::Version { .. } => {
                let message = format!("{self}: server supports 3.0 to 3.{max_minor}");
                Report::fatal(SqlState::FEATURE_NOT_SUPPORTED, message)
            }
            Self::Replication(_) => Report::fatal(SqlState::INVALID_PARAMETER_VALUE, self.to_string())
                .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\"."),
            Self::NoUser => Report::fatal(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, self.to_string()),
            Self::Length | Self::Layout | Self::CancelLength | Self::Encoding(_) => {
                Report::fatal(SqlState::PROTOCOL_VIOLATION, self.to_string())
            }
        }
    }
}

/// The whole length of the packet that `buffer` begins with; `None` until its length word is there.
pub fn packet_length(buffer: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(word) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*word) as usize;
    if (8..=MAX_LENGTH + 4).contains(&length) { Ok(Some(length)) } else { Err(Fault::Length) }
}

/// Opens the packet that `buffer` begins with: what it is and how many bytes it took; `None` until
/// all of it is there.
pub fn parse(buffer: &[u8]) -> Result<Option<(First, usize)>, Fault> {
    let Some(length) = packet_length(buffer)? else {
        return Ok(None);
    };
    let Some(packet) = buffer.get(4..length) else {
        return Ok(None);
    };
    let (code, body) = packet.split_first_chunk::<4>().ok_or(Fault::Length)?;
    Ok(Some((open(u32::from_be_bytes(*code), body)?, length)))
}

fn open(code: u32, body: &[u8]) -> Result<First, Fault> {
    match code {
        SSL_REQUEST if body.is_empty() => Ok(First::Ssl),
        GSSENC_REQUEST if body.is_empty() => Ok(First::Gss),
        SSL_REQUEST | GSSENC_REQUEST => Err(Fault::Length),
        CANCEL_REQUEST => open_cancel(body),
        _ => {
            let [major, minor] = [code >> 16, code & 0xFFFF].map(|half| u16::try_from(half).unwrap_or_default());
            if major == 3 {
                StartupMessage::open(minor, body).map(First::Startup)
            } else {
                Err(Fault::Version { major, minor })
            }
        }
    }
}

fn open_cancel(body: &[u8]) -> Result<First, Fault> {
    let (process_id, key) = body.split_first_chunk::<4>().ok_or(Fault::CancelLength)?;
    if !(4..=256).contains(&key.len()) {
        return Err(Fault::CancelLength);
    }
    Ok(First::Cancel { process_id: i32::from_be_bytes(*process_id), key: key.to_vec() })
}

// === impl StartupMessage ===

/// `NegotiateProtocolVersion`: what the client is told when it asked for more than there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation<'a> {
    /// The version that will be spoken, as it stands in the message.
    pub version: u32,
    /// The protocol options that are not understood.
    pub unknown: Vec<&'a str>,
}

impl StartupMessage {
    fn open(minor: u16, mut body: &[u8]) -> Result<Self, Fault> {
        let mut parameters = Vec::new();
        loop {
            let (name, rest) = split_cstr(body).ok_or(Fault::Layout)?;
            if name.is_empty() {
                if !rest.is_empty() {
                    return Err(Fault::Layout);
                }
                break;
            }
            let (value, rest) = split_cstr(rest).ok_or(Fault::Layout)?;
            let name = String::from_utf8_lossy(name).into_owned();
            let value = match (str::from_utf8(value), name.as_str()) {
                (Ok(value), _) => value.to_owned(),
                // PostgreSQL itself keeps only the ASCII part of it (`pg_clean_ascii`).
                (Err(_), "application_name") => String::from_utf8_lossy(value).into_owned(),
                (Err(_), _) => return Err(Fault::Encoding(name)),
            };
            parameters.push((name, value));
            body = rest;
        }
        let message = Self { minor, parameters };
        if message.user().is_empty() { Err(Fault::NoUser) } else { Ok(message) }
    }

    /// The value of parameter `name`; the last one counts, as in PostgreSQL.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().rev().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The role that wants to log in.
    pub fn user(&self) -> &str {
        self.get("user").unwrap_or_default()
    }

    /// The database that it wants: the role's name when none is given.
    pub fn database(&self) -> &str {
        self.get("database").filter(|name| !name.is_empty()).unwrap_or_else(|| self.user())
    }

    /// Which replication it is for.
    pub fn replication(&self) -> Result<Replication, Fault> {
        let value = self.get("replication").unwrap_or("false");
        Replication::parse(value).ok_or_else(|| Fault::Replication(value.to_owned()))
    }

    /// The version that will be spoken when `max_minor` is the newest offered.
    pub fn spoken(&self, max_minor: u16) -> u16 {
        self.minor.min(max_minor)
    }

    /// What to send before anything else when the client asked for a newer version or for protocol
    /// options (`_pq_.…`), of which none is known here.
    pub fn negotiation(&self, max_minor: u16) -> Option<Negotiation<'_>> {
        let names = self.parameters.iter().map(|(name, _)| name.as_str());
        let unknown: Vec<&str> = names.filter(|name| name.starts_with("_pq_.")).collect();
        let version = 3 << 16 | u32::from(self.spoken(max_minor));
        (self.minor > max_minor || !unknown.is_empty()).then_some(Negotiation { version, unknown })
    }
}

// === the parameter `options` ===

/// A command line in the parameter `options` that PostgreSQL would not accept either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// Neither `-c name=value` nor `--name=value`.
    #[error("invalid command-line argument for server process: {0}")]
    Argument(String),
    /// A setting without a value.
    #[error("{0} requires a value")]
    NoValue(String),
}

impl InvalidOptions {
    /// What the client is told.
    pub fn report(&self) -> Report {
        Report::fatal(SqlState::SYNTAX_ERROR, self.to_string())
            .hint("The startup parameter options may hold -c name=value and --name=value.")
    }
}

/// The settings in the startup parameter `options`, in order (`process_postgres_switches`,
/// src/backend/tcop/postgres.c). A dash in a setting's name means an underscore.
pub fn options(text: &str) -> Result<Vec<(String, String)>, InvalidOptions> {
    let mut words = split_options(text).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        if let Some(setting) = word.strip_prefix("--") {
            settings.push(setting_of("--", setting)?);
        } else if word == "-c" {
            let setting = words.next().ok_or(InvalidOptions::NoValue(word))?;
            settings.push(setting_of("-c ", &setting)?);
        } else if let Some(setting) = word.strip_prefix("-c") {
            settings.push(setting_of("-c ", setting)?);
        } else {
            return Err(InvalidOptions::Argument(word));
        }
    }
    Ok(settings)
}

fn setting_of(switch: &str, text: &str) -> Result<(String, String), InvalidOptions> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.replace('-', "_"), value.to_owned())),
        _ => Err(InvalidOptions::NoValue(format!("{switch}{text}"))),
    }
}

/// Splits at white space; a backslash keeps the next character (`pg_split_opts`,
/// src/backend/utils/init/postinit.c). A word may be empty only through a lone backslash at the end.
fn split_options(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            // What C's isspace() calls space in the "C" locale.
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

// === towards servers ===

/// Appends a `StartupMessage` for protocol 3.`minor`.
pub fn put_startup<'a>(out: &mut BytesMut, minor: u16, parameters: impl Iterator<Item = (&'a str, &'a str)>) {
    packet(out, 3 << 16 | u32::from(minor), |out| {
        for (name, value) in parameters {
            for text in [name, value] {
                out.put_slice(text.as_bytes());
                out.put_u8(0);
            }
        }
        out.put_u8(0);
    });
}

/// Appends an `SSLRequest`.
pub fn put_ssl_request(out: &mut BytesMut) {
    packet(out, SSL_REQUEST, |_| {});
}

/// Appends a `CancelRequest`.
pub fn put_cancel_request(out: &mut BytesMut, process_id: i32, key: &[u8]) {
    packet(out, CANCEL_REQUEST, |out| {
        out.put_i32(process_id);
        out.put_slice(key);
    });
}

fn packet(out: &mut BytesMut, code: u32, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u32(code);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn startup(minor: u16, parameters: &[(&str, &str)]) -> BytesMut {
        let mut out = BytesMut::new();
        put_startup(&mut out, minor, parameters.iter().copied());
        out
    }

    fn raw(code: u32, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        packet(&mut out, code, |out| out.put_slice(body));
        out
    }

    fn message(minor: u16, parameters: &[(&str, &str)]) -> StartupMessage {
        let parameters = parameters.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        StartupMessage { minor, parameters }
    }

    #[test]
    fn replication_is_asked_for_in_postgresqls_words() {
        let of = |value| message(0, &[("user", "u"), ("replication", value)]).replication();
        for value in ["true", "T", "yes", "y", "on", "1"] {
            assert_eq!(of(value), Ok(Replication::Physical), "{value}");
        }
        for value in ["false", "fa", "no", "off", "of", "0"] {
            assert_eq!(of(value), Ok(Replication::None), "{value}");
        }
        assert_eq!(of("Database"), Ok(Replication::Logical));
        for value in ["", "o", "2", "databases", "truth"] {
            assert_eq!(of(value), Err(Fault::Replication(value.to_owned())), "{value}");
        }
        assert_eq!(message(0, &[("user", "u")]).replication(), Ok(Replication::None));
    }

    /// Every prefix is incomplete, the whole is `expected`, and what follows is left alone.
    fn check(packet: &[u8], expected: &First) {
        for end in 0..packet.len() {
            assert_eq!(parse(&packet[..end]), Ok(None), "{end} bytes of {packet:?}");
        }
        for tail in [&b""[..], b"tail"] {
            let buffer = [packet, tail].concat();
            assert_eq!(parse(&buffer), Ok(Some((expected.clone(), packet.len()))));
        }
    }

    #[test]
    fn every_form_is_read_whatever_the_split() {
        check(&raw(SSL_REQUEST, b""), &First::Ssl);
        check(&raw(GSSENC_REQUEST, b""), &First::Gss);
        for key in [&b"abcd"[..], &[7; 32], &[9; 256]] {
            let mut out = BytesMut::new();
            put_cancel_request(&mut out, -5, key);
            check(&out, &First::Cancel { process_id: -5, key: key.to_vec() });
        }
        for minor in [0, 2, 9999] {
            let parameters = [("user", "u"), ("options", "-c a=b"), ("database", "d"), ("empty", "")];
            check(&startup(minor, &parameters), &First::Startup(message(minor, &parameters)));
        }
    }

    #[test]
    fn faults_have_names() {
        let long = raw(3 << 16, &vec![b'x'; MAX_LENGTH]);
        for (packet, fault) in [
            (BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]), Fault::Length),
            (BytesMut::from(&[0, 0, 0, 7, 0, 3, 0][..]), Fault::Length),
            (long, Fault::Length),
            (raw(SSL_REQUEST, b"x"), Fault::Length),
            (raw(CANCEL_REQUEST, b"1234abc"), Fault::CancelLength),
            (raw(CANCEL_REQUEST, &[1; 261]), Fault::CancelLength),
            (raw(2 << 16, b""), Fault::Version { major: 2, minor: 0 }),
            (raw(0x04D2_0000, b""), Fault::Version { major: 1234, minor: 0 }),
            (raw(3 << 16, b""), Fault::Layout),
            (raw(3 << 16, b"user\0u\0"), Fault::Layout),
            (raw(3 << 16, b"user\0u\0\0x"), Fault::Layout),
            (raw(3 << 16, b"user\0\xff\0\0"), Fault::Encoding("user".into())),
            (raw(3 << 16, b"database\0d\0\0"), Fault::NoUser),
            (raw(3 << 16, b"\0"), Fault::NoUser),
        ] {
            assert_eq!(parse(&packet), Err(fault), "{packet:?}");
        }
        let words = Fault::Version { major: 2, minor: 0 }.report(0);
        assert_eq!(words.message, "unsupported frontend protocol 2.0: server supports 3.0 to 3.0");
        assert_eq!(words.code, SqlState::FEATURE_NOT_SUPPORTED);
    }

    #[test]
    fn versions_are_negotiated_down() {
        let plain = [("user", "u")];
        let check = |minor, max, parameters: &[(&str, &str)], expected: Option<(u32, Vec<&str>)>| {
            let message = message(minor, parameters);
            let found = message.negotiation(max).map(|told| (told.version & 0xFFFF, told.unknown));
            assert_eq!(found, expected, "3.{minor} where 3.{max} is the newest");
        };
        check(0, 0, &plain, None);
        check(0, 2, &plain, None);
        check(2, 2, &plain, None);
        check(2, 0, &plain, Some((0, vec![])));
        check(9999, 2, &plain, Some((2, vec![])));
        check(0, 2, &[("user", "u"), ("_pq_.x", "1")], Some((0, vec!["_pq_.x"])));
        check(3, 0, &[("_pq_.x", "1"), ("user", "u"), ("_pq_.y", "")], Some((0, vec!["_pq_.x", "_pq_.y"])));
    }

    #[test]
    fn names_have_defaults_and_the_last_one_counts() {
        let given = message(0, &[("user", "a"), ("user", "b"), ("database", "")]);
        assert_eq!((given.user(), given.database()), ("b", "b"));
        assert_eq!(message(0, &[("user", "a"), ("database", "d")]).database(), "d");
    }

    #[test]
    fn options_are_split_as_postgresql_does() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected.iter().map(|&(name, value)| (name.into(), value.into())).collect();
            assert_eq!(options(text), Ok(expected), "{text:?}");
        };
        check("", &[]);
        check(" \t\n", &[]);
        check("-c geqo=off", &[("geqo", "off")]);
        check("-cgeqo=off", &[("geqo", "off")]);
        check("  --geqo=off  -c  a.b=c ", &[("geqo", "off"), ("a.b", "c")]);
        check("--search-path=a,b", &[("search_path", "a,b")]);
        check("-c search_path=a\\ b", &[("search_path", "a b")]);
        check("-c x=a\\\\b", &[("x", "a\\b")]);
        check("-c x==", &[("x", "=")]);
        check("-c x=", &[("x", "")]);
        check("-c x=1\\", &[("x", "1")]);
        check("-c x=1 -c x=2", &[("x", "1"), ("x", "2")]);
        check("-c x=\u{e9}\\\u{e9}", &[("x", "\u{e9}\u{e9}")]);
        for (text, fault) in [
            ("-c", InvalidOptions::NoValue("-c".into())),
            ("-c geqo", InvalidOptions::NoValue("-c geqo".into())),
            ("--geqo", InvalidOptions::NoValue("--geqo".into())),
            ("--=1", InvalidOptions::NoValue("--=1".into())),
            ("-z", InvalidOptions::Argument("-z".into())),
            ("geqo=off", InvalidOptions::Argument("geqo=off".into())),
        ] {
            assert_eq!(options(text), Err(fault), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            let _ = parse(&bytes);
            let _ = parse(&raw(3 << 16, &bytes));
            let _ = options(&text);
        }

        #[test]
        fn any_value_survives_escaping(value in "[^\0=]{0,30}") {
            let escaped: String = value.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert_eq!(options(&format!("-c name={escaped}")), Ok(vec![("name".to_owned(), value)]));
        }
    }
}
