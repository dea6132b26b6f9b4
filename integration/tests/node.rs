//! node-postgres: the checks themselves are in `integration/node`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{self, node_directory};
use tokio::process::Command;

fn main() -> std::process::ExitCode {
    suite::main(Subject::Drivers, &[("pool.size", "5")], howdah_integration::checks![node_postgres])
}

async fn node_postgres(env: &Env) {
    let mut command = Command::new("node");
    command.arg("checks.mjs").current_dir(node_directory().await);
    tools::checks(command, &env.app(), Duration::from_secs(170)).await;
    env.assert_only_on_primary("INSERT INTO njs%").await;
    env.assert_only_on_primary("COPY njs_copy FROM%").await;
    env.assert_mostly_on_replicas("%marker_node_read%").await;
}
