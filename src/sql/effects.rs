//! What the session must know of a text, found among its tokens, so that it does not depend on a parser's understanding.

use super::Effects;
use super::body;
use super::command::set_config::{self, Opaque};
use super::command::{self, FIRST_WORDS};
use super::scan::Token;
use super::signals;
use super::split::{Cursor, statements};

/// Calls that leave something behind in the session, or ask what is there.
const CALLS: [(&str, Effects); 17] = [
    ("pg_advisory_lock", Effects::ADVISORY_LOCK),
    ("pg_advisory_lock_shared", Effects::ADVISORY_LOCK),
    ("pg_try_advisory_lock", Effects::ADVISORY_LOCK),
    ("pg_try_advisory_lock_shared", Effects::ADVISORY_LOCK),
    ("pg_advisory_unlock", Effects::ADVISORY_UNLOCK),
    ("pg_advisory_unlock_shared", Effects::ADVISORY_UNLOCK),
    ("pg_advisory_unlock_all", Effects::ADVISORY_UNLOCK),
    ("setseed", Effects::SESSION_STATE),
    ("currval", Effects::SEQUENCES),
    ("lastval", Effects::SEQUENCES),
    ("nextval", Effects::MOVES_SEQUENCE),
    ("setval", Effects::MOVES_SEQUENCE),
    ("pg_listening_channels", Effects::CHANNELS),
    ("pg_prepared_statement", Effects::STATEMENTS),
    ("now", Effects::NOW),
    ("transaction_timestamp", Effects::NOW),
    ("age", Effects::NOW),
];

/// Words that are calls by themselves.
const CLOCKS: [&str; 5] = ["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"];

/// The effects of all statements of `text`.
pub(super) fn of(text: &[u8]) -> Effects {
    statements(text).iter().fold(Effects::default(), |effects, tokens| effects.with(of_statement(text, tokens)))
}

/// The same without tables that end with their transaction.
pub(super) fn lasting(text: &[u8]) -> Effects {
    let of = |tokens: &Vec<Token>| {
        let ends = tokens
            .windows(3)
            .any(|words| words.iter().zip(["on", "commit", "drop"]).all(|(token, word)| token.is_word(text, word)));
        let effects = of_statement(text, tokens);
        if ends { effects.without(Effects::TEMPORARY) } else { effects }
    };
    statements(text).iter().fold(Effects::default(), |effects, tokens| effects.with(of(tokens)))
}

fn of_statement(text: &[u8], tokens: &[Token]) -> Effects {
    let mut effects = first_word(text, tokens);
    for (at, token) in tokens.iter().enumerate() {
        effects = effects.with(of_token(text, token, tokens.get(at + 1)));
    }
    if tokens.first().is_some_and(|first| first.is_word(text, "do")) {
        let code = tokens.iter().filter_map(|token| token.string(text));
        effects = code.fold(effects, |effects, code| effects.with(body::effects(code.as_bytes())));
    }
    let (calls, opaque) = set_config::calls(Cursor::new(text, tokens));
    let first = |words: &[&str]| tokens.first().is_some_and(|token| words.iter().any(|word| token.is_word(text, word)));
    if first(&["create", "alter", "comment"]) {
        // Defined, not called.
        return effects;
    }
    if !calls.is_empty() && command::is_query(Cursor::new(text, tokens)) {
        effects = effects.with(Effects::COMMANDS);
    } else if !calls.is_empty() {
        // Whether, and when, it is called cannot be seen.
        effects = effects.with(Effects::SET_CONFIG_OPAQUE);
    }
    if command::is_strange_setting(Cursor::new(text, tokens)) {
        effects = effects.with(Effects::SESSION_STATE);
    }
    if opaque == Opaque::Some { effects.with(Effects::SET_CONFIG_OPAQUE) } else { effects }
}

/// What a token tells wherever it stands, with the one behind it.
pub(super) fn of_token(text: &[u8], token: &Token, next: Option<&Token>) -> Effects {
    if CLOCKS.iter().any(|word| token.is_word(text, word)) {
        return Effects::NOW;
    }
    if token.is_name(text, "pg_prepared_statements") {
        return Effects::STATEMENTS;
    }
    let Some(next) = next else { return Effects::default() };
    if signals::CALLS.iter().any(|(name, _)| token.is_name(text, name)) {
        return Effects::SIGNALS;
    }
    if next.is_mark(text, "(")
        && let Some((_, effect)) = CALLS.iter().find(|(name, _)| token.is_name(text, name))
    {
        return *effect;
    }
    // SELECT … INTO TEMP, and anything created in the schema of temporary objects.
    let temporary = |token: &Token| token.is_word(text, "temp") || token.is_word(text, "temporary");
    // CREATE TEMP behind EXPLAIN ANALYZE, SELECT … INTO [LOCAL] TEMP.
    let scoped = |token: &Token| token.is_word(text, "local") || token.is_word(text, "global");
    let made = ["into", "create"].iter().any(|word| token.is_word(text, word)) && (temporary(next) || scoped(next));
    let named = token.is_name(text, "pg_temp") && next.is_mark(text, ".");
    if made || named { Effects::TEMPORARY } else { Effects::default() }
}

fn first_word(text: &[u8], tokens: &[Token]) -> Effects {
    let Some(first) = tokens.first() else { return Effects::default() };
    let is = |word: &str| first.is_word(text, word);
    if is("create") {
        let temporary = |token: &Token| token.is_word(text, "temp") || token.is_word(text, "temporary");
        // CREATE [OR REPLACE] [GLOBAL | LOCAL] TEMP …
        let made = if tokens.iter().skip(1).take(4).any(temporary) { Effects::TEMPORARY } else { Effects::default() };
        let replaces = tokens.get(1).is_some_and(|token| token.is_word(text, "or"));
        let changed = if replaces { Effects::RESHAPES } else { Effects::default() };
        return Effects::DDL.with(made).with(changed);
    }
    if is("drop") {
        return Effects::DDL.with(Effects::DROP).with(Effects::RESHAPES);
    }
    // What DO and CALL run may be DDL.
    if is("alter") {
        let second = |word: &&str| tokens.get(1).is_some_and(|token| token.is_word(text, word));
        let defaults = ["role", "user", "database"].iter().any(second)
            && tokens.iter().any(|token| token.is_word(text, "set") || token.is_word(text, "reset"));
        let changed = Effects::DDL.with(Effects::RESHAPES);
        return if defaults { changed.with(Effects::DEFAULTS) } else { changed };
    }
    if ["import", "do", "call"].into_iter().any(is) {
        return Effects::DDL;
    }
    if is("discard") {
        return Effects::COMMANDS.with(Effects::DROP).with(Effects::ADVISORY_UNLOCK);
    }
    let words = |words: [&str; 2]| {
        words.iter().zip([1, 3]).all(|(word, at)| tokens.get(at).is_some_and(|token| token.is_name(text, word)))
    };
    if is("show") && words(["howdah", "last_lsn"]) {
        return Effects::LAST_LSN;
    }
    if is("listen") {
        return Effects::COMMANDS.with(Effects::LISTEN);
    }
    if FIRST_WORDS.into_iter().any(is) { Effects::COMMANDS } else { Effects::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn effects_are_found() {
        let none = Effects::default();
        for (text, expected) in [
            ("select 1", none),
            ("select 'create temp table'", none),
            ("begin", Effects::COMMANDS),
            ("show Howdah.last_lsn", Effects::LAST_LSN),
            ("show howdah.min_lsn", Effects::COMMANDS),
            ("select now(), 'x'::regtype", Effects::NOW),
            ("select Current_Date", Effects::NOW),
            ("select \"current_date\", now", none),
            ("select 1; set a = 1", Effects::COMMANDS),
            ("create temp table t()", Effects::DDL.with(Effects::TEMPORARY)),
            (
                "create or replace temporary view v as select 1",
                Effects::DDL.with(Effects::TEMPORARY).with(Effects::RESHAPES),
            ),
            ("create table pg_temp.t()", Effects::DDL.with(Effects::TEMPORARY)),
            ("create table temperature()", Effects::DDL),
            ("select 1 into temp t", Effects::TEMPORARY),
            ("drop table t", Effects::DDL.with(Effects::DROP).with(Effects::RESHAPES)),
            ("alter table t add x int", Effects::DDL.with(Effects::RESHAPES)),
            ("alter role r set x = 1", Effects::DDL.with(Effects::RESHAPES).with(Effects::DEFAULTS)),
            ("alter database d reset all", Effects::DDL.with(Effects::RESHAPES).with(Effects::DEFAULTS)),
            ("alter user u password 'set'", Effects::DDL.with(Effects::RESHAPES)),
            ("select 1 into local temp t", Effects::TEMPORARY),
            ("do $$ begin create temp table t (); end $$", Effects::DDL.with(Effects::TEMPORARY)),
            ("do language plpgsql 'begin perform pg_advisory_lock(1); end'", Effects::DDL.with(Effects::ADVISORY_LOCK)),
            ("select 'do', $$ create temp table t () $$", none),
            ("explain analyze create temp table t as select 1", Effects::TEMPORARY),
            ("select lastval()", Effects::SEQUENCES),
            ("select pg_catalog.nextval('a')", Effects::MOVES_SEQUENCE),
            ("select setval('a', 1), currval('a')", Effects::MOVES_SEQUENCE.with(Effects::SEQUENCES)),
            ("select 1; listen a", Effects::COMMANDS.with(Effects::LISTEN)),
            ("unlisten a", Effects::COMMANDS),
            ("select * from pg_listening_channels()", Effects::CHANNELS),
            ("select name from pg_catalog.pg_prepared_statements", Effects::STATEMENTS),
            ("select 'pg_prepared_statements'", none),
            ("explain select set_config('a','b',false)", Effects::SET_CONFIG_OPAQUE),
            ("prepare p as select set_config('a','b',false)", Effects::COMMANDS.with(Effects::SET_CONFIG_OPAQUE)),
            ("create view v as select set_config('a','b',false)", Effects::DDL),
            ("(select set_config('a','b',false))", Effects::COMMANDS),
            ("set time zone interval '5' hour", Effects::COMMANDS.with(Effects::SESSION_STATE)),
            ("set constraints all deferred", Effects::COMMANDS),
            ("select pg_advisory_lock(1)", Effects::ADVISORY_LOCK),
            ("select pg_catalog.pg_try_advisory_lock_shared (1)", Effects::ADVISORY_LOCK),
            ("select pg_advisory_xact_lock(1)", none),
            ("select pg_advisory_unlock_all()", Effects::ADVISORY_UNLOCK),
            ("select setseed(0.5)", Effects::SESSION_STATE),
            ("select set_config('a','b',false)", Effects::COMMANDS),
            ("select set_config(a,'b',false)", Effects::SET_CONFIG_OPAQUE),
            ("discard all", Effects::COMMANDS.with(Effects::DROP).with(Effects::ADVISORY_UNLOCK)),
            ("", none),
        ] {
            assert_eq!(of(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_ends_with_its_transaction_does_not_last() {
        for (text, expected) in [
            ("create temp table t () on commit drop", Effects::DDL),
            (
                "create temp table t on commit drop as select pg_advisory_lock(1)",
                Effects::DDL.with(Effects::ADVISORY_LOCK),
            ),
            ("create temp table t () on commit delete rows", Effects::DDL.with(Effects::TEMPORARY)),
            ("create temp table t () on commit drop; create temp table u ()", Effects::DDL.with(Effects::TEMPORARY)),
        ] {
            assert_eq!(lasting(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = of(&text);
        }
    }
}
