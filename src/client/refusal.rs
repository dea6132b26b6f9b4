//! Batches that no server could be had for.

use super::answer;
use super::attach::AttachError;
use super::task::{Client, End};
use crate::protocol::backend;
use crate::protocol::error::{Report, Severity};
use crate::protocol::tag::frontend as tag;
use crate::relay::Until;

impl Client {
    /// No server could be had: the client is told, and goes on if it can.
    pub(super) async fn refuse(&mut self, error: AttachError, until: Until) -> Result<(), End> {
        self.info.idle();
        let open = self.sync_follows(until);
        if (open && !self.can_pass_over()) || !self.session.goes_on_without() {
            // What follows must not run outside the transaction that the client believes in.
            let report: Report = error.into();
            return Err(End::told(Report { severity: Severity::Fatal, ..report }));
        }
        if let AttachError::Report(report) = &error {
            self.services.counters.errors.record(report.code.0);
        }
        let mut bytes = match &error {
            AttachError::Report(report) => answer::error(report),
            AttachError::Relayed(body) => answer::relayed(body),
            AttachError::Lost => answer::error(&answer::not_attached()),
            AttachError::Aborted => answer::error(&answer::aborted()),
        };
        if open {
            self.session.pass_over();
        } else {
            backend::ready_for_query(&mut bytes, self.session.status());
        }
        self.answer(&bytes).await
    }

    /// Whether the batch is a part of an extended one, of which no server has the beginning: behind an error PostgreSQL passes over
    /// all of it.
    fn can_pass_over(&self) -> bool {
        let extended =
            |kind| matches!(kind, tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE | tag::FLUSH);
        !self.is_attached() && self.frames.iter().all(|frame| extended(frame.tag))
    }
}
