//! Steps through the tokens of one statement. It knows no statement.

use std::ops::Range;

use super::super::scan::{Kind, Token};

/// The tokens that are left, and the text they stand in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a [u8], tokens: &'a [Token]) -> Self {
        Self { text, tokens }
    }

    pub(super) const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// How many tokens are left.
    pub(super) const fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) const fn is_end(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(super) fn peek(&self) -> Option<Token> {
        self.tokens.first().copied()
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(*first)
    }

    /// Where the next token stands.
    pub(super) fn span(&self) -> Option<Range<usize>> {
        self.peek().map(|token| token.start..token.end)
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.peek().is_some_and(|token| token.is_word(self.text, word))
    }

    pub(super) fn is_mark(&self, mark: &str) -> bool {
        self.peek().is_some_and(|token| token.is_mark(self.text, mark))
    }

    /// Takes this word, given in lower case, if it is next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.tokens = &self.tokens[usize::from(found)..];
        found
    }

    pub(super) fn are_words(&self, words: &[&str]) -> bool {
        let mut ahead = *self;
        words.iter().all(|word| ahead.word(word))
    }

    /// Takes these words if they are next, all or none.
    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let found = self.are_words(words);
        if found {
            self.tokens = &self.tokens[words.len()..];
        }
        found
    }

    /// Takes this operator or punctuation mark if it is next.
    pub(super) fn mark(&mut self, mark: &str) -> bool {
        let found = self.is_mark(mark);
        self.tokens = &self.tokens[usize::from(found)..];
        found
    }

    /// Takes an identifier if one is next.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = self.peek()?.identifier(self.text)?;
        self.next();
        Some(name)
    }

    /// Takes a string constant if one is next.
    pub(super) fn string(&mut self) -> Option<Token> {
        let token = self.peek().filter(|token| matches!(token.kind, Kind::Text(_)))?;
        self.next();
        Some(token)
    }

    /// The identifier that follows the first `word`, wherever that is.
    pub(super) fn after(&self, word: &str) -> Option<String> {
        let at = self.tokens.iter().position(|token| token.is_word(self.text, word))?;
        self.tokens.get(at + 1)?.identifier(self.text)
    }

    /// The identifier that follows the first `first second`, wherever that is.
    pub(super) fn after_pair(&self, first: &str, second: &str) -> Option<String> {
        let is_pair = |pair: &[Token]| pair[0].is_word(self.text, first) && pair[1].is_word(self.text, second);
        let at = self.tokens.windows(2).position(is_pair)?;
        self.tokens.get(at + 2)?.identifier(self.text)
    }

    /// What is left, as it is written.
    pub(super) fn rest(&self) -> Option<&'a str> {
        let (first, last) = (self.tokens.first()?, self.tokens.last()?);
        std::str::from_utf8(&self.text[first.start..last.end]).ok()
    }
}
