//! Messages as bytes, and blocking connections that are logged in.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Failure, Options};

/// How long any one answer may take where the load waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

/// What an answer up to ReadyForQuery held.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "two messages that may have come, in any combination")]
pub(crate) struct Answer {
    /// ReadyForQuery came: the answer is complete.
    pub(crate) ready: bool,
    /// An ErrorResponse came.
    pub(crate) failed: bool,
}

/// Finds message boundaries in a stream of bytes that arrives in pieces, without keeping bodies.
#[derive(Default)]
pub(crate) struct Frames {
    header: [u8; 5],
    have: usize,
    skip: usize,
}

impl Frames {
    /// Takes the next piece; tells of `answer` what it saw.
    pub(crate) fn take(&mut self, mut piece: &[u8], answer: &mut Answer) {
        while !piece.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(piece.len());
                self.skip -= passed;
                piece = &piece[passed..];
                self.finish(answer);
                continue;
            }
            let wanted = (5 - self.have).min(piece.len());
            self.header[self.have..self.have + wanted].copy_from_slice(&piece[..wanted]);
            self.have += wanted;
            piece = &piece[wanted..];
            if self.have == 5 {
                let [_, length @ ..] = self.header;
                self.skip = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.finish(answer);
            }
        }
    }

    fn finish(&mut self, answer: &mut Answer) {
        if self.have == 5 && self.skip == 0 {
            answer.ready |= self.header[0] == b'Z';
            answer.failed |= self.header[0] == b'E';
            self.have = 0;
        }
    }
}

/// A message: its type, its length and its body.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((u32::try_from(body.len() + 4).unwrap_or(u32::MAX)).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A simple query.
pub(crate) fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), b"\0"].concat())
}

/// Parse as `name`, Bind, Execute and Sync of a statement without parameters.
pub(crate) fn prepared(name: &str, text: &str) -> Vec<u8> {
    let name = name.as_bytes();
    [
        message(b'P', &[name, b"\0", text.as_bytes(), b"\0\0\0"].concat()),
        message(b'B', &[b"\0", name, b"\0\0\0\0\0\0\0"].concat()),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
    .concat()
}

/// A connection that is logged in.
pub(crate) fn connect(options: &Options) -> Result<TcpStream, Failure> {
    let port: u16 = options.number("port", None)?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for word in ["user", options.text("user")?, "database", options.text("database")?, ""] {
        body.extend(word.as_bytes());
        body.push(0);
    }
    // The startup message alone has no type.
    stream.write_all(&message(0, &body)[1..])?;
    let answer = read_answer(&mut stream, &mut [0; 4096])?;
    if answer.failed { Err("the login was refused".into()) } else { Ok(stream) }
}

/// Sends `request` and reads the whole answer, which must not be an error.
pub(crate) fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<(), Failure> {
    stream.write_all(request)?;
    let answer = read_answer(stream, &mut [0; 4096])?;
    if answer.failed { Err("a statement failed".into()) } else { Ok(()) }
}

/// Reads up to ReadyForQuery, or to an error during login.
pub(crate) fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<Answer, Failure> {
    let (mut frames, mut answer) = (Frames::default(), Answer::default());
    while !answer.ready {
        match stream.read(buffer)? {
            0 if answer.failed => return Ok(answer),
            0 => return Err("the connection was closed".into()),
            bytes => frames.take(&buffer[..bytes], &mut answer),
        }
    }
    Ok(answer)
}
