//! The best chain of headers a client knows. The old part is shared, so that a thousand clients keep it once.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::consensus::params::Params;
use bitcoin::hashes::Hash as _;
use bitcoin::{Network, Target, Work};

use super::Broken;
use crate::wire::{Hash, Magic, sha256d};

/// A header and its hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// As on the wire.
    pub header: [u8; 80],
    /// Its hash.
    pub hash: Hash,
}

/// Headers from genesis to a tip.
#[derive(Clone, Debug)]
pub struct Headers {
    base: Arc<[Entry]>,
    /// How much of `base` is still in the best chain; at least genesis.
    base_len: usize,
    own: Vec<Entry>,
    /// Easiest target of the network.
    limit: Target,
}

/// What came of adding headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Connected {
    /// The first does not connect to the best chain known.
    Unknown,
    /// All known, or a branch with no more work.
    Nothing,
    /// There is a new tip; `fork` is the height of the last block kept.
    Moved { fork: u32 },
}

impl Headers {
    /// The genesis block of the network with this magic; of regtest for an unknown one.
    pub fn genesis(magic: Magic) -> Headers {
        let network = Network::from_magic(bitcoin::p2p::Magic::from_bytes(magic)).unwrap_or(Network::Regtest);
        let block = bitcoin::constants::genesis_block(network);
        let mut header = [0; 80];
        header.copy_from_slice(&bitcoin::consensus::serialize(&block.header));
        let hash = block.block_hash().to_byte_array();
        let limit = Params::new(network).max_attainable_target;
        Headers { base: Arc::new([Entry { header, hash }]), base_len: 1, own: Vec::new(), limit }
    }

    /// The same headers, all of them in the shared part.
    pub fn share(&self) -> Headers {
        let base: Arc<[Entry]> = self.base[..self.base_len].iter().chain(&self.own).copied().collect();
        Headers { base_len: base.len(), base, own: Vec::new(), limit: self.limit }
    }

    /// Height of the tip.
    pub fn height(&self) -> u32 {
        (self.base_len + self.own.len()) as u32 - 1
    }

    /// Hash of the tip.
    pub fn tip(&self) -> &Hash {
        self.own.last().map_or(&self.base[self.base_len - 1].hash, |entry| &entry.hash)
    }

    /// The header at a height.
    pub fn at(&self, height: u32) -> Option<&Entry> {
        let height = height as usize;
        match height.checked_sub(self.base_len) {
            Some(own) => self.own.get(own),
            None => self.base.get(height),
        }
    }

    /// The hash at a height.
    pub fn hash(&self, height: u32) -> Option<&Hash> {
        self.at(height).map(|entry| &entry.hash)
    }

    /// The height of a hash of the best chain. Looks from the tip downwards: what is asked for is near it.
    pub fn find(&self, hash: &Hash) -> Option<u32> {
        (0..=self.height()).rev().find(|height| self.hash(*height) == Some(hash))
    }

    /// Ten steps of one, then doubling, genesis last.
    pub(super) fn locator(&self) -> Vec<Hash> {
        crate::feed::chain_view::locator(self.height(), |height| self.hash(height).copied())
    }

    /// Adds headers that link to one another; follows them when they have more work.
    pub(super) fn connect(&mut self, raw: &[[u8; 80]]) -> Result<Connected, Broken> {
        let mut new = Vec::with_capacity(raw.len());
        let mut work = Vec::with_capacity(raw.len());
        for header in raw {
            let (entry, gain) = self.check(header)?;
            if new.last().is_some_and(|last: &Entry| last.hash[..] != header[4..36]) {
                return Err(Broken::Header(entry.hash));
            }
            new.push(entry);
            work.push(gain);
        }
        let Some(parent) = raw.first().and_then(|first| first[4..36].first_chunk::<32>()) else {
            return Ok(Connected::Nothing);
        };
        let Some(mut fork) = self.find(parent) else { return Ok(Connected::Unknown) };
        let known = new.iter().take_while(|entry| {
            let same = self.hash(fork + 1) == Some(&entry.hash);
            fork += u32::from(same);
            same
        });
        let known = known.count();
        if known == new.len() || sum(work[known..].iter().copied()) <= sum(self.work_above(fork)) {
            return Ok(Connected::Nothing);
        }
        let keep = fork as usize + 1;
        self.own.truncate(keep.saturating_sub(self.base_len));
        self.base_len = self.base_len.min(keep);
        self.own.extend_from_slice(&new[known..]);
        Ok(Connected::Moved { fork })
    }

    fn check(&self, raw: &[u8; 80]) -> Result<(Entry, Work), Broken> {
        let hash = sha256d(raw);
        let header: Header = deserialize(raw).map_err(|_| Broken::Header(hash))?;
        let target = header.target();
        if target > self.limit || header.validate_pow(target).is_err() {
            return Err(Broken::Header(hash));
        }
        Ok((Entry { header: *raw, hash }, header.work()))
    }

    fn work_above(&self, fork: u32) -> impl Iterator<Item = Work> + '_ {
        let entries = (fork + 1..=self.height()).filter_map(|height| self.at(height));
        entries.filter_map(|entry| deserialize::<Header>(&entry.header).ok()).map(|header| header.work())
    }
}

/// Work added up; `None` for no work, which is less than any.
fn sum(mut work: impl Iterator<Item = Work>) -> Option<Work> {
    let first = work.next()?;
    Some(work.fold(first, |sum, more| sum + more))
}
