//! What a person types after `node`: times, rates, addresses, each refused with what was expected.

use std::net::SocketAddr;
use std::time::Duration;

use breakwater::control::duration;

use crate::rig::scenario::is_harmless;

/// Longest time taken.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Highest rate taken, transactions a second.
const MAX_RATE: f64 = 100_000.0;

/// A time that something can be repeated after.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span = duration(text).ok().filter(|span| *span > Duration::ZERO && *span <= LONGEST);
    span.ok_or_else(|| "expected a time above 0 and up to 24h such as 5s, 500ms or 2m".to_owned())
}

/// Transactions a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=MAX_RATE).contains(rate));
    rate.ok_or_else(|| format!("expected a number from 0 to {MAX_RATE}"))
}

/// Refuses addresses that the world can reach, unless the caller says that this is wanted.
pub(super) fn check_listen(listen: SocketAddr, allowed: bool) -> Result<(), String> {
    if allowed || is_harmless(listen.ip()) {
        return Ok(());
    }
    Err(format!(
        "--listen is {listen}, expected a loopback or private address: say --i-operate-this-target when it shall be \
         reachable from elsewhere"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read_or_refused() {
        assert_eq!(span("5s"), Ok(Duration::from_secs(5)));
        for bad in ["", "0s", "ms", "25h"] {
            assert!(span(bad).is_err(), "{bad}");
        }
        assert_eq!(rate("0.5"), Ok(0.5));
        for bad in ["", "-1", "NaN", "inf", "100001", "many"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_near_addresses_are_listened_on() {
        for good in [
            "127.0.0.1:0",
            "10.1.2.3:1",
            "192.168.1.1:1",
            "172.16.0.1:1",
            "[::1]:1",
            "[fd00::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(check_listen(good.parse().unwrap(), false).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:1", "203.0.113.1:1", "[::]:1", "[2001:db8::1]:1"] {
            assert!(check_listen(bad.parse().unwrap(), false).is_err(), "{bad}");
            assert!(check_listen(bad.parse().unwrap(), true).is_ok(), "{bad}");
        }
    }
}
