//! Batches that Howdah answers itself, since no server need see them.

use std::sync::Arc;

use bytes::BytesMut;

use super::lone::Lone;
use super::observe::{Batch, Plan, Standing, Step, starts_with_ignoring_case};
use super::registry::Statement;
use super::{Deferred, Session, Tx};
use crate::protocol::backend;
use crate::protocol::frontend::{self, Object, Parse};
use crate::protocol::tag::{TransactionStatus, backend as answer, frontend as tag};
use crate::sql::command::Command;

impl Session {
    /// The answer to a batch that no server need see.
    pub(super) fn answer(&mut self, batch: Batch<'_>, plan: &Plan) -> Option<BytesMut> {
        if plan.standing == Standing::Attached {
            return None;
        }
        self.answer_trifles(batch, plan).or_else(|| self.answer_transaction(batch, plan))
    }

    /// Sync, Close of statements, Parse of statements that a server has accepted before, and what is left of a
    /// copy that failed.
    ///
    /// A Parse that is answered here needs no server, so that a client that prepares its statements first, and
    /// cannot do anything else meanwhile, does not wait for one that it keeps others from giving back.
    fn answer_trifles(&mut self, batch: Batch<'_>, plan: &Plan) -> Option<BytesMut> {
        let trivial = batch.messages().zip(&plan.steps).all(|((frame, body), step)| match (frame.tag, step) {
            (tag::SYNC | tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL, _) => true,
            (tag::CLOSE, _) => matches!(frontend::object(body), Ok((Object::Statement, _))),
            (tag::PARSE, Step::Parse(statement)) => {
                let name = Parse::open(body).map(|parse| parse.name).unwrap_or_default();
                let failed = self.status() == TransactionStatus::Failed;
                !failed && !name.is_empty() && statement.is_accepted() && !self.statements.contains_key(name)
            }
            _ => false,
        });
        if !trivial {
            return None;
        }
        // Two Parses of one name in one batch: the second must fail, as a server would have it.
        if batch.frames.iter().filter(|frame| frame.tag == tag::PARSE).count() > 1 {
            return None;
        }
        let mut out = BytesMut::new();
        for ((frame, body), step) in batch.messages().zip(&plan.steps) {
            match frame.tag {
                tag::PARSE => {
                    if let (Step::Parse(statement), Ok(parse)) = (step, Parse::open(body)) {
                        self.statements.insert(parse.name.into(), Arc::clone(statement));
                    }
                    backend::empty(&mut out, answer::PARSE_COMPLETE);
                }
                tag::SYNC => backend::ready_for_query(&mut out, self.status()),
                tag::CLOSE => {
                    if let Ok((_, name)) = frontend::object(body) {
                        self.close(name);
                    }
                    backend::empty(&mut out, answer::CLOSE_COMPLETE);
                }
                _ => {}
            }
        }
        Some(out)
    }

    pub(super) fn close(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        if name.is_empty() { self.unnamed.take() } else { self.statements.remove(name) }
    }

    /// BEGIN, and the end of a transaction that no server knows of.
    fn answer_transaction(&mut self, batch: Batch<'_>, plan: &Plan) -> Option<BytesMut> {
        let lone = self.lone_command(batch, plan)?;
        let (status, words) = match (&self.tx, lone.command()?) {
            (Tx::Idle, Command::Begin(modes)) => {
                let deferred = Deferred { text: lone.text().into(), modes: *modes, failed: false };
                let words =
                    if starts_with_ignoring_case(lone.text(), b"start") { "START TRANSACTION" } else { "BEGIN" };
                self.tx = Tx::Deferred(deferred);
                (TransactionStatus::InTransaction, words)
            }
            (Tx::Deferred(Deferred { failed: false, .. }), Command::Commit { chain: false }) => {
                self.tx = Tx::Idle;
                (TransactionStatus::Idle, "COMMIT")
            }
            (Tx::Deferred(_), Command::Commit { chain: false } | Command::Rollback { chain: false }) => {
                self.tx = Tx::Idle;
                (TransactionStatus::Idle, "ROLLBACK")
            }
            _ => return None,
        };
        let mut out = BytesMut::new();
        for (frame, body) in batch.messages() {
            match frame.tag {
                tag::PARSE => backend::empty(&mut out, answer::PARSE_COMPLETE),
                tag::BIND => backend::empty(&mut out, answer::BIND_COMPLETE),
                tag::DESCRIBE => {
                    if let Ok((Object::Statement, _)) = frontend::object(body) {
                        backend::no_parameters(&mut out);
                    }
                    backend::empty(&mut out, answer::NO_DATA);
                }
                tag::QUERY | tag::EXECUTE => backend::command_complete(&mut out, words),
                _ => {}
            }
            if matches!(frame.tag, tag::QUERY | tag::SYNC) {
                backend::ready_for_query(&mut out, status);
            }
        }
        // The statement stands where PostgreSQL would keep it: replaced, or gone after a simple query.
        match lone {
            Lone::Simple(..) => self.unnamed = None,
            Lone::Extended(statement, Some(b"")) => self.unnamed = Some(statement),
            Lone::Extended(statement, Some(name)) => drop(self.statements.insert(name.into(), statement)),
            Lone::Extended(_, None) => {}
        }
        Some(out)
    }
}
