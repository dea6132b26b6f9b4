//! A server on loan. Dropping the lease gives the server back if it is clean, and closes it otherwise;
//! nothing else can put a server back.

use std::sync::Arc;
use std::time::Instant;

use deadpool::managed::Object;

use super::Pool;
use super::manager::{Manager, Pooled};
use crate::server::Server;

/// A server lent to one client.
#[derive(Debug)]
pub struct Lease {
    /// `None` only while it is being dropped.
    object: Option<Object<Manager>>,
    pool: Arc<Pool>,
    /// When it was lent.
    since: Instant,
}

impl Lease {
    pub(super) const fn new(object: Object<Manager>, pool: Arc<Pool>, since: Instant) -> Self {
        Self { object: Some(object), pool, since }
    }

    /// The pool that it came from.
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
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
        let retired = object.generation != self.pool.generation() || self.since >= object.expires_at;
        if retired || !object.server.is_clean() {
            if let Some(why) = object.server.broken() {
                tracing::debug!(server = %object.server.id, why, "server closed");
            }
            // Dropped rather than returned: the socket closes.
            drop(Object::take(object));
        }
    }
}
