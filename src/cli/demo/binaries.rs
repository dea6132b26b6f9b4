//! Where PostgreSQL's programs are, and as whom they run: PostgreSQL refuses root.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::{DemoError, io_error};

/// PostgreSQL's programs, all of one release.
#[derive(Debug)]
pub(super) struct Binaries {
    directory: PathBuf,
    owner: Option<Owner>,
}

/// The user that servers run as when we are root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
}

// === impl Binaries ===

impl Binaries {
    /// The newest release that has all that is needed.
    pub(super) fn find() -> Result<Self, DemoError> {
        let directories = candidates(Path::new("/usr/lib/postgresql"));
        let complete = |directory: &&PathBuf| REQUIRED.iter().all(|program| directory.join(program).is_file());
        let Some(directory) = directories.iter().find(complete) else {
            let has = |program: &str| directories.iter().any(|directory| directory.join(program).is_file());
            let program = REQUIRED.iter().find(|program| !has(program)).unwrap_or(&REQUIRED[0]);
            return Err(DemoError::Missing { program });
        };
        Ok(Self { directory: directory.clone(), owner: owner()? })
    }

    /// The user that servers run as, when it is not us.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// A program of the server's, run as its owner.
    pub(super) fn server(&self, program: &str) -> Command {
        let mut command = self.command(program);
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }

    /// A client program, run as ourselves.
    pub(super) fn client(&self, program: &'static str) -> Result<Command, DemoError> {
        if !self.directory.join(program).is_file() {
            return Err(DemoError::Missing { program });
        }
        Ok(self.command(program))
    }

    /// The release's number.
    pub(super) async fn version(&self) -> Result<String, DemoError> {
        let mut command = self.server("postgres");
        command.arg("--version");
        let version = finish("postgres --version", command).await?;
        // `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`
        Ok(version.split_whitespace().nth(2).unwrap_or("of unknown release").to_owned())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        // Messages in English; and our directory may be closed to the owner.
        command.env("LC_ALL", "C").current_dir("/").kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            // PGHOST, PGSERVICE and the like are about other servers.
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Runs `command` to its end: its output, or what it said when it failed.
pub(super) async fn finish(what: &str, mut command: Command) -> Result<String, DemoError> {
    let output = command.stdin(Stdio::null()).process_group(0).output().await;
    let output = output.map_err(|error| io_error(format!("cannot start {what}"), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(DemoError::Program { program: what.to_owned(), output: said })
}

/// Makes `path` the owner's, when there is one.
pub(super) fn give_to(path: &Path, owner: Option<Owner>) -> std::io::Result<()> {
    match owner {
        Some(owner) => chown(path, Some(owner.uid), Some(owner.gid)),
        None => Ok(()),
    }
}

/// Directories to look in, the most wanted first.
fn candidates(releases: &Path) -> Vec<PathBuf> {
    let mut numbered: Vec<(u32, PathBuf)> = std::fs::read_dir(releases)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // 9.6 and older are named otherwise, and too old for Howdah.
            let release = entry.file_name().to_str()?.parse().ok()?;
            Some((release, entry.path().join("bin")))
        })
        .collect();
    numbered.sort_unstable_by(|left, right| right.cmp(left));
    let mut directories: Vec<PathBuf> = numbered.into_iter().map(|(_, path)| path).collect();
    directories.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    directories.extend(said_by("pg_config", "--bindir").map(PathBuf::from));
    directories
}

/// Whom servers run as: ourselves, or `postgres` when we are root.
fn owner() -> Result<Option<Owner>, DemoError> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = std::process::Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
        std::str::from_utf8(&output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return Ok(None);
    }
    let (uid, gid) = id(&["-u", "postgres"]).zip(id(&["-g", "postgres"])).ok_or(DemoError::NoOwner)?;
    Ok(Some(Owner { uid, gid }))
}

fn said_by(program: &str, argument: &str) -> Option<String> {
    let output = std::process::Command::new(program).arg(argument).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// Without these there is no demo; pgbench is only for the load.
const REQUIRED: [&str; 4] = ["postgres", "initdb", "pg_basebackup", "psql"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_releases_come_first() {
        let root = std::env::temp_dir().join(format!("howdah-binaries-test-{}", std::process::id()));
        for release in ["9.6", "9", "15", "100", "notes"] {
            std::fs::create_dir_all(root.join(release).join("bin")).unwrap();
        }
        let found = candidates(&root);
        let expected: Vec<PathBuf> = ["100", "15", "9"].map(|release| root.join(release).join("bin")).into();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found[..3], expected);
        assert!(!found[3..].iter().any(|path| path.starts_with(&root)));
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let message = DemoError::Missing { program: "initdb" }.to_string();
        assert!(message.starts_with("PostgreSQL's initdb was not found"), "{message}");
        assert!(message.contains("apt-get install postgresql"), "{message}");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo alas >&2; exit 1"]);
        let error = finish("sh", command).await.unwrap_err();
        assert_eq!(error.to_string(), "sh failed:\nalas");
    }
}
