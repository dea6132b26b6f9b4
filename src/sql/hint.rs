//! What a comment in front of a statement orders: `/* howdah: replica, consistency=eventual */`.
//!
//! A comment stays a comment: words that mean nothing here are passed over.

use std::sync::Arc;
use std::time::Duration;

use crate::types::Lsn;

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The primary.
    Primary,
    /// A replica that qualifies.
    Replica,
}

impl Route {
    /// The word for it, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "primary" => Some(Self::Primary),
            "replica" => Some(Self::Replica),
            _ => None,
        }
    }
}

/// What a read may miss; `config` has the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Nothing older than `max_lag`.
    Eventual,
    /// And nothing that the client wrote.
    Session,
    /// And nothing that was written to the database through Howdah.
    Database,
    /// And nothing that was written anywhere.
    Strong,
}

impl Consistency {
    /// The word for it, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "eventual" => Some(Self::Eventual),
            "session" => Some(Self::Session),
            "database" | "global" => Some(Self::Database),
            "strong" | "strict" => Some(Self::Strong),
            _ => None,
        }
    }
}

/// What is ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// Where to.
    pub route: Option<Route>,
    /// What a read may miss.
    pub consistency: Option<Consistency>,
    /// How old a replica's data may be.
    pub max_lag: Option<Duration>,
    /// What must have been replayed.
    pub min_lsn: Option<Lsn>,
    /// Whose writes it must see (`routing.scope`).
    pub scope: Option<Box<str>>,
}

/// The hint in the comments at the beginning of `text`; `None` when there is none.
pub fn parse(text: &[u8]) -> Option<Arc<Hint>> {
    let mut rest = text.trim_ascii_start();
    let mut hint = None;
    loop {
        let (comment, after) = if let Some(inner) = rest.strip_prefix(b"/*") {
            let end = inner.windows(2).position(|pair| pair == b"*/")?;
            (&inner[..end], &inner[end + 2..])
        } else if let Some(inner) = rest.strip_prefix(b"--") {
            let end = inner.iter().position(|byte| *byte == b'\n' || *byte == b'\r').unwrap_or(inner.len());
            (&inner[..end], &inner[end..])
        } else {
            return hint;
        };
        hint = hint.or_else(|| std::str::from_utf8(comment).ok().and_then(order).map(Arc::new));
        rest = after.trim_ascii_start();
    }
}

fn order(comment: &str) -> Option<Hint> {
    let words = comment.trim_start().strip_prefix("howdah:")?;
    let mut hint = Hint::default();
    for word in words.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some(("route", value)) => hint.route = Route::parse(value).or(hint.route),
            Some(("consistency", value)) => hint.consistency = Consistency::parse(value),
            Some(("max_lag", value)) => hint.max_lag = duration(value),
            Some(("min_lsn", value)) => hint.min_lsn = value.parse().ok(),
            Some(("scope", value)) => hint.scope = Some(value.into()),
            _ => hint.route = Route::parse(word).or(hint.route),
        }
    }
    Some(hint)
}

/// A duration such as `500ms`, `5s` or `2min`, with the units of PostgreSQL's settings.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "us" => Duration::from_micros(1),
        "" | "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" | "min" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        "d" => Duration::from_secs(86_400),
        _ => return None,
    };
    unit.checked_mul(u32::try_from(count).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hints_stand_in_comments_in_front() {
        let route = |route| Some(Hint { route: Some(route), ..Hint::default() });
        for (text, expected) in [
            ("select 1", None),
            ("/* hello */ select 1", None),
            ("/* howdah: primary */ select 1", route(Route::Primary)),
            ("  /* app */ -- x\n/*howdah:REPLICA*/select 1", route(Route::Replica)),
            ("-- howdah: replica\nselect 1", route(Route::Replica)),
            ("select 1 /* howdah: replica */", None),
            ("/* howdah: replica", None),
            ("/* howdah: nonsense */ select 1", Some(Hint::default())),
        ] {
            assert_eq!(parse(text.as_bytes()).as_deref(), expected.as_ref(), "{text}");
        }
        let all = parse(b"/* howdah: replica, consistency=eventual max_lag=5s,min_lsn=1/2A scope=cart-7 */");
        assert_eq!(
            all.as_deref(),
            Some(&Hint {
                route: Some(Route::Replica),
                consistency: Some(Consistency::Eventual),
                max_lag: Some(Duration::from_secs(5)),
                min_lsn: Some(Lsn(0x1_0000_002A)),
                scope: Some("cart-7".into()),
            })
        );
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("2min"), Some(Duration::from_secs(120)));
        assert_eq!(duration("250"), Some(Duration::from_millis(250)));
        assert_eq!(duration("1 s"), Some(Duration::from_secs(1)));
        for text in ["", "s", "5x", "-1s", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&text);
        }
    }
}
