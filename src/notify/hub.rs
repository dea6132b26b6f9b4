//! Who listens to what in one database, and the numbers that say what came before what.
//!
//! Notifications are numbered as they come. Whoever begins to listen, or has just committed, asks for the number that
//! has been reached ([`Subscription::listen`], [`Subscription::reached`]): of all transactions whose end anybody has
//! heard of before that, the notifications have come, and theirs are the numbers up to it. So nothing is missed, nothing
//! comes from before a LISTEN, and a client has its own notifications before it hears that it has committed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::listener::{Listeners, Source};
use super::mailbox::{Item, Mailbox, Notification, Taken};
use super::subscription::Subscription;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::session::listens::Channel;
use crate::telemetry::counters::Counter;
use crate::types::{DatabaseName, NodeName};

/// Hubs that may wait for a listener to be started.
const STARTED: usize = 64;

/// The hubs of one cluster; they outlive a reload that changes it.
#[derive(Debug)]
pub struct Hubs {
    all: Mutex<HashMap<Key, Arc<Hub>>>,
    started: mpsc::Sender<Arc<Hub>>,
    source: watch::Sender<Arc<Source>>,
    /// What is counted.
    pub totals: Arc<Totals>,
}

/// The database, as servers call it, and the encoding that its clients have.
type Key = (DatabaseName, Box<str>);

/// What is counted of one cluster's hubs.
#[derive(Debug, Default)]
pub struct Totals {
    /// Notifications that came from servers.
    pub notifications: Counter,
    /// Clients for which more came than may wait.
    pub overflows: Counter,
    /// Connections that were lost while somebody listened.
    pub losses: Counter,
}

/// Why nobody listens for a client.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No connection was there in time.
    #[error("no connection listens to database {database} within {waited:?}: {why}")]
    Timeout {
        /// The database, as servers call it.
        database: DatabaseName,
        /// How long the client waited.
        waited: Duration,
        /// What went wrong last.
        why: String,
    },
    /// The server refused it.
    #[error("{}", .0.message)]
    Refused(Report),
}

impl ListenError {
    /// What the client is told.
    #[must_use]
    pub fn report(self) -> Report {
        match self {
            Self::Refused(report) => report,
            Self::Timeout { .. } => Report::error(SqlState::CANNOT_CONNECT_NOW, self.to_string()).hint(
                "LISTEN waits as long as pool.wait_timeout; the user of clusters.*.monitor must be able to connect to the \
                 database.",
            ),
        }
    }
}

/// One database's.
#[derive(Debug)]
pub struct Hub {
    key: Key,
    state: Mutex<State>,
    /// Wakes the listener.
    work: Notify,
    totals: Arc<Totals>,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<u64, Arc<Mailbox>>,
    channels: HashMap<Channel, HashMap<u64, Arc<Mailbox>>>,
    /// Channels that somebody began or ceased to listen to since the listener last looked.
    changed: Vec<Channel>,
    waiting: Vec<Waiter>,
    connection: Connection,
    /// That of the last notification.
    number: u64,
    last_client: u64,
    haste: Haste,
}

/// The connection that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// There is none; why.
    None(String),
    /// It was lost; why.
    Lost(String),
    /// To this node, and which server process it is.
    To(NodeName, i32),
}

impl Default for Connection {
    fn default() -> Self {
        Self::None("it was not made yet".to_owned())
    }
}

/// Whether a connection that nobody needs is kept for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Haste {
    #[default]
    None,
    /// Others wait for it to end: its database is about to be dropped.
    Some,
}

/// Somebody who waits for a number, and what must be listened to by then.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) channels: Vec<Channel>,
    tell: oneshot::Sender<Result<u64, Report>>,
}

/// What the listener has to do.
#[derive(Debug)]
pub(super) struct Work {
    /// Channels, and whether anybody listens to them.
    pub(super) channels: Vec<(Channel, Wanted)>,
    pub(super) waiting: Vec<Waiter>,
}

/// Whether somebody listens to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes,
    No,
}

impl Hubs {
    /// No hub yet; what is to be run for those to come.
    #[must_use]
    pub fn new(source: Source) -> (Arc<Self>, Listeners) {
        let (started, starting) = mpsc::channel(STARTED);
        let (source, watched) = watch::channel(Arc::new(source));
        let hubs = Arc::new(Self { all: Mutex::default(), started, source, totals: Arc::default() });
        let listeners = Listeners::new(Arc::downgrade(&hubs), watched, starting);
        (hubs, listeners)
    }

    /// A reload has changed the cluster: who is connected to its primary stays.
    pub fn follow(&self, source: Source) {
        self.source.send_replace(Arc::new(source));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Hub>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a mailbox of at most `limit` bytes for a client of `database` that has `encoding`.
    pub async fn subscribe(&self, database: &DatabaseName, encoding: &str, limit: usize) -> Subscription {
        let key = (database.clone(), encoding.into());
        let mut new = None;
        let hub = {
            let mut all = self.lock();
            let make = || Arc::clone(new.insert(Arc::new(Hub::new(key.clone(), Arc::clone(&self.totals)))));
            Arc::clone(all.entry(key.clone()).or_insert_with(make))
        };
        let subscription = Subscription::new(hub, limit);
        if let Some(hub) = new {
            // It fails only when the process ends.
            let _ = self.started.send(hub).await;
        }
        subscription
    }

    /// Forgets `hub` if nobody needs it; says whether it did.
    pub(super) fn retire(&self, hub: &Arc<Hub>) -> bool {
        let mut all = self.lock();
        // Two have it when nobody needs it: the table and its listener.
        let needed = Arc::strong_count(hub) > 2 || !hub.is_quiet();
        if !needed {
            all.remove(&hub.key);
        }
        !needed
    }

    /// `database` is about to be dropped, or must be left for another reason: connections that nobody needs end.
    pub fn vacate(&self, database: &str) {
        for hub in self.lock().values().filter(|hub| hub.key.0.as_str() == database) {
            hub.lock().haste = Haste::Some;
            hub.work.notify_one();
        }
    }

    /// What each hub is doing, in the order of their databases.
    #[must_use]
    pub fn census(&self) -> Vec<Census> {
        let mut all: Vec<_> = self.lock().values().map(|hub| hub.census()).collect();
        all.sort_by(|one, other| (&one.database, &one.encoding).cmp(&(&other.database, &other.encoding)));
        all
    }
}

/// A hub as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// The database, as servers call it.
    pub database: DatabaseName,
    /// The encoding that its clients have.
    pub encoding: Box<str>,
    /// Its connection.
    pub connection: Connection,
    /// Channels that somebody listens to.
    pub channels: usize,
    /// Clients that listen.
    pub clients: usize,
}

impl Hub {
    fn new(key: Key, totals: Arc<Totals>) -> Self {
        Self { key, state: Mutex::default(), work: Notify::new(), totals }
    }

    /// The database, as servers call it.
    pub(super) const fn database(&self) -> &DatabaseName {
        &self.key.0
    }

    /// The encoding that its clients have.
    pub(super) fn encoding(&self) -> &str {
        &self.key.1
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody listens.
    pub(super) fn is_quiet(&self) -> bool {
        self.lock().clients.is_empty()
    }

    /// Whether somebody waits for the connection to end, should nobody listen.
    pub(super) fn is_urged(&self) -> bool {
        let state = self.lock();
        state.haste == Haste::Some && state.clients.is_empty()
    }

    /// Waits until there is something to do. Cancel safe.
    pub(super) async fn stirred(&self) {
        self.work.notified().await;
    }

    /// What there is to do on a connection that does what was asked before.
    pub(super) fn work(&self) -> Work {
        let mut state = self.lock();
        let mut changed = std::mem::take(&mut state.changed);
        changed.sort_unstable();
        changed.dedup();
        let wanted = |channel: &Channel| if state.channels.contains_key(channel) { Wanted::Yes } else { Wanted::No };
        let channels = changed.into_iter().map(|channel| (Channel::clone(&channel), wanted(&channel))).collect();
        Work { channels, waiting: std::mem::take(&mut state.waiting) }
    }

    /// What there is to do on a new connection.
    pub(super) fn all_work(&self) -> Work {
        let mut state = self.lock();
        state.changed.clear();
        let channels = state.channels.keys().map(|channel| (Channel::clone(channel), Wanted::Yes)).collect();
        Work { channels, waiting: std::mem::take(&mut state.waiting) }
    }

    /// The server has done all that it was told before `waiting`, but for what it `refused`.
    pub(super) fn ready(&self, waiting: Vec<Waiter>, refused: &[(Channel, Report)]) {
        let number = self.lock().number;
        for waiter in waiting {
            let refusal = refused.iter().find(|(channel, _)| waiter.channels.contains(channel));
            // Who has gone need not know.
            let _ = waiter.tell.send(refusal.map_or(Ok(number), |(_, report)| Err(report.clone())));
        }
    }

    /// There will be no connection: who waits for one is told why.
    pub(super) fn turn_away(&self, report: &Report) {
        for waiter in std::mem::take(&mut self.lock().waiting) {
            let _ = waiter.tell.send(Err(report.clone()));
        }
    }

    /// Nobody can listen to `channel`.
    pub(super) fn refuse(&self, channel: &Channel) {
        self.lock().channels.remove(channel);
    }

    /// A connection listens to all that is to be listened to. Those who listened before one was lost are told.
    pub(super) fn connected(&self, node: &NodeName, process_id: i32) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.connection, Connection::To(node.clone(), process_id));
        let listeners = state.clients.len();
        tracing::info!(database = %self.database(), %node, listeners, "listening for notifications");
        if matches!(before, Connection::Lost(_)) {
            state.number += 1;
            let gap = Item::Gap(state.number);
            for mailbox in state.clients.values() {
                self.deliver(mailbox, gap.clone());
            }
        }
    }

    /// There is no connection any more, or could not be one. `waiting` had been asked for on it.
    pub(super) fn lost(&self, why: String, waiting: Vec<Waiter>) {
        let mut state = self.lock();
        // Who wants to listen waits for the next connection; who wants to know what has come is told that nothing will.
        state.waiting.extend(waiting);
        state.waiting.retain(|waiter| !waiter.channels.is_empty());
        let listeners = state.clients.len();
        let is_known = matches!(&state.connection, Connection::None(known) | Connection::Lost(known) if *known == why);
        if !is_known {
            tracing::warn!(database = %self.database(), listeners, error = %why, "nothing listens for notifications");
        }
        state.connection = match &state.connection {
            Connection::None(_) => Connection::None(why),
            Connection::To(..) => {
                if listeners > 0 {
                    self.totals.losses.increment();
                }
                Connection::Lost(why)
            }
            Connection::Lost(_) => Connection::Lost(why),
        };
    }

    /// A notification has come: everybody who listens to its channel gets it. Gives a mailbox that fills, if one does.
    pub(super) fn heard(&self, body: BytesMut) -> Option<Arc<Mailbox>> {
        let mut state = self.lock();
        let notification = Notification::open(body, state.number + 1)?;
        state.number += 1;
        self.totals.notifications.increment();
        let notification = Arc::new(notification);
        let channel = std::str::from_utf8(notification.channel()).ok()?;
        let mut fills = None;
        for mailbox in state.channels.get(channel).into_iter().flat_map(HashMap::values) {
            if self.deliver(mailbox, Item::Notification(Arc::clone(&notification))) == Taken::Fills {
                fills = Some(Arc::clone(mailbox));
            }
        }
        fills
    }

    fn deliver(&self, mailbox: &Mailbox, item: Item) -> Taken {
        let taken = mailbox.put(item);
        if taken == Taken::Overflowed {
            self.totals.overflows.increment();
        }
        taken
    }

    fn census(&self) -> Census {
        let state = self.lock();
        Census {
            database: self.key.0.clone(),
            encoding: self.key.1.clone(),
            connection: state.connection.clone(),
            channels: state.channels.len(),
            clients: state.clients.len(),
        }
    }
}

// === What subscriptions do ===

impl Hub {
    /// A client comes, whose mailbox takes at most `limit` bytes: its number, and the mailbox.
    pub(super) fn enter(&self, limit: usize) -> (u64, Arc<Mailbox>) {
        let mailbox = Arc::new(Mailbox::new(limit));
        let mut state = self.lock();
        state.haste = Haste::None;
        state.last_client += 1;
        let client = state.last_client;
        state.clients.insert(client, Arc::clone(&mailbox));
        (client, mailbox)
    }

    /// A client goes; it listens to nothing any more.
    pub(super) fn leave(&self, client: u64) {
        self.lock().clients.remove(&client);
        self.work.notify_one();
    }

    /// What comes to `channels` goes to this client, too. The server listens to them by the time that a number is told
    /// which is waited for after this.
    pub(super) fn register(&self, client: u64, channels: &[Channel]) {
        let mut state = self.lock();
        let State { clients, channels: known, changed, .. } = &mut *state;
        let Some(mailbox) = clients.get(&client) else { return };
        for channel in channels {
            let listeners = known.entry(Channel::clone(channel)).or_default();
            if listeners.is_empty() {
                changed.push(Channel::clone(channel));
            }
            listeners.insert(client, Arc::clone(mailbox));
        }
    }

    pub(super) fn unregister(&self, client: u64, channels: &[Channel]) {
        if channels.is_empty() {
            return;
        }
        let mut state = self.lock();
        for channel in channels {
            let Some(listeners) = state.channels.get_mut(channel) else { continue };
            listeners.remove(&client);
            if listeners.is_empty() {
                state.channels.remove(channel);
                state.changed.push(Channel::clone(channel));
            }
        }
        self.work.notify_one();
    }

    /// The number that is reached when the server listens to all that it is to, and all has come that anybody can know
    /// of by now. The sender goes without a word when the connection is lost and `channels` are none.
    pub(super) fn wait(&self, channels: Vec<Channel>) -> oneshot::Receiver<Result<u64, Report>> {
        let (tell, told) = oneshot::channel();
        self.lock().waiting.push(Waiter { channels, tell });
        self.work.notify_one();
        told
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.lock().connection, Connection::To(..))
    }

    pub(super) fn why_not(&self) -> String {
        match &self.lock().connection {
            Connection::None(why) | Connection::Lost(why) => why.clone(),
            Connection::To(..) => "it does not answer".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mailbox::tests::body;
    use super::super::mailbox::{Item, Mail};
    use super::*;

    const LIMIT: usize = 4096;
    const SECOND: Duration = Duration::from_secs(1);

    fn hub() -> Arc<Hub> {
        Arc::new(Hub::new(("app".into(), "UTF8".into()), Arc::default()))
    }

    fn connected() -> Arc<Hub> {
        let hub = hub();
        hub.connected(&"pg1".into(), 1);
        hub
    }

    /// Does what there is to do as a server would that refuses nothing; says which channels it was told of.
    fn obey(hub: &Hub) -> Vec<(String, Wanted)> {
        let work = hub.work();
        hub.ready(work.waiting, &[]);
        work.channels.into_iter().map(|(channel, wanted)| (channel.to_string(), wanted)).collect()
    }

    /// Listens, with a server that obeys at once.
    async fn listen(hub: &Arc<Hub>, subscription: &mut Subscription, channels: &[&str]) -> Vec<(String, Wanted)> {
        let channels = channels.iter().map(|channel| Channel::from(*channel)).collect();
        let (listened, told) = tokio::join!(subscription.listen(channels, SECOND * 30), async {
            hub.stirred().await;
            obey(hub)
        });
        listened.unwrap();
        told
    }

    fn payloads(subscription: &Subscription) -> Vec<String> {
        let Mail::Items(items) = subscription.mailbox().take() else { panic!("too much") };
        let wanted = items.iter().filter(|item| subscription.is_for_it(item));
        let text = |item: &Item| match item {
            Item::Gap(_) => "gap".to_owned(),
            Item::Notification(notification) => {
                let mut out = BytesMut::new();
                notification.encode(0, &mut out);
                let payload = out[9..].split(|&byte| byte == 0).nth(1).unwrap();
                String::from_utf8(payload.to_vec()).unwrap()
            }
        };
        wanted.map(text).collect()
    }

    #[tokio::test]
    async fn only_what_comes_after_listening_counts_and_in_order() {
        let hub = connected();
        let (mut first, mut second) =
            (Subscription::new(Arc::clone(&hub), LIMIT), Subscription::new(Arc::clone(&hub), LIMIT));
        assert_eq!(listen(&hub, &mut first, &["a"]).await, [("a".to_owned(), Wanted::Yes)]);
        hub.heard(body(7, "a", "1"));
        assert_eq!(listen(&hub, &mut second, &["b", "a"]).await, [("b".to_owned(), Wanted::Yes)]);
        for (channel, payload) in [("a", "2"), ("b", "3"), ("c", "4"), ("a", "5")] {
            hub.heard(body(7, channel, payload));
        }
        assert_eq!(payloads(&first), ["1", "2", "5"]);
        assert_eq!(payloads(&second), ["2", "3", "5"]);
        assert_eq!(hub.totals.notifications.value(), 5);
    }

    #[tokio::test]
    async fn a_listen_that_is_repeated_before_it_commits_begins_anew() {
        let hub = connected();
        let mut subscription = Subscription::new(Arc::clone(&hub), LIMIT);
        listen(&hub, &mut subscription, &["a"]).await;
        hub.heard(body(7, "a", "before"));
        assert_eq!(listen(&hub, &mut subscription, &["a"]).await, [], "the server listens already");
        hub.heard(body(7, "a", "after"));
        assert_eq!(payloads(&subscription), ["after"]);
    }

    #[tokio::test]
    async fn the_server_unlistens_when_the_last_one_does() {
        let hub = connected();
        let (mut first, mut second) =
            (Subscription::new(Arc::clone(&hub), LIMIT), Subscription::new(Arc::clone(&hub), LIMIT));
        listen(&hub, &mut first, &["a", "b"]).await;
        listen(&hub, &mut second, &["a"]).await;
        drop(first);
        assert_eq!(obey(&hub), [("b".to_owned(), Wanted::No)]);
        assert!(!hub.is_quiet());
        second.keep(|_| false);
        listen(&hub, &mut second, &["a"]).await;
        drop(second);
        assert_eq!(obey(&hub), [("a".to_owned(), Wanted::No)]);
        assert!(hub.is_quiet());
    }

    #[tokio::test]
    async fn those_who_listened_hear_of_a_loss_and_those_who_wait_to_listen_do_not() {
        let hub = connected();
        let (mut old, mut new) =
            (Subscription::new(Arc::clone(&hub), LIMIT), Subscription::new(Arc::clone(&hub), LIMIT));
        listen(&hub, &mut old, &["a"]).await;
        let listening = new.listen(vec!["a".into()], SECOND * 30);
        let (listened, reached, ()) = tokio::join!(listening, old.reached(), async {
            hub.stirred().await;
            let work = hub.work();
            hub.lost("it broke".to_owned(), work.waiting);
            let again = hub.all_work();
            assert_eq!(again.channels, [("a".into(), Wanted::Yes)]);
            hub.connected(&"pg2".into(), 2);
            hub.ready(again.waiting, &[]);
        });
        assert_eq!((listened.unwrap(), reached), (1, None));
        hub.heard(body(7, "a", "on"));
        assert_eq!(payloads(&old), ["gap", "on"]);
        assert_eq!(payloads(&new), ["on"]);
        assert_eq!(hub.totals.losses.value(), 1);
    }

    #[tokio::test]
    async fn who_cannot_listen_is_told_why() {
        let hub = hub();
        let mut subscription = Subscription::new(Arc::clone(&hub), LIMIT);
        hub.lost("nobody answers".to_owned(), Vec::new());
        assert_eq!(subscription.reached().await, None);
        let error = subscription.listen(vec!["a".into()], Duration::from_millis(1)).await.unwrap_err();
        assert!(error.to_string().ends_with("nobody answers"), "{error}");
        assert_eq!(error.report().code, SqlState::CANNOT_CONNECT_NOW);
        hub.work();
        let listening = subscription.listen(vec!["b".into()], SECOND * 30);
        let (refused, ()) = tokio::join!(listening, async {
            hub.stirred().await;
            let report = Report::error(SqlState::INVALID_PARAMETER_VALUE, "not such a name");
            hub.ready(hub.work().waiting, &[("b".into(), report)]);
        });
        assert_eq!(refused.unwrap_err().report().message, "not such a name");
    }

    #[tokio::test]
    async fn who_does_not_read_costs_no_more_than_its_limit() {
        let hub = connected();
        let mut slow = Subscription::new(Arc::clone(&hub), 1000);
        let mut other = Subscription::new(Arc::clone(&hub), 1 << 20);
        listen(&hub, &mut slow, &["a"]).await;
        listen(&hub, &mut other, &["a"]).await;
        for _ in 0..100 {
            hub.heard(body(7, "a", "news"));
        }
        assert_eq!(slow.mailbox().take(), Mail::TooMuch);
        assert_eq!(payloads(&other).len(), 100);
        assert_eq!(hub.totals.overflows.value(), 1);
    }
}
