//! psql, as people use it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::psql;

fn main() -> std::process::ExitCode {
    suite::main(Subject::Drivers, &[], howdah_integration::checks![simple_statements])
}

async fn simple_statements(env: &Env) {
    let out = psql(&env.app(), "SELECT 1 AS marker_simple;").await.expect_success();
    assert_eq!(out, "1\n");
    env.assert_only_on_replicas("%marker_simple%").await;
}
