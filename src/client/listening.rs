//! A client that listens: it begins with its LISTEN's transaction, and hears what has come whenever it is between
//! transactions, as it would from a server of its own.
//!
//! What its own server would bring is swallowed by the relay: all notifications come by the hub, whoever sent them, so
//! that none comes twice. A client's own come with the answer to its COMMIT, in front of `ReadyForQuery`, because it
//! waits there until the hub has heard all that was committed before (`notify::hub`).

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::answer;
use super::attach::AttachError;
use super::task::{Attachment, Client, End};

use crate::notify::mailbox::{Item, Mail};
use crate::notify::subscription::Subscription;
use crate::protocol::error::{Report, Severity};
use crate::protocol::outbox::Outbox;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::TransactionStatus;
use crate::relay::Parting;
use crate::session::listens::Channel;
use crate::session::{Batch, Plan, Standing};
use crate::sql::Effects;
use crate::types::ServerId;

/// What a client listens with.
#[derive(Debug)]
pub(super) struct Ear {
    subscription: Subscription,
    own: Option<Own>,
}

/// What tells a client's own notifications from those of others who had the same server before.
#[derive(Clone, Copy, Debug)]
struct Own {
    server: ServerId,
    /// The server's process.
    process_id: i32,
    /// Notifications with higher numbers are the client's.
    after: u64,
}

impl Client {
    /// Whether it listens to anything, or may have begun to.
    pub(super) const fn is_listening(&self) -> bool {
        self.ear.is_some()
    }

    /// To be called before a batch is sent, if the client listens or will: whatever it will listen to when the batch
    /// commits is listened to from here on, and nothing that was committed before counts.
    pub(super) async fn prick_up(&mut self, plan: &Plan) -> Result<(), AttachError> {
        if plan.effects.has(Effects::LISTEN) {
            self.session.will_listen();
        }
        let batch = Batch { buffer: self.wire.bytes(), frames: &self.frames };
        let channels = self.session.channels_to_come(batch, plan).map_err(AttachError::Report)?;
        if plan.standing == Standing::Detached {
            self.forget_owner();
        }
        if !channels.is_empty() {
            let number = self.listen_to(channels).await?;
            self.note_owner(number);
        } else if self.has_changed()
            && let Some(Ear { subscription, own: None }) = self.ear.as_deref()
            && let Some(number) = subscription.reached().await
        {
            self.note_owner(number);
        }
        if plan.effects.has(Effects::CHANNELS) {
            self.tell_channels().await;
        }
        Ok(())
    }

    async fn listen_to(&mut self, channels: Vec<Channel>) -> Result<u64, AttachError> {
        if self.ear.is_none() {
            let encoding = self.session.believed.get("client_encoding").unwrap_or_default();
            let limit = self.limits().notify_queue;
            let hubs = &self.served.hubs;
            let subscription = hubs.subscribe(&self.destination.server_database, encoding, limit).await;
            self.ear = Some(Box::new(Ear { subscription, own: None }));
        }
        let timeout = self.destination.pool.wait_timeout;
        let Some(ear) = &mut self.ear else { return Ok(0) };
        match ear.subscription.listen(channels, timeout).await {
            Ok(number) => Ok(number),
            Err(error) => {
                self.settle_ear();
                Err(AttachError::Report(error.report()))
            }
        }
    }

    /// Listens to no more than has been committed.
    fn settle_ear(&mut self) {
        let Some(ear) = &mut self.ear else { return };
        match self.session.listens().filter(|listens| !listens.committed().is_empty()) {
            // Nothing is committed that it does not listen to, so as many are the same ones.
            Some(listens) if listens.committed().len() == ear.subscription.count() => {}
            Some(listens) => ear.subscription.keep(|channel| listens.has(channel.as_bytes())),
            None => self.ear = None,
        }
    }

    /// Another client may have had the server since this one did.
    fn forget_owner(&mut self) {
        let Attachment::Lent(held) = &self.attachment else { return };
        let unchanged = held.lease.carried.last_client == Some(self.info.id);
        if let Some(ear) = &mut self.ear {
            ear.own = ear.own.filter(|own| unchanged && own.server == held.lease.id);
        }
    }

    /// What the server that the client has sends from `number` on is the client's.
    fn note_owner(&mut self, number: u64) {
        if let (Some(ear), Attachment::Lent(held)) = (&mut self.ear, &self.attachment) {
            let own = Own { server: held.lease.id, process_id: held.lease.key().process_id, after: number };
            ear.own.get_or_insert(own);
        }
    }

    /// Has the server listen to all that the client listens to, so that it can say so.
    async fn tell_channels(&mut self) {
        let timeout = self.limits().cancel_timeout;
        let Attachment::Lent(held) = &mut self.attachment else { return };
        if let Some(sql) = self.session.unknown_channels().filter(|_| held.lease.replies.is_clean()) {
            self.session.will_listen();
            // Should it fail, the connection is lost, and the batch with it.
            if held.lease.run_own(&sql, timeout).await.is_ok() {
                self.session.channels_are_known();
            }
        }
    }

    /// Has the server listen to nothing, before others get it.
    pub(super) async fn unlisten(&mut self) {
        let timeout = self.limits().cancel_timeout;
        let Attachment::Lent(held) = &mut self.attachment else { return };
        if held.lease.run_own("UNLISTEN *", timeout).await.is_err() {
            held.lease.break_off("listens to what nobody hears");
        }
    }

    /// Whether it is idle outside a transaction, but for what it has just said: PostgreSQL sends notifications to those
    /// who are.
    pub(super) fn is_quiet(&self) -> bool {
        let quiet = match &self.attachment {
            Attachment::Lent(held) => held.lease.replies.is_clean(),
            Attachment::Detached => true,
        };
        quiet && self.session.status() == TransactionStatus::Idle
    }

    /// Whether it may hear notifications now.
    fn is_between(&self) -> bool {
        self.frames.is_empty() && self.is_quiet()
    }

    /// A client that was idle has said something: what came before that it hears first. All of it, if a transaction may
    /// begin: there will be no other chance for as long as that lasts.
    pub(super) async fn hear_first(&mut self, plan: &Plan) -> Result<(), End> {
        if let Some(ear) = &self.ear
            && plan.effects.has(Effects::COMMANDS)
        {
            ear.subscription.reached().await;
        }
        self.deliver().await
    }

    /// Ready when something waits that it may hear now.
    pub(super) fn poll_mail(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.ear {
            Some(ear) if self.is_between() => ear.subscription.mailbox().poll_mail(cx),
            _ => Poll::Pending,
        }
    }

    /// After a batch: what has come until it was done goes in front of its `ReadyForQuery`.
    pub(super) async fn listen_in(&mut self, parting: &mut Parting) -> Result<(), TooSlow> {
        if !self.is_between() {
            return Ok(());
        }
        self.settle_ear();
        let Some(ear) = &self.ear else { return Ok(()) };
        ear.subscription.reached().await;
        let mut out = BytesMut::new();
        let heard = self.hear(&mut out);
        parting.add_before_ready(&out);
        heard
    }

    /// The answer to a batch that no server saw.
    pub(super) async fn answer_listener(&mut self, bytes: BytesMut) -> Result<(), End> {
        self.forget_batch();
        let mut parting = Parting::of(bytes);
        let heard = self.listen_in(&mut parting).await;
        poll_fn(|cx| parting.poll_send(cx, &mut self.wire)).await.map_err(|_| End::Gone)?;
        heard.map_err(End::from)
    }

    /// Sends what has come while the client was idle.
    pub(super) async fn deliver(&mut self) -> Result<(), End> {
        let mut out = BytesMut::new();
        self.hear(&mut out)?;
        if out.is_empty() {
            return Ok(());
        }
        let mut outbox = Outbox::default();
        outbox.make(|made| *made = out);
        // Who does not read is waited for, as long as nothing else happens.
        poll_fn(|cx| {
            if self.info.is_killed() {
                return Poll::Ready(Err(End::told(answer::killed())));
            }
            if let Some(ear) = &self.ear
                && ear.subscription.mailbox().poll_too_much(cx).is_ready()
            {
                return Poll::Ready(Err(TooSlow.into()));
            }
            self.wire.poll_send(cx, &mut outbox, &[]).map_err(|_| End::Gone)
        })
        .await
    }

    /// Appends all that waits to `out`.
    fn hear(&mut self, out: &mut BytesMut) -> Result<(), TooSlow> {
        let Some(Ear { subscription, own }) = self.ear.as_deref() else { return Ok(()) };
        // Once the server is others', what it sends is theirs.
        let held = if let Attachment::Lent(held) = &self.attachment { Some(held.lease.id) } else { None };
        let own = own.filter(|own| Some(own.server) == held);
        let Mail::Items(items) = subscription.mailbox().take() else { return Err(TooSlow) };
        for item in items.iter().filter(|item| subscription.is_for_it(item)) {
            match item {
                Item::Notification(notification) => {
                    let (process_id, number) = (notification.process_id(), notification.number());
                    let is_own = own.is_some_and(|own| own.process_id == process_id && own.after < number);
                    notification.encode(if is_own { self.key.process_id } else { process_id }, out);
                }
                Item::Gap(_) => missed(subscription.database().as_str()).encode(out),
            }
        }
        if !out.is_empty() {
            // What it is told of it will want to see.
            self.served.cluster.heard(&mut self.clock);
        }
        Ok(())
    }
}

fn missed(database: &str) -> Report {
    let words =
        format!("notifications may have been missed: the connection that listens to database \"{database}\" was lost");
    Report { severity: Severity::Warning, code: SqlState::WARNING, message: words, hint: None, routine: None }
        .hint("It listens again from now on; what happened meanwhile must be looked up.")
}

/// More notifications have come than may wait for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

impl From<TooSlow> for End {
    fn from(_: TooSlow) -> Self {
        let report = Report::fatal(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            "terminating connection because more notifications wait for it than limits.notify_queue allows",
        );
        Self::told(report.hint("Read notifications sooner, keep transactions shorter, or raise limits.notify_queue."))
    }
}
