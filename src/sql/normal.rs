//! The normal form of a text: one space between tokens, comments gone, words in lower case, literals alike.
//!
//! The fingerprint is a hash of this form and the parser is given this form, never the text itself. So two texts
//! of one fingerprint have one class by construction, and the parser's idea of where strings and comments
//! end cannot differ from PostgreSQL's. What the scanner cannot judge becomes a byte that no parser accepts.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::{FixedState, FoldHasher};

use super::scan::{Kind, Quote, Scanner, Token};

/// How many `, literal` in a row are kept: an IN list has one fingerprint however long it is. Functions
/// with this many arguments are judged by all their overloads, so that the class cannot depend on the count.
pub(super) const LIST_LIMIT: usize = 8;

/// The 64-bit hash of the normal form.
pub(super) fn fingerprint(text: &[u8], seed: u64) -> u64 {
    let mut digest = Digest { buffer: [0; 512], used: 0, hasher: FixedState::with_seed(seed).build_hasher() };
    write(text, &mut digest);
    digest.hasher.write(&digest.buffer[..digest.used]);
    digest.hasher.finish()
}

/// A hash that texts share only if they have one normal form, and that takes no lexer: of the text as it stands, but for
/// whole numbers, which are alike. `None` for texts with strings, comments or anything else that needs one.
pub(super) fn sketch(text: &[u8], seed: u64) -> Option<u64> {
    let mut hasher = FixedState::with_seed(!seed).build_hasher();
    let (mut start, mut at) = (0, 0);
    while let Some(&byte) = text.get(at) {
        match SKETCHED[usize::from(byte)] {
            Sketched::Pair if text.get(at + 1).is_some_and(|next| is_comment(byte, *next)) => return None,
            Sketched::Copied | Sketched::Pair => at += 1,
            // `$1`, but neither `$$` nor `$tag$`.
            Sketched::Dollar if text.get(at + 1).is_some_and(u8::is_ascii_digit) => at += 1,
            Sketched::Dollar | Sketched::Lexed => return None,
            Sketched::Digit => {
                let length = text[at..].iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len() - at);
                let end = at + length;
                let before = at.checked_sub(1).and_then(|before| text.get(before)).copied();
                if !before.is_some_and(is_number_or_name) && !text.get(end).copied().is_some_and(is_number_or_name) {
                    hasher.write(&text[start..at]);
                    hasher.write_u8(b'1');
                    start = end;
                }
                at = end;
            }
        }
    }
    hasher.write(&text[start..]);
    Some(hasher.finish())
}

/// What [`sketch`] does with a byte.
#[derive(Clone, Copy)]
enum Sketched {
    /// It stands for itself.
    Copied,
    /// It may be part of a number of its own.
    Digit,
    /// With the next byte it may begin a comment.
    Pair,
    Dollar,
    /// It takes a lexer.
    Lexed,
}

const SKETCHED: [Sketched; 256] = {
    let mut table = [Sketched::Lexed; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = match byte {
            b'0'..=b'9' => Sketched::Digit,
            b'-' | b'/' => Sketched::Pair,
            b'$' => Sketched::Dollar,
            b'\'' | b'"' | b'\\' => Sketched::Lexed,
            b' '..=b'~' | b'\t' | b'\n' | b'\r' => Sketched::Copied,
            _ => Sketched::Lexed,
        };
        byte += 1;
    }
    table
};

/// Whether a byte beside digits makes them part of something longer.
const fn is_number_or_name(byte: u8) -> bool {
    matches!(byte, b'.' | b'_' | b'$') || byte.is_ascii_alphanumeric()
}

const fn is_comment(first: u8, second: u8) -> bool {
    matches!((first, second), (b'-', b'-') | (b'/', b'*'))
}

/// The normal form itself; `None` when the text is not UTF-8 outside its literals and comments.
#[must_use]
pub fn text(source: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(source.len() + source.len() / 4);
    write(source, &mut bytes);
    String::from_utf8(bytes).ok()
}

/// Where the normal form is written to.
trait Sink {
    fn push(&mut self, byte: u8);
    fn extend(&mut self, bytes: &[u8]);
    fn extend_lower(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn push(&mut self, byte: u8) {
        Self::push(self, byte);
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn extend_lower(&mut self, bytes: &[u8]) {
        Extend::extend(self, bytes.iter().map(u8::to_ascii_lowercase));
    }
}

/// Hashes in pieces of one size, so that the hash depends on the bytes alone.
struct Digest {
    buffer: [u8; 512],
    used: usize,
    hasher: FoldHasher<'static>,
}

impl Digest {
    fn flush(&mut self) {
        self.hasher.write(&self.buffer[..self.used]);
        self.used = 0;
    }

    /// Room for `length` bytes that the buffer has without a flush; a flush before it is full would make the hash
    /// depend on how the bytes came.
    fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        let room = self.buffer.get_mut(self.used..self.used + length)?;
        self.used += length;
        Some(room)
    }
}

impl Sink for Digest {
    #[inline]
    fn push(&mut self, byte: u8) {
        if self.used == self.buffer.len() {
            self.flush();
        }
        self.buffer[self.used] = byte;
        self.used += 1;
    }

    #[inline]
    fn extend(&mut self, bytes: &[u8]) {
        match self.room(bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => bytes.iter().for_each(|byte| self.push(*byte)),
        }
    }

    #[inline]
    fn extend_lower(&mut self, bytes: &[u8]) {
        match self.room(bytes.len()) {
            Some(room) => {
                for (to, from) in room.iter_mut().zip(bytes) {
                    *to = from.to_ascii_lowercase();
                }
            }
            None => bytes.iter().for_each(|byte| self.push(byte.to_ascii_lowercase())),
        }
    }
}

/// What came before the token at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that matters.
    Nothing,
    /// The name `current_setting`.
    CurrentSetting,
    /// `current_setting (`.
    CurrentSettingOpen,
    /// A literal, and how many of its list came before it.
    Literal(usize),
    /// A literal and a comma that is not written yet.
    Comma(usize),
}

fn write(source: &[u8], sink: &mut impl Sink) {
    let mut before = Before::Nothing;
    for token in Scanner::new(source) {
        if let (Before::Literal(count), Kind::Punctuation, b",") = (before, token.kind, token.bytes(source)) {
            before = Before::Comma(count);
            continue;
        }
        if matches!(token.kind, Kind::Text(Quote::Ambiguous) | Kind::Bad) {
            sink.push(BAD);
            before = Before::Nothing;
            continue;
        }
        before = if let Some(form) = literal(source, token, before) {
            write_literal(before, form, token, sink)
        } else {
            if matches!(before, Before::Comma(_)) {
                sink.extend(b" ,");
            }
            write_other(source, token, sink);
            after_other(source, token, before)
        };
    }
    if matches!(before, Before::Comma(_)) {
        sink.extend(b" ,");
    }
}

/// What stands for a literal; `None` for other tokens.
fn literal(source: &[u8], token: Token, before: Before) -> Option<&'static [u8]> {
    match token.kind {
        Kind::Text(_) if before == Before::CurrentSettingOpen && names_custom_setting(source, token) => {
            Some(CUSTOM_SETTING.as_bytes())
        }
        Kind::Text(_) => Some(b"'x'"),
        Kind::Number => Some(b"1"),
        Kind::Parameter => Some(b"$1"),
        _ => None,
    }
}

fn write_literal(before: Before, form: &[u8], token: Token, sink: &mut impl Sink) -> Before {
    let count = match before {
        // `'a' 'b'` on two lines is one literal.
        Before::Literal(count) if matches!(token.kind, Kind::Text(_)) => return Before::Literal(count),
        Before::Comma(count) if count >= LIST_LIMIT => return Before::Literal(count),
        Before::Comma(count) => {
            sink.extend(b" ,");
            count + 1
        }
        _ => 0,
    };
    sink.push(b' ');
    sink.extend(form);
    Before::Literal(count)
}

/// Bytes of names that need no quotes, `$` aside.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_';
        byte += 1;
    }
    table
};

fn write_other(source: &[u8], token: Token, sink: &mut impl Sink) {
    let bytes = token.bytes(source);
    sink.push(b' ');
    if token.kind != Kind::Word {
        sink.extend(bytes);
    } else if bytes.iter().all(|byte| PLAIN[usize::from(*byte)]) {
        sink.extend_lower(bytes);
    } else {
        // No keyword has such bytes, and between quotes nobody takes them for anything but a name.
        sink.push(b'"');
        sink.extend_lower(bytes);
        sink.push(b'"');
    }
}

fn after_other(source: &[u8], token: Token, before: Before) -> Before {
    if token.kind == Kind::Word && token.end - token.start == 15 && token.is_word(source, "current_setting") {
        return Before::CurrentSetting;
    }
    if before == Before::CurrentSetting && token.is_mark(source, "(") {
        return Before::CurrentSettingOpen;
    }
    Before::Nothing
}

/// Whether a string constant is the name of a setting of the application's own (`app.tenant`): such settings follow
/// the client to every node, while others may be the node's.
fn names_custom_setting(source: &[u8], token: Token) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    token.string(source).is_some_and(|name| name.contains('.') && name.bytes().all(plain))
}

/// Stands for every custom setting's name.
pub(super) const CUSTOM_SETTING: &str = "'custom.setting'";

/// Stands for what the scanner cannot judge; the parser refuses it.
const BAD: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(source: &str, expect: &str) {
        assert_eq!(text(source.as_bytes()).unwrap().trim_start(), expect, "{source}");
    }

    #[test]
    fn writes_one_form() {
        check("SELECT  *\nFROM \"T\" -- x\n WHERE a=-1 AND b='it''s'", "select * from \"T\" where a = - 1 and b = 'x'");
        check("select a.b::INT4, $12, 1.5e3", "select a . b :: int4 , $1 , 1");
        check("select e'a', $$b$$, B'1', U&'x'", "select 'x' , 'x' , 'x' , 'x'");
        check("select 'a'\n'b', 'c'", "select 'x' , 'x'");
        check("select wört, foo$1", "select \"wört\" , \"foo$1\"");
        check(r"select 'a\', 1", "select\u{1} , 1");
        check("select 'abc", "select\u{1}");
        check("select current_setting('app.tenant', true)", "select current_setting ( 'custom.setting' , true )");
        check("select current_setting('port')", "select current_setting ( 'x' )");
        check("select current_setting('a.b'||'c')", "select current_setting ( 'custom.setting' || 'x' )");
        check("(1,2,3,4,5,6,7,8,9,10,11,12)", "( 1 , 1 , 1 , 1 , 1 , 1 , 1 , 1 , 1 )");
        check("(1,2,3,4,5,6,7,8,9,10,x)", "( 1 , 1 , 1 , 1 , 1 , 1 , 1 , 1 , 1 , x )");
        check("1,", "1 ,");
        check("1,;", "1 , ;");
    }

    proptest! {
        #[test]
        fn texts_of_one_sketch_have_one_form(
            pieces in prop::collection::vec(
                (prop::sample::select(vec![
                    "a", "a1", " ", ",", "(", ")", "-", "--", "/", "/*", "*/", ".", "_", "$", "$$", "'", "\"", "e", "E'", "::", "0x",
                    "\n", "<", "current_setting", "é", "\\",
                ]), any::<bool>(), 0u32..1000, 0u32..1000),
                0..12,
            ),
        ) {
            let (mut one, mut other) = (String::new(), String::new());
            for (text, number, first, second) in pieces {
                one.push_str(text);
                other.push_str(text);
                if number {
                    one.push_str(&first.to_string());
                    other.push_str(&second.to_string());
                }
            }
            let (of_one, of_other) = (sketch(one.as_bytes(), 7), sketch(other.as_bytes(), 7));
            if of_one.is_some() && of_one == of_other {
                prop_assert_eq!(text(one.as_bytes()), text(other.as_bytes()), "{} | {}", one, other);
            }
        }
    }

    #[test]
    fn numbers_of_their_own_make_no_difference_to_a_sketch() {
        let of = |text: &str| sketch(text.as_bytes(), 7);
        assert!(of("SELECT abalance FROM t WHERE aid = 12345;").is_some());
        assert_eq!(of("SELECT abalance FROM t WHERE aid = 12345;"), of("SELECT abalance FROM t WHERE aid = 7;"));
        assert_eq!(of("select a+1,$1-2"), of("select a+17,$1-3"));
        for (one, other) in
            [("select a1", "select a2"), ("select $1", "select $2"), ("select ", "select 1"), ("1.5", "1.6")]
        {
            assert_ne!(of(one), of(other), "{one} {other}");
        }
        for long_way in
            ["select 'a'", "select \"a\"", "select 1 -- x", "/* x */ select 1", "select $$a$$", "select é", "a\\b"]
        {
            assert_eq!(of(long_way), None, "{long_way}");
        }
        assert_ne!(of("select 1"), sketch(b"select 1", 8));
    }

    #[test]
    fn one_shape_one_fingerprint() {
        let print = |text: &str| fingerprint(text.as_bytes(), 7);
        assert_eq!(print("SELECT 1"), print("/* x */ select\n2--y"));
        assert_eq!(print("select a in (1,2,3,4,5,6,7,8,9,10)"), print("select a in (1,2,3,4,5,6,7,8,9,10,11)"));
        assert_ne!(print("select a"), print("select b"));
        assert_ne!(print("select ab"), print("select a b"));
        assert_ne!(print("select 'a'"), print("select a"));
        assert_ne!(print("select \"A\""), print("select A"));
        assert_ne!(print("select 1"), fingerprint(b"select 1", 8));
        let long = format!("select {}", "a,".repeat(1000));
        assert_ne!(print(&format!("{long}b")), print(&format!("{long}c")));
    }

    proptest! {
        #[test]
        fn the_normal_form_of_a_normal_form_is_itself(source in r#"[a-zA-Z0-9_'"$()*/+\-<>=!|,.;: \n\\é]{0,80}"#) {
            let once = text(source.as_bytes()).unwrap();
            let twice = text(once.as_bytes()).unwrap();
            if !once.contains('\u{1}') {
                prop_assert_eq!(&once, &twice);
            }
            prop_assert_eq!(fingerprint(once.as_bytes(), 1), fingerprint(twice.as_bytes(), 1));
        }

        #[test]
        fn any_bytes_have_a_fingerprint(source in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut form = Vec::new();
            write(&source, &mut form);
            let mut hasher = FixedState::with_seed(3).build_hasher();
            let pieces = form.chunks(512).chain(form.is_empty().then_some(&form[..]));
            pieces.for_each(|piece| hasher.write(piece));
            prop_assert_eq!(fingerprint(&source, 3), hasher.finish());
        }
    }
}
