//! One batch: the client's messages to its server, the server's replies to the client.
//!
//! Sees a client's wire, a server and a session; never the lease, the pool or the route.
//!
//! The budget: per message no allocation, no lock, no clock, no wait but for I/O; per batch one read and
//! one write per direction. Rows are relayed as spans of the buffer that the read filled. While one side
//! does not take its bytes, the other is not read, so memory stays bounded whatever a message's size.

mod downstream;
mod heal;
mod wait;

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;

use crate::net::wire::{Filled, Torn, Wire};
use crate::protocol::error::Report;
use crate::protocol::frame::Frame;
use crate::protocol::outbox::Outbox;
use crate::protocol::replies::{Event, Failure, Verdict};
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::backend as tag;
use crate::server::Server;
use crate::session::encode::Upstream;
use crate::session::settings::Difference;
use crate::session::{Batch, Note, Plan, Session};
use heal::Heal;
use wait::Happened;

/// When a batch counts as dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When the server owes nothing, or waits for `CopyData`.
    Replied,
    /// When everything is sent: more of the same follows, and the server may say nothing before it.
    Sent,
}

/// Whether answers may be kept back until it is certain that they will be good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// They go to the client as they come.
    No,
    /// They are kept back, as long as they are few: should a standby refuse, nothing was said.
    Answers,
}

/// Bytes of answers that are kept back at most.
const HELD: usize = 16 * 1024;

/// What became of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// It is dealt with. What the client has not been sent yet.
    Done(Parting),
    /// The standby would not do it, and the client does not know: it can be done elsewhere.
    Elsewhere {
        /// The SQLSTATE, when the standby gave one; none when it hung up.
        code: Option<SqlState>,
    },
    /// The client's settings, which were sent along, were refused, and nothing of the batch was run.
    Unsettled {
        /// The SQLSTATE of the refusal.
        code: Option<SqlState>,
    },
    /// The client is gone; the server may be busy with its statement.
    ClientGone,
    /// The server is gone.
    ServerLost(Farewell),
}

/// Whether a server that is gone has said why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It has, and the client was told.
    Relayed,
    /// It has not.
    None,
}

/// How a `ReadyForQuery` begins; the status follows.
const READY: &[u8] = b"Z\0\0\0\x05";

/// The last bytes for the client, which the server need not wait for.
#[derive(Debug, Default)]
pub struct Parting {
    outbox: Outbox,
    buffer: BytesMut,
}

impl Parting {
    /// Bytes made elsewhere.
    #[must_use]
    pub fn of(bytes: BytesMut) -> Self {
        let mut parting = Self::default();
        parting.outbox.make(|out| *out = bytes);
        parting
    }

    /// Adds `bytes`: in front of the `ReadyForQuery` that it ends with, or at its end when it does not.
    pub fn add_before_ready(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut all = self.outbox.to_bytes(&self.buffer);
        let ready = all.len().checked_sub(READY.len() + 1);
        let at = ready.filter(|at| all[*at..].starts_with(READY)).unwrap_or(all.len());
        let tail = all.split_off(at);
        self.outbox.clear();
        self.outbox.make(|out| {
            out.extend_from_slice(&all);
            out.extend_from_slice(bytes);
            out.extend_from_slice(&tail);
        });
    }

    /// Sends it, and gives its buffer back when it is done with.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, client: &mut Wire) -> Poll<std::io::Result<()>> {
        let sent = ready!(client.poll_send(cx, &mut self.outbox, &self.buffer));
        client.keep(std::mem::take(&mut self.buffer));
        Poll::Ready(sent)
    }
}

/// Whether the client has heard anything of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Something,
}

/// Whether the client's half of the connection is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// It is.
    On,
    /// Its end was seen behind pipelined messages.
    Ended,
}

/// What became of the settings that were sent in front of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// Nothing that is known, or there were none.
    Well,
    /// They were refused, with this SQLSTATE: what was sent behind them is passed over.
    Refused(Option<SqlState>),
}

/// One batch on its way.
struct Relay<'a> {
    /// The client's messages.
    frames: &'a [Frame],
    plan: &'a Plan,
    client: &'a mut Wire,
    server: &'a mut Server,
    session: &'a mut Session,
    up: Outbox,
    down: Outbox,
    hold: Hold,
    acknowledge: Option<&'a mut (dyn FnMut() + Send)>,
    /// What the client has heard.
    heard: Heard,
    /// What a message that streams through is to become.
    streaming: Verdict,
    /// The server's last error.
    error: Option<SqlState>,
    /// The server said farewell.
    fatal: bool,
    watch: Watch,
    heal: Heal,
    /// A `ParameterDescription` that is kept back while its statement may turn out to be out of date.
    described: Vec<u8>,
    settings: Sent,
    /// Notes of what succeeded while answers were held, to be unsaid.
    held_notes: Vec<Note>,
}

/// One batch, and how to treat it.
pub struct Job<'a> {
    /// What the server lacks of the client's settings, to be sent in front. Only for a batch that ends with a message
    /// that the server answers with `ReadyForQuery`.
    pub along: Option<&'a Difference>,
    /// Its messages, in the client's buffer.
    pub frames: &'a [Frame],
    /// What the session learnt of them.
    pub plan: &'a Plan,
    /// When it counts as dealt with.
    pub until: Until,
    /// Whether answers may be kept back.
    pub hold: Hold,
    /// To be called when the server has said that something is done, before the client hears of it.
    pub acknowledge: Option<&'a mut (dyn FnMut() + Send)>,
}

/// Sends the messages of `job` to the server and relays the replies. Not cancel safe: a server whose
/// future was dropped owes replies, and is therefore not clean.
pub async fn run<'a>(client: &'a mut Wire, server: &'a mut Server, session: &'a mut Session, job: Job<'a>) -> Outcome {
    let (until, along, heal) = (job.until, job.along, Heal::of(&job, session, server));
    let mut relay = Relay { heal, ..Relay::new(client, server, session, job) };
    relay.begin(along);
    relay.pump(until).await
}

/// Relays what the server says of its own accord, once.
pub async fn overhear(client: &mut Wire, server: &mut Server, session: &mut Session) -> Outcome {
    let silence = Job {
        along: None,
        frames: &[],
        plan: &Plan::default(),
        until: Until::Replied,
        hold: Hold::No,
        acknowledge: None,
    };
    let mut relay = Relay::new(client, server, session, silence);
    // Readiness may be a false alarm, so what is not there is not waited for.
    match poll_fn(|cx| Poll::Ready(relay.server.wire.poll_fill(cx, 1))).await {
        Poll::Pending => Outcome::Done(Parting::default()),
        Poll::Ready(Ok(Filled::Bytes(_))) if relay.downstream().is_ok() && !relay.fatal => Outcome::Done(relay.part()),
        Poll::Ready(_) => Box::pin(relay.server_ended()).await,
    }
}

impl<'a> Relay<'a> {
    fn new(client: &'a mut Wire, server: &'a mut Server, session: &'a mut Session, job: Job<'a>) -> Self {
        Self {
            frames: job.frames,
            plan: job.plan,
            client,
            server,
            session,
            up: Outbox::default(),
            down: Outbox::default(),
            hold: job.hold,
            acknowledge: job.acknowledge,
            heard: Heard::Nothing,
            streaming: Verdict::Relay,
            error: None,
            fatal: false,
            watch: Watch::On,
            heal: Heal::No,
            described: Vec::new(),
            settings: Sent::Well,
            held_notes: Vec::new(),
        }
    }
}

impl Relay<'_> {
    /// Sends what goes in front of the batch, and the batch.
    fn begin(&mut self, along: Option<&Difference>) {
        let mut upstream =
            Upstream { carried: &mut self.server.carried, replies: &mut self.server.replies, out: &mut self.up };
        if let Some(difference) = along {
            self.session.bring(difference, &mut upstream);
        }
        self.session.prelude(&mut upstream);
        self.encode(0);
        let ends = self.frames.last().is_none_or(|frame| frame.is_end());
        self.server.wire.tear(if ends { Torn::Whole } else { Torn::Midway });
        self.tell();
    }

    /// Sends the batch from its message `from` on.
    fn encode(&mut self, from: usize) {
        let mut upstream =
            Upstream { carried: &mut self.server.carried, replies: &mut self.server.replies, out: &mut self.up };
        let batch = Batch { buffer: self.client.bytes(), frames: self.frames };
        self.session.encode(batch, self.plan, from, &mut upstream);
    }

    /// Tells the client what it believes otherwise than its server has reported.
    fn tell(&mut self) {
        let told = &mut self.down;
        self.session.catch_up(&mut self.server.carried, |name, value| {
            told.make(|out| crate::protocol::backend::parameter_status(out, name, value));
        });
    }

    async fn pump(&mut self, until: Until) -> Outcome {
        self.answer_what_is_due();
        loop {
            if self.is_done(until) {
                return match self.settings {
                    Sent::Well => Outcome::Done(self.part()),
                    Sent::Refused(code) => Outcome::Unsettled { code },
                };
            }
            match self.wait().await {
                Happened::Written | Happened::ClientSpoke => {}
                Happened::ServerSpoke => match self.downstream() {
                    Ok(()) if self.is_refused() => return self.elsewhere(),
                    Ok(()) => {}
                    Err(unexpected) => {
                        tracing::error!(server = %self.server.id, %unexpected, "server connection closed");
                        self.server.break_off("unexpected message");
                        return Outcome::ServerLost(Farewell::None);
                    }
                },
                Happened::ServerEnded => return Box::pin(self.server_ended()).await,
                Happened::ClientEnded if self.client.has_more_to_say() => self.watch = Watch::Ended,
                Happened::ClientEnded | Happened::ClientFailed => return Outcome::ClientGone,
            }
        }
    }

    fn is_done(&self, until: Until) -> bool {
        let sent = self.up.is_empty();
        match until {
            Until::Sent => sent && self.down.is_empty(),
            Until::Replied => sent && (self.server.replies.is_empty() || self.server.replies.copying_in()),
        }
    }

    /// The last bytes, with the buffer that they are in, so that the server need not wait for the client.
    fn part(&mut self) -> Parting {
        for note in std::mem::take(&mut self.held_notes) {
            self.session.on_reply(Event::Done(Some(note)), tag::PARSE_COMPLETE, &[], &mut self.server.carried);
        }
        if self.down.is_empty() {
            self.server.wire.done();
            return Parting::default();
        }
        Parting { outbox: std::mem::take(&mut self.down), buffer: self.server.wire.take_framed() }
    }

    /// Whether a standby refused what the primary would do, and the client has not heard of it.
    fn is_refused(&self) -> bool {
        self.hold == Hold::Answers && self.heard == Heard::Nothing && (self.fatal || self.error.is_some_and(is_refusal))
    }

    fn elsewhere(&mut self) -> Outcome {
        let mut notes = self.server.replies.abandon();
        self.held_notes.reverse();
        notes.append(&mut self.held_notes);
        self.session.unsay(notes);
        // It may hold what its attempt left behind: an advisory lock survives a failed statement.
        self.server.break_off("refused a statement");
        Outcome::Elsewhere { code: self.error }
    }

    async fn server_ended(&mut self) -> Outcome {
        self.server.break_off("closed by the server");
        if let Sent::Refused(code) = self.settings {
            return Outcome::Unsettled { code };
        }
        if self.hold == Hold::Answers && self.heard == Heard::Nothing {
            return self.elsewhere();
        }
        let failure = Failure { failed: None, skipped: self.server.replies.abandon() };
        self.session.undo(failure, &mut self.server.carried);
        let farewell = if self.fatal || self.server.said_farewell { Farewell::Relayed } else { Farewell::None };
        let mut parting = self.part();
        if poll_fn(|cx| parting.poll_send(cx, self.client)).await.is_err() {
            return Outcome::ClientGone;
        }
        Outcome::ServerLost(farewell)
    }

    /// What Howdah answers itself, as far as its turn has come.
    fn answer_what_is_due(&mut self) {
        while let Some((tag, note)) = self.server.replies.take_answered() {
            self.down.make(|out| crate::protocol::backend::empty(out, tag));
            self.keep_note(note);
        }
    }

    fn keep_note(&mut self, note: Option<Note>) {
        if self.hold == Hold::Answers {
            self.held_notes.extend(note);
        }
    }

    fn refuse(&mut self, note: Option<&Note>) {
        match note {
            Some(Note::Refused(report)) => self.down.make(|out| report.encode(out)),
            _ => self.down.make(|out| Report::error(SqlState::INTERNAL_ERROR, "refused").encode(out)),
        }
    }
}

/// Errors of a standby that the primary would not give, or not now (docs/routing.md).
fn is_refusal(code: SqlState) -> bool {
    matches!(
        code,
        SqlState::READ_ONLY_SQL_TRANSACTION
            | SqlState::FEATURE_NOT_SUPPORTED
            | SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
            | SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::TOO_MANY_CONNECTIONS
            | SqlState::UNDEFINED_TABLE
            | SqlState::UNDEFINED_COLUMN
            | SqlState::UNDEFINED_FUNCTION
            | SqlState::UNDEFINED_OBJECT
            | SqlState::UNDEFINED_SCHEMA
            | SqlState::INTERNAL_ERROR
    )
}

/// Types of server messages that stream through rather than wait until they are whole.
const fn streams(tag: u8) -> bool {
    matches!(
        tag,
        tag::DATA_ROW
            | tag::COPY_DATA
            | tag::ROW_DESCRIPTION
            | tag::PARAMETER_DESCRIPTION
            | tag::FUNCTION_CALL_RESPONSE
            | tag::NOTIFICATION_RESPONSE
    )
}
