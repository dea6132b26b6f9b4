//! Whose reply comes next: a queue of what the server still owes, never a flag.
//!
//! Every message that goes to a server and that it will answer has one entry. A server message is
//! judged by the entry at the front, so Howdah's own messages can stand between the client's in one
//! write, answers that Howdah gives itself keep their place among the server's, and "nothing is
//! outstanding" is the empty queue.
//!
//! ```text
//! to the server:   Parse*   Bind   Execute   Sync          * Howdah's own
//! queue:           [Parse ours] [Bind] [Execute] [Sync]
//! from the server: 1 swallow  2 relay  D D C relay  Z relay
//! an ErrorResponse drops every entry up to the next Sync: the server skips those messages too.
//! ```
//!
//! Source: PostgreSQL manual, "Message Flow", and src/backend/tcop/postgres.c (`ignore_till_sync`).

use std::collections::VecDeque;

use super::tag::{TransactionStatus, backend as tag};

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Parse.
    Parse,
    /// Bind.
    Bind,
    /// Describe, of either kind.
    Describe,
    /// Close.
    Close,
    /// Execute.
    Execute,
    /// Query: answered by any number of results, then `ReadyForQuery`.
    Query,
    /// `FunctionCall`: answered as Query.
    Function,
    /// Sync.
    Sync,
    /// `CopyDone` or `CopyFail`: has no answer of its own.
    CopyEnd,
    /// Nothing was sent: Howdah answers with an empty message of this type.
    Answered(u8),
    /// Something that must fail was sent in place of what Howdah refuses; Howdah words the error.
    Refused,
}

/// Who will read the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The client.
    Client,
    /// Howdah: the answer is swallowed.
    Ours,
}

/// One outstanding reply, with what its owner wants to remember about it.
#[derive(Debug)]
pub struct Expected<N> {
    /// What was sent.
    pub kind: Kind,
    /// Who reads the answer.
    pub whose: Whose,
    /// The owner's note, given back when the reply comes or is known never to come.
    pub note: Option<N>,
}

/// What to do with a server message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the client.
    Relay,
    /// It answers something of Howdah's own.
    Swallow,
}

/// What a server message meant.
#[derive(Debug)]
pub enum Event<N> {
    /// Nothing beyond its verdict.
    None,
    /// The entry at the front is done.
    Done(Option<N>),
    /// One statement of the Query at the front is done; its entry stays.
    Command,
    /// The entry at the front failed.
    Failed(Failure<N>),
    /// A `Kind::Refused` failed as it should.
    Refused(Failure<N>),
    /// The server is ready.
    Ready(TransactionStatus),
    /// The server waits for `CopyData`.
    CopyIn,
    /// A `ParameterStatus`.
    Parameter,
    /// A message outside any exchange: a notice or a notification.
    Asynchronous,
}

/// What failed, and what the server passes over because of it.
#[derive(Debug)]
pub struct Failure<N> {
    /// The note of the entry that failed.
    pub failed: Option<N>,
    /// The notes of the entries that are passed over, last first.
    pub skipped: Vec<N>,
}

/// A message that cannot come here; the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected message of type {:?} from the server", char::from(*tag))]
pub struct Unexpected {
    /// The message type.
    pub tag: u8,
}

/// Whether a Sync must follow what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// None must.
    Done,
    /// One must.
    Due,
    /// One must, and the server passes over everything before it.
    Skipping,
}

/// All that one server still owes.
#[derive(Debug)]
pub struct Replies<N> {
    queue: VecDeque<Expected<N>>,
    status: TransactionStatus,
    copying_in: bool,
    sync: Sync,
    /// Parse messages sent, since somebody last asked.
    parses: u64,
}

impl<N> Default for Replies<N> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), status: TransactionStatus::Idle, copying_in: false, sync: Sync::Done, parses: 0 }
    }
}

impl<N> Replies<N> {
    /// The status that the last `ReadyForQuery` carried.
    #[must_use]
    pub const fn status(&self) -> TransactionStatus {
        self.status
    }

    /// Whether the server owes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.iter().all(|entry| entry.kind == Kind::CopyEnd)
    }

    /// Whether the server waits for `CopyData` and its end has not been sent.
    #[must_use]
    pub const fn copying_in(&self) -> bool {
        self.copying_in
    }

    /// Whether the server owes nothing and waits for no more of what was begun: a statement of another's may come next.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.is_empty() && !self.copying_in && self.sync == Sync::Done
    }

    /// Whether the server is idle outside any transaction, owes nothing and expects nothing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_quiet() && self.status == TransactionStatus::Idle
    }

    /// Takes note of a message that is on its way to the server.
    pub fn expect(&mut self, kind: Kind, whose: Whose, note: Option<N>) {
        if self.copying_in {
            match kind {
                // "The backend ignores Flush and Sync messages received during copy-in mode."
                Kind::Sync => return,
                Kind::CopyEnd => {
                    self.copying_in = false;
                    return;
                }
                _ => {}
            }
        }
        self.parses += u64::from(kind == Kind::Parse);
        match kind {
            Kind::Sync => self.sync = Sync::Done,
            Kind::Parse | Kind::Bind | Kind::Describe | Kind::Close | Kind::Execute | Kind::Refused => {
                self.sync = Sync::Due;
            }
            Kind::Query | Kind::Function | Kind::CopyEnd | Kind::Answered(_) => {}
        }
        self.queue.push_back(Expected { kind, whose, note });
    }

    /// The note of the entry at the front.
    pub fn front_note(&mut self) -> Option<&mut N> {
        self.queue.front_mut().and_then(|entry| entry.note.as_mut())
    }

    /// How many Parse messages were sent since this was last asked.
    pub fn take_parses(&mut self) -> u64 {
        std::mem::take(&mut self.parses)
    }

    /// What the next answer to the client is for.
    #[must_use]
    pub fn next_of_client(&self) -> Option<Kind> {
        self.queue.iter().find(|entry| entry.whose == Whose::Client).map(|entry| entry.kind)
    }

    /// Whether messages were sent that a Sync must still follow.
    #[must_use]
    pub const fn is_unsynced(&self) -> bool {
        !matches!(self.sync, Sync::Done)
    }

    /// Whether the server passes over everything until the next Sync, because something failed.
    #[must_use]
    pub const fn is_skipping(&self) -> bool {
        matches!(self.sync, Sync::Skipping)
    }

    /// Whether the next answer is the client's; true when nothing is outstanding.
    #[must_use]
    pub fn front_is_clients(&self) -> bool {
        self.queue.front().is_none_or(|entry| entry.whose == Whose::Client)
    }

    /// An answer that Howdah owes the client right now, if one has come to the front.
    pub fn take_answered(&mut self) -> Option<(u8, Option<N>)> {
        self.drop_copy_ends();
        match self.queue.front() {
            Some(Expected { kind: Kind::Answered(tag), .. }) => {
                let tag = *tag;
                self.queue.pop_front().map(|entry| (tag, entry.note))
            }
            _ => None,
        }
    }

    /// Forgets everything outstanding; gives the notes back, last first.
    pub fn abandon(&mut self) -> Vec<N> {
        self.copying_in = false;
        self.queue.drain(..).rev().filter_map(|entry| entry.note).collect()
    }

    /// Judges one server message by its type; `first` is the first byte of its body.
    pub fn on(&mut self, tag: u8, first: u8) -> Result<(Verdict, Event<N>), Unexpected> {
        match tag {
            tag::PARAMETER_STATUS => return Ok((self.verdict(), Event::Parameter)),
            tag::NOTICE_RESPONSE => return Ok((self.verdict(), Event::Asynchronous)),
            // What a client listens to comes by another way, also to those who have this server.
            tag::NOTIFICATION_RESPONSE => return Ok((Verdict::Swallow, Event::Asynchronous)),
            _ => self.drop_copy_ends(),
        }
        let mut verdict = self.verdict();
        let Some(kind) = self.queue.front().map(|entry| entry.kind) else { return Self::unasked(tag) };
        let event = match (tag, kind) {
            (tag::PARSE_COMPLETE, Kind::Parse)
            | (tag::BIND_COMPLETE, Kind::Bind)
            | (tag::CLOSE_COMPLETE, Kind::Close)
            | (tag::ROW_DESCRIPTION | tag::NO_DATA, Kind::Describe)
            | (tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED, Kind::Execute) => self.done(),
            (tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE, Kind::Query) => {
                self.copying_in = false;
                Event::Command
            }
            (tag::PARAMETER_DESCRIPTION, Kind::Describe)
            | (tag::ROW_DESCRIPTION, Kind::Query)
            | (tag::FUNCTION_CALL_RESPONSE, Kind::Function)
            | (
                tag::DATA_ROW | tag::COPY_OUT_RESPONSE | tag::COPY_BOTH_RESPONSE | tag::COPY_DATA | tag::COPY_DONE,
                Kind::Query | Kind::Execute,
            ) => Event::None,
            (tag::COPY_IN_RESPONSE, Kind::Query | Kind::Execute) => self.copy_in(),
            (tag::ERROR_RESPONSE, _) => {
                // A Parse of ours stands for one that the client sent before: its error is the client's.
                if !matches!(kind, Kind::Query | Kind::Function) {
                    verdict = if kind == Kind::Refused { Verdict::Swallow } else { Verdict::Relay };
                }
                self.failed(kind)
            }
            (tag::READY_FOR_QUERY, Kind::Query | Kind::Function | Kind::Sync) => {
                self.queue.pop_front();
                self.copying_in = false;
                self.status = TransactionStatus::from_byte(first).ok_or(Unexpected { tag })?;
                if self.queue.is_empty() && self.sync == Sync::Due {
                    // A simple query ends what was begun by extended messages before it.
                    self.sync = Sync::Done;
                }
                Event::Ready(self.status)
            }
            _ => return Err(Unexpected { tag }),
        };
        Ok((verdict, event))
    }

    /// What becomes of a message of this type when it is one of many that change nothing of what is owed: a row,
    /// or what describes the rows of a simple query. `None` where [`Self::on`] has to say.
    pub fn on_row(&self, tag: u8) -> Option<Verdict> {
        let front = self.queue.front()?.kind;
        let is_row = match tag {
            tag::DATA_ROW => matches!(front, Kind::Query | Kind::Execute),
            tag::ROW_DESCRIPTION => front == Kind::Query,
            _ => false,
        };
        is_row.then(|| self.verdict())
    }

    fn verdict(&self) -> Verdict {
        if self.front_is_clients() { Verdict::Relay } else { Verdict::Swallow }
    }

    /// A message though nothing was asked: only a farewell is allowed.
    fn unasked(tag: u8) -> Result<(Verdict, Event<N>), Unexpected> {
        if tag == tag::ERROR_RESPONSE {
            return Ok((Verdict::Relay, Event::Failed(Failure { failed: None, skipped: Vec::new() })));
        }
        Err(Unexpected { tag })
    }

    fn done(&mut self) -> Event<N> {
        self.copying_in = false;
        Event::Done(self.queue.pop_front().and_then(|entry| entry.note))
    }

    fn drop_copy_ends(&mut self) {
        while self.queue.front().is_some_and(|entry| entry.kind == Kind::CopyEnd) {
            self.queue.pop_front();
        }
    }

    /// The server reads `CopyData` now, and ignores every Sync that was sent before the copy's end.
    fn copy_in(&mut self) -> Event<N> {
        let end = self.queue.iter().position(|entry| entry.kind == Kind::CopyEnd);
        self.copying_in = end.is_none();
        let before = end.unwrap_or(self.queue.len());
        let mut index = 0;
        self.queue.retain(|entry| {
            index += 1;
            index > before || entry.kind != Kind::Sync
        });
        // It is this copy's, and must not count as the next one's.
        if let Some(end) = self.queue.iter().position(|entry| entry.kind == Kind::CopyEnd) {
            self.queue.remove(end);
        }
        let extended = self.queue.front().is_some_and(|entry| entry.kind == Kind::Execute);
        if extended && !self.queue.iter().any(|entry| entry.kind == Kind::Sync) {
            self.sync = Sync::Due;
        }
        Event::CopyIn
    }

    fn failed(&mut self, kind: Kind) -> Event<N> {
        self.copying_in = false;
        if matches!(kind, Kind::Query | Kind::Function | Kind::Sync) {
            // `ReadyForQuery` still follows and ends the entry. A Sync fails when the commit does.
            let failed = self.queue.front_mut().and_then(|entry| entry.note.take());
            return Event::Failed(Failure { failed, skipped: Vec::new() });
        }
        let failed = self.queue.pop_front().and_then(|entry| entry.note);
        let mut skipped = Vec::new();
        while self.queue.front().is_some_and(|entry| entry.kind != Kind::Sync) {
            skipped.extend(self.queue.pop_front().and_then(|entry| entry.note));
        }
        if self.queue.is_empty() {
            self.sync = Sync::Skipping;
        }
        skipped.reverse();
        let failure = Failure { failed, skipped };
        if kind == Kind::Refused { Event::Refused(failure) } else { Event::Failed(failure) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(sent: &[(Kind, Whose)], received: &str) -> (String, Replies<usize>) {
        let mut replies = Replies::default();
        for (note, (kind, whose)) in sent.iter().enumerate() {
            replies.expect(*kind, *whose, Some(note));
        }
        let mut relayed = String::new();
        for byte in received.bytes() {
            while let Some((tag, _)) = replies.take_answered() {
                relayed.push(char::from(tag));
            }
            let (verdict, _) = replies.on(byte, b'I').unwrap();
            if verdict == Verdict::Relay {
                relayed.push(char::from(byte));
            }
        }
        (relayed, replies)
    }

    use Kind::{Answered, Bind, Close, CopyEnd, Describe, Execute, Parse, Query};
    const SYNC: Kind = Kind::Sync;
    use Whose::{Client, Ours};

    #[test]
    fn ours_are_swallowed_where_they_stand() {
        let sent = [
            (Query, Ours),
            (Parse, Ours),
            (Bind, Client),
            (Describe, Client),
            (Execute, Client),
            (Close, Ours),
            (Answered(b'3'), Client),
            (SYNC, Client),
        ];
        let (relayed, replies) = run(&sent, "CZ12TDDC3Z");
        assert_eq!(relayed, "2TDDC3Z");
        assert!(replies.is_clean());
    }

    #[test]
    fn an_error_drops_what_the_server_skips_and_no_more() {
        let sent = [(Parse, Client), (Bind, Client), (Answered(b'1'), Client), (Execute, Client), (SYNC, Client)];
        let mut replies = Replies::default();
        for (note, (kind, whose)) in sent.iter().chain(&[(Query, Client)]).enumerate() {
            replies.expect(*kind, *whose, Some(note));
        }
        assert!(matches!(replies.on(b'1', 0), Ok((Verdict::Relay, Event::Done(Some(0))))));
        let Ok((Verdict::Relay, Event::Failed(failure))) = replies.on(b'E', 0) else { panic!() };
        assert_eq!((failure.failed, &failure.skipped[..]), (Some(1), &[3, 2][..]));
        assert!(replies.take_answered().is_none());
        assert!(matches!(replies.on(b'Z', b'E'), Ok((Verdict::Relay, Event::Ready(TransactionStatus::Failed)))));
        assert!(!replies.is_empty() && !replies.is_clean());
        assert!(matches!(replies.on(b'C', 0), Ok((Verdict::Relay, Event::Command))));
        assert!(replies.on(b'Z', b'I').is_ok() && replies.is_clean());
    }

    #[test]
    fn copy_in_ignores_syncs_before_its_end() {
        // libpq sends Sync after Execute, and again after CopyDone.
        let (relayed, mut replies) = run(&[(Bind, Client), (Execute, Client), (SYNC, Client)], "2G");
        assert_eq!(relayed, "2G");
        assert!(replies.copying_in());
        replies.expect(CopyEnd, Client, None);
        replies.expect(SYNC, Client, None);
        assert!(replies.on(b'C', 0).is_ok() && replies.on(b'Z', b'I').is_ok());
        assert!(replies.is_clean());
    }

    #[test]
    fn the_end_of_a_copy_is_not_that_of_a_query_before_it() {
        let sent = [(Query, Ours), (Execute, Client), (CopyEnd, Client), (SYNC, Client)];
        let (relayed, replies) = run(&sent, "CZGCZ");
        assert_eq!(relayed, "GCZ");
        assert!(replies.is_clean());
    }

    #[test]
    fn copy_in_that_was_pipelined_keeps_the_last_sync() {
        let sent = [(Execute, Client), (SYNC, Client), (CopyEnd, Client), (SYNC, Client)];
        let (relayed, replies) = run(&sent, "GCZ");
        assert_eq!(relayed, "GCZ");
        assert!(replies.is_clean());
    }

    #[test]
    fn a_late_copy_end_after_an_error_leaves_nothing_behind() {
        let (_, mut replies) = run(&[(Query, Client)], "GEZ");
        replies.expect(CopyEnd, Client, None);
        assert!(replies.is_clean());
        replies.expect(Query, Client, None);
        assert!(replies.on(b'C', 0).is_ok() && replies.on(b'Z', b'I').is_ok() && replies.is_clean());
    }

    #[test]
    fn notices_and_parameters_may_come_at_any_time_and_other_things_may_not() {
        let (relayed, mut replies) = run(&[], "NSA");
        assert_eq!(relayed, "NS", "a notification is never this server's to bring");
        assert_eq!(replies.on(b'D', 0).err(), Some(Unexpected { tag: b'D' }));
        replies.expect(Parse, Client, None);
        assert_eq!(replies.on(b'2', 0).err(), Some(Unexpected { tag: b'2' }));
    }
}
