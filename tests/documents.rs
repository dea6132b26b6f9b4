//! The configurations outside `config.example.yaml` are true too: the README's and the container's load.

use std::path::Path;

use howdah::config;
use howdah::config::model::Config;

const README: &str = include_str!("../README.md");
const CONTAINER: &str = include_str!("../docker/howdah.yaml");

/// The configuration that `text` gives once its passwords are there.
fn load(text: &str) -> Config {
    let text = text.replace("${APP_PASSWORD}", "app-secret").replace("${HOWDAH_PASSWORD}", "howdah-secret");
    assert!(!text.contains("${"), "a variable that nobody sets");
    config::parse(&text, Path::new(".")).unwrap_or_else(|faults| panic!("{faults}"))
}

/// What must hold for both: three nodes, and a monitor and a console that can log in.
fn check(config: &Config) {
    let nodes: Vec<&str> =
        config.clusters.iter().flat_map(|cluster| &cluster.nodes).map(|node| node.name.as_str()).collect();
    assert_eq!(nodes, ["pg1", "pg2", "pg3"]);
    assert!(config.user("app").is_some() && config.user("howdah").is_some());
    assert!(config.database("anything").is_some());
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn the_readme_shows_a_configuration_that_loads() {
    let block = README.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    check(&load(block.unwrap_or_else(|| panic!("the README has no YAML"))));
}

#[test]
fn the_containers_configuration_loads() {
    let config = load(CONTAINER);
    check(&config);
    assert!(config.metrics.is_some(), "docker-compose.yml asks /readyz");
}
