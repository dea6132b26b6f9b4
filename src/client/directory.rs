//! All connected clients, as others see them: for SHOW CLIENTS, KILL, limits and the drain.
//!
//! Touched at login and at the end; while a client works, only its own atomics move.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::net::stream::{Encryption, Ends};
use crate::protocol::startup::Replication;
use crate::session::pins::Reason;
use crate::types::{ClientId, DatabaseName, ServerId, UserName};

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// Between transactions.
    Idle,
    /// A server is lent to it.
    Active,
    /// It waits for a server.
    Waiting,
}

/// One connected client.
#[derive(Debug)]
pub struct ClientInfo {
    /// Its number.
    pub id: ClientId,
    /// What it takes for its server's process.
    pub process_id: i32,
    /// The role it logged in with.
    pub user: UserName,
    /// The database it asked for.
    pub database: DatabaseName,
    /// Where it comes from, and where it came in.
    pub ends: Ends,
    /// How its connection is encrypted, if it is.
    pub encryption: Option<Encryption>,
    /// Which replication it is for.
    pub replication: Replication,
    /// What it calls itself.
    application_name: Mutex<Box<str>>,
    /// When it connected.
    pub connected_at: Instant,
    /// Named statements it has prepared.
    pub prepared: AtomicUsize,
    /// Transactions and batches it has run.
    pub transactions: AtomicU64,
    /// Batches it has run.
    pub queries: AtomicU64,
    /// Microseconds after `connected_at`.
    requested: AtomicU64,
    state: AtomicU8,
    server: AtomicU64,
    pins: AtomicU16,
    /// Since when it is pinned, and by what; written when that begins or ends.
    pin: Mutex<Option<Box<Pin>>>,
    killed: AtomicBool,
    poked: AtomicBool,
    /// Wakes its task.
    waker: Mutex<Option<Waker>>,
}

/// The beginning of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// When the client was pinned.
    pub since: Instant,
    /// The shape of the statement that did it, if it was one.
    pub digest: Option<u64>,
}

/// What is known of a client when it has logged in.
#[derive(Debug)]
pub struct Arrival {
    /// The role it logged in with.
    pub user: UserName,
    /// The database it asked for.
    pub database: DatabaseName,
    /// Where it comes from, and where it came in.
    pub ends: Ends,
    /// How its connection is encrypted, if it is.
    pub encryption: Option<Encryption>,
    /// Which replication it is for.
    pub replication: Replication,
    /// What it calls itself.
    pub application_name: String,
    /// Now.
    pub now: Instant,
}

impl ClientInfo {
    fn new(id: ClientId, process_id: i32, arrival: Arrival) -> Self {
        Self {
            id,
            process_id,
            user: arrival.user,
            database: arrival.database,
            ends: arrival.ends,
            encryption: arrival.encryption,
            replication: arrival.replication,
            application_name: Mutex::new(arrival.application_name.into()),
            connected_at: arrival.now,
            prepared: AtomicUsize::new(0),
            transactions: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            requested: AtomicU64::new(0),
            state: AtomicU8::new(0),
            server: AtomicU64::new(0),
            pins: AtomicU16::new(0),
            pin: Mutex::new(None),
            killed: AtomicBool::new(false),
            poked: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// What it calls itself.
    pub fn application_name(&self) -> String {
        self.application_name.lock().unwrap_or_else(PoisonError::into_inner).to_string()
    }

    /// It calls itself otherwise now.
    pub fn rename(&self, name: Option<&str>) {
        let mut known = self.application_name.lock().unwrap_or_else(PoisonError::into_inner);
        *known = name.unwrap_or_default().into();
    }

    /// It lies idle.
    pub fn idle(&self) {
        self.state.store(0, Ordering::Relaxed);
        self.server.store(0, Ordering::Relaxed);
    }

    /// It has asked for something.
    pub fn requests(&self, now: Instant) {
        let micros = now.saturating_duration_since(self.connected_at).as_micros();
        self.requested.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When it last asked for something; when it connected, if it never did.
    pub fn requested_at(&self) -> Instant {
        self.connected_at + Duration::from_micros(self.requested.load(Ordering::Relaxed))
    }

    /// It waits for a server.
    pub fn waiting(&self) {
        self.state.store(2, Ordering::Relaxed);
    }

    /// A server is lent to it.
    pub fn active(&self, server: ServerId) {
        self.server.store(server.0, Ordering::Relaxed);
        self.state.store(1, Ordering::Relaxed);
    }

    /// What it is doing, and with which server.
    pub fn state(&self) -> (ClientState, Option<ServerId>) {
        match self.state.load(Ordering::Relaxed) {
            0 => (ClientState::Idle, None),
            1 => (ClientState::Active, Some(ServerId(self.server.load(Ordering::Relaxed)))),
            _ => (ClientState::Waiting, None),
        }
    }

    /// The reasons for which it keeps its server now, after a statement of the shape `digest`; gives those that are new.
    pub fn pinned(&self, reasons: impl Iterator<Item = Reason>, digest: Option<u64>) -> Vec<Reason> {
        let position = |reason| Reason::ALL.iter().position(|other| *other == reason).unwrap_or(0);
        let bits = reasons.fold(0u16, |bits, reason| bits | 1 << position(reason));
        let before = self.pins.load(Ordering::Relaxed);
        if bits == before {
            return Vec::new();
        }
        self.pins.store(bits, Ordering::Relaxed);
        let mut pin = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        if bits == 0 {
            *pin = None;
        } else {
            pin.get_or_insert_with(|| Box::new(Pin { since: Instant::now(), digest }));
        }
        reasons_of(bits & !before)
    }

    /// Since when it keeps its server, and by what that began.
    pub fn pin(&self) -> Option<Pin> {
        self.pin.lock().unwrap_or_else(PoisonError::into_inner).as_deref().copied()
    }

    /// Whether it keeps its server for any reason.
    pub fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Relaxed) != 0
    }

    /// The reasons for which it keeps its server.
    pub fn pins(&self) -> Vec<Reason> {
        reasons_of(self.pins.load(Ordering::Relaxed))
    }

    /// Ends the connection at its next wait.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Wakes it so that it looks whether it should go, or obey another configuration.
    pub fn poke(&self) {
        self.poked.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether an administrator has ended the connection.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// Whether somebody has poked it since this was last asked.
    pub fn take_poke(&self) -> bool {
        self.poked.load(Ordering::SeqCst) && self.poked.swap(false, Ordering::SeqCst)
    }

    /// From now on `kill` and `poke` wake this task. What they set is to be looked at after this call, or it may be missed.
    pub fn listen(&self, waker: &Waker) {
        let mut known = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn reasons_of(bits: u16) -> Vec<Reason> {
    let held = Reason::ALL.iter().enumerate().filter(|(index, _)| bits & 1 << index != 0);
    held.map(|(_, reason)| *reason).collect()
}

/// All connected clients.
#[derive(Debug, Default)]
pub struct Directory {
    next: AtomicU64,
    connected: AtomicUsize,
    all: Mutex<HashMap<ClientId, Arc<ClientInfo>>>,
}

/// A place among the connected clients, held from the first byte on; given up when dropped.
#[derive(Debug)]
pub struct Place {
    directory: Arc<Directory>,
}

/// A client's entry; taken out when dropped.
#[derive(Debug)]
pub struct Entry {
    directory: Arc<Directory>,
    info: Arc<ClientInfo>,
}

impl Directory {
    /// A place for one more connection, and how many there were before it.
    pub fn enter(self: &Arc<Self>) -> (Place, usize) {
        let before = self.connected.fetch_add(1, Ordering::AcqRel);
        (Place { directory: Arc::clone(self) }, before)
    }

    /// Takes note of a client that has logged in and been given this process id.
    pub fn add(self: &Arc<Self>, process_id: i32, arrival: Arrival) -> Entry {
        let id = ClientId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let info = Arc::new(ClientInfo::new(id, process_id, arrival));
        self.lock().insert(id, Arc::clone(&info));
        Entry { directory: Arc::clone(self), info }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, Arc<ClientInfo>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All clients that have logged in, in the order in which they did.
    pub fn snapshot(&self) -> Vec<Arc<ClientInfo>> {
        let mut clients: Vec<_> = self.lock().values().cloned().collect();
        clients.sort_by_key(|client| client.id);
        clients
    }

    /// The client that was given `process_id`.
    pub fn of_process(&self, process_id: i32) -> Option<Arc<ClientInfo>> {
        self.lock().values().find(|client| client.process_id == process_id).cloned()
    }

    /// Connections, those that are still logging in included.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// Logins so far.
    pub fn logins(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

impl Entry {
    /// What others see, to be kept beside the entry.
    pub fn share(&self) -> Arc<ClientInfo> {
        Arc::clone(&self.info)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.directory.connected.fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::ops::Deref for Entry {
    type Target = ClientInfo;

    fn deref(&self) -> &ClientInfo {
        &self.info
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.directory.lock().remove(&self.info.id);
    }
}
