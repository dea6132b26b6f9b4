//! What a client's reads must have seen: what it orders, whose writes it shares, and where it says how far it is.

use std::time::Instant;

use super::attach::{AttachError, Orders};
use super::task::Client;
use crate::cluster::catalog::Contents;
use crate::cluster::{Cluster, Scope, SessionClock, WriteClock};
use crate::config::model::{self, Routing};
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::TransactionStatus;
use crate::router::view::needs::Needs;
use crate::session::settings::Value;
use crate::session::{Plan, Tx};
use crate::sql::hint::{self, Hint};
use crate::sql::reach::Reach;

/// What a transaction on the primary may have changed so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// The relations.
    reach: Reach,
    /// The moment (`Contents::settled`) for which that is true; `None` at no moment.
    moment: Option<u64>,
}

impl Changed {
    /// What it is after the batch of `plan`, too.
    pub(super) fn after(before: Option<Self>, plan: &Plan) -> Self {
        let Plan { reach, moment, .. } = *plan;
        match before {
            None => Self { reach, moment },
            Some(before) if before.moment == moment => Self { reach: before.reach.with(reach), moment },
            Some(_) => Self { reach: Reach::EVERYTHING, moment: None },
        }
    }

    /// What it is, as far as is known now: definitions may have changed before its statements ran.
    fn reach(self, contents: &Contents) -> Reach {
        if self.moment.is_some() && self.moment == contents.settled() { self.reach } else { Reach::EVERYTHING }
    }
}

/// Where a batch runs, for the clocks that later reads go by.
#[derive(Debug)]
pub(super) struct Witness<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) database: &'a WriteClock,
    pub(super) clock: &'a mut SessionClock,
    pub(super) node: usize,
    pub(super) incarnation: u64,
    /// What the database contains.
    pub(super) contents: &'a Contents,
    /// What its transaction may have changed.
    pub(super) changed: Option<Changed>,
}

impl Witness<'_> {
    /// The client is about to be told.
    pub(super) fn acknowledge(&mut self) {
        if let Some(changed) = self.changed {
            self.cluster.wrote(self.database, self.clock, changed.reach(self.contents));
        } else {
            self.cluster.read_from(self.node, self.incarnation, self.clock);
        }
    }
}

impl Client {
    /// What SET `howdah.…` has ordered.
    pub(super) fn setting_hint(&self) -> Hint {
        let settings = self.session.settings();
        if !settings.has_any("howdah.") {
            return Hint::default();
        }
        let text = |name: &str| settings.get(name).map(Value::text);
        Hint {
            route: text("howdah.route").and_then(hint::Route::parse),
            consistency: text("howdah.consistency").and_then(hint::Consistency::parse),
            max_lag: text("howdah.max_lag").and_then(hint::duration),
            min_lsn: text("howdah.min_lsn").and_then(|text| text.parse().ok()),
            scope: text(SCOPE).map(Into::into),
        }
    }

    /// Has the client share the scope that is ordered for its batch, by `hint` before its setting. A transaction keeps
    /// the one that it began with, unless a hint in it says otherwise.
    pub(super) fn share(&mut self, hint: Option<&Hint>) {
        let ordered = hint.and_then(|hint| hint.scope.as_deref());
        let by_user = self.destination.routing.scope == model::Scope::User;
        let settings = self.session.settings();
        if ordered.is_none() && !by_user && self.clock.scope().is_none() && !settings.has_any("howdah.") {
            return;
        }
        if ordered.is_none() && matches!(self.session.tx(), Tx::Open(_)) {
            return;
        }
        let key = ordered.or_else(|| settings.get(SCOPE).map(Value::text).filter(|key| !key.is_empty()));
        let scope = match (key, self.clock.scope()) {
            (Some(key), Some(Scope::Key(same))) if **same == *key => return,
            (Some(key), _) => Some(Scope::Key(key.into())),
            (None, Some(Scope::User(_))) if by_user => return,
            (None, None) if !by_user => return,
            (None, _) => by_user.then(|| Scope::User(self.info.user.clone())),
        };
        self.served.cluster.share(&mut self.clock, scope);
    }

    pub(super) fn needs(&mut self, routing: &Routing, orders: &Orders) -> Needs {
        let written = (&*self.database_clock, orders.reach(routing));
        self.served.cluster.needs(routing.consistency, written, &mut self.clock, orders.min_lsn())
    }

    /// What the batch of `plan` reads, if what it must have seen may go by that. Later statements of a transaction see
    /// what its first one saw, and may read anything.
    pub(super) fn reach_of(&self, plan: &Plan) -> Reach {
        if matches!(self.session.tx(), Tx::Idle) && plan.moment.is_some() { plan.reach } else { Reach::EVERYTHING }
    }

    /// Sets `howdah.last_lsn` for the batch that shows it.
    pub(super) async fn tell_position(&mut self) -> Result<(), AttachError> {
        if self.session.status() != TransactionStatus::Idle {
            return Ok(());
        }
        let until = Instant::now() + self.served.hold;
        let Ok(lsn) = self.served.cluster.position(&mut self.clock, until).await else {
            let words = "howdah.last_lsn is not known, because the primary did not say where its WAL ends";
            let hint = format!("clusters.{}.hold says for how long it is waited for.", self.destination.cluster);
            return Err(AttachError::Report(Report::error(SqlState::CANNOT_CONNECT_NOW, words).hint(hint)));
        };
        self.session.tell(LAST_LSN, &lsn.to_string());
        Ok(())
    }

    /// What was told for one batch is no setting of the client's.
    pub(super) fn position_told(&mut self) {
        self.session.told(LAST_LSN);
    }
}

/// The setting that names a scope.
const SCOPE: &str = "howdah.scope";
/// The setting that says what another process has to wait for.
const LAST_LSN: &str = "howdah.last_lsn";
