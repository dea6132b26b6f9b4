//! What a cluster is right now: who is the primary, who lags, who is down. And the waiting rooms:
//! for a primary, and for a replica that has seen enough.
//!
//! ```text
//!   node --probe--> monitor --look, sample, replay--> shared --publishes--> View --> router
//!                      ^                                 |
//!                      +---- errands <-- waiters <-------+---- wakes whoever waited
//! ```
//!
//! Roles are discovered, never configured. Facts are gathered here and judged in the pure rooms
//! (`roles`, `health`, `position`, `router::view`). Clients and pools are unknown here.

pub mod catalog;
mod clock;
mod health;
mod monitor;
mod position;
mod probe;
mod roles;
mod shared;
mod tail;
mod waiters;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::Guard;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::config::model::{self, Consistency};
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::router::view::View;
use crate::router::view::needs::{CatchUp, Needs, Seen};
use crate::server::connect::Login;
use crate::sql::reach::Reach;
use crate::types::{ClusterName, DatabaseName, Lsn};
use monitor::Monitor;
use shared::{Drain, Shared};
use waiters::{Place, Want};

pub use clock::{Scope, SessionClock, WriteClock};

/// A primary and its standbys, being watched. The watching ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    name: ClusterName,
    shared: Arc<Shared>,
    /// Closed on drop, which ends the tasks.
    _stop: watch::Sender<()>,
}

/// There was no primary until the deadline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster {0} has no primary")]
pub struct NoPrimary(ClusterName);

impl NoPrimary {
    /// What the client is told.
    pub fn report(&self) -> Report {
        Report::error(SqlState::CANNOT_CONNECT_NOW, self.to_string()).hint(format!(
            "clusters.{}.hold says how long statements wait for one; SHOW NODES, what each node lacks",
            self.0
        ))
    }
}

/// What was waited for did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it did not come in time")]
pub struct Expired;

impl Cluster {
    /// Starts watching the nodes of `config` with one task each, spawned on `tasks`. `login` says how
    /// the monitor logs in to a node.
    pub fn start(config: &model::Cluster, login: impl Fn(&model::Node) -> Login, tasks: &mut JoinSet<()>) -> Arc<Self> {
        // Rounds of a cluster that is watched anew after a reload are above those of before, so that a
        // clock from then asks for the first of these.
        let base = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_micros());
        let base = u64::try_from(base).unwrap_or(0);
        let shared = Arc::new(Shared::new(config, base, Instant::now()));
        let (stop, stopped) = watch::channel(());
        for (index, node) in config.nodes.iter().enumerate() {
            let monitor = Monitor {
                shared: Arc::clone(&shared),
                index,
                login: login(node),
                interval: config.monitor.interval,
                timeout: config.monitor.timeout,
            };
            tasks.spawn(monitor.run(stopped.clone()));
        }
        Arc::new(Self { name: config.name.clone(), shared, _stop: stop })
    }

    /// Its name.
    pub const fn name(&self) -> &ClusterName {
        &self.name
    }

    /// The cluster as it is. Meant to be looked at and let go; use [`Self::snapshot`] to keep it.
    pub fn view(&self) -> Guard<Arc<View>> {
        self.shared.load()
    }

    /// The cluster as it is, to keep.
    pub fn snapshot(&self) -> Arc<View> {
        self.shared.view()
    }

    /// How often the primary was asked where its WAL ends because somebody waited for that.
    pub fn samples(&self) -> u64 {
        self.shared.samples.load(Ordering::Relaxed)
    }

    /// Tells of every change of the view's epoch.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.epochs()
    }

    // === What was written, and what a read must therefore see ===

    /// The clock of a database's writes; one per name, to be asked for once per client.
    pub fn database(&self, name: &DatabaseName) -> Arc<WriteClock> {
        self.shared.clocks.of(name)
    }

    /// The primary has acknowledged something that may have been a write, or may have without our
    /// hearing of it. To be called before the acknowledgement (`CommandComplete` and, in the
    /// extended protocol, `ReadyForQuery`) is passed on. It was to relations in `reach` only. Never waits.
    pub fn wrote(&self, database: &WriteClock, session: &mut SessionClock, reach: Reach) {
        let round = self.shared.rounds.next();
        database.rise(round, reach);
        session.wrote(round);
    }

    /// A node has answered a read of this session, whose later reads, and its scope's, must not see less. To be called
    /// before the answer is complete.
    pub fn read_from(&self, node: usize, incarnation: u64, session: &mut SessionClock) {
        session.read(Seen { node, incarnation, round: self.shared.rounds.next() });
    }

    /// This session was told of something that was committed by now, wherever: its later reads must see it.
    pub fn heard(&self, session: &mut SessionClock) {
        session.rise(self.shared.rounds.next());
    }

    /// This session reads what the scope, another one than it had, wrote from now on.
    pub fn share(&self, session: &mut SessionClock, scope: Option<Scope>) {
        let scope = scope.map(|scope| {
            let clock = self.shared.scopes.of(&scope);
            (scope, clock)
        });
        session.share(scope, self.shared.rounds.next());
    }

    /// What a read that arrives now must see; it reads from relations in `reach` only.
    pub fn needs(
        &self,
        level: Consistency,
        (database, reach): (&WriteClock, Reach),
        session: &mut SessionClock,
        min_lsn: Option<Lsn>,
    ) -> Needs {
        let min_lsn = min_lsn.unwrap_or_default();
        if level == Consistency::Eventual {
            return Needs { min_lsn, ..Needs::NONE };
        }
        let written = database.round(reach);
        // What nobody has written to, this session has not written to either.
        let needs = session.needs(if reach.is_everything() { u64::MAX } else { written });
        let next = self.shared.rounds.next();
        let round = match level {
            Consistency::Eventual | Consistency::Session => needs.round,
            Consistency::Database => needs.round.max(written),
            Consistency::Strong => next,
        };
        // A clock cannot rightly stand later than now; if it does, now is enough.
        Needs { round: round.min(next), min_lsn, ..needs }
    }

    /// The position that has all that this session and its scope wrote and saw so far.
    ///
    /// # Errors
    ///
    /// When the primary does not say in time where it is.
    pub async fn position(&self, session: &mut SessionClock, until: Instant) -> Result<Lsn, Expired> {
        let needs = session.needs(u64::MAX);
        let round = needs.round.max(needs.seen.map_or(0, |seen| seen.round));
        if round == 0 {
            return Ok(Lsn(0));
        }
        self.wait(Want::Sample(round), until).await?;
        self.view().samples.token(round).ok_or(Expired)
    }

    // === Waiting ===

    /// Waits until a replica has seen enough, none can any more, or roles have changed: route again then.
    /// Cancel safe.
    pub async fn catch_up(&self, wait: &CatchUp, until: Instant) -> Result<(), Expired> {
        self.wait(Want::CatchUp(*wait), until).await
    }

    /// Waits for a replay position of replica `node` that was requested after this call (a server
    /// connection may rely only on positions requested after it was made). Returns at once when the
    /// node is no replica, or has another incarnation meanwhile: route again in any case. Cancel safe.
    pub async fn poll(&self, node: usize, until: Instant) -> Result<(), Expired> {
        let incarnation = self.view().nodes.get(node).map_or(0, |node| node.incarnation);
        self.wait(Want::Replay { node, incarnation, after: Instant::now() }, until).await
    }

    async fn wait(&self, want: Want, until: Instant) -> Result<(), Expired> {
        let mut place: Place = self.shared.waiters.join(want);
        if waiters::is_over(&self.view(), &want) {
            return Ok(());
        }
        self.shared.ring();
        timeout_at(until.into(), place.satisfied()).await.map_err(|_| Expired)
    }

    /// Waits until there is a primary. Cancel safe.
    pub async fn hold(&self, deadline: Instant) -> Result<(), NoPrimary> {
        let mut epochs = self.changed();
        let primary = async {
            while self.view().primary.is_none() {
                if epochs.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout_at(deadline.into(), primary).await.map_err(|_| NoPrimary(self.name.clone()))
    }

    // === Tips and orders ===

    /// Somebody has reason to think that node `node` is not what the view says (25006 from a primary, 57P01, a lost
    /// connection): it is looked at now. Cheap; many calls make one look.
    pub fn suspect(&self, node: usize) {
        self.shared.suspect(node);
    }

    /// Gives node `node` no new reads until [`Self::restore`].
    pub fn drain(&self, node: usize) {
        self.shared.set_draining(node, Drain::Drain);
    }

    /// Ends [`Self::drain`].
    pub fn restore(&self, node: usize) {
        self.shared.set_draining(node, Drain::Restore);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::roles::Kind;
    use super::shared::tests::{looked, shared};
    use super::*;

    /// A primary and a replica whose tasks are this test; both are at position 100.
    fn cluster() -> Cluster {
        let cluster = Cluster { name: "main".into(), shared: Arc::new(shared(2)), _stop: watch::channel(()).0 };
        cluster.shared.connected(0);
        cluster.shared.connected(1);
        looked(&cluster.shared, 1, Kind::Standby, 1, 100);
        cluster
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn those_who_need_a_primary_are_held_until_there_is_one() {
        let cluster = cluster();
        let refusal = cluster.hold(soon()).await.unwrap_err().report();
        assert_eq!(refusal.code, SqlState::CANNOT_CONNECT_NOW);
        assert!(refusal.hint.is_some_and(|hint| hint.contains("clusters.main.hold")));
        let (held, ()) = tokio::join!(cluster.hold(later()), async {
            looked(&cluster.shared, 0, Kind::Primary, 1, 100);
        });
        assert_eq!(held, Ok(()));
        assert_eq!(cluster.view().primary, Some(0));
    }

    #[tokio::test]
    async fn what_a_read_needs_follows_from_level_and_clocks() {
        let cluster = cluster();
        looked(&cluster.shared, 0, Kind::Primary, 1, 100);
        let (mine, other) = (cluster.database(&"mine".into()), cluster.database(&"other".into()));
        let mut session = SessionClock::default();
        let mut stranger = SessionClock::default();
        let before = mine.round(Reach::EVERYTHING);
        cluster.wrote(&mine, &mut session, Reach::of("a"));
        let next = cluster.shared.rounds.next();
        for (level, database, round) in [
            (Consistency::Eventual, &mine, 0),
            (Consistency::Session, &other, next),
            (Consistency::Strong, &other, next),
        ] {
            assert_eq!(
                cluster.needs(level, (database, Reach::EVERYTHING), &mut session, None).round,
                round,
                "{level:?}"
            );
        }
        for (level, database, round) in [
            (Consistency::Session, &mine, 0),
            (Consistency::Database, &mine, next),
            (Consistency::Database, &other, before),
            (Consistency::Strong, &other, next),
        ] {
            assert_eq!(
                cluster.needs(level, (database, Reach::EVERYTHING), &mut stranger, None).round,
                round,
                "{level:?}"
            );
        }
        assert_eq!(
            cluster.needs(Consistency::Eventual, (&mine, Reach::EVERYTHING), &mut stranger, Some(Lsn(7))).min_lsn,
            Lsn(7)
        );
        // A clock that comes from elsewhere asks for no round that may never come.
        session.rise(u64::MAX);
        assert_eq!(cluster.needs(Consistency::Session, (&mine, Reach::EVERYTHING), &mut session, None).round, next);
    }

    #[tokio::test]
    async fn a_position_covers_what_was_written_and_read() {
        let cluster = cluster();
        looked(&cluster.shared, 0, Kind::Primary, 1, 100);
        let mine = cluster.database(&"mine".into());
        let (mut writer, mut reader) = <(SessionClock, SessionClock)>::default();
        assert_eq!(cluster.position(&mut writer, soon()).await, Ok(Lsn(0)));
        cluster.wrote(&mine, &mut writer, Reach::EVERYTHING);
        for session in [&mut writer, &mut reader] {
            cluster.read_from(1, 1, session);
            assert_eq!(cluster.position(session, soon()).await, Err(Expired), "nobody has asked since");
            let (position, ()) = tokio::join!(cluster.position(session, later()), async {
                assert_eq!(cluster.shared.errand(0), Some(waiters::Errand::Sample));
                looked(&cluster.shared, 0, Kind::Primary, 1, 200);
            });
            assert_eq!(position, Ok(Lsn(200)));
        }
    }

    #[tokio::test]
    async fn a_poll_wants_a_position_that_was_requested_later() {
        let cluster = cluster();
        assert_eq!(cluster.poll(1, soon()).await, Err(Expired));
        let (polled, ()) = tokio::join!(cluster.poll(1, later()), async {
            assert_eq!(cluster.shared.errand(1), Some(waiters::Errand::Replay));
            cluster.shared.replayed(1, Some(Lsn(100)), Instant::now());
        });
        assert_eq!(polled, Ok(()));
        assert_eq!(cluster.shared.errand(1), None);
        assert_eq!(cluster.poll(0, later()).await, Ok(()), "a node that is no replica has nothing to wait for");
    }
}
