//! PostgreSQL is the oracle: the same messages sent straight to it and through Howdah must bring
//! the same answers, message by message, byte by byte where that has a meaning.
//!
//! Each script runs four times: against the primary; through a Howdah with two servers and four noisy neighbours, in
//! one write per line and with every byte sent on its own; and through a Howdah that sends reads to replicas.
//!
//! | module | what it is |
//! |---|---|
//! | `script` | the format of scripts (`conversations/*.txt`) |
//! | `talk` | one script on one connection, and what was heard |
//! | `stage` | what scripts are played on, and how runs are compared |
//! | `neighbours` | other clients of the same pool, who also look for what a script leaves behind |
//! | `grammar`, `generated` | scripts made by proptest; `HOWDAH_ORACLE_CASES` asks for more of them |

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

mod generated;
mod grammar;
mod neighbours;
mod script;
mod stage;
mod talk;

use howdah_integration::session::Login;
use howdah_integration::suite::{self, Check, Env, Subject};
use howdah_integration::wire::Wire;

use script::{Script, scripts};
use stage::{Stage, Thoroughness, Verdict};

/// A file of scripts by name.
macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("conversations/", $name, ".txt")))
    };
}

/// Scripts that are known to differ, and why. One that does not any more must be taken off.
const KNOWN: [(&str, &str); 2] = [
    ("named: all at once", "docs/limitations.md: pg_prepared_statements, behind messages that are not answered yet"),
    ("named: what cannot be parsed any more", "docs/limitations.md: pg_prepared_statements"),
];

/// How the names of scripts begin that differ or not depending on which server comes, and why.
const BY_CHANCE: [(&str, &str); 17] = [
    ("set_config: for no rows", UNSEEN),
    ("set_config: in a branch that is not taken", UNSEEN),
    ("set_config: in a query that nobody reads", UNSEEN),
    ("several: function calls that set", UNSEEN),
    ("replay: a time zone as an interval", WORDS),
    ("replay: a value with a backslash", WORDS),
    ("replay: an application in another encoding", WORDS),
    ("startup: an encoding", RESET),
    ("startup: a DateStyle", RESET),
    ("startup: DEFAULT is them", RESET),
    ("startup: DISCARD ALL goes back to them", RESET),
    ("startup: RESET ALL goes back to them", RESET),
    ("startup: RESET goes back to them", RESET),
    ("startup: RESET in a transaction", RESET),
    ("definitions: prepared anew", DDL),
    ("statements: a plan whose result changes", DDL),
    ("startup: RESET in one message with its use", RESET),
];

/// Words in a script that make it one of these: settings that nobody has declared, and what was done with sequences
/// (docs/limitations.md).
const CHANCES: [&str; 3] = ["my.", "currval", "lastval"];

const UNSEEN: &str = "docs/limitations.md: set_config that is not called";
const WORDS: &str = "docs/limitations.md: settings are made again in the client's own words";
const DDL: &str = "docs/limitations.md: a prepared statement whose result changes";
const RESET: &str = "docs/limitations.md: RESET with startup settings";

fn main() -> std::process::ExitCode {
    let mut checks: Vec<Check> = howdah_integration::checks![
        login_says_the_same,
        queries_are_the_same,
        transactions_are_the_same,
        settings_are_the_same,
        configuration_is_the_same,
        statements_are_the_same,
        misfortunes_are_the_same,
        portals_are_the_same,
        temporary_objects_are_the_same,
        locks_are_the_same,
        copies_are_the_same,
    ]
    .to_vec();
    let generated =
        Check { name: "generated_scripts_are_the_same", run: |env| Box::pin(generated::block_is_the_same(env)) };
    checks.extend(std::iter::repeat_n(generated, generated::blocks()));
    suite::main(Subject::Drivers, &stage::CROWDED, &checks)
}

async fn login_says_the_same(env: &Env) {
    let startups: [&[(&str, &str)]; 4] = [
        &[],
        &[("application_name", "an application")],
        &[("options", "-c DateStyle=German -c search_path=oracle"), ("client_encoding", "LATIN1")],
        &[("TimeZone", "Asia/Tokyo"), ("extra_float_digits", "2"), ("IntervalStyle", "iso_8601")],
    ];
    for parameters in startups {
        let direct = Wire::connect_with(&Login::app(env.cluster.primary().port), parameters).await;
        let through = Wire::connect_with(&env.app(), parameters).await;
        assert_eq!(through.parameters, direct.parameters, "{parameters:?}");
        assert_eq!(through.key.len(), direct.key.len());
    }
    for minor in [0, 2, 9] {
        let direct = Wire::connect_in(minor, &Login::app(env.cluster.primary().port), &[]).await;
        let through = Wire::connect_in(minor, &env.app(), &[]).await;
        assert_eq!(through.negotiated, direct.negotiated, "3.{minor}");
        assert_eq!(through.key.len(), direct.key.len(), "3.{minor}");
    }
}

async fn queries_are_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("simple"), file!("several")]).await;
}

async fn transactions_are_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("transactions"), file!("savepoints")]).await;
}

async fn settings_are_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("settings"), file!("replay")]).await;
}

async fn configuration_is_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("set_config"), file!("startup")]).await;
}

async fn statements_are_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("statements"), file!("named"), file!("deallocate")]).await;
}

async fn misfortunes_are_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("misfortunes"), file!("definitions"), file!("hidden")]).await;
}

async fn portals_are_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("extended"), file!("portals")]).await;
}

async fn temporary_objects_are_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("temporary"), file!("discard")]).await;
}

async fn locks_are_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("locks")]).await;
}

async fn copies_are_the_same(env: &Env) {
    conversations_are_the_same(env, &[file!("copy"), file!("copies")]).await;
}

fn differs_by_chance(script: &Script) -> bool {
    let says = |word: &&str| {
        let mut sent = script.exchanges.iter().map(|exchange| &exchange.send);
        sent.any(|bytes| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
    };
    BY_CHANCE.iter().any(|(name, _)| script.name.starts_with(name)) || CHANCES.iter().any(says)
}

async fn conversations_are_the_same(env: &Env, files: &[(&str, &str)]) {
    let scripts: Vec<Script> = files.iter().flat_map(|(name, text)| scripts(name, text)).collect();
    let stage = Stage::set(env).await;
    let (mut different, mut leaky) = (Vec::new(), Vec::new());
    for script in &scripts {
        let verdict = stage.compare(script, Thoroughness::AllWays).await;
        match verdict {
            Verdict::Same => {}
            Verdict::Different(report) => {
                eprintln!("=== {}\n{report}", script.name);
                // Which server came may have decided, in a way that nobody has told apart yet: it is printed, and counts when
                // it happens again at once.
                let again = async || stage.compare(script, Thoroughness::FirstDifference).await;
                if !differs_by_chance(script) && matches!(again().await, Verdict::Different(_)) {
                    different.push(script.name.as_str());
                }
            }
            Verdict::Unanswered => panic!("{}: PostgreSQL itself does not answer", script.name),
        }
        let left = stage.leaks().await;
        // What Howdah is known not to see is what its audit finds.
        if !left.is_empty() && !differs_by_chance(script) {
            eprintln!("=== {} leaves something behind\n{}", script.name, left.join("\n"));
            leaky.push(script.name.as_str());
        }
    }
    stage.clear(scripts.len() as u64).await;
    let ours = |(name, _): &&(&'static str, &'static str)| scripts.iter().any(|script| script.name == *name);
    let known: Vec<&str> = KNOWN.iter().filter(ours).map(|(name, _)| *name).collect();
    assert!(leaky.is_empty(), "servers leaked after {leaky:?}");
    assert_eq!(different, known, "of {} scripts these differ, and the second list is known to", scripts.len());
}
