//! What a text does that the session must know, and what can be said of its class, from its tokens alone.
//!
//! This does not depend on the parser: what the parser does not understand still has effects.

use super::command::{self, Command};
use super::functions;
use super::scan::{Kind, Scanner, Token};
use super::split::{Boundaries, Role};
use super::{Effects, WriteReason};

/// What the tokens tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) effects: Effects,
    /// Why some statement is a write, when that is plain without a parser.
    pub(super) refused: Option<WriteReason>,
    /// How many statements there are.
    pub(super) statements: usize,
    /// How the text would weigh on a parser.
    pub(super) weight: Weight,
}

/// Bounds for the parser: its tree is dropped recursively, so that depth is stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Weight {
    #[default]
    Bearable,
    /// Parentheses too deep, or an expression of too many links (`1 + 1 + 1 …`).
    TooHeavy,
}

/// How many parentheses may be open at once.
const DEPTH_LIMIT: usize = 48;
/// How many operators and words may stand between two commas of one level, or set operations in a text: each can
/// deepen the tree by one.
const CHAIN_LIMIT: u32 = 2048;

/// How many joins may wait for their conditions (`a JOIN b JOIN c ON … ON …`).
const JOIN_LIMIT: u32 = 8;

/// The effects of a text, and what is plain of its class.
pub(super) fn survey(text: &[u8]) -> Survey {
    let mut surveyor = Surveyor::new(text);
    let mut boundaries = Boundaries::default();
    for token in Scanner::new(text) {
        match boundaries.role(text, token) {
            Role::First => surveyor.first(token),
            Role::Inside => surveyor.inside(token),
            Role::End => surveyor.end(),
        }
        surveyor.depth = boundaries.depth();
        surveyor.weigh(token);
    }
    surveyor.finish()
}

/// What kind of statement its first word announces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verb {
    /// SELECT, WITH, VALUES, TABLE, EXPLAIN, COPY: the parser must tell.
    #[default]
    Query,
    Explain,
    Select,
    Create,
    Drop,
    /// DDL other than CREATE and DROP.
    Define,
    /// Concerns the session, and `command` may tell it apart.
    Command,
    /// Concerns the session, but nothing that `command` knows.
    Session,
    Other,
}

struct Surveyor<'a> {
    text: &'a [u8],
    survey: Survey,
    verb: Verb,
    /// How many tokens of the statement went by.
    index: usize,
    /// The two tokens before this one, the nearer first.
    before: [Option<Token>; 2],
    /// `CREATE … TEMP` was seen in this statement.
    temporary: bool,
    set_config_calls: usize,
    set_operations: u32,
    /// Operators and words since the last comma, for each level of parentheses.
    links: [u32; DEPTH_LIMIT + 1],
    /// Joins without their condition, for each level of parentheses.
    joins: [u32; DEPTH_LIMIT + 1],
    /// Open brackets.
    brackets: u32,
    /// Open parentheses.
    depth: usize,
}

// === impl Surveyor ===

impl<'a> Surveyor<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            survey: Survey::default(),
            verb: Verb::default(),
            index: 0,
            before: [None; 2],
            temporary: false,
            set_config_calls: 0,
            set_operations: 0,
            links: [0; DEPTH_LIMIT + 1],
            joins: [0; DEPTH_LIMIT + 1],
            brackets: 0,
            depth: 0,
        }
    }

    fn add(&mut self, effects: Effects) {
        self.survey.effects = self.survey.effects.with(effects);
    }

    fn refuse(&mut self, reason: WriteReason) {
        self.survey.refused.get_or_insert(reason);
    }

    fn first(&mut self, token: Token) {
        self.survey.statements += 1;
        self.index = 0;
        self.before = [None; 2];
        self.temporary = false;
        self.verb = verb(token, self.text);
        match self.verb {
            Verb::Query | Verb::Select | Verb::Explain => {}
            Verb::Command => {
                self.add(Effects::COMMANDS);
                self.refuse(WriteReason::Session);
            }
            Verb::Session => self.refuse(WriteReason::Session),
            Verb::Create | Verb::Define | Verb::Other => self.refuse(WriteReason::Statement),
            Verb::Drop => {
                self.add(Effects::DROP.with(Effects::DDL));
                self.refuse(WriteReason::Statement);
            }
        }
        self.inside(token);
    }

    fn inside(&mut self, token: Token) {
        match token.kind {
            Kind::Word => self.word(token),
            Kind::Quoted => self.name(token),
            Kind::Punctuation if token.bytes(self.text) == b"(" => self.call(),
            _ => {}
        }
        self.before = [Some(token), self.before[0]];
        self.index += 1;
    }

    fn end(&mut self) {
        // Temporary objects are nobody else's: the catalog of facts does not have them.
        if matches!(self.verb, Verb::Create | Verb::Define) && !self.temporary {
            self.add(Effects::DDL);
        }
        self.verb = Verb::default();
    }

    fn word(&mut self, token: Token) {
        let is = |word| token.is_word(self.text, word);
        if (is("temp") || is("temporary")) && self.makes_temporary() {
            self.temporary = true;
            self.add(Effects::TEMPORARY);
        }
        if is("into") && matches!(self.verb, Verb::Select | Verb::Query | Verb::Explain) && !self.follows("insert") {
            self.add(Effects::DDL);
        }
        if self.follows("for") && ["update", "share", "no", "key"].iter().any(|word| is(word)) {
            self.refuse(WriteReason::RowLock);
        }
        if is("explain") && self.verb == Verb::Explain && self.index > 0 && self.depth == 0 {
            // No such statement, and no depth for the parser to go to.
            self.refuse(WriteReason::Statement);
        }
        if is("execute") && (self.verb == Verb::Explain || (self.verb == Verb::Create && self.follows("as"))) {
            self.add(Effects::COMMANDS);
        }
        if ["union", "intersect", "except"].iter().any(|word| is(word)) {
            self.set_operations += 1;
        }
        self.name(token);
    }

    /// A name in the temporary schema: whatever is made there is temporary.
    fn name(&mut self, token: Token) {
        let bytes = token.bytes(self.text);
        let bytes = bytes.strip_prefix(b"\"").unwrap_or(bytes);
        if bytes.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"pg_temp")) && self.verb != Verb::Drop {
            self.temporary = true;
            self.add(Effects::TEMPORARY);
        }
    }

    /// Whether TEMP means what it says here: `CREATE [OR REPLACE] [GLOBAL | LOCAL] TEMP …`, `SELECT … INTO TEMP …`.
    fn makes_temporary(&self) -> bool {
        let scoped = self.follows("local") || self.follows("global");
        let created = self.verb == Verb::Create && self.index <= 4;
        let created = created && (scoped || self.follows("create") || self.follows("replace"));
        let into = |at: usize| self.before[at].is_some_and(|token| token.is_word(self.text, "into"));
        let inserted =
            self.before[1].is_some_and(|token| ["insert", "merge"].iter().any(|w| token.is_word(self.text, w)));
        created || (into(0) && !inserted) || (scoped && into(1))
    }

    fn follows(&self, word: &str) -> bool {
        self.before[0].is_some_and(|token| token.is_word(self.text, word))
    }

    /// An opening parenthesis: with a name before it, that may be a call.
    fn call(&mut self) {
        let Some(before) = self.before[0].filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted)) else {
            return;
        };
        let Some(name) = before.identifier(self.text) else { return };
        if functions::locks(&name) {
            self.add(Effects::ADVISORY_LOCK);
        } else if functions::unlocks(&name) {
            self.add(Effects::ADVISORY_UNLOCK);
        } else if functions::leaves_session_state(&name) {
            self.add(Effects::SESSION_STATE);
        } else if name == "set_config" {
            self.set_config_calls += 1;
        }
        if functions::is_bound(&name) {
            self.refuse(WriteReason::Function);
        }
    }

    /// Counts what can make a parser's tree deep.
    fn weigh(&mut self, token: Token) {
        let depth = self.depth;
        if depth > DEPTH_LIMIT || self.set_operations > CHAIN_LIMIT / 4 {
            self.survey.weight = Weight::TooHeavy;
            return;
        }
        match token.kind {
            Kind::Punctuation => match token.bytes(self.text) {
                // In brackets a comma ends an item of the array, not the expression that the array is in.
                b"," if self.brackets > 0 => {}
                b"," => self.links[depth] = 0,
                b";" | b"(" => {
                    self.links[depth] = 0;
                    self.joins[depth] = 0;
                }
                b"[" => {
                    self.brackets += 1;
                    self.links[depth] += 1;
                }
                b"]" => self.brackets = self.brackets.saturating_sub(1),
                _ => {}
            },
            Kind::Operator => self.links[depth] += 1,
            Kind::Word => {
                self.links[depth] += 1;
                self.join(token);
            }
            _ => {}
        }
        if self.links[depth] > CHAIN_LIMIT || self.joins[depth] > JOIN_LIMIT {
            self.survey.weight = Weight::TooHeavy;
        }
    }

    /// Counts joins whose condition is still to come: the parser goes down with each.
    fn join(&mut self, token: Token) {
        let before = |word| self.before[1].is_some_and(|token| token.is_word(self.text, word));
        let joins = &self.joins[self.depth];
        self.joins[self.depth] = if token.is_word(self.text, "join") && !before("cross") && !before("natural") {
            joins + 1
        } else if token.is_word(self.text, "on") || token.is_word(self.text, "using") {
            joins.saturating_sub(1)
        } else {
            return;
        };
    }

    fn finish(mut self) -> Survey {
        self.end();
        if self.set_config_calls > 0 {
            self.add(Effects::COMMANDS);
            let understood = command::parse(self.text).into_iter().flat_map(|statement| statement.commands);
            let is_call = |command: &Command| matches!(command, Command::SetConfig { .. });
            if understood.filter(is_call).count() != self.set_config_calls {
                self.add(Effects::SET_CONFIG_OPAQUE);
            }
        }
        self.survey
    }
}

fn verb(token: Token, text: &[u8]) -> Verb {
    let word = match token.kind {
        Kind::Word => token.bytes(text),
        Kind::Punctuation if token.bytes(text) == b"(" => return Verb::Query,
        _ => return Verb::Other,
    };
    let is = |words: &[&str]| words.iter().any(|other| word.eq_ignore_ascii_case(other.as_bytes()));
    if is(&["select"]) {
        Verb::Select
    } else if is(&["with", "values", "table", "copy"]) {
        Verb::Query
    } else if is(&["explain"]) {
        Verb::Explain
    } else if is(&["insert", "update", "delete", "merge", "call", "do", "vacuum", "truncate", "refresh"]) {
        Verb::Other
    } else if is(COMMANDS) {
        Verb::Command
    } else if is(&["create"]) {
        Verb::Create
    } else if is(&["drop"]) {
        Verb::Drop
    } else if is(&["alter", "import", "grant", "revoke", "reassign"]) {
        Verb::Define
    } else if is(&["show", "fetch", "move", "notify", "lock", "checkpoint"]) {
        Verb::Session
    } else {
        Verb::Other
    }
}

/// First words of what `command::parse` tells apart.
const COMMANDS: &[&str] = &[
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "set",
    "reset",
    "prepare",
    "execute",
    "deallocate",
    "discard",
    "declare",
    "close",
    "listen",
    "unlisten",
    "load",
];

#[cfg(test)]
mod tests;
