//! All server connections that exist, for SHOW SERVERS and metrics. Touched when one is made or ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::key::PoolKey;
use crate::server::info::ServerInfo;
use crate::types::ServerId;

/// The servers of all pools.
#[derive(Debug, Default)]
pub struct Servers {
    next: AtomicU64,
    all: Mutex<HashMap<ServerId, (PoolKey, Arc<ServerInfo>)>>,
}

impl Servers {
    pub(super) fn next_id(&self) -> ServerId {
        ServerId(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn add(&self, key: &PoolKey, info: &Arc<ServerInfo>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(info.id, (key.clone(), Arc::clone(info)));
    }

    pub(super) fn remove(&self, id: ServerId) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Those of one pool will be closed once nobody has them.
    pub(super) fn condemn(&self, key: &PoolKey) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, info) in all.values().filter(|(other, _)| other == key) {
            info.condemn();
        }
    }

    /// All that are connected, in the order in which they were made.
    pub fn snapshot(&self) -> Vec<(PoolKey, Arc<ServerInfo>)> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, info)| !info.is_gone());
        let mut servers: Vec<_> = all.values().cloned().collect();
        servers.sort_by_key(|(_, info)| info.id);
        servers
    }
}
