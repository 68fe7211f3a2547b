//! A light client: filter headers, then filters, then some of the blocks (BIP157).
//!
//! One request of each sort is in flight at a time. Answers to questions that a reorganisation has overtaken are
//! recognised by their block and ignored.

use std::collections::VecDeque;

use bitcoin::bip158::BlockFilter;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Block, BlockHash};

use super::{Broken, Event, Headers, RETRY};
use crate::base::Instant;
use crate::base::limits::{MAX_CFHEADERS, MAX_CFILTERS};
use crate::stub::filters::chain_header;
use crate::wire::{Hash, HashList, Inv, InvKind, Magic, Message, sha256d, write};

/// Blocks asked for and not yet here.
const MAX_BLOCKS: usize = 16;

/// What a light client keeps.
#[derive(Debug)]
pub(super) struct Light {
    every: u32,
    /// Height of the first filter asked for.
    first: u32,
    /// Filter header and filter hash from `first` on.
    chain: Vec<(Hash, Hash)>,
    /// Height of the next filter.
    next: u32,
    /// The `getcfheaders` in flight: its stop hash and when it is repeated.
    headers_asked: Option<(Hash, Instant)>,
    /// The `getcfilters` in flight: its last height and when it is repeated.
    filters_asked: Option<(u32, Instant)>,
    /// Blocks to fetch with their filters; at most one range of filters more than are fetched.
    blocks: VecDeque<Fetch>,
}

#[derive(Debug)]
struct Fetch {
    height: u32,
    hash: Hash,
    filter: Vec<u8>,
    /// When it is asked for again, once it was.
    due: Option<Instant>,
}

impl Light {
    pub(super) fn new(every: u32, first: u32) -> Light {
        Light {
            every,
            first,
            chain: Vec::new(),
            next: first,
            headers_asked: None,
            filters_asked: None,
            blocks: VecDeque::new(),
        }
    }

    pub(super) fn forget_questions(&mut self) {
        (self.headers_asked, self.filters_asked) = (None, None);
        self.blocks.iter_mut().for_each(|fetch| fetch.due = None);
    }

    pub(super) fn filters_to(&self) -> Option<u32> {
        self.next.checked_sub(1).filter(|height| *height >= self.first)
    }

    /// Blocks above `fork` have left the best chain.
    pub(super) fn reorganised(&mut self, fork: u32) {
        if fork + 1 < self.first {
            // Below what was trusted: begins anew at the fork.
            (self.first, self.next) = (fork, fork);
            self.chain.clear();
            (self.headers_asked, self.filters_asked) = (None, None);
            self.blocks.clear();
        }
        let keep = (fork + 1 - self.first) as usize;
        if self.chain.len() > keep {
            self.chain.truncate(keep);
            self.next = self.next.min(fork + 1);
            self.blocks.retain(|fetch| fetch.height <= fork);
            (self.headers_asked, self.filters_asked) = (None, None);
        }
    }

    pub(super) fn wake(&self) -> Instant {
        let blocks = self.blocks.iter().filter_map(|fetch| fetch.due);
        let headers = self.headers_asked.map(|(_, due)| due);
        let filters = self.filters_asked.map(|(_, due)| due);
        blocks.chain(headers).chain(filters).min().unwrap_or(Instant::FAR)
    }

    /// Repeats what was not answered.
    pub(super) fn tick(&mut self, now: Instant, magic: Magic, headers: &Headers, out: &mut Vec<u8>) {
        self.headers_asked = self.headers_asked.filter(|(_, due)| *due > now);
        self.filters_asked = self.filters_asked.filter(|(_, due)| *due > now);
        self.blocks.iter_mut().for_each(|fetch| fetch.due = fetch.due.filter(|due| *due > now));
        self.advance(now, magic, headers, out);
    }

    /// Asks for what comes next.
    pub(super) fn advance(&mut self, now: Instant, magic: Magic, headers: &Headers, out: &mut Vec<u8>) {
        let due = now + RETRY;
        let start = self.first + self.chain.len() as u32;
        if self.headers_asked.is_none() && start <= headers.height() {
            let stop = headers.height().min(start + MAX_CFHEADERS - 1);
            if let Some(stop) = headers.hash(stop) {
                write::filter_request(out, magic, "getcfheaders", start, stop);
                self.headers_asked = Some((*stop, due));
            }
        }
        if self.filters_asked.is_none() && self.next < start && self.blocks.len() < MAX_BLOCKS {
            let stop = (start - 1).min(self.next + MAX_CFILTERS - 1);
            if let Some(hash) = headers.hash(stop) {
                write::filter_request(out, magic, "getcfilters", self.next, hash);
                self.filters_asked = Some((stop, due));
            }
        }
        let mut ask = Vec::new();
        for fetch in self.blocks.iter_mut().take(MAX_BLOCKS).filter(|fetch| fetch.due.is_none()) {
            fetch.due = Some(due);
            ask.push(Inv { kind: InvKind::WitnessBlock, hash: fetch.hash });
        }
        if !ask.is_empty() {
            write::inventory(out, magic, "getdata", ask.into_iter());
        }
    }

    pub(super) fn message(
        &mut self,
        now: Instant,
        message: Message<'_>,
        magic: Magic,
        headers: &Headers,
        events: &mut Vec<Event>,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        match message {
            Message::CFHeaders { stop, previous, hashes, .. } => {
                self.took_headers(headers, &stop, &previous, hashes)?;
            }
            Message::CFilter { block, filter, .. } => self.took_filter(headers, &block, filter, events)?,
            Message::Block(bytes) => self.took_block(now, bytes, events)?,
            _ => return Ok(()),
        }
        self.advance(now, magic, headers, out);
        Ok(())
    }

    fn took_headers(
        &mut self,
        headers: &Headers,
        stop: &Hash,
        previous: &Hash,
        hashes: HashList<'_>,
    ) -> Result<(), Broken> {
        if self.headers_asked.is_none_or(|(asked, _)| asked != *stop) {
            return Ok(());
        }
        self.headers_asked = None;
        // A reorganisation may have overtaken the question.
        let Some(stop) = headers.find(stop) else { return Ok(()) };
        let start = self.first + self.chain.len() as u32;
        let count = (stop + 1).checked_sub(start);
        let before = match self.chain.last() {
            Some((header, _)) => *header,
            None if self.first == 0 => [0; 32],
            // Where a client begins above genesis it has to believe the first.
            None => *previous,
        };
        if count != Some(hashes.len() as u32) || before != *previous {
            return Err(Broken::FilterHeaders(start));
        }
        let mut last = before;
        for hash in hashes.iter() {
            last = chain_header(hash, &last);
            self.chain.push((last, *hash));
        }
        Ok(())
    }

    fn took_filter(
        &mut self,
        headers: &Headers,
        block: &Hash,
        filter: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let Some((stop, _)) = self.filters_asked else { return Ok(()) };
        let Some(height) = headers.find(block) else { return Ok(()) };
        if height < self.next {
            return Ok(());
        }
        if height > self.next {
            return Err(Broken::FilterOrder { got: height, want: self.next });
        }
        let expected = self.chain.get((height - self.first) as usize);
        if expected.is_none_or(|(_, hash)| *hash != sha256d(filter)) {
            return Err(Broken::Filter(height));
        }
        self.next += 1;
        if self.every > 0 && height % self.every == 0 {
            self.blocks.push_back(Fetch { height, hash: *block, filter: filter.to_vec(), due: None });
        }
        if height >= stop {
            self.filters_asked = None;
            events.push(Event::FiltersTo(height));
        }
        Ok(())
    }

    /// A block must match its header, and its filter must have every script it pays to.
    fn took_block(&mut self, now: Instant, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Broken> {
        let Some(header) = bytes.first_chunk::<80>() else { return Err(Broken::Block([0; 32])) };
        let hash = sha256d(header);
        let Some(at) = self.blocks.iter().position(|fetch| fetch.hash == hash) else { return Ok(()) };
        let Some(fetch) = self.blocks.remove(at) else { return Ok(()) };
        let block: Block = deserialize(bytes).map_err(|_| Broken::Block(hash))?;
        if !block.check_merkle_root() || !block.check_witness_commitment() {
            return Err(Broken::Block(hash));
        }
        let outputs = block.txdata.iter().flat_map(|tx| &tx.output);
        let mut scripts = outputs
            .map(|output| &output.script_pubkey)
            .filter(|script| !script.is_op_return() && !script.is_empty())
            .map(|script| script.as_bytes())
            .peekable();
        let filter = BlockFilter::new(&fetch.filter);
        let fits = scripts.peek().is_none()
            || filter.match_all(&BlockHash::from_byte_array(hash), scripts).is_ok_and(|all| all);
        if !fits {
            return Err(Broken::FilterLacks(fetch.height));
        }
        events.push(Event::Fetched { hash, at: now });
        Ok(())
    }
}
