//! Many clients with `SELECT 1`, in a closed loop or at a rate that does not wait for answers.
//!
//! At a rate, a thread of its own sleeps until the next arrival and sends it on a client that is free, or leaves it
//! for the next client that becomes free. Its latency counts from when it was due, not from when it was sent:
//! otherwise a pooler that stops for a second would be asked less in that second, and would look better for it.

use std::collections::VecDeque;
use std::io::{BufRead as _, ErrorKind, Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::wire::{Answer, Frames};
use crate::{Failure, Options, report, wire};

/// Runs before anything counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long answers may be outstanding when the time is over.
const GRACE: Duration = Duration::from_secs(10);

/// What both threads see.
#[derive(Default)]
struct Shared {
    /// Clients that wait for work.
    free: Vec<usize>,
    /// Arrivals that wait for a client.
    late: VecDeque<Instant>,
    /// When what each client is busy with was due.
    due: Vec<Instant>,
    /// All arrivals have been.
    over: bool,
    /// What the sending thread died of.
    failure: Option<String>,
}

struct Client {
    stream: TcpStream,
    frames: Frames,
    answer: Answer,
    fails: bool,
}

/// Small, good enough for arrivals, and the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The time to the next arrival of a Poisson process.
    fn gap(&mut self, rate: f64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a random number needs no more than 53 bits")]
        let uniform = ((self.next() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() / rate)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `--clients N --seconds S [--rate R] [--failing 1]`: at R a second, or without it as fast as answers come.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let count: usize = options.number("clients", None)?;
    let seconds: f64 = options.number("seconds", None)?;
    let rate: f64 = options.number("rate", Some(0.0))?;
    let failing = options.number("failing", Some(0))? != 0;
    let poll = Poll::new()?;
    let (mut clients, mut writers) = (Vec::with_capacity(count), Vec::new());
    for number in 0..count {
        let stream = wire::connect(options)?;
        stream.set_nonblocking(true)?;
        if rate > 0.0 {
            writers.push(stream.try_clone()?);
        }
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        clients.push(Client { stream, frames: Frames::default(), answer: Answer::default(), fails: false });
    }
    let start = Instant::now() + Duration::from_millis(10);
    let shared = Arc::new(Mutex::new(Shared { due: vec![start; count], ..Shared::default() }));
    let end = start + WARM_UP + Duration::from_secs_f64(seconds);
    let mut looped = Loop {
        poll,
        clients,
        start,
        end,
        closed: rate <= 0.0,
        failing,
        random: Random(0x2545_F491_4F6C_DD1D),
        completed: 0,
        latencies: Vec::new(),
        failed: 0,
        shared: Arc::clone(&shared),
        good: wire::query("SELECT 1"),
        bad: wire::query("SELECT 1/0"),
    };
    if rate > 0.0 {
        lock(&shared).free = (0..count).rev().collect();
        thread::spawn(move || {
            let outcome = arrivals(&shared, &mut writers, start, end, rate);
            let mut shared = lock(&shared);
            shared.over = true;
            shared.failure = outcome.err().map(|failure| failure.to_string());
        });
    } else {
        for number in 0..count {
            looped.send(number)?;
        }
    }
    looped.turn()?;
    looped.print(seconds)?;
    // As in bulk: the clients stay until the counters are read.
    let _ = std::io::stdin().lock().lines().next();
    Ok(())
}

/// Sends arrivals when they are due.
fn arrivals(
    shared: &Mutex<Shared>,
    writers: &mut [std::net::TcpStream],
    start: Instant,
    end: Instant,
    rate: f64,
) -> Result<(), Failure> {
    let request = wire::query("SELECT 1");
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut due = start;
    while due < end {
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            thread::sleep(wait);
        }
        let client = {
            let mut shared = lock(shared);
            let client = shared.free.pop();
            match client {
                Some(client) => shared.due[client] = due,
                None => shared.late.push_back(due),
            }
            client
        };
        if let Some(client) = client {
            writers[client].write_all(&request)?;
        }
        due += random.gap(rate);
    }
    Ok(())
}

/// The thread that reads answers.
#[expect(
    clippy::struct_excessive_bools,
    reason = "two choices of the command line, which have nothing to do with each other"
)]
struct Loop {
    poll: Poll,
    clients: Vec<Client>,
    start: Instant,
    end: Instant,
    closed: bool,
    failing: bool,
    random: Random,
    /// Answers within the window.
    completed: usize,
    /// In microseconds.
    latencies: Vec<u32>,
    failed: usize,
    shared: Arc<Mutex<Shared>>,
    good: Vec<u8>,
    bad: Vec<u8>,
}

impl Loop {
    fn turn(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        let mut told = 0;
        loop {
            let now = Instant::now();
            // The driver reads the pooler's counters at these two lines.
            if told == 0 && now >= self.start + WARM_UP {
                report(r#"{"window":"start"}"#)?;
                told = 1;
            }
            if told == 1 && now >= self.end {
                report(r#"{"window":"end"}"#)?;
                told = 2;
            }
            if told == 2 && self.is_done(now)? {
                return Ok(());
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(5)))?;
            for event in &events {
                self.read(event.token().0)?;
            }
        }
    }

    fn is_done(&self, now: Instant) -> Result<bool, Failure> {
        if self.closed {
            return Ok(true);
        }
        let shared = lock(&self.shared);
        if let Some(failure) = &shared.failure {
            return Err(failure.clone().into());
        }
        if now > self.end + GRACE {
            return Err(format!("{} arrivals are still without a client", shared.late.len()).into());
        }
        Ok(shared.over && shared.late.is_empty() && shared.free.len() == self.clients.len())
    }

    /// Reads what there is for one client; may find its answer complete.
    fn read(&mut self, number: usize) -> Result<(), Failure> {
        let client = &mut self.clients[number];
        let mut buffer = [0; 4096];
        loop {
            match client.stream.read(&mut buffer) {
                Ok(0) => return Err("a connection was closed".into()),
                Ok(bytes) => client.frames.take(&buffer[..bytes], &mut client.answer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            if client.answer.ready {
                if client.answer.failed != client.fails {
                    return Err("a statement failed that should not, or did not fail".into());
                }
                self.failed += usize::from(client.answer.failed);
                client.answer = Answer::default();
                return self.complete(number);
            }
        }
        Ok(())
    }

    /// Notes the latency and gives the client its next work, or none.
    fn complete(&mut self, number: usize) -> Result<(), Failure> {
        let now = Instant::now();
        let mut shared = lock(&self.shared);
        let due = shared.due[number];
        let counts = (self.start + WARM_UP..self.end).contains(&now);
        self.completed += usize::from(counts);
        // In a closed loop what is answered in the window; at a rate what was due in it, however late the answer.
        if if self.closed { counts } else { due >= self.start + WARM_UP } {
            self.latencies.push(u32::try_from((now - due).as_micros()).unwrap_or(u32::MAX));
        }
        if self.closed {
            drop(shared);
            return if now < self.end { self.send(number) } else { Ok(()) };
        }
        if let Some(due) = shared.late.pop_front() {
            shared.due[number] = due;
            drop(shared);
            self.clients[number].stream.write_all(&self.good)?;
        } else {
            shared.free.push(number);
        }
        Ok(())
    }

    fn send(&mut self, number: usize) -> Result<(), Failure> {
        let fails = self.failing && self.random.next().is_multiple_of(10);
        let client = &mut self.clients[number];
        client.fails = fails;
        lock(&self.shared).due[number] = Instant::now();
        client.stream.write_all(if fails { &self.bad } else { &self.good })?;
        Ok(())
    }

    fn print(&mut self, seconds: f64) -> Result<(), Failure> {
        self.latencies.sort_unstable();
        let count = self.latencies.len();
        if count == 0 {
            return Err("nothing was answered".into());
        }
        let at = |share: usize| f64::from(self.latencies[(count * share / 1000).min(count - 1)]) / 1000.0;
        report(&format!(
            r#"{{"transactions":{},"seconds":{seconds},"failed":{},"p50_ms":{},"p99_ms":{},"p999_ms":{}}}"#,
            self.completed,
            self.failed,
            at(500),
            at(990),
            at(999),
        ))
    }
}
