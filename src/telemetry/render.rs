//! A `Snapshot` in Prometheus' text format.
//!
//! Counters and gauges go through a recorder that lives for one page, so that the series of a pool
//! or node that is gone go with it. Histograms are written here: the exporter's own want every
//! single observation, and Howdah keeps counts per bucket.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::counters::{LATENCY_BOUNDS_US, LatencyTotals};
use super::names::{self, Metric};
use super::snapshot::{Cluster, Health, Phase, Pool, Role, Snapshot};

/// The page that `/metrics` shows.
#[must_use]
pub fn page(snapshot: &Snapshot) -> String {
    let page = Page { recorder: PrometheusBuilder::new().build_recorder() };
    for metric in names::ALL {
        metric.describe(&page.recorder);
    }
    page.process(snapshot);
    page.clients(snapshot);
    page.routing(snapshot);
    for cluster in &snapshot.clusters {
        page.cluster(cluster);
    }
    for pool in &snapshot.pools {
        page.pool(pool);
    }
    let mut text = page.recorder.handle().render();
    histogram(&mut text, names::POOL_TRANSACTION_TIME, &snapshot.pools, |pool| &pool.stats.xact_time);
    histogram(&mut text, names::POOL_QUERY_TIME, &snapshot.pools, |pool| &pool.stats.query_time);
    histogram(&mut text, names::POOL_WAIT_TIME, &snapshot.pools, |pool| &pool.stats.wait_time);
    text
}

struct Page {
    recorder: PrometheusRecorder,
}

/// Names and values of the labels of one series.
type Labels<'a> = &'a [(&'static str, &'a str)];

// === impl Page ===

impl Page {
    fn process(&self, snapshot: &Snapshot) {
        let started = snapshot.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.gauge(names::BUILD_INFO, &[("version", snapshot.version)], 1.0);
        self.gauge(names::START_TIME, &[], started.as_secs_f64());
        self.gauge(names::SHUTTING_DOWN, &[], f64::from(snapshot.phase == Phase::ShuttingDown));
    }

    fn clients(&self, snapshot: &Snapshot) {
        self.gauge(names::CLIENTS_CONNECTED, &[], count(snapshot.clients_connected));
        self.gauge(names::CLIENTS_LOGGING_IN, &[], count(snapshot.clients_logging_in));
        self.gauge(names::CLIENTS_MAX, &[], count(snapshot.clients_max));
        self.counter(names::LOGIN_FAILURES, &[], snapshot.login_failures);
        for clients in &snapshot.clients {
            let labels: Labels<'_> = &[("database", clients.database.as_str()), ("user", clients.user.as_str())];
            self.counter(names::LOGINS, labels, clients.stats.logins);
            self.counter(names::CLIENT_RECEIVED, labels, clients.stats.bytes_received);
            self.counter(names::CLIENT_SENT, labels, clients.stats.bytes_sent);
            self.counter(names::CLIENT_PARSES, labels, clients.stats.client_parse_count);
            self.counter(names::CLIENT_BINDS, labels, clients.stats.bind_count);
        }
    }

    fn routing(&self, snapshot: &Snapshot) {
        for routed in &snapshot.routed {
            let labels = [("class", routed.class), ("target", routed.target), ("reason", routed.reason)];
            self.counter(names::ROUTED, &labels, routed.count);
        }
        for (cause, count) in &snapshot.retries {
            self.counter(names::RETRIES, &[("cause", cause)], *count);
        }
        for (outcome, count) in &snapshot.cancels {
            self.counter(names::CANCELS, &[("outcome", outcome)], *count);
        }
        for pins in &snapshot.pins {
            self.gauge(names::PINS, &[("reason", pins.reason)], count(pins.current));
            self.counter(names::PINS_TOTAL, &[("reason", pins.reason)], pins.total);
            for (cause, count) in [("policy", pins.rejected), ("budget", pins.over_budget)] {
                self.counter(names::PINS_REFUSED, &[("reason", pins.reason), ("cause", cause)], count);
            }
        }
        self.counter(names::PIN_TIMEOUTS, &[], snapshot.pin_timeouts);
        self.counter(names::AUDITS, &[], snapshot.audits);
        for (kind, count) in &snapshot.leaks {
            self.counter(names::LEAKS, &[("kind", kind)], *count);
        }
        for (class, count) in &snapshot.errors {
            self.counter(names::ERRORS, &[("class", class)], *count);
        }
    }

    fn cluster(&self, cluster: &Cluster) {
        let name = ("cluster", cluster.name.as_str());
        self.gauge(names::CLUSTER_HAS_PRIMARY, &[name], f64::from(cluster.primary.is_some()));
        self.counter(names::SAMPLES, &[name], cluster.samples);
        self.counter(names::SAMPLER_WAITS, &[name], cluster.sampler_waits);
        self.counter(names::SAMPLER_TIMEOUTS, &[name], cluster.sampler_timeouts);
        self.counter(names::NOTIFICATIONS, &[name], cluster.notifications);
        self.counter(names::NOTIFY_OVERFLOWS, &[name], cluster.notify_overflows);
        self.counter(names::NOTIFY_LOSSES, &[name], cluster.notify_losses);
        for listener in &cluster.listeners {
            let labels: Labels<'_> =
                &[name, ("database", listener.database.as_str()), ("encoding", listener.encoding.as_str())];
            self.gauge(names::LISTENING, labels, f64::from(listener.connection.is_ok()));
            self.gauge(names::LISTENING_CHANNELS, labels, count(listener.channels));
            self.gauge(names::LISTENING_CLIENTS, labels, count(listener.clients));
        }
        for node in &cluster.nodes {
            let labels: Labels<'_> = &[name, ("node", node.name.as_str())];
            self.gauge(names::NODE_UP, labels, f64::from(node.health == Health::Up));
            for role in [Role::Primary, Role::Replica, Role::Unknown] {
                let labels = [labels[0], labels[1], ("role", role.as_str())];
                self.gauge(names::NODE_ROLE, &labels, f64::from(node.role == role));
            }
            if let Some(lag) = node.lag {
                self.gauge(names::NODE_LAG, labels, lag.as_secs_f64());
            }
            if let Some(bytes) = node.lag_bytes {
                self.gauge(names::NODE_LAG_BYTES, labels, count(bytes));
            }
            if let Some(position) = node.replay_lsn {
                self.gauge(names::NODE_REPLAY, labels, count(position.0));
            }
            if let Some(timeline) = node.timeline {
                self.gauge(names::NODE_TIMELINE, labels, f64::from(timeline.0));
            }
        }
    }

    fn pool(&self, pool: &Pool) {
        let labels = &pool_labels(pool);
        let with = |state: &'static str| {
            let [cluster, node, role, database, user] = *labels;
            [cluster, node, role, database, user, ("state", state)]
        };
        self.gauge(names::POOL_CLIENTS, &with("active"), count(pool.clients_active));
        self.gauge(names::POOL_CLIENTS, &with("waiting"), count(pool.clients_waiting));
        self.gauge(names::POOL_MAX_WAIT, labels, pool.max_wait.as_secs_f64());
        self.gauge(names::POOL_SERVERS, &with("active"), count(pool.servers_active));
        self.gauge(names::POOL_SERVERS, &with("canceling"), count(pool.servers_canceling));
        self.gauge(names::POOL_SERVERS, &with("idle"), count(pool.servers_idle));
        self.gauge(names::POOL_SERVERS, &with("opening"), count(pool.servers_opening));
        self.gauge(names::POOL_PINNED, labels, count(pool.servers_pinned));
        self.gauge(names::POOL_SIZE, labels, count(pool.size));
        self.counter(names::POOL_ASSIGNMENTS, labels, pool.stats.server_assignment_count);
        self.counter(names::POOL_TRANSACTIONS, labels, pool.stats.xact_count);
        self.counter(names::POOL_QUERIES, labels, pool.stats.query_count);
        self.counter(names::POOL_PARSES, labels, pool.stats.server_parse_count);
        self.counter(names::SERVER_CONNECTS, labels, pool.servers.connects);
        self.counter(names::SERVER_CONNECT_FAILURES, labels, pool.servers.connect_failures);
        self.counter(names::SERVER_DISCONNECTS, labels, pool.servers.disconnects);
        self.counter(names::SERVER_RECEIVED, labels, pool.servers.bytes_received);
        self.counter(names::SERVER_SENT, labels, pool.servers.bytes_sent);
    }

    fn counter(&self, metric: Metric, labels: Labels<'_>, value: u64) {
        self.recorder.register_counter(&key(metric, labels), &METADATA).absolute(value);
    }

    fn gauge(&self, metric: Metric, labels: Labels<'_>, value: f64) {
        self.recorder.register_gauge(&key(metric, labels), &METADATA).set(value);
    }
}

fn pool_labels(pool: &Pool) -> [(&'static str, &str); 5] {
    [
        ("cluster", pool.cluster.as_str()),
        ("node", pool.node.as_str()),
        ("role", pool.role.as_str()),
        ("database", pool.database.as_str()),
        ("user", pool.user.as_str()),
    ]
}

fn key(metric: Metric, labels: Labels<'_>) -> Key {
    let labels: Vec<Label> = labels.iter().map(|&(name, value)| Label::new(name, value.to_owned())).collect();
    Key::from_parts(metric.name, labels)
}

/// Exact up to 2^53; metrics have no integers for what may also shrink.
#[allow(clippy::cast_precision_loss, reason = "Prometheus' values are floating point numbers")]
fn count(count: u64) -> f64 {
    count as f64
}

// === Histograms ===

fn histogram(out: &mut String, metric: Metric, pools: &[Pool], of: impl Fn(&Pool) -> &LatencyTotals) {
    if pools.is_empty() {
        return;
    }
    let name = metric.name;
    line(out, format_args!("# HELP {name} {}", metric.help));
    line(out, format_args!("# TYPE {name} histogram"));
    for pool in pools {
        let labels = pool_labels(pool).map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).join(",");
        let (totals, mut below) = (of(pool), 0);
        for (bound, events) in LATENCY_BOUNDS_US.iter().zip(totals.buckets) {
            below += events;
            line(out, format_args!("{name}_bucket{{{labels},le=\"{}\"}} {below}", seconds(*bound)));
        }
        line(out, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {}", totals.count()));
        line(out, format_args!("{name}_sum{{{labels}}} {}", seconds(totals.sum_us)));
        line(out, format_args!("{name}_count{{{labels}}} {}", totals.count()));
    }
    out.push('\n');
}

fn line(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

fn seconds(micros: u64) -> f64 {
    count(micros) / 1e6
}

/// A label's value as the text format wants it inside quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

const METADATA: Metadata<'static> = Metadata::new("howdah", Level::INFO, None);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::snapshot::tests::{empty, pool};
    use super::*;
    use crate::telemetry::snapshot::{Clients, Listener, Node, Pins, Routed};
    use crate::types::{Lsn, Timeline};

    fn check(snapshot: &Snapshot, present: &[&str]) {
        let page = page(snapshot);
        for wanted in present {
            assert!(page.lines().any(|line| line == *wanted), "no line\n{wanted}\nin\n{page}");
        }
    }

    fn full() -> Snapshot {
        let mut snapshot = empty();
        snapshot.clients_connected = 7;
        snapshot.clients.push(Clients {
            database: "app".into(),
            user: "we\"ird".into(),
            stats: super::super::counters::ClientTotals { logins: 3, ..Default::default() },
        });
        snapshot.routed.push(Routed { class: "read", target: "replica", reason: "read", count: 5 });
        snapshot.retries.push(("read_only", 2));
        snapshot.cancels.push(("sent", 1));
        snapshot.pins.push(Pins { reason: "temporary", current: 1, total: 4, rejected: 3, over_budget: 2 });
        snapshot.pin_timeouts = 5;
        snapshot.audits = 6;
        snapshot.leaks.push(("lock", 2));
        snapshot.errors.push(("25".to_owned(), 6));
        snapshot.pools.push(pool("pg1", Role::Primary));
        snapshot.clusters.push(Cluster {
            name: "main".into(),
            primary: Some("pg1".into()),
            nodes: vec![Node {
                name: "pg2".into(),
                address: "10.0.0.2:5432".to_owned(),
                role: Role::Replica,
                health: Health::Up,
                weight: 1,
                lag: Some(Duration::from_millis(1500)),
                lag_bytes: Some(32),
                replay_lsn: Some(Lsn(4096)),
                timeline: Some(Timeline(2)),
                excluded: String::new(),
            }],
            samples: 11,
            sampler_waits: 12,
            sampler_timeouts: 13,
            listeners: vec![Listener {
                database: "app".into(),
                encoding: "UTF8".to_owned(),
                connection: Ok(("pg1".into(), 4711)),
                channels: 14,
                clients: 15,
            }],
            notifications: 16,
            notify_overflows: 17,
            notify_losses: 18,
        });
        snapshot
    }

    #[test]
    fn every_value_finds_its_line() {
        check(
            &full(),
            &[
                "# TYPE howdah_routed_statements_total counter",
                "howdah_routed_statements_total{class=\"read\",target=\"replica\",reason=\"read\"} 5",
                "howdah_clients_connected 7",
                "howdah_client_logins_total{database=\"app\",user=\"we\\\"ird\"} 3",
                "howdah_retries_total{cause=\"read_only\"} 2",
                "howdah_cancels_total{outcome=\"sent\"} 1",
                "howdah_pins{reason=\"temporary\"} 1",
                "howdah_pins_total{reason=\"temporary\"} 4",
                "howdah_pins_refused_total{reason=\"temporary\",cause=\"policy\"} 3",
                "howdah_pins_refused_total{reason=\"temporary\",cause=\"budget\"} 2",
                "howdah_pin_timeouts_total 5",
                "howdah_audits_total 6",
                "howdah_leaks_total{kind=\"lock\"} 2",
                "howdah_errors_total{class=\"25\"} 6",
                "howdah_cluster_has_primary{cluster=\"main\"} 1",
                "howdah_sampler_samples_total{cluster=\"main\"} 11",
                "howdah_listening_connections{cluster=\"main\",database=\"app\",encoding=\"UTF8\"} 1",
                "howdah_listening_clients{cluster=\"main\",database=\"app\",encoding=\"UTF8\"} 15",
                "howdah_notify_losses_total{cluster=\"main\"} 18",
                "howdah_node_up{cluster=\"main\",node=\"pg2\"} 1",
                "howdah_node_role{cluster=\"main\",node=\"pg2\",role=\"replica\"} 1",
                "howdah_node_role{cluster=\"main\",node=\"pg2\",role=\"primary\"} 0",
                "howdah_node_lag_seconds{cluster=\"main\",node=\"pg2\"} 1.5",
                "howdah_node_replay_position_bytes{cluster=\"main\",node=\"pg2\"} 4096",
                "howdah_pool_servers{cluster=\"main\",node=\"pg1\",role=\"primary\",database=\"app\",user=\"me\",state=\"idle\"} 4",
            ],
        );
    }

    #[test]
    fn histograms_are_cumulative() {
        let mut snapshot = empty();
        let mut busy = pool("pg1", Role::Primary);
        busy.stats.query_time.buckets[0] = 2;
        busy.stats.query_time.buckets[4] = 1;
        busy.stats.query_time.sum_us = 1_500_000;
        snapshot.pools.push(busy);
        let labels = "cluster=\"main\",node=\"pg1\",role=\"primary\",database=\"app\",user=\"me\"";
        let lines = [
            "# TYPE howdah_pool_query_seconds histogram".to_owned(),
            format!("howdah_pool_query_seconds_bucket{{{labels},le=\"0.00005\"}} 2"),
            format!("howdah_pool_query_seconds_bucket{{{labels},le=\"0.0005\"}} 2"),
            format!("howdah_pool_query_seconds_bucket{{{labels},le=\"0.001\"}} 3"),
            format!("howdah_pool_query_seconds_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("howdah_pool_query_seconds_sum{{{labels}}} 1.5"),
            format!("howdah_pool_query_seconds_count{{{labels}}} 3"),
        ];
        check(&snapshot, &lines.each_ref().map(String::as_str));
    }

    /// A metric that no code sets is a promise nobody keeps.
    #[test]
    fn every_metric_is_on_the_page() {
        let page = page(&full());
        for metric in names::ALL {
            assert!(page.contains(&format!("# TYPE {} ", metric.name)), "{} is never set", metric.name);
            assert!(page.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{}", metric.name);
        }
    }

    #[test]
    fn what_is_gone_leaves_no_series() {
        let mut snapshot = full();
        assert!(page(&snapshot).contains("node=\"pg1\""));
        snapshot.pools.clear();
        assert!(!page(&snapshot).contains("node=\"pg1\""));
    }
}
