//! Capacity, simulated: hours of it, without a clock, a socket or a thread. What `../shared/design/capacity.md` promises is
//! measured here on the parts that the shard and the hub use.
//!
//! | what | how |
//! |---|---|
//! | service is proportional to capacity | 50 clients of capacities 1:2:4:8 ask without pause |
//! | overbooked, the right ones give way | idle clients begin to ask all at once, and stop again |
//! | a balance of 0 makes a client free | it is served until its account is empty |
//! | nobody flaps | more free clients than there is room for, that never stop trying |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use breakwater::admission::{
    Admit, Balance, CONNECTED_BIAS, CapacityLimits, Change, Costs, Factors, Flow, House, Kind, Newcomer,
    Seat, Sitter, TotalCapacity, Usage,
};
use breakwater::base::{Class, ClientId, ClientRef, Instant, ShardId, UnixTime};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const SECOND: Duration = Duration::from_secs(1);
/// A turn of the simulated hub.
const TICK: Duration = Duration::from_millis(100);
const START: Instant = Instant(1_000_000_000);
const CALENDAR: UnixTime = 1_700_000_000;

fn client(n: usize) -> ClientRef {
    ClientRef { shard: ShardId(0), id: ClientId { slot: n as u32, generation: 0 } }
}

/// The calendar at an instant.
fn date(now: Instant) -> UnixTime {
    CALENDAR + now.since(START).as_secs()
}

/// A server that does one thing after another, and clients that ask for the next thing as soon as they have the last.
struct Server {
    /// Units per second.
    speed: u64,
    /// When it is through with all it has taken on.
    free_at: Instant,
}

impl Server {
    fn serve(&mut self, now: Instant, cost: u32) -> Instant {
        let time = Duration::from_nanos(u64::from(cost) * 1_000_000_000 / self.speed);
        self.free_at = self.free_at.max(now) + time;
        self.free_at
    }
}

/// Who does something when, and the maximum and the real cost of the request that is served then.
type Due = Reverse<(Instant, usize, Option<(u32, u32)>)>;

/// What each client is served within `hours`, of requests for compact filters of 2 to 40 KB each.
fn served(seed: u64, speed: u64, capacities: &[u32], hours: u64) -> Vec<u64> {
    let (mut rng, costs) = (SmallRng::seed_from_u64(seed), Costs::default());
    let mut server = Server { speed, free_at: START };
    let mut flows: Vec<Flow> = capacities.iter().map(|capacity| Flow::new(START, *capacity)).collect();
    let mut sums = vec![0; flows.len()];
    let mut due: BinaryHeap<Due> = (0..flows.len()).map(|n| Reverse((START, n, None))).collect();
    let max = costs.max_cost(Kind::Filters, 100);
    while let Some(Reverse((now, n, done))) = due.pop() {
        if now.since(START) > Duration::from_secs(hours * 3_600) {
            break;
        }
        if let Some((max, real)) = done {
            flows[n].settle(now, max, real);
            sums[n] += u64::from(real);
        }
        due.push(Reverse(match flows[n].admit(now, max) {
            Admit::At(later) => (later, n, None),
            Admit::Now => {
                let bytes = (0..100).map(|_| rng.random_range(2_000..40_000)).sum();
                let real = costs.real_cost(Kind::Filters, 100, bytes);
                (server.serve(now, real), n, Some((max, real)))
            }
        }));
    }
    sums
}

#[test]
fn service_is_proportional_to_capacity() {
    for seed in 1..=3 {
        let capacities: Vec<u32> = (0..50).map(|n| 5_000 << (n % 4)).collect();
        let all: u64 = capacities.iter().map(|capacity| u64::from(*capacity)).sum();
        // The server is a tenth faster than what is promised.
        let sums = served(seed, all * 11 / 10, &capacities, 2);
        let ratios: Vec<f64> = sums
            .iter()
            .zip(&capacities)
            .map(|(sum, capacity)| *sum as f64 / (f64::from(*capacity) * 2.0 * 3_600.0))
            .collect();
        let (least, most) = ratios.iter().fold((f64::MAX, 0.0_f64), |(a, b), r| (a.min(*r), b.max(*r)));
        assert!(most / least < 1.05, "seed {seed}: between {least} and {most} of the capacity");
        assert!((0.97..1.03).contains(&least), "seed {seed}: {least}");
    }
}

#[test]
fn without_flow_control_it_would_not_be() {
    // The same clients with a capacity that nobody reaches: the test above can fail.
    let sums = served(1, 900_000, &[u32::MAX; 8], 1);
    assert!(sums.iter().all(|sum| *sum > 900_000 * 3_600 / 9), "all are served alike: {sums:?}");
}

/// A client of the overbooked house.
struct Guest {
    seat: Option<Seat>,
    class: Class,
    capacity: u32,
    balance: Balance,
    frozen_until: Instant,
}

/// The hub's part: the house, its total, and the guests' accounts.
struct Hub {
    now: Instant,
    house: House,
    total: TotalCapacity,
    guests: Vec<Guest>,
    /// Who was frozen and kicked, in order.
    frozen: Vec<usize>,
    kicked: Vec<usize>,
    changes: Vec<(Instant, Change)>,
}

/// Frozen clients are tried again after this.
const FROZEN: Duration = Duration::from_secs(10);
const LIMITS: CapacityLimits = CapacityLimits { maximum: 1_000_000, recharge: 400_000 };
const PRICES: Factors = Factors { time: 10.0, capacity: 0.01, request: 1.0 };

impl Hub {
    /// Ten priority clients of 20,000 and fifty free ones of 10,000, of which the later ones have had more.
    fn overbooked() -> Hub {
        let mut hub = Hub {
            now: START,
            house: House::new(10_000, CONNECTED_BIAS, CALENDAR),
            total: TotalCapacity::new(LIMITS, Some(700_000), START),
            guests: Vec::new(),
            frozen: Vec::new(),
            kicked: Vec::new(),
            changes: Vec::new(),
        };
        for n in 0..60 {
            let capacity = if n < 10 { 20_000 } else { 0 };
            let paid = if n < 10 { 1_000_000_000_000 } else { 0 };
            let balance = Balance::restore(paid, 1_000_000.0 * n as f64, CALENDAR).unwrap();
            let newcomer = Newcomer { client: client(n), capacity, balance: &balance, factors: &PRICES };
            let (sitter, gone) = hub.house.admit(CALENDAR, 700_000, newcomer).unwrap();
            assert!(gone.is_empty());
            let Sitter { seat, class, capacity, .. } = sitter;
            hub.guests.push(Guest { seat: Some(seat), class, capacity, balance, frozen_until: START });
        }
        hub
    }

    /// Runs for so long, with those who ask without pause among the first `asking`.
    fn run(&mut self, time: Duration, asking: usize) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + TICK;
            for (n, guest) in self.guests.iter_mut().enumerate() {
                let Some(seat) = guest.seat else { continue };
                if guest.frozen_until <= self.now {
                    self.house.thaw(seat);
                }
                let is_asking = n < asking || n >= 10 && n < asking + 10;
                self.house.set_recharging(seat, is_asking && guest.frozen_until <= self.now);
            }
            self.bill(asking);
            let outcome = self.total.update(self.now, self.house.connected(), self.house.recharging());
            for sitter in self.house.freeze(outcome.freeze) {
                let n = sitter.client.id.slot as usize;
                self.guests[n].frozen_until = self.now + FROZEN;
                self.frozen.push(n);
            }
            assert!(self.house.recharging() <= LIMITS.recharge, "more than the host can serve");
            self.changes.extend(outcome.changes.iter().map(|change| (self.now, *change)));
            for sitter in self.house.shrink(self.total.total(), 100) {
                let n = sitter.client.id.slot as usize;
                self.guests[n].seat = None;
                self.kicked.push(n);
            }
            assert!(self.house.connected() <= self.total.total());
        }
    }

    /// Every ten seconds everybody pays.
    fn bill(&mut self, asking: usize) {
        if !self.now.since(START).as_millis().is_multiple_of(10_000) {
            return;
        }
        for (n, guest) in self.guests.iter_mut().enumerate() {
            let Some(seat) = guest.seat else { continue };
            let served = n < asking || n >= 10 && n < asking + 10;
            let cost = if served { 10 * u64::from(guest.capacity) } else { 0 };
            let usage = Usage { connected: 10 * SECOND, capacity: guest.capacity, cost };
            guest.balance.tick(date(self.now), usage, &PRICES);
            self.house.update(date(self.now), seat, &guest.balance, &PRICES).unwrap();
        }
    }
}

#[test]
fn overbooked_the_worst_free_ones_give_way_and_the_total_falls_and_recovers() {
    let mut hub = Hub::overbooked();
    // All fit while few of them ask.
    hub.run(60 * SECOND, 5);
    assert!(hub.frozen.is_empty() && hub.kicked.is_empty());
    assert!(hub.total.total() >= 700_000);
    // Then all ask: 700,000 of 400,000.
    let before = hub.total.total();
    hub.run(TICK, 60);
    assert_eq!(hub.frozen.len(), 30, "as many as it takes");
    let mut first = hub.frozen.clone();
    first.sort_unstable();
    assert_eq!(first, (30..60).collect::<Vec<_>>(), "the worst free ones");
    let Some((at, Change::Falling { from, to, at: then })) = hub.changes.last().copied() else {
        panic!("no decrease: {:?}", hub.changes);
    };
    assert_eq!((from, then.since(at)), (before, SECOND), "announced a second before");
    let wanted = before as f64 * (1.0 - 0.1 * 300_000.0 / 700_000.0);
    assert!((to as f64 - wanted).abs() < 2.0, "a tenth of the frozen part: {to} for {wanted}");
    assert_eq!(hub.total.total(), before);
    hub.run(SECOND, 60);
    assert_eq!(hub.total.total(), to);
    assert_eq!(hub.kicked, [59, 58, 57], "the worst first: 700,000 of {to}");
    // It goes on for an hour: the total comes close to what the host can serve, free clients go, priority clients are not
    // touched.
    hub.run(3_600 * SECOND, 60);
    let after = hub.total.total();
    assert!((400_000..440_000).contains(&after), "{after}");
    assert!(hub.frozen.iter().chain(&hub.kicked).all(|n| *n >= 10), "a priority client gave way");
    assert!(hub.guests[..10].iter().all(|guest| guest.seat.is_some() && guest.class == Class::Priority));
    let falls = hub.changes.iter().filter_map(|(_, change)| match change {
        Change::Falling { from, to, .. } => Some((*from, *to)),
        _ => None,
    });
    assert!(falls.clone().count() > 10 && falls.clone().all(|(from, to)| to < from && to * 10 >= from * 9));
    // Then it is quiet, and all is connected that may be: e in three hours.
    hub.changes.clear();
    let full = |hub: &mut Hub| {
        for n in 10..60 {
            let guest = &mut hub.guests[n];
            if guest.seat.is_none() && hub.house.connected() + 10_000 <= hub.total.total() {
                let newcomer =
                    Newcomer { client: client(n), capacity: 0, balance: &guest.balance, factors: &PRICES };
                let (sitter, gone) = hub.house.admit(date(hub.now), hub.total.total(), newcomer).unwrap();
                assert!(gone.is_empty());
                guest.seat = Some(sitter.seat);
            }
        }
    };
    let (quiet, kicked) = (hub.now, hub.kicked.len());
    while hub.total.total() < 700_000 {
        full(&mut hub);
        hub.run(SECOND, 2);
        assert!(hub.now.since(quiet) < 4 * 3_600 * SECOND, "{} after four hours", hub.total.total());
    }
    let wanted = 3.0 * (700_000.0 / after as f64).ln();
    let took = hub.now.since(quiet).as_secs_f64() / 3_600.0;
    assert!((took - wanted).abs() < 0.05 * wanted, "{took} h, not {wanted} h");
    assert_eq!(hub.kicked.len(), kicked, "nobody goes while it rises");
    assert!(hub.changes.iter().all(|(_, change)| matches!(change, Change::Risen { .. })));
}

#[test]
fn a_balance_that_reaches_zero_makes_the_client_free() {
    let mut house = House::new(1_000, CONNECTED_BIAS, CALENDAR);
    // Its capacity of 50,000, all of it used, costs 50,000 + 500 + 10 a second: an hour of that.
    let mut balance = Balance::new(CALENDAR);
    assert_eq!(balance.add(3_600 * 50_510), Ok([0, 3_600 * 50_510]));
    let newcomer = Newcomer { client: client(1), capacity: 50_000, balance: &balance, factors: &PRICES };
    let (sitter, _) = house.admit(CALENDAR, 100_000, newcomer).unwrap();
    let mut flow = Flow::new(START, sitter.capacity);
    flow.settle(START, 0, 6 * sitter.capacity);
    let (mut now, mut class, mut became_free) = (START, sitter.class, None);
    let mut served = [0_u64; 2];
    for second in 1..=2 * 3_600_u64 {
        let mut cost = 0;
        let end = START + Duration::from_secs(second);
        loop {
            match flow.admit(now, 2_000) {
                Admit::Now => {
                    flow.settle(now, 2_000, 1_000);
                    cost += 1_000;
                }
                Admit::At(later) if later <= end => now = later,
                Admit::At(_) => break,
            }
        }
        now = end;
        served[usize::from(class == Class::Free)] += cost;
        let usage = Usage { connected: SECOND, capacity: flow.capacity(), cost };
        balance.tick(date(now), usage, &PRICES);
        let is = house.update(date(now), sitter.seat, &balance, &PRICES).unwrap();
        if is.class != class {
            flow.set_capacity(now, is.capacity);
            (class, became_free) = (is.class, Some(second));
        }
    }
    let at = became_free.unwrap();
    assert!((3_590..=3_620).contains(&at), "after {at} s");
    assert_eq!(
        (class, flow.capacity(), house.connected(), house.priority_connected()),
        (Class::Free, 1_000, 1_000, 0)
    );
    let free = served[1] as f64 / (7_200 - at) as f64;
    assert!((free - 1_000.0).abs() < 20.0, "{free} units a second from then on");
    assert!(balance.negative(date(now)) > 1_000_000.0, "and they are owed");
}

/// Thirty free clients try every second to get one of ten places for six hours: how often somebody was replaced, and the
/// shortest time after which one who had been replaced was back.
fn crowd(seed: u64, bias: Duration) -> (usize, u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut house = House::new(100, bias, CALENDAR);
    let mut balances = vec![Balance::new(CALENDAR); 30];
    let mut seats: HashMap<usize, (Seat, UnixTime)> = HashMap::new();
    let mut kicked: HashMap<usize, UnixTime> = HashMap::new();
    let (mut replaced, mut shortest) = (0, u64::MAX);
    for now in CALENDAR..CALENDAR + 6 * 3_600 {
        // Those who are in are billed now and then, for what they had.
        for (n, balance) in balances.iter_mut().enumerate() {
            if let Some((seat, since)) = seats.get_mut(&n)
                && rng.random_range(0..10) == 0
            {
                let usage = Usage { connected: Duration::from_secs(now - *since), capacity: 100, cost: 0 };
                balance.tick(now, usage, &PRICES);
                *since = now;
                house.update(now, *seat, balance, &PRICES).unwrap();
            }
        }
        for _ in 0..30 {
            let n = rng.random_range(0..30);
            if seats.contains_key(&n) {
                continue;
            }
            let newcomer =
                Newcomer { client: client(n), capacity: 0, balance: &balances[n], factors: &PRICES };
            let Ok((sitter, gone)) = house.admit(now, 1_000, newcomer) else { continue };
            seats.insert(n, (sitter.seat, now));
            if let Some(then) = kicked.get(&n) {
                shortest = shortest.min(now - then);
            }
            for victim in gone {
                let victim = victim.client.id.slot as usize;
                let (_, since) = seats.remove(&victim).unwrap();
                let usage = Usage { connected: Duration::from_secs(now - since), capacity: 100, cost: 0 };
                balances[victim].tick(now, usage, &PRICES);
                kicked.insert(victim, now);
                replaced += 1;
            }
            assert!(seats.len() <= 10);
        }
    }
    (replaced, shortest)
}

#[test]
fn a_newcomer_that_would_soon_be_the_worst_stays_out() {
    for seed in 1..=3 {
        let (replaced, shortest) = crowd(seed, CONNECTED_BIAS);
        assert!(shortest >= CONNECTED_BIAS.as_secs(), "seed {seed}: back after {shortest} s");
        assert!(replaced > 20, "seed {seed}: everybody has his turn, {replaced}");
        let (without, soonest) = crowd(seed, Duration::ZERO);
        assert!(
            without > 10 * replaced && soonest < 60,
            "seed {seed}: {without}, {soonest}: the test can fail"
        );
    }
}
