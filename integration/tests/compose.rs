//! docker-compose.yml works: images are built, four containers start, a write and reads pass through Howdah's port.
//!
//! Where statements ran is asked of the nodes in their containers. Without a Docker engine nothing can be tested;
//! then this says so and passes, unless `HOWDAH_REQUIRE_DOCKER=1`.

#![allow(clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use howdah_integration::binaries;
use howdah_integration::howdah;
use howdah_integration::ports::free_port;
use howdah_integration::tools::source_directory;

/// From the first container's start until Howdah answers.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Until a replica has what was written before.
const REPLAYED_WITHIN: Duration = Duration::from_secs(20);
const NODES: [&str; 3] = ["pg1", "pg2", "pg3"];
const READS: u32 = 20;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        eprintln!("compose: test");
        return ExitCode::SUCCESS;
    }
    if let Err(missing) = docker() {
        return not_run(&missing);
    }
    let compose = Compose::new();
    compose.smoke();
    eprintln!("check compose ... ok\n1 of 1 checks passed");
    ExitCode::SUCCESS
}

/// Whether a Docker engine and Compose are here.
fn docker() -> Result<(), String> {
    let works = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !works("docker", &["info"]) {
        return Err("no Docker engine answers `docker info`".into());
    }
    if !works("docker", &["compose", "version"]) && !works("docker-compose", &["version"]) {
        return Err("neither `docker compose` nor docker-compose is installed".into());
    }
    Ok(())
}

fn not_run(missing: &str) -> ExitCode {
    let line = "*".repeat(80);
    eprintln!("{line}\ncompose: NOT RUN: {missing}.\nscripts/dockerd installs and starts what is needed.\n{line}");
    if std::env::var("HOWDAH_REQUIRE_DOCKER").is_ok_and(|value| value == "1") {
        eprintln!("compose: FAILED: HOWDAH_REQUIRE_DOCKER=1 demands that it runs");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The containers of one test run, on free ports and under a name of their own; gone when dropped.
struct Compose {
    project: String,
    port: u16,
    metrics_port: u16,
}

impl Drop for Compose {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.command(&["logs", "--tail=40"]).output();
            eprintln!("{}", logs.map_or_else(|error| error.to_string(), |logs| text(&logs.stdout)));
        }
        let down = self.command(&["down", "--volumes", "--remove-orphans", "--timeout=5"]).output();
        if !down.as_ref().is_ok_and(|down| down.status.success()) {
            eprintln!("containers of project {} may be left behind: {down:?}", self.project);
        }
    }
}

impl Compose {
    fn new() -> Self {
        let project = format!("howdah-smoke-{}", std::process::id());
        Self { project, port: free_port(), metrics_port: free_port() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let root = source_directory().parent().expect("integration lies in the repository");
        let mut command = Command::new(root.join("scripts/compose"));
        command.args(arguments).current_dir(root).stdin(Stdio::null());
        command.env("COMPOSE_PROJECT_NAME", &self.project).env("HOWDAH_TAG", "smoke");
        command.env("HOWDAH_PORT", self.port.to_string()).env("HOWDAH_METRICS_PORT", self.metrics_port.to_string());
        for own in ["APP_PASSWORD", "HOWDAH_PASSWORD", "REPLICATION_PASSWORD"] {
            command.env_remove(own);
        }
        // The binary that these tests were built with, not a release build.
        command.env("HOWDAH_BIN", howdah::binary());
        command
    }

    fn smoke(&self) {
        run(&mut self.command(&["up", "-d", "--build"]));
        eventually("an application connects", READY_WITHIN, || self.psql("SELECT 'connected'").is_ok());
        let written = self.psql("CREATE TABLE smoke (n int); INSERT INTO smoke SELECT generate_series(1, 5)");
        assert!(written.is_ok(), "{written:?}");
        for node in &NODES[1..] {
            let replayed = || self.ask(node, "app", "SELECT count(*) FROM smoke").is_ok_and(|count| count == "5");
            eventually(&format!("{node} has replayed the write"), REPLAYED_WITHIN, replayed);
        }
        for _ in 0..READS {
            let sum = self.psql("SELECT sum(n) AS marker_read FROM smoke");
            assert_eq!(sum.as_deref(), Ok("15"));
        }
        assert_eq!(self.role("pg1"), "f", "pg1 is the primary");
        assert_eq!((self.role("pg2"), self.role("pg3")), ("t".into(), "t".into()), "pg2 and pg3 are replicas");
        let writes = NODES.map(|node| self.calls(node, "INSERT INTO smoke%"));
        assert_eq!(writes, [1, 0, 0], "calls of the write on {NODES:?}");
        let reads = NODES.map(|node| self.calls(node, "%marker_read%"));
        assert_eq!(reads.iter().sum::<u32>(), READS, "calls of the read on {NODES:?}: {reads:?}");
        assert!(reads[1] + reads[2] > 0, "no replica served a read: {reads:?}");
        eprintln!("reads on {NODES:?}: {reads:?}");
    }

    /// What psql prints when it runs `sql` through Howdah as the application.
    fn psql(&self, sql: &str) -> Result<String, String> {
        let mut command = Command::new(binaries::directory().join("psql"));
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).stdin(Stdio::null());
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGDATABASE", "app");
        command.env("PGUSER", "app").env("PGPASSWORD", "app-secret").env("PGCONNECT_TIMEOUT", "5");
        output(&mut command)
    }

    /// What a node itself answers, on its own socket.
    fn ask(&self, node: &str, database: &str, sql: &str) -> Result<String, String> {
        output(&mut self.command(&["exec", "-T", node, "psql", "-X", "-A", "-t", "-d", database, "-c", sql]))
    }

    fn role(&self, node: &str) -> String {
        self.ask(node, "postgres", "SELECT pg_is_in_recovery()").expect("the node answers")
    }

    /// How often a node ran the application's statements like `pattern`.
    fn calls(&self, node: &str, pattern: &str) -> u32 {
        let sql = format!(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid \
             WHERE r.rolname = 'app' AND query LIKE '{pattern}'"
        );
        let calls = self.ask(node, "postgres", &sql).expect("the node answers");
        calls.parse().expect("a number")
    }
}

/// Standard output without the last line's end, or what went wrong.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(text(&output.stdout).trim_end().to_owned()) } else { Err(text(&output.stderr)) }
}

/// Runs it with its output shown only if it fails.
fn run(command: &mut Command) {
    let output = command.output().expect("the program starts");
    assert!(
        output.status.success(),
        "{}: {}\n{}{}",
        Path::new(command.get_program()).display(),
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
