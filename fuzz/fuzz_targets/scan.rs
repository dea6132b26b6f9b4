//! The scanner on any bytes, and what it claims of them against sqlparser's lexer.
#![no_main]

use howdah::sql::normal;
use howdah::sql::scan::{Kind, Scanner, Token};
use libfuzzer_sys::fuzz_target;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token as Lexed, Tokenizer, Whitespace};

fuzz_target!(|text: &[u8]| {
    in_order(text);
    let Some(form) = normal::text(text) else { return };
    // What stands for bytes that nobody can judge.
    if form.contains('\u{1}') {
        return;
    }
    assert_eq!(normal::text(form.as_bytes()).as_deref(), Some(form.as_str()), "a normal form is its own");
    agrees(&form);
});

/// Tokens follow each other, and nothing but blanks and comments is between them.
fn in_order(text: &[u8]) {
    let mut last = 0;
    for token in Scanner::new(text) {
        assert!(token.start >= last && token.end > token.start && token.end <= text.len());
        let between = &text[last..token.start];
        assert!(between.first().is_none_or(|byte| b" \t\n\r\x0b\x0c-/".contains(byte)), "{between:?}");
        let _ = (token.identifier(text), token.string(text));
        last = token.end;
    }
}

/// The parser sees the same strings, names and ends of statements as the scanner: nothing is hidden from either.
fn agrees(form: &str) {
    let Ok(lexed) = Tokenizer::new(&PostgreSqlDialect {}, form).tokenize() else { return };
    let ours: Vec<Token> = Scanner::new(form.as_bytes()).collect();
    let count = |kind: fn(&Token) -> bool| ours.iter().filter(|token| kind(token)).count();
    let theirs = |kind: fn(&Lexed) -> bool| lexed.iter().filter(|token| kind(token)).count();
    let comment = |token: &Lexed| {
        matches!(token, Lexed::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)))
    };
    assert_eq!(theirs(comment), 0, "comments: {form}");
    let ends = ours.iter().filter(|token| token.is_mark(form.as_bytes(), ";")).count();
    assert_eq!(ends, theirs(|token| *token == Lexed::SemiColon), "ends of statements: {form}");
    assert_eq!(
        count(|token| matches!(token.kind, Kind::Text(_))),
        theirs(|token| matches!(token, Lexed::SingleQuotedString(_))),
        "strings: {form}"
    );
    assert_eq!(
        count(|token| token.kind == Kind::Quoted),
        theirs(|token| matches!(token, Lexed::Word(word) if word.quote_style == Some('"'))),
        "quoted names: {form}"
    );
}
