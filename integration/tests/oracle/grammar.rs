//! Conversations that nobody thought of: what proptest makes of the things a client may say, line by line in the
//! format of scripts, so that one that fails is a script like any other.
//!
//! Left out is what docs/limitations.md admits: names shared by SQL's PREPARE and Parse, result types that change
//! under a prepared statement, settings of the StartupMessage. So are settings of a client's own naming: a server on
//! which one was ever set knows the name for ever, and what a script hears would depend on the scripts before it. Left
//! out too is what could keep PostgreSQL itself from answering: a line ends with as many ReadyForQuery as it has Queries and Syncs, whatever fails in it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Settings, each with values that scripts give it.
const SETTINGS: [(&str, &str); 8] = [
    ("work_mem", "'5MB'"),
    ("work_mem", "'6MB'"),
    ("TimeZone", "'Asia/Tokyo'"),
    ("TimeZone", "'Europe/Paris'"),
    ("application_name", "'an oracle'"),
    ("search_path", "'oracle'"),
    ("IntervalStyle", "'iso_8601'"),
    ("extra_float_digits", "'0'"),
];

/// The beginnings and ends of transactions, and what is between.
const TRANSACTIONS: [&str; 16] = [
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "SAVEPOINT b",
    "ROLLBACK TO a",
    "ROLLBACK TO b",
    "RELEASE a",
    "RELEASE b",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "BEGIN READ ONLY",
    "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
];

/// Work.
const WORK: [&str; 12] = [
    "SELECT 1",
    "SELECT i FROM generate_series(1, 3) i",
    "SELECT count(*) FROM oracle.t",
    "INSERT INTO oracle.t VALUES (11)",
    "DELETE FROM oracle.t WHERE id = 11",
    "UPDATE oracle.t SET v = 'w' WHERE id = 1 RETURNING v",
    "SELECT '1 day'::interval, 1.1::float8",
    "SELECT count(*) FROM t",
    "SELECT current_user",
    "",
    "-- nothing",
    "EXPLAIN (COSTS off) SELECT set_config('work_mem', '9MB', false)",
];

/// What fails.
const ERRORS: [&str; 7] = [
    "SELECT 1/0",
    "SELEC 1",
    "SELECT missing",
    "INSERT INTO oracle.t VALUES (1)",
    "SET missing = 1",
    "SET work_mem = 'many'",
    "SELECT 1/(3 - i) FROM generate_series(1, 5) i",
];

/// What a session keeps.
const STATE: [&str; 41] = [
    "PREPARE q AS SELECT 1",
    "EXECUTE q",
    "DEALLOCATE q",
    "DEALLOCATE s",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DISCARD TEMP",
    "DISCARD SEQUENCES",
    "DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 5) i",
    "FETCH 2 FROM c",
    "CLOSE c",
    "DECLARE h CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 5) i",
    "FETCH 2 FROM h",
    "MOVE 1 FROM h",
    "CLOSE h",
    "CLOSE ALL",
    "SELECT name, is_holdable FROM pg_cursors WHERE name IN ('c', 'h') ORDER BY name",
    "CREATE TEMP TABLE own (n int)",
    "CREATE TEMP TABLE own (n int) ON COMMIT DROP",
    "CREATE TEMP TABLE own (n int) ON COMMIT DELETE ROWS",
    "INSERT INTO own VALUES (1)",
    "TABLE own",
    "DROP TABLE own",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_advisory_unlock(1)",
    "SELECT pg_advisory_unlock_all()",
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "LISTEN ear",
    "UNLISTEN ear",
    "UNLISTEN *",
    "NOTIFY ear, 'news'",
    "SELECT pg_notify('ear', 'more')",
    "SELECT * FROM pg_listening_channels()",
    "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
    "SELECT name, statement, parameter_types FROM pg_prepared_statements ORDER BY name",
    "SET ROLE oracle_other",
    "RESET ROLE",
    "RESET ALL",
];

/// What is prepared by name: the text, which means the same whatever the settings are.
const PREPARED: [&str; 15] = [
    "SELECT 1",
    "SELECT $1::int",
    "SELECT i FROM generate_series(1, 5) i",
    "SELECT count(*) FROM oracle.t",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "INSERT INTO oracle.t VALUES (12)",
    "SET work_mem = '7MB'",
    "SHOW work_mem",
    "SELECT set_config('work_mem', $1, false)",
    "SELECT pg_advisory_lock(2)",
    "DEALLOCATE ALL",
    "SELECT 1/0",
    "SELECT missing",
];

/// Messages of one line, and how many ReadyForQuery they bring.
type Line = (String, usize);

/// The lines of one script.
pub(crate) fn lines() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![6 => query(), 6 => batch(), 1 => copy()].boxed();
    let pipeline = vec(one.clone(), 2..5).prop_map(|lines| {
        let (messages, counts): (Vec<String>, Vec<usize>) = lines.into_iter().unzip();
        (messages.join(" | "), counts.iter().sum())
    });
    let line = prop_oneof![6 => one, 1 => pipeline];
    vec(line.prop_map(|(messages, count)| format!("{messages} -> {}", "Z".repeat(count))), 1..16)
}

fn query() -> impl Strategy<Value = Line> {
    prop_oneof![
        8 => text(),
        1 => vec(text(), 2..4).prop_map(|texts| texts.join("; ")),
    ]
    .prop_map(|text| (format!("Q {text}").trim_end().to_owned(), 1))
}

fn batch() -> impl Strategy<Value = Line> {
    vec(message(), 1..6).prop_map(|messages| (format!("{} | S", messages.join(" | ")), 1))
}

fn copy() -> impl Strategy<Value = Line> {
    let texts = [
        "Q COPY oracle.t TO STDOUT",
        "Q COPY oracle.t FROM STDIN | d 21\\tx\\n | c",
        "Q COPY oracle.t FROM STDIN | d 1\\tx\\n | c",
        "Q COPY oracle.t FROM STDIN | d 21\\tx\\n | f no more",
        "Q COPY own FROM STDIN | d 1\\n | c",
        "X COPY oracle.t FROM STDIN | d 22\\tx\\n | c | S",
        "X COPY oracle.t FROM STDIN | d x\\tx\\n | c | S",
        "X COPY (SELECT 1/0) TO STDOUT | S",
    ];
    select(texts.to_vec()).prop_map(|text| (text.to_owned(), 1))
}

/// A message of the extended protocol, or three of them.
fn message() -> impl Strategy<Value = String> {
    let name = || prop_oneof![2 => Just("-"), 4 => Just("s"), 1 => Just("t")];
    let portal = || prop_oneof![4 => Just("-"), 1 => Just("p")];
    let value = || prop_oneof![4 => Just(""), 1 => Just("8")];
    prop_oneof![
        4 => text().prop_map(|text| format!("X {text}").trim_end().to_owned()),
        4 => (name(), select(PREPARED.to_vec())).prop_map(|(name, text)| format!("P {name} {text}")),
        4 => (name(), value()).prop_map(|(name, value)| format!("B - {name} {value} | E -")),
        1 => (portal(), name(), value()).prop_map(|(portal, name, value)| format!("B {portal} {name} {value}")),
        2 => name().prop_map(|name| format!("D S {name}")),
        1 => portal().prop_map(|portal| format!("D P {portal}")),
        2 => (portal(), 0..4_u32).prop_map(|(portal, limit)| format!("E {portal} {limit}")),
        2 => name().prop_map(|name| format!("C S {name}")),
        1 => portal().prop_map(|portal| format!("C P {portal}")),
        1 => Just("H".to_owned()),
    ]
}

/// A statement.
fn text() -> impl Strategy<Value = String> {
    let fixed = |texts: &[&str]| select(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    prop_oneof![
        4 => setting(),
        4 => fixed(&TRANSACTIONS),
        3 => fixed(&WORK),
        2 => fixed(&ERRORS),
        5 => fixed(&STATE),
    ]
}

fn setting() -> impl Strategy<Value = String> {
    (select(SETTINGS.to_vec()), 0..9_u8).prop_map(|((name, value), form)| match form {
        0 | 1 => format!("SHOW {name}"),
        2 | 3 => format!("SET {name} = {value}"),
        4 => format!("SET LOCAL {name} TO {value}"),
        5 => format!("SELECT set_config('{name}', {value}, false)"),
        6 => format!("SELECT set_config('{name}', {value}, true)"),
        7 => format!("RESET {name}"),
        _ => format!("SELECT current_setting('{name}', true)"),
    })
}
