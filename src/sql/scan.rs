//! PostgreSQL's lexer in one pass over bytes: where each token starts and ends, and no more.
//!
//! Follows src/backend/parser/scan.l. It allocates nothing, never fails and knows no grammar: bytes
//! that PostgreSQL would refuse come out as [`Kind::Bad`].

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or an identifier without quotes.
    Word,
    /// `"…"`, quotes included.
    Quoted,
    /// A string constant, quotes and prefix included.
    Text(Quote),
    /// `1`, `1.5e-3`, `0x1F`, `1_000`.
    Number,
    /// `$1`.
    Parameter,
    /// `+`, `->>`, `::`, `:=`, `..`.
    Operator,
    /// One of `( ) [ ] , ; . :`.
    Punctuation,
    /// What PostgreSQL's lexer refuses, or what this one does not judge (`U&"…"`).
    Bad,
}

/// How a string constant is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quote {
    /// `'…'` whose end does not depend on `standard_conforming_strings`.
    Plain,
    /// `'…'` with a backslash in front of a quote: where it ends depends on `standard_conforming_strings`.
    Ambiguous,
    /// `E'…'`.
    Escape,
    /// `$$…$$`, `$tag$…$tag$`.
    Dollar,
    /// `B'…'`, `X'…'`, `N'…'`, `U&'…'`.
    Other,
}

/// A token as a span of the text: `start < end <= text.len()`, and tokens never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it starts.
    pub start: usize,
    /// Where it ends (exclusive).
    pub end: usize,
}

/// The tokens of a text in order; comments and white space are passed over.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// What a byte can begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    Space,
    Letter,
    Digit,
    Operator,
    Punctuation,
    Quote,
    DoubleQuote,
    Dollar,
    Bad,
}

// === impl Token ===

impl Token {
    /// The token's bytes.
    #[must_use]
    pub fn bytes<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start..self.end]
    }

    /// Whether it is this unquoted word, given in lower case.
    #[must_use]
    pub fn is_word(&self, text: &[u8], word: &str) -> bool {
        self.kind == Kind::Word && self.bytes(text).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether it is this operator or punctuation mark.
    #[must_use]
    pub fn is_mark(&self, text: &[u8], mark: &str) -> bool {
        matches!(self.kind, Kind::Operator | Kind::Punctuation) && self.bytes(text) == mark.as_bytes()
    }

    /// Whether it is this name, given in lower case, with or without quotes.
    #[must_use]
    pub fn is_name(&self, text: &[u8], name: &str) -> bool {
        match self.kind {
            Kind::Word => self.bytes(text).eq_ignore_ascii_case(name.as_bytes()),
            Kind::Quoted => text[self.start + 1..self.end - 1] == *name.as_bytes(),
            _ => false,
        }
    }

    /// The identifier it names: unquoted words folded to lower case as PostgreSQL does (ASCII only), cut to
    /// the 63 bytes of `NAMEDATALEN`; `None` for anything but a name.
    #[must_use]
    pub fn identifier(&self, text: &[u8]) -> Option<String> {
        let mut name = match self.kind {
            Kind::Word => std::str::from_utf8(self.bytes(text)).ok()?.to_ascii_lowercase(),
            Kind::Quoted => std::str::from_utf8(&text[self.start + 1..self.end - 1]).ok()?.replace("\"\"", "\""),
            _ => return None,
        };
        let mut end = name.len().min(63);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        Some(name)
    }

    /// The value of a string constant; `None` for other tokens, and for forms whose value is not certain here
    /// (`U&'…'`, bit strings, `'…\'`, escapes that PostgreSQL refuses).
    #[must_use]
    pub fn string(&self, text: &[u8]) -> Option<String> {
        let Kind::Text(quote) = self.kind else { return None };
        let source = std::str::from_utf8(self.bytes(text)).ok()?;
        match quote {
            Quote::Plain => Some(source.get(1..source.len().checked_sub(1)?)?.replace("''", "'")),
            Quote::Escape => unescape(source.get(2..source.len().checked_sub(1)?)?),
            Quote::Dollar => {
                let tag = source[1..].find('$')? + 2;
                Some(source.get(tag..source.len().checked_sub(tag)?)?.to_owned())
            }
            Quote::Ambiguous | Quote::Other => None,
        }
    }
}

// === impl Scanner ===

impl<'a> Scanner<'a> {
    /// Starts at the beginning of `text`.
    #[must_use]
    pub const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self, offset: usize) -> u8 {
        self.text.get(self.at + offset).copied().unwrap_or(0)
    }

    /// Passes over white space and comments.
    fn skip_blank(&mut self) {
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.peek(1) == b'-' => self.at += line_comment(&self.text[self.at..]),
                b'/' if self.peek(1) == b'*' => match block_comment(&self.text[self.at..]) {
                    Some(length) => self.at += length,
                    None => return,
                },
                _ => return,
            }
        }
    }

    fn word(&mut self) -> Kind {
        let prefix = self.text[self.at] | 0x20;
        let next = self.peek(1);
        if next == b'\'' && matches!(prefix, b'e' | b'b' | b'x' | b'n') {
            self.at += 1;
            return if prefix == b'e' { self.escape_string() } else { self.plain_string(Quote::Other) };
        }
        if prefix == b'u' && next == b'&' && matches!(self.peek(2), b'\'' | b'"') {
            self.at += 2;
            if self.text[self.at] == b'\'' {
                return self.plain_string(Quote::Other);
            }
            self.quoted();
            return Kind::Bad;
        }
        let rest = &self.text[self.at + 1..];
        let length = rest.iter().position(|byte| !WORD_PART[usize::from(*byte)]).unwrap_or(rest.len());
        self.at += 1 + length;
        Kind::Word
    }

    /// `'…'`, where `''` stands for one quote.
    fn plain_string(&mut self, quote: Quote) -> Kind {
        let mut ambiguous = false;
        self.at += 1;
        loop {
            let Some(length) = find(&self.text[self.at..], b'\'') else {
                self.at = self.text.len();
                return Kind::Bad;
            };
            self.at += length + 1;
            ambiguous |= self.text[self.at - 2] == b'\\';
            if self.peek(0) != b'\'' {
                break;
            }
            self.at += 1;
        }
        if ambiguous && quote == Quote::Plain { Kind::Text(Quote::Ambiguous) } else { Kind::Text(quote) }
    }

    /// `E'…'` from its quote on: a backslash takes the next byte with it.
    fn escape_string(&mut self) -> Kind {
        self.at += 1;
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.at = (self.at + 1).min(self.text.len()),
                b'\'' if self.peek(0) == b'\'' => self.at += 1,
                b'\'' => return Kind::Text(Quote::Escape),
                _ => {}
            }
        }
        Kind::Bad
    }

    /// `"…"`, where `""` stands for one quote.
    fn quoted(&mut self) -> Kind {
        self.at += 1;
        while let Some(length) = find(&self.text[self.at..], b'"') {
            self.at += length + 1;
            if self.peek(0) != b'"' {
                return Kind::Quoted;
            }
            self.at += 1;
        }
        self.at = self.text.len();
        Kind::Bad
    }

    /// `$1`, `$$…$$`, `$tag$…$tag$`.
    fn dollar(&mut self) -> Kind {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_ascii_digit() {
            self.digits();
            return Kind::Parameter;
        }
        let mut end = self.at;
        while self.text.get(end).is_some_and(|byte| is_word_part(*byte) && *byte != b'$') {
            end += 1;
        }
        if self.text.get(end) != Some(&b'$') {
            return Kind::Bad;
        }
        let tag = &self.text[start..=end];
        self.at = end + 1;
        while let Some(length) = find(&self.text[self.at..], b'$') {
            self.at += length;
            if self.text[self.at..].starts_with(tag) {
                self.at += tag.len();
                return Kind::Text(Quote::Dollar);
            }
            self.at += 1;
        }
        self.at = self.text.len();
        Kind::Bad
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() || (self.peek(0) == b'_' && self.peek(1).is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// A number; letters that follow it are a word of their own, as in PostgreSQL before 15 (`SELECT 1union`).
    fn number(&mut self) -> Kind {
        let radix = self.peek(1) | 0x20;
        let digit = self.peek(2);
        if self.peek(0) == b'0' && matches!(radix, b'x' | b'o' | b'b') && digit.is_ascii_hexdigit() {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() || self.peek(0) == b'_' {
                self.at += 1;
            }
            return Kind::Number;
        }
        self.digits();
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            self.at += 1;
            self.digits();
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if self.peek(0) | 0x20 == b'e' && self.peek(1 + sign).is_ascii_digit() {
            self.at += 1 + sign;
            self.digits();
        }
        Kind::Number
    }

    /// The longest run of operator characters that holds no comment, without a trailing `+` or `-` unless
    /// the operator has a character that no SQL operator has (scan.l, rule `operator`).
    fn operator(&mut self) -> Kind {
        let rest = &self.text[self.at..];
        let mut length = 1;
        while rest.get(length).is_some_and(|byte| BYTES[usize::from(*byte)] == Byte::Operator) {
            let pair = &rest[length..rest.len().min(length + 2)];
            if pair == b"--" || pair == b"/*" {
                break;
            }
            length += 1;
        }
        let unusual = |byte: &u8| matches!(byte, b'~' | b'!' | b'@' | b'#' | b'%' | b'^' | b'&' | b'|' | b'`' | b'?');
        while length > 1 && matches!(rest[length - 1], b'+' | b'-') && !rest[..length - 1].iter().any(unusual) {
            length -= 1;
        }
        self.at += length;
        Kind::Operator
    }

    fn punctuation(&mut self) -> Kind {
        let (first, next) = (self.text[self.at], self.peek(1));
        if first == b'.' && next.is_ascii_digit() {
            return self.number();
        }
        if matches!((first, next), (b':', b':' | b'=') | (b'.', b'.')) {
            self.at += 2;
            return Kind::Operator;
        }
        self.at += 1;
        Kind::Punctuation
    }
}

impl Iterator for Scanner<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        self.skip_blank();
        let start = self.at;
        let byte = *self.text.get(start)?;
        let kind = match BYTES[usize::from(byte)] {
            Byte::Letter => self.word(),
            Byte::Digit => self.number(),
            Byte::Punctuation => self.punctuation(),
            // Only an unterminated comment is left for an operator to begin with.
            Byte::Operator if byte == b'/' && self.peek(1) == b'*' => {
                self.at = self.text.len();
                Kind::Bad
            }
            Byte::Operator => self.operator(),
            Byte::Quote => self.plain_string(Quote::Plain),
            Byte::DoubleQuote => self.quoted(),
            Byte::Dollar => self.dollar(),
            Byte::Space | Byte::Bad => {
                self.at += 1;
                Kind::Bad
            }
        };
        Some(Token { kind, start, end: self.at })
    }
}

/// How long the `--` comment is that `text` begins with.
pub(super) fn line_comment(text: &[u8]) -> usize {
    text.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(text.len())
}

/// How long the `/* … */` comment is that `text` begins with, comments within it included; `None` when it does not end.
pub(super) fn block_comment(text: &[u8]) -> Option<usize> {
    let mut depth = 1_usize;
    let mut at = 2;
    while depth > 0 {
        match (text.get(at)?, text.get(at + 1)?) {
            (b'/', b'*') => {
                depth += 1;
                at += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    Some(at)
}

fn find(text: &[u8], byte: u8) -> Option<usize> {
    text.iter().position(|other| *other == byte)
}

const fn is_word_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// The value of the inside of `E'…'`.
fn unescape(source: &str) -> Option<String> {
    let mut value = String::with_capacity(source.len());
    let mut rest = source.chars();
    while let Some(char) = rest.next() {
        match char {
            '\'' => {
                rest.next();
                value.push('\'');
            }
            '\\' => match rest.next()? {
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                // Numeric escapes make bytes, which need not be characters: nobody writes settings so.
                '0'..='7' | 'x' | 'u' | 'U' => return None,
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    Some(value)
}

/// [`is_word_part`] of every byte: most bytes of a statement are asked for it.
const WORD_PART: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = is_word_part(byte);
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

const BYTES: [Byte; 256] = {
    let mut table = [Byte::Bad; 256];
    let mut index = 0;
    while index < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "the loop ends at 256, and const code has no TryFrom")]
        let byte = index as u8;
        table[index] = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Byte::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => Byte::Letter,
            b'0'..=b'9' => Byte::Digit,
            b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' | b'~' | b'!' | b'@' | b'#' | b'%' | b'^' | b'&' | b'|'
            | b'`' | b'?' => Byte::Operator,
            b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':' => Byte::Punctuation,
            b'\'' => Byte::Quote,
            b'"' => Byte::DoubleQuote,
            b'$' => Byte::Dollar,
            _ => Byte::Bad,
        };
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<(Kind, &str)> {
        Scanner::new(text.as_bytes()).map(|token| (token.kind, &text[token.start..token.end])).collect()
    }

    fn check(text: &str, expect: &[&str]) {
        assert_eq!(tokens(text).iter().map(|(_, text)| *text).collect::<Vec<_>>(), expect, "{text}");
    }

    #[test]
    fn splits_as_postgresql_does() {
        check("SELECT 1", &["SELECT", "1"]);
        check("a.b,c;d", &["a", ".", "b", ",", "c", ";", "d"]);
        check("a/* x /* y */ z */b", &["a", "b"]);
        check("a--b\nc--d\re", &["a", "c", "e"]);
        check("a=-1", &["a", "=", "-", "1"]);
        check("a<@-1", &["a", "<@-", "1"]);
        check("a@-b", &["a", "@-", "b"]);
        check("a*--c\nb", &["a", "*", "b"]);
        check("a+/*c*/b", &["a", "+", "b"]);
        check("1..2", &["1", "..", "2"]);
        check("1.5e-3+.5e5+1.", &["1.5e-3", "+", ".5e5", "+", "1."]);
        check("1union 1e 0x1F 1_000 0b1", &["1", "union", "1", "e", "0x1F", "1_000", "0b1"]);
        check("$1$2 $12a", &["$1", "$2", "$12", "a"]);
        check("foo$1 _x é", &["foo$1", "_x", "é"]);
        check("x::int:=y=>z:w", &["x", "::", "int", ":=", "y", "=>", "z", ":", "w"]);
        check(r#""a""b" "c""#, &[r#""a""b""#, r#""c""#]);
        check("'it''s' 'x'", &["'it''s'", "'x'"]);
        check(r"'a\' b", &[r"'a\'", "b"]);
        check(r"E'a\'b' e'\\' c", &[r"E'a\'b'", r"e'\\'", "c"]);
        check("$$a'b$$ $x$ $$ $y$ $x$ z", &["$$a'b$$", "$x$ $$ $y$ $x$", "z"]);
        check("B'01' x'1F' N'a' U&'d' U&\"d\" n 'b'", &["B'01'", "x'1F'", "N'a'", "U&'d'", "U&\"d\"", "n", "'b'"]);
    }

    #[test]
    fn marks_what_cannot_be_judged() {
        for (text, kind) in [
            (r"'\'", Kind::Text(Quote::Ambiguous)),
            (r"'\'' x'", Kind::Text(Quote::Ambiguous)),
            (r"'a\b'", Kind::Text(Quote::Plain)),
            (r"E'\''", Kind::Text(Quote::Escape)),
            ("'abc", Kind::Bad),
            ("\"abc", Kind::Bad),
            (r"E'abc\", Kind::Bad),
            ("$x$abc", Kind::Bad),
            ("/* abc", Kind::Bad),
            ("/* a /* b */", Kind::Bad),
            ("U&\"abc\"", Kind::Bad),
            ("\\", Kind::Bad),
            ("{", Kind::Bad),
            ("\u{1}", Kind::Bad),
        ] {
            assert_eq!(tokens(text), [(kind, text)]);
        }
        assert_eq!(tokens("$x")[0].0, Kind::Bad);
        assert_eq!(tokens("  -- nothing"), []);
    }

    #[test]
    fn reads_names_and_strings() {
        let one = |text: &str| Scanner::new(text.as_bytes()).next().unwrap();
        for (text, name) in [("FooBar", "foobar"), ("\"Foo\"\"Bar\"", "Foo\"Bar"), ("Éa", "Éa")] {
            assert_eq!(one(text).identifier(text.as_bytes()).as_deref(), Some(name));
        }
        let long = "ä".repeat(40);
        assert_eq!(one(&long).identifier(long.as_bytes()).unwrap().len(), 62);
        for (text, value) in [
            ("'it''s'", Some("it's")),
            (r"E'a\n\'\\''b'", Some("a\n'\\'b")),
            (r"E'\x41'", None),
            ("$$a$$", Some("a")),
            ("$tag$$a$tag$", Some("$a")),
            ("''", Some("")),
            ("U&'a'", None),
            (r"'a\'", None),
            ("abc", None),
        ] {
            assert_eq!(one(text).string(text.as_bytes()).as_deref(), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn tokens_are_in_order_and_within_the_text(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut last = 0;
            for token in Scanner::new(&text) {
                prop_assert!(token.start >= last && token.end > token.start && token.end <= text.len());
                last = token.end;
                let _ = (token.identifier(&text), token.string(&text));
            }
        }

        #[test]
        fn quoting_soup_never_panics(text in r#"['"$a-z/*\\E&U;()\-\n0-9.eB ]{0,60}"#) {
            for token in Scanner::new(text.as_bytes()) {
                let _ = (token.identifier(text.as_bytes()), token.string(text.as_bytes()));
            }
        }
    }
}
