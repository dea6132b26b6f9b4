//! Buffers that connections borrow while bytes are in them, so that an idle connection holds none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

use super::worker;
use crate::telemetry::counters::Sharded;

/// Bytes that one buffer has room for: what one read can bring.
pub const BUFFER: usize = 16 * 1024;

/// Bytes that a read has room for while one read after the other fills its buffer. A buffer that grew beyond this
/// for one long message is not kept.
pub const LARGE: usize = 4 * BUFFER;

/// Buffers that nobody is using, each worker's own: the last used is lent first, while the worker's cache still
/// has it.
#[derive(Debug)]
pub struct Stash {
    sides: Sharded<Side>,
    /// Most buffers on one side.
    bound: usize,
}

#[derive(Debug, Default)]
struct Side {
    idle: Mutex<Vec<BytesMut>>,
    /// Buffers taken here less those given here; wraps, as buffers may end elsewhere than they began.
    lent: AtomicUsize,
}

impl Stash {
    /// Keeps at most `bound` idle buffers on each of `sides`.
    #[must_use]
    pub fn new(bound: usize, sides: usize) -> Self {
        Self { sides: Sharded::new(sides), bound }
    }

    /// An empty buffer with room for [`BUFFER`] bytes.
    pub fn take(&self) -> BytesMut {
        let side = self.sides.of(worker::here());
        side.lent.fetch_add(1, Ordering::Relaxed);
        let last = side.lock().pop();
        last.unwrap_or_else(|| BytesMut::with_capacity(BUFFER))
    }

    /// Takes a buffer back; what is in it is gone.
    pub fn give(&self, mut buffer: BytesMut) {
        let side = self.sides.of(worker::here());
        side.lent.fetch_sub(1, Ordering::Relaxed);
        buffer.clear();
        buffer.reserve(BUFFER);
        if buffer.capacity() <= LARGE {
            let mut idle = side.lock();
            if idle.len() < self.bound {
                idle.push(buffer);
            }
        }
    }

    /// How many buffers are on loan.
    pub fn in_use(&self) -> usize {
        self.sides.iter().fold(0, |sum, side| sum.wrapping_add(side.lent.load(Ordering::Relaxed)))
    }

    /// How many buffers lie idle.
    pub fn idle(&self) -> usize {
        self.sides.iter().map(|side| side.lock().len()).sum()
    }
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
