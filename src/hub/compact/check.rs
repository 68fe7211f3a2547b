//! Whether a block's transactions are those its header commits to: merkle root, and witness commitment (BIP141).
//!
//! Proof of work is the chain's business, scripts and amounts are the node's.

use crate::wire::{BlockParts, Hash, OutPoint, Tx, WireError, display, sha256d};

/// How a witness commitment's script begins: OP_RETURN, 36 bytes, the tag (BIP141).
const COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// The time of the first mainnet block with segwit rules (height 481,824), Unix seconds. Blocks from before may carry a
/// commitment and no witness; on the other networks served such blocks are of no age at all.
const SEGWIT_TIME: u32 = 1_503_539_857;

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// It does not decode.
    #[error("block does not decode: {0}")]
    Wire(#[from] WireError),
    /// The transactions are not those of the header.
    #[error("merkle root of the transactions is {}, the header says {}", display(.found), display(.expected))]
    MerkleRoot {
        /// That of the transactions.
        found: Hash,
        /// That of the header.
        expected: Hash,
    },
    /// Transactions repeated so that the merkle root stays the same (CVE-2012-2459).
    #[error("transactions are repeated within the merkle tree")]
    Mutated,
    /// The first transaction is not a coinbase.
    #[error("first transaction is not a coinbase")]
    NoCoinbase,
    /// The witness data is not what the coinbase commits to.
    #[error("witness commitment does not fit the witness data")]
    WitnessCommitment,
    /// Witness data without a commitment.
    #[error("witness data without a commitment in the coinbase")]
    UnexpectedWitness,
    /// The witness data has been left out.
    #[error("coinbase commits to witness data, the block carries none")]
    WitnessMissing,
}

/// A block that fits its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBlock {
    /// Hash of the header.
    pub hash: Hash,
    /// Txids in order.
    pub txids: Vec<Hash>,
    /// What its transactions spend, the coinbase left out.
    pub spent: Vec<OutPoint>,
}

/// Checks the payload of a `block` message, with witness data.
pub fn check_block(payload: &[u8]) -> Result<CheckedBlock, BlockFault> {
    let parts = BlockParts::parse(payload)?;
    let header = parts.header;
    let (mut txids, mut wtxids, mut spent) =
        (Vec::with_capacity(parts.count), Vec::with_capacity(parts.count), vec![]);
    let mut coinbase: Option<Tx<'_>> = None;
    let mut witness = false;
    parts.for_each(|tx| {
        witness |= tx.has_witness();
        let txid = tx.txid();
        txids.push(txid);
        // The coinbase's wtxid counts as zero in the commitment, because it contains the commitment.
        match coinbase {
            None => {
                coinbase = Some(tx);
                wtxids.push([0; 32]);
            }
            Some(_) => {
                wtxids.push(if tx.has_witness() { tx.wtxid() } else { txid });
                spent.extend(tx.spends());
            }
        }
    })?;
    let coinbase = coinbase.filter(|tx| tx.spends().eq([OutPoint::NULL])).ok_or(BlockFault::NoCoinbase)?;
    let (root, mutated) = merkle_root(txids.clone());
    if root != header[36..68] {
        let mut expected = [0; 32];
        expected.copy_from_slice(&header[36..68]);
        return Err(BlockFault::MerkleRoot { found: root, expected });
    }
    if mutated {
        return Err(BlockFault::Mutated);
    }
    let time = u32::from_le_bytes([header[68], header[69], header[70], header[71]]);
    check_witness(&coinbase, wtxids, witness, time)?;
    Ok(CheckedBlock { hash: sha256d(header), txids, spent })
}

fn check_witness(coinbase: &Tx<'_>, wtxids: Vec<Hash>, witness: bool, time: u32) -> Result<(), BlockFault> {
    let committed =
        coinbase.output_scripts().filter(|script| script.len() >= 38 && script.starts_with(&COMMITMENT));
    // The last one counts (BIP141).
    let Some(script) = committed.last() else {
        return if witness { Err(BlockFault::UnexpectedWitness) } else { Ok(()) };
    };
    if !witness {
        return if time < SEGWIT_TIME { Ok(()) } else { Err(BlockFault::WitnessMissing) };
    }
    let reserved = coinbase.only_witness_item().and_then(|item| <&Hash>::try_from(item).ok());
    let reserved = reserved.ok_or(BlockFault::WitnessCommitment)?;
    let mut both = [0; 64];
    both[..32].copy_from_slice(&merkle_root(wtxids).0);
    both[32..].copy_from_slice(reserved);
    if sha256d(&both) == script[6..38] { Ok(()) } else { Err(BlockFault::WitnessCommitment) }
}

/// The merkle root of hashes, and whether equal neighbours within the tree make it ambiguous. Zero for none.
pub fn merkle_root(mut level: Vec<Hash>) -> (Hash, bool) {
    let mut mutated = false;
    while level.len() > 1 {
        mutated |= level.as_chunks::<2>().0.iter().any(|[a, b]| a == b);
        let pairs = level.len().div_ceil(2);
        for i in 0..pairs {
            let (left, right) = (level[2 * i], level[(2 * i + 1).min(level.len() - 1)]);
            let mut both = [0; 64];
            both[..32].copy_from_slice(&left);
            both[32..].copy_from_slice(&right);
            level[i] = sha256d(&both);
        }
        level.truncate(pairs);
    }
    (level.first().copied().unwrap_or_default(), mutated)
}
