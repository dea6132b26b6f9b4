//! Messages as a server sends them: made here for clients.

use bytes::{BufMut, BytesMut};

use super::tag::{TransactionStatus, backend as tag};

/// Appends one message to `out`: `tag`, the length, and what `body` writes.
pub fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_cstr(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

/// `AuthenticationOk` and the other authentication requests: `code`, then `data`.
pub fn authentication(out: &mut BytesMut, code: u32, data: &[u8]) {
    message(out, tag::AUTHENTICATION, |out| {
        out.put_u32(code);
        out.put_slice(data);
    });
}

/// `ParameterStatus`.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, tag::PARAMETER_STATUS, |out| {
        put_cstr(out, name.as_bytes());
        put_cstr(out, value.as_bytes());
    });
}

/// `BackendKeyData`; `key` is 4 bytes in protocol 3.0 and up to 256 in 3.2.
pub fn backend_key_data(out: &mut BytesMut, process_id: i32, key: &[u8]) {
    message(out, tag::BACKEND_KEY_DATA, |out| {
        out.put_i32(process_id);
        out.put_slice(key);
    });
}

/// `ReadyForQuery`.
pub fn ready_for_query(out: &mut BytesMut, status: TransactionStatus) {
    message(out, tag::READY_FOR_QUERY, |out| out.put_u8(status.byte()));
}

/// `CommandComplete`.
pub fn command_complete(out: &mut BytesMut, command: &str) {
    message(out, tag::COMMAND_COMPLETE, |out| put_cstr(out, command.as_bytes()));
}

/// A message without a body, such as `ParseComplete`.
pub fn empty(out: &mut BytesMut, tag: u8) {
    message(out, tag, |_| {});
}

/// `NegotiateProtocolVersion`: the newest minor version spoken here, and the options not understood.
pub fn negotiate_protocol_version(out: &mut BytesMut, version: u32, unknown: &[&str]) {
    message(out, tag::NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.put_u32(version);
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(0));
        for option in unknown {
            put_cstr(out, option.as_bytes());
        }
    });
}

/// `ParameterDescription` of a statement without parameters.
pub fn no_parameters(out: &mut BytesMut) {
    message(out, tag::PARAMETER_DESCRIPTION, |out| out.put_u16(0));
}

/// OID of `text`, the type of all that Howdah itself returns unless it says otherwise.
pub const TEXT: u32 = 25;
/// OID of `int8`.
pub const INT8: u32 = 20;

/// `RowDescription` with columns of the given names and type OIDs, in text format.
pub fn row_description(out: &mut BytesMut, columns: &[(&str, u32)]) {
    message(out, tag::ROW_DESCRIPTION, |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for (name, oid) in columns {
            put_cstr(out, name.as_bytes());
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(*oid);
            out.put_i16(if *oid == INT8 { 8 } else { -1 });
            out.put_i32(-1);
            out.put_u16(0);
        }
    });
}

/// `DataRow` of text values; `None` is NULL.
pub fn data_row<'a>(out: &mut BytesMut, values: impl ExactSizeIterator<Item = Option<&'a [u8]>>) {
    message(out, tag::DATA_ROW, |out| {
        out.put_u16(u16::try_from(values.len()).unwrap_or(u16::MAX));
        for value in values {
            match value {
                None => out.put_i32(-1),
                Some(bytes) => {
                    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
                    out.put_slice(bytes);
                }
            }
        }
    });
}
