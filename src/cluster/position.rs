//! What a WAL position means: the end of the last record rather than the start of the next. Pure.

use crate::types::Lsn;

/// How a server's WAL is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// `wal_segment_size` in bytes.
    pub(super) segment: u64,
    /// `wal_block_size` in bytes.
    pub(super) block: u64,
}

/// `SizeOfXLogShortPHD`: the header of a WAL page (src/include/access/xlog_internal.h).
const PAGE_HEADER: u64 = 24;
/// `SizeOfXLogLongPHD`: the header of the first page of a segment.
const SEGMENT_HEADER: u64 = 40;

impl Geometry {
    /// Where the last record ends, given where the next one starts.
    ///
    /// `pg_current_wal_insert_lsn()` gives the latter. When the last record ends exactly with its
    /// page, the next starts behind the next page's header, while a replica's replay position
    /// stays on the boundary until there is another record: on a quiet primary it would never
    /// catch up. No record can end inside a header, so any such position means the boundary.
    pub(super) const fn end_of_record(self, next: Lsn) -> Lsn {
        let in_segment = next.0 % self.segment;
        let in_page = next.0 % self.block;
        if in_segment <= SEGMENT_HEADER {
            Lsn(next.0 - in_segment)
        } else if in_page <= PAGE_HEADER {
            Lsn(next.0 - in_page)
        } else {
            next
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: Geometry = Geometry { segment: 16 << 20, block: 8192 };

    #[test]
    fn positions_inside_headers_mean_the_boundary() {
        for (next, end) in [
            ("0/1000000", "0/1000000"),
            ("0/1000001", "0/1000000"),
            ("0/1000018", "0/1000000"),
            ("0/1000028", "0/1000000"),
            ("0/1000029", "0/1000029"),
            ("0/1002000", "0/1002000"),
            ("0/1002001", "0/1002000"),
            ("0/1002018", "0/1002000"),
            ("0/1002019", "0/1002019"),
            ("0/1002028", "0/1002028"),
            ("0/1003FFF", "0/1003FFF"),
        ] {
            assert_eq!(USUAL.end_of_record(next.parse().unwrap()), end.parse().unwrap(), "{next}");
        }
    }

    proptest! {
        #[test]
        fn order_is_kept_and_nothing_moves_further_than_a_header(a in 0_u64..1 << 40, step in 0_u64..100) {
            let (low, high) = (USUAL.end_of_record(Lsn(a)), USUAL.end_of_record(Lsn(a + step)));
            prop_assert!(low <= high);
            prop_assert!(low.0 <= a && a - low.0 <= SEGMENT_HEADER);
            prop_assert_eq!(USUAL.end_of_record(low), low);
        }
    }
}
