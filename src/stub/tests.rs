//! The chain by itself, with rust-bitcoin as the judge of the blocks.

use bitcoin::bip158::BlockFilter;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Block, OutPoint, Target};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::script::Lock;
use super::{Refused, StubBlock, StubChain};
use crate::base::limits::{HEADER_LEN, MAX_MESSAGE};

const START: u64 = 1_700_000_000;

/// What every node would check of a block without its scripts.
fn judge(chain: &StubChain, stub: &StubBlock) {
    let block: Block = deserialize(stub.bytes()).unwrap();
    assert!(block.check_merkle_root());
    assert!(block.check_witness_commitment());
    assert_eq!(
        block.header.validate_pow(Target::MAX_ATTAINABLE_REGTEST).unwrap().to_byte_array(),
        *stub.hash()
    );
    assert!(block.weight().to_wu() <= 4_000_000, "weight {}", block.weight());
    assert!(stub.message().len() <= MAX_MESSAGE + HEADER_LEN);
    if stub.height() == 0 {
        return;
    }
    // rust-bitcoin does not read the one-byte pushes of heights up to 16.
    if stub.height() > 16 {
        assert_eq!(block.bip34_block_height().unwrap(), u64::from(stub.height()));
    }
    let parent = chain.block(stub.parent()).unwrap();
    assert!(block.header.time > parent.time());
    let filter = BlockFilter::new(&stub.cfilter_message()[HEADER_LEN + 33 + 1..]);
    let filter = if filter.content.len() < 0xfd { filter } else { BlockFilter::new(&filter.content[2..]) };
    let script = Lock::True.output_script().as_bytes();
    assert!(filter.match_any(&block.block_hash(), [script].into_iter()).unwrap());
    assert_eq!(bitcoin::bip158::FilterHash::hash(&filter.content).to_byte_array(), *stub.filter_hash());
    let previous = bitcoin::bip158::FilterHeader::from_byte_array(*parent.filter_header());
    assert_eq!(filter.filter_header(&previous).to_byte_array(), *stub.filter_header());
}

fn pay(chain: &mut StubChain, rng: &mut SmallRng, n: usize, bytes: usize) -> Vec<bitcoin::Transaction> {
    (0..n)
        .map(|_| {
            let tx = chain.make_tx(rng, bytes).unwrap();
            chain.accept_tx(&tx).unwrap();
            tx
        })
        .collect()
}

#[test]
fn blocks_and_transactions_are_valid() {
    let mut rng = SmallRng::seed_from_u64(2);
    let mut chain = StubChain::new(1, START);
    assert!(chain.make_tx(&mut rng, 250).is_none(), "nothing is mature");
    chain.grow(120, START + 200);
    for round in 0..10 {
        let txs = pay(&mut chain, &mut rng, 20, 250 + round * 500);
        for tx in &txs {
            assert!(tx.total_size() < 300 + round * 500 && tx.total_size() + 40 > 250 + round * 500);
        }
        let hash = chain.mine(START + 300);
        let block = chain.block(&hash).unwrap();
        assert_eq!(block.block().txdata.len(), 21);
        assert!(chain.mempool().is_empty());
    }
    for height in 0..=chain.height() {
        judge(&chain, chain.at(height).unwrap());
    }
    let paid: u64 = chain.tip().block().txdata[0].output[0].value.to_sat();
    assert!(paid > 5_000_000_000, "subsidy and fees");
}

#[test]
fn equal_seeds_give_equal_chains() {
    let make = |seed| {
        let mut rng = SmallRng::seed_from_u64(9);
        let mut chain = StubChain::new(seed, START);
        chain.grow(110, START + 200);
        pay(&mut chain, &mut rng, 5, 300);
        let fork = *chain.at(100).unwrap().hash();
        chain.mine_on(&fork, 12, START + 300).unwrap();
        pay(&mut chain, &mut rng, 5, 300);
        chain.mine(START + 400)
    };
    assert_eq!(make(5), make(5));
    assert_ne!(make(5), make(6));
}

#[test]
fn reorganisations_of_any_depth_keep_the_coins_right() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut chain = StubChain::new(4, START);
    chain.grow(150, START + 200);
    for depth in [1u32, 2, 7, 40, 100] {
        for _ in 0..depth {
            pay(&mut chain, &mut rng, 3, 300);
            chain.mine(START + 400);
        }
        let (tip, height) = (chain.tip_hash(), chain.height());
        let fork = *chain.at(height - depth).unwrap().hash();
        let made = chain.mine_on(&fork, depth, START + 500).unwrap();
        assert_eq!(chain.tip_hash(), tip, "equal work: the first seen stays");
        let more = chain.mine_on(made.last().unwrap(), 1, START + 500).unwrap();
        assert_eq!(chain.tip_hash(), more[0]);
        assert_eq!(chain.height(), height + 1);
        assert_eq!(chain.fork(chain.block(&tip).unwrap()).height(), height - depth);
        assert_eq!(chain.mempool().len() as u32, depth * 3, "what was confirmed waits again");
        chain.mine(START + 600);
        assert!(chain.mempool().is_empty());
        judge(&chain, chain.tip());
    }
    assert!(chain.mine_on(&[7; 32], 1, START).is_none());
}

#[test]
fn another_chain_adopts_blocks() {
    let mut rng = SmallRng::seed_from_u64(3);
    let (mut one, mut two) = (StubChain::new(4, START), StubChain::new(5, START));
    one.grow(110, START + 200);
    let tx = pay(&mut one, &mut rng, 1, 300).remove(0);
    one.mine(START + 300);
    for height in 1..=one.height() {
        assert!(two.adopt(one.at(height).unwrap()));
        if height == 110 {
            two.accept_tx(&tx).unwrap();
        }
    }
    assert_eq!(one.tip_hash(), two.tip_hash());
    assert!(two.mempool().is_empty());
    let stranger = StubChain::new(6, START).mine(START);
    assert!(one.block(&stranger).is_none());
}

#[test]
fn bad_transactions_are_refused_with_the_reason() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut chain = StubChain::new(4, START);
    chain.grow(110, START + 200);
    let good = chain.make_tx(&mut rng, 300).unwrap();
    let at = good.input[0].previous_output;

    let mut bad = good.clone();
    bad.input[0].witness = Lock::Stuffed.witness(400, 1);
    assert_eq!(chain.accept_tx(&bad), Err(Refused::Witness(at)));
    let mut bad = good.clone();
    bad.output[0].value = bitcoin::Amount::from_sat(u64::MAX);
    assert!(matches!(chain.accept_tx(&bad), Err(Refused::Amounts { .. })));
    let mut bad = good.clone();
    bad.input.push(bad.input[0].clone());
    assert_eq!(chain.accept_tx(&bad), Err(Refused::DoubleSpend(at)));
    let mut bad = good.clone();
    bad.input[0].previous_output.vout = 9;
    assert!(matches!(chain.accept_tx(&bad), Err(Refused::Missing(_))));
    let mut bad = good.clone();
    bad.output.clear();
    assert_eq!(chain.accept_tx(&bad), Err(Refused::Shape));
    assert_eq!(chain.accept_tx(&chain.tip().block().txdata[0].clone()), Err(Refused::Shape));
    let mut bad = good.clone();
    let young = chain.at(50).unwrap().block().txdata[0].compute_txid();
    bad.input[0].previous_output = OutPoint::new(young, 0);
    assert!(matches!(chain.accept_tx(&bad), Err(Refused::Immature(_))));
    let mut bad = good.clone();
    bad.output = vec![bad.output[1].clone(); 3_000];
    assert!(matches!(chain.accept_tx(&bad), Err(Refused::TooHeavy(_))));

    chain.accept_tx(&good).unwrap();
    assert_eq!(chain.accept_tx(&good), Err(Refused::Known));
    let mut other = good.clone();
    other.output[1].value -= bitcoin::Amount::from_sat(1);
    assert_eq!(chain.accept_tx(&other), Err(Refused::DoubleSpend(at)));
}

#[test]
fn blocks_reach_the_wanted_size() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut chain = StubChain::new(4, START);
    chain.grow(130, START + 200);
    for size in [2_000, 20_000, 200_000, 1_500_000, 10_000_000] {
        chain.set_block_bytes(size);
        pay(&mut chain, &mut rng, if size > 100_000 { 30 } else { 0 }, 400);
        chain.mine(START + 300);
        judge(&chain, chain.tip());
        let (got, wanted) = (chain.tip().bytes().len(), size.min(3_950_000));
        assert!(got.abs_diff(wanted) < 500 + wanted / 40, "{got} for {size}");
    }
    // What fills a block can wait and be mined again after a reorganisation.
    let fork = *chain.at(chain.height() - 1).unwrap().hash();
    chain.set_block_bytes(0);
    chain.mine_on(&fork, 2, START + 300).unwrap();
    assert!(chain.mempool().len() > 50);
    chain.mine(START + 400);
    judge(&chain, chain.tip());
    assert!(chain.tip().bytes().len() > 3_000_000);
}

#[test]
fn small_payments_never_run_out() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut chain = StubChain::new(4, START);
    chain.grow(102, START + 200);
    let mut made = 0;
    for _ in 0..12 {
        for _ in 0..5_000 {
            let tx = chain.make_small_tx(&mut rng).expect("two coins are enough for all");
            chain.accept_tx(&tx).expect("valid");
            made += 1;
        }
        chain.mine(START + 300);
    }
    judge(&chain, chain.tip());
    // Towards the end there are coins enough, and nearly all have one output.
    let weights: u64 = chain.tip().block().txdata.iter().skip(1).map(|tx| tx.weight().to_wu()).sum();
    let most = chain.tip().block().txdata.len() as u64 * 400;
    assert!(weights < most, "{weights} of at most {most}");
    assert_eq!(made, 60_000);
}

#[test]
fn an_old_block_is_parsed_anew() {
    let mut chain = StubChain::new(4, START);
    chain.set_block_bytes(300_000);
    chain.grow(150, START + 200);
    for height in [0, 1, 101, 110, 149, 150] {
        let block = chain.at(height).unwrap();
        assert_eq!(bitcoin::consensus::serialize(&*block.block()), block.bytes(), "height {height}");
        judge(&chain, block);
    }
}

#[test]
fn two_thousand_blocks_are_made_quickly() {
    let mut chain = StubChain::new(4, START);
    let begin = std::time::Instant::now();
    chain.grow(2_000, START + 5_000);
    println!("2,000 blocks in {:?}", begin.elapsed());
    assert!(begin.elapsed().as_secs() < 2, "{:?}", begin.elapsed());
}
