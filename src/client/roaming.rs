//! Transactions on replicas that begin anew elsewhere: on the primary when they come to write, and on whichever node has
//! seen enough when theirs has not.

use std::sync::Arc;
use std::time::Instant;

use super::attach::Orders;
use super::bring::Bring;
use super::exchange::Ran;
use super::task::{Attachment, Client, End};
use crate::config::model::{Reads, Transactions};
use crate::protocol::tag::TransactionStatus;
use crate::relay::Until;
use crate::router::reason::Reason;
use crate::router::view::Standing;
use crate::router::view::needs::Bar;
use crate::session::roam::{Committed, Step};
use crate::session::{Batch, Intent, Plan, Tx, Work};
use crate::sql::command::Isolation;
use crate::sql::hint::{self, Hint};
use crate::sql::reach::Reach;

/// What a new server's sessions are told to begin transactions with; not what another client has set meanwhile.
const DEFAULT: &str = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_isolation'";

impl Client {
    /// Whether a transaction that may write may begin on a replica.
    pub(super) fn may_roam(&self) -> bool {
        self.destination.routing.transactions == Transactions::UntilWrite
    }

    /// Whether its transaction is on a replica and can begin anew elsewhere.
    pub(super) fn roams(&self) -> bool {
        matches!(&self.attachment, Attachment::Lent(held) if held.roams.is_some())
            && self.session.status() != TransactionStatus::Idle
    }

    /// Whether the batch begins its transaction, on a replica.
    pub(super) fn begins_on_replica(&self) -> bool {
        matches!(&self.attachment, Attachment::Lent(held) if held.ran == Ran::OnReplica)
            && matches!(self.session.tx(), Tx::Deferred(_))
    }

    /// Before a batch of a transaction that is on a replica: sees to it that it is in the right place, or has none.
    /// Gives what the batch needs if it needs another one.
    pub(super) async fn roam(&mut self, plan: &mut Plan, hint: Option<&Arc<Hint>>) -> Option<Intent> {
        let Attachment::Lent(held) = &mut self.attachment else { return None };
        let begun = held.roams.as_ref()?;
        let (read_only, text) = (begun.modes.read_only == Some(true), begun.text.clone());
        match self.session.step_of(Batch { buffer: self.wire.bytes(), frames: &self.frames }, plan) {
            Step::Passes => return None,
            Step::Stays if read_only => {
                // It is no more than a standby can do, and from now on it has something there.
                held.roams = None;
                return None;
            }
            Step::Reads if self.is_fresh_enough(hint.cloned().or_else(|| hint::parse(&text))) => return None,
            Step::Reads | Step::Stays => {}
        }
        if !self.leave_node().await {
            return None;
        }
        Some(self.observe(plan))
    }

    /// Whether the node that it reads from has what a read must have seen that arrives now.
    fn is_fresh_enough(&mut self, hint: Option<Arc<Hint>>) -> bool {
        let Attachment::Lent(held) = &self.attachment else { return true };
        let (node, incarnation) = (held.node, held.incarnation);
        let orders =
            Orders { batch: hint, session: self.setting_hint(), bring: Bring::First, reach: Reach::EVERYTHING };
        let routing = orders.routing(&self.destination.routing);
        if routing.reads == Reads::Primary {
            return true;
        }
        let needs = self.needs(&routing, &orders);
        let view = self.served.cluster.view();
        let bar = Bar::new(needs, routing.max_lag, Instant::now());
        matches!(view.standing(node, &bar), Standing::Fresh(_)) && view.nodes[node].incarnation == incarnation
    }

    /// Ends the transaction where it is, and has it begin anew with the next statement; says whether that was possible.
    pub(super) async fn leave_node(&mut self) -> bool {
        let timeout = self.limits().cancel_timeout;
        let Attachment::Lent(held) = &mut self.attachment else { return false };
        let Some(begun) = held.roams.take() else { return false };
        // Should it fail, the connection is lost, and there is nothing in it that would be missed.
        if held.lease.run_own("ROLLBACK", timeout).await.is_err() {
            self.served.cluster.suspect(held.node);
        }
        self.release().await;
        self.session.go_back_to(Tx::Deferred(*begun));
        true
    }

    /// A transaction is about to begin on the server that was lent: whether it can begin anew later, elsewhere. One that may
    /// write and cannot goes to the primary at once.
    pub(super) async fn begin_roaming(&mut self, until: Until) -> Result<(), Result<(), End>> {
        let Tx::Deferred(begun) = self.session.tx() else { return Ok(()) };
        let begun = begun.clone();
        let committed = self.session.read_committed(&begun);
        if !self.session.pins().is_empty() {
            return Ok(());
        }
        let committed = match committed {
            Committed::AsServer => self.server_commits_reads().await,
            said => said,
        };
        if let (Committed::Yes, Attachment::Lent(held)) = (committed, &mut self.attachment) {
            held.roams = Some(Box::new(begun));
            return Ok(());
        }
        if begun.modes.read_only == Some(true) {
            return Ok(());
        }
        self.release().await;
        self.session.go_back_to(Tx::Deferred(begun));
        match self.attach_primary(Reason::Transaction).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refuse(error, until).await),
        }
    }

    /// Whether transactions on the server that was lent are READ COMMITTED by default.
    async fn server_commits_reads(&mut self) -> Committed {
        let timeout = self.limits().cancel_timeout;
        let Attachment::Lent(held) = &mut self.attachment else { return Committed::No };
        if held.lease.carried.isolation.is_none() {
            let rows = held.lease.run_own(DEFAULT, timeout).await.unwrap_or_default();
            let value = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
            held.lease.carried.isolation = value.as_deref().and_then(Isolation::of_setting);
        }
        Committed::at(held.lease.carried.isolation)
    }

    /// Where a transaction stands that is to be sent again, because its replica could not go on.
    pub(super) fn mark_of(&self, mark: Tx) -> Tx {
        match &self.attachment {
            Attachment::Lent(held) => held.roams.as_deref().cloned().map_or(mark, Tx::Deferred),
            Attachment::Detached => mark,
        }
    }
}

/// What work is where transactions that may write begin on the primary.
pub(super) const fn settled(work: Work) -> Work {
    match work {
        Work::Roam(_) => Work::Transaction,
        work => work,
    }
}
