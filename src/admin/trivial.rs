//! Answers to what drivers ask of any server before they let anybody use it.
//!
//! The console is no PostgreSQL server; these tables keep psql, libpq, JDBC, psycopg, asyncpg,
//! `SQLAlchemy` and others from giving up before the first SHOW.

/// The `server_version` that the console claims. Drivers choose their ways by it; all they then use
/// exists since long before.
pub(super) const SERVER_VERSION: &str = concat!("16.0 (Howdah ", env!("CARGO_PKG_VERSION"), ")");

/// `ParameterStatus` values that a client of the console gets on login.
pub(super) const STATUS: &[(&str, &str)] = &[
    ("server_version", SERVER_VERSION),
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "on"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
];

const PARAMETERS: &[(&str, &str)] = &[
    ("application_name", ""),
    ("default_transaction_isolation", "read committed"),
    ("extra_float_digits", "1"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("search_path", "\"$user\", public"),
    ("server_version_num", "160000"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
];

/// Spellings of SHOW that are not a parameter's name.
const SPELLINGS: &[(&str, &str)] =
    &[("transaction isolation level", "transaction_isolation"), ("time zone", "TimeZone")];

const EXPRESSIONS: &[(&str, &str, &str)] = &[
    ("version ( )", "version", concat!("PostgreSQL 16.0 console of Howdah ", env!("CARGO_PKG_VERSION"))),
    ("current_schema ( )", "current_schema", "public"),
    ("current_schema", "current_schema", "public"),
    ("current_database ( )", "current_database", "howdah"),
    ("pg_is_in_recovery ( )", "pg_is_in_recovery", "f"),
    ("pg_advisory_unlock_all ( )", "pg_advisory_unlock_all", ""),
];

/// What drivers set on connecting, besides everything in [`STATUS`] and [`PARAMETERS`].
const DRIVER_SETTINGS: &[&str] = &[
    "bytea_output",
    "characteristics",
    "client_min_messages",
    "datestyle",
    "idle_in_transaction_session_timeout",
    "jit",
    "lock_timeout",
    "names",
    "statement_timeout",
    "synchronous_commit",
    "time",
    "transaction",
];

/// The column's name and the value that SHOW gives for `name`, which is in lower case.
pub(super) fn parameter(name: &str) -> Option<(&'static str, &'static str)> {
    let name = SPELLINGS.iter().find(|(spelling, _)| *spelling == name).map_or(name, |&(_, meant)| meant);
    parameters().find(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// The column's name and the value of an expression after SELECT, in canonical form.
pub(super) fn expression(text: &str) -> Option<(&'static str, &'static str)> {
    EXPRESSIONS.iter().find(|(known, ..)| *known == text).map(|&(_, column, value)| (column, value))
}

/// Whether drivers set `name` without being asked; SET of it is accepted and has no effect.
pub(super) fn is_driver_setting(name: &str) -> bool {
    DRIVER_SETTINGS.contains(&name) || parameters().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

fn parameters() -> impl Iterator<Item = (&'static str, &'static str)> {
    STATUS.iter().chain(PARAMETERS).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_whatever_their_case() {
        assert_eq!(parameter("datestyle"), Some(("DateStyle", "ISO, MDY")));
        assert_eq!(parameter("time zone"), Some(("TimeZone", "UTC")));
        assert_eq!(parameter("pool_size"), None);
        assert!(is_driver_setting("datestyle") && is_driver_setting("application_name"));
        assert!(!is_driver_setting("pool_size"));
    }
}
