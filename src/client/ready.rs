//! What a server that was lent is asked or told before the batch: seldom anything.

use super::task::{Attachment, Client, End};
use crate::protocol::tag::TransactionStatus;
use crate::relay::Until;
use crate::session::Plan;

impl Client {
    /// Whether [`Self::make_ready`] has anything to do.
    pub(super) fn is_unusual(&self, plan: &Plan) -> bool {
        self.begins_on_replica() || !plan.outdated.is_empty() || self.session.minds_sequences(plan)
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
        Ok(())
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
        let quiet = replies.is_empty() && !replies.copying_in() && !replies.is_unsynced();
        if others && held.changed.is_none() && quiet && replies.status() != TransactionStatus::Failed {
            // Should it fail, the connection is lost, and the batch with it.
            let _ = held.lease.run_own("DISCARD SEQUENCES", timeout).await;
        }
    }
}
