//! pgbench: many clients on few servers, and a replica that dies under them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::session::eventually;
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{PGBENCH_SUMS_AGREE, pgbench};

/// pgbench's only read.
const READ: &str = "SELECT abalance FROM pgbench_accounts%";
/// One of its writes, which every script but `-S` has.
const WRITE: &str = "UPDATE pgbench_accounts%";

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Drivers,
        // Clients on several workers, so that servers change over from one to another; audits, but so few that they are not
        // the load.
        &[("pool.size", "20"), ("workers", "2"), ("pool.audit", "100")],
        howdah_integration::checks![
            initialize,
            reads_simple,
            reads_extended,
            reads_prepared,
            writes_simple,
            writes_extended,
            writes_prepared,
            everything_simple,
            everything_extended,
            everything_prepared,
            connection_per_transaction,
            replica_killed_under_load,
        ],
    )
}

/// 64 clients run `script` in `protocol`.
async fn bench(env: &Env, script: &[&str], protocol: &str) -> u64 {
    env.cluster.forget_calls().await;
    let mut arguments = vec!["-n", "-c", "64", "-j", "2", "-T", "5", "-M", protocol];
    arguments.extend(script);
    pgbench(&env.app(), &arguments).await.expect_clean()
}

async fn initialize(env: &Env) {
    pgbench(&env.app(), &["-i", "-s", "5", "-q"]).await.expect_success();
    env.assert_only_on_primary("%vacuum analyze pgbench_accounts%").await;
    let count = env.cluster.primary().query_in("app", "SELECT count(*) FROM pgbench_accounts").await;
    assert_eq!(count[0][0].as_deref(), Some("500000"));
    env.read_by_replicas("pgbench_accounts").await;
}

async fn reads(env: &Env, protocol: &str) {
    let transactions = bench(env, &["-S"], protocol).await;
    let calls = env.assert_mostly_on_replicas(READ).await;
    assert!(calls.total() >= transactions, "{calls} of {transactions}");
    if !env.is_direct() {
        let (low, high) = (calls.replicas.iter().min().unwrap(), calls.replicas.iter().max().unwrap());
        assert!(low * 2 > *high, "both replicas carry their share: {calls}");
    }
}

async fn reads_simple(env: &Env) {
    reads(env, "simple").await;
}

async fn reads_extended(env: &Env) {
    reads(env, "extended").await;
}

async fn reads_prepared(env: &Env) {
    reads(env, "prepared").await;
}

async fn writes(env: &Env, script: &[&str], protocol: &str) {
    let refused_before = refused_writes(env);
    let transactions = bench(env, script, protocol).await;
    env.assert_only_on_primary(WRITE).await;
    env.assert_only_on_primary("INSERT INTO pgbench_history%").await;
    let calls = env.cluster.calls(WRITE).await;
    assert!(calls.primary >= transactions, "{calls} of {transactions}");
    assert_eq!(refused_writes(env), refused_before, "a replica was asked to write");
    env.cluster.caught_up(env.cluster.primary()).await;
}

/// How often a replica refused to write.
fn refused_writes(env: &Env) -> usize {
    let logs = env.cluster.replicas().iter().map(howdah_integration::Node::log);
    logs.map(|log| log.matches("in a read-only transaction").count()).sum()
}

async fn writes_simple(env: &Env) {
    writes(env, &["-N"], "simple").await;
}

async fn writes_extended(env: &Env) {
    writes(env, &["-N"], "extended").await;
}

async fn writes_prepared(env: &Env) {
    writes(env, &["-N"], "prepared").await;
}

async fn everything_simple(env: &Env) {
    writes(env, &[], "simple").await;
}

async fn everything_extended(env: &Env) {
    writes(env, &[], "extended").await;
}

async fn everything_prepared(env: &Env) {
    writes(env, &[], "prepared").await;
    assert_eq!(env.cluster.primary().query_in("app", PGBENCH_SUMS_AGREE).await[0][0].as_deref(), Some("t"));
}

async fn connection_per_transaction(env: &Env) {
    let transactions = pgbench(&env.app(), &["-n", "-S", "-C", "-c", "8", "-j", "2", "-T", "3"]).await.expect_clean();
    assert!(transactions > 20, "only {transactions} logins in three seconds");
}

async fn replica_killed_under_load(env: &Env) {
    if env.is_direct() {
        return;
    }
    let victim = &env.cluster.replicas()[0];
    for protocol in ["simple", "extended", "prepared"] {
        env.cluster.forget_calls().await;
        let login = env.app();
        let arguments = ["-n", "-S", "-c", "16", "-j", "2", "-T", "6", "-M", protocol];
        let running = tokio::spawn(async move { pgbench(&login, &arguments).await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(victim.calls(READ).await > 0, "the victim has work when it dies");
        victim.kill().await;
        running.await.unwrap().expect_clean();

        victim.start().await;
        eventually("the replica gets reads again", Duration::from_secs(30), async || {
            pgbench(&env.app(), &["-n", "-S", "-c", "4", "-t", "50"]).await.expect_clean();
            victim.calls(READ).await > 0
        })
        .await;
    }
}
