//! What must hold between keys: names that refer to each other, numbers that bound each other, and
//! passwords that fit the way clients log in.
//!
//! Judges values only; a key that was itself wrong has left a placeholder (an empty name) behind, which
//! is passed over here so that one mistake is reported once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::fault::{Fault, advice};
use super::model::{
    Auth, AuthMethod, ClientTlsMode, Cluster, Config, Listen, PoolOverrides, PoolSettings, ServerAddress, User,
};
use super::secret::{Form, Secret};

/// Every disagreement.
pub(super) fn check(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    unique_names(config, &mut faults);
    nodes(&config.clusters, &mut faults);
    references(config, &mut faults);
    passwords(config, &mut faults);
    pools(config, &mut faults);
    faults
}

fn unique_names(config: &Config, faults: &mut Vec<Fault>) {
    let users = config.users.iter().map(|user| user.name.as_str());
    let databases = config.databases.iter().map(|database| database.name.as_str());
    repeated("users", users, faults);
    repeated("databases", databases, faults);
    for (index, database) in config.databases.iter().enumerate() {
        if matches!(database.name.as_str(), "howdah" | "pgbouncer") {
            let wrong = format!("\"{}\" is the name of the admin console", database.name);
            let right = "choose another name; `server_database` holds the one on the servers";
            faults.push(Fault::new(format!("databases[{index}].name"), wrong, right));
        }
    }
}

fn repeated<'a>(list: &str, names: impl Iterator<Item = &'a str>, faults: &mut Vec<Fault>) {
    let mut seen = HashMap::new();
    for (index, name) in names.enumerate().filter(|(_, name)| !name.is_empty()) {
        if let Some(first) = seen.get(name) {
            let wrong = format!("\"{name}\" is the name of {list}[{first}] too");
            faults.push(Fault::new(format!("{list}[{index}].name"), wrong, "give each entry a name of its own"));
        } else {
            seen.insert(name, index);
        }
    }
}

/// Names are unique across clusters because metrics and SHOW commands know nodes by them; addresses
/// within one, because a node that counts twice would be trusted twice.
fn nodes(clusters: &[Cluster], faults: &mut Vec<Fault>) {
    let mut names: HashMap<&str, String> = HashMap::new();
    for cluster in clusters {
        let mut addresses: HashMap<&ServerAddress, String> = HashMap::new();
        for (index, node) in cluster.nodes.iter().enumerate() {
            let place = format!("clusters.{}.nodes[{index}]", cluster.name);
            let name = node.name.as_str();
            if let Some(first) = names.get(name) {
                let wrong = format!("\"{name}\" is the name of {first} too");
                faults.push(Fault::new(format!("{place}.name"), wrong, "give each node a name of its own"));
            } else if !name.is_empty() {
                names.insert(name, place.clone());
            }
            let placeholder = matches!(&node.address, ServerAddress::Tcp { port: 0, .. });
            if let Some(first) = addresses.get(&node.address) {
                let wrong = format!("{} is the address of {first} too", node.address);
                faults.push(Fault::new(format!("{place}.address"), wrong, "list each server once"));
            } else if !placeholder {
                addresses.insert(&node.address, place);
            }
        }
    }
}

fn references(config: &Config, faults: &mut Vec<Fault>) {
    let clusters: Vec<&str> = config.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    for (index, database) in config.databases.iter().enumerate() {
        let name = database.cluster.as_str();
        // Without any cluster that fault is reported already.
        if !name.is_empty() && !clusters.is_empty() && !clusters.contains(&name) {
            let wrong = format!("there is no cluster \"{name}\"");
            faults.push(Fault::new(format!("databases[{index}].cluster"), wrong, advice(name, &clusters)));
        }
    }
    let users: Vec<&str> = config.users.iter().map(|user| user.name.as_str()).collect();
    for (index, admin) in config.admin.users.iter().enumerate() {
        let name = admin.as_str();
        if !name.is_empty() && !users.is_empty() && !users.contains(&name) {
            let wrong = format!("there is no user \"{name}\" in `users`");
            faults.push(Fault::new(format!("admin.users[{index}]"), wrong, advice(name, &users)));
        }
    }
    let cert = config.auth.may_ask(AuthMethod::Cert);
    if cert && config.tls.client_ca.is_none() {
        let right = "method cert needs the PEM file of the authorities of your clients";
        faults.push(Fault::new("tls.client_ca", "is missing", right));
    }
    if cert && config.tls.mode == ClientTlsMode::Disable {
        faults.push(Fault::new("tls.mode", "is disable", "method cert needs TLS: give a certificate and mode require"));
    }
}

fn passwords(config: &Config, faults: &mut Vec<Fault>) {
    for (index, user) in config.users.iter().enumerate() {
        // Which user will come by which line of a file, nobody knows.
        let Auth::Method(method) = config.auth else { break };
        let place = format!("users[{index}].password");
        let form = user.password.as_ref().map(Secret::form);
        let (wrong, right) = match (method, form) {
            // Of a verifier, method md5 asks for SCRAM, as PostgreSQL does (`CheckPWChallengeAuth`,
            // src/backend/libpq/auth.c).
            (AuthMethod::Trust | AuthMethod::Cert, _)
            | (AuthMethod::Password | AuthMethod::Md5, Some(_))
            | (AuthMethod::ScramSha256, Some(Form::Clear | Form::Scram)) => continue,
            (_, None) => ("is missing", "`auth.method` asks every user for a password: give one"),
            (AuthMethod::ScramSha256, Some(Form::Md5)) => (
                "is an MD5 hash, which method scram-sha-256 cannot check",
                "give the clear password or a SCRAM verifier, or set `auth.method: md5`",
            ),
        };
        faults.push(Fault::new(place, wrong, right));
    }
    let servers = config.users.iter().enumerate();
    let servers = servers.map(|(index, user)| (format!("users[{index}].server_password"), &user.server_password));
    let monitors = config.clusters.iter();
    let monitors =
        monitors.map(|cluster| (format!("clusters.{}.monitor.password", cluster.name), &cluster.monitor.password));
    for (place, password) in servers.chain(monitors) {
        if password.as_ref().is_some_and(|password| password.form() == Form::Scram) {
            faults.push(Fault::new(place, "is a SCRAM verifier, which cannot log in", "give the clear password"));
        }
    }
}

fn pools(config: &Config, faults: &mut Vec<Fault>) {
    const RIGHT: &str = "let min_idle be at most size";
    let mut check = |place: &str, pool: &PoolSettings| {
        let fits = pool.min_idle <= pool.size;
        if !fits {
            let wrong = format!("min_idle {} is more than size {}", pool.min_idle, pool.size);
            faults.push(Fault::new(place, wrong, RIGHT));
        }
        fits
    };
    if !check("pool", &config.pool) {
        return;
    }
    let with = |pool: &PoolSettings, over: &PoolOverrides| {
        let mut pool = pool.clone();
        pool.apply(over);
        pool
    };
    let sets = |over: &PoolOverrides| over.size.is_some() || over.min_idle.is_some();
    let mut sound = Vec::new();
    for (index, database) in config.databases.iter().enumerate().filter(|(_, database)| sets(&database.pool)) {
        let pool = with(&config.pool, &database.pool);
        if check(&format!("databases[{index}].pool"), &pool) {
            sound.push((index, pool));
        }
    }
    for (index, user) in config.users.iter().enumerate().filter(|(_, user)| sets(&user.pool)) {
        if !check(&format!("users[{index}].pool"), &with(&config.pool, &user.pool)) {
            continue;
        }
        for (database, pool) in &sound {
            check(&format!("users[{index}].pool with databases[{database}].pool"), &with(pool, &user.pool));
        }
    }
}

/// What is allowed and yet seldom meant, one sentence each.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, user) in config.users.iter().enumerate() {
        if let Some(warning) = server_login(user, &config.auth) {
            warnings.push(format!("users[{index}]: {warning}"));
        }
    }
    let used: HashSet<&str> = config.databases.iter().map(|database| database.cluster.as_str()).collect();
    for cluster in config.clusters.iter().filter(|cluster| !used.contains(cluster.name.as_str())) {
        warnings.push(format!("clusters.{}: no database uses it", cluster.name));
    }
    let reachable = config.listen.iter().any(|listen| match listen {
        Listen::Tcp(address) => !is_loopback(address.ip()),
        Listen::Unix { .. } => false,
    });
    let plain = matches!(config.tls.mode, ClientTlsMode::Disable | ClientTlsMode::Prefer);
    match config.auth {
        Auth::Method(AuthMethod::Trust) if reachable => warnings
            .push("auth.method: trust lets everyone who reaches the listening address in, as any user".to_owned()),
        Auth::Method(AuthMethod::Password) if reachable && plain => warnings.push(
            "auth.method: password sends passwords in clear text wherever TLS is not required (tls.mode)".to_owned(),
        ),
        _ => {}
    }
    warnings
}

/// Why this user may not get into the servers.
fn server_login(user: &User, auth: &Auth) -> Option<&'static str> {
    if user.server_password.is_some() {
        return None;
    }
    // What a client proves itself with serves the servers that have the same verifier.
    let nothing_proven = matches!(auth, Auth::Method(AuthMethod::Trust | AuthMethod::Cert));
    match user.password.as_ref().map(Secret::form) {
        Some(Form::Md5) => Some("an MD5 hash logs in only to servers that ask for md5; `server_password` is not set"),
        Some(Form::Scram) if nothing_proven => {
            Some("a SCRAM verifier cannot log in to servers; unless they ask for no password, set `server_password`")
        }
        Some(Form::Clear | Form::Scram) => None,
        None => Some("there is no password for the servers; unless they ask for none, set `server_password`"),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
