//! tokio-postgres as applications use it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use howdah_integration::suite::{self, Env, Subject};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, IsolationLevel, NoTls};

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Drivers,
        &[("pool.size", "5")],
        howdah_integration::checks![
            prepared_statements,
            hints_are_obeyed,
            a_result_that_changes_is_refused_everywhere,
            statements_of_many_clients,
            pipelined_queries,
            transactions,
            streamed_rows_and_portals,
            copy_in_and_out,
            cancel_token,
            notifications,
            errors,
            more_clients_than_servers,
            hanging_up_in_a_transaction,
        ],
    )
}

async fn connect(env: &Env) -> Client {
    env.app().connect().await.unwrap()
}

async fn prepared_statements(env: &Env) {
    let client = connect(env).await;
    client.batch_execute("CREATE TABLE rs (id int PRIMARY KEY, t text)").await.unwrap();
    let insert = client.prepare("INSERT INTO rs VALUES ($1, $2)").await.unwrap();
    for id in 0..100 {
        assert_eq!(client.execute(&insert, &[&id, &"row"]).await.unwrap(), 1);
    }
    env.read_by_replicas("rs").await;
    let select = client.prepare("SELECT t, id FROM rs AS marker_rust_prepared WHERE id = $1").await.unwrap();
    assert_eq!(select.columns().iter().map(tokio_postgres::Column::name).collect::<Vec<_>>(), ["t", "id"]);
    for id in 0..100 {
        assert_eq!(client.query_one(&select, &[&id]).await.unwrap().get::<_, i32>(1), id);
    }
    drop(select);
    env.assert_only_on_primary("INSERT INTO rs%").await;
    env.assert_mostly_on_replicas("%marker_rust_prepared%").await;
}

/// Also on servers that had not prepared the statement before, and would know the new result only.
async fn a_result_that_changes_is_refused_everywhere(env: &Env) {
    let admin = connect(env).await;
    admin.batch_execute("CREATE TABLE rs_grows (a int); INSERT INTO rs_grows VALUES (1)").await.unwrap();
    let login = env.app();
    let clients = try_join_all((0..6).map(|_| login.connect())).await.unwrap();
    let text = "/* howdah: primary */ SELECT * FROM rs_grows";
    let mut statements = try_join_all(clients.iter().map(|client| client.prepare(text))).await.unwrap();
    for columns in 2..5 {
        admin.batch_execute(&format!("ALTER TABLE rs_grows ADD c{columns} int DEFAULT {columns}")).await.unwrap();
        if !env.is_direct() {
            // From now on all servers are new.
            let console = howdah_integration::session::Login::console(env.port()).connect().await.unwrap();
            howdah_integration::session::rows(&console, "RECONNECT").await.unwrap();
        }
        for (client, statement) in clients.iter().zip(&mut statements) {
            for _ in 0..2 {
                let refused = client.query(&*statement, &[]).await.unwrap_err();
                assert_eq!(refused.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED), "{refused:?}");
                assert_eq!(refused.as_db_error().unwrap().routine(), Some("RevalidateCachedQuery"));
            }
            *statement = client.prepare(text).await.unwrap();
            assert_eq!(client.query_one(&*statement, &[]).await.unwrap().len(), columns);
        }
    }
    // Definitions change, and this result does not.
    admin.batch_execute("CREATE TABLE rs_other (a int); DROP TABLE rs_other").await.unwrap();
    for (client, statement) in clients.iter().zip(&statements) {
        assert_eq!(client.query_one(statement, &[]).await.unwrap().len(), 4);
    }
}

/// By simple queries, and by every execution of a statement whose text was sent once.
async fn hints_are_obeyed(env: &Env) {
    let client = connect(env).await;
    let function = "CREATE FUNCTION counted() RETURNS bigint VOLATILE LANGUAGE sql AS 'SELECT count(*) FROM hinted'";
    client.batch_execute(&format!("CREATE TABLE hinted (n int); {function}")).await.unwrap();
    env.read_by_replicas("hinted").await;
    let to_primary = client.prepare("/* howdah: primary */ SELECT min(n) FROM hinted WHERE n > $1").await.unwrap();
    let to_replica = client.prepare("/* howdah: replica */ SELECT counted() + $1::int").await.unwrap();
    for n in 0..10 {
        client.query_one(&to_primary, &[&n]).await.unwrap();
        client.query_one(&to_replica, &[&n]).await.unwrap();
        client.batch_execute("/* howdah: primary */ SELECT max(n) FROM hinted").await.unwrap();
        client.batch_execute("-- howdah: replica\nSELECT 2 * counted()").await.unwrap();
    }
    for pattern in ["%min(n) FROM hinted%", "%max(n) FROM hinted%"] {
        env.assert_only_on_primary(pattern).await;
    }
    for pattern in ["%counted() + $%", "%$1 * counted()%"] {
        env.assert_only_on_replicas(pattern).await;
    }
}

async fn statements_of_many_clients(env: &Env) {
    // tokio-postgres names them s0, s1, … on every connection: the same names, other texts.
    let clients = join_all((0..12).map(|_| connect(env))).await;
    let work = clients.iter().enumerate().map(|(number, client)| async move {
        let number = i32::try_from(number).unwrap();
        let sql = format!("SELECT $1::int + {number}");
        let statements = try_join_all((0..5).map(|_| client.prepare(&sql))).await.unwrap();
        for round in 0..20_i32 {
            let statement = &statements[usize::try_from(round).unwrap() % statements.len()];
            assert_eq!(client.query_one(statement, &[&round]).await.unwrap().get::<_, i32>(0), round + number);
        }
    });
    join_all(work).await;
}

async fn pipelined_queries(env: &Env) {
    let client = connect(env).await;
    let numbers: Vec<i32> = (0..200).collect();
    let statement = client.prepare("SELECT $1::int").await.unwrap();
    let queries = numbers.iter().map(|number| {
        let (client, statement) = (&client, &statement);
        async move { client.query_one(statement, &[number]).await.map(|row| row.get::<_, i32>(0)) }
    });
    assert_eq!(try_join_all(queries).await.unwrap(), numbers);
    // Reads, writes and errors, all sent before the first answer.
    let (zero, one) = (0, 1);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&zero, &one];
    let divide = client.prepare("SELECT 1 / $1::int").await.unwrap();
    client.batch_execute("CREATE TABLE rs_pipe (n int)").await.unwrap();
    let insert = client.prepare("INSERT INTO rs_pipe VALUES (1)").await.unwrap();
    let count = client.prepare("SELECT count(*) FROM rs_pipe").await.unwrap();
    let (bad, written, good, seen) = tokio::join!(
        client.query_one(&divide, &parameters[..1]),
        client.execute(&insert, &[]),
        client.query_one(&divide, &parameters[1..]),
        client.query_one(&count, &[]),
    );
    assert_eq!(bad.unwrap_err().code(), Some(&SqlState::DIVISION_BY_ZERO));
    assert_eq!((written.unwrap(), good.unwrap().get::<_, i32>(0)), (1, 1));
    assert_eq!(seen.unwrap().get::<_, i64>(0), 1);
}

async fn transactions(env: &Env) {
    let mut client = connect(env).await;
    client.batch_execute("CREATE TABLE rs_tx (n int)").await.unwrap();
    let mut outer = client.transaction().await.unwrap();
    outer.execute("INSERT INTO rs_tx VALUES (1)", &[]).await.unwrap();
    let inner = outer.savepoint("nested").await.unwrap();
    inner.execute("INSERT INTO rs_tx VALUES (2)", &[]).await.unwrap();
    inner.query("SELECT 1/0", &[]).await.unwrap_err();
    inner.rollback().await.unwrap();
    outer.execute("INSERT INTO rs_tx VALUES (3)", &[]).await.unwrap();
    outer.commit().await.unwrap();
    // A transaction that is dropped is rolled back.
    let dropped = client.transaction().await.unwrap();
    dropped.execute("INSERT INTO rs_tx VALUES (4)", &[]).await.unwrap();
    drop(dropped);
    let numbers = client.query("SELECT n FROM rs_tx ORDER BY n", &[]).await.unwrap();
    assert_eq!(numbers.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(), [1, 3]);

    let read_only = client.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead);
    let transaction = read_only.start().await.unwrap();
    transaction.query("SELECT count(*) FROM rs_tx AS marker_read_only", &[]).await.unwrap();
    let refused = transaction.execute("INSERT INTO rs_tx VALUES (5)", &[]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
    transaction.rollback().await.unwrap();
}

async fn streamed_rows_and_portals(env: &Env) {
    let mut client = connect(env).await;
    let rows = client.query_raw("SELECT i FROM generate_series(1, $1::int) i", [100_000]).await.unwrap();
    let sum = rows.try_fold(0_i64, async |sum, row| Ok(sum + i64::from(row.get::<_, i32>(0)))).await.unwrap();
    assert_eq!(sum, 5_000_050_000);
    // Given up half-way: the rest must not reach the next query.
    let rows = client.query_raw("SELECT i FROM generate_series(1, $1::int) i", [100_000]).await.unwrap();
    let mut rows = Box::pin(rows);
    rows.next().await.unwrap().unwrap();
    drop(rows);
    assert_eq!(client.query_one("SELECT 'next'", &[]).await.unwrap().get::<_, &str>(0), "next");

    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT i FROM generate_series(1, 250) i", &[]).await.unwrap();
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(transaction.query_portal(&portal, 100).await.unwrap().len());
    }
    assert_eq!(counts, [100, 100, 50, 0]);
    transaction.commit().await.unwrap();
}

async fn copy_in_and_out(env: &Env) {
    let client = connect(env).await;
    client.batch_execute("CREATE TABLE rs_copy (n int, t text)").await.unwrap();
    let mut sink = pin!(client.copy_in::<_, Bytes>("COPY rs_copy FROM STDIN").await.unwrap());
    let lines = (0..50_000).map(|i| Ok(Bytes::from(format!("{i}\trow {i}\n"))));
    sink.send_all(&mut stream::iter(lines)).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 50_000);

    let out = client.copy_out("COPY (SELECT n FROM rs_copy ORDER BY n) TO STDOUT").await.unwrap();
    let size = out.try_fold(0, async |size, bytes| Ok(size + bytes.len())).await.unwrap();
    assert_eq!(size, (0..50_000).map(|i| format!("{i}\n").len()).sum());

    // A copy that the client gives up: CopyFail, and the connection lives.
    let mut sink = pin!(client.copy_in::<_, Bytes>("COPY rs_copy FROM STDIN").await.unwrap());
    sink.send(Bytes::from_static(b"-1\tx\n")).await.unwrap();
    sink.close().await.unwrap();
    let mut given_up = Box::pin(client.copy_in::<_, Bytes>("COPY rs_copy FROM STDIN").await.unwrap());
    given_up.send(Bytes::from_static(b"-2\tx\n")).await.unwrap();
    drop(given_up);
    let count = client.query_one("SELECT count(*) FROM rs_copy WHERE n < 0", &[]).await.unwrap();
    assert!(count.get::<_, i64>(0) <= 1, "what was given up is not there");
}

async fn cancel_token(env: &Env) {
    let client = connect(env).await;
    let token = client.cancel_token();
    let canceller = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await.unwrap();
    });
    let error = client.batch_execute("SELECT pg_sleep(30)").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    canceller.await.unwrap();
    // A cancel while nothing runs hits nothing, also not the next statement.
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.batch_execute("SELECT pg_sleep(0.3)").await.unwrap();
}

async fn notifications(env: &Env) {
    let (listener, mut connection) = env.app().config().connect(NoTls).await.unwrap();
    let mut messages =
        Box::pin(stream::poll_fn(move |context| connection.poll_message(context)).filter_map(|message| async {
            if let AsyncMessage::Notification(n) = message.unwrap() { Some(n) } else { None }
        }));
    let (send, mut receive) = tokio::sync::mpsc::channel(100);
    tokio::spawn(async move {
        while let Some(notification) = messages.next().await {
            send.send((notification.channel().to_owned(), notification.payload().to_owned())).await.unwrap();
        }
    });
    let mut next =
        async || tokio::time::timeout(Duration::from_secs(10), receive.recv()).await.expect("a notification").unwrap();
    listener.batch_execute("LISTEN rs_news").await.unwrap();
    let mut teller = connect(env).await;
    teller.execute("SELECT pg_notify('rs_news', $1)", &[&"one"]).await.unwrap();
    assert_eq!(next().await, ("rs_news".into(), "one".into()));
    // Of a transaction that is rolled back nobody hears; of one that commits, at commit.
    let transaction = teller.transaction().await.unwrap();
    transaction.batch_execute("NOTIFY rs_news, 'never'").await.unwrap();
    transaction.rollback().await.unwrap();
    let transaction = teller.transaction().await.unwrap();
    transaction.batch_execute("NOTIFY rs_news, 'two'; NOTIFY rs_news, 'three'").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((next().await.1, next().await.1), ("two".into(), "three".into()));
    // The listener itself still runs statements.
    assert_eq!(listener.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
}

async fn errors(env: &Env) {
    let client = connect(env).await;
    let cases = [
        ("SELECT missing", SqlState::UNDEFINED_COLUMN),
        ("SELECT FROM WHERE", SqlState::SYNTAX_ERROR),
        ("SELECT * FROM no_such_table", SqlState::UNDEFINED_TABLE),
        ("SELECT no_such_function()", SqlState::UNDEFINED_FUNCTION),
        ("SELECT 'x'::int", SqlState::INVALID_TEXT_REPRESENTATION),
        ("INSERT INTO pg_class DEFAULT VALUES", SqlState::INSUFFICIENT_PRIVILEGE),
    ];
    for (sql, code) in cases {
        let simple = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(simple.code(), Some(&code), "{sql}");
        let extended = client.query(sql, &[]).await.unwrap_err();
        assert_eq!(extended.code(), Some(&code), "{sql}");
    }
    client.query_one("SELECT 1", &[]).await.unwrap();
}

async fn more_clients_than_servers(env: &Env) {
    let clients = join_all((0..80).map(|_| connect(env))).await;
    clients[0].batch_execute("CREATE TABLE rs_many (n int)").await.unwrap();
    let work = clients.into_iter().map(async |mut client| {
        for number in 0..5_i32 {
            let transaction = client.transaction().await.unwrap();
            transaction.execute("INSERT INTO rs_many VALUES ($1)", &[&number]).await.unwrap();
            transaction.commit().await.unwrap();
            client.query_one("SELECT $1::int", &[&number]).await.unwrap();
        }
    });
    join_all(work).await;
    let count = connect(env).await.query_one("SELECT count(*) FROM rs_many", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 400);
}

async fn hanging_up_in_a_transaction(env: &Env) {
    connect(env).await.batch_execute("CREATE TABLE rs_gone (n int)").await.unwrap();
    for _ in 0..10 {
        let client = connect(env).await;
        client.batch_execute("BEGIN; INSERT INTO rs_gone VALUES (1); LOCK TABLE rs_gone").await.unwrap();
        drop(client);
        // The lock goes with the session that held it, and so does the row.
        let next = connect(env).await;
        let count = tokio::time::timeout(Duration::from_secs(10), next.query_one("SELECT count(*) FROM rs_gone", &[]));
        assert_eq!(count.await.expect("no lock is left behind").unwrap().get::<_, i64>(0), 0);
    }
}
