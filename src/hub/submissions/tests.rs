use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::limits::{RECENT_VERDICT_TIME, TX_REQUEST_TIMEOUT, VERDICT_TIMEOUT, WAITING_TX_EXPIRY};
use crate::base::{ClientId, ShardId};
use crate::wire::InvKind;

/// Small, so that every bound is met.
const TINY: Bounds =
    Bounds { wanted: 6, announcers: 3, announcements: 4, in_flight: 2, held: 4, held_bytes: 100, recent: 50 };

fn client(n: u32) -> ClientRef {
    ClientRef { shard: ShardId((n % 3) as u16), id: ClientId { slot: n, generation: 1 } }
}

/// Each client is of a host of its own, and that of a group of its own.
fn from(n: u32) -> Sender {
    Sender { client: client(n), host: Host::V4(n << 8) }
}

fn wtx(n: u8) -> Inv {
    Inv { kind: InvKind::Wtx, hash: wtxid(n) }
}

fn wtxid(n: u8) -> Hash {
    [n; 32]
}

fn txid(n: u8) -> Hash {
    let mut hash = [n; 32];
    hash[0] = 0xff;
    hash
}

fn at(secs: u64) -> Instant {
    Instant(0) + Duration::from_secs(secs)
}

fn give(s: &mut Submissions, now: Instant, who: u32, n: u8, len: usize) -> Received {
    s.received(now, from(who), txid(n), wtxid(n), vec![n; len].into())
}

impl Submissions {
    fn check(&self) {
        self.wanted.check();
        self.custody.check();
        let c = self.counters;
        let (waiting, submitted) = self.held();
        assert_eq!(
            c.received,
            (waiting + submitted) as u64
                + c.accepted
                + c.rejected
                + c.no_verdict
                + c.no_node
                + c.displaced
                + c.costs_links,
            "a transaction is unaccounted for"
        );
    }
}

#[test]
fn is_asked_once_and_another_announcer_when_the_first_is_silent() {
    let mut s = Submissions::with_bounds(TINY);
    assert_eq!(s.announced(at(0), from(1), wtx(1)), Some(Ask { client: client(1), inv: wtx(1) }));
    for other in [2, 3, 1] {
        assert_eq!(s.announced(at(1), from(other), wtx(1)), None);
    }
    assert_eq!(s.announced(at(1), from(4), wtx(1)), None);
    assert_eq!((s.counters().announced_again, s.counters().excess_announcers), (1, 1));
    assert_eq!(s.next_wake(), at(0) + TX_REQUEST_TIMEOUT);
    assert_eq!(s.tick(at(59)), Ticked::default());
    assert_eq!(s.tick(at(60)).asks, [Ask { client: client(2), inv: wtx(1) }]);
    // An answer of one who is not asked any more changes nothing.
    assert_eq!(s.not_found(at(61), client(1), wtx(1)), None);
    assert_eq!(s.not_found(at(61), client(2), wtx(1)), Some(Ask { client: client(3), inv: wtx(1) }));
    assert_eq!(s.not_found(at(62), client(3), wtx(1)), None);
    assert_eq!((s.wanted(), s.counters().never_received), (0, 1));
    assert_eq!((s.counters().asked, s.counters().not_found, s.counters().ask_timeouts), (3, 2, 1));
    assert_eq!(s.next_wake(), Instant::FAR);
    s.check();
}

#[test]
fn a_client_with_its_hands_full_is_asked_later() {
    let mut s = Submissions::with_bounds(TINY);
    assert!(s.announced(at(0), from(1), wtx(1)).is_some());
    assert!(s.announced(at(1), from(1), wtx(2)).is_some());
    assert!(s.announced(at(2), from(1), wtx(3)).is_none());
    s.check();
    // Another announcer of the parked one is asked at once.
    assert!(s.announced(at(2), from(1), wtx(4)).is_none());
    assert_eq!(s.announced(at(3), from(2), wtx(4)), Some(Ask { client: client(2), inv: wtx(4) }));
    assert!(s.announced(at(3), from(1), wtx(5)).is_none());
    assert_eq!(s.counters().excess_announcements, 1);
    s.check();
    assert_eq!(give(&mut s, at(4), 1, 1, 9), Received::New);
    assert_eq!(s.take_asks(), [Ask { client: client(1), inv: wtx(3) }]);
    s.check();
}

#[test]
fn who_has_announced_the_most_gives_way() {
    let mut s = Submissions::with_bounds(TINY);
    // Two are asked of client 1 and two parked with it; client 2 has announced the last, too.
    for n in 1..5 {
        assert_eq!(s.announced(at(0), from(1), wtx(n)).is_some(), n < 3);
    }
    for n in [5, 6] {
        assert!(s.announced(at(0), from(u32::from(n)), wtx(n)).is_some());
    }
    assert!(s.announced(at(1), from(2), wtx(4)).is_some());
    // The table is full at six. The fourth is client 2's now, so the third leaves.
    assert!(s.announced(at(2), from(7), wtx(7)).is_some());
    assert_eq!((s.wanted(), s.counters().announcements_displaced, s.counters().wanted_full), (6, 2, 0));
    s.check();
    // Nobody has more than one beyond client 7, who would have two.
    assert!(s.announced(at(2), from(7), wtx(8)).is_none());
    assert_eq!(s.counters().wanted_full, 1);
    // The second is asked and not answered: it leaves as well.
    assert!(s.announced(at(2), from(9), wtx(9)).is_some());
    assert!(s.announced(at(2), from(10), wtx(10)).is_none(), "all have one");
    assert_eq!((s.wanted(), s.counters().announcements_displaced, s.counters().wanted_full), (6, 3, 2));
    s.check();
}

#[test]
fn a_few_that_announce_what_they_do_not_have_keep_nobody_out() {
    let mut s = Submissions::new();
    let inv = |n: u32| {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        Inv { kind: InvKind::Wtx, hash }
    };
    let most = limits::MAX_TX_WANTED as u32;
    for n in 0..most {
        s.announced(at(0), from(n % 10), inv(n));
    }
    assert_eq!(s.wanted(), most as usize);
    for n in most..most + 500 {
        assert!(s.announced(at(0), from(n), inv(n)).is_some(), "client {n} is not asked");
    }
    assert_eq!((s.wanted(), s.counters().announcements_displaced), (most as usize, 500));
    s.check();
}

#[test]
fn is_submitted_once_and_accepted_by_either_hash() {
    let mut s = Submissions::with_bounds(TINY);
    assert_eq!(give(&mut s, at(0), 1, 1, 10), Received::New);
    assert_eq!(give(&mut s, at(0), 2, 1, 10), Received::Duplicate);
    assert_eq!(s.announced(at(0), from(3), wtx(1)), None);
    assert_eq!(s.announced(at(0), from(3), Inv { kind: InvKind::Tx, hash: txid(1) }), None);
    assert_eq!(s.counters().announced_known, 2);
    assert_eq!(s.to_submit().map(|tx| tx.wtxid), Some(wtxid(1)));
    assert!(s.submitted(at(1), &wtxid(1)) && !s.submitted(at(1), &wtxid(1)));
    assert_eq!(s.to_submit(), None);
    assert_eq!(s.get(&txid(1)).map(|tx| tx.origin), Some(client(1)));
    assert_eq!(s.accepted(at(2), &txid(1)).map(|tx| tx.origin), Some(client(1)));
    assert_eq!(s.accepted(at(2), &wtxid(1)), None);
    assert_eq!(give(&mut s, at(3), 2, 1, 10), Received::Duplicate);
    let later = at(4) + RECENT_VERDICT_TIME;
    assert_eq!(give(&mut s, later, 2, 1, 10), Received::New);
    s.check();
}

#[test]
fn what_costs_links_is_refused() {
    let mut s = Submissions::with_bounds(TINY);
    give(&mut s, at(0), 1, 1, 10);
    for n in 0..u64::from(limits::MAX_QUICK_LOSSES) {
        assert!(s.submitted(at(10 * n), &wtxid(1)));
        let last = n + 1 == u64::from(limits::MAX_QUICK_LOSSES);
        assert_eq!(s.put_back(at(10 * n + 1), &wtxid(1)), !last);
    }
    let refused = s.tick(at(60)).refused;
    assert_eq!(refused.iter().map(|gone| gone.why).collect::<Vec<_>>(), [RefusedWhy::CostsLinks]);
    assert_eq!((s.held(), s.counters().costs_links), ((0, 0), 1));
    assert_eq!(give(&mut s, at(61), 1, 1, 10), Received::RecentlyRefused);
    s.check();
}

#[test]
fn a_lost_link_puts_back_what_has_no_verdict_in_order() {
    let mut s = Submissions::with_bounds(TINY);
    for n in 1..4 {
        give(&mut s, at(0), 1, n, 10);
    }
    for n in [1, 2, 3] {
        assert!(s.submitted(at(u64::from(10 - n)), &wtxid(n)));
    }
    assert!(s.accepted(at(10), &wtxid(2)).is_some());
    let back = [3, 2, 1].map(|n| s.put_back(at(30), &wtxid(n)));
    assert_eq!(back, [true, false, true]);
    assert!(!s.put_back(at(30), &wtxid(1)), "it waits already");
    assert_eq!((s.held(), s.counters().put_back), ((2, 0), 2));
    assert_eq!(s.to_submit().map(|tx| tx.wtxid), Some(wtxid(1)));
    assert_eq!(s.tick(at(80)), Ticked::default());
    let expired = s.tick(at(0) + WAITING_TX_EXPIRY).refused;
    assert!(expired.iter().all(|refused| refused.why == RefusedWhy::NoNode));
    assert_eq!((expired.len(), s.counters().no_node), (2, 2));
    // No node has judged it.
    assert_eq!(give(&mut s, at(3_601), 1, 1, 10), Received::New);
    s.check();
}

#[test]
fn what_goes_to_another_node_too_has_its_time_anew() {
    let mut s = Submissions::with_bounds(TINY);
    give(&mut s, at(0), 1, 1, 10);
    assert_eq!(s.handed_on(at(0), &wtxid(1)), None, "no node has it yet");
    s.submitted(at(5), &wtxid(1));
    assert!(s.handed_on(at(35), &wtxid(1)).is_some());
    assert_eq!(s.tick(at(94)), Ticked::default());
    assert_eq!(s.tick(at(95)).refused.len(), 1);
    assert_eq!((s.counters().submitted, s.counters().handed_on, s.counters().no_verdict), (1, 1, 1));
    s.check();
}

#[test]
fn no_verdict_and_rejection_refuse_for_a_while() {
    let mut s = Submissions::with_bounds(TINY);
    give(&mut s, at(0), 1, 1, 10);
    give(&mut s, at(0), 1, 2, 10);
    s.submitted(at(5), &wtxid(1));
    s.submitted(at(6), &wtxid(2));
    assert_eq!(s.next_wake(), at(5) + VERDICT_TIMEOUT);
    assert_eq!(s.rejected(at(7), &txid(2)).map(|refused| refused.why), Some(RefusedWhy::Rejected));
    let refused = s.tick(at(65)).refused;
    let want = Refused { txid: txid(1), wtxid: wtxid(1), origin: client(1), why: RefusedWhy::NoVerdict };
    assert_eq!(refused, [want]);
    assert_eq!(give(&mut s, at(66), 2, 1, 10), Received::RecentlyRefused);
    assert_eq!(s.announced(at(66), from(2), wtx(2)), None);
    // Heard after all.
    assert_eq!(s.accepted(at(67), &wtxid(1)), None);
    assert_eq!(s.counters().accepted_late, 1);
    assert_eq!(give(&mut s, at(68), 2, 1, 10), Received::Duplicate);
    assert_eq!(give(&mut s, at(69) + RECENT_VERDICT_TIME, 2, 2, 10), Received::New);
    s.check();
}

#[test]
fn what_does_not_fit_is_refused_and_counted() {
    let mut s = Submissions::with_bounds(TINY);
    assert_eq!(give(&mut s, at(0), 1, 1, 101), Received::Full);
    assert_eq!(give(&mut s, at(0), 1, 2, 60), Received::New);
    assert_eq!(give(&mut s, at(0), 1, 3, 41), Received::Full);
    for n in 4..7 {
        assert_eq!(give(&mut s, at(0), 1, n, 1), Received::New);
    }
    assert_eq!(give(&mut s, at(0), 1, 7, 1), Received::Full);
    assert_eq!(s.counters().full, 3);
    s.check();
}

#[test]
fn the_largest_holder_gives_way() {
    let mut s = Submissions::with_bounds(TINY);
    // By count: the newest of client 1, who has three of four.
    for n in 1..4 {
        assert_eq!(give(&mut s, at(0), 1, n, 10), Received::New);
    }
    assert_eq!(give(&mut s, at(0), 2, 4, 10), Received::New);
    s.submitted(at(1), &wtxid(3));
    assert_eq!(give(&mut s, at(1), 1, 5, 10), Received::Full, "nobody has more than client 1");
    assert_eq!(give(&mut s, at(1), 3, 6, 10), Received::New);
    assert_eq!(s.next_wake(), Instant(0));
    let gone = Refused { txid: txid(3), wtxid: wtxid(3), origin: client(1), why: RefusedWhy::Displaced };
    assert_eq!(s.tick(at(1)).refused, [gone]);
    assert_eq!(give(&mut s, at(1), 4, 3, 10), Received::RecentlyRefused, "a node has it");
    assert_eq!((s.counters().displaced, s.counters().full), (1, 1));
    s.check();
    // One more of client 1, which no node has seen, so that it may come again; then all have as much.
    assert_eq!(give(&mut s, at(2), 4, 7, 10), Received::New);
    assert_eq!(give(&mut s, at(2), 1, 2, 10), Received::Full);
    assert_eq!(give(&mut s, at(2), 5, 8, 10), Received::Full);
    s.check();
    // By bytes.
    let mut s = Submissions::with_bounds(TINY);
    assert_eq!(give(&mut s, at(0), 1, 1, 40), Received::New);
    assert_eq!(give(&mut s, at(0), 1, 2, 40), Received::New);
    assert_eq!(give(&mut s, at(0), 2, 3, 81), Received::Full, "more than client 1 has");
    assert_eq!(give(&mut s, at(0), 2, 3, 60), Received::New);
    assert_eq!((s.get(&wtxid(1)).is_some(), s.get(&wtxid(2))), (true, None));
    s.check();
}

#[test]
fn one_client_with_everything_keeps_nobody_out() {
    let mut s = Submissions::new();
    let hash = |n: u32| {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        hash
    };
    for n in 0..limits::MAX_WAITING_TX as u32 {
        assert_eq!(s.received(at(0), from(1), hash(n), hash(n), vec![0; 60].into()), Received::New);
    }
    for n in 20_000..20_500 {
        assert_eq!(s.received(at(0), from(n), hash(n), hash(n), vec![0; 60].into()), Received::New);
    }
    s.check();
}

#[test]
fn what_is_too_heavy_is_refused_at_once() {
    let mut s = Submissions::new();
    let most = limits::MAX_TX_WEIGHT / 4;
    assert_eq!(give(&mut s, at(0), 1, 1, most), Received::New);
    assert_eq!(give(&mut s, at(0), 1, 2, most + 1), Received::TooHeavy);
    assert_eq!(give(&mut s, at(0), 2, 2, most + 1), Received::RecentlyRefused);
    assert_eq!(s.announced(at(0), from(3), wtx(2)), None, "nobody is asked for it");
    // Witness counts once, the rest four times.
    let with_witness = |witness: usize| {
        let mut tx = vec![2, 0, 0, 0, 0, 1, 1];
        tx.extend([7; 36]);
        tx.extend([0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xfe]);
        tx.extend((witness as u32).to_le_bytes());
        tx.extend(vec![0; witness]);
        tx.extend([0; 4]);
        Bytes::from(tx)
    };
    let empty = crate::wire::tx::Tx::parse(&with_witness(70_000)).unwrap().weight() - 70_000;
    let fits = with_witness(limits::MAX_TX_WEIGHT - empty);
    assert_eq!(s.received(at(0), from(1), txid(3), wtxid(3), fits), Received::New);
    let heavy = with_witness(limits::MAX_TX_WEIGHT - empty + 1);
    assert_eq!(s.received(at(0), from(1), txid(4), wtxid(4), heavy), Received::TooHeavy);
    assert_eq!(s.counters().too_heavy, 2);
    s.check();
}

#[test]
fn two_witnesses_of_one_transaction_are_two() {
    let mut s = Submissions::with_bounds(TINY);
    assert_eq!(s.received(at(0), from(1), txid(1), wtxid(1), vec![1].into()), Received::New);
    assert_eq!(s.received(at(0), from(2), txid(1), wtxid(2), vec![2].into()), Received::New);
    assert_eq!(s.accepted(at(1), &wtxid(2)).map(|tx| tx.origin), Some(client(2)));
    assert_eq!(s.accepted(at(1), &txid(1)).map(|tx| tx.origin), Some(client(1)));
    s.check();
}

#[derive(Clone, Debug)]
enum Step {
    Announced(u32, u8),
    NotFound(u32, u8),
    Received(u32, u8, usize),
    Submit,
    Accepted(u8, bool),
    Rejected(u8),
    LinksLost,
    HandOn(u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, what) = (0u32..5, 0u8..12);
    prop_oneof![
        6 => (who.clone(), what.clone()).prop_map(|(c, n)| Step::Announced(c, n)),
        2 => (who.clone(), what.clone()).prop_map(|(c, n)| Step::NotFound(c, n)),
        4 => (who, what.clone(), 1usize..40).prop_map(|(c, n, len)| Step::Received(c, n, len)),
        4 => Just(Step::Submit),
        2 => (what.clone(), any::<bool>()).prop_map(|(n, w)| Step::Accepted(n, w)),
        1 => what.clone().prop_map(Step::Rejected),
        1 => Just(Step::LinksLost),
        1 => what.prop_map(Step::HandOn),
        3 => prop_oneof![1u64..20, 30u64..90, 1_000u64..4_000].prop_map(Step::Pass),
    ]
}

/// What must hold of each transaction, kept apart from the code: who may be submitted, who must not be lost.
#[derive(Default)]
struct Model {
    /// In our hands, by what `received` answered; the origin is remembered.
    held: HashMap<Hash, u32>,
    /// Submitted since the last loss of links, and when the verdict came, if it did.
    submitted: HashMap<Hash, Option<Instant>>,
    /// Asked now.
    asked: HashSet<(ClientRef, Hash)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn never_twice_nothing_lost_all_bounded(steps in prop::collection::vec(step(), 1..200)) {
        let mut s = Submissions::with_bounds(TINY);
        let mut m = Model::default();
        let mut now = at(0);
        for step in steps {
            let mut asks = Vec::new();
            let mut refused = Vec::new();
            match step {
                Step::Announced(c, n) => {
                    let known = m.held.contains_key(&wtxid(n));
                    let before = s.counters().announcements_displaced;
                    let ask = s.announced(now, from(c), wtx(n));
                    if s.counters().announcements_displaced > before {
                        // Who was asked may have given way: its ask does not count any more.
                        m.asked.clear();
                    }
                    prop_assert!(!(known && ask.is_some()));
                    prop_assert!(ask.is_none_or(|ask| ask.inv.hash == wtxid(n)));
                    asks.extend(ask);
                }
                Step::NotFound(c, n) => {
                    m.asked.remove(&(client(c), wtxid(n)));
                    asks.extend(s.not_found(now, client(c), wtx(n)));
                }
                Step::Received(c, n, len) => {
                    m.asked.retain(|(_, hash)| *hash != wtxid(n));
                    let answer = give(&mut s, now, c, n, len);
                    if m.held.contains_key(&wtxid(n)) {
                        prop_assert_eq!(answer, Received::Duplicate);
                    }
                    if answer == Received::New {
                        prop_assert_eq!(m.held.insert(wtxid(n), c), None);
                        // Taken again after a verdict: only when that has been forgotten.
                        if let Some(Some(verdict)) = m.submitted.remove(&wtxid(n)) {
                            prop_assert!(now.since(verdict) > RECENT_VERDICT_TIME);
                        }
                    }
                }
                Step::Submit => {
                    if let Some(tx) = s.to_submit() {
                        prop_assert!(m.held.contains_key(&tx.wtxid));
                        prop_assert_eq!(m.submitted.insert(tx.wtxid, None), None, "submitted twice");
                        prop_assert!(s.submitted(now, &tx.wtxid));
                    }
                }
                Step::Accepted(n, by_wtxid) => {
                    m.asked.retain(|(_, hash)| *hash != wtxid(n) || (!by_wtxid && !m.held.contains_key(hash)));
                    let taken = s.accepted(now, &if by_wtxid { wtxid(n) } else { txid(n) });
                    let origin = taken.as_ref().map(|tx| tx.origin);
                    prop_assert_eq!(origin, m.held.remove(&wtxid(n)).map(client), "accepted and lost");
                    if taken.is_some() {
                        m.submitted.insert(wtxid(n), Some(now));
                    }
                }
                Step::Rejected(n) => refused.extend(s.rejected(now, &wtxid(n))),
                Step::LinksLost => {
                    for (wtxid, _) in m.submitted.extract_if(|_, verdict| verdict.is_none()) {
                        // Late enough to be no fault of the transaction: `what_costs_links_is_refused` has the other case.
                        prop_assert!(s.put_back(now + limits::QUICK_LOSS, &wtxid));
                    }
                }
                Step::HandOn(n) => {
                    let submitted = m.submitted.get(&wtxid(n)) == Some(&None);
                    prop_assert_eq!(s.handed_on(now, &wtxid(n)).is_some(), submitted);
                }
                Step::Pass(secs) => {
                    now = now + Duration::from_secs(secs);
                    let due = s.next_wake() <= now;
                    let before = s.counters();
                    let ticked = s.tick(now);
                    prop_assert!(due || ticked == Ticked::default());
                    if s.counters().ask_timeouts > before.ask_timeouts {
                        m.asked.clear();
                    }
                    asks.extend(ticked.asks);
                    refused.extend(ticked.refused);
                }
            }
            // Who gave way is told with the next tick, which is due at once.
            if s.next_wake() == Instant(0) {
                let ticked = s.tick(now);
                asks.extend(ticked.asks);
                refused.extend(ticked.refused);
            }
            for gone in refused {
                let origin = m.held.remove(&gone.wtxid).map(client);
                prop_assert_eq!(Some(gone.origin), origin, "refused what was not held");
                let unseen = matches!(gone.why, RefusedWhy::NoNode | RefusedWhy::Displaced);
                let judged = !unseen || m.submitted.contains_key(&gone.wtxid);
                if judged {
                    m.submitted.insert(gone.wtxid, Some(now));
                }
            }
            asks.extend(s.take_asks());
            for ask in asks {
                prop_assert!(!m.asked.iter().any(|(_, hash)| *hash == ask.inv.hash), "asked of two at a time");
                m.asked.insert((ask.client, ask.inv.hash));
            }
            let (waiting, submitted) = s.held();
            prop_assert_eq!(waiting + submitted, m.held.len());
            s.check();
        }
    }
}

#[test]
fn only_the_latest_verdicts_are_remembered() {
    let mut s = Submissions::with_bounds(Bounds { recent: 2, ..TINY });
    for n in 1..4 {
        give(&mut s, at(0), 1, n, 1);
        s.submitted(at(0), &wtxid(n));
        assert!(s.rejected(at(u64::from(n)), &wtxid(n)).is_some());
        s.check();
    }
    assert_eq!(give(&mut s, at(4), 1, 3, 1), Received::RecentlyRefused);
    assert_eq!(give(&mut s, at(4), 1, 2, 1), Received::RecentlyRefused);
    assert_eq!(give(&mut s, at(4), 1, 1, 1), Received::New);
}
