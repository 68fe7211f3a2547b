//! Filters on request (BIP157), and an index that lags behind the tip when the options say so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Dropped, PeerId, StubNode};
use crate::base::Instant;
use crate::base::limits::{CFCHECKPT_INTERVAL, MAX_CFHEADERS, MAX_CFILTERS};
use crate::stub::{MAGIC, StubBlock, StubChain};
use crate::wire::{Hash, write};

/// Which blocks are not indexed yet.
#[derive(Debug)]
pub(super) struct FilterIndex {
    /// The tip at the last look.
    seen: Hash,
    /// Blocks and when they will be indexed.
    late: BTreeMap<Hash, Instant>,
}

impl FilterIndex {
    /// Everything up to `tip` is indexed.
    pub(super) fn new(tip: Hash) -> FilterIndex {
        FilterIndex { seen: tip, late: BTreeMap::new() }
    }

    /// Begins to index blocks that came since the last look.
    pub(super) fn notice(&mut self, chain: &StubChain, now: Instant, delay: Duration) {
        self.late.retain(|_, ready| *ready > now);
        if self.seen == chain.tip_hash() {
            return;
        }
        if delay > Duration::ZERO {
            let start = chain.block(&self.seen).map_or(0, |block| chain.fork(block).height() + 1);
            let new = chain.branch(start, chain.tip());
            self.late.extend(new.iter().map(|block| (*block.hash(), now + delay)));
        }
        self.seen = chain.tip_hash();
    }

    fn has(&self, block: &Arc<StubBlock>, now: Instant) -> bool {
        self.late.get(block.hash()).is_none_or(|ready| *ready <= now)
    }
}

impl StubNode {
    pub(super) fn get_cfilters(&mut self, now: Instant, to: PeerId, kind: u8, start: u32, stop: &Hash) {
        let Some(stop) = self.filter_range(now, to, kind, (start, MAX_CFILTERS), stop) else { return };
        for block in self.chain.branch(start, &stop) {
            self.counters.filters_served += 1;
            self.send(to, block.cfilter_message().clone());
        }
    }

    pub(super) fn get_cfheaders(&mut self, now: Instant, to: PeerId, kind: u8, start: u32, stop: &Hash) {
        let Some(stop) = self.filter_range(now, to, kind, (start, MAX_CFHEADERS), stop) else { return };
        let blocks = self.chain.branch(start, &stop);
        let Some(first) = blocks.first() else { return };
        let previous = self.chain.block(first.parent()).map_or([0; 32], |parent| *parent.filter_header());
        self.write(to, |out| {
            let hashes = blocks.iter().map(|block| block.filter_hash());
            write::cfheaders(out, MAGIC, stop.hash(), &previous, hashes);
        });
    }

    pub(super) fn get_cfcheckpt(&mut self, now: Instant, to: PeerId, kind: u8, stop: &Hash) {
        let Some(stop) = self.filter_range(now, to, kind, (0, u32::MAX), stop) else { return };
        let blocks = self.chain.branch(CFCHECKPT_INTERVAL, &stop);
        self.write(to, |out| {
            let points: Vec<&Hash> = blocks
                .iter()
                .step_by(CFCHECKPT_INTERVAL as usize)
                .map(|block| block.filter_header())
                .collect();
            write::cfcheckpt(out, MAGIC, stop.hash(), points.into_iter());
        });
    }

    /// The last block of a request, `None` when it gets no answer. `range`: first height and most blocks.
    fn filter_range(
        &mut self,
        now: Instant,
        from: PeerId,
        kind: u8,
        range: (u32, u32),
        stop: &Hash,
    ) -> Option<Arc<StubBlock>> {
        let (start, most) = range;
        let block = self.chain.block(stop).cloned();
        let fits = |block: &Arc<StubBlock>| block.height().checked_sub(start).is_some_and(|span| span < most);
        match block.filter(|block| self.options.filters && kind == 0 && fits(block)) {
            Some(block) => self.index.has(&block, now).then_some(block),
            None => {
                self.drop_peer(now, from, Dropped::FilterRequest);
                None
            }
        }
    }
}
