//! What the session must know.

use super::*;

fn check(text: &str, expect: &[Effects]) {
    let expect = expect.iter().fold(Effects::default(), |set, effect| set.with(*effect));
    assert_eq!(survey(text.as_bytes()).effects, expect, "{text}");
}

#[test]
fn plain_statements_have_none() {
    for text in [
        "",
        "SELECT 1",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO temp VALUES (1)",
        "INSERT INTO temporary SELECT 1",
        "MERGE INTO temp USING u ON true WHEN MATCHED THEN DELETE",
        "WITH x AS (INSERT INTO temp VALUES (1) RETURNING a) SELECT * FROM x",
        "SELECT 'pg_advisory_lock(1)', 'CREATE TEMP TABLE x'",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_advisory_lock FROM t",
        "SELECT 1 -- SET a TO b",
        "COPY t FROM STDIN",
        "DO $$ BEGIN PERFORM set_config('a', 'b', false); END $$",
        "EXPLAIN SELECT 1",
        "TRUNCATE t",
    ] {
        check(text, &[]);
    }
}

#[test]
fn session_matters_are_seen() {
    use Effects as E;
    for text in ["BEGIN", "SELECT 1; SET a TO 1", "listen x", "DECLARE c CURSOR FOR SELECT 1", "EXPLAIN EXECUTE p"] {
        check(text, &[E::COMMANDS]);
    }
    for text in [
        "CREATE TEMP TABLE x (a int)",
        "CREATE TEMPORARY TABLE x (a int)",
        "CREATE LOCAL TEMP TABLE x (a int)",
        "CREATE GLOBAL TEMPORARY TABLE x (a int)",
        "CREATE OR REPLACE TEMP VIEW x AS SELECT 1",
        "CREATE TEMP SEQUENCE s",
        "create temp recursive view x (a) as select 1",
        "CREATE TABLE pg_temp.x (a int)",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE \"pg_temp\".x (a int)",
    ] {
        check(text, &[E::TEMPORARY]);
    }
    for text in [
        "SELECT 1 INTO TEMP x",
        "SELECT 1 INTO LOCAL TEMPORARY TABLE x FROM t",
        "WITH y AS (SELECT 1) SELECT * INTO TEMP x FROM y",
    ] {
        check(text, &[E::TEMPORARY, E::DDL]);
    }
    check("CREATE TEMP TABLE x AS EXECUTE p", &[E::TEMPORARY, E::COMMANDS]);
    check("SET search_path TO pg_temp, public", &[E::TEMPORARY, E::COMMANDS]);
    for text in [
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_catalog.PG_Try_Advisory_Lock(1, 2)",
        "SELECT \"pg_advisory_lock_shared\" (1)",
        "UPDATE t SET a = 1 WHERE pg_try_advisory_lock_shared(1)",
    ] {
        check(text, &[E::ADVISORY_LOCK]);
    }
    check("SELECT pg_advisory_unlock_all()", &[E::ADVISORY_UNLOCK]);
    check("SELECT pg_advisory_unlock(1), pg_advisory_lock(2)", &[E::ADVISORY_LOCK, E::ADVISORY_UNLOCK]);
    check("SELECT setseed(0.5)", &[E::SESSION_STATE]);
    check("SELECT dblink_connect('x')", &[E::SESSION_STATE]);
    check("PREPARE p AS SELECT pg_advisory_lock($1)", &[E::COMMANDS, E::ADVISORY_LOCK]);
}

#[test]
fn changes_of_the_catalog_are_seen() {
    use Effects as E;
    for text in [
        "CREATE TABLE x (a int)",
        "CREATE TABLE temp (a int)",
        "CREATE INDEX IF NOT EXISTS temp ON t (a)",
        "ALTER TABLE t ADD b int",
        "GRANT SELECT ON t TO x",
        "SELECT 1 INTO x",
        "SELECT 1; CREATE VIEW v AS SELECT 1",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
    ] {
        check(text, &[E::DDL]);
    }
    check("DROP TABLE x", &[E::DDL, E::DROP]);
    check("DROP TABLE pg_temp.x", &[E::DDL, E::DROP]);
    check("CREATE TEMP TABLE x (a int); CREATE TABLE y (a int)", &[E::TEMPORARY, E::DDL]);
}

#[test]
fn set_config_is_opaque_when_in_doubt() {
    use Effects as E;
    for text in [
        "SELECT set_config('a', 'b', false)",
        "SELECT set_config($1, $2, $3); SELECT 1",
        "SELECT set_config('a','b',true), set_config('c','d',true)",
    ] {
        check(text, &[E::COMMANDS]);
    }
    for text in [
        "SELECT set_config('a', b, false) FROM t",
        "SELECT set_config('a', 'b', true), coalesce(set_config('a', 'b', true), '')",
        "PREPARE p AS SELECT set_config('a', $1, false)",
        "SELECT \"set_config\"('a', 'b' || 'c', false)",
        "CREATE VIEW v AS SELECT set_config('a', 'b', false)",
    ] {
        let effects = survey(text.as_bytes()).effects;
        assert!(effects.has(E::COMMANDS) && effects.has(E::SET_CONFIG_OPAQUE), "{text}");
    }
}
