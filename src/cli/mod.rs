//! The command line: which errand was asked for, and its exit code.
//!
//! Each errand has a file of its own; none of them knows how arguments are written.

mod check;
mod demo;
mod explain;
mod run;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Faults;

/// The command line is not understood, or the configuration is wrong.
const EXIT_USAGE: u8 = 2;

/// PostgreSQL connection pooler and replica router.
#[derive(Debug, Parser)]
#[command(name = "howdah", version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    errand: Option<Errand>,
    /// The configuration to run with, as `howdah run -c FILE`
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Errand {
    /// Serve clients until SIGTERM (let them finish) or SIGINT (at once); SIGHUP reads the file again
    Run {
        /// The configuration, in YAML
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration: exit code 0 if it can be used, 2 and every fault if it cannot
    Check {
        /// The configuration, in YAML
        file: PathBuf,
    },
    /// Say where a statement would go and why: asks the Howdah that runs with the configuration
    Explain(explain::Args),
    /// Start a primary, two streaming replicas and Howdah in front of them, for as long as you watch
    Demo(demo::Args),
}

/// Does what the arguments (the program's name first) ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(message) => return told(&message),
    };
    match (arguments.errand, arguments.file) {
        (Some(Errand::Run { config }), _) | (None, Some(config)) => run::run(&config, &mut io::stderr()),
        (Some(Errand::Check { file }), _) => check::check(&file, &mut io::stdout(), &mut io::stderr()),
        (Some(Errand::Explain(args)), _) => explain::explain(&args, &mut io::stdout(), &mut io::stderr()),
        (Some(Errand::Demo(args)), _) => demo::run(args),
        // clap shows the help before this can be.
        (None, None) => ExitCode::from(EXIT_USAGE),
    }
}

/// Prints clap's message: help and version are no failure, the rest is.
fn told(message: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the terminal is gone.
    let _ = message.print();
    u8::try_from(message.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Prints every fault on a line of its own.
fn refuse(faults: &Faults, errors: &mut dyn Write) -> ExitCode {
    // As above: the exit code tells the rest.
    let _ = writeln!(errors, "{faults}");
    ExitCode::from(EXIT_USAGE)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_accepts_its_own_definition() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn errands() {
        let check = |line: &str, expected: &str| {
            let parsed = Arguments::try_parse_from(line.split(' ').map(OsString::from)).unwrap();
            let found = match (parsed.errand, parsed.file) {
                (Some(Errand::Run { config }), None) => format!("run {}", config.display()),
                (Some(Errand::Check { file }), None) => format!("check {}", file.display()),
                (None, Some(file)) => format!("run {}", file.display()),
                other => format!("{other:?}"),
            };
            assert_eq!(found, expected, "{line}");
        };
        check("howdah run -c a.yaml", "run a.yaml");
        check("howdah run --config a.yaml", "run a.yaml");
        check("howdah a.yaml", "run a.yaml");
        check("howdah check a.yaml", "check a.yaml");
        check("howdah ./check", "run ./check");
    }

    #[test]
    fn what_is_not_understood_exits_with_2() {
        for line in ["howdah run", "howdah check", "howdah a.yaml b.yaml", "howdah --colour", "howdah"] {
            let arguments = line.split(' ').map(OsString::from);
            let error = Arguments::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        for line in ["howdah --help", "howdah --version"] {
            let arguments = line.split(' ').map(OsString::from);
            let error = Arguments::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 0, "{line}");
        }
    }
}
