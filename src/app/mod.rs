//! The composition root: a configuration becomes tasks, a changed one becomes changes, a signal an end.
//!
//! The only room that knows all others. Every task lives in a set that ends with this room.

mod build;
mod catalogs;
mod console;
mod defaults;
mod reload;
mod signals;
mod snapshot;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::client::directory::Directory;
use crate::client::listener::{self, Accepted, Console};
use crate::client::services::{Phase, Services};
use crate::config::model::{Config, Listen};
use crate::net::listen::Listener;
use crate::net::worker::Workers;
use crate::telemetry::http;
use crate::telemetry::trace::Level;
pub use build::BuildError;
use signals::Wanted;

/// Why Howdah could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A socket could not be opened.
    #[error("cannot listen: {0}")]
    Listen(std::io::Error),
    /// The metrics endpoint could not be opened.
    #[error("metrics.address: cannot listen on {address}: {error}")]
    Metrics {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// Threads could not be started.
    #[error("cannot start workers: {0}")]
    Workers(std::io::Error),
    /// Signals could not be caught.
    #[error("cannot catch signals: {0}")]
    Signals(std::io::Error),
    /// The configuration asks for what cannot be made.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Everything that runs.
pub(crate) struct App {
    pub(crate) services: Arc<Services>,
    /// Where the configuration was read from.
    pub(crate) path: PathBuf,
    /// Tasks of clusters, catalogs and the rest.
    pub(crate) tasks: JoinSet<()>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) level: Option<Level>,
    pub(crate) orders: mpsc::Receiver<console::Order>,
}

/// How often pools are tended to.
const TEND: Duration = Duration::from_secs(1);

/// Orders from consoles that may wait to be carried out.
const ORDERS: usize = 16;

/// Runs Howdah until a signal or SHUTDOWN ends it.
pub async fn run(config: Config, path: PathBuf, level: Option<Level>) -> Result<(), AppError> {
    let mut tasks = JoinSet::new();
    let (phase, watched) = watch::channel(Phase::Running);
    let workers = Arc::new(Workers::start(config.workers).map_err(AppError::Workers)?);
    let listeners = bind(&config.listen, workers.first())?;
    let metrics = bind_metrics(&config).await?;
    let shutdown_timeout = config.shutdown_timeout;
    let (current, begun) = build::current(config, None, &mut tasks)?;
    let services = Arc::new(Services::new(current, watched, Arc::clone(&workers)));
    begun.spawn(&services, &mut tasks);
    let (order, orders) = mpsc::channel(ORDERS);
    let started = SystemTime::now();
    let desk = console::Desk::new(Arc::clone(&services), order, started);
    tasks.spawn(desk.clone().keep_periods());
    let console: Arc<dyn Console> = Arc::new(desk);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn_on(accept(listener, Arc::clone(&services), Arc::clone(&console)), workers.first());
    }
    if let Some(listener) = metrics {
        let source = Arc::clone(&services);
        tasks.spawn(async move {
            http::serve(listener, Arc::new(move || snapshot::snapshot(&source, started))).await;
        });
    }
    tasks.spawn(tend(Arc::clone(&services)));
    let adapting = Arc::clone(&workers);
    tasks.spawn(async move { adapting.adapt().await });
    let mut app = App { services, path, tasks, phase, level, orders };
    let signals = signals::Signals::new().map_err(AppError::Signals)?;
    app.attend(signals, shutdown_timeout).await;
    accepting.shutdown().await;
    workers.stop().await;
    app.services.pools.close();
    app.tasks.shutdown().await;
    Ok(())
}

impl App {
    /// Waits for signals and orders, and obeys them.
    async fn attend(&mut self, mut signals: signals::Signals, timeout: Duration) {
        loop {
            let wanted = tokio::select! {
                wanted = signals.next() => wanted,
                Some(order) = self.orders.recv() => match self.obey(order) {
                    Some(wanted) => wanted,
                    None => continue,
                },
            };
            match wanted {
                Wanted::Reload => {
                    if let Err(report) = self.reload() {
                        tracing::error!(message = %report.message, "configuration not reloaded");
                    }
                }
                Wanted::Close => {
                    if self.close(&mut signals).await == Wanted::Drain {
                        self.drain(&mut signals, timeout).await;
                    }
                    return;
                }
                Wanted::Drain => {
                    self.drain(&mut signals, timeout).await;
                    return;
                }
                Wanted::Stop => {
                    tracing::info!("stopping now");
                    return;
                }
            }
        }
    }

    /// Takes no new clients and waits until the others have left; a signal says how to end before.
    async fn close(&self, signals: &mut signals::Signals) -> Wanted {
        tracing::info!(clients = self.services.directory.connected(), "waiting for clients to leave");
        self.phase.send_replace(Phase::Closed);
        let directory = Arc::clone(&self.services.directory);
        let gone = async {
            while directory.connected() > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::pin!(gone);
        loop {
            tokio::select! {
                () = &mut gone => return Wanted::Stop,
                wanted = signals.next() => if wanted != Wanted::Reload { return wanted },
            }
        }
    }

    /// Takes no new clients, lets the others end their transactions, and ends when they have.
    async fn drain(&mut self, signals: &mut signals::Signals, timeout: Duration) {
        tracing::info!(clients = self.services.directory.connected(), "draining");
        self.phase.send_replace(Phase::Draining);
        let deadline = Instant::now() + timeout;
        let directory = Arc::clone(&self.services.directory);
        let gone = async {
            while directory.connected() > 0 && Instant::now() < deadline {
                poke(&directory);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::pin!(gone);
        loop {
            tokio::select! {
                () = &mut gone => break,
                wanted = signals.next() => if wanted != Wanted::Reload { break },
            }
        }
    }
}

fn poke(directory: &Directory) {
    for client in directory.snapshot() {
        client.poke();
    }
}

/// Opens all sockets, for tasks of `runtime` to accept from.
fn bind(listens: &[Listen], runtime: &tokio::runtime::Handle) -> Result<Vec<Listener>, AppError> {
    let _entered = runtime.enter();
    let mut listeners = Vec::new();
    for listen in listens {
        let listener = Listener::bind(listen).map_err(AppError::Listen)?;
        tracing::info!(address = ?listener.local_address(), "listening");
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn bind_metrics(config: &Config) -> Result<Option<tokio::net::TcpListener>, AppError> {
    let Some(address) = config.metrics else { return Ok(None) };
    let bound = tokio::net::TcpListener::bind(address).await;
    bound.map(Some).map_err(|error| AppError::Metrics { address, error })
}

/// Accepts connections for as long as it is let; each lives on a worker.
async fn accept(listener: Listener, services: Arc<Services>, console: Arc<dyn Console>) {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        listener::serve(Arc::clone(&services), Arc::clone(&console), Accepted { socket, peer });
    }
}

async fn tend(services: Arc<Services>) {
    let mut ticks = tokio::time::interval(TEND);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        services.pools.tend();
    }
}
