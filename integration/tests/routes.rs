//! Where statements go, and whether Howdah says so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::suite::{self, Env, Subject};
use tokio_postgres::Client;
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &[("clusters.main.monitor.interval", "500ms")],
        howdah_integration::checks![
            routes_are_explained,
            explained_from_the_command_line,
            types_run_code,
            parameters_have_types,
        ],
    )
}

/// What EXPLAIN ROUTE says of `item`.
async fn explained(env: &Env, question: &str, item: &str) -> Option<String> {
    let console = Login::console(env.port()).connect().await.unwrap();
    let facts = rows(&console, &format!("EXPLAIN ROUTE {question}")).await.unwrap();
    facts.into_iter().find(|fact| fact[0].as_deref() == Some(item)).and_then(|fact| fact[1].clone())
}

/// How many statements of `class` went to `target` for `reason`.
async fn routed(env: &Env, class: &str, target: &str, reason: &str) -> u64 {
    let (_, page) = env.howdah().http("/metrics").await.unwrap();
    let label = format!("howdah_routed_statements_total{{class=\"{class}\",target=\"{target}\",reason=\"{reason}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&label)).map_or(0, |count| count.parse().unwrap())
}

/// `sql` goes to `target` for `reason`, because of `culprit`.
async fn goes(env: &Env, client: &Client, sql: &str, (target, reason): (&str, &str), culprit: Option<&str>) {
    let question = format!("IN app AS app {sql}");
    // Once the catalog knows the new objects.
    let agrees = async || explained(env, &question, "reason").await.as_deref() == Some(reason);
    eventually(sql, Duration::from_secs(10), agrees).await;
    let said = explained(env, &question, "target").await.unwrap();
    assert!(said.starts_with(target), "{sql}: {said}");
    assert_eq!(explained(env, &question, "decided by").await.as_deref(), culprit, "{sql}");
    // And so it is.
    let class = if reason.starts_with("write") { "write" } else { "read" };
    let before = routed(env, class, target, reason).await;
    rows(client, sql).await.unwrap();
    assert!(routed(env, class, target, reason).await > before, "{sql}");
}

async fn routes_are_explained(env: &Env) {
    let client = env.app().connect().await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE explained (a serial); CREATE VIEW hides AS SELECT nextval('explained_a_seq'); \
             CREATE TABLE parts (a int) PARTITION BY LIST (a); \
             CREATE TABLE parts_of PARTITION OF parts DEFAULT PARTITION BY LIST (a); \
             CREATE UNLOGGED TABLE parts_quick PARTITION OF parts_of DEFAULT",
        )
        .await
        .unwrap();
    env.read_by_replicas("explained").await;
    for (sql, target, reason, culprit) in [
        ("SELECT * FROM explained", "replica", "read", None),
        ("/* howdah: primary */ SELECT * FROM explained", "primary", "hint_primary", None),
        ("INSERT INTO explained DEFAULT VALUES", "primary", "write_statement", None),
        ("SELECT nextval('explained_a_seq'::text)", "primary", "write_function", Some("nextval")),
        ("SELECT * FROM explained, public.hides", "primary", "write_relation", Some("public.hides")),
        ("SELECT * FROM parts", "primary", "write_relation", Some("parts")),
        ("SELECT * FROM explained FOR UPDATE", "primary", "write_row_lock", None),
    ] {
        goes(env, &client, sql, (target, reason), culprit).await;
    }
    // Every statement of a transaction counts.
    let before = routed(env, "read", "primary", "transaction").await;
    rows(&client, "BEGIN; INSERT INTO explained DEFAULT VALUES").await.unwrap();
    rows(&client, "SELECT a FROM explained").await.unwrap();
    rows(&client, "COMMIT").await.unwrap();
    assert_eq!(routed(env, "read", "primary", "transaction").await, before + 1);
    for (sql, pins) in [
        ("SELECT 1", "no"),
        ("CREATE TEMP TABLE t (a int)", "temporary (pin)"),
        ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", "no"),
        ("SELECT pg_advisory_lock(1)", "advisory_lock (pin)"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "hold_cursor (pin)"),
        ("PREPARE p AS SELECT 1", "prepare (pin)"),
    ] {
        assert_eq!(explained(env, &format!("IN app {sql}"), "pins").await.as_deref(), Some(pins), "{sql}");
    }
    let replica = explained(env, "IN app SELECT 1", "node pg2").await.unwrap();
    assert!(replica.contains("replayed 0/"), "{replica}");
    let console = Login::console(env.port()).connect().await.unwrap();
    let unknown = rows(&console, "EXPLAIN ROUTE IN app AS nobody SELECT 1").await.unwrap_err();
    assert_eq!(unknown.code().unwrap().code(), "42704", "{unknown:?}");
    // Nothing is known of a database that nobody has used.
    let reason = explained(env, "IN nowhere SELECT * FROM explained", "reason").await;
    assert_eq!(reason.as_deref(), Some("write_catalog_unknown"));
    client.batch_execute("DROP VIEW hides; DROP TABLE explained").await.unwrap();
}

async fn explained_from_the_command_line(env: &Env) {
    let asked = |statement: &str| {
        let mut command = tokio::process::Command::new(howdah_integration::howdah::binary());
        command.arg("explain").arg("-c").arg(env.howdah().file()).args(["-d", "app", statement]);
        command
    };
    let done = asked("DELETE FROM somewhere").output().await.unwrap();
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(out.lines().any(|line| line.split_whitespace().eq(["reason", "write_statement"])), "{out}");
    assert!(out.contains("primary pg1"), "{out}");
    let empty = asked(" ").output().await.unwrap();
    assert_eq!(empty.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("needs a statement"));
}

/// A function that writes, a domain that calls it, and all that has to do with the domain, casts and operators that write.
const TYPES: &str = "CREATE TABLE noted (a int); \
    CREATE FUNCTION notes(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted VALUES ($1); RETURN true; END'; \
    CREATE FUNCTION looks(int) RETURNS boolean STABLE LANGUAGE sql AS 'SELECT true'; \
    CREATE DOMAIN writes AS int CHECK (notes(VALUE)); CREATE DOMAIN over_writes AS writes; \
    CREATE DOMAIN within AS text CHECK (VALUE::writes > 0); CREATE DOMAIN reads AS int CHECK (looks(VALUE) AND VALUE > 0); \
    CREATE TYPE pair AS (a int, b writes); CREATE TABLE holds (a int, b over_writes[]); CREATE TABLE clean (a reads); \
    CREATE FUNCTION takes(writes) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; \
    CREATE FUNCTION defaults(boolean DEFAULT notes(1)) RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; \
    CREATE VIEW hidden AS SELECT '1'::writes AS a; \
    CREATE TYPE colour AS ENUM ('red', 'blue'); \
    CREATE FUNCTION number(colour) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted VALUES (2); RETURN 2; END'; \
    CREATE CAST (colour AS int) WITH FUNCTION number(colour) AS IMPLICIT; CREATE TABLE painted (a colour); \
    CREATE TYPE shape AS ENUM ('round'); \
    CREATE FUNCTION is_shape(shape, int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted VALUES (3); RETURN true; END'; \
    CREATE OPERATOR = (LEFTARG = shape, RIGHTARG = int, FUNCTION = is_shape); CREATE TABLE shaped (a shape); \
    INSERT INTO shaped VALUES ('round'); INSERT INTO painted VALUES ('red')";

/// Each of these writes to `noted`, and names no function that does.
async fn types_run_code(env: &Env) {
    let client = env.app().connect().await.unwrap();
    client.batch_execute(TYPES).await.unwrap();
    env.read_by_replicas("noted").await;
    let (write, function) = (("primary", "write_type"), ("primary", "write_function"));
    for (sql, goes_to, culprit) in [
        ("SELECT '1'::writes", write, Some("writes")),
        ("SELECT CAST(a AS public.\"over_writes\") FROM (VALUES (1)) v(a)", write, Some("over_writes")),
        ("SELECT '{1}'::writes[]", write, Some("writes")),
        ("SELECT writes '1'", write, Some("writes")),
        ("SELECT writes('1')", function, Some("writes")),
        ("SELECT '1'::within", write, Some("within")),
        ("SELECT ROW(1, 2)::pair", write, Some("pair")),
        ("SELECT * FROM json_to_record('{\"a\": 1}') t(a writes)", write, Some("writes")),
        ("SELECT json_populate_record(null::holds, '{\"b\": [1]}')", write, Some("holds")),
        ("SELECT takes(1)", write, Some("takes")),
        ("SELECT defaults()", function, Some("defaults")),
        ("SELECT * FROM hidden", ("primary", "write_relation"), Some("hidden")),
        ("SELECT a + 1 FROM painted", write, Some("painted")),
        ("SELECT 1 FROM shaped WHERE a IN (1)", write, Some("shaped")),
    ] {
        goes(env, &client, sql, goes_to, culprit).await;
        let noted = rows(&client, "DELETE FROM noted RETURNING a").await.unwrap();
        assert!(!noted.is_empty(), "{sql} wrote nothing");
    }
    for sql in ["SELECT '1'::reads", "SELECT * FROM clean", "SELECT a FROM noted WHERE a = 'writes'::text::int"] {
        let said = explained(env, &format!("IN app AS app {sql}"), "class").await;
        assert_eq!(said.as_deref(), Some("read"), "{sql}");
    }
}

/// A value that is sent whatever type it is for.
#[derive(Debug)]
struct Raw(i32);

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(&Type::INT4, out)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A parameter of such a type is checked before anything is called.
async fn parameters_have_types(env: &Env) {
    let client = env.app().connect().await.unwrap();
    let setup = "CREATE TABLE bound_to (a int); CREATE FUNCTION binds(int) RETURNS boolean LANGUAGE plpgsql \
                 AS 'BEGIN INSERT INTO bound_to VALUES ($1); RETURN true; END'; CREATE DOMAIN bound AS int CHECK (binds(VALUE))";
    client.batch_execute(setup).await.unwrap();
    goes(env, &client, "SELECT '1'::bound", ("primary", "write_type"), Some("bound")).await;
    let identifier = rows(&client, "SELECT 'bound'::regtype::oid").await.unwrap();
    let identifier = identifier[0][0].clone().unwrap().parse().unwrap();
    let bound = Type::new("bound".to_owned(), identifier, Kind::Domain(Type::INT4), "public".to_owned());
    for parameter in [bound, Type::INT4] {
        let is_bound = parameter != Type::INT4;
        let statement = client.prepare_typed("SELECT $1", &[parameter]).await.unwrap();
        let before = routed(env, "write", "primary", "write_type").await;
        client.query(&statement, &[&Raw(7)]).await.unwrap();
        assert_eq!(routed(env, "write", "primary", "write_type").await > before, is_bound);
    }
    let noted = rows(&client, "SELECT count(*) FROM bound_to WHERE a = 7").await.unwrap();
    assert_eq!(noted[0][0].as_deref(), Some("1"));
}
