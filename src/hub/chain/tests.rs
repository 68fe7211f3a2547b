use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::base::limits::RECENT_HEADERS_MOST;
use crate::wire::display;

const EASY: u32 = 0x207f_ffff;
/// Half the target of `EASY`: twice the work.
const HARD: u32 = 0x203f_ffff;
const NOW: UnixTime = 1_700_000_000;

/// A regtest header with valid proof of work; `salt` tells siblings apart.
fn mine(previous: &Hash, salt: u32, bits: u32) -> [u8; 80] {
    let mut rules = Rules::new(Network::Regtest);
    let mut header = [0; 80];
    header[4..36].copy_from_slice(previous);
    header[36..40].copy_from_slice(&salt.to_le_bytes());
    header[68..72].copy_from_slice(&(NOW as u32).to_le_bytes());
    header[72..76].copy_from_slice(&bits.to_le_bytes());
    for nonce in 0u32.. {
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        if rules.check_pow(&header, &sha256d(&header)).is_ok() {
            break;
        }
    }
    header
}

fn mine_many(previous: &Hash, salt: u32, count: usize) -> Vec<[u8; 80]> {
    let mut at = *previous;
    let mut out = Vec::new();
    for _ in 0..count {
        let header = mine(&at, salt, EASY);
        at = sha256d(&header);
        out.push(header);
    }
    out
}

fn regtest() -> Chain {
    Chain::new(Network::Regtest, Arc::default(), Vec::new()).unwrap()
}

/// What the store would map for the first `len` blocks.
fn freeze(chain: &Chain, len: u32) -> Arc<Frozen> {
    let (mut headers, mut filters) = (Vec::new(), Vec::new());
    for height in 0..len {
        headers.extend_from_slice(chain.best_header(height).unwrap());
        if let Some(record) = chain.filter_record(height) {
            filters.extend_from_slice(&record.header);
            filters.extend_from_slice(&record.hash);
        }
    }
    Arc::new(Frozen::new(Bytes::from(headers), Bytes::from(filters)))
}

fn add_filters(chain: &mut Chain, count: u32) {
    let from = chain.filters_to().map_or(0, |to| to + 1);
    let to = (from + count).min(chain.len());
    if from == to {
        return;
    }
    let previous = from.checked_sub(1).map_or([0; 32], |at| chain.filter_record(at).unwrap().header);
    let stop = *chain.best_hash(to - 1).unwrap();
    let hashes: Vec<Hash> = (from..to).map(|height| sha256d(chain.best_hash(height).unwrap())).collect();
    assert_eq!(chain.add_filter_records(from, previous, &stop, hashes.iter()).unwrap().len(), hashes.len());
}

#[test]
fn begins_with_genesis_on_every_network() {
    for network in [Network::Bitcoin, Network::Testnet4, Network::Signet, Network::Regtest] {
        let mut chain = Chain::new(network, Arc::default(), Vec::new()).unwrap();
        let want = bitcoin::constants::genesis_block(network).block_hash();
        assert_eq!(display(&chain.tip().1), want.to_string());
        assert_eq!((chain.tip().0, chain.view().len(), chain.filters_to()), (0, 1, None));
        chain.invariants();
    }
    let other =
        Record { header: genesis(Network::Bitcoin), hash: sha256d(&genesis(Network::Bitcoin)), filter: None };
    let result = Chain::new(Network::Regtest, Arc::default(), vec![other]);
    assert!(matches!(result, Err(HeaderError::WrongGenesis { .. })));
}

#[test]
fn extends_skips_what_is_known_and_caches_the_picture() {
    let mut chain = regtest();
    let genesis = chain.tip().1;
    let headers = mine_many(&genesis, 1, 20);
    let accepted = chain.accept(headers[..10].iter(), NOW).unwrap();
    assert_eq!((accepted.new, accepted.change.as_ref().unwrap().connected.len()), (10, 10));
    assert_eq!(accepted.change.unwrap().fork_height, 0);
    let view = chain.view();
    assert!(Arc::ptr_eq(&view, &chain.view()));
    let again = chain.accept(headers[..10].iter(), NOW).unwrap();
    assert_eq!((again.new, again.change, again.last), (0, None, chain.tip().1));
    assert!(Arc::ptr_eq(&view, &chain.view()));
    let accepted = chain.accept(headers.iter(), NOW).unwrap();
    assert_eq!((accepted.new, chain.tip().0, chain.view().tip_height()), (10, 20, 20));
    assert_eq!(chain.header(&sha256d(&headers[4])), Some(headers[4]));
    chain.invariants();
}

#[test]
fn bad_headers_are_refused_whole() {
    let mut chain = regtest();
    let genesis = chain.tip().1;
    let good = mine_many(&genesis, 1, 4);
    let mut weak = mine(&sha256d(&good[1]), 9, EASY);
    for nonce in 0u32.. {
        weak[76..].copy_from_slice(&nonce.to_le_bytes());
        if chain.rules.check_pow(&weak, &sha256d(&weak)).is_err() {
            break;
        }
    }
    let late = good.last().copied().unwrap();
    let cases: [(Vec<[u8; 80]>, UnixTime); 4] = [
        (vec![good[0], good[1], weak], NOW),
        (vec![good[0], good[2]], NOW),
        (vec![good[1]], NOW),
        (good.clone(), NOW - MAX_FUTURE_BLOCK_TIME - 1),
    ];
    for (i, (headers, now)) in cases.into_iter().enumerate() {
        let error = chain.accept(headers.iter(), now).unwrap_err();
        let fits = match i {
            0 => error == HeaderError::BadPow(sha256d(&weak)),
            1 => matches!(error, HeaderError::NotLinked { .. }),
            2 => error == HeaderError::UnknownParent(sha256d(&good[0])),
            _ => matches!(error, HeaderError::TooFarInFuture { .. }),
        };
        assert!(fits, "case {i}: {error}");
        assert_eq!((chain.len(), chain.counters().refused), (1, i as u64 + 1));
        assert!(!chain.contains(&sha256d(&late)));
    }
    for bits in [0, 0x2100_ffff, 0x2280_0000, 0x0080_0001, 0xff12_3456, 0x2300_0001, 0x1d80_0000] {
        let mut header = good[0];
        header[72..76].copy_from_slice(&u32::to_le_bytes(bits));
        assert!(matches!(chain.accept([header].iter(), NOW), Err(HeaderError::BadPow(_))), "{bits:#x}");
    }
}

#[test]
fn mainnet_retargets() {
    // Bitcoin Core src/test/pow_tests.cpp, get_next_work: the first retarget, at height 32,256.
    let rules = Rules::new(Network::Bitcoin);
    let header = |time: u32, bits: u32| {
        let mut header = [0; 80];
        header[68..72].copy_from_slice(&time.to_le_bytes());
        header[72..76].copy_from_slice(&bits.to_le_bytes());
        header
    };
    let next = rules.next_bits(&header(1_261_130_161, 0x1d00_ffff), &header(1_262_152_739, 0x1d00_ffff));
    assert_eq!(next, 0x1d00_d86a);
    // A last block before the first one in time counts as the shortest span.
    assert_eq!(rules.next_bits(&header(10, 0x1c05_a3f4), &header(5, 0x1c05_a3f4)), 0x1c01_68fd);

    let mut chain = Chain::new(Network::Bitcoin, Arc::default(), Vec::new()).unwrap();
    let one = "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299";
    let one: Vec<u8> = (0..80).map(|i| u8::from_str_radix(&one[2 * i..2 * i + 2], 16).unwrap()).collect();
    let one: [u8; 80] = one.try_into().unwrap();
    assert_eq!(chain.accept([one].iter(), NOW).unwrap().new, 1);
    let harder = header(0, 0x1c7f_ffff);
    let mut harder = harder;
    harder[4..36].copy_from_slice(&sha256d(&one));
    let error = chain.check_bits(&harder, &[], 2).unwrap_err();
    assert_eq!(error, HeaderError::BadTarget { height: 2, found: 0x1c7f_ffff, expected: 0x1d00_ffff });
}

#[test]
fn reorganises_by_work_not_by_length_and_back() {
    let mut chain = regtest();
    let genesis = chain.tip().1;
    let long = mine_many(&genesis, 1, 5);
    chain.accept(long.iter(), NOW).unwrap();
    let heavy: Vec<[u8; 80]> = {
        let one = mine(&genesis, 2, HARD);
        let two = mine(&sha256d(&one), 2, HARD);
        vec![one, two, mine(&sha256d(&two), 2, HARD)]
    };
    assert_eq!(chain.accept(heavy[..2].iter(), NOW).unwrap().change, None);
    assert!(chain.contains(&sha256d(&heavy[1])) && !chain.in_best(&sha256d(&heavy[1])));
    let change = chain.accept(heavy[2..].iter(), NOW).unwrap().change.unwrap();
    assert_eq!((change.fork_height, chain.tip().0), (0, 3));
    assert_eq!(change.disconnected, long.iter().rev().map(|h| sha256d(h)).collect::<Vec<_>>());
    assert_eq!(change.connected, heavy.iter().map(|h| sha256d(h)).collect::<Vec<_>>());
    chain.invariants();
    // Equal work does not move the tip, more does.
    let more = mine_many(&sha256d(&long[4]), 1, 2);
    assert_eq!(chain.accept(more[..1].iter(), NOW).unwrap().change, None);
    let change = chain.accept(more[1..].iter(), NOW).unwrap().change.unwrap();
    assert_eq!((change.fork_height, change.connected.len(), chain.tip().0), (0, 7, 7));
    assert_eq!(chain.counters().reorganisations, 2);
    chain.invariants();
}

#[test]
fn reorganises_below_the_frozen_part() {
    let mut chain = regtest();
    let genesis = chain.tip().1;
    let first = mine_many(&genesis, 1, 50);
    chain.accept(first.iter(), NOW).unwrap();
    add_filters(&mut chain, 41);
    assert!(chain.set_frozen(freeze(&chain, 40)));
    assert_eq!((chain.frozen_len(), chain.filters_to(), chain.view().recent().len()), (40, Some(40), 11));
    chain.invariants();
    let old_view = chain.view();
    let other = mine_many(&sha256d(&first[9]), 2, 45);
    let change = chain.accept(other.iter(), NOW).unwrap().change.unwrap();
    assert_eq!((change.fork_height, change.disconnected.len(), change.connected.len()), (10, 40, 45));
    assert_eq!((chain.frozen_len(), chain.filters_to()), (11, Some(10)));
    chain.invariants();
    // Who holds the old picture still reads the old chain.
    assert_eq!(old_view.hash(30), Some(&sha256d(&first[29])));
    assert_eq!(chain.view().hash(30), Some(&sha256d(&other[19])));
    // The store's new mapping, and one that came too late.
    assert!(chain.set_frozen(freeze(&chain, 20)));
    chain.invariants();
    assert!(!chain.set_frozen(old_view.frozen().clone()));
    assert_eq!(chain.counters().frozen_refused, 1);
    assert!(chain.set_frozen(freeze(&chain, 5)));
    assert_eq!((chain.frozen_len(), chain.filters_to()), (5, Some(10)));
    chain.invariants();
    add_filters(&mut chain, 1_000);
    assert_eq!(chain.filters_to(), Some(chain.tip().0));
}

#[test]
fn side_headers_are_bounded_and_the_weakest_leaf_leaves() {
    let mut chain = Chain::with_side_limit(Network::Regtest, Arc::default(), Vec::new(), 10).unwrap();
    let genesis = chain.tip().1;
    chain.accept(mine_many(&genesis, 1, 40).iter(), NOW).unwrap();
    for salt in 2..12 {
        chain.accept(mine_many(&genesis, salt, 1).iter(), NOW).unwrap();
    }
    assert_eq!((chain.counters().side_headers, chain.counters().side_evicted), (10, 0));
    let error = chain.accept(mine_many(&genesis, 20, 1).iter(), NOW).unwrap_err();
    assert_eq!(error, HeaderError::TooManySideHeaders(1));
    let branch = mine_many(&genesis, 30, 8);
    chain.accept(branch.iter(), NOW).unwrap();
    assert_eq!((chain.counters().side_headers, chain.counters().side_evicted), (10, 8));
    assert!(branch.iter().all(|header| chain.contains(&sha256d(header))));
    assert!(chain.accept(mine_many(&sha256d(&branch[7]), 30, 3).iter(), NOW).is_err());
    chain.invariants();
    let wide = mine_many(&genesis, 40, 11);
    assert!(chain.accept(wide.iter(), NOW).is_err(), "more than fits off the best chain at once");
    // A reorganisation by more than fits forgets the highest of what left, counted. 0x200fffff is 8 times the work.
    let (mut at, mut heavy) = (genesis, Vec::new());
    for _ in 0..6 {
        let header = mine(&at, 50, 0x200f_ffff);
        at = sha256d(&header);
        heavy.push(header);
    }
    let before = chain.counters().side_evicted;
    let change = chain.accept(heavy.iter(), NOW).unwrap().change.unwrap();
    assert_eq!((change.disconnected.len(), chain.tip()), (40, (6, at)));
    let counters = chain.counters();
    assert_eq!(counters.side_headers + (counters.side_evicted - before), 10 + 40);
    assert!(counters.side_headers <= 10);
    chain.invariants();
}

#[test]
fn filter_records_must_follow() {
    let mut chain = regtest();
    let genesis = chain.tip().1;
    chain.accept(mine_many(&genesis, 1, 10).iter(), NOW).unwrap();
    let hashes = [[1; 32], [2; 32]];
    let stop = *chain.best_hash(1).unwrap();
    let add = |chain: &mut Chain, from, previous, stop: &Hash| {
        chain.add_filter_records(from, previous, stop, hashes.iter())
    };
    assert!(matches!(add(&mut chain, 1, [0; 32], &stop), Err(FilterError::NotNext { from: 1, expected: 0 })));
    assert!(matches!(add(&mut chain, 0, [9; 32], &stop), Err(FilterError::NotLinked { .. })));
    assert!(matches!(add(&mut chain, 0, [0; 32], &genesis), Err(FilterError::NotBest { height: 1, .. })));
    let many = vec![[7; 32]; 100];
    let tip = chain.tip().1;
    assert!(chain.add_filter_records(0, [0; 32], &tip, many.iter()).is_err());
    let records = add(&mut chain, 0, [0; 32], &stop).unwrap();
    assert_eq!(records[1].header, filter_header(&[2; 32], &filter_header(&[1; 32], &[0; 32])));
    assert_eq!(chain.view().filter(1), Some((&records[1].header, &records[1].hash)));
    assert_eq!((chain.filters_to(), chain.view().filter(2)), (Some(1), None));
    chain.invariants();
}

#[test]
fn a_long_chain_is_taken_quickly_frozen_and_opened_again() {
    let mut chain = regtest();
    let headers = mine_many(&chain.tip().1, 1, 100_000);
    let began = std::time::Instant::now();
    for batch in headers.chunks(2_000) {
        chain.accept(batch.iter(), NOW).unwrap();
        if let Some(len) = chain.freeze_point() {
            assert!(chain.set_frozen(freeze(&chain, len)));
        }
        assert!(chain.recent.len() as u32 <= RECENT_HEADERS_MOST);
    }
    println!("100,000 headers accepted, frozen {} times at most: {:?}", 100_000 / 2_000, began.elapsed());
    add_filters(&mut chain, 200_000);
    let len = chain.freeze_point().unwrap();
    assert_eq!(len, chain.frozen_len());
    assert!(chain.set_frozen(freeze(&chain, len)));
    assert_eq!(chain.freeze_point(), None);
    let (frozen, recent) = (chain.frozen.clone(), chain.view().recent().to_vec());
    let began = std::time::Instant::now();
    let mut again = Chain::new(Network::Regtest, frozen.clone(), recent.clone()).unwrap();
    println!("opened again: {:?}", began.elapsed());
    assert_eq!(
        (again.tip(), again.work(), again.filters_to()),
        (chain.tip(), chain.work(), chain.filters_to())
    );
    again.invariants();
    // A damaged record is cut off with all above it.
    let mut damaged = recent;
    damaged[7].header[70] ^= 1;
    let cut = Chain::new(Network::Regtest, frozen.clone(), damaged.clone()).unwrap();
    assert_eq!((cut.len(), cut.counters().cut_at_start), (len + 7, damaged.len() as u64 - 7));
}

#[derive(Clone, Debug)]
enum Step {
    /// Headers on a known block.
    Mine {
        on: prop::sample::Index,
        count: usize,
        hard: bool,
    },
    /// Freeze up to a share of the chain.
    Freeze(prop::sample::Index),
    Filters(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any::<prop::sample::Index>(), 1usize..6, any::<bool>())
            .prop_map(|(on, count, hard)| Step::Mine { on, count, hard }),
        1 => any::<prop::sample::Index>().prop_map(Step::Freeze),
        1 => (1u32..9).prop_map(Step::Filters),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a model that keeps every header and knows only work and order of coming.
    #[test]
    fn the_best_chain_is_the_models(steps in prop::collection::vec(step(), 1..40)) {
        let mut chain = regtest();
        let genesis = chain.tip().1;
        let mut known = vec![genesis];
        let mut work: HashMap<Hash, Work> = HashMap::from([(genesis, chain.work())]);
        let mut best = genesis;
        for (salt, step) in steps.iter().enumerate() {
            match step {
                Step::Mine { on, count, hard } => {
                    let mut at = known[on.index(known.len())];
                    let old_tip = chain.tip().1;
                    let mut headers = Vec::new();
                    for _ in 0..*count {
                        let header = mine(&at, salt as u32, if *hard { HARD } else { EASY });
                        let hash = sha256d(&header);
                        work.insert(hash, work[&at] + chain.rules.work(&header));
                        known.push(hash);
                        headers.push(header);
                        at = hash;
                    }
                    let accepted = chain.accept(headers.iter(), NOW).unwrap();
                    prop_assert_eq!(accepted.new, *count);
                    if work[&at] > work[&best] {
                        best = at;
                        let change = accepted.change.unwrap();
                        prop_assert_eq!(change.connected.last(), Some(&best));
                        prop_assert_eq!(*change.disconnected.first().unwrap_or(&old_tip), old_tip);
                    } else {
                        prop_assert_eq!(accepted.change, None);
                    }
                }
                Step::Freeze(share) => {
                    let len = share.index(chain.len() as usize + 1) as u32;
                    prop_assert!(chain.set_frozen(freeze(&chain, len)));
                }
                Step::Filters(count) => add_filters(&mut chain, *count),
            }
            prop_assert_eq!(chain.tip().1, best);
            prop_assert_eq!(chain.work(), work[&best]);
            prop_assert!(known.iter().all(|hash| chain.contains(hash) && chain.header(hash).is_some()));
            chain.invariants();
            let view = chain.view();
            prop_assert_eq!(view.tip_hash(), best);
        }
    }

    /// Bytes from a node never panic.
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400), flip in 0usize..640) {
        let mut chain = regtest();
        let genesis = chain.tip().1;
        let _ = chain.accept(bytes.as_chunks::<80>().0.iter(), NOW);
        let mut header = mine(&genesis, 1, EASY);
        header[flip / 8] ^= 1 << (flip % 8);
        let _ = chain.accept([header].iter(), NOW);
        chain.invariants();
    }
}
