//! What is a read and what is not: the lists of statements that a hot standby was tried with, and more.

use proptest::prelude::*;

use super::*;
use crate::sql::catalog::{
    Facts, FirstArgument, FunctionFact, OperatorFact, Origin, Reach, Reached, RelationFact, Rows, Volatility,
};
use crate::sql::command::{Isolation, TransactionModes};

/// A small database: what PostgreSQL has, and a schema with one of each kind of trouble.
pub(in crate::sql) fn catalog() -> Catalog {
    let system = [
        "abs",
        "age",
        "array_agg",
        "btrim",
        "ceil",
        "concat",
        "count",
        "current_setting",
        "date_trunc",
        "floor",
        "format",
        "generate_series",
        "int4",
        "json_agg",
        "json_build_object",
        "jsonb_array_elements",
        "length",
        "lower",
        "max",
        "min",
        "now",
        "percentile_cont",
        "pg_typeof",
        "rank",
        "row_number",
        "row_to_json",
        "string_agg",
        "substr",
        "substring",
        "sum",
        "to_char",
        "to_tsvector",
        "unnest",
        "upper",
        "version",
        "pg_backend_pid",
        "txid_current",
        "inet_server_addr",
        "pg_walfile_name",
        "table_to_xml",
    ];
    let volatile = [
        "random",
        "clock_timestamp",
        "gen_random_uuid",
        "pg_sleep",
        "nextval",
        "setval",
        "currval",
        "lastval",
        "pg_notify",
        "pg_advisory_lock",
        "set_config",
        "pg_database_size",
        "pg_is_in_recovery",
        "lo_get",
    ];
    let mut functions = Vec::new();
    let mut add = |schema: &str, name: &str, volatility, origin, arguments: (u16, Option<u16>), argument| {
        functions.push(FunctionFact {
            oid: 100 + u32::try_from(functions.len()).unwrap(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            min_arguments: arguments.0,
            max_arguments: arguments.1,
            volatility,
            origin,
            argument,
        });
    };
    let any = (0, None);
    for name in system {
        add("pg_catalog", name, Volatility::Stable, Origin::System, any, FirstArgument::Other);
    }
    for name in volatile {
        add("pg_catalog", name, Volatility::Volatile, Origin::System, any, FirstArgument::Other);
    }
    add("public", "f_reads", Volatility::Stable, Origin::User, (0, Some(1)), FirstArgument::Other);
    add("public", "f_writes", Volatility::Volatile, Origin::User, (0, Some(1)), FirstArgument::Other);
    add("public", "overloaded", Volatility::Immutable, Origin::User, (1, Some(1)), FirstArgument::Other);
    add("public", "overloaded", Volatility::Volatile, Origin::User, (2, Some(2)), FirstArgument::Other);
    add("other", "hidden", Volatility::Volatile, Origin::User, any, FirstArgument::Other);
    add("public", "hidden", Volatility::Stable, Origin::User, any, FirstArgument::Other);
    add("public", "clock_timestamp", Volatility::Stable, Origin::User, (1, Some(1)), FirstArgument::Other);
    add("evil", "random", Volatility::Volatile, Origin::User, (3, Some(3)), FirstArgument::Other);
    add("public", "touch", Volatility::Volatile, Origin::User, (1, Some(1)), FirstArgument::Row);
    add("public", "status", Volatility::Volatile, Origin::User, (1, Some(1)), FirstArgument::Other);
    let oid = |name: &str| functions.iter().find(|function| function.name == name).unwrap().oid;
    let relation = |oid, schema: &str, name: &str, rows| RelationFact {
        oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        rows,
    };
    Catalog::new(
        9,
        Facts {
            relations: vec![
                relation(1, "public", "t", Rows::Replicated),
                relation(2, "public", "u", Rows::Replicated),
                relation(3, "public", "unlogged", Rows::Bound),
                relation(4, "public", "v", Rows::Replicated),
                relation(5, "public", "v_writes", Rows::Replicated),
                relation(6, "public", "v_over_v_writes", Rows::Replicated),
                relation(7, "public", "v_unknown", Rows::Replicated),
                relation(8, "public", "v_locks", Rows::Replicated),
                relation(9, "public", "Mixed", Rows::Replicated),
                relation(10, "a", "twice", Rows::Replicated),
                relation(11, "b", "twice", Rows::Bound),
                relation(12, "public", "loop", Rows::Replicated),
                relation(13, "public", "pg_mine", Rows::Replicated),
            ],
            reaches: vec![
                Reach { from: 4, to: Reached::Relation(1) },
                Reach { from: 4, to: Reached::Function(oid("lower")) },
                Reach { from: 5, to: Reached::Function(oid("f_writes")) },
                Reach { from: 6, to: Reached::Relation(5) },
                Reach { from: 7, to: Reached::Relation(999) },
                Reach { from: 8, to: Reached::RowLock },
                Reach { from: 12, to: Reached::Relation(12) },
            ],
            operators: vec![
                OperatorFact { name: "+!+".to_owned(), function: oid("f_writes") },
                OperatorFact { name: "->".to_owned(), function: oid("lower") },
                OperatorFact { name: "~~".to_owned(), function: oid("lower") },
            ],
            functions,
        },
    )
}

fn class(text: &str, catalog: &Catalog) -> Class {
    analyse(text.as_bytes(), catalog, 0).class
}

/// Every text is a read.
fn reads(texts: &[&str]) {
    let catalog = catalog();
    for text in texts {
        assert_eq!(class(text, &catalog), Class::Read, "{text}");
        // Also with others of its kind, and never with a write beside it.
        let text = text.trim_end_matches(';');
        assert_eq!(class(&format!("{text}\n; SELECT 1;"), &catalog), Class::Read, "{text}");
        assert_ne!(class(&format!("{text}\n; DELETE FROM t"), &catalog), Class::Read, "{text}");
    }
}

/// Every text is a write for this reason.
fn writes(reason: WriteReason, texts: &[&str]) {
    let catalog = catalog();
    for text in texts {
        assert_eq!(class(text, &catalog), Class::Write(reason), "{text}");
        assert_ne!(class(&format!("SELECT 1; {text}"), &catalog), Class::Read, "{text}");
    }
}

/// Every text is a write; the reason is a matter of how far the parser comes.
fn not_reads(texts: &[&str]) {
    let catalog = catalog();
    for text in texts {
        assert_ne!(class(text, &catalog), Class::Read, "{text}");
    }
}

#[test]
fn plain_queries_are_reads() {
    reads(&[
        "SELECT 1",
        "select 1;",
        "",
        ";",
        "-- nothing",
        "SELECT * FROM t",
        "SELECT t.* FROM t",
        "SELECT abalance FROM public.t WHERE aid = 1234;",
        "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST LIMIT 10 OFFSET $1",
        "SELECT a FROM t ORDER BY a FETCH FIRST 5 ROWS ONLY",
        "SELECT count(*), max(a) FILTER (WHERE a > 0) FROM t GROUP BY b HAVING count(*) > 1",
        "SELECT a, rank() OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        "SELECT sum(a) OVER w FROM t WINDOW w AS (PARTITION BY b)",
        "SELECT a FROM t JOIN u USING (a) LEFT JOIN LATERAL (SELECT * FROM u WHERE u.a = t.a) x ON true",
        "SELECT * FROM t CROSS JOIN u NATURAL JOIN v",
        "SELECT * FROM t, u x WHERE t.a = x.a AND EXISTS (SELECT 1 FROM v WHERE v.a = t.a)",
        "SELECT (SELECT max(a) FROM t), ARRAY(SELECT a FROM t), ARRAY[1, 2] || 3, (ARRAY[1,2])[1:2]",
        "SELECT a FROM t WHERE a IN (SELECT a FROM u) OR a = ANY ($1) OR a NOT IN (1, 2) OR (a, b) = (1, 2)",
        "SELECT * FROM t WHERE a BETWEEN 1 AND 2 AND b LIKE 'x%' AND c ILIKE $1 AND d SIMILAR TO 'x' AND e IS NULL",
        "SELECT a FROM t WHERE a IS DISTINCT FROM b AND c IS NOT TRUE",
        "VALUES (1, 'a'), (2, 'b')",
        "TABLE t",
        "TABLE public.t",
        "EXPLAIN TABLE t",
        "COPY (TABLE t) TO STDOUT",
        "WITH x AS (TABLE t) TABLE x",
        "SELECT 1 UNION TABLE t UNION ALL TABLE u",
        "SELECT a AS table, t.table, \"a table b\" FROM t",
        "(SELECT 1) UNION ALL (SELECT 2) INTERSECT SELECT 3 EXCEPT SELECT 4 ORDER BY 1",
        "WITH x AS (SELECT * FROM t), y AS MATERIALIZED (SELECT * FROM x) SELECT * FROM y",
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 5) SELECT * FROM x",
        "SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) y",
        "SELECT * FROM generate_series(1, 10) g(n), unnest(ARRAY[1]) WITH ORDINALITY",
        "SELECT * FROM t TABLESAMPLE system (10) REPEATABLE (1)",
        "SELECT a::text, CAST(b AS numeric(10, 2)), c::varchar(5)[], 'x'::regclass, timestamp '2020-01-01' FROM t",
        "SELECT CASE WHEN a = 1 THEN 'x' ELSE coalesce(b, nullif(c, ''), greatest(1, 2)) END FROM t",
        "SELECT now(), current_timestamp, current_date, current_user, localtimestamp(3), session_user, current_schema",
        "SELECT extract(year FROM a), date_trunc('day', a) AT TIME ZONE 'UTC', a + interval '1 day' FROM t",
        "SELECT position('a' IN b), substring(b FROM 1 FOR 2), substring(b, 1), trim(both ' ' FROM b), ceil(1.5) FROM t",
        "SELECT overlay(a PLACING b FROM 1) FROM t",
        "SELECT a -> 'x', a ->> 'y', a #>> '{a,b}', a @> $1, a ? 'b' FROM t",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t",
        "SELECT string_agg(a, ',' ORDER BY b), array_agg(DISTINCT a) FROM t",
        "SELECT json_build_object('a', 1), row_to_json(t), ROW(1, 2) FROM t",
        "SELECT (t).a, (x.y).z FROM t, u x",
        "SELECT a FROM t GROUP BY GROUPING SETS ((a), ()), ROLLUP (a, b), CUBE (a, b)",
        "SELECT \"Mixed\".\"A\" FROM \"Mixed\" WHERE \"Mixed\".\"A\" = $1",
        "SELECT E'it\\'s', $$dollar '$$, U&'\\0041', B'01', X'1F', 'a' /* ; */ 'b'",
        "SELECT 1 -- ; DELETE FROM t\n",
        "SELECT '; DELETE FROM t; --'",
    ]);
}

#[test]
fn functions_are_judged_by_the_catalog() {
    reads(&[
        "SELECT random(), clock_timestamp(), gen_random_uuid(), pg_sleep(0), lo_get(1)",
        "SELECT pg_catalog.lower('A'), LOWER('A'), \"lower\"('A')",
        "SELECT f_reads(), public.f_reads(1)",
        "SELECT overloaded(1)",
        "SELECT public.hidden()",
        "SELECT current_setting('app.tenant'), current_setting('app.tenant', true)",
    ]);
    writes(
        WriteReason::Function,
        &[
            "SELECT f_writes()",
            "SELECT PUBLIC.F_Writes(1)",
            "SELECT \"f_writes\"()",
            "SELECT overloaded(1, 2)",
            "SELECT overloaded(VARIADIC_IS_NAMED => 1)",
            "SELECT hidden()",
            "SELECT nowhere()",
            "SELECT no.where()",
            "SELECT f_reads(1, 2, 3)",
            "SELECT lower((SELECT f_writes()))",
            "SELECT * FROM t WHERE a = f_writes()",
            "SELECT * FROM t JOIN u ON t.a = f_writes()",
            "SELECT * FROM f_writes()",
            "SELECT * FROM t, LATERAL f_writes(t.a) x",
            "SELECT * FROM t ORDER BY f_writes()",
            "SELECT * FROM t LIMIT f_writes()",
            "SELECT * FROM t OFFSET f_writes()",
            "SELECT * FROM t GROUP BY f_writes()",
            "SELECT 1 FROM t HAVING f_writes() = 1",
            "SELECT sum(a) OVER (ORDER BY f_writes()) FROM t",
            "SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY f_writes())",
            "SELECT sum(a) FILTER (WHERE f_writes() = 1) FROM t",
            "SELECT string_agg(a, ',' ORDER BY f_writes()) FROM t",
            "SELECT DISTINCT ON (f_writes()) 1 FROM t",
            "SELECT CASE WHEN f_writes() = 1 THEN 1 END",
            "SELECT CASE f_writes() WHEN 1 THEN 1 END",
            "SELECT CASE WHEN true THEN 1 ELSE f_writes() END",
            "SELECT coalesce(1, f_writes())",
            "SELECT ARRAY[f_writes()]",
            "SELECT (ARRAY[1])[f_writes()]",
            "SELECT ARRAY(SELECT f_writes())",
            "SELECT ROW(f_writes())",
            "SELECT f_writes()::text",
            "SELECT -f_writes()",
            "SELECT NOT f_writes()",
            "SELECT f_writes() IS NULL",
            "SELECT 1 IN (1, f_writes())",
            "SELECT f_writes() BETWEEN 1 AND 2",
            "SELECT 'a' LIKE f_writes()",
            "SELECT 1 = ANY (ARRAY[f_writes()])",
            "SELECT extract(year FROM f_writes())",
            "SELECT f_writes() AT TIME ZONE 'UTC'",
            "VALUES (f_writes())",
            "SELECT 1 UNION SELECT f_writes()",
            "SELECT f_writes() UNION SELECT 1",
            "WITH x AS (SELECT f_writes()) SELECT 1",
            "SELECT (f_writes()).a",
            "COPY (SELECT f_writes()) TO STDOUT",
            "EXPLAIN SELECT f_writes()",
            "EXPLAIN ANALYZE SELECT f_writes()",
            "SELECT 1 +!+ 2",
            "SELECT 1 OPERATOR(public.+!+) 2",
            // A column's name that is a function of the row, or of any value.
            "SELECT t.touch FROM t",
            "SELECT (t).touch FROM t",
            "SELECT (1).status",
            // A user's own function in the place of a harmless one.
            "SELECT random(1, 2, 3)",
        ],
    );
    reads(&["SELECT t.status FROM t", "SELECT touch FROM t", "SELECT random()"]);
}

#[test]
fn functions_bound_to_session_or_node_are_not_reads() {
    writes(
        WriteReason::Function,
        &[
            "SELECT nextval('s')",
            "SELECT setval('s', 1)",
            "SELECT currval('s')",
            "SELECT lastval()",
            "SELECT pg_notify('c', 'p')",
            "SELECT pg_advisory_lock(1)",
            "SELECT pg_catalog.pg_try_advisory_lock(1)",
            "SELECT pg_advisory_xact_lock(1)",
            "SELECT pg_advisory_unlock_all()",
            "SELECT set_config('a.b', 'c', false)",
            "SELECT setseed(0.5)",
            "SELECT txid_current()",
            "SELECT pg_current_xact_id()",
            "SELECT pg_current_snapshot()",
            "SELECT txid_current_if_assigned()",
            "SELECT lo_create(0)",
            "SELECT lo_creat(-1)",
            "SELECT lo_put(1, 0, '\\x00')",
            "SELECT lo_open(1, 131072)",
            "SELECT loread(0, 1)",
            "SELECT lo_export(1, '/x')",
            "SELECT pg_current_wal_lsn()",
            "SELECT pg_switch_wal()",
            "SELECT pg_logical_emit_message(true, 'a', 'b')",
            "SELECT pg_create_restore_point('a')",
            "SELECT pg_stat_reset()",
            "SELECT pg_stat_get_activity(NULL)",
            "SELECT pg_is_in_recovery()",
            "SELECT inet_server_addr()",
            "SELECT inet_server_port()",
            "SELECT pg_last_wal_replay_lsn()",
            "SELECT pg_export_snapshot()",
            "SELECT pg_backend_pid()",
            "SELECT pg_cancel_backend(1)",
            "SELECT pg_terminate_backend(1)",
            "SELECT pg_log_backend_memory_contexts(1)",
            "SELECT pg_read_file('x')",
            "SELECT pg_ls_dir('.')",
            "SELECT pg_postmaster_start_time()",
            "SELECT pg_last_committed_xact()",
            "SELECT pg_reload_conf()",
            "SELECT pg_rotate_logfile()",
            "SELECT pg_create_physical_replication_slot('a')",
            "SELECT pg_drop_replication_slot('a')",
            "SELECT pg_promote()",
            "SELECT pg_wal_replay_pause()",
            "SELECT dblink_exec('c', 'q')",
            "SELECT * FROM dblink('c', 'q') AS t(a int)",
            "SELECT pg_notification_queue_usage()",
            "SELECT pg_xact_commit_timestamp(xmin) FROM t",
            "SELECT pg_sequence_last_value('s')",
            "SELECT current_setting('port')",
            "SELECT current_setting($1)",
            "SELECT current_setting('a.b' || 'c')",
            "SELECT version()",
            "SELECT table_to_xml('t', true, true, '')",
            "SELECT query_to_xml('select f()', true, true, '')",
            "SELECT pg_database_size('x')",
            "SELECT pg_walfile_name('0/0')",
        ],
    );
}

#[test]
fn relations_are_judged_by_the_catalog() {
    writes(
        WriteReason::Relation,
        &[
            "SELECT * FROM unlogged",
            "SELECT * FROM public.unlogged",
            "SELECT * FROM v_writes",
            "SELECT * FROM v_over_v_writes",
            "SELECT * FROM v_unknown",
            "SELECT * FROM v_locks",
            "SELECT * FROM nowhere",
            "SELECT * FROM no.where",
            "SELECT * FROM db.public.t",
            "SELECT * FROM mixed",
            "SELECT * FROM \"T\"",
            "SELECT * FROM twice",
            "SELECT * FROM pg_stat_activity",
            "SELECT * FROM pg_class",
            "SELECT * FROM pg_catalog.pg_locks",
            "SELECT * FROM information_schema.tables",
            "SELECT * FROM pg_mine",
            "SELECT * FROM pg_temp.t",
            "SELECT * FROM pg_temp_3.t",
            "SELECT 1 WHERE 1 IN (SELECT a FROM unlogged)",
            "SELECT (SELECT a FROM unlogged)",
            "SELECT * FROM t JOIN (u JOIN unlogged ON true) ON true",
            "COPY unlogged TO STDOUT",
            "TABLE unlogged",
            "SELECT 1 UNION SELECT a FROM unlogged",
            // The WITH query is not visible in itself, nor outside, nor before.
            "WITH x AS (SELECT * FROM x) SELECT 1",
            "SELECT * FROM (WITH x AS (SELECT 1) SELECT 1) y, x",
            "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a",
            "WITH x AS (SELECT 1) SELECT * FROM public.x",
            "SELECT last_value FROM some_sequence",
        ],
    );
    reads(&[
        "SELECT * FROM v",
        "SELECT * FROM loop",
        "SELECT * FROM a.twice",
        "SELECT * FROM public.pg_mine",
        "WITH unlogged AS (SELECT 1) SELECT * FROM unlogged",
        "WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a",
        "SELECT unlogged.a FROM t AS unlogged",
        "COPY t TO STDOUT",
        "COPY public.t (a, b) TO STDOUT WITH (FORMAT csv, HEADER)",
        "COPY (SELECT * FROM t WHERE a = 1) TO STDOUT",
        "COPY (VALUES (1)) TO STDOUT CSV",
    ]);
}

#[test]
fn explain_is_what_it_explains() {
    reads(&[
        "EXPLAIN SELECT * FROM t",
        "EXPLAIN ANALYZE SELECT * FROM t",
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT * FROM t",
        "EXPLAIN (COSTS off) SELECT 1",
        "EXPLAIN VERBOSE SELECT 1",
        "EXPLAIN VALUES (1)",
    ]);
    writes(
        WriteReason::Statement,
        &["EXPLAIN DELETE FROM t", "EXPLAIN ANALYZE UPDATE t SET a = 1", "EXPLAIN (ANALYZE) INSERT INTO t VALUES (1)"],
    );
    not_reads(&[
        "EXPLAIN EXECUTE p",
        "EXPLAIN ANALYZE EXECUTE p",
        "EXPLAIN CREATE TABLE x AS SELECT 1",
        "EXPLAIN DECLARE c CURSOR FOR SELECT 1",
        "DESCRIBE t",
        "DESC SELECT 1",
    ]);
}

#[test]
fn what_writes_locks_or_makes_is_no_read() {
    writes(
        WriteReason::RowLock,
        &[
            "SELECT * FROM t FOR UPDATE",
            "SELECT * FROM t FOR SHARE",
            "SELECT * FROM t FOR NO KEY UPDATE",
            "SELECT * FROM t FOR KEY SHARE",
            "SELECT * FROM t FOR UPDATE OF t NOWAIT",
            "SELECT * FROM t FOR UPDATE SKIP LOCKED LIMIT 1",
            "SELECT * FROM (SELECT * FROM t FOR UPDATE) x",
            "WITH x AS (SELECT * FROM t FOR SHARE) SELECT * FROM x",
            "SELECT * FROM t WHERE a IN (SELECT a FROM u FOR UPDATE)",
            "SELECT * FROM t /* */ for\nupdate",
        ],
    );
    writes(
        WriteReason::Into,
        &["SELECT * INTO x FROM t", "SELECT 1 INTO TEMP x", "WITH y AS (SELECT 1) SELECT * INTO x FROM y"],
    );
    writes(
        WriteReason::ModifyingCte,
        &[
            "WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x",
            "WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x",
            "WITH x AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM x",
            "WITH y AS (WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x) SELECT * FROM y",
        ],
    );
    writes(
        WriteReason::Statement,
        &[
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET a = 1 WHERE false",
            "DELETE FROM t",
            "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DO NOTHING",
            "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
            "CREATE TABLE x (a int)",
            "CREATE TEMP TABLE x (a int)",
            "CREATE TABLE x AS SELECT 1",
            "CREATE MATERIALIZED VIEW m AS SELECT 1",
            "REFRESH MATERIALIZED VIEW m",
            "DROP TABLE t",
            "ALTER TABLE t ADD b int",
            "ALTER SYSTEM SET a = 1",
            "TRUNCATE t",
            "VACUUM",
            "ANALYZE t",
            "REINDEX TABLE t",
            "CLUSTER",
            "GRANT SELECT ON t TO x",
            "COMMENT ON TABLE t IS 'x'",
            "CALL p()",
            "DO $$ BEGIN END $$",
            "COPY t FROM STDIN",
            "COPY (SELECT 1) TO '/tmp/x'",
            "COPY t TO PROGRAM 'cat'",
            "SECURITY LABEL ON TABLE t IS 'x'",
            "IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z",
            "nonsense",
            "'SELECT 1'",
            "\"select\" 1",
        ],
    );
    not_reads(&["SELECT * FROM ONLY nowhere", "SELECT * FROM ROWS FROM (f_writes()) x"]);
    not_reads(&["COPY (INSERT INTO t VALUES (1) RETURNING a) TO STDOUT", "COPY (DELETE FROM t RETURNING a) TO STDOUT"]);
}

#[test]
fn what_concerns_the_session_is_no_read() {
    writes(
        WriteReason::Session,
        &[
            "SET search_path TO x",
            "RESET ALL",
            "SET LOCAL a.b = 1",
            "SET CONSTRAINTS ALL DEFERRED",
            "BEGIN",
            "START TRANSACTION READ ONLY",
            "COMMIT",
            "END",
            "ROLLBACK",
            "ABORT",
            "SAVEPOINT a",
            "RELEASE a",
            "PREPARE TRANSACTION 'x'",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "DEALLOCATE ALL",
            "DECLARE c CURSOR FOR SELECT 1",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "FETCH 1 FROM c",
            "MOVE c",
            "CLOSE c",
            "LISTEN a",
            "UNLISTEN *",
            "NOTIFY a, 'x'",
            "LOAD 'x'",
            "DISCARD ALL",
            "LOCK TABLE t IN ACCESS SHARE MODE",
            "CHECKPOINT",
            "SHOW transaction_read_only",
            "SHOW ALL",
        ],
    );
}

#[test]
fn doubt_is_a_write() {
    writes(
        WriteReason::Unparsed,
        &[
            "SELECT 1 FROM t WHERE",
            "SELECT 1 1 1",
            "SELECT 'abc",
            "SELECT \"abc",
            "SELECT /* abc",
            "SELECT $x$ abc",
            "SELECT 'a\\', 1",
            "SELECT U&\"a\" FROM t",
            "SELECT {d '2020-01-01'}",
            "SELECT a FROM t \\",
            "SELECT * EXCLUDE (a) FROM t",
            "SELECT TOP 5 * FROM t",
            "SELECT ((1)",
        ],
    );
    let invalid = b"SELECT \xff FROM t";
    assert_eq!(analyse(invalid, &catalog(), 0).class, Class::Write(WriteReason::Unparsed));
    assert_eq!(analyse(b"SELECT '\xff'", &catalog(), 0).class, Class::Read);
}

#[test]
fn without_a_catalog_only_constants_are_reads() {
    let empty = Catalog::empty();
    for text in
        ["SELECT 1", "SELECT 1 + 1 AS a", "VALUES (1)", "WITH x AS (SELECT 1) SELECT * FROM x", "", "SELECT $1::int"]
    {
        assert_eq!(class(text, &empty), Class::Read, "{text}");
    }
    for text in ["SELECT * FROM t", "SELECT lower('A')", "SELECT random()", "TABLE t"] {
        assert_eq!(class(text, &empty), Class::Write(WriteReason::CatalogUnknown), "{text}");
    }
    for (text, reason) in [
        ("SELECT nextval('s')", WriteReason::Function),
        ("SELECT * FROM pg_class", WriteReason::Relation),
        ("INSERT INTO t VALUES (1)", WriteReason::Statement),
    ] {
        assert_eq!(class(text, &empty), Class::Write(reason), "{text}");
    }
}

#[test]
fn long_and_deep_texts_cost_no_stack() {
    let catalog = catalog();
    let too_long = Class::Write(WriteReason::TooLong);
    assert_eq!(class(&format!("SELECT '{}'", "x".repeat(LENGTH_LIMIT)), &catalog), too_long);
    for (unit, start) in [
        ("+1", "SELECT 1"),
        (" IS NULL", "SELECT 1"),
        ("::int", "SELECT 1"),
        (" UNION SELECT 1", "SELECT 1"),
        (" UNION SELECT 1, 2", "SELECT 1, 2"),
        (" AND a", "SELECT a FROM t WHERE a"),
        (" COLLATE x", "SELECT 1"),
        (" NOTNULL", "SELECT 1"),
        (" AT TIME ZONE 'x'", "SELECT 1"),
        (" JOIN t ON true", "SELECT 1 FROM t"),
        (" JOIN t", "SELECT 1 FROM t"),
        (" JOIN (SELECT DISTINCT ON (1) 1)", "SELECT 1 FROM t"),
        (" CROSS JOIN t", "SELECT 1 FROM t"),
        (" || ARRAY[1, 2]", "SELECT ARRAY[1, 2]"),
        (" - ", "SELECT "),
        (" NOT ", "SELECT "),
        ("(", "SELECT "),
        ("(", "SELECT * FROM "),
        ("[", "SELECT ARRAY"),
        ("(SELECT ", "SELECT "),
        ("lower(", "SELECT "),
        (" CASE WHEN ", "SELECT "),
        ("EXPLAIN ", ""),
        ("[1]", "SELECT a"),
        (".a", "SELECT a"),
        (" IN (1)", "SELECT 1"),
        (" BETWEEN 1 AND 1", "SELECT 1"),
        (" LIKE 'x'", "SELECT 'x'"),
        ("WITH x AS (", ""),
        ("(SELECT * FROM ", "SELECT * FROM "),
        ("(VALUES ", "SELECT * FROM "),
        ("((SELECT lower(", "SELECT "),
        ("((t JOIN ", "SELECT * FROM "),
        ("CAST(", "SELECT "),
        ("EXISTS (SELECT CASE WHEN (", "SELECT "),
        ("x(a => ", "SELECT "),
        ("ARRAY[(", "SELECT "),
        ("json_object(", "SELECT "),
        ("interval (", "SELECT "),
        ("ROW(", "SELECT "),
        ("trim(both ", "SELECT "),
        ("position(", "SELECT "),
        ("extract(year from ", "SELECT "),
        ("date '1' + (", "SELECT "),
        ("unnest(", "SELECT * FROM "),
        ("LATERAL (SELECT * FROM ", "SELECT * FROM "),
        ("EXPLAIN (", ""),
        ("a IN (", "SELECT "),
        ("NOT (", "SELECT "),
        ("x'1' IS JSON AND (", "SELECT "),
        ("f(DISTINCT ", "SELECT "),
        ("grouping sets ((", "SELECT 1 GROUP BY "),
        (" DESC", "SELECT 1 ORDER BY 1"),
    ] {
        for count in [10, 20, 45, 100, 1000, 2000, 30_000] {
            let text = format!("{start}{}", unit.repeat(count));
            let started = std::time::Instant::now();
            let class = class(&text, &catalog);
            let took = started.elapsed();
            assert!(took < std::time::Duration::from_secs(5), "{start}{unit} x {count}: {took:?}");
            if count == 30_000 && unit.trim() != "." {
                assert_ne!(class, Class::Read, "{start}{unit}");
            }
        }
    }
    let list = format!("SELECT * FROM t WHERE a IN ({}1)", "1, ".repeat(50_000));
    assert_eq!(class(&list, &catalog), Class::Read);
    let wide = format!("SELECT {}a FROM t", "lower(a) AS b, ".repeat(5_000));
    assert_eq!(class(&wide, &catalog), Class::Read);
    let conditions = format!("SELECT * FROM t WHERE {} true", "(a = 1 AND b IS NOT NULL) OR ".repeat(400));
    assert_eq!(class(&conditions, &catalog), Class::Read);
}

#[test]
fn proofs_come_from_reads_hints_and_read_only_transactions() {
    let catalog = catalog();
    assert!(analyse(b"SELECT 1", &catalog, 0).read_only().is_some());
    let mut forged = analyse(b"DELETE FROM t", &catalog, 0);
    assert!(forged.read_only().is_none());
    forged.class = Class::Read;
    assert!(forged.read_only().is_none());

    let hint = |text: &[u8]| crate::sql::hint::parse(text).unwrap();
    assert!(ReadOnly::by_order(&hint(b"/* howdah: replica */")).is_some());
    assert!(ReadOnly::by_order(&hint(b"/* howdah: primary */")).is_none());
    assert!(ReadOnly::by_order(&hint(b"/* howdah: consistency=strong */")).is_none());

    let modes = |read_only, isolation| TransactionModes { read_only, isolation, deferrable: None };
    assert!(ReadOnly::transaction(&modes(Some(true), None)).is_some());
    assert!(ReadOnly::transaction(&modes(Some(true), Some(Isolation::RepeatableRead))).is_some());
    assert!(ReadOnly::transaction(&modes(Some(true), Some(Isolation::Serializable))).is_none());
    assert!(ReadOnly::transaction(&modes(Some(false), None)).is_none());
    assert!(ReadOnly::transaction(&modes(None, None)).is_none());
}

/// Words that make SQL when strewn, more often than letters do.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "t",
    "u",
    "WHERE",
    "a",
    "=",
    "1",
    "(",
    ")",
    ",",
    ";",
    "'x'",
    "\"a\"",
    "WITH",
    "AS",
    "x",
    "INSERT",
    "INTO",
    "DELETE",
    "UPDATE",
    "FOR",
    "UNION",
    "ALL",
    "lower",
    "f_writes",
    "nextval",
    ".",
    "*",
    "JOIN",
    "ON",
    "ORDER",
    "BY",
    "LIMIT",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "::",
    "int",
    "$1",
    "--",
    "\n",
    "/*",
    "*/",
    "VALUES",
    "TABLE",
    "EXPLAIN",
    "COPY",
    "TO",
    "STDOUT",
    "SET",
    "BEGIN",
    "RETURNING",
    "ARRAY",
    "[",
    "]",
    "NOT",
    "IN",
    "EXISTS",
    "LATERAL",
    "$$",
    "E'\\''",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = analyse(&text, &catalog(), 0);
    }

    #[test]
    fn strewn_words_never_panic_and_never_hide_a_write(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..30),
    ) {
        let text = words.join(" ");
        let analysis = analyse(text.as_bytes(), &catalog(), 0);
        let _ = crate::sql::command::parse(text.as_bytes());
        if analysis.class == Class::Read {
            let mut tokens = Scanner::new(text.as_bytes()).peekable();
            while let Some(token) = tokens.next() {
                let call = tokens.peek().is_some_and(|next| next.is_mark(text.as_bytes(), "("));
                prop_assert!(!(call && (token.is_word(text.as_bytes(), "f_writes") || token.is_word(text.as_bytes(), "nextval"))), "{}", text);
            }
        }
    }

    #[test]
    fn mutated_queries_never_panic(at in any::<proptest::sample::Index>(), byte in any::<u8>(), which in 0..4_usize) {
        let text = [
            "WITH x AS (SELECT * FROM t WHERE a = 'b') SELECT lower(x.a), $1::int FROM x JOIN u USING (a) FOR UPDATE",
            "SELECT set_config('a.b', $1, true), E'a\\'b', $x$ y $x$ /* c /* d */ */ -- e",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY; DECLARE c CURSOR FOR SELECT 1",
            "COPY (SELECT * FROM t ORDER BY a LIMIT 1) TO STDOUT WITH (FORMAT csv, DELIMITER ',')",
        ][which];
        let mut bytes = text.as_bytes().to_vec();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        let _ = analyse(&bytes, &catalog(), 0);
        let _ = crate::sql::command::parse(&bytes);
        bytes.truncate(index);
        let _ = analyse(&bytes, &catalog(), 0);
        let _ = crate::sql::command::parse(&bytes);
    }
}
