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
    let mut digest = Digest { hasher: FixedState::with_seed(seed).build_hasher() };
    write(text, &mut digest);
    digest.hasher.finish()
}

/// The normal form itself; `None` when the text is not UTF-8 outside its literals and comments.
pub(super) fn text(source: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(source.len() + source.len() / 4);
    write(source, &mut bytes);
    String::from_utf8(bytes).ok().map(spell_out_tables)
}

/// The parser does not know `TABLE t`, which is short for `SELECT * FROM t`. TABLE is reserved: in a query it is that, or the
/// name of a column after AS or a dot, or part of INTO.
fn spell_out_tables(normal: String) -> String {
    if !normal.contains(" table ") {
        return normal;
    }
    let mut spelt = String::with_capacity(normal.len() + 16);
    let mut before = "";
    let mut quoted = false;
    for word in normal.split(' ') {
        let is_command = word == "table" && !quoted && !["as", ".", "into", "temp", "temporary"].contains(&before);
        spelt.push_str(if is_command { "select * from" } else { word });
        spelt.push(' ');
        quoted ^= word.bytes().filter(|byte| *byte == b'"').count() % 2 == 1;
        before = word;
    }
    spelt
}

/// What stands for a literal, or for what the scanner cannot judge.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Number,
    Parameter,
    CustomSetting,
    Bad,
}

/// Where the normal form is written to, a token at a time.
trait Sink {
    /// A word, to be folded.
    fn word(&mut self, bytes: &[u8]);
    /// A quoted name, an operator or a punctuation mark.
    fn verbatim(&mut self, bytes: &[u8]);
    fn form(&mut self, form: Form);
}

impl Sink for Vec<u8> {
    fn word(&mut self, bytes: &[u8]) {
        // No keyword has other bytes than these, and between quotes nobody takes them for anything but a name.
        let plain = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let quote: &[u8] = if plain { b"" } else { b"\"" };
        self.push(b' ');
        self.extend_from_slice(quote);
        self.extend(bytes.iter().map(u8::to_ascii_lowercase));
        self.extend_from_slice(quote);
    }

    fn verbatim(&mut self, bytes: &[u8]) {
        self.push(b' ');
        self.extend_from_slice(bytes);
    }

    fn form(&mut self, form: Form) {
        let bytes = match form {
            Form::Text => "'x'",
            Form::Number => "1",
            Form::Parameter => "$1",
            Form::CustomSetting => CUSTOM_SETTING,
            Form::Bad => "\u{1}",
        };
        self.verbatim(bytes.as_bytes());
    }
}

/// Hashes what determines the normal form: for each token its kind, its length and its folded bytes.
struct Digest {
    hasher: FoldHasher<'static>,
}

impl Digest {
    /// Bytes in words of eight; the last overlaps the one before it, which the length makes unambiguous.
    #[inline]
    fn bytes(&mut self, kind: u64, bytes: &[u8], fold: u64) {
        self.hasher.write_u64(kind | (bytes.len() as u64) << 8);
        if let Some(last) = bytes.last_chunk::<8>() {
            let (words, rest) = bytes.as_chunks::<8>();
            for word in words {
                self.hasher.write_u64(u64::from_le_bytes(*word) | fold);
            }
            if !rest.is_empty() {
                self.hasher.write_u64(u64::from_le_bytes(*last) | fold);
            }
        } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            self.hasher.write_u64(u64::from(first) | u64::from(last) << 32 | fold);
        } else if let (Some(first), Some(last)) = (bytes.first(), bytes.last()) {
            let [first, middle, last] = [*first, bytes[bytes.len() / 2], *last].map(u64::from);
            self.hasher.write_u64(first | middle << 8 | last << 16 | fold);
        }
    }
}

impl Sink for Digest {
    #[inline]
    fn word(&mut self, bytes: &[u8]) {
        // One bit folds the letters and keeps the other bytes of ASCII words apart (`_`, `$` and digits).
        if bytes.is_ascii() {
            self.bytes(1, bytes, 0x2020_2020_2020_2020);
        } else {
            self.bytes(2, &bytes.to_ascii_lowercase(), 0);
        }
    }

    #[inline]
    fn verbatim(&mut self, bytes: &[u8]) {
        self.bytes(3, bytes, 0);
    }

    #[inline]
    fn form(&mut self, form: Form) {
        self.hasher.write_u64(16 + form as u64);
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
        before = if let Some(form) = literal(source, token, before) {
            write_literal(before, form, sink)
        } else {
            if matches!(before, Before::Comma(_)) {
                sink.verbatim(b",");
            }
            match token.kind {
                Kind::Text(_) | Kind::Bad => sink.form(Form::Bad),
                Kind::Word => sink.word(token.bytes(source)),
                _ => sink.verbatim(token.bytes(source)),
            }
            after_other(source, token, before)
        };
    }
    if matches!(before, Before::Comma(_)) {
        sink.verbatim(b",");
    }
}

/// What stands for a literal; `None` for other tokens, and for a literal whose end is uncertain.
fn literal(source: &[u8], token: Token, before: Before) -> Option<Form> {
    match token.kind {
        Kind::Text(Quote::Ambiguous) => None,
        Kind::Text(_) if before == Before::CurrentSettingOpen && names_custom_setting(source, token) => {
            Some(Form::CustomSetting)
        }
        Kind::Text(_) => Some(Form::Text),
        Kind::Number => Some(Form::Number),
        Kind::Parameter => Some(Form::Parameter),
        _ => None,
    }
}

fn write_literal(before: Before, form: Form, sink: &mut impl Sink) -> Before {
    let count = match (before, form) {
        // `'a' 'b'` on two lines is one literal.
        (Before::Literal(count), Form::Text) => return Before::Literal(count),
        (Before::Comma(count), _) if count >= LIST_LIMIT => return Before::Literal(count),
        (Before::Comma(count), _) => {
            sink.verbatim(b",");
            count + 1
        }
        _ => 0,
    };
    sink.form(form);
    Before::Literal(count)
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
        check(r"select 'a\', 1", "select \u{1} , 1");
        check("select 'abc", "select \u{1}");
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
        for (one, other) in
            [("abcdefghi", "abcdefghj"), ("abcdefgh", "abcdefghh"), ("abcd", "abcdd"), ("a", "aa"), ("ab", "abb")]
        {
            assert_ne!(print(one), print(other));
            assert_eq!(print(one), print(&one.to_ascii_uppercase()));
            assert_ne!(print(&format!("\"{one}\"")), print(&format!("\"{other}\"")));
        }
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
        fn one_fingerprint_is_one_form(
            one in r#"(SELECT|select|Ab|aB|_A|a\$b|é|É|"a"|'s'|1|\$1|[,;.()+=]|--x
    | ){0,12}"#,
            other in r#"(SELECT|select|Ab|aB|_A|a\$b|é|É|"a"|'s'|1|\$1|[,;.()+=]|--x
    | ){0,12}"#,
        ) {
            let same = text(one.as_bytes()) == text(other.as_bytes());
            prop_assert_eq!(same, fingerprint(one.as_bytes(), 3) == fingerprint(other.as_bytes(), 3));
        }

        #[test]
        fn any_bytes_have_a_fingerprint(source in proptest::collection::vec(any::<u8>(), 0..300), at in any::<proptest::sample::Index>()) {
            let print = fingerprint(&source, 3);
            // A changed byte changes the fingerprint exactly when it changes the form.
            let mut changed = source.clone();
            if !changed.is_empty() {
                let at = at.index(changed.len());
                changed[at] ^= 0x20;
            }
            let form = |source: &[u8]| {
                let mut form = Vec::new();
                write(source, &mut form);
                form
            };
            prop_assert_eq!(form(&source) == form(&changed), print == fingerprint(&changed, 3));
        }
    }
}
