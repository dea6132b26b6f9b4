//! What happens to the nodes meanwhile, one thing after another, each healed before the next.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::workload::{Chance, Ground};
use crate::cluster::TestCluster;
use crate::node::{Node, Shutdown, signal};
use crate::session::eventually;

/// After so many operations the first fault may come.
const AT_WORK: usize = 100;

/// A fault. None of them loses what was acknowledged: a commit that PostgreSQL loses is no stale read of Howdah's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A replica receives WAL and does not replay it (`pg_wal_replay_pause`).
    Pause,
    /// All replicas replay late (`recovery_min_apply_delay`).
    Delay,
    /// A replica's WAL receiver is stopped (`SIGSTOP`): it falls behind, and answers.
    Deafen,
    /// All processes of a replica are stopped: as a network that swallows what is sent.
    Freeze,
    /// The same with the primary.
    Stall,
    /// A replica is killed (`kill -9`) and started again.
    Kill,
    /// The primary is killed and started again.
    Crash,
    /// The primary is stopped, a replica promoted, and the others follow it.
    Switchover,
    /// The primary is killed, the replica that has received most is promoted, and the old primary is copied from it anew. Nothing
    /// acknowledged is lost where commits wait for a replica to receive them (`synchronous_standby_names`).
    Failover,
}

impl Fault {
    /// All.
    pub const ALL: [Self; 9] = [
        Self::Pause,
        Self::Delay,
        Self::Deafen,
        Self::Freeze,
        Self::Kill,
        Self::Stall,
        Self::Crash,
        Self::Switchover,
        Self::Failover,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Who does it.
#[derive(Debug)]
pub struct Nemesis<'a> {
    /// To whom.
    pub cluster: &'a TestCluster,
    /// Where direct writers are told of another primary.
    pub ground: &'a Ground,
    /// Which faults, in turn.
    pub faults: &'a [Fault],
    /// How long one lasts at most.
    pub longest: Duration,
    /// Victims and times.
    pub chance: Chance,
}

impl Nemesis<'_> {
    /// Goes through the faults until the run ends; answers which have happened.
    pub async fn strike(mut self) -> Vec<Fault> {
        let mut done = Vec::new();
        let mut primary = 0;
        // Clients need a moment until all of them have logged in.
        eventually("clients are at work", Duration::from_secs(30), async || {
            self.ground.history.lock().expect("not poisoned").len() >= AT_WORK
        })
        .await;
        for fault in self.faults.iter().cycle() {
            self.pause(4).await;
            if !self.ground.goes_on() {
                break;
            }
            primary = self.commit(*fault, primary).await;
            self.cluster.streaming(&self.cluster.nodes()[primary], 2).await;
            done.push(*fault);
            self.ground.struck.store(done.len() >= self.faults.len(), Ordering::SeqCst);
        }
        done
    }

    /// Commits one fault, and heals it; answers who is the primary then.
    async fn commit(&mut self, fault: Fault, primary: usize) -> usize {
        let nodes = self.cluster.nodes();
        let victim = (primary + 1 + usize::try_from(self.chance.below(2)).expect("0 or 1")) % nodes.len();
        let replica = &nodes[victim];
        match fault {
            Fault::Pause => {
                replica.pause_replay().await;
                self.pause(1).await;
                replica.resume_replay().await;
            }
            Fault::Delay => self.delay(primary).await,
            Fault::Deafen => {
                let receivers =
                    replica.query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'").await;
                let pids: Vec<u32> = receivers.iter().filter_map(|row| row[0].as_ref()?.parse().ok()).collect();
                assert!(!pids.is_empty(), "{} receives nothing", replica.name);
                self.stop(pids).await;
            }
            Fault::Freeze => self.stop(replica.processes()).await,
            Fault::Stall => self.stop(nodes[primary].processes()).await,
            Fault::Kill => self.kill(replica).await,
            Fault::Crash => self.kill(&nodes[primary]).await,
            Fault::Switchover => {
                nodes[primary].stop(Shutdown::Fast).await;
                self.promote(victim).await;
                return victim;
            }
            Fault::Failover => return self.fail_over(primary).await,
        }
        primary
    }

    async fn delay(&mut self, primary: usize) {
        let replicas = || self.cluster.nodes().iter().enumerate().filter(|(index, _)| *index != primary);
        let milliseconds = u32::try_from(self.longest.as_millis() / 2).expect("a delay of some seconds");
        for (_, replica) in replicas() {
            replica.apply_late(milliseconds).await;
        }
        self.pause(1).await;
        for (_, replica) in replicas() {
            replica.apply_late(0).await;
        }
    }

    async fn stop(&mut self, processes: Vec<u32>) {
        let _stopped = Stopped::new(processes);
        self.pause(1).await;
    }

    async fn kill(&mut self, node: &Node) {
        node.kill().await;
        self.pause(4).await;
        node.start().await;
    }

    async fn fail_over(&mut self, primary: usize) -> usize {
        let nodes = self.cluster.nodes();
        nodes[primary].kill().await;
        // WAL receivers write what they have got.
        self.pause(4).await;
        let mut most = (String::new(), primary);
        for (index, replica) in nodes.iter().enumerate().filter(|(index, _)| *index != primary) {
            // As a number of fixed width, so that texts compare as positions do.
            let sql = "SELECT lpad((pg_last_wal_receive_lsn() - '0/0')::text, 20, '0')";
            most = most.max((replica.scalar(sql).await, index));
        }
        let (_, to) = most;
        self.cluster.forget(&nodes[primary]);
        self.promote(to).await;
        to
    }

    /// Makes `to` the primary, and all others follow it. After a fast shutdown of the old primary nothing is lost: it waits until the
    /// standbys have all of its WAL.
    async fn promote(&mut self, to: usize) {
        let nodes = self.cluster.nodes();
        nodes[to].promote().await;
        self.ground.primary.store(nodes[to].port, Ordering::SeqCst);
        for (_, standby) in nodes.iter().enumerate().filter(|(index, _)| *index != to) {
            if standby.is_running() {
                standby.stop(Shutdown::Fast).await;
            }
            if !standby.data().exists() {
                self.cluster.copy(standby, &nodes[to]).await;
            }
            self.cluster.follow(standby, &nodes[to]);
            standby.start().await;
            self.cluster.add_slots(standby).await;
        }
    }

    /// Lets up to `longest` pass, divided by `part`; at least half of that.
    async fn pause(&mut self, part: u32) {
        let most = u64::try_from((self.longest / part).as_millis()).expect("short");
        tokio::time::sleep(Duration::from_millis(most / 2 + self.chance.below(most / 2 + 1))).await;
    }
}

/// Processes that are stopped until this is dropped: a stopped server would not hear that the test has ended.
struct Stopped(Vec<u32>);

impl Stopped {
    fn new(processes: Vec<u32>) -> Self {
        signal("STOP", &processes);
        Self(processes)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("CONT", &self.0);
    }
}
