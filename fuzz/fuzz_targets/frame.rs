//! The framer on any bytes: pieces follow each other without a gap, and messages are the same however the bytes come.
#![no_main]

use howdah::protocol::frame::{Framer, Incomplete, Next};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((step, stream)) = input.split_first() else { return };
    let whole = messages(stream, stream.len().max(1));
    let pieces = messages(stream, usize::from(*step).max(1));
    assert_eq!(whole, pieces);
});

/// Where messages start, by tag, in a stream that comes `step` bytes at a time.
fn messages(stream: &[u8], step: usize) -> Vec<(u8, usize)> {
    let (mut framer, mut found, mut at, mut here) = (Framer::default(), Vec::new(), 0, 0);
    while here < stream.len() {
        here = (here + step).min(stream.len());
        loop {
            match framer.next(&stream[..here], at, |_, _, _| Incomplete::Stream) {
                Ok(Next::Frame(frame)) => {
                    assert!(frame.start == at && frame.len > 0 && frame.end() <= here);
                    if frame.is_start() {
                        found.push((frame.tag, frame.start));
                    }
                    at = frame.end();
                }
                Ok(Next::Need { missing }) => {
                    assert!(missing > 0);
                    break;
                }
                Err(_) => return found,
            }
        }
    }
    found
}
