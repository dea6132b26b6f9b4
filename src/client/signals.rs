//! The process ids that clients were given, where they are used to end or cancel what another client does.
//!
//! `pg_terminate_backend` and `pg_cancel_backend` know servers' processes only. Where the number is a client's, the
//! server's that it has takes its place; for a client that has none, that of a server that nobody has, and when that has
//! been ended so is the client.

use std::sync::Arc;
use std::time::Duration;

use super::directory::ClientInfo;
use super::task::{Attachment, Client};
use crate::pool::lease::Lease;
use crate::server::cancel::Kept;
use crate::session::{Batch, Plan};
use crate::sql::signals::Call;

/// How long to wait for a server that nobody has.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whom a batch signals, until it is over.
#[derive(Debug, Default)]
pub(super) struct Aimed {
    /// Servers of others, which must not go to anybody else meanwhile.
    kept: Vec<Kept>,
    /// Clients without a server that this one's server knows, and what stands in for it.
    others: Vec<(Arc<ClientInfo>, Call, Lease)>,
}

impl Client {
    /// Puts the processes of servers in the place of those that clients were given.
    pub(super) async fn aim(&mut self, plan: &Plan) {
        let batch = Batch { buffer: self.wire.bytes(), frames: &self.frames };
        let mut aimed = Aimed::default();
        for signal in self.session.signals(batch, plan) {
            let Some(target) = self.services.directory.of_process(signal.process_id) else { continue };
            let Some(process_id) = self.stand_in(&target, signal.call, &mut aimed).await else { continue };
            if let Some(bytes) = signal.instead(process_id) {
                self.wire.overwrite(signal.at.start, &bytes);
            }
        }
        if let Attachment::Lent(held) = &mut self.attachment {
            held.aimed = Some(Box::new(aimed));
        }
    }

    /// The process that stands for `target`, where the client's own server knows it.
    async fn stand_in(&mut self, target: &Arc<ClientInfo>, call: Call, aimed: &mut Aimed) -> Option<i32> {
        let Attachment::Lent(held) = &self.attachment else { return None };
        let (own, node) = (Arc::clone(held.lease.key()), held.node);
        if target.process_id == self.key.process_id {
            return Some(own.process_id);
        }
        if let Some(kept) = self.services.cancels.keep(target.process_id)
            && kept.key().peer == own.peer
        {
            let process_id = kept.key().process_id;
            aimed.kept.push(kept);
            return Some(process_id);
        }
        // Whose rights suffice the server says, judging by the user of the process that it signals.
        if target.user != self.info.user || target.database != self.info.database {
            return None;
        }
        // Its own server is not given back meanwhile, so it must not wait for long.
        let pool = self.pool(node).ok()?;
        let lease = tokio::time::timeout(PATIENCE, pool.checkout(self.session.settings())).await.ok()?.ok()?;
        let process_id = lease.key().process_id;
        aimed.others.push((Arc::clone(target), call, lease));
        Some(process_id)
    }

    /// The batch is over: what has become of the processes that stood in for others' becomes of the clients.
    pub(super) async fn hit(&mut self) {
        let timeout = self.limits().cancel_timeout;
        let Attachment::Lent(held) = &mut self.attachment else { return };
        let Some(aimed) = held.aimed.take() else { return };
        // Its unnamed statement may have a process in it that will be another's.
        held.lease.carried.unnamed = None;
        let Aimed { kept, others } = *aimed;
        drop(kept);
        for (client, call, mut lease) in others {
            match call {
                // A signal arrives before the answer to whoever has sent it.
                Call::Terminate if lease.run_own("SELECT 1", timeout).await.is_err() => client.kill(),
                Call::Terminate => {}
                // One that is idle takes no notice of it.
                Call::Cancel => drop(self.services.cancels.cancel_process(client.process_id, timeout).await),
            }
        }
    }
}
