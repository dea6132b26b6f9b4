//! One Rust file as the rules of tidy see it: its text, its code without comments and literals, its tests.
//!
//! It knows Rust's tokens, not its grammar: paths (`a::b::{c, d}`), strings, comments and `#[cfg(test)]` items.

use std::ops::Range;

/// One Rust file. `raw` and `code` have the same length and the same line breaks.
pub(crate) struct Source {
    /// Path from the workspace's root, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) raw: String,
    /// Comments and what is inside literals blanked.
    pub(crate) code: String,
    /// Where the `#[cfg(test)]` items are.
    pub(crate) tests: Vec<Range<usize>>,
    /// Offset and content of each string literal.
    pub(crate) strings: Vec<(usize, String)>,
}

impl Source {
    pub(crate) fn new(path: &str, raw: &str) -> Self {
        let (code, strings) = blank_literals(raw);
        let tests = test_items(&code);
        Self { path: path.to_owned(), raw: raw.to_owned(), code, tests, strings }
    }

    pub(crate) fn in_src(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// The top-level module this file belongs to; none for the crate's roots and for files outside `src`.
    pub(crate) fn room(&self) -> Option<&str> {
        let first = self.path.strip_prefix("src/")?.split('/').next()?;
        let room = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(room, "lib" | "main")).then_some(room)
    }

    pub(crate) fn fault(&self, at: usize, what: &str) -> String {
        let line = 1 + self.raw[..at].matches('\n').count();
        format!("{}:{line}: {what}", self.path)
    }

    pub(crate) fn is_production(&self, at: usize) -> bool {
        !self.tests.iter().any(|range| range.contains(&at))
    }

    /// How many modules deep the code at this offset is: 1 in `src/pool/mod.rs`, 2 in `src/pool/key.rs`.
    pub(crate) fn depth(&self, at: usize) -> usize {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let inline = words(&self.code, "mod").filter(|&start| {
            let name = start + 3;
            let body = self.code[name..].find(['{', ';']).map(|found| found + name);
            body.is_some_and(|open| {
                self.code.as_bytes()[open] == b'{' && (open..item_end(&self.code, name)).contains(&at)
            })
        });
        inner.split('/').count() + inline.count()
    }
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands on its own.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        (at == 0 || !is_word(bytes[at - 1])) && bytes.get(at + word.len()).is_none_or(|&next| !is_word(next))
    })
}

fn blank(text: &mut [u8], range: Range<usize>) {
    for byte in &mut text[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Blanks comments and the insides of literals; returns the string literals too.
fn blank_literals(raw: &str) -> (String, Vec<(usize, String)>) {
    let bytes = raw.as_bytes();
    let mut out = bytes.to_vec();
    let mut strings = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"//") {
            let end = raw[at..].find('\n').map_or(raw.len(), |found| at + found);
            blank(&mut out, at..end);
            at = end;
        } else if bytes[at..].starts_with(b"/*") {
            let end = comment_end(bytes, at);
            blank(&mut out, at..end);
            at = end;
        } else if let Some((inside, end)) = string_at(raw, at) {
            strings.push((inside.start, raw[inside.clone()].to_owned()));
            blank(&mut out, inside);
            at = end;
        } else if let Some(end) = char_end(raw, at) {
            blank(&mut out, at + 1..end - 1);
            at = end;
        } else {
            at += 1;
        }
    }
    (String::from_utf8_lossy(&out).into_owned(), strings)
}

/// Where a block comment ends; they nest.
fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match bytes[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The string literal that starts here (`"…"`, `b"…"`, `r#"…"#`): its inside, and where it ends.
fn string_at(raw: &str, start: usize) -> Option<(Range<usize>, usize)> {
    let bytes = raw.as_bytes();
    if start > 0 && is_word(bytes[start - 1]) {
        return None;
    }
    let prefix = bytes[start..].iter().take_while(|byte| b"rbc".contains(byte)).count();
    let is_raw = bytes[start..start + prefix].contains(&b'r');
    let hashes = bytes[start + prefix..].iter().take_while(|&&byte| is_raw && byte == b'#').count();
    let open = start + prefix + hashes;
    if prefix > 2 || bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let mut at = open + 1;
    while at < bytes.len() && !bytes[at..].starts_with(close.as_bytes()) {
        at += if bytes[at] == b'\\' && !is_raw { 2 } else { 1 };
    }
    let end = at.min(raw.len());
    Some((open + 1..end, (end + close.len()).min(raw.len())))
}

/// Where the character literal that starts here ends; none for a lifetime.
fn char_end(raw: &str, start: usize) -> Option<usize> {
    let inside = raw.get(start..)?.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        return inside[2..].find('\'').map(|found| start + found + 4);
    }
    inside[first.len_utf8()..].starts_with('\'').then(|| start + first.len_utf8() + 2)
}

/// Where the `#[cfg(test)]` items are.
fn test_items(code: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    code.match_indices(MARK).map(|(at, _)| at..item_end(code, at + MARK.len())).collect()
}

/// Where the item that starts here ends: after its `;` or after its body.
pub(crate) fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (offset, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(byte, b';' | b'}') {
            return offset + 1;
        }
    }
    code.len()
}

// ---------------------------------------------------------------------------------------------------------------
// Paths: every `a::b::{c, d}` in the code, groups written out
// ---------------------------------------------------------------------------------------------------------------

/// Every path with its offset; a name on its own is a path of one.
pub(crate) fn paths(code: &str) -> Vec<(usize, String)> {
    let (mut at, mut found) = (0, Vec::new());
    while let Some(next) = code.bytes().skip(at).position(is_word) {
        at = read_path(code, at + next, "", &mut found);
    }
    found
}

/// Reads the path that starts at `at`, after `prefix`; returns where it ends, which is always further on.
fn read_path(code: &str, at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let bytes = code.as_bytes();
    let length = bytes[at..].iter().take_while(|&&byte| is_word(byte)).count().max(1);
    let end = at + length;
    let path = if prefix.is_empty() { code[at..end].to_owned() } else { format!("{prefix}::{}", &code[at..end]) };
    let colons = skip_space(bytes, end);
    if bytes[colons..].starts_with(b"::") {
        let next = skip_space(bytes, colons + 2);
        match bytes.get(next) {
            Some(b'{') => return read_group(code, next + 1, &path, found),
            Some(&byte) if is_word(byte) || byte == b'*' => return read_path(code, next, &path, found),
            _ => {}
        }
    }
    found.push((at, path));
    end
}

fn read_group(code: &str, start: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let bytes = code.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        at = match bytes[at] {
            b'}' => return at + 1,
            // `a as b` names nothing new: skip the rest of the member.
            b if is_word(b) || b == b'*' => {
                let end = read_path(code, at, prefix, found);
                bytes[end..].iter().position(|byte| b",}".contains(byte)).map_or(bytes.len(), |rest| end + rest)
            }
            _ => at + 1,
        };
    }
    at
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Whether `path` is `start` or lies under it.
pub(crate) fn under(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
