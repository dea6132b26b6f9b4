//! The life of a batch, in a straight line: observe, attach, relay, settle.

use std::future::poll_fn;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::FixedState;

use super::answer::{self, Wrote};
use super::attach::{AttachError, Orders};
use super::audit::Audit;
use super::bring::Bring;
use super::counters::Class;
use super::freshness::{Changed, Witness};
use super::task::{Attachment, Client, End, Held};
use crate::net::worker;
use crate::protocol::error::Severity;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::{TransactionStatus, frontend as tag};
use crate::relay::{self, Farewell, Hold, Outcome, Until};
use crate::router::reason::Reason;
use crate::session::scope::Outlook;
use crate::session::{Batch, Held as Found, Intent, Plan, Standing, Tx, Work};
use crate::sql::hint::Hint;
use crate::sql::{Effects, WriteReason};

/// Where a batch ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// On the primary.
    OnPrimary,
    /// On a replica that had seen enough.
    OnReplica,
}

/// What a server must be asked when a pin may have begun or ended: temporary objects, advisory locks.
///
/// All that lives in a schema depends on it: tables, functions, types.
const PROBE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_depend \
     WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND refobjid = pg_catalog.pg_my_temp_schema()), \
     EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())";

impl Client {
    /// Serves the batch in `self.frames`.
    pub(super) async fn exchange(&mut self, until: Until) -> Result<(), End> {
        let standing = if self.is_attached() { Standing::Attached } else { Standing::Detached };
        let mut plan = Plan::new(standing);
        let hears = self.is_listening() && self.is_quiet();
        let intent = self.observe(&mut plan);
        if hears {
            Box::pin(self.hear_first(&plan)).await?;
        }
        let (mut work, hint) = match intent {
            Intent::Answer(bytes) if self.is_listening() => return Box::pin(self.answer_listener(bytes)).await,
            Intent::Answer(bytes) => return Box::pin(self.answer(&bytes)).await,
            Intent::Run { work, hint } => (work, hint),
        };
        self.share(hint.as_deref());
        if self.roams()
            && let Some(Intent::Run { work: anew, .. }) = Box::pin(self.roam(&mut plan, hint.as_ref())).await
        {
            work = anew;
        }
        self.info.queries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let started = Instant::now();
        self.info.requests(started);
        let mark = self.session.mark();
        if let Some(database) = &plan.vacated {
            // PostgreSQL refuses while anybody is connected, and to it idle servers are somebody.
            self.services.pools.reconnect(Some(database));
            self.served.hubs.vacate(database);
        }
        if plan.effects.has(Effects::LAST_LSN)
            && let Err(error) = Box::pin(self.tell_position()).await
        {
            return self.refuse(error, until).await;
        }
        let attached = self.attach_for(work, hint, &plan, started, until).await?;
        if let Err(error) = attached
            && let Err(refused) = Box::pin(self.without_settings(error, &mut plan, until)).await
        {
            return refused;
        }
        if !plan.is_denied()
            && self.is_unusual(&plan)
            && let Err(refused) = Box::pin(self.make_ready(&mut plan, until)).await
        {
            return refused;
        }
        if let (Attachment::Lent(held), false) = (&mut self.attachment, matches!(mark, Tx::Open(_))) {
            held.since = started;
        }
        self.mark_dirty(&plan);
        if (self.is_listening() || plan.effects.has(Effects::LISTEN))
            && let Err(refused) = Box::pin(self.listen_for(&plan, until)).await
        {
            return refused;
        }
        let outcome = match self.relay(&plan, until).await {
            outcome @ (Outcome::Unsettled { .. } | Outcome::Elsewhere { .. }) => {
                match Box::pin(self.again(outcome, mark, &mut plan, until)).await {
                    Ok(outcome) => outcome,
                    Err(refused) => return refused,
                }
            }
            outcome => outcome,
        };
        self.count(&plan, started);
        if plan.effects.has(Effects::LAST_LSN) {
            self.position_told();
        }
        self.settle(outcome, &plan).await
    }

    /// Has a server for the batch that is the client's, and has or gets the client's settings.
    async fn attach_for(
        &mut self,
        work: Work,
        hint: Option<Arc<Hint>>,
        plan: &Plan,
        started: Instant,
        until: Until,
    ) -> Result<Result<(), AttachError>, End> {
        if self.is_attached() {
            return Ok(if self.session.lacks().is_some() { Box::pin(self.supply(plan)).await } else { Ok(()) });
        }
        let shows = plan.effects.has(Effects::STATEMENTS);
        let bring = if plan.outdated.is_empty() && !shows { self.bring(until) } else { Bring::First };
        let orders = Orders { batch: hint, session: self.setting_hint(), bring, reach: self.reach_of(plan) };
        let wish = self.wish(self.confine(work, until), &orders);
        // Boxed, as all that few batches need: the futures of those that need none of it stay small.
        match self.attach_now(wish, &orders, started) {
            Ok(()) => Ok(Ok(())),
            Err(later) => Box::pin(self.attach_later(later, &orders, started)).await,
        }
    }

    /// Sends a batch again of which nothing was run, or nothing that counts; an error is what came of the refusal.
    async fn again(
        &mut self,
        mut outcome: Outcome,
        mark: Tx,
        plan: &mut Plan,
        until: Until,
    ) -> Result<Outcome, Result<(), End>> {
        if let Outcome::Unsettled { code } = outcome {
            outcome = self.relay_again(code, &mark, plan, until).await?;
        }
        let Outcome::Elsewhere { code } = outcome else { return Ok(outcome) };
        let mark = self.mark_of(mark);
        self.leave_replica(code, plan);
        self.session.go_back_to(mark);
        if let Err(error) = self.attach_primary(Reason::ReplicaFailed).await {
            return Err(self.refuse(error, until).await);
        }
        self.mark_dirty(plan);
        if self.is_listening() {
            self.listen_for(plan, until).await?;
        }
        Ok(self.relay(plan, until).await)
    }

    /// Listens to what the batch will listen to; an error is what came of the refusal.
    async fn listen_for(&mut self, plan: &Plan, until: Until) -> Result<(), Result<(), End>> {
        match self.prick_up(plan).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.release_if_free().await;
                Err(self.refuse(error, until).await)
            }
        }
    }

    /// Counts a batch that has run; before its messages are forgotten.
    fn count(&mut self, plan: &Plan, started: Instant) {
        let here = worker::here();
        let stats = self.stats.of(here);
        for frame in self.frames.iter().filter(|frame| frame.is_start()) {
            match frame.tag {
                tag::PARSE => stats.client_parse_count.increment(),
                tag::BIND => stats.bind_count.increment(),
                _ => {}
            }
        }
        let is_idle = self.session.status() == TransactionStatus::Idle;
        let Attachment::Lent(held) = &mut self.attachment else { return };
        let class = if plan.only_reads { Class::Read } else { Class::Write };
        self.services.counters.routed(class, held.ran, held.reason);
        held.reason = match held.ran {
            _ if is_idle => Reason::Pinned,
            Ran::OnPrimary => Reason::Transaction,
            Ran::OnReplica => held.reason,
        };
        let parses = held.lease.replies.take_parses();
        let stats = held.lease.pool().stats.of(here);
        stats.server_parse_count.add(parses);
        stats.query_count.increment();
        let now = Instant::now();
        stats.query_time.record(now - started);
        if is_idle {
            stats.xact_count.increment();
            stats.xact_time.record(now.saturating_duration_since(held.since));
        }
    }

    /// Adds what went over the client's wire since the last time.
    pub(super) fn count_traffic(&mut self) {
        let (received, sent) = self.wire.traffic();
        let stats = self.stats.of(worker::here());
        stats.bytes_received.add(received - self.counted.0);
        stats.bytes_sent.add(sent - self.counted.1);
        self.counted = (received, sent);
    }

    pub(super) fn observe(&mut self, plan: &mut Plan) -> Intent {
        let moment = self.contents.settled();
        let catalog = self.contents.get();
        let outlook = Outlook { classifier: &self.services.classifier, catalog: &catalog, objects: self.objects() };
        let batch = Batch { buffer: self.wire.bytes(), frames: &self.frames };
        let intent = self.session.observe(batch, plan, &outlook);
        plan.moment = moment;
        if self.may_have_no_block() && matches!(self.session.tx(), Tx::Deferred(_)) {
            self.session.go_back_to(Tx::Idle);
            return Intent::Answer(answer::failed(&answer::no_blocks(Severity::Error), TransactionStatus::Idle));
        }
        intent
    }

    /// A number for the definitions that its statements are parsed with.
    pub(super) fn objects(&self) -> u64 {
        FixedState::default().hash_one((self.contents.shape(), self.destination.server_user.as_str()))
    }

    /// A batch that is not whole cannot be repeated, so it may not be tried on a replica.
    fn confine(&self, work: Work, until: Until) -> Work {
        if self.sync_follows(until) { Work::Write(WriteReason::TooLong) } else { work }
    }

    /// Whether the server, when it has dealt with the batch, waits for more of it.
    pub(super) fn sync_follows(&self, until: Until) -> bool {
        until == Until::Sent || self.frames.last().is_some_and(|frame| frame.tag == tag::FLUSH)
    }

    pub(super) async fn relay(&mut self, plan: &Plan, until: Until) -> Outcome {
        let Attachment::Lent(held) = &mut self.attachment else {
            return Outcome::ServerLost(Farewell::None);
        };
        let first = matches!(self.session.tx(), Tx::Idle | Tx::Deferred(_)) || held.roams.is_some();
        let hold_back =
            if held.ran == Ran::OnReplica && first && until == Until::Replied { Hold::Answers } else { Hold::No };
        let (cluster, database) = (&self.served.cluster, &self.database_clock);
        // The clocks that reads wait for are set before the client can hear that its statement is done.
        let Held { node, incarnation, .. } = **held;
        let (contents, changed) = (&*self.contents, held.changed.filter(|_| held.ran == Ran::OnPrimary));
        let mut witness = Witness { cluster, database, clock: &mut self.clock, node, incarnation, contents, changed };
        let along = held.along.as_deref().map(|along| &along.difference);
        let mut acknowledge = || witness.acknowledge();
        let job = relay::Job {
            along,
            frames: &self.frames,
            plan,
            until,
            hold: hold_back,
            acknowledge: Some(&mut acknowledge),
        };
        let outcome = relay::run(&mut self.wire, &mut held.lease, &mut self.session, job).await;
        if !matches!(outcome, Outcome::Unsettled { .. }) {
            held.along = None;
        }
        outcome
    }

    /// Takes note of what the batch may change.
    pub(super) fn mark_dirty(&mut self, plan: &Plan) {
        let Attachment::Lent(held) = &mut self.attachment else { return };
        if let Some(fingerprint) = plan.fingerprint {
            held.recent.rotate_right(1);
            held.recent[0] = fingerprint;
        }
        if !plan.only_reads {
            held.changed = Some(Changed::after(held.changed, plan));
        }
        if plan.effects.has(Effects::DDL) && held.changing.is_none() {
            held.changing = Some(self.contents.change());
        }
    }

    /// Whether the transaction has done anything that is not a plain read.
    pub(super) const fn has_changed(&self) -> bool {
        matches!(&self.attachment, Attachment::Lent(held) if held.changed.is_some())
    }

    pub(super) async fn answer(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.forget_batch();
        self.wire.send(bytes).await.map_err(|_| End::Gone)
    }

    /// A replica would not do it: the connection is closed, what is known of the statement corrected.
    fn leave_replica(&mut self, code: Option<SqlState>, plan: &mut Plan) {
        let Attachment::Lent(held) = std::mem::replace(&mut self.attachment, Attachment::Detached) else { return };
        if code == Some(SqlState::READ_ONLY_SQL_TRANSACTION) {
            plan.writes_after_all();
            if let Some(fingerprint) = plan.fingerprint {
                self.services.classifier.correct(fingerprint);
            }
        }
        if code.is_none_or(|code| code.as_str().starts_with("57P")) {
            self.served.cluster.suspect(held.node);
        }
        tracing::debug!(client = %self.info.id, code = code.map_or("none", |_| "some"), "repeated on the primary");
        self.services.counters.retries.increment();
        self.key.slot.give_back();
    }

    /// After the relay: the server goes back, stays, or is gone; then the client gets its last bytes.
    async fn settle(&mut self, outcome: Outcome, plan: &Plan) -> Result<(), End> {
        match outcome {
            Outcome::Done(mut parting) => {
                self.forget_batch();
                if self.session.in_doubt() {
                    Box::pin(self.resolve_doubt()).await;
                }
                if plan.effects.has(Effects::SIGNALS) {
                    Box::pin(self.hit()).await;
                }
                self.after(plan);
                let heard = if self.is_listening() { Box::pin(self.listen_in(&mut parting)).await } else { Ok(()) };
                self.release_if_free().await;
                poll_fn(|cx| parting.poll_send(cx, &mut self.wire)).await.map_err(|_| End::Gone)?;
                heard.map_err(End::from)
            }
            Outcome::ClientGone => Err(End::Gone),
            Outcome::ServerLost(farewell) => self.server_lost(farewell),
            Outcome::Elsewhere { .. } | Outcome::Unsettled { .. } => self.server_lost(Farewell::None),
        }
    }

    pub(super) fn server_lost(&mut self, farewell: Farewell) -> Result<(), End> {
        let wrote = if self.has_changed() { Wrote::Perhaps } else { Wrote::Nothing };
        if let Attachment::Lent(held) = std::mem::replace(&mut self.attachment, Attachment::Detached) {
            self.served.cluster.suspect(held.node);
        }
        Err(match farewell {
            Farewell::Relayed => End::Gone,
            Farewell::None => End::told(answer::server_lost(wrote)),
        })
    }

    /// Asks the server whether a pin began or ended, when only it can tell.
    async fn resolve_doubt(&mut self) {
        let timeout = self.limits().cancel_timeout;
        let Attachment::Lent(held) = &mut self.attachment else { return };
        // In the middle of a batch it would end the client's implicit transaction.
        if !held.lease.replies.is_clean() {
            return;
        }
        let Ok(rows) = held.lease.run_own(PROBE, timeout).await else { return };
        let found = |column: usize| {
            let value = rows.first().and_then(|row| row.get(column)).and_then(Option::as_deref);
            if value == Some("f") { Found::Nothing } else { Found::Something }
        };
        self.session.resolve_doubt(found(0), found(1));
    }

    /// What follows from a batch that went well.
    fn after(&mut self, plan: &Plan) {
        if self.session.status() == TransactionStatus::Idle {
            self.info.transactions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if let Attachment::Lent(held) = &mut self.attachment {
                if held.changed.take().is_some() {
                    self.wrote_on = Some(held.lease.id);
                }
                held.changing = None;
            }
        }
        let pending = plan.effects.and(Effects::RESHAPES.with(Effects::DEFAULTS)).with(self.pending);
        if pending != Effects::default() {
            self.concern_others(pending);
        }
        self.info.prepared.store(self.session.prepared_count(), std::sync::atomic::Ordering::Relaxed);
        self.count_traffic();
        self.session.note_sequences(plan);
        self.note_pins(plan.fingerprint);
    }

    /// What others see when the transaction ends, if not before.
    fn concern_others(&mut self, pending: Effects) {
        let idle = self.session.status() == TransactionStatus::Idle;
        self.pending = if idle { Effects::default() } else { pending };
        if pending.has(Effects::RESHAPES) {
            self.contents.reshape();
        }
        if idle && pending.has(Effects::DEFAULTS) {
            self.services.defaults_changed(&self.destination.cluster, None);
        }
    }

    /// Gives the server back when nothing keeps it; later, if its client need not wait for what comes before.
    pub(super) async fn release_if_free(&mut self) {
        let Attachment::Lent(held) = &mut self.attachment else { return };
        if !held.lease.replies.is_clean() || !self.session.pins().is_empty() {
            return;
        }
        let audit = held.choose_audit();
        held.scrub = self.session.pins().scrub();
        let at_once = audit == Audit::No && held.scrub.is_none();
        if self.session.must_unlisten() {
            Box::pin(self.unlisten()).await;
        }
        if at_once {
            self.release().await;
        }
    }

    /// Gives the server back.
    pub(super) async fn release(&mut self) {
        let Attachment::Lent(mut held) = std::mem::replace(&mut self.attachment, Attachment::Detached) else { return };
        self.session.detach(&mut held.lease.carried);
        held.lease.carried.last_client = Some(self.info.id);
        held.lease.info.prepared.store(held.lease.carried.count(), std::sync::atomic::Ordering::Relaxed);
        if !self.key.slot.give_back() {
            Box::pin(self.canceled(&mut held)).await;
        }
        if held.lease.carried.has_clients_names() {
            Box::pin(held.hide_statements(&self.session, self.limits().cancel_timeout)).await;
        }
        if let Some(scrub) = held.scrub {
            Box::pin(self.scrub(&mut held, scrub)).await;
        }
        if held.audit == Audit::Due {
            Box::pin(self.audit(&mut held)).await;
        }
        drop(held);
        self.info.idle();
        if !Arc::ptr_eq(&self.named, &self.session.believed) {
            self.named = Arc::clone(&self.session.believed);
            self.info.rename(self.named.get("application_name"));
        }
    }

    /// A cancel is on its way: it must have arrived before anybody else gets this server.
    pub(super) async fn canceled(&self, held: &mut Held) {
        if tokio::time::timeout(self.limits().cancel_timeout, self.key.slot.settled()).await.is_err() {
            held.lease.break_off("a cancel request did not arrive in time");
        }
    }

    /// Forgets the messages of the batch; nothing points into them any more.
    pub(super) fn forget_batch(&mut self) {
        self.frames.clear();
        self.wire.done();
    }

    /// The server spoke while the client was silent: a notice, or its farewell.
    pub(super) async fn overhear(&mut self) -> Result<(), End> {
        if self.roams() {
            // Whatever it says, its farewell in most cases, the transaction can go on elsewhere.
            self.leave_node().await;
            return Ok(());
        }
        let Attachment::Lent(held) = &mut self.attachment else { return Ok(()) };
        match relay::overhear(&mut self.wire, &mut held.lease, &mut self.session).await {
            Outcome::Done(mut parting) => {
                self.release_if_free().await;
                poll_fn(|cx| parting.poll_send(cx, &mut self.wire)).await.map_err(|_| End::Gone)?;
                self.release_late().await;
                Ok(())
            }
            Outcome::ClientGone => Err(End::Gone),
            Outcome::ServerLost(farewell) => self.server_lost(farewell),
            Outcome::Elsewhere { .. } | Outcome::Unsettled { .. } => self.server_lost(Farewell::None),
        }
    }

    /// Whether a wish may leave the primary at all, for `EXPLAIN ROUTE`.
    pub(super) fn in_transaction(&self) -> bool {
        *self.session.tx() != Tx::Idle
    }
}
