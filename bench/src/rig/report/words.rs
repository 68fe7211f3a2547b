//! Numbers the way people read them; shared by the table, the HTML, the comparison and the live view.

use hdrhistogram::Histogram;

/// The percentiles of every form: name in `report.json`, name for people, quantile.
pub const QUANTILES: [(&str, &str, f64); 4] =
    [("p50", "p50", 0.5), ("p90", "p90", 0.9), ("p99", "p99", 0.99), ("p999", "p99.9", 0.999)];

/// 1234567 as 1,234,567.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span given in microseconds, with three digits and the unit that suits it.
pub fn span(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", digits(us as f64 / 1e3)),
        1_000_000..60_000_000 => format!("{} s", digits(us as f64 / 1e6)),
        _ => seconds(us as f64 / 1e6),
    }
}

/// Seconds as people say them: 12 s, 12.3 s, 5 m 07 s, 2 h 05 m.
pub fn seconds(s: f64) -> String {
    let whole = s.max(0.0) as u64;
    match whole {
        0..60 if s.fract() == 0.0 => format!("{whole} s"),
        0..60 => span((s.max(0.0) * 1e6) as u64),
        60..3_600 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", whole / 3_600, whole / 60 % 60),
    }
}

/// Three digits of a number below a thousand, all before the point of a larger one.
pub fn digits(x: f64) -> String {
    match x.abs() {
        0.0..10.0 => format!("{x:.2}"),
        10.0..100.0 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}

/// "1 client", "2 clients".
pub fn several(n: u64, one: &str, more: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { more })
}

/// The latency at a quantile, `None` when nothing was measured; never above the largest.
pub fn at_quantile(histogram: Option<&Histogram<u64>>, quantile: f64) -> Option<u64> {
    let histogram = histogram.filter(|histogram| !histogram.is_empty())?;
    Some(histogram.value_at_quantile(quantile).min(histogram.max()))
}

/// A part per something, `None` without one.
pub fn per(amount: f64, of: u64) -> Option<f64> {
    (of > 0).then(|| amount / of as f64)
}

/// What `names` are called where each must be its own: a second one of a name becomes "name-2".
pub fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken: Vec<String> = Vec::new();
    for name in names {
        let mut own = name.to_owned();
        let mut nth = 2u32;
        while taken.contains(&own) {
            own = format!("{name}-{nth}");
            nth += 1;
        }
        taken.push(own);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_spans_have_their_unit() {
        assert_eq!((grouped(0), grouped(999), grouped(1_000)), ("0".into(), "999".into(), "1,000".into()));
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(
            (span(7), span(1_500), span(2_500_000)),
            ("7 us".into(), "1.50 ms".into(), "2.50 s".into())
        );
        assert_eq!(
            (seconds(0.0), seconds(30.0), seconds(0.02)),
            ("0 s".into(), "30 s".into(), "20.0 ms".into())
        );
        assert_eq!((seconds(61.0), seconds(7_500.0)), ("1 m 01 s".into(), "2 h 05 m".into()));
    }

    #[test]
    fn a_second_behaviour_of_a_name_has_its_own() {
        assert_eq!(
            distinct(["idle", "pinger", "idle", "idle"].into_iter()),
            ["idle", "pinger", "idle-2", "idle-3"]
        );
    }
}
