//! Replication connections through Howdah: PostgreSQL's own programs, physical and logical.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use howdah_integration::binaries;
use howdah_integration::session::{Login, rows};
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{Finished, psql, run};

fn main() -> ExitCode {
    suite::main(
        Subject::Drivers,
        &[("pool.size", "2")],
        howdah_integration::checks![a_base_backup_is_whole, changes_are_decoded, walsenders_answer_as_without],
    )
}

/// Runs one of PostgreSQL's client programs.
async fn program(name: &str, login: &Login, arguments: &[&str]) -> Finished {
    let mut command = binaries::client_program(name);
    command.args(arguments).envs(login.environment());
    run(command, "", Duration::from_secs(120)).await
}

async fn may_replicate(env: &Env) {
    env.cluster.primary().query("ALTER ROLE app REPLICATION").await;
}

fn place(env: &Env, name: &str) -> PathBuf {
    env.cluster.directory().join(name)
}

async fn a_base_backup_is_whole(env: &Env) {
    may_replicate(env).await;
    let backup = place(env, "backup");
    let target = backup.to_str().unwrap();
    // The WAL comes over a second connection at the same time.
    let made = program("pg_basebackup", &env.app(), &["-D", target, "-X", "stream", "-c", "fast", "--no-sync"]).await;
    made.expect_success();
    program("pg_verifybackup", &env.app(), &[target]).await.expect_success();
    if !env.is_direct() {
        let console = Login::console(env.port()).connect().await.unwrap();
        let pins = rows(&console, "SHOW PIN_TOTALS").await.unwrap();
        let replication = pins.iter().find(|row| row.iter().any(|value| value.as_deref() == Some("replication")));
        let total: u64 = replication.unwrap()[2].as_deref().unwrap().parse().unwrap();
        assert!(total >= 2, "{pins:?}");
    }
}

async fn changes_are_decoded(env: &Env) {
    may_replicate(env).await;
    let login = env.app();
    let slot = ["-d", "app", "--slot", "decoded"];
    let with = |more: &[&'static str]| [&slot[..], more].concat();
    let created = program("pg_recvlogical", &login, &with(&["--create-slot", "-P", "test_decoding"])).await;
    created.expect_success();
    psql(&login, "CREATE TABLE decoded (n int); INSERT INTO decoded VALUES (4711);").await.expect_success();
    let end = env.cluster.primary().scalar("SELECT pg_current_wal_lsn()").await;
    let mut arguments = with(&["--start", "--no-loop", "-f", "-", "--endpos"]);
    arguments.push(&end);
    let heard = program("pg_recvlogical", &login, &arguments).await.expect_success();
    assert!(heard.contains("table public.decoded: INSERT: n[integer]:4711"), "{heard}");
    program("pg_recvlogical", &login, &with(&["--drop-slot"])).await.expect_success();
}

async fn walsenders_answer_as_without(env: &Env) {
    may_replicate(env).await;
    let primary = Login::app(env.cluster.primary().port);
    for (replication, command) in
        [("true", "IDENTIFY_SYSTEM"), ("database", "SHOW server_version"), ("maybe", "SELECT 1"), ("off", "SELECT 1")]
    {
        let ask = async |login: &Login| {
            let to = format!("dbname=app replication={replication}");
            let answer = program("psql", login, &["-X", "-A", "-t", "-d", &to, "-c", command]).await;
            // Where the server is stands in front of its words, and how much it has written changes.
            let words = answer.err.split_once("FATAL:").map(|(_, words)| words.to_owned());
            let system = answer.out.split('|').next().unwrap_or_default().trim().to_owned();
            (answer.code, system, words)
        };
        assert_eq!(ask(&env.app()).await, ask(&primary).await, "replication={replication}");
    }
}
