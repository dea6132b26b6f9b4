//! A primary and two streaming replicas.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::guard::Guard;
use crate::node::Node;
use crate::session::{Login, eventually};
use crate::{binaries, ports, template, tools};

/// A primary and two streaming replicas on loopback ports, gone when dropped.
#[derive(Debug)]
pub struct TestCluster {
    // Dropped in this order: servers end, then the guard removes the directory.
    nodes: Vec<Node>,
    _guard: Guard,
    directory: PathBuf,
}

impl TestCluster {
    /// Starts all three; replicas are streaming when it returns.
    pub async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("howdah-cluster-{}-{count}", std::process::id()));
        std::fs::create_dir(&directory).expect("temporary directory");
        binaries::owner().take(&directory);
        let guard = Guard::new(&directory);

        let mut nodes = Vec::new();
        for name in template::SLOTS {
            let data = directory.join(name);
            template::copy_to(&data).await;
            let node = Node::new(name, ports::free_port(), data);
            node.configure(&format!("port = {}\ncluster_name = '{name}'", node.port));
            nodes.push(node);
        }
        let cluster = Self { nodes, _guard: guard, directory };
        for standby in &cluster.nodes[1..] {
            cluster.follow(standby, &cluster.nodes[0]);
        }
        let starts = cluster.nodes.iter().map(Node::start);
        futures_util::future::join_all(starts).await;
        cluster.streaming(&cluster.nodes[0], 2).await;
        cluster
    }

    /// Makes `standby` a standby of `primary` from its next start on.
    pub fn follow(&self, standby: &Node, primary: &Node) {
        let login = Login::superuser(primary.port);
        standby.configure(&format!(
            "primary_conninfo = 'host=127.0.0.1 port={} user={} password={} application_name={}'\n\
             primary_slot_name = '{}'",
            login.port, login.user, login.password, standby.name, standby.name
        ));
        let signal = standby.data().join("standby.signal");
        std::fs::write(&signal, "").expect("standby.signal is written");
        binaries::owner().take(&signal);
    }

    /// Adds settings to all nodes, which must run, and has them taken up.
    pub async fn configure(&self, settings: &str) {
        for node in &self.nodes {
            node.configure(settings);
            node.query("SELECT pg_reload_conf()").await;
        }
    }

    /// Gives `node` the replication slots that it lacks.
    pub async fn add_slots(&self, node: &Node) {
        for name in template::SLOTS {
            let sql = "SELECT pg_create_physical_replication_slot(name) FROM (VALUES ('NAME')) slot (name) \
                WHERE name NOT IN (SELECT slot_name FROM pg_replication_slots)";
            node.query(&sql.replace("NAME", name)).await;
        }
    }

    /// Removes the data of a node that does not run.
    pub fn forget(&self, node: &Node) {
        std::fs::remove_dir_all(node.data()).expect("our own directory");
    }

    /// Gives `node`, whose data is gone, a base backup of `primary`. It has no replication slots.
    pub async fn copy(&self, node: &Node, primary: &Node) {
        let mut command = tokio::process::Command::from(binaries::server_program("pg_basebackup"));
        command.envs(Login::superuser(primary.port).environment());
        command.args(["--no-sync", "--checkpoint=fast", "--wal-method=stream", "-D"]).arg(node.data());
        tools::run(command, "", Duration::from_secs(60)).await.expect_success();
        node.configure(&format!("port = {}\ncluster_name = '{}'", node.port, node.name));
    }

    /// Waits until `count` standbys stream from `primary`.
    pub async fn streaming(&self, primary: &Node, count: usize) {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        eventually(&format!("{count} replicas stream"), Duration::from_secs(30), async || {
            primary.scalar(sql).await == count.to_string()
        })
        .await;
    }

    /// Waits until every running replica has replayed all that `primary` has written.
    pub async fn caught_up(&self, primary: &Node) {
        let position = primary.scalar("SELECT pg_current_wal_insert_lsn()").await;
        for node in self.nodes.iter().filter(|node| node.name != primary.name && node.is_running()) {
            let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
            eventually(&format!("{} replays {position}", node.name), Duration::from_secs(60), async || {
                node.scalar(&sql).await == "t"
            })
            .await;
        }
    }

    /// The node that was the primary at the start.
    pub fn primary(&self) -> &Node {
        &self.nodes[0]
    }

    /// The nodes that were replicas at the start.
    pub fn replicas(&self) -> &[Node] {
        &self.nodes[1..]
    }

    /// All nodes, the first primary first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A directory for files of the test; gone with the cluster.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
