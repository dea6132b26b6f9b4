//! Howdah starts, reloads, drains and ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is how a test fails")]

use std::time::{Duration, Instant};

use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::settings::users_and;
use howdah_integration::suite::{self, Env, Subject};
use howdah_integration::tools::{PGBENCH_SUMS_AGREE, pgbench};
use howdah_integration::wire::{self, Wire, describe, error_code};
use howdah_integration::{Howdah, howdah};
use tokio::process::Command;

fn main() -> std::process::ExitCode {
    suite::main(
        Subject::Howdah,
        &[],
        howdah_integration::checks![
            endpoints,
            reload_adds_a_user,
            reload_of_a_wrong_file_changes_nothing,
            sigterm_drains,
            sigint_ends_now,
            kill_leaves_no_server_connection,
            clients_that_hang_up_leave_nothing,
            clients_that_hang_up_in_line_cost_nothing,
            clients_that_stop_midway_are_let_go,
            wrong_file_is_refused,
            hba_file_decides,
            verifiers_are_enough,
            users_are_looked_up,
            starts_before_its_nodes,
            workers_change_under_load,
            new_logins_see_new_defaults,
            servers_with_the_same_settings_come_first,
            servers_that_leak_are_closed,
            statement_pooling_has_no_blocks,
        ],
    )
}

async fn endpoints(env: &Env) {
    let howdah = env.howdah();
    assert_eq!(howdah.http("/livez").await.unwrap().0, 200);
    assert_eq!(howdah.http("/readyz").await.unwrap().0, 200);
    assert_eq!(howdah.http("/nothing").await.unwrap().0, 404);
    let (status, metrics) = howdah.http("/metrics").await.unwrap();
    assert_eq!(status, 200);
    let names = metrics.lines().filter(|line| line.starts_with("howdah_")).count();
    assert!(names > 10 && metrics.contains("# HELP howdah_"), "{metrics}");
}

async fn reload_adds_a_user(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[]).await;
    env.cluster.primary().query("CREATE ROLE late LOGIN PASSWORD 'late-secret'").await;
    let before = Login::app(howdah.port).connect().await.unwrap();
    rows(&before, "BEGIN; SET LOCAL work_mem = '5MB'; SELECT pg_current_xact_id()").await.unwrap();
    let late = Login { user: "late".into(), password: "late-secret".into(), ..Login::app(howdah.port) };
    assert!(late.connect().await.is_err(), "not yet");

    howdah.reload(&env.cluster, &[("users", &users_and(&[("late", "late-secret")]))]);
    eventually("the new user logs in", Duration::from_secs(10), async || late.connect().await.is_ok()).await;
    let client = late.connect().await.unwrap();
    assert_eq!(rows(&client, "SELECT current_user").await.unwrap()[0][0].as_deref(), Some("late"));
    // The transaction that was open goes on as if nothing had happened.
    assert_eq!(rows(&before, "SHOW work_mem").await.unwrap()[0][0].as_deref(), Some("5MB"));
    rows(&before, "COMMIT").await.unwrap();

    howdah.reload(&env.cluster, &[("users", &users_and(&[("late", "another secret")]))]);
    eventually("the old password is refused", Duration::from_secs(10), async || late.connect().await.is_err()).await;
}

async fn reload_of_a_wrong_file_changes_nothing(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[]).await;
    let client = Login::app(howdah.port).connect().await.unwrap();
    howdah.reload(&env.cluster, &[("pool.sise", "5")]);
    eventually("the fault is logged", Duration::from_secs(10), async || howdah.log().contains("pool.sise")).await;
    rows(&client, "SELECT 1").await.unwrap();
    rows(&Login::app(howdah.port).connect().await.unwrap(), "SELECT 1").await.unwrap();
}

async fn sigterm_drains(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[]).await;
    let login = Login::app(howdah.port);
    let busy = login.connect().await.unwrap();
    rows(&busy, "CREATE TABLE IF NOT EXISTS drained (n int); TRUNCATE drained").await.unwrap();
    rows(&busy, "BEGIN; INSERT INTO drained VALUES (1)").await.unwrap();
    let idle = login.connect().await.unwrap();
    rows(&idle, "SELECT 1").await.unwrap();

    howdah.signal("TERM");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(howdah.exit_status().is_none(), "a transaction is open");
    assert!(login.connect().await.is_err(), "nobody new is let in");
    assert!(!howdah.is_ready().await, "a load balancer is told");
    rows(&busy, "INSERT INTO drained VALUES (2)").await.expect("the open transaction goes on");
    rows(&busy, "COMMIT").await.expect("and commits");
    assert_eq!(howdah.ended().await, Ok(0));
    let count = env.cluster.primary().query_in("app", "SELECT count(*) FROM drained").await;
    assert_eq!(count[0][0].as_deref(), Some("2"));
}

/// A Howdah with a user that nobody else has, and that user's login: its sessions are this Howdah's.
async fn howdah_of_one_user(env: &Env, user: &str) -> (Howdah, Login) {
    env.cluster.primary().query(&format!("CREATE ROLE {user} SUPERUSER LOGIN PASSWORD 'own'")).await;
    env.cluster.caught_up(env.cluster.primary()).await;
    let howdah = Howdah::start(&env.cluster, &[("users", &users_and(&[(user, "own")]))]).await;
    let login = Login { user: user.into(), password: "own".into(), ..Login::app(howdah.port) };
    (howdah, login)
}

async fn sigint_ends_now(env: &Env) {
    let (howdah, login) = howdah_of_one_user(env, "interrupted").await;
    let client = login.connect().await.unwrap();
    rows(&client, "BEGIN; CREATE TABLE never_committed (n int)").await.unwrap();
    let start = Instant::now();
    howdah.signal("INT");
    let ended = howdah.ended().await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(ended.is_ok(), "ended by itself, not by the signal: {ended:?}");
    no_sessions_remain(env, "interrupted").await;
    let found = env.cluster.primary().query_in("app", "SELECT to_regclass('never_committed')").await;
    assert_eq!(found[0][0], None);
}

async fn no_sessions_remain(env: &Env, user: &str) {
    for node in env.cluster.nodes() {
        eventually(&format!("no session remains on {}", node.name), Duration::from_secs(10), async || {
            node.sessions_of(user).await == 0
        })
        .await;
    }
}

async fn kill_leaves_no_server_connection(env: &Env) {
    let (howdah, login) = howdah_of_one_user(env, "killed").await;
    let clients = futures_util::future::try_join_all((0..10).map(|_| login.connect())).await.unwrap();
    let work = clients.iter().map(|client| async {
        rows(client, "SELECT pg_sleep(0.2)").await.unwrap();
        rows(client, "BEGIN; SELECT pg_current_xact_id(); SELECT pg_sleep(0.1)").await.unwrap();
    });
    futures_util::future::join_all(work).await;
    assert!(env.cluster.primary().sessions_of("killed").await >= 10);
    howdah.signal("KILL");
    assert_eq!(howdah.ended().await, Err(9));
    no_sessions_remain(env, "killed").await;
}

async fn clients_that_hang_up_leave_nothing(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("pool.size", "2")]).await;
    let login = Login::app(howdah.port);
    for _ in 0..6 {
        // In the middle of a statement and a transaction; with a result half read.
        let mut client = Wire::connect(&login).await;
        client.send(&wire::query("BEGIN; SELECT pg_sleep(30)")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(client);
        let mut client = Wire::connect(&login).await;
        client.send(&wire::query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)")).await;
        client.receive().await;
        drop(client);
    }
    // Both servers of the pool are free again, or replaced, long before those statements would end.
    let next = async {
        let client = login.connect().await.unwrap();
        rows(&client, "CREATE TABLE IF NOT EXISTS after_hangup (n int)").await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(10), next).await.expect("servers are free again");
    eventually("nothing sleeps on", Duration::from_secs(10), async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()";
        env.cluster.primary().scalar(sql).await == "0"
    })
    .await;
}

async fn clients_that_hang_up_in_line_cost_nothing(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("pool.size", "1"), ("routing.reads", "primary")]).await;
    let login = Login::app(howdah.port);
    let holder = login.connect().await.unwrap();
    let mut line = Vec::new();
    for _ in 0..50 {
        line.push(Wire::connect(&login).await);
    }
    let pid = "SELECT pg_backend_pid()";
    rows(&holder, "BEGIN").await.unwrap();
    let server = rows(&holder, pid).await.unwrap();
    for client in &mut line {
        client.send(&wire::query("SELECT 'in line', pg_sleep(0.2)")).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(line);
    tokio::time::sleep(Duration::from_millis(100)).await;
    rows(&holder, "COMMIT").await.unwrap();
    // Nobody's statement is run, and the server is not closed over any of them.
    let next = tokio::time::timeout(Duration::from_secs(3), rows(&holder, pid)).await;
    assert_eq!(next.expect("the line is short").unwrap(), server);
}

/// Who is silent in the middle of a message is silent: limits and orders reach it all the same.
async fn clients_that_stop_midway_are_let_go(env: &Env) {
    let limits = [
        ("limits.client_idle_timeout", "500ms"),
        ("limits.idle_transaction_timeout", "300ms"),
        ("pool.size", "1"),
        ("routing.reads", "primary"),
    ];
    let howdah = Howdah::start(&env.cluster, &limits).await;
    let login = Login::app(howdah.port);
    let half = |message: Vec<u8>| message[..message.len() / 2].to_vec();
    let silences = [vec![], half(wire::query("SELECT 2")), vec![b'Q']];
    for silence in &silences {
        for (begin, code) in [(true, "25P03"), (false, "57P05")] {
            let mut client = Wire::connect(&login).await;
            if begin {
                client.query("BEGIN; SELECT pg_current_xact_id()").await;
            }
            client.send(silence).await;
            let farewell = client.receive_within(Duration::from_secs(5)).await.expect("a farewell");
            assert_eq!(error_code(&[farewell]).as_deref(), Some(code), "{silence:?}");
            // The server is free.
            let mut next = Wire::connect(&login).await;
            assert_eq!(error_code(&next.query("SELECT 3").await), None);
        }
    }
    let howdah = Howdah::start(&env.cluster, &[]).await;
    let mut client = Wire::connect(&Login::app(howdah.port)).await;
    client.send(&silences[1]).await;
    let console = Login::console(howdah.port).connect().await.unwrap();
    let clients = console.query("SHOW CLIENTS", &[]).await.unwrap();
    let column = |name: &str| clients[0].columns().iter().position(|column| column.name() == name).unwrap();
    let app = clients.iter().find(|row| row.get::<_, &str>(column("database")) == "app").unwrap();
    let id = app.get::<_, &str>(column("ptr")).trim_start_matches('c');
    rows(&console, &format!("KILL_CLIENT {id}")).await.unwrap();
    let farewell = client.receive_within(Duration::from_secs(5)).await.expect("a farewell");
    assert_eq!(error_code(&[farewell]).as_deref(), Some("57P01"));
}

async fn wrong_file_is_refused(env: &Env) {
    let cases = [
        ("pool: {sise: 5}", "pool.sise"),
        ("pool: {size: many}", "pool.size"),
        ("listen: [{address: 'nowhere'}]", "listen"),
        ("pool: [", ""),
    ];
    for (number, (text, expected)) in cases.iter().enumerate() {
        let file = env.cluster.directory().join(format!("wrong-{number}.yaml"));
        std::fs::write(&file, text).unwrap();
        for arguments in [["check"].as_slice(), &["run", "-c"]] {
            let running = Command::new(howdah::binary()).args(arguments).arg(&file).kill_on_drop(true).output();
            let output =
                tokio::time::timeout(Duration::from_secs(10), running).await.expect("refused at once").unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(2), "{arguments:?} {text}: {said}");
            assert!(said.contains(expected), "{arguments:?} {text}: {expected} is not in {said}");
        }
    }
    let good = Command::new(howdah::binary()).arg("check").arg(env.howdah().file()).output().await.unwrap();
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
}

/// Who is let in, and what the others hear, as PostgreSQL decides and says it with the same file.
async fn hba_file_decides(env: &Env) {
    let file = env.cluster.directory().join("hba.conf");
    let rules = "
        host app,postgres app 127.0.0.1/32 scram-sha-256
        host template1 all 127.0.0.1 255.255.255.255 reject
        hostssl all all all trust
    ";
    std::fs::write(&file, rules).unwrap();
    let auth = format!("{{hba_file: '{}'}}", file.display());
    let howdah = Howdah::start(&env.cluster, &[("auth", &auth)]).await;
    Login::app(howdah.port).database("postgres").connect().await.expect("the first line lets it in");
    for (login, expected) in [
        (
            Login::app(howdah.port).database("template1"),
            "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"app\", database \"template1\", no encryption",
        ),
        (
            Login::superuser(howdah.port).database("app"),
            "no pg_hba.conf entry for host \"127.0.0.1\", user \"postgres\", database \"app\", no encryption",
        ),
    ] {
        let refused = login.connect().await.expect_err(expected);
        let refused = refused.as_db_error().unwrap();
        assert_eq!((refused.code().code(), refused.message()), ("28000", expected));
    }
}

/// Without any password of the application's user: its clients' proof is what servers are told.
async fn verifiers_are_enough(env: &Env) {
    let verifier = env.cluster.primary().scalar("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'").await;
    assert!(verifier.starts_with("SCRAM-SHA-256$"), "{verifier}");
    let (monitor, monitor_password) = (howdah_integration::MONITOR_USER, howdah_integration::MONITOR_PASSWORD);
    let users = format!("[{{name: app, password: '{verifier}'}}, {{name: {monitor}, password: {monitor_password}}}]");
    for method in ["scram-sha-256", "md5", "password"] {
        let howdah = Howdah::start(&env.cluster, &[("users", &users), ("auth.method", method)]).await;
        let login = Login::app(howdah.port);
        let client = login.connect().await.unwrap();
        rows(&client, &format!("CREATE TABLE \"by {method}\" (n int)")).await.unwrap();
        env.cluster.reads_through(&login, &format!("\"by {method}\"")).await;
        let wrong = Login { password: "guess".into(), ..login };
        assert_eq!(wrong.connect().await.unwrap_err().code().unwrap().code(), "28P01", "{method}");
    }
}

/// The application's user is not in the configuration: a function on the servers tells its verifier.
async fn users_are_looked_up(env: &Env) {
    let primary = env.cluster.primary();
    primary
        .query(
            "CREATE FUNCTION howdah_user(wanted text, OUT name text, OUT password text) LANGUAGE sql SECURITY DEFINER AS \
             'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = wanted AND rolcanlogin'",
        )
        .await;
    primary.query("CREATE ROLE \"it's \\me\" LOGIN PASSWORD 'odd-secret'; CREATE ROLE nobody LOGIN").await;
    let (monitor, monitor_password) = (howdah_integration::MONITOR_USER, howdah_integration::MONITOR_PASSWORD);
    let users = format!("[{{name: {monitor}, password: {monitor_password}}}]");
    let query = "SELECT * FROM howdah_user($1)";
    let overrides = [("users", users.as_str()), ("auth.query", query)];
    let howdah = Howdah::start(&env.cluster, &overrides).await;
    let login = Login::app(howdah.port);
    let client = login.connect().await.unwrap();
    rows(&client, "CREATE TABLE looked_up (n int)").await.unwrap();
    env.cluster.reads_through(&login, "looked_up").await;

    let odd = Login { user: "it's \\me".into(), password: "odd-secret".into(), ..Login::app(howdah.port) };
    let odd_client = odd.connect().await.unwrap();
    assert_eq!(rows(&odd_client, "SELECT current_user").await.unwrap()[0][0].as_deref(), Some("it's \\me"));
    for (user, password) in
        [("app", "guess"), ("nobody", ""), ("nobody", "x"), ("stranger", "x"), ("x' OR true --", "x")]
    {
        let login = Login { user: user.into(), password: password.into(), ..Login::app(howdah.port) };
        let refused = login.connect().await.expect_err(user);
        assert_eq!(refused.code().unwrap().code(), "28P01", "{user}: {refused:?}");
    }

    // A new password counts at the next login; who is here stays, and so does everybody after a reload.
    primary.query("ALTER ROLE app PASSWORD 'new-secret'").await;
    assert!(login.connect().await.is_err(), "the old password");
    let renewed = Login { password: "new-secret".into(), ..Login::app(howdah.port) };
    let second = renewed.connect().await.unwrap();
    howdah.reload(&env.cluster, &[overrides[0], overrides[1], ("pool.size", "3")]);
    eventually("the reload is done", Duration::from_secs(10), async || howdah.log().contains("reloaded")).await;
    for client in [&client, &second, &client] {
        rows(client, "INSERT INTO looked_up VALUES (1)").await.unwrap();
    }
    primary.query("ALTER ROLE app PASSWORD 'app-secret'").await;
}

/// Nodes may start after Howdah: it waits for them, and is not ready until then.
async fn starts_before_its_nodes(_env: &Env) {
    let cluster = howdah_integration::TestCluster::start().await;
    for node in cluster.nodes() {
        node.stop(howdah_integration::node::Shutdown::Fast).await;
    }
    let howdah = Howdah::spawn(&cluster, &[("clusters.main.monitor.interval", "500ms")]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(howdah.exit_status().is_none(), "it ended:\n{}", howdah.log());
    assert!(!howdah.is_ready().await);
    for node in cluster.nodes() {
        node.start().await;
    }
    eventually("it is ready", Duration::from_secs(15), async || howdah.is_ready().await).await;
    let client = Login::app(howdah.port).connect().await.unwrap();
    rows(&client, "CREATE TABLE at_last (n int)").await.unwrap();
}

/// How long each of Howdah's workers has run, in nanoseconds.
fn workers_ran(howdah: &Howdah) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", howdah.id())).unwrap().map(|task| task.unwrap().path());
    let mut workers: Vec<_> = tasks
        .filter_map(|task| {
            let name = std::fs::read_to_string(task.join("comm")).ok()?;
            let ran = std::fs::read_to_string(task.join("schedstat")).ok()?;
            Some((name.trim().strip_prefix("worker-")?.parse::<u32>().ok()?, ran.split(' ').next()?.parse().ok()?))
        })
        .collect();
    workers.sort_unstable();
    workers.into_iter().map(|(_, ran)| ran).collect()
}

/// Clients and servers move between workers while they are used; nobody notices.
async fn workers_change_under_load(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("workers", "3"), ("pool.size", "6")]).await;
    let login = Login::app(howdah.port);
    pgbench(&login, &["-i", "-s", "1", "-q"]).await.expect_success();
    for protocol in ["simple", "prepared"] {
        let login = login.clone();
        let arguments = ["-n", "-c", "24", "-j", "2", "-T", "6", "-M", protocol];
        let running = tokio::spawn(async move { pgbench(&login, &arguments).await });
        let before = workers_ran(&howdah);
        for count in ["1", "2", "3", "2", "0", "3", "1", "3"] {
            tokio::time::sleep(Duration::from_millis(600)).await;
            howdah.reload(&env.cluster, &[("workers", count), ("pool.size", "6")]);
        }
        running.await.unwrap().expect_clean();
        let ran: Vec<_> = workers_ran(&howdah).into_iter().zip(before).map(|(after, before)| after - before).collect();
        assert!(ran.len() >= 3 && ran[..3].iter().all(|ran| *ran > 20_000_000), "all three had work: {ran:?}");
    }
    assert_eq!(env.cluster.primary().query_in("app", PGBENCH_SUMS_AGREE).await[0][0].as_deref(), Some("t"));
}

/// What `ALTER ROLE` and `ALTER DATABASE` set is what a new login begins with, whichever node answers.
async fn new_logins_see_new_defaults(env: &Env) {
    let shown = async |sql: &str| {
        let client = env.app().connect().await.unwrap();
        rows(&client, sql).await.unwrap()[0][0].clone().unwrap()
    };
    let on_primary = "SHOW work_mem";
    let on_replica = "/* howdah: replica */ SELECT current_setting('work_mem') AS marker_defaults";
    let before = (shown(on_primary).await, shown(on_replica).await);
    let altering = env.app().connect().await.unwrap();
    rows(&altering, "BEGIN; ALTER ROLE app SET work_mem = '6543kB'").await.unwrap();
    assert_eq!(shown(on_primary).await, before.0, "not committed yet");
    rows(&altering, "COMMIT").await.unwrap();
    assert_eq!(shown(on_primary).await, "6543kB");
    eventually("replicas' servers to be renewed", Duration::from_secs(30), async || {
        shown(on_replica).await == "6543kB"
    })
    .await;
    env.assert_only_on_replicas("%marker_defaults%").await;
    // Behind Howdah's back it is noticed with the next load of the catalog, for which DDL asks.
    env.cluster.primary().query("ALTER ROLE app RESET work_mem; ALTER DATABASE app SET work_mem = '7654kB'").await;
    rows(&altering, "CREATE TABLE noticed ()").await.unwrap();
    eventually("the database's defaults", Duration::from_secs(30), async || shown(on_primary).await == "7654kB").await;
    eventually("the same on replicas", Duration::from_secs(30), async || shown(on_replica).await == "7654kB").await;
    env.cluster.primary().query("ALTER DATABASE app RESET work_mem").await;
    rows(&altering, "DROP TABLE noticed").await.unwrap();
    eventually("what was before", Duration::from_secs(30), async || {
        (shown(on_primary).await, shown(on_replica).await) == before
    })
    .await;
}

/// Clients with other settings each find the server that has theirs, so that settings are not made again and again.
async fn servers_with_the_same_settings_come_first(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("routing.reads", "primary")]).await;
    let login = Login::app(howdah.port);
    let mut clients = Vec::new();
    for size in ["1111kB", "2222kB", "3333kB"] {
        let client = Wire::connect_with(&login, &[("work_mem", size)]).await;
        clients.push((client, size));
    }
    // As many servers as clients: all three are in a transaction at once.
    for (client, _) in &mut clients {
        client.query("BEGIN; SELECT 1").await;
    }
    for (client, _) in &mut clients {
        client.query("COMMIT").await;
    }
    env.cluster.forget_calls().await;
    for _ in 0..20 {
        for (client, size) in &mut clients {
            assert_eq!(wire::first_column(&client.query("SELECT current_setting('work_mem')").await), [*size]);
        }
    }
    let made = env.cluster.calls("%set_config(%").await.total();
    // None but for a server that two of them had in turn before.
    eprintln!("  made {made} times");
    assert!(made <= 3, "settings were made {made} times in 60 statements");
}

async fn servers_that_leak_are_closed(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("pool.size", "1"), ("routing.reads", "primary")]).await;
    let client = Login::app(howdah.port).connect().await.unwrap();
    let leaks = [
        // In words that are put together only when they are run.
        ("lock", "DO 'BEGIN EXECUTE ''SELECT pg_advi''::text || ''sory_lock(1)''; END'"),
        ("temporary", "DO 'BEGIN EXECUTE ''CREATE TE''::text || ''MP TABLE hidden ()''; END'"),
        ("setting", "DO 'BEGIN EXECUTE ''SE''::text || ''T work_mem = 1234''; END'"),
    ];
    for (kind, sql) in leaks {
        let pid = rows(&client, "SELECT pg_backend_pid()").await.unwrap();
        rows(&client, sql).await.unwrap();
        // The only server there may be: had it been kept, it would be lent again.
        assert_ne!(rows(&client, "SELECT pg_backend_pid()").await.unwrap(), pid, "{kind}");
        let page = howdah.http("/metrics").await.unwrap().1;
        assert!(page.contains(&format!("howdah_leaks_total{{kind=\"{kind}\"}} 1")), "{kind}\n{page}");
        let found = howdah.leaks();
        assert!(found.len() == 1 && !found[0].contains("1234"), "{found:?}");
    }
    rows(&client, "SET work_mem = '2MB'").await.unwrap();
    rows(&client, "SELECT 1").await.unwrap();
}

/// In statement pooling one message, or one pipeline, is a transaction; nobody keeps a server for longer.
async fn statement_pooling_has_no_blocks(env: &Env) {
    let howdah = Howdah::start(&env.cluster, &[("pool.mode", "statement"), ("pool.size", "1")]).await;
    let login = Login::app(howdah.port);
    let words = "transaction blocks not allowed in statement pooling mode";
    let client = login.connect().await.unwrap();
    for begin in ["BEGIN", "START TRANSACTION READ ONLY"] {
        let error = rows(&client, begin).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.code().code(), error.message(), error.severity()), ("0A000", words, "ERROR"));
    }
    // It goes on, and what it has set and prepared goes with it.
    rows(&client, "SET work_mem = '1234kB'").await.unwrap();
    let prepared = client.prepare("SELECT current_setting('work_mem'), $1::int").await.unwrap();
    let other = login.connect().await.unwrap();
    assert_eq!(rows(&other, "SHOW work_mem").await.unwrap()[0][0].as_deref(), Some("4MB"));
    let row = client.query_one(&prepared, &[&7]).await.unwrap();
    assert_eq!((row.get::<_, String>(0).as_str(), row.get::<_, i32>(1)), ("1234kB", 7));
    rows(&client, "CREATE TABLE blocks (x int); INSERT INTO blocks VALUES (1); SELECT 1").await.unwrap();
    // Hidden in a message, it is noticed when it is there: undone, and the client let go.
    let mut hidden = Wire::connect(&login).await;
    let heard = hidden.query("SELECT 1; BEGIN; DELETE FROM blocks").await;
    assert_eq!(wire::first_column(&heard), ["1"]);
    let last = describe(&hidden.next_or_end().await.unwrap());
    assert!(last.contains(words) && last.contains("FATAL"), "{last}");
    assert_eq!(rows(&other, "SELECT count(*) FROM blocks").await.unwrap()[0][0].as_deref(), Some("1"));
}
