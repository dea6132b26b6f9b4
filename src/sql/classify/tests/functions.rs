//! Functions and operators, wherever they stand.

use super::*;

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
fn operators_written_as_words_are_operators() {
    let function = FunctionFact { oid: 1, ..functions().swap_remove(SYSTEM.len() + SYSTEM_VOLATILE.len() + 1) };
    assert_eq!(function.name, "f_writes");
    for (operator, text) in [
        ("~~", "SELECT 'a' LIKE 'b'"),
        ("~~*", "SELECT 'a' NOT ILIKE 'b'"),
        ("=", "SELECT 1 IN (1, 2)"),
        ("=", "SELECT nullif(1, 2)"),
        ("<=", "SELECT 1 BETWEEN 1 AND 2"),
        ("@>", "SELECT ARRAY[1] @> ARRAY[2]"),
    ] {
        let operators = vec![OperatorFact { name: operator.to_owned(), function: 1 }];
        let catalog = Catalog::new(1, Facts { functions: vec![function.clone()], operators, ..Facts::default() });
        assert_eq!(class(text, &catalog), Class::Write(WriteReason::Function), "{text}");
        assert_eq!(class("SELECT 1 + 1", &catalog), Class::Read);
    }
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
