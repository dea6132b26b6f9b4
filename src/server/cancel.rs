//! Which server runs a client's statement now, so that a cancel request reaches that server and no other.
//!
//! ```text
//!          lend                      cancel
//!   Idle ---------> Running(key) -------------> Canceling(key)          Idle --> Waiting --> Running | Idle
//!     ^                | give back                  | the server has closed the cancel connection
//!     |________________|                            v
//!     |________________________________________ Running(key)
//! ```
//! A server is not given back while its slot is `Canceling`, so a late cancel cannot hit the next client:
//! the server has signalled its backend before it closes the cancel connection
//! (`processCancelRequest`, src/backend/postmaster/postmaster.c).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::connect::{self, Peer};
use crate::net::deadline::Deadline;
use crate::net::tls::Connector;

/// What it takes to cancel the statement that runs on one server connection.
#[derive(Debug)]
pub struct ServerKey {
    /// Where the server connection leads.
    pub peer: Peer,
    /// How it is encrypted.
    pub connector: Arc<Connector>,
    /// The server's process.
    pub process_id: i32,
    /// Its secret.
    pub key: Vec<u8>,
    /// Whether a cancel request is on its way.
    pub canceling: AtomicBool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// The client waits for a server.
    Waiting,
    Running(Arc<ServerKey>),
    Canceling(Arc<ServerKey>),
}

/// One client's slot.
#[derive(Debug, Default)]
pub struct Slot {
    state: Mutex<State>,
    canceled: Notify,
}

/// What became of a cancel request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canceled {
    /// It reached the server.
    Sent,
    /// No server runs anything for this client.
    Nothing,
    /// Another cancel of the same statement is on its way.
    Already,
    /// The server could not be reached in time.
    Failed,
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client begins to wait for a server.
    pub fn wait(&self) {
        *self.lock() = State::Waiting;
    }

    /// Waits until the client's wait is cancelled.
    pub async fn interrupted(&self) {
        loop {
            let notified = self.canceled.notified();
            if matches!(*self.lock(), State::Idle) {
                return;
            }
            notified.await;
        }
    }

    /// A server is lent to the client.
    pub fn lend(&self, key: Arc<ServerKey>) {
        *self.lock() = State::Running(key);
    }

    /// The server is about to be given back: true when it may be. False while a cancel is on its way;
    /// then [`Slot::settled`] waits for it.
    pub fn give_back(&self) -> bool {
        let mut state = self.lock();
        if matches!(*state, State::Canceling(_)) {
            return false;
        }
        *state = State::Idle;
        true
    }

    /// Waits until no cancel is on its way, and then gives the server back.
    pub async fn settled(&self) {
        loop {
            let notified = self.canceled.notified();
            if self.give_back() {
                return;
            }
            notified.await;
        }
    }

    fn begin(&self) -> Begun {
        let mut state = self.lock();
        match std::mem::take(&mut *state) {
            State::Running(key) => {
                *state = State::Canceling(Arc::clone(&key));
                Begun::Cancel(key)
            }
            State::Canceling(key) => {
                *state = State::Canceling(key);
                Begun::Already
            }
            State::Waiting => Begun::Wait,
            State::Idle => Begun::Nothing,
        }
    }

    /// Waits until the cancel that is on its way has arrived.
    async fn arrived(&self) {
        loop {
            let notified = self.canceled.notified();
            if !matches!(*self.lock(), State::Canceling(_)) {
                return;
            }
            notified.await;
        }
    }

    /// Sends a cancel to the server that runs this client's statement, and waits until it has arrived.
    pub async fn cancel(self: &Arc<Self>, timeout: Duration) -> Canceled {
        let key = match self.begin() {
            Begun::Cancel(key) => key,
            Begun::Wait => {
                self.canceled.notify_waiters();
                return Canceled::Sent;
            }
            Begun::Already => {
                // Whoever has asked takes the answer for a promise that nothing more will be cancelled.
                let _late = tokio::time::timeout(timeout, self.arrived()).await;
                return Canceled::Already;
            }
            Begun::Nothing => return Canceled::Nothing,
        };
        key.canceling.store(true, Ordering::Relaxed);
        let kept = Kept(Arc::clone(self), key);
        let ServerKey { peer, connector, process_id, key, .. } = &**kept.key();
        let sent = connect::cancel(peer, connector, *process_id, key, Deadline::after(timeout)).await;
        if sent.is_ok() { Canceled::Sent } else { Canceled::Failed }
    }
}

/// A server that its client keeps as long as this lives. Ends `Canceling`, also when the future that holds it is dropped.
#[derive(Debug)]
pub struct Kept(Arc<Slot>, Arc<ServerKey>);

impl Kept {
    /// The server that runs the client's statement, if one does and no cancel is on its way; it is not given back meanwhile.
    #[must_use]
    pub fn of(slot: &Arc<Slot>) -> Option<Self> {
        match slot.begin() {
            Begun::Cancel(key) => Some(Self(Arc::clone(slot), key)),
            Begun::Wait | Begun::Already | Begun::Nothing => None,
        }
    }

    /// The server.
    #[must_use]
    pub const fn key(&self) -> &Arc<ServerKey> {
        &self.1
    }
}

/// What a cancel finds.
enum Begun {
    /// A server to send it to.
    Cancel(Arc<ServerKey>),
    /// Nothing has been sent to any server: the wait itself ends.
    Wait,
    /// Another is on its way.
    Already,
    Nothing,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.1.canceling.store(false, Ordering::Relaxed);
        let mut state = self.0.lock();
        // Another server may have been lent meanwhile: it stays.
        if matches!(*state, State::Canceling(_)) {
            *state = State::Running(Arc::clone(&self.1));
        }
        drop(state);
        self.0.canceled.notify_waiters();
    }
}
