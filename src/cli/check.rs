//! `howdah check FILE`: whether a configuration can be used, without using it.
//!
//! Opens no connection; what the servers think of it shows only when it runs.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config;
use crate::config::model::Config;

/// Prints a summary and what is odd to `output`, or every fault to `errors`.
pub(super) fn check(path: &Path, output: &mut dyn Write, errors: &mut dyn Write) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => return super::refuse(&faults, errors),
    };
    // A closed pipe (`| head -1`) is no reason to fail: the exit code is the answer.
    let _ = writeln!(output, "{}: ok ({})", path.display(), summary(&config));
    for warning in config.warnings() {
        let _ = writeln!(output, "warning: {warning}");
    }
    ExitCode::SUCCESS
}

fn summary(config: &Config) -> String {
    let nodes = config.clusters.iter().map(|cluster| cluster.nodes.len()).sum();
    [
        counted(config.listen.len(), "listener"),
        counted(config.users.len(), "user"),
        counted(config.databases.len(), "database"),
        counted(config.clusters.len(), "cluster"),
        counted(nodes, "node"),
    ]
    .join(", ")
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A file of this test process that goes away with the value.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("howdah-check-{}-{name}.yaml", std::process::id()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn checked(path: &Path) -> (ExitCode, String, String) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let code = check(path, &mut output, &mut errors);
        (code, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[test]
    fn a_good_file_is_summed_up_with_its_warnings() {
        let file = Scratch::new(
            "good",
            "users: [{name: app, password: x}]\n\
             clusters:\n  main: {nodes: [{name: a, address: h}], monitor: {user: m}}\n  \
             spare: {nodes: [{name: b, address: h}], monitor: {user: m}}\n\
             databases: [{name: '*', cluster: main}]\n",
        );
        let (code, output, errors) = checked(&file.0);
        let name = file.0.display();
        assert_eq!(
            output,
            format!(
                "{name}: ok (1 listener, 1 user, 1 database, 2 clusters, 2 nodes)\n\
                 warning: clusters.spare: no database uses it\n"
            )
        );
        assert_eq!((code, errors.as_str()), (ExitCode::SUCCESS, ""));
    }

    #[test]
    fn a_wrong_file_gets_one_line_per_fault() {
        let file = Scratch::new("wrong", "pool: {sise: 5}\nusers: [{name: app, password: x}]\n");
        let (code, output, errors) = checked(&file.0);
        assert_eq!((code, output.as_str()), (ExitCode::from(2), ""));
        assert_eq!(errors.lines().count(), 3, "{errors}");
        assert!(errors.contains("pool.sise: unknown key; did you mean `size`?\n"), "{errors}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let (code, output, errors) = checked(Path::new("/nonexistent/howdah.yaml"));
        assert_eq!((code, output.as_str()), (ExitCode::from(2), ""));
        assert!(errors.starts_with("/nonexistent/howdah.yaml: cannot be read ("), "{errors}");
    }
}
