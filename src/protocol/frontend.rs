//! Messages as a client sends them: opened here as borrowed views, and made here for servers.
//!
//! A view checks no more than what Howdah itself needs; the server judges the rest.

use bytes::{BufMut, BytesMut};

use super::backend::message;
use super::tag::frontend as tag;
use super::text::split_cstr;

/// A message that ends before one of its fields does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid message format")]
pub struct Malformed;

/// What Describe and Close name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// Query: the statement text.
pub fn query(body: &[u8]) -> Result<&[u8], Malformed> {
    split_cstr(body).map(|(text, _)| text).ok_or(Malformed)
}

/// An opened Parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// Its text.
    pub text: &'a [u8],
    /// The count of parameter types and their OIDs, as they stand in the message.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Opens a Parse.
    pub fn open(body: &'a [u8]) -> Result<Self, Malformed> {
        let (name, rest) = split_cstr(body).ok_or(Malformed)?;
        let (text, types) = split_cstr(rest).ok_or(Malformed)?;
        Ok(Self { name, text, types })
    }
}

/// An opened Bind, or as much of it as names the portal and the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name.
    pub portal: &'a [u8],
    /// The statement's name.
    pub statement: &'a [u8],
    /// All that follows.
    pub rest: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Opens a Bind.
    pub fn open(body: &'a [u8]) -> Result<Self, Malformed> {
        let (portal, rest) = split_cstr(body).ok_or(Malformed)?;
        let (statement, rest) = split_cstr(rest).ok_or(Malformed)?;
        Ok(Self { portal, statement, rest })
    }

    /// Whether parameter `index` (from 0) has the binary format: one code stands for all, none for text.
    #[must_use]
    pub fn is_binary(&self, index: usize) -> bool {
        let mut at = self.rest;
        let count = take_u16(&mut at).map_or(0, usize::from);
        let code = if count == 1 { 0 } else { index };
        code < count && at.get(code * 2..code * 2 + 2) == Some(&[0, 1])
    }

    /// The value of parameter `index` (from 0) when it was sent, whatever its format.
    #[must_use]
    pub fn parameter(&self, index: usize) -> Option<&'a [u8]> {
        let mut at = self.rest;
        let formats = take_u16(&mut at)?;
        at = at.get(usize::from(formats) * 2..)?;
        let count = usize::from(take_u16(&mut at)?);
        if index >= count {
            return None;
        }
        for position in 0..=index {
            let (length, rest) = at.split_at_checked(4)?;
            let length = i32::from_be_bytes(length.try_into().ok()?);
            at = rest;
            let Ok(length) = usize::try_from(length) else {
                if position == index {
                    return None;
                }
                continue;
            };
            let (value, rest) = at.split_at_checked(length)?;
            if position == index {
                return Some(value);
            }
            at = rest;
        }
        None
    }
}

fn take_u16(at: &mut &[u8]) -> Option<u16> {
    let (word, rest) = at.split_at_checked(2)?;
    *at = rest;
    Some(u16::from_be_bytes([word[0], word[1]]))
}

/// Describe and Close: what, and its name.
pub fn object(body: &[u8]) -> Result<(Object, &[u8]), Malformed> {
    let (&kind, rest) = body.split_first().ok_or(Malformed)?;
    let (name, _) = split_cstr(rest).ok_or(Malformed)?;
    match kind {
        b'S' => Ok((Object::Statement, name)),
        b'P' => Ok((Object::Portal, name)),
        _ => Err(Malformed),
    }
}

/// Execute: the portal's name.
pub fn execute(body: &[u8]) -> Result<&[u8], Malformed> {
    split_cstr(body).map(|(portal, _)| portal).ok_or(Malformed)
}

/// Appends a Query.
pub fn put_query(out: &mut BytesMut, text: &[u8]) {
    message(out, tag::QUERY, |out| {
        out.put_slice(text);
        out.put_u8(0);
    });
}

/// Appends a Parse; `types` as in [`Parse::types`].
pub fn put_parse(out: &mut BytesMut, name: &[u8], text: &[u8], types: &[u8]) {
    message(out, tag::PARSE, |out| {
        for part in [name, text] {
            out.put_slice(part);
            out.put_u8(0);
        }
        out.put_slice(types);
    });
}

/// Appends a Describe or Close (`tag`) of a statement or portal.
pub fn put_object(out: &mut BytesMut, tag: u8, object: Object, name: &[u8]) {
    message(out, tag, |out| {
        out.put_u8(match object {
            Object::Statement => b'S',
            Object::Portal => b'P',
        });
        out.put_slice(name);
        out.put_u8(0);
    });
}

/// An Execute that fails, as no portal has this name: the server rolls back and passes over all up to the next Sync.
pub fn put_refused(out: &mut BytesMut) {
    message(out, tag::EXECUTE, |out| {
        out.put_slice(b"howdah_refused\0");
        out.put_i32(0);
    });
}

/// Appends a Bind of the unnamed statement, which has no parameters, and its Execute.
pub fn put_run(out: &mut BytesMut) {
    // No names; no formats, values or formats of results.
    message(out, tag::BIND, |out| out.put_bytes(0, 8));
    // No name; all rows.
    message(out, tag::EXECUTE, |out| out.put_bytes(0, 5));
}

/// Appends a Sync.
pub fn put_sync(out: &mut BytesMut) {
    message(out, tag::SYNC, |_| {});
}

/// Appends a Terminate.
pub fn put_terminate(out: &mut BytesMut) {
    message(out, tag::TERMINATE, |_| {});
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_gives_its_parameters() {
        let body = b"p\0s\0\0\x01\0\0\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x01c\0\0";
        let bind = Bind::open(body).unwrap();
        assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s"[..]));
        assert_eq!(bind.parameter(0), Some(&b"ab"[..]));
        assert_eq!(bind.parameter(1), None);
        assert_eq!(bind.parameter(2), Some(&b"c"[..]));
        assert_eq!(bind.parameter(3), None);
    }

    #[test]
    fn a_cut_message_is_malformed_and_nothing_worse() {
        assert_eq!(query(b"abc"), Err(Malformed));
        assert_eq!(Parse::open(b"a\0b"), Err(Malformed));
        assert_eq!(object(b""), Err(Malformed));
        assert_eq!(object(b"Xa\0"), Err(Malformed));
        assert_eq!(Bind::open(b"\0\0\0").unwrap().parameter(0), None);
    }
}
