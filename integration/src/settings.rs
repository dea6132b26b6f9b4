//! Howdah's configuration file, as a tree that tests change by path.
//!
//! Values are YAML in flow style, which needs no indentation.

use std::collections::BTreeMap;
use std::fmt;

use crate::cluster::TestCluster;
use crate::{APP_PASSWORD, APP_USER, MONITOR_PASSWORD, MONITOR_USER, SUPERUSER, SUPERUSER_PASSWORD};

/// A configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, Value>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Leaf(String),
    Section(Settings),
}

impl Settings {
    /// What every test starts from: scram, three users, all databases on one cluster whose nodes
    /// are listed with the primary in the middle (roles are discovered, order must not matter).
    pub fn new(cluster: &TestCluster, port: u16, metrics_port: u16) -> Self {
        let mut nodes: Vec<String> = cluster
            .nodes()
            .iter()
            .map(|node| format!("{{name: {}, address: '127.0.0.1:{}'}}", node.name, node.port))
            .collect();
        nodes.swap(0, 1);
        let level = std::env::var("HOWDAH_LOG").unwrap_or_else(|_| "info".into());
        Self::default()
            .with("listen", &format!("[{{address: '127.0.0.1:{port}'}}]"))
            .with("auth.method", "scram-sha-256")
            .with("users", &users_and(&[(SUPERUSER, SUPERUSER_PASSWORD)]))
            .with("clusters.main.nodes", &format!("[{}]", nodes.join(", ")))
            .with("clusters.main.monitor.user", MONITOR_USER)
            .with("clusters.main.monitor.password", MONITOR_PASSWORD)
            .with("clusters.main.monitor.database", "postgres")
            .with("databases", "[{name: '*', cluster: main}]")
            .with("pool.mode", "transaction")
            .with("pool.size", "20")
            // Every server is asked what it carries whenever it comes back, and a leak fails the test (`Howdah::leaks`).
            .with("pool.audit", "1")
            .with("routing.reads", "replicas")
            // On a busy machine a replica may need longer than the default to catch up; where reads go is to be certain.
            .with("routing.wait", "1s")
            .with("admin.users", &format!("[{MONITOR_USER}]"))
            .with("metrics.address", &format!("'127.0.0.1:{metrics_port}'"))
            .with("log.level", &format!("'{level}'"))
    }

    /// Sets the key at `path` (`pool.size`) to a YAML value.
    #[must_use]
    pub fn with(mut self, path: &str, value: &str) -> Self {
        self.set(path, value);
        self
    }

    fn set(&mut self, path: &str, value: &str) {
        let Some((section, rest)) = path.split_once('.') else {
            self.0.insert(path.into(), Value::Leaf(value.into()));
            return;
        };
        let entry = self.0.entry(section.into()).or_insert_with(|| Value::Section(Self::default()));
        let Value::Section(inner) = entry else { panic!("{section} is not a section") };
        inner.set(rest, value);
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (key, value) in &self.0 {
            match value {
                Value::Leaf(text) => writeln!(f, "{key}: {text},")?,
                Value::Section(inner) => writeln!(f, "{key}: {inner},")?,
            }
        }
        f.write_str("}")
    }
}

/// The application's user and the monitor's, and `more` of them, in the configuration's words.
#[must_use]
pub fn users_and(more: &[(&str, &str)]) -> String {
    let own = [(APP_USER, APP_PASSWORD), (MONITOR_USER, MONITOR_PASSWORD)];
    let all = own.iter().chain(more).map(|(name, password)| format!("{{name: {name}, password: '{password}'}}"));
    format!("[{}]", all.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_make_sections() {
        let settings = Settings::default().with("pool.size", "5").with("pool.mode", "session").with("pool.size", "6");
        assert_eq!(settings.to_string(), "{pool: {mode: session,\nsize: 6,\n},\n}");
    }
}
