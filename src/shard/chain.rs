//! Requests answered from the shard's picture of the chain: headers, block hashes, filter headers, checkpoints.

use super::active::{FilterRequest, Waiting};
use super::core::Core;
use crate::base::limits::{
    CFCHECKPT_INTERVAL, HEADER_LEN, MAX_CFHEADERS, MAX_CFILTERS, MAX_GETBLOCKS, MAX_HEADERS,
    ON_DEMAND_TIMEOUT,
};
use crate::base::{ClientId, End};
use crate::client::Flags;
use crate::feed::chain_view::HEADER_BYTES;
use crate::link::Want;
use crate::wire::{Hash, HashList, Inv, InvKind, Services, write};

impl Core {
    /// `getheaders`: up to 2,000 headers behind the fork, to `stop`. With an empty locator the one header named by
    /// `stop`. An empty list says that the client is at our tip.
    pub(super) fn get_headers(
        &mut self,
        id: ClientId,
        locator: HashList<'_>,
        stop: &Hash,
        out: &mut Vec<u8>,
    ) {
        let view = self.view.clone();
        let (first, last) = if locator.is_empty() {
            let Some(height) = view.height(stop) else { return };
            (height, height)
        } else {
            let first = view.find_fork(locator) + 1;
            let end = view.height(stop).unwrap_or(u32::MAX).min(view.tip_height());
            (first, end.min(first + MAX_HEADERS as u32 - 1))
        };
        let count = (last + 1).saturating_sub(first) as usize;
        self.pool.enlarge(out, HEADER_LEN + 3 + count * (HEADER_BYTES + 1));
        write::message(out, self.config.magic, "headers", |out| {
            write::compact(out, count as u64);
            for header in (first..=last).filter_map(|height| view.header(height)) {
                out.extend_from_slice(header);
                out.push(0);
            }
        });
        self.counters.served_local += 1;
        if !locator.is_empty() && last.max(first - 1) >= view.tip_height() {
            self.is_at_tip(id);
        }
    }

    /// The client's headers reach our tip: from here on it is told of each block in the form it wants.
    fn is_at_tip(&mut self, id: ClientId) {
        let (head, filtered) = self.heads();
        let Some(client) = self.clients.get_mut(id) else { return };
        client.flags |= Flags::SYNCED;
        // A client with filters still hears of the tip when its filter comes.
        client.blocks = if client.is(Flags::FILTERS) { filtered } else { head };
    }

    /// `getblocks`: up to 500 hashes behind the fork, to `stop`.
    ///
    /// When the answer stops short of our tip, an inv of the tip follows once its last block has been fetched: that is what
    /// makes a client without headers (bitcoinj) ask for the next 500, as with Bitcoin Core.
    pub(super) fn get_blocks(&mut self, id: ClientId, locator: HashList<'_>, stop: &Hash, out: &mut Vec<u8>) {
        let view = self.view.clone();
        let first = view.find_fork(locator) + 1;
        let end = view.height(stop).unwrap_or(u32::MAX).min(view.tip_height());
        let last = end.min(first + MAX_GETBLOCKS as u32 - 1);
        if last < first {
            return;
        }
        let invs: Vec<Inv> = (first..=last)
            .filter_map(|height| view.hash(height))
            .map(|hash| Inv { kind: InvKind::Block, hash: *hash })
            .collect();
        write::inventory(out, self.config.magic, "inv", invs.into_iter());
        self.counters.served_local += 1;
        if let Some(client) = self.clients.get_mut(id) {
            client.continue_at = if last < end { last + 1 } else { 0 };
        }
    }

    /// `getcfilters`: passed to the hub, which knows where filters lie.
    pub(super) fn get_filters(&mut self, id: ClientId, start: u32, stop: &Hash) -> Result<(), End> {
        let Some(last) = self.filter_range(start, stop, MAX_CFILTERS)? else { return Ok(()) };
        if self.waits_for_filter(id, last, FilterRequest::Filters { start, stop: *stop }) {
            return Ok(());
        }
        self.want(id, Want::Filters { start, stop: last }, None);
        Ok(())
    }

    /// `getcfheaders`: the filter header before `start`, then filter hashes.
    pub(super) fn get_filter_headers(
        &mut self,
        id: ClientId,
        start: u32,
        stop: &Hash,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        let Some(last) = self.filter_range(start, stop, MAX_CFHEADERS)? else { return Ok(()) };
        if self.waits_for_filter(id, last, FilterRequest::Headers { start, stop: *stop }) {
            return Ok(());
        }
        let view = &self.view;
        let previous = match start.checked_sub(1) {
            Some(before) => view.filter(before).map(|f| *f.0).unwrap_or([0; 32]),
            None => [0; 32],
        };
        write::message(out, self.config.magic, "cfheaders", |out| {
            out.push(0);
            out.extend_from_slice(stop);
            out.extend_from_slice(&previous);
            write::compact(out, u64::from(last + 1 - start));
            for (_, hash) in (start..=last).filter_map(|height| view.filter(height)) {
                out.extend_from_slice(hash);
            }
        });
        self.counters.served_local += 1;
        Ok(())
    }

    /// `getcfcheckpt`: the filter headers at every thousandth height up to `stop`.
    pub(super) fn get_checkpoints(
        &mut self,
        id: ClientId,
        stop: &Hash,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        let Some(last) = self.filter_range(0, stop, u32::MAX)? else { return Ok(()) };
        if self.waits_for_filter(id, last, FilterRequest::Checkpoints { stop: *stop }) {
            return Ok(());
        }
        let view = &self.view;
        write::message(out, self.config.magic, "cfcheckpt", |out| {
            out.push(0);
            out.extend_from_slice(stop);
            write::compact(out, u64::from(last / CFCHECKPT_INTERVAL));
            for n in 1..=last / CFCHECKPT_INTERVAL {
                if let Some((header, _)) = view.filter(n * CFCHECKPT_INTERVAL) {
                    out.extend_from_slice(header);
                }
            }
        });
        self.counters.served_local += 1;
        Ok(())
    }

    /// The last height of a filter request. BIP157: an unknown stop hash or a range out of order or too long ends the
    /// client. `None`: it asks in good faith for what is not to be had any more, and gets no answer.
    fn filter_range(&mut self, start: u32, stop: &Hash, most: u32) -> Result<Option<u32>, End> {
        if !self.policy.services.contains(Services::COMPACT_FILTERS) && !self.filters_promised {
            return Err(End::FiltersNotServed);
        }
        let Some(last) = self.view.height(stop) else {
            // The block we announced ourselves has left the best chain while the request was on its way.
            if self.blocks.has_announced(stop) {
                self.counters.wants_missing += 1;
                return Ok(None);
            }
            return Err(End::BadFilterRequest);
        };
        if start > last || last - start >= most {
            return Err(End::BadFilterRequest);
        }
        Ok(Some(last))
    }

    /// A block's filter comes a moment after the block: a request for it waits rather than going unanswered.
    fn waits_for_filter(&mut self, id: ClientId, last: u32, request: FilterRequest) -> bool {
        if last <= self.blocks.filters_to() && self.view.filter(last).is_some() {
            return false;
        }
        self.wait_for(id, Waiting::Filter { request, since: self.now });
        self.filter_waiters.push(id);
        true
    }

    /// Filters have come, or time has passed: the waiting requests are tried again.
    pub(super) fn retry_filters(&mut self) {
        for id in std::mem::take(&mut self.filter_waiters) {
            let now = self.now;
            let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) else { continue };
            let Some(Waiting::Filter { request, since }) = active.waiting.take() else { continue };
            if now.since(since) >= ON_DEMAND_TIMEOUT {
                // As Bitcoin Core while its index lags: no answer.
                self.counters.wants_missing += 1;
                self.flow(id);
                continue;
            }
            let mut out = Vec::new();
            // A reorganisation may have removed the block asked for: nobody is to blame, nothing is answered.
            let _ = match request {
                FilterRequest::Filters { start, stop } => self.get_filters(id, start, &stop),
                FilterRequest::Headers { start, stop } => self.get_filter_headers(id, start, &stop, &mut out),
                FilterRequest::Checkpoints { stop } => self.get_checkpoints(id, &stop, &mut out),
            };
            if let Some(Waiting::Filter { since: again, .. }) =
                self.clients.get_mut(id).and_then(|c| c.active.as_mut()).and_then(|a| a.waiting.as_mut())
            {
                *again = since;
            }
            self.push_message(id, |pending| pending.extend_from_slice(&out));
        }
    }
}
