//! Lengths of time as people write them: `500ms`, `30s`, `5m`, `1h30m`, `7d`.

use std::fmt::Write;
use std::time::Duration;

/// The longest time that may be written. It is far beyond any sensible setting, and adding it to any clock is safe.
pub const MAX: Duration = Duration::from_secs(3650 * 86_400);

/// The units, longest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// Not whole numbers with units.
    #[error(
        "{0:?} is not a duration; write whole numbers with the units d, h, m, s, ms, longest first, such as \"30s\" or \"1h30m\""
    )]
    Malformed(String),
    /// Beyond [`MAX`].
    #[error("{0:?} is too long; the longest duration is \"3650d\"")]
    TooLong(String),
}

/// Parses a sum of whole numbers with units, longest unit first and each unit at most once. `0s` is a duration too;
/// whether nothing is allowed is for the caller to say.
///
/// # Errors
/// [`InvalidDuration`] when the text has another form or means more than [`MAX`].
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let malformed = || InvalidDuration::Malformed(text.to_owned());
    let too_long = || InvalidDuration::TooLong(text.to_owned());
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split_leading(rest, |c| c.is_ascii_digit());
        let (unit, after) = split_leading(after, |c| c.is_ascii_alphabetic());
        let place = units.iter().position(|(name, _)| *name == unit).ok_or_else(malformed)?;
        if number.is_empty() {
            return Err(malformed());
        }
        // All digits, so the only way to fail is to be too large.
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let part = number.checked_mul(units[place].1).ok_or_else(too_long)?;
        millis = millis.checked_add(part).ok_or_else(too_long)?;
        units = &units[place + 1..];
        rest = after;
    }
    let duration = Duration::from_millis(millis);
    if text.is_empty() {
        Err(malformed())
    } else if duration > MAX {
        Err(too_long())
    } else {
        Ok(duration)
    }
}

fn split_leading(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// Writes a length of time the way [`parse`] reads it. Less than a millisecond is left out.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    let mut text = String::new();
    for (unit, length) in UNITS {
        let count = millis / u128::from(length);
        if count > 0 {
            // Writing to a string does not fail.
            let _ = write!(text, "{count}{unit}");
            millis %= u128::from(length);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_sums_of_units() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("3650d", 315_360_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
        assert_eq!(parse("90m").map(format), Ok("1h30m".to_owned()));
        assert_eq!(parse("0ms").map(format), Ok("0s".to_owned()));
        assert_eq!(format(Duration::from_micros(1_900)), "1ms");
    }

    #[test]
    fn refuses_other_forms() {
        for text in
            ["", "5", "s", "-5s", "+5s", "1.5h", "1h 30m", " 1h", "1 h", "30m1h", "1h1h", "1hour", "1H", "5min", "٣s"]
        {
            assert_eq!(parse(text), Err(InvalidDuration::Malformed(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_no_clock_can_hold() {
        for text in ["3651d", "99999999999999999999s", "18446744073709551615d", "3650d1ms"] {
            assert_eq!(parse(text), Err(InvalidDuration::TooLong(text.to_owned())), "{text}");
        }
    }
}
