//! From YAML text to typed values, each with the path of its key.
//!
//! The only place that touches serde's types. The tree is walked by hand instead of being deserialised into structs, because
//! serde gives up at the first fault and names no path; a person who mends a configuration wants them all. What the values
//! mean to each other is `resolve`'s and `agree`'s business.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_yaml::{Mapping, Value};

use super::fault::{Fault, Misread, advice};
use super::secret::{self, Secret};
use super::units;

/// A file's YAML, parsed and not yet understood.
pub(super) struct Tree(Value);

/// What the whole reading shares.
pub(super) struct Reader<'e> {
    /// What was found wrong so far.
    pub(super) faults: Vec<Fault>,
    /// Every key that was asked for, as `clusters.*.nodes[].address`.
    pub(super) asked: BTreeSet<String>,
    environment: &'e dyn Fn(&str) -> Option<String>,
    directory: &'e Path,
}

/// A mapping in the file, or the absence of one: every key may be asked for, none need be there.
pub(super) struct Section<'r, 'e, 'v> {
    reader: &'r mut Reader<'e>,
    place: Place,
    mapping: Option<&'v Mapping>,
    known: Vec<&'static str>,
}

/// Whether `0` has a meaning.
#[derive(Clone, Copy)]
pub(super) enum Zero {
    /// It means "never", "none" or "at once".
    Allowed,
    /// It would make every such wait fail.
    Refused,
}

/// The place of a value: as faults show it, and as the documentation names it.
#[derive(Clone)]
struct Place {
    path: String,
    pattern: String,
}

/// A scalar: what it holds, and what the file shows of it.
struct Written {
    value: String,
    shown: String,
}

/// Parses the text; a fault names line and column.
pub(super) fn parse(text: &str) -> Result<Tree, Fault> {
    let read = || {
        let mut tree: Value = serde_yaml::from_str(text)?;
        tree.apply_merge()?;
        Ok(Tree(tree))
    };
    read().map_err(|error: serde_yaml::Error| {
        let mut message = error.to_string();
        let mut place = "the file".to_owned();
        if let Some(at) = error.location() {
            message = message.replace(&format!(" at line {} column {}", at.line(), at.column()), "");
            place = format!("line {}, column {}", at.line(), at.column());
        }
        if message.contains("invalid value: ") || message.contains("invalid type: ") {
            // serde repeats the value, which may be a password.
            "a value does not fit its tag".clone_into(&mut message);
        }
        let right = "check indentation, brackets, quotes and repeated keys there";
        Fault::new(place, format!("not valid YAML ({message})"), right)
    })
}

// === impl Reader ===

impl<'e> Reader<'e> {
    /// `directory` is what relative paths start from.
    pub(super) fn new(environment: &'e dyn Fn(&str) -> Option<String>, directory: &'e Path) -> Self {
        Self { faults: Vec::new(), asked: BTreeSet::new(), environment, directory }
    }

    /// Reads the whole tree as one section.
    pub(super) fn top<T>(&mut self, tree: &Tree, read: impl FnOnce(&mut Section<'_, '_, '_>) -> T) -> T {
        let place = Place { path: String::new(), pattern: String::new() };
        self.open(place, Some(&tree.0), read)
    }

    fn open<'v, T>(
        &mut self,
        place: Place,
        value: Option<&'v Value>,
        read: impl FnOnce(&mut Section<'_, 'e, 'v>) -> T,
    ) -> T {
        let mapping = match value {
            None | Some(Value::Null) => None,
            Some(Value::Mapping(mapping)) => Some(mapping),
            Some(other) => {
                self.wrong_kind(&place, other, "a mapping of keys");
                None
            }
        };
        let mut section = Section { reader: self, place, mapping, known: Vec::new() };
        let value = read(&mut section);
        section.refuse_unknown();
        value
    }

    fn wrong_kind(&mut self, place: &Place, value: &Value, needed: &str) {
        let path = if place.path.is_empty() { "the file" } else { &place.path };
        self.faults.push(Fault::new(path, format!("is {}", kind(value)), format!("give {needed}")));
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping of keys",
        Value::Tagged(_) => "a value with a YAML tag",
    }
}

// === impl Place ===

impl Place {
    fn key(&self, key: &str) -> Self {
        let join = |before: &str| if before.is_empty() { key.to_owned() } else { format!("{before}.{key}") };
        Self { path: join(&self.path), pattern: join(&self.pattern) }
    }

    fn item(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), pattern: format!("{}[]", self.pattern) }
    }

    fn named(&self, name: &str) -> Self {
        Self { path: format!("{}.{}", self.path, name.escape_debug()), pattern: format!("{}.*", self.pattern) }
    }
}

// === impl Section: sections within ===

impl<'e, 'v> Section<'_, 'e, 'v> {
    /// The mapping under `key`; an empty one when it is absent.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_, 'e, 'v>) -> T) -> T {
        let value = self.value(key);
        let place = self.place.key(key);
        self.reader.open(place, value, read)
    }

    /// The mappings in the list under `key`; `None` when it is absent. An empty list is a fault.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_, 'e, 'v>) -> T,
    ) -> Option<Vec<T>> {
        let place = self.place.key(key);
        match self.value(key)? {
            Value::Sequence(items) => {
                self.refuse_empty(key, items.len());
                let items = items.iter().enumerate();
                Some(items.map(|(index, item)| self.reader.open(place.item(index), Some(item), &mut read)).collect())
            }
            other => {
                self.reader.wrong_kind(&place, other, "a list: one line with `- ` for each entry");
                Some(Vec::new())
            }
        }
    }

    /// The mappings under names of the user's choice; `None` when `key` is absent. An empty mapping is
    /// a fault.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, &mut Section<'_, 'e, 'v>) -> T,
    ) -> Option<Vec<T>> {
        let place = self.place.key(key);
        let entries = match self.value(key)? {
            Value::Mapping(entries) => entries,
            other => {
                self.reader.wrong_kind(&place, other, "a mapping from each name to its keys");
                return Some(Vec::new());
            }
        };
        self.refuse_empty(key, entries.len());
        let mut values = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            match name {
                Value::String(name) if !name.is_empty() => {
                    values.push(self.reader.open(place.named(name), Some(value), |section| read(name, section)));
                }
                other => {
                    let wrong = format!("one name is {}", kind(other));
                    self.reader.faults.push(Fault::new(
                        &place.path,
                        wrong,
                        "give it a name in text, quoted if need be",
                    ));
                }
            }
        }
        Some(values)
    }

    fn refuse_empty(&mut self, key: &str, entries: usize) {
        if entries == 0 {
            self.fault(key, "is empty", "give one entry at least, or leave the key out");
        }
    }
}

// === impl Section: values ===

impl<'v> Section<'_, '_, 'v> {
    /// Text that `parse` accepts; `None` when it is absent or a fault was noted.
    pub(super) fn text<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, Misread>) -> Option<T> {
        let value = self.leaf(key)?;
        let place = self.place.key(key);
        let written = self.written(&place, value)?;
        self.parsed(&place, &written, parse)
    }

    /// As [`Self::text`], but an absent value is a fault.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        right: &str,
        parse: impl FnOnce(&str) -> Result<T, Misread>,
    ) -> Option<T> {
        if self.leaf(key).is_none() {
            self.fault(key, "is missing", right);
            return None;
        }
        self.text(key, parse)
    }

    /// A list of names.
    pub(super) fn names(&mut self, key: &'static str) -> Vec<String> {
        let place = self.place.key(key);
        match self.leaf(key) {
            None => Vec::new(),
            Some(Value::Sequence(items)) => {
                let mut names = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let place = place.item(index);
                    let written = self.written(&place, item);
                    // A placeholder keeps the places of those that follow right.
                    names.push(written.and_then(|text| self.parsed(&place, &text, name)).unwrap_or_default());
                }
                names
            }
            Some(other) => {
                self.reader.wrong_kind(&place, other, "a list of names such as [howdah]");
                Vec::new()
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        self.scalar(key, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Misread::new("is not known here", advice(text, &known))
            })
        })
    }

    /// A whole number within `range`.
    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        let (least, most) = (*range.start(), *range.end());
        let right = format!("give a whole number from {least} to {most}");
        self.scalar(key, |text| match text.parse::<usize>() {
            Ok(number) if range.contains(&number) => Ok(number),
            Ok(_) => Err(Misread::new("is out of range", right)),
            Err(_) => Err(Misread::new("is not a whole number in range", right)),
        })
    }

    /// A duration with its unit.
    pub(super) fn duration(&mut self, key: &'static str, zero: Zero) -> Option<Duration> {
        self.scalar(key, |text| match (units::duration(text)?, zero) {
            (Duration::ZERO, Zero::Refused) => {
                Err(Misread::new("leaves no time", "give a duration above 0, such as 5s"))
            }
            (duration, _) => Ok(duration),
        })
    }

    /// A size in bytes, written with its unit.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        self.scalar(key, |text| match units::size(text)? {
            bytes if range.contains(&bytes) => Ok(bytes),
            _ => {
                let right = format!("give a size from {} to {} bytes", range.start(), range.end());
                Err(Misread::new("is out of range", right))
            }
        })
    }

    /// The path of a file that exists.
    pub(super) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let directory = self.reader.directory;
        self.text(key, |text| {
            let path = directory.join(text);
            match std::fs::metadata(&path) {
                Ok(metadata) if !metadata.is_dir() => Ok(path),
                Ok(_) => Err(Misread::new("is a directory", "name a PEM file")),
                Err(error) => Err(Misread::new(
                    format!("cannot be read ({error})"),
                    "name an existing PEM file, relative to the configuration's directory",
                )),
            }
        })
    }

    /// What `parse` makes of the text in a file; `right` says which file to name.
    pub(super) fn contents<T>(
        &mut self,
        key: &'static str,
        right: &str,
        parse: impl FnOnce(&str) -> Result<T, Misread>,
    ) -> Option<T> {
        let directory = self.reader.directory;
        self.text(key, |text| {
            let unreadable = |reason: String| Misread::new(format!("cannot be read ({reason})"), right);
            let read = super::read_bounded(&directory.join(text)).map_err(unreadable)?;
            parse(&read)
        })
    }

    /// A directory, which need not exist yet.
    pub(super) fn directory(&mut self, key: &'static str) -> Option<PathBuf> {
        let base = self.reader.directory;
        self.text(key, |text| Ok(base.join(text)))
    }

    /// A secret; its faults show no part of it.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let place = self.place.key(key);
        let value = self.leaf(key)?;
        let Value::String(raw) = value else {
            self.reader.wrong_kind(&place, value, "text: put it in quotes");
            return None;
        };
        let reader = &mut *self.reader;
        let expanded = |text: &str| secret::expand(text, reader.environment);
        let read = match raw.strip_prefix("file:") {
            Some(path) => expanded(path).and_then(|path| secret::from_file(&reader.directory.join(path))),
            None => expanded(raw),
        };
        let checked = read.and_then(|text| name(&text)).map(|text| Secret::new(&text)).and_then(|secret| {
            secret::check_form(&secret)?;
            Ok(secret)
        });
        match checked {
            Ok(secret) => Some(secret),
            Err(misread) => {
                let wrong = format!("the value {}", misread.wrong);
                reader.faults.push(Fault::new(place.path, wrong, misread.right));
                None
            }
        }
    }

    /// Notes that the value of `key` is wrong.
    pub(super) fn fault(&mut self, key: &str, wrong: &str, right: &str) {
        let path = self.place.key(key).path;
        self.reader.faults.push(Fault::new(path, wrong, right));
    }

    /// Notes that this section is wrong as a whole.
    pub(super) fn fault_here(&mut self, wrong: &str, right: &str) {
        self.reader.faults.push(Fault::new(&self.place.path, wrong, right));
    }

    /// Whether the file gives `key` a value, right or wrong.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// Text or a number that `parse` accepts.
    fn scalar<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, Misread>) -> Option<T> {
        let place = self.place.key(key);
        let written = match self.leaf(key)? {
            Value::Number(number) => Written { value: number.to_string(), shown: number.to_string() },
            Value::Bool(value) => Written { value: value.to_string(), shown: value.to_string() },
            text @ Value::String(_) => self.written(&place, text)?,
            other => {
                self.reader.wrong_kind(&place, other, "a single value");
                return None;
            }
        };
        self.parsed(&place, &written, parse)
    }

    fn parsed<T>(
        &mut self,
        place: &Place,
        written: &Written,
        parse: impl FnOnce(&str) -> Result<T, Misread>,
    ) -> Option<T> {
        match parse(&written.value) {
            Ok(value) => Some(value),
            Err(misread) => {
                let wrong = format!("{} {}", written.shown, misread.wrong);
                self.reader.faults.push(Fault::new(&place.path, wrong, misread.right));
                None
            }
        }
    }

    /// The text of `value` with its `${VAR}` filled in.
    fn written(&mut self, place: &Place, value: &Value) -> Option<Written> {
        let Value::String(raw) = value else {
            let needed =
                if matches!(value, Value::Number(_) | Value::Bool(_)) { "text: put it in quotes" } else { "text" };
            self.reader.wrong_kind(place, value, needed);
            return None;
        };
        let shown = shown(raw);
        match secret::expand(raw, self.reader.environment) {
            Ok(value) => Some(Written { value, shown }),
            Err(misread) => {
                let wrong = format!("{shown} {}", misread.wrong);
                self.reader.faults.push(Fault::new(&place.path, wrong, misread.right));
                None
            }
        }
    }

    fn leaf(&mut self, key: &'static str) -> Option<&'v Value> {
        let pattern = self.place.key(key).pattern;
        self.reader.asked.insert(pattern);
        self.value(key)
    }

    /// The value under `key`; an empty one counts as absent.
    fn value(&mut self, key: &'static str) -> Option<&'v Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.mapping?.get(key).filter(|value| !value.is_null())
    }

    /// Whatever was not asked for is not understood.
    fn refuse_unknown(self) {
        let Some(mapping) = self.mapping else { return };
        for key in mapping.keys() {
            match key {
                Value::String(key) if self.known.contains(&key.as_str()) => {}
                Value::String(key) => {
                    // Escaped, so that a fault stays on its line.
                    let path = self.place.key(&key.escape_debug().to_string()).path;
                    self.reader.faults.push(Fault::new(path, "unknown key", advice(key, &self.known)));
                }
                other => self.reader.wrong_kind(&self.place.key("(a key)"), other, "a key in text"),
            }
        }
    }
}

/// A name of anything, or a password: not empty, and without the zero byte that ends a string in the
/// protocol.
pub(super) fn name(text: &str) -> Result<String, Misread> {
    if text.is_empty() {
        return Err(Misread::new("is empty", "give at least one character, or leave the key out"));
    }
    if text.contains('\0') {
        return Err(Misread::new("contains a zero byte", "PostgreSQL's protocol cannot carry it; leave it out"));
    }
    Ok(text.to_owned())
}

/// A value as faults show it: quoted, on one line, not endless, and without what a URL may hold.
fn shown(raw: &str) -> String {
    const LONGEST: usize = 60;
    if raw.contains("://") {
        return "the URL".to_owned();
    }
    if raw.chars().count() <= LONGEST {
        return format!("{raw:?}");
    }
    let head: String = raw.chars().take(LONGEST).collect();
    format!("{head:?}…")
}
