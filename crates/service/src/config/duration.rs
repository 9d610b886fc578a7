//! Durations in Go's notation: `1h30m`, `1.5s`, `250ms`.

use std::fmt::Write as _;
use std::time::Duration;

/// The end of the error text.
const ALLOWED: &str = "is not a length of time: a number with a unit is expected, such as 500ms, 30s, 5m or 3h";

/// The longest duration that is accepted, in seconds: a year.
const MAX_SECONDS: f64 = 365.0 * 24.0 * 3600.0;

/// Parses numbers with a unit each (`ns`, `us`, `ms`, `s`, `m`, `h`), or 0 alone. The error says what is allowed.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{:?} {ALLOWED}", super::fault::shortened(text));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * unit;
        rest = after;
    }
    if text.is_empty() || seconds > MAX_SECONDS {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Formats a duration such that [`parse`] reads it back.
pub(super) fn show(duration: Duration) -> String {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    let mut text = String::new();
    for (amount, unit) in [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanoseconds / 1_000_000), "ms"),
        (u64::from(nanoseconds % 1_000_000), "ns"),
    ] {
        if amount > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{amount}{unit}");
        }
    }
    if text.is_empty() { "0".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, expected) in [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("30s", Duration::from_secs(30)),
            ("1h30m", Duration::from_secs(5400)),
            ("1.5s", Duration::from_millis(1500)),
            ("250ms", Duration::from_millis(250)),
            (".5s", Duration::from_millis(500)),
            ("100us", Duration::from_micros(100)),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&expected), "{text}");
        }
        for text in ["", "30", "s", "-3s", "3 s", "3x", "1..5s", "30s5", "9999999h", "1e3s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for milliseconds in [0, 1, 250, 1500, 30_000, 5_400_000, 10_800_000, 10_801_001] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse(&show(duration)), Ok(duration), "{}", show(duration));
        }
        assert_eq!(show(Duration::from_secs(10_800)), "3h");
    }
}
