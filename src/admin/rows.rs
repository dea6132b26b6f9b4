//! Tables as the protocol carries them: `RowDescription`, `DataRow`, text and binary.
//!
//! Columns are `text` or `int8` and nothing else; what a column means is the business of `show`.

use bytes::{BufMut, BytesMut};

use super::command::{Trivial, TrivialValue};
use crate::protocol::backend::{self, INT8, TEXT};
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;
use crate::protocol::tag::backend as tag;

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type's OID: `text` or `int8`.
    pub oid: u32,
}

/// One field of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// In a column of type `text`.
    Text(String),
    /// In a column of type `int8`.
    Integer(i64),
    /// In any column.
    Null,
}

/// One row, with as many values as the table has columns.
pub type Row = Vec<Value>;

/// How a column is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As text.
    #[default]
    Text,
    /// As `typsend` of its type would.
    Binary,
}

/// The formats that a Bind asked for: none, one for all columns, or one for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats(Vec<Format>);

/// A column of type `text`.
pub(super) const fn text(name: &'static str) -> Column {
    Column { name, oid: TEXT }
}

/// A column of type `int8`.
pub(super) const fn int(name: &'static str) -> Column {
    Column { name, oid: INT8 }
}

// === impl Formats ===

impl Formats {
    /// Opens what a Bind carries after its parameters: a count and that many codes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Report> {
        let malformed = || Report::error(SqlState::PROTOCOL_VIOLATION, "invalid result formats in Bind message");
        let (count, codes) = bytes.split_at_checked(2).ok_or_else(malformed)?;
        if codes.len() != usize::from(u16::from_be_bytes([count[0], count[1]])) * 2 {
            return Err(malformed());
        }
        let format = |code: &[u8]| match code {
            [0, 0] => Ok(Format::Text),
            [0, 1] => Ok(Format::Binary),
            _ => Err(Report::error(SqlState::INVALID_PARAMETER_VALUE, "unsupported format code")),
        };
        codes.chunks_exact(2).map(format).collect::<Result<_, _>>().map(Self)
    }

    /// Whether they suit a result of `columns` columns.
    pub fn check(&self, columns: usize) -> Result<(), Report> {
        match self.0.len() {
            0 | 1 => Ok(()),
            count if count == columns => Ok(()),
            count => Err(Report::error(
                SqlState::PROTOCOL_VIOLATION,
                format!("bind message has {count} result formats but query has {columns} columns"),
            )),
        }
    }

    fn of(&self, column: usize) -> Format {
        let all = if self.0.len() == 1 { self.0.first() } else { self.0.get(column) };
        all.copied().unwrap_or_default()
    }
}

// === impl Value ===

impl Value {
    /// A count; what does not fit in an `int8` is its maximum.
    pub fn count(count: u64) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// A text, copied.
    pub fn text(text: &(impl ToString + ?Sized)) -> Self {
        Self::Text(text.to_string())
    }

    /// The value, or NULL.
    pub fn or_null<T>(value: Option<T>, some: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, some)
    }

    fn put(&self, out: &mut BytesMut, format: Format) {
        match (self, format) {
            (Self::Null, _) => out.put_i32(-1),
            (Self::Integer(number), Format::Binary) => {
                out.put_i32(8);
                out.put_i64(*number);
            }
            (Self::Integer(number), Format::Text) => put_bytes(out, number.to_string().as_bytes()),
            (Self::Text(text), _) => put_bytes(out, text.as_bytes()),
        }
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}

// === Messages ===

/// Appends a `RowDescription`.
pub fn put_description(out: &mut BytesMut, columns: &[Column], formats: &Formats) {
    backend::message(out, tag::ROW_DESCRIPTION, |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for (index, column) in columns.iter().enumerate() {
            out.put_slice(column.name.as_bytes());
            out.put_u8(0);
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(column.oid);
            out.put_i16(if column.oid == INT8 { 8 } else { -1 });
            out.put_i32(-1);
            out.put_i16(match formats.of(index) {
                Format::Text => 0,
                Format::Binary => 1,
            });
        }
    });
}

/// Appends a `DataRow`.
pub fn put_row(out: &mut BytesMut, row: &[Value], formats: &Formats) {
    backend::message(out, tag::DATA_ROW, |out| {
        out.put_u16(u16::try_from(row.len()).unwrap_or(u16::MAX));
        for (index, value) in row.iter().enumerate() {
            value.put(out, formats.of(index));
        }
    });
}

// === impl Trivial ===

impl Trivial {
    pub(super) fn columns(self) -> Vec<Column> {
        vec![match self.value {
            TrivialValue::Integer(_) => int(self.column),
            TrivialValue::Text(_) => text(self.column),
        }]
    }

    pub(super) fn row(self) -> Row {
        vec![match self.value {
            TrivialValue::Integer(number) => Value::Integer(number),
            TrivialValue::Text(text) => Value::text(text),
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(formats: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        let formats = Formats::parse(formats).unwrap();
        put_row(&mut out, &[Value::text("é"), Value::Integer(-2), Value::Null], &formats);
        out[7..].to_vec()
    }

    #[test]
    fn text_and_binary_as_asked() {
        let as_text = b"\0\0\0\x02\xc3\xa9\0\0\0\x02-2\xff\xff\xff\xff";
        let as_binary = b"\0\0\0\x02\xc3\xa9\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff\xff";
        assert_eq!(row(b"\0\0"), as_text);
        assert_eq!(row(b"\0\x01\0\0"), as_text);
        assert_eq!(row(b"\0\x01\0\x01"), as_binary);
        assert_eq!(row(b"\0\x03\0\0\0\x01\0\0"), as_binary);
    }

    #[test]
    fn formats_that_make_no_sense_are_refused() {
        let code = |bytes: &[u8]| Formats::parse(bytes).map_err(|report| report.code);
        assert_eq!(code(b""), Err(SqlState::PROTOCOL_VIOLATION));
        assert_eq!(code(b"\0\x02\0\0"), Err(SqlState::PROTOCOL_VIOLATION));
        assert_eq!(code(b"\0\x01\0\x02"), Err(SqlState::INVALID_PARAMETER_VALUE));
        let two = Formats::parse(b"\0\x02\0\0\0\x01").unwrap();
        assert!(two.check(2).is_ok());
        assert_eq!(two.check(3).unwrap_err().code, SqlState::PROTOCOL_VIOLATION);
    }

    #[test]
    fn the_description_names_types_and_formats() {
        let mut out = BytesMut::new();
        put_description(&mut out, &[text("a"), int("b")], &Formats::parse(b"\0\x01\0\x01").unwrap());
        let expected = b"\0\x02a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\x01b\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\x01";
        assert_eq!(&out[5..], expected);
    }
}
