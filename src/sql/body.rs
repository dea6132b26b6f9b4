//! What the code of a `DO` leaves behind in the session, as far as its words tell.
//!
//! Code is not understood, only searched: what it might do counts as done, and the session asks the server afterwards.

use super::Effects;
use super::effects;
use super::scan::{Kind, Scanner, Token};

/// How deep strings within code are searched: what `EXECUTE` is given may quote more of the same.
const DEPTH: u32 = 3;

/// The effects of running `code`.
pub(super) fn effects(code: &[u8]) -> Effects {
    search(code, DEPTH)
}

fn search(code: &[u8], depth: u32) -> Effects {
    let tokens: Vec<Token> = Scanner::new(code).collect();
    let mut found = Effects::default();
    for (at, token) in tokens.iter().enumerate() {
        found = found.with(effects::of_token(code, token, tokens.get(at + 1)));
        if let Some(next) = tokens.get(at + 1) {
            let before = at.checked_sub(1).and_then(|before| tokens.get(before));
            let sets = token.is_word(code, "set") && begins(code, before) && !of_transaction(code, next);
            let calls = token.is_name(code, "set_config") && next.is_mark(code, "(");
            if sets || (calls && !is_local(code, &tokens[at + 2..])) {
                found = found.with(Effects::SET_CONFIG_OPAQUE);
            }
        }
        if depth > 0 && matches!(token.kind, Kind::Text(_)) {
            let inner = token.string(code).unwrap_or_default();
            found = found.with(search(inner.as_bytes(), depth - 1));
        }
    }
    found
}

/// Whether a statement begins behind `before`; `SET` elsewhere is part of UPDATE.
fn begins(code: &[u8], before: Option<&Token>) -> bool {
    let words = ["begin", "then", "else", "loop"];
    before.is_none_or(|before| before.is_mark(code, ";") || words.iter().any(|word| before.is_word(code, word)))
}

/// Whether what is set ends with the transaction.
fn of_transaction(code: &[u8], next: &Token) -> bool {
    ["local", "constraints", "transaction"].iter().any(|word| next.is_word(code, word))
}

/// Whether the last argument of a call, of which these are the tokens behind the parenthesis, says `true`.
fn is_local(code: &[u8], arguments: &[Token]) -> bool {
    let mut depth = 1;
    let end = arguments.iter().position(|token| {
        if token.is_mark(code, "(") {
            depth += 1;
        } else if token.is_mark(code, ")") {
            depth -= 1;
        }
        depth == 0
    });
    let Some([.., comma, last]) = end.and_then(|end| arguments.get(..end)) else { return false };
    comma.is_mark(code, ",") && last.is_word(code, "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_searched() {
        let none = Effects::default();
        for (code, expected) in [
            ("BEGIN PERFORM 1; END", none),
            ("BEGIN CREATE TEMP TABLE t (x int); END", Effects::TEMPORARY),
            ("BEGIN EXECUTE 'CREATE TEMPORARY TABLE ' || name || ' ()'; END", Effects::TEMPORARY),
            ("BEGIN EXECUTE $x$ SELECT pg_advisory_lock(1) $x$; END", Effects::ADVISORY_LOCK),
            ("BEGIN PERFORM pg_advisory_xact_lock(1); END", none),
            ("BEGIN SET work_mem = '1MB'; END", Effects::SET_CONFIG_OPAQUE),
            ("BEGIN IF x THEN SET search_path TO a; END IF; END", Effects::SET_CONFIG_OPAQUE),
            ("BEGIN SET LOCAL work_mem = '1MB'; UPDATE t SET x = 1; END", none),
            ("BEGIN PERFORM set_config('a.b', x(1, 2), true); END", none),
            ("BEGIN PERFORM set_config('a.b', x, false); END", Effects::SET_CONFIG_OPAQUE),
            ("BEGIN PERFORM set_config('a.b', x, is_local); END", Effects::SET_CONFIG_OPAQUE),
            ("BEGIN PERFORM set_config('a.b', x", Effects::SET_CONFIG_OPAQUE),
            ("SELECT CURRENT_DATE", Effects::NOW),
            ("BEGIN RETURN now(); END", Effects::NOW),
        ] {
            assert_eq!(effects(code.as_bytes()), expected, "{code}");
        }
    }
}
