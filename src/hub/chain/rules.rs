//! What a header must fulfil by itself and with its ancestors.
//!
//! Checked: proof of work against the header's own bits, bits against the network's limit, the retarget rule on
//! mainnet, time not too far ahead. Not checked: the median-time rule and versions; the node behind does that, and
//! they cost an attacker nothing more than the proof of work already has.

use bitcoin::hashes::Hash as _;
use bitcoin::params::Params;
use bitcoin::{BlockHash, CompactTarget, Network, Target, Work};

use super::HeaderError;
use crate::wire::Hash;

/// Hash of the block before.
pub(super) fn previous(header: &[u8; 80]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(&header[4..36]);
    hash
}

/// Unix time of a header, seconds.
pub(super) fn time(header: &[u8; 80]) -> u32 {
    u32::from_le_bytes([header[68], header[69], header[70], header[71]])
}

/// The compact target of a header.
pub(super) fn bits(header: &[u8; 80]) -> u32 {
    u32::from_le_bytes([header[72], header[73], header[74], header[75]])
}

/// The rules of one network, with the last compact target's meaning remembered: it is the same for 2,016 blocks.
#[derive(Debug)]
pub(super) struct Rules {
    params: Params,
    network: Network,
    last: (u32, Option<(Target, Work)>),
}

impl Rules {
    pub(super) fn new(network: Network) -> Rules {
        Rules { params: Params::new(network), network, last: (0, None) }
    }

    /// Target and work of a compact target; `None` when it is zero, negative, too large for 256 bits or above the
    /// network's limit.
    fn meaning(&mut self, bits: u32) -> Option<(Target, Work)> {
        if self.last.0 != bits {
            self.last = (bits, self.decode(bits));
        }
        self.last.1
    }

    fn decode(&self, bits: u32) -> Option<(Target, Work)> {
        let (size, mantissa) = (bits >> 24, bits & 0x7f_ffff);
        // rust-bitcoin's shift wraps where Bitcoin Core's SetCompact reports an overflow.
        let overflow = size > 34 || (mantissa > 0xff && size > 33) || (mantissa > 0xffff && size > 32);
        let target = Target::from_compact(CompactTarget::from_consensus(bits));
        let fits = !overflow && target != Target::ZERO && target <= self.params.max_attainable_target;
        fits.then(|| (target, target.to_work()))
    }

    /// The work a header stands for; zero for bits that are no target.
    pub(super) fn work(&mut self, header: &[u8; 80]) -> Work {
        self.meaning(bits(header)).map_or_else(no_work, |(_, work)| work)
    }

    /// Checks the header's hash against its bits and its bits against the network's limit.
    pub(super) fn check_pow(&mut self, header: &[u8; 80], hash: &Hash) -> Result<Work, HeaderError> {
        match self.meaning(bits(header)) {
            Some((target, work)) if target.is_met_by(BlockHash::from_byte_array(*hash)) => Ok(work),
            _ => Err(HeaderError::BadPow(*hash)),
        }
    }

    /// True exactly when the retarget rule is checked: on mainnet only. Testnets allow blocks of least difficulty by the
    /// clock, testnet4 changes the formula (BIP94), signets may bring their own limit, and on all of them
    /// the chain costs its maker so little that the rule would protect nothing; regtest never retargets.
    pub(super) fn retargets(&self) -> bool {
        self.network == Network::Bitcoin
    }

    /// Blocks between retargets.
    pub(super) fn interval(&self) -> u32 {
        u32::try_from(self.params.difficulty_adjustment_interval()).unwrap_or(2_016).max(1)
    }

    /// The bits of the first block of a period, from the last header of the period before and that period's first.
    pub(super) fn next_bits(&self, first: &[u8; 80], last: &[u8; 80]) -> u32 {
        let span = u64::from(time(last).saturating_sub(time(first)));
        CompactTarget::from_next_work_required(CompactTarget::from_consensus(bits(last)), span, &self.params)
            .to_consensus()
    }
}

/// No work at all.
pub(super) fn no_work() -> Work {
    Work::from_be_bytes([0; 32])
}
