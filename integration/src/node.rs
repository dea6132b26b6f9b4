//! One PostgreSQL instance: its process, its log, and questions put to it directly.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tokio_postgres::Client;

use crate::binaries;
use crate::session::{Login, Rows, eventually, rows};

/// How a server is told to end (signals of the postmaster).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// SIGINT: open transactions are rolled back, a standby receives all WAL.
    Fast,
    /// SIGQUIT: as a crash, but cleaned up.
    Immediate,
}

/// One PostgreSQL instance.
#[derive(Debug)]
pub struct Node {
    /// `pg1`, `pg2`, …: its name in Howdah's configuration too.
    pub name: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    data: PathBuf,
    process: Mutex<Option<Child>>,
    client: tokio::sync::Mutex<Option<Client>>,
}

impl Node {
    /// The instance of data directory `data`, not started.
    pub fn new(name: &str, port: u16, data: PathBuf) -> Self {
        Self { name: name.into(), port, data, process: Mutex::new(None), client: tokio::sync::Mutex::new(None) }
    }

    /// Starts it, and waits until it accepts connections.
    pub async fn start(&self) {
        self.start_in(&[]).await;
    }

    /// The same with a clock that is so many seconds ahead of ours, or behind it.
    pub async fn start_ahead(&self, seconds: i32) {
        let library = binaries::faketime().display().to_string();
        let offset = format!("{seconds:+}s");
        // Time-outs are measured with the other clock, which is everybody's.
        self.start_in(&[("LD_PRELOAD", &library), ("FAKETIME", &offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]).await;
    }

    async fn start_in(&self, environment: &[(&str, &str)]) {
        self.spawn(environment);
        eventually(&format!("{} accepts connections", self.name), Duration::from_secs(30), async || {
            assert!(self.is_running(), "{} ended:\n{}", self.name, self.log());
            Login::superuser(self.port).connect().await.is_ok()
        })
        .await;
    }

    fn spawn(&self, environment: &[(&str, &str)]) {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("log file opens");
        let mut command = binaries::server_program("postgres");
        command
            .arg("-D")
            .arg(&self.data)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("file handle"))
            .stderr(log)
            // Ctrl-C in a terminal is for the test process; the guard ends the server.
            .process_group(0);
        let mut process = self.process.lock().expect("not poisoned");
        assert!(process.is_none(), "{} is running already", self.name);
        *process = Some(command.spawn().expect("postgres starts"));
    }

    /// Whether the postmaster runs.
    pub fn is_running(&self) -> bool {
        let mut process = self.process.lock().expect("not poisoned");
        process.as_mut().is_some_and(|child| child.try_wait().expect("our child").is_none())
    }

    /// Ends it in good order and waits for that.
    pub async fn stop(&self, how: Shutdown) {
        let name = match how {
            Shutdown::Fast => "INT",
            Shutdown::Immediate => "QUIT",
        };
        signal(name, &[self.postmaster()]);
        self.ended().await;
    }

    /// New connections, cancel requests among them, are kept waiting until [`Self::take_connections`]; others go on.
    pub fn hold_connections(&self) {
        signal("STOP", &[self.postmaster()]);
    }

    /// New connections are served again.
    pub fn take_connections(&self) {
        signal("CONT", &[self.postmaster()]);
    }

    /// `kill -9` of every process, as when the machine loses power.
    pub async fn kill(&self) {
        let postmaster = self.postmaster();
        // Stopped, it starts no more children while we list them.
        signal("STOP", &[postmaster]);
        let mut all = children(postmaster);
        all.push(postmaster);
        let segment = self.shared_memory_segment();
        signal("KILL", &all);
        self.ended().await;
        // Only the kernel could remove the segment that a killed postmaster leaves.
        if let Some(segment) = segment {
            let _removed = Command::new("ipcrm").args(["-m", &segment]).stderr(Stdio::null()).status();
        }
    }

    async fn ended(&self) {
        eventually(&format!("{} ends", self.name), Duration::from_secs(60), async || !self.is_running()).await;
        *self.process.lock().expect("not poisoned") = None;
        *self.client.lock().await = None;
    }

    /// Makes a standby the primary of a new timeline, and waits for that.
    pub async fn promote(&self) {
        assert_eq!(self.scalar("SELECT pg_promote(true, 30)").await, "t", "{} is promoted", self.name);
    }

    /// Lets a standby receive WAL and not replay it.
    pub async fn pause_replay(&self) {
        self.query("SELECT pg_wal_replay_pause()").await;
        // A pause begins with the next record; with none to replay it is `paused` at once (14 and later).
        eventually(&format!("{} pauses", self.name), Duration::from_secs(10), async || {
            self.scalar("SELECT pg_is_wal_replay_paused()").await == "t"
        })
        .await;
    }

    /// Has a standby apply what the primary committed so many milliseconds ago; 0 is at once.
    pub async fn apply_late(&self, milliseconds: u32) {
        self.query(&format!("ALTER SYSTEM SET recovery_min_apply_delay = {milliseconds}")).await;
        self.query("SELECT pg_reload_conf()").await;
    }

    /// Ends [`Self::pause_replay`].
    pub async fn resume_replay(&self) {
        self.query("SELECT pg_wal_replay_resume()").await;
    }

    /// Runs `sql` as superuser in database `postgres`, past Howdah; panics when it fails.
    pub async fn query(&self, sql: &str) -> Rows {
        let mut client = self.client.lock().await;
        if client.as_ref().is_none_or(Client::is_closed) {
            *client =
                Some(Login::superuser(self.port).connect().await.unwrap_or_else(|e| panic!("{}: {e}", self.name)));
        }
        let client = client.as_ref().expect("just connected");
        rows(client, sql).await.unwrap_or_else(|error| panic!("{}: {sql}: {error:?}", self.name))
    }

    /// The only value of `sql`'s only row.
    pub async fn scalar(&self, sql: &str) -> String {
        let rows = self.query(sql).await;
        let [row] = rows.as_slice() else { panic!("{sql}: expected one row, got {rows:?}") };
        let [Some(value)] = row.as_slice() else { panic!("{sql}: expected one value, got {row:?}") };
        value.clone()
    }

    /// Runs `sql` as superuser in `database`, on a connection of its own.
    pub async fn query_in(&self, database: &str, sql: &str) -> Rows {
        let client = Login::superuser(self.port).database(database).connect().await.expect("superuser logs in");
        rows(&client, sql).await.unwrap_or_else(|error| panic!("{}: {sql}: {error:?}", self.name))
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Adds settings that the next start or reload takes up.
    pub fn configure(&self, settings: &str) {
        let file = self.data.join("postgresql.auto.conf");
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(&file, format!("{before}{settings}\n")).expect("settings are written");
    }

    fn log_file(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// The postmaster and all its children.
    pub fn processes(&self) -> Vec<u32> {
        let postmaster = self.postmaster();
        let mut all = vec![postmaster];
        all.extend(children(postmaster));
        all
    }

    fn postmaster(&self) -> u32 {
        let process = self.process.lock().expect("not poisoned");
        process.as_ref().unwrap_or_else(|| panic!("{} is not running", self.name)).id()
    }

    /// The seventh line of postmaster.pid is "key identifier" of the System V segment.
    fn shared_memory_segment(&self) -> Option<String> {
        let file = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        Some(file.lines().nth(6)?.split_whitespace().nth(1)?.to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.is_running() {
            signal("QUIT", &[self.postmaster()]);
        }
        if let Some(mut child) = self.process.lock().expect("not poisoned").take() {
            let _ended = child.wait();
        }
    }
}

/// Sends a signal by name; a process that is gone is no fault.
pub fn signal(name: &str, processes: &[u32]) {
    let _sent = Command::new("kill")
        .arg(format!("-{name}"))
        .args(processes.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
}

/// Every process whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let processes = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    processes
        .filter(|process| {
            // "pid (name with anything) state ppid …"
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let after_name = stat.rsplit(')').next().unwrap_or_default();
            after_name.split_whitespace().nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent)
        })
        .collect()
}
