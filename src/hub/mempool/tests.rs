use std::time::Duration;

use bitcoin::hashes::Hash as _;
use proptest::prelude::*;

use super::*;
use crate::wire::write;

const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

/// A `tx` message that spends these outputs, with `outputs` outputs; `salt` tells it apart.
fn tx(spends: &[(Hash, u32)], outputs: usize, salt: u64, witness: bool) -> (Bytes, Hash, Hash) {
    let input = |(txid, vout): &(Hash, u32)| bitcoin::TxIn {
        previous_output: bitcoin::OutPoint { txid: bitcoin::Txid::from_byte_array(*txid), vout: *vout },
        script_sig: bitcoin::ScriptBuf::new(),
        sequence: bitcoin::Sequence::MAX,
        witness: if witness { bitcoin::Witness::from_slice(&[vec![7; 60]]) } else { bitcoin::Witness::new() },
    };
    let output =
        bitcoin::TxOut { value: bitcoin::Amount::from_sat(salt), script_pubkey: vec![0x51; 10].into() };
    let tx = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: spends.iter().map(input).collect(),
        output: vec![output; outputs],
    };
    let mut message = Vec::new();
    write::raw(&mut message, MAGIC, "tx", &bitcoin::consensus::serialize(&tx));
    (message.into(), tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array())
}

fn at(secs: u64) -> Instant {
    Instant(0) + Duration::from_secs(secs)
}

impl Mempool {
    fn check(&self) {
        let count = self.slots.len();
        assert_eq!((self.by_txid.len(), self.by_wtxid.len(), self.order.len()), (count, count, count));
        assert_eq!(self.bytes, self.slots.values().map(|entry| entry.message.len()).sum::<usize>());
        assert!(self.bytes <= self.most);
        let mut spends = 0;
        for (key, entry) in &self.slots {
            assert_eq!(self.by_txid.get(&entry.txid), Some(&key));
            assert_eq!(self.by_wtxid.get(&entry.wtxid), Some(&key));
            assert_eq!(self.order.get(&entry.seq), Some(&key));
            for spent in parsed(entry).unwrap().spends() {
                assert_eq!(self.spenders.get(&spent), Some(&key));
                spends += 1;
            }
        }
        assert_eq!(spends, self.spenders.len());
        let c = self.counters;
        assert_eq!(
            c.inserted + c.returned,
            count as u64 + c.confirmed + c.conflict + c.replaced + c.expired + c.evicted
        );
    }
}

#[test]
fn comes_back_quietly_and_displaces_nothing() {
    let (first, txid, wtxid) = tx(&[([1; 32], 0)], 1, 1, true);
    let (rival, _, rival_wtxid) = tx(&[([1; 32], 0)], 1, 2, true);
    let mut pool = Mempool::new(2 * first.len());
    let inv = Inv { kind: InvKind::Wtx, hash: wtxid };
    assert!(!pool.give_back(at(0), Bytes::from_static(&[1; 30])), "does not decode");
    assert!(pool.give_back(at(0), first.clone()) && !pool.give_back(at(0), first.clone()));
    assert!(pool.get(&inv).is_some() && !pool.is_heard(&inv));
    assert!(pool.hear(&wtxid) && !pool.hear(&wtxid) && !pool.hear(&rival_wtxid));
    assert!(pool.is_heard(&inv));
    assert!(!pool.give_back(at(0), rival.clone()), "contradicts what is here");
    pool.check();
    let (second, third) = (tx(&[([2; 32], 0)], 1, 3, true).0, tx(&[([3; 32], 0)], 1, 4, true).0);
    assert!(pool.give_back(at(0), second));
    assert!(!pool.give_back(at(0), third), "nothing is evicted for it");
    assert_eq!((pool.len(), pool.counters().returned, pool.counters().evicted), (2, 2, 0));
    pool.check();
    assert_eq!(pool.remove_confirmed(&[txid], &[]).len(), 1);
    pool.check();
}

#[test]
fn is_found_by_both_hashes_and_inserted_once() {
    let mut pool = Mempool::new(10_000);
    let (message, txid, wtxid) = tx(&[([1; 32], 0)], 1, 5, true);
    assert_ne!(txid, wtxid);
    assert!(pool.insert(at(1), message.clone(), None).unwrap().new);
    assert!(!pool.insert(at(2), message.clone(), None).unwrap().new);
    assert_eq!(pool.by_txid(&txid).unwrap().message, message);
    assert_eq!(pool.by_wtxid(&wtxid).unwrap().time, at(1));
    assert!(pool.by_wtxid(&txid).is_none());
    assert_eq!(pool.inv(true), [Inv { kind: InvKind::Wtx, hash: wtxid }]);
    assert_eq!(pool.inv(false), [Inv { kind: InvKind::Tx, hash: txid }]);
    assert!(pool.get(&Inv { kind: InvKind::Wtx, hash: wtxid }).is_some());
    assert!(pool.get(&Inv { kind: InvKind::WitnessTx, hash: txid }).is_some());
    assert!(pool.get(&Inv { kind: InvKind::Block, hash: txid }).is_none());
    assert_eq!(pool.counters().duplicate, 1);
    pool.check();
}

#[test]
fn confirmation_and_conflict_say_what_left_and_why() {
    let mut pool = Mempool::new(100_000);
    let (parent, parent_id, _) = tx(&[([1; 32], 0)], 2, 1, false);
    let (child, child_id, _) = tx(&[(parent_id, 1)], 1, 2, true);
    let (rival, rival_id, _) = tx(&[([2; 32], 0)], 1, 3, true);
    let (rivals_child, rivals_child_id, _) = tx(&[(rival_id, 0), ([3; 32], 9)], 1, 4, true);
    let (bystander, bystander_id, _) = tx(&[([4; 32], 0)], 1, 5, true);
    for message in [parent, child, rival, rivals_child, bystander] {
        assert!(pool.insert(at(1), message, None).unwrap().new);
    }
    let spent = [([1; 32], 0), ([2; 32], 0)].map(|(txid, output)| OutPoint { txid, output });
    let gone = pool.remove_confirmed(&[parent_id, [9; 32]], &spent);
    let gone: Vec<_> = gone.iter().map(|gone| (gone.txid, gone.reason)).collect();
    let want = [
        (parent_id, GoneReason::Confirmed),
        (rival_id, GoneReason::Conflict),
        (rivals_child_id, GoneReason::Conflict),
    ];
    assert_eq!(gone, want);
    assert!(pool.by_txid(&child_id).is_some() && pool.by_txid(&bystander_id).is_some());
    pool.check();
}

#[test]
fn a_replacement_drives_the_replaced_out_with_descendants() {
    let mut pool = Mempool::new(100_000);
    let (old, old_id, _) = tx(&[([1; 32], 0)], 1, 1, true);
    let (child, child_id, _) = tx(&[(old_id, 0)], 1, 2, true);
    let (new, new_id, _) = tx(&[([1; 32], 0), ([2; 32], 0)], 1, 3, true);
    pool.insert(at(1), old, None).unwrap();
    pool.insert(at(1), child, None).unwrap();
    let inserted = pool.insert(at(2), new, None).unwrap();
    let gone: Vec<_> = inserted.gone.iter().map(|gone| gone.txid).collect();
    assert_eq!((inserted.txid, gone), (new_id, vec![old_id, child_id]));
    assert_eq!((pool.len(), pool.counters().replaced), (1, 2));
    pool.check();
}

#[test]
fn the_oldest_leave_when_bytes_or_time_run_out() {
    let size = tx(&[([0; 32], 0)], 1, 0, true).0.len();
    let mut pool = Mempool::new(size * 3);
    let ids: Vec<Hash> = (0..5u8)
        .map(|i| {
            let (message, txid, _) = tx(&[([i; 32], 0)], 1, 0, true);
            pool.insert(at(u64::from(i)), message, None).unwrap();
            pool.check();
            txid
        })
        .collect();
    assert_eq!((pool.len(), pool.counters().evicted), (3, 2));
    assert!(pool.by_txid(&ids[1]).is_none() && pool.by_txid(&ids[2]).is_some());
    assert!(pool.expire(at(4)).is_empty());
    let gone = pool.expire(at(3) + MEMPOOL_EXPIRY + Duration::from_millis(1));
    assert_eq!(gone.iter().map(|gone| gone.txid).collect::<Vec<_>>(), &ids[2..4]);
    assert_eq!((pool.len(), pool.counters().expired), (1, 2));
    let (big, ..) = tx(&[([9; 32], 0)], 50, 0, true);
    assert!(matches!(pool.insert(at(9), big, None), Err(InsertError::TooLarge { .. })));
    assert!(matches!(pool.insert(at(9), Bytes::from_static(b"x"), None), Err(InsertError::Wire(_))));
    assert_eq!(pool.counters().refused, 2);
    pool.check();
}

#[test]
fn a_long_chain_of_descendants_leaves_without_recursion() {
    let mut pool = Mempool::new(100_000_000);
    let (first, first_id, _) = tx(&[([1; 32], 0)], 1, 0, false);
    pool.insert(at(0), first, None).unwrap();
    let mut parent = first_id;
    for _ in 0..20_000 {
        let (message, txid, _) = tx(&[(parent, 0)], 1, 0, false);
        pool.insert(at(0), message, None).unwrap();
        parent = txid;
    }
    let spent = OutPoint { txid: [1; 32], output: 0 };
    assert_eq!(pool.remove_confirmed(&[], &[spent]).len(), 20_001);
    assert!(pool.is_empty() && pool.bytes() == 0);
    pool.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_agree_whatever_happens(ops in prop::collection::vec((0u8..8, any::<prop::sample::Index>(), 0u8..12), 1..80)) {
        let mut pool = Mempool::new(1_500);
        let mut txids = vec![[200; 32]];
        for (n, (op, pick, output)) in ops.into_iter().enumerate() {
            let txid = txids[pick.index(txids.len())];
            let now = at(n as u64 * 50_000);
            match op {
                0 => drop(pool.remove_confirmed(&[txid], &[])),
                1 => drop(pool.remove_confirmed(&[], &[OutPoint { txid, output: u32::from(output) }])),
                2 => drop(pool.expire(now)),
                _ => {
                    let message = tx(&[(txid, u32::from(output))], 3, n as u64, op % 2 == 0).0;
                    let inserted = pool.insert(now, message, None).unwrap();
                    prop_assert!(inserted.new);
                    txids.push(inserted.txid);
                }
            }
            pool.check();
        }
    }
}
