//! Log lines: where they go (standard error), how they look, and which are written.
//!
//! The subscriber is the one thing of a process that `tracing` itself wants to be global; it is
//! installed once by `cli`, and only its level can change afterwards.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One human-readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The level is not a filter (`log.level`).
    #[error("{level:?} is not a log filter such as `info` or `howdah::cluster=debug,info`: {source}")]
    Level {
        /// What was given.
        level: String,
        /// What `tracing-subscriber` says.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A subscriber was installed before, or has gone.
    #[error("logging is set up once per process: {0}")]
    Installed(String),
}

/// Changes the level of a running process.
#[derive(Clone, Debug)]
pub struct Level {
    handle: reload::Handle<EnvFilter, Registry>,
}

/// Sends events that `level` lets pass to standard error, in `format`.
pub fn init(level: &str, format: Format) -> Result<Level, TraceError> {
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let lines = match format {
        Format::Text => lines.with_ansi(false).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| TraceError::Installed(error.to_string()))?;
    Ok(Level { handle })
}

// === impl Level ===

impl Level {
    /// From now on writes what `level` lets pass; the old level stays when it is not a filter.
    pub fn set(&self, level: &str) -> Result<(), TraceError> {
        self.handle.reload(parse(level)?).map_err(|error| TraceError::Installed(error.to_string()))
    }
}

fn parse(level: &str) -> Result<EnvFilter, TraceError> {
    let parse = |level: &str| EnvFilter::builder().parse(level);
    // The parser would log statements token by token, with whatever secrets are in them.
    parse(level)
        .and_then(|_| parse(&format!("{level},sqlparser=off")))
        .map_err(|source| TraceError::Level { level: level.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        for good in ["info", "howdah::cluster=debug,info", "off"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let error = parse("howdah=loud").unwrap_err().to_string();
        assert!(error.starts_with("\"howdah=loud\" is not a log filter"), "{error}");
    }

    #[test]
    fn a_running_level_changes_unless_the_new_one_is_wrong() {
        let (filter, handle) = reload::Layer::<EnvFilter, Registry>::new(parse("info").unwrap());
        let level = Level { handle: handle.clone() };
        level.set("debug").unwrap();
        assert!(level.set("howdah=loud").is_err());
        assert_eq!(handle.with_current(ToString::to_string).unwrap(), "sqlparser=off,debug");
        drop(filter);
        assert!(matches!(level.set("info"), Err(TraceError::Installed(_))));
    }
}
