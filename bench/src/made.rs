//! Blocks and transactions made up for announcements. They link and hash as real ones do; nobody validates them.

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use breakwater::feed::blocks::{headers_message, inv_message};
use breakwater::feed::{BlockNews, ChainView, Record, TxNews};
use breakwater::link::{ToShard, monotonic};
use breakwater::wire::{Hash, sha256d, write};
use bytes::Bytes;

use crate::MAGIC;

/// Headers on the chain before the first announcement: more than one `headers` message holds.
const START: u32 = 2_100;
/// Records kept when new blocks come: the view is copied for each, as the hub does with its recent part.
const MOST: usize = 8_192;

/// A chain that grows.
#[derive(Debug)]
pub(crate) struct Chain {
    records: Vec<Record>,
    salt: u32,
    heights: HashMap<Hash, usize>,
}

impl Chain {
    pub(crate) fn new() -> Chain {
        let mut chain = Chain { records: Vec::new(), salt: 0, heights: HashMap::new() };
        (0..START).for_each(|_| chain.grow());
        chain
    }

    /// No chain at all, for a shard that is told of another's.
    pub(crate) fn none() -> Chain {
        Chain { records: Vec::new(), salt: 0, heights: HashMap::new() }
    }

    fn grow(&mut self) {
        let mut header = [0u8; 80];
        header[0] = 4;
        if let Some(last) = self.records.last() {
            header[4..36].copy_from_slice(&last.hash);
        }
        self.salt += 1;
        header[76..80].copy_from_slice(&self.salt.to_le_bytes());
        self.records.push(Record { header, hash: sha256d(&header), filter: None });
    }

    /// The hash of the tip.
    pub(crate) fn tip(&self) -> Hash {
        self.records.last().map_or([0; 32], |record| record.hash)
    }

    /// The hash at a height, zeros above the tip.
    pub(crate) fn hash(&self, height: usize) -> Hash {
        self.records.get(height).map_or([0; 32], |record| record.hash)
    }

    /// Makes [`Chain::height`] know all blocks so far.
    pub(crate) fn index(&mut self) {
        self.heights =
            self.records.iter().enumerate().map(|(height, record)| (record.hash, height)).collect();
    }

    /// The height of a block.
    pub(crate) fn height(&self, hash: &Hash) -> Option<usize> {
        self.heights.get(hash).copied()
    }

    fn view(&self) -> Arc<ChainView> {
        Arc::new(ChainView::new(Arc::default(), self.records.clone()))
    }

    /// The chain as it is, for a shard that starts.
    pub(crate) fn introduction(&self) -> ToShard {
        ToShard::Chain { view: self.view(), blocks: Arc::from(Vec::new()), had: monotonic() }
    }

    /// One block more, and its announcement. The height stands still once the chain is long.
    pub(crate) fn block(&mut self) -> ToShard {
        self.large_block(0)
    }

    /// As [`Chain::block`], with so many bytes behind the header.
    pub(crate) fn large_block(&mut self, bytes: usize) -> ToShard {
        if self.records.len() >= MOST {
            self.records.pop();
        }
        self.grow();
        let height = self.records.len() as u32 - 1;
        let (hash, header) = self.records.last().map_or(([0; 32], [0; 80]), |r| (r.hash, r.header));
        let mut block = Vec::new();
        let mut payload = header.to_vec();
        payload.resize(header.len() + bytes, 0x5a);
        write::raw(&mut block, MAGIC, "block", &payload);
        let news = BlockNews {
            hash,
            height,
            header,
            block: Bytes::from(block),
            tx_offsets: Box::default(),
            cmpct: Bytes::new(),
            headers_message: headers_message(MAGIC, &header),
            inv_message: inv_message(MAGIC, &hash),
        };
        ToShard::Chain { view: self.view(), blocks: Arc::from(vec![Arc::new(news)]), had: monotonic() }
    }
}

/// A transaction that pays from nowhere to nowhere, of about 110 bytes; each number gives another one.
pub(crate) fn tx(number: u64) -> Arc<TxNews> {
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
    let mut from = [7u8; 32];
    from[..8].copy_from_slice(&number.to_le_bytes());
    let tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array(from), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[1u8; 20]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(1_000), script_pubkey: ScriptBuf::new() }],
    };
    let mut message = Vec::new();
    write::raw(&mut message, MAGIC, "tx", &serialize(&tx));
    Arc::new(TxNews {
        txid: tx.compute_txid().to_byte_array(),
        wtxid: tx.compute_wtxid().to_byte_array(),
        message: Bytes::from(message),
        origin: None,
    })
}
