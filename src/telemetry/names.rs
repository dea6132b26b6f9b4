//! Every metric: its name, kind, unit and help. The only place where `howdah_…` is spelled.
//!
//! Names follow Prometheus: base units, `_total` for what only grows, `_seconds` and `_bytes` for
//! what has a unit. Nothing here knows where a value comes from.

use metrics::{Recorder, Unit};

/// What kind of value a metric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations in the buckets of [`super::counters::LATENCY_BOUNDS_US`].
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// What the value counts.
    pub unit: Unit,
    /// What it means.
    pub help: &'static str,
}

impl Metric {
    /// Tells `recorder` what this metric is; histograms are rendered without it.
    pub fn describe(&self, recorder: &impl Recorder) {
        match self.kind {
            Kind::Counter => recorder.describe_counter(self.name.into(), Some(self.unit), self.help.into()),
            Kind::Gauge => recorder.describe_gauge(self.name.into(), Some(self.unit), self.help.into()),
            Kind::Histogram => {}
        }
    }
}

macro_rules! metrics {
    ($($const:ident: $kind:ident $unit:ident $name:literal $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub const $const: Metric =
                Metric { name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help };
        )*

        /// All of them.
        pub const ALL: &[Metric] = &[$($const),*];
    };
}

metrics! {
    BUILD_INFO: Gauge Count "howdah_build_info" "Always 1; the label says which version runs.";
    START_TIME: Gauge Seconds "howdah_start_time_seconds" "When the process started, in seconds since 1970.";
    SHUTTING_DOWN: Gauge Count "howdah_shutting_down" "1 while the process waits for its clients to leave.";

    CLIENTS_CONNECTED: Gauge Count "howdah_clients_connected" "Client connections that are open, those still logging in included.";
    CLIENTS_LOGGING_IN: Gauge Count "howdah_clients_logging_in" "Client connections that have not logged in yet.";
    CLIENTS_MAX: Gauge Count "howdah_clients_max" "The most client connections there may be (limits.max_clients).";
    LOGIN_FAILURES: Counter Count "howdah_login_failures_total" "Client log-ins that failed.";
    LOGINS: Counter Count "howdah_client_logins_total" "Clients that logged in, by database and user.";
    CLIENT_RECEIVED: Counter Bytes "howdah_client_received_bytes_total" "Bytes received from clients.";
    CLIENT_SENT: Counter Bytes "howdah_client_sent_bytes_total" "Bytes sent to clients.";
    CLIENT_PARSES: Counter Count "howdah_client_parses_total" "Parse messages from clients.";
    CLIENT_BINDS: Counter Count "howdah_client_binds_total" "Bind messages from clients.";

    POOL_CLIENTS: Gauge Count "howdah_pool_clients" "Clients that have a server of the pool (active) or wait for one (waiting).";
    POOL_MAX_WAIT: Gauge Seconds "howdah_pool_max_wait_seconds" "How long the first waiting client has waited for a server.";
    POOL_SERVERS: Gauge Count "howdah_pool_servers" "Server connections by state: active, canceling, idle, opening.";
    POOL_PINNED: Gauge Count "howdah_pool_servers_pinned" "Server connections, among the active ones, that are pinned to a client.";
    POOL_SIZE: Gauge Count "howdah_pool_size" "The most server connections the pool may have (pool.size).";
    POOL_ASSIGNMENTS: Counter Count "howdah_pool_assignments_total" "Times a server was lent to a client.";
    POOL_TRANSACTIONS: Counter Count "howdah_pool_transactions_total" "Transactions that servers ran.";
    POOL_QUERIES: Counter Count "howdah_pool_queries_total" "Queries that servers ran.";
    POOL_PARSES: Counter Count "howdah_pool_parses_total" "Parse messages sent to servers.";
    POOL_TRANSACTION_TIME: Histogram Seconds "howdah_pool_transaction_seconds" "Time that servers spent in transactions.";
    POOL_QUERY_TIME: Histogram Seconds "howdah_pool_query_seconds" "Time that servers spent on queries.";
    POOL_WAIT_TIME: Histogram Seconds "howdah_pool_wait_seconds" "Time that clients waited for a server.";

    SERVER_CONNECTS: Counter Count "howdah_server_connects_total" "Server connections that were opened and logged in.";
    SERVER_CONNECT_FAILURES: Counter Count "howdah_server_connect_failures_total" "Server connections that could not be opened.";
    SERVER_DISCONNECTS: Counter Count "howdah_server_disconnects_total" "Server connections that ended.";
    SERVER_RECEIVED: Counter Bytes "howdah_server_received_bytes_total" "Bytes received from servers.";
    SERVER_SENT: Counter Bytes "howdah_server_sent_bytes_total" "Bytes sent to servers.";

    CLUSTER_HAS_PRIMARY: Gauge Count "howdah_cluster_has_primary" "1 when the cluster's primary is known.";
    NODE_UP: Gauge Count "howdah_node_up" "1 when the last look at the node succeeded.";
    NODE_ROLE: Gauge Count "howdah_node_role" "1 for the role that the node has: primary, replica or unknown.";
    NODE_LAG: Gauge Seconds "howdah_node_lag_seconds" "How old the replica's data is.";
    NODE_LAG_BYTES: Gauge Bytes "howdah_node_lag_bytes" "WAL that the replica has yet to replay.";
    NODE_REPLAY: Gauge Bytes "howdah_node_replay_position_bytes" "WAL position that the replica has replayed or the primary has inserted.";
    NODE_TIMELINE: Gauge Count "howdah_node_timeline" "The timeline that the node is on.";

    SAMPLES: Counter Count "howdah_sampler_samples_total" "WAL positions that were asked of the primary for waiting reads.";
    SAMPLER_WAITS: Counter Count "howdah_sampler_waits_total" "Reads that waited for a replica to catch up.";
    SAMPLER_TIMEOUTS: Counter Count "howdah_sampler_timeouts_total" "Reads that waited in vain (routing.wait) and went to the primary.";

    LISTENING: Gauge Count "howdah_listening_connections" "1 when a connection listens in the database for its clients.";
    LISTENING_CHANNELS: Gauge Count "howdah_listening_channels" "Channels that clients listen to.";
    LISTENING_CLIENTS: Gauge Count "howdah_listening_clients" "Clients that listen (LISTEN).";
    NOTIFICATIONS: Counter Count "howdah_notifications_total" "Notifications that came for clients that listen.";
    NOTIFY_OVERFLOWS: Counter Count "howdah_notify_overflows_total" "Clients that were let go because too many notifications waited for them (limits.notify_queue).";
    NOTIFY_LOSSES: Counter Count "howdah_notify_losses_total" "Listening connections that were lost: their clients may have missed notifications, and were told.";

    ROUTED: Counter Count "howdah_routed_statements_total" "Batches of statements by class (read, or write for anything else), target and the reason for it.";
    RETRIES: Counter Count "howdah_retries_total" "Statements that were repeated elsewhere unseen, by cause.";
    CANCELS: Counter Count "howdah_cancels_total" "Cancel requests by outcome.";
    PINS: Gauge Count "howdah_pins" "Clients that are pinned to a server, by reason.";
    PINS_TOTAL: Counter Count "howdah_pins_total" "Times a client was pinned to a server, by reason.";
    PINS_REFUSED: Counter Count "howdah_pins_refused_total" "Statements that were refused because they would have pinned their client, by reason and cause: policy or budget (pins.*).";
    PIN_TIMEOUTS: Counter Count "howdah_pin_timeouts_total" "Clients that were let go because they were pinned and idle for too long (pins.timeout).";
    AUDITS: Counter Count "howdah_audits_total" "Times a server was asked what it carries (pool.audit).";
    LEAKS: Counter Count "howdah_leaks_total" "What servers carried that they should not have, by kind; such a server is closed.";
    ERRORS: Counter Count "howdah_errors_total" "Errors sent to clients by SQLSTATE class.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = HashSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(seen.insert(name), "{name} occurs twice");
            assert!(name.starts_with("howdah_"), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let stem = name.trim_end_matches("_total");
            assert_eq!(metric.unit == Unit::Seconds, stem.ends_with("_seconds"), "{name}");
            assert_eq!(metric.unit == Unit::Bytes, stem.ends_with("_bytes"), "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
            assert!(metric.kind != Kind::Histogram || metric.unit == Unit::Seconds, "{name}");
        }
    }
}
