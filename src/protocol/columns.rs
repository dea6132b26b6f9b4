//! What a result looks like, as far as clients go by it.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::tag::backend;
use super::text::split_cstr;

/// A number for the names and types of the columns in a `RowDescription` or `NoData`; formats and tables do not count.
#[must_use]
pub fn shape(server_tag: u8, body: &[u8]) -> u64 {
    let mut columns = Vec::new();
    if server_tag == backend::ROW_DESCRIPTION {
        let mut rest = body.get(2..).unwrap_or_default();
        // Table (4), column (2), type (4), its length (2), its modifier (4), format (2).
        while let Some((name, after)) = split_cstr(rest)
            && let Some((facts, after)) = after.split_at_checked(18)
        {
            columns.push((name, &facts[6..16]));
            rest = after;
        }
    }
    FixedState::default().hash_one(columns)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::protocol::backend::row_description;

    #[test]
    fn names_and_types_make_a_shape() {
        let of = |columns: &[(&str, u32)], format: u8| {
            let mut out = BytesMut::new();
            row_description(&mut out, columns);
            let last = out.len() - 1;
            if !columns.is_empty() {
                out[last] = format;
            }
            shape(backend::ROW_DESCRIPTION, &out[5..])
        };
        let one = of(&[("a", 23), ("b", 25)], 0);
        assert_eq!(one, of(&[("a", 23), ("b", 25)], 1), "whatever the format");
        for other in [&[("a", 23)][..], &[("a", 23), ("c", 25)], &[("a", 23), ("b", 23)], &[]] {
            assert_ne!(one, of(other, 0), "{other:?}");
        }
        assert_eq!(of(&[], 0), shape(backend::NO_DATA, b""));
    }
}
