//! `howdah run -c FILE`: reads the configuration and hands it to `app`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::app;
use crate::config;
use crate::config::model::{Config, LogFormat};
use crate::telemetry::trace::{self, Format};

/// Serves clients until a signal ends it; a wrong configuration is refused before anything starts.
pub(super) fn run(path: &Path, errors: &mut dyn Write) -> ExitCode {
    match config::load(path) {
        Ok(config) => serve(config, path, errors),
        Err(faults) => super::refuse(&faults, errors),
    }
}

/// Logs first, then the runtime, then everything that runs in it.
fn serve(config: Config, path: &Path, errors: &mut dyn Write) -> ExitCode {
    let format = match config.log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let level = match trace::init(&config.log.level, format) {
        Ok(level) => level,
        Err(error) => {
            let _ = writeln!(errors, "log.level: {error}");
            return ExitCode::from(super::EXIT_USAGE);
        }
    };
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(errors, "cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(app::run(config, path.to_owned(), Some(level))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(errors, "{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_is_refused_with_its_faults() {
        let mut errors = Vec::new();
        let code = run(Path::new("/nonexistent/howdah.yaml"), &mut errors);
        assert_eq!(code, ExitCode::from(2));
        assert!(String::from_utf8(errors).unwrap().starts_with("/nonexistent/howdah.yaml: cannot be read ("));
    }
}
