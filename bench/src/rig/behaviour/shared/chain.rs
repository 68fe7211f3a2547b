//! The best chain, once for all clients: hashes by height, and digests of filters for those blocks that have been asked for.
//!
//! A header is hashed and its proof of work checked by whoever brings it first; of what is known already, each list of
//! headers is compared with the record. 48 bytes a block, at most [`MAX_BLOCKS`].
//! Of several branches the longest is kept (the work of a block does not change within a reorganisation's length). A target
//! on a shorter branch than another target's is not followed.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use breakwater::feed::chain_view::locator;
use breakwater::stub::client::Headers;
use breakwater::stub::filters::chain_header;
use breakwater::wire::{Hash, Magic, sha256d};

/// Blocks followed: 60 years of mainnet.
const MAX_BLOCKS: usize = 4_000_000;
/// How far from where it is expected a parent is looked for: deeper than any reorganisation seen.
const SEARCH: usize = 300;

/// The chain.
#[derive(Debug)]
pub struct Chain(RwLock<Table>);

#[derive(Debug)]
struct Table {
    /// By height, genesis first; never empty.
    hashes: Vec<Hash>,
    /// By height: the filter and its header, in eight bytes each; zeros where they are not known.
    filters: Vec<[u64; 2]>,
}

/// What a list of headers is to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// Its first header follows no block known.
    Unknown,
    /// It is a branch that is not followed, or there is nothing in it.
    Beside,
    /// It is in the chain: from the block after `fork` to `height`, whose hash is `tip`.
    To {
        /// Height of the first header's parent.
        fork: u32,
        /// Height of the last header.
        height: u32,
        /// Its hash.
        tip: Hash,
    },
}

impl Chain {
    /// The genesis block alone.
    pub fn new(magic: Magic) -> Chain {
        Chain(RwLock::new(Table { hashes: vec![*Headers::genesis(magic).tip()], filters: Vec::new() }))
    }

    /// Height and hash of the last block known.
    pub fn tip(&self) -> (u32, Hash) {
        let table = self.read();
        (table.height(), table.hashes.last().copied().unwrap_or_default())
    }

    /// The hash of the block at this height.
    pub fn hash(&self, height: u32) -> Option<Hash> {
        self.read().hashes.get(height as usize).copied()
    }

    /// The height of a block near `near` or near the tip.
    pub fn find(&self, near: u32, hash: &Hash) -> Option<u32> {
        self.read().find(near, hash)
    }

    /// A locator for the block at this height.
    pub fn locator(&self, height: u32) -> Vec<Hash> {
        let table = self.read();
        locator(height.min(table.height()), |height| table.hashes.get(height as usize).copied())
    }

    /// Adds headers, whose parent is expected near the height `near`. What is wrong with them, if they are false.
    pub fn link(&self, near: u32, headers: &[&[u8; 80]]) -> Result<Linked, &'static str> {
        let Some(first) = headers.first() else { return Ok(Linked::Beside) };
        let (fork, known, base) = {
            let table = self.read();
            let Some(fork) = table.find(near, parent(first)) else { return Ok(Linked::Unknown) };
            let (known, base) = table.known(fork, headers)?;
            (fork, known, base)
        };
        // Below 2,000 by the message.
        let height = fork + headers.len() as u32;
        let new = check(&base, &headers[known..])?;
        let tip = new.last().copied().unwrap_or(base);
        match new.is_empty() || self.write().extend(fork as usize + known, &base, &new) {
            true => Ok(Linked::To { fork, height, tip }),
            false => Ok(Linked::Beside),
        }
    }

    /// Compares filter headers with what others were told, or notes them. `stop` is the last block's hash; a range that
    /// a reorganisation has overtaken is not compared. What is wrong, if something is.
    pub fn filter_headers<'h>(
        &self,
        start: u32,
        stop: &Hash,
        previous: &Hash,
        hashes: impl ExactSizeIterator<Item = &'h Hash> + Clone,
    ) -> Result<(), &'static str> {
        let (from, to) = (start as usize, start as usize + hashes.len());
        let mut table = self.write();
        if to == from || table.hashes.get(to - 1) != Some(stop) {
            return Ok(());
        }
        let before = from.checked_sub(1).and_then(|at| table.filters.get(at)).map_or(0, |known| known[1]);
        if from == 0 && *previous != [0; 32] || before != 0 && before != digest(previous) {
            return Err("filter headers that do not link");
        }
        if table.filters.len() < to {
            table.filters.resize(to, [0; 2]);
        }
        let places = table.filters.get_mut(from..to).unwrap_or_default();
        if places.iter().all(|place| place[0] != 0) {
            let same = places.iter().zip(hashes).all(|(place, hash)| place[0] == digest(hash));
            return if same { Ok(()) } else { Err("filter headers unlike those given before") };
        }
        let mut header = *previous;
        for (place, hash) in places.iter_mut().zip(hashes) {
            header = chain_header(hash, &header);
            let made = [digest(hash), digest(&header)];
            if place[0] != 0 && *place != made {
                return Err("filter headers unlike those given before");
            }
            *place = made;
        }
        Ok(())
    }

    /// True exactly when the filter's hash is the one that its filter header has.
    pub fn filter_fits(&self, height: u32, filter: &[u8]) -> bool {
        let table = self.read();
        table.filters.get(height as usize).is_some_and(|place| place[0] == digest(&sha256d(filter)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        // A thread that panicked in here has left at worst a shorter chain.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn height(&self) -> u32 {
        // Never empty, and below MAX_BLOCKS.
        self.hashes.len() as u32 - 1
    }

    fn find(&self, near: u32, hash: &Hash) -> Option<u32> {
        let below = |top: u32| {
            let end = self.hashes.len().min(top as usize + 1);
            let from = end.saturating_sub(SEARCH);
            let places = self.hashes.get(from..end)?;
            places.iter().rposition(|known| known == hash).map(|at| (from + at) as u32)
        };
        below(near).or_else(|| below(self.height())).or_else(|| below(0))
    }

    /// How many of the headers are in the chain after `fork`, and the hash of the last one that is.
    fn known(&self, fork: u32, headers: &[&[u8; 80]]) -> Result<(usize, Hash), &'static str> {
        let mut last = self.hashes.get(fork as usize).copied().unwrap_or_default();
        for (n, header) in headers.iter().enumerate() {
            if *parent(header) != last {
                return Err("headers that do not link");
            }
            let Some(known) = self.hashes.get(fork as usize + 1 + n) else { return Ok((n, last)) };
            // What the next one calls its parent has been hashed by the one who brought it; the last is hashed here.
            let hash = headers.get(n + 1).map_or_else(|| sha256d(*header), |next| *parent(next));
            if hash != *known {
                return Ok((n, last));
            }
            last = hash;
        }
        Ok((headers.len(), last))
    }

    /// Puts `new` behind the block `base`, which is at height `keep`; false when that leads to no longer chain.
    fn extend(&mut self, keep: usize, base: &Hash, new: &[Hash]) -> bool {
        let at = keep + 1;
        if self.hashes.get(keep) != Some(base) {
            return false;
        }
        // Somebody else may have been faster.
        if self.hashes.get(at..at + new.len()) == Some(new) {
            return true;
        }
        if at + new.len() <= self.hashes.len() || at + new.len() > MAX_BLOCKS {
            return false;
        }
        self.hashes.truncate(at);
        self.filters.truncate(at);
        self.hashes.extend_from_slice(new);
        true
    }
}

/// The hashes of headers that follow `base`.
fn check(base: &Hash, headers: &[&[u8; 80]]) -> Result<Vec<Hash>, &'static str> {
    let mut last = *base;
    let mut out = Vec::with_capacity(headers.len());
    for raw in headers {
        if *parent(raw) != last {
            return Err("headers that do not link");
        }
        let header: Header = deserialize(*raw).map_err(|_| "a header that cannot be read")?;
        if header.validate_pow(header.target()).is_err() {
            return Err("a header without proof of work");
        }
        last = sha256d(*raw);
        out.push(last);
    }
    Ok(out)
}

fn parent(header: &[u8; 80]) -> &Hash {
    // 36 bytes are there, so the default is never taken.
    header[4..36].first_chunk().unwrap_or(&[0; 32])
}

/// Eight bytes of a hash, never all zeros.
fn digest(hash: &Hash) -> u64 {
    u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use breakwater::stub::{MAGIC, StubChain};

    fn headers(chain: &StubChain, from: u32) -> Vec<[u8; 80]> {
        (from..=chain.height()).map(|height| *chain.at(height).unwrap().header()).collect()
    }

    fn link(chain: &Chain, near: u32, list: &[[u8; 80]]) -> Result<Linked, &'static str> {
        chain.link(near, &list.iter().collect::<Vec<_>>())
    }

    #[test]
    fn the_longest_branch_is_followed_and_false_headers_are_named() {
        let mut stub = StubChain::new(1, 1_700_000_000);
        stub.grow(20, 1_700_000_100);
        let chain = Chain::new(MAGIC);
        let all = headers(&stub, 1);
        let to = Linked::To { fork: 0, height: 20, tip: stub.tip_hash() };
        assert_eq!(link(&chain, 0, &all), Ok(to));
        assert_eq!(link(&chain, 0, &all), Ok(to), "known already");
        assert_eq!(
            link(&chain, 19, &all[19..]),
            Ok(Linked::To { fork: 19, height: 20, tip: stub.tip_hash() })
        );
        assert_eq!(link(&chain, 0, &[all[3], all[5]]), Err("headers that do not link"));

        let fork = *stub.at(15).unwrap().hash();
        let old = stub.tip_hash();
        stub.mine_on(&fork, 6, 1_700_000_200).unwrap();
        let branch = headers(&stub, 16);
        assert_eq!(link(&chain, 20, &branch[..5]), Ok(Linked::Beside), "no longer than what is known");
        assert_eq!(chain.tip(), (20, old));
        assert_eq!(link(&chain, 20, &branch), Ok(Linked::To { fork: 15, height: 21, tip: stub.tip_hash() }));
        assert_eq!(link(&chain, 21, &[[7; 80]]), Ok(Linked::Unknown));
        let mut torn = all[0];
        torn[70] ^= 1;
        while sha256d(&torn)[31] < 0x80 {
            torn[76] = torn[76].wrapping_add(1);
        }
        assert_eq!(link(&chain, 0, &[torn]), Err("a header without proof of work"));
    }

    #[test]
    fn filter_headers_must_be_those_that_others_were_told() {
        let mut stub = StubChain::new(1, 1_700_000_000);
        stub.grow(9, 1_700_000_100);
        let chain = Chain::new(MAGIC);
        link(&chain, 0, &headers(&stub, 1)).unwrap();
        let hashes: Vec<Hash> = (0..=9).map(|height| *stub.at(height).unwrap().filter_hash()).collect();
        let stop = stub.tip_hash();
        assert_eq!(chain.filter_headers(0, &stop, &[0; 32], hashes.iter()), Ok(()));
        assert_eq!(chain.filter_headers(0, &stop, &[0; 32], hashes.iter()), Ok(()));
        let fifth = *stub.at(5).unwrap().filter_header();
        assert_eq!(chain.filter_headers(6, &stop, &fifth, hashes[6..].iter()), Ok(()));
        assert!(chain.filter_headers(6, &stop, &[9; 32], hashes[6..].iter()).is_err());
        assert!(chain.filter_headers(5, &stop, &fifth, hashes[5..].iter()).is_err());
        let mut others = hashes.clone();
        others[4] = [1; 32];
        assert!(chain.filter_headers(0, &stop, &[0; 32], others.iter()).is_err());
        let filter = stub.at(3).unwrap().cfilter_message().slice(24 + 34..);
        assert!(chain.filter_fits(3, &filter) && !chain.filter_fits(4, &filter[1..]));
    }
}
