//! One PostgreSQL server of the demo: made, copied, started and asked.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::binaries::{self, Binaries};
use super::{DemoError, io_error, random_password, spawn, until_ready, write_private};

/// A server with a directory of its own.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) port: u16,
    pub(super) process: Option<Child>,
    data: PathBuf,
    log: PathBuf,
}

/// A role and its password.
pub(super) struct Login {
    user: &'static str,
    password: String,
}

// === impl Login ===

impl Login {
    /// `user` with a random password.
    pub(super) fn new(user: &'static str) -> Self {
        Self { user, password: random_password() }
    }

    pub(super) fn user(&self) -> &'static str {
        self.user
    }

    /// The password; the demo shows it to whoever started it, and to nobody else.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Tells a client program where to connect, and how: not in its arguments, where others see them.
    pub(super) fn give(&self, command: &mut Command, port: u16) {
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string());
        command.env("PGUSER", self.user).env("PGPASSWORD", &self.password).env("PGCONNECT_TIMEOUT", "2");
    }
}

// === impl Server ===

impl Server {
    pub(super) fn new(name: &'static str, port: u16, directory: &Path) -> Self {
        let (data, log) = (directory.join(name), directory.join(format!("{name}.log")));
        Self { name, port, process: None, data, log }
    }

    /// A new database cluster whose superuser is `superuser`.
    pub(super) async fn initialize(
        &self,
        binaries: &Binaries,
        superuser: &Login,
        directory: &Path,
    ) -> Result<(), DemoError> {
        let passwords = directory.join("superuser");
        write_private(&passwords, &superuser.password, binaries.owner())?;
        let mut initdb = binaries.server("initdb");
        initdb.arg("--pgdata").arg(&self.data).arg("--pwfile").arg(&passwords).arg("--username").arg(superuser.user);
        initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        binaries::finish("initdb", initdb).await.map(drop)
    }

    /// A standby of `primary`, which must be running.
    pub(super) async fn copy_from(
        &self,
        primary: &Self,
        binaries: &Binaries,
        superuser: &Login,
    ) -> Result<(), DemoError> {
        let mut copy = binaries.server("pg_basebackup");
        superuser.give(&mut copy, primary.port);
        copy.arg("--pgdata").arg(&self.data).arg("--dbname").arg(format!("application_name={}", self.name));
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        binaries::finish("pg_basebackup", copy).await.map(drop)
    }

    /// Starts the server and waits until it answers.
    pub(super) async fn start(&mut self, binaries: &Binaries, superuser: &Login) -> Result<(), DemoError> {
        let mut postgres = binaries.server("postgres");
        postgres.arg("-D").arg(&self.data).arg("-p").arg(self.port.to_string());
        for setting in SETTINGS {
            postgres.arg("-c").arg(setting);
        }
        postgres.arg("-c").arg(format!("cluster_name={}", self.name));
        // Kept at once, so that it is stopped in order even if nobody waits for the answer.
        let process = self.process.insert(spawn(self.name, postgres, &self.log)?);
        let ready = || query(binaries, superuser, self.port, "postgres", "SELECT 1");
        until_ready(self.name, process, &self.log, ready).await
    }

    /// Runs `script` in database `postgres`; it is not seen in the list of processes.
    pub(super) async fn run_script(&self, binaries: &Binaries, login: &Login, script: &str) -> Result<(), DemoError> {
        let mut psql = psql(binaries, login, self.port, "postgres")?;
        psql.arg("--file=-").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let talk = async {
            let mut process = psql.spawn()?;
            if let Some(mut input) = process.stdin.take() {
                input.write_all(script.as_bytes()).await?;
            }
            process.wait_with_output().await
        };
        let output = talk.await.map_err(|error| io_error("cannot run psql", error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(DemoError::Program { program: "psql".to_owned(), output: said })
    }
}

/// The rows of one query, fields divided by `|`. Takes a few seconds at most.
pub(super) async fn query(
    binaries: &Binaries,
    login: &Login,
    port: u16,
    database: &str,
    sql: &str,
) -> Result<String, DemoError> {
    let mut psql = psql(binaries, login, port, database)?;
    psql.arg("--command").arg(sql);
    timeout(QUERY_WITHIN, binaries::finish("psql", psql)).await.unwrap_or_else(|_| {
        let output = format!("no answer within {} s", QUERY_WITHIN.as_secs());
        Err(DemoError::Program { program: "psql".to_owned(), output })
    })
}

fn psql(binaries: &Binaries, login: &Login, port: u16, database: &str) -> Result<Command, DemoError> {
    let mut psql = binaries.client("psql")?;
    login.give(&mut psql, port);
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password"]);
    psql.args(["--set=ON_ERROR_STOP=1", "--dbname", database]);
    Ok(psql)
}

/// Small, on loopback only, and without care for power failures: the data lives as long as the demo.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "shared_buffers=32MB",
    "max_connections=100",
    "fsync=off",
    "wal_keep_size=128MB",
    "wal_receiver_status_interval=1s",
];

/// How long one query may take.
const QUERY_WITHIN: Duration = Duration::from_secs(3);
