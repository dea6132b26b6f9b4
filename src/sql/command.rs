//! Statements that concern the session itself, told apart without a full parser.

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
    /// `DISCARD PLANS`, `DISCARD SEQUENCES`.
    DiscardOther,
    /// `PREPARE name …`.
    Prepare(String),
    /// `EXECUTE name …`.
    Execute(String),
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
    /// `UNLISTEN channel`.
    Unlisten(String),
    /// `UNLISTEN *`.
    UnlistenAll,
    /// `LOAD 'file'`.
    Load,
    /// Any other statement: keeps the count of statements right.
    Other,
}
/// P.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// C.
    pub command: Command,
    /// S.
    pub set_configs: Vec<Command>,
}
/// Stand-in.
pub fn parse(text: &[u8]) -> Vec<Parsed> {
    let t = String::from_utf8_lossy(text).to_lowercase().replace('=', " = ");
    t.split(';')
        .filter(|s| !s.trim().is_empty())
        .map(|s| {
            let mut w = s.split_whitespace();
            let command = match w.next().unwrap_or("") {
                "begin" | "start" => Command::Begin(TransactionModes::default()),
                "commit" | "end" => Command::Commit { chain: false },
                "rollback" => {
                    if s.contains(" to ") {
                        Command::RollbackTo(String::new())
                    } else {
                        Command::Rollback { chain: false }
                    }
                }
                "set" => {
                    let name = w.next().unwrap_or("").to_owned();
                    w.next();
                    Command::Set { scope: Scope::Session, name, value: Some(w.collect::<Vec<_>>().join(" ")) }
                }
                _ => Command::Other,
            };
            Parsed { command, set_configs: Vec::new() }
        })
        .collect()
}
