//! Coins that anyone may spend, transactions that spend them, and fork blocks.
//!
//! Everything pays to P2WSH(OP_TRUE): standard for both nodes, and spent by showing the script. No keys, no wallet.

use std::sync::atomic::{AtomicU64, Ordering};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{
    Address, Amount, Block, CompactTarget, Network, OutPoint, Script, ScriptBuf, Sequence, Target,
    Transaction, TxIn, TxMerkleNode, TxOut, Witness, transaction,
};

use super::node::Node;

/// Enough for any relay minimum, little enough for any "absurd fee" rule.
pub const FEE: Amount = Amount::from_sat(10_000);

/// Blocks on top before a reward may be spent.
pub const MATURITY: u32 = 100;

const REGTEST_BITS: u32 = 0x207f_ffff;
const REGTEST_HALVING: u32 = 150;

/// Makes every fork block and every transaction of this process differ from every other one.
static SALT: AtomicU64 = AtomicU64::new(1);

/// The script that anyone satisfies.
pub fn witness_script() -> ScriptBuf {
    Builder::new().push_opcode(OP_TRUE).into_script()
}

/// P2WSH of it: what blocks and transactions pay to.
pub fn script() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&witness_script().wscript_hash())
}

pub fn address() -> String {
    Address::p2wsh(&witness_script(), Network::Regtest).to_string()
}

/// One unspent output of `script()`.
#[derive(Clone, Debug)]
pub struct Coin {
    pub outpoint: OutPoint,
    pub value: Amount,
}

impl Coin {
    /// The first spendable output of a transaction.
    pub fn of(tx: &Transaction) -> Coin {
        let vout =
            tx.output.iter().position(|o| o.script_pubkey == script()).expect("an output anyone may spend");
        Coin { outpoint: OutPoint::new(tx.compute_txid(), vout as u32), value: tx.output[vout].value }
    }

    /// All spendable outputs of a transaction.
    pub fn all(tx: &Transaction) -> Vec<Coin> {
        let txid = tx.compute_txid();
        let ours = tx.output.iter().enumerate().filter(|(_, o)| o.script_pubkey == script());
        ours.map(|(vout, o)| Coin { outpoint: OutPoint::new(txid, vout as u32), value: o.value }).collect()
    }
}

/// Spends a coin to one new coin.
pub fn spend(coin: &Coin) -> Transaction {
    split(coin, 1)
}

/// Spends a coin to somebody else's script.
pub fn pay(coin: &Coin, to: &Script) -> Transaction {
    let mut tx = spend(coin);
    tx.output[0].script_pubkey = to.to_owned();
    tx
}

/// Spends a coin to `parts` new coins.
pub fn split(coin: &Coin, parts: u64) -> Transaction {
    let value = (coin.value - FEE * parts) / parts;
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[witness_script().as_bytes()]),
        }],
        output: (0..parts).map(|_| TxOut { value, script_pubkey: script() }).collect(),
    }
}

/// `count` empty blocks on top of the node's block at `height`: a fork that the node has not seen.
/// Submitted in order they reorganise the node when they are more than what they replace.
pub fn fork(node: &Node, height: u32, count: u32) -> Vec<Block> {
    let mut parent = node.block_at(height).header;
    (1..=count)
        .map(|n| {
            let block = block(&parent, height + n, Vec::new());
            parent = block.header;
            block
        })
        .collect()
}

/// A valid block on top of `parent`, with these transactions; their fees are left unclaimed.
pub fn block(parent: &Header, height: u32, transactions: Vec<Transaction>) -> Block {
    let mut txdata = vec![coinbase(height)];
    txdata.extend(transactions);
    let mut block = Block {
        header: Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: parent.block_hash(),
            merkle_root: TxMerkleNode::all_zeros(),
            // Later than the parent is later than the median of the last eleven.
            time: parent.time + 1,
            bits: CompactTarget::from_consensus(REGTEST_BITS),
            nonce: 0,
        },
        txdata,
    };
    commit_to_witness(&mut block);
    block.header.merkle_root = block.compute_merkle_root().expect("a coinbase");
    let target = Target::from_compact(block.header.bits);
    while block.header.validate_pow(target).is_err() {
        block.header.nonce += 1;
    }
    block
}

fn coinbase(height: u32) -> Transaction {
    let salt = SALT.fetch_add(1, Ordering::Relaxed) << 20 | u64::from(std::process::id());
    let salt = PushBytesBuf::from(salt.to_le_bytes());
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            // BIP34: the height first.
            script_sig: Builder::new().push_int(i64::from(height)).push_slice(salt).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0u8; 32]]),
        }],
        output: vec![TxOut { value: subsidy(height), script_pubkey: script() }],
    }
}

/// BIP141: a last coinbase output that commits to all witnesses.
fn commit_to_witness(block: &mut Block) {
    let root = block.witness_root().expect("a coinbase");
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let mut data = vec![0xaa, 0x21, 0xa9, 0xed];
    data.extend_from_slice(commitment.as_byte_array());
    let data = PushBytesBuf::try_from(data).expect("36 bytes");
    let script_pubkey = Builder::new().push_opcode(OP_RETURN).push_slice(data).into_script();
    block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey });
}

fn subsidy(height: u32) -> Amount {
    Amount::from_sat(Amount::from_int_btc(50).to_sat().checked_shr(height / REGTEST_HALVING).unwrap_or(0))
}
