//! Calls that signal a process by its number: `pg_terminate_backend(pid)`, `pg_cancel_backend(pid)`.

use std::ops::Range;

use super::scan::{Kind, Scanner, Token};

/// What becomes of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It ends.
    Terminate,
    /// It gives up what it does.
    Cancel,
}

/// The functions, by name.
pub(super) const CALLS: [(&str, Call); 2] =
    [("pg_terminate_backend", Call::Terminate), ("pg_cancel_backend", Call::Cancel)];

/// Where a call has its process id from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Digits in the text.
    Digits(Range<usize>),
    /// The parameter of this number, from 1.
    Parameter(usize),
}

/// The calls in `text` whose first argument is a number or a parameter, and nothing else.
#[must_use]
pub fn calls(text: &[u8]) -> Vec<(Call, Source)> {
    let tokens: Vec<Token> = Scanner::new(text).collect();
    let source = |words: &[Token]| {
        let [name, open, argument, end] = words else { return None };
        let (_, call) = CALLS.iter().find(|(call, _)| name.is_name(text, call)).filter(|_| open.is_mark(text, "("))?;
        let ends = [")", ",", "::"].iter().any(|mark| end.is_mark(text, mark));
        let digits = std::str::from_utf8(argument.bytes(text)).ok()?;
        match argument.kind {
            Kind::Number if ends && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some((*call, Source::Digits(argument.start..argument.end)))
            }
            Kind::Parameter if ends => Some((*call, Source::Parameter(digits.get(1..)?.parse().ok()?))),
            _ => None,
        }
    };
    tokens.windows(4).filter_map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found() {
        for (text, expected) in [
            ("select pg_terminate_backend(123)", vec![Source::Digits(28..31)]),
            ("select PG_CATALOG.Pg_Cancel_Backend ( $2::int )", vec![Source::Parameter(2)]),
            ("select \"pg_terminate_backend\"($1, 100)", vec![Source::Parameter(1)]),
            ("select pg_terminate_backend(pid) from pg_stat_activity", vec![]),
            ("select pg_terminate_backend(-1), pg_terminate_backend(1 + 1), pg_terminate_backend(1.5)", vec![]),
            ("select 'pg_terminate_backend(123)'", vec![]),
            ("select pg_cancel_backend(7), pg_cancel_backend($1)", vec![Source::Digits(25..26), Source::Parameter(1)]),
        ] {
            let found: Vec<_> = calls(text.as_bytes()).into_iter().map(|(_, source)| source).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
