//! Server to client: each reply judged by the queue, and either sent on, swallowed or worded anew.

use std::sync::Arc;

use super::heal::Heal;
use super::{HELD, Hold, Relay, Sent, streams};
use crate::protocol::backend::message;
use crate::protocol::columns;
use crate::protocol::error::{ErrorFields, Routine};
use crate::protocol::frame::{Frame, FrameError, Incomplete, Next};
use crate::protocol::frontend;
use crate::protocol::outbox::Outbox;
use crate::protocol::replies::{Event, Failure, Kind, Unexpected, Verdict, Whose};
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::backend as tag;
use crate::server::Server;
use crate::session::carried::Reported;
use crate::session::parameters::Parameters;
use crate::session::{Batch, Note, parameter};

/// What a server may not send.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
}

/// An ErrorResponse or NoticeResponse longer than this streams through: its first fields tell what must be known.
const OPENED: usize = 8 * 1024;

/// Whether an error proves that a server has, or lacks, a statement of Howdah's against what is known of it.
fn is_out_of_step(failed: Option<&Note>, code: Option<SqlState>) -> bool {
    match failed {
        Some(Note::Bound(_)) => code == Some(SqlState::INVALID_SQL_STATEMENT_NAME),
        Some(Note::Supplied(_) | Note::Parsed { sent: Some(_), .. }) => code == Some(SqlState::DUPLICATE_PSTATEMENT),
        _ => false,
    }
}

/// Sends what was kept back.
fn say(kept: &mut Vec<u8>, down: &mut Outbox) {
    if !kept.is_empty() {
        down.make(|out| out.extend_from_slice(kept));
        kept.clear();
    }
}

impl Relay<'_> {
    /// Deals with all that the server has sent.
    pub(super) fn downstream(&mut self) -> Result<(), Fault> {
        loop {
            let policy = |kind: u8, _, here: usize| {
                let opened = matches!(kind, tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE);
                if streams(kind) || (opened && here >= OPENED) { Incomplete::Stream } else { Incomplete::Wait }
            };
            let Next::Frame(frame) = self.server.wire.frame(policy)? else { break };
            if frame.is_start() {
                if let Some(verdict) = self.server.replies.on_row(frame.tag) {
                    self.streaming = self.relay(frame, verdict);
                    continue;
                }
                self.streaming = self.message(frame)?;
                self.answer_what_is_due();
            } else if self.streaming == Verdict::Relay {
                self.down.relay(frame.start..frame.end());
            }
        }
        if self.down.len() > HELD {
            self.hold = Hold::No;
        }
        if self.down.is_empty() {
            self.server.wire.done();
        }
        Ok(())
    }

    /// Deals with one message, or the head of a long one; says what becomes of the rest of it.
    fn message(&mut self, frame: Frame) -> Result<Verdict, Fault> {
        let Server { wire, replies, carried, .. } = &mut *self.server;
        let body = frame.body(wire.bytes());
        let first = body.first().copied().unwrap_or(0);
        let (verdict, event) = replies.on(frame.tag, first)?;
        if frame.tag == tag::PARAMETER_DESCRIPTION
            && frame.is_end()
            && let Some(Note::Bound(statement)) = replies.front_note()
        {
            statement.described(body);
        }
        if let (Event::Done(Some(Note::Bound(statement) | Note::Shown(statement))), true) = (&event, frame.is_end())
            && matches!(frame.tag, tag::ROW_DESCRIPTION | tag::NO_DATA)
        {
            statement.showed(columns::shape(frame.tag, body));
        }
        if frame.tag != tag::ERROR_RESPONSE {
            say(&mut self.described, &mut self.down);
        }
        if verdict == Verdict::Relay && matches!(frame.tag, tag::BIND_COMPLETE | tag::ROW_DESCRIPTION | tag::NO_DATA) {
            self.heal = Heal::No;
        } else if self.heal == Heal::Could && frame.tag == tag::PARAMETER_DESCRIPTION && frame.is_end() {
            // What comes next tells whether it is still true (`exec_describe_statement_message`, src/backend/tcop/postgres.c).
            self.described.extend_from_slice(&wire.bytes()[frame.start..frame.end()]);
            return Ok(Verdict::Swallow);
        }
        if let (Event::Command | Event::Done(_) | Event::Ready(_), Some(acknowledge)) = (&event, &mut self.acknowledge)
        {
            acknowledge();
        }
        match event {
            Event::None | Event::CopyIn => {}
            Event::Command => {
                if let Some(note) = replies.front_note() {
                    self.session.on_command(note, body, carried);
                }
            }
            Event::Parameter => {
                let hidden = carried.reported == Reported::Later
                    || parameter(body).is_none_or(|(name, _)| !Parameters::concerns_clients(name));
                self.session.on_reply(Event::Parameter, frame.tag, body, carried);
                if hidden {
                    return Ok(Verdict::Swallow);
                }
            }
            Event::Failed(failure) => return Ok(self.failed(frame, failure, verdict)),
            Event::Refused(failure) => {
                self.refuse(failure.failed.as_ref());
                let Server { wire, carried, .. } = &mut *self.server;
                let body = frame.body(wire.bytes());
                self.session.on_reply(Event::Refused(failure), frame.tag, body, carried);
            }
            Event::Done(note) if self.hold == Hold::Answers && !matches!(note, Some(Note::Brought)) => {
                self.held_notes.extend(note);
            }
            Event::Ready(_) if self.settings == Sent::Well && carried.reported == Reported::Later => {
                self.session.on_reply(event, frame.tag, body, carried);
                self.tell();
            }
            Event::Done(_) | Event::Ready(_) | Event::Asynchronous => {
                self.session.on_reply(event, frame.tag, body, carried);
            }
        }
        if frame.tag == tag::READY_FOR_QUERY && self.go_on() {
            return Ok(Verdict::Swallow);
        }
        Ok(self.relay(frame, verdict))
    }

    /// Deals with an error; says what becomes of the rest of it.
    fn failed(&mut self, frame: Frame, failure: Failure<Note>, verdict: Verdict) -> Verdict {
        if matches!(failure.failed, Some(Note::Bringing | Note::Brought)) {
            self.refused_settings(frame, failure);
            return Verdict::Swallow;
        }
        let Server { wire, carried, said_farewell, .. } = &mut *self.server;
        let body = frame.body(wire.bytes());
        let fields = ErrorFields::parse(body);
        let outdated = fields.code == Some(SqlState::FEATURE_NOT_SUPPORTED)
            && fields.routine == Routine::RevalidateCachedQuery.as_str().as_bytes();
        self.error = fields.code.filter(|_| !outdated);
        let renewable = outdated && !carried.has_clients_names();
        if let (true, Some(Note::Bound(statement))) = (renewable, &failure.failed) {
            let statement = Arc::clone(statement);
            self.session.outdated(&statement);
            let batch = Batch { buffer: self.client.bytes(), frames: self.frames };
            if let Some(cure) = self.heal.cure(batch, self.session, &failure) {
                self.session.on_reply(Event::Failed(failure), frame.tag, body, carried);
                self.session.renew(&cure.name, &statement, cure.learns);
                self.heal = Heal::From(cure.at);
                self.described.clear();
                return Verdict::Swallow;
            }
        }
        say(&mut self.described, &mut self.down);
        if fields.is_fatal() {
            self.fatal = true;
            *said_farewell = true;
        }
        let ours = matches!(failure.failed, Some(Note::Begin));
        let out_of_step = is_out_of_step(failure.failed.as_ref(), fields.code);
        let words = self.session.in_clients_words(&failure, body).filter(|_| frame.is_end());
        self.session.on_reply(Event::Failed(failure), frame.tag, body, carried);
        if out_of_step {
            // It does not hold what its books say: whoever comes next gets another.
            self.server.break_off("does not hold the statements that it should");
        }
        if ours {
            // The transaction that the client believes in could not begin: nothing may follow.
            self.fatal = true;
            self.server.break_off("BEGIN failed");
            return self.relay(frame, Verdict::Relay);
        }
        if let Some(words) = words {
            self.down.make(|out| message(out, tag::ERROR_RESPONSE, |out| out.extend_from_slice(&words)));
            return Verdict::Swallow;
        }
        self.relay(frame, verdict)
    }

    /// The client's settings were refused: the server passes over all that follows, and is given the Sync that ends this.
    fn refused_settings(&mut self, frame: Frame, failure: Failure<Note>) {
        let Server { wire, replies, carried, .. } = &mut *self.server;
        let body = frame.body(wire.bytes());
        let fields = ErrorFields::parse(body);
        self.fatal |= fields.is_fatal();
        self.settings = Sent::Refused(fields.code);
        self.session.on_reply(Event::Failed(failure), frame.tag, body, carried);
        if replies.is_skipping() {
            self.up.make(frontend::put_sync);
            replies.expect(Kind::Sync, Whose::Ours, None);
        }
    }

    fn relay(&mut self, frame: Frame, verdict: Verdict) -> Verdict {
        if self.settings != Sent::Well {
            return Verdict::Swallow;
        }
        if verdict == Verdict::Relay {
            self.down.relay(frame.start..frame.end());
        }
        verdict
    }
}
