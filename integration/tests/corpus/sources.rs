//! Who says the statements.

use std::path::Path;
use std::time::Duration;

use howdah_integration::session::Login;
use howdah_integration::tools::{Finished, python, run, source_directory};
use howdah_integration::{TestCluster, binaries};
use tokio::process::Command;

use crate::ledger::{Ledger, OFFLOAD};
use crate::tap::Tap;

/// Has every commit wait until the first standby has replayed it, and lets anybody in.
pub(crate) async fn prepare(cluster: &TestCluster) {
    for node in cluster.nodes() {
        let file = node.data().join("pg_hba.conf");
        std::fs::write(file, "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n")
            .expect("written");
    }
    let primary = cluster.primary();
    primary.query(&format!("ALTER SYSTEM SET synchronous_standby_names = '{}'", cluster.replicas()[0].name)).await;
    primary.query("ALTER SYSTEM SET synchronous_commit = 'remote_apply'").await;
    primary.query("ALTER ROLE app CREATEDB").await;
    for node in cluster.nodes() {
        node.query("SELECT pg_reload_conf()").await;
    }
    howdah_integration::session::eventually("commits wait for the standby", Duration::from_secs(20), async || {
        primary.scalar("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").await == "1"
    })
    .await;
}

/// A script of `integration/corpus`, as the application's user in a database of its own.
async fn script(cluster: &TestCluster, name: &'static str, database: &str, arguments: &[&str]) -> Ledger {
    cluster.primary().query(&format!("CREATE DATABASE {database} OWNER app")).await;
    let tap = Tap::start(cluster, Ledger::new(name, Some(OFFLOAD))).await;
    let login = Login::app(tap.port).database(database);
    let mut command = Command::new(python().await);
    command.arg("-B").args(arguments).current_dir(source_directory().join("corpus")).envs(login.environment());
    let done: Finished = run(command, "", Duration::from_secs(1800)).await;
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    tap.finish().await
}

pub(crate) async fn django(cluster: &TestCluster) -> Ledger {
    script(cluster, "Django", "django", &["django_corpus.py"]).await
}

pub(crate) async fn sqlalchemy(cluster: &TestCluster) -> Ledger {
    script(cluster, "SQLAlchemy", "sqlalchemy", &["sqlalchemy_corpus.py"]).await
}

/// PostgreSQL's regression tests, built in the directory that `HOWDAH_CORPUS_REGRESS` names, one after the other.
pub(crate) async fn postgresql(cluster: &TestCluster) -> Ledger {
    let tests = std::env::var_os("HOWDAH_CORPUS_REGRESS").expect("HOWDAH_CORPUS_REGRESS names a directory");
    let tests = Path::new(&tests);
    let primary = cluster.primary();
    primary.query("CREATE DATABASE regression TEMPLATE template0").await;
    for setting in [
        "lc_messages TO 'C'",
        "lc_monetary TO 'C'",
        "lc_numeric TO 'C'",
        "lc_time TO 'C'",
        "bytea_output TO 'hex'",
        "timezone_abbreviations TO 'Default'",
    ] {
        primary.query(&format!("ALTER DATABASE regression SET {setting}")).await;
    }
    let tap = Tap::start(cluster, Ledger::new("PostgreSQL", None)).await;
    let program = tests.join("pg_regress");
    // By the servers' owner: servers and tests write files for each other.
    let mut command: Command = binaries::server_program(program.to_str().expect("UTF-8")).into();
    let arg = |name: &str, value: &Path| format!("--{name}={}", value.display());
    command
        .args(["--use-existing", "--host=127.0.0.1", "--user=postgres", "--dbname=regression", "--max-connections=1"])
        .arg(format!("--port={}", tap.port))
        .arg(arg("bindir", &binaries::directory()))
        .arg(arg("dlpath", tests))
        .arg(arg("inputdir", tests))
        .arg(arg("outputdir", &tests.join("out")))
        .arg(arg("schedule", &tests.join("parallel_schedule")));
    let done = run(command, "", Duration::from_secs(3600)).await;
    let passed = done.out.lines().filter(|line| line.contains("... ok") || line.starts_with("ok ")).count();
    eprintln!("{}\n{passed} tests passed on the way", done.out);
    assert!(passed > 0, "{}", done.err);
    tap.finish().await
}
