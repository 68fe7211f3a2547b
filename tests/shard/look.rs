//! What a shard says of itself: where its time went, and how long announcements took.

use std::time::Duration;

use breakwater::io::Kernel as _;
use breakwater::link::{Ask, Filter};
use breakwater::shard::regimes::Regime;

use super::ping;
use super::rig::{Manner, PLAIN, Rig};

/// Nanoseconds of a reading of the clock, and of a sleep.
const TICK: u64 = 13;
const NAP: u64 = 1_000_003;

#[test]
fn regimes_add_up_to_the_time_that_has_passed() {
    let mut rig = Rig::new();
    let start = rig.kernel.0.borrow().now;
    let before = rig.shard.core().regimes().elapsed();
    rig.kernel.0.borrow_mut().tick = TICK;
    rig.kernel.0.borrow_mut().nap = Duration::from_nanos(NAP);
    let clients: Vec<u32> = (0..5).map(|_| rig.client(PLAIN)).collect();
    rig.mine();
    rig.settle();
    clients.iter().for_each(|client| rig.send(*client, &ping(1)));
    rig.ask(Ask::List { filter: Filter::default(), from: 0, limit: 10 });
    rig.advance(3);
    let regimes = rig.shard.core().regimes();
    let spent = regimes.spent();
    assert_eq!(spent.iter().sum::<Duration>(), regimes.elapsed(), "to the nanosecond");
    assert_eq!(regimes.elapsed() - before, rig.kernel.0.borrow().now.since(start), "no stretch is left out");
    let of = |regime: Regime| spent[regime as usize];
    assert_eq!(of(Regime::Idle), rig.kernel.0.borrow().asleep);
    assert!(of(Regime::Idle) >= Duration::from_nanos(NAP));
    for did in
        [Regime::Kernel, Regime::Handle, Regime::Link, Regime::Announce, Regime::Operator, Regime::Timers]
    {
        assert!(of(did) >= Duration::from_nanos(TICK), "{did:?}: {spent:?}");
    }
    assert_eq!(of(Regime::Handshake), Duration::ZERO, "nobody came encrypted");
    let report = rig.report.as_ref().expect("a report a second");
    assert_eq!(report.regimes.len(), Regime::ALL.len());
    assert!(report.regimes.iter().sum::<Duration>() <= regimes.elapsed());
}

/// The clock is read a few times a turn, however much there is to do in it.
#[test]
fn a_turn_reads_the_clock_a_few_times() {
    let mut rig = Rig::new();
    let clients: Vec<u32> = (0..50).map(|_| rig.client(PLAIN)).collect();
    for client in &clients {
        rig.kernel.0.borrow_mut().peers.get_mut(client).unwrap().inbox.extend(ping(1));
    }
    rig.kernel.0.borrow_mut().tick = 1;
    let start = rig.kernel.now();
    rig.turn();
    let readings = rig.kernel.now().since(start).as_nanos() - 1;
    assert_eq!(rig.counters().pings_answered, 50);
    // Before the wait and after it (there the wall clock, too), behind the completions, and at the end.
    assert_eq!(readings, 5);
}

#[test]
fn an_announcement_is_as_late_as_its_send_is_behind_the_hubs_block() {
    let mut rig = Rig::new();
    let manner = |headers| Manner { headers, ..PLAIN };
    let clients = [rig.client(manner(true)), rig.client(manner(false)), rig.client(PLAIN)];
    clients.iter().for_each(|client| rig.sync(*client));
    let slow = rig.client(PLAIN);
    rig.hold(slow, true);
    rig.send(slow, &ping(1));
    let late = |rig: &mut Rig, millis: u64| {
        rig.mine();
        let now = rig.kernel.now();
        rig.kernel.0.borrow_mut().now = now + Duration::from_millis(millis);
        rig.settle();
        rig.advance(1);
        rig.report.take().expect("a report a second")
    };
    let report = late(&mut rig, 240);
    assert_eq!((report.latency.count(), report.recent_latency.count()), (3, 3));
    assert_eq!(report.recent_latency.max(), Some(Duration::from_millis(240)));
    assert_eq!(report.recent_latency.quantile(0.5), Some(Duration::from_millis(240)));
    // Whoever could not be told then counts when it is told, from the first block that it has not heard of.
    rig.hold(slow, false);
    rig.advance(1);
    let report = late(&mut rig, 1);
    assert_eq!((report.latency.count(), report.recent_latency.count()), (8, 8));
    assert_eq!(report.recent_latency.max(), Some(Duration::from_millis(1_240)));
    let report = late(&mut rig, 2);
    assert_eq!((report.latency.count(), report.recent_latency.count()), (12, 8), "of the last two blocks");
    assert_eq!(report.recent_latency.max(), Some(Duration::from_millis(2)));
}
