//! Between a client and the primary: everything passes, and every statement is looked at.

use std::io;
use std::sync::Arc;

use howdah::sql::reach::Reach;
use howdah::sql::scan::{Scanner, Token};
use howdah::sql::{Class, Effects};
use howdah_integration::TestCluster;
use howdah_integration::wire::{self, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::facts::Facts;
use crate::ledger::{Entry, Ledger, Place, Verdict, Why};
use crate::touched::{Touch, Touched};
use crate::twin::{Answer, State, Twin};

/// Listens for clients of the primary until it is dropped.
pub(crate) struct Tap {
    /// Where they connect, on 127.0.0.1.
    pub(crate) port: u16,
    shared: Arc<Shared>,
    listening: tokio::task::JoinHandle<()>,
}

struct Shared {
    primary: u16,
    standby: u16,
    facts: Mutex<Facts>,
    ledger: Mutex<Ledger>,
}

/// Reads and writes messages.
struct Side {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// One client's.
struct Session {
    client: Side,
    server: Side,
    shared: Arc<Shared>,
    database: String,
    /// Of the last ReadyForQuery.
    status: u8,
    /// Whether its transaction has run DDL, which others see only when it has ended.
    has_ddl: bool,
    twins: Option<[Twin; 2]>,
}

/// What to do with what the server says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// All of it goes to the client.
    All,
    /// ReadyForQuery is ours.
    Answer,
    /// The question was ours.
    Nothing,
}

impl Tap {
    pub(crate) async fn start(cluster: &TestCluster, ledger: Ledger) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared {
            primary: cluster.primary().port,
            standby: cluster.replicas()[0].port,
            facts: Mutex::new(Facts::new(cluster.primary())),
            ledger: Mutex::new(ledger),
        });
        let serving = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A client that goes away ends its session with an error, as it should.
                sessions.spawn(async move { Session::run(stream, shared).await.unwrap_or_default() });
                while let Some(ended) = sessions.try_join_next() {
                    ended.expect("no session panics");
                }
            }
        });
        Self { port, shared, listening }
    }

    /// Ends it; panics if it ended before.
    pub(crate) async fn finish(self) -> Ledger {
        assert!(!self.listening.is_finished(), "a session has panicked");
        self.listening.abort();
        let mut ledger = self.shared.ledger.lock().await;
        std::mem::replace(&mut ledger, Ledger::new("", None))
    }
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    async fn receive(&mut self) -> io::Result<Message> {
        let tag = self.reader.read_u8().await?;
        Ok(Message { tag, body: self.body().await? })
    }

    async fn body(&mut self) -> io::Result<Vec<u8>> {
        let length = self.reader.read_u32().await?;
        let mut body = vec![0; (length as usize).saturating_sub(4)];
        self.reader.read_exact(&mut body).await?;
        Ok(body)
    }

    async fn send(&mut self, message: &Message) -> io::Result<()> {
        self.writer.write_all(&wire::message(message.tag, &message.body)).await
    }
}

impl Session {
    async fn run(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
        const NEGOTIATE: [u32; 2] = [80_877_103, 80_877_104];
        let mut client = Side::new(stream);
        let mut server = Side::new(TcpStream::connect(("127.0.0.1", shared.primary)).await?);
        let body = loop {
            let body = client.body().await?;
            let code = u32::from_be_bytes(*body.first_chunk().ok_or(io::ErrorKind::InvalidData)?);
            if !NEGOTIATE.contains(&code) {
                break body;
            }
            client.writer.write_all(b"N").await?;
        };
        // A length without a type: a message of the other kind without its first byte.
        server.writer.write_all(&wire::message(0, &body)[1..]).await?;
        let mut words = body[4..].split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let mut user = String::new();
        let mut database = String::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match &*name {
                "user" => user = value.into_owned(),
                "database" => database = value.into_owned(),
                _ => {}
            }
        }
        let database = if database.is_empty() { user } else { database };
        let mut session = Self { client, server, shared, database, status: b'I', has_ddl: false, twins: None };
        session.log_in().await?;
        session.serve().await
    }

    async fn log_in(&mut self) -> io::Result<()> {
        loop {
            let message = self.server.receive().await?;
            self.client.send(&message).await?;
            let asks = message.tag == b'R' && !matches!(message.body.last_chunk(), Some([0, 0, 0, 0]));
            if asks && message.body.get(3) != Some(&12) {
                let answer = self.client.receive().await?;
                self.server.send(&answer).await?;
            }
            if message.tag == b'Z' {
                return Ok(());
            }
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        loop {
            let message = self.client.receive().await?;
            match message.tag {
                b'Q' => self.statement(&message).await?,
                b'S' | b'F' => {
                    self.server.send(&message).await?;
                    self.answer(Pass::All).await?;
                }
                tag => {
                    if tag == b'P' {
                        self.shared.ledger.lock().await.parsed += 1;
                    }
                    self.server.send(&message).await?;
                }
            }
        }
    }

    /// What the server says up to ReadyForQuery.
    async fn answer(&mut self, pass: Pass) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.server.receive().await?;
            let is_end = message.tag == b'Z';
            if pass == Pass::All || (pass == Pass::Answer && !is_end) || matches!(message.tag, b'A' | b'S') {
                self.client.send(&message).await?;
            }
            if message.tag == b'G' {
                self.copy_in().await?;
            }
            if is_end {
                self.status = message.body.first().copied().unwrap_or(b'I');
            }
            messages.push(message);
            if is_end {
                return Ok(messages);
            }
        }
    }

    /// The client's data, to their end.
    async fn copy_in(&mut self) -> io::Result<()> {
        loop {
            let data = self.client.receive().await?;
            self.server.send(&data).await?;
            if matches!(data.tag, b'c' | b'f') {
                return Ok(());
            }
        }
    }

    /// A question of our own.
    async fn ask(&mut self, sql: &str) -> io::Result<Vec<Message>> {
        self.server.writer.write_all(&wire::query(sql)).await?;
        self.answer(Pass::Nothing).await
    }

    async fn statement(&mut self, message: &Message) -> io::Result<()> {
        let text = message.body.strip_suffix(&[0]).unwrap_or(&message.body);
        let before = self.status;
        let is_select = is_select(text);
        let (analysis, culprit) = self.shared.facts.lock().await.analyse(&self.database, text).await;
        let is_read = analysis.class() == Class::Read && Scanner::new(text).next().is_some();
        let mut entry = Entry {
            text,
            class: analysis.class(),
            culprit,
            is_select,
            place: if before == b'T' { Place::Block } else { Place::Alone },
            verdict: Verdict::Unseen(if before == b'E' { Why::Failed } else { Why::Unknown }),
            changed: None,
            said: String::new(),
        };
        let reach = if self.has_ddl { Reach::EVERYTHING } else { analysis.reach };
        match before {
            b'E' => self.pass(message).await?,
            _ if is_read || is_select => self.read(message, &mut entry, reach).await?,
            // What begins or ends a transaction must not be put into one.
            _ if reach.is_everything() || analysis.effects.has(Effects::COMMANDS) => self.pass(message).await?,
            _ => self.write(message, text, reach).await?,
        }
        if analysis.effects.has(Effects::DDL) {
            self.has_ddl = true;
        }
        if self.has_ddl {
            self.shared.facts.lock().await.stale(&self.database);
            self.has_ddl = self.status != b'I';
        }
        if Scanner::new(text).next().is_some() {
            self.shared.ledger.lock().await.add(&entry);
        }
        Ok(())
    }

    /// Runs it as it comes.
    async fn pass(&mut self, message: &Message) -> io::Result<()> {
        self.server.send(message).await?;
        self.answer(Pass::All).await.map(drop)
    }

    /// Runs a write of which is known what it may change, in a transaction of our own if it has none, and looks at what it has changed.
    async fn write(&mut self, message: &Message, text: &[u8], reach: Reach) -> io::Result<()> {
        let alone = self.status == b'I';
        let begin = if alone { "BEGIN;" } else { "" };
        let before = Touched::of(&self.ask(&format!("{begin}{}", Touched::QUERY)).await?);
        self.server.send(message).await?;
        let messages = self.answer(Pass::Answer).await?;
        let mut ready = messages.last().cloned().unwrap_or_else(|| Message { tag: b'Z', body: vec![b'I'] });
        let failed = messages.iter().any(|message| message.tag == b'E');
        if !failed {
            let after = Touched::of(&self.ask(Touched::QUERY).await?);
            self.reached(text, [&before, &after], Touch::Changes, reach).await;
        }
        if alone {
            self.ask(if failed { "ROLLBACK" } else { "COMMIT" }).await?;
            ready.body = vec![b'I'];
        }
        self.client.send(&ready).await
    }

    /// Runs what may be a read, in a transaction of our own if it is one and has none, and looks at what comes of it.
    async fn read(&mut self, message: &Message, entry: &mut Entry<'_>, reach: Reach) -> io::Result<()> {
        let is_read = entry.class == Class::Read;
        let alone = is_read && self.status == b'I';
        let begin = if alone { "BEGIN;" } else { "" };
        let state = State::of(&self.ask(&format!("{begin}{}", State::QUERY)).await?);
        let elsewhere = if is_read { self.elsewhere().await } else { None };
        let narrow = is_read && !reach.is_everything();
        let before = if narrow { Touched::of(&self.ask(Touched::QUERY).await?) } else { Touched::default() };
        self.server.send(message).await?;
        let messages = self.answer(Pass::Answer).await?;
        let mut ready = messages.last().cloned().unwrap_or_else(|| Message { tag: b'Z', body: vec![b'I'] });
        let answer = Answer::new(entry.text, &messages);
        if is_read && answer.error.is_none() {
            entry.changed = self.changed(state.as_ref(), elsewhere).await?;
            if narrow {
                let after = Touched::of(&self.ask(Touched::QUERY).await?);
                self.reached(entry.text, [&before, &after], Touch::Scans, reach).await;
            }
        }
        if alone {
            self.ask(if answer.error.is_some() { "ROLLBACK" } else { "COMMIT" }).await?;
            ready.body = vec![b'I'];
        }
        match state.as_ref().map(|state| (state, state.is_its_own())) {
            Some((_, Some(why))) if why != Why::Temporary => entry.verdict = Verdict::Unseen(why),
            Some((state, own)) => {
                (entry.verdict, entry.said) = self.compare(entry.text, state, &answer, entry.class).await;
                let differs = matches!(entry.verdict, Verdict::Failed | Verdict::Differs | Verdict::Unstable);
                if own.is_some() && differs {
                    entry.verdict = Verdict::Unseen(Why::Temporary);
                }
            }
            None => {}
        }
        self.client.send(&ready).await
    }

    async fn reached(&self, text: &[u8], [before, after]: [&Touched; 2], touch: Touch, reach: Reach) {
        let facts = self.shared.facts.lock().await;
        let beyond = after.beyond(before, touch, reach, |name| facts.alone(&self.database, name));
        self.shared.ledger.lock().await.reached(text, beyond);
    }

    async fn elsewhere(&self) -> Option<howdah_integration::session::Rows> {
        self.shared.facts.lock().await.elsewhere(&self.database).await
    }

    /// What a read has left behind, on the primary.
    async fn changed(
        &mut self,
        before: Option<&State>,
        elsewhere: Option<howdah_integration::session::Rows>,
    ) -> io::Result<Option<&'static str>> {
        let after = State::of(&self.ask(State::QUERY).await?);
        if let (Some(before), Some(after)) = (before, &after) {
            if !before.has_written() && after.has_written() {
                return Ok(Some("it has written"));
            }
            if before != after {
                return Ok(Some("the session is not as it was"));
            }
        }
        let now = self.elsewhere().await;
        Ok((elsewhere.is_some() && now.is_some() && now != elsewhere)
            .then_some("sequences or advisory locks are not as they were"))
    }

    async fn compare(&mut self, text: &[u8], state: &State, here: &Answer, class: Class) -> (Verdict, String) {
        if self.twins.is_none() {
            let (primary, standby) = (self.shared.primary, self.shared.standby);
            self.twins = Some([Twin::start(primary, &self.database).await, Twin::start(standby, &self.database).await]);
        }
        let unseen = (Verdict::Unseen(Why::Settings), String::new());
        let Some([twin, standby]) = &mut self.twins else { return unseen };
        let Some(there) = standby.answer(text, state).await else { return unseen };
        if there.error.is_some() && here.error.is_some() {
            return (Verdict::Wrong, String::new());
        }
        if there.is_refusal() {
            return (Verdict::Refused, format!("{:?}", there.error));
        }
        if there == *here {
            return (Verdict::Same, String::new());
        }
        // What writes is not run twice.
        if class == Class::Read && twin.answer(text, state).await.is_none_or(|again| again != *here) {
            return (Verdict::Unstable, String::new());
        }
        let shown = |answer: &Answer| {
            let error = answer.error.as_ref().map(|(code, text)| format!("{code} {text}"));
            let row = || answer.rows.first().map(|row| row.escape_ascii().to_string()).unwrap_or_default();
            error.unwrap_or_else(|| format!("{} rows, {:.80}", answer.rows.len(), row()))
        };
        let said = format!("[{}] [{}]", shown(here), shown(&there));
        (if there.error.is_some() { Verdict::Failed } else { Verdict::Differs }, said)
    }
}

/// Whether `text` is one statement that is written as a query.
fn is_select(text: &[u8]) -> bool {
    let tokens: Vec<Token> = Scanner::new(text).collect();
    let first = tokens.iter().find(|token| !token.is_mark(text, "("));
    let is_query =
        ["select", "with", "values", "table"].iter().any(|word| first.is_some_and(|it| it.is_word(text, word)));
    let ends = tokens.iter().position(|token| token.is_mark(text, ";"));
    is_query && ends.is_none_or(|at| tokens[at..].iter().all(|token| token.is_mark(text, ";")))
}
