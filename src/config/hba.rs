//! `auth.hba_file`: who may log in from where, and how, in the language of `pg_hba.conf`
//! (PostgreSQL documentation, "The `pg_hba.conf` File"; `src/backend/libpq/hba.c`). Pure.
//!
//! What needs the server's catalogs, the network's names or another authority is refused when the file
//! is read, not passed over: a line that does not say what its author meant lets somebody in.

use std::iter::Peekable;
use std::net::IpAddr;
use std::str::Chars;

use super::fault::Misread;
use super::model::AuthMethod;

/// The lines of the file, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hba(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    socket: Socket,
    databases: Vec<Database>,
    users: Vec<Name>,
    method: Method,
}

/// What a line's first and fourth columns say together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    Local,
    Host(Encryption, Net),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Any,
    Tls,
    Plain,
    /// GSSAPI encryption, which no client of Howdah has.
    Gss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Net {
    Any,
    /// The bits that count, and what they must be.
    V4(u32, u32),
    V6(u128, u128),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    All,
    Is(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Database {
    Named(Name),
    SameUser,
    /// Physical replication; logical replication is of a database.
    Replication,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Ask(AuthMethod),
    Reject,
}

/// Somebody who wants to log in.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// The role.
    pub user: &'a str,
    /// The database; `None` for physical replication, which is of none.
    pub database: Option<&'a str>,
    /// Where from; `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Why a visitor is not even asked for a password, in PostgreSQL's words (`ClientAuthentication`,
/// `src/backend/libpq/auth.c`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Visitor<'_> {
    fn described(&self) -> String {
        let host = self.address.map_or_else(|| "[local]".to_owned(), |address| address.to_canonical().to_string());
        let encryption = if self.tls { "SSL encryption" } else { "no encryption" };
        match self.database {
            Some(name) => format!("host \"{host}\", user \"{}\", database \"{name}\", {encryption}", self.user),
            None => format!("replication connection from host \"{host}\", user \"{}\", {encryption}", self.user),
        }
    }
}

impl Hba {
    /// How `visitor` must prove who it is: the first line that fits says so.
    pub fn method(&self, visitor: &Visitor<'_>) -> Result<AuthMethod, Refusal> {
        match self.0.iter().find(|rule| rule.fits(visitor)).map(|rule| rule.method) {
            Some(Method::Ask(method)) => Ok(method),
            Some(Method::Reject) if visitor.database.is_none() => {
                Err(Refusal(format!("pg_hba.conf rejects {}", visitor.described())))
            }
            Some(Method::Reject) => Err(Refusal(format!("pg_hba.conf rejects connection for {}", visitor.described()))),
            None => Err(Refusal(format!("no pg_hba.conf entry for {}", visitor.described()))),
        }
    }

    /// The methods that lines ask for.
    pub fn methods(&self) -> impl Iterator<Item = AuthMethod> {
        self.0.iter().filter_map(|rule| match rule.method {
            Method::Ask(method) => Some(method),
            Method::Reject => None,
        })
    }
}

impl Rule {
    fn fits(&self, visitor: &Visitor<'_>) -> bool {
        self.socket.fits(visitor)
            && self.databases.iter().any(|database| match (database, visitor.database) {
                (Database::Named(name), Some(asked)) => name.is(asked),
                (Database::SameUser, Some(asked)) => asked == visitor.user,
                (Database::Replication, asked) => asked.is_none(),
                (Database::Named(_) | Database::SameUser, None) => false,
            })
            && self.users.iter().any(|name| name.is(visitor.user))
    }
}

impl Name {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Is(wanted) => wanted == name,
        }
    }
}

impl Socket {
    fn fits(&self, visitor: &Visitor<'_>) -> bool {
        match (self, visitor.address) {
            (Self::Local, None) => true,
            (Self::Host(encryption, net), Some(address)) => {
                let encrypted = match encryption {
                    Encryption::Any => true,
                    Encryption::Tls => visitor.tls,
                    Encryption::Plain => !visitor.tls,
                    Encryption::Gss => false,
                };
                encrypted && net.has(address.to_canonical())
            }
            _ => false,
        }
    }
}

impl Net {
    fn has(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Any, _) => true,
            (Self::V4(mask, bits), IpAddr::V4(address)) => address.to_bits() & mask == bits,
            (Self::V6(mask, bits), IpAddr::V6(address)) => address.to_bits() & mask == bits,
            _ => false,
        }
    }

    fn masked(address: IpAddr, mask: IpAddr) -> Option<Self> {
        match (address, mask) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => {
                Some(Self::V4(mask.to_bits(), address.to_bits() & mask.to_bits()))
            }
            (IpAddr::V6(address), IpAddr::V6(mask)) => {
                Some(Self::V6(mask.to_bits(), address.to_bits() & mask.to_bits()))
            }
            _ => None,
        }
    }

    fn prefixed(address: IpAddr, length: u32) -> Option<Self> {
        match address {
            IpAddr::V4(address) if length <= 32 => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                Some(Self::V4(mask, address.to_bits() & mask))
            }
            IpAddr::V6(address) if length <= 128 => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                Some(Self::V6(mask, address.to_bits() & mask))
            }
            _ => None,
        }
    }
}

// === Reading ===

/// Reads a whole file. A fault tells the line, counted from 1.
pub(super) fn parse(text: &str) -> Result<Hba, Misread> {
    let mut rules = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let mut line = line.to_owned();
        // A backslash at its end joins a line with the next.
        while line.ends_with('\\') {
            line.pop();
            line.push_str(lines.next().map_or("", |(next, _)| next));
        }
        let read = fields(&line).and_then(|fields| if fields.is_empty() { Ok(None) } else { rule(&fields).map(Some) });
        let located = |misread: Misread| Misread::new(format!("line {number}: {}", misread.wrong), misread.right);
        rules.extend(read.map_err(located)?);
    }
    Ok(Hba(rules))
}

/// One word of a line; in quotes a keyword is a name.
#[derive(Debug, Default)]
struct Token {
    text: String,
    quoted: bool,
}

impl Token {
    fn keyword(&self) -> Option<&str> {
        (!self.quoted).then_some(self.text.as_str())
    }
}

/// The columns of a line, each a list of words that commas separate.
fn fields(line: &str) -> Result<Vec<Vec<Token>>, Misread> {
    let mut chars = line.chars().peekable();
    let mut fields = Vec::new();
    loop {
        skip_space(&mut chars);
        if matches!(chars.peek(), None | Some('#')) {
            return Ok(fields);
        }
        let mut list = Vec::new();
        loop {
            let token = token(&mut chars)?;
            if token.quoted || !token.text.is_empty() {
                list.push(token);
            }
            if chars.next_if_eq(&',').is_none() {
                break;
            }
            skip_space(&mut chars);
        }
        fields.push(list);
    }
}

fn skip_space(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
}

fn token(chars: &mut Peekable<Chars<'_>>) -> Result<Token, Misread> {
    let mut token = Token::default();
    let mut inside = false;
    while let Some(c) = chars.next_if(|c| inside || !(c.is_whitespace() || matches!(c, ',' | '#'))) {
        match c {
            // Two of them inside quotes are one that is meant.
            '"' if inside && chars.next_if_eq(&'"').is_some() => token.text.push('"'),
            '"' => {
                inside = !inside;
                token.quoted = true;
            }
            c => token.text.push(c),
        }
    }
    if inside {
        return Err(Misread::new("a quote is not closed", "close it on the same line"));
    }
    Ok(token)
}

fn rule(fields: &[Vec<Token>]) -> Result<Rule, Misread> {
    let mut columns = fields.iter();
    let mut column = |what: &str| {
        let right = "a line is: type, database, user, address (not for local), method";
        columns.next().ok_or_else(|| Misread::new(format!("there is no {what}"), right))
    };
    let kind = single(column("type")?)?;
    let databases = column("database")?.iter().map(database).collect::<Result<_, _>>()?;
    let users = column("user")?.iter().map(name).collect::<Result<_, _>>()?;
    let encryption = match kind {
        "local" => None,
        // No client of Howdah has GSSAPI encryption.
        "host" | "hostnogssenc" => Some(Encryption::Any),
        "hostssl" => Some(Encryption::Tls),
        "hostnossl" => Some(Encryption::Plain),
        "hostgssenc" => Some(Encryption::Gss),
        _ => {
            let right = "the types are local, host, hostssl, hostnossl, hostgssenc and hostnogssenc";
            return Err(Misread::new(format!("\"{kind}\" is no type"), right));
        }
    };
    let socket = match encryption {
        None => Socket::Local,
        Some(encryption) => {
            let address = single(column("address")?)?;
            let net = match address.parse::<IpAddr>() {
                Ok(address) => {
                    let mask = single(column("mask")?)?;
                    mask.parse().ok().and_then(|mask| Net::masked(address, mask))
                }
                Err(_) => net(address)?,
            };
            let right = "give all, an address with its prefix length (10.0.0.0/8), or an address and a mask";
            let wrong = || Misread::new(format!("\"{address}\" with what follows is no address"), right);
            Socket::Host(encryption, net.ok_or_else(wrong)?)
        }
    };
    let method = method(single(column("method")?)?)?;
    if method == Method::Ask(AuthMethod::Cert) && !matches!(socket, Socket::Host(Encryption::Tls, _)) {
        return Err(Misread::new("method cert has nothing to go by without TLS", "make it a line of type hostssl"));
    }
    match columns.next() {
        None => Ok(Rule { socket, databases, users, method }),
        Some(_) => Err(Misread::new("options behind the method are not supported", "take them away")),
    }
}

fn single(column: &[Token]) -> Result<&str, Misread> {
    match column {
        [token] => Ok(&token.text),
        _ => Err(Misread::new("there is a list where one word is expected", "write a line for each")),
    }
}

fn database(token: &Token) -> Result<Database, Misread> {
    match token.keyword() {
        Some("sameuser") => Ok(Database::SameUser),
        Some("replication") => Ok(Database::Replication),
        Some(word @ ("samerole" | "samegroup")) => Err(unsupported(word, "list the databases")),
        _ => name(token).map(Database::Named),
    }
}

fn name(token: &Token) -> Result<Name, Misread> {
    match token.keyword() {
        Some("all") => Ok(Name::All),
        Some(word) if word.starts_with('+') => {
            Err(unsupported(word, "list the roles: who is a member is not known here"))
        }
        Some(word) if word.starts_with('@') => Err(unsupported(word, "write the names into the line")),
        Some(word) if word.starts_with('/') => {
            Err(unsupported(word, "list the names: regular expressions are not read"))
        }
        _ => Ok(Name::Is(token.text.clone())),
    }
}

fn net(word: &str) -> Result<Option<Net>, Misread> {
    if word == "all" {
        return Ok(Some(Net::Any));
    }
    let Some((address, length)) = word.split_once('/') else {
        return Err(unsupported(word, "give addresses: names and samenet are not looked up"));
    };
    let parsed = address.parse().ok().zip(length.parse().ok());
    Ok(parsed.and_then(|(address, length)| Net::prefixed(address, length)))
}

fn method(word: &str) -> Result<Method, Misread> {
    Ok(match word {
        "reject" => Method::Reject,
        "trust" => Method::Ask(AuthMethod::Trust),
        "password" => Method::Ask(AuthMethod::Password),
        "md5" => Method::Ask(AuthMethod::Md5),
        "scram-sha-256" => Method::Ask(AuthMethod::ScramSha256),
        "cert" => Method::Ask(AuthMethod::Cert),
        _ => {
            return Err(unsupported(word, "the methods are trust, reject, password, md5, scram-sha-256 and cert"));
        }
    })
}

fn unsupported(word: &str, right: &str) -> Misread {
    Misread::new(format!("\"{word}\" is not supported"), right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Somebody who comes from `from`, an address or nothing, behind which `+tls` may stand.
    fn visitor<'a>(user: &'a str, database: &'a str, from: &str) -> Visitor<'a> {
        let address = from.trim_end_matches("+tls");
        let database = (database != "(physical)").then_some(database);
        Visitor { user, database, address: address.parse().ok(), tls: address != from }
    }

    const FILE: &str = "
        # comment, and a line of nothing

        local all all trust
        hostssl \"all\" app 10.0.0.0/8 cert   # the database that is called all
        hostnossl all app 10.0.0.0 255.0.0.0 reject
        host a, \"b c\",d app,\"back office\" 10.1.0.0/16 \\
             md5
        hostgssenc all all all trust
        host replication all all trust
        host sameuser all ::1/128 password
        host all app fd00::/8 scram-sha-256
        host all all 192.168.1.7/32 trust
    ";

    #[test]
    fn the_first_line_that_fits_decides() {
        use AuthMethod::{Cert, Md5, Password, ScramSha256, Trust};
        let hba = parse(FILE).unwrap();
        for (user, database, from, expected) in [
            ("anybody", "any", "", Some(Trust)),
            ("app", "all", "10.9.9.9+tls", Some(Cert)),
            ("app", "other", "10.9.9.9+tls", None),
            ("app", "a", "10.1.9.9", None),
            ("app", "a", "10.1.9.9+tls", Some(Md5)),
            ("app", "b c", "10.1.9.9+tls", Some(Md5)),
            ("back office", "d", "10.1.9.9", Some(Md5)),
            ("back office", "d", "10.2.9.9", None),
            ("me", "me", "::1", Some(Password)),
            ("me", "you", "::1", None),
            ("app", "x", "fd12::7+tls", Some(ScramSha256)),
            ("app", "x", "fe80::7+tls", None),
            // An IPv4 client of a socket that listens on both.
            ("you", "x", "::ffff:192.168.1.7", Some(Trust)),
            ("you", "replication", "172.16.0.1", None),
            ("you", "(physical)", "172.16.0.1", Some(Trust)),
            ("app", "(physical)", "192.168.1.7+tls", Some(Trust)),
        ] {
            let visitor = visitor(user, database, from);
            assert_eq!(hba.method(&visitor).ok(), expected, "{visitor:?}");
        }
        assert_eq!(hba.methods().count(), 8);
    }

    #[test]
    fn refusals_are_in_postgresqls_words() {
        let hba = parse("host all app 127.0.0.1/32 reject").unwrap();
        let refusal = |visitor| hba.method(&visitor).unwrap_err().to_string();
        assert_eq!(
            refusal(visitor("app", "db", "127.0.0.1")),
            "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"app\", database \"db\", no encryption"
        );
        assert_eq!(
            refusal(visitor("you", "db", "+tls")),
            "no pg_hba.conf entry for host \"[local]\", user \"you\", database \"db\", SSL encryption"
        );
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused() {
        for (line, wrong) in [
            ("host", "line 1: there is no database"),
            ("lan all all trust", "line 1: \"lan\" is no type"),
            ("local all all", "line 1: there is no method"),
            ("local all all peer", "line 1: \"peer\" is not supported"),
            ("\nhost all all samenet trust", "line 2: \"samenet\" is not supported"),
            ("host all all example.com md5", "line 1: \"example.com\" is not supported"),
            ("host all all 10.0.0.0/33 md5", "line 1: \"10.0.0.0/33\" with what follows is no address"),
            ("host all all 10.0.0.0 md5", "line 1: \"10.0.0.0\" with what follows is no address"),
            ("host all all 10.0.0.0 ::1 md5", "line 1: \"10.0.0.0\" with what follows is no address"),
            ("host all +staff all md5", "line 1: \"+staff\" is not supported"),
            ("host all /^a all md5", "line 1: \"/^a\" is not supported"),
            ("host @file all all md5", "line 1: \"@file\" is not supported"),
            ("host samerole all all md5", "line 1: \"samerole\" is not supported"),
            ("host all all all cert", "line 1: method cert has nothing to go by without TLS"),
            ("host,local all all all md5", "line 1: there is a list where one word is expected"),
            ("hostssl all all all md5 clientcert=verify-full", "line 1: options behind the method are not supported"),
            ("host \"all all all md5", "line 1: a quote is not closed"),
        ] {
            assert_eq!(parse(line).unwrap_err().wrong, wrong, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\n\"\\\\#,/+@:0-9]{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_prefix_and_its_mask_say_the_same(address in any::<u32>(), other in any::<u32>(), length in 0_u32..=32) {
            let address = std::net::Ipv4Addr::from_bits(address);
            let mask = std::net::Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - length).unwrap_or(0));
            let prefixed = parse(&format!("host all all {address}/{length} trust")).unwrap();
            let masked = parse(&format!("host all all {address} {mask} trust")).unwrap();
            prop_assert_eq!(&prefixed, &masked);
            let visitor = Visitor { user: "u", database: Some("d"), address: Some(IpAddr::from(other.to_be_bytes())), tls: false };
            let inside = length == 0 || (other ^ address.to_bits()) >> (32 - length) == 0;
            prop_assert_eq!(prefixed.method(&visitor).is_ok(), inside);
        }
    }
}
