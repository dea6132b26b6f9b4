//! A data directory made once and copied for every node of every cluster.
//!
//! `initdb`, roles, database and replication slots take seconds; a copy takes a moment. A standby
//! may start from a copy of a primary that was shut down, as it may from a base backup.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::node::{Node, Shutdown};
use crate::{binaries, ports, tools};

/// Names of the physical replication slots, which every copy has.
pub const SLOTS: [&str; 3] = ["pg1", "pg2", "pg3"];

/// Raised when the template changes, so that an old one is not used.
const VERSION: u32 = 2;

/// Settings of every node. Durability is off: only the machine's crash could lose anything.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
max_prepared_transactions = 5
superuser_reserved_connections = 3
shared_buffers = 32MB
fsync = off
full_page_writes = off
wal_level = logical
hot_standby = on
max_wal_senders = 10
max_replication_slots = 10
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 100ms
max_wal_size = 512MB
checkpoint_timeout = 30min
log_line_prefix = '%m [%p] %q%u@%d '
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.track = all
pg_stat_statements.save = off
timezone = 'UTC'
";

/// `pg_stat_statements` in database `postgres` sees the statements of all databases.
const OBJECTS: [&str; 5] = [
    "CREATE EXTENSION pg_stat_statements",
    "CREATE ROLE app LOGIN PASSWORD 'app-secret'",
    "CREATE ROLE howdah LOGIN PASSWORD 'howdah-secret' IN ROLE pg_monitor",
    "CREATE DATABASE app OWNER app",
    "SELECT pg_create_physical_replication_slot(name) FROM unnest(ARRAY['pg1', 'pg2', 'pg3']) name",
];

/// Copies the template to `target`, making the template first if there is none.
pub async fn copy_to(target: &Path) {
    let template = template().await;
    copy(&template, target);
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status().expect("cp starts");
    assert!(status.success(), "cannot copy {}", from.display());
}

/// The template's directory. Test processes that make one at the same time each make their own;
/// the last to finish finds the place taken and uses what is there.
async fn template() -> PathBuf {
    let place = tools::cache_directory().join(format!("template-{}-v{VERSION}", release()));
    if !place.exists() {
        let scratch = std::env::temp_dir().join(format!("howdah-template-{}", std::process::id()));
        let _old = std::fs::remove_dir_all(&scratch);
        std::fs::create_dir_all(&scratch).expect("temporary directory");
        binaries::owner().take(&scratch);
        make(&scratch.join("data")).await;
        let next_to_it = place.with_extension(std::process::id().to_string());
        copy(&scratch.join("data"), &next_to_it);
        if std::fs::rename(&next_to_it, &place).is_err() {
            std::fs::remove_dir_all(&next_to_it).expect("our own copy");
        }
        std::fs::remove_dir_all(&scratch).expect("our own directory");
    }
    place
}

async fn make(data: &Path) {
    let passwords = data.with_extension("password");
    std::fs::write(&passwords, crate::SUPERUSER_PASSWORD).expect("password file");
    binaries::owner().take(&passwords);
    let output = binaries::server_program("initdb")
        .args(["--no-sync", "--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
        .arg(format!("--pwfile={}", passwords.display()))
        .arg(data)
        .stdin(Stdio::null())
        .output()
        .expect("initdb starts");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));

    let configuration = data.join("postgresql.conf");
    let defaults = std::fs::read_to_string(&configuration).expect("initdb wrote it");
    std::fs::write(&configuration, format!("{defaults}{SETTINGS}")).expect("settings are written");

    let node = Node::new("template", ports::free_port(), data.to_owned());
    node.configure(&format!("port = {}", node.port));
    node.start().await;
    for sql in OBJECTS {
        node.query(sql).await;
    }
    node.stop(Shutdown::Fast).await;
    std::fs::write(data.join("postgresql.auto.conf"), "").expect("settings are written");
}

/// PostgreSQL's exact release, such as `15.18`.
fn release() -> String {
    let output = binaries::server_program("postgres").arg("--version").output().expect("postgres starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(2).expect("postgres (PostgreSQL) 15.18").to_owned()
}
