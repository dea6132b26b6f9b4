//! Rows of any size stream through in bounded memory; idle clients cost little.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::future::join_all;
use howdah_integration::memory;
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::wire::{self, Wire};

const MIB: u64 = 1024 * 1024;

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &[],
        howdah_integration::checks![
            huge_row_to_the_client,
            huge_row_to_the_server,
            slow_reader_is_waited_for,
            idle_clients
        ],
    )
}

/// What Howdah's peak rose by while `work` ran. Its peak so far is what it started with: the
/// checks of this file leave nothing behind that is larger.
async fn growth(env: &Env, work: impl AsyncFnOnce()) -> u64 {
    let id = env.howdah().id();
    let before = memory::of(id).resident;
    work().await;
    let after = memory::of(id);
    eprintln!("  resident {} KiB, then {} KiB, peak {} KiB", before >> 10, after.resident >> 10, after.peak >> 10);
    after.peak.saturating_sub(before)
}

/// The size of the row: PostgreSQL itself needs a few times as much to make it.
fn row_size() -> u64 {
    let mib = if memory::available() > 6 * 1024 * MIB { 900 } else { 300 };
    mib * MIB
}

async fn huge_row_to_the_client(env: &Env) {
    let size = row_size();
    let mut client = Wire::connect(&env.app()).await;
    client.query("SELECT 1").await;
    let grown = growth(env, async || {
        client.send(&wire::query(&format!("SELECT repeat('x', {size}) AS marker_huge"))).await;
        assert_eq!(client.discard_until_ready().await, size + 6);
    })
    .await;
    assert!(grown < 4 * MIB, "a row of {size} bytes made Howdah grow by {grown}");
    env.assert_only_on_replicas("%marker_huge%").await;
    assert_eq!(wire::first_column(&client.query("SELECT 'next'").await), ["next"]);
}

async fn huge_row_to_the_server(env: &Env) {
    const SIZE: u64 = 200 * MIB;
    let client = env.app().connect().await.unwrap();
    client.batch_execute("CREATE TABLE huge (t text)").await.unwrap();
    let grown = growth(env, async || {
        let mut sink = Box::pin(client.copy_in::<_, Bytes>("COPY huge FROM STDIN").await.unwrap());
        let part = Bytes::from(vec![b'x'; 1 << 20]);
        for _ in 0..SIZE / MIB {
            sink.send(part.clone()).await.unwrap();
        }
        sink.send(Bytes::from_static(b"\n")).await.unwrap();
        assert_eq!(sink.as_mut().finish().await.unwrap(), 1);
    })
    .await;
    assert!(grown < 4 * MIB, "a COPY of {SIZE} bytes made Howdah grow by {grown}");
    let size = env.cluster.primary().query_in("app", "SELECT length(t) FROM huge").await;
    assert_eq!(size[0][0].as_deref(), Some(SIZE.to_string().as_str()));
}

/// A client that does not read holds up its own server, and costs no memory.
async fn slow_reader_is_waited_for(env: &Env) {
    let mut slow = Wire::connect(&env.app()).await;
    let grown = growth(env, async || {
        slow.send(&wire::query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let other = env.app().connect().await.unwrap();
        other.batch_execute("SELECT 1").await.unwrap();
    })
    .await;
    assert!(grown < 4 * MIB, "200 MB that nobody reads made Howdah grow by {grown}");
    assert_eq!(slow.discard_until_ready().await, 200_000 * 1006);
}

async fn idle_clients(env: &Env) {
    const COUNT: u64 = 400;
    let before = memory::of(env.howdah().id()).resident;
    let login = env.app();
    let clients = join_all((0..COUNT).map(|_| login.connect())).await;
    for client in &clients {
        client.as_ref().unwrap().batch_execute("SELECT 1").await.unwrap();
    }
    let each = memory::of(env.howdah().id()).resident.saturating_sub(before) / COUNT;
    eprintln!("  {each} bytes per idle client");
    // A debug build's futures are larger than those of a release; the bound is for leaks of buffers.
    assert!(each < 64 * 1024, "an idle client costs {each} bytes");
}
