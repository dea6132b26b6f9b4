//! Settings with a single value, as text: for SHOW CONFIG.

use std::time::Duration;

use crate::config::model::{Auth, AuthMethod, Config, Limits, PoolSettings};
use crate::config::pins::{PinClass, PinSettings};

/// The smallest configuration there is, with every default filled in.
pub(super) fn defaults() -> Option<Config> {
    const SMALLEST: &str = "users: [{name: a, password: a}]\n\
        clusters: {main: {nodes: [{name: a, address: 127.0.0.1:5432}], monitor: {user: a}}}\n\
        databases: [{name: '*', cluster: main}]\n";
    crate::config::parse(SMALLEST, std::path::Path::new("/")).ok()
}

fn duration(duration: Duration) -> String {
    if duration.as_millis().is_multiple_of(1000) {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

fn listens(config: &Config) -> String {
    let addresses: Vec<_> = config
        .listen
        .iter()
        .map(|listen| match listen {
            crate::config::model::Listen::Tcp(address) => address.to_string(),
            crate::config::model::Listen::Unix { directory, port } => format!("{}:{port}", directory.display()),
        })
        .collect();
    addresses.join(", ")
}

/// Keys and values, always the same keys in the same order.
pub(super) fn values(config: &Config) -> Vec<(&'static str, String)> {
    let mut values = vec![
        ("listen", listens(config)),
        ("tls.mode", format!("{:?}", config.tls.mode).to_lowercase()),
        ("auth.method", auth(&config.auth).to_owned()),
    ];
    values.extend(pool(&config.pool));
    values.extend(pins(&config.pins));
    values.extend([
        ("routing.reads", format!("{:?}", config.routing.reads).to_lowercase()),
        ("routing.consistency", format!("{:?}", config.routing.consistency).to_lowercase()),
        ("routing.wait", duration(config.routing.wait)),
        ("routing.max_lag", duration(config.routing.max_lag)),
        ("metrics.address", config.metrics.map(|address| address.to_string()).unwrap_or_default()),
    ]);
    values.extend(limits(&config.limits));
    values.push(("log.level", config.log.level.clone()));
    values.push(("workers", config.workers.to_string()));
    values.push(("shutdown_timeout", duration(config.shutdown_timeout)));
    values
}

const fn auth(auth: &Auth) -> &'static str {
    match auth {
        Auth::Method(method) => self::method(*method),
        // PgBouncer's word for it.
        Auth::Rules(_) => "hba",
    }
}

const fn method(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::Trust => "trust",
        AuthMethod::Password => "password",
        AuthMethod::Md5 => "md5",
        AuthMethod::ScramSha256 => "scram-sha-256",
        AuthMethod::Cert => "cert",
    }
}

fn pool(pool: &PoolSettings) -> [(&'static str, String); 10] {
    [
        ("pool.mode", pool.mode.as_str().to_owned()),
        ("pool.size", pool.size.to_string()),
        ("pool.min_idle", pool.min_idle.to_string()),
        ("pool.wait_timeout", duration(pool.wait_timeout)),
        ("pool.idle_timeout", duration(pool.idle_timeout)),
        ("pool.lifetime", duration(pool.lifetime)),
        ("pool.connect_timeout", duration(pool.connect_timeout)),
        ("pool.connect_concurrency", pool.connect_concurrency.to_string()),
        ("pool.prepared_statements", pool.prepared_statements.to_string()),
        ("pool.audit", pool.audit.to_string()),
    ]
}

fn pins(pins: &PinSettings) -> impl Iterator<Item = (&'static str, String)> {
    let policies = PinClass::ALL.into_iter().map(|class| (class.key(), pins.policy(class).as_str().to_owned()));
    let bounds = [("pins.budget", pins.budget.to_string()), ("pins.timeout", duration(pins.timeout))];
    policies.chain(bounds)
}

fn limits(limits: &Limits) -> [(&'static str, String); 8] {
    [
        ("limits.max_clients", limits.max_clients.to_string()),
        ("limits.login_timeout", duration(limits.login_timeout)),
        ("limits.client_idle_timeout", duration(limits.client_idle_timeout)),
        ("limits.idle_transaction_timeout", duration(limits.idle_transaction_timeout)),
        ("limits.query_timeout", duration(limits.query_timeout)),
        ("limits.max_query_size", limits.max_query_size.to_string()),
        ("limits.cancel_timeout", duration(limits.cancel_timeout)),
        ("limits.notify_queue", limits.notify_queue.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_shown() {
        let values = values(&defaults().unwrap());
        assert!(values.contains(&("pool.size", "20".to_owned())));
        assert!(values.contains(&("routing.wait", "20ms".to_owned())));
    }
}
