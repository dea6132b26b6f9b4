//! The example and the manual tell the truth: the example loads as it stands, shows every default, and
//! no key that the reader understands is missing from either.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::Path;

use howdah::config::{self, known_keys};

const EXAMPLE: &str = include_str!("../config.example.yaml");
const MANUAL: &str = include_str!("../docs/configuration.md");

/// The files that the example names in commented keys.
const FILES: &[&str] = &["server.crt", "server.key", "ca.crt", "client.crt", "client.key", "pg_hba.conf"];

/// A directory with (empty) files of these names that goes away with the value.
struct Certificates(std::path::PathBuf);

impl Certificates {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("howdah-example-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for file in FILES {
            std::fs::write(path.join(file), "").unwrap();
        }
        Self(path)
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The example with every commented key in use: `#key:` and `#- key:` are keys, `# text` is text, and
/// within a commented entry `#  key:` goes on.
fn uncommented() -> String {
    let mut lines = Vec::new();
    let mut in_entry = false;
    for line in EXAMPLE.lines() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        let rest = trimmed.strip_prefix('#');
        in_entry = rest.is_some_and(|rest| rest.starts_with("- ") || in_entry && rest.starts_with("  "));
        match rest {
            Some(rest) if in_entry || rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
                lines.push(format!("{indent}{rest}"));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

/// As [`uncommented`], without the key that takes the place of another.
fn usable() -> String {
    let lines: Vec<_> = uncommented().lines().filter(|line| !line.contains("hba_file:")).map(str::to_owned).collect();
    lines.join("\n")
}

/// The keys that `text` gives a value, as `known_keys` writes them.
fn keys(text: &str) -> BTreeSet<String> {
    fn walk(value: &serde_yaml::Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            serde_yaml::Value::Mapping(mapping) => {
                for (key, value) in mapping {
                    let key = if path == "clusters" { "*" } else { key.as_str().unwrap() };
                    let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                    walk(value, &path, found);
                }
            }
            serde_yaml::Value::Sequence(items) if items.iter().all(serde_yaml::Value::is_mapping) => {
                for item in items {
                    walk(item, &format!("{path}[]"), found);
                }
            }
            _ => {
                found.insert(path.to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&serde_yaml::from_str(text).unwrap(), "", &mut found);
    found
}

#[test]
fn the_example_loads_as_it_stands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.yaml");
    let config = config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.warnings(), [""; 0]);
}

#[test]
fn the_example_shows_every_key_with_a_value_that_is_accepted() {
    let text = uncommented();
    assert_eq!(keys(&text), known_keys(), "{text}");
    let certificates = Certificates::new("accepted");
    let by_file = text.replace("  method: scram-sha-256\n", "");
    for text in [usable(), by_file] {
        if let Err(faults) = config::parse(&text, &certificates.0) {
            panic!("{text}\n{faults}");
        }
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let certificates = Certificates::new("defaults");
    let shown = config::parse(&usable(), &certificates.0).unwrap();
    let least = "
users: [{name: app, password: x}]
clusters: {main: {nodes: [{name: pg1, address: h}], monitor: {user: howdah}}}
databases: [{name: '*', cluster: main}]
";
    let default = config::parse(least, Path::new("")).unwrap();
    assert_eq!(shown.listen[0], default.listen[0]);
    assert_eq!(shown.auth, default.auth);
    assert_eq!(shown.pool, default.pool);
    assert_eq!(shown.pins, default.pins);
    assert_eq!(shown.routing, default.routing);
    assert_eq!(shown.limits, default.limits);
    assert_eq!(shown.log, default.log);
    assert_eq!((shown.workers, shown.shutdown_timeout), (default.workers, default.shutdown_timeout));
    let (shown, default) = (&shown.clusters[0], &default.clusters[0]);
    assert_eq!((shown.hold, shown.tls.mode), (default.hold, default.tls.mode));
    assert_eq!(shown.nodes[0].weight, default.nodes[0].weight);
    assert_eq!(shown.monitor.database, default.monitor.database);
    assert_eq!((shown.monitor.interval, shown.monitor.timeout), (default.monitor.interval, default.monitor.timeout));
}

#[test]
fn the_manual_has_a_row_for_every_key_and_for_no_other() {
    let rows: BTreeSet<String> = MANUAL
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect();
    assert_eq!(rows, known_keys());
}
