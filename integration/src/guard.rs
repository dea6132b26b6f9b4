//! Nothing outlives the test process: not after a panic, Ctrl-C or `kill -9`.
//!
//! A shell waits on a pipe whose other end only the test process holds. When that end closes,
//! whatever the reason, the shell ends the servers whose pid files it finds and removes the
//! directory.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = r#"
read -r _                                   # returns when the pipe closes
for file in "$1"/*/postmaster.pid; do
    [ -f "$file" ] && kill -QUIT "$(head -n 1 "$file")"
done
for file in "$1"/*.pid; do
    [ -f "$file" ] && kill -KILL "$(cat "$file")"
done
[ -n "$2" ] && exit
for _ in 1 2 3 4 5 6 7 8 9 10; do           # servers remove their pid files when they have ended
    ls "$1"/*/postmaster.pid && sleep 0.3
done
rm -rf "$1"
"#;

/// Ends the servers below a directory, and the directory, when dropped or when the process dies.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
}

impl Guard {
    /// Guards `directory`: `*/postmaster.pid` and `*.pid` in it name the processes to end.
    pub fn new(directory: &Path) -> Self {
        let keep = if std::env::var_os("HOWDAH_KEEP").is_some() { "keep" } else { "" };
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(directory)
            .arg(keep)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Ctrl-C in a terminal reaches the whole process group; the guard must outlive it.
            .process_group(0)
            .spawn()
            .expect("sh starts");
        Self { shell }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ended = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_ends_processes_and_removes_the_directory() {
        let directory = std::env::temp_dir().join(format!("howdah-guard-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(directory.join("sleeper.pid"), sleeper.id().to_string()).unwrap();
        drop(Guard::new(&directory));
        assert!(!sleeper.wait().unwrap().success());
        assert!(!directory.exists());
    }
}
