"""asyncpg as applications use it: everything by the extended protocol, statements cached."""

import asyncio
import io

import asyncpg

import checks


async def connect(**options):
    return await asyncpg.connect(
        host=checks.HOST,
        port=checks.PORT,
        user=checks.USER,
        password=checks.PASSWORD,
        database=checks.DATABASE,
        timeout=10,
        **options,
    )


async def raises(error, awaitable):
    try:
        await awaitable
    except error as caught:
        return caught
    raise AssertionError(f"{error.__name__} was not raised")


async def reads_and_writes():
    conn = await connect()
    await conn.execute("CREATE TABLE apg (id int PRIMARY KEY, t text, d jsonb, a int[])")
    assert await conn.execute("INSERT INTO apg VALUES ($1, $2, $3, $4)", 1, "é", '{"k": 1}', [1, 2]) == "INSERT 0 1"
    row = await conn.fetchrow("SELECT * FROM apg WHERE id = $1", 1)
    assert (row["t"], row["a"]) == ("é", [1, 2])
    # A simple query with several statements.
    await conn.execute("INSERT INTO apg (id) VALUES (2); INSERT INTO apg (id) VALUES (3)")
    assert await conn.fetchval("SELECT count(*) FROM apg") == 3
    await conn.close()


async def statement_cache():
    one, two = await connect(), await connect()
    for i in range(50):
        for conn in (one, two):
            assert await conn.fetchval("SELECT $1::int + 1 AS marker_asyncpg_cached", i) == i + 1
    await one.close()
    await two.close()
    # More statements than the cache holds (100): it closes the oldest.
    conn = await connect()
    for i in range(150):
        assert await conn.fetchval(f"SELECT $1::int AS c{i}", i) == i
    await conn.close()
    conn = await connect(statement_cache_size=0)
    for i in range(20):
        assert await conn.fetchval("SELECT $1::int", i) == i
    await conn.close()


async def prepared_statements():
    conn = await connect()
    statement = await conn.prepare("SELECT id, t FROM apg WHERE id = $1")
    assert [attribute.name for attribute in statement.get_attributes()] == ["id", "t"]
    assert [parameter.name for parameter in statement.get_parameters()] == ["int4"]
    for _ in range(20):
        assert (await statement.fetchrow(1))["t"] == "é"
        await conn.execute("SELECT pg_sleep(0)")
    await conn.reload_schema_state()
    # Types that asyncpg must look up in the catalog.
    await conn.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    assert await conn.fetchval("SELECT $1::mood", "happy") == "happy"
    await conn.close()


async def schema_changes():
    conn = await connect()
    await conn.execute("CREATE TABLE apg_change (a int); INSERT INTO apg_change VALUES (1)")
    assert tuple(await conn.fetchrow("SELECT * FROM apg_change")) == (1,)
    await conn.execute("ALTER TABLE apg_change ADD b int DEFAULT 2")
    # asyncpg prepares again by itself when the server refuses the old plan.
    assert tuple(await conn.fetchrow("SELECT * FROM apg_change")) == (1, 2)
    await conn.close()
    conns = [await connect() for _ in range(8)]
    admin = await connect()
    # The same for many connections that have it in their caches, and of which none made the change.
    row = (1, 2)
    for step in range(5):
        await admin.execute(f"ALTER TABLE apg_change ADD c{step} text DEFAULT 'step {step}'")
        row += (f"step {step}",)
        for _ in range(2):
            for seen in await asyncio.gather(*(conn.fetchrow("SELECT * FROM apg_change") for conn in conns)):
                assert tuple(seen) == row, (tuple(seen), row)
    # Within a transaction nothing can be sent again: an error that says so, or the new columns on a server that is new to it.
    for conn in conns:
        await admin.execute("ALTER TABLE apg_change ADD late int DEFAULT 5")
        try:
            async with conn.transaction():
                await conn.execute("UPDATE apg_change SET a = a + 1")
                assert tuple(await conn.fetchrow("SELECT * FROM apg_change"))[1:] == (*row[1:], 5)
        except asyncpg.InvalidCachedStatementError:
            pass
        assert tuple(await conn.fetchrow("SELECT * FROM apg_change"))[1:] == (*row[1:], 5)
        await admin.execute("ALTER TABLE apg_change DROP late")
    # What the client was told of a parameter remains true on every server.
    await admin.execute("CREATE TABLE apg_retyped (v int)")
    insert = "INSERT INTO apg_retyped VALUES ($1)"
    for conn in conns:
        await conn.execute(insert, 7)
    await admin.execute("ALTER TABLE apg_retyped ALTER v TYPE text")
    await asyncio.gather(*(conn.execute(insert, 7) for conn in conns))
    assert {row["v"] for row in await admin.fetch("SELECT v FROM apg_retyped")} == {"7"}
    for conn in (*conns, admin):
        await conn.close()


async def transactions():
    conn = await connect()
    await conn.execute("CREATE TABLE apg_tx (n int)")
    async with conn.transaction():
        await conn.execute("INSERT INTO apg_tx VALUES (1)")
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO apg_tx VALUES (2)")
                await conn.execute("SELECT 1/0")
        except asyncpg.DivisionByZeroError:
            pass
        await conn.execute("INSERT INTO apg_tx VALUES (3)")
    assert await conn.fetchval("SELECT array_agg(n ORDER BY n) FROM apg_tx") == [1, 3]

    async with conn.transaction(isolation="serializable"):
        assert await conn.fetchval("SHOW transaction_isolation") == "serializable"
    transaction = conn.transaction(isolation="repeatable_read", readonly=True)
    await transaction.start()
    await raises(asyncpg.ReadOnlySQLTransactionError, conn.execute("INSERT INTO apg_tx VALUES (4)"))
    await transaction.rollback()
    assert not conn.is_in_transaction()
    await conn.close()


async def cursors():
    conn = await connect()
    async with conn.transaction():
        total = 0
        async for row in conn.cursor("SELECT generate_series(1, $1::int)", 1000, prefetch=70):
            total += row[0]
        assert total == 500500
        cursor = await conn.cursor("SELECT generate_series(1, 10)")
        assert [row[0] for row in await cursor.fetch(3)] == [1, 2, 3]
        await cursor.forward(5)
        assert (await cursor.fetchrow())[0] == 9
    await conn.close()


async def many_rows():
    conn = await connect()
    await conn.executemany("INSERT INTO apg (id, t) VALUES ($1, $2)", [(100 + i, str(i)) for i in range(500)])
    assert await conn.fetchval("SELECT count(*) FROM apg WHERE id >= 100") == 500
    # One bad row undoes them all.
    rows = [(1000 + i, "x") for i in range(200)] + [(1000, "again")]
    await raises(asyncpg.UniqueViolationError, conn.executemany("INSERT INTO apg (id, t) VALUES ($1, $2)", rows))
    assert await conn.fetchval("SELECT count(*) FROM apg WHERE id >= 1000") == 0
    assert len(await conn.fetch("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")) == 20000
    await conn.close()


async def copies():
    conn = await connect()
    await conn.execute("CREATE TABLE apg_copy (n int, t text)")
    records = [(i, f"row {i}") for i in range(10000)]
    assert await conn.copy_records_to_table("apg_copy", records=records) == "COPY 10000"
    out = io.BytesIO()
    assert await conn.copy_from_query("SELECT n FROM apg_copy ORDER BY n LIMIT $1", 5, output=out) == "COPY 5"
    assert out.getvalue() == b"0\n1\n2\n3\n4\n"
    source = io.BytesIO(b"not a number\tx\n")
    await raises(asyncpg.InvalidTextRepresentationError, conn.copy_to_table("apg_copy", source=source))
    assert await conn.fetchval("SELECT count(*) FROM apg_copy") == 10000
    await conn.close()


async def cancelling():
    conn = await connect()
    # asyncpg's timeout sends a cancel request.
    await raises(asyncio.TimeoutError, conn.fetchval("SELECT pg_sleep(30)", timeout=0.3))
    assert await conn.fetchval("SELECT 1") == 1
    task = asyncio.ensure_future(conn.fetchval("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.3)
    task.cancel()
    await raises(asyncio.CancelledError, task)
    assert await conn.fetchval("SELECT 2") == 2
    await conn.close()


async def settings_per_connection():
    one = await connect(server_settings={"search_path": "one", "application_name": "first"})
    two = await connect()
    await two.execute("SET search_path = two")
    for _ in range(30):
        assert await one.fetchval("SHOW search_path") == "one"
        assert await one.fetchval("SHOW application_name") == "first"
        assert await two.fetchval("SHOW search_path") == "two"
    # What asyncpg's pool sends when a connection goes back to it.
    await two.reset()
    assert await two.fetchval("SHOW search_path") == '"$user", public'
    await one.close()
    await two.close()


async def notices_and_notifications():
    conn, teller = await connect(), await connect()
    notices, news = [], asyncio.Queue()
    conn.add_log_listener(lambda _, message: notices.append(message.message))
    await conn.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    await asyncio.sleep(0)
    assert notices == ["hello"], notices
    await conn.add_listener("apg_news", lambda *arguments: news.put_nowait(arguments[3]))
    await teller.execute("NOTIFY apg_news, 'heard'")
    assert await asyncio.wait_for(news.get(), 10) == "heard"
    await conn.close()
    await teller.close()


async def pool_larger_than_servers():
    async with asyncpg.create_pool(
        host=checks.HOST,
        port=checks.PORT,
        user=checks.USER,
        password=checks.PASSWORD,
        database=checks.DATABASE,
        min_size=1,
        max_size=40,
    ) as pool:

        async def work(number):
            for i in range(10):
                async with pool.acquire() as conn, conn.transaction():
                    await conn.execute("INSERT INTO apg (id) VALUES ($1)", 10000 + number * 100 + i)
                    assert await conn.fetchval("SELECT $1::int", i) == i

        await asyncio.gather(*(work(number) for number in range(60)))
        assert await pool.fetchval("SELECT count(*) FROM apg WHERE id >= 10000") == 600


async def many_marked_reads():
    conn = await connect()
    for i in range(200):
        await conn.fetchval("SELECT count(*) FROM apg AS marker_asyncpg_read WHERE id < $1", i)
    await conn.close()


if __name__ == "__main__":
    checks.main(
        [
            reads_and_writes,
            statement_cache,
            prepared_statements,
            schema_changes,
            transactions,
            cursors,
            many_rows,
            copies,
            cancelling,
            settings_per_connection,
            notices_and_notifications,
            pool_larger_than_servers,
            many_marked_reads,
        ]
    )
