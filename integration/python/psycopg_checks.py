"""psycopg 3 as applications use it."""

import threading
import time

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

import checks
from checks import raises

INFO = f"host={checks.HOST} port={checks.PORT} user={checks.USER} password={checks.PASSWORD} dbname={checks.DATABASE}"


def connect(**options):
    return psycopg.connect(INFO, **options)


def reads_and_writes():
    with connect(autocommit=True) as conn:
        conn.execute("CREATE TABLE psy (id int PRIMARY KEY, t text)")
        conn.execute("INSERT INTO psy VALUES (%s, %s)", (1, "one"))
        assert conn.execute("SELECT t FROM psy WHERE id = %s", (1,)).fetchone() == ("one",)
        # Parameters of many types, there and back.
        row = conn.execute(
            "SELECT %s::int, %s::text, %s::bytea, %s::jsonb, %s::int[], %s::timestamptz IS NOT NULL, %s::numeric",
            (7, "é€😀", b"\x00\xff", psycopg.types.json.Jsonb({"a": [1]}), [1, None], "2024-01-01 00:00+02", "1.50"),
        ).fetchone()
        assert row[:5] == (7, "é€😀", b"\x00\xff", {"a": [1]}, [1, None]) and str(row[6]) == "1.50"


def transactions():
    with connect() as conn:
        conn.execute("CREATE TABLE psy_tx (n int)")
        conn.commit()
        conn.execute("INSERT INTO psy_tx VALUES (1)")
        assert conn.execute("SELECT count(*) FROM psy_tx").fetchone() == (1,)
        conn.rollback()
        assert conn.execute("SELECT count(*) FROM psy_tx").fetchone() == (0,)
        conn.rollback()
        with conn.transaction():
            conn.execute("INSERT INTO psy_tx VALUES (2)")
            try:
                with conn.transaction():  # a savepoint
                    conn.execute("INSERT INTO psy_tx VALUES (3)")
                    conn.execute("SELECT 1/0")
            except psycopg.errors.DivisionByZero:
                pass
            conn.execute("INSERT INTO psy_tx VALUES (4)")
        assert conn.execute("SELECT array_agg(n ORDER BY n) FROM psy_tx").fetchone() == ([2, 4],)
        conn.rollback()
    with connect() as conn:
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        assert conn.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        conn.rollback()
        conn.isolation_level = None
        conn.read_only = True
        assert conn.execute("SHOW transaction_read_only").fetchone() == ("on",)
        raises(psycopg.errors.ReadOnlySqlTransaction, lambda: conn.execute("INSERT INTO psy_tx VALUES (5)"))
        conn.rollback()


def prepared_statements():
    for threshold in (0, 1):
        with connect(autocommit=True, prepare_threshold=threshold) as conn:
            for i in range(50):
                assert conn.execute("SELECT %s::int + 1 AS marker_psycopg_prepared", (i,)).fetchone() == (i + 1,)
            with conn.transaction():
                for i in range(10):
                    conn.execute("INSERT INTO psy VALUES (%s, %s)", (1000 + threshold * 100 + i, "p"))
            # A failed statement leaves the others usable.
            raises(psycopg.errors.DivisionByZero, lambda: conn.execute("SELECT 1 / %s::int", (0,)))
            assert conn.execute("SELECT 1 / %s::int", (1,)).fetchone() == (1,)
            # More statements than psycopg keeps (prepared_max 100): it deallocates.
            for i in range(150):
                conn.execute(f"SELECT %s::int AS c{i}", (i,), prepare=True)
            conn.execute("DEALLOCATE ALL")
            conn.execute("SELECT %s::int AS again", (1,), prepare=False)


def changed_result_type():
    with connect(autocommit=True, prepare_threshold=0) as conn:
        conn.execute("CREATE TABLE psy_change (a int)")
        conn.execute("INSERT INTO psy_change VALUES (1)")
        sql = "SELECT * FROM psy_change"
        assert conn.execute(sql, prepare=True).fetchone() == (1,)
        conn.execute("ALTER TABLE psy_change ADD b int DEFAULT 2")
        # PostgreSQL itself refuses: "cached plan must not change result type".
        try:
            assert conn.execute(sql, prepare=True).fetchone() == (1, 2)
        except psycopg.errors.FeatureNotSupported as error:
            assert "cached plan must not change result type" in str(error)
            conn.execute("DEALLOCATE ALL")
        assert conn.execute("SELECT b FROM psy_change", prepare=False).fetchone() == (2,)


def many_rows():
    with connect(autocommit=True) as conn:
        with conn.cursor() as cur:
            cur.executemany("INSERT INTO psy VALUES (%s, %s)", [(2000 + i, f"many {i}") for i in range(500)])
            assert cur.rowcount == 500
            cur.executemany("SELECT %s::int", [(i,) for i in range(5)], returning=True)
            seen = []
            while True:
                seen.append(cur.fetchone()[0])
                if not cur.nextset():
                    break
            assert seen == [0, 1, 2, 3, 4]
        assert len(conn.execute("SELECT repeat('x', 1000) FROM generate_series(1, 20000)").fetchall()) == 20000
        # Row by row, as they come.
        with conn.cursor() as cur:
            assert sum(row[0] for row in cur.stream("SELECT generate_series(1, 1000)")) == 500500


def pipelines():
    with connect(autocommit=True) as conn:
        with conn.pipeline():
            cursors = [conn.execute("SELECT %s::int", (i,)) for i in range(200)]
        assert [cur.fetchone()[0] for cur in cursors] == list(range(200))
        with conn.pipeline() as pipeline:
            conn.execute("INSERT INTO psy VALUES (%s, 'pipe')", (3000,))
            pipeline.sync()
            first = conn.execute("SELECT t FROM psy WHERE id = 3000")
        assert first.fetchone() == ("pipe",)
        # After an error the rest of the pipeline up to the sync is not run.
        def broken():
            with conn.pipeline():
                conn.execute("INSERT INTO psy VALUES (3001, 'pipe')")
                conn.execute("SELECT 1/0")
                conn.execute("INSERT INTO psy VALUES (3002, 'pipe')")
        raises(psycopg.errors.DivisionByZero, broken)
        assert conn.execute("SELECT count(*) FROM psy WHERE id IN (3001, 3002)").fetchone() == (0,)
        with conn.pipeline(), conn.transaction():
            conn.execute("INSERT INTO psy VALUES (3003, 'pipe')")
        assert conn.execute("SELECT count(*) FROM psy WHERE id = 3003").fetchone() == (1,)


def copies():
    with connect() as conn, conn.cursor() as cur:
        cur.execute("CREATE TABLE psy_copy (n int, t text)")
        with cur.copy("COPY psy_copy FROM STDIN") as copy:
            for i in range(10000):
                copy.write_row((i, f"row {i}"))
        conn.commit()
        with cur.copy("COPY (SELECT n FROM psy_copy ORDER BY n) TO STDOUT") as copy:
            copy.set_types(["int4"])
            assert [row[0] for row in copy.rows()] == list(range(10000))
        conn.commit()

        def given_up():
            with cur.copy("COPY psy_copy FROM STDIN") as copy:
                copy.write_row((-1, "x"))
                raise KeyError("the program's own error")
        raises(KeyError, given_up)
        conn.rollback()
        assert cur.execute("SELECT count(*) FROM psy_copy").fetchone() == (10000,)
        with cur.copy("COPY psy_copy FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((20000, "binary"))
        conn.commit()


def cancelling():
    with connect(autocommit=True) as conn:
        for safe in (False, True):
            cancel = conn.cancel_safe if safe else conn.cancel
            timer = threading.Timer(0.3, cancel)
            timer.start()
            start = time.monotonic()
            raises(psycopg.errors.QueryCanceled, lambda: conn.execute("SELECT pg_sleep(30)"))
            assert time.monotonic() - start < 10
            timer.join()
            assert conn.execute("SELECT 1").fetchone() == (1,)
        conn.execute("SET statement_timeout = 200")
        raises(psycopg.errors.QueryCanceled, lambda: conn.execute("SELECT pg_sleep(30)"))


def server_side_cursors():
    with connect() as conn:
        with conn.cursor(name="named") as cur:
            cur.itersize = 100
            cur.execute("SELECT generate_series(1, 1000)")
            assert sum(row[0] for row in cur) == 500500
        with conn.cursor(name="scrolled", scrollable=True) as cur:
            cur.execute("SELECT generate_series(1, 100)")
            cur.scroll(49)
            assert cur.fetchone() == (50,)
            cur.scroll(-10)
            assert cur.fetchone() == (41,)
        conn.commit()
        with conn.cursor(name="held", withhold=True) as cur:
            cur.execute("SELECT generate_series(1, 10)")
            conn.commit()
            assert len(cur.fetchall()) == 10
        conn.commit()


def settings_per_connection():
    one = connect(autocommit=True, options="-c search_path=one,public -c statement_timeout=11s")
    two = connect(autocommit=True, application_name="second")
    two.execute("SELECT set_config('search_path', 'two', false)")
    two.execute("SET TIME ZONE 'Asia/Tokyo'")
    for _ in range(30):
        assert one.execute("SHOW search_path").fetchone() == ("one,public",)
        assert one.execute("SELECT current_setting('statement_timeout')").fetchone() == ("11s",)
        assert two.execute("SHOW search_path").fetchone() == ("two",)
        assert two.execute("SELECT current_setting('TimeZone')").fetchone() == ("Asia/Tokyo",)
        assert two.execute("SHOW application_name").fetchone() == ("second",)
        assert two.info.parameter_status("TimeZone") == "Asia/Tokyo"
        assert one.info.parameter_status("TimeZone") == "UTC"
    two.execute("DISCARD ALL")
    # DISCARD ALL drops what psycopg has prepared, too.
    assert two.execute("SHOW search_path", prepare=False).fetchone() == ('"$user", public',)
    one.close()
    two.close()


def errors_and_notices():
    with connect(autocommit=True) as conn:
        error = raises(psycopg.errors.UniqueViolation, lambda: conn.execute("INSERT INTO psy VALUES (1, 'again')"))
        assert (error.diag.constraint_name, error.diag.table_name) == ("psy_pkey", "psy")
        error = raises(psycopg.errors.UndefinedColumn, lambda: conn.execute("SELECT 1, nothing FROM psy"))
        assert error.diag.statement_position == "11"
        notices = []
        conn.add_notice_handler(lambda diag: notices.append((diag.severity, diag.message_primary)))
        conn.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 1; END $$")
        assert notices == [("NOTICE", "hello 1")]
    with connect() as conn:
        raises(psycopg.errors.DivisionByZero, lambda: conn.execute("SELECT 1/0"))
        raises(psycopg.errors.InFailedSqlTransaction, lambda: conn.execute("SELECT 1"))
        conn.rollback()
        assert conn.execute("SELECT 1").fetchone() == (1,)


def notifications():
    with connect(autocommit=True) as listener, connect(autocommit=True) as teller:
        listener.execute("LISTEN psy_news")
        teller.execute("SELECT pg_notify('psy_news', 'by function')")
        teller.execute("NOTIFY psy_news, 'by statement'")
        # The wait is for a sum, not for each: they may come in one read.
        received = [n.payload for n in listener.notifies(timeout=10, stop_after=2)]
        assert received == ["by function", "by statement"], received
        listener.execute("UNLISTEN psy_news")
        teller.execute("NOTIFY psy_news, 'unheard'")
        assert list(listener.notifies(timeout=0.5)) == []


def advisory_locks():
    with connect(autocommit=True) as one, connect(autocommit=True) as two:
        one.execute("SELECT pg_advisory_lock(42)")
        for _ in range(20):
            assert two.execute("SELECT pg_try_advisory_lock(42)").fetchone() == (False,)
        assert one.execute("SELECT pg_advisory_unlock(42)").fetchone() == (True,)
        assert two.execute("SELECT pg_try_advisory_lock(42)").fetchone() == (True,)


def more_connections_than_servers():
    errors = []

    def work(number):
        try:
            with connect(autocommit=True, row_factory=dict_row) as conn:
                for i in range(10):
                    with conn.transaction():
                        conn.execute("INSERT INTO psy VALUES (%s, 'thread')", (10000 + number * 100 + i,))
                        assert conn.execute("SELECT %s::int AS n", (i,)).fetchone() == {"n": i}
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    with connect() as conn:
        assert conn.execute("SELECT count(*) FROM psy WHERE id >= 10000").fetchone() == (400,)


def client_side_pool():
    with ConnectionPool(INFO, min_size=2, max_size=8, check=ConnectionPool.check_connection) as pool:
        for i in range(50):
            with pool.connection() as conn:
                assert conn.execute("SELECT %s::int", (i,)).fetchone() == (i,)


def many_marked_reads():
    with connect(autocommit=True) as conn:
        for i in range(200):
            conn.execute("SELECT count(*) FROM psy AS marker_psycopg_read WHERE id < %s", (i,))


if __name__ == "__main__":
    checks.main(
        [
            reads_and_writes,
            transactions,
            prepared_statements,
            changed_result_type,
            many_rows,
            pipelines,
            copies,
            cancelling,
            server_side_cursors,
            settings_per_connection,
            errors_and_notices,
            notifications,
            advisory_locks,
            more_connections_than_servers,
            client_side_pool,
            many_marked_reads,
        ]
    )
