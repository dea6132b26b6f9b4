//! What others see of a server connection while it works: plain atomics, read by SHOW SERVERS and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::cancel::ServerKey;
use crate::net::stream::{Encryption, Ends};
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
    /// Its connection.
    pub socket: Socket,
    /// When it was made.
    pub connected_at: Instant,
    /// Prepared statements on it.
    pub prepared: AtomicUsize,
    state: AtomicU8,
    client: AtomicU64,
    /// Microseconds after `connected_at`.
    lent: AtomicU64,
    condemned: AtomicBool,
}

/// A server connection as such.
#[derive(Debug)]
pub struct Socket {
    /// Where it leads, and from where.
    pub ends: Ends,
    /// How it is encrypted, if it is.
    pub encryption: Option<Encryption>,
    /// The server's process, and whether somebody cancels what it does.
    pub key: Arc<ServerKey>,
}

impl ServerInfo {
    /// A new server's.
    pub const fn new(id: ServerId, node: NodeName, socket: Socket, now: Instant) -> Self {
        Self {
            id,
            node,
            socket,
            connected_at: now,
            prepared: AtomicUsize::new(0),
            state: AtomicU8::new(0),
            client: AtomicU64::new(0),
            lent: AtomicU64::new(0),
            condemned: AtomicBool::new(false),
        }
    }

    /// It is lent to `client`.
    pub fn lend(&self, client: ClientId, now: Instant) {
        let micros = now.saturating_duration_since(self.connected_at).as_micros();
        self.lent.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.client.store(client.0, Ordering::Relaxed);
        self.state.store(1, Ordering::Relaxed);
    }

    /// When it was last lent; when it was made, if it never was.
    pub fn lent_at(&self) -> Instant {
        self.connected_at + Duration::from_micros(self.lent.load(Ordering::Relaxed))
    }

    /// It will be closed once nobody has it.
    pub fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
    }

    /// Whether it will be closed once nobody has it.
    pub fn is_condemned(&self) -> bool {
        self.condemned.load(Ordering::Relaxed)
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
