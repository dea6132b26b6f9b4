//! A client that speaks the protocol message by message, for what drivers hide.
//!
//! Follows PostgreSQL's manual, chapter "Frontend/Backend Protocol".

use std::fmt::Write as _;
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::session::Login;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// One message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

/// A logged-in connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Process and secret of the BackendKeyData message.
    pub key: Vec<u8>,
    /// The ParameterStatus messages of the login, sorted.
    pub parameters: Vec<(String, String)>,
    /// The body of `NegotiateProtocolVersion`, when the server speaks less than it was asked for.
    pub negotiated: Option<Vec<u8>>,
}

impl Wire {
    /// Connects to `login` and authenticates.
    pub async fn connect(login: &Login) -> Self {
        Self::connect_with(login, &[]).await
    }

    /// As [`Self::connect`], with more startup parameters.
    pub async fn connect_with(login: &Login, parameters: &[(&str, &str)]) -> Self {
        Self::connect_in(0, login, parameters).await
    }

    /// As [`Self::connect_with`], asking for protocol 3.`minor`.
    pub async fn connect_in(minor: u16, login: &Login, parameters: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", login.port)).await.expect("connects");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let mut wire = Self { stream, key: Vec::new(), parameters: Vec::new(), negotiated: None };
        let mut body = (3 << 16 | u32::from(minor)).to_be_bytes().to_vec();
        for (name, value) in [("user", login.user.as_str()), ("database", &login.database)].iter().chain(parameters) {
            text(&mut body, name);
            text(&mut body, value);
        }
        body.push(0);
        wire.send(&with_length(&body)).await;
        wire.authenticate(&login.password).await;
        loop {
            let message = wire.receive().await;
            match message.tag {
                b'K' => wire.key = message.body,
                b'S' => {
                    let mut parts = message.body.split(|&byte| byte == 0).map(String::from_utf8_lossy);
                    let mut part = || parts.next().expect("name and value").into_owned();
                    wire.parameters.push((part(), part()));
                }
                b'Z' => break,
                _ => panic!("during login: {}", describe(&message)),
            }
        }
        wire.parameters.sort();
        wire
    }

    async fn authenticate(&mut self, password: &str) {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let Message { tag, body } = self.receive().await;
            if tag == b'v' {
                self.negotiated = Some(body);
                continue;
            }
            assert_eq!(tag, b'R', "during login: {}", describe(&Message { tag, body: body.clone() }));
            let (kind, rest) = body.split_first_chunk::<4>().expect("kind of authentication");
            match u32::from_be_bytes(*kind) {
                0 => return,
                10 => {
                    let mut answer = Vec::new();
                    text(&mut answer, SCRAM_SHA_256);
                    let length = u32::try_from(scram.message().len()).expect("short");
                    answer.extend_from_slice(&length.to_be_bytes());
                    answer.extend_from_slice(scram.message());
                    self.send(&message(b'p', &answer)).await;
                }
                11 => {
                    scram.update(rest).expect("the server's first message is valid");
                    let answer = message(b'p', scram.message());
                    self.send(&answer).await;
                }
                12 => scram.finish(rest).expect("the server knows the password too"),
                other => panic!("authentication request {other} was not expected"),
            }
        }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("the server reads");
    }

    /// As [`Self::send`], for servers that may have hung up.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next message.
    pub async fn receive(&mut self) -> Message {
        let message = tokio::time::timeout(DEADLINE, self.read_message()).await;
        message.expect("a message within the deadline").expect("the connection lives")
    }

    /// The next message, or none when the server has hung up.
    pub async fn next_or_end(&mut self) -> Option<Message> {
        self.read_message().await.ok()
    }

    /// The next message, if one comes within `patience`. Not cancel safe in the middle of a message.
    pub async fn receive_within(&mut self, patience: Duration) -> Option<Message> {
        let mut byte = [0];
        match tokio::time::timeout(patience, self.stream.peek(&mut byte)).await {
            Ok(Ok(1..)) => Some(self.receive().await),
            _ => None,
        }
    }

    /// Ends the connection by a reset, as a machine that lost its power does once it is up again.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("SO_LINGER");
    }

    async fn read_message(&mut self) -> std::io::Result<Message> {
        let (tag, length) = self.read_header().await?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok(Message { tag, body })
    }

    async fn read_header(&mut self) -> std::io::Result<(u8, usize)> {
        let tag = self.stream.read_u8().await?;
        let length = self.stream.read_u32().await? as usize;
        Ok((tag, length - 4))
    }

    /// Reads up to the next ReadyForQuery, throwing bodies away as they come; returns the number
    /// of body bytes of DataRow and CopyData messages. Needs no memory, whatever a row's size.
    pub async fn discard_until_ready(&mut self) -> u64 {
        let mut buffer = vec![0; 256 * 1024];
        let mut rows = 0;
        loop {
            let (tag, length) = self.read_header().await.expect("the connection lives");
            let mut left = length;
            while left > 0 {
                let part = left.min(buffer.len());
                let read = tokio::time::timeout(DEADLINE, self.stream.read(&mut buffer[..part])).await;
                let count = read.expect("data within the deadline").expect("the connection lives");
                assert!(count > 0, "the connection ended in the middle of a message");
                let error = || describe(&Message { tag, body: buffer[..count].to_vec() });
                assert!(tag != b'E' || left < length, "{}", error());
                left -= count;
            }
            match tag {
                b'D' | b'd' => rows += length as u64,
                b'Z' => return rows,
                _ => {}
            }
        }
    }

    /// Sends a simple query and returns the messages up to and including ReadyForQuery.
    pub async fn query(&mut self, sql: &str) -> Vec<Message> {
        self.send(&query(sql)).await;
        self.until_ready().await
    }

    /// The messages up to and including the next ReadyForQuery.
    pub async fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.receive().await);
            if messages.last().is_some_and(|message| message.tag == b'Z') {
                return messages;
            }
        }
    }
}

/// Sends a CancelRequest with a BackendKeyData body, and waits until the server has hung up.
pub async fn cancel(port: u16, key: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
    let mut body = 80_877_102_u32.to_be_bytes().to_vec();
    body.extend_from_slice(key);
    stream.write_all(&with_length(&body)).await.expect("the server reads");
    let mut nothing = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut nothing)).await;
    let _reset_is_an_end_too = ended.expect("the server hangs up after a cancel request");
}

/// The five-character code of the first ErrorResponse in `messages`.
pub fn error_code(messages: &[Message]) -> Option<String> {
    let error = messages.iter().find(|message| message.tag == b'E')?;
    fields(&error.body).into_iter().find(|(kind, _)| *kind == 'C').map(|(_, code)| code)
}

/// The first column of every DataRow, as text; NULL and no columns are skipped.
pub fn first_column(messages: &[Message]) -> Vec<String> {
    let rows = messages.iter().filter(|message| message.tag == b'D');
    let values = rows.filter_map(|row| {
        let length = u32::from_be_bytes(*row.body.get(2..)?.first_chunk()?) as usize;
        Some(String::from_utf8_lossy(row.body.get(6..6 + length)?).into_owned())
    });
    values.collect()
}

/// A message for people and comparisons: `E{S=ERROR C=42703 …}`, `Z I`, `D …`.
pub fn describe(message: &Message) -> String {
    let mut text = String::from(char::from(message.tag));
    match message.tag {
        b'E' | b'N' => {
            text.push('{');
            // Where in PostgreSQL's source an error comes from (F, L, R) is PostgreSQL's own affair.
            for (kind, value) in fields(&message.body).into_iter().filter(|(kind, _)| !"FLR".contains(*kind)) {
                write!(text, " {kind}={value}").expect("writing to a string");
            }
            text.push('}');
        }
        _ => write!(text, " {}", message.body.escape_ascii()).expect("writing to a string"),
    }
    text
}

fn fields(body: &[u8]) -> Vec<(char, String)> {
    let parts = body.split(|&byte| byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| (char::from(part[0]), String::from_utf8_lossy(&part[1..]).into_owned())).collect()
}

// === Messages of the frontend ===

/// A message of type `tag`.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&with_length(body));
    bytes
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, sql);
    message(b'Q', &body)
}

/// Parse.
pub fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, name);
    text(&mut body, sql);
    count(&mut body, types.len());
    for oid in types {
        body.extend_from_slice(&oid.to_be_bytes());
    }
    message(b'P', &body)
}

/// Bind, with all parameters and results as text.
pub fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    text(&mut body, statement);
    count(&mut body, 0);
    count(&mut body, values.len());
    for value in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).expect("short"));
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default().as_bytes());
    }
    count(&mut body, 0);
    message(b'B', &body)
}

/// Describe of a statement (`b'S'`) or portal (`b'P'`).
pub fn describe_object(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &object(kind, name))
}

/// Close of a statement (`b'S'`) or portal (`b'P'`).
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &object(kind, name))
}

/// Execute; `limit` 0 is all rows.
pub fn execute(portal: &str, limit: u32) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    body.extend_from_slice(&limit.to_be_bytes());
    message(b'E', &body)
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

/// CopyData.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// `CopyDone`.
pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

/// `CopyFail`.
pub fn copy_fail(reason: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, reason);
    message(b'f', &body)
}

/// `FunctionCall` with text arguments and a text result.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    count(&mut body, 0);
    count(&mut body, arguments.len());
    for argument in arguments {
        body.extend_from_slice(&u32::try_from(argument.len()).expect("short").to_be_bytes());
        body.extend_from_slice(argument.as_bytes());
    }
    count(&mut body, 0);
    message(b'F', &body)
}

fn object(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    text(&mut body, name);
    body
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(text.as_bytes());
    body.push(0);
}

fn count(body: &mut Vec<u8>, count: usize) {
    body.extend_from_slice(&u16::try_from(count).expect("short").to_be_bytes());
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len() + 4).expect("short").to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}
