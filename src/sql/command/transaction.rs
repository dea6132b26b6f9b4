//! BEGIN, COMMIT, ROLLBACK, savepoints and transaction modes (gram.y, `TransactionStmt`).

use super::cursor::Cursor;
use super::{Command, Isolation, TransactionModes};

/// A statement of transaction control; `None` for any other, and for forms that are not understood.
pub(super) fn parse(mut cursor: Cursor<'_>) -> Option<Command> {
    if cursor.word("begin") {
        optional_noun(&mut cursor);
        return modes(cursor).map(Command::Begin);
    }
    if cursor.words(&["start", "transaction"]) {
        return modes(cursor).map(Command::Begin);
    }
    if cursor.word("commit") || cursor.word("end") {
        optional_noun(&mut cursor);
        return chain(cursor).map(|chain| Command::Commit { chain });
    }
    if cursor.word("rollback") {
        optional_noun(&mut cursor);
        if cursor.word("to") {
            return named(cursor, Command::RollbackTo);
        }
        return chain(cursor).map(|chain| Command::Rollback { chain });
    }
    if cursor.word("abort") {
        optional_noun(&mut cursor);
        return chain(cursor).map(|chain| Command::Rollback { chain });
    }
    if cursor.word("savepoint") {
        let name = cursor.name()?;
        return cursor.is_end().then_some(Command::Savepoint(name));
    }
    if cursor.word("release") {
        return named(cursor, Command::Release);
    }
    if cursor.words(&["prepare", "transaction"]) {
        cursor.string()?;
        return cursor.is_end().then_some(Command::PrepareTransaction);
    }
    None
}

/// Modes up to the end of the statement, in any order, with or without commas; `None` when one is unknown or said
/// twice.
pub(super) fn modes(mut cursor: Cursor<'_>) -> Option<TransactionModes> {
    let mut modes = TransactionModes::default();
    let mut comma = false;
    while comma || !cursor.is_end() {
        let twice = if cursor.words(&["isolation", "level"]) {
            modes.isolation.replace(isolation(&mut cursor)?).is_some()
        } else if cursor.words(&["read", "only"]) {
            modes.read_only.replace(true).is_some()
        } else if cursor.words(&["read", "write"]) {
            modes.read_only.replace(false).is_some()
        } else if cursor.words(&["not", "deferrable"]) {
            modes.deferrable.replace(false).is_some()
        } else if cursor.word("deferrable") {
            modes.deferrable.replace(true).is_some()
        } else {
            return None;
        };
        if twice {
            return None;
        }
        comma = cursor.mark(",");
    }
    Some(modes)
}

fn isolation(cursor: &mut Cursor<'_>) -> Option<Isolation> {
    if cursor.word("serializable") {
        Some(Isolation::Serializable)
    } else if cursor.words(&["repeatable", "read"]) {
        Some(Isolation::RepeatableRead)
    } else if cursor.words(&["read", "committed"]) {
        Some(Isolation::ReadCommitted)
    } else {
        cursor.words(&["read", "uncommitted"]).then_some(Isolation::ReadUncommitted)
    }
}

fn optional_noun(cursor: &mut Cursor<'_>) {
    let _ = cursor.word("work") || cursor.word("transaction");
}

/// `[AND [NO] CHAIN]` up to the end.
fn chain(mut cursor: Cursor<'_>) -> Option<bool> {
    let chain = cursor.words(&["and", "chain"]);
    if !chain {
        cursor.words(&["and", "no", "chain"]);
    }
    cursor.is_end().then_some(chain)
}

/// `[SAVEPOINT] name`; a savepoint may itself be called `savepoint`.
fn named(mut cursor: Cursor<'_>, command: fn(String) -> Command) -> Option<Command> {
    if cursor.len() > 1 && !cursor.word("savepoint") {
        return None;
    }
    let name = cursor.name()?;
    cursor.is_end().then(|| command(name))
}
