//! Calls of `set_config(name, value, is_local)` anywhere in a statement.

use super::{Command, Value};
use crate::sql::scan::{Kind, Token};
use crate::sql::split::Cursor;

/// Whether there is a call whose arguments are not all literals or parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sql) enum Opaque {
    /// There is.
    Some,
    /// There is none.
    None,
}

/// The calls that are understood, and whether there are others.
pub(in crate::sql) fn calls(cursor: Cursor<'_>) -> (Vec<Command>, Opaque) {
    let (text, tokens) = (cursor.text(), cursor.tokens());
    let (mut found, mut opaque) = (Vec::new(), Opaque::None);
    for (index, token) in tokens.iter().enumerate() {
        let called = tokens.get(index + 1).is_some_and(|next| next.is_mark(text, "("));
        if !called || !token.is_name(text, "set_config") {
            continue;
        }
        match arguments(Cursor::new(text, &tokens[index + 2..])) {
            Some([name, value, is_local]) => found.push(Command::SetConfig { name, value, is_local }),
            None => opaque = Opaque::Some,
        }
    }
    (found, opaque)
}

fn arguments(mut cursor: Cursor<'_>) -> Option<[Value; 3]> {
    let name = argument(&mut cursor)?;
    cursor.mark(",").then_some(())?;
    let value = argument(&mut cursor)?;
    cursor.mark(",").then_some(())?;
    let is_local = argument(&mut cursor)?;
    cursor.mark(")").then_some([name, value, is_local])
}

/// A literal or a parameter, with casts behind it.
fn argument(cursor: &mut Cursor<'_>) -> Option<Value> {
    let token = cursor.next()?;
    let value = literal(cursor.text(), token)?;
    while cursor.mark("::") {
        cursor.name()?;
    }
    Some(value)
}

fn literal(text: &[u8], token: &Token) -> Option<Value> {
    let bytes = std::str::from_utf8(token.bytes(text)).ok()?;
    match token.kind {
        Kind::Text(_) => token.string(text).map(Value::Literal),
        Kind::Parameter => bytes.get(1..)?.parse().ok().map(Value::Parameter),
        Kind::Word if ["true", "false"].contains(&bytes.to_ascii_lowercase().as_str()) => {
            Some(Value::Literal(bytes.to_ascii_lowercase()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Value, parse};
    use super::{Opaque, calls};
    use crate::sql::split::{Cursor, statements};

    fn opaque(text: &str) -> Opaque {
        let tokens = statements(text.as_bytes());
        calls(Cursor::new(text.as_bytes(), &tokens[0])).1
    }

    fn literal(text: &str) -> Value {
        Value::Literal(text.into())
    }

    #[test]
    fn calls_are_found_wherever_they_are() {
        let call = |name, value, is_local| Command::SetConfig { name, value, is_local };
        for (text, expected) in [
            ("select set_config('a', 'b', false)", call(literal("a"), literal("b"), literal("false"))),
            (
                "select pg_catalog.SET_CONFIG($1, $2, $3)",
                call(Value::Parameter(1), Value::Parameter(2), Value::Parameter(3)),
            ),
            (
                "insert into t values (\"set_config\"('a'::text, 'it''s', 't'::bool))",
                call(literal("a"), literal("it's"), literal("t")),
            ),
        ] {
            assert_eq!(parse(text.as_bytes())[0].set_configs, [expected], "{text}");
            assert_eq!(opaque(text), Opaque::None, "{text}");
        }
    }

    #[test]
    fn computed_arguments_are_opaque() {
        for text in
            ["select set_config('a', b, false)", "select set_config('a' || 'b', 'c', true)", "select set_config()"]
        {
            assert_eq!(opaque(text), Opaque::Some, "{text}");
            assert!(parse(text.as_bytes())[0].set_configs.is_empty(), "{text}");
        }
        assert_eq!(opaque("select set_config from t"), Opaque::None);
    }
}
