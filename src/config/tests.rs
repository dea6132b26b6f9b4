//! The configuration as a whole: what a text becomes, and what is said about a wrong one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::model::{
    Auth, AuthMethod, Balance, ClientTlsMode, Consistency, Listen, PoolMode, Reads, ServerAddress, SslMode,
    Transactions,
};
use super::pins::{PinClass, PinPolicy};
use super::*;

/// The least that can be used.
const MINIMAL: &str = "\
users: [{name: app, password: hunter2}]
clusters:
  main:
    nodes: [{name: pg1, address: 10.0.0.1}]
    monitor: {user: howdah}
databases: [{name: '*', cluster: main}]
";

const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// The advice for a key at the top that resembles none.
const TOP: &str = "known here: listen, tls, auth, users, clusters, databases, pool, pins, routing, admin, metrics, limits, log, \
    workers, shutdown_timeout";

fn environment(name: &str) -> Option<String> {
    match name {
        "PASSWORD" => Some("from the environment".to_owned()),
        "HOST" => Some("db1".to_owned()),
        "SIZE" => Some("7".to_owned()),
        _ => None,
    }
}

fn parsed(text: &str) -> Result<Config, Faults> {
    parse_in(text, Path::new("/nonexistent"), &environment)
}

fn good(text: &str) -> Config {
    parsed(text).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

/// The faults of `text`, one per line.
fn faults(text: &str) -> String {
    parsed(text).err().map(|faults| faults.to_string()).unwrap_or_default()
}

/// `MINIMAL` with one line more has exactly this fault.
fn refuse(line: &str, fault: &str) {
    assert_eq!(faults(&format!("{MINIMAL}{line}\n")), fault, "{line}");
}

/// `MINIMAL` with `old` replaced has exactly these faults.
fn refuse_instead(old: &str, new: &str, expected: &str) {
    assert!(MINIMAL.contains(old), "{old}");
    assert_eq!(faults(&MINIMAL.replace(old, new)), expected, "{new}");
}

/// A directory of its own that goes away with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("howdah-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(self, file: &str, content: &str) -> Self {
        std::fs::write(self.0.join(file), content).unwrap();
        self
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = good(MINIMAL);
    assert_eq!(config.listen, [Listen::Tcp("0.0.0.0:6432".parse::<SocketAddr>().unwrap())]);
    assert_eq!(config.tls.mode, ClientTlsMode::Disable);
    assert_eq!(config.auth, Auth::Method(AuthMethod::ScramSha256));
    assert_eq!(config.metrics, None);
    assert_eq!(config.admin.users, []);
    assert_eq!(config.shutdown_timeout, Duration::from_secs(60));

    let pool = &config.pool;
    assert_eq!((pool.mode, pool.size, pool.min_idle), (PoolMode::Transaction, 20, 0));
    assert_eq!(pool.wait_timeout, Duration::from_secs(30));
    assert_eq!(pool.idle_timeout, Duration::from_secs(600));
    assert_eq!(pool.lifetime, Duration::from_secs(3600));
    assert_eq!(pool.connect_timeout, Duration::from_secs(5));
    assert_eq!((pool.connect_concurrency, pool.prepared_statements), (4, 500));

    let routing = &config.routing;
    assert_eq!((routing.reads, routing.consistency), (Reads::Replicas, Consistency::Database));
    assert_eq!((routing.wait, routing.max_lag), (Duration::from_millis(20), Duration::from_secs(10)));
    assert_eq!((routing.transactions, routing.balance), (Transactions::Primary, Balance::LeastOutstanding));

    let limits = &config.limits;
    assert_eq!((limits.max_clients, limits.max_query_size), (10_000, 64 << 20));
    assert_eq!((limits.login_timeout, limits.cancel_timeout), (Duration::from_secs(60), Duration::from_secs(10)));
    assert_eq!(limits.client_idle_timeout, Duration::ZERO);
    assert_eq!(limits.idle_transaction_timeout, Duration::ZERO);
    assert_eq!(limits.query_timeout, Duration::ZERO);

    let cluster = &config.clusters[0];
    assert_eq!(cluster.hold, Duration::from_secs(30));
    assert_eq!(cluster.tls.mode, SslMode::Prefer);
    assert_eq!(cluster.monitor.database.as_str(), "postgres");
    assert_eq!((cluster.monitor.interval, cluster.monitor.timeout), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!((cluster.nodes[0].address.to_string().as_str(), cluster.nodes[0].weight), ("10.0.0.1:5432", 1));
}

#[test]
fn given_values_are_taken() {
    let config = good(
        "
listen:
  - address: '[::1]:6432'
  - {unix: /run/howdah, port: 6433}
users:
  - name: app
    password: ${PASSWORD}
    server_user: app_rw
    server_password: x${PASSWORD}
    pool: {mode: session, size: '${SIZE}'}
clusters:
  main:
    nodes:
      - {name: pg1, address: '${HOST}:5433', weight: 0}
      - {name: pg2, address: /run/postgresql}
    monitor: {user: m, password: '$${x}', database: d, interval: 500ms, timeout: 1s}
    hold: 0
databases:
  - name: shop
    cluster: main
    server_database: shop_v2
    routing: {reads: any, consistency: strong, wait: 0, max_lag: 1m}
metrics: {address: 127.0.0.1:9930}
limits: {max_query_size: 1MB, query_timeout: 1h}
log: {level: 'howdah::cluster=debug,warn', format: json}
",
    );
    let unix = Listen::Unix { directory: "/run/howdah".into(), port: 6433 };
    assert_eq!(config.listen, [Listen::Tcp("[::1]:6432".parse().unwrap()), unix]);
    let user = config.user("app").unwrap();
    assert_eq!(user.password.as_ref().map(Secret::expose), Some("from the environment"));
    assert_eq!(user.server_password.as_ref().map(Secret::expose), Some("xfrom the environment"));
    assert_eq!((user.pool.mode, user.pool.size), (Some(PoolMode::Session), Some(7)));
    let cluster = &config.clusters[0];
    assert_eq!(cluster.nodes[0].address, ServerAddress::Tcp { host: "db1".into(), port: 5433 });
    assert_eq!(cluster.nodes[1].address, ServerAddress::Unix("/run/postgresql/.s.PGSQL.5432".into()));
    assert_eq!(cluster.monitor.password.as_ref().map(Secret::expose), Some("${x}"));
    assert_eq!(cluster.hold, Duration::ZERO);
    let routing = &config.database("shop").unwrap().routing;
    assert_eq!((routing.reads, routing.wait), (Some(Reads::Any), Some(Duration::ZERO)));
    assert_eq!((config.limits.max_query_size, config.limits.query_timeout), (1 << 20, Duration::from_secs(3600)));
    assert_eq!(config.log.level, "howdah::cluster=debug,warn");
    assert_eq!(config.metrics.map(|address| address.port()), Some(9930));
}

#[test]
fn empty_values_and_merged_mappings_are_yaml_as_usual() {
    assert_eq!(good(&format!("{MINIMAL}pool:\nlog: {{level: ~}}\n")), good(MINIMAL));
    let config = good(
        "
users:
  - &one {name: app, password: x, pool: {size: 3}}
  - {<<: *one, name: other}
clusters: {main: {nodes: [{name: a, address: h}], monitor: {user: m}}}
databases: [{name: '*', cluster: main}]
",
    );
    assert_eq!(config.user("other").unwrap().pool.size, Some(3));
}

#[test]
fn every_fault_is_reported_at_once() {
    let text = "
listen: [{address: localhost:6432}]
users: [{nmae: app, password: hunter2}]
clusters:
  main:
    nodes: [{name: pg1}, {name: pg2, address: 'db:0'}]
    monitor: {interval: 5}
databases: [{name: shop, cluster: mian}]
pool: {mode: shared, size: 0}
colour: red
";
    assert_eq!(
        faults(text),
        "\
listen[0].address: \"localhost:6432\" is not an IP address and a port; write 127.0.0.1:6432
users[0].name: is missing; name the role that clients log in with
users[0].nmae: unknown key; did you mean `name`?
clusters.main.nodes[0].address: is missing; give host:port such as 10.0.0.1:5432, or a socket's path
clusters.main.nodes[1].address: \"db:0\" has no valid port; write host:port such as 10.0.0.1:5432, \
db1.example.com:5432 or [::1]:5432, or a socket's path
clusters.main.monitor.user: is missing; name a role that may log in on every node; it needs no rights beyond pg_monitor
clusters.main.monitor.interval: 5 has no unit; write a whole number and one of ms, s, m, h, d, such as 500ms, 30s or 10m
pool.mode: \"shared\" is not known here; known here: session, transaction, statement
pool.size: 0 is out of range; give a whole number from 1 to 262143
colour: unknown key; TOP
databases[0].cluster: there is no cluster \"mian\"; did you mean `main`?"
            .replace("TOP", TOP)
    );
}

#[test]
fn an_unknown_key_is_refused_in_every_section() {
    const ONE_OF_EACH: &str = "
listen: [{address: 0.0.0.0:1}]
tls: {}
auth: {}
users: [{name: app, password: x, pool: {}, routing: {}, pins: {}}]
clusters: {any: {nodes: [{name: a, address: h}], monitor: {user: m}, tls: {}}}
databases: [{name: d, cluster: any, pool: {}, routing: {}}]
pool: {}
routing: {}
admin: {}
metrics: {}
limits: {}
log: {}
";
    assert_eq!(faults(ONE_OF_EACH), "");
    let openings: Vec<usize> = ONE_OF_EACH.match_indices('{').map(|(index, _)| index + 1).collect();
    // The names of clusters are free; every other brace is a section with keys of its own.
    let free = ONE_OF_EACH.find("any:").unwrap();
    for opening in openings.into_iter().filter(|opening| *opening != free) {
        let (before, after) = ONE_OF_EACH.split_at(opening);
        let comma = if after.starts_with('}') { "" } else { ", " };
        let text = format!("{before}zzzzzz: 1{comma}{after}");
        let found = faults(&text);
        assert!(found.lines().count() == 1 && found.contains(".zzzzzz: unknown key; known here: "), "{text}\n{found}");
    }
}

#[test]
fn wrong_values_say_what_would_be_right() {
    refuse("pool: 5", "pool: is a number; give a mapping of keys");
    refuse("pool: [mode]", "pool: is a list; give a mapping of keys");
    refuse(
        "pool: {size: many}",
        "pool.size: \"many\" is not a whole number in range; give a whole number from 1 to 262143",
    );
    refuse("pool: {size: -1}", "pool.size: -1 is not a whole number in range; give a whole number from 1 to 262143");
    refuse("pool: {size: [1]}", "pool.size: is a list; give a single value");
    refuse("pool: {size: !big 5}", "pool.size: is a value with a YAML tag; give a single value");
    refuse("pool: {wait_timeout: 0}", "pool.wait_timeout: 0 leaves no time; give a duration above 0, such as 5s");
    refuse("\"a\\nb\": 1", &format!("a\\nb: unknown key; {TOP}"));
    refuse("pool: {1: 2}", "pool.(a key): is a number; give a key in text");
    refuse("pins: {temporary: rejects}", "pins.temporary: \"rejects\" is not known here; did you mean `reject`?");
    refuse(
        "pins: {timeout: 5}",
        "pins.timeout: 5 has no unit; write a whole number and one of ms, s, m, h, d, such as 500ms, 30s or 10m",
    );
    refuse("pins: {tempory: pin}", "pins.tempory: unknown key; did you mean `temporary`?");
    refuse("routing: {reads: replica}", "routing.reads: \"replica\" is not known here; did you mean `replicas`?");
    refuse(
        "limits: {max_query_size: 1B}",
        "limits.max_query_size: \"1B\" is out of range; give a size from 1024 to 1073741823 bytes",
    );
    refuse(
        "log: {level: warning}",
        "log.level: \"warning\" is not a log level; known here: off, error, warn, info, debug, trace",
    );
    refuse("log: {level: inof}", "log.level: \"inof\" is not a log level; did you mean `info`?");
    refuse_instead(
        "10.0.0.1",
        "'postgres://u:hunter3@h/d'",
        "clusters.main.nodes[0].address: the URL is not host:port; write host:port such as 10.0.0.1:5432, \
         db1.example.com:5432 or [::1]:5432, or a socket's path",
    );
    refuse("admin: {users: app}", "admin.users: is text; give a list of names such as [howdah]");
    refuse("listen: []", "listen: is empty; give one entry at least, or leave the key out");
    refuse(
        "listen: {address: 0.0.0.0:1}",
        "listen: is a mapping of keys; give a list: one line with `- ` for each entry",
    );
    refuse_instead("name: app", "name: 2024", "users[0].name: is a number; give text: put it in quotes");
    refuse_instead(
        "name: app",
        "name: ''",
        "users[0].name: \"\" is empty; give at least one character, or leave the key out",
    );
    refuse_instead(
        "name: app",
        "name: \"a\\0b\"",
        "users[0].name: \"a\\0b\" contains a zero byte; PostgreSQL's protocol cannot carry it; leave it out",
    );
    assert!(faults("").starts_with("users: is missing; "));
    assert_eq!(faults("").lines().count(), 3);
    assert!(faults("- a").starts_with("the file: is a list; give a mapping of keys\n"));
}

#[test]
fn listening_places_are_distinct_and_whole() {
    let either = "give either `address: 0.0.0.0:6432`, or `unix: /run/howdah` with a port";
    refuse("listen: [{}]", &format!("listen[0]: has neither `address` nor `unix`; {either}"));
    refuse(
        "listen: [{address: '[::1]:1', unix: /run}]",
        &format!("listen[0]: has both `address` and `unix`; {either}"),
    );
    refuse(
        "listen: [{address: 127.0.0.1:1, port: 2}]",
        "listen[0].port: belongs to `unix`; write the port behind the address: 0.0.0.0:6432",
    );
    let twice = "listen[1]: listens where an earlier entry listens already; leave one of the two out";
    refuse("listen: [{address: '[::1]:1'}, {address: '[0::1]:1'}]", twice);
    refuse("listen: [{unix: /run}, {unix: /run, port: 6432}]", twice);
    let long = format!("/{}", "x".repeat(100));
    refuse(
        &format!("listen: [{{unix: {long}}}]"),
        "listen[0].unix: makes a socket path of more than 107 bytes; choose a shorter directory",
    );
    assert_eq!(
        good(&format!("{MINIMAL}listen: [{{address: 127.0.0.1:0}}, {{address: 127.0.0.1:0}}]\n")).listen.len(),
        2
    );
}

#[test]
fn names_agree() {
    let twice = "is the name of users[0] too; give each entry a name of its own";
    let password = "{name: app, password: hunter2}";
    refuse_instead(password, &format!("{password}, {password}"), &format!("users[1].name: \"app\" {twice}"));
    refuse_instead(
        "{name: '*', cluster: main}",
        "{name: d, cluster: main}, {name: d, cluster: main}",
        "databases[1].name: \"d\" is the name of databases[0] too; give each entry a name of its own",
    );
    refuse_instead(
        "name: '*'",
        "name: pgbouncer",
        "databases[0].name: \"pgbouncer\" is the name of the admin console; choose another name; `server_database` \
         holds the one on the servers",
    );
    refuse_instead(
        "address: 10.0.0.1}",
        "address: 10.0.0.1}, {name: pg1, address: '10.0.0.1:5432'}",
        "clusters.main.nodes[1].name: \"pg1\" is the name of clusters.main.nodes[0] too; give each node a name of its own\n\
         clusters.main.nodes[1].address: 10.0.0.1:5432 is the address of clusters.main.nodes[0] too; list each server once",
    );
    refuse("admin: {users: [howdah]}", "admin.users[0]: there is no user \"howdah\" in `users`; known here: app");
    refuse(
        "admin: {users: [ap, 7]}",
        "admin.users[1]: is a number; give text: put it in quotes\n\
         admin.users[0]: there is no user \"ap\" in `users`; did you mean `app`?",
    );
    assert_eq!(good(&format!("{MINIMAL}admin: {{users: [app]}}\n")).admin.users, ["app".into()]);
}

#[test]
fn a_file_of_rules_takes_the_place_of_the_method() {
    let scratch = Scratch::new("hba");
    let load = |rules: &str, auth: &str| {
        std::fs::write(scratch.0.join("hba"), rules).unwrap();
        parse(&format!("{MINIMAL}auth: {auth}\n"), &scratch.0).map_err(|faults| faults.to_string())
    };
    let config = load("host all app all scram-sha-256", "{hba_file: hba}").unwrap();
    assert!(config.auth.may_ask(AuthMethod::ScramSha256) && !config.auth.may_ask(AuthMethod::Trust));
    for (rules, auth, fault) in [
        (
            "\nhost all app all peer",
            "{hba_file: hba}",
            "auth.hba_file: \"hba\" line 2: \"peer\" is not supported; the methods are trust, reject, password, md5, \
             scram-sha-256 and cert",
        ),
        (
            "host all app all trust",
            "{hba_file: hba, method: trust}",
            "auth.hba_file: stands beside `method`; leave one out: the file's lines say the method",
        ),
        (
            "hostssl all app all cert",
            "{hba_file: hba}",
            "tls.client_ca: is missing; method cert needs the PEM file of the authorities of your clients\n\
             tls.mode: is disable; method cert needs TLS: give a certificate and mode require",
        ),
    ] {
        assert_eq!(load(rules, auth).unwrap_err(), fault);
    }
    let missing = load("", "{hba_file: nowhere}").unwrap_err();
    assert!(missing.starts_with("auth.hba_file: \"nowhere\" cannot be read ("), "{missing}");
}

#[test]
fn passwords_fit_the_method() {
    let check = |method: &str, password: &str, fault: &str| {
        let text = MINIMAL.replace(", password: hunter2", password);
        let text = format!("{text}auth: {{method: {method}}}\n");
        let text = if method == "cert" { text + "tls: {client_ca: Cargo.toml}\n" } else { text };
        let found = parse(&text, Path::new(env!("CARGO_MANIFEST_DIR"))).err().map(|faults| faults.to_string());
        assert_eq!(found.unwrap_or_default(), fault, "{method} {password}");
    };
    let hash = ", password: md55d41402abc4b2a76b9719d911017c592";
    let verifier = format!(", password: {VERIFIER}");
    let missing = "users[0].password: is missing; `auth.method` asks every user for a password: give one";
    check("trust", "", "");
    check("password", "", missing);
    check("md5", "", missing);
    check("scram-sha-256", "", missing);
    for method in ["trust", "password", "md5"] {
        check(method, hash, "");
    }
    for method in ["trust", "password", "md5", "scram-sha-256"] {
        check(method, &verifier, "");
    }
    check(
        "scram-sha-256",
        hash,
        "users[0].password: is an MD5 hash, which method scram-sha-256 cannot check; give the clear password or a SCRAM \
         verifier, or set `auth.method: md5`",
    );
    check("cert", "", "tls.mode: is disable; method cert needs TLS: give a certificate and mode require");
    refuse(
        "auth: {method: cert}",
        "tls.client_ca: is missing; method cert needs the PEM file of the authorities of your clients\n\
         tls.mode: is disable; method cert needs TLS: give a certificate and mode require",
    );
    refuse_instead(
        "{user: howdah}",
        &format!("{{user: howdah, password: {VERIFIER}}}"),
        "clusters.main.monitor.password: is a SCRAM verifier, which cannot log in; give the clear password",
    );
}

#[test]
fn secrets_come_from_files_and_variables_and_stay_out_of_faults() {
    let scratch = Scratch::new("secrets")
        .with("app", "from a file\n")
        .with("spaced", " kept \r\n")
        .with("two", "a\n\n")
        .with("empty", "\n")
        .with("latin1", "");
    let read = |password: &str| {
        let text = MINIMAL.replace("hunter2", password);
        let config = parse_in(&text, &scratch.0, &environment).map_err(|faults| faults.to_string())?;
        Ok::<_, String>(config.users[0].password.as_ref().unwrap().expose().to_owned())
    };
    assert_eq!(read("file:app").as_deref(), Ok("from a file"));
    assert_eq!(read("file:spaced").as_deref(), Ok(" kept "));
    assert_eq!(read("file:two").as_deref(), Ok("a\n"));
    assert_eq!(read(&format!("file:{}", scratch.0.join("app").display())).as_deref(), Ok("from a file"));
    assert_eq!(read("'${PASSWORD}'").as_deref(), Ok("from the environment"));

    let refused = |password: &str, part: &str| {
        let fault = read(password).unwrap_err();
        assert!(fault.starts_with("users[0].password: ") && fault.contains(part), "{fault}");
        assert_eq!(fault.lines().count(), 1, "{fault}");
        assert!(!fault.contains("hunter") && !fault.contains("environment\""), "{fault}");
    };
    refused("file:empty", "the value is empty");
    refused("file:absent", "the value refers to a file that cannot be read (");
    refused("file:.", "(not a regular file)");
    refused("file:/dev/zero", "(not a regular file)");
    refused("'hunter${ABSENT}'", "the value refers to the environment variable ABSENT, which is not set");
    refused("'hunter${'", "the value has a `${` that begins no `${NAME}`");
    refused("12345", "is a number; give text: put it in quotes");
    refused("md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "begins like an MD5 hash and is not one");
    // A value that is not a password shows what the file says, never what the variable holds.
    refuse(
        "log: {level: '${PASSWORD}'}",
        "log.level: \"${PASSWORD}\" is not a log level; known here: off, error, warn, info, debug, trace",
    );
}

#[test]
fn tls_needs_its_files() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let check = |line: &str| {
        let parsed = parse(&format!("{MINIMAL}{line}\n"), directory);
        parsed.map(|config| config.tls).map_err(|faults| faults.to_string())
    };
    // Any file stands for a PEM file: only that it exists is looked at here.
    let tls = check("tls: {certificate: Cargo.toml, private_key: Cargo.lock}").unwrap();
    assert_eq!(tls.mode, ClientTlsMode::Prefer);
    assert_eq!(tls.certificate, Some(directory.join("Cargo.toml")));
    let refused = |line: &str, expected: &str| assert_eq!(check(line), Err(expected.to_owned()), "{line}");
    refused(
        "tls: {certificate: Cargo.toml}",
        "tls.private_key: is missing; name the PEM file with the certificate's key",
    );
    refused(
        "tls: {private_key: Cargo.toml}",
        "tls.certificate: is missing; name the PEM file with the key's certificate",
    );
    refused(
        "tls: {mode: require}",
        "tls.certificate: is missing; this mode needs a certificate and its key: name their PEM files",
    );
    refused(
        "tls: {mode: verify-full, certificate: Cargo.toml, private_key: Cargo.toml}",
        "tls.client_ca: is missing; mode verify-full needs the PEM file of the authorities of your clients",
    );
    refused("tls: {client_ca: src}", "tls.client_ca: \"src\" is a directory; name a PEM file");
    let absent = check("tls: {client_ca: absent.crt}").unwrap_err();
    assert!(absent.starts_with("tls.client_ca: \"absent.crt\" cannot be read ("), "{absent}");
    refuse_instead(
        "{user: howdah}",
        "{user: howdah}\n    tls: {mode: verify-ca}",
        "clusters.main.tls.ca: is missing; this mode needs the PEM file of the authorities you trust",
    );
}

#[test]
fn min_idle_never_exceeds_size() {
    let right = "let min_idle be at most size";
    refuse("pool: {min_idle: 21}", &format!("pool: min_idle 21 is more than size 20; {right}"));
    let check = |general: &str, database: &str, user: &str, fault: &str| {
        let text = MINIMAL
            .replace("cluster: main}", &format!("cluster: main, pool: {database}}}"))
            .replace("hunter2}", &format!("hunter2, pool: {user}}}"));
        assert_eq!(faults(&format!("{text}pool: {general}\n")), fault);
    };
    check("{min_idle: 5}", "{size: 5}", "{size: 6}", "");
    check("{min_idle: 5}", "{size: 4}", "{}", &format!("databases[0].pool: min_idle 5 is more than size 4; {right}"));
    check("{}", "{}", "{min_idle: 30}", &format!("users[0].pool: min_idle 30 is more than size 20; {right}"));
    check(
        "{}",
        "{size: 5}",
        "{min_idle: 10}",
        &format!("users[0].pool with databases[0].pool: min_idle 10 is more than size 5; {right}"),
    );
    check("{}", "{size: 5}", "{size: 12, min_idle: 10}", "");
}

#[test]
fn yaml_mistakes_have_a_place() {
    let check = |text: &str, fault: &str| {
        let right = "check indentation, brackets, quotes and repeated keys there";
        assert_eq!(faults(text), format!("{fault}; {right}"), "{text}");
    };
    check(
        "pool:\n  size: [1, 2\nlog: {}\n",
        "line 3, column 4: not valid YAML (did not find expected ',' or ']', while parsing a flow sequence \
         at line 2 column 9)",
    );
    check(
        "users: [{name: a, name: b}]",
        "line 1, column 9: not valid YAML (users[0]: duplicate entry with key \"name\")",
    );
    check("a: *b", "line 1, column 4: not valid YAML (unknown anchor)");
    check("users: [{password: !!int hunter2}]", "line 1, column 20: not valid YAML (a value does not fit its tag)");
    check(
        "a: 1\n---\nb: 2\n",
        "the file: not valid YAML (deserializing from YAML containing more than one document is not supported)",
    );
}

#[test]
fn what_is_odd_is_said_without_refusing() {
    let warnings = |old: &str, new: &str| good(&MINIMAL.replace(old, new)).warnings();
    assert_eq!(good(MINIMAL).warnings(), [""; 0]);
    let verifier =
        "users[0]: a SCRAM verifier cannot log in to servers; unless they ask for no password, set `server_password`";
    assert_eq!(warnings("hunter2", VERIFIER), [""; 0]);
    let asks_nothing =
        format!("{}auth: {{method: trust}}\nlisten: [{{unix: /run}}]\n", MINIMAL.replace("hunter2", VERIFIER));
    assert_eq!(good(&asks_nothing).warnings(), [verifier]);
    assert_eq!(warnings("hunter2", &format!("{VERIFIER}, server_password: x")), [""; 0]);
    let line = |line: &str| good(&format!("{MINIMAL}{line}\n")).warnings();
    assert_eq!(line("auth: {method: trust}").len(), 1);
    assert_eq!(line("auth: {method: trust}\nlisten: [{address: 127.0.0.1:1}, {unix: /run}]"), [""; 0]);
    assert!(line("auth: {method: password}")[0].contains("clear text"));
    let spare = "  main:\n";
    let two = "  spare: {nodes: [{name: b, address: h}], monitor: {user: m}}\n  main:\n";
    assert_eq!(warnings(spare, two), ["clusters.spare: no database uses it"]);
}

#[test]
fn the_user_comes_before_the_database_before_the_general() {
    let text = "
users:
  - {name: plain, password: p}
  - name: special
    password: p
    server_user: other
    server_password: s
    pool: {size: 3, mode: session}
    routing: {consistency: strong}
    pins: {timeout: 5m}
clusters: {main: {nodes: [{name: a, address: h}], monitor: {user: m}}}
databases:
  - {name: '*', cluster: main}
  - name: shop
    cluster: main
    server_database: shop_v2
    pool: {size: 5, wait_timeout: 1s}
    routing: {consistency: eventual, max_lag: 1m}
    pins: {load: ignore}
pool: {size: 7, min_idle: 1}
routing: {consistency: session, wait: 5ms}
pins: {load: reject, prepare: reject, budget: 4}
";
    let config = good(text);
    let check = |user: &str, database: &str, size: usize, consistency: Consistency| {
        let found = config.destination(user, database).unwrap();
        assert_eq!((found.pool.size, found.routing.consistency), (size, consistency), "{user} {database}");
        assert_eq!((found.pool.min_idle, found.routing.wait), (1, Duration::from_millis(5)), "{user} {database}");
        found
    };
    let general = check("plain", "anything", 7, Consistency::Session);
    assert_eq!((general.server_database.as_str(), general.server_user.as_str()), ("anything", "plain"));
    assert_eq!(general.server_password.as_ref().map(Secret::expose), Some("p"));
    let database = check("plain", "shop", 5, Consistency::Eventual);
    assert_eq!(database.server_database.as_str(), "shop_v2");
    assert_eq!(
        (database.pool.wait_timeout, database.routing.max_lag),
        (Duration::from_secs(1), Duration::from_secs(60))
    );
    assert_eq!(database.pool.mode, PoolMode::Transaction);
    let both = check("special", "shop", 3, Consistency::Strong);
    assert_eq!((both.pool.mode, both.pool.wait_timeout), (PoolMode::Session, Duration::from_secs(1)));
    assert_eq!(both.server_user.as_str(), "other");
    assert_eq!(both.server_password.as_ref().map(Secret::expose), Some("s"));
    assert_eq!((both.pins.policy(PinClass::Load), both.pins.budget), (PinPolicy::Ignore, 4));
    assert_eq!((both.pins.policy(PinClass::Prepare), both.pins.timeout), (PinPolicy::Reject, Duration::from_secs(300)));
    let special = check("special", "anything", 3, Consistency::Strong);
    assert_eq!(special.pins.policy(PinClass::Load), PinPolicy::Reject);
    assert_eq!(config.destination("nobody", "shop"), None);
    let only_shop = good(&MINIMAL.replace("'*'", "shop"));
    assert_eq!(only_shop.destination("app", "other"), None);
}

#[test]
fn a_verifier_is_never_sent_as_a_password() {
    let password = |text: &str| {
        let config = good(&MINIMAL.replace("hunter2", text));
        config.destination("app", "d").unwrap().server_password.map(|password| password.expose().to_owned())
    };
    assert_eq!(password("hunter2").as_deref(), Some("hunter2"));
    assert_eq!(password(VERIFIER), None);
}

#[test]
fn known_keys_are_those_that_are_read() {
    let keys = known_keys();
    for key in ["listen[].address", "users[].pool.size", "clusters.*.nodes[].weight", "admin.users", "shutdown_timeout"]
    {
        assert!(keys.contains(key), "{key} is not in {keys:?}");
    }
    assert!(!keys.contains("pool"), "a section is no key");
}

/// YAML of any shape, with keys that lead deep into the reader.
fn any_yaml() -> impl Strategy<Value = String> {
    let keys = "listen|users|clusters|databases|pool|name|address|monitor|nodes|size|level|routing|tls|ca|password|zz";
    let scalar = prop_oneof![
        "[a-zA-Z0-9:/.$\\[\\]-]{0,12}".prop_map(|text| format!("'{text}'")),
        "-?[0-9]{1,20}",
        Just("~".to_owned()),
        Just("'${A'".to_owned()),
        Just("'file:/dev/zero'".to_owned()),
        Just("true".to_owned()),
    ];
    scalar.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map(keys, inner, 0..5).prop_map(|entries| {
                let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[\\PC\n\t]*") {
        prop_assert!(parsed(&text).is_err());
    }

    #[test]
    fn any_yaml_is_read_or_refused(text in any_yaml()) {
        let deeper = format!("pool: {text}\nclusters: {{a: {text}}}\nusers: {text}");
        for text in [text.clone(), format!("{MINIMAL}listen: {text}"), deeper] {
            if let Err(faults) = parsed(&text) {
                prop_assert!(faults.iter().all(|fault| !fault.path.is_empty() && !fault.right.is_empty()), "{faults}");
            }
        }
    }
}
