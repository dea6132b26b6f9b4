//! The `howdah` command: everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    howdah::cli::run(std::env::args_os())
}
