//! Statements that concern the session itself, told apart without a full parser.

pub(super) mod set;
pub(super) mod set_config;

use super::scan::{Kind, Token};
use super::split::{self, Cursor};

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

impl Isolation {
    /// The level that a value of `default_transaction_isolation` names, quoted or not.
    #[must_use]
    pub fn of_setting(value: &str) -> Option<Self> {
        match value.trim_matches(['\'', '"', ' ']).to_ascii_lowercase().as_str() {
            "read uncommitted" => Some(Self::ReadUncommitted),
            "read committed" => Some(Self::ReadCommitted),
            "repeatable read" => Some(Self::RepeatableRead),
            "serializable" => Some(Self::Serializable),
            _ => None,
        }
    }

    /// Whether each statement sees what was committed before it.
    #[must_use]
    pub const fn is_read_committed(self) -> bool {
        matches!(self, Self::ReadUncommitted | Self::ReadCommitted)
    }
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
    /// `SET TRANSACTION …`.
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
    /// `SELECT … set_config(name, value, is_local) …`.
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
    /// `DISCARD SEQUENCES`.
    DiscardSequences,
    /// `DISCARD PLANS`.
    DiscardPlans,
    /// `PREPARE name …`.
    Prepare(String),
    /// `EXECUTE name …`; `at` as for DEALLOCATE.
    Execute {
        /// The statement's name, folded as PostgreSQL folds identifiers.
        name: String,
        /// Where the name stands in the text.
        at: std::ops::Range<usize>,
    },
    /// `DEALLOCATE [PREPARE] name`; `at` is the byte range of the name (quotes included) in the text.
    Deallocate {
        /// The statement's name, folded as PostgreSQL folds identifiers.
        name: String,
        /// Where the name stands in the text.
        at: std::ops::Range<usize>,
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
    /// `LISTEN` of a name that this reader does not know how to read: `U&"…"`, or bytes that are not UTF-8.
    ListenUnread,
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
pub struct Parsed {
    /// What it is.
    pub command: Command,
    /// What it sets besides: calls of `set_config`, and the other parts of SET SESSION CHARACTERISTICS.
    pub set_configs: Vec<Command>,
}

impl Parsed {
    /// Whether it takes settings back, and does nothing else.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        match &self.command {
            Command::Reset(_) | Command::ResetAll | Command::DiscardAll => true,
            Command::Set { value, .. } => value.is_none(),
            _ => false,
        }
    }
}

/// The statements of `text` in order. What is not understood is [`Command::Other`]: the server judges it.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Parsed> {
    let statements = split::statements(text);
    statements.iter().map(|tokens| parse_statement(Cursor::new(text, tokens))).collect()
}

/// The database that `text` drops or renames: no server connection may be left in it.
#[must_use]
pub fn vacated_database(text: &[u8]) -> Option<String> {
    let statements = split::statements(text);
    let [tokens] = &statements[..] else { return None };
    let mut cursor = Cursor::new(text, tokens);
    if cursor.words(&["drop", "database"]) {
        cursor.words(&["if", "exists"]);
        return cursor.name();
    }
    let name = cursor.words(&["alter", "database"]).then(|| cursor.name()).flatten()?;
    cursor.word("rename").then_some(name)
}

/// Words that begin a query.
const QUERIES: [&str; 8] = ["select", "with", "values", "insert", "update", "delete", "merge", "table"];

/// Whether the functions in a statement are called when it runs, and not merely named in it.
pub(super) fn is_query(cursor: Cursor<'_>) -> bool {
    let text = cursor.text();
    let is = |token: &Token| QUERIES.iter().any(|word| token.is_word(text, word)) || token.is_mark(text, "(");
    cursor.tokens().first().is_some_and(is)
}

/// Whether a SET or RESET of the session is not understood: what it leaves behind is not known.
pub(super) fn is_strange_setting(cursor: Cursor<'_>) -> bool {
    let mut words = cursor;
    let is_set = words.word("set");
    if !is_set && !words.word("reset") {
        return false;
    }
    if is_set && ["local", "constraints", "transaction"].into_iter().any(|word| words.word(word)) {
        return false;
    }
    let mut more = Vec::new();
    let understood = cursor.is_sound() && understand(cursor, &mut more).is_some();
    !understood
}

fn parse_statement(cursor: Cursor<'_>) -> Parsed {
    let mut set_configs = if is_query(cursor) { set_config::calls(cursor).0 } else { Vec::new() };
    let command = match understand(cursor, &mut set_configs) {
        Some(command) if cursor.is_sound() => command,
        _ if listens_unread(cursor) => Command::ListenUnread,
        _ => Command::Other,
    };
    Parsed { command, set_configs }
}

/// Whether a LISTEN names its channel in a way that PostgreSQL reads and this reader does not.
fn listens_unread(mut cursor: Cursor<'_>) -> bool {
    if !cursor.word("listen") {
        return false;
    }
    let Some(name) = cursor.peek() else { return false };
    let bytes = name.bytes(cursor.text());
    bytes.starts_with(b"U&\"") || bytes.starts_with(b"u&\"") || std::str::from_utf8(bytes).is_err()
}

/// Words that begin a statement which `parse` may tell apart.
pub(super) const FIRST_WORDS: [&str; 24] = [
    "abort",
    "begin",
    "close",
    "commit",
    "deallocate",
    "declare",
    "discard",
    "end",
    "execute",
    "listen",
    "load",
    "prepare",
    "release",
    "reset",
    "rollback",
    "savepoint",
    "set",
    "start",
    "unlisten",
    "fetch",
    "move",
    "notify",
    "lock",
    "show",
];

fn understand(mut cursor: Cursor<'_>, more: &mut Vec<Command>) -> Option<Command> {
    let first = cursor.next()?;
    if first.kind != Kind::Word {
        return None;
    }
    let word = std::str::from_utf8(first.bytes(cursor.text())).ok()?.to_ascii_lowercase();
    match word.as_str() {
        "begin" => {
            let _ = cursor.word("work") || cursor.word("transaction");
            transaction_modes(cursor).map(Command::Begin)
        }
        "start" => cursor.word("transaction").then(|| transaction_modes(cursor)).flatten().map(Command::Begin),
        "commit" | "end" => Some(Command::Commit { chain: chain(cursor)? }),
        "rollback" | "abort" => rollback(cursor),
        "savepoint" => cursor.name().and_then(|name| cursor.end(Command::Savepoint(name))),
        "release" => {
            let _ = cursor.word("savepoint");
            cursor.name().and_then(|name| cursor.end(Command::Release(name)))
        }
        "set" => set::set(cursor, more),
        "reset" => set::reset(cursor),
        "discard" => discard(cursor),
        _ => of_objects(&word, cursor),
    }
}

/// Commands about prepared statements, cursors, channels and libraries.
fn of_objects(word: &str, mut cursor: Cursor<'_>) -> Option<Command> {
    match word {
        "prepare" if cursor.word("transaction") => Some(Command::PrepareTransaction),
        "prepare" => cursor.name().map(Command::Prepare),
        "execute" => {
            let token = cursor.next()?;
            let at = token.start..token.end;
            token.identifier(cursor.text()).map(|name| Command::Execute { name, at })
        }
        "deallocate" => {
            // `DEALLOCATE prepare` deallocates a statement of that name.
            if cursor.tokens().len() > 1 {
                cursor.word("prepare");
            }
            if cursor.word("all") {
                return cursor.end(Command::DeallocateAll);
            }
            let token = cursor.next()?;
            let at = token.start..token.end;
            token.identifier(cursor.text()).and_then(|name| cursor.end(Command::Deallocate { name, at }))
        }
        "declare" => declare(cursor),
        "close" if cursor.word("all") => cursor.end(Command::CloseAll),
        "close" => cursor.name().and_then(|name| cursor.end(Command::Close(name))),
        // PostgreSQL refuses an empty name.
        "listen" => cursor.name().filter(|name| !name.is_empty()).and_then(|name| cursor.end(Command::Listen(name))),
        "unlisten" if cursor.mark("*") => cursor.end(Command::UnlistenAll),
        "unlisten" => cursor.name().and_then(|name| cursor.end(Command::Unlisten(name))),
        "load" => Some(Command::Load),
        _ => None,
    }
}

/// `[WORK | TRANSACTION] [AND [NO] CHAIN]`, and nothing else.
fn chain(mut cursor: Cursor<'_>) -> Option<bool> {
    let _ = cursor.word("work") || cursor.word("transaction");
    let chain = cursor.words(&["and", "chain"]);
    let _ = chain || cursor.words(&["and", "no", "chain"]);
    cursor.end(chain)
}

fn rollback(mut cursor: Cursor<'_>) -> Option<Command> {
    if let Some(chain) = chain(cursor) {
        return Some(Command::Rollback { chain });
    }
    let _ = cursor.word("work") || cursor.word("transaction");
    if !cursor.word("to") {
        return None;
    }
    let _ = cursor.word("savepoint");
    cursor.name().and_then(|name| cursor.end(Command::RollbackTo(name)))
}

/// Transaction modes up to the end; `None` when something else is there, or something is said twice.
pub(super) fn transaction_modes(mut cursor: Cursor<'_>) -> Option<TransactionModes> {
    let mut modes = TransactionModes::default();
    while !cursor.is_at_end() {
        if cursor.words(&["isolation", "level"]) {
            let level = isolation(&mut cursor)?;
            modes.isolation.replace(level).is_none().then_some(())?;
        } else if cursor.words(&["read", "only"]) {
            modes.read_only.replace(true).is_none().then_some(())?;
        } else if cursor.words(&["read", "write"]) {
            modes.read_only.replace(false).is_none().then_some(())?;
        } else if cursor.words(&["not", "deferrable"]) {
            modes.deferrable.replace(false).is_none().then_some(())?;
        } else {
            cursor.word("deferrable").then_some(())?;
            modes.deferrable.replace(true).is_none().then_some(())?;
        }
        if cursor.mark(",") && cursor.is_at_end() {
            return None;
        }
    }
    Some(modes)
}

fn isolation(cursor: &mut Cursor<'_>) -> Option<Isolation> {
    let levels = [
        (&["read", "uncommitted"][..], Isolation::ReadUncommitted),
        (&["read", "committed"], Isolation::ReadCommitted),
        (&["repeatable", "read"], Isolation::RepeatableRead),
        (&["serializable"], Isolation::Serializable),
    ];
    levels.into_iter().find(|(words, _)| cursor.words(words)).map(|(_, level)| level)
}

fn discard(mut cursor: Cursor<'_>) -> Option<Command> {
    let what = cursor.name()?;
    let command = match what.as_str() {
        "all" => Command::DiscardAll,
        "temp" | "temporary" => Command::DiscardTemp,
        "sequences" => Command::DiscardSequences,
        "plans" => Command::DiscardPlans,
        _ => return None,
    };
    cursor.end(command)
}

/// `DECLARE name [options] CURSOR [{WITH | WITHOUT} HOLD] FOR …`.
fn declare(mut cursor: Cursor<'_>) -> Option<Command> {
    let name = cursor.name()?;
    while !cursor.word("cursor") {
        cursor.next()?;
    }
    Some(Command::Declare { name, hold: cursor.words(&["with", "hold"]) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Command {
        let parsed = parse(text.as_bytes());
        assert_eq!(parsed.len(), 1, "{text}");
        parsed[0].command.clone()
    }

    fn modes(isolation: Option<Isolation>, read_only: Option<bool>, deferrable: Option<bool>) -> TransactionModes {
        TransactionModes { isolation, read_only, deferrable }
    }

    #[test]
    fn transactions() {
        use Command::{Begin, Commit, Release, Rollback, RollbackTo, Savepoint};
        let none = modes(None, None, None);
        let strict = modes(Some(Isolation::Serializable), Some(true), Some(true));
        for (text, expected) in [
            ("BEGIN", Begin(none)),
            ("/* hi */ begin work;", Begin(none)),
            ("start transaction isolation level serializable, read only deferrable", Begin(strict)),
            ("BEGIN READ WRITE", Begin(modes(None, Some(false), None))),
            ("begin isolation level repeatable read", Begin(modes(Some(Isolation::RepeatableRead), None, None))),
            ("begin isolation level wrong", Command::Other),
            ("begin read only read only", Command::Other),
            ("begin,", Command::Other),
            ("start", Command::Other),
            ("commit", Commit { chain: false }),
            ("END TRANSACTION AND CHAIN", Commit { chain: true }),
            ("commit and no chain", Commit { chain: false }),
            ("commit prepared 'x'", Command::Other),
            ("rollback", Rollback { chain: false }),
            ("abort work and chain", Rollback { chain: true }),
            ("rollback to s", RollbackTo("s".into())),
            ("rollback work to savepoint \"S\"", RollbackTo("S".into())),
            ("rollback prepared 'x'", Command::Other),
            ("savepoint A", Savepoint("a".into())),
            ("release savepoint a", Release("a".into())),
            ("prepare transaction 'x'", Command::PrepareTransaction),
        ] {
            assert_eq!(one(text), expected, "{text}");
        }
    }

    #[test]
    fn objects() {
        let deallocate = |name: &str, at| Command::Deallocate { name: name.into(), at };
        for (text, expected) in [
            ("prepare p (int) as select $1", Command::Prepare("p".into())),
            ("execute P(1)", Command::Execute { name: "p".into(), at: 8..9 }),
            ("deallocate p", deallocate("p", 11..12)),
            ("DEALLOCATE PREPARE \"_pg3_0\"", deallocate("_pg3_0", 19..27)),
            ("deallocate prepare", deallocate("prepare", 11..18)),
            ("deallocate all", Command::DeallocateAll),
            ("declare c cursor with hold for select 1", Command::Declare { name: "c".into(), hold: true }),
            ("declare c no scroll cursor for select 1", Command::Declare { name: "c".into(), hold: false }),
            ("close all", Command::CloseAll),
            ("close c", Command::Close("c".into())),
            ("listen Ch", Command::Listen("ch".into())),
            ("listen U&\"\\0061\"", Command::ListenUnread),
            ("listen 'a'", Command::Other),
            ("listen a b", Command::Other),
            ("listen \"\"", Command::Other),
            ("unlisten *", Command::UnlistenAll),
            ("unlisten \"Ch\"", Command::Unlisten("Ch".into())),
            ("load 'x'", Command::Load),
            ("discard all", Command::DiscardAll),
            ("discard temporary", Command::DiscardTemp),
            ("discard plans", Command::DiscardPlans),
            ("discard sequences", Command::DiscardSequences),
            ("select 1", Command::Other),
        ] {
            assert_eq!(one(text), expected, "{text}");
        }
    }

    #[test]
    fn databases_are_vacated() {
        for (text, expected) in [
            ("drop database if exists \"Test_app\"", Some("Test_app")),
            ("DROP DATABASE x WITH (FORCE)", Some("x")),
            ("alter database a rename to b", Some("a")),
            ("alter database a set work_mem = 1", None),
            ("drop table x", None),
        ] {
            assert_eq!(vacated_database(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn every_statement_has_its_place() {
        let parsed = parse(b"; set a to 1;; select ';' -- ; \n; begin; ");
        let commands: Vec<_> = parsed.into_iter().map(|parsed| parsed.command).collect();
        let set = Command::Set { scope: Scope::Session, name: "a".into(), value: Some("1".into()) };
        assert_eq!(commands, [set, Command::Other, Command::Begin(TransactionModes::default())]);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&text);
        }

        #[test]
        fn mutilated_commands_do_not_panic(
            words in prop::collection::vec(prop::sample::select(vec![
                "set", "local", "session", "time", "zone", "to", "=", "'x'", ",", "reset", "all", "begin", "read", "only",
                "select", "set_config", "(", ")", "$1", "'a'", "true", "::", "text", ".", "deallocate", "prepare", ";",
                "isolation", "level", "characteristics", "as", "transaction", "role", "none", "interval", "hour",
            ]), 0..14),
        ) {
            let _ = parse(words.join(" ").as_bytes());
        }
    }
}
