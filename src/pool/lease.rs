//! A server on loan. Dropping the lease gives the server back if it is clean, and closes it otherwise;
//! nothing else can put a server back.

use std::sync::Arc;
use std::time::Instant;

use deadpool::managed::Object;

use super::Pool;
use super::manager::{Manager, Pooled};
use crate::server::Server;
use crate::session::settings::Settings;

/// A server lent to one client.
#[derive(Debug)]
pub struct Lease {
    /// `None` only while it is being dropped.
    object: Option<Object<Manager>>,
    pool: Arc<Pool>,
    /// When it was lent.
    since: Instant,
}

/// A server between two loans.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) object: Object<Manager>,
    /// When it was last lent.
    pub(super) since: Instant,
}

impl Idle {
    /// Whether these very `settings` hold there.
    pub(super) fn carries(&self, settings: &Arc<Settings>) -> bool {
        Arc::ptr_eq(&self.object.server.carried.settings, settings)
    }
}

impl Lease {
    pub(super) fn new(idle: Idle, pool: Arc<Pool>) -> Self {
        Self { object: Some(idle.object), pool, since: idle.since }
    }

    /// The pool that it came from.
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Lends it to a client of this thread's worker from `now` on; false if it cannot be.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        self.since = now;
        let Some(object) = &mut self.object else { return false };
        if !self.pool.manager().may_be_lent(object) {
            object.server.break_off("retired or closed by the server");
            return false;
        }
        if let Err(error) = object.server.wire.settle() {
            tracing::warn!(server = %object.server.id, %error, "server closed: its socket cannot change workers");
            object.server.break_off("cannot change workers");
            return false;
        }
        true
    }

    /// The server again, unused: nobody was there to take it.
    pub(super) fn into_idle(mut self) -> Option<Idle> {
        let since = self.since;
        self.object.take().map(|object| Idle { object, since })
    }

    fn pooled(&mut self) -> Option<&mut Pooled> {
        self.object.as_deref_mut().map(AsMut::as_mut)
    }
}

impl std::ops::Deref for Lease {
    type Target = Server;

    #[expect(clippy::expect_used, reason = "the object is taken by drop only, after which nobody can hold the lease")]
    fn deref(&self) -> &Server {
        &self.object.as_deref().expect("a lease holds its server until it is dropped").server
    }
}

impl std::ops::DerefMut for Lease {
    #[expect(clippy::expect_used, reason = "the object is taken by drop only, after which nobody can hold the lease")]
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.pooled().expect("a lease holds its server until it is dropped").server
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        object.server.info.give_back();
        // Its age when it was lent: a loan is short, and the clock is not read for it.
        let idle = Idle { object, since: self.since };
        if self.pool.manager().may_stay(&idle.object, idle.since) {
            self.pool.put(idle);
        } else {
            if let Some(why) = idle.object.server.broken() {
                tracing::debug!(server = %idle.object.server.id, why, "server closed");
            }
            self.pool.discard(idle);
        }
    }
}
