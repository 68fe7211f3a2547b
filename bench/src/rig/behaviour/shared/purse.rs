//! Coins anybody may spend (P2WSH of OP_TRUE), and the schedule by which the submitters of a process spend them, each once.
//!
//! Coins come from blocks: one submitter, the scout, downloads the chain from genesis on and follows it. A coin becomes one
//! transaction with up to [`PARTS`] outputs, each of these one more without waiting for a block, and no more before it is
//! confirmed: so no transaction has more than 24 descendants or ancestors in a node's mempool (Bitcoin Core's and bcoin's
//! limit is 25). Coins grow with each block until there are enough for the rate.
//!
//! Does not know what else spends these coins: then a transaction is refused, and its outputs never appear in a block.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut};
use breakwater::base::Instant;
use breakwater::stub::script::{COINBASE_MATURITY, Lock};
use breakwater::wire::Hash;
use bytes::Bytes;

/// Coins kept of each sort; others are left to lie.
const MAX_COINS: usize = 100_000;
/// Outputs of a transaction that spends a confirmed coin.
const PARTS: u64 = 20;
/// A coin is not split into less than this, satoshi.
const LEAST_PART: u64 = 100_000;
/// Coins below this are left alone, satoshi.
const LEAST_COIN: u64 = 10_000;
/// Paid per output and for the rest, satoshi: about 2 per virtual byte (43 bytes an output, 80 the rest).
const FEE_PER_OUTPUT: u64 = 90;
/// See [`FEE_PER_OUTPUT`].
const FEE: u64 = 200;
/// An unconfirmed output is spent sooner than this only when there is nothing else: its transaction shall be in the node's
/// mempool.
const SETTLE: Duration = Duration::from_secs(2);
/// A scout that has not reported for this long is gone.
const SCOUT_LEASE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub struct Purse(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Unspent outputs of blocks, with their value.
    confirmed: HashMap<OutPoint, u64>,
    /// Those that can be spent from a height on, with the height they are of; lowest first.
    ripe_from: VecDeque<(u32, OutPoint)>,
    /// Those that can be spent.
    ripe: VecDeque<OutPoint>,
    /// Outputs of what was made here from a confirmed coin, and when.
    fresh: VecDeque<(Instant, OutPoint, u64)>,
    /// What has been spent here and was not yet seen spent in a block: it must not be found again.
    spent: HashSet<OutPoint>,
    /// Height of the next block to look at; 0 before the first, which is 1.
    next_height: u32,
    /// Who looks at the blocks, and when that was last seen.
    scout: Option<(u32, Instant)>,
    /// True exactly when the blocks were looked at up to the tip once.
    searched: bool,
    /// Intended time of the last submission given out.
    last: Option<Instant>,
}

/// A transaction to submit.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its hash without witness.
    pub txid: Hash,
    /// Its hash with witness.
    pub wtxid: Hash,
    /// The transaction with witness.
    pub bytes: Bytes,
}

impl Purse {
    /// True exactly when this client shall look at the blocks from [`Purse::next_height`] on, because it does already or
    /// nobody else does. To be called again within ten seconds.
    pub fn scout(&self, number: u32, now: Instant) -> bool {
        let mut inner = self.lock();
        let free = inner.scout.is_none_or(|(who, seen)| who == number || now.since(seen) > SCOUT_LEASE);
        if free {
            inner.scout = Some((number, now));
        }
        free
    }

    /// Height of the next block to look at.
    pub fn next_height(&self) -> u32 {
        self.lock().next_height.max(1)
    }

    /// Looks at a block; those of other heights than the next are left out.
    pub fn block(&self, height: u32, payload: &[u8]) -> Result<(), &'static str> {
        let block: Block = deserialize(payload).map_err(|_| "a block that cannot be read")?;
        let mut inner = self.lock();
        if height == inner.next_height.max(1) {
            inner.next_height = height + 1;
            inner.take_block(height, &block);
        }
        Ok(())
    }

    /// Blocks above this height have left the chain; their coins go when their spending is refused.
    pub fn rewind(&self, height: u32) {
        let mut inner = self.lock();
        inner.next_height = inner.next_height.max(1).min(height + 1);
    }

    /// All blocks there are have been looked at.
    pub fn searched(&self) {
        self.lock().searched = true;
    }

    /// The intended time of the caller's next submission at `rate` per second of all together; `None` before the coins have
    /// been looked for.
    pub fn slot(&self, now: Instant, rate: f64) -> Option<Instant> {
        let mut inner = self.lock();
        if !inner.searched {
            return None;
        }
        let pause = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::from_secs(3_600));
        let slot = inner.last.map_or(now, |last| last + pause);
        inner.last = Some(slot);
        Some(slot)
    }

    /// A transaction of a coin that nobody was given before; `None` when there is none.
    pub fn spend(&self, now: Instant) -> Option<Made> {
        self.lock().spend(now)
    }

    /// Coins that could be spent at this moment.
    pub fn coins(&self) -> usize {
        let inner = self.lock();
        inner.ripe.len() + inner.fresh.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a thread that died has left are coins; a false one is refused by the node.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_block(&mut self, height: u32, block: &Block) {
        for tx in &block.txdata {
            for input in &tx.input {
                self.confirmed.remove(&input.previous_output);
                self.spent.remove(&input.previous_output);
            }
            let coinbase = tx.is_coinbase();
            let txid = tx.compute_txid();
            for (vout, output) in (0..).zip(&tx.output) {
                let value = output.value.to_sat();
                if value < LEAST_COIN || Lock::of(&output.script_pubkey) != Some(Lock::True) {
                    continue;
                }
                let at = OutPoint::new(txid, vout);
                if self.confirmed.len() >= MAX_COINS || self.spent.contains(&at) {
                    continue;
                }
                if self.confirmed.insert(at, value).is_some() {
                    // A reorganisation has brought its transaction again.
                    continue;
                }
                match coinbase {
                    // A block at this height may spend it, and so the mempool one before.
                    true => self.ripe_from.push_back((height + COINBASE_MATURITY - 1, at)),
                    false => self.ripe.push_back(at),
                }
            }
        }
        while self.ripe_from.front().is_some_and(|(from, _)| *from <= height) {
            self.ripe.extend(self.ripe_from.pop_front().map(|(_, at)| at));
        }
        // Confirmed ones are in `ripe` now.
        let confirmed = &self.confirmed;
        self.fresh.retain(|(_, at, _)| !confirmed.contains_key(at));
    }

    fn spend(&mut self, now: Instant) -> Option<Made> {
        let settled = self.fresh.front().is_some_and(|(from, _, _)| *from <= now);
        if !settled {
            while let Some(at) = self.ripe.pop_front() {
                // Not there any more: spent in a block.
                if let Some(value) = self.confirmed.remove(&at) {
                    return Some(self.split(now, at, value));
                }
            }
        }
        let (_, at, value) = self.fresh.pop_front()?;
        self.note_spent(at);
        Some(pay(at, value, 2).1)
    }

    /// Spends a confirmed coin to many.
    fn split(&mut self, now: Instant, at: OutPoint, value: u64) -> Made {
        self.note_spent(at);
        let (tx, made) = pay(at, value, PARTS);
        let txid = tx.compute_txid();
        let room = MAX_COINS.saturating_sub(self.fresh.len());
        for (vout, output) in (0..).zip(&tx.output).take(room) {
            self.fresh.push_back((now + SETTLE, OutPoint::new(txid, vout), output.value.to_sat()));
        }
        made
    }

    fn note_spent(&mut self, at: OutPoint) {
        if self.spent.len() >= MAX_COINS {
            // Spent so long ago, and in no block: refused. To be found again does no harm but a second refusal.
            self.spent.clear();
        }
        self.spent.insert(at);
    }
}

/// Spends an output to at most `parts` new ones.
fn pay(at: OutPoint, value: u64, parts: u64) -> (Transaction, Made) {
    let parts = (value / LEAST_PART).clamp(1, parts);
    // Above LEAST_COIN, so nothing runs below zero.
    let part = value.saturating_sub(FEE + parts * FEE_PER_OUTPUT) / parts;
    let input = TxIn {
        previous_output: at,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Lock::True.witness(0, 0),
    };
    let output =
        TxOut { value: Amount::from_sat(part), script_pubkey: Lock::True.output_script().to_owned() };
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![output; parts as usize],
    };
    let made = Made {
        txid: tx.compute_txid().to_byte_array(),
        wtxid: tx.compute_wtxid().to_byte_array(),
        bytes: Bytes::from(serialize(&tx)),
    };
    (tx, made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use breakwater::stub::StubChain;

    #[test]
    fn coins_are_found_ripen_and_are_spent_once() {
        let mut stub = StubChain::new(1, 1_700_000_000);
        stub.grow(103, 1_700_000_200);
        let purse = Purse::default();
        let look = |stub: &StubChain| {
            while let Some(block) = stub.at(purse.next_height()) {
                purse.block(block.height(), block.bytes()).unwrap();
            }
        };
        look(&stub);
        assert_eq!(purse.coins(), 4, "rewards of blocks 1 to 4 can be spent in block 104");
        let now = Instant(1);
        for _ in 0..4 {
            let tx: Transaction = deserialize(&purse.spend(now).unwrap().bytes).unwrap();
            assert_eq!(tx.output.len(), 20);
            assert_eq!(stub.accept_tx(&tx), Ok(()));
        }
        let later = now + SETTLE;
        for _ in 0..80 {
            let tx: Transaction = deserialize(&purse.spend(later).unwrap().bytes).unwrap();
            assert_eq!(stub.accept_tx(&tx), Ok(()), "each once");
        }
        assert!(purse.spend(later).is_none());
        stub.mine(1_700_000_300);
        look(&stub);
        assert_eq!(purse.coins(), 160 + 1, "two of each, and another reward");
    }

    #[test]
    fn one_scout_at_a_time_and_slots_that_wait_for_nobody() {
        let purse = Purse::default();
        let at = |s: u64| Instant(s * 1_000_000_000);
        assert!(purse.scout(1, at(1)) && purse.scout(1, at(2)) && !purse.scout(2, at(3)));
        assert!(purse.scout(2, at(13)) && !purse.scout(1, at(14)));
        assert_eq!(purse.slot(at(5), 2.0), None);
        purse.searched();
        assert_eq!(purse.slot(at(5), 2.0), Some(at(5)));
        purse.slot(at(9), 2.0);
        assert_eq!(purse.slot(at(9), 2.0), Some(at(6)));
    }
}
