//! What a client says about routing in a comment at the head of its text.
//!
//! `/* howdah: primary */`, `/* howdah: replica, consistency=eventual, max_lag=5s, min_lsn=0/123 */`, and the same after
//! `--`. A comment stays a comment: words that are not understood are passed over.

use std::time::Duration;

use super::scan;
use crate::types::Lsn;

/// Wishes that hold for one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// Where to go.
    pub route: Option<Route>,
    /// What a read may miss.
    pub consistency: Option<Consistency>,
    /// How old a replica's data may be.
    pub max_lag: Option<Duration>,
    /// A position that a read must have seen.
    pub min_lsn: Option<Lsn>,
}

/// A kind of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The primary.
    Primary,
    /// A replica, by the client's own word.
    Replica,
}

/// What a read may miss (`routing.consistency`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sees everything committed `max_lag` ago.
    Eventual,
    /// And every write of the same scope.
    Session,
    /// And every write to this database through this Howdah.
    Database,
    /// And every write anywhere in the cluster.
    Strong,
}

/// The hint in the comments that a text begins with; the first word on a matter counts. `None` without one.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Hint> {
    let mut hint = Hint::default();
    let mut rest = text.trim_ascii_start();
    loop {
        let comment = if rest.starts_with(b"/*") {
            let (comment, after) = rest.split_at(scan::block_comment(rest).unwrap_or(rest.len()));
            rest = after.trim_ascii_start();
            comment.get(2..comment.len().saturating_sub(2)).unwrap_or_default()
        } else if rest.starts_with(b"--") {
            let (comment, after) = rest.split_at(scan::line_comment(rest));
            rest = after.trim_ascii_start();
            &comment[2..]
        } else {
            break;
        };
        hint.read(comment);
    }
    (hint != Hint::default()).then_some(hint)
}

// === impl Hint ===

impl Hint {
    /// Reads one comment, if it is meant for us.
    fn read(&mut self, comment: &[u8]) {
        let Ok(comment) = std::str::from_utf8(comment) else { return };
        let Some((name, words)) = comment.split_once(':') else { return };
        if !name.trim().eq_ignore_ascii_case("howdah") {
            return;
        }
        for word in words.split(|char: char| char == ',' || char.is_ascii_whitespace()).filter(|word| !word.is_empty())
        {
            let (key, value) = word.split_once('=').unwrap_or(("route", word));
            self.apply(key, value);
        }
    }

    /// Applies one `key=value`: the keys of the comment, which are those of the settings `howdah.route`,
    /// `howdah.consistency`, `howdah.max_lag` and `howdah.min_lsn`. `false` when it is not understood. What was
    /// said before stays.
    pub fn apply(&mut self, key: &str, value: &str) -> bool {
        fn keep<T>(place: &mut Option<T>, value: Option<T>) -> bool {
            let understood = value.is_some();
            *place = place.take().or(value);
            understood
        }
        match key.to_ascii_lowercase().as_str() {
            "route" => keep(&mut self.route, route(value)),
            "consistency" => keep(&mut self.consistency, consistency(value)),
            "max_lag" => keep(&mut self.max_lag, duration(value)),
            "min_lsn" => keep(&mut self.min_lsn, value.parse().ok()),
            _ => false,
        }
    }
}

fn route(word: &str) -> Option<Route> {
    match word.to_ascii_lowercase().as_str() {
        "primary" => Some(Route::Primary),
        "replica" => Some(Route::Replica),
        _ => None,
    }
}

fn consistency(word: &str) -> Option<Consistency> {
    match word.to_ascii_lowercase().as_str() {
        "eventual" => Some(Consistency::Eventual),
        "session" => Some(Consistency::Session),
        "database" => Some(Consistency::Database),
        "strong" => Some(Consistency::Strong),
        _ => None,
    }
}

/// `5s`, `200ms`, `1m`, `2h`: the units of the configuration.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expect: Option<Hint>) {
        assert_eq!(parse(text.as_bytes()), expect, "{text}");
    }

    #[test]
    fn leading_comments_are_read() {
        let primary = Some(Hint { route: Some(Route::Primary), ..Hint::default() });
        let replica = Some(Hint { route: Some(Route::Replica), ..Hint::default() });
        check("/* howdah: primary */ SELECT 1", primary);
        check("/*howdah:replica*/SELECT 1", replica);
        check("  -- howdah: replica\nSELECT 1", replica);
        check("/* trace=1 */ /* HOWDAH: Replica */ SELECT 1", replica);
        check("/* howdah: primary *//* howdah: replica */ SELECT 1", primary);
        check("/* howdah: primary replica */ SELECT 1", primary);
        let full = Hint {
            route: Some(Route::Replica),
            consistency: Some(Consistency::Eventual),
            max_lag: Some(Duration::from_secs(5)),
            min_lsn: Some(Lsn(0x123)),
        };
        check("/* howdah: replica, consistency=eventual, max_lag=5s, min_lsn=0/123 */ select 1", Some(full));
        check(
            "/* howdah: max_lag=200ms */",
            Some(Hint { max_lag: Some(Duration::from_millis(200)), ..Hint::default() }),
        );
    }

    #[test]
    fn other_comments_are_comments() {
        check("SELECT 1", None);
        check("SELECT /* howdah: primary */ 1", None);
        check("/* howdah: sideways, consistency=odd, max_lag=5 parsecs, min_lsn=x */ SELECT 1", None);
        check("/* pgdog: primary */ SELECT 1", None);
        check("/* howdah: primary", None);
        check("/* howdah */ SELECT 1", None);
        check("/*", None);
        check("--", None);
        check("/*/", None);
        check("'/* howdah: primary */'", None);
    }

    proptest! {
        #[test]
        fn anything_goes(text in proptest::collection::vec(any::<u8>(), 0..80), tail in "[a-z=,:*/ -]{0,40}") {
            let _ = parse(&text);
            let _ = parse(format!("/* howdah: {tail}").as_bytes());
            let _ = parse(format!("--howdah:{tail}").as_bytes());
        }
    }
}
