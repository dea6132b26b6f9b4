//! The binary under test: started, signalled, watched.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::TestCluster;
use crate::session::{Login, eventually};
use crate::settings::Settings;
use crate::{node, ports, tools};

/// How long a start, a reload or an end may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// One running Howdah in front of a [`TestCluster`].
#[derive(Debug)]
pub struct Howdah {
    /// Where clients connect, on 127.0.0.1.
    pub port: u16,
    /// The metrics endpoint's port.
    pub metrics_port: u16,
    file: PathBuf,
    log: PathBuf,
    pid_file: PathBuf,
    process: Mutex<Child>,
    /// Leaks that a test has made on purpose, or accepts.
    told: AtomicUsize,
}

/// What a line in the log says that tells of a leak.
const LEAK: &str = "leak: a server carries what it should not";

impl Howdah {
    /// Starts it with the usual settings changed by `overrides` (`("pool.size", "5")`), and waits
    /// until it is ready and lets the application's user in.
    pub async fn start(cluster: &TestCluster, overrides: &[(&str, &str)]) -> Self {
        let howdah = Self::spawn(cluster, overrides);
        eventually("Howdah is ready", DEADLINE, async || {
            assert!(howdah.exit_status().is_none(), "Howdah ended:\n{}", howdah.log());
            // Checked in this order: readiness does not depend on logins.
            howdah.is_ready().await && Login::app(howdah.port).connect().await.is_ok()
        })
        .await;
        howdah
    }

    /// As [`Self::start`], without waiting.
    pub fn spawn(cluster: &TestCluster, overrides: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("howdah-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let file = |extension: &str| cluster.directory().join(&name).with_extension(extension);
        let (port, metrics_port) = (ports::free_port(), ports::free_port());
        let mut settings = Settings::new(cluster, port, metrics_port);
        for (path, value) in overrides {
            settings = settings.with(path, value);
        }
        std::fs::write(file("yaml"), settings.to_string()).expect("configuration is written");
        let log = File::create(file("log")).expect("log file");
        let child = Command::new(binary())
            .args(["run", "-c"])
            .arg(file("yaml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("file handle"))
            .stderr(log)
            .env("RUST_BACKTRACE", "1")
            .spawn()
            .expect("howdah starts");
        std::fs::write(file("pid"), child.id().to_string()).expect("pid file");
        Self {
            port,
            metrics_port,
            file: file("yaml"),
            log: file("log"),
            pid_file: file("pid"),
            process: Mutex::new(child),
            told: AtomicUsize::new(0),
        }
    }

    /// Whether `/readyz` answers 200.
    pub async fn is_ready(&self) -> bool {
        matches!(self.http("/readyz").await, Ok((200, _)))
    }

    /// `GET path` from the metrics endpoint: status and body.
    pub async fn http(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics_port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    }

    /// Rewrites the configuration with `overrides` and sends SIGHUP. The caller waits for the effect.
    pub fn reload(&self, cluster: &TestCluster, overrides: &[(&str, &str)]) {
        let mut settings = Settings::new(cluster, self.port, self.metrics_port);
        for (path, value) in overrides {
            settings = settings.with(path, value);
        }
        std::fs::write(&self.file, settings.to_string()).expect("configuration is written");
        self.signal("HUP");
    }

    /// Sends a signal by name: `TERM`, `INT`, `HUP`, `KILL`.
    pub fn signal(&self, name: &str) {
        node::signal(name, &[self.id()]);
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.process.lock().expect("not poisoned").id()
    }

    /// How it ended, once it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.lock().expect("not poisoned").try_wait().expect("our child")
    }

    /// Waits for its end: the exit code, or the number of the signal that killed it.
    pub async fn ended(&self) -> Result<i32, i32> {
        eventually("Howdah ends", DEADLINE, async || self.exit_status().is_some()).await;
        let status = self.exit_status().expect("it ended");
        status.code().ok_or_else(|| status.signal().expect("neither code nor signal"))
    }

    /// The configuration file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What it wrote to standard output and standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What servers were found to carry that they should not, since this was last asked.
    ///
    /// A Howdah that ends with any fails its test.
    pub fn leaks(&self) -> Vec<String> {
        let log = self.log();
        let leaks: Vec<&str> = log.lines().filter(|line| line.contains(LEAK)).collect();
        let seen = self.told.swap(leaks.len(), Ordering::Relaxed);
        leaks[seen.min(leaks.len())..].iter().map(|line| (*line).to_owned()).collect()
    }
}

impl Drop for Howdah {
    fn drop(&mut self) {
        let mut process = self.process.lock().expect("not poisoned");
        let _killed = process.kill();
        let _ended = process.wait();
        let _removed = std::fs::remove_file(&self.pid_file);
        let leaks = self.leaks();
        if !std::thread::panicking() {
            assert!(leaks.is_empty(), "servers leaked:\n{}", leaks.join("\n"));
        }
    }
}

/// `$HOWDAH_BIN`, or `howdah` beside the directory this test runs from.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("HOWDAH_BIN") {
        return path.into();
    }
    let path = tools::profile_directory().join("howdah");
    assert!(path.exists(), "{} does not exist: run `cargo build -p howdah` first", path.display());
    path
}
