//! One test file: one cluster, one Howdah, checks run one after another.
//!
//! cargo's own harness would start a cluster per test or leave a shared one running at exit; this
//! one starts it once and always takes it down.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use crate::cluster::TestCluster;
use crate::evidence::Calls;
use crate::howdah::Howdah;
use crate::session::Login;

/// No check may take longer.
const DEADLINE: Duration = Duration::from_secs(180);

/// What a check works with.
#[derive(Debug)]
pub struct Env {
    /// Howdah, unless the tests themselves are tested without it. Before the cluster: it ends first.
    howdah: Option<Howdah>,
    /// The nodes.
    pub cluster: TestCluster,
}

impl Env {
    /// The port applications use.
    pub fn port(&self) -> u16 {
        self.howdah.as_ref().map_or_else(|| self.cluster.primary().port, |howdah| howdah.port)
    }

    /// The application's login.
    pub fn app(&self) -> Login {
        Login::app(self.port())
    }

    /// Howdah; panics under `HOWDAH_DIRECT`.
    pub fn howdah(&self) -> &Howdah {
        self.howdah.as_ref().expect("this check is about Howdah itself: HOWDAH_DIRECT has no sense here")
    }

    /// Whether statements go straight to the primary.
    pub fn is_direct(&self) -> bool {
        self.howdah.is_none()
    }

    /// Waits until reads of `table` go to replicas: reads of a new one go to the primary until
    /// Howdah knows what it is.
    pub async fn read_by_replicas(&self, table: &str) {
        if !self.is_direct() {
            self.cluster.reads_through(&self.app(), table).await;
        }
    }

    /// Panics unless every statement like `pattern` ran on the primary, at least one.
    pub async fn assert_only_on_primary(&self, pattern: &str) {
        let calls = self.cluster.calls(pattern).await;
        assert!(calls.primary > 0 && calls.on_replicas() == 0, "{pattern}: expected on the primary only: {calls}");
    }

    /// Panics unless every statement like `pattern` ran on replicas, at least one.
    pub async fn assert_only_on_replicas(&self, pattern: &str) {
        let calls = self.cluster.calls(pattern).await;
        assert!(calls.total() > 0, "{pattern}: no such statement was seen");
        if !self.is_direct() {
            assert!(calls.on_replicas() > 0 && calls.primary == 0, "{pattern}: expected on replicas only: {calls}");
        }
    }

    /// Panics unless at least 9 of 10 statements like `pattern` ran on replicas, and returns where.
    pub async fn assert_mostly_on_replicas(&self, pattern: &str) -> Calls {
        let calls = self.cluster.calls(pattern).await;
        assert!(calls.total() > 0, "{pattern}: no such statement was seen");
        if !self.is_direct() {
            assert!(calls.on_replicas() * 10 >= calls.total() * 9, "{pattern}: expected mostly on replicas: {calls}");
        }
        calls
    }
}

/// A check by name, made by [`checks!`](crate::checks).
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its function's name.
    pub name: &'static str,
    /// The function.
    pub run: for<'a> fn(&'a Env) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
}

/// Turns `async fn(&Env)` functions into a list of [`Check`]s.
#[macro_export]
macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        &[$($crate::suite::Check { name: stringify!($name), run: |env| Box::pin($name(env)) }),*]
    };
}

/// Whether a suite has a use for `HOWDAH_DIRECT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What a driver sees: must hold without Howdah, too.
    Drivers,
    /// Howdah itself.
    Howdah,
    /// The harness: never with Howdah.
    Harness,
}

/// The `main` of a test file: runs the checks whose names contain the first argument.
pub fn main(subject: Subject, overrides: &[(&str, &str)], checks: &[Check]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for check in checks {
            eprintln!("{}: test", check.name);
        }
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let chosen: Vec<Check> = checks.iter().filter(|check| check.name.contains(&filter)).copied().collect();
    if chosen.is_empty() {
        return ExitCode::SUCCESS;
    }
    let direct = subject == Subject::Harness || std::env::var_os("HOWDAH_DIRECT").is_some();
    if direct && subject == Subject::Howdah {
        eprintln!("not run under HOWDAH_DIRECT: these checks are about Howdah itself");
        return ExitCode::SUCCESS;
    }
    // A failed check names its place; a backtrace through the executor adds nothing.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime starts");
    runtime.block_on(async {
        let start = Instant::now();
        let cluster = TestCluster::start().await;
        eprintln!("cluster started in {:.1} s", start.elapsed().as_secs_f32());
        let howdah = if direct { None } else { Some(Howdah::start(&cluster, overrides).await) };
        run(Env { howdah, cluster }, overrides, &chosen).await
    })
}

async fn run(mut env: Env, overrides: &[(&str, &str)], checks: &[Check]) -> ExitCode {
    let mut failed = Vec::new();
    for check in checks {
        let start = Instant::now();
        let log_before = env.howdah.as_ref().map_or(0, |howdah| howdah.log().len());
        env.cluster.forget_calls().await;
        let outcome = tokio::time::timeout(DEADLINE, AssertUnwindSafe((check.run)(&env)).catch_unwind()).await;
        let leaks = env.howdah.as_ref().map(Howdah::leaks).unwrap_or_default();
        let verdict = match outcome {
            Ok(Ok(())) if !leaks.is_empty() => {
                eprintln!("servers leaked:\n{}", leaks.join("\n"));
                "FAILED"
            }
            Ok(Ok(())) => "ok",
            // The panic's own message has been printed.
            Ok(Err(_)) => "FAILED",
            Err(_) => "FAILED: not within the deadline",
        };
        eprintln!("check {} ... {verdict} ({:.1} s)", check.name, start.elapsed().as_secs_f32());
        if verdict != "ok" {
            failed.push(check.name);
            show_log(&env, log_before);
        }
        if let Some(status) = env.howdah.as_ref().and_then(Howdah::exit_status) {
            eprintln!("Howdah has ended ({status}); starting another for the checks that remain");
            env.howdah = Some(Howdah::start(&env.cluster, overrides).await);
        }
    }
    eprintln!("{} of {} checks passed {failed:?}", checks.len() - failed.len(), checks.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The end of what Howdah logged since `before`.
fn show_log(env: &Env, before: usize) {
    const LINES: usize = 60;
    let Some(howdah) = &env.howdah else { return };
    let log = howdah.log();
    let lines: Vec<&str> = log.get(before..).unwrap_or(&log).lines().collect();
    let from = lines.len().saturating_sub(LINES);
    eprintln!("--- Howdah's log, last {LINES} lines of this check\n{}\n---", lines[from..].join("\n"));
}

#[cfg(test)]
mod tests {
    /// A file cargo would run with its own harness would pass without running anything.
    #[test]
    fn every_test_file_is_declared_without_harness() {
        let root = crate::tools::source_directory();
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        for entry in std::fs::read_dir(root.join("tests")).unwrap().flatten() {
            let path = entry.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap();
            let declaration = format!("[[test]]\nname = \"{name}\"\nharness = false\n");
            assert!(manifest.contains(&declaration), "Cargo.toml lacks\n{declaration}");
        }
    }
}
