//! What others see of a server connection while it works: plain atomics, read by SHOW SERVERS and metrics.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::types::{ClientId, NodeName, ServerId};

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Waiting in its pool.
    Idle,
    /// Lent to a client.
    Active,
}

/// One server connection, seen from outside.
#[derive(Debug)]
pub struct ServerInfo {
    /// Its number.
    pub id: ServerId,
    /// The node it leads to.
    pub node: NodeName,
    /// The server's process.
    pub process_id: i32,
    /// When it was made.
    pub connected_at: Instant,
    /// Prepared statements on it.
    pub prepared: AtomicUsize,
    state: AtomicU8,
    client: AtomicU64,
}

impl ServerInfo {
    /// A new server's.
    pub const fn new(id: ServerId, node: NodeName, process_id: i32, now: Instant) -> Self {
        Self {
            id,
            node,
            process_id,
            connected_at: now,
            prepared: AtomicUsize::new(0),
            state: AtomicU8::new(0),
            client: AtomicU64::new(0),
        }
    }

    /// It is lent to `client`.
    pub fn lend(&self, client: ClientId) {
        self.client.store(client.0, Ordering::Relaxed);
        self.state.store(1, Ordering::Relaxed);
    }

    /// It is given back.
    pub fn give_back(&self) {
        self.state.store(0, Ordering::Relaxed);
        self.client.store(0, Ordering::Relaxed);
    }

    /// It is connected no more.
    pub fn gone(&self) {
        self.state.store(2, Ordering::Relaxed);
    }

    /// Whether it is connected no more.
    pub fn is_gone(&self) -> bool {
        self.state.load(Ordering::Relaxed) == 2
    }

    /// What it is doing, and for whom.
    pub fn state(&self) -> (ServerState, Option<ClientId>) {
        match self.state.load(Ordering::Relaxed) {
            0 => (ServerState::Idle, None),
            _ => (ServerState::Active, Some(ClientId(self.client.load(Ordering::Relaxed)))),
        }
    }
}
