//! What is true in a run, whoever has heard of it: what nodes accepted, what was submitted to them, what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use breakwater::base::Instant;
use breakwater::base::limits::RECENT_VERDICT_TIME;
use breakwater::feed::ChainView;
use breakwater::link::ToShard;
use breakwater::wire::Hash;

/// The run's book of facts.
#[derive(Debug, Default)]
pub struct Truth {
    /// Transactions some node accepted, by txid and by wtxid.
    accepted: BTreeSet<Hash>,
    /// Blocks some node accepted, with their heights.
    blocks: BTreeMap<Hash, u32>,
    /// The picture the hub gave last.
    view: Option<Arc<ChainView>>,
    /// Blocks whose filters the hub has said can be served.
    served: BTreeSet<Hash>,
    /// Times a link between the hub and a node was lost, hub restarts included.
    pub link_losses: u64,
    /// For each transaction and node it was submitted to, `link_losses` when it last was, and when that was.
    submitted: BTreeMap<(Hash, u32), (u64, Instant)>,
}

impl Truth {
    /// A node has accepted a transaction.
    pub fn accept_tx(&mut self, txid: Hash, wtxid: Hash) {
        self.accepted.extend([txid, wtxid]);
    }

    /// A node has accepted a block.
    pub fn accept_block(&mut self, hash: Hash, height: u32) {
        self.blocks.insert(hash, height);
    }

    /// True exactly when some node has accepted the transaction.
    pub fn is_accepted(&self, hash: &Hash) -> bool {
        self.accepted.contains(hash)
    }

    /// The height of a block that some node has accepted.
    pub fn height(&self, hash: &Hash) -> Option<u32> {
        self.blocks.get(hash).copied()
    }

    /// The hub tells shards something.
    pub fn told(&mut self, entry: &ToShard) {
        match entry {
            ToShard::Chain { view, .. } => self.view = Some(view.clone()),
            ToShard::FiltersTo(to) => {
                let Some(view) = &self.view else { return };
                let hashes = (0..=*to).rev().filter_map(|height| view.hash(height));
                let new: Vec<Hash> =
                    hashes.take_while(|hash| !self.served.contains(*hash)).copied().collect();
                self.served.extend(new);
            }
            _ => {}
        }
    }

    /// The relay's process has ended: what it had promised is void.
    pub fn relay_lost(&mut self) {
        self.link_losses += 1;
        self.view = None;
    }

    /// True exactly when the block is in the chain that the hub gave last.
    pub fn is_best(&self, block: &Hash) -> bool {
        self.view.as_ref().is_some_and(|view| view.height(block).is_some())
    }

    /// True exactly when the hub has said that the block's filter can be served.
    pub fn is_served(&self, block: &Hash) -> bool {
        self.served.contains(block)
    }

    /// The hub hands a transaction to a node. After `RECENT_VERDICT_TIME` it may have forgotten that it did.
    pub fn submit(&mut self, now: Instant, node: u32, wtxid: Hash) -> Result<(), String> {
        match self.submitted.insert((wtxid, node), (self.link_losses, now)) {
            Some((losses, at)) if losses == self.link_losses && now.since(at) < RECENT_VERDICT_TIME => Err(
                format!("transaction {} submitted to node {node} twice without a link loss", short(&wtxid)),
            ),
            _ => Ok(()),
        }
    }

    /// True exactly when a node has been given the transaction; it may have refused it (a parent it does not know).
    pub fn is_submitted(&self, wtxid: &Hash) -> bool {
        self.submitted.range((*wtxid, 0)..=(*wtxid, u32::MAX)).next().is_some()
    }

    /// Number of submissions, each node apart.
    pub fn submissions(&self) -> usize {
        self.submitted.len()
    }
}

/// The first digits of a hash as people write it.
pub fn short(hash: &Hash) -> String {
    breakwater::wire::display(hash)[56..].to_owned()
}
