//! From a decision to a server: route, wait where that is worth it, borrow, and bring the settings along.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::answer;
use super::audit::Audit;
use super::bring::{Along, Bring};
use super::exchange::Ran;
use super::roaming::settled;
use super::task::{Attachment, Client, End, Fit, Held};
use crate::config::model::{Consistency, Reads, Routing, RoutingOverrides};
use crate::pool::CheckoutError;
use crate::pool::lease::Lease;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::router::reason::Reason;
use crate::router::view::needs::Needs;
use crate::router::view::{Busy, View};
use crate::router::{self, Ask, Target, Verdict};
use crate::session::settings::Difference;
use crate::session::{Work, pins};
use crate::sql::classify::ReadOnly;
use crate::sql::hint::{self, Hint};
use crate::sql::reach::Reach;
use crate::types::Lsn;

/// Why no server could be attached.
#[derive(Debug)]
pub(super) enum AttachError {
    /// The client is told this, and goes on.
    Report(Report),
    /// The client is told this `ErrorResponse` of the server's, and goes on.
    Relayed(bytes::BytesMut),
    /// The server was gone before anything of the client's was sent: another one will do.
    Lost,
    /// The transaction has failed, and its server is good for nothing but its end.
    Aborted,
}

/// Where a batch may go.
#[derive(Debug)]
pub(super) enum Wish {
    /// To the primary, and why.
    Primary(Reason),
    /// To any node that has seen enough.
    Read(ReadOnly, Reason),
}

/// Where a client stands when it asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Situation {
    /// Outside a transaction.
    Outside,
    /// In one that no server has begun.
    InTransaction,
    /// In session pooling: its first server will be its server for good.
    OwnServer,
}

/// What is ordered for a batch: by a comment in front of it, and by SET.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) batch: Option<Arc<Hint>>,
    pub(super) session: Hint,
    pub(super) bring: Bring,
    /// What it reads.
    pub(super) reach: Reach,
}

/// Why a server could not be attached at once.
#[derive(Debug)]
pub(super) enum Later {
    /// None was free, or the router has to wait.
    Wish(Wish),
    /// This one has to take over the client's settings first.
    Settings(Box<Lent>, Difference),
}

/// A server on its way to the client.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) lease: Lease,
    pub(super) busy: Busy,
    pub(super) node: usize,
    pub(super) incarnation: u64,
    pub(super) ran: Ran,
    pub(super) reason: Reason,
}

/// How often a replica whose connection is younger than its sample is asked again.
const YOUNG: usize = 2;

impl Lent {
    /// Where else to go should it be gone before anything of the client's was sent.
    pub(super) const fn otherwise(&self) -> Wish {
        match self.ran {
            Ran::OnReplica => Wish::Primary(Reason::ReplicaFailed),
            Ran::OnPrimary => Wish::Primary(self.reason),
        }
    }
}

/// The wish that led to `target`, to be asked for again.
fn again(target: Target, reason: Reason) -> Wish {
    match target {
        Target::Primary(_) => Wish::Primary(reason),
        Target::Replica(fresh) => Wish::Read(fresh.into_read_only(), reason),
    }
}

impl Wish {
    /// What work, hints and settings together wish for.
    pub(super) fn of(work: Work, orders: &Orders, situation: Situation) -> Self {
        match (work, orders.route()) {
            (Work::Write(reason), Some(hint::Route::Replica)) => {
                match orders.batch.as_deref().and_then(ReadOnly::by_order) {
                    Some(proof) => Self::Read(proof, Reason::HintReplica),
                    None => Self::Primary(Reason::Write(reason)),
                }
            }
            (Work::Write(reason), _) => Self::Primary(Reason::Write(reason)),
            (Work::Transaction, _) => Self::Primary(Reason::Transaction),
            // The server of its first statement is its server for good, so it has to be one for every statement.
            (Work::Read(_), None) | (Work::Roam(_), _) if situation == Situation::OwnServer => {
                Self::Primary(Reason::Pinned)
            }
            (Work::Read(_) | Work::Roam(_), Some(hint::Route::Primary)) => Self::Primary(Reason::HintPrimary),
            (Work::Roam(proof), _) => Self::Read(proof, Reason::OnlyReadSoFar),
            (Work::Read(proof), Some(hint::Route::Replica)) => Self::Read(proof, Reason::HintReplica),
            (Work::Read(proof), None) if situation == Situation::InTransaction => {
                Self::Read(proof, Reason::ReadOnlyTransaction)
            }
            (Work::Read(proof), None) => Self::Read(proof, Reason::Read),
        }
    }

    /// What the router is asked, and why.
    pub(super) fn ask(self, routing: &Routing, needs: Needs) -> (Ask<'_>, Reason) {
        match self {
            Self::Primary(reason) => (Ask::Primary(reason), reason),
            Self::Read(proof, reason) => (Ask::Read { proof, routing, needs, reason }, reason),
        }
    }
}

impl Orders {
    /// The routing settings that hold for the batch, where `routing` is the destination's.
    pub(super) fn routing(&self, routing: &Routing) -> Routing {
        let mut routing = routing.clone();
        let given = |hint: &Hint| RoutingOverrides {
            consistency: hint.consistency.map(consistency),
            max_lag: hint.max_lag,
            ..Default::default()
        };
        routing.apply(&given(&self.session));
        if let Some(hint) = &self.batch {
            routing.apply(&given(hint));
            if hint.route == Some(hint::Route::Replica) && routing.reads == Reads::Primary {
                routing.reads = Reads::Replicas;
            }
        }
        routing
    }

    /// The position that a read must have seen.
    pub(super) fn min_lsn(&self) -> Option<Lsn> {
        self.batch.as_ref().and_then(|hint| hint.min_lsn).or(self.session.min_lsn)
    }

    /// What of what it reads it may go by.
    pub(super) const fn reach(&self, routing: &Routing) -> Reach {
        if routing.tables { self.reach } else { Reach::EVERYTHING }
    }

    fn route(&self) -> Option<hint::Route> {
        self.batch.as_ref().and_then(|hint| hint.route).or(self.session.route)
    }
}

impl Client {
    /// What the session's work, hints and settings together wish for.
    pub(super) fn wish(&self, work: Work, orders: &Orders) -> Wish {
        let situation = if self.session.pins().has(pins::Reason::SessionMode) {
            Situation::OwnServer
        } else if self.in_transaction() {
            Situation::InTransaction
        } else {
            Situation::Outside
        };
        let work = if self.may_roam() { work } else { settled(work) };
        Wish::of(work, orders, situation)
    }

    /// Borrows a server for `wish` if that takes no waiting.
    pub(super) fn attach_now(&mut self, wish: Wish, orders: &Orders, now: Instant) -> Result<(), Later> {
        let routing = self.routing(orders);
        let needs = match &wish {
            Wish::Read(..) if routing.reads != Reads::Primary => self.needs(&routing, orders),
            _ => Needs::default(),
        };
        let (ask, why) = wish.ask(&routing, needs);
        let view = self.served.cluster.view();
        let (target, reason) = match router::route(ask, &view, now, self.services.draw()) {
            Verdict::Go { target, reason } => (target, reason),
            Verdict::Wait { proof, .. } | Verdict::NoPrimary { proof: Some(proof), .. } => {
                return Err(Later::Wish(Wish::Read(proof, why)));
            }
            Verdict::NoPrimary { proof: None, reason } => return Err(Later::Wish(Wish::Primary(reason))),
        };
        let node = target.node();
        let Some(lease) = self.pool(node).ok().and_then(|pool| pool.checkout_now(self.session.settings(), now)) else {
            return Err(Later::Wish(again(target, reason)));
        };
        let ran = match &target {
            Target::Replica(fresh) if lease.connected_at >= fresh.sampled_at() => {
                return Err(Later::Wish(again(target, reason)));
            }
            Target::Replica(_) => Ran::OnReplica,
            Target::Primary(_) => Ran::OnPrimary,
        };
        let (busy, incarnation) = (view.nodes[node].load.begin(), view.nodes[node].incarnation);
        let lent = Lent { lease, busy, node, incarnation, ran, reason };
        self.take_over(lent, orders, now).map_err(|(lent, difference)| Later::Settings(lent, difference))
    }

    /// Waits for a server. Who has hung up meanwhile does without: the next in line gets it, unused.
    pub(super) async fn attach_later(
        &mut self,
        later: Later,
        orders: &Orders,
        arrived: Instant,
    ) -> Result<Result<(), AttachError>, End> {
        let attached = self.attach(later, orders, arrived).await;
        if attached.is_ok() && poll_fn(|cx| Poll::Ready(self.wire.has_hung_up(cx))).await {
            self.release().await;
            return Err(End::Gone);
        }
        Ok(attached)
    }

    /// Borrows a server, and has it carry the client's settings; a cancel request ends the wait.
    async fn attach(&mut self, later: Later, orders: &Orders, arrived: Instant) -> Result<(), AttachError> {
        let slot = Arc::clone(&self.key.slot);
        slot.wait();
        let attaching = async {
            let wish = match later {
                Later::Wish(wish) => wish,
                Later::Settings(lent, difference) => {
                    let otherwise = lent.otherwise();
                    match self.bring_settings(*lent, &difference).await {
                        Err(AttachError::Lost) => otherwise,
                        done => return done,
                    }
                }
            };
            self.attach_to(wish, orders, arrived).await
        };
        let attached = tokio::select! {
            biased;
            attached = attaching => attached,
            () = slot.interrupted() => Err(AttachError::Report(answer::canceled())),
        };
        if attached.is_err() {
            slot.give_back();
        }
        attached
    }

    async fn attach_to(&mut self, mut wish: Wish, orders: &Orders, arrived: Instant) -> Result<(), AttachError> {
        let routing = self.routing(orders);
        let needs = self.needs(&routing, orders);
        let hold = arrived + self.served.hold;
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
            let ran = match target {
                Target::Replica(fresh) if lease.connected_at >= fresh.sampled_at() => {
                    // The replica may have crashed and come back older between the sample and this connection.
                    drop(lease);
                    let until = arrived + routing.wait.max(std::time::Duration::from_millis(100));
                    let polled = self.served.cluster.poll(node, until).await;
                    wish = match polled {
                        Ok(()) => Wish::Read(fresh.into_read_only(), reason),
                        Err(_) => Wish::Primary(Reason::ServerTooYoung),
                    };
                    continue;
                }
                Target::Replica(_) => Ran::OnReplica,
                Target::Primary(_) => Ran::OnPrimary,
            };
            let lent = Lent { lease, busy, node, incarnation: view.nodes[node].incarnation, ran, reason };
            let otherwise = lent.otherwise();
            match self.lend(lent, orders).await {
                Err(AttachError::Lost) => wish = otherwise,
                done => return done,
            }
        }
        Box::pin(self.attach_primary(Reason::ServerTooYoung)).await
    }

    /// Borrows a server of the primary, whatever it takes.
    pub(super) async fn attach_primary(&mut self, reason: Reason) -> Result<(), AttachError> {
        let arrived = Instant::now();
        let hold = arrived + self.served.hold;
        let routing = self.destination.routing.clone();
        let (view, target, reason) =
            self.route(Wish::Primary(reason), &routing, Needs::default(), arrived, hold).await?;
        let node = target.node();
        let busy = view.nodes[node].load.begin();
        match self.checkout(node).await {
            Ok(lease) => {
                let orders =
                    Orders { batch: None, session: Hint::default(), bring: Bring::First, reach: Reach::EVERYTHING };
                let incarnation = view.nodes[node].incarnation;
                self.lend(Lent { lease, busy, node, incarnation, ran: Ran::OnPrimary, reason }, &orders).await
            }
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
            let (ask, why) = wish.ask(routing, needs);
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

    pub(super) async fn checkout(&mut self, node: usize) -> Result<Lease, CheckoutError> {
        let pool = self.pool(node)?;
        self.info.waiting();
        pool.checkout(self.session.settings()).await
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

    async fn lend(&mut self, lent: Lent, orders: &Orders) -> Result<(), AttachError> {
        match self.take_over(lent, orders, Instant::now()) {
            Ok(()) => Ok(()),
            Err((lent, difference)) => self.bring_settings(*lent, &difference).await,
        }
    }

    /// The server is the client's from now on.
    pub(super) fn hold(&mut self, lent: Lent, along: Option<Box<Along>>, since: Instant) {
        let Lent { lease, busy, node, incarnation, ran, reason } = lent;
        lease.info.lend(self.info.id, since);
        self.info.active(lease.id);
        self.key.slot.lend(Arc::clone(lease.key()));
        if lease.carried.last_client != Some(self.info.id) {
            self.wrote_on = None;
        }
        let held = Held {
            lease,
            busy,
            node,
            incarnation,
            ran,
            reason,
            changed: None,
            changing: None,
            since,
            along,
            recent: [0; 4],
            audit: Audit::No,
            scrub: None,
            roams: None,
            fit: Fit::ForAll,
            aimed: None,
        };
        self.attachment = Attachment::Lent(Box::new(held));
    }

    /// The routing settings that hold for one batch.
    fn routing(&self, orders: &Orders) -> Routing {
        orders.routing(&self.destination.routing)
    }
}

/// The configuration's word for a hint's.
const fn consistency(level: hint::Consistency) -> Consistency {
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
                let code = fields.code.unwrap_or(SqlState::INTERNAL_ERROR);
                Self::error(code, String::from_utf8_lossy(fields.message))
            }
            AttachError::Lost => answer::not_attached(),
            AttachError::Aborted => answer::aborted(),
        }
    }
}
