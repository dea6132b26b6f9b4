//! What goes out in one write: spans of the buffer that a read filled, and bytes made here between them.
//!
//! Adjacent spans coalesce, so a buffer full of rows is one piece.

use std::io::IoSlice;
use std::ops::Range;

use bytes::BytesMut;
use smallvec::SmallVec;

/// Where a piece's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// In the buffer that was read.
    Span(Range<usize>),
    /// In `Outbox::made`.
    Made(Range<usize>),
}

/// Most pieces that one write takes (`IOV_MAX` is 1024; more than a few do not pay).
const SLICES: usize = 32;

/// Pieces waiting to be written, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Mostly one.
    pieces: SmallVec<[Piece; 1]>,
    /// Pieces before this one are written.
    next: usize,
    made: BytesMut,
    len: usize,
}

impl Outbox {
    /// Bytes not yet written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether all is written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sends on `span` of the buffer.
    pub fn relay(&mut self, span: Range<usize>) {
        self.len += span.len();
        match self.pieces.last_mut() {
            Some(Piece::Span(last)) if last.end == span.start => last.end = span.end,
            _ => self.pieces.push(Piece::Span(span)),
        }
    }

    /// Sends what `write` appends.
    pub fn make(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let start = self.made.len();
        write(&mut self.made);
        let made = start..self.made.len();
        self.len += made.len();
        match self.pieces.last_mut() {
            Some(Piece::Made(last)) if last.end == made.start => last.end = made.end,
            _ => self.pieces.push(Piece::Made(made)),
        }
    }

    /// Throws away what is waiting.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.made.clear();
        (self.next, self.len) = (0, 0);
    }

    /// The first pieces as slices for one write.
    pub fn slices<'a>(&'a self, buffer: &'a [u8], out: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut count = 0;
        for (slot, piece) in out.iter_mut().zip(&self.pieces[self.next..]) {
            *slot = IoSlice::new(match piece {
                Piece::Span(range) => &buffer[range.clone()],
                Piece::Made(range) => &self.made[range.clone()],
            });
            count += 1;
        }
        count
    }

    /// Room for [`Outbox::slices`].
    #[must_use]
    pub fn room<'a>() -> [IoSlice<'a>; SLICES] {
        [IoSlice::new(&[]); SLICES]
    }

    /// Takes note that the first `count` bytes are written.
    pub fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.len);
        self.len = self.len.saturating_sub(count);
        while let Some(Piece::Span(range) | Piece::Made(range)) = self.pieces.get_mut(self.next) {
            if count < range.len() {
                range.start += count;
                return;
            }
            count -= range.len();
            self.next += 1;
        }
        self.clear();
    }

    /// All of it in one piece, for what is written later than its buffer lives.
    #[must_use]
    pub fn to_bytes(&self, buffer: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(self.len);
        for piece in &self.pieces[self.next..] {
            bytes.extend_from_slice(match piece {
                Piece::Span(range) => &buffer[range.clone()],
                Piece::Made(range) => &self.made[range.clone()],
            });
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(outbox: &mut Outbox, buffer: &[u8], step: usize) -> Vec<u8> {
        let mut written = Vec::new();
        while !outbox.is_empty() {
            let mut room = Outbox::room();
            let count = outbox.slices(buffer, &mut room);
            let all: Vec<u8> = room[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            let taken = all.len().min(step);
            written.extend_from_slice(&all[..taken]);
            outbox.advance(taken);
        }
        written
    }

    proptest! {
        #[test]
        fn everything_goes_out_in_order(
            parts in prop::collection::vec((any::<bool>(), 1usize..20), 0..60),
            step in 1usize..50,
        ) {
            let buffer: Vec<u8> = (0..=255).cycle().take(2000).collect();
            let (mut outbox, mut expected, mut at) = (Outbox::default(), Vec::new(), 0);
            for (relay, len) in parts {
                if relay {
                    outbox.relay(at..at + len);
                    expected.extend_from_slice(&buffer[at..at + len]);
                    at += len + usize::from(len % 3 == 0);
                } else {
                    outbox.make(|out| out.extend_from_slice(&vec![b'*'; len]));
                    expected.extend(std::iter::repeat_n(b'*', len));
                }
            }
            prop_assert_eq!(outbox.len(), expected.len());
            prop_assert_eq!(&outbox.to_bytes(&buffer)[..], &expected[..]);
            prop_assert_eq!(drain(&mut outbox, &buffer, step), expected);
        }
    }

    #[test]
    fn adjacent_spans_are_one_piece() {
        let mut outbox = Outbox::default();
        outbox.relay(0..10);
        outbox.relay(10..30);
        let buffer = [0u8; 30];
        assert_eq!(outbox.slices(&buffer, &mut Outbox::room()), 1);
    }
}
