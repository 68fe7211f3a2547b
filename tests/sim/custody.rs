//! Reads along on a link from the hub to a node and counts the transactions it submits.

use std::collections::BTreeSet;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use breakwater::base::Instant;
use breakwater::wire::{Hash, Message};

use super::truth::Truth;
use super::witness::each;

/// Listens to what the hub says on one link.
#[derive(Debug)]
pub struct Ear {
    /// Number of the node it leads to.
    node: u32,
    stream: Vec<u8>,
    /// Transactions it has announced: the node asks for them, perhaps twice.
    announced: BTreeSet<Hash>,
}

impl Ear {
    pub fn new(node: u32) -> Ear {
        Ear { node, stream: Vec::new(), announced: BTreeSet::new() }
    }

    /// The hub sends. What counts is when it decides, not when it arrives.
    pub fn hear(&mut self, now: Instant, bytes: &[u8], truth: &mut Truth) -> Result<(), String> {
        self.stream.extend_from_slice(bytes);
        let node = self.node;
        each(&mut self.stream, |message| submission(now, node, &message, &mut self.announced, truth))
    }
}

/// Counts the transactions the hub submits: by announcing them, or by sending them unasked.
fn submission(
    now: Instant,
    node: u32,
    message: &Message<'_>,
    announced: &mut BTreeSet<Hash>,
    truth: &mut Truth,
) -> Result<(), String> {
    match message {
        Message::Inv(list) => {
            for inv in list.iter().filter(|inv| inv.kind.is_tx()) {
                announced.insert(inv.hash);
                truth.submit(now, node, inv.hash)?;
            }
        }
        Message::Tx(payload) => {
            let tx: Transaction =
                deserialize(payload).map_err(|e| format!("the hub sent a tx that does not decode: {e}"))?;
            let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
            if !announced.contains(&wtxid) && !announced.contains(&txid) {
                truth.submit(now, node, wtxid)?;
            }
        }
        _ => {}
    }
    Ok(())
}
