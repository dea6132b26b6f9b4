//! A server connection. A `Server` value is always authenticated and usable; establishing one is
//! another type's business ([`connect`]).
//!
//! Owns what one server owes and carries; knows no client, no pool and no route.

pub mod cancel;
pub mod connect;
pub mod feed;
pub mod info;
pub mod own;
pub mod query;
pub mod startup;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::net::buffer::Stash;
use crate::net::tls::Connector;
use crate::net::wire::Wire;
use crate::protocol::replies::Replies;
use crate::session::Note;
use crate::session::carried::Carried;
use crate::session::parameters::Parameters;
use crate::types::{NodeName, ServerId};
use cancel::ServerKey;
use connect::Connected;
use info::{ServerInfo, Socket};

/// One server connection.
#[derive(Debug)]
pub struct Server {
    /// Its number.
    pub id: ServerId,
    /// The node it leads to.
    pub node: NodeName,
    /// When it was made: samples requested earlier say nothing about it.
    pub connected_at: Instant,
    /// Its socket.
    pub wire: Wire,
    /// What it owes.
    pub replies: Replies<Note>,
    /// What it carries.
    pub carried: Carried,
    /// What others see of it.
    pub info: Arc<ServerInfo>,
    /// How often it was lent.
    pub loans: usize,
    /// It has told its client why it ends, and ends.
    pub said_farewell: bool,
    key: Arc<ServerKey>,
    broken: Option<&'static str>,
}

/// What a new server needs to know besides its connection.
#[derive(Debug)]
pub struct Identity {
    /// Its number.
    pub id: ServerId,
    /// The node it leads to.
    pub node: NodeName,
    /// How it is encrypted, for cancel requests.
    pub connector: Arc<Connector>,
    /// Most prepared statements kept on it.
    pub prepared_statements: usize,
}

impl Server {
    /// Takes over an established connection.
    pub fn new(connected: Connected, identity: Identity, stash: Arc<Stash>, now: Instant) -> Self {
        let mut parameters = Parameters::default();
        for (name, value) in &connected.parameters {
            parameters.report(name, value);
        }
        let key = Arc::new(ServerKey {
            peer: connected.peer,
            connector: identity.connector,
            process_id: connected.process_id,
            key: connected.key,
            canceling: AtomicBool::new(false),
        });
        let stream = &connected.stream;
        let socket = Socket { ends: stream.ends(), encryption: stream.encryption(), key: Arc::clone(&key) };
        let info = Arc::new(ServerInfo::new(identity.id, identity.node.clone(), socket, now));
        Self {
            id: identity.id,
            node: identity.node,
            connected_at: now,
            wire: Wire::new(connected.stream, stash, &[]),
            replies: Replies::default(),
            carried: Carried::new(Arc::new(parameters), identity.prepared_statements),
            info,
            loans: 0,
            said_farewell: false,
            key,
            broken: None,
        }
    }

    /// What it takes to cancel what runs here.
    pub const fn key(&self) -> &Arc<ServerKey> {
        &self.key
    }

    /// Marks it as unfit for anybody, and why.
    pub fn break_off(&mut self, why: &'static str) {
        self.broken.get_or_insert(why);
    }

    /// Why it is unfit, if it is.
    pub const fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    /// Whether it may go back to its pool: it owes nothing, is outside any transaction, has sent nothing
    /// that was not read, has no client's names for statements, and nothing went wrong.
    pub fn is_clean(&self) -> bool {
        let is_ours = !self.carried.has_clients_names();
        is_ours
            && self.broken.is_none()
            && self.replies.is_clean()
            && self.wire.bytes().is_empty()
            && !self.wire.in_message()
    }
}
