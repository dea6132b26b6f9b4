//! What clients were told of a statement's result, and whether a server that prepares it now would give the same.
//!
//! PostgreSQL refuses a statement in the session that prepared it once its result has changed (0A000, `RevalidateCachedQuery`,
//! src/backend/utils/cache/plancache.c). Through Howdah it may come to a server that has not prepared it, which knows no
//! other result than the new one; a client that goes by what it was told would take the new rows for the old. So before such a
//! server gets a statement from before a change of definitions, it is asked.

use std::sync::Arc;

use super::Session;
use super::observe::Batch;
use super::registry::Statement;
use super::scope::Outlook;
use crate::protocol::error::{Report, Routine};
use crate::protocol::frontend::Bind;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::frontend as tag;

/// What PostgreSQL says of a statement whose result is another one.
pub(super) fn changed() -> Report {
    Report {
        routine: Some(Routine::RevalidateCachedQuery),
        ..Report::error(SqlState::FEATURE_NOT_SUPPORTED, "cached plan must not change result type")
    }
}

impl Session {
    /// The statements that `batch` binds and that were prepared before definitions changed, unless it asks for their description.
    pub(super) fn outdated_in(&self, batch: Batch<'_>, outlook: &Outlook<'_>) -> Box<[Arc<Statement>]> {
        if batch.frames.iter().any(|frame| frame.tag == tag::DESCRIBE) {
            return Box::default();
        }
        let bound = batch.messages().filter(|(frame, _)| frame.tag == tag::BIND && frame.is_start());
        let named = bound.filter_map(|(frame, body)| {
            let name = Bind::open(body).ok()?.statement;
            let statement = self.statements.get(name).filter(|_| !batch.parses_before(name, frame))?;
            statement.may_have_changed(outlook.objects).then(|| Arc::clone(statement))
        });
        named.collect()
    }
}
