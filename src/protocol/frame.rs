//! Cutting a byte stream into messages by index, without copying or decoding.
//!
//! ```text
//! buffer:   | tag | length u32 | body … | tag | length | body (not all here yet)
//!           ^ at                        ^ at + frame.len
//! ```
//!
//! `length` counts itself and the body, not the tag. For every frame that `Framer::next` returns,
//! `at <= frame.start` and `frame.start + frame.len <= buffer.len()`.

/// How much of a message a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its header and the first bytes of its body; more follows.
    Head,
    /// Bytes from its middle; more follows.
    Middle,
    /// Its last bytes.
    Tail,
}

/// One message, or a piece of one that streams through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The message type.
    pub tag: u8,
    /// Where the piece begins in the buffer.
    pub start: usize,
    /// How many bytes of the buffer it covers.
    pub len: usize,
    /// Which piece it is.
    pub part: Part,
}

impl Frame {
    /// The index one past the piece.
    #[must_use]
    pub const fn end(self) -> usize {
        self.start + self.len
    }

    /// Whether a message begins with this piece.
    #[must_use]
    pub const fn is_start(self) -> bool {
        matches!(self.part, Part::Whole | Part::Head)
    }

    /// Whether a message ends with this piece.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self.part, Part::Whole | Part::Tail)
    }

    /// What the message's length word says. Only for pieces that start a message.
    #[must_use]
    pub fn length(self, buffer: &[u8]) -> usize {
        debug_assert!(self.is_start());
        let at = self.start;
        u32::from_be_bytes([buffer[at + 1], buffer[at + 2], buffer[at + 3], buffer[at + 4]]) as usize
    }

    /// The bytes after the header, as far as this piece holds them. Only for pieces that start a message.
    #[must_use]
    pub fn body(self, buffer: &[u8]) -> &[u8] {
        debug_assert!(self.is_start());
        &buffer[self.start + HEADER..self.end()]
    }
}

/// Bytes of tag and length.
pub const HEADER: usize = 5;

/// The largest length word PostgreSQL itself accepts (`PQ_LARGE_MESSAGE_LIMIT`,
/// src/include/libpq/libpq.h: `MaxAllocSize - 1`).
pub const MAX_LENGTH: usize = 0x3FFF_FFFE;

/// What stands in the stream where a message should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length word is below 4 or above [`MAX_LENGTH`].
    #[error("message of type {tag:#04x} has the impossible length {length}")]
    Length {
        /// The message type.
        tag: u8,
        /// The length word.
        length: u32,
    },
}

/// What to do when a message is not all here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incomplete {
    /// Wait until it is.
    Wait,
    /// Hand over what is here.
    Stream,
}

/// What `Framer::next` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A message or a piece of one.
    Frame(Frame),
    /// Too few bytes: at least `missing` more are needed before another call is worth while.
    Need {
        /// A lower bound, at least 1.
        missing: usize,
    },
}

/// Cuts one direction of one connection into frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framer {
    /// Tag of the message that is streaming through, while `remaining > 0`.
    tag: u8,
    /// Bytes of it that have not been handed over.
    remaining: usize,
}

impl Framer {
    /// Whether the next byte belongs to a message whose head was handed over before.
    #[must_use]
    pub const fn in_message(&self) -> bool {
        self.remaining > 0
    }

    /// The next frame of `buffer` at `at`. `incomplete` says, by tag, bytes in all and bytes here, what to do
    /// with a message that is not all here.
    pub fn next(
        &mut self,
        buffer: &[u8],
        at: usize,
        incomplete: impl Fn(u8, usize, usize) -> Incomplete,
    ) -> Result<Next, FrameError> {
        let here = buffer.len() - at;
        if self.remaining > 0 {
            return Ok(self.piece(at, here));
        }
        if here < HEADER {
            return Ok(Next::Need { missing: HEADER - here });
        }
        let tag = buffer[at];
        let length = u32::from_be_bytes([buffer[at + 1], buffer[at + 2], buffer[at + 3], buffer[at + 4]]);
        let body = length as usize;
        if !(4..=MAX_LENGTH).contains(&body) {
            return Err(FrameError::Length { tag, length });
        }
        let total = body + 1;
        if here >= total {
            return Ok(Next::Frame(Frame { tag, start: at, len: total, part: Part::Whole }));
        }
        if incomplete(tag, total, here) == Incomplete::Wait {
            return Ok(Next::Need { missing: total - here });
        }
        if here == HEADER {
            // Whatever comes next streams through: room for all of it is not needed, and its length no matter.
            return Ok(Next::Need { missing: 1 });
        }
        self.tag = tag;
        self.remaining = total - here;
        Ok(Next::Frame(Frame { tag, start: at, len: here, part: Part::Head }))
    }

    fn piece(&mut self, at: usize, here: usize) -> Next {
        if here == 0 {
            return Next::Need { missing: 1 };
        }
        let len = here.min(self.remaining);
        self.remaining -= len;
        let part = if self.remaining == 0 { Part::Tail } else { Part::Middle };
        Next::Frame(Frame { tag: self.tag, start: at, len, part })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    /// Feeds `stream` in pieces and collects (tag, all bytes) per message.
    fn cut(stream: &[u8], splits: &[usize], incomplete: Incomplete) -> Vec<(u8, Vec<u8>)> {
        let mut framer = Framer::default();
        let (mut buffer, mut messages, mut fed) = (Vec::new(), Vec::<(u8, Vec<u8>)>::new(), 0);
        for end in splits.iter().copied().chain([stream.len()]) {
            let end = end.clamp(fed, stream.len());
            buffer.extend_from_slice(&stream[fed..end]);
            fed = end;
            let mut at = 0;
            while let Next::Frame(frame) = framer.next(&buffer, at, |_, _, _| incomplete).unwrap() {
                assert!(frame.start == at && frame.end() <= buffer.len());
                let bytes = &buffer[frame.start..frame.end()];
                if frame.is_start() {
                    messages.push((frame.tag, bytes.to_vec()));
                } else {
                    messages.last_mut().unwrap().1.extend_from_slice(bytes);
                }
                at = frame.end();
            }
            buffer.drain(..at);
        }
        assert!(buffer.is_empty() && !framer.in_message());
        messages
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_messages(
            bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..8),
            mut splits in prop::collection::vec(0usize..400, 0..20),
        ) {
            splits.sort_unstable();
            let expected: Vec<_> = bodies.iter().map(|(tag, body)| (*tag, message(*tag, body))).collect();
            let stream: Vec<u8> = expected.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            prop_assert_eq!(&cut(&stream, &splits, Incomplete::Wait), &expected);
            prop_assert_eq!(&cut(&stream, &splits, Incomplete::Stream), &expected);
        }
    }

    #[test]
    fn what_streams_needs_no_more_than_a_byte() {
        let header = [b'd', 0x10, 0, 0, 0];
        let next = |incomplete| Framer::default().next(&header, 0, |_, _, _| incomplete);
        assert_eq!(next(Incomplete::Stream), Ok(Next::Need { missing: 1 }));
        assert_eq!(next(Incomplete::Wait), Ok(Next::Need { missing: 0x1000_0000 - 4 }));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0u32, 3, 0x3FFF_FFFF, u32::MAX] {
            let mut buffer = vec![b'Q'];
            buffer.extend_from_slice(&length.to_be_bytes());
            let found = Framer::default().next(&buffer, 0, |_, _, _| Incomplete::Stream);
            assert_eq!(found, Err(FrameError::Length { tag: b'Q', length }));
        }
    }
}
