//! Making transactions: payments that anybody's node would accept here, and filling for blocks of a wanted size.

use std::collections::HashSet;

use bitcoin::absolute::LockTime;
use bitcoin::blockdata::opcodes::all::OP_RETURN;
use bitcoin::blockdata::script::{Builder, PushBytesBuf};
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WPubkeyHash};
use rand::Rng;

use super::chain::{BLOCK_WEIGHT, StubChain};
use super::script::{Coin, Lock, MAX_STUFFING};

/// Coins below this are left alone, satoshi.
const LEAST_COIN: u64 = 20_000;
/// What a payment to a stranger and each stuffed output carry, satoshi.
const SMALL: u64 = 1_000;
/// Most outputs remembered as free to spend; more are found again in the set of coins.
const MAX_FREE: usize = 100_000;
/// Coins looked at for one payment.
const TRIES: usize = 64;
/// Largest payment made, bytes: weight 400,000 without witness.
const MAX_PAYMENT: usize = 99_000;
/// Coins that small payments want at hand, so that their chains stay short; below, they make three outputs of one.
const WANTED_FREE: usize = 20_000;
/// Fee of a small payment, satoshi: above 1 per virtual byte.
const SMALL_FEE: u64 = 200;
/// One small payment in so many pays a random script, so that filters differ.
const STRANGERS: u32 = 16;
/// Largest wanted size of a block, bytes: frames and weights stay below 4,000,000.
pub const MAX_FILL: usize = 3_950_000;
/// Most stuffing of one filling transaction, bytes. Many small ones rather than few large: compact blocks name each.
const FILL_STEP: usize = 50_000;
/// Bytes of a filling transaction with its output in the transaction before: 50,400 stuffing, 206 script, 110 the rest.
const FILL_BYTES: usize = 50_750;
/// What it takes besides the stuffing, bytes.
const FILL_EXTRA: usize = FILL_BYTES - FILL_STEP;
/// Least that can be filled, bytes: one byte for each of the 400 items, and the transaction that makes the output.
const LEAST_FILL: usize = FILL_EXTRA + 600;
/// Its weight: what is not witness, about 120 bytes, counts four times.
const FILL_WEIGHT: u64 = 51_300;

const _: () = assert!(FILL_STEP <= MAX_STUFFING);

/// Which coins are free to be spent by a new payment.
#[derive(Debug, Clone, Default)]
pub(super) struct Purse {
    free: Vec<OutPoint>,
    /// Handed out in a payment that has not come back yet.
    reserved: HashSet<OutPoint>,
}

impl Purse {
    /// Outputs of an accepted transaction.
    pub(super) fn earn(&mut self, tx: &Transaction) {
        let txid = tx.compute_txid();
        for (vout, output) in (0..).zip(&tx.output) {
            let usable =
                output.value.to_sat() >= LEAST_COIN && Lock::of(&output.script_pubkey) == Some(Lock::True);
            if usable && self.free.len() < MAX_FREE {
                self.free.push(OutPoint::new(txid, vout));
            }
        }
    }

    /// An output that a block spends.
    pub(super) fn spent(&mut self, at: &OutPoint) {
        self.reserved.remove(at);
    }
}

impl StubChain {
    /// A valid transaction of about `bytes` bytes (at least 200 or so, at most 99,000) with one input and several
    /// outputs; one pays a random P2WPKH script, so that filters differ. Not accepted yet: give it to `accept_tx` or
    /// let a client submit it. Two calls never spend the same output. `None` when no coin is mature and large enough.
    pub fn make_tx(&mut self, rng: &mut impl Rng, bytes: usize) -> Option<Transaction> {
        let bytes = bytes.min(MAX_PAYMENT);
        let fee = bytes.max(400) as u64;
        let (at, coin) = self.take_coin(rng, fee + 2 * SMALL, false)?;
        let change = coin.value - fee - SMALL;
        let parts = if change > 10 * LEAST_COIN { rng.random_range(2..=3) } else { 1 };
        let stranger = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(rng.random()));
        let mut outputs = vec![output(SMALL, stranger)];
        for part in 0..parts {
            let value = change / parts + if part == 0 { change % parts } else { 0 };
            outputs.push(output(value, Lock::True.output_script().to_owned()));
        }
        let mut tx = spend(at, Lock::True, 0, outputs);
        // Value, length and push opcodes of the padding output take up to 20 bytes.
        let missing = bytes.saturating_sub(tx.total_size() + 20);
        if missing > 0 {
            tx.output.push(output(0, nothing(vec![rng.random(); missing])));
        }
        Some(tx)
    }

    /// A valid transaction as small as they come (94 bytes without witness; a block takes 10,000): one input, one output
    /// to itself; three while few coins are free, so that they last for any number of these. Promises as `make_tx`.
    pub fn make_small_tx(&mut self, rng: &mut impl Rng) -> Option<Transaction> {
        let (at, coin) = self.take_coin(rng, SMALL_FEE + 2 * SMALL, false)?;
        let mut left = coin.value - SMALL_FEE;
        let mut outputs = Vec::with_capacity(3);
        if rng.random_range(0..STRANGERS) == 0 {
            left -= SMALL;
            outputs.push(output(SMALL, ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(rng.random()))));
        }
        let split = self.purse.free.len() < WANTED_FREE && left > 10 * LEAST_COIN;
        let parts = if split { 3 } else { 1 };
        for part in 0..parts {
            let value = left / parts + if part == 0 { left % parts } else { 0 };
            outputs.push(output(value, Lock::True.output_script().to_owned()));
        }
        Some(spend(at, Lock::True, 0, outputs))
    }

    /// A free coin of at least this value, satoshi; only of the chain when `confirmed`.
    fn take_coin(&mut self, rng: &mut impl Rng, least: u64, confirmed: bool) -> Option<(OutPoint, Coin)> {
        if self.purse.free.is_empty() {
            self.refill();
        }
        let mut unfit = Vec::new();
        let mut found = None;
        for _ in 0..TRIES {
            if self.purse.free.is_empty() {
                break;
            }
            let pick = rng.random_range(0..self.purse.free.len());
            let at = self.purse.free.swap_remove(pick);
            let Some(coin) = self.coin(&at).filter(|coin| self.is_free(&at, coin)) else { continue };
            if coin.value < least || (confirmed && !self.coins.contains_key(&at)) {
                unfit.push(at);
                continue;
            }
            self.purse.reserved.insert(at);
            found = Some((at, coin));
            break;
        }
        self.purse.free.extend(unfit);
        found
    }

    fn is_free(&self, at: &OutPoint, coin: &Coin) -> bool {
        coin.lock == Lock::True
            && coin.value >= LEAST_COIN
            && coin.is_mature(self.height() + 1)
            && !self.mempool.spends(at)
            && !self.purse.reserved.contains(at)
    }

    fn refill(&mut self) {
        let coins = self.coins.iter().filter(|(at, coin)| self.is_free(at, coin)).map(|(at, _)| *at);
        self.purse.free = coins.take(MAX_FREE).collect();
        let waiting: Vec<_> = self.mempool.iter().cloned().collect();
        waiting.iter().for_each(|tx| self.purse.earn(&tx.tx));
    }

    /// Transactions that fill a block which has `bytes` and `weight` already, each with the lock it spends, and the fees
    /// of all. The first makes stuffed outputs, the others spend them.
    pub(super) fn fill(&mut self, bytes: usize, weight: u64) -> (Vec<(Transaction, Lock)>, u64) {
        let by_weight = usize::try_from(BLOCK_WEIGHT.saturating_sub(weight) / FILL_WEIGHT).unwrap_or(0);
        let missing = self.block_bytes.saturating_sub(bytes);
        let count = missing.div_ceil(FILL_BYTES).min(by_weight);
        if count == 0 || missing < LEAST_FILL {
            return (Vec::new(), 0);
        }
        let step = (missing / count).saturating_sub(FILL_EXTRA).min(FILL_STEP);
        let mut rng = self.rng.clone();
        // Confirmed, because the block may have no room for a waiting parent.
        let funds = self.take_coin(&mut rng, count as u64 * SMALL, true);
        self.rng = rng;
        let Some((at, coin)) = funds else { return (Vec::new(), 0) };
        let stuffed = Lock::Stuffed.output_script().to_owned();
        let mut outputs = vec![output(SMALL, stuffed); count];
        outputs.push(output(coin.value - count as u64 * SMALL, Lock::True.output_script().to_owned()));
        let first = spend(at, Lock::True, 0, outputs);
        let txid = first.compute_txid();
        let mut made = vec![(first, Lock::True)];
        for vout in 0..count as u32 {
            let ashes = vec![output(0, nothing(vout.to_le_bytes().to_vec()))];
            made.push((spend(OutPoint::new(txid, vout), Lock::Stuffed, step, ashes), Lock::Stuffed));
        }
        (made, count as u64 * SMALL)
    }
}

fn spend(at: OutPoint, lock: Lock, stuffing: usize, output: Vec<TxOut>) -> Transaction {
    let witness = lock.witness(stuffing, at.vout as u8);
    let input = TxIn { previous_output: at, script_sig: ScriptBuf::new(), sequence: Sequence::MAX, witness };
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output }
}

fn output(value: u64, script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey }
}

/// An OP_RETURN output script with this data.
fn nothing(data: Vec<u8>) -> ScriptBuf {
    let data = PushBytesBuf::try_from(data).unwrap_or_default();
    Builder::new().push_opcode(OP_RETURN).push_slice(data).into_script()
}
