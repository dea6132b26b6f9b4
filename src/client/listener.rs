//! Accepting connections: each becomes a task, within bounds, and ends as a client, a console or a cancel request.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::directory::{Arrival, Encryption, Place};
use super::services::{Served, Services};
use super::startup::{self, Opening};
use super::task::{Attachment, Client};
use super::{answer, authenticate};
use crate::auth::Authenticated;
use crate::cluster::SessionClock;
use crate::config::model::{Destination, PoolMode};
use crate::net::stream::Stream;
use crate::net::wire::Wire;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::startup::{self as packets, StartupMessage};
use crate::server::own::OwnError;
use crate::session::Session;
use crate::session::parameters::Parameters;
use crate::session::pins::Pins;
use crate::session::settings::Settings;

/// Who serves the admin console; made by `app`, because the console is above this room.
pub trait Console: Send + Sync {
    /// Serves an administrator until they leave.
    fn serve(&self, visit: Visit) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// An administrator who has logged in to the console.
#[derive(Debug)]
pub struct Visit {
    /// The connection; nothing has been said after authentication.
    pub wire: Wire,
    /// Who they are.
    pub who: Authenticated,
    /// What they call themselves.
    pub application_name: String,
}

/// Databases that are the console.
const CONSOLES: [&str; 2] = ["howdah", "pgbouncer"];

/// A connection that was just accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket.
    pub socket: startup::Socket,
    /// Where it comes from.
    pub peer: Option<std::net::SocketAddr>,
    /// Its place among the clients.
    pub place: Place,
}

/// Serves one connection from its first byte to its last.
pub async fn serve(services: Arc<Services>, console: Arc<dyn Console>, accepted: Accepted) {
    let _place = accepted.place;
    let current = services.current.load_full();
    let deadline = Instant::now() + current.config.limits.login_timeout;
    let opening = startup::accept(accepted.socket, current.tls.clone(), current.config.tls.mode, deadline).await;
    match opening {
        Ok(Opening::Cancel { process_id, key }) => {
            let timeout = current.config.limits.cancel_timeout;
            let canceled = services.cancels.cancel(process_id, &key, timeout).await;
            services.counters.cancels.increment();
            tracing::debug!(?canceled, "cancel request");
        }
        Ok(Opening::Client(arrived)) => {
            Box::pin(log_in(services, console, arrived, accepted.peer, deadline)).await;
        }
        Err(error) => tracing::debug!(%error, "connection ended before it began"),
    }
}

async fn log_in(
    services: Arc<Services>,
    console: Arc<dyn Console>,
    mut arrived: startup::Arrived,
    peer: Option<std::net::SocketAddr>,
    deadline: Instant,
) {
    match prepare(&services, &mut arrived, peer, deadline).await {
        Ok(Prepared::Client(seed)) => {
            let client = seed.grow(Arc::clone(&services), arrived.stream);
            Box::pin(run(client)).await;
        }
        Ok(Prepared::Console(who)) => {
            let wire = Wire::new(arrived.stream, Arc::clone(&services.stash), BytesMut::new());
            let application_name = arrived.message.get("application_name").unwrap_or_default().to_owned();
            console.serve(Visit { wire, who, application_name }).await;
        }
        Err(report) => {
            services.counters.login_failures.increment();
            tracing::info!(?peer, code = report.code.as_str(), message = %report.message, "login refused");
            let mut wire = Wire::new(arrived.stream, Arc::clone(&services.stash), BytesMut::new());
            let _ = tokio::time::timeout_at(deadline.into(), wire.send(&answer::farewell(&report))).await;
            wire.shutdown().await;
        }
    }
}

async fn run(mut client: Client) {
    if client.greet().await.is_ok() {
        client.run().await;
    }
}

enum Prepared {
    Client(Box<Seed>),
    Console(Authenticated),
}

/// All that a client is made of, but for its stream.
struct Seed {
    who: Authenticated,
    served: Arc<Served>,
    destination: Destination,
    generation: u64,
    settings: Arc<Settings>,
    believed: Arc<Parameters>,
    arrival: Arrival,
    minor: u16,
}

async fn prepare(
    services: &Arc<Services>,
    arrived: &mut startup::Arrived,
    peer: Option<std::net::SocketAddr>,
    deadline: Instant,
) -> Result<Prepared, Report> {
    let current = services.current.load_full();
    let user = arrived.message.get("user").unwrap_or_default().to_owned();
    if user.is_empty() {
        let words = "no PostgreSQL user name specified in startup packet";
        return Err(Report::fatal(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, words));
    }
    let database = arrived.message.get("database").filter(|name| !name.is_empty()).unwrap_or(&user).to_owned();
    let who = authenticate::run(arrived, current.config.auth, &current.users, &user, deadline).await?;
    if CONSOLES.contains(&database.as_str()) {
        if current.config.admin.users.iter().any(|admin| admin.as_str() == user) {
            return Ok(Prepared::Console(who));
        }
        let words = format!("user \"{user}\" may not use the admin console");
        return Err(Report::fatal(SqlState::INSUFFICIENT_PRIVILEGE, words).hint("Add the user to admin.users."));
    }
    if arrived.message.get("replication").is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0")) {
        let words = "replication connections are not supported";
        return Err(Report::fatal(SqlState::FEATURE_NOT_SUPPORTED, words).hint("Connect to the server itself."));
    }
    let unknown = || Report::fatal(SqlState::INVALID_CATALOG_NAME, format!("database \"{database}\" does not exist"));
    let destination = current.config.destination(&user, &database).ok_or_else(unknown)?;
    let served = current.clusters.get(&destination.cluster).cloned().ok_or_else(unknown)?;
    let settings = Arc::new(startup_settings(&arrived.message)?);
    let wait = destination.pool.wait_timeout;
    let greeting = greeting(services, &served, &destination, &settings);
    let believed = match tokio::time::timeout(wait, greeting).await {
        Ok(believed) => believed?,
        Err(_) => return Err(answer::no_primary(destination.cluster.as_str())),
    };
    let arrival = Arrival {
        user: user.as_str().into(),
        database: database.as_str().into(),
        peer,
        encryption: if arrived.stream.is_tls() { Encryption::Tls } else { Encryption::Plain },
        application_name: arrived.message.get("application_name").unwrap_or_default().to_owned(),
        now: Instant::now(),
    };
    let (generation, minor) = (current.generation, arrived.minor);
    let seed = Seed { who, served, destination, generation, settings, believed, arrival, minor };
    Ok(Prepared::Client(Box::new(seed)))
}

/// The settings that a startup packet makes: its parameters, and those inside `options`.
fn startup_settings(message: &StartupMessage) -> Result<Settings, Report> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in message.iter() {
        match name {
            "user" | "database" | "replication" => {}
            name if name.starts_with("_pq_.") => {}
            "options" => all.extend(packets::options(value)?),
            name => all.push((name.to_owned(), value.to_owned())),
        }
    }
    Ok(Settings::from_startup(all.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
}

/// What the client's one server would report of itself: learnt from a server that has these settings.
async fn greeting(
    services: &Arc<Services>,
    served: &Arc<Served>,
    destination: &Destination,
    settings: &Arc<Settings>,
) -> Result<Arc<Parameters>, Report> {
    let hold = Instant::now() + served.hold;
    let node = loop {
        let view = served.cluster.view();
        if let Some(node) = view.primary {
            break node;
        }
        if served.cluster.hold(hold).await.is_err() {
            return Err(fatal(answer::no_primary(destination.cluster.as_str())));
        }
    };
    let unknown = || fatal(answer::no_primary(destination.cluster.as_str()));
    let pool = served.pool(services, destination, node).ok_or_else(unknown)?;
    if let Some(parameters) = services.greeting(pool.key(), settings, Instant::now()) {
        return Ok(parameters);
    }
    let mut lease = pool.checkout().await.map_err(|error| {
        if error.blames_node() {
            served.cluster.suspect(node);
        }
        fatal(error.report())
    })?;
    if let Some(sql) = lease.carried.settings.difference(settings) {
        let timeout = services.limits().cancel_timeout;
        match lease.run_own(&sql, timeout).await {
            Ok(_) => lease.carried.settings = Arc::clone(settings),
            Err(OwnError::Refused(body)) => return Err(fatal(super::attach::AttachError::Relayed(body).into())),
            Err(OwnError::Lost | OwnError::Timeout) => {
                return Err(fatal(answer::server_lost(answer::Wrote::Nothing)));
            }
        }
    }
    let parameters = Arc::clone(&lease.carried.parameters);
    services.learn_greeting(pool.key().clone(), Arc::clone(settings), Arc::clone(&parameters), Instant::now());
    Ok(parameters)
}

fn fatal(report: Report) -> Report {
    Report { severity: crate::protocol::error::Severity::Fatal, ..report }
}

impl Seed {
    fn grow(self, services: Arc<Services>, stream: Stream) -> Client {
        let key = services.cancels.issue(self.minor);
        let pins = match self.destination.pool.mode {
            PoolMode::Session => Pins::for_session_mode(),
            PoolMode::Transaction => Pins::default(),
        };
        let session = Session::new(&self.who, Arc::clone(&services.registry), self.settings, self.believed, pins);
        let info = services.directory.add(self.arrival);
        Client {
            wire: Wire::new(stream, Arc::clone(&services.stash), BytesMut::new()),
            contents: self.served.catalogs.of(&self.destination.server_database),
            database_clock: self.served.cluster.database(&self.destination.server_database),
            clock: SessionClock::default(),
            served: self.served,
            destination: self.destination,
            generation: self.generation,
            info,
            key,
            session,
            services,
            attachment: Attachment::Detached,
            frames: Vec::new(),
            pools: Vec::new(),
            dirty: false,
        }
    }
}
