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

/// The normal form itself; `None` when the text is not UTF-8 outside its literals and comments.
pub(super) fn text(source: &[u8]) -> Option<String> {
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
