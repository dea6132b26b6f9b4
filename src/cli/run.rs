//! `howdah run -c FILE`: reads the configuration and hands it to `app`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config;
use crate::config::model::Config;

/// Serves clients until a signal ends it; a wrong configuration is refused before anything starts.
pub(super) fn run(path: &Path, errors: &mut dyn Write) -> ExitCode {
    match config::load(path) {
        Ok(config) => serve(&config, path, errors),
        Err(faults) => super::refuse(&faults, errors),
    }
}

/// The seam to `app`: logs, then the runtime, then `app::run(config, path)`.
fn serve(config: &Config, path: &Path, errors: &mut dyn Write) -> ExitCode {
    for warning in config.warnings() {
        let _ = writeln!(errors, "warning: {warning}");
    }
    let _ = writeln!(errors, "{}: this build has no server to run yet", path.display());
    ExitCode::FAILURE
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
