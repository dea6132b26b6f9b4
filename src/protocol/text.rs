//! Zero-terminated strings inside messages.

/// Splits `body` after its first zero byte: the string before it, and the rest.
#[must_use]
pub fn split_cstr(body: &[u8]) -> Option<(&[u8], &[u8])> {
    // A word at a time, unlike a search for a byte.
    let text = std::ffi::CStr::from_bytes_until_nul(body).ok()?.to_bytes();
    Some((text, &body[text.len() + 1..]))
}

/// Quotes `name` as an SQL identifier.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes `value` as an SQL string literal that means the same whatever `standard_conforming_strings` says.
#[must_use]
pub fn quote_literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\b"), " E'a\\\\b'");
    }

    #[test]
    fn splits_at_the_first_zero() {
        assert_eq!(split_cstr(b"ab\0cd\0"), Some((&b"ab"[..], &b"cd\0"[..])));
        assert_eq!(split_cstr(b"ab"), None);
    }
}
