//! Calls of `set_config` that are as good as a SET.

use super::cursor::Cursor;
use super::{Command, Value};
use crate::sql::scan::{Kind, Token};

/// The calls of `set_config` that a SELECT is sure to make, each once: those that are select items of their own in a
/// SELECT without anything but a select list. [`Command::Other`] alone when there are none, or one is not understood.
pub(super) fn parse(mut cursor: Cursor<'_>) -> Vec<Command> {
    cursor.word("select");
    let mut commands = Vec::new();
    let mut item_begins = true;
    let mut depth = 0_usize;
    while !cursor.is_end() {
        if depth == 0 && item_begins && is_call(&mut cursor) {
            let Some(command) = arguments(&mut cursor) else { return vec![Command::Other] };
            commands.push(command);
            item_begins = false;
            continue;
        }
        let Some(token) = cursor.next() else { break };
        match token.kind {
            Kind::Punctuation => match token.bytes(cursor.text()) {
                b"(" => depth += 1,
                b")" => depth = depth.saturating_sub(1),
                _ => {}
            },
            Kind::Word if depth == 0 && !may_follow(token, cursor.text()) => return vec![Command::Other],
            Kind::Bad => return vec![Command::Other],
            _ => {}
        }
        item_begins = depth == 0 && token.is_mark(cursor.text(), ",");
    }
    if commands.is_empty() { vec![Command::Other] } else { commands }
}

/// Takes `[pg_catalog.]set_config(`.
fn is_call(cursor: &mut Cursor<'_>) -> bool {
    let mut ahead = *cursor;
    let is_name = |cursor: &Cursor<'_>, name| cursor.peek().is_some_and(|token| token.is_name(cursor.text(), name));
    if is_name(&ahead, "pg_catalog") {
        ahead.next();
        if !ahead.mark(".") {
            return false;
        }
    }
    if !is_name(&ahead, "set_config") {
        return false;
    }
    ahead.next();
    if !ahead.mark("(") {
        return false;
    }
    *cursor = ahead;
    true
}

/// `name, value, is_local)`.
fn arguments(cursor: &mut Cursor<'_>) -> Option<Command> {
    let name = argument(cursor, ",")?;
    let value = argument(cursor, ",")?;
    let is_local = argument(cursor, ")")?;
    Some(Command::SetConfig { name, value, is_local })
}

/// A literal or a bind parameter, perhaps with a cast that does not change it, and the mark that must follow.
fn argument(cursor: &mut Cursor<'_>, end: &str) -> Option<Value> {
    let token = cursor.next()?;
    let text = cursor.text();
    let value = match token.kind {
        Kind::Parameter => {
            Value::Parameter(std::str::from_utf8(&token.bytes(text)[1..]).ok()?.parse().ok().filter(|n| *n > 0)?)
        }
        Kind::Word if token.is_word(text, "true") => Value::Literal("true".to_owned()),
        Kind::Word if token.is_word(text, "false") => Value::Literal("false".to_owned()),
        _ => Value::Literal(token.string(text)?),
    };
    while cursor.mark("::") {
        if !["text", "varchar", "bool", "boolean"].iter().any(|word| cursor.word(word)) {
            return None;
        }
    }
    cursor.mark(end).then_some(value)
}

/// Whether a word may stand in a select list without making its items conditional or more or fewer than one row's.
fn may_follow(token: Token, text: &[u8]) -> bool {
    const DECIDING: [&str; 21] = [
        "all",
        "and",
        "case",
        "distinct",
        "except",
        "fetch",
        "for",
        "from",
        "group",
        "having",
        "intersect",
        "into",
        "limit",
        "offset",
        "or",
        "order",
        "union",
        "when",
        "where",
        "window",
        "with",
    ];
    !DECIDING.iter().any(|word| token.is_word(text, word))
}
