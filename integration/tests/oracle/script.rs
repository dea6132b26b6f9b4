//! The format of conversations: what a client sends, line by line.
//!
//! ```text
//! == a name                          begins a script
//! # …                                a comment
//! > application_name an application  a parameter of the StartupMessage, before the first line of the script
//! P s SELECT $1::int | B - s 1 | S   a line is one write; the client then reads up to ReadyForQuery
//! P - SELECT 1 | H -> 1              … or up to messages of these types, `!` up to the end, `.` not at all
//! 100 times: X SELECT 1 | S          all in one write, and as many ReadyForQuery
//! ```
//!
//! | message | is |
//! |---|---|
//! | `Q sql` | Query |
//! | `X sql` | Parse, Bind and Execute of the unnamed statement |
//! | `P name sql`, `P name(oid,oid) sql` | Parse; the name `-` is the empty one |
//! | `B portal statement a,NULL` | Bind with text values |
//! | `D S name`, `D P name`, `C S name`, `C P name` | Describe and Close of a statement or portal |
//! | `E portal limit` | Execute |
//! | `S`, `H`, `c` | Sync, Flush, `CopyDone` |
//! | `d data`, `f reason` | `CopyData`, `CopyFail` |
//! | `F oid a b` | `FunctionCall` |
//! | `M type body` | any message; `\0`, `\n`, `\t`, `\\`, `\xff` as in data |

use howdah_integration::wire::{
    bind, close, copy_data, copy_done, copy_fail, describe_object, execute, flush, function_call, message, parse,
    query, sync,
};

/// What a client does, in order.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// File and title.
    pub(crate) name: String,
    /// What its StartupMessage asks for beside user and database.
    pub(crate) startup: Vec<(String, String)>,
    /// Its lines.
    pub(crate) exchanges: Vec<Exchange>,
}

/// One line: a write, and what is read then.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// The bytes of one or more messages.
    pub(crate) send: Vec<u8>,
    /// Types of the messages read up to, one after another.
    pub(crate) until: Vec<u8>,
}

/// All scripts of `text`, the content of file `name`.
pub(crate) fn scripts(name: &str, text: &str) -> Vec<Script> {
    let mut scripts: Vec<Script> = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        if let Some(title) = line.strip_prefix("== ") {
            scripts.push(Script { name: format!("{name}: {title}"), startup: Vec::new(), exchanges: Vec::new() });
        } else if let Some(parameter) = line.strip_prefix("> ") {
            let (name, value) = word(parameter);
            scripts.last_mut().expect("a title comes first").startup.push((name.into(), value.into()));
        } else {
            scripts.last_mut().expect("a title comes first").exchanges.push(exchange(line));
        }
    }
    scripts
}

/// What one line says.
pub(crate) fn exchange(line: &str) -> Exchange {
    if let Some((times, rest)) = line.split_once(" times: ") {
        let (times, one) = (times.parse().expect("a number"), exchange(rest));
        return Exchange { send: one.send.repeat(times), until: one.until.repeat(times) };
    }
    let (messages, until) = line.rsplit_once(" -> ").unwrap_or((line, "Z"));
    let send = messages.split(" | ").flat_map(frontend_message).collect();
    Exchange { send, until: until.bytes().filter(|tag| *tag != b'.').collect() }
}

fn frontend_message(text: &str) -> Vec<u8> {
    let (tag, rest) = word(text);
    match tag {
        "Q" => query(rest),
        "X" => [parse("", rest, &[]), bind("", "", &[]), execute("", 0)].concat(),
        "P" => {
            let (statement, sql) = name_of_statement(rest);
            let (statement, types) = statement.trim_end_matches(')').split_once('(').unwrap_or((statement, ""));
            let types: Vec<u32> = types.split_terminator(',').map(|oid| oid.parse().expect("an OID")).collect();
            parse(name(statement), sql, &types)
        }
        "B" => {
            let (portal, rest) = word(rest);
            let (statement, values) = name_of_statement(rest);
            let values: Vec<_> = values.split_terminator(',').map(|value| (value != "NULL").then_some(value)).collect();
            bind(name(portal), name(statement), &values)
        }
        "D" | "C" => {
            let (kind, object) = word(rest);
            let build = if tag == "D" { describe_object } else { close };
            build(kind.as_bytes()[0], name(object))
        }
        "E" => {
            let (portal, limit) = word(rest);
            execute(name(portal), limit.parse().unwrap_or(0))
        }
        "S" => sync(),
        "H" => flush(),
        "d" => copy_data(&unescaped(rest)),
        "c" => copy_done(),
        "f" => copy_fail(rest),
        "F" => {
            let (oid, arguments) = word(rest);
            function_call(oid.parse().expect("an OID"), &arguments.split_whitespace().collect::<Vec<_>>())
        }
        "M" => {
            let (tag, body) = word(rest);
            message(tag.as_bytes()[0], &unescaped(body))
        }
        _ => panic!("no such message: {text}"),
    }
}

/// The first word, and the rest without the space between.
fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

/// A name that may be in quotes, which belong to it, and the rest.
fn name_of_statement(text: &str) -> (&str, &str) {
    let Some(end) = text.strip_prefix('"').and_then(|rest| rest.find('"')) else { return word(text) };
    let (quoted, rest) = text.split_at(end + 2);
    (quoted, rest.trim_start())
}

fn name(name: &str) -> &str {
    if name == "-" { "" } else { name }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next().expect("something is escaped") {
            b'0' => bytes.push(0),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let mut digit = || char::from(rest.next().expect("two digits")).to_digit(16).expect("hexadecimal");
                bytes.push(u8::try_from(digit() * 16 + digit()).expect("two digits"));
            }
            other => panic!("unknown escape {}", char::from(other)),
        }
    }
    bytes
}
