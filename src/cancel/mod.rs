//! Cancel keys: which client a CancelRequest speaks for.
//!
//! Maps keys to slots; what a slot's server does about it is the server room's business.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt;
use subtle::ConstantTimeEq;

use crate::server::cancel::{Canceled, Kept, Slot};

/// The maps are many, so that no lock is common to all logins.
const SHARDS: usize = 16;

/// Bytes of secret in protocol 3.0, and what Howdah gives in 3.2.
const SECRET_3_0: usize = 4;
const SECRET_3_2: usize = 32;

/// The least process id that is given out: no process of Linux has it (`PID_MAX_LIMIT`, include/linux/threads.h), so that no client's
/// is a server's.
const FIRST: i32 = (1 << 22) + 1;

#[derive(Debug)]
struct Entry {
    secret: Arc<[u8]>,
    slot: Arc<Slot>,
}

/// The keys of all connected clients.
#[derive(Debug)]
pub struct Registry {
    shards: Box<[Mutex<HashMap<i32, Entry>>]>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

/// A client's key; forgotten when it is dropped.
#[derive(Debug)]
pub struct Key {
    registry: Arc<Registry>,
    /// What the client takes for its server's process.
    pub process_id: i32,
    /// The secret that goes with it.
    pub secret: Arc<[u8]>,
    /// What its cancel requests reach.
    pub slot: Arc<Slot>,
}

impl Registry {
    fn shard(&self, process_id: i32) -> std::sync::MutexGuard<'_, HashMap<i32, Entry>> {
        let index = usize::try_from(process_id.unsigned_abs()).unwrap_or(0) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key for a new client that speaks protocol 3.`minor`.
    pub fn issue(self: &Arc<Self>, minor: u16) -> Key {
        let slot = Arc::new(Slot::default());
        let length = if minor >= 2 { SECRET_3_2 } else { SECRET_3_0 };
        let mut secret = [0u8; SECRET_3_2];
        rand::rng().fill(&mut secret);
        let secret: Arc<[u8]> = Arc::from(&secret[..length]);
        loop {
            let process_id = rand::rng().random_range(FIRST..=i32::MAX);
            let mut shard = self.shard(process_id);
            if let std::collections::hash_map::Entry::Vacant(vacant) = shard.entry(process_id) {
                vacant.insert(Entry { secret: Arc::clone(&secret), slot: Arc::clone(&slot) });
                drop(shard);
                return Key { registry: Arc::clone(self), process_id, secret, slot };
            }
        }
    }

    /// Keeps the server that the client with this process id has, if it has one.
    #[must_use]
    pub fn keep(&self, process_id: i32) -> Option<Kept> {
        Kept::of(&self.slot(process_id, |_| true)?)
    }

    /// Cancels what runs for the client with this process id, as somebody asks who may.
    pub async fn cancel_process(&self, process_id: i32, timeout: Duration) -> Canceled {
        cancel(self.slot(process_id, |_| true), timeout).await
    }

    /// Cancels what runs for the client that holds this key; nothing when there is no such client.
    pub async fn cancel(&self, process_id: i32, secret: &[u8], timeout: Duration) -> Canceled {
        cancel(self.slot(process_id, |entry| entry.secret.ct_eq(secret).into()), timeout).await
    }

    fn slot(&self, process_id: i32, may: impl FnOnce(&Entry) -> bool) -> Option<Arc<Slot>> {
        let shard = self.shard(process_id);
        shard.get(&process_id).filter(|entry| may(entry)).map(|entry| Arc::clone(&entry.slot))
    }
}

async fn cancel(slot: Option<Arc<Slot>>, timeout: Duration) -> Canceled {
    match slot {
        Some(slot) => slot.cancel(timeout).await,
        None => Canceled::Nothing,
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.registry.shard(self.process_id).remove(&self.process_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_opens_its_own_slot_and_only_while_it_lives() {
        let registry = Arc::new(Registry::default());
        let timeout = Duration::from_secs(1);
        let (old, new) = (registry.issue(0), registry.issue(2));
        assert_eq!((old.secret.len(), new.secret.len()), (4, 32));
        assert_ne!(old.process_id, new.process_id);
        assert_eq!(registry.cancel(old.process_id, &old.secret, timeout).await, Canceled::Nothing);
        assert!(registry.shard(old.process_id).contains_key(&old.process_id));
        let process_id = old.process_id;
        drop(old);
        assert!(!registry.shard(process_id).contains_key(&process_id));
    }
}
