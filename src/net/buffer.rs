//! Buffers that connections borrow while bytes are in them, so that an idle connection holds none.

use bytes::BytesMut;
use crossbeam_queue::ArrayQueue;

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that one buffer has room for: what one read can bring.
pub const BUFFER: usize = 16 * 1024;

/// A buffer that grew beyond this for one long message is not kept.
const KEEP: usize = 4 * BUFFER;

/// Buffers that nobody is using; a bounded queue without a lock.
#[derive(Debug)]
pub struct Stash {
    queue: ArrayQueue<BytesMut>,
    /// Buffers on loan.
    lent: AtomicUsize,
}

impl Stash {
    /// Keeps at most `bound` idle buffers.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { queue: ArrayQueue::new(bound.max(1)), lent: AtomicUsize::new(0) }
    }

    /// An empty buffer with room for [`BUFFER`] bytes.
    pub fn take(&self) -> BytesMut {
        self.lent.fetch_add(1, Ordering::Relaxed);
        self.queue.pop().unwrap_or_else(|| BytesMut::with_capacity(BUFFER))
    }

    /// Takes a buffer back; what is in it is gone.
    pub fn give(&self, mut buffer: BytesMut) {
        self.lent.fetch_sub(1, Ordering::Relaxed);
        buffer.clear();
        buffer.reserve(BUFFER);
        if buffer.capacity() <= KEEP {
            // A full stash drops it.
            let _ = self.queue.push(buffer);
        }
    }

    /// How many buffers are on loan.
    pub fn in_use(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// How many buffers lie idle.
    pub fn idle(&self) -> usize {
        self.queue.len()
    }
}
