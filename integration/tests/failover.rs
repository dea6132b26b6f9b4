//! The primary moves, replicas lag, stop and come back: clients keep their connections.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::{Duration, Instant, SystemTime};

use howdah_integration::node::{Node, Shutdown};
use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::{Howdah, TestCluster};
use tokio_postgres::Client;

/// The monitor's interval in these tests.
const TICK: Duration = Duration::from_millis(500);
/// What a read marked for these tests looks like to `pg_stat_statements`.
const READ: &str = "%marker_lag%";

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &[("clusters.main.monitor.interval", "500ms"), ("routing.max_lag", "1s"), ("routing.consistency", "eventual")],
        howdah_integration::checks![
            lagging_replica_gets_no_reads,
            lag_is_told_by_nobodys_clock,
            all_replicas_gone_and_back,
            replica_restarts_under_open_connections,
            roles_do_not_depend_on_order,
            every_committed_write_is_read,
            reads_return_to_replicas_after_a_write,
            unflushed_wal_keeps_no_read_from_replicas,
            promotion_is_followed,
        ],
    )
}

async fn read(client: &Client) {
    rows(client, "SELECT count(*) FROM lag_probe AS marker_lag").await.expect("reads go on");
}

/// Reads until `node` has answered `wanted` of them or the deadline has come.
async fn gets_reads(env: &Env, client: &Client, node: &Node) {
    env.cluster.forget_calls().await;
    eventually(&format!("{} gets reads", node.name), Duration::from_secs(20), async || {
        for _ in 0..10 {
            read(client).await;
        }
        node.calls(READ).await > 0
    })
    .await;
}

async fn lagging_replica_gets_no_reads(env: &Env) {
    let client = env.app().connect().await.unwrap();
    rows(&client, "CREATE TABLE lag_probe (n int)").await.unwrap();
    env.cluster.caught_up(env.cluster.primary()).await;
    let [lagging, other] = env.cluster.replicas() else { panic!("two replicas") };
    gets_reads(env, &client, lagging).await;
    lag_is_noticed(env, &client, lagging, other).await;
}

/// `lagging` is paused and gets no reads, `other` does; then both.
async fn lag_is_noticed(env: &Env, client: &Client, lagging: &Node, other: &Node) {
    lagging.pause_replay().await;
    // Written for longer than max_lag and two looks, so that the lag is more than allowed and known.
    let end = Instant::now() + Duration::from_millis(3500);
    while Instant::now() < end {
        rows(client, "INSERT INTO lag_probe VALUES (1)").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    env.cluster.forget_calls().await;
    for _ in 0..200 {
        read(client).await;
    }
    let calls = env.cluster.calls(READ).await;
    assert_eq!(lagging.calls(READ).await, 0, "a lagging replica gets no reads: {calls}");
    assert!(other.calls(READ).await > 0, "the other replica carries on: {calls}");

    lagging.resume_replay().await;
    env.cluster.caught_up(env.cluster.primary()).await;
    gets_reads(env, client, lagging).await;
}

async fn lag_is_told_by_nobodys_clock(env: &Env) {
    let client = env.app().connect().await.unwrap();
    rows(&client, "CREATE TABLE IF NOT EXISTS lag_probe (n int)").await.unwrap();
    let [behind, ahead] = env.cluster.replicas() else { panic!("two replicas") };
    for (node, seconds) in [(behind, -3600), (ahead, 3600)] {
        node.stop(Shutdown::Fast).await;
        node.start_ahead(seconds).await;
        let sql = format!("SELECT abs(extract(epoch FROM clock_timestamp()) - {} - {seconds}) < 60", epoch());
        assert_eq!(node.scalar(&sql).await, "t", "{} has another clock", node.name);
    }
    env.cluster.streaming(env.cluster.primary(), 2).await;
    env.cluster.caught_up(env.cluster.primary()).await;
    gets_reads(env, &client, behind).await;
    gets_reads(env, &client, ahead).await;

    // Nothing is committed for longer than max_lag.
    tokio::time::sleep(Duration::from_secs(3)).await;
    gets_reads(env, &client, behind).await;
    gets_reads(env, &client, ahead).await;
    lag_is_noticed(env, &client, behind, ahead).await;
    lag_is_noticed(env, &client, ahead, behind).await;

    for node in [behind, ahead] {
        node.stop(Shutdown::Fast).await;
        node.start().await;
    }
    env.cluster.streaming(env.cluster.primary(), 2).await;
}

/// Seconds since 1970.
fn epoch() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

async fn all_replicas_gone_and_back(env: &Env) {
    let client = env.app().connect().await.unwrap();
    for replica in env.cluster.replicas() {
        replica.stop(Shutdown::Fast).await;
    }
    env.cluster.forget_calls().await;
    for _ in 0..50 {
        read(&client).await;
    }
    assert!(env.cluster.primary().calls(READ).await >= 50, "the primary answers when there is no replica");
    for replica in env.cluster.replicas() {
        replica.start().await;
    }
    for replica in env.cluster.replicas() {
        gets_reads(env, &client, replica).await;
    }
}

async fn replica_restarts_under_open_connections(env: &Env) {
    let login = env.app();
    let clients = futures_util::future::join_all((0..16).map(|_| login.connect())).await;
    let readers: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let client = client.unwrap();
            tokio::spawn(async move {
                for _ in 0..400 {
                    read(&client).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    for replica in env.cluster.replicas() {
        replica.stop(Shutdown::Fast).await;
        replica.start().await;
    }
    for reader in readers {
        reader.await.expect("no reader sees an error");
    }
}

async fn roles_do_not_depend_on_order(env: &Env) {
    let nodes = env.cluster.nodes();
    for first in 0..nodes.len() {
        let list: Vec<String> = (0..nodes.len())
            .map(|i| &nodes[(first + i) % nodes.len()])
            .map(|node| format!("{{name: {}, address: '127.0.0.1:{}'}}", node.name, node.port))
            .collect();
        let howdah = Howdah::start(&env.cluster, &[("clusters.main.nodes", &format!("[{}]", list.join(", ")))]).await;
        let client = Login::app(howdah.port).connect().await.unwrap();
        rows(&client, "CREATE TABLE IF NOT EXISTS ordered (n int); INSERT INTO ordered VALUES (1)").await.unwrap();
    }
    env.assert_only_on_primary("INSERT INTO ordered%").await;
}

/// `consistency: database`: what any client has committed, every client reads, whether replicas are
/// quick, paused or on their way back.
async fn every_committed_write_is_read(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[]).await;
    let login = Login::app(howdah.port);
    let writer = login.connect().await.unwrap();
    rows(&writer, "CREATE TABLE seen (n int)").await.unwrap();
    let readers = futures_util::future::try_join_all((0..4).map(|_| login.connect())).await.unwrap();
    for round in 0..600_usize {
        match round % 200 {
            50 => env.cluster.replicas()[0].pause_replay().await,
            100 => env.cluster.replicas()[1].pause_replay().await,
            150 => {
                for replica in env.cluster.replicas() {
                    replica.resume_replay().await;
                }
            }
            _ => {}
        }
        rows(&writer, "INSERT INTO seen VALUES (1)").await.unwrap();
        let reads = readers.iter().map(|reader| rows(reader, "SELECT count(*) FROM seen AS marker_seen"));
        for read in futures_util::future::try_join_all(reads).await.unwrap() {
            assert_eq!(read[0][0].as_deref(), Some((round + 1).to_string().as_str()), "a stale read in round {round}");
        }
    }
    let calls = env.cluster.calls("%marker_seen%").await;
    eprintln!("  reads right behind writes: {calls}");
    assert!(calls.on_replicas() > 0, "replicas had their part in this: {calls}");
}

/// A write some time ago is no reason to keep reads on the primary: replicas have it since long.
async fn reads_return_to_replicas_after_a_write(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("clusters.main.monitor.interval", "10s")]).await;
    let client = Login::app(howdah.port).connect().await.unwrap();
    rows(&client, "CREATE TABLE returned (n int)").await.unwrap();
    env.cluster.reads_through(&Login::app(howdah.port), "returned").await;
    env.cluster.forget_calls().await;
    for _ in 0..10 {
        rows(&client, "INSERT INTO returned VALUES (1)").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..10 {
            rows(&client, "SELECT count(*) FROM returned AS marker_returned").await.unwrap();
        }
    }
    env.assert_mostly_on_replicas("%marker_returned%").await;
}

/// What a transaction leaves behind that is rolled back, and had not even an id, the primary flushes when it
/// likes: reads do not wait for that, nor go to the primary. How it is made to flush depends on `wal_level`.
async fn unflushed_wal_keeps_no_read_from_replicas(_env: &Env) {
    for level in ["replica", "logical"] {
        let cluster = TestCluster::start().await;
        cluster.primary().stop(Shutdown::Fast).await;
        cluster.primary().configure(&format!("wal_level = {level}"));
        cluster.primary().start().await;
        read_behind_leftovers(&cluster, level).await;
    }
}

async fn read_behind_leftovers(cluster: &TestCluster, level: &str) {
    assert_eq!(cluster.primary().scalar("SHOW wal_level").await, level);
    // As long as nobody flushes, the wait for a replica is in vain and ends in an assertion below.
    let howdah = Howdah::start(cluster, &[("routing.wait", "1s"), ("routing.max_lag", "30s")]).await;
    let client = Login::app(howdah.port).connect().await.unwrap();
    rows(&client, "CREATE TABLE pruned (n int)").await.unwrap();
    cluster.reads_through(&Login::app(howdah.port), "pruned").await;
    cluster.forget_calls().await;
    let mut waited = Duration::ZERO;
    for _ in 0..20 {
        rows(&client, "INSERT INTO pruned VALUES (1)").await.unwrap();
        let leftover = "BEGIN; SELECT pg_logical_emit_message(false, 'test', 'not flushed'); ROLLBACK";
        cluster.primary().query(leftover).await;
        let start = Instant::now();
        rows(&client, "SELECT count(*) FROM pruned AS marker_pruned").await.unwrap();
        waited += start.elapsed();
    }
    let calls = cluster.calls("%marker_pruned%").await;
    eprintln!("  wal_level {level}: {} µs per read, {calls}", waited.as_micros() / 20);
    assert!(calls.on_replicas() >= 18, "{level}: {calls}");
}

/// Promotes a replica by hand and stops the old primary: in a cluster of its own, with both orders
/// of the two acts and connections open all the while.
async fn promotion_is_followed(_env: &Env) {
    for old_primary_stops in [Act::BeforePromotion, Act::AfterPromotion] {
        promote_in(&TestCluster::start().await, old_primary_stops).await;
    }
}

/// When the old primary stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    BeforePromotion,
    AfterPromotion,
}

async fn promote_in(cluster: &TestCluster, old_primary_stops: Act) {
    let howdah = Howdah::start(cluster, &[("clusters.main.monitor.interval", "500ms")]).await;
    let login = Login::app(howdah.port);
    let clients = futures_util::future::try_join_all((0..4).map(|_| login.connect())).await.unwrap();
    rows(&clients[0], "CREATE TABLE promoted (n int)").await.unwrap();
    for client in &clients {
        rows(client, "INSERT INTO promoted VALUES (1)").await.unwrap();
        rows(client, "SELECT count(*) FROM promoted").await.unwrap();
    }
    cluster.caught_up(cluster.primary()).await;

    let [new_primary, other] = cluster.replicas() else { panic!("two replicas") };
    match old_primary_stops {
        Act::BeforePromotion => cluster.primary().stop(Shutdown::Fast).await,
        // A standby that replays what the old primary writes after the fork could never follow the new one.
        Act::AfterPromotion => other.stop(Shutdown::Fast).await,
    }
    new_primary.promote().await;
    if old_primary_stops == Act::AfterPromotion {
        cluster.primary().stop(Shutdown::Fast).await;
    }
    let promoted = Instant::now();
    // The connections that were there before must write again without being made anew.
    for client in &clients {
        eventually("writes work again", Duration::from_secs(15), async || {
            rows(client, "INSERT INTO promoted VALUES (2)").await.is_ok()
        })
        .await;
    }
    let outage = promoted.elapsed();
    eprintln!("  old primary stops {old_primary_stops:?}: writes again after {} ms", outage.as_millis());
    // Two looks, and what connecting and the machine's load take.
    assert!(outage < TICK * 2 + Duration::from_millis(1500), "{outage:?}");
    assert_eq!(
        new_primary.query_in("app", "SELECT count(*) FROM promoted WHERE n = 2").await[0][0].as_deref(),
        Some("4")
    );

    // The other standby follows the new primary, and gets reads again.
    cluster.follow(other, new_primary);
    if other.is_running() {
        other.stop(Shutdown::Fast).await;
    }
    other.start().await;
    cluster.streaming(new_primary, 1).await;
    eventually("the other standby gets reads", Duration::from_secs(20), async || {
        rows(&clients[0], "SELECT sum(n) AS marker_followed FROM promoted").await.unwrap();
        other.calls("%marker_followed%").await > 0
    })
    .await;

    // The old primary comes back as a primary of the old timeline: it must get nothing.
    cluster.primary().start().await;
    tokio::time::sleep(TICK * 4).await;
    for client in &clients {
        for _ in 0..10 {
            rows(client, "INSERT INTO promoted VALUES (3)").await.unwrap();
            let seen = rows(client, "SELECT count(*) FROM promoted WHERE n = 3").await.unwrap();
            assert_ne!(seen[0][0].as_deref(), Some("0"), "a read went to the primary of the old timeline");
        }
    }
    let on_old = cluster.primary().query_in("app", "SELECT count(*) FROM promoted WHERE n = 3").await;
    assert_eq!(on_old[0][0].as_deref(), Some("0"), "the primary of the old timeline was written to");
}
