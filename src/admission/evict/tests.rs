//! Tests of `evict`, against a sort of everybody as Bitcoin Core does it.

use proptest::prelude::*;

use super::*;

fn keys(group: u64) -> Keys {
    Keys { identity: 1, group }
}

/// A crowd of `members` of one group, from `slot` on.
fn enter(evict: &mut Evict, slots: std::ops::Range<u32>, group: u64) {
    slots.for_each(|slot| evict.enter(slot, keys(group)));
}

#[test]
fn the_youngest_of_the_largest_group_goes() {
    let mut evict = Evict::default();
    assert_eq!(evict.victim(), None);
    // 200 old ones, that are of no interest, and groups of 5, 9 and 9 among the younger.
    for slot in 0..200 {
        evict.enter(slot, keys(1_000 + u64::from(slot)));
    }
    enter(&mut evict, 200..205, 10);
    enter(&mut evict, 205..214, 11);
    enter(&mut evict, 214..223, 12);
    assert_eq!(evict.victim(), Some(222), "of two that are as large the one joined last");
    evict.leave(222);
    assert_eq!(evict.victim(), Some(213));
    for slot in (200..222).rev() {
        evict.leave(slot);
    }
    // Only groups of one are left: the youngest, but four that their groups protect.
    assert_eq!(evict.victim(), Some(195));
}

#[test]
fn who_is_best_at_something_stays() {
    let mut evict = Evict::default();
    enter(&mut evict, 0..400, 7);
    let now = Instant(1_000_000_000);
    assert_eq!(evict.victim(), Some(399));
    for slot in 392..400 {
        evict.ping(slot, 1_000 + u64::from(slot));
    }
    assert_eq!(evict.victim(), Some(391));
    (388..392).for_each(|slot| evict.useful_tx(slot, now));
    (384..388).for_each(|slot| evict.useful_block(slot, now));
    assert_eq!(evict.victim(), Some(383));
    evict.useful_tx(17, Instant(now.0 + 1));
    assert_eq!(evict.victim(), Some(391), "of four the one who was useful first gives way to a fifth");
    // Pings of strangers and lies about who is in change nothing.
    evict.ping(5_000, 1);
    assert!(!evict.by_ping.holds(5_000));
}

#[test]
fn a_flood_of_one_network_takes_no_place_of_others() {
    let mut evict = Evict::default();
    // 1,000 honest clients, two of a group; then 100,000 of an attacker with ten groups, each of which takes somebody's place.
    for slot in 0..1_000 {
        evict.enter(slot, keys(u64::from(slot / 2) + 1_000_000));
    }
    let (mut honest_gone, mut slot_free) = (0, 1_000);
    for n in 0..100_000_u64 {
        evict.enter(slot_free, keys(n % 10));
        if evict.len() > 1_500 {
            let victim = evict.victim().unwrap();
            honest_gone += u32::from(victim < 1_000);
            evict.leave(victim);
            slot_free = victim;
        } else {
            slot_free += 1;
        }
    }
    assert_eq!(honest_gone, 0);
    assert_eq!(evict.len(), 1_500);
}

/// What a sort of everybody says: slots with their groups in the order of coming.
fn by_sorting(evict: &Evict, order: &[(u32, u64)]) -> Option<u32> {
    let young = &order[order.len() / 2..];
    let free: Vec<(u32, u64)> =
        young.iter().filter(|(slot, _)| !evict.is_protected(*slot)).copied().collect();
    // Sizes count all younger members, the last to join decides between equals.
    let size = |group: u64| young.iter().filter(|(_, other)| *other == group).count();
    let joined = |group: u64| order.iter().rposition(|(_, other)| *other == group);
    free.iter()
        .max_by_key(|(slot, group)| {
            let at = order.iter().position(|(other, _)| other == slot);
            // Groups of one are compared by their member.
            (size(*group), joined(*group), at)
        })
        .map(|(slot, _)| *slot)
}

proptest! {
    #[test]
    fn it_decides_as_a_sort_of_everybody(steps in prop::collection::vec((0_u32..120, 0_u64..12, 0_u8..8), 1..500)) {
        let mut evict = Evict::default();
        let mut order: Vec<(u32, u64)> = Vec::new();
        for (n, (slot, group, what)) in steps.into_iter().enumerate() {
            // Someone left and came again may have been the last of his group to join: the order of joins is then unknown here.
            match what {
                0..=3 => {
                    evict.enter(slot, keys(group));
                    order.retain(|(other, _)| *other != slot);
                    order.push((slot, group));
                }
                4 | 5 => {
                    evict.leave(slot);
                    order.retain(|(other, _)| *other != slot);
                }
                6 => evict.ping(slot, u64::from(slot) * 1_000),
                _ => evict.useful_tx(slot, Instant(n as u64)),
            }
            prop_assert_eq!(evict.len(), order.len());
            let (victim, wanted) = (evict.victim(), by_sorting(&evict, &order));
            prop_assert_eq!(victim.is_some(), wanted.is_some());
            if let (Some(victim), Some(wanted)) = (victim, wanted) {
                let group = |slot: u32| order.iter().find(|(other, _)| *other == slot).map(|(_, group)| *group);
                let young = &order[order.len() / 2..];
                let size = |slot| young.iter().filter(|(_, other)| Some(*other) == group(slot)).count();
                prop_assert_eq!(size(victim), size(wanted));
                prop_assert!(young.iter().any(|(slot, _)| *slot == victim) && !evict.is_protected(victim));
                if group(victim) == group(wanted) {
                    prop_assert_eq!(victim, wanted);
                }
            }
            let young = evict.nodes.iter().filter(|node| node.is_in() && node.group & YOUNG != 0).count();
            prop_assert_eq!(young, order.len().div_ceil(2));
            prop_assert_eq!(evict.groups.values().map(|group| group.members as usize).sum::<usize>(), order.len());
        }
    }
}
