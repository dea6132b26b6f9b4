//! Where PostgreSQL's programs are, and as whom its server programs run.
//!
//! PostgreSQL refuses to run as root; then its server programs run as user `postgres`.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user and group that own the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// Gives `path` to this owner; does nothing when we are not root.
    pub fn take(self, path: &Path) {
        if self != current() {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
                .unwrap_or_else(|error| panic!("cannot give {} to user postgres: {error}", path.display()));
        }
    }
}

/// Who runs server programs: ourselves, or user `postgres` when we are root.
pub fn owner() -> Owner {
    let me = current();
    if me.uid != 0 {
        return me;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let fields = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&"postgres"))
        .expect("running as root needs a user `postgres` to run PostgreSQL as");
    let number = |index: usize| fields[index].parse().expect("numeric uid and gid in /etc/passwd");
    Owner { uid: number(2), gid: number(3) }
}

/// A server program (`initdb`, `postgres`, `pg_basebackup`), run as [`owner`].
pub fn server_program(name: &str) -> Command {
    let mut command = Command::new(directory().join(name));
    let owner = owner();
    if owner != current() {
        command.uid(owner.uid).gid(owner.gid);
    }
    // The caller's directory may be closed to user `postgres`.
    command.current_dir("/").env("LC_ALL", "C");
    command
}

/// The library that gives a program another clock (libfaketime).
pub fn faketime() -> PathBuf {
    let roots = ["/usr/lib", "/usr/lib64"].map(PathBuf::from);
    let below =
        roots.iter().filter_map(|root| std::fs::read_dir(root).ok()).flatten().flatten().map(|entry| entry.path());
    let mut found = roots.iter().cloned().chain(below).map(|place| place.join("faketime/libfaketime.so.1"));
    found.find(|library| library.exists()).expect("libfaketime is installed (scripts/setup test)")
}

/// A client program (`psql`, `pgbench`), run as ourselves, from the same release.
pub fn client_program(name: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(directory().join(name));
    command.env("LC_ALL", "C").kill_on_drop(true);
    command
}

/// `$PGBIN`, or the newest release that a Debian or Red Hat package installed.
pub fn directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("PGBIN") {
        return directory.into();
    }
    let debian = releases(Path::new("/usr/lib/postgresql"), "");
    let red_hat = releases(Path::new("/usr"), "pgsql-");
    debian
        .into_iter()
        .chain(red_hat)
        .max()
        .map(|(_, directory)| directory)
        .expect("PostgreSQL's server programs are not installed (or set PGBIN to their directory)")
}

/// `(release, directory of its programs)` of every `PREFIX<release>` in `parent`.
fn releases(parent: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let release = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            let directory = entry.path().join("bin");
            directory.join("initdb").exists().then_some((release, directory))
        })
        .collect()
}

/// Who we are. `/proc/self` belongs to the effective user.
fn current() -> Owner {
    let metadata = std::fs::metadata("/proc/self").expect("/proc is mounted");
    Owner { uid: metadata.uid(), gid: metadata.gid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_exist_and_answer() {
        for name in ["initdb", "postgres", "psql", "pgbench"] {
            let output = server_program(name).arg("--version").output().unwrap();
            assert!(output.status.success(), "{name}");
        }
    }
}
