//! Bans: networks from which nobody comes in until a moment. Asked at accept, before anything is answered.
//!
//! Kept by time of the calendar, because they outlive the process. Writing to disk is the caller's; here is the text.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use super::json::{Fields, JsonError};
use super::networks::{Networks, canonical, within};
use crate::base::UnixTime;

/// Most bans at a time: about 200 bytes each, 20 MB.
pub const MAX_BANS: usize = 100_000;
/// Most bytes of a reason.
pub const MAX_REASON: usize = 200;
/// The layout of the text.
const VERSION: u64 = 1;

/// A ban.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Ban {
    /// From where nobody comes in.
    pub network: IpNet,
    /// When it ends, seconds since 1970; at this second it holds no more.
    pub until: UnixTime,
    /// When it was made, seconds since 1970.
    pub since: UnixTime,
    /// Why, for people; at most [`MAX_REASON`] bytes.
    pub reason: String,
}

impl Ban {
    /// True exactly when the address is within.
    pub fn covers(&self, address: IpAddr) -> bool {
        canonical(self.network).contains(&address.to_canonical())
    }
}

/// Why a ban is not taken. Nothing has changed then.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BanError {
    /// No room.
    #[error("{MAX_BANS} bans are in force, which is the most: lift some, or ban larger networks")]
    Full,
    /// A long reason.
    #[error("`reason` has {bytes} bytes, expected at most {MAX_REASON}")]
    Reason {
        /// How many it has.
        bytes: usize,
    },
    /// It ends before it begins.
    #[error("`until` is {until}, expected a time after `since`, which is {since} (seconds since 1970)")]
    Time {
        /// When it would end.
        until: UnixTime,
        /// When it would begin.
        since: UnixTime,
    },
}

/// The bans in force.
#[derive(Clone, Debug, Default)]
pub struct Bans {
    networks: Networks<Ban>,
    /// The same by the time they end.
    ends: BTreeSet<(UnixTime, IpNet)>,
}

impl Bans {
    /// Adds a ban, or replaces the one on the same network. Host bits of the network are ignored.
    pub fn insert(&mut self, mut ban: Ban) -> Result<(), BanError> {
        ban.network = canonical(ban.network);
        let Ban { until, since, .. } = ban;
        if ban.reason.len() > MAX_REASON {
            return Err(BanError::Reason { bytes: ban.reason.len() });
        }
        if until <= since {
            return Err(BanError::Time { until, since });
        }
        if self.networks.len() >= MAX_BANS && self.networks.get(ban.network).is_none() {
            return Err(BanError::Full);
        }
        let network = ban.network;
        if let Some(before) = self.networks.insert(network, ban) {
            self.ends.remove(&(before.until, network));
        }
        self.ends.insert((until, network));
        Ok(())
    }

    /// Lifts the ban on exactly this network.
    pub fn remove(&mut self, network: IpNet) -> Option<Ban> {
        let ban = self.networks.remove(network)?;
        self.ends.remove(&(ban.until, ban.network));
        Some(ban)
    }

    /// The ban that keeps an address out, the narrowest if there are several. One lookup per prefix length in use.
    pub fn covers(&self, address: IpAddr, now: UnixTime) -> Option<&Ban> {
        self.networks.around(address).find(|ban| ban.until > now)
    }

    /// Takes out those that are over; their networks, for the log.
    pub fn expire(&mut self, now: UnixTime) -> Vec<Ban> {
        let mut gone = Vec::new();
        while let Some((until, network)) = self.ends.first().copied() {
            if until > now {
                break;
            }
            self.ends.pop_first();
            gone.extend(self.networks.remove(network));
        }
        gone
    }

    /// When the next one is over.
    pub fn next_end(&self) -> Option<UnixTime> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// All, by network.
    pub fn list(&self) -> Vec<&Ban> {
        let mut list: Vec<&Ban> = self.networks.values().collect();
        list.sort_by_key(|ban| ban.network);
        list
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// True exactly when there is none.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// As text, for the disk.
    pub fn to_json(&self) -> String {
        // Strings and numbers can always be written.
        serde_json::to_string(&BansText { version: VERSION, bans: self.list() }).unwrap_or_default()
    }

    /// From text. Anything unknown or wrong is an error; what is over is left to [`Bans::expire`].
    pub fn from_json(text: &str) -> Result<Bans, JsonError> {
        let mut fields = Fields::document(text)?;
        fields.read("version", "1", |value| (value.as_u64() == Some(VERSION)).then_some(()))?;
        let list = fields.objects("bans", MAX_BANS)?;
        fields.finish()?;
        let mut bans = Bans::default();
        for mut fields in list {
            let network = fields.read("network", "a network as 192.0.2.0/24, or an address", read_network)?;
            let seconds = "seconds since 1970, a whole number";
            let (since, until) = (
                fields.read("since", seconds, Value::as_u64)?,
                fields.read("until", seconds, Value::as_u64)?,
            );
            let expected = format!("a text of at most {MAX_REASON} bytes");
            let fits = |value: &Value| value.as_str().filter(|r| r.len() <= MAX_REASON).map(String::from);
            let reason = fields.read("reason", &expected, fits)?;
            // The rest that can be wrong is the order of the times: the length and the number have been looked at.
            bans.insert(Ban { network, until, since, reason }).map_err(|_| {
                fields.error("until", &Value::from(until), &format!("a time after `since`, which is {since}"))
            })?;
            fields.finish()?;
        }
        Ok(bans)
    }
}

#[derive(Serialize)]
struct BansText<'a> {
    version: u64,
    bans: Vec<&'a Ban>,
}

/// A network, or an address alone.
pub(super) fn read_network(value: &Value) -> Option<IpNet> {
    let text = value.as_str()?;
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| within(address, u8::MAX)));
    network.map(canonical).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ban(network: &str, until: UnixTime) -> Ban {
        Ban { network: network.parse().unwrap(), until, since: 1, reason: "scans".into() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_ban_holds_until_its_end_and_the_narrowest_is_named() {
        let mut bans = Bans::default();
        bans.insert(ban("192.0.2.7/24", 100)).unwrap();
        bans.insert(ban("192.0.2.128/25", 50)).unwrap();
        let found = |bans: &Bans, at: &str, now| bans.covers(ip(at), now).map(|b| b.network.to_string());
        assert_eq!(found(&bans, "192.0.2.200", 10).unwrap(), "192.0.2.128/25");
        assert_eq!(found(&bans, "::ffff:192.0.2.200", 50).unwrap(), "192.0.2.0/24", "the other is over");
        assert_eq!(found(&bans, "192.0.2.1", 99).unwrap(), "192.0.2.0/24");
        assert_eq!(found(&bans, "192.0.2.1", 100), None);
        assert_eq!(found(&bans, "192.0.3.1", 10), None);
        assert_eq!(bans.next_end(), Some(50));
        assert_eq!(bans.expire(99).len(), 1);
        assert_eq!((bans.len(), bans.ends.len()), (1, 1));
        assert!(bans.remove("::ffff:192.0.2.0/120".parse().unwrap()).is_some());
        assert!(bans.is_empty() && bans.ends.is_empty());
    }

    #[test]
    fn the_same_network_is_replaced() {
        let mut bans = Bans::default();
        bans.insert(ban("2001:db8::/32", 100)).unwrap();
        bans.insert(ban("2001:db8::/32", 60)).unwrap();
        assert_eq!(bans.len(), 1);
        assert!(bans.covers(ip("2001:db8::1"), 70).is_none());
        assert!(bans.expire(60).len() == 1 && bans.next_end().is_none());
    }

    #[test]
    fn bad_bans_change_nothing() {
        let mut bans = Bans::default();
        let long = Ban { reason: "x".repeat(201), ..ban("10.0.0.0/8", 9) };
        assert_eq!(bans.insert(long), Err(BanError::Reason { bytes: 201 }));
        assert_eq!(bans.insert(ban("10.0.0.0/8", 1)), Err(BanError::Time { until: 1, since: 1 }));
        for n in 0..MAX_BANS as u32 {
            let network = within(IpAddr::from((n << 8).to_be_bytes()), 24);
            bans.insert(Ban { network, ..ban("0.0.0.0/0", 100 + u64::from(n)) }).unwrap();
        }
        assert_eq!(bans.insert(ban("255.0.0.0/8", 9)), Err(BanError::Full));
        bans.insert(ban("0.0.5.0/24", 9)).unwrap();
        assert_eq!(bans.len(), MAX_BANS);
        assert_eq!(bans.expire(9).len(), 1);
        let list = bans.list();
        assert!(list.windows(2).all(|pair| pair[0].network < pair[1].network));
    }

    #[test]
    fn errors_in_the_text_name_field_value_and_what_was_expected() {
        let one = |ban: &str| format!(r#"{{"version":1,"bans":[{ban}]}}"#);
        let long = format!(r#"{{"network":"::1","since":1,"until":2,"reason":"{}"}}"#, "x".repeat(201));
        let cases = [
            (r#"{"version":2,"bans":[]}"#.into(), "field `version` is 2, expected 1"),
            (r#"{"version":1}"#.into(), "field `bans` is missing, expected a list of at most 100000 objects"),
            (
                one(r#"{"network":"10.0.0.0/40","since":1,"until":2,"reason":""}"#),
                "field `bans[0].network` is \"10.0.0.0/40\", expected a network as 192.0.2.0/24, or an address",
            ),
            (
                one(r#"{"network":"10.0.0.0/8","since":1,"until":-2,"reason":""}"#),
                "field `bans[0].until` is -2, expected seconds since 1970, a whole number",
            ),
            (
                one(r#"{"network":"10.0.0.0/8","since":3,"until":2,"reason":""}"#),
                "field `bans[0].until` is 2, expected a time after `since`, which is 3",
            ),
            (
                one(r#"{"network":"10.0.0.0/8","since":1,"until":2,"reason":"","by":"me"}"#),
                "field `bans[0].by` is unknown (its value is \"me\"); known here: network, since, until, reason. Correct or \
                 remove it",
            ),
        ];
        for (text, error) in cases {
            assert_eq!(Bans::from_json(&text).unwrap_err().to_string(), error);
        }
        let error = Bans::from_json(&one(&long)).unwrap_err().to_string();
        assert!(error.ends_with("expected a text of at most 200 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn text_and_back(
            entries in prop::collection::vec((any::<u128>(), 0_u8..=128, 2_u64..1_000, ".{0,40}"), 0..30),
        ) {
            let mut bans = Bans::default();
            for (address, length, until, reason) in entries {
                let network = within(IpAddr::V6(address.into()), length);
                bans.insert(Ban { network, until, since: 1, reason }).unwrap();
            }
            let again = Bans::from_json(&bans.to_json()).unwrap();
            prop_assert_eq!(bans.list(), again.list());
            prop_assert_eq!(bans.ends, again.ends);
        }
    }
}
