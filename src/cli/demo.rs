//! `howdah demo`: a primary, two streaming replicas and Howdah in front, for as long as you watch.
//!
//! Everything lives in one directory that goes away with the demo. It knows PostgreSQL's programs
//! and Howdah's own command line, and nothing of how Howdah works inside.

mod binaries;
mod live;
mod postgres;

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rand::RngExt;
use rand::distr::Alphanumeric;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use binaries::{Binaries, Owner};
use postgres::{Login, Server};

/// What `howdah demo` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where Howdah listens on 127.0.0.1
    #[arg(long, default_value_t = 6432)]
    port: u16,
    /// End after this time, such as 30s or 5m; otherwise with Ctrl-C
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Run a light load through Howdah: pgbench, nine reads for each write
    #[arg(long)]
    load: bool,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(
        "PostgreSQL's {program} was not found (looked in /usr/lib/postgresql/*/bin, PATH and `pg_config --bindir`)\n\
         install it: `apt-get install postgresql`, `dnf install postgresql-server postgresql-contrib` or `brew install postgresql`"
    )]
    Missing { program: &'static str },
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` to run it as; run the demo as another user"
    )]
    NoOwner,
    #[error("port {0} on 127.0.0.1 is taken; choose another with --port")]
    PortTaken(u16),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{program} failed:\n{output}")]
    Program { program: String, output: String },
    #[error("{what} ended ({status}); the end of its log:\n{log}")]
    Ended { what: String, status: ExitStatus, log: String },
    #[error("{what} did not answer within {} s; the end of its log:\n{log}", READY_WITHIN.as_secs())]
    Silent { what: String, log: String },
}

/// Everything that was started, in the order in which it was started.
struct Demo {
    directory: Directory,
    binaries: Binaries,
    nodes: Vec<Server>,
    howdah: Option<Child>,
    load: Option<Child>,
    ports: Ports,
    logins: Logins,
}

/// A directory that is removed with the value.
struct Directory(PathBuf);

struct Ports {
    howdah: u16,
    metrics: u16,
}

/// One set of random passwords for each demo.
struct Logins {
    /// The superuser of the servers.
    superuser: Login,
    /// The user of the database `demo`.
    demo: Login,
    /// Howdah's monitor, and the console's user.
    howdah: Login,
}

/// Starts the demo and stays until it is over.
pub(super) fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&io_error("cannot start", error)),
    };
    match runtime.block_on(Box::pin(show(args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &DemoError) -> ExitCode {
    // When standard error is gone, the exit code tells the rest.
    let _ = writeln!(io::stderr(), "howdah demo: {error}");
    ExitCode::FAILURE
}

async fn show(args: Args) -> Result<(), DemoError> {
    let mut demo = Demo::prepare(args.port)?;
    // Signals are caught from here on; what is left undone by one is killed as its future is dropped.
    let mut interrupt = Box::pin(interrupted()?);
    let shown = tokio::select! {
        shown = async {
            demo.start(&args).await?;
            demo.watch(args.duration).await
        } => shown,
        () = &mut interrupt => Ok(()),
    };
    say("stopping …");
    demo.stop().await;
    shown
}

/// Ends when somebody wants the demo to.
fn interrupted() -> Result<impl Future<Output = ()>, DemoError> {
    let listen = |kind| signal(kind).map_err(|error| io_error("cannot wait for signals", error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

// === impl Demo ===

impl Demo {
    /// Finds what is needed and fails before anything is started.
    fn prepare(port: u16) -> Result<Self, DemoError> {
        let binaries = Binaries::find()?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            return Err(DemoError::PortTaken(port));
        }
        let [metrics, first, second, third] = free_ports()?;
        let directory = Directory::create(binaries.owner())?;
        let nodes = [("pg1", first), ("pg2", second), ("pg3", third)];
        let nodes = nodes.map(|(name, port)| Server::new(name, port, &directory.0)).into();
        let logins =
            Logins { superuser: Login::new("postgres"), demo: Login::new("demo"), howdah: Login::new("howdah") };
        let ports = Ports { howdah: port, metrics };
        Ok(Self { directory, binaries, nodes, howdah: None, load: None, ports, logins })
    }

    async fn start(&mut self, args: &Args) -> Result<(), DemoError> {
        say(&format!("starting PostgreSQL {} in {}", self.binaries.version().await?, self.directory.0.display()));
        let [primary, replicas @ ..] = self.nodes.as_mut_slice() else {
            return Ok(());
        };
        primary.initialize(&self.binaries, &self.logins.superuser, &self.directory.0).await?;
        primary.start(&self.binaries, &self.logins.superuser).await?;
        primary.run_script(&self.binaries, &self.logins.superuser, &self.logins.objects()).await?;
        for replica in replicas {
            replica.copy_from(primary, &self.binaries, &self.logins.superuser).await?;
            replica.start(&self.binaries, &self.logins.superuser).await?;
        }
        if args.load {
            self.fill().await?;
        }
        self.start_howdah().await?;
        if args.load {
            self.load = Some(self.start_load()?);
        }
        say(&self.welcome());
        Ok(())
    }

    /// Tables for pgbench, made on the primary itself.
    async fn fill(&self) -> Result<(), DemoError> {
        let mut pgbench = self.binaries.client("pgbench")?;
        self.logins.demo.give(&mut pgbench, self.nodes[0].port);
        pgbench.args(["--initialize", "--quiet", "--scale=5", "demo"]);
        binaries::finish("pgbench --initialize", pgbench).await.map(drop)
    }

    fn start_load(&self) -> Result<Child, DemoError> {
        let mut pgbench = self.binaries.client("pgbench")?;
        self.logins.demo.give(&mut pgbench, self.ports.howdah);
        pgbench.args(["--no-vacuum", "--protocol=prepared", "--client=8", "--rate=300", "--time=1000000"]);
        pgbench.args(["--builtin=select-only@9", "--builtin=tpcb-like@1", "demo"]);
        spawn("pgbench", pgbench, &self.directory.0.join("pgbench.log"))
    }

    async fn start_howdah(&mut self) -> Result<(), DemoError> {
        let file = self.directory.0.join("howdah.yaml");
        write_private(&file, &self.configuration(), None)?;
        let program = std::env::current_exe().map_err(|error| io_error("cannot find this program", error))?;
        let mut command = Command::new(program);
        command.arg("run").arg("-c").arg(&file);
        let log = self.directory.0.join("howdah.log");
        let howdah = self.howdah.insert(spawn("howdah run", command, &log)?);
        let ready = || postgres::query(&self.binaries, &self.logins.demo, self.ports.howdah, "demo", "SELECT 1");
        until_ready("howdah run", howdah, &log, ready).await
    }

    fn configuration(&self) -> String {
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("      - {{name: {}, address: \"127.0.0.1:{}\"}}\n", node.name, node.port))
            .collect();
        let Logins { demo, howdah, .. } = &self.logins;
        format!(
            "listen:\n  - address: 127.0.0.1:{port}\n\
             auth: {{method: scram-sha-256}}\n\
             users:\n  - {{name: demo, password: \"{demo}\"}}\n  - {{name: howdah, password: \"{howdah}\"}}\n\
             clusters:\n  main:\n    nodes:\n{nodes}    \
             monitor: {{user: howdah, password: \"{howdah}\", database: postgres, interval: 500ms}}\n\
             databases:\n  - {{name: \"*\", cluster: main}}\n\
             admin: {{users: [howdah]}}\n\
             metrics: {{address: 127.0.0.1:{metrics}}}\n",
            port = self.ports.howdah,
            demo = demo.password(),
            howdah = howdah.password(),
            nodes = nodes.concat(),
            metrics = self.ports.metrics,
        )
    }

    fn welcome(&self) -> String {
        let Ports { howdah: port, metrics } = self.ports;
        let psql = |login: &Login, database: &str| {
            format!("PGPASSWORD={} psql -h 127.0.0.1 -p {port} -U {} {database}", login.password(), login.user())
        };
        format!(
            "\npg1 is the primary, pg2 and pg3 are replicas; Howdah is in front of them.\n\n  \
             {demo}\n  {console}    # then: SHOW NODES; SHOW POOLS; SHOW HELP\n  \
             curl http://127.0.0.1:{metrics}/metrics\n\n\
             Ctrl-C stops everything and removes {directory}.\n\n\
             Transactions per second in database demo, as the nodes themselves count them:",
            demo = psql(&self.logins.demo, "demo"),
            console = psql(&self.logins.howdah, "howdah"),
            directory = self.directory.0.display(),
        )
    }

    /// Prints a line per second until `duration` is over, or for ever.
    async fn watch(&mut self, duration: Option<Duration>) -> Result<(), DemoError> {
        let start = Instant::now();
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        let mut before = live::look(&self.nodes, &self.binaries, &self.logins.superuser).await;
        seconds.tick().await;
        while duration.is_none_or(|duration| start.elapsed() < duration) {
            seconds.tick().await;
            self.check()?;
            let now = live::look(&self.nodes, &self.binaries, &self.logins.superuser).await;
            if writeln!(io::stdout(), "{}", live::line(start.elapsed(), &before, &now)).is_err() {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }

    /// Whether Howdah still runs; a load that ended starts anew, for it gives up when a node does.
    fn check(&mut self) -> Result<(), DemoError> {
        if let Some(howdah) = &mut self.howdah {
            alive("howdah run", howdah, &self.directory.0.join("howdah.log"))?;
        }
        if let Some(load) = &mut self.load
            && matches!(load.try_wait(), Ok(Some(_)))
        {
            self.load = Some(self.start_load()?);
        }
        Ok(())
    }

    /// Stops everything, Howdah before the servers, and never fails: what does not stop is killed.
    async fn stop(mut self) {
        if let Some(load) = self.load.take() {
            end(load, "TERM").await;
        }
        if let Some(howdah) = self.howdah.take() {
            end(howdah, "INT").await;
        }
        for node in self.nodes.iter_mut().rev() {
            if let Some(process) = node.process.take() {
                // Immediate shutdown: the data goes away next.
                end(process, "QUIT").await;
            }
        }
    }
}

// === impl Directory ===

impl Directory {
    fn create(owner: Option<Owner>) -> Result<Self, DemoError> {
        let path = std::env::temp_dir().join(format!("howdah-demo-{}", std::process::id()));
        let what = || format!("cannot make {}", path.display());
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| io_error(what(), error))?;
        let directory = Self(path.clone());
        binaries::give_to(&path, owner).map_err(|error| io_error(what(), error))?;
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let mut removed = fs::remove_dir_all(&self.0);
        for _ in 0..20 {
            if removed.is_ok() {
                return;
            }
            // What was killed in the middle of its work may still have been writing.
            std::thread::sleep(Duration::from_millis(100));
            removed = fs::remove_dir_all(&self.0);
        }
        if let Err(error) = removed {
            // Nothing else can be done about it, but somebody should know.
            let _ = writeln!(io::stderr(), "howdah demo: cannot remove {}: {error}", self.0.display());
        }
    }
}

// === impl Logins ===

impl Logins {
    /// The roles and the database of the demo, as SQL.
    fn objects(&self) -> String {
        format!(
            "CREATE ROLE demo LOGIN PASSWORD '{}';\n\
             CREATE ROLE howdah LOGIN PASSWORD '{}' IN ROLE pg_monitor;\n\
             CREATE DATABASE demo OWNER demo;\n",
            self.demo.password(),
            self.howdah.password()
        )
    }
}

// === Processes ===

/// Starts `command` with its output in `log`, in a process group of its own: Ctrl-C is ours to handle.
fn spawn(what: &str, mut command: Command, log: &Path) -> Result<Child, DemoError> {
    let output = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let output = output.map_err(|error| io_error(format!("cannot write {}", log.display()), error))?;
    let errors = output.try_clone().map_err(|error| io_error(format!("cannot write {}", log.display()), error))?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0).kill_on_drop(true);
    command.spawn().map_err(|error| io_error(format!("cannot start {what}"), error))
}

/// Asks `ready` again and again until it succeeds, the process ends or patience does.
async fn until_ready<F: Future<Output = Result<String, DemoError>>>(
    what: &str,
    process: &mut Child,
    log: &Path,
    ready: impl Fn() -> F,
) -> Result<(), DemoError> {
    let start = Instant::now();
    while start.elapsed() < READY_WITHIN {
        alive(what, process, log)?;
        if ready().await.is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(DemoError::Silent { what: what.to_owned(), log: tail(log) })
}

fn alive(what: &str, process: &mut Child, log: &Path) -> Result<(), DemoError> {
    match process.try_wait() {
        Ok(Some(status)) => Err(DemoError::Ended { what: what.to_owned(), status, log: tail(log) }),
        Ok(None) => Ok(()),
        Err(error) => Err(io_error(format!("cannot wait for {what}"), error)),
    }
}

/// Sends a signal and waits; kills what has not ended by then.
async fn end(mut process: Child, signal: &str) {
    if let Some(id) = process.id() {
        // The shell's own `kill` is there even where no program of that name is.
        let _ = Command::new("sh").arg("-c").arg(format!("kill -{signal} {id}")).status().await;
    }
    if timeout(END_WITHIN, process.wait()).await.is_err() {
        let _ = process.kill().await;
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

// === Helpers ===

fn say(text: &str) {
    // The demo goes on when nobody reads; `watch` notices.
    let _ = writeln!(io::stdout(), "{text}");
}

fn io_error(what: impl Into<String>, source: io::Error) -> DemoError {
    DemoError::Io { what: what.into(), source }
}

/// Ports that were free a moment ago; all are held until the last is found, so that they differ.
fn free_ports<const N: usize>() -> Result<[u16; N], DemoError> {
    let free = || -> io::Result<(TcpListener, u16)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    };
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(free().map_err(|error| io_error("cannot find a free port", error))?);
    }
    Ok(std::array::from_fn(|index| held[index].1))
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str, owner: Option<Owner>) -> Result<(), DemoError> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        binaries::give_to(path, owner)
    };
    write().map_err(|error| io_error(format!("cannot write {}", path.display()), error))
}

fn random_password() -> String {
    rand::rng().sample_iter(Alphanumeric).take(16).map(char::from).collect()
}

/// `30s`, `5m`, `1h`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: Option<u64> = text[..split].parse().ok();
    let milliseconds = match &text[split..] {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let product = number.zip(milliseconds).and_then(|(number, unit)| number.checked_mul(unit));
    product.map(Duration::from_millis).ok_or_else(|| "give a number and a unit, such as 30s or 5m".to_owned())
}

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long a process may take to end before it is killed.
const END_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, milliseconds) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn free_ports_differ() {
        let mut ports = free_ports::<8>().unwrap().to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 8);
    }

    #[test]
    fn the_directory_goes_with_the_value() {
        let directory = Directory::create(None).unwrap();
        let path = directory.0.clone();
        write_private(&path.join("secret"), "x", None).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path.join("secret")).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        drop(directory);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_process_that_ends_early_shows_its_log() {
        let directory = tempfile();
        let log = directory.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no good >&2; exit 3"]);
        let mut process = spawn("sh", command, &log).unwrap();
        let never = || async { Err(DemoError::NoOwner) };
        let error = until_ready("sh", &mut process, &log, never).await.unwrap_err().to_string();
        fs::remove_dir_all(directory).unwrap();
        assert_eq!(error, "sh ended (exit status: 3); the end of its log:\nno good");
    }

    fn tempfile() -> PathBuf {
        let path = std::env::temp_dir().join(format!("howdah-demo-test-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }
}
