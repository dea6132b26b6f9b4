//! From a decision to a server: route, wait where that is worth it, borrow, and bring the settings along.

use std::sync::Arc;
use std::time::Instant;

use super::answer;
use super::exchange::Ran;
use super::task::{Attachment, Client, Held};
use crate::config::model::{Consistency, Reads, Routing};
use crate::pool::CheckoutError;
use crate::pool::lease::Lease;
use crate::protocol::error::Report;
use crate::router::reason::Reason;
use crate::router::view::needs::Needs;
use crate::router::view::{Busy, View};
use crate::router::{self, Ask, Target, Verdict};
use crate::server::own::OwnError;
use crate::session::Work;
use crate::sql::classify::ReadOnly;
use crate::sql::hint::{self, Hint};

/// Why no server could be attached.
#[derive(Debug)]
pub(super) enum AttachError {
    /// The client is told this, and goes on.
    Report(Report),
    /// The client is told this `ErrorResponse` of the server's, and goes on.
    Relayed(bytes::BytesMut),
    /// The server was gone before anything of the client's was sent: another one will do.
    Lost,
}

/// Where a batch may go.
#[derive(Debug)]
pub(super) enum Wish {
    /// To the primary, and why.
    Primary(Reason),
    /// To any node that has seen enough.
    Read(ReadOnly, Reason),
}

/// How often a replica whose connection is younger than its sample is asked again.
const YOUNG: usize = 2;

impl Client {
    /// What the session's work, hints and settings together wish for.
    pub(super) fn wish(&self, work: Work, hint: Option<&Hint>) -> Wish {
        let ordered = hint.and_then(|hint| hint.route).or_else(|| self.set_route());
        match (work, ordered) {
            (Work::Write(reason), Some(hint::Route::Replica)) => match hint.and_then(ReadOnly::by_order) {
                Some(proof) => Wish::Read(proof, Reason::HintReplica),
                None => Wish::Primary(Reason::Write(reason)),
            },
            (Work::Write(reason), _) => Wish::Primary(Reason::Write(reason)),
            (Work::Transaction, _) => Wish::Primary(Reason::Transaction),
            (Work::Read(_), Some(hint::Route::Primary)) => Wish::Primary(Reason::HintPrimary),
            (Work::Read(proof), Some(hint::Route::Replica)) => Wish::Read(proof, Reason::HintReplica),
            (Work::Read(proof), None) if self.in_transaction() => Wish::Read(proof, Reason::ReadOnlyTransaction),
            (Work::Read(proof), None) => Wish::Read(proof, Reason::Read),
        }
    }

    /// Borrows a server for `wish`, and has it carry the client's settings; a cancel request ends the wait.
    pub(super) async fn attach(&mut self, wish: Wish, hint: Option<&Hint>) -> Result<(), AttachError> {
        let slot = Arc::clone(&self.key.slot);
        slot.wait();
        let attached = tokio::select! {
            biased;
            attached = self.attach_to(wish, hint) => attached,
            () = slot.interrupted() => Err(AttachError::Report(answer::canceled())),
        };
        if attached.is_err() {
            slot.give_back();
        }
        attached
    }

    async fn attach_to(&mut self, wish: Wish, hint: Option<&Hint>) -> Result<(), AttachError> {
        let routing = self.routing(hint);
        let arrived = Instant::now();
        let needs = self.needs(&routing, hint);
        let hold = arrived + self.served.hold;
        let mut wish = wish;
        for _ in 0..=YOUNG {
            let (view, target, reason) = self.route(wish, &routing, needs, arrived, hold).await?;
            let node = target.node();
            let busy = view.nodes[node].load.begin();
            let lease = match self.checkout(node).await {
                Ok(lease) => lease,
                Err(error) => {
                    wish = self.without(&target, &error, &view)?;
                    continue;
                }
            };
            match target {
                Target::Replica(fresh) if lease.connected_at >= fresh.sampled_at() => {
                    // The replica may have crashed and come back older between the sample and this connection.
                    drop(lease);
                    let until = arrived + routing.wait.max(std::time::Duration::from_millis(100));
                    let polled = self.served.cluster.poll(node, until).await;
                    wish = match polled {
                        Ok(()) => Wish::Read(fresh.into_read_only(), reason),
                        Err(_) => Wish::Primary(Reason::ServerTooYoung),
                    };
                }
                Target::Replica(_) => match self.lend(lease, busy, node, Ran::OnReplica, reason).await {
                    Err(AttachError::Lost) => {
                        self.services.counters.retries.increment();
                        wish = Wish::Primary(Reason::ReplicaFailed);
                    }
                    lent => return lent,
                },
                Target::Primary(_) => match self.lend(lease, busy, node, Ran::OnPrimary, reason).await {
                    Err(AttachError::Lost) => wish = Wish::Primary(reason),
                    lent => return lent,
                },
            }
        }
        Box::pin(self.attach_primary(Reason::ServerTooYoung)).await
    }

    /// Borrows a server of the primary, whatever it takes.
    pub(super) async fn attach_primary(&mut self, reason: Reason) -> Result<(), AttachError> {
        let routing = self.routing(None);
        let arrived = Instant::now();
        let hold = arrived + self.served.hold;
        let (view, target, reason) =
            self.route(Wish::Primary(reason), &routing, Needs::default(), arrived, hold).await?;
        let node = target.node();
        let busy = view.nodes[node].load.begin();
        match self.checkout(node).await {
            Ok(lease) => self.lend(lease, busy, node, Ran::OnPrimary, reason).await,
            Err(error) => {
                if error.blames_node() {
                    self.served.cluster.suspect(node);
                }
                Err(AttachError::Report(error.report()))
            }
        }
    }

    /// Asks the router until it says where, waiting where it says so.
    async fn route(
        &self,
        mut wish: Wish,
        routing: &Routing,
        needs: Needs,
        arrived: Instant,
        hold: Instant,
    ) -> Result<(Arc<View>, Target, Reason), AttachError> {
        let cluster = &self.served.cluster;
        loop {
            let view = cluster.snapshot();
            let (ask, why) = match wish {
                Wish::Primary(reason) => (Ask::Primary(reason), reason),
                Wish::Read(proof, reason) => (Ask::Read { proof, routing, needs, reason }, reason),
            };
            match router::route(ask, &view, Instant::now(), self.services.draw()) {
                Verdict::Go { target, reason } => return Ok((view, target, reason)),
                Verdict::Wait { proof, wait } => {
                    let until = arrived + routing.wait;
                    self.served.waits.increment();
                    wish = if cluster.catch_up(&wait, until).await.is_ok() {
                        Wish::Read(proof, why)
                    } else {
                        self.served.timeouts.increment();
                        Wish::Primary(Reason::WaitExpired)
                    };
                }
                Verdict::NoPrimary { proof, reason } => {
                    if let Err(none) = cluster.hold(hold).await {
                        return Err(AttachError::Report(none.report()));
                    }
                    wish = proof.map_or(Wish::Primary(reason), |proof| Wish::Read(proof, why));
                }
            }
        }
    }

    async fn checkout(&mut self, node: usize) -> Result<Lease, CheckoutError> {
        let pool = self.pool(node)?;
        self.info.waiting();
        pool.checkout().await
    }

    /// What to wish for when the node that was chosen lends no server.
    fn without(&self, target: &Target, error: &CheckoutError, view: &View) -> Result<Wish, AttachError> {
        if error.blames_node() {
            self.served.cluster.suspect(target.node());
        }
        match target {
            Target::Replica(_) if view.primary.is_some() => {
                self.services.counters.retries.increment();
                Ok(Wish::Primary(Reason::ReplicaFailed))
            }
            _ => Err(AttachError::Report(error.report())),
        }
    }

    async fn lend(
        &mut self,
        mut lease: Lease,
        busy: Busy,
        node: usize,
        ran: Ran,
        reason: Reason,
    ) -> Result<(), AttachError> {
        if let Some(sql) = self.session.attach(&mut lease.carried) {
            self.bring_settings(&mut lease, &sql, node).await?;
        }
        let since = Instant::now();
        lease.info.lend(self.info.id, since);
        self.info.active(lease.id);
        self.key.slot.lend(Arc::clone(lease.key()));
        self.services.counters.routed(ran, reason);
        self.attachment = Attachment::Lent(Box::new(Held { lease, busy, node, ran, since }));
        Ok(())
    }

    /// Has the server carry the client's settings. Awaited, not sent along: the client's statement must not run
    /// under other settings.
    async fn bring_settings(&mut self, lease: &mut Lease, sql: &str, node: usize) -> Result<(), AttachError> {
        let error = match lease.run_own(sql, self.services.limits().cancel_timeout).await {
            Ok(_) => {
                self.session.attached(&mut lease.carried);
                return Ok(());
            }
            Err(OwnError::Refused(body)) => AttachError::Relayed(body),
            Err(OwnError::Lost | OwnError::Timeout) => {
                self.served.cluster.suspect(node);
                AttachError::Lost
            }
        };
        // What the server carries is not what was thought, or cannot be left behind: nobody else gets it.
        lease.break_off("settings refused");
        Err(error)
    }

    /// The routing settings that hold for one batch.
    fn routing(&self, hint: Option<&Hint>) -> Routing {
        let mut routing = self.destination.routing.clone();
        routing.apply(&self.set_routing());
        if let Some(hint) = hint {
            if let Some(level) = hint.consistency {
                routing.consistency = consistency(level);
            }
            routing.max_lag = hint.max_lag.unwrap_or(routing.max_lag);
            if hint.route == Some(hint::Route::Replica) && routing.reads == Reads::Primary {
                routing.reads = Reads::Replicas;
            }
        }
        routing
    }

    fn needs(&self, routing: &Routing, hint: Option<&Hint>) -> Needs {
        let min_lsn = hint.and_then(|hint| hint.min_lsn).or_else(|| self.set_routing().min_lsn);
        self.served.cluster.needs(routing.consistency, &self.database_clock, &self.clock, min_lsn)
    }
}

/// The configuration's word for a hint's.
pub(super) const fn consistency(level: hint::Consistency) -> Consistency {
    match level {
        hint::Consistency::Eventual => Consistency::Eventual,
        hint::Consistency::Session => Consistency::Session,
        hint::Consistency::Database => Consistency::Database,
        hint::Consistency::Strong => Consistency::Strong,
    }
}

impl From<AttachError> for Report {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Report(report) => report,
            AttachError::Relayed(body) => {
                let fields = crate::protocol::error::ErrorFields::parse(&body);
                let code = fields.code.unwrap_or(crate::protocol::sqlstate::SqlState::INTERNAL_ERROR);
                Self::error(code, String::from_utf8_lossy(fields.message))
            }
            AttachError::Lost => answer::not_attached(),
        }
    }
}
