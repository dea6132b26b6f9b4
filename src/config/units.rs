//! Durations such as `500ms` and sizes such as `16MiB`.
//!
//! Whole numbers with a unit, nothing else: a bare number would leave the reader to guess.

use std::time::Duration;

use super::fault::Misread;

/// Longest duration that is accepted: far beyond any use, and near enough that adding it to a point
/// in time cannot overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1 << 10),
    ("KiB", 1 << 10),
    ("MB", 1 << 20),
    ("MiB", 1 << 20),
    ("GB", 1 << 30),
    ("GiB", 1 << 30),
];

/// Reads `500ms`, `10s`, `5m` (or `5min`), `1h`, `1d`, or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, Misread> {
    const RIGHT: &str = "write a whole number and one of ms, s, m, h, d, such as 500ms, 30s or 10m";
    let millis = quantity(text, DURATION_UNITS, "a duration", RIGHT)?;
    let duration = Duration::from_millis(millis);
    if duration > LONGEST {
        return Err(Misread::new("is more than ten years", "write a shorter duration"));
    }
    Ok(duration)
}

/// Reads `512B`, `64kB`, `16MiB`, `1GiB`, or `0`, in bytes.
///
/// `kB`, `MB` and `GB` are multiples of 1024, as in postgresql.conf (src/backend/utils/misc/guc.c,
/// `memory_unit_conversion_table`).
pub(super) fn size(text: &str) -> Result<usize, Misread> {
    const RIGHT: &str = "write a whole number and one of B, KiB, MiB, GiB, such as 64KiB or 16MiB";
    let bytes = quantity(text, SIZE_UNITS, "a size", RIGHT)?;
    usize::try_from(bytes).map_err(|_| Misread::new("is too large", RIGHT))
}

fn quantity(text: &str, units: &[(&str, u64)], what: &str, right: &str) -> Result<u64, Misread> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err(Misread::new(format!("is not {what}"), right));
    }
    let Ok(number) = number.parse::<u64>() else {
        return Err(Misread::new("is too large", right));
    };
    if unit.is_empty() && number == 0 {
        return Ok(0);
    }
    if unit.is_empty() {
        return Err(Misread::new("has no unit", right));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(Misread::new(format!("is not {what}"), right));
    };
    number.checked_mul(*factor).ok_or_else(|| Misread::new("is too large", right))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, millis: u64| assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        check("0", 0);
        check("0s", 0);
        check("500ms", 500);
        check("10s", 10_000);
        check("10 s", 10_000);
        check("5m", 300_000);
        check("5min", 300_000);
        check("1h", 3_600_000);
        check("1d", 86_400_000);
        check("3650d", 315_360_000_000);
    }

    #[test]
    fn sizes() {
        let check = |text: &str, bytes: usize| assert_eq!(size(text), Ok(bytes), "{text}");
        check("0", 0);
        check("7B", 7);
        check("64kB", 65_536);
        check("64KiB", 65_536);
        check("16MiB", 16 << 20);
        check("1GB", 1 << 30);
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let check = |text: &str, wrong: &str| {
            assert_eq!(duration(text).unwrap_err().wrong, wrong, "{text}");
        };
        check("30", "has no unit");
        check("00030", "has no unit");
        check("", "is not a duration");
        check("s", "is not a duration");
        check("-5s", "is not a duration");
        check("1.5s", "is not a duration");
        check("1h30m", "is not a duration");
        check("5 parsecs", "is not a duration");
        check("5S", "is not a duration");
        check("3651d", "is more than ten years");
        check("99999999999999999999s", "is too large");
        check("18446744073709551615d", "is too large");
        assert_eq!(size("16").unwrap_err().wrong, "has no unit");
        assert_eq!(size("16mib").unwrap_err().wrong, "is not a size");
        assert_eq!(size("18446744073709551615GiB").unwrap_err().wrong, "is too large");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = duration(&text);
            let _ = size(&text);
        }

        #[test]
        fn whole_seconds_are_read_back(seconds in 0u64..=315_360_000) {
            prop_assert_eq!(duration(&format!("{seconds}s")), Ok(Duration::from_secs(seconds)));
        }
    }
}
