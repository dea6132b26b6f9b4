//! Where one statement of a text ends and the next begins.
//!
//! A semicolon ends a statement unless it stands in parentheses (`CREATE RULE … DO (…; …)`) or in the body of
//! `CREATE FUNCTION … BEGIN ATOMIC … END`, as psql splits its input (`src/fe_utils/psqlscan.l`).

use super::scan::{Kind, Token};

/// What a token means for the division into statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The first token of a statement.
    First,
    /// Any later token of a statement.
    Inside,
    /// The semicolon that ends a statement, or one that ends nothing.
    End,
}

/// Follows the tokens of a text, all of them in order.
#[derive(Debug, Default)]
pub(super) struct Boundaries {
    /// How many tokens of the statement have gone by; stops counting where it no longer matters.
    tokens: u8,
    /// Open parentheses.
    depth: usize,
    /// How the statement began, as far as it matters.
    create: Create,
    /// Open `BEGIN` and `CASE` in a body.
    blocks: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Create {
    #[default]
    Other,
    /// `CREATE`.
    Bare,
    /// `CREATE OR`, `CREATE OR REPLACE`.
    Or,
    /// `CREATE [OR REPLACE] FUNCTION`.
    Routine,
}

// === impl Boundaries ===

impl Boundaries {
    pub(super) fn role(&mut self, text: &[u8], token: Token) -> Role {
        if token.kind == Kind::Punctuation {
            match token.bytes(text) {
                b"(" => self.depth += 1,
                b")" => self.depth = self.depth.saturating_sub(1),
                b";" if self.depth == 0 && self.blocks == 0 => {
                    *self = Self::default();
                    return Role::End;
                }
                _ => {}
            }
        } else if token.kind == Kind::Word && (self.tokens < 4 || self.create == Create::Routine) {
            self.word(text, token);
        }
        let role = if self.tokens == 0 { Role::First } else { Role::Inside };
        self.tokens = self.tokens.saturating_add(1);
        role
    }

    /// How many parentheses are open.
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    fn word(&mut self, text: &[u8], token: Token) {
        let is = |word| token.is_word(text, word);
        self.create = match (self.create, self.tokens) {
            (Create::Other, 0) if is("create") => Create::Bare,
            (Create::Bare, 1) if is("or") => Create::Or,
            (Create::Or, 2) if is("replace") => Create::Or,
            (Create::Bare, 1) | (Create::Or, 3) if is("function") || is("procedure") => Create::Routine,
            (Create::Routine, _) => Create::Routine,
            _ => Create::Other,
        };
        if self.create == Create::Routine && self.depth == 0 {
            if is("begin") || (self.blocks > 0 && is("case")) {
                self.blocks += 1;
            } else if is("end") {
                self.blocks = self.blocks.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::scan::Scanner;

    fn check(text: &str, statements: usize) {
        let mut boundaries = Boundaries::default();
        let roles = Scanner::new(text.as_bytes()).map(|token| boundaries.role(text.as_bytes(), token));
        assert_eq!(roles.filter(|role| *role == Role::First).count(), statements, "{text}");
    }

    #[test]
    fn counts_statements_as_postgresql_does() {
        check("", 0);
        check(" ; /* ; */ ; -- ;", 0);
        check("select 1", 1);
        check("select 1;", 1);
        check("select 1; select ';'; select $$;$$;", 3);
        check("create rule r as on insert to t do (select 1; select 2); select 3", 2);
        check(
            "create function f() returns int begin atomic select 1; select case when true then 1 end; end; select 1",
            2,
        );
        check("create or replace procedure f() begin atomic insert into t values (1); end; select 1", 2);
        check("create function f() returns int language sql as 'select 1;'; select 1", 2);
        check("begin; select 1; end; select 2", 4);
        check("select ')'; select 1) ; select 2", 3);
    }
}
