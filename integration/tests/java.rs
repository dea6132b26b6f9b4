//! JDBC: the checks themselves are in `integration/java`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{self, source_directory};
use tokio::process::Command;

fn main() -> std::process::ExitCode {
    // Fewer servers than the checks open connections.
    suite::main(Subject::Drivers, &[("pool.size", "5")], howdah_integration::checks![jdbc])
}

/// Where Debian's `libpostgresql-jdbc-java` and Fedora's `postgresql-jdbc` put it.
const DRIVER: &str = "/usr/share/java/postgresql.jar:/usr/share/java/postgresql-jdbc/postgresql.jar";

async fn jdbc(env: &Env) {
    let mut command = Command::new("java");
    // The quick compiler is enough for what runs for seconds.
    command.args(["-XX:TieredStopAtLevel=1", "-cp", DRIVER]).arg(source_directory().join("java/Checks.java"));
    tools::checks(command, &env.app(), Duration::from_secs(170)).await;
    env.assert_only_on_primary("INSERT INTO jdbc%").await;
    env.assert_only_on_primary("COPY jdbc_copy FROM%").await;
    env.assert_mostly_on_replicas("%marker_jdbc_read WHERE%").await;
    env.assert_mostly_on_replicas("%marker_jdbc_begins%").await;
}
