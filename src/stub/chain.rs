//! The tree of blocks, its best chain by work, the coins of that chain, and reorganisations of any depth.
//!
//! All blocks have the target of regtest, so the chain with most work is the longest; of two equals the first
//! seen stays. Blocks that extend the tip take what waits in the pool; blocks beside it hold a coinbase only, so
//! that every branch is valid without a second set of coins.
//!
//! Grows with what the caller mines and with nothing else. Never iterates over a hash map, so that equal seeds and
//! equal calls give equal bytes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, Transaction};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::block::{StubBlock, Template};
use super::mempool::{MAX_TX_WEIGHT, Mempool, Refused};
use super::pay::Purse;
use super::script::{Coin, Lock};
use crate::base::UnixTime;
use crate::wire::{Hash, HashList};

/// Weight that waiting transactions and filling may take in a block; the rest of 4,000,000 is for header and coinbase.
pub(super) const BLOCK_WEIGHT: u64 = 3_990_000;
/// Blocks at the tip whose parsed form is kept: what is asked of them (compact blocks, their transactions) is frequent.
const KEEP_PARSED: usize = 16;
/// Most satoshi there can be (MAX_MONEY).
const MAX_MONEY: u64 = 2_100_000_000_000_000;

/// A valid regtest chain in memory.
#[derive(Debug, Clone)]
pub struct StubChain {
    blocks: HashMap<Hash, Arc<StubBlock>>,
    best: Vec<Link>,
    pub(super) coins: BTreeMap<OutPoint, Coin>,
    pub(super) mempool: Mempool,
    pub(super) purse: Purse,
    pub(super) rng: SmallRng,
    pub(super) block_bytes: usize,
    /// Earliest time of a block, Unix seconds.
    start: UnixTime,
}

/// A block of the best chain.
#[derive(Debug, Clone)]
struct Link {
    block: Arc<StubBlock>,
    /// What it spent of earlier blocks, to undo it.
    spent: Vec<(OutPoint, Coin)>,
}

impl StubChain {
    /// A chain with the genesis block of regtest. `start`: no block claims an earlier time (Unix seconds, used
    /// where a caller passes an earlier one).
    pub fn new(seed: u64, start: UnixTime) -> StubChain {
        let genesis = Arc::new(StubBlock::genesis());
        StubChain {
            blocks: HashMap::from([(*genesis.hash(), genesis.clone())]),
            best: vec![Link { block: genesis, spent: Vec::new() }],
            coins: BTreeMap::new(),
            mempool: Mempool::default(),
            purse: Purse::default(),
            rng: SmallRng::seed_from_u64(seed),
            block_bytes: 0,
            start,
        }
    }

    /// Fills blocks that extend the tip up to about this many bytes (0: not at all; at most 3,950,000), as far
    /// as there are coins: none before height 101.
    pub fn set_block_bytes(&mut self, bytes: usize) {
        self.block_bytes = bytes.min(super::pay::MAX_FILL);
    }

    /// Mines a block on the tip with what waits; its hash.
    pub fn mine(&mut self, now: UnixTime) -> Hash {
        let (txs, fees, spent) = self.contents();
        let parent = self.tip().clone();
        let hash = self.assemble(&parent, now, txs, fees, spent);
        debug_assert_eq!(hash, self.tip_hash());
        hash
    }

    /// Mines `n` blocks on the tip, one claimed second apart, the last at `now`.
    pub fn grow(&mut self, n: u32, now: UnixTime) {
        for left in (0..n).rev() {
            self.mine(now.saturating_sub(u64::from(left)));
        }
    }

    /// Mines `n` blocks, the first on `parent`, each on the one before; their hashes. They become the best chain
    /// as soon as they have more work than it. `None` when `parent` is not known.
    pub fn mine_on(&mut self, parent: &Hash, n: u32, now: UnixTime) -> Option<Vec<Hash>> {
        let mut parent = self.block(parent)?.clone();
        let mut made = Vec::new();
        for _ in 0..n {
            let hash = if *parent.hash() == self.tip_hash() {
                self.mine(now)
            } else {
                self.assemble(&parent, now, Vec::new(), 0, HashMap::new())
            };
            made.push(hash);
            parent = self.block(&hash)?.clone();
        }
        Some(made)
    }

    /// Takes a block of another stub chain, for several nodes with one chain. False when its parent is not known here.
    pub fn adopt(&mut self, block: &Arc<StubBlock>) -> bool {
        let known = self.blocks.contains_key(block.parent());
        if known && !self.blocks.contains_key(block.hash()) {
            self.add(block.clone());
        }
        known
    }

    /// The last block of the best chain.
    pub fn tip(&self) -> &Arc<StubBlock> {
        // `best` begins with genesis and is never cut below it.
        &self.best[self.best.len() - 1].block
    }

    /// Hash of the tip.
    pub fn tip_hash(&self) -> Hash {
        *self.tip().hash()
    }

    /// Height of the tip.
    pub fn height(&self) -> u32 {
        self.tip().height()
    }

    /// A block of any branch.
    pub fn block(&self, hash: &Hash) -> Option<&Arc<StubBlock>> {
        self.blocks.get(hash)
    }

    /// The block of the best chain at a height.
    pub fn at(&self, height: u32) -> Option<&Arc<StubBlock>> {
        self.best.get(height as usize).map(|link| &link.block)
    }

    /// True exactly when the block is in the best chain.
    pub fn is_best(&self, block: &StubBlock) -> bool {
        self.at(block.height()).is_some_and(|best| best.hash() == block.hash())
    }

    /// The last common block of the best chain and the branch of `block`.
    pub fn fork(&self, block: &Arc<StubBlock>) -> Arc<StubBlock> {
        let mut at = block;
        while !self.is_best(at) {
            match self.block(at.parent()) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        at.clone()
    }

    /// True exactly when `low` is `high` or one of its ancestors.
    pub fn is_ancestor(&self, low: &StubBlock, high: &Arc<StubBlock>) -> bool {
        if self.is_best(high) {
            return low.height() <= high.height() && self.is_best(low);
        }
        let mut at = high;
        while at.height() > low.height() {
            match self.block(at.parent()) {
                Some(parent) => at = parent,
                None => return false,
            }
        }
        at.hash() == low.hash()
    }

    /// The blocks from height `start` to `stop`, along the branch of `stop`; empty when `start` is above it.
    pub fn branch(&self, start: u32, stop: &Arc<StubBlock>) -> Vec<Arc<StubBlock>> {
        let mut out = Vec::new();
        let mut at = stop;
        while at.height() >= start {
            out.push(at.clone());
            match self.block(at.parent()) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        out.reverse();
        out
    }

    /// Height of the first hash of a locator that is in the best chain; 0 when none is.
    pub fn find_fork(&self, locator: HashList<'_>) -> u32 {
        let known = |hash| self.block(hash).filter(|block| self.is_best(block)).map(|block| block.height());
        locator.iter().find_map(known).unwrap_or(0)
    }

    /// What waits for a block.
    pub fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// Takes a transaction that spends outputs of the best chain or of waiting transactions.
    pub fn accept_tx(&mut self, tx: &Transaction) -> Result<(), Refused> {
        let fee = self.check_tx(tx)?;
        self.mempool.insert(tx, fee)?;
        self.purse.earn(tx);
        Ok(())
    }

    /// The fee of a transaction that could be accepted, satoshi.
    fn check_tx(&self, tx: &Transaction) -> Result<u64, Refused> {
        if tx.is_coinbase() || tx.input.is_empty() || tx.output.is_empty() {
            return Err(Refused::Shape);
        }
        if self.mempool.get(&tx.compute_txid().to_byte_array()).is_some() {
            return Err(Refused::Known);
        }
        let weight = tx.weight().to_wu();
        if weight > MAX_TX_WEIGHT {
            return Err(Refused::TooHeavy(weight));
        }
        let (mut inputs, mut seen) = (0u64, HashSet::new());
        for input in &tx.input {
            let at = input.previous_output;
            let coin = self.coin(&at).ok_or(Refused::Missing(at))?;
            if self.mempool.spends(&at) || !seen.insert(at) {
                return Err(Refused::DoubleSpend(at));
            }
            if !coin.is_mature(self.height() + 1) {
                return Err(Refused::Immature(at));
            }
            if !coin.lock.opens(&input.witness) || !input.script_sig.is_empty() {
                return Err(Refused::Witness(at));
            }
            inputs = inputs.saturating_add(coin.value);
        }
        let outputs = tx.output.iter().fold(0u64, |sum, output| sum.saturating_add(output.value.to_sat()));
        match inputs.checked_sub(outputs) {
            Some(fee) if inputs <= MAX_MONEY => Ok(fee),
            _ => Err(Refused::Amounts { inputs, outputs }),
        }
    }

    /// The coin of the best chain or of a waiting transaction.
    pub(super) fn coin(&self, at: &OutPoint) -> Option<Coin> {
        self.coins.get(at).copied().or_else(|| self.mempool.coin(at, self.height() + 1))
    }

    /// What a block on the tip holds: transactions, their fees, the locks they spend.
    fn contents(&mut self) -> (Vec<Transaction>, u64, HashMap<OutPoint, Lock>) {
        let (mut txs, mut fees, mut weight, mut bytes) = (Vec::new(), 0, 0, 400);
        for tx in self.mempool.iter() {
            // Stopping, not skipping: a later one may be a child of the one left out.
            if weight + tx.weight > BLOCK_WEIGHT {
                break;
            }
            weight += tx.weight;
            bytes += tx.message.len();
            fees += tx.fee;
            txs.push(tx.tx.clone());
        }
        let (fill, fill_fees) = self.fill(bytes, weight);
        let mut spent: HashMap<OutPoint, Lock> = HashMap::new();
        for at in txs.iter().flat_map(|tx| tx.input.iter().map(|input| input.previous_output)) {
            spent.extend(self.coin(&at).map(|coin| (at, coin.lock)));
        }
        for (tx, lock) in fill {
            spent.extend(tx.input.iter().map(|input| (input.previous_output, lock)));
            txs.push(tx);
        }
        (txs, fees + fill_fees, spent)
    }

    fn assemble(
        &mut self,
        parent: &Arc<StubBlock>,
        now: UnixTime,
        txs: Vec<Transaction>,
        fees: u64,
        spent: HashMap<OutPoint, Lock>,
    ) -> Hash {
        // Later than its parent is later than the median of the last eleven, which is the rule.
        let time =
            u32::try_from(now.max(self.start)).unwrap_or(u32::MAX).max(parent.time().saturating_add(1));
        let extra = self.rng.random();
        let block = Arc::new(StubBlock::assemble(Template { parent, time, txs, fees, extra, spent }));
        let hash = *block.hash();
        self.add(block);
        hash
    }

    /// Adds a block whose parent is known, and follows it when it has more work.
    fn add(&mut self, block: Arc<StubBlock>) {
        self.blocks.insert(*block.hash(), block.clone());
        if block.height() <= self.height() {
            return;
        }
        if *block.parent() == self.tip_hash() {
            self.connect(block);
            return;
        }
        let fork = self.fork(&block);
        let mut path = Vec::new();
        let mut at = &block;
        while at.hash() != fork.hash() {
            path.push(at.clone());
            let Some(parent) = self.blocks.get(at.parent()) else { break };
            at = parent;
        }
        let waiting = self.mempool.take();
        let mut back = Vec::new();
        while self.height() > fork.height() {
            let Some(gone) = self.disconnect() else { break };
            back.push(gone);
        }
        path.into_iter().rev().for_each(|block| self.connect(block));
        // What was confirmed waits again, before what may spend it; what became impossible is forgotten.
        for gone in back.iter().rev() {
            for tx in gone.block().txdata.iter().skip(1) {
                let _ = self.accept_tx(tx);
            }
        }
        for tx in waiting {
            let _ = self.accept_tx(&tx.tx);
        }
    }

    fn connect(&mut self, block: Arc<StubBlock>) {
        let height = block.height();
        let mut spent = Vec::new();
        for (position, tx) in block.block().txdata.iter().enumerate() {
            for input in &tx.input {
                let at = input.previous_output;
                // A coin made and spent in this block needs no undoing.
                if let Some(coin) = self.coins.remove(&at).filter(|coin| coin.height < height) {
                    spent.push((at, coin));
                }
                self.purse.spent(&at);
            }
            let txid = tx.compute_txid();
            for (vout, output) in (0..).zip(&tx.output) {
                if let Some(lock) = Lock::of(&output.script_pubkey) {
                    let value = output.value.to_sat();
                    let coin = Coin { value, lock, height, coinbase: position == 0 };
                    self.coins.insert(OutPoint::new(txid, vout), coin);
                }
            }
            if position > 0 {
                self.mempool.confirm(tx);
            }
        }
        self.best.push(Link { block, spent });
        if let Some(old) = self.best.len().checked_sub(KEEP_PARSED + 1) {
            self.best[old].block.forget_parsed();
        }
    }

    /// Takes the tip off, never genesis.
    fn disconnect(&mut self) -> Option<Arc<StubBlock>> {
        if self.best.len() <= 1 {
            return None;
        }
        let Link { block, spent } = self.best.pop()?;
        for tx in &block.block().txdata {
            let txid = tx.compute_txid();
            for vout in 0..tx.output.len() as u32 {
                self.coins.remove(&OutPoint::new(txid, vout));
            }
        }
        self.coins.extend(spent);
        Some(block)
    }
}
