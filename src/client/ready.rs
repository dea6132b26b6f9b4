//! What a server that was lent is asked or told before the batch: seldom anything.

use std::time::Duration;

use super::task::{Attachment, Client, End, Held};
use crate::protocol::tag::TransactionStatus;
use crate::relay::Until;
use crate::server::Server;
use crate::session::named::Messages;
use crate::session::{Note, Plan, Session};
use crate::sql::Effects;

impl Client {
    /// Whether [`Self::make_ready`] has anything to do.
    pub(super) fn is_unusual(&self, plan: &Plan) -> bool {
        self.begins_on_replica()
            || !plan.outdated.is_empty()
            || plan.effects.has(Effects::STATEMENTS.with(Effects::SIGNALS))
            || self.session.minds_sequences(plan)
    }

    /// What the server that was lent must be asked or told before the batch; an error is what came of a refusal.
    pub(super) async fn make_ready(&mut self, plan: &mut Plan, until: Until) -> Result<(), Result<(), End>> {
        if self.begins_on_replica() {
            self.begin_roaming(until).await?;
        }
        self.look_at_columns(plan).await;
        if self.session.minds_sequences(plan) {
            self.mind_sequences(plan).await;
        }
        if plan.effects.has(Effects::STATEMENTS) {
            self.show_statements().await;
        }
        if plan.effects.has(Effects::SIGNALS) {
            self.aim(plan).await;
        }
        Ok(())
    }

    /// A client that asks what it has prepared is to find just that, as it named it.
    async fn show_statements(&mut self) {
        let timeout = self.limits().cancel_timeout;
        let Attachment::Lent(held) = &mut self.attachment else { return };
        let server: &mut Server = &mut held.lease;
        let (quiet, status) = (server.replies.is_quiet(), server.replies.status());
        if !quiet || status == TransactionStatus::Failed || server.carried.has_clients_names() {
            return;
        }
        let (begin, end) = match status {
            TransactionStatus::Idle => ("BEGIN ISOLATION LEVEL READ COMMITTED", "ROLLBACK"),
            _ => ("SAVEPOINT howdah", "ROLLBACK TO howdah; RELEASE howdah"),
        };
        // Where it cannot be told in which transaction the server is, nobody gets it, and the batch is lost with it.
        if server.run_own(&format!("{begin}; SET LOCAL lock_timeout = '1s'"), timeout).await.is_err() {
            return server.break_off("could not be given a client's statements");
        }
        let Messages { out, expected } = self.session.name_statements(&mut server.carried);
        let Ok(refused) = server.send_own(&out, expected, timeout).await else { return };
        for note in refused {
            if let Note::SuppliedAs(name) = note {
                server.carried.refuses(name);
            }
        }
        if server.run_own(end, timeout).await.is_err() {
            server.break_off("could not be given a client's statements");
        }
    }

    /// Asks the server what the outdated statements of the batch would give there, where it has not prepared them.
    async fn look_at_columns(&mut self, plan: &Plan) {
        let (timeout, objects) = (self.limits().cancel_timeout, self.objects());
        let Attachment::Lent(held) = &mut self.attachment else { return };
        for statement in plan.outdated.iter().filter(|statement| statement.may_have_changed(objects)) {
            if held.lease.carried.has(statement.id) {
                // It knows better than anybody.
                continue;
            }
            // What it does not parse, it will refuse when the batch comes; and should it be lost, that is noticed then.
            if let Ok(shape) = held.lease.describe_own(&statement.text, statement.parameter_types(), timeout).await {
                statement.looked_at(objects, shape);
            }
        }
    }

    /// Others' `currval` must not be taken for this client's: PostgreSQL then says that there is none.
    async fn mind_sequences(&mut self, plan: &mut Plan) {
        let timeout = self.limits().cancel_timeout;
        let Attachment::Lent(held) = &mut self.attachment else { return };
        self.session.judge_sequences(plan, &held.lease.carried);
        // What it did there before it wrote elsewhere, or others did, is not the last that it did.
        let others = self.wrote_on != Some(held.lease.id);
        let replies = &held.lease.replies;
        if others && held.changed.is_none() && replies.is_quiet() && replies.status() != TransactionStatus::Failed {
            // Should it fail, the connection is lost, and the batch with it.
            let _ = held.lease.run_own("DISCARD SEQUENCES", timeout).await;
        }
    }
}

impl Held {
    /// A server that is to go back drops the client's statements that it has by the client's names.
    pub(super) async fn hide_statements(&mut self, session: &Session, timeout: Duration) {
        let server: &mut Server = &mut self.lease;
        if server.broken().is_none() && server.replies.is_quiet() {
            let Messages { out, expected } = session.unname_statements(&mut server.carried);
            // Closing is never refused; a server that is lost keeps nothing.
            let _ = server.send_own(&out, expected, timeout).await;
        }
    }
}
