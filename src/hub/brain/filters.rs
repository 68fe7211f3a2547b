//! Compact filters and their headers (BIP157), from nodes that serve them.
//!
//! Filter headers come for the whole chain, filters for the kept window. A node indexes a new block a moment after it
//! has announced it, so near the tip a question without answer is repeated after 100 ms, doubling to 1 s. A question that
//! reaches beyond the index gets no answer at all, so each time it is repeated for half of the range: blocks may come
//! faster than they are indexed. Each filter is checked against its hash, each hash against the chain of filter headers.
//!
//! Invariant: no node is asked for anything up to a block that it has not said to have: it would drop the link.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::keeper::Piece;
use super::{Hub, LinkId};
use crate::base::Instant;
use crate::base::limits::{
    FILTER_RETRY_FIRST, FILTER_RETRY_LAST, FILTERS_PER_REQUEST, MAX_CFHEADERS, NODE_TIMEOUT, RECENT_BLOCKS,
};
use crate::hub::session::Break;
use crate::link::ToShard;
use crate::wire::{Hash, HashList, sha256d, write};

/// A question under way.
#[derive(Clone, Copy, Debug)]
struct Job {
    link: LinkId,
    start: u32,
    stop: u32,
    stop_hash: Hash,
    /// The height whose filter comes next: answers come in height order (BIP157).
    next: u32,
    deadline: Instant,
}

/// State of filter headers and filters.
#[derive(Debug)]
pub(super) struct Filters {
    headers: Option<Job>,
    /// The newest filters.
    tip: Option<Job>,
    /// Filters of the kept window.
    window: Option<Job>,
    /// Ranges of the kept window that are missing, in the order in which they are fetched.
    todo: VecDeque<(u32, u32)>,
    planned: bool,
    /// Pause before the next try near the tip.
    pause: Duration,
    /// Since when the node owes the newest ones; another is asked after `NODE_TIMEOUT`.
    tries: u32,
    /// Blocks whose filter headers are asked for at a time: half as many after no answer, twice as many after one.
    span: u32,
    /// Who gave filter headers last: its index has passed them.
    giver: Option<LinkId>,
    /// What the shards were told by `FiltersTo`.
    pub(super) told: Option<u32>,
}

impl Filters {
    pub(super) fn new() -> Filters {
        Filters {
            headers: None,
            tip: None,
            window: None,
            todo: VecDeque::new(),
            planned: false,
            pause: FILTER_RETRY_FIRST,
            tries: 0,
            span: MAX_CFHEADERS,
            giver: None,
            told: None,
        }
    }
}

/// Distance from the tip below which a missing answer means that the node is still indexing.
const NEAR: u32 = 16;

impl Hub {
    /// Makes the list of filters missing in the store: newest first.
    pub(super) fn plan_filters(&mut self) {
        let Some(to) = self.chain.filters_to() else { return };
        let start = self.keeper.window_start(self.chain.tip().0);
        let mut todo = VecDeque::new();
        let mut open: Option<(u32, u32)> = None;
        for height in (start..=to).rev() {
            let missing = self.chain.best_hash(height).is_some_and(|h| !self.keeper.has(&Piece::Filter(*h)));
            open = match (missing, open) {
                (true, Some((first, last))) if last - first + 1 < FILTERS_PER_REQUEST => Some((height, last)),
                (true, full) => {
                    todo.extend(full);
                    Some((height, height))
                }
                (false, run) => {
                    todo.extend(run);
                    None
                }
            };
        }
        todo.extend(open);
        self.filters.todo = todo;
        self.filters.planned = true;
    }

    /// Filter headers have come that the questions near the tip do not reach: blocks that came while no node was there, or
    /// faster than they were indexed.
    fn plan_more(&mut self, start: u32, stop: u32) {
        let tip = self.chain.tip().0;
        let start = start.max(self.keeper.window_start(tip));
        if !self.filters.planned || (tip - stop < NEAR && stop - start.min(stop) < NEAR) {
            return;
        }
        for height in start..=stop {
            match self.filters.todo.back_mut() {
                Some((first, last)) if *last + 1 == height && height - *first < FILTERS_PER_REQUEST => {
                    *last += 1
                }
                _ => self.filters.todo.push_back((height, height)),
            }
        }
    }

    /// A branch took over: answers under way may belong to the old one.
    pub(super) fn filters_reorg(&mut self, fork: u32) {
        let filters = &mut self.filters;
        for job in [&mut filters.headers, &mut filters.tip] {
            job.take_if(|j| j.stop > fork);
        }
        if let Some(job) = filters.window.take_if(|j| j.stop > fork)
            && job.start <= fork
        {
            filters.todo.push_front((job.start, fork));
        }
        filters.pause = FILTER_RETRY_FIRST;
        filters.tries = 0;
    }

    /// Asks for what is missing.
    pub(super) fn pump_filters(&mut self) {
        let tip = self.chain.tip().0;
        let known = self.chain.filters_to();
        let next = known.map_or(0, |to| to + 1);
        if self.filters.headers.is_none() && next <= tip {
            let stop = tip.min(next + self.filters.span - 1);
            self.filters.headers = self.filter_job("getcfheaders", next, stop);
            // The filters of a new block are asked for in the same breath; they arrive behind their headers.
            if let Some(job) = self.filters.headers
                && tip - next < NEAR
                && self.filters.tip.is_none()
            {
                self.filters.tip = self.filter_job("getcfilters", next, job.stop);
            }
        }
        // The index has passed what there are filter headers for, wherever the tip is by now.
        if self.filters.tip.is_none()
            && let Some(to) = known.filter(|to| tip - to < NEAR)
            && let Some(first) = (to.saturating_sub(NEAR - 1)..=to).find(|h| !self.filter_here(*h))
        {
            self.filters.tip = self.filter_job("getcfilters", first, to);
        }
        if known.is_some_and(|to| tip - to < NEAR) && !self.filters.planned {
            self.plan_filters();
        }
        if self.filters.window.is_none()
            && let Some((start, stop)) = self.filters.todo.pop_front()
        {
            // What the newest are asked for already need not be asked for twice.
            let coming = self.filters.tip.map_or(u32::MAX, |job| job.start);
            let missing = |height: &u32| *height < coming && !self.filter_here(*height);
            let ends = (start..=stop).find(missing).zip((start..=stop).rev().find(missing));
            if let Some((start, stop)) = ends {
                self.filters.window = self.filter_job("getcfilters", start, stop);
                if self.filters.window.is_none() {
                    self.filters.todo.push_front((start, stop));
                }
            } else {
                self.wake_at(self.now);
            }
        }
    }

    fn filter_job(&mut self, command: &str, start: u32, stop: u32) -> Option<Job> {
        let (link, stop) = self.filter_source(start, stop)?;
        let stop_hash = *self.chain.best_hash(stop)?;
        self.send(link, |out, magic| write::filter_request(out, magic, command, start, &stop_hash));
        let near = self.chain.tip().0.saturating_sub(stop) < NEAR || self.filters.span < NEAR;
        let near = near && stop - start < NEAR;
        let deadline = self.now + if near { self.filters.pause } else { NODE_TIMEOUT };
        self.wake_at(deadline);
        Some(Job { link, start, stop, stop_hash, next: start, deadline })
    }

    /// A synced node with filters that has most of the range, and the end of what it has; another one after it has owed
    /// an answer for long.
    fn filter_source(&self, start: u32, stop: u32) -> Option<(LinkId, u32)> {
        let able = self.nodes.list.iter().enumerate().filter(|(_, node)| node.synced && node.has_filters());
        let able: Vec<(LinkId, u32)> =
            able.filter_map(|(i, _)| Some((self.nodes.ask_link(i)?, self.has_up_to(i)))).collect();
        let stop = able.iter().map(|(_, to)| *to).max()?.min(stop);
        let links: Vec<LinkId> =
            able.into_iter().filter(|(_, to)| *to >= stop).map(|(link, _)| link).collect();
        // Twenty tries of up to a second are NODE_TIMEOUT.
        let turn = (self.filters.tries / 20) as usize;
        let giver = self.filters.giver.filter(|giver| turn == 0 && links.contains(giver));
        let link = giver.or_else(|| links.get(turn % links.len().max(1)).copied())?;
        (start <= stop).then_some((link, stop))
    }

    /// True exactly when the filter at a height of the best chain can be given without the node.
    pub(super) fn filter_here(&self, height: u32) -> bool {
        self.chain.best_hash(height).is_some_and(|hash| self.keeper.has(&Piece::Filter(*hash)))
    }

    pub(super) fn on_cfheaders(
        &mut self,
        link: LinkId,
        stop: &Hash,
        previous: &Hash,
        hashes: HashList<'_>,
    ) -> Result<(), Break> {
        let Some(job) = self.filters.headers.filter(|j| j.link == link && j.stop_hash == *stop) else {
            self.counters.unrequested += 1;
            return Ok(());
        };
        self.filters.headers = None;
        if !self.chain.in_best(stop) {
            return Ok(());
        }
        self.chain
            .add_filter_records(job.start, *previous, stop, hashes.iter())
            .map_err(|error| Break::Filters(error.to_string()))?;
        self.counters.filter_headers += hashes.len() as u64;
        let filters = &mut self.filters;
        filters.pause = FILTER_RETRY_FIRST;
        filters.tries = 0;
        filters.span = (filters.span * 2).min(MAX_CFHEADERS);
        filters.giver = Some(link);
        self.plan_more(job.start, job.stop);
        let at = self.now;
        self.wake_at(at);
        self.pump_filters();
        self.policy_changed();
        self.tell_filters();
        self.try_open();
        Ok(())
    }

    /// A `cfilter` message; `framed` is the whole of it.
    pub(super) fn on_cfilter(
        &mut self,
        link: LinkId,
        block: &Hash,
        filter: &[u8],
        framed: &[u8],
    ) -> Result<(), Break> {
        let Some(height) = self.chain.best_height(block) else {
            self.counters.unrequested += 1;
            return Ok(());
        };
        let Some(record) = self.chain.filter_record(height) else {
            // Its header has not come (the node was still indexing when asked): it is asked for again.
            return Ok(());
        };
        if sha256d(filter) != record.hash {
            return Err(Break::Filters(format!(
                "the filter of block {height} does not have the hash the node gave"
            )));
        }
        self.counters.filters += 1;
        let message = Bytes::copy_from_slice(framed);
        let wanted = self.want_filter(link, height, &message);
        let ours = self.filter_progress(link, height);
        if !wanted && !ours {
            self.counters.unrequested += 1;
            return Ok(());
        }
        let kept = height >= self.keeper.window_start(self.chain.tip().0);
        self.keep(Piece::Filter(*block), height, message, kept);
        self.tell_filters();
        self.pump_filters();
        self.try_open();
        Ok(())
    }

    /// Counts a filter towards the question it answers.
    fn filter_progress(&mut self, link: LinkId, height: u32) -> bool {
        let deadline = self.now + NODE_TIMEOUT;
        let mut ours = false;
        for slot in [&mut self.filters.tip, &mut self.filters.window] {
            if let Some(job) = slot
                && job.link == link
                && job.next == height
            {
                ours = true;
                job.next += 1;
                job.deadline = deadline;
                if height == job.stop {
                    *slot = None;
                }
            }
        }
        ours
    }

    /// Tells the shards up to which height filters can be served, when that has grown.
    pub(super) fn tell_filters(&mut self) {
        let Some(published) = &self.published else { return };
        let (tip, hash) = self.chain.tip();
        let Some(known) = self.chain.filters_to() else { return };
        if published.tip_hash() != hash {
            return;
        }
        // The newest must be at hand; older ones can be had through the node.
        let lowest = known.saturating_sub(RECENT_BLOCKS as u32);
        let Some(to) = (lowest..=known).rev().find(|h| self.filter_here(*h) || *h + NEAR < tip) else {
            return;
        };
        if self.filters.told.is_some_and(|told| told >= to) {
            return;
        }
        if published.filter(to).is_none() {
            let view = self.chain.view();
            self.published = Some(view.clone());
            self.tell_all(&ToShard::Chain { view, blocks: [].into(), had: self.now });
        }
        self.filters.told = Some(to);
        self.tell_all(&ToShard::FiltersTo(to));
    }

    pub(super) fn filters_link_lost(&mut self, link: LinkId) {
        let filters = &mut self.filters;
        for job in [&mut filters.headers, &mut filters.tip] {
            if job.is_some_and(|j| j.link == link) {
                *job = None;
            }
        }
        if let Some(job) = filters.window.take_if(|j| j.link == link) {
            filters.todo.push_front((job.start, job.stop));
        }
    }

    pub(super) fn tick_filters(&mut self) {
        let now = self.now;
        let filters = &mut self.filters;
        let late = |job: &mut Job| now >= job.deadline;
        let mut repeated = 0;
        if filters.headers.take_if(late).is_some() {
            repeated += 1;
            // The filters asked for in the same breath will not come either.
            filters.tip = None;
            filters.span = (filters.span / 2).max(1);
        }
        repeated += u64::from(filters.tip.take_if(late).is_some());
        if repeated > 0 {
            filters.tries += 1;
            filters.pause = (filters.pause * 2).min(FILTER_RETRY_LAST);
        }
        if let Some(job) = filters.window.take_if(late) {
            filters.todo.push_back((job.start, job.stop));
            filters.tries += 20;
            repeated += 1;
        }
        self.counters.filter_retries += repeated;
        let filters = &self.filters;
        let next =
            [&filters.headers, &filters.tip, &filters.window].into_iter().flatten().map(|j| j.deadline);
        if let Some(next) = next.min() {
            self.wake_at(next);
        }
        self.pump_filters();
    }
}

impl Hub {
    /// True exactly when every filter of the kept window is here.
    pub(super) fn filters_done(&self) -> bool {
        self.filters.planned && self.filters.todo.is_empty() && self.filters.window.is_none()
    }
}
