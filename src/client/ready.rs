//! What a server that was lent is asked or told before the batch: seldom anything.

use super::task::{Attachment, Client, End};
use crate::relay::Until;
use crate::session::{Plan, Standing};

impl Client {
    /// Whether [`Self::make_ready`] has anything to do.
    pub(super) fn is_unusual(&mut self, plan: &Plan, standing: Standing) -> bool {
        self.begins_on_replica()
            || !plan.outdated.is_empty()
            || standing == Standing::Detached && self.session.must_forget_sequences(plan)
    }

    /// What the server that was lent must be asked or told before the batch; an error is what came of a refusal.
    pub(super) async fn make_ready(
        &mut self,
        plan: &Plan,
        standing: Standing,
        until: Until,
    ) -> Result<(), Result<(), End>> {
        if self.begins_on_replica() {
            self.begin_roaming(until).await?;
        }
        self.look_at_columns(plan).await;
        if standing == Standing::Detached && self.session.must_forget_sequences(plan) {
            self.forget_sequences().await;
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
    async fn forget_sequences(&mut self) {
        let timeout = self.limits().cancel_timeout;
        let Attachment::Lent(held) = &mut self.attachment else { return };
        // What it did there before it wrote elsewhere is not the last that it did.
        if held.lease.carried.last_client != Some(self.info.id) || self.wrote_on != Some(held.lease.id) {
            // Should it fail, the connection is lost, and the batch with it.
            let _ = held.lease.run_own("DISCARD SEQUENCES", timeout).await;
        }
    }
}
