//! A text cut into its statements, and a cursor over the tokens of one.

use super::scan::{Kind, Scanner, Token};

/// The tokens of one statement, read from left to right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
}

/// The tokens of each statement of `text`; empty statements are passed over.
pub(super) fn statements(text: &[u8]) -> Vec<Vec<Token>> {
    let (mut all, mut current, mut depth) = (Vec::<Vec<Token>>::new(), Vec::<Token>::new(), 0usize);
    // How many END close the body of a function that is no string (`BEGIN ATOMIC … END`), CASE included.
    let mut body = 0usize;
    for token in Scanner::new(text) {
        if token.is_mark(text, ";") && depth == 0 && body == 0 {
            all.push(std::mem::take(&mut current));
            continue;
        }
        let atomic = token.is_word(text, "atomic") && current.last().is_some_and(|last| last.is_word(text, "begin"));
        if (atomic && current.len() > 1) || (body > 0 && token.is_word(text, "case")) {
            body += 1;
        } else if body > 0 && token.is_word(text, "end") {
            body -= 1;
        }
        if token.is_mark(text, "(") {
            depth += 1;
        } else if token.is_mark(text, ")") {
            depth = depth.saturating_sub(1);
        }
        current.push(token);
    }
    all.push(current);
    all.retain(|tokens| !tokens.is_empty());
    all
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a [u8], tokens: &'a [Token]) -> Self {
        Self { text, tokens }
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The next token; it is not taken.
    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.first()
    }

    /// Takes the next token.
    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    /// Takes the next token if it is this word, given in lower case.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_word(self.text, word));
        if found {
            self.next();
        }
        found
    }

    /// Takes these words, all or none.
    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let mut ahead = *self;
        let found = words.iter().all(|word| ahead.word(word));
        if found {
            *self = ahead;
        }
        found
    }

    /// Takes the next token if it is this mark.
    pub(super) fn mark(&mut self, mark: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_mark(self.text, mark));
        if found {
            self.next();
        }
        found
    }

    /// Takes the next token if it is a name, folded as PostgreSQL folds it.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = self.peek()?.identifier(self.text)?;
        self.next();
        Some(name)
    }

    /// Takes a name with dots in it, such as a setting's, in lower case.
    pub(super) fn dotted_name(&mut self) -> Option<String> {
        let mut name = self.name()?;
        while self.mark(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        // Settings' names are looked up without regard to case (src/backend/utils/misc/guc.c).
        Some(name.to_ascii_lowercase())
    }

    /// Whether nothing is left; gives `value` if so.
    pub(super) fn end<T>(&self, value: T) -> Option<T> {
        self.is_at_end().then_some(value)
    }

    /// The text of all that is left, as it was written; none when nothing is left or it is not UTF-8.
    pub(super) fn rest(&self) -> Option<String> {
        let (first, last) = (self.tokens.first()?, self.tokens.last()?);
        std::str::from_utf8(self.text.get(first.start..last.end)?).ok().map(str::to_owned)
    }

    /// Whether all that is left was understood by the scanner.
    pub(super) fn is_sound(&self) -> bool {
        self.tokens.iter().all(|token| token.kind != Kind::Bad)
    }

    pub(super) const fn text(&self) -> &'a [u8] {
        self.text
    }

    pub(super) const fn tokens(&self) -> &'a [Token] {
        self.tokens
    }
}
