//! Transactions that wait for a block, in order of arrival: parents before children.
//!
//! Bounded by [`MAX_TXS`] and [`MAX_BYTES`]; a full pool refuses. No replacement: the first spend of an output wins.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, Transaction};
use bytes::Bytes;

use super::block::message;
use super::script::{Coin, Lock};
use crate::wire::Hash;

/// Most transactions that wait.
pub const MAX_TXS: usize = 100_000;
/// Most bytes of transactions that wait: what Bitcoin Core keeps by default (-maxmempool 300).
pub const MAX_BYTES: usize = 300_000_000;
/// Largest transaction taken (MAX_STANDARD_TX_WEIGHT).
pub const MAX_TX_WEIGHT: u64 = 400_000;

/// Why a transaction is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It waits already.
    #[error("transaction is known already")]
    Known,
    /// A coinbase outside a block, or nothing in or out.
    #[error("transaction has no inputs, no outputs, or is a coinbase")]
    Shape,
    /// Too heavy.
    #[error("transaction weight {0} is above {MAX_TX_WEIGHT}")]
    TooHeavy(u64),
    /// An input that does not exist, is spent in the chain, or can be spent by nobody here.
    #[error("input {0} is not an output that can be spent")]
    Missing(OutPoint),
    /// An input that another transaction, or this one twice, spends.
    #[error("input {0} is spent already")]
    DoubleSpend(OutPoint),
    /// A coinbase output before its time.
    #[error("input {0} is a coinbase output younger than 100 blocks")]
    Immature(OutPoint),
    /// A witness that does not open its input.
    #[error("witness does not open input {0}")]
    Witness(OutPoint),
    /// Outputs above inputs, or more than there can be.
    #[error("outputs {outputs} satoshi exceed inputs {inputs}")]
    Amounts {
        /// Sum of the inputs, satoshi.
        inputs: u64,
        /// Sum of the outputs, satoshi.
        outputs: u64,
    },
    /// No room.
    #[error("the pool holds its limit of {MAX_TXS} transactions or {MAX_BYTES} bytes")]
    Full,
}

/// A transaction that waits.
#[derive(Debug)]
pub struct StubTx {
    /// Hash without witness.
    pub txid: Hash,
    /// Hash with witness.
    pub wtxid: Hash,
    /// The transaction.
    pub tx: Transaction,
    /// The `tx` message with witness, v1 frame included.
    pub message: Bytes,
    /// What it pays, satoshi.
    pub fee: u64,
    /// Its weight (BIP141).
    pub weight: u64,
    /// Number in the order of arrival, from 1.
    pub arrival: u64,
}

impl StubTx {
    /// Fee rate, satoshi per 1,000 virtual bytes.
    pub fn rate(&self) -> u64 {
        self.fee.saturating_mul(4_000) / self.weight.max(1)
    }
}

/// The transactions that wait.
#[derive(Debug, Clone, Default)]
pub struct Mempool {
    by_arrival: BTreeMap<u64, Arc<StubTx>>,
    by_hash: HashMap<Hash, u64>,
    spent: HashMap<OutPoint, u64>,
    arrivals: u64,
    bytes: usize,
}

impl Mempool {
    /// Number of transactions.
    pub fn len(&self) -> usize {
        self.by_arrival.len()
    }

    /// True exactly when none waits.
    pub fn is_empty(&self) -> bool {
        self.by_arrival.is_empty()
    }

    /// True exactly when another transaction, even a small one, may be refused for want of room.
    pub fn is_full(&self) -> bool {
        self.len() >= MAX_TXS || self.bytes + MAX_TX_WEIGHT as usize > MAX_BYTES
    }

    /// A transaction by txid or wtxid.
    pub fn get(&self, hash: &Hash) -> Option<&Arc<StubTx>> {
        self.by_arrival.get(self.by_hash.get(hash)?)
    }

    /// All, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<StubTx>> {
        self.by_arrival.values()
    }

    /// Those that arrived after number `arrival`.
    pub fn since(&self, arrival: u64) -> impl Iterator<Item = &Arc<StubTx>> {
        self.by_arrival.range(arrival.saturating_add(1)..).map(|(_, tx)| tx)
    }

    /// Number of the last arrival; 0 before the first.
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// True exactly when a waiting transaction spends the output.
    pub(super) fn spends(&self, at: &OutPoint) -> bool {
        self.spent.contains_key(at)
    }

    /// The output of a waiting transaction as a coin of the block at `height`.
    pub(super) fn coin(&self, at: &OutPoint, height: u32) -> Option<Coin> {
        let output = self.get(&at.txid.to_byte_array())?.tx.output.get(at.vout as usize)?;
        let lock = Lock::of(&output.script_pubkey)?;
        Some(Coin { value: output.value.to_sat(), lock, height, coinbase: false })
    }

    /// Takes a checked transaction.
    pub(super) fn insert(&mut self, tx: &Transaction, fee: u64) -> Result<(), Refused> {
        let bytes = serialize(tx);
        if self.len() >= MAX_TXS || self.bytes + bytes.len() > MAX_BYTES {
            return Err(Refused::Full);
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.bytes += bytes.len();
        for input in &tx.input {
            self.spent.insert(input.previous_output, arrival);
        }
        let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
        self.by_hash.insert(txid, arrival);
        self.by_hash.insert(wtxid, arrival);
        let message = message("tx", &bytes);
        let (tx, weight) = (tx.clone(), tx.weight().to_wu());
        self.by_arrival.insert(arrival, Arc::new(StubTx { txid, wtxid, tx, message, fee, weight, arrival }));
        Ok(())
    }

    /// Removes what a block confirms, and with their children those it makes impossible.
    pub(super) fn confirm(&mut self, tx: &Transaction) {
        if let Some(arrival) = self.by_hash.get(&tx.compute_txid().to_byte_array()) {
            self.remove(*arrival);
        }
        for input in &tx.input {
            let mut doomed: Vec<u64> = self.spent.get(&input.previous_output).copied().into_iter().collect();
            while let Some(arrival) = doomed.pop() {
                let Some(gone) = self.remove(arrival) else { continue };
                let id = gone.tx.compute_txid();
                let children = (0..gone.tx.output.len() as u32).map(|vout| OutPoint::new(id, vout));
                doomed.extend(children.filter_map(|at| self.spent.get(&at)));
            }
        }
    }

    /// Empties it and gives what was in it, in order of arrival. Arrivals go on counting.
    pub(super) fn take(&mut self) -> Vec<Arc<StubTx>> {
        self.by_hash.clear();
        self.spent.clear();
        self.bytes = 0;
        std::mem::take(&mut self.by_arrival).into_values().collect()
    }

    fn remove(&mut self, arrival: u64) -> Option<Arc<StubTx>> {
        let tx = self.by_arrival.remove(&arrival)?;
        self.by_hash.remove(&tx.txid);
        self.by_hash.remove(&tx.wtxid);
        self.bytes -= tx.message.len() - crate::base::limits::HEADER_LEN;
        for input in &tx.tx.input {
            self.spent.remove(&input.previous_output);
        }
        Some(tx)
    }
}
