//! The connection that listens for a hub: made, kept, and made anew when it is lost or the primary is another.
//!
//! Knows nodes and SQL; which client gets what is the hub's business.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::hub::{Hub, Hubs, Waiter, Wanted, Work};
use super::mailbox::Mailbox;
use crate::cluster::Cluster;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::text::quote_identifier;
use crate::server::connect::{ConnectError, Login, connect};
use crate::server::feed::{Feed, Heard};
use crate::session::listens::Channel;
use crate::types::NodeName;

/// How long a lost connection is left alone at first ...
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
/// ... doubling up to this.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// After a connection that lasted as long as this the first try comes soon again.
const LASTING: Duration = Duration::from_secs(10);
/// How long the server may take to answer.
const REPLY: Duration = Duration::from_secs(5);
/// How long it waits for a client whose mailbox fills: when much comes at once, this is how it comes no faster than it is
/// read; who does not read delays the others by this once.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long the connection may be silent before it is asked whether it still lives, or whether anybody needs it.
const SILENCE: Duration = Duration::from_secs(10);

/// Where a cluster's primary is found, and how to log in there.
#[derive(Debug)]
pub struct Source {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Names of its nodes and how to log in, by index; the database is the hub's.
    pub logins: Vec<(NodeName, Login)>,
}

/// The listeners of one cluster, to be run for as long as it is served.
#[derive(Debug)]
pub struct Listeners {
    hubs: Weak<Hubs>,
    source: watch::Receiver<Arc<Source>>,
    starting: mpsc::Receiver<Arc<Hub>>,
}

impl Listeners {
    pub(super) const fn new(
        hubs: Weak<Hubs>,
        source: watch::Receiver<Arc<Source>>,
        starting: mpsc::Receiver<Arc<Hub>>,
    ) -> Self {
        Self { hubs, source, starting }
    }

    /// Listens for every hub; ends when there can be no more of them.
    pub async fn run(mut self) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                hub = self.starting.recv() => {
                    let Some(hub) = hub else { return };
                    let (hubs, source) = (Weak::clone(&self.hubs), self.source.clone());
                    tasks.spawn(Listener { hub, hubs, source }.run());
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

/// Listens for one hub.
struct Listener {
    hub: Arc<Hub>,
    hubs: Weak<Hubs>,
    source: watch::Receiver<Arc<Source>>,
}

/// Why there is no connection.
struct Failure {
    why: String,
    /// What is to be said to those who wait, when another try would bring the same.
    verdict: Option<Report>,
}

impl Failure {
    const fn new(why: String) -> Self {
        Self { why, verdict: None }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let is_final = match &error {
            ConnectError::Server { report, .. } => {
                [SqlState::INVALID_CATALOG_NAME, SqlState::INSUFFICIENT_PRIVILEGE].contains(&report.code)
            }
            _ => false,
        };
        let verdict = (is_final || error.is_credentials()).then(|| {
            let report =
                Report::error(error.report().code, format!("LISTEN needs a connection of the monitor's: {error}"));
            report.hint("The user of clusters.*.monitor must be able to connect to the database.")
        });
        Self { why: error.to_string(), verdict }
    }
}

/// How a connection ended.
enum Ended {
    /// Nobody needs it.
    Unwanted,
    /// It is of no use any more.
    Lost(String),
}

impl Listener {
    async fn run(mut self) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            let begun = Instant::now();
            let (why, waiting) = match self.connect().await {
                Ok((node, login, feed)) => {
                    let mut talk = Talk::new(&self.hub, node, feed);
                    let ended = talk.run(&login, &mut self.source, &self.hubs).await;
                    let waiting = talk.waiting();
                    match ended {
                        Ended::Unwanted => return talk.feed.close().await,
                        Ended::Lost(why) => (why, waiting),
                    }
                }
                Err(Failure { why, verdict }) => {
                    if let Some(report) = verdict {
                        self.hub.turn_away(&report);
                    }
                    (why, Vec::new())
                }
            };
            if begun.elapsed() > LASTING {
                back_off = BACK_OFF_MIN;
            }
            self.hub.lost(why, waiting);
            if retires(&self.hubs, &self.hub) {
                return;
            }
            sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    async fn connect(&self) -> Result<(NodeName, Login, Feed), Failure> {
        let source = Arc::clone(&self.source.borrow());
        let until = (Instant::now() + BACK_OFF_MAX).into_std();
        source.cluster.hold(until).await.map_err(|none| Failure::new(none.to_string()))?;
        let primary = source.cluster.view().primary.and_then(|primary| source.logins.get(primary));
        let (node, login) = primary.cloned().ok_or_else(|| Failure::new("there is no primary".to_owned()))?;
        let mut own = login.clone();
        own.database = self.hub.database().clone();
        "howdah listener".clone_into(&mut own.application_name);
        if !self.hub.encoding().is_empty() {
            own.options.push(("client_encoding".to_owned(), self.hub.encoding().to_owned()));
        }
        let connected = connect(&own).await?;
        Ok((node, login, Feed::new(connected)))
    }
}

fn retires(hubs: &Weak<Hubs>, hub: &Arc<Hub>) -> bool {
    hubs.upgrade().is_none_or(|hubs| hubs.retire(hub))
}

/// Something that the server has been told and has not done yet.
enum Owed {
    Listen(Channel),
    Unlisten,
    Sync(Vec<Waiter>),
}

/// Whether the first Sync, behind all LISTENs, was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Beginning,
    Listening,
}

/// One connection's life.
struct Talk<'a> {
    hub: &'a Arc<Hub>,
    node: NodeName,
    feed: Feed,
    /// Channels that the server listens to, or has been told to.
    told: HashSet<Channel>,
    owed: VecDeque<Owed>,
    refused: Vec<(Channel, Report)>,
    stage: Stage,
    /// A mailbox that fills.
    fills: Option<Arc<Mailbox>>,
    /// When something was last heard, or asked of a server that owed nothing: what it owes is due from then on, however
    /// much more it is asked meanwhile.
    last: Instant,
}

impl<'a> Talk<'a> {
    fn new(hub: &'a Arc<Hub>, node: NodeName, feed: Feed) -> Self {
        let (told, owed, refused) = (HashSet::new(), VecDeque::new(), Vec::new());
        Self { hub, node, feed, told, owed, refused, stage: Stage::Beginning, fills: None, last: Instant::now() }
    }

    async fn run(&mut self, login: &Login, source: &mut watch::Receiver<Arc<Source>>, hubs: &Weak<Hubs>) -> Ended {
        let mut epochs = source.borrow().cluster.changed();
        if let Err(why) = self.say(self.hub.all_work()).await {
            return Ended::Lost(why);
        }
        loop {
            let patience = if self.owed.is_empty() { SILENCE } else { REPLY };
            let result = tokio::select! {
                heard = self.feed.hear() => match heard {
                    Ok(heard) => self.on(heard),
                    Err(error) => Err(error.to_string()),
                },
                () = self.hub.stirred() => {
                    if self.hub.is_urged() && retires(hubs, self.hub) {
                        return Ended::Unwanted;
                    }
                    self.say_if_any().await
                }
                Ok(()) = source.changed() => {
                    epochs = source.borrow().cluster.changed();
                    still_primary(&source.borrow(), login)
                }
                Ok(()) = epochs.changed() => still_primary(&source.borrow(), login),
                () = sleep_until(self.last + patience) => {
                    if !self.owed.is_empty() {
                        Err(format!("no answer within {REPLY:?}"))
                    } else if retires(hubs, self.hub) {
                        return Ended::Unwanted;
                    } else {
                        self.say(Work { channels: Vec::new(), waiting: Vec::new() }).await
                    }
                }
            };
            if let Err(why) = result {
                return Ended::Lost(why);
            }
            if let Some(mailbox) = self.fills.take() {
                mailbox.have_patience(PATIENCE).await;
            }
        }
    }

    async fn say_if_any(&mut self) -> Result<(), String> {
        let work = self.hub.work();
        if work.channels.is_empty() && work.waiting.is_empty() { Ok(()) } else { self.say(work).await }
    }

    /// Tells the server what there is to do, and has it say when all is done.
    async fn say(&mut self, work: Work) -> Result<(), String> {
        if self.owed.is_empty() {
            self.last = Instant::now();
        }
        for (channel, wanted) in work.channels {
            let name = quote_identifier(&channel);
            match wanted {
                Wanted::Yes if self.told.insert(Channel::clone(&channel)) => {
                    self.feed.say(&format!("LISTEN {name}"));
                    self.owed.push_back(Owed::Listen(channel));
                }
                Wanted::No if self.told.remove(&channel) => {
                    self.feed.say(&format!("UNLISTEN {name}"));
                    self.owed.push_back(Owed::Unlisten);
                }
                Wanted::Yes | Wanted::No => {}
            }
        }
        self.feed.sync();
        self.owed.push_back(Owed::Sync(work.waiting));
        self.feed.send(REPLY).await.map_err(|error| error.to_string())
    }

    fn on(&mut self, heard: Heard) -> Result<(), String> {
        self.last = Instant::now();
        match heard {
            Heard::Notification(body) => self.fills = self.hub.heard(body),
            Heard::Refused(report) => match self.owed.front() {
                Some(Owed::Listen(channel)) if is_about_the_name(&report) => {
                    self.told.remove(channel);
                    self.hub.refuse(channel);
                    self.refused.push((Channel::clone(channel), report));
                }
                _ => return Err(report.message),
            },
            Heard::Ready => match self.owed.pop_front() {
                Some(Owed::Sync(waiting)) => {
                    if std::mem::replace(&mut self.stage, Stage::Listening) == Stage::Beginning {
                        self.hub.connected(&self.node, self.feed.process_id());
                    }
                    self.hub.ready(waiting, &std::mem::take(&mut self.refused));
                }
                Some(Owed::Listen(_) | Owed::Unlisten) => {}
                None => return Err("the server is ready though nothing was asked".to_owned()),
            },
        }
        Ok(())
    }

    /// Those whose answer did not come.
    fn waiting(&mut self) -> Vec<Waiter> {
        let owed = std::mem::take(&mut self.owed);
        let lists =
            owed.into_iter().filter_map(|owed| if let Owed::Sync(waiting) = owed { Some(waiting) } else { None });
        lists.flatten().collect()
    }
}

/// Whether another name would be listened to; whatever else is wrong, another connection may be better.
fn is_about_the_name(report: &Report) -> bool {
    ["22", "42"].iter().any(|class| report.code.as_str().starts_with(class))
}

/// Whether `login` still leads to the primary, as far as there is one.
fn still_primary(source: &Source, login: &Login) -> Result<(), String> {
    let primary = source.cluster.view().primary.and_then(|primary| source.logins.get(primary));
    match primary {
        Some((_, now)) if now.address != login.address => Err("another node is the primary".to_owned()),
        _ => Ok(()),
    }
}
