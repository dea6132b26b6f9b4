//! The benchmark's own load: what pgbench cannot do. Speaks the protocol itself and logs in by trust only.
//!
//! `load idle|run|bulk --port P --user U --database D …`; prints one JSON object per line on standard output.

mod bulk;
mod idle;
mod run;
mod wire;

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;

/// Any failure: it ends the load with its text on standard error.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The command line after the mode: names and their values.
struct Options(HashMap<String, String>);

impl Options {
    fn parse(words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = HashMap::new();
        let mut words = words;
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word}: an option begins with --"))?;
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            options.insert(name.to_owned(), value);
        }
        Ok(Self(options))
    }

    fn text(&self, name: &str) -> Result<&str, Failure> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("--{name} is missing").into())
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: Option<T>) -> Result<T, Failure> {
        match (self.0.get(name), default) {
            (Some(value), _) => value.parse().map_err(|_| format!("--{name}: {value} is no number").into()),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(format!("--{name} is missing").into()),
        }
    }
}

/// Writes one line for whoever drives this load, at once.
fn report(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

fn load() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let mode = words.next().ok_or("a mode is missing: idle, run or bulk")?;
    let options = Options::parse(words)?;
    match mode.as_str() {
        "idle" => idle::idle(&options),
        "run" => run::run(&options),
        "bulk" => bulk::bulk(&options),
        other => Err(format!("{other}: no such mode").into()),
    }
}

fn main() -> ExitCode {
    match load() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}
