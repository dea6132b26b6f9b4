//! Reads are as fresh as the level promises while nodes pause, lag, freeze, die and change roles: a few seconds of what
//! `scripts/consistency` does for long.

use std::time::Duration;

use howdah_integration::consistency::check::Level;
use howdah_integration::consistency::nemesis::Fault;
use howdah_integration::consistency::run::{Findings, Plan};
use howdah_integration::suite::{self, Env, Subject};

fn main() -> std::process::ExitCode {
    suite::main(Subject::Howdah, &[], howdah_integration::checks![eventual, session, database, strong])
}

/// A short run; panics when it proves nothing.
async fn run(level: Level, faults: &[Fault]) -> Findings {
    let plan = Plan {
        level,
        tables: level != Level::Strong,
        lasts: Duration::from_secs(1),
        clients: 6,
        faults,
        longest: Duration::from_millis(500),
        seed: u64::from(std::process::id()),
    };
    let findings = plan.run().await;
    eprint!("  seed {}: {}", plan.seed, findings.tell(&findings.violations(level)));
    assert_eq!(findings.idle(), None);
    assert_eq!(findings.violations(level), [], "{}: promises were not kept", level.as_str());
    findings
}

/// And the checker can find something: held to more than it was asked for, Howdah fails.
async fn eventual(_env: &Env) {
    let findings = run(Level::Eventual, &[Fault::Deafen, Fault::Delay, Fault::Pause]).await;
    for level in [Level::Session, Level::Database, Level::Strong] {
        assert_ne!(findings.violations(level), [], "{}: stale reads were not noticed", level.as_str());
    }
}

async fn session(_env: &Env) {
    run(Level::Session, &[Fault::Deafen, Fault::Kill]).await;
}

async fn database(_env: &Env) {
    run(Level::Database, &[Fault::Freeze, Fault::Crash]).await;
}

async fn strong(_env: &Env) {
    run(Level::Strong, &[Fault::Delay, Fault::Switchover]).await;
}
