//! The long run of the freshness checker: `consistency [--level LEVEL] [--seconds N] [--clients N] [--longest MILLIS] [--seed N]
//! [--claim LEVEL] [--expect violations]`. Ends with 1 when a promise was not kept, and when the run proves nothing.
//!
//! And `consistency share [--seconds N]`: how many reads replicas answer while pgbench writes.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use howdah_integration::consistency::check::Level;
use howdah_integration::consistency::nemesis::Fault;
use howdah_integration::consistency::run::Plan;
use howdah_integration::consistency::share::{self, Share};

type Options = HashMap<String, String>;

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = HashMap::new();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").ok_or_else(|| format!("{word}: an option begins with --"))?;
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        options.insert(name.to_owned(), value);
    }
    Ok(options)
}

fn number(options: &Options, name: &str, default: u64) -> Result<u64, String> {
    options.get(name).map_or(Ok(default), |text| text.parse().map_err(|_| format!("--{name}: {text} is no number")))
}

fn level(options: &Options, name: &str) -> Result<Option<Level>, String> {
    let Some(word) = options.get(name) else { return Ok(None) };
    let found = Level::ALL.into_iter().find(|level| level.as_str() == word);
    found.map(Some).ok_or_else(|| format!("--{name}: {word} is no level"))
}

/// Prints a line for each level and kind of client.
async fn shares(options: &Options) -> Result<bool, String> {
    let lasts = Duration::from_secs(number(options, "seconds", 20)?);
    let told = |share: Share| {
        #[allow(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = share.by_replicas as f64 * 100.0 / share.reads.max(1) as f64;
        let level = share.level.as_str();
        let level = if share.tables { format!("{level} with tables") } else { level.to_owned() };
        eprintln!("{level:20} {} % writes: {percent:5.1} % of {} reads by replicas", share.writes, share.reads);
    };
    share::measure(lasts, told).await;
    Ok(true)
}

/// Whether all went as expected.
async fn checked(options: &Options) -> Result<bool, String> {
    let levels = level(options, "level")?.map_or_else(|| Level::ALL.to_vec(), |level| vec![level]);
    let claim = level(options, "claim")?;
    let tables = options.get("tables").is_some_and(|value| value == "true");
    let broken = options.get("expect").is_some_and(|what| what == "violations");
    let mut well = true;
    for level in levels {
        let held_to = claim.unwrap_or(level);
        let plan = Plan {
            level,
            tables,
            lasts: Duration::from_secs(number(options, "seconds", 600)?),
            clients: usize::try_from(number(options, "clients", 12)?).map_err(|error| error.to_string())?,
            faults: &Fault::ALL,
            longest: Duration::from_millis(number(options, "longest", 3000)?),
            seed: number(options, "seed", u64::from(std::process::id()))?,
        };
        let narrow = if tables { " with tables" } else { "" };
        eprintln!("{}{narrow}, held to {}, seed {}", level.as_str(), held_to.as_str(), plan.seed);
        let findings = plan.run().await;
        let violations = findings.violations(held_to);
        eprint!("{}", findings.tell(&violations));
        let idle = findings.idle();
        if let Some(why) = idle {
            eprintln!("  this proves nothing: {why}");
        }
        well &= idle.is_none() && violations.is_empty() != broken;
    }
    Ok(well)
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let share = words.next_if(|word| word == "share").is_some();
    let well = match parse(words) {
        Ok(options) if share => shares(&options).await,
        Ok(options) => checked(&options).await,
        Err(fault) => Err(fault),
    };
    match well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("consistency: {fault}");
            ExitCode::from(2)
        }
    }
}
