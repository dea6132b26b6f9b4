//! Idle servers and the clients that wait for one, under one lock: whoever puts a server down sees who waits, and
//! whoever begins to wait sees what lies idle.
//!
//! Each worker has its own idle servers and its own line. A server that comes free goes to the worker's own line,
//! because waking another worker costs more than the wait that it saves; but not when somebody elsewhere has
//! waited longer by more than an eighth.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

/// `I` lies idle; those who wait are given a `T`, or told by an `E` why there will be none.
#[derive(Debug)]
pub(super) struct Lobby<I, T, E> {
    state: Mutex<State<I, T, E>>,
}

#[derive(Debug)]
struct State<I, T, E> {
    sides: Box<[Side<I, T, E>]>,
    gate: Gate,
    /// Clients in line.
    waiting: usize,
    /// The last number that was drawn.
    last: u64,
    /// Servers that exist.
    made: usize,
    /// Servers that are being made.
    growing: usize,
    bounds: Bounds,
}

/// One worker's.
#[derive(Debug)]
struct Side<I, T, E> {
    /// The last used at the end.
    idle: Vec<I>,
    /// By number.
    line: VecDeque<Waiter<T, E>>,
}

#[derive(Debug)]
struct Waiter<T, E> {
    number: u64,
    since: Instant,
    tell: oneshot::Sender<Result<T, E>>,
}

/// Whether servers are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// They are.
    Open,
    /// Not for now: clients wait.
    Paused,
    /// Nevermore.
    Closed,
}

/// How many servers there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// At most.
    pub(super) size: usize,
    /// At least.
    pub(super) min_idle: usize,
    /// Being made at once.
    pub(super) growing: usize,
}

/// A place in line; left when dropped.
#[derive(Debug)]
pub(super) struct Place<'a, I, T, E> {
    lobby: &'a Lobby<I, T, E>,
    worker: usize,
    number: u64,
}

/// What became of a client that asked.
#[derive(Debug)]
pub(super) enum Entered<'a, I, T, E> {
    /// There was an idle server.
    Served(I),
    /// It is in line, and hears over this.
    InLine(Place<'a, I, T, E>, oneshot::Receiver<Result<T, E>>),
    /// The pool is closed.
    Closed,
}

/// What becomes of a server that was put down.
#[derive(Debug)]
pub(super) enum Put<I, T, E> {
    /// It lies idle.
    Kept,
    /// Somebody has waited for it.
    For(I, oneshot::Sender<Result<T, E>>),
    /// The pool is closed.
    Refused(I),
}

/// Whether another server is to be made now; whoever is told so makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Grow {
    /// It is, and it is counted already.
    Yes,
    /// It is not.
    No,
}

/// What follows when a server could not be made.
#[derive(Debug)]
pub(super) enum Failed<T, E> {
    /// It is to be tried again in a while.
    Again,
    /// Nothing.
    Left,
    /// Those who wait are to be told.
    Tell(Vec<oneshot::Sender<Result<T, E>>>),
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Census {
    /// Servers that exist or are being made.
    pub(super) servers: usize,
    /// Servers that lie idle.
    pub(super) idle: usize,
    /// Servers that are lent.
    pub(super) lent: usize,
    /// Clients in line.
    pub(super) waiting: usize,
    /// Since when the first of them has waited.
    pub(super) oldest: Option<Instant>,
}

impl<I, T, E> Lobby<I, T, E> {
    /// Nothing idle and nobody in line, on each of `sides`.
    pub(super) fn new(sides: usize, bounds: Bounds, gate: Gate) -> Self {
        let side = |_| Side { idle: Vec::new(), line: VecDeque::new() };
        let sides = (0..sides.max(1)).map(side).collect();
        Self { state: Mutex::new(State { sides, gate, waiting: 0, last: 0, made: 0, growing: 0, bounds }) }
    }

    fn lock(&self) -> MutexGuard<'_, State<I, T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle server for `worker`: of its own, the last used that `fits`, or else the last used; or another's. None
    /// while anybody waits.
    pub(super) fn take(&self, worker: usize, fits: impl Fn(&I) -> bool) -> Option<I> {
        self.lock().take(worker, fits)
    }

    /// An idle server as from [`Self::take`], or a place in line for a client of `worker` that has waited since `since`; one that had the
    /// place `number` before gets it again.
    pub(super) fn enter(
        &self,
        worker: usize,
        since: Instant,
        number: Option<u64>,
        fits: impl Fn(&I) -> bool,
    ) -> Entered<'_, I, T, E> {
        let mut state = self.lock();
        if state.gate == Gate::Closed {
            return Entered::Closed;
        }
        if let Some(idle) = state.take(worker, fits) {
            return Entered::Served(idle);
        }
        let number = number.unwrap_or(state.last + 1);
        state.last = state.last.max(number);
        let (tell, told) = oneshot::channel();
        let line = &mut state.side(worker).line;
        let at = line.partition_point(|waiter| waiter.number < number);
        line.insert(at, Waiter { number, since, tell });
        state.waiting += 1;
        Entered::InLine(Place { lobby: self, worker, number }, told)
    }

    /// Puts down a server that `worker` has used, at `now`.
    pub(super) fn put(&self, worker: usize, idle: I, now: impl FnOnce() -> Instant) -> Put<I, T, E> {
        let mut state = self.lock();
        match state.gate {
            Gate::Closed => Put::Refused(idle),
            Gate::Open if state.waiting > 0 => match state.next(worker, now()) {
                Some(waiter) => Put::For(idle, waiter.tell),
                None => state.keep(worker, idle),
            },
            Gate::Open | Gate::Paused => state.keep(worker, idle),
        }
    }

    /// A pair of an idle server and somebody who waits for it, as there may be after a pause.
    pub(super) fn pair(&self, now: Instant) -> Option<(I, oneshot::Sender<Result<T, E>>)> {
        let mut state = self.lock();
        if state.gate != Gate::Open || state.waiting == 0 {
            return None;
        }
        let worker = state.sides.iter().position(|side| !side.idle.is_empty())?;
        let waiter = state.next(worker, now)?;
        state.side(worker).idle.pop().map(|idle| (idle, waiter.tell))
    }

    /// Whether servers are lent from now on. Those that lie idle when it is closed are given back, to be closed,
    /// and those who wait hear no more.
    pub(super) fn set_gate(&self, gate: Gate) -> Vec<I> {
        let mut state = self.lock();
        if state.gate == Gate::Closed {
            return Vec::new();
        }
        state.gate = gate;
        if gate != Gate::Closed {
            return Vec::new();
        }
        state.waiting = 0;
        let mut idle = Vec::new();
        for side in &mut state.sides {
            side.line.clear();
            idle.append(&mut side.idle);
        }
        idle
    }

    /// Takes out the idle servers that `keep` does not want.
    pub(super) fn weed(&self, mut keep: impl FnMut(&I) -> bool) -> Vec<I> {
        let mut state = self.lock();
        let sides = state.sides.iter_mut();
        sides.flat_map(|side| side.idle.extract_if(.., |idle| !keep(idle)).collect::<Vec<_>>()).collect()
    }

    /// Whether there are too few servers.
    pub(super) fn grow(&self) -> Grow {
        self.lock().grow()
    }

    /// A server that was being made exists: it is about to be put down.
    pub(super) fn made(&self) {
        let mut state = self.lock();
        state.growing -= 1;
        state.made += 1;
    }

    /// A server could not be made. Where there are others, those who wait may get one of them; where there are
    /// none, nor any being made, they are given out, to be told.
    pub(super) fn failed(&self) -> Failed<T, E> {
        let mut state = self.lock();
        state.growing -= 1;
        if state.made > 0 {
            // Whoever tries again is counted from now on, so that nobody else does.
            return if state.grow() == Grow::Yes { Failed::Again } else { Failed::Left };
        }
        if state.growing > 0 {
            return Failed::Left;
        }
        state.waiting = 0;
        Failed::Tell(state.sides.iter_mut().flat_map(|side| side.line.drain(..)).map(|waiter| waiter.tell).collect())
    }

    /// A server is no more.
    pub(super) fn lost(&self) {
        self.lock().made -= 1;
    }

    /// What there is.
    pub(super) fn census(&self) -> Census {
        let state = self.lock();
        let idle = state.sides.iter().map(|side| side.idle.len()).sum();
        let oldest = state.sides.iter().filter_map(|side| side.line.front()).map(|waiter| waiter.since).min();
        Census {
            servers: state.made + state.growing,
            idle,
            // Those that are being put down or closed count as lent until they are.
            lent: state.made.saturating_sub(idle),
            waiting: state.waiting,
            oldest,
        }
    }
}

impl<I, T, E> State<I, T, E> {
    fn side(&mut self, worker: usize) -> &mut Side<I, T, E> {
        let index = worker % self.sides.len();
        &mut self.sides[index]
    }

    fn keep(&mut self, worker: usize, idle: I) -> Put<I, T, E> {
        self.side(worker).idle.push(idle);
        Put::Kept
    }

    fn take(&mut self, worker: usize, fits: impl Fn(&I) -> bool) -> Option<I> {
        if self.gate != Gate::Open || self.waiting > 0 {
            return None;
        }
        let own = &mut self.side(worker).idle;
        if let Some(last) = own.len().checked_sub(1) {
            let recent = last.saturating_sub(LOOK)..=last;
            let chosen = recent.rev().find(|&at| own.get(at).is_some_and(&fits)).unwrap_or(last);
            return Some(own.remove(chosen));
        }
        self.sides.iter_mut().max_by_key(|side| side.idle.len())?.idle.pop()
    }

    /// Takes out of line whoever is to have a server that came free on `worker`.
    fn next(&mut self, worker: usize, now: Instant) -> Option<Waiter<T, E>> {
        let waited = |side: &Side<I, T, E>| side.line.front().map(|first| now.saturating_duration_since(first.since));
        let own = worker % self.sides.len();
        let (elsewhere, longest) =
            self.sides.iter().enumerate().filter_map(|(index, side)| Some((index, waited(side)?))).max_by_key(
                // Of two who came at once, the worker's own.
                |(index, waited)| (*waited, *index == own),
            )?;
        let near = waited(&self.sides[own]).is_some_and(|waited| waited >= longest.saturating_sub(longest / PATIENCE));
        let chosen = if near { own } else { elsewhere };
        self.waiting -= 1;
        self.sides[chosen].line.pop_front()
    }

    /// Counts one more as being made, if one is wanted: by those who wait, or because there are too few.
    fn grow(&mut self) -> Grow {
        let Bounds { size, min_idle, growing } = self.bounds;
        let total = self.made + self.growing;
        let wanted = self.growing < self.waiting || total < min_idle;
        if self.gate != Gate::Open || !wanted || total >= size || self.growing >= growing {
            return Grow::No;
        }
        self.growing += 1;
        Grow::Yes
    }
}

/// So many idle servers are looked at, besides the last used, for one that fits.
const LOOK: usize = 15;

/// Somebody elsewhere is served first who has waited longer by more than this part of their wait.
const PATIENCE: u32 = 8;

impl<I, T, E> Place<'_, I, T, E> {
    /// Its number.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

impl<I, T, E> Drop for Place<'_, I, T, E> {
    fn drop(&mut self) {
        let mut state = self.lobby.lock();
        let line = &mut state.side(self.worker).line;
        if let Ok(at) = line.binary_search_by_key(&self.number, |waiter| waiter.number) {
            line.remove(at);
            state.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
