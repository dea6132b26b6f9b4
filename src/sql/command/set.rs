//! SET and RESET in all their forms. What is set is kept as it was written, to be written again.

use super::{Command, Scope, transaction_modes};
use crate::sql::scan::Kind;
use crate::sql::split::Cursor;

/// What follows SET. `more` takes the second and third setting of SESSION CHARACTERISTICS.
pub(super) fn set(mut cursor: Cursor<'_>, more: &mut Vec<Command>) -> Option<Command> {
    if cursor.words(&["session", "characteristics", "as", "transaction"]) {
        return characteristics(cursor, more);
    }
    let scope = scope(&mut cursor);
    if cursor.words(&["session", "authorization"]) {
        return identity(cursor, scope, "session_authorization");
    }
    if cursor.words(&["time", "zone"]) {
        return time_zone(cursor, scope);
    }
    if cursor.words(&["xml", "option"]) {
        return value(cursor, scope, "xmloption");
    }
    // `SET TRANSACTION …` is a statement of its own, but `transaction` may also be a setting's first part.
    if let Some(modes) = cursor.word("transaction").then(|| transaction_modes(cursor)) {
        return modes.map(Command::SetTransaction);
    }
    let mut named = cursor;
    let name = named.dotted_name()?;
    if named.word("to") || named.mark("=") {
        return value(named, scope, &name);
    }
    match name.as_str() {
        "names" if named.is_at_end() => Some(Command::Set { scope, name: "client_encoding".to_owned(), value: None }),
        "names" => value(named, scope, "client_encoding"),
        "schema" => value(named, scope, "search_path"),
        "role" => identity(named, scope, "role"),
        _ => None,
    }
}

/// `SESSION` or `LOCAL`, unless it is the name of what is set.
fn scope(cursor: &mut Cursor<'_>) -> Scope {
    let mut ahead = *cursor;
    if ahead.word("local") {
        *cursor = ahead;
        return Scope::Local;
    }
    // SET SESSION AUTHORIZATION, and SET SESSION name: only the second has a scope in front.
    if ahead.word("session") {
        let mut behind = ahead;
        if !behind.word("authorization") {
            *cursor = ahead;
        }
    }
    Scope::Session
}

/// A value list up to the end, as it was written; DEFAULT is `None`.
fn value(mut cursor: Cursor<'_>, scope: Scope, name: &str) -> Option<Command> {
    let name = name.to_owned();
    let mut ahead = cursor;
    if ahead.word("default") && ahead.is_at_end() {
        return Some(Command::Set { scope, name, value: None });
    }
    let value = cursor.rest()?;
    // FROM CURRENT belongs to functions only.
    (!cursor.words(&["from", "current"])).then_some(Command::Set { scope, name, value: Some(value) })
}

/// A role's name, a string, NONE or DEFAULT.
fn identity(cursor: Cursor<'_>, scope: Scope, name: &str) -> Option<Command> {
    value(cursor, scope, name)
}

/// `LOCAL` and `DEFAULT` are the reset value; an interval is written as the zone that PostgreSQL makes of it.
fn time_zone(mut cursor: Cursor<'_>, scope: Scope) -> Option<Command> {
    let name = "timezone".to_owned();
    let mut ahead = cursor;
    if ahead.word("local") && ahead.is_at_end() {
        return Some(Command::Set { scope, name, value: None });
    }
    if !cursor.word("interval") {
        return value(cursor, scope, &name);
    }
    let text = cursor.next()?.string(cursor.text())?;
    let _ = cursor.words(&["hour", "to", "minute"]);
    let zone = posix_zone(&text)?;
    cursor.end(Command::Set { scope, name, value: Some(format!("'{zone}'")) })
}

/// The POSIX zone for an offset such as `-08:00`: named as the offset, and counted westwards.
fn posix_zone(offset: &str) -> Option<String> {
    let (sign, rest) = match offset.as_bytes().first()? {
        b'-' => ('-', &offset[1..]),
        b'+' => ('+', &offset[1..]),
        _ => ('+', offset),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    let west = if sign == '-' { '+' } else { '-' };
    (hours < 24 && minutes < 60).then(|| format!("<{sign}{hours:02}:{minutes:02}>{west}{hours:02}:{minutes:02}"))
}

/// `SET SESSION CHARACTERISTICS AS TRANSACTION …`: up to three settings.
fn characteristics(cursor: Cursor<'_>, more: &mut Vec<Command>) -> Option<Command> {
    use super::Isolation::{ReadCommitted, ReadUncommitted, RepeatableRead, Serializable};
    let modes = transaction_modes(cursor)?;
    let level = modes.isolation.map(|level| match level {
        ReadUncommitted => "'read uncommitted'",
        ReadCommitted => "'read committed'",
        RepeatableRead => "'repeatable read'",
        Serializable => "'serializable'",
    });
    let switch = |on: bool| if on { "on" } else { "off" };
    let settings = [
        ("default_transaction_isolation", level),
        ("default_transaction_read_only", modes.read_only.map(switch)),
        ("default_transaction_deferrable", modes.deferrable.map(switch)),
    ];
    let set = |(name, value): (&str, Option<&str>)| {
        let value = value.map(str::to_owned);
        value.map(|value| Command::Set { scope: Scope::Session, name: name.to_owned(), value: Some(value) })
    };
    let mut commands = settings.into_iter().filter_map(set);
    let first = commands.next();
    more.extend(commands);
    first
}

/// What follows RESET.
pub(super) fn reset(mut cursor: Cursor<'_>) -> Option<Command> {
    if cursor.word("all") {
        return cursor.end(Command::ResetAll);
    }
    let fixed = [
        (&["session", "authorization"][..], "session_authorization"),
        (&["time", "zone"], "timezone"),
        (&["transaction", "isolation", "level"], "transaction_isolation"),
    ];
    if let Some((_, name)) = fixed.into_iter().find(|(words, _)| cursor.words(words)) {
        return cursor.end(Command::Reset(name.to_owned()));
    }
    cursor.peek().filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted))?;
    cursor.dotted_name().and_then(|name| cursor.end(Command::Reset(name)))
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Scope, TransactionModes, parse};

    fn check(text: &str, expected: &Command) {
        let parsed = parse(text.as_bytes());
        assert_eq!((parsed.len(), &parsed[0].command), (1, expected), "{text}");
    }

    fn set(name: &str, value: Option<&str>) -> Command {
        Command::Set { scope: Scope::Session, name: name.into(), value: value.map(str::to_owned) }
    }

    #[test]
    fn forms_of_set() {
        for (text, name, value) in [
            ("SET a TO 1", "a", Some("1")),
            ("set session Work_Mem='4MB'", "work_mem", Some("'4MB'")),
            ("set search_path = a, \"B\" , 'c d';", "search_path", Some("a, \"B\" , 'c d'")),
            ("set my.var to -1.5 -- comment", "my.var", Some("-1.5")),
            ("set a to default", "a", None),
            ("set time zone 'UTC'", "timezone", Some("'UTC'")),
            ("set time zone -8", "timezone", Some("-8")),
            ("set session time zone local", "timezone", None),
            ("set time zone interval '-08:30' hour to minute", "timezone", Some("'<-08:30>+08:30'")),
            ("set timezone to default", "timezone", None),
            ("set names 'utf8'", "client_encoding", Some("'utf8'")),
            ("set names", "client_encoding", None),
            ("set names default", "client_encoding", None),
            ("set schema 'x'", "search_path", Some("'x'")),
            ("set role none", "role", Some("none")),
            ("set session role 'a'", "role", Some("'a'")),
            ("set session authorization joe", "session_authorization", Some("joe")),
            ("set session authorization default", "session_authorization", None),
            ("set session session authorization joe", "session_authorization", Some("joe")),
            ("set xml option content", "xmloption", Some("content")),
            ("set session characteristics as transaction read only", "default_transaction_read_only", Some("on")),
        ] {
            check(text, &set(name, value));
        }
        let local = Command::Set { scope: Scope::Local, name: "a".into(), value: Some("'x'".into()) };
        check("set local a = 'x'", &local);
        check(
            "set transaction read only",
            &Command::SetTransaction(TransactionModes { read_only: Some(true), ..TransactionModes::default() }),
        );
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_server() {
        for text in [
            "set",
            "set a",
            "set a to",
            "set constraints all deferred",
            "set transaction snapshot 'x'",
            "set a from current",
            "set session",
            "reset",
            "reset a b",
            "set time zone interval '1 day'",
        ] {
            check(text, &Command::Other);
        }
    }

    #[test]
    fn forms_of_reset() {
        for (text, name) in [
            ("reset a", "a"),
            ("RESET Role", "role"),
            ("reset my.x;", "my.x"),
            ("reset time zone", "timezone"),
            ("reset session authorization", "session_authorization"),
        ] {
            check(text, &Command::Reset(name.into()));
        }
        check("reset all", &Command::ResetAll);
    }

    #[test]
    fn characteristics_set_several() {
        let parsed = parse(b"set session characteristics as transaction isolation level serializable, read write");
        assert_eq!(parsed[0].command, set("default_transaction_isolation", Some("'serializable'")));
        assert_eq!(parsed[0].set_configs, [set("default_transaction_read_only", Some("off"))]);
    }
}
