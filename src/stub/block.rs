//! One block with its messages ready to send, and how it is made: coinbase, commitment, merkle root, proof of work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::absolute::LockTime;
use bitcoin::bip152::HeaderAndShortIds;
use bitcoin::block::{Header, Version};
use bitcoin::blockdata::opcodes::all::OP_RETURN;
use bitcoin::blockdata::script::Builder;
use bitcoin::consensus::{Encodable as _, deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Witness,
};
use bytes::Bytes;

use super::script::Lock;
use super::{MAGIC, filters};
use crate::base::limits::HEADER_LEN;
use crate::wire::{Hash, sha256d, write};

/// The target of every regtest block.
const BITS: u32 = 0x207f_ffff;
/// Blocks after which the subsidy halves on regtest.
const HALVING: u32 = 150;
/// What the coinbase witness holds and the commitment covers (BIP141).
const RESERVED: [u8; 32] = [0; 32];

/// A valid block and what nodes say of it. Kept once, as the message: the parsed form, as large again, only while the
/// block is young.
#[derive(Debug)]
pub struct StubBlock {
    hash: Hash,
    parent: Hash,
    height: u32,
    header: [u8; 80],
    head: Header,
    /// Gone after [`StubBlock::forget_parsed`].
    parsed: Mutex<Option<Arc<Block>>>,
    message: Bytes,
    cfilter: Bytes,
    filter_hash: Hash,
    filter_header: Hash,
}

/// What a new block is made from.
pub(super) struct Template<'a> {
    /// The block it extends.
    pub(super) parent: &'a StubBlock,
    /// Unix time, seconds.
    pub(super) time: u32,
    /// Transactions, parents before children.
    pub(super) txs: Vec<Transaction>,
    /// What they pay, satoshi.
    pub(super) fees: u64,
    /// Makes the coinbase unlike any other.
    pub(super) extra: u64,
    /// Locks of the outputs they spend.
    pub(super) spent: HashMap<OutPoint, Lock>,
}

impl StubBlock {
    /// The genesis block of regtest.
    pub(super) fn genesis() -> StubBlock {
        let block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        StubBlock::finish(block, 0, &HashMap::new(), &[0; 32])
    }

    /// Makes a block; a few hashes are tried until the proof of work is good.
    pub(super) fn assemble(template: Template<'_>) -> StubBlock {
        let Template { parent, time, txs, fees, extra, spent } = template;
        let height = parent.height + 1;
        let mut txdata = vec![coinbase(height, fees, extra)];
        txdata.extend(txs);
        let header = Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: BlockHash::from_byte_array(parent.hash),
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits: CompactTarget::from_consensus(BITS),
            nonce: 0,
        };
        let mut block = Block { header, txdata };
        commit(&mut block);
        if let Some(root) = block.compute_merkle_root() {
            block.header.merkle_root = root;
        }
        // Every second hash meets the target.
        while !block.header.target().is_met_by(block.header.block_hash()) {
            block.header.nonce = block.header.nonce.wrapping_add(1);
        }
        StubBlock::finish(block, height, &spent, &parent.filter_header)
    }

    fn finish(block: Block, height: u32, spent: &HashMap<OutPoint, Lock>, previous: &Hash) -> StubBlock {
        let hash = block.block_hash().to_byte_array();
        let filter = filters::basic(&block, spent);
        let filter_hash = sha256d(&filter);
        let mut header = [0; 80];
        let message = block_message(&block);
        header.copy_from_slice(&message[HEADER_LEN..HEADER_LEN + 80]);
        StubBlock {
            hash,
            parent: block.header.prev_blockhash.to_byte_array(),
            height,
            header,
            head: block.header,
            message,
            cfilter: built(|out| write::cfilter(out, MAGIC, &hash, &filter)),
            filter_hash,
            filter_header: filters::chain_header(&filter_hash, previous),
            parsed: Mutex::new(Some(Arc::new(block))),
        }
    }

    /// Its hash.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// The hash of the block it extends; zeros for genesis.
    pub fn parent(&self) -> &Hash {
        &self.parent
    }

    /// Its height; 0 for genesis.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Its header as on the wire.
    pub fn header(&self) -> &[u8; 80] {
        &self.header
    }

    /// Unix time it claims, seconds.
    pub fn time(&self) -> u32 {
        self.head.time
    }

    /// The block as rust-bitcoin knows it; parsed anew when it is old.
    pub fn block(&self) -> Arc<Block> {
        let parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Our own bytes can be read again.
        let anew = || deserialize(self.bytes()).unwrap_or(Block { header: self.head, txdata: Vec::new() });
        parsed.unwrap_or_else(|| Arc::new(anew()))
    }

    /// Gives back the memory of the parsed form: nobody is likely to need it any more.
    pub(super) fn forget_parsed(&self) {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The `block` message with witness, v1 frame included.
    pub fn message(&self) -> &Bytes {
        &self.message
    }

    /// The block with witness, without frame.
    pub fn bytes(&self) -> &[u8] {
        &self.message[HEADER_LEN..]
    }

    /// The `block` message without witness data (BIP144), made anew.
    pub fn stripped_message(&self) -> Bytes {
        let mut block = Block::clone(&self.block());
        for input in block.txdata.iter_mut().flat_map(|tx| tx.input.iter_mut()) {
            input.witness = Witness::new();
        }
        block_message(&block)
    }

    /// The `cmpctblock` message (BIP152 version 2, the coinbase prefilled), made anew.
    pub fn cmpct_message(&self) -> Bytes {
        let nonce = u64::from_le_bytes([
            self.hash[0],
            self.hash[1],
            self.hash[2],
            self.hash[3],
            self.hash[4],
            self.hash[5],
            self.hash[6],
            self.hash[7],
        ]);
        match HeaderAndShortIds::from_block(&self.block(), nonce, 2, &[]) {
            Ok(compact) => message("cmpctblock", &serialize(&compact)),
            // Only for an unknown version or a prefill out of order, and neither is given.
            Err(_) => self.message.clone(),
        }
    }

    /// The `blocktxn` message with the transactions at these positions, `None` when one is out of range.
    pub fn block_txn_message(&self, positions: &[u32]) -> Option<Bytes> {
        let block = self.block();
        let txs: Option<Vec<&Transaction>> =
            positions.iter().map(|at| block.txdata.get(*at as usize)).collect();
        let txs = txs?;
        Some(built(|out| {
            write::message(out, MAGIC, "blocktxn", |out| {
                out.extend_from_slice(&self.hash);
                write::compact(out, txs.len() as u64);
                txs.iter().for_each(|tx| out.extend_from_slice(&serialize(*tx)));
            });
        }))
    }

    /// The `cfilter` message, v1 frame included.
    pub fn cfilter_message(&self) -> &Bytes {
        &self.cfilter
    }

    /// Hash of its basic filter.
    pub fn filter_hash(&self) -> &Hash {
        &self.filter_hash
    }

    /// Header of its basic filter (BIP157).
    pub fn filter_header(&self) -> &Hash {
        &self.filter_header
    }
}

/// The `block` message, written once: blocks are large.
fn block_message(block: &Block) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_LEN + block.total_size());
    write::message(&mut out, MAGIC, "block", |out| {
        // Writing to memory cannot fail.
        let _ = block.consensus_encode(out);
    });
    Bytes::from(out)
}

/// A whole message with this payload.
pub(super) fn message(command: &str, payload: &[u8]) -> Bytes {
    built(|out| write::raw(out, MAGIC, command, payload))
}

/// What `fill` writes.
pub(super) fn built(fill: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::new();
    fill(&mut out);
    Bytes::from(out)
}

/// Pays subsidy and fees to `Lock::True`.
fn coinbase(height: u32, fees: u64, extra: u64) -> Transaction {
    let subsidy = 5_000_000_000u64.checked_shr(height / HALVING).unwrap_or(0);
    let script = Builder::new().push_int(i64::from(height)).push_slice(extra.to_le_bytes()).into_script();
    let mut witness = Witness::new();
    witness.push(RESERVED);
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script,
            sequence: Sequence::MAX,
            witness,
        }],
        output: vec![TxOut {
            value: Amount::from_sat(subsidy + fees),
            script_pubkey: Lock::True.output_script().to_owned(),
        }],
    }
}

/// Adds the witness commitment to the coinbase (BIP141). Its own wtxid counts as zeros, so the order is free.
fn commit(block: &mut Block) {
    let Some(root) = block.witness_root() else { return };
    let commitment = Block::compute_witness_commitment(&root, &RESERVED);
    let mut data = [0u8; 36];
    data[..4].copy_from_slice(&[0xaa, 0x21, 0xa9, 0xed]);
    data[4..].copy_from_slice(commitment.as_byte_array());
    let script: ScriptBuf = Builder::new().push_opcode(OP_RETURN).push_slice(data).into_script();
    if let Some(coinbase) = block.txdata.first_mut() {
        coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: script });
    }
}
