//! Go: database/sql with lib/pq and pgx, and pgx itself; the checks themselves are in `integration/go`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::path::PathBuf;
use std::time::Duration;

use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{self, cache_directory, run, source_directory};
use tokio::process::Command;

fn main() -> std::process::ExitCode {
    // Fewer servers than the checks open connections.
    suite::main(Subject::Drivers, &[("pool.size", "5")], howdah_integration::checks![builds, drivers])
}

fn program() -> PathBuf {
    cache_directory().join("go-checks")
}

/// On its own: the first time it takes longer than all that follows.
async fn builds(_env: &Env) {
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(program()).arg("checks.go").current_dir(source_directory().join("go"));
    // Debian's packages of libraries are sources in a GOPATH of their own.
    build.env("GOPATH", "/usr/share/gocode").env("GO111MODULE", "off").env("GOFLAGS", "");
    build.env("GOCACHE", cache_directory().join("go-cache"));
    run(build, "", Duration::from_secs(170)).await.expect_success();
}

async fn drivers(env: &Env) {
    let command = Command::new(program());
    tools::checks(command, &env.app(), Duration::from_secs(120)).await;
    env.assert_only_on_primary("INSERT INTO gopher%").await;
    env.assert_only_on_primary("copy \"gopher_pgx\"%").await;
    env.assert_mostly_on_replicas("%marker_go_read%").await;
}
