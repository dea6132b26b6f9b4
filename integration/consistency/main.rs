//! The long run of the freshness checker: `consistency [--level LEVEL] [--seconds N] [--clients N] [--longest MILLIS] [--seed N]
//! [--claim LEVEL] [--expect violations]`. Ends with 1 when a promise was not kept, and when the run proves nothing.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use howdah_integration::consistency::check::Level;
use howdah_integration::consistency::nemesis::Fault;
use howdah_integration::consistency::run::Plan;

type Options = HashMap<String, String>;

fn options() -> Result<Options, String> {
    let mut options = HashMap::new();
    let mut words = std::env::args().skip(1);
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

/// Whether all went as expected.
async fn consistency() -> Result<bool, String> {
    let options = options()?;
    let levels = level(&options, "level")?.map_or(Level::ALL.to_vec(), |level| vec![level]);
    let claim = level(&options, "claim")?;
    let broken = options.get("expect").is_some_and(|what| what == "violations");
    let mut well = true;
    for level in levels {
        let held_to = claim.unwrap_or(level);
        let plan = Plan {
            level,
            lasts: Duration::from_secs(number(&options, "seconds", 600)?),
            clients: usize::try_from(number(&options, "clients", 12)?).map_err(|error| error.to_string())?,
            faults: &Fault::ALL,
            longest: Duration::from_millis(number(&options, "longest", 3000)?),
            seed: number(&options, "seed", u64::from(std::process::id()))?,
        };
        eprintln!("{}, held to {}, seed {}", level.as_str(), held_to.as_str(), plan.seed);
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
    match consistency().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("consistency: {fault}");
            ExitCode::from(2)
        }
    }
}
