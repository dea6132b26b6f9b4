//! Django: an ordinary project (`integration/django`) whose settings know nothing of Howdah.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::Duration;

use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{Finished, python, run, source_directory};
use tokio::process::Command;

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Drivers,
        &[("pool.size", "5")],
        howdah_integration::checks![migrations, visitors_see_what_they_wrote, long_lived_threads, test_runner],
    )
}

/// Runs a program of the project.
async fn django(env: &Env, arguments: &[&str]) -> Finished {
    let mut command = Command::new(python().await);
    command.arg("-B").args(arguments).current_dir(source_directory().join("django")).envs(env.app().environment());
    run(command, "", Duration::from_secs(170)).await
}

async fn migrations(env: &Env) {
    // The model as it is; a migration kept in the repository could only be older than it.
    let made = django(env, &["manage.py", "makemigrations", "--check", "--dry-run"]).await;
    assert_eq!(made.code, Some(0), "a model has no migration: {}", made.out);
    let out = django(env, &["manage.py", "migrate"]).await.expect_success();
    assert!(out.contains("Applying guestbook.0001_initial... OK"), "{out}");
    // Again: nothing to do, and the history is read back correctly.
    let out = django(env, &["manage.py", "migrate"]).await.expect_success();
    assert!(out.contains("No migrations to apply."), "{out}");
    env.assert_only_on_primary("CREATE TABLE \"guestbook_entry\"%").await;
}

async fn visitors_see_what_they_wrote(env: &Env) {
    django(env, &["manage.py", "migrate"]).await.expect_success();
    env.read_by_replicas("guestbook_entry").await;
    env.cluster.forget_calls().await;
    let done = django(env, &["visit.py"]).await;
    eprint!("{}", done.out);
    done.expect_success();
    env.assert_only_on_primary("INSERT INTO \"guestbook_entry\"%").await;
    env.assert_only_on_primary("UPDATE \"guestbook_entry\"%").await;
    env.assert_only_on_primary("%FOR UPDATE%").await;
    let calls = env.cluster.calls("SELECT \"guestbook_entry\".%INNER JOIN \"guestbook_author\"%").await;
    assert!(calls.total() >= 220, "120 redirects and 100 plain reads: {calls}");
    if !env.is_direct() {
        // The reads right after a write may find no replica in time; the others have no excuse.
        assert!(calls.on_replicas() >= 100, "reads belong on replicas: {calls}");
    }
}

async fn long_lived_threads(env: &Env) {
    django(env, &["manage.py", "migrate"]).await.expect_success();
    let done = django(env, &["persistent.py"]).await;
    eprint!("{}", done.out);
    done.expect_success();
    env.assert_only_on_primary("INSERT INTO \"guestbook_entry\"%").await;
}

async fn test_runner(env: &Env) {
    // It creates a database of its own, for which the role needs the right.
    env.cluster.primary().query("ALTER ROLE app CREATEDB").await;
    let done = django(env, &["manage.py", "test", "--noinput"]).await;
    assert!(done.code == Some(0) && done.err.contains("Ran 5 tests"), "{}{}", done.out, done.err);
}
