//! Reads are as fresh as the level promises while nodes pause, lag, freeze, die and change roles: a few seconds of what
//! `scripts/consistency` does for long.

use std::time::Duration;

use howdah_integration::consistency::check::Level;
use howdah_integration::consistency::nemesis::Fault;
use howdah_integration::consistency::run::{Findings, Plan};
use howdah_integration::suite::{self, Env, Subject};

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &[],
        howdah_integration::checks![eventual, session, database, strong, what_is_not_promised_is_missed,],
    )
}

/// Runs a short plan; panics when it proves nothing.
async fn run(configured: Level, promised: Level, faults: &[Fault]) -> Findings {
    let plan = Plan {
        configured,
        promised,
        lasts: Duration::from_secs(3),
        clients: 8,
        faults,
        longest: Duration::from_millis(800),
        seed: u64::from(std::process::id()),
    };
    let findings = plan.run().await;
    eprint!("  seed {}: {}", plan.seed, findings.tell());
    assert_eq!(findings.idle(), None);
    findings
}

async fn holds(level: Level, faults: &[Fault]) {
    let findings = run(level, level, faults).await;
    assert!(findings.violations.is_empty(), "{} promises were not kept", findings.violations.len());
}

async fn eventual(_env: &Env) {
    holds(Level::Eventual, &[Fault::Deafen, Fault::Delay, Fault::Pause]).await;
}

async fn session(_env: &Env) {
    holds(Level::Session, &[Fault::Deafen, Fault::Kill, Fault::Pause]).await;
}

async fn database(_env: &Env) {
    holds(Level::Database, &[Fault::Delay, Fault::Freeze, Fault::Crash]).await;
}

async fn strong(_env: &Env) {
    holds(Level::Strong, &[Fault::Deafen, Fault::Switchover]).await;
}

/// The checker can find something: held to more than it was asked for, Howdah fails.
async fn what_is_not_promised_is_missed(_env: &Env) {
    let findings = run(Level::Eventual, Level::Database, &[Fault::Deafen, Fault::Delay]).await;
    assert!(!findings.violations.is_empty(), "stale reads were not noticed");
}
