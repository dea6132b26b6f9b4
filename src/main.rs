//! The `howdah` command: everything is in the library, so that tests reach it.

use std::process::ExitCode;

/// Every batch takes and gives back a little memory; glibc's allocator spends a tenth of Howdah's instructions on it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    howdah::cli::run(std::env::args_os())
}
