//! PHP: PDO and the `pg_` functions: the checks themselves are in `integration/php`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{self, source_directory};
use tokio::process::Command;

fn main() -> std::process::ExitCode {
    // Fewer servers than the checks open connections.
    suite::main(Subject::Drivers, &[("pool.size", "5")], howdah_integration::checks![php])
}

async fn php(env: &Env) {
    let mut command = Command::new("php");
    command.arg(source_directory().join("php/checks.php"));
    tools::checks(command, &env.app(), Duration::from_secs(170)).await;
    env.assert_only_on_primary("INSERT INTO php (t, b)%").await;
    env.assert_only_on_primary("COPY php_copy FROM%").await;
    env.assert_mostly_on_replicas("%marker_php_read%").await;
}
