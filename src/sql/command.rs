//! Statements that concern the session itself, told apart without a full parser.
//!
//! A form that is not wholly understood is [`Command::Other`]: the server judges it, and its answer tells.

mod cursor;
mod set;
mod set_config;
mod transaction;

use std::ops::Range;

use self::cursor::Cursor;
use super::effects;
use super::scan::{Scanner, Token};
use super::split::{Boundaries, Role};

/// A literal, or the parameter that will carry the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The value itself.
    Literal(String),
    /// `$n`, counted from 1.
    Parameter(u16),
}

/// Modes of `BEGIN`, `START TRANSACTION` and `SET TRANSACTION`; `None` where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// `ISOLATION LEVEL …`.
    pub isolation: Option<Isolation>,
    /// `READ ONLY` is `Some(true)`, `READ WRITE` is `Some(false)`.
    pub read_only: Option<bool>,
    /// `[NOT] DEFERRABLE`.
    pub deferrable: Option<bool>,
}

/// Isolation levels as SQL names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// The same as read committed in PostgreSQL.
    ReadUncommitted,
    /// Each statement sees what was committed before it.
    ReadCommitted,
    /// One snapshot for the transaction.
    RepeatableRead,
    /// As if transactions ran one after another.
    Serializable,
}

/// What a SET changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The session.
    Session,
    /// The current transaction.
    Local,
}

/// One statement that concerns the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `BEGIN`, `START TRANSACTION`.
    Begin(TransactionModes),
    /// `COMMIT`, `END`; with `AND CHAIN` when `chain`.
    Commit {
        /// Whether a new transaction follows at once.
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`.
    Rollback {
        /// Whether a new transaction follows at once.
        chain: bool,
    },
    /// `SAVEPOINT name`.
    Savepoint(String),
    /// `RELEASE [SAVEPOINT] name`.
    Release(String),
    /// `ROLLBACK TO [SAVEPOINT] name`.
    RollbackTo(String),
    /// `PREPARE TRANSACTION`.
    PrepareTransaction,
    /// `SET TRANSACTION …`, and the same said with `SET transaction_isolation`, `transaction_read_only` or
    /// `transaction_deferrable`.
    SetTransaction(TransactionModes),
    /// `SET [SESSION|LOCAL] name …` in all its forms (`TIME ZONE`, `NAMES`, `SCHEMA`, `ROLE`,
    /// `SESSION AUTHORIZATION`, `SESSION CHARACTERISTICS`, `XML OPTION`).
    Set {
        /// How long it lasts.
        scope: Scope,
        /// The parameter, in lower case (`search_path`, `timezone`, `role`, `session_authorization`);
        /// SESSION CHARACTERISTICS gives one command for each `default_transaction_…` it sets.
        name: String,
        /// What follows `SET name TO ` when the setting is made again; `None` for DEFAULT.
        value: Option<String>,
    },
    /// `SELECT set_config(name, value, is_local)`, where the call is sure to be made exactly once. Any other call of
    /// `set_config` shows as [`super::Effects::SET_CONFIG_OPAQUE`].
    SetConfig {
        /// The parameter's name.
        name: Value,
        /// Its value.
        value: Value,
        /// Whether it lasts for the transaction only (`t`, `true`, `1`, … or a parameter).
        is_local: Value,
    },
    /// `RESET name`; the name in lower case (`RESET ROLE` is `role`).
    Reset(String),
    /// `RESET ALL`.
    ResetAll,
    /// `DISCARD ALL`.
    DiscardAll,
    /// `DISCARD TEMP`.
    DiscardTemp,
    /// `DISCARD PLANS`, `DISCARD SEQUENCES`.
    DiscardOther,
    /// `PREPARE name …`.
    Prepare(String),
    /// `EXECUTE name …`, also within EXPLAIN and CREATE TABLE … AS.
    Execute(String),
    /// `DEALLOCATE [PREPARE] name`; `at` is the byte range of the name (quotes included) in the text.
    Deallocate {
        /// The statement's name, folded as PostgreSQL folds identifiers.
        name: String,
        /// Where the name stands in the text.
        at: Range<usize>,
    },
    /// `DEALLOCATE ALL`.
    DeallocateAll,
    /// `DECLARE name … CURSOR`.
    Declare {
        /// The cursor's name.
        name: String,
        /// `WITH HOLD`.
        hold: bool,
    },
    /// `CLOSE name`.
    Close(String),
    /// `CLOSE ALL`.
    CloseAll,
    /// `LISTEN channel`.
    Listen(String),
    /// `UNLISTEN channel`.
    Unlisten(String),
    /// `UNLISTEN *`.
    UnlistenAll,
    /// `LOAD 'file'`.
    Load,
    /// Any other statement: keeps the count of statements right.
    Other,
}

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it does to the session, in order; never empty. Several when it is `SET SESSION CHARACTERISTICS` with
    /// several modes, or a SELECT that calls `set_config` several times.
    pub commands: Vec<Command>,
    /// Where it stands in the text, from its first token to its last; neither comments around it nor the semicolon.
    pub span: Range<usize>,
}

/// The statements of a text in order: one for each `CommandComplete` that PostgreSQL will send if nothing fails.
/// Empty statements are not counted (a text without any statement gets one `EmptyQueryResponse`).
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut head = Head::default();
    let mut boundaries = Boundaries::default();
    for token in Scanner::new(text) {
        match boundaries.role(text, token) {
            Role::End => statements.extend(head.take(text)),
            Role::First | Role::Inside => head.push(token),
        }
    }
    statements.extend(head.take(text));
    statements
}

/// Whether `parse` would find anything but [`Command::Other`], or a `set_config` call. The same as
/// [`super::Effects::COMMANDS`] of the text's analysis, which is remembered by fingerprint.
#[must_use]
pub fn may_have_commands(text: &[u8]) -> bool {
    effects::survey(text).effects.has(super::Effects::COMMANDS)
}

/// How many tokens of a statement are looked at; longer SETs and `set_config` calls are not understood.
const HEAD: usize = 1024;

/// The beginning of a statement.
#[derive(Default)]
struct Head {
    tokens: Vec<Token>,
    end: usize,
}

impl Head {
    fn push(&mut self, token: Token) {
        if self.tokens.len() <= HEAD {
            self.tokens.push(token);
        }
        self.end = token.end;
    }

    /// The statement, if there is one; the head is empty again.
    fn take(&mut self, text: &[u8]) -> Option<Statement> {
        let span = self.tokens.first()?.start..self.end;
        let commands = commands(Cursor::new(text, &self.tokens));
        self.tokens.clear();
        Some(Statement { commands, span })
    }
}

fn commands(mut cursor: Cursor<'_>) -> Vec<Command> {
    if cursor.len() > HEAD && !cursor.is_word("prepare") && !cursor.is_word("declare") && !cursor.is_word("execute") {
        return vec![Command::Other];
    }
    if cursor.is_word("select") {
        return set_config::parse(cursor);
    }
    if cursor.word("set") {
        return set::parse(cursor);
    }
    vec![single(cursor).unwrap_or(Command::Other)]
}

/// Statements that are one command at most.
fn single(mut cursor: Cursor<'_>) -> Option<Command> {
    if let Some(command) = transaction::parse(cursor) {
        return Some(command);
    }
    if cursor.word("reset") {
        return set::reset(cursor);
    }
    if cursor.word("deallocate") {
        return deallocate(cursor);
    }
    if cursor.word("prepare") {
        let name = cursor.name()?;
        return (cursor.is_word("as") || cursor.is_mark("(")).then_some(Command::Prepare(name));
    }
    if cursor.word("execute") {
        let name = cursor.name()?;
        return (cursor.is_end() || cursor.is_mark("(")).then_some(Command::Execute(name));
    }
    if cursor.word("explain") {
        return cursor.after("execute").map(Command::Execute);
    }
    if cursor.word("create") {
        return cursor.after_pair("as", "execute").map(Command::Execute);
    }
    if cursor.word("declare") {
        return declare(cursor);
    }
    names(cursor)
}

/// Commands that are a verb and perhaps a name.
fn names(mut cursor: Cursor<'_>) -> Option<Command> {
    let command = if cursor.word("discard") {
        discard(&mut cursor)?
    } else if cursor.word("close") {
        if cursor.word("all") { Command::CloseAll } else { Command::Close(cursor.name()?) }
    } else if cursor.word("listen") {
        Command::Listen(cursor.name()?)
    } else if cursor.word("unlisten") {
        if cursor.mark("*") { Command::UnlistenAll } else { Command::Unlisten(cursor.name()?) }
    } else if cursor.word("load") {
        cursor.string()?;
        Command::Load
    } else {
        return None;
    };
    cursor.is_end().then_some(command)
}

fn discard(cursor: &mut Cursor<'_>) -> Option<Command> {
    if cursor.word("all") {
        Some(Command::DiscardAll)
    } else if cursor.word("temp") || cursor.word("temporary") {
        Some(Command::DiscardTemp)
    } else {
        (cursor.word("plans") || cursor.word("sequences")).then_some(Command::DiscardOther)
    }
}

/// `DEALLOCATE [PREPARE] name | ALL`; a statement may itself be called `prepare`.
fn deallocate(mut cursor: Cursor<'_>) -> Option<Command> {
    if cursor.len() > 1 && !cursor.word("prepare") {
        return None;
    }
    let at = cursor.span()?;
    let command =
        if cursor.word("all") { Command::DeallocateAll } else { Command::Deallocate { name: cursor.name()?, at } };
    cursor.is_end().then_some(command)
}

fn declare(mut cursor: Cursor<'_>) -> Option<Command> {
    let name = cursor.name()?;
    let mut hold = false;
    while !cursor.word("for") {
        if cursor.words(&["with", "hold"]) {
            hold = true;
        } else if !["binary", "asensitive", "insensitive", "no", "scroll", "cursor", "without", "hold"]
            .iter()
            .any(|word| cursor.word(word))
        {
            return None;
        }
    }
    Some(Command::Declare { name, hold })
}

#[cfg(test)]
mod tests;
