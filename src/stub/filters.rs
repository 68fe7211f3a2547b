//! BIP158 basic filters and BIP157 filter headers of the blocks made here.

use std::collections::HashMap;

use bitcoin::bip158::BlockFilter;
use bitcoin::{Block, OutPoint};

use super::script::Lock;
use crate::wire::{Hash, sha256d};

/// The basic filter of a block. `spent` holds the locks of the outputs the block spends; one that is missing counts
/// as `Lock::True`.
pub(super) fn basic(block: &Block, spent: &HashMap<OutPoint, Lock>) -> Vec<u8> {
    let script = |at: &OutPoint| Ok(spent.get(at).copied().unwrap_or(Lock::True).output_script());
    // The look-up always answers and writing to memory cannot fail, so there is no error to report. An empty
    // filter would be noticed by every client here.
    BlockFilter::new_script_filter(block, script).map(|filter| filter.content).unwrap_or_default()
}

/// The header of a filter: hash of the filter's hash and the header before (BIP157).
pub fn chain_header(filter_hash: &Hash, previous: &Hash) -> Hash {
    let mut bytes = [0u8; 64];
    bytes[..32].copy_from_slice(filter_hash);
    bytes[32..].copy_from_slice(previous);
    sha256d(&bytes)
}
