//! Times as people write them in flags and files. It says nothing about which times fit where: the caller does.

use std::time::Duration;

/// What is read, for errors.
pub const EXPECTED: &str = "a time such as 60s, 1.5s, 500ms, 5m or 1h";

/// Longest time that is read: more than anything here lasts, and far below what a sum of times overflows at.
const MAX_SECONDS: f64 = 1e9;

/// Reads `500ms`, `1.5s`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// It is none of these, or above 10^9 seconds (32 years); the text says what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    read(text).ok_or_else(|| format!("expected {EXPECTED}"))
}

fn read(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    // A digit on each side of a point, so that a slip of the finger is seen.
    if number.starts_with('.') || number.ends_with('.') {
        return None;
    }
    let seconds = number.parse::<f64>().ok()? * factor;
    (seconds <= MAX_SECONDS).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("1.5s", 1_500),
            ("90", 90_000),
            ("90s", 90_000),
            ("0.25m", 15_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_was_expected() {
        for bad in [
            "",
            "s",
            "ms",
            "5x",
            "5 s",
            "-1s",
            "+1s",
            "1e3s",
            "1.2.3s",
            ".5s",
            "5.s",
            "inf",
            "NaN",
            "1d",
            "9999999999s",
        ] {
            assert!(duration(bad).is_err_and(|error| error.contains("such as 60s")), "{bad}");
        }
        assert!(duration(&format!("{}s", "9".repeat(400))).is_err());
    }
}
