//! The admin console on a socket: the console's own logic is the admin room's, what it asks for is done here.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use tokio::sync::{mpsc, oneshot};

use super::signals::Wanted;
use super::snapshot;
use crate::admin::command::Question;
use crate::admin::console::{Informed, parameters};
use crate::admin::show::stats;
use crate::admin::state::Period;
use crate::admin::{Action, Console, ShutdownMode, State, Step};
use crate::client::explain;
use crate::client::listener::{self, Visit};
use crate::client::services::Services;
use crate::net::wire::{Filled, Wire};
use crate::protocol::backend;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::TransactionStatus;

/// Something that only `app` can do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Reads the configuration again; says how that went.
    Reload(oneshot::Sender<Result<(), Report>>),
    /// Ends.
    Shutdown(ShutdownMode),
}

/// Serves consoles.
#[derive(Clone)]
pub(super) struct Desk {
    services: Arc<Services>,
    orders: mpsc::Sender<Order>,
    started: SystemTime,
    /// The last statistics period, and where the present one began.
    periods: Arc<Mutex<(Option<Period>, Vec<stats::DatabaseTotals>)>>,
}

/// How long PAUSE waits for servers to come back.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long a statistics period is, as PgBouncer's `stats_period`.
const PERIOD: Duration = Duration::from_secs(60);

impl Desk {
    pub(super) fn new(services: Arc<Services>, orders: mpsc::Sender<Order>, started: SystemTime) -> Self {
        Self { services, orders, started, periods: Arc::default() }
    }

    /// Keeps totals once per period, for the averages of SHOW STATS.
    pub(super) async fn keep_periods(self) {
        let mut ticks = tokio::time::interval(PERIOD);
        loop {
            ticks.tick().await;
            let totals = stats::totals(&snapshot::snapshot(&self.services, self.started));
            let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
            let from = std::mem::replace(&mut periods.1, totals.clone());
            periods.0 = Some(Period { from, to: totals, length: PERIOD });
        }
    }

    async fn converse(self, visit: Visit) {
        let Visit { mut wire, who, .. } = visit;
        let mut out = BytesMut::new();
        greet(&mut out);
        let (mut console, mut unread) = (Console::new(), BytesMut::new());
        let mut phase = self.services.phase.clone();
        loop {
            match console.receive(&mut unread, &mut out, &self) {
                Step::Read => {
                    if wire.send(&out.split()).await.is_err() {
                        return;
                    }
                    tokio::select! {
                        filled = read(&mut wire, &mut unread) => if filled.is_none() { return },
                        _ = phase.changed() => return,
                    }
                }
                Step::Perform(action) => {
                    tracing::info!(user = %who.user(), ?action, "console");
                    if wire.send(&out.split()).await.is_err() {
                        return;
                    }
                    console.complete(self.perform(action).await, &mut out);
                }
                Step::Close => {
                    let _ = wire.send(&out.split()).await;
                    return;
                }
            }
        }
    }

    async fn perform(&self, action: Action) -> Result<(), Report> {
        let services = &self.services;
        match action {
            Action::Reload => {
                let (answer, answered) = oneshot::channel();
                self.order(Order::Reload(answer)).await?;
                return answered.await.unwrap_or_else(|_| Err(ending()));
            }
            Action::Shutdown(mode) => return self.order(Order::Shutdown(mode)).await,
            Action::Pause(database) => {
                let on_servers = database.as_ref().map(|name| self.on_servers(name.as_str())).transpose()?;
                if !services.pools.pause(on_servers.as_deref(), PAUSE_TIMEOUT).await {
                    return Err(Report::error(
                        SqlState::QUERY_CANCELED,
                        "servers did not come back in time; still paused",
                    ));
                }
            }
            Action::Resume(database) => {
                let on_servers = database.as_ref().map(|name| self.on_servers(name.as_str())).transpose()?;
                services.pools.resume(on_servers.as_deref());
            }
            Action::Reconnect(database) => {
                let on_servers = database.as_ref().map(|name| self.on_servers(name.as_str())).transpose()?;
                services.pools.reconnect(on_servers.as_deref());
            }
            Action::Kill(database) => {
                let on_servers = self.on_servers(database.as_str())?;
                services.pools.pause(Some(&on_servers), Duration::ZERO).await;
                for client in services.directory.snapshot().iter().filter(|client| client.database == database) {
                    client.kill();
                }
                services.pools.reconnect(Some(&on_servers));
                for served in services.current.load().clusters.values() {
                    served.hubs.vacate(&on_servers);
                }
            }
            Action::KillClient(id) => {
                let clients = services.directory.snapshot();
                let client = clients.iter().find(|client| client.id == id);
                let unknown = || Report::error(SqlState::INVALID_PARAMETER_VALUE, format!("there is no client {id}"));
                client.ok_or_else(unknown)?.kill();
            }
        }
        Ok(())
    }

    async fn order(&self, order: Order) -> Result<(), Report> {
        self.orders.send(order).await.map_err(|_| ending())
    }

    /// What servers call a database that clients call `name`.
    fn on_servers(&self, name: &str) -> Result<String, Report> {
        let current = self.services.current.load();
        let unknown = || Report::error(SqlState::INVALID_CATALOG_NAME, format!("there is no database \"{name}\""));
        let entry = current.config.database(name).ok_or_else(unknown)?;
        let used = || self.services.pools.all().iter().any(|pool| pool.key().database.as_str() == name);
        // `*` stands for every name, but only those that somebody has used can be meant here.
        if entry.name.as_str() != name && !used() {
            return Err(unknown());
        }
        Ok(entry.server_database.as_ref().map_or_else(|| name.to_owned(), |on_servers| on_servers.as_str().to_owned()))
    }
}

fn ending() -> Report {
    Report::error(SqlState::ADMIN_SHUTDOWN, "Howdah is shutting down")
}

fn greet(out: &mut BytesMut) {
    backend::authentication(out, 0, &[]);
    for (name, value) in parameters() {
        backend::parameter_status(out, name, value);
    }
    // The console runs nothing that could be cancelled.
    backend::backend_key_data(out, 0, &[0; 4]);
    backend::ready_for_query(out, TransactionStatus::Idle);
}

/// Reads once more into `unread`; `None` at the end.
async fn read(wire: &mut Wire, unread: &mut BytesMut) -> Option<()> {
    match wire.fill(1).await {
        Ok(Filled::Bytes(_)) => {
            unread.extend_from_slice(wire.bytes());
            wire.skip();
            Some(())
        }
        Ok(Filled::End) | Err(_) => None,
    }
}

impl Informed for Desk {
    fn state(&self) -> State {
        let period = self.periods.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
        snapshot::state(&self.services, self.started, period)
    }

    fn explain(&self, question: &Question) -> Result<Vec<(String, String)>, Report> {
        let Question { database, user, statement } = question;
        explain::explain(&self.services, database.as_ref(), user.as_ref(), statement)
    }
}

impl listener::Console for Desk {
    fn serve(&self, visit: Visit) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.clone().converse(visit))
    }
}

impl super::App {
    /// Does what a console asked for, unless it is something to end with.
    pub(super) fn obey(&mut self, order: Order) -> Option<Wanted> {
        match order {
            Order::Reload(answer) => {
                // Nobody may be left to hear it.
                let _ = answer.send(self.reload());
                None
            }
            Order::Shutdown(ShutdownMode::Immediate) => Some(Wanted::Stop),
            Order::Shutdown(ShutdownMode::WaitForServers) => Some(Wanted::Drain),
            Order::Shutdown(ShutdownMode::WaitForClients) => Some(Wanted::Close),
        }
    }
}
