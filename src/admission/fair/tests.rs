use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::debts::{MOST, MOST_OWED};
use super::*;

/// Host `n` of group `g`.
fn host(g: u32, n: u32) -> Host {
    Host::V4(g << 8 | n)
}

fn at(secs: u64) -> Instant {
    Instant(0) + Duration::from_secs(secs)
}

/// Serves what is next.
fn next(fair: &mut Fair, now: Instant) -> Option<(Host, u64)> {
    let (host, number) = fair.next()?;
    assert!(fair.serve(now, host, number));
    fair.check();
    Some((host, number))
}

impl Fair {
    fn check(&self) {
        self.order.check();
        assert_eq!(
            self.len,
            self.groups.values().flat_map(|g| g.queues.values()).map(BTreeMap::len).sum::<usize>()
        );
        for group in self.groups.values() {
            group.order.check();
            assert!(!group.queues.is_empty() && group.queues.values().all(|queue| !queue.is_empty()));
        }
        assert!(self.debts.len() <= MOST);
    }
}

#[test]
fn who_comes_with_little_waits_for_one_piece_of_each_other_group() {
    let mut fair = Fair::new();
    // A thousand of one host, and of each host of a /24.
    for number in 0..1_000 {
        fair.push(at(0), host(1, 1), number, 10);
        fair.push(at(0), host(2, number as u32 % 256), 1_000 + number, 10);
    }
    for _ in 0..100 {
        next(&mut fair, at(0));
    }
    fair.push(at(0), host(3, 1), 5_000, 10);
    let before = (0..).take_while(|_| next(&mut fair, at(0)) != Some((host(3, 1), 5_000))).count();
    assert!(before <= 2, "{before} before it");
    assert_eq!(fair.len(), 1_900 - before);
}

#[test]
fn a_neighbour_of_many_waits_for_one_piece_of_its_own_group() {
    let mut fair = Fair::new();
    for number in 0..1_000 {
        fair.push(at(0), host(1, 1), number, 10);
    }
    next(&mut fair, at(0));
    fair.push(at(0), host(1, 2), 5_000, 10);
    let before = (0..).take_while(|_| next(&mut fair, at(0)).unwrap().0 != host(1, 2)).count();
    assert!(before <= 1, "{before} before it");
}

#[test]
fn debts_are_waited_for_once_and_forgiven_with_time() {
    let mut fair = Fair::new();
    for number in 0..100 {
        fair.push(at(0), host(1, 1), number, 10);
        fair.push(at(0), host(2, 1), number, 10);
    }
    fair.charge(at(0), host(1, 1), 150);
    let first: Vec<_> = (0..16).map(|_| next(&mut fair, at(0)).unwrap().0).collect();
    assert_eq!(first.iter().filter(|host_| **host_ == host(1, 1)).count(), 1, "{first:?}");
    assert_eq!(fair.debt(at(0), host(1, 1)), 0);
    let then: Vec<_> = (0..16).map(|_| next(&mut fair, at(0)).unwrap().0).collect();
    assert_eq!(then.iter().filter(|host_| **host_ == host(1, 1)).count(), 8);
    fair.charge(at(0), host(3, 1), u64::MAX);
    assert_eq!(fair.debt(at(0), host(3, 1)), MOST_OWED);
    assert!(fair.debt(at(150), host(3, 1)).abs_diff(MOST_OWED / 2) < MOST_OWED / 100);
    assert_eq!(fair.debt(at(301), host(3, 1)), 0);
}

#[test]
fn a_neighbour_does_not_pay_for_the_debts_of_its_group() {
    let mut fair = Fair::new();
    fair.charge(at(0), host(1, 1), MOST_OWED);
    for number in 0..10 {
        fair.push(at(0), host(1, 1), number, 10);
        fair.push(at(0), host(2, 1), number, 10);
    }
    fair.push(at(0), host(1, 2), 0, 10);
    let first: Vec<_> = (0..3).map(|_| next(&mut fair, at(0)).unwrap().0).collect();
    assert!(first.contains(&host(1, 2)) && !first.contains(&host(1, 1)), "{first:?}");
    // Alone, it waits for nobody.
    while next(&mut fair, at(0)).is_some() {}
    assert!(fair.is_empty() && fair.groups.is_empty() && fair.order.first().is_none());
}

#[test]
fn debts_are_bounded() {
    let mut fair = Fair::new();
    for n in 0..MOST as u32 + 10 {
        fair.charge(at(0), host(n, 1), 1_000 + u64::from(n));
    }
    assert_eq!(fair.debts.len(), MOST);
    assert_eq!(fair.debt(at(0), host(0, 1)), 0, "the least is forgotten first");
    fair.charge(at(400), host(0, 1), 10);
    assert_eq!(fair.debts.len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Push(u32, u32, u64),
    Serve,
    ServeAny(usize),
    Remove(usize),
    Charge(u32, u32, u64),
    Forgive(u32, u32, u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..4_u32, 0..3_u32, 0..1_000_u64).prop_map(|(g, n, cost)| Step::Push(g, n, cost)),
        4 => Just(Step::Serve),
        1 => any::<usize>().prop_map(Step::ServeAny),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => (0..4_u32, 0..3_u32, 0..50_000_u64).prop_map(|(g, n, cost)| Step::Charge(g, n, cost)),
        1 => (0..4_u32, 0..3_u32, 0..50_000_u64).prop_map(|(g, n, cost)| Step::Forgive(g, n, cost)),
        1 => (0..100_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: each piece leaves once, each host's in their order, and nothing is kept of an empty queue.
    #[test]
    fn nothing_is_lost_and_nothing_is_kept(steps in prop::collection::vec(step(), 1..300)) {
        let (mut fair, mut now, mut number) = (Fair::new(), at(0), 0);
        let mut there = BTreeSet::new();
        for step in steps {
            match step {
                Step::Push(g, n, cost) => {
                    fair.push(now, host(g, n), number, cost);
                    there.insert((host(g, n), number));
                    number += 1;
                }
                Step::Serve => {
                    let served = next(&mut fair, now);
                    prop_assert_eq!(served.is_none(), there.is_empty());
                    if let Some((host, number)) = served {
                        let first = there.iter().find(|(other, _)| *other == host);
                        prop_assert_eq!(first, Some(&(host, number)));
                        there.remove(&(host, number));
                    }
                }
                Step::ServeAny(at) | Step::Remove(at) if !there.is_empty() => {
                    let (host, number) = *there.iter().nth(at % there.len()).unwrap();
                    there.remove(&(host, number));
                    let serve = matches!(step, Step::ServeAny(_));
                    let done = if serve { fair.serve(now, host, number) } else { fair.remove(now, host, number) };
                    prop_assert!(done && !fair.serve(now, host, number) && !fair.remove(now, host, number));
                }
                Step::ServeAny(_) | Step::Remove(_) => {}
                Step::Charge(g, n, cost) => fair.charge(now, host(g, n), cost),
                Step::Forgive(g, n, cost) => fair.forgive(now, host(g, n), cost),
                Step::Wait(secs) => now = now + Duration::from_secs(secs),
            }
            fair.check();
            prop_assert_eq!(fair.len(), there.len());
        }
        while let Some(served) = next(&mut fair, now) {
            prop_assert!(there.remove(&served));
        }
        prop_assert!(there.is_empty() && fair.groups.is_empty());
    }

    /// Two that always have work get the same of it, to the two largest pieces; whether of one group or of two, whoever else is there.
    #[test]
    fn two_that_wait_get_the_same(
        costs in prop::collection::vec((1..1_000_u64, 1..1_000_u64), 50..200),
        others in prop::collection::vec((3..6_u32, 0..5_u32, 1..1_000_u64), 0..50),
        one_group: bool,
    ) {
        let mut fair = Fair::new();
        let (a, b) = (host(1, 1), if one_group { host(1, 2) } else { host(2, 1) });
        let mut cost_of = HashMap::new();
        for (number, (of_a, of_b)) in costs.iter().enumerate() {
            fair.push(at(0), a, number as u64, *of_a);
            fair.push(at(0), b, number as u64, *of_b);
            cost_of.extend([((a, number as u64), *of_a), ((b, number as u64), *of_b)]);
        }
        for (number, (g, n, cost)) in others.iter().enumerate() {
            fair.push(at(0), host(*g, *n), 1_000 + number as u64, *cost);
        }
        let most = costs.iter().map(|(of_a, _)| of_a).max().unwrap() + costs.iter().map(|(_, of_b)| of_b).max().unwrap();
        let (mut got_a, mut got_b, mut left_a, mut left_b) = (0, 0, costs.len(), costs.len());
        while left_a > 0 && left_b > 0 {
            let served = next(&mut fair, at(0)).unwrap();
            if served.0 == a {
                (got_a, left_a) = (got_a + cost_of[&served], left_a - 1);
            } else if served.0 == b {
                (got_b, left_b) = (got_b + cost_of[&served], left_b - 1);
            }
            prop_assert!(got_a.abs_diff(got_b) <= most, "{got_a} and {got_b}, at most {most} apart");
        }
    }
}
