//! ruby-pg: the checks themselves are in `integration/ruby`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{self, source_directory};
use tokio::process::Command;

fn main() -> std::process::ExitCode {
    // Fewer servers than the checks open connections.
    suite::main(Subject::Drivers, &[("pool.size", "5")], howdah_integration::checks![ruby_pg])
}

async fn ruby_pg(env: &Env) {
    let mut command = Command::new("ruby");
    command.arg(source_directory().join("ruby/checks.rb"));
    tools::checks(command, &env.app(), Duration::from_secs(170)).await;
    env.assert_only_on_primary("INSERT INTO ruby_%").await;
    env.assert_only_on_primary("COPY ruby_copy FROM%").await;
    env.assert_mostly_on_replicas("%marker_ruby_read%").await;
}
