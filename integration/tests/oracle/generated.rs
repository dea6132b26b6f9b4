//! Runs scripts that the grammar makes, the same ones each time, and makes a small script of one that fails.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use howdah_integration::suite::Env;
use howdah_integration::tools;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::grammar;
use crate::script::{Script, scripts};
use crate::stage::{Stage, Thoroughness, Verdict};

/// How many scripts are made, unless the environment asks for more.
const CASES: u32 = 40;

/// How many of them one check runs, for which it has time.
const BLOCK: u32 = 50;

/// Another number makes other scripts.
const SEED: u8 = 1;

/// How long a check may take to make failing scripts smaller. When it is over, it looks for no more of them.
const SHRINKING: Duration = Duration::from_secs(80);

/// How much of that is for one script.
const SHRINKING_ONE: Duration = Duration::from_secs(40);

/// How often a script is tried that does not fail at once: which server it gets is up to the neighbours.
const TRIES: u32 = 2;

/// How many checks there are to run.
pub(crate) fn blocks() -> usize {
    cases().div_ceil(BLOCK) as usize
}

fn cases() -> u32 {
    let wanted = std::env::var("HOWDAH_ORACLE_CASES").ok();
    wanted.map_or(CASES, |cases| cases.parse().expect("HOWDAH_ORACLE_CASES is a number"))
}

/// The next block of scripts: each call takes another one.
pub(crate) async fn block_is_the_same(env: &Env) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let block = NEXT.fetch_add(1, Ordering::Relaxed);
    let count = BLOCK.min(cases().saturating_sub(block * BLOCK));
    let stage = Stage::set(env).await;
    let mut runner = runner(block);
    let strategy = grammar::lines();
    let mut shrinking = Duration::ZERO;
    let mut failures = Vec::new();
    for case in 0..count {
        let mut tree = strategy.new_tree(&mut runner).expect("the grammar refuses nothing");
        let Some(report) = fails(&stage, &tree.current(), 1).await else { continue };
        let start = Instant::now();
        let (lines, report) = shrunk(&stage, &mut tree, report).await;
        let text = format!("== case {case} of block {block}\n{}\n", lines.join("\n"));
        eprintln!("a script that differs:\n{text}\n{report}");
        failures.push(write(block, case, &text));
        shrinking += start.elapsed();
        if shrinking > SHRINKING {
            break;
        }
    }
    assert!(failures.is_empty(), "scripts that differ, kept in {failures:?}");
    stage.clear(u64::from(count)).await;
}

/// The block's own, always the same.
fn runner(block: u32) -> TestRunner {
    let mut seed = [SEED; 32];
    seed[..4].copy_from_slice(&block.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// How the script of `lines` differs, if it does.
async fn fails(stage: &Stage<'_>, lines: &[String], tries: u32) -> Option<String> {
    let script = parsed(lines);
    for _ in 0..tries {
        match stage.compare(&script, Thoroughness::FirstDifference).await {
            Verdict::Same => {}
            Verdict::Different(report) => return Some(report),
            // One that waits for itself proves nothing.
            Verdict::Unanswered => return None,
        }
    }
    None
}

/// The smallest script found that still fails, and how.
async fn shrunk(
    stage: &Stage<'_>,
    tree: &mut impl ValueTree<Value = Vec<String>>,
    report: String,
) -> (Vec<String>, String) {
    let end = Instant::now() + SHRINKING_ONE;
    let mut smallest = (tree.current(), report);
    let mut is_failing = true;
    while Instant::now() < end && if is_failing { tree.simplify() } else { tree.complicate() } {
        let lines = tree.current();
        match fails(stage, &lines, TRIES).await {
            Some(report) => (smallest, is_failing) = ((lines, report), true),
            None => is_failing = false,
        }
    }
    smallest
}

fn parsed(lines: &[String]) -> Script {
    let text = format!("== made\n{}\n", lines.join("\n"));
    scripts("generated", &text).pop().expect("one script")
}

/// Keeps a script where it outlives the cluster, to be run again and to become one of the written ones.
fn write(block: u32, case: u32, text: &str) -> PathBuf {
    let directory = tools::cache_directory().join("oracle");
    std::fs::create_dir_all(&directory).expect("the build directory is writable");
    let file = directory.join(format!("block-{block}-case-{case}.txt"));
    std::fs::write(&file, text).expect("the build directory is writable");
    file
}
