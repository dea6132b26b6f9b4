//! The threads that clients live on, and how many of them are in use.
//!
//! Each worker has a runtime of its own, and its clients' servers are registered there, too: a query runs from
//! the client's read to the client's write without waking another thread. As few workers are in use as will do,
//! because a thread that finds several sockets ready at once does more with one wake-up, and with warm caches; when
//! one is busy for most of the time, another joins in, and clients move there as they finish what they do.

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// The number of this thread's worker: from 1 for workers, 0 for every other thread.
#[must_use]
pub fn here() -> usize {
    HERE.get()
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    all: Vec<Worker>,
    /// How many of them are in use, the first ones.
    active: AtomicUsize,
    /// How many are always to be in use; 0: as many as are needed.
    fixed: AtomicUsize,
    /// Seats given so far.
    seats: AtomicUsize,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Where the kernel tells for how long the thread has run; `None` where it does not.
    schedstat: Option<PathBuf>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    /// The thread ends when this is dropped.
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

/// What a client's worker is found by, whichever are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(usize);

impl Workers {
    /// Starts as many workers as there are cores, or more if so many are to be `fixed`; see [`Self::fix`].
    pub fn start(fixed: usize) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let all = (1..=cores.max(fixed)).map(Worker::start).collect::<io::Result<_>>()?;
        let workers = Self { all, active: AtomicUsize::new(1), fixed: AtomicUsize::new(0), seats: AtomicUsize::new(0) };
        workers.fix(fixed);
        Ok(workers)
    }

    /// From now on so many are in use, as far as they were started; with 0, as many as are needed.
    pub fn fix(&self, count: usize) {
        // Who cannot measure how busy workers are uses them all.
        let blind = self.all.iter().any(|worker| worker.schedstat.is_none());
        let fixed = if count == 0 && blind { self.count() } else { count.min(self.count()) };
        self.fixed.store(fixed, Ordering::Relaxed);
        if fixed > 0 {
            self.active.store(fixed, Ordering::Relaxed);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// How many sides there are to what each thread keeps for itself: one for each worker, and, with the number
    /// that [`here`] gives them, one for all other threads.
    pub fn sides(&self) -> usize {
        self.count() + 1
    }

    /// How many are in use.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// A seat for a new client.
    pub fn seat(&self) -> Seat {
        Seat(self.seats.fetch_add(1, Ordering::Relaxed))
    }

    /// The number of the worker that a client with this seat belongs to now.
    pub fn home(&self, seat: Seat) -> usize {
        seat.0 % self.active() + 1
    }

    /// The runtime of the first worker, which is always in use: where new connections arrive.
    pub fn first(&self) -> &Handle {
        &self.all[0].runtime
    }

    /// Has the worker that `seat` belongs to run `task`; its sockets have to settle there.
    pub fn spawn(&self, seat: Seat, task: impl Future<Output = ()> + Send + 'static) {
        self.all[self.home(seat) - 1].runtime.spawn(task);
    }

    /// Uses more workers when one is busy, and fewer when fewer would do. Never ends.
    pub async fn adapt(&self) {
        let mut ticks = tokio::time::interval(SAMPLE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut times = vec![Duration::ZERO; self.all.len()];
        let mut gauge = Gauge::default();
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let elapsed = now.duration_since(std::mem::replace(&mut last, now));
            let active = self.active();
            // The others have little to do: clients that keep a server, and have not moved yet.
            let shares = self.all.iter().zip(&mut times).take(active).map(|(worker, time)| {
                let ran = worker.ran().unwrap_or(*time);
                let share = ran.saturating_sub(std::mem::replace(time, ran)).as_secs_f64();
                share / elapsed.as_secs_f64().max(f64::EPSILON)
            });
            let next = gauge.next(&shares.collect::<Vec<_>>(), self.count());
            if next == active || self.fixed.load(Ordering::Relaxed) != 0 {
                continue;
            }
            if let (Some(worker), Some(time)) = (self.all.get(active), times.get_mut(active)) {
                // It counts from now on, should it be the one that joins in.
                *time = worker.ran().unwrap_or_default();
            }
            tracing::debug!(workers = next, "workers in use");
            self.active.store(next, Ordering::Relaxed);
        }
    }

    /// Ends all tasks, wherever they are, and waits until they have ended.
    pub async fn stop(&self) {
        let running = self.all.iter().filter_map(|worker| worker.lock().take());
        let stopping = running.map(|Running { stop, thread }| {
            drop(stop);
            thread
        });
        // All are told before one is waited for.
        let threads: Vec<_> = stopping.collect();
        let join = || threads.into_iter().for_each(|thread| drop(thread.join()));
        // A panic has been reported where it happened.
        let _ = tokio::task::spawn_blocking(join).await;
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        // Signals and child processes are not for workers, who would look for them before each wait.
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            HERE.set(number);
            // It waits for this, and cannot have gone.
            let _ = tell.send(schedstat());
            // An error says that the sender is gone, which is the word to stop.
            let _ = runtime.block_on(stopped);
        })?;
        let schedstat = told.recv().unwrap_or_default();
        Ok(Self { runtime: handle, schedstat, running: Mutex::new(Some(Running { stop, thread })) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long its thread has run, without the time in which it was ready but others ran: a machine that is
    /// busy with other things has no use for more threads.
    fn ran(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(self.schedstat.as_ref()?).ok()?;
        text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }
}

/// Where the kernel tells how long this thread has run (proc(5)), if it does.
fn schedstat() -> Option<PathBuf> {
    let thread = std::fs::read_link("/proc/thread-self").ok()?;
    let path = PathBuf::from("/proc").join(thread).join("schedstat");
    path.exists().then_some(path)
}

/// How often it is looked how busy workers are.
const SAMPLE: Duration = Duration::from_millis(250);
/// A worker that runs for more than this part of the time wants help ...
const BUSY: f64 = 0.75;
/// ... when it has done so for this many samples.
const BUSY_SAMPLES: u32 = 2;
/// One worker fewer will do when each of the others would run for less than this part of the time ...
const CALM: f64 = 0.5;
/// ... for this many samples.
const CALM_SAMPLES: u32 = 40;

/// Decides how many workers are to be in use.
#[derive(Debug, Default)]
struct Gauge {
    busy: u32,
    calm: u32,
}

impl Gauge {
    /// How many of `count` are to be in use after a sample in which those in use each ran for its `share` of the time.
    fn next(&mut self, shares: &[f64], count: usize) -> usize {
        let active = shares.len();
        let most = shares.iter().copied().fold(0.0, f64::max);
        let fewer = u32::try_from(active.saturating_sub(1)).unwrap_or(u32::MAX);
        let calm = fewer > 0 && shares.iter().sum::<f64>() < CALM * f64::from(fewer) && most < BUSY;
        self.busy = if most > BUSY { self.busy + 1 } else { 0 };
        self.calm = if calm { self.calm + 1 } else { 0 };
        if self.busy >= BUSY_SAMPLES && active < count {
            self.busy = 0;
            return active + 1;
        }
        if self.calm >= CALM_SAMPLES {
            self.calm = 0;
            return active - 1;
        }
        active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What samples in which each of `active` workers out of three ran for its share of the time lead to.
    fn after(samples: u32, mut active: usize, share: impl Fn(usize) -> f64) -> usize {
        let mut gauge = Gauge::default();
        for _ in 0..samples {
            let shares: Vec<_> = (0..active).map(&share).collect();
            active = gauge.next(&shares, 3);
        }
        active
    }

    #[test]
    fn a_busy_worker_gets_help_and_calm_ones_give_way() {
        // One client that keeps its worker busy, and others that do little: they come and stay apart.
        let one_busy = |worker| if worker == 0 { 0.9 } else { 0.0 };
        let cases = [(1, 1), (BUSY_SAMPLES, 2), (2 * BUSY_SAMPLES, 3), (1000, 3)];
        for (samples, expected) in cases {
            assert_eq!(after(samples, 1, one_busy), expected, "after {samples}");
        }
        let cases = [(CALM_SAMPLES - 1, 3), (CALM_SAMPLES, 2), (1000, 1)];
        for (samples, expected) in cases {
            assert_eq!(after(samples, 3, |_| 0.1), expected, "after {samples}");
        }
        // Neither so busy nor so calm that anything should change.
        assert_eq!(after(1000, 2, |_| 0.3), 2);
        assert_eq!(after(1000, 1, |_| 0.5), 1);
    }

    #[tokio::test]
    async fn tasks_run_on_the_worker_of_their_seat_until_it_stops() {
        let workers = Workers::start(2).unwrap();
        for expected in [1, 2, 1] {
            let seat = workers.seat();
            let (tell, told) = oneshot::channel();
            workers.spawn(seat, async move { tell.send(here()).unwrap() });
            assert_eq!((told.await.unwrap(), workers.home(seat)), (expected, expected));
        }
        let (held, dropped) = oneshot::channel::<()>();
        workers.spawn(workers.seat(), async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        workers.stop().await;
        assert!(dropped.await.is_err());
        assert_eq!(here(), 0);
    }

    #[tokio::test]
    async fn a_number_may_be_fixed_as_far_as_workers_were_started() {
        let workers = Workers::start(3).unwrap();
        let started = workers.count();
        assert!(started >= 3 && workers.active() == 3);
        workers.fix(1);
        assert_eq!(workers.active(), 1);
        workers.fix(1000);
        assert_eq!(workers.active(), started);
        workers.stop().await;
    }

    #[tokio::test]
    async fn how_long_a_worker_has_run_is_known() {
        let workers = Workers::start(0).unwrap();
        let before = workers.all[0].ran().unwrap();
        let (tell, told) = oneshot::channel();
        workers.spawn(workers.seat(), async move {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(20) {}
            tell.send(()).unwrap();
        });
        told.await.unwrap();
        assert!(workers.all[0].ran().unwrap() > before);
        workers.stop().await;
    }
}
