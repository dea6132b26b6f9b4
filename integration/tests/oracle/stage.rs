//! Where scripts are played: on PostgreSQL itself, and through Howdah on the ways that may change what a client hears.

use std::fmt::Write as _;
use std::time::Duration;

use howdah_integration::session::{Login, eventually, rows};
use howdah_integration::suite::Env;
use howdah_integration::{APP_USER, Howdah};
use tokio_postgres::Client;

use crate::neighbours::{self, Neighbours};
use crate::script::Script;
use crate::talk::{SILENCE, Writes, difference, hear};

/// Howdah where servers are few and never stay with one client. All goes to one pool, so that the neighbours' traces
/// are on every server that a script gets.
///
/// Clients need no password, here and below: proving to know one takes longer than most scripts.
pub(crate) const CROWDED: [(&str, &str); 4] =
    [("pool.size", "2"), ("workers", "2"), ("routing.reads", "primary"), ("auth.method", "trust")];

/// Howdah as most people have it: reads go to replicas, so that state must follow its client from node to node.
const ROUTED: [(&str, &str); 3] = [("pool.size", "3"), ("workers", "2"), ("auth.method", "trust")];

/// Roles exist once for all runs; dropping them would need all that they own to be gone first. Functions that hide what
/// they do to the session are there before any client comes, so that Howdah knows them.
const ROLES: &str = "
    DO $$ DECLARE name text; BEGIN
        FOREACH name IN ARRAY ARRAY['oracle_other', 'oracle_neighbour'] LOOP
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I', name);
                EXECUTE format('GRANT %I TO app', name);
            END IF;
        END LOOP;
    END $$;
    DROP SCHEMA IF EXISTS hidden CASCADE;
    CREATE SCHEMA hidden AUTHORIZATION app;
    SET ROLE app;
    CREATE FUNCTION hidden.lock(key bigint) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_lock(key); END $$;
    CREATE FUNCTION hidden.lock_then_fail() RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM hidden.lock(2); RAISE EXCEPTION 'after it'; END $$;
    CREATE FUNCTION hidden.calls() RETURNS void LANGUAGE sql AS $$ SELECT hidden.lock(3) $$;
    CREATE FUNCTION hidden.temporary() RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN EXECUTE 'CREATE TEMP TABLE hidden_temp (x int)'; END $$;
    CREATE FUNCTION hidden.setting(value text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('work_mem', value, false); END $$;
    CREATE FUNCTION hidden.local_setting(value text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('work_mem', value, true); RETURN current_setting('work_mem'); END $$;
    CREATE TABLE hidden.watched (x int);
    CREATE FUNCTION hidden.watch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM hidden.lock(4); RETURN NULL; END $$;
    CREATE TRIGGER watch BEFORE INSERT ON hidden.watched FOR EACH ROW EXECUTE FUNCTION hidden.watch();
    RESET ROLE;
";

/// What every script finds.
const OBJECTS: &str = "
    SET lock_timeout = '2s';
    DROP SCHEMA IF EXISTS oracle, app CASCADE;
    CREATE SCHEMA oracle AUTHORIZATION app;
    SET ROLE app;
    CREATE TABLE oracle.t (id int PRIMARY KEY, v text);
    INSERT INTO oracle.t SELECT i, 'v' || i FROM generate_series(1, 10) i;
    CREATE SEQUENCE oracle.seq;
    GRANT USAGE ON SCHEMA oracle TO oracle_other;
    GRANT SELECT ON oracle.t TO oracle_other;
    RESET ROLE;
";

/// What a script's end must end, be it that its client simply goes away.
const LOCKS: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'";

/// How long the traces of a client that has gone may stay.
const CLEANING: Duration = Duration::from_secs(1);

/// How long replicas may take to replay what the primary has written.
const REPLAY: Duration = Duration::from_secs(30);

/// How long a client that has left may be listed.
const LEAVING: Duration = Duration::from_secs(10);

/// One way to PostgreSQL.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    port: u16,
    writes: Writes,
    /// Whether the neighbours are on it.
    is_crowded: bool,
}

/// What came of a script.
#[derive(Debug)]
pub(crate) enum Verdict {
    Same,
    /// In what.
    Different(String),
    /// PostgreSQL itself does not answer to all of it: nothing can be said.
    Unanswered,
}

/// How much is asked about a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thoroughness {
    AllWays,
    FirstDifference,
}

/// PostgreSQL, Howdah, and the neighbours.
pub(crate) struct Stage<'a> {
    env: &'a Env,
    superuser: Client,
    replicas: Vec<Client>,
    neighbours: Neighbours,
    routed: Option<Howdah>,
}

impl<'a> Stage<'a> {
    /// Makes roles, starts the second Howdah and lets the neighbours in.
    pub(crate) async fn set(env: &'a Env) -> Self {
        let superuser = Login::superuser(env.cluster.primary().port).database("app").connect().await.unwrap();
        rows(&superuser, ROLES).await.unwrap();
        let mut replicas = Vec::new();
        for node in env.cluster.replicas() {
            replicas.push(Login::superuser(node.port).connect().await.unwrap());
        }
        let routed = if env.is_direct() { None } else { Some(Howdah::start(&env.cluster, &ROUTED).await) };
        Self { env, superuser, replicas, neighbours: Neighbours::invite(&env.app()), routed }
    }

    /// What PostgreSQL and Howdah make of `script`, asked on all ways or up to the first that differs.
    pub(crate) async fn compare(&self, script: &Script, thoroughness: Thoroughness) -> Verdict {
        let expected = self.ask_postgresql(script).await;
        if expected.iter().any(|heard| heard == SILENCE) {
            return Verdict::Unanswered;
        }
        let mut report = String::new();
        for way in self.ways() {
            if way.is_crowded {
                self.neighbours.wake();
            }
            let got = self.run(script, way).await;
            let complaints = self.complaints(way).await;
            if got == expected && complaints.is_empty() {
                continue;
            }
            writeln!(report, "{}:", way.name).unwrap();
            if got != expected {
                writeln!(report, "{}", difference(&expected, &got)).unwrap();
            }
            for complaint in complaints {
                writeln!(report, "  {complaint}").unwrap();
            }
            // What one script has spoilt is not to be found in the next one's conversation.
            self.replace_servers().await;
            if thoroughness == Thoroughness::FirstDifference {
                return Verdict::Different(report);
            }
        }
        if report.is_empty() {
            return Verdict::Same;
        }
        // Nor what it may have left on the last way, where nobody complains.
        self.replace_servers().await;
        Verdict::Different(report)
    }

    /// What the servers of the script that was last played have leaked.
    pub(crate) async fn leaks(&self) -> Vec<String> {
        let Some(routed) = &self.routed else { return Vec::new() };
        let mut leaks = Vec::new();
        for (howdah, others) in [(routed, 0), (self.env.howdah(), neighbours::COUNT)] {
            // A server is asked after its client has been answered, be it that the client has left.
            eventually("the script's clients to be gone", LEAVING, async || {
                let page = howdah.http("/metrics").await.unwrap_or_default().1;
                let connected = page.lines().find_map(|line| line.strip_prefix("howdah_clients_connected "));
                connected.and_then(|count| count.parse().ok()).is_some_and(|count: usize| count <= others)
            })
            .await;
            leaks.extend(howdah.leaks());
        }
        leaks
    }

    /// The neighbours go, and must have been there: at least `turns` transactions each.
    pub(crate) async fn clear(self, turns: u64) {
        self.neighbours.dismiss(turns).await;
    }

    fn ways(&self) -> impl Iterator<Item = Way> {
        let port = self.env.port();
        let crowded = [
            Way { name: "among neighbours", port, writes: Writes::Whole, is_crowded: true },
            Way { name: "among neighbours, byte by byte", port, writes: Writes::ByteByByte, is_crowded: true },
        ];
        let routed = self.routed.as_ref().map(|howdah| Way {
            name: "with reads on replicas",
            port: howdah.port,
            writes: Writes::Whole,
            is_crowded: false,
        });
        crowded.into_iter().chain(routed)
    }

    async fn ask_postgresql(&self, script: &Script) -> Vec<String> {
        let port = self.env.cluster.primary().port;
        let way = Way { name: "PostgreSQL", port, writes: Writes::Whole, is_crowded: false };
        let expected = self.run(script, way).await;
        self.are_locks_gone().await;
        expected
    }

    /// Runs one script on objects made anew, and tells all that it heard.
    async fn run(&self, script: &Script, way: Way) -> Vec<String> {
        if rows(&self.superuser, OBJECTS).await.is_err() {
            // The run before has left a server behind that holds a lock. It was asked about that when it ended, and
            // this one's answers are not to depend on it.
            self.replace_servers().await;
            rows(&self.superuser, OBJECTS).await.unwrap();
        }
        if way.port != self.env.cluster.primary().port {
            // The objects were made behind Howdah's back, and definitions are followed where they pass through it.
            let app = Login::app(way.port).connect().await.unwrap();
            rows(&app, "DROP TABLE IF EXISTS oracle.nothing").await.unwrap();
        }
        if self.routed.as_ref().is_some_and(|howdah| howdah.port == way.port) {
            self.replicas_have_all().await;
        }
        hear(script, way.port, way.writes).await
    }

    async fn replicas_have_all(&self) {
        let position = rows(&self.superuser, "SELECT pg_current_wal_insert_lsn()").await.unwrap();
        let position = position[0][0].as_deref().unwrap();
        let sql = format!("SELECT WHERE pg_last_wal_replay_lsn() >= '{position}'");
        for replica in &self.replicas {
            eventually("the replicas replay all", REPLAY, async || !rows(replica, &sql).await.unwrap().is_empty())
                .await;
        }
    }

    /// What others found to be wrong after a run.
    async fn complaints(&self, way: Way) -> Vec<String> {
        let mut complaints = Vec::new();
        if !self.are_locks_gone().await {
            complaints.push("advisory locks are held that nobody holds any more".into());
        }
        if way.is_crowded {
            complaints.append(&mut self.neighbours.rest().await);
        }
        complaints
    }

    async fn are_locks_gone(&self) -> bool {
        let end = tokio::time::Instant::now() + CLEANING;
        while !rows(&self.superuser, LOCKS).await.unwrap().is_empty() {
            if tokio::time::Instant::now() > end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Ends all servers, so that the next ones know nothing.
    async fn replace_servers(&self) {
        let end = format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{APP_USER}'");
        rows(&self.superuser, &end).await.unwrap();
        self.neighbours.forget_complaints();
    }
}
