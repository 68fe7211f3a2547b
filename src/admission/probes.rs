//! How often somebody may come in at all: token buckets per identity and per group, in tables of fixed size.
//!
//! A bucket is the time until which what was taken is paid for (GCRA, as in `bucket`), so a full bucket is one whose time is
//! over, and is the same as none. The table is of sets of [`WAYS`] places. When a set is full, the place with the fullest
//! bucket gives way: forgetting a full one changes nothing, and to have an empty bucket forgotten somebody must empty the
//! others of its set, too. Sets are chosen by a keyed hash, so that takes some eight hosts for each set of the table, tens of
//! probes for each place; and while a table is full of empty buckets newcomers are held by their groups.
//!
//! Each shard has tables of its own. A host's connections spread over the shards, so each shard gives its part of the rate and
//! the whole burst ([`ProbeLimits::per_shard`]): over a long time the sum is at most the rate, and it is above by at most one
//! burst for each shard.

use std::time::Duration;

use super::identity::Keys;
use crate::base::Instant;

/// Places that a key may have.
const WAYS: usize = 8;

/// What is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeLimits {
    /// An identity gets one in this time, beyond its burst. Zero for no limit at all.
    pub every: Duration,
    /// What an identity gets at once after a pause.
    pub burst: u32,
    /// A group gets as much as so many identities.
    pub group: u32,
}

impl Default for ProbeLimits {
    fn default() -> ProbeLimits {
        ProbeLimits { every: Duration::from_secs(600), burst: 10, group: 16 }
    }
}

impl ProbeLimits {
    /// No limit.
    pub const fn none() -> ProbeLimits {
        ProbeLimits { every: Duration::ZERO, burst: 1, group: 1 }
    }

    /// A shard's part.
    pub fn per_shard(self, shards: u32) -> ProbeLimits {
        ProbeLimits { every: self.every.saturating_mul(shards.max(1)), ..self }
    }
}

/// Whose bucket is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooOften {
    /// The identity's.
    Identity,
    /// The group's.
    Group,
}

/// The buckets of those who have come lately.
#[derive(Debug)]
pub struct Probes {
    limits: ProbeLimits,
    identities: Table,
    groups: Table,
}

impl Probes {
    /// Places for identities by default, and as many for groups; memory is touched only as they fill.
    pub const ENTRIES: usize = 65_536;

    /// With so many places for each, 16 bytes a place; the number is raised to a power of two.
    pub fn new(limits: ProbeLimits, entries: usize) -> Probes {
        Probes { limits, identities: Table::new(entries), groups: Table::new(entries) }
    }

    /// Takes one of both buckets, or says whose is empty and takes nothing. Those refused leave no trace in the tables.
    pub fn enter(&mut self, now: Instant, keys: Keys) -> Result<(), TooOften> {
        if self.limits.every.is_zero() {
            return Ok(());
        }
        let [identity, group] = self.gauges();
        match (self.groups.has(now, keys.group, group), self.identities.has(now, keys.identity, identity)) {
            (false, _) => return Err(TooOften::Group),
            (true, false) => return Err(TooOften::Identity),
            (true, true) => {}
        }
        self.groups.take(now, keys.group, group);
        self.identities.take(now, keys.identity, identity);
        Ok(())
    }

    /// One who had entered has asked for real work and taken a session slot: it was no probe, and gets back what it took. How
    /// often somebody may do that is bounded by session slots and connections per address.
    pub fn refund(&mut self, keys: Keys) {
        let [identity, group] = self.gauges();
        self.groups.give(keys.group, group);
        self.identities.give(keys.identity, identity);
    }

    /// Other limits from now on. What was taken stays taken, as the time it had cost, and at most one burst of the new limits.
    pub fn set_limits(&mut self, limits: ProbeLimits) {
        self.limits = limits;
    }

    /// Bytes of both tables, for the memory plan.
    pub const fn bytes(entries: usize) -> usize {
        2 * entries.next_power_of_two() * size_of::<Place>()
    }

    fn gauges(&self) -> [Gauge; 2] {
        let ProbeLimits { every, burst, group } = self.limits;
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        let depth = every.saturating_mul(u64::from(burst.max(1)));
        [Gauge { every, depth }, Gauge { every: every / u64::from(group.max(1)), depth }]
    }
}

/// A kind of bucket, in nanoseconds: what one costs, and what may be owed.
#[derive(Clone, Copy, Debug)]
struct Gauge {
    every: u64,
    depth: u64,
}

/// Key, and when what was taken is paid for. Both 0 for an empty place: such memory comes from the kernel untouched.
type Place = [u64; 2];

const _: () = assert!(size_of::<Place>() == 16);

#[derive(Debug)]
struct Table {
    places: Vec<Place>,
    /// Selects the first place of a set.
    mask: usize,
}

impl Table {
    fn new(entries: usize) -> Table {
        let entries = entries.max(WAYS).next_power_of_two();
        Table { places: vec![[0, 0]; entries], mask: (entries - 1) & !(WAYS - 1) }
    }

    fn set(&mut self, key: u64) -> &mut [Place] {
        let at = key as usize & self.mask;
        &mut self.places[at..at + WAYS]
    }

    fn has(&mut self, now: Instant, key: u64, gauge: Gauge) -> bool {
        let Some(place) = self.set(key).iter_mut().find(|place| place[0] == key) else { return true };
        let most = now.0.saturating_add(gauge.depth);
        // Under other limits more may have been owed.
        place[1] = place[1].min(most);
        place[1].max(now.0).saturating_add(gauge.every) <= most
    }

    fn take(&mut self, now: Instant, key: u64, gauge: Gauge) {
        let set = self.set(key);
        let own = set.iter().position(|place| place[0] == key);
        // The fullest bucket is the one whose time is over first; an empty place is over since ever.
        let fullest = || set.iter().enumerate().min_by_key(|(_, place)| place[1]).map_or(0, |(at, _)| at);
        let at = own.unwrap_or_else(fullest);
        let paid = if own.is_some() { set[at][1] } else { 0 };
        set[at] = [key, paid.max(now.0).saturating_add(gauge.every)];
    }

    fn give(&mut self, key: u64, gauge: Gauge) {
        if let Some(place) = self.set(key).iter_mut().find(|place| place[0] == key) {
            place[1] = place[1].saturating_sub(gauge.every);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::Keying;
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const START: Instant = Instant(1_000_000_000);

    fn keys(address: u32) -> Keys {
        Keying::new([3, 4]).of(std::net::IpAddr::V4(address.into()))
    }

    fn entered(probes: &mut Probes, now: Instant, keys: Keys, times: usize) -> usize {
        (0..times).filter(|_| probes.enter(now, keys).is_ok()).count()
    }

    #[test]
    fn a_burst_and_then_one_in_ten_minutes() {
        let mut probes = Probes::new(ProbeLimits::default(), 1_024);
        let one = keys(1);
        assert_eq!(entered(&mut probes, START, one, 50), 10);
        assert_eq!(probes.enter(START + 9 * MINUTE, one), Err(TooOften::Identity));
        let mut sum = 0;
        for minute in 10..=600 {
            sum += entered(&mut probes, START + minute * MINUTE, one, 3);
        }
        assert_eq!(sum, 60, "one in ten minutes, however often it tries");
        assert_eq!(entered(&mut probes, START + 2_000 * MINUTE, one, 50), 10, "a pause saves up one burst");
    }

    #[test]
    fn a_group_has_sixteen_times_as_much() {
        let mut probes = Probes::new(ProbeLimits::default(), 1_024);
        let sum = |probes: &mut Probes, now| -> usize {
            (0..256).map(|host| entered(probes, now, keys(0x0a00_0000 + host), 10)).sum()
        };
        assert_eq!(sum(&mut probes, START), 160);
        assert_eq!(probes.enter(START, keys(0x0a00_00ff)), Err(TooOften::Group));
        assert_eq!(sum(&mut probes, START + 10 * MINUTE), 16);
        assert_eq!(probes.enter(START, keys(0x0b00_0000)), Ok(()), "another group");
    }

    #[test]
    fn who_is_promoted_was_no_probe() {
        let mut probes = Probes::new(ProbeLimits::default(), 1_024);
        for _ in 0..1_000 {
            probes.enter(START, keys(1)).unwrap();
            probes.refund(keys(1));
        }
        assert_eq!(entered(&mut probes, START, keys(1), 50), 10);
    }

    #[test]
    fn others_coming_by_do_not_reset_an_empty_bucket() {
        let mut probes = Probes::new(ProbeLimits::default(), 1_024);
        assert_eq!(entered(&mut probes, START, keys(1), 20), 10);
        // 100,000 others in groups of their own, a hundred times the table, two probes each.
        for other in 1..100_000 {
            entered(&mut probes, START, keys(other << 8), 2);
        }
        assert_eq!(probes.enter(START, keys(1)), Err(TooOften::Identity));
    }

    #[test]
    fn full_buckets_give_way_first() {
        let mut table = Table::new(8);
        let gauge = Gauge { every: 10, depth: 100 };
        for key in 1..=8 {
            table.take(Instant(100), key, gauge);
        }
        // All but 3 are emptied further; 3 is full again at 110.
        for key in [1, 2, 4, 5, 6, 7, 8] {
            table.take(Instant(100), key, gauge);
        }
        table.take(Instant(110), 9, gauge);
        assert!(table.places.iter().all(|place| place[0] != 3) && table.places[2][0] == 9);
    }

    #[test]
    fn other_limits_hold_at_once() {
        let mut probes = Probes::new(ProbeLimits::default(), 64);
        assert_eq!(entered(&mut probes, START, keys(1), 20), 10);
        probes.set_limits(ProbeLimits { every: Duration::from_secs(1), ..ProbeLimits::default() });
        assert_eq!(entered(&mut probes, START + Duration::from_secs(5), keys(1), 20), 0, "it owes one burst");
        assert_eq!(entered(&mut probes, START + MINUTE, keys(1), 20), 10);
        probes.set_limits(ProbeLimits { every: Duration::ZERO, ..ProbeLimits::default() });
        assert_eq!(entered(&mut probes, START + MINUTE, keys(1), 20), 20);
    }

    #[test]
    fn a_shard_gives_its_part_and_no_limit_is_none() {
        let limits = ProbeLimits::default().per_shard(4);
        let mut shards: Vec<Probes> = (0..4).map(|_| Probes::new(limits, 64)).collect();
        let mut sum = 0;
        for minute in 0..=6_000 {
            let now = START + minute * MINUTE;
            sum += shards.iter_mut().filter_map(|probes| probes.enter(now, keys(1)).ok()).count();
        }
        assert!((600..=640).contains(&sum), "600 in 6,000 minutes, and four bursts: {sum}");
        let none = ProbeLimits { every: Duration::ZERO, ..ProbeLimits::default() };
        assert_eq!(entered(&mut Probes::new(none, 64), START, keys(1), 10_000), 10_000);
        assert_eq!(Probes::bytes(Probes::ENTRIES), 2 * 1024 * 1024);
    }
}
