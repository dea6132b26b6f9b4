//! Replication connections: each gets a server connection of its own, on the primary, and bytes are passed on both
//! ways. What a walsender says (protocol chapter "Streaming Replication Protocol") concerns nobody in between.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;

use bytes::BytesMut;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use super::answer;
use super::counters::Stats;
use super::directory::{Arrival, Entry};
use super::services::{Current, Served, Services};
use super::startup;
use crate::cancel::Key;
use crate::config::model::{Destination, User};
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;
use crate::net::worker;
use crate::protocol::error::Report;
use crate::protocol::startup::{Replication, StartupMessage};
use crate::server::cancel::ServerKey;
use crate::server::connect::{self, Connected};
use crate::session::pins::Reason;
use crate::types::DatabaseName;

/// A replication connection that may begin: its server is there.
#[derive(Debug)]
pub(super) struct Passage {
    server: Stream,
    greeting: BytesMut,
    entry: Entry,
    /// What clients of its database and user do.
    stats: Stats,
    /// Leads cancel requests to the server.
    key: Key,
}

/// The database in whose name a replication connection is led to a cluster. Physical replication names one out of
/// habit (`replication`, says `pg_basebackup`), so any will do as long as all live on one cluster.
pub(super) fn destination_of(
    current: &Current,
    user: &User,
    database: &DatabaseName,
    kind: Replication,
) -> Option<Arc<Destination>> {
    let named = current.destination_of(user, database);
    if named.is_some() || kind != Replication::Physical {
        return named;
    }
    let databases = &current.config.databases;
    let first = databases.first()?;
    let one = databases.iter().all(|database| database.cluster == first.cluster);
    one.then(|| current.destination_of(user, &first.name)).flatten()
}

/// Logs in to the primary as the client asked, and prepares what the client is told. `out` is what that begins with.
pub(super) async fn open(
    services: &Arc<Services>,
    served: &Served,
    destination: &Destination,
    mut arrival: Arrival,
    message: &StartupMessage,
    out: &mut BytesMut,
) -> Result<Passage, Report> {
    let node = served.primary(destination).await?;
    let unknown = || answer::no_primary(destination.cluster.as_str());
    let mut login = served.login(services, destination, node).ok_or_else(unknown)?;
    let ours = |name: &str| matches!(name, "user" | "database") || name.starts_with("_pq_.");
    login.options = message.parameters.iter().filter(|(name, _)| !ours(name)).cloned().collect();
    let connected = connect::connect(&login).await.map_err(|error| error.report())?;
    let Connected { stream, parameters, process_id, key: secret, peer, .. } = connected;
    let key = services.cancels.issue(message.spoken(services.current.load().max_minor()));
    key.slot.lend(Arc::new(ServerKey {
        peer,
        connector: Arc::clone(&login.connector),
        process_id,
        key: secret,
        canceling: AtomicBool::new(false),
    }));
    let mut greeting = std::mem::take(out);
    answer::greeting(&mut greeting, parameters.iter().map(|(name, value)| (&**name, &**value)), &key);
    let stats = services.counters.of(&mut arrival.database, &mut arrival.user);
    stats.of(worker::here()).logins.increment();
    let entry = services.directory.add(key.process_id, arrival);
    for reason in entry.pinned([Reason::Replication].into_iter(), None) {
        services.counters.pinned(reason);
    }
    Ok(Passage { server: stream, greeting, entry, stats, key })
}

/// Passes bytes on until one side ends, an administrator ends the client, or Howdah shuts down.
pub(super) async fn pass(services: Arc<Services>, arrived: startup::Client, passage: Passage, deadline: Deadline) {
    let Passage { mut server, greeting, entry, stats, key } = passage;
    let startup::Client { stream: mut client, ahead, .. } = arrived;
    let greeted = async {
        client.write_all(&greeting).await?;
        client.flush().await?;
        server.write_all(&ahead).await
    };
    if deadline.io(greeted).await.is_err() {
        return;
    }
    drop((greeting, ahead));
    let info = entry.share();
    let mut copy = Box::pin(copy_bidirectional(&mut client, &mut server));
    let ended: io::Result<Option<(u64, u64)>> = poll_fn(|cx| {
        info.listen(cx.waker());
        if info.is_killed() || services.is_draining() {
            return Poll::Ready(Ok(None));
        }
        copy.as_mut().poll(cx).map_ok(Some)
    })
    .await;
    drop(copy);
    match ended {
        Ok(Some((received, sent))) => {
            let stats = stats.of(worker::here());
            stats.bytes_received.add(received);
            stats.bytes_sent.add(sent);
        }
        Ok(None) => {
            let report = answer::killed();
            services.counters.errors.record(report.code.0);
            tracing::info!(client = %info.id, "replication connection ends: {}", report.message);
        }
        Err(error) => tracing::debug!(client = %info.id, %error, "replication connection lost"),
    }
    // Its key opens nothing once the server is gone.
    key.slot.give_back();
}
