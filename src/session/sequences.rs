//! What a client did with sequences, which the server alone knows on which it did it (`currval`, `lastval`).
//!
//! Whoever asks gets its own values or an error, never another client's: a server forgets what others did there before it
//! is asked, or before its client begins to keep it. What becomes of clients that ask outside of transactions is for
//! `pins.sequences` to say.

use super::carried::Carried;
use super::observe::{Plan, Standing};
use super::pins::{Cause, Reason, Refusal, Scrub};
use super::{Held, Session, Tx, policy};
use crate::config::pins::PinPolicy;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::sql::Effects;

impl Session {
    /// Whether [`Self::judge_sequences`] has anything to say of a batch, or the server that was lent anything to forget.
    #[must_use]
    pub fn minds_sequences(&self, plan: &Plan) -> bool {
        let (asks, moves) = (plan.effects.has(Effects::SEQUENCES), plan.effects.has(Effects::MOVES_SEQUENCE));
        asks || (plan.standing == Standing::Detached && self.asks_sequences == Held::Something)
            || (moves && self.pins.keeps_sequences() && !self.pins.has(Reason::Sequences))
    }

    /// Refuses a batch that asks what its server need not know, or that would pin one client too many.
    pub fn judge_sequences(&mut self, plan: &mut Plan, carried: &Carried) {
        let (asks, moves) = (plan.effects.has(Effects::SEQUENCES), plan.effects.has(Effects::MOVES_SEQUENCE));
        if asks {
            self.asks_sequences = Held::Something;
        }
        let outside = self.tx == Tx::Idle && self.pins.is_empty();
        let most = self.pins.settings().budget;
        if asks && !moves && outside && self.pins.policy(Reason::Sequences) == PinPolicy::Reject {
            self.pins.refused(Refusal { reason: Reason::Sequences, cause: Cause::Policy });
            plan.deny_running(rejected());
        } else if moves && most != 0 && self.pins.keeps_sequences() && !self.pins.reserve(&carried.room) {
            self.pins.refused(Refusal { reason: Reason::Sequences, cause: Cause::Budget });
            plan.deny_running(policy::over_budget(Reason::Sequences, most));
        }
    }

    /// After a batch: whoever may ask what became of a sequence keeps the server that knows. Also when it has failed, for
    /// sequences move all the same.
    pub fn note_sequences(&mut self, plan: &Plan) {
        if plan.effects.has(Effects::MOVES_SEQUENCE) && !plan.is_denied() && self.pins.keeps_sequences() {
            self.pins.add(Reason::Sequences, Scrub::Discard);
        }
    }
}

fn rejected() -> Report {
    let words =
        "currval and lastval are refused outside of a transaction by the configuration (pins.sequences: reject)";
    Report::error(SqlState::FEATURE_NOT_SUPPORTED, words).hint(
        "Ask in the transaction that moves the sequence, or use RETURNING; or set pins.sequences to pin, for this user or \
         database if not for all.",
    )
}
