//! What the protocol costs for each message: cutting a read into frames, judging replies, gathering what goes out.
//!
//! Rows are what a busy pooler sees most of, so the last group puts the three together as the relay does. Where a
//! benchmark counts elements, an element is one message or one piece.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use howdah::net::buffer::BUFFER;
use howdah::protocol::backend;
use howdah::protocol::frame::{Frame, Framer, Incomplete, Next};
use howdah::protocol::outbox::Outbox;
use howdah::protocol::replies::{Kind, Replies, Verdict, Whose};
use howdah::protocol::tag::backend as tag;

/// Short enough to be run often; what is measured takes nanoseconds, so there are samples enough.
fn brief() -> Criterion {
    let times = Criterion::default().warm_up_time(Duration::from_millis(300));
    times.measurement_time(Duration::from_secs(1)).sample_size(50).without_plots()
}

/// As many small rows as one read can bring, and how many they are; none is cut.
fn rows() -> (Vec<u8>, usize) {
    let mut row = BytesMut::new();
    backend::data_row(&mut row, [Some(&b"1000042"[..]), Some(b"-4711")].into_iter());
    let count = BUFFER / row.len();
    (row.repeat(count), count)
}

fn cut(buffer: &[u8], mut each: impl FnMut(Frame)) {
    let (mut framer, mut at) = (Framer::default(), 0);
    while let Ok(Next::Frame(frame)) = framer.next(buffer, at, |_, _, _| Incomplete::Stream) {
        each(frame);
        at = frame.end();
    }
}

fn framer(criterion: &mut Criterion) {
    let (buffer, count) = rows();
    let mut found = 0;
    cut(&buffer, |_| found += 1);
    assert_eq!(found, count, "every row is one frame");
    let mut group = criterion.benchmark_group("framer");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("rows_16k", |bencher| {
        bencher.iter(|| {
            cut(black_box(&buffer), |frame| {
                black_box(frame);
            });
        });
    });
    group.finish();
}

/// Messages with what their owner remembers of each, and the types of what a server answers.
struct Exchange {
    name: &'static str,
    sent: &'static [(Kind, Option<u64>)],
    received: &'static [u8],
}

/// A driver leaves a note with what changes the session, and none with what does not.
const EXCHANGES: [Exchange; 2] = [
    Exchange { name: "query", sent: &[(Kind::Query, None)], received: b"TDCZ" },
    Exchange {
        name: "parse_bind_describe_execute_sync",
        sent: &[
            (Kind::Parse, Some(1)),
            (Kind::Bind, Some(2)),
            (Kind::Describe, None),
            (Kind::Execute, None),
            (Kind::Sync, None),
        ],
        received: b"12TDCZ",
    },
];

fn hold(replies: &mut Replies<u64>, exchange: &Exchange) {
    for (kind, note) in exchange.sent {
        replies.expect(*kind, Whose::Client, *note);
    }
    for kind in exchange.received {
        let _ = black_box(replies.on(*kind, b'I'));
    }
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replies");
    for exchange in &EXCHANGES {
        // One queue for all, as a server has one for its whole life.
        let mut replies = Replies::default();
        hold(&mut replies, exchange);
        assert!(replies.is_clean(), "{}: the server owes nothing afterwards", exchange.name);
        group.throughput(Throughput::Elements(exchange.received.len() as u64));
        group.bench_function(exchange.name, |bencher| {
            bencher.iter(|| hold(&mut replies, black_box(exchange)));
        });
    }
    group.finish();
}

/// Gives the pieces to a write that takes all of them.
fn write(outbox: &mut Outbox, buffer: &[u8]) {
    let mut room = Outbox::room();
    let count = outbox.slices(buffer, &mut room);
    black_box(&room[..count]);
    outbox.advance(outbox.len());
}

/// How many pieces one write takes, half of them made here.
const ALTERNATING: usize = 32;

fn outbox(criterion: &mut Criterion) {
    let (buffer, count) = rows();
    let row = buffer.len() / count;
    let mut group = criterion.benchmark_group("outbox");
    // A relay begins each batch with an empty one, so its first allocation is part of the price.
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("adjacent_spans", |bencher| {
        bencher.iter(|| {
            let mut outbox = Outbox::default();
            for index in 0..black_box(count) {
                outbox.relay(index * row..(index + 1) * row);
            }
            write(&mut outbox, &buffer);
        });
    });
    // As a pipeline of renamed Binds leaves it: a new head, then the rest of the client's message.
    group.throughput(Throughput::Elements(ALTERNATING as u64));
    group.bench_function("made_and_spans", |bencher| {
        bencher.iter(|| {
            let mut outbox = Outbox::default();
            for index in 0..black_box(ALTERNATING / 2) {
                outbox.make(|out| out.extend_from_slice(b"B\0\0\0\x20\0howdah_1\0"));
                outbox.relay(index * row + 1..(index + 1) * row);
            }
            write(&mut outbox, &buffer);
        });
    });
    group.finish();
}

/// From a read to a write: what the relay does for each row, without the session and the sockets.
fn relay(criterion: &mut Criterion) {
    let (buffer, count) = rows();
    let mut replies = Replies::<u64>::default();
    // Never completed, so that any number of rows may come.
    replies.expect(Kind::Query, Whose::Client, None);
    assert!(matches!(replies.on(tag::DATA_ROW, 0), Ok((Verdict::Relay, _))), "rows are the client's");
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::ElementsAndBytes { elements: count as u64, bytes: buffer.len() as u64 });
    group.bench_function("rows_16k", |bencher| {
        bencher.iter(|| {
            let mut outbox = Outbox::default();
            cut(black_box(&buffer), |frame| {
                let first = frame.body(&buffer).first().copied().unwrap_or(0);
                if let Ok((Verdict::Relay, _)) = replies.on(frame.tag, first) {
                    outbox.relay(frame.start..frame.end());
                }
            });
            write(&mut outbox, &buffer);
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = brief(); targets = framer, replies, outbox, relay }
criterion_main!(benches);
