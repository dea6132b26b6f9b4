//! A cancel request ends the statement of the client it names, and never another's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use howdah_integration::session::{Login, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::wire::{self, Wire, cancel, error_code};
use tokio_postgres::Client;

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Drivers,
        // Two servers: a cancelled client's server is another client's a moment later.
        &[("pool.size", "2")],
        howdah_integration::checks![
            ends_exactly_one_of_two,
            wrong_keys_cancel_nothing,
            idle_client_is_not_hurt_later,
            races_never_hit_another_client,
            is_done_when_its_connection_closes,
            in_a_transaction,
            waiting_for_a_server,
            waiting_within_a_transaction,
            waiting_before_a_sync,
            waiting_without_its_settings,
            reads_on_replicas,
            process_ids_mean_their_clients,
        ],
    )
}

async fn ends_exactly_one_of_two(env: &Env) {
    let mut victim = Wire::connect(&env.app()).await;
    let mut survivor = Wire::connect(&env.app()).await;
    victim.send(&wire::query("SELECT pg_sleep(20)")).await;
    survivor.send(&wire::query("SELECT pg_sleep(1.5), 'survived'")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    cancel(env.port(), &victim.key).await;
    assert_eq!(error_code(&victim.until_ready().await).as_deref(), Some("57014"));
    assert_eq!(error_code(&survivor.until_ready().await), None);
    assert_eq!(wire::first_column(&victim.query("SELECT 'alive'").await), ["alive"]);
}

async fn wrong_keys_cancel_nothing(env: &Env) {
    let mut client = Wire::connect(&env.app()).await;
    client.send(&wire::query("SELECT pg_sleep(1)")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for position in 0..client.key.len() {
        let mut key = client.key.clone();
        key[position] ^= 1;
        cancel(env.port(), &key).await;
    }
    cancel(env.port(), &[0; 8]).await;
    assert_eq!(error_code(&client.until_ready().await), None);
    // Keys are not the server's own, nor the same twice.
    let other = Wire::connect(&env.app()).await;
    assert_ne!(other.key, client.key);
}

async fn idle_client_is_not_hurt_later(env: &Env) {
    let mut client = Wire::connect(&env.app()).await;
    client.query("SELECT 1").await;
    for _ in 0..20 {
        cancel(env.port(), &client.key).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(error_code(&client.query("SELECT pg_sleep(0.3)").await), None);
}

/// One client's short statements are cancelled at random moments; the others, on the same two
/// servers, must never notice.
async fn races_never_hit_another_client(env: &Env) {
    const ROUNDS: usize = 50;
    let bystanders: Vec<_> = (0..4)
        .map(|_| {
            let login = env.app();
            tokio::spawn(async move {
                let client = login.connect().await.unwrap();
                loop {
                    rows(&client, "SELECT pg_sleep(0.003)").await.expect("a bystander was cancelled");
                }
            })
        })
        .collect();
    let mut client = Wire::connect(&env.app()).await;
    let mut cancelled = 0;
    for round in 0..ROUNDS {
        let (port, key) = (env.port(), client.key.clone());
        let cancels = (0..3).map(|i| {
            let delay = Duration::from_micros(u64::try_from((round * 397 + i * 1301) % 9000).unwrap());
            let key = &key;
            async move {
                tokio::time::sleep(delay).await;
                // Returns when the server has hung up, which it does after it has acted.
                cancel(port, key).await;
            }
        });
        let (outcome, _) = tokio::join!(client.query("SELECT pg_sleep(0.006)"), join_all(cancels));
        match error_code(&outcome).as_deref() {
            None => {}
            Some("57014") => cancelled += 1,
            Some(other) => panic!("round {round}: {other}"),
        }
    }
    for bystander in bystanders {
        assert!(!bystander.is_finished(), "{:?}", bystander.await);
        bystander.abort();
    }
    assert!(cancelled > 0, "no cancel of {ROUNDS} rounds arrived in time: the race was not tried");
    // What came late must not lie in wait for this client's next statements.
    for _ in 0..20 {
        assert_eq!(error_code(&client.query("SELECT pg_sleep(0.005)").await), None);
    }
}

/// Who has asked waits until that connection is closed, and then says the next thing: it must not be hit.
async fn is_done_when_its_connection_closes(env: &Env) {
    let mut client = Wire::connect(&env.app()).await;
    client.send(&wire::query("SELECT pg_current_xact_id(), pg_sleep(20)")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    env.cluster.primary().hold_connections();
    let key = client.key.clone();
    let mut asking = pin!(cancel(env.port(), &key));
    let early = tokio::time::timeout(Duration::from_millis(500), asking.as_mut()).await;
    env.cluster.primary().take_connections();
    assert!(early.is_err(), "it was closed before the server had heard of it");
    asking.await;
    assert_eq!(error_code(&client.until_ready().await).as_deref(), Some("57014"));
}

async fn in_a_transaction(env: &Env) {
    let mut client = Wire::connect(&env.app()).await;
    client.query("BEGIN").await;
    client.query("CREATE TABLE cancelled_tx (n int)").await;
    client.send(&wire::query("SELECT pg_sleep(20)")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cancel(env.port(), &client.key).await;
    let messages = client.until_ready().await;
    assert_eq!(error_code(&messages).as_deref(), Some("57014"));
    assert_eq!(messages.last().unwrap().body, b"E");
    assert_eq!(client.query("ROLLBACK").await.last().unwrap().body, b"I");
}

async fn waiting_for_a_server(env: &Env) {
    if env.is_direct() {
        return;
    }
    // Both of the primary's servers are taken; the third client waits in Howdah's queue.
    let mut waiter = Wire::connect(&env.app()).await;
    let holders = hold_both(env).await;
    waiter.send(&wire::query("SELECT pg_current_xact_id()")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cancel(env.port(), &waiter.key).await;
    assert_eq!(error_code(&waiter.until_ready().await).as_deref(), Some("57014"));
    for holder in &holders {
        holder.batch_execute("COMMIT").await.unwrap();
    }
    assert_eq!(error_code(&waiter.query("SELECT pg_current_xact_id()").await), None);
}

/// What each batch of a conversation brings: types of messages, what was done, errors and the status.
async fn told(client: &mut Wire, batches: &[Vec<u8>]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for batch in batches {
        client.send(batch).await;
        let messages = client.until_ready().await;
        let told = messages.iter().map(|message| match message.tag {
            b'E' => format!("E {}", error_code(std::slice::from_ref(message)).unwrap()),
            _ => wire::describe(message),
        });
        all.push(told.collect());
    }
    all
}

/// A transaction that can get no server fails like others, and not its client.
async fn waiting_within_a_transaction(env: &Env) {
    if env.is_direct() {
        return;
    }
    let run = |sql: &str| [wire::parse("", sql, &[]), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let scripts = [
        vec![wire::query("ROLLBACK")],
        vec![wire::query("COMMIT"), wire::query("SELECT 1")],
        vec![[run("COMMIT"), wire::sync()].concat(), wire::query("SELECT 2")],
        vec![wire::query("SELECT 3"), wire::query("SAVEPOINT s"), wire::query("ROLLBACK TO s"), wire::query("COMMIT")],
        vec![wire::query("COMMIT AND CHAIN"), wire::query("SELECT 4"), wire::query("ROLLBACK")],
        vec![wire::query("ROLLBACK; SELECT 5"), wire::query("SELECT 6")],
        vec![[run("SELECT 7"), run("ROLLBACK"), wire::sync()].concat(), [run("ROLLBACK"), wire::sync()].concat()],
        vec![
            [wire::parse("known", "SELECT 8", &[]), wire::sync()].concat(),
            wire::query("BEGIN"),
            wire::query("ROLLBACK"),
        ],
        vec![wire::sync(), wire::query(""), wire::query("END")],
    ];
    let mut other = Wire::connect(&env.app()).await;
    told(&mut other, &[[wire::parse("known", "SELECT 8", &[]), wire::sync()].concat()]).await;
    for begin in ["BEGIN", "BEGIN READ ONLY", "/* howdah: replica */ BEGIN ISOLATION LEVEL REPEATABLE READ"] {
        for script in &scripts {
            let mut direct = Wire::connect(&Login::app(env.cluster.primary().port)).await;
            told(&mut direct, &[wire::query(begin), wire::query("SELECT 1/0")]).await;
            let expected = told(&mut direct, script).await;

            let mut holders = hold_both(env).await;
            let mut waiter = Wire::connect(&env.app()).await;
            waiter.query(begin).await;
            waiter.send(&wire::query("SELECT pg_advisory_xact_lock(1)")).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancel(env.port(), &waiter.key).await;
            let messages = waiter.until_ready().await;
            assert_eq!(error_code(&messages).as_deref(), Some("57014"));
            assert_eq!(messages.last().unwrap().body, b"E");
            // No server is needed to end it, and any will do to say that it has failed.
            if script.len() > 1 {
                holders.clear();
            }
            assert_eq!(told(&mut waiter, script).await, expected, "{begin}");
        }
    }
}

/// Behind an error what comes before the next Sync is passed over, whoever gave the error.
async fn waiting_before_a_sync(env: &Env) {
    if env.is_direct() {
        return;
    }
    let mut holders = hold_both(env).await;
    let mut outside = Wire::connect(&env.app()).await;
    let mut inside = Wire::connect(&env.app()).await;
    inside.query("BEGIN").await;
    let asked = [wire::parse("p", "SELECT pg_current_xact_id()", &[]), wire::describe_object(b'S', "p"), wire::flush()];
    for client in [&mut outside, &mut inside] {
        client.send(&asked.concat()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel(env.port(), &client.key).await;
        assert_eq!(error_code(&[client.receive().await]).as_deref(), Some("57014"));
    }
    holders.clear();
    let long = "x".repeat(100_000);
    let rest =
        [wire::bind("", "p", &[Some(&long)]), wire::execute("", 0), wire::query("SELECT 1"), wire::flush()].concat();
    let again = [wire::bind("", "p", &[]), wire::execute("", 0), wire::sync()].concat();
    for (client, status) in [(&mut outside, "I"), (&mut inside, "E")] {
        client.send(&rest).await;
        assert!(client.receive_within(Duration::from_millis(200)).await.is_none(), "nothing is answered before a Sync");
        client.send(&wire::sync()).await;
        let messages = client.until_ready().await;
        assert_eq!((messages.len(), &messages[0].body[..]), (1, status.as_bytes()));
        client.send(&again).await;
        assert_eq!(error_code(&client.until_ready().await).as_deref(), Some("26000"));
        client.query("ROLLBACK").await;
        assert_eq!(wire::first_column(&client.query("SELECT 'alive'").await), ["alive"]);
    }
}

/// A transaction that has failed for want of a server runs nothing either when its settings are refused on top of that.
async fn waiting_without_its_settings(env: &Env) {
    if env.is_direct() {
        return;
    }
    let primary = env.cluster.primary();
    primary.query("DROP ROLE IF EXISTS for_a_while; CREATE ROLE for_a_while; GRANT for_a_while TO app").await;
    let setup = "CREATE TABLE run_without (a int); GRANT ALL ON run_without TO public";
    env.app().connect().await.unwrap().batch_execute(setup).await.unwrap();
    let mut waiter = Wire::connect(&env.app()).await;
    assert_eq!(error_code(&waiter.query("SET ROLE for_a_while").await), None);
    waiter.query("BEGIN").await;
    let holders = hold_both(env).await;
    waiter.send(&wire::query("INSERT INTO run_without VALUES (1)")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cancel(env.port(), &waiter.key).await;
    assert_eq!(error_code(&waiter.until_ready().await).as_deref(), Some("57014"));
    primary.query("REVOKE for_a_while FROM app").await;
    drop(holders);
    for insert in ["ROLLBACK; INSERT INTO run_without VALUES (2)", "INSERT INTO run_without VALUES (3)"] {
        let messages = waiter.query(insert).await;
        assert!(error_code(&messages).is_some_and(|code| code == "42501" || code == "25P02"), "{insert}");
        assert_eq!(messages.last().unwrap().body, b"E");
    }
    assert_eq!(waiter.query("ROLLBACK").await.last().unwrap().body, b"I");
    let other = env.app().connect().await.unwrap();
    assert_eq!(rows(&other, "SELECT count(*) FROM run_without").await.unwrap()[0][0].as_deref(), Some("0"));
    primary.query("DROP ROLE for_a_while").await;
}

/// Takes both servers of the primary, for as long as what it gives is kept.
async fn hold_both(env: &Env) -> Vec<Client> {
    let mut holders = Vec::new();
    for _ in 0..2 {
        let holder = env.app().connect().await.unwrap();
        holder.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
        holders.push(holder);
    }
    holders
}

async fn reads_on_replicas(env: &Env) {
    let mut client = Wire::connect(&env.app()).await;
    let slow = "SELECT count(*) AS marker_slow_read FROM generate_series(1, 300000) a, generate_series(1, 300000) b";
    client.send(&wire::query(slow)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    if !env.is_direct() {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%marker_slow_read%' AND state = 'active' \
                   AND pid <> pg_backend_pid()";
        let mut running = 0;
        for replica in env.cluster.replicas() {
            running += replica.scalar(sql).await.parse::<u32>().unwrap();
        }
        assert_eq!(running, 1, "the read runs on a replica");
    }
    cancel(env.port(), &client.key).await;
    assert_eq!(error_code(&client.until_ready().await).as_deref(), Some("57014"));
    let direct = Login::superuser(env.cluster.replicas()[0].port).connect().await.unwrap();
    assert_eq!(rows(&direct, "SELECT 1").await.unwrap().len(), 1);
}

/// The process id that a client was given.
fn process_id(client: &Wire) -> i32 {
    i32::from_be_bytes(*client.key.first_chunk().unwrap())
}

async fn is_ended(mut client: Wire) {
    let mut told = client.next_or_end().await.expect("it is told");
    // Whoever ends itself has seen what the result looks like.
    while matches!(told.tag, b'T' | b'D') {
        told = client.next_or_end().await.expect("it is told");
    }
    assert_eq!(error_code(&[told]).as_deref(), Some("57P01"));
    assert!(client.next_or_end().await.is_none(), "its connection is closed");
}

async fn process_ids_mean_their_clients(env: &Env) {
    let mut words = Wire::connect(&env.app()).await;
    let driver = env.app().connect().await.unwrap();
    let signals = async |function: &str, process_id: i32| {
        let sql = format!("SELECT {function}($1)");
        driver.query_one(&sql, &[&process_id]).await.unwrap().get::<_, bool>(0)
    };

    // Idle, by a number in the text and by a parameter.
    let victim = Wire::connect(&env.app()).await;
    let bystander = Wire::connect(&env.app()).await;
    let said = words.query(&format!("SELECT pg_terminate_backend({})", process_id(&victim))).await;
    assert_eq!(wire::first_column(&said), ["t"]);
    is_ended(victim).await;
    let victim = Wire::connect(&env.app()).await;
    assert!(signals("pg_terminate_backend", process_id(&victim)).await);
    is_ended(victim).await;

    // In a transaction; by an unnamed statement, in which the number is a word.
    let mut victim = Wire::connect(&env.app()).await;
    victim.query("BEGIN").await;
    victim.query("SELECT pg_current_xact_id()").await;
    let sql = format!("SELECT pg_terminate_backend({}, 0)", process_id(&victim));
    words
        .send(&[wire::parse("", &sql, &[]), wire::bind("", "", &[]), wire::execute("", 0), wire::sync()].concat())
        .await;
    assert_eq!(wire::first_column(&words.until_ready().await), ["t"]);
    is_ended(victim).await;

    // Cancelled, while it runs something and while it does not.
    let mut victim = Wire::connect(&env.app()).await;
    victim.send(&wire::query("SELECT pg_sleep(20)")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(signals("pg_cancel_backend", process_id(&victim)).await);
    assert_eq!(error_code(&victim.until_ready().await).as_deref(), Some("57014"));
    assert!(signals("pg_cancel_backend", process_id(&victim)).await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(error_code(&victim.query("SELECT 1").await), None);

    // What no process is, and oneself.
    assert!(!signals("pg_terminate_backend", i32::MAX).await);
    let sql = format!("SELECT pg_terminate_backend({})", process_id(&words));
    words.send(&wire::query(&sql)).await;
    is_ended(words).await;
    for mut client in [victim, bystander] {
        assert_eq!(wire::first_column(&client.query("SELECT 'alive'").await), ["alive"]);
    }
}
