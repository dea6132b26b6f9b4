//! What becomes of a statement after which a client would keep its server: it is refused, before it takes effect, when
//! the policy for that says so, or when too many clients keep servers already.
//!
//! Only what a statement's own words tell counts here. What the code that it calls may do is a guess, and no ground to
//! refuse anything: that pins, or is ignored, when it has happened.

use std::sync::Arc;

use super::Session;
use super::carried::Carried;
use super::encode::Upstream;
use super::pins::{Cause, Reason, Refusal, Scrub};
use crate::config::pins::{PinPolicy, PinSettings};
use crate::protocol::error::Report;
use crate::protocol::frontend;
use crate::protocol::replies::{Kind, Whose};
use crate::protocol::sqlstate::SqlState;
use crate::sql::command::{self, Command, Parsed, Value};
use crate::sql::{self, Effects};

/// What pins for what, and what removes it from a server.
pub(super) const WATCHED: [(Effects, Reason, Scrub); 4] = [
    (Effects::TEMPORARY, Reason::Temporary, Scrub::Discard),
    (Effects::ADVISORY_LOCK, Reason::AdvisoryLock, Scrub::Discard),
    (Effects::SET_CONFIG_OPAQUE, Reason::SessionState, Scrub::Discard),
    // The seed of `setseed` outlives DISCARD ALL.
    (Effects::SESSION_STATE, Reason::SessionState, Scrub::Close),
];

/// What `text`, which has these `effects`, would pin a client for that has nothing yet, outside of a transaction block.
#[must_use]
pub fn foreseen(text: &[u8], effects: Effects) -> Vec<Reason> {
    let statements = if effects.has(Effects::COMMANDS) { command::parse(text) } else { Vec::new() };
    let mut reasons: Vec<_> = statements.iter().filter_map(|statement| of_command(&statement.command)).collect();
    if statements.iter().flat_map(|statement| &statement.set_configs).any(is_unknown) {
        reasons.push(Reason::SessionState);
    }
    // What ends with the transaction pins nothing.
    let (own, lasting) = (sql::own(text), sql::lasting(text));
    let effects = effects.without(own).with(lasting);
    reasons.extend(WATCHED.iter().filter(|(watched, ..)| effects.has(*watched)).map(|(_, reason, _)| *reason));
    if effects.has(Effects::MOVES_SEQUENCE) {
        reasons.push(Reason::Sequences);
    }
    reasons
}

fn of_command(command: &Command) -> Option<Reason> {
    match command {
        Command::Declare { hold: true, .. } => Some(Reason::HoldCursor),
        Command::Prepare(_) => Some(Reason::Prepare),
        Command::Load => Some(Reason::Load),
        _ => None,
    }
}

impl Session {
    /// Follows other settings about pins, for statements from now on.
    pub fn obey(&mut self, settings: &Arc<PinSettings>) {
        self.pins.obey(Arc::clone(settings));
    }

    /// After a batch: counts the server, in its pool, among those that are pinned, or no longer.
    pub fn settle_pins(&mut self, carried: &Carried) {
        self.pins.settle(&carried.room);
    }

    /// The server goes back: what policies had ignored is left to whoever cleans it.
    pub fn forget_pins(&mut self) {
        self.pins.forget();
    }

    /// The statements that were refused since this was last asked.
    pub fn take_refusals(&mut self) -> Vec<Refusal> {
        self.pins.take_refusals()
    }

    /// Effects with those that depend on the client's settings.
    pub(super) fn with_settings(&self, effects: Effects) -> Effects {
        let in_temporary_schema = |value: &super::Value| value.text().contains("pg_temp");
        let created = effects.has(Effects::DDL) && self.settings().get("search_path").is_some_and(in_temporary_schema);
        if created { effects.with(Effects::TEMPORARY) } else { effects }
    }

    /// Why the Query `body` is refused, if it is: all of it, before anything of it has run.
    pub(super) fn refuses_query(
        &mut self,
        body: &[u8],
        statements: &[Parsed],
        effects: Effects,
        carried: &Carried,
    ) -> Option<Report> {
        if self.pins.is_lenient() {
            return None;
        }
        let text = frontend::query(body).unwrap_or_default();
        let reasons = self.reasons(statements, effects, text);
        self.judge(&reasons, carried)
    }

    /// Why the Execute `body` is refused, if it is.
    pub(super) fn refuses_execute(&mut self, body: &[u8], carried: &Carried) -> Option<Report> {
        if self.pins.is_lenient() {
            return None;
        }
        let portal = self.portals.get(frontend::execute(body).ok()?)?;
        let reasons = self.reasons(portal.parsed.as_slice(), portal.statement.effects(), &portal.statement.text);
        self.judge(&reasons, carried)
    }

    /// What `statements`, and what else stands in `text`, would pin for.
    fn reasons(&self, statements: &[Parsed], effects: Effects, text: &[u8]) -> Vec<Reason> {
        let mut reasons = self.of_effects(effects, text);
        for statement in statements {
            reasons.extend(of_command(&statement.command));
            if let Command::Execute { name, .. } = &statement.command
                && let Some(named) = self.statements.get(name.as_bytes())
            {
                reasons.extend(self.of_effects(named.effects(), &named.text));
            }
            if statement.set_configs.iter().any(is_unknown) {
                reasons.push(Reason::SessionState);
            }
        }
        reasons
    }

    fn of_effects(&self, effects: Effects, text: &[u8]) -> Vec<Reason> {
        let of = |effects: Effects| {
            let effects = self.with_settings(effects);
            WATCHED.iter().filter(move |(watched, ..)| effects.has(*watched)).map(|(_, reason, _)| *reason)
        };
        if of(effects).next().is_none() { Vec::new() } else { of(sql::lasting(text)).collect() }
    }

    fn judge(&mut self, reasons: &[Reason], carried: &Carried) -> Option<Report> {
        let policy = |reason: &&Reason| self.pins.policy(**reason);
        if let Some(reason) = reasons.iter().find(|reason| policy(reason) == PinPolicy::Reject).copied() {
            self.pins.refused(Refusal { reason, cause: Cause::Policy });
            return Some(rejected(reason));
        }
        let reason = reasons.iter().find(|reason| policy(reason) == PinPolicy::Pin).copied()?;
        let most = self.pins.settings().budget;
        if most == 0 || self.pins.reserve(&carried.room) {
            return None;
        }
        self.pins.refused(Refusal { reason, cause: Cause::Budget });
        Some(over_budget(reason, most))
    }
}

/// What a client is told that would be pinned for `reason` where `most` are.
pub(super) fn over_budget(reason: Reason, most: usize) -> Report {
    let words =
        format!("too many clients keep a server of this pool for themselves ({most}), and this statement would, too");
    let hint = format!(
        "It would be pinned for {}. Raise pins.budget, or have clients end what pins them (SHOW PINS).",
        reason.as_str()
    );
    Report::error(SqlState::TOO_MANY_CONNECTIONS, words).hint(hint)
}

fn rejected(reason: Reason) -> Report {
    let key = reason.class().map_or("pins", crate::config::pins::PinClass::key);
    let words =
        format!("this statement would pin the client to a server, which the configuration refuses ({key}: reject)");
    let hint = format!("Set {key} to pin, for this user or database if not for all, or do without.");
    Report::error(SqlState::FEATURE_NOT_SUPPORTED, words).hint(hint)
}

/// Whether a `set_config` has an argument that nobody knows.
fn is_unknown(call: &Command) -> bool {
    let Command::SetConfig { name, value, is_local } = call else { return false };
    [name, value, is_local].into_iter().any(|argument| matches!(argument, Value::Parameter(_)))
}

impl Upstream<'_> {
    /// Answers a Query with an error of ours, after which its transaction is as after one of the server's own.
    pub(super) fn refuse_query(&mut self, report: Report) {
        super::encode::refuse(report, self);
        self.out.make(frontend::put_sync);
        self.replies.expect(Kind::Sync, Whose::Client, None);
    }
}
