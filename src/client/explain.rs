//! Where a statement would go, and why: by the same steps as a client's, but for the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attach::{Orders, Situation, Wish};
use super::bring::Bring;
use super::services::{Current, Services};
use crate::cluster::SessionClock;
use crate::config::model::{Database, Destination, PoolMode, User};
use crate::config::pins::PinPolicy;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::router::reason::Reason;
use crate::router::view::needs::{Bar, Needs};
use crate::router::view::{Out, Standing, View};
use crate::router::{self, Target, Verdict};
use crate::session::pins::{Pins, Reason as Pin};
use crate::session::{Work, foreseen};
use crate::sql::catalog::Catalog;
use crate::sql::classify::culprit;
use crate::sql::hint::{self, Hint};
use crate::sql::reach::Reach;
use crate::sql::{Class, Effects, WriteReason};
use crate::types::{DatabaseName, UserName};

/// What is known of a statement: a label and a value each, for people.
pub type Facts = Vec<(String, String)>;

/// Says where the first statement of a new client of `database` would go now. The database may be left out where
/// there is only one; without a user, no user's own settings count.
///
/// # Errors
///
/// When the database or the user is not known, or it is not clear which database is meant.
pub fn explain(
    services: &Services,
    database: Option<&DatabaseName>,
    user: Option<&UserName>,
    statement: &str,
) -> Result<Facts, Report> {
    let current = services.current.load();
    let (name, destination) = destination(&current, database, user)?;
    let text = statement.as_bytes();
    let served = current.clusters.get(&destination.cluster).ok_or_else(|| no_database(&name))?;
    // Nothing is loaded for a database that need not exist.
    let contents = served.catalogs.known(&destination.server_database);
    let settled = contents.as_ref().and_then(|contents| contents.settled());
    let catalog = contents.map_or_else(|| Arc::new(Catalog::empty()), |contents| Arc::clone(&contents.get()));
    let analysis = services.classifier.analyse(text, &catalog);
    let reach = settled.map_or(Reach::EVERYTHING, |_| analysis.reach);
    let orders = Orders { batch: hint::parse(text), session: Hint::default(), bring: Bring::First, reach };
    let routing = orders.routing(&destination.routing);
    let work = match (analysis.read_only(), analysis.class()) {
        (Some(proof), _) => Work::Read(proof),
        (None, Class::Write(reason)) => Work::Write(reason),
        (None, Class::Read) => Work::Write(WriteReason::Unparsed),
    };
    let own = destination.pool.mode == PoolMode::Session;
    let situation = if own { Situation::OwnServer } else { Situation::Outside };
    let clock = served.cluster.database(&destination.server_database);
    let written = (&*clock, orders.reach(&routing));
    let needs = served.cluster.needs(routing.consistency, written, &mut SessionClock::default(), orders.min_lsn());
    let (view, now) = (served.cluster.snapshot(), Instant::now());
    let (ask, _) = Wish::of(work, &orders, situation).ask(&routing, needs);
    let (target, reason) = verdict(&router::route(ask, &view, now, services.draw()), &view);

    let mut facts = vec![("database".to_owned(), name.to_string()), ("target".to_owned(), target)];
    let mut add = |label: &str, value: String| facts.push((label.to_owned(), value));
    match reason {
        Some(reason) => {
            add("reason", reason.as_str().to_owned());
            add("because", reason.explain().to_owned());
        }
        None => add("because", format!("no replica has what it must see, and one may within {:?}", routing.wait)),
    }
    let class = match analysis.class() {
        Class::Read => "read".to_owned(),
        Class::Write(reason) => format!("write ({})", reason.as_str()),
    };
    add("class", class);
    if let Some(culprit) = culprit(text, &catalog) {
        add("decided by", culprit);
    }
    add("pins", pins(text, analysis.effects, &destination));
    add("digest", format!("{:016x}", analysis.fingerprint));
    if analysis.class() == Class::Read {
        add("consistency", format!("{:?}, max_lag {:?}", routing.consistency, routing.max_lag).to_lowercase());
        add("must have seen", seen(&needs, &view));
        let bar = Bar::new(needs, routing.max_lag, now);
        for (index, node) in view.nodes.iter().enumerate() {
            add(&format!("node {}", node.name), standing(&view, index, &bar, now));
        }
    }
    Ok(facts)
}

/// The name of the database that is meant, and where its clients are led.
fn destination(
    current: &Current,
    database: Option<&DatabaseName>,
    user: Option<&UserName>,
) -> Result<(DatabaseName, Destination), Report> {
    let config = &current.config;
    let name = match (database, config.databases.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [Database { name, .. }]) if name.as_str() != "*" => name.clone(),
        (None, _) => {
            return Err(Report::error(SqlState::SYNTAX_ERROR, "it is not clear which database is meant")
                .hint("EXPLAIN ROUTE IN database [AS user] statement"));
        }
    };
    let nobody = User::named("");
    let user = match user {
        Some(user) => config.user(user.as_str()).ok_or_else(|| {
            let message = format!("there is no user \"{user}\" in the configuration");
            Report::error(SqlState::UNDEFINED_OBJECT, message)
        })?,
        None => &nobody,
    };
    let destination = config.destination_of(user, name.as_str()).ok_or_else(|| no_database(&name))?;
    Ok((name, destination))
}

fn no_database(name: &DatabaseName) -> Report {
    Report::error(SqlState::INVALID_CATALOG_NAME, format!("there is no database \"{name}\""))
}

/// Where it goes, and why; no reason when it has to wait for a replica first.
fn verdict(verdict: &Verdict, view: &View) -> (String, Option<Reason>) {
    match verdict {
        Verdict::Go { target, reason } => {
            let kind = if matches!(target, Target::Primary(_)) { "primary" } else { "replica" };
            (format!("{kind} {}", view.nodes[target.node()].name), Some(*reason))
        }
        Verdict::Wait { .. } => ("a replica, or the primary after a wait".to_owned(), None),
        Verdict::NoPrimary { reason, .. } => ("the primary, of which there is none now".to_owned(), Some(*reason)),
    }
}

/// What it would keep its server for, and what becomes of it by the policies for that.
fn pins(text: &[u8], effects: Effects, destination: &Destination) -> String {
    let policies = Pins::new(Arc::clone(&destination.pins));
    let mut would = foreseen(text, effects);
    // Ignored, sequences are nothing to speak of.
    would.retain(|reason| *reason != Pin::Sequences || policies.policy(*reason) == PinPolicy::Pin);
    let each = would.iter().map(|reason| format!("{} ({})", reason.as_str(), policies.policy(*reason).as_str()));
    match each.collect::<Vec<_>>().join(", ") {
        _ if destination.pool.mode == PoolMode::Session => Pin::SessionMode.as_str().to_owned(),
        none if none.is_empty() => "no".to_owned(),
        some => some,
    }
}

fn seen(needs: &Needs, view: &View) -> String {
    let mut all = Vec::new();
    match (needs.round, view.samples.token(needs.round)) {
        (0, _) => {}
        (_, Some(lsn)) => all.push(format!("the WAL up to {lsn}")),
        (_, None) => all.push("the WAL up to where the primary is now, which has not been asked yet".to_owned()),
    }
    if needs.min_lsn.0 != 0 {
        all.push(format!("the WAL up to {} (howdah.min_lsn)", needs.min_lsn));
    }
    if all.is_empty() { "nothing beyond max_lag".to_owned() } else { all.join(", and ") }
}

fn standing(view: &View, index: usize, bar: &Bar, now: Instant) -> String {
    let state = || format!("{}, {}", view.nodes[index].role.as_str(), view.nodes[index].state.as_str());
    let replayed = || {
        let replay = view.nodes[index].replay.map_or_else(|| "nothing known".to_owned(), |at| at.lsn.to_string());
        let lag = view.lag(index, now).time.map_or_else(|| "unknown".to_owned(), milliseconds);
        format!("replayed {replay}, lag {lag}")
    };
    match view.standing(index, bar) {
        Standing::Fresh(_) => format!("has seen enough: {}", replayed()),
        Standing::Behind(by) => {
            format!("not known to have seen enough, behind for {}: {}", milliseconds(by), replayed())
        }
        Standing::Out(Out::NotReplica) => state(),
        Standing::Out(Out::Unavailable | Out::Paused) => format!("gets no reads: {}", state()),
        Standing::Out(Out::Lagging) => format!("lags more than max_lag: {}", replayed()),
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
