//! SET and RESET in all their forms (gram.y, `VariableSetStmt`, `VariableResetStmt`).

use super::cursor::Cursor;
use super::{Command, Isolation, Scope, TransactionModes, transaction};
use crate::sql::scan::{Kind, Token};

/// What a parameter is set to.
enum Setting {
    /// DEFAULT, and LOCAL of a time zone.
    Default,
    /// As it is written after `SET name TO`.
    Written(String),
}

/// What follows `SET`.
pub(super) fn parse(mut cursor: Cursor<'_>) -> Vec<Command> {
    let mut scope = Scope::Session;
    if cursor.words(&["session", "characteristics", "as", "transaction"]) {
        return characteristics(cursor, scope).unwrap_or_else(|| vec![Command::Other]);
    }
    if cursor.word("local") {
        scope = Scope::Local;
        if cursor.words(&["session", "characteristics", "as", "transaction"]) {
            return characteristics(cursor, scope).unwrap_or_else(|| vec![Command::Other]);
        }
    } else if !cursor.are_words(&["session", "authorization"]) {
        cursor.word("session");
    }
    vec![rest(cursor, scope).unwrap_or(Command::Other)]
}

/// What follows `RESET`.
pub(super) fn reset(mut cursor: Cursor<'_>) -> Option<Command> {
    let command = if cursor.word("all") {
        Command::ResetAll
    } else if cursor.words(&["time", "zone"]) {
        Command::Reset("timezone".to_owned())
    } else if cursor.words(&["transaction", "isolation", "level"]) {
        Command::Reset("transaction_isolation".to_owned())
    } else if cursor.words(&["session", "authorization"]) {
        Command::Reset("session_authorization".to_owned())
    } else {
        Command::Reset(parameter(&mut cursor)?)
    };
    cursor.is_end().then_some(command)
}

/// `SET SESSION CHARACTERISTICS AS TRANSACTION` is nothing but a way to set the `default_transaction_…` parameters.
fn characteristics(cursor: Cursor<'_>, scope: Scope) -> Option<Vec<Command>> {
    let modes = transaction::modes(cursor)?;
    let on_off = |on: bool| if on { "on" } else { "off" };
    let isolation = modes.isolation.map(|isolation| match isolation {
        Isolation::ReadUncommitted => "'read uncommitted'",
        Isolation::ReadCommitted => "'read committed'",
        Isolation::RepeatableRead => "'repeatable read'",
        Isolation::Serializable => "'serializable'",
    });
    let commands: Vec<_> = [
        ("default_transaction_isolation", isolation),
        ("default_transaction_read_only", modes.read_only.map(on_off)),
        ("default_transaction_deferrable", modes.deferrable.map(on_off)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(set(scope, name, Setting::Written(value?.to_owned()))))
    .collect();
    (!commands.is_empty()).then_some(commands)
}

/// gram.y's `set_rest`, without SESSION CHARACTERISTICS.
fn rest(mut cursor: Cursor<'_>, scope: Scope) -> Option<Command> {
    let mut ahead = cursor;
    if let Some(name) = parameter(&mut ahead)
        && (ahead.word("to") || ahead.mark("="))
    {
        return generic(ahead, scope, &name);
    }
    if cursor.word("transaction") {
        let modes = transaction::modes(cursor).filter(|_| !cursor.is_end())?;
        return Some(Command::SetTransaction(modes));
    }
    let (name, value) = if cursor.words(&["time", "zone"]) {
        ("timezone", time_zone(cursor)?)
    } else if cursor.words(&["session", "authorization"]) {
        ("session_authorization", word_or_string(cursor)?)
    } else if cursor.word("role") {
        ("role", word_or_string(cursor)?)
    } else if cursor.word("names") {
        ("client_encoding", if cursor.is_end() { Setting::Default } else { string_or_default(cursor)? })
    } else if cursor.word("schema") {
        ("search_path", one_string(cursor)?)
    } else if cursor.words(&["xml", "option"]) && (cursor.is_word("document") || cursor.is_word("content")) {
        ("xmloption", word_or_string(cursor)?)
    } else {
        return None;
    };
    Some(set(scope, name, value))
}

/// `SET name TO value, …`.
fn generic(cursor: Cursor<'_>, scope: Scope, name: &str) -> Option<Command> {
    let value = values(cursor)?;
    if !matches!(name, "transaction_isolation" | "transaction_read_only" | "transaction_deferrable") {
        return Some(set(scope, name, value));
    }
    let token = cursor.peek().filter(|_| cursor.len() == 1)?;
    let value = token.string(cursor.text()).or_else(|| token.identifier(cursor.text()))?.to_ascii_lowercase();
    let mut modes = TransactionModes::default();
    match name {
        "transaction_isolation" => modes.isolation = Some(isolation(&value)?),
        "transaction_read_only" => modes.read_only = Some(boolean(&value)?),
        _ => modes.deferrable = Some(boolean(&value)?),
    }
    Some(Command::SetTransaction(modes))
}

/// A list of values up to the end.
fn values(cursor: Cursor<'_>) -> Option<Setting> {
    if cursor.len() == 1 && cursor.is_word("default") {
        return Some(Setting::Default);
    }
    let mut ahead = cursor;
    loop {
        let sign = ahead.mark("-") || ahead.mark("+");
        let token = ahead.next()?;
        let number = token.kind == Kind::Number;
        if !number && (sign || !matches!(token.kind, Kind::Word | Kind::Quoted | Kind::Text(_))) {
            return None;
        }
        // A string may go on on another line.
        while matches!(token.kind, Kind::Text(_)) && ahead.string().is_some() {}
        if ahead.is_end() {
            return written(cursor);
        }
        if !ahead.mark(",") {
            return None;
        }
    }
}

/// The value of `SET TIME ZONE`, in a form that `SET timezone TO` takes.
fn time_zone(mut cursor: Cursor<'_>) -> Option<Setting> {
    if cursor.len() == 1 && (cursor.is_word("local") || cursor.is_word("default")) {
        return Some(Setting::Default);
    }
    if !cursor.word("interval") {
        let one = cursor.len() == 1 || cursor.is_mark("-") || cursor.is_mark("+");
        return if one { values(cursor) } else { None };
    }
    // `SET timezone` takes 'INTERVAL ''…''' but no fields, which make a bare number hours or minutes.
    let interval = cursor.string()?.string(cursor.text())?;
    let bare = interval.trim_start_matches(['-', '+']).bytes().all(|byte| byte.is_ascii_digit());
    let unit = match (cursor.words(&["hour", "to", "minute"]), cursor.word("hour")) {
        (true, _) if bare => " minute",
        (false, true) if bare => " hour",
        (false, true) => return None,
        _ => "",
    };
    let simple = interval.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" :+-.".contains(&byte));
    (cursor.is_end() && simple).then(|| Setting::Written(format!("'INTERVAL ''{interval}{unit}'''")))
}

/// One word, name or string.
fn word_or_string(cursor: Cursor<'_>) -> Option<Setting> {
    let token = cursor.peek()?;
    let fits = matches!(token.kind, Kind::Word | Kind::Quoted | Kind::Text(_));
    if fits && cursor.len() == 1 { values(cursor) } else { None }
}

fn string_or_default(cursor: Cursor<'_>) -> Option<Setting> {
    if cursor.is_word("default") { values(cursor) } else { one_string(cursor) }
}

fn one_string(cursor: Cursor<'_>) -> Option<Setting> {
    let is_text = |token: Token| matches!(token.kind, Kind::Text(_));
    if cursor.len() == 1 && cursor.peek().is_some_and(is_text) { written(cursor) } else { None }
}

fn written(cursor: Cursor<'_>) -> Option<Setting> {
    cursor.rest().map(|value| Setting::Written(value.to_owned()))
}

/// A parameter's name in lower case: PostgreSQL compares such names without regard to case, quoted or not.
fn parameter(cursor: &mut Cursor<'_>) -> Option<String> {
    let mut name = cursor.name()?.to_ascii_lowercase();
    while cursor.mark(".") {
        name.push('.');
        name.push_str(&cursor.name()?.to_ascii_lowercase());
    }
    Some(name)
}

fn set(scope: Scope, name: &str, value: Setting) -> Command {
    let value = match value {
        Setting::Default => None,
        Setting::Written(value) => Some(value),
    };
    Command::Set { scope, name: name.to_owned(), value }
}

fn isolation(value: &str) -> Option<Isolation> {
    match value {
        "serializable" => Some(Isolation::Serializable),
        "repeatable read" => Some(Isolation::RepeatableRead),
        "read committed" => Some(Isolation::ReadCommitted),
        "read uncommitted" => Some(Isolation::ReadUncommitted),
        _ => None,
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "on" | "true" | "t" | "yes" | "y" | "1" => Some(true),
        "off" | "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}
