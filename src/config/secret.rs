//! Values that must never be printed, and where they may come from: `${VAR}` and `file:`.
//!
//! A `Secret` has no `Display`, its `Debug` is redacted and its comparison takes the same time
//! whatever the difference. Nothing here repeats a value in an error.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq;

use super::fault::Misread;

/// A password, hash or verifier.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `value`.
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// A password as a server keeps it; `None` when it is empty, or neither clear nor a hash nor a verifier.
    #[must_use]
    pub fn stored(text: &str) -> Option<Self> {
        let secret = Self::new(text);
        (!text.is_empty() && check_form(&secret).is_ok()).then_some(secret)
    }

    /// The secret itself; the caller must not let it out.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// How the password is written, judged as PostgreSQL does (`get_password_type`,
    /// src/backend/libpq/crypt.c): what is neither hash nor verifier is a clear password.
    #[must_use]
    pub fn form(&self) -> Form {
        if is_md5_hash(&self.0) {
            Form::Md5
        } else if self.0.strip_prefix(SCRAM_PREFIX).and_then(scram_parts).is_some() {
            Form::Scram
        } else {
            Form::Clear
        }
    }
}

/// How a password is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is typed.
    Clear,
    /// `md5` and the 32 hexadecimal digits of `md5(password || user)`.
    Md5,
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as in `pg_authid.rolpassword`.
    Scram,
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Refuses what is meant as a hash or a verifier and is not one: it would be taken for a clear
/// password, and the login would fail for a reason that nobody sees.
pub(super) fn check_form(secret: &Secret) -> Result<(), Misread> {
    let text = secret.expose();
    if secret.form() != Form::Clear {
        return Ok(());
    }
    if text.starts_with("SCRAM-SHA-256") {
        return Err(Misread::new(
            "begins like a SCRAM verifier and is not one",
            "write SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>, as pg_authid.rolpassword shows it",
        ));
    }
    let hash = text.strip_prefix("md5").unwrap_or_default();
    if hash.len() >= 24 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Misread::new(
            "begins like an MD5 hash and is not one",
            "write md5 and 32 hexadecimal digits in lower case, as pg_authid.rolpassword shows it",
        ));
    }
    Ok(())
}

fn is_md5_hash(text: &str) -> bool {
    let Some(digits) = text.strip_prefix("md5") else { return false };
    digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks what follows `SCRAM-SHA-256$` (`parse_scram_secret`, src/backend/libpq/auth-scram.c).
fn scram_parts(rest: &str) -> Option<()> {
    let (cost, keys) = rest.split_once('$')?;
    let (iterations, salt) = cost.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let iterations = iterations.parse::<u32>().ok()?;
    BASE64.decode(salt).ok()?;
    let stored = BASE64.decode(stored).ok()?;
    let server = BASE64.decode(server).ok()?;
    (iterations > 0 && stored.len() == 32 && server.len() == 32).then_some(())
}

const SCRAM_PREFIX: &str = "SCRAM-SHA-256$";

/// Replaces every `${NAME}` by what `environment` holds under that name; `$${` stands for `${`.
pub(super) fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, Misread> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        let (before, reference) = rest.split_at(dollar);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        expanded.push_str(before);
        let (name, after) = variable(&reference[2..]).ok_or_else(|| {
            Misread::new(
                "has a `${` that begins no `${NAME}`",
                "write ${NAME} with letters, digits and _; or $${ for ${",
            )
        })?;
        let Some(value) = environment(name) else {
            let wrong = format!("refers to the environment variable {name}, which is not set");
            return Err(Misread::new(wrong, format!("set {name} for Howdah, or write $${{ for a plain ${{")));
        };
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Splits `NAME}rest` into name and rest.
fn variable(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('}')?;
    let valid = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    valid.then_some((name, rest))
}

/// Reads a secret from a file, without the line end that editors put after it.
pub(super) fn from_file(path: &Path) -> Result<String, Misread> {
    /// A password is never longer; what is was meant for something else.
    const LONGEST: u64 = 64 * 1024;
    const RIGHT: &str = "name a readable file with nothing but the secret, relative to the configuration's directory";
    let unreadable = |reason: String| Misread::new(format!("refers to a file that cannot be read ({reason})"), RIGHT);

    // A pipe or a device might never end.
    let metadata = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unreadable("not a regular file".to_owned()));
    }
    if metadata.len() > LONGEST {
        return Err(unreadable("larger than 64 KiB".to_owned()));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let kept = line.strip_suffix('\r').unwrap_or(line).len();
    text.truncate(kept);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn forms() {
        let check = |text: &str, form: Form| assert_eq!(Secret::new(text).form(), form, "{text}");
        check("hunter2", Form::Clear);
        check("md5", Form::Clear);
        check("md55d41402abc4b2a76b9719d911017c592", Form::Md5);
        check("md55D41402ABC4B2A76B9719D911017C592", Form::Clear);
        check(VERIFIER, Form::Scram);
        check("SCRAM-SHA-256$4096:salt$stored:server", Form::Clear);
    }

    #[test]
    fn what_looks_like_a_hash_must_be_one() {
        let check = |text: &str| check_form(&Secret::new(text)).map_err(|misread| misread.wrong);
        for good in ["hunter2", "md5isold", "md5", VERIFIER, "md55d41402abc4b2a76b9719d911017c592"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for hash in ["md55d41402abc4b2a76b9719d911017c59", "md55D41402ABC4B2A76B9719D911017C592"] {
            assert_eq!(check(hash), Err("begins like an MD5 hash and is not one".to_owned()), "{hash}");
        }
        for verifier in
            ["SCRAM-SHA-256$", "SCRAM-SHA-256$0:c2FsdA==$a:b", &VERIFIER[..90], &VERIFIER.replace("4096", "x")]
        {
            assert_eq!(check(verifier), Err("begins like a SCRAM verifier and is not one".to_owned()), "{verifier}");
        }
    }

    #[test]
    fn variables() {
        let environment = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "B_2" => Some("${A}".to_owned()),
            _ => None,
        };
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &environment).as_deref(), Ok(expected));
        check("", "");
        check("plain $5 {A} $A", "plain $5 {A} $A");
        check("${A}", "one");
        check("x${A}y${A}", "xoneyone");
        check("${B_2}", "${A}");
        check("$${A}", "${A}");
        check("pa$$word", "pa$$word");
        let refuse =
            |text: &str, wrong: &str| assert_eq!(expand(text, &environment).unwrap_err().wrong, wrong, "{text}");
        refuse("${C}", "refers to the environment variable C, which is not set");
        refuse("${A", "has a `${` that begins no `${NAME}`");
        refuse("${}", "has a `${` that begins no `${NAME}`");
        refuse("${a b}", "has a `${` that begins no `${NAME}`");
        refuse("${1A}", "has a `${` that begins no `${NAME}`");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }
}
