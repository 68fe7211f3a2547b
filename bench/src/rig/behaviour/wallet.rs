//! A wallet with compact filters (BIP157/158): headers, filter headers, filters, then the blocks whose filters match.
//!
//! One question at a time, each timed to its last byte; blocks up to 16 at a time. Filter headers are compared with what other
//! wallets of this process were told. Of the filters one in sixteen is hashed, and matched against scripts made up from
//! the seed; scripts given by the scenario are matched against all. As made-up scripts match nothing, every n-th block
//! is fetched as if it had matched.

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::bip158::BlockFilter;
use bitcoin::hashes::Hash as _;
use breakwater::base::Instant;
use breakwater::base::limits::{MAX_CFHEADERS, MAX_CFILTERS};
use breakwater::wire::{Hash, HashList, InvKind, Message, Services, sha256d, write};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::follow::{Follow, Heard};
use super::request::{Blocks, Request, TIMED_OUT};
use super::{Behaviour, Hello, Options, sampled};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Every so many-th block is fetched unless the scenario says otherwise.
const NTH: u32 = 100;
/// Scripts that are made up.
const MADE_UP: usize = 20;

#[derive(Debug)]
struct Wallet {
    follow: Follow,
    blocks: Blocks,
    /// Heights of blocks to fetch; at most one range of filters.
    wanted: Vec<u32>,
    watch: Arc<[Vec<u8>]>,
    asked: Request,
    /// Height of the last block of the question.
    stop: u32,
    /// Height of the first filter header that is not here.
    next_header: u32,
    /// Height of the first filter that is not here.
    next_filter: u32,
    nth: u32,
    start: u32,
    question: Question,
}

const _: () = assert!(size_of::<Wallet>() <= 200);

/// What `asked` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    FilterHeaders,
    Filters,
}

impl Behaviour for Wallet {
    fn hello(&self) -> Hello {
        // A wallet with filters wants no transactions (neutrino bans who announces one).
        Hello { relay: false, ..Hello::default() }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        write::empty(cx.out, cx.magic, "sendheaders");
        (self.next_header, self.next_filter) = (self.start, self.start);
        self.follow.begin_at_genesis(cx);
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        match self.handle(cx, message) {
            Ok(()) => Flow::Go,
            Err(why) => Flow::Broken(why),
        }
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.next_wake() <= cx.now { TIMED_OUT } else { Flow::Go }
    }

    fn next_wake(&self) -> Instant {
        self.follow.due().min(self.asked.due()).min(self.blocks.due())
    }

    fn ended(&mut self, _: &mut Tally) {
        self.follow = Follow::default();
        self.blocks.clear();
        self.wanted = Vec::new();
        self.asked = Request::default();
    }

    fn asks_headers(&self) -> bool {
        self.follow.is_asking()
    }
}

impl Wallet {
    fn handle(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Result<(), &'static str> {
        match message {
            Message::Version(version) if !version.services.contains(Services::COMPACT_FILTERS) => {
                return Err("target offers no compact filters");
            }
            Message::CFHeaders { stop, previous, hashes, .. } => {
                self.filter_headers(cx, stop, previous, hashes)?;
            }
            Message::CFilter { block, filter, .. } => self.filter(cx, block, filter)?,
            Message::Block(bytes) => {
                if let Some(header) = bytes.first_chunk::<80>() {
                    let hash = sha256d(header);
                    if let Some(height) = self.blocks.took(cx, &hash)
                        && sampled(height, cx.number)
                    {
                        super::check_block(bytes)?;
                    }
                }
            }
            Message::NotFound(list) => self.blocks.not_found(cx, list),
            _ => {
                if let Heard::Moved { keep } = self.follow.message(cx, message)? {
                    self.moved(keep);
                }
            }
        }
        self.advance(cx);
        Ok(())
    }

    /// Blocks above `keep` are others now.
    fn moved(&mut self, keep: u32) {
        if self.asked.is_open() && keep < self.stop {
            self.asked = Request::default();
        }
        let next = (keep + 1).max(self.start);
        self.next_header = self.next_header.min(next);
        self.next_filter = self.next_filter.min(next);
        self.wanted.retain(|height| *height <= keep);
    }

    /// Asks what comes next.
    fn advance(&mut self, cx: &mut Context<'_>) {
        if !self.follow.synced() || self.asked.is_open() || !self.blocks.is_empty() {
            return;
        }
        if !self.wanted.is_empty() {
            let count = self.wanted.len().min(self.blocks.room());
            let chain = &cx.shared.chain;
            let heights = self.wanted.drain(..count);
            let wanted: Vec<_> = heights.filter_map(|height| Some((height, chain.hash(height)?))).collect();
            if self.wanted.is_empty() {
                self.wanted = Vec::new();
            }
            self.blocks.ask(cx, InvKind::WitnessBlock, wanted.into_iter());
        } else if self.next_filter < self.next_header {
            let stop = (self.next_header - 1).min(self.next_filter + MAX_CFILTERS - 1);
            self.ask(cx, Question::Filters, self.next_filter, stop);
        } else if self.next_header <= self.follow.height() {
            let stop = self.follow.height().min(self.next_header + MAX_CFHEADERS - 1);
            self.ask(cx, Question::FilterHeaders, self.next_header, stop);
        }
    }

    fn ask(&mut self, cx: &mut Context<'_>, question: Question, start: u32, stop: u32) {
        // None when a reorganisation is on its way to us, too.
        let Some(hash) = cx.shared.chain.hash(stop) else { return };
        let command = match question {
            Question::FilterHeaders => "getcfheaders",
            Question::Filters => "getcfilters",
        };
        write::filter_request(cx.out, cx.magic, command, start, &hash);
        self.asked = Request::open(cx);
        (self.question, self.stop) = (question, stop);
    }

    fn filter_headers(
        &mut self,
        cx: &mut Context<'_>,
        stop: &Hash,
        previous: &Hash,
        hashes: &HashList<'_>,
    ) -> Result<(), &'static str> {
        // A reorganisation may have overtaken the question.
        let ours = self.asked.is_open()
            && self.question == Question::FilterHeaders
            && cx.shared.chain.hash(self.stop) == Some(*stop);
        if !ours {
            return Ok(());
        }
        self.asked.answered(cx);
        if hashes.len() as u32 != self.stop + 1 - self.next_header {
            return Err("filter headers of another range");
        }
        let list: Vec<&Hash> = hashes.iter().collect();
        cx.shared.chain.filter_headers(self.next_header, stop, previous, list.into_iter())?;
        self.next_header = self.stop + 1;
        Ok(())
    }

    fn filter(&mut self, cx: &mut Context<'_>, block: &Hash, filter: &[u8]) -> Result<(), &'static str> {
        if !self.asked.is_open() || self.question != Question::Filters {
            return Ok(());
        }
        let height = self.next_filter;
        if cx.shared.chain.hash(height) != Some(*block) {
            return match cx.shared.chain.find(self.stop, block) {
                Some(other) if other > height => Err("filters out of order"),
                // Of a question that a reorganisation has overtaken.
                _ => Ok(()),
            };
        }
        let sampled = sampled(height, cx.number);
        if sampled && !cx.shared.chain.filter_fits(height, filter) {
            return Err("a filter unlike its filter header");
        }
        let matches = match (self.watch.is_empty(), sampled) {
            (false, _) => matches(filter, block, self.watch.iter().map(Vec::as_slice))?,
            (true, true) => {
                let made_up = made_up(cx.shared.seed, cx.number);
                matches(filter, block, made_up.iter().map(|script| &script[..]))?
            }
            (true, false) => false,
        };
        if matches || height > 0 && height.is_multiple_of(self.nth) {
            self.wanted.push(height);
        }
        self.next_filter += 1;
        if height >= self.stop {
            self.asked.answered(cx);
        }
        Ok(())
    }
}

fn matches<'s>(
    filter: &[u8],
    block: &Hash,
    scripts: impl Iterator<Item = &'s [u8]>,
) -> Result<bool, &'static str> {
    let hash = BlockHash::from_byte_array(*block);
    BlockFilter::new(filter).match_any(&hash, scripts).map_err(|_| "a filter that cannot be read")
}

/// P2WPKH scripts that are this client's own.
fn made_up(seed: u64, number: u32) -> [[u8; 22]; MADE_UP] {
    let mut rng = SmallRng::seed_from_u64(seed ^ u64::from(number) << 32);
    let mut out = [[0; 22]; MADE_UP];
    for script in &mut out {
        rng.fill(&mut script[2..]);
        script[1] = 20;
    }
    out
}

pub(super) fn make(options: &Options) -> Box<dyn Behaviour> {
    Box::new(Wallet {
        follow: Follow::default(),
        blocks: Blocks::default(),
        wanted: Vec::new(),
        watch: Arc::clone(&options.watch),
        asked: Request::default(),
        stop: 0,
        next_header: options.start,
        next_filter: options.start,
        nth: if options.nth == 0 { NTH } else { options.nth },
        start: options.start,
        question: Question::FilterHeaders,
    })
}
