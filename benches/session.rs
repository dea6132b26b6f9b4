//! What a session costs for each batch: learning what it needs, encoding it for a server, hearing the replies.
//!
//! `observe` is the part before a server is chosen; `whole` goes on to the last reply. Both include the classifier,
//! whose cache has the text, and neither includes a socket, a route or a pool. One element is one batch.

mod sample;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use howdah::auth::Users;
use howdah::auth::method::{Step, begin};
use howdah::config::model::{AuthMethod, User};
use howdah::protocol::backend::message;
use howdah::protocol::frame::{Frame, Framer, Incomplete, Next};
use howdah::protocol::frontend::{self, Object};
use howdah::protocol::outbox::Outbox;
use howdah::protocol::replies::{Event, Replies};
use howdah::protocol::tag::frontend as tag;
use howdah::session::carried::Carried;
use howdah::session::encode::Upstream;
use howdah::session::pins::Pins;
use howdah::session::registry::Registry;
use howdah::session::scope::Outlook;
use howdah::session::{Batch, Intent, Note, Plan, Session, Standing, Work};
use howdah::sql::catalog::Catalog;
use howdah::sql::classify::Classifier;

/// Short enough to be run often; what is measured takes microseconds at most, so there are samples enough.
fn brief() -> Criterion {
    let times = Criterion::default().warm_up_time(Duration::from_millis(300));
    times.measurement_time(Duration::from_secs(1)).sample_size(50).without_plots()
}

/// Statements that a server keeps; the default of `pool.prepared_statements`.
const STATEMENTS: usize = 500;

/// A session with one server, which is lent anew for each batch.
struct Pair {
    session: Session,
    carried: Carried,
    replies: Replies<Note>,
    classifier: Classifier,
    catalog: Catalog,
}

impl Pair {
    fn new() -> Self {
        let user = User::named("app");
        let users = Users::new(&[user], [0; 32]);
        let Ok(Step::Done(_, proof)) = begin(AuthMethod::Trust, "app", &users, None, [0; 18]) else {
            panic!("trust asks for nothing");
        };
        Self {
            session: Session::new(
                &proof,
                Arc::new(Registry::default()),
                Arc::default(),
                Arc::default(),
                Pins::default(),
            ),
            carried: Carried::new(Arc::default(), STATEMENTS),
            replies: Replies::default(),
            classifier: Classifier::default(),
            catalog: sample::catalog(),
        }
    }

    fn observe(&mut self, batch: Batch<'_>) -> (Plan, Intent) {
        let mut plan = Plan::new(Standing::Detached);
        let Self { session, classifier, catalog, .. } = self;
        let intent = session.observe(batch, &mut plan, &Outlook { classifier, catalog, objects: 0 });
        (plan, intent)
    }

    /// What the server is sent is ready to be written; then it answers with messages of these types.
    fn exchange(&mut self, batch: Batch<'_>, answer: &[u8]) {
        let (plan, _) = self.observe(batch);
        let mut out = Outbox::default();
        let mut up = Upstream { carried: &mut self.carried, replies: &mut self.replies, out: &mut out };
        self.session.prelude(&mut up);
        self.session.encode(batch, &plan, 0, &mut up);
        black_box(&out);
        for kind in answer {
            self.hear(*kind);
        }
    }

    fn hear(&mut self, kind: u8) {
        let body = b"SELECT 1\0";
        match self.replies.on(kind, b'I') {
            Ok((_, Event::Command)) => {
                if let Some(note) = self.replies.front_note() {
                    self.session.on_command(note, body, &mut self.carried);
                }
            }
            // As the relay has it: nothing that the session would have to know.
            Ok((_, Event::None)) => {}
            Ok((_, event)) => self.session.on_reply(event, kind, body, &mut self.carried),
            Err(unexpected) => panic!("{unexpected}"),
        }
    }
}

/// Messages of a client in one buffer.
#[derive(Default)]
struct Messages(BytesMut);

impl Messages {
    fn query(mut self, text: &[u8]) -> Self {
        frontend::put_query(&mut self.0, text);
        self
    }

    fn parse(mut self, name: &[u8], text: &[u8]) -> Self {
        frontend::put_parse(&mut self.0, name, text, &[0, 0]);
        self
    }

    /// Binds one parameter, asks what the rows look like, and runs it all.
    fn bind_describe_execute(mut self, name: &[u8]) -> Self {
        message(&mut self.0, tag::BIND, |out| {
            out.put_u8(0);
            out.put_slice(name);
            out.put_u8(0);
            // No formats, one parameter of six bytes, no formats.
            out.put_slice(b"\0\0\0\x01\0\0\0\x06100000\0\0");
        });
        frontend::put_object(&mut self.0, tag::DESCRIBE, Object::Portal, b"");
        message(&mut self.0, tag::EXECUTE, |out| out.put_slice(&[0; 5]));
        self
    }

    fn sync(mut self) -> Self {
        frontend::put_sync(&mut self.0);
        self
    }

    fn frames(&self) -> Vec<Frame> {
        let (mut cutter, mut frames, mut at) = (Framer::default(), Vec::new(), 0);
        while let Ok(Next::Frame(frame)) = cutter.next(&self.0, at, |_, _, _| Incomplete::Wait) {
            frames.push(frame);
            at = frame.end();
        }
        frames
    }
}

const TEXT: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 100000;";
const PREPARED: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;";

fn measure(criterion: &mut Criterion, name: &str, pair: &mut Pair, messages: &Messages, answer: &[u8]) {
    let frames = messages.frames();
    let batch = Batch { buffer: &messages.0, frames: &frames };
    let (_, intent) = pair.observe(batch);
    assert!(matches!(intent, Intent::Run { work: Work::Read(_), .. }), "{name}: {intent:?}");
    pair.exchange(batch, answer);
    assert!(pair.replies.is_clean(), "{name}: the server owes nothing afterwards");
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.bench_function("observe", |bencher| bencher.iter(|| pair.observe(black_box(batch))));
    group.bench_function("whole", |bencher| bencher.iter(|| pair.exchange(black_box(batch), answer)));
    group.finish();
}

fn simple(criterion: &mut Criterion) {
    let messages = Messages::default().query(TEXT);
    measure(criterion, "simple_query", &mut Pair::new(), &messages, b"TDCZ");
}

/// What a driver sends that prepares each statement when it runs it.
fn unnamed(criterion: &mut Criterion) {
    let messages = Messages::default().parse(b"", PREPARED).bind_describe_execute(b"").sync();
    measure(criterion, "unnamed_statement", &mut Pair::new(), &messages, b"12TDCZ");
}

/// What a driver sends that has prepared the statement before, to a server that has it too.
fn named(criterion: &mut Criterion) {
    let mut pair = Pair::new();
    let first = Messages::default().parse(b"s", PREPARED).sync();
    pair.exchange(Batch { buffer: &first.0, frames: &first.frames() }, b"1Z");
    assert_eq!(pair.session.prepared_count(), 1, "the statement is prepared");
    let messages = Messages::default().bind_describe_execute(b"s").sync();
    measure(criterion, "named_statement", &mut pair, &messages, b"2TDCZ");
}

criterion_group! { name = benches; config = brief(); targets = simple, unnamed, named }
criterion_main!(benches);
