//! PostgreSQL 18, whatever release the machine has: what came with it, above all protocol 3.2.
//!
//! Its server programs come as a package; this process runs itself again with `PGBIN` set to them. Where there is no
//! package for the machine, this says so and passes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::process::ExitCode;
use std::time::Duration;

use howdah_integration::session::Login;
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::postgres_18;
use howdah_integration::wire::{self, Wire, cancel, error_code};

/// Set for the process that runs the checks.
const INNER: &str = "HOWDAH_POSTGRES_18";

fn main() -> ExitCode {
    if std::env::var_os(INNER).is_some() || std::env::args().any(|argument| argument == "--list") {
        return suite::main(
            Subject::Howdah,
            &[],
            howdah_integration::checks![it_is_18, versions_are_negotiated, long_keys_cancel],
        );
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(programs) = runtime.block_on(postgres_18()) else {
        let line = "*".repeat(80);
        eprintln!("{line}\npostgres_18: NOT RUN: its package has no programs for this kind of machine.\n{line}");
        return ExitCode::SUCCESS;
    };
    let mut inner = std::process::Command::new(std::env::current_exe().unwrap());
    inner.args(std::env::args_os().skip(1)).env(INNER, "1").env("PGBIN", programs.0.join("bin"));
    if inner.status().unwrap().success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn it_is_18(env: &Env) {
    for node in env.cluster.nodes() {
        assert!(node.scalar("SHOW server_version_num").await.starts_with("18"), "{}", node.name);
    }
}

/// 3.2 is spoken when asked for, and offered to whoever asks for more, as by the server itself.
async fn versions_are_negotiated(env: &Env) {
    for minor in [0, 2, 9] {
        let direct = Wire::connect_in(minor, &Login::app(env.cluster.primary().port), &[]).await;
        let mut through = Wire::connect_in(minor, &env.app(), &[]).await;
        assert_eq!(through.negotiated, direct.negotiated, "3.{minor}");
        assert_eq!(through.key.len(), direct.key.len(), "3.{minor}");
        assert_eq!(wire::first_column(&through.query("SELECT 'served'").await), ["served"]);
    }
}

async fn long_keys_cancel(env: &Env) {
    let mut victim = Wire::connect_in(2, &env.app(), &[]).await;
    let mut survivor = Wire::connect_in(2, &env.app(), &[]).await;
    assert_eq!(victim.key.len(), 36, "4 bytes of process id and 32 of secret");
    victim.send(&wire::query("SELECT pg_sleep(20)")).await;
    survivor.send(&wire::query("SELECT pg_sleep(1.5)")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Right but for the last byte, then cut short, then right.
    let mut wrong = victim.key.clone();
    *wrong.last_mut().unwrap() ^= 1;
    cancel(env.port(), &wrong).await;
    cancel(env.port(), &victim.key[..8]).await;
    assert_eq!(victim.receive_within(Duration::from_millis(200)).await, None, "wrong keys cancel nothing");
    cancel(env.port(), &victim.key).await;
    assert_eq!(error_code(&victim.until_ready().await).as_deref(), Some("57014"));
    assert_eq!(error_code(&survivor.until_ready().await), None);
}
