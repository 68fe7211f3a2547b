//! More capacity is promised than the host can serve: a shard and the hub's treasury together, for hours of simulated time.

use breakwater::admission::{CapacityLimits, Factors, Ledger};
use breakwater::base::{Class, ClientId, End, Instant, ShardId, Tags};
use breakwater::hub::command::{AccountChange, Command};
use breakwater::hub::treasury::{Happened, Treasury, TreasuryConfig};
use breakwater::link::{HouseRules, ToHub, ToShard};
use breakwater::shard::{Service, ShardConfig};
use breakwater::stub::MAGIC;
use breakwater::wire::write;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::Duration;
use tokio::sync::oneshot;

use super::rig::{PLAIN, Rig, config};

const UNIX: u64 = 1_800_000_000;
const MINIMUM: u32 = 100;
const FREE: usize = 50;
const PAID: usize = 10;
const PAID_CAPACITY: u32 = 200;
const LIMITS: CapacityLimits = CapacityLimits { maximum: 10_000, recharge: 4_000 };
const STEP: Duration = Duration::from_millis(500);

struct World {
    rig: Rig,
    treasury: Treasury,
    /// Connection, and who it is.
    free: Vec<(u32, ClientId)>,
    paid: Vec<(u32, ClientId)>,
    /// The total, whenever it was said to change: when, to what, after how long.
    totals: Vec<(Instant, u64, Duration)>,
    request: Vec<u8>,
}

impl World {
    /// Ten clients of accounts and fifty free ones; these have had more the later they came, but for some chance.
    fn new(seed: u64) -> World {
        let service = Service { capacity: MINIMUM, ..Service::open(b"/breakwater:test/") };
        let factors = Factors { time: 1.0, capacity: 0.0, request: 1.0 };
        let rules = HouseRules { factors, ..HouseRules::open() };
        let treasury = TreasuryConfig { minimum: MINIMUM, limits: LIMITS, rules };
        let shard =
            ShardConfig { services: vec![service], capacity: treasury.part(1), house: rules, ..config() };
        let rig = Rig::with(shard);
        let now = rig.kernel.0.borrow().now;
        let treasury = Treasury::new(treasury, Ledger::new(1_000), 1, now, UNIX);
        let genesis = *rig.chain.at(0).unwrap().hash();
        let mut request = Vec::new();
        write::locator(&mut request, MAGIC, "getheaders", [&genesis].into_iter(), &[0; 32]);
        let (free, paid, totals) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = World { rig, treasury, free, paid, totals, request };
        world.account();
        let mut rng = SmallRng::seed_from_u64(seed);
        for n in 0..FREE + PAID {
            let host = if n < PAID { [198, 51, 100, n as u8] } else { [192, 0, 2, n as u8] };
            let conn = world.rig.kernel.connect((host, 40_000).into());
            world.rig.settle();
            world.rig.greet(conn, PLAIN);
            world.rig.messages(conn);
            world.rig.sync(conn);
            let Some(ToHub::Came(came)) = world.rig.house.back() else { panic!("nobody has come") };
            let id = came[0].client;
            if n < PAID {
                world.paid.push((conn, id))
            } else {
                world.free.push((conn, id))
            }
            if n >= PAID {
                let debt = 100_000.0 * (n as f64 + rng.random_range(0.0..0.5));
                let standing = breakwater::link::Standing::Free { debt };
                let rank = breakwater::link::Rank {
                    client: id,
                    standing,
                    pays: false,
                    tags: Tags(0),
                    untag: Tags(0),
                };
                world.rig.tell(ToShard::Rank(rank));
            }
            world.exchange();
        }
        world
    }

    fn account(&mut self) {
        let identity = "198.51.100.0/24".parse().unwrap();
        let change = AccountChange { capacity: Some(PAID_CAPACITY.into()), ..AccountChange::default() };
        self.ask(|reply| Command::SetAccount { identity, change, reply });
        self.ask(|reply| Command::AddBalance { identity, amount: 1 << 50, reply });
        self.exchange();
    }

    fn ask<T: std::fmt::Debug>(
        &mut self,
        command: impl FnOnce(breakwater::hub::command::Reply<T>) -> Command,
    ) {
        let (reply, mut answer) = oneshot::channel();
        assert!(self.treasury.command(UNIX, command(reply)).is_none());
        self.treasury.saved(&Ok(()));
        answer.try_recv().unwrap().unwrap();
    }

    fn now(&self) -> Instant {
        self.rig.kernel.0.borrow().now
    }

    fn unix(&self) -> u64 {
        UNIX + u64::from(self.now().secs())
    }

    /// Hub and shard tell one another all they have to say.
    fn exchange(&mut self) {
        for _ in 0..100 {
            let unix = self.unix();
            if let Some(report) = self.rig.report.take() {
                self.treasury.report(ShardId(0), report.house);
            }
            let said: Vec<ToHub> = self.rig.house.drain(..).collect();
            for entry in said {
                assert!(self.treasury.handle(unix, ShardId(0), entry).is_none());
            }
            self.treasury.tick(self.now(), unix);
            while let Some(happened) = self.treasury.next_happened() {
                if let Happened::TotalCapacity { capacity, after } = happened {
                    self.totals.push((self.now(), capacity, after));
                }
            }
            let mut quiet = true;
            while let Some((_, entry)) = self.treasury.next_output() {
                quiet = false;
                self.rig.tell(entry);
            }
            if quiet {
                return;
            }
            self.rig.settle();
        }
        panic!("hub and shard do not come to rest");
    }

    /// Lets time pass. `busy` always have another request.
    fn run(&mut self, time: Duration, busy: &[u32]) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            let now = self.now();
            self.rig.kernel.0.borrow_mut().now = now + STEP;
            for conn in busy {
                let mut kernel = self.rig.kernel.0.borrow_mut();
                let peer = kernel.peers.get_mut(conn).unwrap();
                peer.out.clear();
                if peer.closed.is_none() && peer.inbox.len() < 5 * self.request.len() {
                    peer.inbox.extend(self.request.repeat(20));
                }
            }
            self.rig.settle();
            self.exchange();
        }
    }

    fn open(&self, clients: &[(u32, ClientId)]) -> Vec<usize> {
        (0..clients.len()).filter(|n| self.rig.closed(clients[*n].0).is_none()).collect()
    }

    fn paused(&mut self) -> Vec<ClientId> {
        self.rig.everybody().iter().filter(|client| client.frozen).map(|client| client.id).collect()
    }
}

#[test]
fn the_worst_are_paused_first_then_go_and_the_total_falls_and_recovers() {
    for seed in 1..=2 {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(2), &[]);
        assert_eq!(world.treasury.capacities().connected, 7_000);
        assert_eq!(world.treasury.capacities().priority_connected, 2_000);
        let everybody: Vec<u32> = world.free.iter().chain(&world.paid).map(|(conn, _)| *conn).collect();

        // Everybody uses all it has: 7,000 where 4,000 can be served.
        world.run(Duration::from_secs(9), &everybody);
        let paused = world.paused();
        let worst: Vec<ClientId> = world.free[FREE - paused.len()..].iter().map(|(_, id)| *id).collect();
        assert!((25..=32).contains(&paused.len()), "seed {seed}: some 3,000 units: {}", paused.len());
        assert!(paused.iter().all(|id| worst.contains(id)), "seed {seed}: the worst, and only they");
        let (when, to, after) = world.totals[0];
        let expected = 10_000.0 * (1.0 - 0.1 * 30.0 / 70.0);
        assert!((to as f64 - expected).abs() < 100.0, "seed {seed}: a tenth of the frozen part: {to}");
        assert_eq!(after, Duration::from_secs(1), "announced");
        assert!(when.since(Instant(0)) > Duration::ZERO);

        // It goes on for two hours: the total falls to what can be served, and the worst have to go.
        world.run(Duration::from_secs(2 * 3_600), &everybody);
        let capacities = world.treasury.capacities();
        assert!((4_000..=4_600).contains(&capacities.total), "seed {seed}: {capacities:?}");
        assert!(capacities.connected <= capacities.total, "seed {seed}: {capacities:?}");
        assert_eq!(capacities.priority_connected, 2_000, "seed {seed}: priority clients are last");
        assert_eq!(world.open(&world.paid), (0..PAID).collect::<Vec<_>>());
        let left = world.open(&world.free);
        assert!((20..=26).contains(&left.len()), "seed {seed}: {left:?}");
        // Those who were served longest have had the most by now: who stays was among the better half at the start.
        assert!(world.rig.ends(End::Replaced) as usize == FREE - left.len());

        // Then they rest: while connected capacity is near the total, that rises by e in three hours.
        let before = world.treasury.capacities().total;
        world.run(Duration::from_secs(900), &[]);
        let after = world.treasury.capacities().total;
        let expected = (900.0_f64 / (3.0 * 3_600.0)).exp();
        let rise = after as f64 / before as f64;
        assert!((rise - expected).abs() < 0.02, "seed {seed}: {before} to {after}, wanted {expected} times");
        let classes = world.rig.everybody();
        assert_eq!(classes.iter().filter(|client| client.class == Class::Priority).count(), PAID);
    }
}
