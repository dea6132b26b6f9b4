//! The harness itself: what other tests take for granted about nodes and evidence.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::node::Shutdown;
use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::wire::{self, Wire};

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Harness,
        &[],
        howdah_integration::checks![
            evidence_tells_nodes_apart,
            paused_replica_lags,
            killed_replica_comes_back,
            wire_speaks_the_protocol,
            promoted_replica_is_followed,
        ],
    )
}

async fn evidence_tells_nodes_apart(env: &Env) {
    for (node, times) in env.cluster.nodes().iter().zip([3, 1, 0]) {
        let client = Login::app(node.port).connect().await.unwrap();
        for _ in 0..times {
            rows(&client, "SELECT 1 AS marker_evidence").await.unwrap();
        }
    }
    let calls = env.cluster.calls("%marker_evidence%").await;
    assert_eq!((calls.primary, calls.replicas.as_slice()), (3, [1, 0].as_slice()));
    let commits = env.cluster.replicas()[0].counters("app").await.commits;
    assert!(commits > 0, "a session's counters are reported when it ends");
}

async fn paused_replica_lags(env: &Env) {
    let [paused, other] = env.cluster.replicas() else { panic!("two replicas") };
    paused.pause_replay().await;
    env.cluster.primary().query_in("app", "CREATE TABLE lagging AS SELECT 1").await;
    let sql = "SELECT count(*) FROM pg_class WHERE relname = 'lagging'";
    eventually("the other replica follows", Duration::from_secs(10), async || {
        other.query_in("app", sql).await[0][0].as_deref() == Some("1")
    })
    .await;
    assert_eq!(paused.query_in("app", sql).await[0][0].as_deref(), Some("0"));
    paused.resume_replay().await;
    env.cluster.caught_up(env.cluster.primary()).await;
    assert_eq!(paused.query_in("app", sql).await[0][0].as_deref(), Some("1"));
}

async fn killed_replica_comes_back(env: &Env) {
    let replica = &env.cluster.replicas()[0];
    let client = Login::app(replica.port).connect().await.unwrap();
    replica.kill().await;
    assert!(rows(&client, "SELECT 1").await.is_err(), "backends die with their postmaster");
    replica.start().await;
    env.cluster.streaming(env.cluster.primary(), 2).await;
}

async fn wire_speaks_the_protocol(env: &Env) {
    let mut wire = Wire::connect(&env.app()).await;
    assert_eq!(wire::first_column(&wire.query("SELECT 'one' UNION ALL SELECT 'two'").await), ["one", "two"]);
    assert_eq!(wire::error_code(&wire.query("SELECT 1/0").await).as_deref(), Some("22012"));
    let (port, key) = (env.port(), wire.key.clone());
    let cancelling = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        wire::cancel(port, &key).await;
    });
    assert_eq!(wire::error_code(&wire.query("SELECT pg_sleep(20)").await).as_deref(), Some("57014"));
    cancelling.await.unwrap();
    wire.send(&wire::query("SELECT repeat('x', 1000000)")).await;
    assert_eq!(wire.discard_until_ready().await, 1_000_006);
}

async fn promoted_replica_is_followed(env: &Env) {
    let [new_primary, other] = env.cluster.replicas() else { panic!("two replicas") };
    env.cluster.primary().stop(Shutdown::Fast).await;
    new_primary.promote().await;
    env.cluster.follow(other, new_primary);
    other.stop(Shutdown::Fast).await;
    other.start().await;
    env.cluster.streaming(new_primary, 1).await;
    new_primary.query_in("app", "CREATE TABLE after_promotion AS SELECT 1").await;
    env.cluster.caught_up(new_primary).await;
}
