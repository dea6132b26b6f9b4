//! Accepting connections: each becomes a task, within bounds, and ends as a client, a console or a cancel request.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::authenticate::{Talk, Who};
use super::directory::{Arrival, Place};
use super::replication::Passage;
use super::services::{Current, Served, Services};
use super::startup::{self, Opening, StartupError, Terms};
use super::task::{self, Attachment, Attention, Client};
use super::{answer, authenticate, replication};
use crate::auth::Authenticated;
use crate::cluster::SessionClock;
use crate::config::hba;
use crate::config::model::{Destination, PoolMode, User};
use crate::net::deadline::Deadline;
use crate::net::listen::ClientAddress;
use crate::net::stream::Stream;
use crate::net::wire::Wire;
use crate::net::worker::{self, Seat};
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::startup::{self as packets, Replication, StartupMessage};
use crate::server::own::OwnError;
use crate::session::Session;
use crate::session::parameters::Parameters;
use crate::session::pins::Pins;
use crate::session::settings::Settings;
use crate::sql::Effects;
use crate::types::ClusterName;

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

/// A connection that was just accepted by this thread, and may be served by another.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket.
    pub socket: Stream,
    /// Where it comes from.
    pub peer: ClientAddress,
}

/// What a connection is doing until it is served. Each phase is a future of its own that ends with the next one, so that a
/// client does not carry the memory that its login took.
type Phase = std::pin::Pin<Box<dyn Future<Output = Next> + Send>>;

/// What follows a phase.
pub(super) enum Next {
    /// Nothing.
    End,
    /// Another.
    Phase(Phase),
    /// Being served.
    Served(Box<Client>),
}

/// Has a worker serve one connection.
pub fn serve(services: Arc<Services>, console: Arc<dyn Console>, accepted: Accepted) {
    let Accepted { socket, peer } = accepted;
    let (place, others) = services.directory.enter();
    let crowded = others >= services.current.load().config.limits.max_clients;
    let seat = services.workers.seat();
    let unopened = Unopened { socket, worker: worker::here(), peer, place, crowded, seat };
    let workers = Arc::clone(&services.workers);
    workers.spawn(seat, task::live(Next::Phase(Box::pin(open(services, console, unopened)))));
}

/// A connection that has said nothing.
struct Unopened {
    socket: Stream,
    /// The worker that its socket is registered with.
    worker: usize,
    peer: ClientAddress,
    place: Place,
    /// Whether there are as many clients as may be.
    crowded: bool,
    seat: Seat,
}

/// The first phase: what the connection is for.
async fn open(services: Arc<Services>, console: Arc<dyn Console>, unopened: Unopened) -> Next {
    let Unopened { mut socket, worker, peer, place, crowded, seat } = unopened;
    if worker != worker::here()
        && let Err(error) = socket.settle()
    {
        tracing::warn!(%peer, %error, "cannot serve a connection");
        return Next::End;
    }
    let current = services.current.load_full();
    let deadline = Deadline::after(current.config.limits.login_timeout);
    let terms = Terms { mode: current.config.tls.mode, acceptor: current.tls.as_ref(), max_minor: current.max_minor() };
    match startup::accept(socket, terms, deadline).await {
        Ok(Opening::Cancel { stream, process_id, key }) => {
            let canceled = services.cancels.cancel(process_id, &key, current.config.limits.cancel_timeout).await;
            services.counters.canceled(canceled);
            tracing::debug!(?canceled, "cancel request");
            drop(stream);
            Next::End
        }
        Ok(Opening::Client(arrived)) => {
            let visitor = Visitor { arrived, peer, place, crowded, deadline, seat };
            Next::Phase(Box::pin(log_in(services, console, visitor)))
        }
        Err(StartupError::Closed) => Next::End,
        Err(error) => {
            tracing::info!(%peer, %error, "connection ended before it began");
            Next::End
        }
    }
}

/// Room for all that most clients are told until they are ready.
const GREETING: usize = 1024;

/// A client that has not proved who it is.
struct Visitor {
    arrived: Box<startup::Client>,
    peer: ClientAddress,
    place: Place,
    /// Whether there are as many clients as may be.
    crowded: bool,
    deadline: Deadline,
    seat: Seat,
}

/// The second phase: who it is.
async fn log_in(services: Arc<Services>, console: Arc<dyn Console>, mut visitor: Visitor) -> Next {
    let mut out = BytesMut::with_capacity(GREETING);
    match prepare(&services, &mut visitor, &mut out).await {
        Ok(Prepared::Client(seed)) => {
            let mut client = seed.grow(services, visitor);
            match client.greet(out).await {
                Ok(()) => Next::Served(client),
                Err(_) => Next::End,
            }
        }
        Ok(Prepared::Replication(passage)) => {
            let Visitor { arrived, place, deadline, .. } = visitor;
            Next::Phase(Box::pin(async move {
                let _place = place;
                replication::pass(services, *arrived, *passage, deadline).await;
                Next::End
            }))
        }
        Ok(Prepared::Console(who, arrival)) => {
            // Listed among the clients for as long as it is here.
            // Nothing of the console's is a process.
            let _entry = services.directory.add(0, arrival);
            let startup::Client { stream, ahead, message, .. } = *visitor.arrived;
            let mut wire = Wire::new(stream, Arc::clone(&services.stash), &ahead);
            let application_name = message.get("application_name").unwrap_or_default().to_owned();
            if wire.send(&out).await.is_ok() {
                console.serve(Visit { wire, who, application_name }).await;
            }
            Next::End
        }
        Err(refusal) => {
            services.counters.login_failures.increment();
            let Some(report) = refusal else { return Next::End };
            services.counters.errors.record(report.code.0);
            tracing::info!(peer = %visitor.peer, code = report.code.as_str(), message = %report.message, "login refused");
            let mut wire = Wire::new(visitor.arrived.stream, Arc::clone(&services.stash), &[]);
            let _ = visitor.deadline.run(wire.send(&answer::error(&report))).await;
            wire.shutdown().await;
            Next::End
        }
    }
}

enum Prepared {
    Client(Box<Seed>),
    Replication(Box<Passage>),
    Console(Authenticated, Arrival),
}

/// All that a client is made of, but for its stream.
struct Seed {
    who: Authenticated,
    found: Option<Box<User>>,
    served: Arc<Served>,
    destination: Arc<Destination>,
    current: Arc<Current>,
    settings: Arc<Settings>,
    believed: Arc<Parameters>,
    arrival: Arrival,
    minor: u16,
}

/// Has the visitor prove who it is, and finds out what it is told first. `out` is what the greeting begins with;
/// an error of `None` means that there is nobody left to tell.
async fn prepare(
    services: &Arc<Services>,
    visitor: &mut Visitor,
    out: &mut BytesMut,
) -> Result<Prepared, Option<Report>> {
    let current = services.current.load_full();
    let startup::Client { stream, ahead, message, minor, tls } = &mut *visitor.arrived;
    let user = message.user().to_owned();
    let database = message.database().to_owned();
    if services.is_closed() {
        return Err(Some(Report::fatal(SqlState::CANNOT_CONNECT_NOW, "Howdah is shutting down")));
    }
    let is_admin = current.config.admin.users.iter().any(|admin| admin.as_str() == user);
    if visitor.crowded && !is_admin {
        let report = Report::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already");
        return Err(Some(report.hint("Raise limits.max_clients.")));
    }
    let address = match visitor.peer {
        ClientAddress::Tcp(address) => Some(address.ip()),
        ClientAddress::Unix => None,
    };
    let replication = message.replication().map_err(|fault| fault.report(0))?;
    let physical = replication == Replication::Physical;
    let of = (!physical).then_some(database.as_str());
    let asked = hba::Visitor { user: &user, database: of, address, tls: stream.is_tls() };
    let method = current.config.auth.method(&asked).map_err(|refusal| {
        let report = Report::fatal(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, refusal.to_string());
        Some(report.hint("auth.hba_file says who may log in from where."))
    })?;
    let found = match (&current.config.auth_query, current.config.database(&database)) {
        (Some(query), Some(entry)) if !current.users.contains(&user) && !CONSOLES.contains(&database.as_str()) => {
            look_up(&current, query, &entry.cluster, &user, visitor.deadline).await.map_err(Some)?
        }
        _ => None,
    };
    let looked_up = found.as_ref().map(|found| current.users.with(found));
    let who = Who { method, users: looked_up.as_ref().unwrap_or(&current.users), user: &user, tls: tls.as_ref() };
    let who = authenticate::run(stream, who, rand::random(), visitor.deadline, Talk { out, ahead }).await;
    let who = who.map_err(|error| error.report())?;
    let arrival = Arrival {
        user: user.into(),
        database: database.into(),
        ends: stream.ends(),
        encryption: stream.encryption(),
        replication,
        application_name: message.get("application_name").unwrap_or_default().to_owned(),
        now: Instant::now(),
    };
    if CONSOLES.contains(&arrival.database.as_str()) && replication == Replication::None {
        if is_admin {
            return Ok(Prepared::Console(who, arrival));
        }
        let words = format!("user \"{}\" may not use the admin console", arrival.user);
        return Err(Some(Report::fatal(SqlState::INSUFFICIENT_PRIVILEGE, words).hint("Add the user to admin.users.")));
    }
    if replication != Replication::None {
        let (destination, served) = led(&current, found.as_deref(), &arrival)?;
        share_proof(services, &who, &destination);
        let opened = replication::open(services, &served, &destination, arrival, message, out).await;
        return opened.map(|passage| Prepared::Replication(Box::new(passage))).map_err(|report| Some(fatal(report)));
    }
    let seed = welcome(services, (who, found), arrival, message, *minor).await.map_err(Some)?;
    Ok(Prepared::Client(Box::new(seed)))
}

/// Asks the servers about a user who is not in the configuration.
async fn look_up(
    current: &Current,
    query: &str,
    cluster: &ClusterName,
    user: &str,
    deadline: Deadline,
) -> Result<Option<Box<User>>, Report> {
    let Some(served) = current.clusters.get(cluster) else { return Ok(None) };
    let late = |_| Report::fatal(SqlState::QUERY_CANCELED, "canceling authentication due to timeout");
    let found = deadline.run(Box::pin(served.lookup.find(served, query, user))).await.map_err(late)?;
    found.map(|found| found.map(Box::new)).map_err(|error| {
        tracing::warn!(%cluster, user, %error, "user could not be looked up");
        error.report(user)
    })
}

/// Where the client is led. `found` is a user who is not in the configuration.
fn led(current: &Current, found: Option<&User>, arrival: &Arrival) -> Result<(Arc<Destination>, Arc<Served>), Report> {
    let Arrival { user, database, replication, .. } = arrival;
    let unknown = || Report::fatal(SqlState::INVALID_CATALOG_NAME, format!("database \"{database}\" does not exist"));
    let known = found.or_else(|| current.config.user(user.as_str())).ok_or_else(unknown)?;
    let destination = replication::destination_of(current, known, database, *replication).ok_or_else(unknown)?;
    let served = current.clusters.get(&destination.cluster).cloned().ok_or_else(unknown)?;
    Ok((destination, served))
}

/// Servers without a password of their own are logged in to with what the user has shown.
fn share_proof(services: &Services, who: &Authenticated, destination: &Destination) {
    if let (Some(proof), None) = (who.proof(), &destination.server_password)
        && destination.server_user == *who.user()
    {
        services.proved(who.user(), proof);
    }
}

/// Where the client is served, and what it is told first. `found` is a user who is not in the configuration.
async fn welcome(
    services: &Arc<Services>,
    (who, found): (Authenticated, Option<Box<User>>),
    arrival: Arrival,
    message: &StartupMessage,
    minor: u16,
) -> Result<Seed, Report> {
    let current = services.current.load_full();
    let (destination, served) = led(&current, found.as_deref(), &arrival)?;
    share_proof(services, &who, &destination);
    let mut settings = services.registry.sets.one(Arc::new(startup_settings(message)?));
    let wait = destination.pool.wait_timeout;
    let greeting = greeting(services, &served, &destination, &mut settings);
    let believed = match tokio::time::timeout(wait, greeting).await {
        Ok(believed) => believed?,
        Err(_) => return Err(answer::no_primary(destination.cluster.as_str())),
    };
    Ok(Seed { who, found, served, destination, current, settings, believed, arrival, minor })
}

/// The settings that a startup packet makes: its parameters, and those inside `options`.
fn startup_settings(message: &StartupMessage) -> Result<Settings, Report> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in &message.parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            name if name.starts_with("_pq_.") => {}
            "options" => all.extend(packets::options(value).map_err(|error| error.report())?),
            _ => all.push((name.clone(), value.clone())),
        }
    }
    Ok(Settings::from_startup(all.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
}

/// What the client's one server would report of itself: learnt from a server that has these settings.
async fn greeting(
    services: &Arc<Services>,
    served: &Arc<Served>,
    destination: &Destination,
    settings: &mut Arc<Settings>,
) -> Result<Arc<Parameters>, Report> {
    let node = served.primary(destination).await.map_err(fatal)?;
    let unknown = || fatal(answer::no_primary(destination.cluster.as_str()));
    let pool = served.pool(services, destination, node).ok_or_else(unknown)?;
    if let Some(parameters) = services.greeting(pool.key(), settings, Instant::now()) {
        return Ok(parameters);
    }
    let mut lease = pool.checkout(settings).await.map_err(|error| {
        if error.blames_node() {
            served.cluster.suspect(node);
        }
        fatal(error.report())
    })?;
    if let Some(difference) = lease.carried.settings.difference(settings) {
        let timeout = services.current.load().config.limits.cancel_timeout;
        match lease.run_own(&difference.to_query(), timeout).await {
            Ok(_) => lease.carried.settings = Arc::clone(settings),
            Err(OwnError::Refused(body)) => {
                lease.break_off("settings refused");
                return Err(fatal(super::attach::AttachError::Relayed(body).into()));
            }
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
    fn grow(mut self, services: Arc<Services>, visitor: Visitor) -> Box<Client> {
        let Visitor { arrived, place, seat, .. } = visitor;
        let startup::Client { stream, ahead, .. } = *arrived;
        let key = services.cancels.issue(self.minor);
        let pins = match self.destination.pool.mode {
            PoolMode::Session => Pins::for_session_mode(Arc::clone(&self.destination.pins)),
            PoolMode::Transaction | PoolMode::Statement => Pins::new(Arc::clone(&self.destination.pins)),
        };
        let session = Session::new(&self.who, Arc::clone(&services.registry), self.settings, self.believed, pins);
        let Arrival { database, user, .. } = &mut self.arrival;
        let stats = services.counters.of(database, user);
        stats.of(worker::here()).logins.increment();
        let info = services.directory.add(key.process_id, self.arrival);
        Box::new(Client {
            wire: Wire::new(stream, Arc::clone(&services.stash), &ahead),
            contents: self.served.catalogs.of(&self.destination.server_database),
            database_clock: self.served.cluster.database(&self.destination.server_database),
            clock: SessionClock::default(),
            served: self.served,
            destination: self.destination,
            current: self.current,
            // A reload may have come while it logged in.
            attention: Attention::Due,
            info,
            key,
            found: self.found,
            named: Arc::clone(&session.believed),
            session,
            services,
            attachment: Attachment::Detached,
            frames: SmallVec::new(),
            pools: SmallVec::new(),
            wrote_on: None,
            pending: Effects::default(),
            ear: None,
            stats,
            counted: (0, 0),
            seat,
            _place: place,
        })
    }
}
