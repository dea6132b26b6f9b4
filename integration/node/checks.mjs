// node-postgres as applications use it. Runs every check, says which failed and why.

import assert from "node:assert/strict";
import { once } from "node:events";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import Cursor from "pg-cursor";
import QueryStream from "pg-query-stream";

// The connection comes from PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE.
async function connected(work, options = {}) {
  const client = new pg.Client(options);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function readsAndWrites() {
  await connected(async (client) => {
    await client.query("CREATE TABLE njs (id int PRIMARY KEY, t text, d jsonb)");
    const inserted = await client.query("INSERT INTO njs VALUES ($1, $2, $3) RETURNING id", [1, "é€😀", { a: [1] }]);
    assert.deepEqual([inserted.command, inserted.rowCount, inserted.rows], ["INSERT", 1, [{ id: 1 }]]);
    const read = await client.query("SELECT t, d, $1::date IS NOT NULL AS b, NULL AS n FROM njs", ["2024-01-01"]);
    assert.deepEqual(read.rows, [{ t: "é€😀", d: { a: [1] }, b: true, n: null }]);
    const several = await client.query("SELECT 1 AS a; SELECT 2 AS b");
    assert.deepEqual(several.map((result) => result.rows[0]), [{ a: 1 }, { b: 2 }]);
    const bytes = Buffer.from([0, 255, 1]);
    assert.deepEqual((await client.query("SELECT $1::bytea AS b", [bytes])).rows[0].b, bytes);
  });
}

async function namedStatements() {
  await Promise.all(
    [1, 2, 3, 4, 5, 6, 7, 8].map((number) =>
      connected(async (client) => {
        for (let i = 0; i < 30; i++) {
          // The same name with another text on every connection.
          const query = { name: "same", text: `SELECT $1::int * ${number} AS n`, values: [i] };
          assert.equal((await client.query(query)).rows[0].n, i * number);
        }
        await assert.rejects(client.query({ name: "bad", text: "SELECT 1 / $1::int", values: [0] }), { code: "22012" });
        assert.equal((await client.query({ name: "bad", text: "SELECT 1 / $1::int", values: [1] })).rowCount, 1);
      }),
    ),
  );
}

async function transactions() {
  await connected(async (client) => {
    await client.query("CREATE TABLE njs_tx (n int)");
    await client.query("BEGIN");
    await client.query("INSERT INTO njs_tx VALUES ($1)", [1]);
    await client.query("SAVEPOINT s");
    await assert.rejects(client.query("SELECT 1/0"), { code: "22012" });
    await assert.rejects(client.query("SELECT 1"), { code: "25P02" });
    await client.query("ROLLBACK TO s");
    await client.query("COMMIT");
    assert.equal((await client.query("SELECT count(*)::int AS n FROM njs_tx")).rows[0].n, 1);
    await client.query("BEGIN");
    await client.query("INSERT INTO njs_tx VALUES (2)");
    await client.query("ROLLBACK");
    assert.equal((await client.query("SELECT count(*)::int AS n FROM njs_tx")).rows[0].n, 1);
  });
}

async function queuedQueries() {
  await connected(async (client) => {
    const queued = Array.from({ length: 100 }, (_, i) => client.query("SELECT $1::int AS n", [i]));
    const results = await Promise.all(queued);
    assert.deepEqual(results.map((result) => result.rows[0].n), [...results.keys()]);
  });
}

async function cursorsAndStreams() {
  await connected(async (client) => {
    // Portals with a row limit, outside of a transaction and inside.
    await client.query("BEGIN");
    const cursor = client.query(new Cursor("SELECT i FROM generate_series(1, $1::int) i", [1000]));
    assert.deepEqual((await cursor.read(3)).map((row) => row.i), [1, 2, 3]);
    assert.equal((await cursor.read(100)).length, 100);
    await cursor.close();
    await client.query("COMMIT");
    const outside = client.query(new Cursor("SELECT i FROM generate_series(1, 50) i", []));
    assert.equal((await outside.read(20)).length, 20);
    assert.deepEqual((await outside.read(20))[0], { i: 21 });
    assert.equal((await outside.read(20)).length, 10);
    await outside.close();
    let sum = 0;
    for await (const row of client.query(new QueryStream("SELECT i FROM generate_series(1, 10000) i", [], { batchSize: 77 }))) {
      sum += row.i;
    }
    assert.equal(sum, 50005000);
    assert.equal((await client.query("SELECT 1 AS one")).rows[0].one, 1);
  });
}

async function copies() {
  await connected(async (client) => {
    await client.query("CREATE TABLE njs_copy (n int, t text)");
    const lines = Array.from({ length: 20000 }, (_, i) => `${i}\trow ${i}\n`);
    await pipeline(Readable.from(lines), client.query(copyFrom("COPY njs_copy FROM STDIN")));
    assert.equal((await client.query("SELECT count(*)::int AS n FROM njs_copy")).rows[0].n, 20000);
    const chunks = [];
    for await (const chunk of client.query(copyTo("COPY (SELECT n FROM njs_copy ORDER BY n LIMIT 3) TO STDOUT"))) {
      chunks.push(chunk);
    }
    assert.equal(Buffer.concat(chunks).toString(), "0\n1\n2\n");
    const bad = pipeline(Readable.from(["x\ty\n"]), client.query(copyFrom("COPY njs_copy FROM STDIN")));
    await assert.rejects(bad, { code: "22P02" });
    assert.equal((await client.query("SELECT count(*)::int AS n FROM njs_copy")).rows[0].n, 20000);
  });
}

async function noticesAndNotifications() {
  await connected(async (client) => {
    const notice = once(client, "notice");
    await client.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$");
    assert.equal((await notice)[0].message, "hello");
    const news = once(client, "notification", { signal: AbortSignal.timeout(10000) });
    await client.query("LISTEN njs_news");
    await connected((teller) => teller.query("SELECT pg_notify('njs_news', 'heard')"));
    assert.equal((await news)[0].payload, "heard");
  });
}

async function settings() {
  const options = { options: "-c search_path=from_options", application_name: "njs", statement_timeout: 5000 };
  await connected(async (one) => {
    await connected(async (two) => {
      await two.query("SET search_path = from_set");
      for (let i = 0; i < 30; i++) {
        assert.equal((await one.query("SHOW search_path")).rows[0].search_path, "from_options");
        assert.equal((await two.query("SHOW search_path")).rows[0].search_path, "from_set");
        assert.equal((await one.query("SHOW statement_timeout")).rows[0].statement_timeout, "5s");
        assert.equal((await one.query("SHOW application_name")).rows[0].application_name, "njs");
      }
    });
  }, options);
  await connected(async (client) => {
    await assert.rejects(client.query("SELECT pg_sleep(30)"), { code: "57014" });
    assert.equal((await client.query("SELECT 1 AS one")).rows[0].one, 1);
  }, { statement_timeout: 300 });
}

async function cancelling() {
  await connected(async (client) => {
    const sleeping = assert.rejects(client.query("SELECT pg_sleep(30)"), { code: "57014" });
    await sleep(300);
    // node-postgres keeps what a cancel request needs; a second client carries it.
    const canceller = new pg.Client();
    const query = client.activeQuery ?? client._activeQuery;
    canceller.cancel(client, query);
    await sleeping;
    assert.equal((await client.query("SELECT 1 AS one")).rows[0].one, 1);
  });
}

async function poolLargerThanServers() {
  const pool = new pg.Pool({ max: 40 });
  try {
    await Promise.all(
      Array.from({ length: 400 }, async (_, i) => {
        const client = await pool.connect();
        try {
          await client.query("BEGIN");
          await client.query("INSERT INTO njs (id) VALUES ($1)", [10000 + i]);
          await client.query("COMMIT");
        } finally {
          client.release();
        }
        assert.equal((await pool.query("SELECT $1::int AS n", [i])).rows[0].n, i);
      }),
    );
    assert.equal((await pool.query("SELECT count(*)::int AS n FROM njs WHERE id >= 10000")).rows[0].n, 400);
  } finally {
    await pool.end();
  }
}

async function errors() {
  await connected(async (client) => {
    const failure = await client.query("INSERT INTO njs (id) VALUES (1)").catch((error) => error);
    assert.deepEqual([failure.code, failure.constraint, failure.table], ["23505", "njs_pkey", "njs"]);
    await assert.rejects(client.query("SELECT missing"), { code: "42703", position: "8" });
    await assert.rejects(client.query("SELECT $1::int", ["x"]), { code: "22P02" });
  });
  await assert.rejects(connected(() => {}, { password: "wrong" }), { code: "28P01" });
}

async function manyMarkedReads() {
  await connected(async (client) => {
    for (let i = 0; i < 200; i++) {
      await client.query("SELECT count(*) FROM njs AS marker_node_read WHERE id < $1", [i]);
    }
  });
}

const checks = [
  readsAndWrites,
  namedStatements,
  transactions,
  queuedQueries,
  cursorsAndStreams,
  copies,
  noticesAndNotifications,
  settings,
  cancelling,
  poolLargerThanServers,
  errors,
  manyMarkedReads,
];

let failed = 0;
for (const check of checks) {
  const start = performance.now();
  let verdict = "ok";
  try {
    await Promise.race([
      check(),
      sleep(60000, undefined, { ref: false }).then(() => Promise.reject(new Error("not within the deadline"))),
    ]);
  } catch (error) {
    verdict = "FAILED";
    failed++;
    console.log(error);
  }
  console.log(`  ${check.name} ... ${verdict} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
}
// A check past its deadline may have left a connection open.
process.exit(failed > 0 ? 1 : 0);
