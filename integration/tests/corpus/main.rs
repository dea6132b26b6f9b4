//! Is what Howdah takes for a read one, and does it take most reads for one? Statements that others have written, each
//! classified with the catalog as it is at that moment, and run on a real standby as well.
//!
//! ```text
//!   psql, Django, SQLAlchemy ── Tap ──┬── primary    the session itself, and what is different after a read
//!                                     ├── primary    a twin: is the result the same at all when asked twice?
//!                                     └── standby    has replayed every commit: remote_apply
//! ```
//!
//! As a test it runs what the two ORMs say. `scripts/corpus` has it run PostgreSQL's regression tests too.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

mod facts;
mod ledger;
mod sources;
mod tap;
mod touched;
mod twin;

use std::process::ExitCode;

use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::{TestCluster, checks};

use ledger::Ledger;

fn main() -> ExitCode {
    match std::env::var("HOWDAH_CORPUS") {
        Ok(wanted) => chosen(&wanted),
        Err(_) => suite::main(Subject::Harness, &[], checks![object_relational_mappers]),
    }
}

async fn object_relational_mappers(env: &Env) {
    sources::prepare(&env.cluster).await;
    let ledgers = [sources::django(&env.cluster).await, sources::sqlalchemy(&env.cluster).await];
    eprint!("{}{}", ledger::details(&ledgers), ledger::table(&ledgers));
    assert!(ledgers.iter().all(Ledger::is_good), "see above");
}

/// The corpora named; tells what it found on standard output, and more of it on standard error.
#[allow(clippy::print_stdout, reason = "the figures are what this is run for")]
fn chosen(wanted: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime starts");
    runtime.block_on(async {
        let cluster = TestCluster::start().await;
        sources::prepare(&cluster).await;
        let mut ledgers = Vec::new();
        for name in wanted.split_whitespace() {
            ledgers.push(match name {
                "django" => sources::django(&cluster).await,
                "sqlalchemy" => sources::sqlalchemy(&cluster).await,
                "postgresql" => sources::postgresql(&cluster).await,
                _ => panic!("no corpus {name}"),
            });
        }
        let (table, details) = (ledger::table(&ledgers), ledger::details(&ledgers));
        eprint!("{details}");
        println!("{table}");
        if ledgers.iter().all(Ledger::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}
