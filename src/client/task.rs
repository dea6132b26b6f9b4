//! A client's phases: greeting, batches, farewell.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use smallvec::SmallVec;

use super::answer;
use super::audit::Audit;
use super::batch::{Read, ReadError};
use super::bring::Along;
use super::counters::Stats;
use super::directory::{Entry, Place};
use super::exchange::Ran;
use super::freshness::Changed;
use super::listener::Next;
use super::listening::Ear;
use super::services::{Current, Served, Services};
use super::signals::Aimed;
use crate::cancel::Key;
use crate::cluster::catalog::{Changing, Contents};
use crate::cluster::{SessionClock, WriteClock};
use crate::config::model::{Destination, Limits, PoolMode, User};
use crate::net::wire::{Filled, Wire};
use crate::net::worker::Seat;
use crate::pool::lease::Lease;
use crate::pool::{CheckoutError, Pool};
use crate::protocol::error::{Report, Severity};
use crate::protocol::frame::Frame;
use crate::protocol::replies::Kind;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::TransactionStatus;
use crate::relay::Until;
use crate::router::reason::Reason;
use crate::router::view::Busy;
use crate::session::parameters::Parameters;
use crate::session::pins::Scrub;
use crate::session::{Deferred, Session};
use crate::sql::Effects;
use crate::types::ServerId;

/// A server lent to this client.
#[derive(Debug)]
pub(super) struct Held {
    /// Whom the batch signals.
    pub(super) aimed: Option<Box<Aimed>>,
    pub(super) lease: Lease,
    /// Counts as one request in flight on its node.
    pub(super) busy: Busy,
    pub(super) node: usize,
    /// The node's incarnation when it was chosen.
    pub(super) incarnation: u64,
    pub(super) ran: Ran,
    /// Why the next batch goes there.
    pub(super) reason: Reason,
    /// What the transaction at hand may have changed.
    pub(super) changed: Option<Changed>,
    /// That the transaction at hand changes definitions.
    pub(super) changing: Option<Changing>,
    /// Since when.
    pub(super) since: Instant,
    /// The settings that go to it with the client's next messages.
    pub(super) along: Option<Box<Along>>,
    /// The shapes of the statements that it ran last; 0 where there is none.
    pub(super) recent: [u64; 4],
    /// Whether it is asked what it carries when it goes back.
    pub(super) audit: Audit,
    /// How it is made clean when it goes back, if it must be.
    pub(super) scrub: Option<Scrub>,
    /// The transaction on it, while that could begin anew elsewhere.
    pub(super) roams: Option<Box<Deferred>>,
    pub(super) fit: Fit,
}

/// What a server that is lent may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Whatever its client says.
    ForAll,
    /// To end the transaction, which has failed: it lacks settings that it would not take.
    ToRollBack,
}

/// Whether this client holds a server.
#[derive(Debug)]
pub(super) enum Attachment {
    /// It holds none.
    Detached,
    /// It holds one: for a transaction, or for as long as it is pinned.
    Lent(Box<Held>),
}

/// Whether somebody wants the client to look if it should go, or has to follow a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attention {
    /// Nobody does.
    None,
    /// It has not looked yet.
    Due,
}

/// Why a client's connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// It said goodbye, or cannot be told anything.
    Gone,
    /// It is told why.
    Told(Box<Report>),
    /// It goes on elsewhere.
    Moves,
}

impl End {
    pub(super) fn told(report: Report) -> Self {
        Self::Told(Box::new(report))
    }
}

/// A client that has logged in.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) services: Arc<Services>,
    pub(super) served: Arc<Served>,
    pub(super) destination: Arc<Destination>,
    /// The configuration that `destination` comes from.
    pub(super) current: Arc<Current>,
    /// Whether it has to look about when it is next between transactions.
    pub(super) attention: Attention,
    pub(super) info: Entry,
    pub(super) key: Key,
    pub(super) wire: Wire,
    pub(super) session: Session,
    pub(super) attachment: Attachment,
    /// The messages of the batch at hand.
    pub(super) frames: SmallVec<[Frame; 1]>,
    /// Pools that were needed so far, by the node's index.
    pub(super) pools: SmallVec<[Option<Arc<Pool>>; 2]>,
    /// What its database contains.
    pub(super) contents: Arc<Contents>,
    /// When this database was last written to.
    pub(super) database_clock: Arc<WriteClock>,
    /// When this client, and who shares its scope, last wrote and read.
    pub(super) clock: SessionClock,
    /// On which server it was last that it may have moved a sequence, while nobody else has had that since.
    pub(super) wrote_on: Option<ServerId>,
    /// What the transaction at hand does that concerns others when it ends: definitions, defaults.
    pub(super) pending: Effects,
    /// What it listens with, while it does.
    pub(super) ear: Option<Box<Ear>>,
    /// What clients of its database and user do.
    pub(super) stats: Stats,
    /// The user, when it is not in the configuration but was looked up.
    pub(super) found: Option<Box<User>>,
    /// The parameters that `info` has its `application_name` from.
    pub(super) named: Arc<Parameters>,
    /// Bytes received and sent that have been counted.
    pub(super) counted: (u64, u64),
    /// Says which worker it belongs to.
    pub(super) seat: Seat,
    /// Its place among the clients.
    pub(super) _place: Place,
}

/// What a client is told that was idle for too long.
pub(super) type Reproach = fn(&Client) -> Report;

/// What ended a wait for the client's next batch.
enum Woken {
    Client,
    Server,
    Mail,
    Control,
    TimedOut(Box<Report>),
    Gone,
}

/// One connection from its first byte to its last, where `next` is what it begins with.
///
/// There for as long as the client is, so it is small: each phase before the last is a box of its own.
#[expect(clippy::manual_async_fn, reason = "an async function would keep what it is given twice")]
pub(super) fn live(mut next: Next) -> impl Future<Output = ()> + Send {
    async move {
        let mut client = loop {
            match next {
                Next::End => return,
                Next::Phase(phase) => next = phase.await,
                Next::Served(client) => break client,
            }
        };
        let end = client.serve().await;
        if matches!(end, End::Moves) {
            return go_on(client);
        }
        Box::pin(client.part(end)).await;
    }
}

/// Has a client served where it belongs.
fn go_on(client: Box<Client>) {
    let workers = Arc::clone(&client.services.workers);
    workers.spawn(client.seat, live(Next::Served(client)));
}

impl Client {
    /// Says farewell, and leaves everything in order.
    async fn part(mut self: Box<Self>, end: End) {
        if let End::Told(report) = &end {
            tracing::info!(client = %self.info.id, code = report.code.as_str(), message = %report.message, "client connection ends");
            self.services.counters.errors.record(report.code.0);
            let _ = tokio::time::timeout(FAREWELL, self.wire.send(&answer::error(report))).await;
        }
        self.count_traffic();
        self.leave().await;
    }

    /// Whether it has nothing to keep it, and belongs to another worker.
    fn should_move(&self) -> bool {
        self.wire.worker() != self.services.workers.home(self.seat)
            && !self.is_attached()
            && self.session.status() == TransactionStatus::Idle
    }

    async fn serve(&mut self) -> End {
        if let Err(error) = self.wire.settle() {
            tracing::warn!(client = %self.info.id, %error, "client connection ends: its socket cannot change workers");
            return End::Gone;
        }
        // Its first batch may have come with its login, and then be ended before it ever waits.
        poll_fn(|cx| {
            self.info.listen(cx.waker());
            Poll::Ready(())
        })
        .await;
        loop {
            if let Err(end) = self.wait().await {
                return end;
            }
            match self.read_batch().await {
                Ok(Read::Batch(until)) => {
                    if let Err(end) = self.limited(until).await {
                        return end;
                    }
                    if self.may_have_no_block() && self.session.status() != TransactionStatus::Idle {
                        return End::told(answer::no_blocks(Severity::Fatal));
                    }
                    self.release_late().await;
                    if self.should_move() {
                        return End::Moves;
                    }
                }
                Ok(Read::Terminate | Read::End) => return End::Gone,
                Err(error) => return read_error(error),
            }
        }
    }

    /// Serves one batch, for no longer than `limits.query_timeout`, and only until somebody ends the connection.
    async fn limited(&mut self, until: Until) -> Result<(), End> {
        let limit = self.limits().query_timeout;
        let info = self.info.share();
        // Boxed: most clients are idle most of the time, and would carry its size.
        let mut exchange = Box::pin(self.exchange(until));
        // Dropped half-way, the exchange leaves a server that owes replies: `leave` cancels and cleans it.
        let exchange = poll_fn(|cx| match exchange.as_mut().poll(cx) {
            Poll::Pending if info.is_killed() => Poll::Ready(Err(End::told(answer::killed()))),
            polled => polled,
        });
        if limit.is_zero() {
            return exchange.await;
        }
        match Box::pin(tokio::time::timeout(limit, exchange)).await {
            Ok(result) => result,
            Err(_) => Err(End::told(answer::timed_out())),
        }
    }

    /// Waits until the client has something to say; holds no buffer meanwhile.
    async fn wait(&mut self) -> Result<(), End> {
        if !self.frames.is_empty() || self.wire.unframed() > 0 {
            return self.may_go_on();
        }
        // Nothing is kept for a client that may be silent for hours.
        self.frames = SmallVec::new();
        loop {
            self.may_go_on()?;
            let woken = match self.idle_limit() {
                None => poll_fn(|cx| self.poll_woken(cx)).await,
                // Boxed, as all that is not needed in most waits.
                Some((limit, reproach)) => Box::pin(self.woken_within(limit, reproach)).await,
            };
            match woken {
                Woken::Client => return Ok(()),
                Woken::Server => Box::pin(self.overhear()).await?,
                Woken::Mail => Box::pin(self.deliver()).await?,
                Woken::Control => {}
                Woken::TimedOut(report) => return Err(End::Told(report)),
                Woken::Gone => return Err(End::Gone),
            }
        }
    }

    async fn woken_within(&mut self, limit: Duration, reproach: Reproach) -> Woken {
        match tokio::time::timeout(limit, poll_fn(|cx| self.poll_woken(cx))).await {
            Ok(woken) => woken,
            Err(_) => Woken::TimedOut(Box::new(reproach(self))),
        }
    }

    /// Reads from the client as soon as it says something.
    fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        if let Poll::Ready(filled) = self.wire.poll_fill(cx, 1) {
            return Poll::Ready(if matches!(filled, Ok(Filled::Bytes(_))) { Woken::Client } else { Woken::Gone });
        }
        if let Attachment::Lent(held) = &self.attachment
            && held.lease.wire.poll_readable(cx).is_ready()
        {
            return Poll::Ready(Woken::Server);
        }
        if self.poll_mail(cx).is_ready() {
            return Poll::Ready(Woken::Mail);
        }
        self.info.listen(cx.waker());
        if self.info.take_poke() {
            self.attention = Attention::Due;
            return Poll::Ready(Woken::Control);
        }
        if self.info.is_killed() { Poll::Ready(Woken::Control) } else { Poll::Pending }
    }

    /// The bounds that hold for it.
    pub(super) fn limits(&self) -> &Limits {
        &self.current.config.limits
    }

    /// How long this wait may last, and what the client is told then.
    pub(super) fn idle_limit(&self) -> Option<(Duration, Reproach)> {
        let limits = self.limits();
        let status = self.session.status();
        let pinned = self.pin_limit().filter(|_| status == TransactionStatus::Idle);
        if let Some(limit) = pinned
            && (limits.client_idle_timeout.is_zero() || limit < limits.client_idle_timeout)
        {
            return Some((limit, Self::pin_timed_out));
        }
        let (limit, report): (_, Reproach) = match status {
            TransactionStatus::Idle => (limits.client_idle_timeout, |_| {
                Report::fatal(
                    SqlState::IDLE_SESSION_TIMEOUT,
                    "terminating connection due to limits.client_idle_timeout",
                )
            }),
            _ => (limits.idle_transaction_timeout, |_| {
                Report::fatal(
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    "terminating connection due to limits.idle_transaction_timeout",
                )
            }),
        };
        (!limit.is_zero()).then_some((limit, report))
    }

    /// Whether the connection may go on: nobody ended it, and it is not between transactions during a drain.
    fn may_go_on(&mut self) -> Result<(), End> {
        if self.info.is_killed() {
            return Err(End::told(answer::killed()));
        }
        if self.info.take_poke() {
            self.attention = Attention::Due;
        }
        let between = self.session.status() == TransactionStatus::Idle && self.frames.is_empty();
        if self.attention == Attention::None || !between {
            return Ok(());
        }
        if self.services.is_draining() {
            return Err(End::told(answer::killed()));
        }
        if self.is_attached() {
            self.follow_pins();
        } else {
            self.attention = Attention::None;
            self.follow_reload()?;
        }
        Ok(())
    }

    /// Where it is led by the configuration in `current`.
    pub(super) fn destination_in(&self, current: &Current) -> Option<Arc<Destination>> {
        // As long as users are looked up, who was found stays.
        let looked_up = self.found.as_deref().filter(|_| current.config.auth_query.is_some());
        let user = current.config.user(self.info.user.as_str()).or(looked_up);
        user.and_then(|user| current.destination_of(user, &self.info.database))
    }

    /// Takes over what a reload has changed.
    fn follow_reload(&mut self) -> Result<(), End> {
        let current = self.services.current.load_full();
        if Arc::ptr_eq(&current, &self.current) {
            return Ok(());
        }
        let found = self.destination_in(&current);
        let served = found.as_ref().and_then(|found| current.clusters.get(&found.cluster));
        let (Some(destination), Some(served)) = (found.as_ref(), served) else {
            return Err(End::told(Report::fatal(
                SqlState::ADMIN_SHUTDOWN,
                "terminating connection because its user or database was removed from the configuration",
            )));
        };
        let same_hub = Arc::ptr_eq(&served.hubs, &self.served.hubs)
            && destination.server_database == self.destination.server_database;
        if self.is_listening() && !same_hub {
            return Err(End::told(Report::fatal(
                SqlState::ADMIN_SHUTDOWN,
                "terminating connection because its database is another one in the new configuration, and it listens",
            )));
        }
        let same_database = destination.server_database == self.destination.server_database;
        if !Arc::ptr_eq(served, &self.served) || !same_database {
            self.served = Arc::clone(served);
            self.contents = self.served.catalogs.of(&destination.server_database);
            self.database_clock = self.served.cluster.database(&destination.server_database);
            self.clock = SessionClock::default();
        }
        self.destination = Arc::clone(destination);
        self.session.obey(&destination.pins);
        self.current = current;
        self.pools.clear();
        Ok(())
    }

    /// Whether its pool is one for statements: a transaction of several would keep its server.
    pub(super) fn may_have_no_block(&self) -> bool {
        self.destination.pool.mode == PoolMode::Statement
    }

    pub(super) const fn is_attached(&self) -> bool {
        matches!(self.attachment, Attachment::Lent(_))
    }

    /// Whether the server waits for `CopyData`.
    pub(super) fn copying_in(&self) -> bool {
        matches!(&self.attachment, Attachment::Lent(held) if held.lease.replies.copying_in())
    }

    /// Whether the copy that is going on was asked for by a simple query.
    pub(super) fn copies_simply(&self) -> bool {
        matches!(&self.attachment, Attachment::Lent(held) if held.lease.replies.next_of_client() == Some(Kind::Query))
    }

    /// The pool on node `node`.
    pub(super) fn pool(&mut self, node: usize) -> Result<Arc<Pool>, CheckoutError> {
        if let Some(Some(pool)) = self.pools.get(node)
            && !pool.is_retired()
        {
            return Ok(Arc::clone(pool));
        }
        let pool = self.served.pool(&self.services, &self.destination, node);
        let pool = pool.ok_or(CheckoutError::UnknownNode { index: node })?;
        if self.pools.len() <= node {
            self.pools.resize(node + 1, None);
        }
        self.pools[node] = Some(Arc::clone(&pool));
        Ok(pool)
    }

    /// Says hello: everything that a client expects before its first statement, in one write.
    pub(super) async fn greet(&mut self, mut out: BytesMut) -> std::io::Result<()> {
        answer::greeting(&mut out, self.session.believed.iter(), &self.key);
        self.wire.send(&out).await
    }
}

/// How long a client may take to read why it is let go.
const FAREWELL: Duration = Duration::from_secs(1);

fn read_error(error: ReadError) -> End {
    match error {
        ReadError::Io(_) => End::Gone,
        ReadError::Told(report) => End::Told(report),
        ReadError::Frame(_) | ReadError::Unknown { .. } => {
            End::told(Report::fatal(SqlState::PROTOCOL_VIOLATION, error.to_string()))
        }
        ReadError::TooLong { .. } => End::told(
            Report::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, error.to_string()).hint("Raise limits.max_query_size."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what an async function makes.
    fn whole<F>(_: impl FnOnce(Next) -> F) -> usize {
        size_of::<F>()
    }

    fn part<'a, F>(_: impl FnOnce(&'a mut Client, Until) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_client_is_small_and_a_busy_one_fits_a_kilobyte() {
        let sizes = [whole(live), size_of::<Client>(), part(Client::exchange)];
        // Tokio adds 104 bytes to the first, and aligns what it allocates by 128.
        for (size, bound) in sizes.into_iter().zip([152, 736, 1024]) {
            assert!(size <= bound, "{sizes:?}");
        }
    }
}
