//! Every form of the statements that concern the session.

use proptest::prelude::*;

use super::*;

/// The commands of a text's only statement.
fn check(text: &str, expect: &[Command]) {
    let statements = parse(text.as_bytes());
    assert_eq!(statements.len(), 1, "{text}: {statements:?}");
    assert_eq!(statements[0].commands, expect, "{text}");
    let known = expect != [Command::Other];
    assert!(!known || may_have_commands(text.as_bytes()), "{text}");
}

fn others(texts: &[&str]) {
    for text in texts {
        check(text, &[Command::Other]);
    }
}

fn set(scope: Scope, name: &str, value: Option<&str>) -> Command {
    Command::Set { scope, name: name.to_owned(), value: value.map(str::to_owned) }
}

fn modes(isolation: Option<Isolation>, read_only: Option<bool>, deferrable: Option<bool>) -> TransactionModes {
    TransactionModes { isolation, read_only, deferrable }
}

#[test]
fn transactions() {
    let plain = TransactionModes::default();
    for text in ["BEGIN", "begin work", "BEGIN TRANSACTION", "START TRANSACTION", "/* x */ bEgIn -- y"] {
        check(text, &[Command::Begin(plain)]);
    }
    let serializable = Some(Isolation::Serializable);
    check("BEGIN READ ONLY", &[Command::Begin(modes(None, Some(true), None))]);
    check("BEGIN WORK READ WRITE", &[Command::Begin(modes(None, Some(false), None))]);
    check(
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
        &[Command::Begin(modes(serializable, Some(true), Some(true)))],
    );
    check(
        "BEGIN NOT DEFERRABLE, READ ONLY, ISOLATION LEVEL REPEATABLE READ",
        &[Command::Begin(modes(Some(Isolation::RepeatableRead), Some(true), Some(false)))],
    );
    check("BEGIN ISOLATION LEVEL READ COMMITTED", &[Command::Begin(modes(Some(Isolation::ReadCommitted), None, None))]);
    check(
        "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
        &[Command::Begin(modes(Some(Isolation::ReadUncommitted), None, None))],
    );
    others(&[
        "BEGIN READ",
        "BEGIN READ ONLY,",
        "BEGIN READ ONLY READ WRITE",
        "BEGIN ISOLATION LEVEL",
        "BEGIN ISOLATION LEVEL SNAPSHOT",
        "BEGIN 1",
        "START",
        "START TRANSACTION x",
        "BEGIN WORK TRANSACTION",
    ]);
}

#[test]
fn ends_and_savepoints() {
    for text in ["COMMIT", "END", "commit work", "END TRANSACTION", "COMMIT AND NO CHAIN"] {
        check(text, &[Command::Commit { chain: false }]);
    }
    for text in ["ROLLBACK", "ABORT", "rollback transaction", "ABORT WORK AND NO CHAIN"] {
        check(text, &[Command::Rollback { chain: false }]);
    }
    check("COMMIT AND CHAIN", &[Command::Commit { chain: true }]);
    check("END WORK AND CHAIN", &[Command::Commit { chain: true }]);
    check("ROLLBACK AND CHAIN", &[Command::Rollback { chain: true }]);
    check("ABORT AND CHAIN", &[Command::Rollback { chain: true }]);
    others(&["COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'", "COMMIT AND", "COMMIT x", "ROLLBACK TO"]);
    check("SAVEPOINT Foo", &[Command::Savepoint("foo".into())]);
    check("SAVEPOINT \"Foo\"", &[Command::Savepoint("Foo".into())]);
    check("RELEASE a", &[Command::Release("a".into())]);
    check("RELEASE SAVEPOINT a", &[Command::Release("a".into())]);
    check("RELEASE savepoint", &[Command::Release("savepoint".into())]);
    check("ROLLBACK TO a", &[Command::RollbackTo("a".into())]);
    check("ROLLBACK WORK TO SAVEPOINT a", &[Command::RollbackTo("a".into())]);
    check("PREPARE TRANSACTION 'x'", &[Command::PrepareTransaction]);
    others(&[
        "SAVEPOINT",
        "SAVEPOINT a b",
        "SAVEPOINT 'a'",
        "RELEASE",
        "RELEASE SAVEPOINT a b",
        "PREPARE TRANSACTION x",
    ]);
}

#[test]
fn modes_of_the_transaction() {
    let serializable = Some(Isolation::Serializable);
    check("SET TRANSACTION READ ONLY", &[Command::SetTransaction(modes(None, Some(true), None))]);
    check(
        "SET LOCAL TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        &[Command::SetTransaction(modes(serializable, None, None))],
    );
    check("SET transaction_isolation = 'serializable'", &[Command::SetTransaction(modes(serializable, None, None))]);
    check("SET LOCAL transaction_read_only TO on", &[Command::SetTransaction(modes(None, Some(true), None))]);
    check("SET transaction_deferrable TO 0", &[Command::Other]);
    check("SET transaction_deferrable TO '0'", &[Command::SetTransaction(modes(None, None, Some(false)))]);
    others(&[
        "SET TRANSACTION",
        "SET TRANSACTION SNAPSHOT 'x'",
        "SET transaction_read_only TO maybe",
        "SET transaction_read_only TO DEFAULT",
    ]);
}

#[test]
fn settings() {
    use Scope::{Local, Session};
    for (text, value) in [
        ("SET a TO b", "b"),
        ("SET SESSION a = b", "b"),
        ("set A to 'it''s'", "'it''s'"),
        ("SET a TO E'x\\'y'", "E'x\\'y'"),
        ("SET a TO $$x$$", "$$x$$"),
        ("SET a = \"$user\", public", "\"$user\", public"),
        ("SET a = -1.5", "-1.5"),
        ("SET a TO 1, 'b' /* c */ , \"d\" -- e", "1, 'b' /* c */ , \"d\""),
        ("SET a TO on", "on"),
        ("SET \"A\" TO x", "x"),
        ("SET a TO 'x'\n'y'", "'x'\n'y'"),
    ] {
        check(text, &[set(Session, "a", Some(value))]);
    }
    check("SET LOCAL a TO b", &[set(Local, "a", Some("b"))]);
    check("SET app.Tenant_Id TO '7'", &[set(Session, "app.tenant_id", Some("'7'"))]);
    check("SET a TO DEFAULT", &[set(Session, "a", None)]);
    check("SET LOCAL a TO default", &[set(Local, "a", None)]);
}

#[test]
fn settings_with_a_syntax_of_their_own() {
    use Scope::{Local, Session};
    check("SET TIME ZONE 'UTC'", &[set(Session, "timezone", Some("'UTC'"))]);
    check("SET LOCAL TIME ZONE utc", &[set(Local, "timezone", Some("utc"))]);
    check("SET TIME ZONE -7", &[set(Session, "timezone", Some("-7"))]);
    check("SET SESSION TIME ZONE LOCAL", &[set(Session, "timezone", None)]);
    check("SET TIME ZONE DEFAULT", &[set(Session, "timezone", None)]);
    check("SET TIME ZONE INTERVAL '-08:30' HOUR TO MINUTE", &[set(Session, "timezone", Some("'INTERVAL ''-08:30'''"))]);
    check("SET TIME ZONE INTERVAL '-7' HOUR", &[set(Session, "timezone", Some("'INTERVAL ''-7 hour'''"))]);
    check("SET TIME ZONE INTERVAL '-7' HOUR TO MINUTE", &[set(Session, "timezone", Some("'INTERVAL ''-7 minute'''"))]);
    check("SET TIME ZONE INTERVAL '2 hours'", &[set(Session, "timezone", Some("'INTERVAL ''2 hours'''"))]);
    check("SET NAMES 'UTF8'", &[set(Session, "client_encoding", Some("'UTF8'"))]);
    check("SET NAMES", &[set(Session, "client_encoding", None)]);
    check("SET NAMES DEFAULT", &[set(Session, "client_encoding", None)]);
    check("SET SCHEMA 'x'", &[set(Session, "search_path", Some("'x'"))]);
    check("SET ROLE x", &[set(Session, "role", Some("x"))]);
    check("SET LOCAL ROLE NONE", &[set(Local, "role", Some("NONE"))]);
    check("SET ROLE \"X y\"", &[set(Session, "role", Some("\"X y\""))]);
    check("SET role TO x", &[set(Session, "role", Some("x"))]);
    check("SET SESSION AUTHORIZATION x", &[set(Session, "session_authorization", Some("x"))]);
    check("SET SESSION AUTHORIZATION DEFAULT", &[set(Session, "session_authorization", None)]);
    check("SET LOCAL SESSION AUTHORIZATION 'x'", &[set(Local, "session_authorization", Some("'x'"))]);
    check("SET SESSION SESSION AUTHORIZATION x", &[set(Session, "session_authorization", Some("x"))]);
    check("SET XML OPTION DOCUMENT", &[set(Session, "xmloption", Some("DOCUMENT"))]);
    check(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        &[set(Session, "default_transaction_read_only", Some("on"))],
    );
    check(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE, NOT DEFERRABLE ISOLATION LEVEL REPEATABLE READ",
        &[
            set(Session, "default_transaction_isolation", Some("'repeatable read'")),
            set(Session, "default_transaction_read_only", Some("off")),
            set(Session, "default_transaction_deferrable", Some("off")),
        ],
    );
}

#[test]
fn other_settings_are_left_to_the_server() {
    others(&[
        "SET",
        "SET a",
        "SET a TO",
        "SET a b",
        "SET a TO b c",
        "SET a TO b,",
        "SET a TO (b)",
        "SET a TO b.c",
        "SET a TO - x",
        "SET a TO $1",
        "SET a FROM CURRENT",
        "SET LOCAL",
        "SET TIME ZONE",
        "SET TIME ZONE a b",
        "SET TIME ZONE INTERVAL '1' DAY",
        "SET TIME ZONE INTERVAL (2) '1'",
        "SET TIME ZONE INTERVAL '1''; x'",
        "SET CATALOG 'x'",
        "SET SCHEMA x",
        "SET CONSTRAINTS ALL DEFERRED",
        "SET SESSION CHARACTERISTICS AS TRANSACTION",
        "SET SESSION CHARACTERISTICS AS TRANSACTION SNAPSHOT 'x'",
        "SET XML OPTION x",
        "SET ROLE",
        "SET ROLE a b",
    ]);
}

#[test]
fn resets() {
    check("RESET a", &[Command::Reset("a".into())]);
    check("RESET App.X", &[Command::Reset("app.x".into())]);
    check("RESET ALL", &[Command::ResetAll]);
    check("RESET ROLE", &[Command::Reset("role".into())]);
    check("RESET TIME ZONE", &[Command::Reset("timezone".into())]);
    check("RESET SESSION AUTHORIZATION", &[Command::Reset("session_authorization".into())]);
    check("RESET TRANSACTION ISOLATION LEVEL", &[Command::Reset("transaction_isolation".into())]);
    others(&["RESET", "RESET a b"]);
}

#[test]
fn set_config_calls() {
    let literal = |text: &str| Value::Literal(text.to_owned());
    let call = |name, value, is_local| Command::SetConfig { name, value, is_local };
    check(
        "SELECT set_config('TimeZone', 'UTC', false)",
        &[call(literal("TimeZone"), literal("UTC"), literal("false"))],
    );
    check(
        "select pg_catalog.set_config('search_path', '', true)",
        &[call(literal("search_path"), literal(""), literal("true"))],
    );
    check(
        "SELECT set_config($1, $2::text, $3)",
        &[call(Value::Parameter(1), Value::Parameter(2), Value::Parameter(3))],
    );
    check(
        "SELECT set_config('a', E'b\\'', 't') AS x, 1, set_config('c.d', $1, 'f'::bool)",
        &[call(literal("a"), literal("b'"), literal("t")), call(literal("c.d"), Value::Parameter(1), literal("f"))],
    );
    // Whether or how often these are called, or with what, is not certain.
    for text in [
        "SELECT set_config('a', 'b', true) FROM t",
        "SELECT set_config('a', 'b', true) WHERE false",
        "SELECT coalesce(set_config('a', 'b', true), '')",
        "SELECT 1 UNION SELECT set_config('a', 'b', true)",
        "SELECT set_config('a', b, true)",
        "SELECT set_config('a', 'b' || 'c', true)",
        "SELECT set_config('a', NULL, true)",
        "SELECT set_config('a', U&'b', true)",
        "SELECT set_config('a', 'b', 1 = 1)",
        "SELECT set_config('a', $0, true)",
        "SELECT set_config('a', $99999, true)",
        "SELECT true OR set_config('a', 'b', true) = ''",
        "SELECT 1 LIMIT 0",
        "WITH x AS (SELECT set_config('a', 'b', true)) SELECT 1",
        "EXPLAIN SELECT set_config('a', 'b', true)",
        "INSERT INTO t SELECT set_config('a', 'b', true)",
    ] {
        check(text, &[Command::Other]);
    }
    check("PREPARE p AS SELECT set_config('a', $1, true)", &[Command::Prepare("p".into())]);
}

#[test]
fn statements_cursors_channels() {
    check("PREPARE p AS SELECT 1", &[Command::Prepare("p".into())]);
    check("PREPARE \"P\" (int, text) AS SELECT $1", &[Command::Prepare("P".into())]);
    check("EXECUTE p", &[Command::Execute("p".into())]);
    check("EXECUTE P(1, 'x')", &[Command::Execute("p".into())]);
    check("EXPLAIN ANALYZE EXECUTE p (1)", &[Command::Execute("p".into())]);
    check("CREATE TEMP TABLE x AS EXECUTE p", &[Command::Execute("p".into())]);
    check("DEALLOCATE p", &[Command::Deallocate { name: "p".into(), at: 11..12 }]);
    check("DEALLOCATE PREPARE \"P q\"", &[Command::Deallocate { name: "P q".into(), at: 19..24 }]);
    check("DEALLOCATE prepare", &[Command::Deallocate { name: "prepare".into(), at: 11..18 }]);
    check("DEALLOCATE ALL", &[Command::DeallocateAll]);
    check("DEALLOCATE PREPARE ALL", &[Command::DeallocateAll]);
    others(&["DEALLOCATE", "DEALLOCATE a b", "PREPARE", "PREPARE p", "EXECUTE", "EXECUTE p q"]);
    others(&["CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION f()", "EXPLAIN SELECT 1"]);
    let declare = |name: &str, hold| Command::Declare { name: name.to_owned(), hold };
    check("DECLARE c CURSOR FOR SELECT 1", &[declare("c", false)]);
    check("DECLARE C BINARY INSENSITIVE NO SCROLL CURSOR WITH HOLD FOR SELECT 1", &[declare("c", true)]);
    check("DECLARE \"C\" SCROLL CURSOR WITHOUT HOLD FOR SELECT 1", &[declare("C", false)]);
    others(&["DECLARE", "DECLARE c", "DECLARE c CURSOR", "DECLARE c CURSOR WITH x FOR SELECT 1"]);
    check("CLOSE c", &[Command::Close("c".into())]);
    check("CLOSE ALL", &[Command::CloseAll]);
    check("LISTEN Foo", &[Command::Listen("foo".into())]);
    check("UNLISTEN \"Foo\"", &[Command::Unlisten("Foo".into())]);
    check("UNLISTEN *", &[Command::UnlistenAll]);
    check("LOAD 'x'", &[Command::Load]);
    check("DISCARD ALL", &[Command::DiscardAll]);
    check("DISCARD TEMP", &[Command::DiscardTemp]);
    check("DISCARD TEMPORARY", &[Command::DiscardTemp]);
    check("DISCARD PLANS", &[Command::DiscardOther]);
    check("DISCARD SEQUENCES", &[Command::DiscardOther]);
    others(&[
        "CLOSE",
        "CLOSE a b",
        "LISTEN",
        "LISTEN 'a'",
        "LISTEN a, b",
        "UNLISTEN",
        "LOAD x",
        "DISCARD",
        "DISCARD x",
    ]);
    others(&[
        "SELECT 1",
        "INSERT INTO t VALUES (1)",
        "NOTIFY a",
        "FETCH c",
        "COPY t FROM STDIN",
        "VACUUM",
        "'BEGIN'",
        "\"begin\"",
    ]);
}

#[test]
fn statements_are_counted_and_placed() {
    assert_eq!(parse(b""), []);
    assert_eq!(parse(b" ; -- x\n;"), []);
    let text = " BEGIN ; ; INSERT INTO t VALUES (';') -- x\n; SET a TO 1; COMMIT ;; ";
    let statements = parse(text.as_bytes());
    let spans: Vec<_> = statements.iter().map(|statement| &text[statement.span.clone()]).collect();
    assert_eq!(spans, ["BEGIN", "INSERT INTO t VALUES (';')", "SET a TO 1", "COMMIT"]);
    assert_eq!(statements[1].commands, [Command::Other]);
    assert_eq!(statements[3].commands, [Command::Commit { chain: false }]);
    // A SET with more values than anybody looks at is left to the server, a PREPARE of any length is not.
    let long = format!("SET a TO {}1", "1, ".repeat(HEAD));
    assert_eq!(parse(long.as_bytes())[0].commands, [Command::Other]);
    let long = format!("PREPARE p AS SELECT {}1", "1, ".repeat(HEAD));
    assert_eq!(parse(long.as_bytes())[0].commands, [Command::Prepare("p".into())]);
    assert_eq!(parse(long.as_bytes())[0].span, 0..long.len());
}

const WORDS: &[&str] = &[
    "SET",
    "RESET",
    "LOCAL",
    "SESSION",
    "TO",
    "=",
    "a",
    "'x'",
    ",",
    "DEFAULT",
    "TIME",
    "ZONE",
    "INTERVAL",
    "BEGIN",
    "COMMIT",
    "AND",
    "CHAIN",
    "READ",
    "ONLY",
    "TRANSACTION",
    "ISOLATION",
    "LEVEL",
    "SELECT",
    "set_config",
    "(",
    ")",
    "$1",
    "true",
    ";",
    "PREPARE",
    "DEALLOCATE",
    "ALL",
    "DECLARE",
    "CURSOR",
    "WITH",
    "HOLD",
    "FOR",
    "ROLLBACK",
    "SAVEPOINT",
    "\"q\"",
    "-",
    "1",
    ".",
    "CHARACTERISTICS",
    "AS",
    "AUTHORIZATION",
    "ROLE",
    "EXECUTE",
    "EXPLAIN",
    "CREATE",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn strewn_words_never_panic(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..20)) {
        let text = words.join(" ");
        for statement in parse(text.as_bytes()) {
            prop_assert!(!statement.commands.is_empty() && statement.span.end <= text.len());
            let known = statement.commands.iter().any(|command| *command != Command::Other);
            prop_assert!(!known || may_have_commands(text.as_bytes()), "{}", text);
        }
    }

    #[test]
    fn bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&text);
        let _ = may_have_commands(&text);
    }
}
