//! psycopg 3, psycopg 2, asyncpg and `SQLAlchemy`: the checks themselves are in `integration/python`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{self, python, source_directory};
use tokio::process::Command;

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Drivers,
        // Fewer servers than the scripts open connections.
        &[("pool.size", "5")],
        howdah_integration::checks![psycopg, asyncpg, sqlalchemy],
    )
}

/// Runs a script against the application's database and shows what it says.
async fn script(env: &Env, name: &str) {
    let mut command = Command::new(python().await);
    command.arg("-B").arg(source_directory().join("python").join(name));
    tools::checks(command, &env.app(), Duration::from_secs(170)).await;
}

async fn psycopg(env: &Env) {
    script(env, "psycopg_checks.py").await;
    env.assert_only_on_primary("INSERT INTO psy VALUES%").await;
    env.assert_only_on_primary("COPY psy_copy FROM%").await;
    env.assert_mostly_on_replicas("%marker_psycopg_read%").await;
    env.assert_mostly_on_replicas("%marker_psycopg_prepared%").await;
}

async fn asyncpg(env: &Env) {
    script(env, "asyncpg_checks.py").await;
    env.assert_only_on_primary("INSERT INTO apg%").await;
    env.assert_mostly_on_replicas("%marker_asyncpg_read%").await;
}

async fn sqlalchemy(env: &Env) {
    script(env, "sqlalchemy_checks.py").await;
    env.assert_only_on_primary("INSERT INTO alchemy%").await;
    env.assert_mostly_on_replicas("%marker_alchemy_read%").await;
}
