//! Blocks at intervals and transactions at a rate, with an account of those that could not be made.
//!
//! Time and chain are arguments. The rate is kept over any second: what a busy moment delayed is made up for, up to one
//! second's worth; the rest, and what the chain does not allow, is counted by its reason.

use std::time::Duration;

use bitcoin::hashes::Hash as _;
use breakwater::base::{Instant, UnixTime};
use breakwater::stub::StubChain;
use breakwater::wire::Hash;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

/// From one batch of transactions to the next, at high rates.
const TICK: Duration = Duration::from_millis(10);
/// Small transactions that a block holds.
pub(super) const TXS_PER_BLOCK: f64 = 10_200.0;

/// Transactions made and not made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Made {
    /// Made and accepted to the pool.
    pub txs: u64,
    /// Not made, because the pool was full (100,000 transactions wait for blocks).
    pub pool_full: u64,
    /// Not made, because no coin was free: none is mature before height 101.
    pub no_coin: u64,
    /// Not made, because the thread was busy for more than a second.
    pub late: u64,
}

impl Made {
    /// All that were not made.
    pub fn missed(&self) -> u64 {
        self.pool_full + self.no_coin + self.late
    }
}

/// Why transactions could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Short {
    /// The pool holds its limit.
    #[error("the pool is full: 100,000 transactions wait for blocks")]
    PoolFull,
    /// No coin is mature and large enough.
    #[error("no coin is free: coinbases can be spent after 100 blocks, so the chain needs 101")]
    NoCoin,
}

/// Makes blocks and transactions.
#[derive(Debug)]
pub(super) struct Maker {
    rng: SmallRng,
    block_every: Option<Duration>,
    block_at: Instant,
    /// Transactions a second.
    rate: f64,
    /// Up to when transactions are made; `None` before the first turn.
    until: Option<Instant>,
    /// Parts of a transaction that are due.
    rest: f64,
    pub(super) made: Made,
}

impl Maker {
    pub(super) fn new(seed: u64, block_every: Option<Duration>, rate: f64) -> Maker {
        Maker {
            rng: SmallRng::seed_from_u64(seed),
            block_every,
            block_at: Instant::FAR,
            rate,
            until: None,
            rest: 0.0,
            made: Made::default(),
        }
    }

    /// Does what is due; when something is due next.
    pub(super) fn turn(&mut self, now: Instant, chain: &mut StubChain, unix: UnixTime) -> Instant {
        let Some(until) = self.until else {
            self.until = Some(now);
            self.block_at = self.block_every.map_or(Instant::FAR, |every| now + every);
            return self.next(now);
        };
        if self.block_at <= now {
            chain.mine(unix);
            // On its schedule; blocks that a busy host missed are not made up for.
            let every = self.block_every.unwrap_or(Duration::MAX);
            let next = self.block_at + every;
            self.block_at = if next > now { next } else { now + every };
        }
        let pause = if self.rate > 0.0 { TICK } else { Duration::MAX };
        if now.since(until) >= pause {
            self.until = Some(now);
            self.rest += now.since(until).as_secs_f64() * self.rate;
            let due = self.rest.floor();
            self.rest -= due;
            self.make_due(due as u64, chain);
        }
        self.next(now)
    }

    fn make_due(&mut self, due: u64, chain: &mut StubChain) {
        let most = (self.rate.ceil() as u64).max(1);
        self.made.late += due.saturating_sub(most);
        let due = due.min(most);
        let (made, short) = self.make(due as usize, chain);
        let missed = due - made.len() as u64;
        match short {
            Some(Short::PoolFull) => self.made.pool_full += missed,
            Some(Short::NoCoin) => self.made.no_coin += missed,
            None => {}
        }
    }

    /// Makes up to `count` transactions: txid and wtxid of each, and why there are not more.
    pub(super) fn make(&mut self, count: usize, chain: &mut StubChain) -> (Vec<[Hash; 2]>, Option<Short>) {
        let mut made = Vec::new();
        while made.len() < count {
            if chain.mempool().is_full() {
                return (made, Some(Short::PoolFull));
            }
            let Some(tx) = chain.make_small_tx(&mut self.rng) else { return (made, Some(Short::NoCoin)) };
            // Made of a free coin it is valid; would it be refused all the same, the coin would be at fault.
            if chain.accept_tx(&tx).is_err() {
                return (made, Some(Short::NoCoin));
            }
            self.made.txs += 1;
            made.push([tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array()]);
        }
        (made, None)
    }

    fn next(&self, now: Instant) -> Instant {
        if self.rate <= 0.0 {
            return self.block_at;
        }
        // At low rates when the next one is due, not before.
        let wait = Duration::from_secs_f64(((1.0 - self.rest) / self.rate).clamp(0.0, 1e6));
        self.block_at.min(now + wait.max(TICK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: UnixTime = 1_800_000_000;

    fn chain(blocks: u32) -> StubChain {
        let mut chain = StubChain::new(1, UNIX - 10_000);
        chain.grow(blocks, UNIX);
        chain
    }

    fn run(maker: &mut Maker, chain: &mut StubChain, seconds: u64) {
        let (mut now, end) = (Instant(0), Instant(seconds * 1_000_000_000));
        while now < end {
            now = maker.turn(now, chain, UNIX + u64::from(now.secs())).min(end);
        }
        maker.turn(now, chain, UNIX + u64::from(now.secs()));
    }

    #[test]
    fn the_rate_is_kept_and_blocks_confirm_all() {
        for (rate, seconds) in [(2_000.0, 30), (0.5, 40), (37.5, 20)] {
            let (mut chain, mut maker) = (chain(150), Maker::new(1, Some(Duration::from_secs(5)), rate));
            run(&mut maker, &mut chain, seconds);
            let wanted = rate * seconds as f64;
            assert!((maker.made.txs as f64 - wanted).abs() <= 1.0 + rate / 50.0, "{rate}: {:?}", maker.made);
            assert_eq!(maker.made.missed(), 0, "{rate}");
            assert_eq!(chain.height(), 150 + seconds as u32 / 5);
            assert!(chain.mempool().len() <= (rate * 16.0) as usize, "{rate}: {}", chain.mempool().len());
        }
    }

    #[test]
    fn what_could_not_be_made_is_counted() {
        let (mut young, mut maker) = (chain(50), Maker::new(1, None, 100.0));
        run(&mut maker, &mut young, 3);
        assert!(maker.made.no_coin >= 290 && maker.made.txs == 0, "{:?}", maker.made);
        let (mut chain, mut maker) = (chain(150), Maker::new(1, None, 60_000.0));
        run(&mut maker, &mut chain, 2);
        assert_eq!(maker.made.txs, 100_000);
        assert!(maker.made.pool_full >= 19_000, "{:?}", maker.made);
        maker.turn(Instant(9_000_000_000), &mut chain, UNIX);
        assert!(maker.made.late > 0, "{:?}", maker.made);
    }
}
