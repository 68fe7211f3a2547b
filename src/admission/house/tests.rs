//! Tests of `house`.

use proptest::prelude::*;

use super::super::balance::Usage;
use super::*;
use crate::base::{ClientId, ShardId};

const FACTORS: Factors = Factors { time: 10.0, capacity: 0.0, request: 1.0 };
const NOW: UnixTime = 1_700_000_000;

fn client(n: u32) -> ClientRef {
    ClientRef { shard: ShardId(0), id: ClientId { slot: n, generation: 0 } }
}

fn balance(positive: u64, negative: f64) -> Balance {
    Balance::restore(positive, negative, NOW).unwrap()
}

fn house() -> House {
    House::new(100, CONNECTED_BIAS, NOW)
}

fn admit(
    house: &mut House,
    now: UnixTime,
    n: u32,
    capacity: u32,
    balance: &Balance,
) -> Result<(Sitter, Vec<Sitter>), HouseFull> {
    house.admit(now, 1_000, Newcomer { client: client(n), capacity, balance, factors: &FACTORS })
}

/// Ten free clients, numbered as badly as they are: 9 has had the most.
fn full() -> (House, Vec<Seat>) {
    let mut house = house();
    let seat = |n: u32| {
        let balance = balance(0, 10_000.0 * f64::from(n));
        admit(&mut house, NOW, n, 0, &balance).unwrap().0.seat
    };
    let seats = (0..10).map(seat).collect();
    (house, seats)
}

fn numbers(sitters: &[Sitter]) -> Vec<u32> {
    sitters.iter().map(|sitter| sitter.client.id.slot).collect()
}

#[test]
fn a_free_newcomer_replaces_the_worst_only_if_it_stays_better() {
    let (mut house, _) = full();
    // After 180 s of 10 it will have had some 1,800.
    assert_eq!(admit(&mut house, NOW, 50, 0, &balance(0, 95_000.0)), Err(HouseFull));
    let (_, gone) = admit(&mut house, NOW, 51, 0, &balance(0, 80_000.0)).unwrap();
    assert_eq!((numbers(&gone), house.connected()), (vec![9], 1_000));
    // 51 and 8 have had as much: one more of that kind comes in for neither.
    assert_eq!(admit(&mut house, NOW, 52, 0, &balance(0, 80_000.0)), Err(HouseFull));
    assert_eq!(admit(&mut house, NOW, 53, 0, &balance(0, 78_500.0)), Err(HouseFull));
}

#[test]
fn priority_clients_replace_free_ones_worst_first_and_lower_priorities() {
    let (mut house, _) = full();
    let (rich, gone) = admit(&mut house, NOW, 20, 250, &balance(1_000_000, 0.0)).unwrap();
    assert_eq!((rich.class, rich.capacity, numbers(&gone)), (Class::Priority, 250, vec![9, 8, 7]));
    assert_eq!((house.connected(), house.priority_connected()), (950, 250));
    let (_, gone) = admit(&mut house, NOW, 21, 700, &balance(7_000_000, 0.0)).unwrap();
    assert_eq!(numbers(&gone), [6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(admit(&mut house, NOW, 22, 100, &balance(300_000, 0.0)), Err(HouseFull), "3,000 a unit");
    assert_eq!((house.len(), house.connected()), (2, 950), "and nobody has gone");
    let (_, gone) = admit(&mut house, NOW, 23, 100, &balance(900_000, 0.0)).unwrap();
    assert_eq!(numbers(&gone), [20], "4,000 a unit goes for 9,000");
    let (poor, _) = admit(&mut house, NOW, 24, 500, &balance(0, 0.0)).unwrap();
    assert_eq!((poor.class, poor.capacity), (Class::Free, 100), "no balance, no priority");
}

#[test]
fn nobody_gives_way_to_an_equal() {
    let mut house = House::new(100, Duration::ZERO, NOW);
    admit(&mut house, NOW, 1, 1_000, &balance(5_000, 0.0)).unwrap();
    assert_eq!(admit(&mut house, NOW, 2, 1_000, &balance(5_000, 0.0)), Err(HouseFull));
    assert!(admit(&mut house, NOW, 2, 1_000, &balance(5_001, 0.0)).is_ok());
}

#[test]
fn a_balance_that_is_used_up_makes_the_client_free() {
    let mut house = house();
    let mut balance = balance(100, 0.0);
    let (sitter, _) = admit(&mut house, NOW, 1, 400, &balance).unwrap();
    house.set_recharging(sitter.seat, true);
    assert_eq!((house.priority_connected(), house.recharging()), (400, 400));
    assert!(balance.tick(NOW, Usage { cost: 150, ..Usage::default() }, &FACTORS));
    let now = house.update(NOW, sitter.seat, &balance, &FACTORS).unwrap();
    assert_eq!((now.class, now.capacity), (Class::Free, 100));
    assert_eq!((house.connected(), house.priority_connected(), house.recharging()), (100, 0, 100));
    // Paid again: an assignment makes it a priority client.
    balance.add(1_000).unwrap();
    let wish = Newcomer { client: client(1), capacity: 300, balance: &balance, factors: &FACTORS };
    let (now, gone) = house.assign(NOW, 1_000, sitter.seat, wish).unwrap();
    assert_eq!((now.class, now.capacity, gone.len(), house.recharging()), (Class::Priority, 300, 0, 300));
    let wish = Newcomer { capacity: 1_001, ..wish };
    assert_eq!(house.assign(NOW, 1_000, sitter.seat, wish), Err(HouseFull));
    assert_eq!((house.connected(), house.recharging()), (300, 300), "nothing has changed");
}

#[test]
fn a_lower_total_takes_the_worst_first() {
    let (mut house, _) = full();
    admit(&mut house, NOW, 20, 300, &balance(1_000_000, 0.0)).unwrap();
    assert_eq!(numbers(&house.shrink(750, 100)), [6, 5, 4]);
    assert_eq!(numbers(&house.shrink(0, 2)), [3, 2]);
    assert_eq!(numbers(&house.shrink(0, 100)), [1, 0, 20], "priority last");
    assert!(house.is_empty() && house.connected() == 0);
}

#[test]
fn the_worst_of_those_recharging_are_frozen() {
    let (mut house, seats) = full();
    admit(&mut house, NOW, 20, 300, &balance(1_000_000, 0.0))
        .map(|(s, _)| house.set_recharging(s.seat, true))
        .unwrap();
    for n in [0, 2, 4, 6] {
        house.set_recharging(seats[n], true);
    }
    assert_eq!(house.recharging(), 700);
    let frozen = house.freeze(150);
    assert_eq!((numbers(&frozen), house.recharging()), (vec![6, 4], 500));
    house.set_recharging(frozen[0].seat, true);
    assert_eq!(house.recharging(), 500, "frozen is frozen");
    house.thaw(frozen[0].seat);
    house.set_recharging(frozen[0].seat, true);
    assert_eq!(house.recharging(), 600);
    assert_eq!(numbers(&house.freeze(10_000)), [6, 2, 0, 20]);
}

#[test]
fn idle_clients_keep_their_order_for_months_without_updates() {
    let (mut house, _) = full();
    let later = NOW + 100 * 24 * 3_600;
    // A client with a price of its own is looked at; the others are not.
    let (_, gone) = admit(&mut house, later, 50, 0, &Balance::new(later)).unwrap();
    assert_eq!(gone.len(), 1, "all have been in for months, a newcomer is better");
    let (mut house, _) = full();
    let (_, gone) = admit(&mut house, NOW + 5 * 3_600, 50, 0, &Balance::new(NOW)).unwrap();
    assert_eq!(numbers(&gone), [9]);
}

#[test]
fn an_old_seat_is_nobodys() {
    let (mut house, seats) = full();
    assert!(house.leave(seats[3]) && !house.leave(seats[3]));
    let (sitter, _) = admit(&mut house, NOW, 60, 0, &balance(0, 0.0)).unwrap();
    assert_ne!(sitter.seat, seats[3]);
    house.set_recharging(seats[3], true);
    assert!(house.update(NOW, seats[3], &balance(0, 0.0), &FACTORS).is_none());
    assert_eq!((house.recharging(), house.len()), (0, 10));
}

proptest! {
    #[test]
    fn sums_are_exact_and_within_the_total(
        steps in prop::collection::vec((0_u8..7, 0_u32..40, 0_u32..400, 0_u64..2_000_000), 1..200),
    ) {
        let mut house = house();
        let mut seats: Vec<Sitter> = Vec::new();
        let mut now = NOW;
        for (what, n, capacity, amount) in steps {
            now += 1;
            let paid = if amount > 1_000_000 { amount } else { 0 };
            let balance = balance(paid, amount as f64);
            let newcomer = Newcomer { client: client(n), capacity, balance: &balance, factors: &FACTORS };
            let chosen = (!seats.is_empty()).then(|| n as usize % seats.len().max(1));
            let mut gone = Vec::new();
            match (what, chosen) {
                (0 | 1, _) => {
                    if let Ok((sitter, out)) = house.admit(now, 1_000, newcomer) {
                        seats.push(sitter);
                        gone = out;
                    }
                }
                (2, Some(at)) => {
                    house.leave(seats.swap_remove(at).seat);
                }
                (3, Some(at)) => seats[at] = house.update(now, seats[at].seat, &balance, &FACTORS).unwrap(),
                (4, Some(at)) => {
                    if let Ok((sitter, out)) = house.assign(now, 1_000, seats[at].seat, newcomer) {
                        seats[at] = sitter;
                        gone = out;
                    }
                }
                (5, Some(at)) => house.set_recharging(seats[at].seat, amount % 2 == 0),
                (6, Some(_)) => gone = house.shrink(900, 3),
                _ => {}
            }
            seats.retain(|sitter| gone.iter().all(|out| out.seat != sitter.seat));
            let sum = |class| -> u64 {
                let of = |s: &&Sitter| class == Class::Free || s.class == class;
                seats.iter().filter(of).map(|s| u64::from(s.capacity)).sum()
            };
            prop_assert_eq!(house.connected(), sum(Class::Free));
            prop_assert_eq!(house.priority_connected(), sum(Class::Priority));
            prop_assert!(house.connected() <= 1_000 && house.recharging() <= house.connected());
            prop_assert_eq!(house.len(), seats.len());
        }
    }
}
