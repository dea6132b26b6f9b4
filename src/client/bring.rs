//! How a client's settings come to the server that it is lent: with its own messages, or ahead of them.

use std::time::Instant;

use super::answer::{self, Wrote};
use super::attach::{AttachError, Later, Lent, Orders};
use super::exchange::Ran;
use super::task::{Attachment, Client, End, Fit, Held};
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::{TransactionStatus, frontend as tag};
use crate::relay::{Outcome, Until};
use crate::router::reason::Reason as Why;
use crate::server::own::OwnError;
use crate::session::settings::Difference;
use crate::session::{Plan, Tx};
use crate::sql::WriteReason;

/// How the client's settings come to a server that lacks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bring {
    /// In front of the client's messages, in one write with them.
    Along,
    /// Before anything of the client's is sent.
    First,
}

/// Settings that are sent along, and what is needed should they be refused.
#[derive(Debug)]
pub(super) struct Along {
    pub(super) difference: Difference,
    orders: Orders,
}

impl Client {
    /// How settings may come to the server: before a batch whose end the server does not answer, they come alone.
    pub(super) fn bring(&self, until: Until) -> Bring {
        let last = self.frames.last().map(|frame| frame.tag);
        let ready = matches!(last, Some(tag::QUERY | tag::SYNC | tag::FUNCTION_CALL));
        if until == Until::Replied && ready { Bring::Along } else { Bring::First }
    }

    /// The server is the client's, unless there are settings that it lacks and that can't be sent along.
    pub(super) fn take_over(
        &mut self,
        mut lent: Lent,
        orders: &Orders,
        now: Instant,
    ) -> Result<(), (Box<Lent>, Difference)> {
        let along = match (self.session.attach(&mut lent.lease.carried), orders.bring) {
            (None, _) => None,
            (Some(difference), Bring::First) => return Err((Box::new(lent), difference)),
            (Some(difference), Bring::Along) => Some(Box::new(Along { difference, orders: orders.clone() })),
        };
        self.hold(lent, along, now);
        Ok(())
    }

    /// The settings that were sent along were refused, and nothing was run behind them. They are brought once more, alone:
    /// by a server without others' settings if need be, and with the client's error if there is one.
    async fn bring_again(&mut self, code: Option<SqlState>) -> Result<Result<(), AttachError>, End> {
        let Attachment::Lent(held) = std::mem::replace(&mut self.attachment, Attachment::Detached) else {
            return Ok(Err(AttachError::Lost));
        };
        let mut held = *held;
        let Some(along) = held.along.take() else { return Ok(Err(AttachError::Lost)) };
        if !self.key.slot.give_back() {
            self.canceled(&mut held).await;
        }
        let timeout = self.limits().cancel_timeout;
        if held.lease.broken().is_none() && held.lease.replies.status() != TransactionStatus::Idle {
            // Should it fail, the connection is lost.
            let _ = held.lease.run_own("ROLLBACK", timeout).await;
        }
        let Held { lease, busy, node, incarnation, ran, reason, .. } = held;
        let timed = lease.carried.settings.get("statement_timeout").is_some();
        if code == Some(SqlState::QUERY_CANCELED) && !timed {
            return Ok(Err(AttachError::Report(answer::canceled())));
        }
        let Along { difference, mut orders } = *along;
        orders.bring = Bring::First;
        let lent = Lent { lease, busy, node, incarnation, ran, reason };
        let later = if lent.lease.broken().is_some() {
            Later::Wish(lent.otherwise())
        } else {
            Later::Settings(Box::new(lent), difference)
        };
        self.attach_later(later, &orders, Instant::now()).await
    }

    /// The settings that went along were refused: they are brought alone, and the batch is sent behind them if they could
    /// be; an error is what came of the refusal.
    pub(super) async fn relay_again(
        &mut self,
        code: Option<SqlState>,
        mark: &Tx,
        plan: &mut Plan,
        until: Until,
    ) -> Result<Outcome, Result<(), End>> {
        self.session.unfail();
        self.session.go_back_to(mark.clone());
        let brought = match self.bring_again(code).await {
            Ok(brought) => brought,
            Err(end) => return Err(Err(end)),
        };
        if let Err(error) = brought {
            self.without_settings(error, plan, until).await?;
        }
        self.mark_dirty(plan);
        Ok(self.relay(plan, until).await)
    }

    /// Goes on without a server that has the client's settings, if the batch, or at least the transaction, can; an error is
    /// what came of the refusal.
    pub(super) async fn without_settings(
        &mut self,
        error: AttachError,
        plan: &mut Plan,
        until: Until,
    ) -> Result<(), Result<(), End>> {
        let error = match self.attach_to_reset(error, plan).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match self.attach_to_fail(error, plan, until).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refuse(error, until).await),
        }
    }

    /// Settings that no server lets be made any more can still be taken back: for that, a server as it is will do.
    pub(super) async fn attach_to_reset(&mut self, error: AttachError, plan: &Plan) -> Result<(), AttachError> {
        if !matches!(error, AttachError::Relayed(_)) || !plan.only_resets() || self.is_attached() {
            return Err(error);
        }
        // What it lacks is what is about to be taken back, or is made before the next statement.
        self.attach_as_it_is(error).await
    }

    /// Within a transaction, settings that no server lets be made any more are an error in the place of the batch, on a server
    /// that has the transaction then. Any server will do for that, and for ending the transaction; it runs nothing else.
    pub(super) async fn attach_to_fail(
        &mut self,
        error: AttachError,
        plan: &mut Plan,
        until: Until,
    ) -> Result<(), AttachError> {
        let inside = self.session.status() != TransactionStatus::Idle || self.sync_follows(until);
        if until == Until::Sent || !inside || !matches!(error, AttachError::Relayed(_) | AttachError::Aborted) {
            return Err(error);
        }
        let report = if let AttachError::Relayed(body) = &error {
            Report::from(AttachError::Relayed(body.clone()))
        } else {
            answer::aborted()
        };
        if !self.is_attached() {
            self.attach_as_it_is(error).await?;
        }
        if let Attachment::Lent(held) = &mut self.attachment {
            held.fit = Fit::ToRollBack;
        }
        self.services.counters.errors.record(report.code.0);
        plan.deny(report);
        Ok(())
    }

    /// Borrows a server of the primary that lacks the client's settings, which is why there is an `error`.
    async fn attach_as_it_is(&mut self, error: AttachError) -> Result<(), AttachError> {
        let view = self.served.cluster.snapshot();
        let Some(node) = view.primary else { return Err(error) };
        let busy = view.nodes[node].load.begin();
        let mut lease = self.checkout(node).await.map_err(|error| AttachError::Report(error.report()))?;
        // What that would take is what cannot be had.
        let _not_made = self.session.attach(&mut lease.carried);
        let (incarnation, reason) = (view.nodes[node].incarnation, Why::Write(WriteReason::Session));
        self.hold(Lent { lease, busy, node, incarnation, ran: Ran::OnPrimary, reason }, None, Instant::now());
        Ok(())
    }

    /// Has the server carry the client's settings, and waits until it does.
    pub(super) async fn bring_settings(&mut self, mut lent: Lent, difference: &Difference) -> Result<(), AttachError> {
        let error = match lent.lease.run_own(&difference.to_query(), self.limits().cancel_timeout).await {
            Ok(_) => {
                self.session.attached(&mut lent.lease.carried);
                self.hold(lent, None, Instant::now());
                return Ok(());
            }
            // What others have set there may be what cannot be undone: a server without any of it will tell.
            Err(OwnError::Refused(_)) if !lent.lease.carried.settings.is_empty() => AttachError::Lost,
            // One message is made whole or not at all: the server is as it was, and the next client's.
            Err(OwnError::Refused(body)) => return Err(AttachError::Relayed(body)),
            Err(OwnError::Lost | OwnError::Timeout) => {
                self.served.cluster.suspect(lent.node);
                if lent.ran == Ran::OnReplica {
                    self.services.counters.retries.increment();
                }
                AttachError::Lost
            }
        };
        // What the server carries is not what was thought, or cannot be left behind: nobody else gets it.
        lent.lease.break_off("settings refused");
        Err(error)
    }

    /// Gives the server that is held the settings that it lacks, between statements and where a statement may run.
    pub(super) async fn supply(&mut self, plan: &Plan) -> Result<(), AttachError> {
        let timeout = self.limits().cancel_timeout;
        let (Attachment::Lent(held), Some(difference)) = (&mut self.attachment, self.session.lacks()) else {
            return Ok(());
        };
        let replies = &held.lease.replies;
        let quiet = replies.is_quiet();
        if !quiet || replies.status() == TransactionStatus::Failed {
            // What stands behind the end of the transaction would run without them.
            let ends_more = quiet && held.fit == Fit::ToRollBack && !plan.runs_one(&self.frames);
            return if ends_more { Err(AttachError::Aborted) } else { Ok(()) };
        }
        match held.lease.run_own(&difference.to_query(), timeout).await {
            Ok(_) => {
                held.fit = Fit::ForAll;
                self.session.supplied();
                Ok(())
            }
            Err(OwnError::Refused(body)) => Err(AttachError::Relayed(body)),
            Err(OwnError::Lost | OwnError::Timeout) => Err(AttachError::Report(answer::server_lost(Wrote::Nothing))),
        }
    }
}
