//! What is wrong with a configuration: where, what, and what would be right.
//!
//! A fault never carries a secret: it shows what the file says, not what an environment variable or
//! a file held.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, such as `clusters.main.nodes[1].address`; a place in the text or the file's name
    /// where no key can be named.
    pub path: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl Fault {
    pub(super) fn new(path: impl Into<String>, wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self { path: path.into(), wrong: wrong.into(), right: right.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.wrong, self.right)
    }
}

/// Everything that is wrong with one file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The configuration, or the faults that were found while it was read.
    pub(super) fn or<T>(faults: Vec<Fault>, value: T) -> Result<T, Self> {
        if faults.is_empty() { Ok(value) } else { Err(Self(faults)) }
    }

    /// The faults, in the order of the file's sections.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One fault per line.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Why a written value cannot be taken, without the value and without its place.
///
/// `wrong` continues a sentence that begins with the value: "has no unit".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misread {
    pub(super) wrong: String,
    pub(super) right: String,
}

impl Misread {
    pub(super) fn new(wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), right: right.into() }
    }
}

/// The advice for a name that is not among `known`: the one that was probably meant, or all of them.
pub(super) fn advice(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "there is none to choose from".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The known name that `name` was probably meant to be.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let bare = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let name = bare(name);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&name, &bare(candidate));
    // Two slips in a long word, one in a short one: more would suggest unrelated keys.
    let slips = if name.chars().count() < 5 { 1 } else { 2 };
    known
        .iter()
        .map(|candidate| (distance(candidate), *candidate))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_an_unrelated_word_is_not() {
        let known = ["mode", "size", "min_idle", "wait_timeout", "idle_timeout"];
        let check = |name: &str, expected: Option<&str>| assert_eq!(nearest(name, &known), expected, "{name}");
        check("sise", Some("size"));
        check("mdoe", Some("mode"));
        check("waitTimeout", Some("wait_timeout"));
        check("min-idle", Some("min_idle"));
        check("idle_timeuot", Some("idle_timeout"));
        check("colour", None);
        check("max", None);
        check("", None);
    }

    #[test]
    fn advice_names_all_when_nothing_is_near() {
        assert_eq!(advice("sise", &["mode", "size"]), "did you mean `size`?");
        assert_eq!(advice("colour", &["mode", "size"]), "known here: mode, size");
    }

    #[test]
    fn faults_print_one_per_line() {
        let faults = Faults(vec![Fault::new("a", "is bad", "write b"), Fault::new("c[0]", "is worse", "write d")]);
        assert_eq!(faults.to_string(), "a: is bad; write b\nc[0]: is worse; write d");
        assert_eq!(Faults::or(Vec::new(), 1), Ok(1));
        assert!(Faults::or(vec![Fault::new("a", "b", "c")], 1).is_err());
    }
}
