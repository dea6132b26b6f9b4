//! What is a query, what it may read, and what is none.

use super::*;

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
