//! One client's part in a hub: its mailbox, its channels, and from which number on each counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hub::{Hub, ListenError};
use super::mailbox::{Item, Mailbox};
use crate::session::listens::Channel;
use crate::types::DatabaseName;

/// What one client listens with. Dropped, it listens no more.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    client: u64,
    mailbox: Arc<Mailbox>,
    /// Channels, and which number was reached when it began to listen to each; none while it has not.
    channels: HashMap<Channel, Option<u64>>,
}

impl Subscription {
    pub(super) fn new(hub: Arc<Hub>, limit: usize) -> Self {
        let (client, mailbox) = hub.enter(limit);
        Self { hub, client, mailbox, channels: HashMap::new() }
    }

    /// What waits for the client.
    #[must_use]
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Listens to `channels`, from now on: what came before of those is not for this client. Gives the number that was
    /// reached. Not cancel safe: dropped half-way, channels may be listened to that nobody wants until the next
    /// [`Self::keep`].
    pub async fn listen(&mut self, channels: Vec<Channel>, timeout: Duration) -> Result<u64, ListenError> {
        self.channels.extend(channels.iter().map(|channel| (Channel::clone(channel), None)));
        self.hub.register(self.client, &channels);
        let begun = Instant::now();
        let listening = async {
            loop {
                // The sender goes without a word when the connection is lost: the next one will do.
                if let Ok(answer) = self.hub.wait(channels.clone()).await {
                    return answer;
                }
            }
        };
        let answer = tokio::time::timeout(timeout, listening).await.map_err(|_| ListenError::Timeout {
            database: self.hub.database().clone(),
            waited: begun.elapsed(),
            why: self.hub.why_not(),
        })?;
        let number = answer.map_err(ListenError::Refused)?;
        for channel in channels {
            self.channels.insert(channel, Some(number));
        }
        Ok(number)
    }

    /// The number that is reached when all has come that anybody can know of by now; `None` when there is no
    /// connection.
    pub async fn reached(&self) -> Option<u64> {
        if !self.hub.is_connected() {
            return None;
        }
        self.hub.wait(Vec::new()).await.ok()?.ok()
    }

    /// How many channels it listens to, or is about to.
    #[must_use]
    pub fn count(&self) -> usize {
        self.channels.len()
    }

    /// Listens to no other channels than those that `wanted` names.
    pub fn keep(&mut self, wanted: impl Fn(&Channel) -> bool) {
        let unwanted: Vec<_> = self.channels.keys().filter(|channel| !wanted(channel)).cloned().collect();
        for channel in &unwanted {
            self.channels.remove(channel);
        }
        self.hub.unregister(self.client, &unwanted);
    }

    /// Whether an item that came to its mailbox is for the client.
    #[must_use]
    pub fn is_for_it(&self, item: &Item) -> bool {
        let after = |number: u64| move |since: &Option<u64>| since.is_some_and(|since| since < number);
        match item {
            Item::Gap(number) => self.channels.values().any(after(*number)),
            Item::Notification(notification) => std::str::from_utf8(notification.channel())
                .ok()
                .and_then(|channel| self.channels.get(channel))
                .is_some_and(after(notification.number)),
        }
    }

    /// The database, as servers call it.
    #[must_use]
    pub fn database(&self) -> &DatabaseName {
        self.hub.database()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.keep(|_| false);
        self.hub.leave(self.client);
    }
}
