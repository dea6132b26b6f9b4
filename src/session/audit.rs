//! What a server says that it carries, held against what is believed of it: one question, and what to make of the
//! answer. Whatever differs would be seen by the next client, and is a mistake of Howdah's or something that it
//! cannot see (docs/limitations.md).

use super::carried::Carried;
use super::settings::{Settings, Value};

/// What a server is asked: rows of kind, name, value in base units, value as SHOW has it.
///
/// No part of it has to scan a table: where a client has set `enable_seqscan` to off, its estimated cost would be such
/// that PostgreSQL compiles it, for half a second.
///
/// A role that ALTER ROLE or ALTER DATABASE gives is nobody's doing here, and is left out.
pub const QUESTION: &str = "\
SELECT 'setting', name, setting, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings WHERE source = 'session' \
UNION ALL SELECT 'prepared', name, NULL, NULL FROM pg_catalog.pg_prepared_statements \
UNION ALL SELECT 'cursor', name, NULL, NULL FROM pg_catalog.pg_cursors \
UNION ALL SELECT 'channel', channel, NULL, NULL FROM pg_catalog.pg_listening_channels() AS channel \
UNION ALL SELECT 'lock', mode, NULL, NULL FROM pg_catalog.pg_locks \
WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid() \
UNION ALL SELECT 'temporary', NULL, NULL, NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_depend \
WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND refobjid = pg_catalog.pg_my_temp_schema()) \
UNION ALL SELECT 'user', session_user::pg_catalog.text, NULL, NULL \
UNION ALL SELECT 'role', pg_catalog.current_setting('role'), NULL, NULL WHERE NOT EXISTS (SELECT \
FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) AS given WHERE setdatabase = ANY (ARRAY[0, (SELECT oid \
FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())]) AND given LIKE 'role=%')";

/// What was left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A setting that nobody made, that was made otherwise, or that is not there any more.
    Setting,
    /// Another role or session user.
    Role,
    /// A prepared statement that nobody made, or that is not there any more.
    Prepared,
    /// A cursor.
    Cursor,
    /// A channel that it listens on.
    Channel,
    /// An advisory lock.
    Lock,
    /// A temporary object.
    Temporary,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Setting, Self::Role, Self::Prepared, Self::Cursor, Self::Channel, Self::Lock, Self::Temporary];

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Role => "role",
            Self::Prepared => "prepared",
            Self::Cursor => "cursor",
            Self::Channel => "channel",
            Self::Lock => "lock",
            Self::Temporary => "temporary",
        }
    }
}

/// One thing that a server carries otherwise than is believed. Has no value in it, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// Settings whose values PostgreSQL words in its own way.
const REWORDED: [&str; 4] = ["client_encoding", "datestyle", "log_timezone", "timezone"];

/// Old names of settings (`map_old_guc_names`, src/backend/utils/misc/guc.c).
const RENAMED: [(&str, &str); 2] = [("sort_mem", "work_mem"), ("vacuum_mem", "maintenance_work_mem")];

/// What differs between `carried` and the answer to [`QUESTION`] of a server on which `user` has logged in.
#[must_use]
pub fn leaks(carried: &Carried, user: &str, answer: &[Vec<Option<String>>]) -> Vec<Leak> {
    let mut leaks = Vec::new();
    let mut leak = |kind, name: &str| leaks.push(Leak { kind, name: name.to_owned() });
    let (mut settings, mut prepared) = (Vec::new(), Vec::new());
    for row in answer {
        let column = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
        let name = column(1);
        match column(0) {
            "setting" => {
                let lower = name.to_ascii_lowercase();
                if is_exempt(&lower, column(2)) {
                    continue;
                }
                if !label(&carried.settings, &lower).is_some_and(|value| agrees(&lower, value, column(2), column(3))) {
                    leak(Kind::Setting, name);
                }
                settings.push(lower);
            }
            "prepared" => {
                if !carried.server_names().any(|known| known == name) {
                    leak(Kind::Prepared, name);
                }
                prepared.push(name);
            }
            "cursor" => leak(Kind::Cursor, name),
            "channel" => leak(Kind::Channel, name),
            "lock" => leak(Kind::Lock, name),
            "temporary" => leak(Kind::Temporary, name),
            "user" if !is_identity(&carried.settings, "session_authorization", "default", name, user) => {
                leak(Kind::Role, "session_authorization");
            }
            "role" if !is_identity(&carried.settings, "role", "none", name, "none") => leak(Kind::Role, "role"),
            _ => {}
        }
    }
    for name in carried.server_names().filter(|name| !prepared.contains(name)) {
        leak(Kind::Prepared, name);
    }
    // Another role may not be allowed to see all settings.
    if carried.settings.get("role").is_none() && carried.settings.get("session_authorization").is_none() {
        for (name, _) in carried.settings.iter() {
            // What nobody has declared is not shown (`add_placeholder_variable`, src/backend/utils/misc/guc.c).
            let is_shown = !is_exempt(name, "") && !name.contains('.');
            if is_shown && !settings.iter().any(|found| found == newest(name)) {
                leak(Kind::Setting, name);
            }
        }
    }
    leaks
}

/// Whether a setting tells nothing: it is the transaction's, or is not shown, or is one that nobody has declared and
/// that was made and undone, which leaves it there and empty.
fn is_exempt(name: &str, value: &str) -> bool {
    name == "seed" || name.starts_with("transaction_") || (value.is_empty() && name.contains('.'))
}

/// What `name` was set to, by that name or by its old one.
fn label<'a>(settings: &'a Settings, name: &str) -> Option<&'a Value> {
    let old = || RENAMED.iter().find(|(_, new)| *new == name).and_then(|(old, _)| settings.get(old));
    settings.get(name).or_else(old)
}

fn newest(name: &str) -> &str {
    RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new)
}

/// Whether the role or user `found` is what was set, or `usual` when nothing was, or when it was set to `neutral`.
fn is_identity(settings: &Settings, name: &str, neutral: &str, found: &str, usual: &str) -> bool {
    match settings.get(name) {
        Some(value) if !value.text().eq_ignore_ascii_case(neutral) => essence(value.text()) == essence(found),
        _ => found == usual,
    }
}

/// Whether `value`, in a client's words, may have become `setting`, which SHOW gives as `shown`.
///
/// PostgreSQL alone knows what words mean to a setting, so what is not understood agrees.
fn agrees(name: &str, value: &Value, setting: &str, shown: &str) -> bool {
    let text = value.text();
    let is_escaped = |value: &Value| match value {
        Value::Sql(text) => text.contains('$') || text.contains('\\') || text.starts_with(['e', 'E', 'u', 'U']),
        Value::Text(_) => false,
    };
    if REWORDED.contains(&name) || !text.is_ascii() || !setting.is_ascii() || (text.contains('\'') && is_escaped(value))
    {
        return true;
    }
    if [setting, shown].iter().any(|found| essence(text) == essence(found)) {
        return true;
    }
    if let Some(found) = truth(setting) {
        // Some that are on or off have other values besides.
        return truth(text).is_some_and(|wanted| wanted == found);
    }
    match (amount(text), amount(setting), amount(shown)) {
        (Some((wanted, None)), Some((found, _)), _) | (Some((wanted, Some(_))), _, Some((found, _))) => {
            // Rounded to the setting's unit.
            (wanted - found).abs() <= found.abs() / 8.0
        }
        (None, Some(_), _) => true,
        _ => text.eq_ignore_ascii_case("debug"),
    }
}

/// Letters and digits, which neither quotes nor blanks nor case make other ones.
fn essence(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "tru" | "tr" | "t" | "yes" | "ye" | "y" | "1" => Some(true),
        "off" | "of" | "false" | "fals" | "fal" | "fa" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// A number in bytes or microseconds if it has a unit, and that unit.
fn amount(text: &str) -> Option<(f64, Option<&str>)> {
    const UNITS: [(&str, f64); 11] = [
        ("B", 1.0),
        ("kB", 1024.0),
        ("MB", 1_048_576.0),
        ("GB", 1_073_741_824.0),
        ("TB", 1_099_511_627_776.0),
        ("us", 1.0),
        ("ms", 1e3),
        ("s", 1e6),
        ("min", 6e7),
        ("h", 3.6e9),
        ("d", 8.64e10),
    ];
    let text = text.trim();
    let at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: f64 = number.trim().parse().ok()?;
    if unit.is_empty() {
        return Some((number, None));
    }
    let (unit, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some((number * factor, Some(unit)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::settings::Ledger;
    use super::*;
    use crate::session::parameters::Parameters;

    fn carried(settings: &[(&str, &str)]) -> Carried {
        let mut carried = Carried::new(Arc::<Parameters>::default(), 10);
        let mut ledger = Ledger::new(Arc::default(), Arc::default());
        for (name, value) in settings {
            ledger.set(name, Value::Sql((*value).into()));
        }
        carried.settings = Arc::clone(ledger.current());
        carried
    }

    fn row(columns: &[&str]) -> Vec<Option<String>> {
        columns.iter().map(|text| (!text.is_empty()).then(|| (*text).to_owned())).collect()
    }

    fn found(settings: &[(&str, &str)], rows: &[&[&str]]) -> Vec<(Kind, String)> {
        let answer: Vec<_> = rows.iter().map(|columns| row(columns)).collect();
        leaks(&carried(settings), "app", &answer).into_iter().map(|leak| (leak.kind, leak.name)).collect()
    }

    #[test]
    fn a_server_as_it_should_be_has_no_leaks() {
        let label = [("datestyle", "german"), ("my.x", "'1'"), ("sort_mem", "'1MB'"), ("role", "\"Alice\"")];
        let rows: [&[&str]; 7] = [
            &["setting", "transaction_isolation", "serializable", "serializable"],
            &["setting", "my.undone", "", ""],
            &["setting", "DateStyle", "German, DMY", "German, DMY"],
            &["setting", "my.x", "1", "1"],
            &["setting", "work_mem", "1024", "1MB"],
            &["user", "app"],
            &["role", "Alice"],
        ];
        assert_eq!(found(&label, &rows), []);
        assert_eq!(found(&[("role", "none")], &[&["user", "app"], &["role", "none"]]), []);
        assert_eq!(found(&[("my.unknown", "1")], &[]), []);
    }

    #[test]
    fn whatever_nobody_made_is_a_leak() {
        let rows: [&[&str]; 8] = [
            &["setting", "my.x", "1", "1"],
            &["prepared", "mine"],
            &["cursor", "c"],
            &["channel", "news"],
            &["lock", "ExclusiveLock"],
            &["temporary", ""],
            &["user", "bob"],
            &["role", "alice"],
        ];
        let kinds: Vec<_> = found(&[], &rows).into_iter().map(|(kind, _)| kind).collect();
        let expected = [
            Kind::Setting,
            Kind::Prepared,
            Kind::Cursor,
            Kind::Channel,
            Kind::Lock,
            Kind::Temporary,
            Kind::Role,
            Kind::Role,
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn so_is_what_is_missing_or_otherwise() {
        let name = |name: &str| vec![(Kind::Setting, name.to_owned())];
        assert_eq!(found(&[("work_mem", "1MB")], &[]), name("work_mem"));
        assert_eq!(found(&[("my.x", "1")], &[&["setting", "my.x", "2", "2"]]), name("my.x"));
        assert_eq!(found(&[("role", "alice")], &[&["user", "app"], &["role", "none"]]).len(), 1);
    }

    #[test]
    fn words_agree_with_what_they_mean() {
        let agree = |words: &str, setting: &str, shown: &str| agrees("x", &Value::Sql(words.into()), setting, shown);
        for (words, setting, shown) in [
            ("'1024kB'", "1024", "1MB"),
            ("1024", "1024", "1MB"),
            ("'1s'", "1000", "1s"),
            ("1", "on", "on"),
            ("a, \"B c\"", "a, \"B c\"", "a, \"B c\""),
            ("'Read Committed'", "read committed", "read committed"),
            ("E'\\101'", "A", "A"),
        ] {
            assert!(agree(words, setting, shown), "{words} {setting}");
        }
        for (words, setting, shown) in
            [("'1MB'", "2048", "2MB"), ("5", "6", "6"), ("off", "on", "on"), ("a, b", "a", "a"), ("x", "y", "y")]
        {
            assert!(!agree(words, setting, shown), "{words} {setting}");
        }
    }
}
