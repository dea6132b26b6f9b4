//! Whether a text is a read that any node may answer, and the proof of it.
//!
//! Deny by default: a text is a read only if every statement, expression, function, operator and relation in it is
//! known to be one. This room never raises an error: what it does not understand is a write.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::catalog::Catalog;
use super::command::{Isolation, TransactionModes};
use super::effects::{self, Survey, Weight};
use super::hint::{Hint, Route};
use super::scan::{Kind, Scanner};
use super::{Analysis, Class, WriteReason, normal, walk};

/// The proof that a piece of work may run on a replica. It cannot be copied: it is handed from the room that knows to
/// the room that routes.
#[derive(Debug)]
pub struct ReadOnly(());

// === impl ReadOnly ===

impl ReadOnly {
    /// For [`Analysis::read_only`] alone.
    pub(super) const fn of_a_read() -> Self {
        Self(())
    }

    /// The one exception: the client said so in a hint. If it was wrong the replica refuses to write.
    #[must_use]
    pub fn by_order(hint: &Hint) -> Option<Self> {
        (hint.route == Some(Route::Replica)).then_some(Self(()))
    }

    /// An explicit READ ONLY transaction, which the server itself keeps from writing. A standby has no SERIALIZABLE.
    #[must_use]
    pub fn transaction(modes: &TransactionModes) -> Option<Self> {
        (modes.read_only == Some(true) && modes.isolation != Some(Isolation::Serializable)).then_some(Self(()))
    }
}

/// Texts longer than this in bytes are not parsed.
pub const LENGTH_LIMIT: usize = 1 << 20;

/// How deep the parser may nest. It keeps its own stack from overflowing; the limit keeps the tree's drop short.
const NESTING_LIMIT: usize = 64;

/// Analyses a text, nothing remembered.
pub(super) fn analyse(text: &[u8], catalog: &Catalog, fingerprint: u64) -> Analysis {
    let survey = effects::survey(text);
    match judge(text, catalog, &survey) {
        Ok(()) => Analysis { class: Class::Read, effects: survey.effects, fingerprint, proven: true },
        Err(reason) => Analysis::write(reason, survey.effects, fingerprint),
    }
}

fn judge(text: &[u8], catalog: &Catalog, survey: &Survey) -> Result<(), WriteReason> {
    if let Some(reason) = survey.refused {
        return Err(reason);
    }
    if survey.statements == 0 {
        return Ok(());
    }
    if text.len() > LENGTH_LIMIT || survey.weight == Weight::TooHeavy {
        return Err(WriteReason::TooLong);
    }
    operators(text, catalog)?;
    let normal = normal::text(text).ok_or(WriteReason::Unparsed)?;
    let statements = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(NESTING_LIMIT)
        .try_with_sql(&normal)
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|_| WriteReason::Unparsed)?;
    // PostgreSQL's division into statements is ours; a parser that sees another one saw another text.
    if statements.len() != survey.statements {
        return Err(WriteReason::Unparsed);
    }
    statements.iter().try_for_each(|statement| walk::statement(statement, catalog))
}

/// Operators are judged by name, wherever they stand; some are written as words.
fn operators(text: &[u8], catalog: &Catalog) -> Result<(), WriteReason> {
    if !catalog.has_refused_operators() {
        return Ok(());
    }
    Scanner::new(text).try_for_each(|token| {
        let names: &[&str] = match token.kind {
            Kind::Operator => {
                return std::str::from_utf8(token.bytes(text)).map_or(Ok(()), |name| catalog.operator(name));
            }
            Kind::Word if token.is_word(text, "like") => &["~~", "!~~"],
            Kind::Word if token.is_word(text, "ilike") => &["~~*", "!~~*"],
            Kind::Word if token.is_word(text, "similar") => &["~", "!~"],
            Kind::Word if token.is_word(text, "between") => &["<", "<=", ">", ">="],
            Kind::Word
                if ["in", "distinct", "using", "natural", "nullif", "case"].iter().any(|w| token.is_word(text, w)) =>
            {
                &["=", "<>"]
            }
            _ => &[],
        };
        names.iter().try_for_each(|name| catalog.operator(name))
    })
}

#[cfg(test)]
mod tests;
