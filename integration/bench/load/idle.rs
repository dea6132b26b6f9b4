//! Many clients that do next to nothing, in stages: between two stages the pooler's memory is measured.

use std::io::BufRead as _;

use crate::{Failure, Options, report, wire};

/// Logs `--clients` in, has each run one simple and then one prepared statement; waits for a line on standard
/// input after each of the three.
pub(crate) fn idle(options: &Options) -> Result<(), Failure> {
    let clients: usize = options.number("clients", None)?;
    let mut lines = std::io::stdin().lock().lines();
    let mut streams = Vec::with_capacity(clients);
    for _ in 0..clients {
        streams.push(wire::connect(options)?);
    }
    report(r#"{"stage":"login"}"#)?;
    for (stage, request) in [("simple", wire::query("SELECT 1")), ("prepared", wire::prepared("s1", "SELECT 1"))] {
        let _ = lines.next();
        for stream in &mut streams {
            wire::ask(stream, &request)?;
        }
        report(&format!(r#"{{"stage":"{stage}"}}"#))?;
    }
    let _ = lines.next();
    Ok(())
}
