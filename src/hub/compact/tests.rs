use bitcoin::bip152::HeaderAndShortIds;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Block, ScriptBuf, Transaction, TxIn, TxOut, Witness};
use proptest::prelude::*;

use super::*;
use crate::base::Instant;
use crate::base::limits::HEADER_LEN;
use crate::hub::mempool::Mempool;
use crate::wire::{Message, frame, message::block_txn_indexes, parse};

const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

fn transaction(salt: u64, witness: bool, padding: usize) -> Transaction {
    let mut txid = [3; 32];
    txid[..8].copy_from_slice(&salt.to_le_bytes());
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: bitcoin::OutPoint { txid: bitcoin::Txid::from_byte_array(txid), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: bitcoin::Sequence::MAX,
            witness: if witness { Witness::from_slice(&[vec![1; padding]]) } else { Witness::new() },
        }],
        output: vec![TxOut { value: Amount::from_sat(salt), script_pubkey: vec![0x51; padding % 90].into() }],
    }
}

/// A block whose merkle root and witness commitment are right; the first transaction is its coinbase.
fn block(txs: Vec<Transaction>, commit: bool) -> Block {
    let mut coinbase = transaction(1, false, 2);
    coinbase.input[0].previous_output = bitcoin::OutPoint::null();
    let header = bitcoin::block::Header {
        version: bitcoin::block::Version::TWO,
        prev_blockhash: bitcoin::BlockHash::all_zeros(),
        merkle_root: bitcoin::TxMerkleNode::all_zeros(),
        time: 1_700_000_000,
        bits: bitcoin::CompactTarget::from_consensus(0x207f_ffff),
        nonce: 7,
    };
    let mut block = Block { header, txdata: std::iter::once(coinbase).chain(txs).collect() };
    if commit {
        block.txdata[0].input[0].witness = Witness::from_slice(&[[0u8; 32]]);
        let root = block.witness_root().unwrap();
        let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
        let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
        script.extend_from_slice(commitment.as_byte_array());
        block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: script.into() });
    }
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    block
}

fn framed(block: &Block) -> Bytes {
    let mut out = Vec::new();
    write::raw(&mut out, MAGIC, "block", &serialize(block));
    out.into()
}

fn pool_of<'t>(txs: impl Iterator<Item = &'t Transaction>) -> Mempool {
    let mut pool = Mempool::new(10_000_000);
    for tx in txs {
        let mut message = Vec::new();
        write::raw(&mut message, MAGIC, "tx", &serialize(tx));
        pool.insert(Instant(0), message.into(), None).unwrap();
    }
    pool
}

fn payload(message: &[u8]) -> &[u8] {
    match frame::split(MAGIC, message) {
        frame::Step::Message { payload, used, .. } if used == message.len() => payload,
        step => panic!("{step:?}"),
    }
}

fn any_txs() -> impl Strategy<Value = Vec<Transaction>> {
    prop::collection::vec((any::<bool>(), 1usize..400), 0..20).prop_map(|list| {
        list.into_iter().enumerate().map(|(i, (w, n))| transaction(i as u64 + 2, w, n)).collect()
    })
}

fn sample() -> (Block, Bytes, BlockNews) {
    let block = block((2..12).map(|i| transaction(i, i % 3 != 0, 50)).collect(), true);
    let message = framed(&block);
    let news = news(message.clone(), 9, MAGIC, 0xfeed).unwrap();
    (block, message, news)
}

#[test]
fn news_carry_the_messages_of_the_block() {
    let (block, message, news) = sample();
    assert_eq!(news.hash, block.block_hash().to_byte_array());
    assert_eq!((news.height, news.tx_count(), &news.block), (9, 11, &message));
    assert_eq!(news.tx_offsets.last().map(|end| *end as usize), Some(message.len()));
    for (i, tx) in block.txdata.iter().enumerate() {
        assert_eq!(news.tx(i as u32), Some(&serialize(tx)[..]));
    }
    let want = HeaderAndShortIds::from_block(&block, 0xfeed, 2, &[]).unwrap();
    assert_eq!(payload(&news.cmpct), serialize(&want));
    match parse(&frame::Command::new("inv"), payload(&news.inv_message)).unwrap() {
        Message::Inv(list) => assert_eq!(list.iter().next().map(|inv| inv.hash), Some(news.hash)),
        other => panic!("{other:?}"),
    }
    assert_eq!(payload(&news.headers_message)[1..81], news.header);
    let bare = header_news(&news.header, 9, MAGIC);
    assert_eq!((bare.hash, bare.tx_count(), bare.tx(0)), (news.hash, 0, None));
}

#[test]
fn blocktxn_gives_what_is_asked_or_names_the_bad_index() {
    let (block, _, news) = sample();
    let mut out = vec![1, 2, 3];
    news.blocktxn(MAGIC, &[0, 3, 10], &mut out).unwrap();
    let decoded: bitcoin::bip152::BlockTransactions = deserialize(payload(&out[3..])).unwrap();
    assert_eq!(decoded.transactions, [0, 3, 10].map(|i| block.txdata[i].clone()));
    let before = out.clone();
    assert_eq!(news.blocktxn(MAGIC, &[1, 11], &mut out), Err(BadIndex { index: 11, count: 11 }));
    assert_eq!(out, before);
}

#[test]
fn stripping_agrees_with_rust_bitcoin() {
    let (mut block, message, _) = sample();
    let stripped = strip(&message).unwrap();
    block.txdata.iter_mut().flat_map(|tx| &mut tx.input).for_each(|input| input.witness.clear());
    assert_eq!(stripped, framed(&block));
    let tx = transaction(5, true, 40);
    let (mut whole, mut bare) = (Vec::new(), Vec::new());
    write::raw(&mut whole, MAGIC, "tx", &serialize(&tx));
    strip_tx(&mut bare, &whole).unwrap();
    assert_eq!(deserialize::<Transaction>(payload(&bare)).unwrap().compute_txid(), tx.compute_txid());
}

#[test]
fn each_fault_of_a_block_has_its_name() {
    let (good, message, _) = sample();
    let checked = check_block(&message[HEADER_LEN..]).unwrap();
    assert_eq!(checked.hash, good.block_hash().to_byte_array());
    let txids: Vec<Hash> = good.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
    assert_eq!((checked.txids, checked.spent.len()), (txids, 10));
    let check = |block: &Block| check_block(&serialize(block)).map(|_| ());

    assert!(matches!(check_block(&message[HEADER_LEN..message.len() - 1]), Err(BlockFault::Wire(_))));
    let mut bad = good.clone();
    bad.txdata.swap(1, 2);
    assert!(matches!(check(&bad), Err(BlockFault::MerkleRoot { .. })));
    // 11 transactions: repeating the last gives the same root.
    let mut bad = good.clone();
    bad.txdata.push(bad.txdata[10].clone());
    assert_eq!(check(&bad), Err(BlockFault::Mutated));
    let mut bad = good.clone();
    bad.txdata[4].input[0].witness = Witness::from_slice(&[[9; 3]]);
    assert_eq!(check(&bad), Err(BlockFault::WitnessCommitment));
    let mut bad = good.clone();
    bad.txdata[0].input[0].witness.clear();
    assert_eq!(check(&bad), Err(BlockFault::WitnessCommitment));
    let mut bad = good.clone();
    bad.txdata.iter_mut().flat_map(|tx| &mut tx.input).for_each(|input| input.witness.clear());
    assert_eq!(check(&bad), Err(BlockFault::WitnessMissing));
    bad.header.time = 1_500_000_000;
    assert_eq!(check(&bad), Ok(()), "before segwit");
    assert_eq!(check(&block(vec![transaction(2, true, 5)], false)), Err(BlockFault::UnexpectedWitness));
    assert_eq!(check(&block(vec![transaction(2, false, 5)], false)), Ok(()));
    let mut bad = good.clone();
    bad.txdata.remove(0);
    bad.header.merkle_root = bad.compute_merkle_root().unwrap();
    assert_eq!(check(&bad), Err(BlockFault::NoCoinbase));
}

#[test]
fn a_partial_is_filled_or_says_why_not() {
    let (block, message, news) = sample();
    let pool = pool_of(block.txdata[1..].iter().filter(|tx| tx.output[0].value.to_sat() % 2 == 0));
    let partial = Partial::start(MAGIC, payload(&news.cmpct), &pool).unwrap();
    assert_eq!((partial.hash(), partial.header(), partial.tx_count()), (news.hash, &news.header, 11));
    assert_eq!((partial.found(), partial.missing()), (5, &[2, 4, 6, 8, 10][..]));
    assert!(matches!(partial.complete(), Err(PartialError::WrongCount { found: 0, expected: 5 })));
    let mut out = Vec::new();
    news.blocktxn(MAGIC, partial.missing(), &mut out).unwrap();
    assert_eq!(partial.fill(payload(&out)).unwrap(), message);

    let mut request = Vec::new();
    write::get_block_txn(&mut request, MAGIC, &news.hash, partial.missing());
    assert_eq!(block_txn_indexes(&payload(&request)[32..]).unwrap(), partial.missing());

    let mut out = Vec::new();
    news.blocktxn(MAGIC, &[2, 4, 6, 8], &mut out).unwrap();
    assert!(matches!(partial.fill(payload(&out)), Err(PartialError::WrongCount { found: 4, expected: 5 })));
    out.clear();
    news.blocktxn(MAGIC, &[2, 4, 6, 10, 8], &mut out).unwrap();
    assert!(matches!(partial.fill(payload(&out)), Err(PartialError::Check(BlockFault::MerkleRoot { .. }))));
    let mut other = payload(&out).to_vec();
    other[0] ^= 1;
    assert!(matches!(partial.fill(&other), Err(PartialError::WrongBlock { .. })));

    let whole = Partial::start(MAGIC, payload(&news.cmpct), &pool_of(block.txdata[1..].iter())).unwrap();
    assert!(whole.missing().is_empty());
    assert_eq!(whole.complete().unwrap(), message);
}

/// A `cmpctblock` payload with short ids of the test's choice.
fn cmpct(news: &BlockNews, ids: &[u64]) -> Vec<u8> {
    let mut out = payload(&news.cmpct)[..88].to_vec();
    write::compact(&mut out, ids.len() as u64);
    ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()[..6]));
    out.extend_from_slice(&[1, 0]);
    out.extend_from_slice(news.tx(0).unwrap());
    out
}

#[test]
fn a_collision_counts_as_missing_and_a_false_match_is_found_out() {
    let (block, _, news) = sample();
    let ids = ShortIds::new(&news.header, 0xfeed);
    let id = |tx: &Transaction| ids.of(&tx.compute_wtxid().to_byte_array());
    let pool = pool_of(block.txdata[1..].iter());
    // The same id twice within the block: neither position is filled.
    let twice = cmpct(&news, &[id(&block.txdata[1]), id(&block.txdata[2]), id(&block.txdata[1])]);
    let partial = Partial::start(MAGIC, &twice, &pool).unwrap();
    assert_eq!((partial.missing(), partial.found()), (&[1, 3][..], 1));
    // An id that meets the wrong transaction of the mempool.
    let mut wrong: Vec<u64> = block.txdata[1..].iter().map(id).collect();
    wrong.swap(3, 4);
    let partial = Partial::start(MAGIC, &cmpct(&news, &wrong), &pool).unwrap();
    assert!(matches!(partial.complete(), Err(PartialError::Check(_))));
}

#[test]
fn bad_positions_and_counts_are_named() {
    let (_, _, news) = sample();
    let pool = Mempool::new(1_000);
    let mut bytes = cmpct(&news, &[1, 2]);
    bytes[88 + 1 + 12 + 1] = 9;
    let error = Partial::start(MAGIC, &bytes, &pool).unwrap_err();
    assert_eq!(error, PartialError::BadIndex { index: 9, count: 3 });
    let mut empty = payload(&news.cmpct)[..88].to_vec();
    empty.extend_from_slice(&[0, 0]);
    assert_eq!(Partial::start(MAGIC, &empty, &pool).unwrap_err(), PartialError::Empty);
    let mut many = payload(&news.cmpct)[..88].to_vec();
    many.extend_from_slice(&[0, 0xfd, 0xff, 0xff]);
    assert_eq!(Partial::start(MAGIC, &many, &pool).unwrap_err(), PartialError::Wire(WireError::Short));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_block_comes_back_whole(txs in any_txs(), known in any::<u32>(), nonce in any::<u64>()) {
        let block = block(txs, true);
        let message = framed(&block);
        let news = news(message.clone(), 1, MAGIC, nonce).unwrap();
        let known = block.txdata[1..].iter().enumerate().filter(|(i, _)| known >> i & 1 == 1).map(|(_, tx)| tx);
        let partial = Partial::start(MAGIC, payload(&news.cmpct), &pool_of(known)).unwrap();
        let mut out = Vec::new();
        news.blocktxn(MAGIC, partial.missing(), &mut out).unwrap();
        prop_assert_eq!(partial.fill(payload(&out)).unwrap(), message.clone());
        prop_assert!(check_block(&message[HEADER_LEN..]).is_ok());
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let pool = Mempool::new(1_000);
        let _ = Partial::start(MAGIC, &bytes, &pool);
        let _ = check_block(&bytes);
        let _ = news(bytes.clone().into(), 0, MAGIC, 0);
        let _ = strip(&bytes);
        let (_, _, news) = sample();
        let partial = Partial::start(MAGIC, payload(&news.cmpct), &pool).unwrap();
        let _ = partial.fill(&bytes);
    }

    /// Mutations of good messages: an answer, and whatever is taken for whole is the block.
    #[test]
    fn any_mutation_is_answered(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let (_, message, news) = sample();
        let pool = Mempool::new(1_000);
        let mutate = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes
        };
        let partial = Partial::start(MAGIC, payload(&news.cmpct), &pool).unwrap();
        let mut txn = Vec::new();
        news.blocktxn(MAGIC, partial.missing(), &mut txn).unwrap();
        let changed = mutate(payload(&txn));
        if let Ok(whole) = partial.fill(&changed) {
            prop_assert_eq!(whole, message.clone());
        }
        prop_assert!(partial.fill(&payload(&txn)[..cut.index(payload(&txn).len())]).is_err());
        if let Ok(other) = Partial::start(MAGIC, &mutate(payload(&news.cmpct)), &pool) {
            let _ = other.fill(payload(&txn));
        }
        let changed = mutate(&message);
        let _ = check_block(&changed[HEADER_LEN..]);
        let _ = super::news(changed.clone().into(), 0, MAGIC, 0);
        let _ = strip(&changed);
    }
}
