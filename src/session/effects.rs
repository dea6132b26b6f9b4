//! What statements that took effect mean for the session: settings, pins, names.

use super::listens::Action;
use super::pins::{Reason, Scrub};
use super::policy::WATCHED;
use super::settings::{Ledger, Value};
use super::{Held, Session, Tx};
use crate::sql::Effects;
use crate::sql::command::{Command, Parsed, Scope, Value as Argument};

impl Session {
    /// A statement took effect; `body` is that of its `CommandComplete`.
    pub(super) fn completed(&mut self, statement: &Parsed, effects: Effects, body: &[u8]) {
        for call in &statement.set_configs {
            self.apply(call, body);
        }
        self.apply(&statement.command, body);
        self.took_effect(effects);
    }

    pub(super) fn took_effect(&mut self, effects: Effects) {
        let effects = self.with_settings(effects);
        for (effect, reason, scrub) in WATCHED {
            if effects.has(effect) {
                self.pins.add(reason, scrub);
            }
        }
        let doubtful = [Effects::TEMPORARY, Effects::ADVISORY_LOCK, Effects::ADVISORY_UNLOCK, Effects::DROP];
        for effect in doubtful.into_iter().filter(|effect| effects.has(*effect)) {
            self.doubt = self.doubt.with(effect);
        }
    }

    fn apply(&mut self, command: &Command, body: &[u8]) {
        match command {
            Command::Commit { .. } if body.starts_with(b"COMMIT") => self.committed(),
            Command::PrepareTransaction if body.starts_with(b"PREPARE TRANSACTION") => self.committed(),
            Command::Commit { .. } | Command::Rollback { .. } | Command::PrepareTransaction => self.rolled_back(),
            Command::Savepoint(name) => self.each_ledger(|ledger| ledger.savepoint(name.clone())),
            Command::Release(name) => {
                self.listens_release(name);
                self.each_ledger(|ledger| ledger.release(name));
            }
            Command::RollbackTo(name) => {
                self.failed = false;
                self.listens_rollback_to(name);
                self.each_ledger(|ledger| ledger.rollback_to(name));
            }
            // Of the transaction, whichever way they are set.
            Command::Set { name, .. } if name.starts_with("transaction_") => {}
            Command::Set { scope: Scope::Session, name, value } => match value {
                Some(value) => self.each_ledger(|ledger| ledger.set(name, Value::Sql(value.as_str().into()))),
                None => self.each_ledger(|ledger| ledger.reset(name)),
            },
            Command::Set { scope: Scope::Local, .. } if self.tx != Tx::Idle => self.strays = Held::Something,
            Command::SetConfig { name, value, is_local } => self.set_config(name, value, is_local),
            Command::Reset(name) => self.each_ledger(|ledger| ledger.reset(name)),
            Command::ResetAll => self.each_ledger(Ledger::reset_all),
            Command::DiscardAll => {
                self.each_ledger(Ledger::discard_all);
                self.pins.discard_all();
                self.listen(Action::UnlistenAll);
                // It commits at once, also in front of others without a Sync (`XACT_FLAGS_NEEDIMMEDIATECOMMIT`,
                // src/include/access/xact.h).
                self.committed();
            }
            Command::Execute { name, .. } => {
                if let Some(statement) = self.statements.get(name.as_bytes()) {
                    let effects = statement.effects();
                    self.took_effect(effects);
                }
            }
            Command::DeallocateAll => {
                self.prepared_may_have_lasted();
                self.pins.deallocate_all();
            }
            Command::Deallocate { name, .. } => {
                self.prepared_may_have_lasted();
                self.pins.deallocate(name);
            }
            other => self.apply_pin(other),
        }
    }

    fn apply_pin(&mut self, command: &Command) {
        match command {
            Command::Declare { name, hold: true } => {
                if self.before.is_none() {
                    self.before = Some(Box::new(self.pins.held_cursors()));
                }
                self.pins.hold_cursor(name.clone());
            }
            Command::Close(name) => self.pins.close_cursor(name),
            Command::CloseAll => self.pins.close_cursors(),
            Command::Listen(channel) => self.listen(Action::Listen(channel.as_str().into())),
            Command::Unlisten(channel) => self.listen(Action::Unlisten(channel.as_str().into())),
            Command::UnlistenAll => self.listen(Action::UnlistenAll),
            Command::Prepare(name) => self.pins.prepare(name.clone()),
            Command::Load => self.pins.add(Reason::Load, Scrub::Close),
            Command::DiscardSequences => self.pins.end(Reason::Sequences),
            Command::DiscardTemp => self.doubt = self.doubt.with(Effects::DROP),
            _ => {}
        }
    }

    /// What a statement that SQL prepared has done when it was executed was not looked at: the pin ends, and the
    /// server is asked.
    fn prepared_may_have_lasted(&mut self) {
        if self.pins.has(Reason::Prepare) {
            self.took_effect(Effects::ADVISORY_LOCK.with(Effects::TEMPORARY));
        }
    }

    pub(super) fn each_ledger(&mut self, mut change: impl FnMut(&mut Ledger)) {
        change(&mut self.ledger);
        change(&mut self.server);
    }

    fn set_config(&mut self, name: &Argument, value: &Argument, is_local: &Argument) {
        let (Argument::Literal(name), Argument::Literal(value), Argument::Literal(is_local)) = (name, value, is_local)
        else {
            // The Bind did not give the value in a form that is understood.
            self.pins.add(Reason::SessionState, Scrub::Discard);
            return;
        };
        if is_false(is_local) {
            let name = name.to_ascii_lowercase();
            self.each_ledger(|ledger| ledger.set(&name, Value::Text(value.as_str().into())));
        } else {
            self.strays = Held::Something;
        }
    }
}

/// The input forms of boolean false (`parse_bool_with_len`, src/backend/utils/adt/bool.c), and its binary form.
fn is_false(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    matches!(text.as_str(), "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" | "\0")
}
