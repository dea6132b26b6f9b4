//! Clients that keep a server for themselves, as others see them, and what is done so that they do not keep it for ever.

use std::sync::Arc;
use std::time::Duration;

use super::task::{Attachment, Client, Held};
use crate::config::pins::PinPolicy;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::server::Server;
use crate::server::own::OwnError;
use crate::session::pins::{Cause, Reason, Scrub};
use crate::session::settings::Settings;

impl Client {
    /// Shows why the client is pinned, and counts reasons that are new; `digest` is the shape of the statement.
    pub(super) fn note_pins(&mut self, digest: Option<u64>) {
        if self.session.pins().is_untouched() && !self.info.is_pinned() {
            return;
        }
        if let Attachment::Lent(held) = &self.attachment {
            self.session.settle_pins(&held.lease.carried);
        }
        for refusal in self.session.take_refusals() {
            self.services.counters.refused(refusal);
            let code = match refusal.cause {
                Cause::Policy => SqlState::FEATURE_NOT_SUPPORTED,
                Cause::Budget => SqlState::TOO_MANY_CONNECTIONS,
            };
            self.services.counters.errors.record(code.0);
        }
        for reason in self.info.pinned(self.session.pins().reasons(), digest) {
            self.services.counters.pinned(reason);
            let (client, label) = (self.info.id, reason.as_str());
            if self.session.pins().policy(reason) == PinPolicy::Reject {
                tracing::info!(%client, reason = label, "pinned to its server against the policy: it was not seen before");
            } else {
                tracing::debug!(%client, reason = label, "pinned to its server");
            }
        }
    }

    /// How long it may be idle before its pin is ended with it; `None` for ever, and when it has none.
    pub(super) fn pin_limit(&self) -> Option<Duration> {
        let pins = self.session.pins();
        let limit = pins.settings().timeout;
        // In session pooling it keeps its server anyway.
        let pinned = !pins.is_untouched() && !pins.is_empty() && !pins.has(Reason::SessionMode);
        (pinned && !limit.is_zero()).then_some(limit)
    }

    /// It has been idle for that long.
    pub(super) fn pin_timed_out(&self) -> Report {
        self.services.counters.pin_timeouts.increment();
        let reasons: Vec<_> = self.session.pins().reasons().map(Reason::as_str).collect();
        let words = "terminating connection due to pins.timeout";
        let hint =
            format!("It kept a server for itself ({}). Raise pins.timeout, or end what pins.", reasons.join(", "));
        Report::fatal(SqlState::IDLE_SESSION_TIMEOUT, words).hint(hint)
    }

    /// A client that keeps its server follows a reload as far as pins are concerned, and with the rest waits until it
    /// keeps none.
    pub(super) fn follow_pins(&mut self) {
        let current = self.services.current.load_full();
        if Arc::ptr_eq(&current, &self.current) || self.session.pins().has(Reason::SessionMode) {
            return;
        }
        if let Some(destination) = self.destination_in(&current) {
            self.session.obey(&destination.pins);
        }
    }

    /// Has the server forget what policies had ignored; closes it where nothing else helps.
    pub(super) async fn scrub(&mut self, held: &mut Held, scrub: Scrub) {
        // Whatever becomes of this server, the next one holds nothing of this client's.
        self.session.forget_pins();
        let server: &mut Server = &mut held.lease;
        if !server.is_clean() {
            return;
        }
        if scrub == Scrub::Close {
            return server.break_off("holds what no reset removes");
        }
        if server.discard_all(self.limits().cancel_timeout).await.is_err() {
            return server.break_off("could not be reset");
        }
        self.session.reset(&mut server.carried);
    }
}

impl Server {
    /// Makes it as it was when it was new, as far as DISCARD ALL goes, and its books with it.
    pub(super) async fn discard_all(&mut self, timeout: Duration) -> Result<(), OwnError> {
        self.run_own("DISCARD ALL", timeout).await?;
        self.carried.forget_all();
        self.carried.unnamed = None;
        self.carried.settings = Settings::none();
        Ok(())
    }
}
