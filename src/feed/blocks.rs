//! The log of block announcements. A client is a cursor into it: the number of the first announcement it has not
//! been sent. Numbers count up and wrap after 2^32 blocks.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::{BlockNews, ChainView};
use crate::base::Instant;
use crate::base::limits::{BLOCK_LOG, MAX_HEADERS_ANNOUNCE, RECENT_BLOCKS};
use crate::wire::{Hash, Inv, InvKind, Magic, write};

/// How a client wants to hear of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// By `inv`: the default, and for a client whose headers we do not know to reach our tip.
    Inv,
    /// By `headers` (BIP130).
    Headers,
    /// By `cmpctblock` (BIP152 high bandwidth), several at a time by `headers`.
    Compact,
}

/// What lies between a cursor and the head.
#[derive(Debug)]
pub struct Announcement {
    /// The cursor afterwards.
    pub cursor: u32,
    /// The message; `None` when everything in between has left the best chain.
    pub message: Option<Bytes>,
    /// When the hub had the first block of it.
    pub had: Instant,
    /// True exactly when the cursor had fallen off the log.
    pub missed: bool,
    /// True exactly when only the tip is named although more lies between: the client has to ask, and what follows
    /// connects to nothing it knows before it has the answer.
    pub alone: bool,
}

/// Hashes remembered beyond the log, 32 KB: a client whose link stalls asks late for what it heard of long ago.
const MAX_PAST: usize = 16 * BLOCK_LOG;

/// An announcement made before: cursor, end, message, `alone`.
type Made = (u32, u32, Option<Bytes>, bool);

/// The log.
#[derive(Debug)]
pub struct BlockLog {
    magic: Magic,
    entries: VecDeque<Arc<BlockNews>>,
    /// When the hub had each of them.
    had: VecDeque<Instant>,
    /// Hashes of those that have fallen off, the oldest first; at most `MAX_PAST`.
    past: VecDeque<Hash>,
    /// Number of the next entry.
    head: u32,
    /// Every block up to this height has its filter here.
    filters_to: u32,
    /// The last announcement made for each form, by range; equal ranges give equal bytes.
    made: [Option<Made>; 3],
}

impl BlockLog {
    /// An empty log.
    pub fn new(magic: Magic) -> BlockLog {
        BlockLog {
            magic,
            entries: VecDeque::new(),
            had: VecDeque::new(),
            past: VecDeque::new(),
            head: 0,
            filters_to: 0,
            made: [None, None, None],
        }
    }

    /// Where a new client begins.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// Appends blocks of the best chain that the hub had at that instant.
    pub fn append(&mut self, blocks: &[Arc<BlockNews>], had: Instant) {
        for news in blocks {
            self.entries.push_back(news.clone());
            self.had.push_back(had);
            self.head = self.head.wrapping_add(1);
        }
        while self.entries.len() > BLOCK_LOG {
            self.past.extend(self.entries.pop_front().map(|news| news.hash));
            self.had.pop_front();
        }
        while self.past.len() > MAX_PAST {
            self.past.pop_front();
        }
        // Only the newest keep their bytes here, so that the log bounds memory; the rest is in the store.
        let old = self.entries.len().saturating_sub(RECENT_BLOCKS);
        for entry in self.entries.iter_mut().take(old).filter(|e| !e.block.is_empty()) {
            *entry = Arc::new(BlockNews {
                block: Bytes::new(),
                cmpct: Bytes::new(),
                tx_offsets: Box::default(),
                headers_message: entry.headers_message.clone(),
                inv_message: entry.inv_message.clone(),
                ..**entry
            });
        }
        self.forget_made();
    }

    /// Drops what has been encoded: the best chain or the log has changed.
    pub fn forget_made(&mut self) {
        self.made = [None, None, None];
    }

    /// The filters of all blocks up to this height are here.
    pub fn set_filters_to(&mut self, height: u32) {
        self.filters_to = height;
    }

    /// The height up to which filters are here.
    pub fn filters_to(&self) -> u32 {
        self.filters_to
    }

    /// Where the log ends for a client that uses filters: before the first block whose filter is not here.
    pub fn filtered_head(&self, view: &ChainView) -> u32 {
        let ahead = self
            .entries
            .iter()
            .rev()
            .take_while(|e| e.height > self.filters_to || view.hash(e.height) != Some(&e.hash));
        self.head.wrapping_sub(ahead.count() as u32)
    }

    /// A recent block whose bytes are here.
    pub fn recent(&self, hash: &Hash) -> Option<&Arc<BlockNews>> {
        self.entries.iter().rev().take(RECENT_BLOCKS).find(|e| e.hash == *hash && !e.block.is_empty())
    }

    /// True exactly when the block was announced lately, be it that it has left the best chain since.
    pub fn has_announced(&self, hash: &Hash) -> bool {
        self.entries.iter().any(|e| e.hash == *hash) || self.past.contains(hash)
    }

    /// What a client at `cursor` is told so that it reaches `to` (the head, or the filtered one).
    pub fn announce(&mut self, cursor: u32, to: u32, form: Form, view: &ChainView) -> Announcement {
        let behind = to.wrapping_sub(cursor);
        let ahead = self.head.wrapping_sub(to) as usize;
        if behind == 0 || behind > u32::MAX / 2 {
            return Announcement { cursor, message: None, had: Instant::FAR, missed: false, alone: false };
        }
        let end = self.entries.len().saturating_sub(ahead);
        let missed = behind as usize > end;
        let start = end.saturating_sub(behind as usize);
        let had = self.had.get(start).copied().unwrap_or(Instant::FAR);
        if let Some((from, until, message, alone)) = &self.made[form as usize]
            && (*from, *until) == (cursor, to)
        {
            return Announcement { cursor: to, message: message.clone(), had, missed, alone: *alone };
        }
        // A block that a reorganisation has removed since is skipped, and so is the earlier mention of one that a second
        // reorganisation has brought back: what remains is continuous.
        let mut live: Vec<&Arc<BlockNews>> = Vec::new();
        for entry in self.entries.range(start..end).rev() {
            if view.hash(entry.height) == Some(&entry.hash)
                && live.last().is_none_or(|e| entry.height < e.height)
            {
                live.push(entry);
            }
        }
        live.reverse();
        let message = live.last().map(|last| match (live.len(), form) {
            _ if missed => last.inv_message.clone(),
            // Bitcoin Core, too, names only the tip by inv; the client asks for what lies between.
            (_, Form::Inv) => last.inv_message.clone(),
            (1, Form::Compact) if !last.cmpct.is_empty() => last.cmpct.clone(),
            (1, _) => last.headers_message.clone(),
            (n, _) if n <= MAX_HEADERS_ANNOUNCE => {
                let mut out = Vec::new();
                write::headers(&mut out, self.magic, live.iter().map(|e| &e.header));
                Bytes::from(out)
            }
            _ => last.inv_message.clone(),
        });
        let alone = missed || live.len() > MAX_HEADERS_ANNOUNCE;
        self.made[form as usize] = Some((cursor, to, message.clone(), alone));
        Announcement { cursor: to, message, had, missed, alone }
    }
}

/// The `inv` message that announces one block.
pub fn inv_message(magic: Magic, hash: &Hash) -> Bytes {
    let mut out = Vec::new();
    let entry = Inv { kind: InvKind::Block, hash: *hash };
    write::inventory(&mut out, magic, "inv", std::iter::once(entry));
    Bytes::from(out)
}

/// The `headers` message that announces one block.
pub fn headers_message(magic: Magic, header: &[u8; 80]) -> Bytes {
    let mut out = Vec::new();
    write::headers(&mut out, magic, std::iter::once(header));
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::*;
    use crate::wire::{Message, Step, parse, sha256d, split};

    const MAGIC: Magic = [1, 2, 3, 4];

    /// A chain of `n` headers told apart by `branch` from height `fork` on.
    fn chain(n: u32, fork: u32, branch: u8) -> (ChainView, Vec<Arc<BlockNews>>) {
        let mut records = Vec::new();
        let mut previous = [0u8; 32];
        for height in 0..n {
            let mut header = [0u8; 80];
            header[4..36].copy_from_slice(&previous);
            header[76] = height as u8;
            header[77] = if height >= fork { branch } else { 0 };
            previous = sha256d(&header);
            records.push(Record { header, hash: previous, filter: None });
        }
        let news = records
            .iter()
            .enumerate()
            .map(|(height, r)| {
                Arc::new(BlockNews {
                    hash: r.hash,
                    height: height as u32,
                    header: r.header,
                    block: Bytes::from_static(b"block"),
                    tx_offsets: Box::default(),
                    cmpct: Bytes::from_static(b"cmpct"),
                    headers_message: headers_message(MAGIC, &r.header),
                    inv_message: inv_message(MAGIC, &r.hash),
                })
            })
            .collect();
        (ChainView::new(Arc::default(), records), news)
    }

    fn headers_in(message: &Bytes) -> usize {
        match split(MAGIC, message) {
            Step::Message { command, payload, .. } => match parse(&command, payload) {
                Ok(Message::Headers(list)) => list.len(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_range_is_one_message_of_live_blocks() {
        let (_, old) = chain(6, 3, 1);
        let (view, new) = chain(7, 3, 2);
        let mut log = BlockLog::new(MAGIC);
        log.append(&old[1..], Instant(7));
        let cursor = log.head();
        assert_eq!(cursor, 5);
        log.append(&new[3..], Instant(7));
        log.forget_made();
        // From the start: 1 and 2 of the old chain live on, 3 to 5 do not, then 3 to 6 of the new one.
        let told = log.announce(0, log.head(), Form::Headers, &view);
        assert_eq!((told.cursor, told.missed), (9, false));
        assert_eq!(headers_in(&told.message.unwrap()), 6);
        let told = log.announce(cursor, log.head(), Form::Compact, &view);
        assert_eq!(headers_in(&told.message.unwrap()), 4);
        let told = log.announce(8, 9, Form::Compact, &view);
        assert_eq!(told.message.unwrap(), Bytes::from_static(b"cmpct"));
        assert!(log.announce(9, 9, Form::Inv, &view).message.is_none());
    }

    #[test]
    fn a_range_is_as_old_as_its_first_block() {
        let (view, news) = chain(70, 0, 0);
        let mut log = BlockLog::new(MAGIC);
        for (n, block) in news.iter().enumerate() {
            log.append(std::slice::from_ref(block), Instant(n as u64));
        }
        // Made anew and from what has been made.
        for _ in 0..2 {
            assert_eq!(log.announce(68, log.head(), Form::Headers, &view).had, Instant(68));
            assert_eq!(log.announce(69, log.head(), Form::Inv, &view).had, Instant(69));
        }
        let fallen_off = log.announce(0, log.head(), Form::Headers, &view);
        assert_eq!(fallen_off.had, Instant(70 - BLOCK_LOG as u64));
        assert_eq!(log.had.len(), log.entries.len());
    }

    #[test]
    fn more_headers_than_one_message_may_announce_leave_the_client_to_ask() {
        let (view, news) = chain(20, 0, 0);
        let mut log = BlockLog::new(MAGIC);
        log.append(&news[1..], Instant(7));
        let few = log.announce(log.head() - MAX_HEADERS_ANNOUNCE as u32, log.head(), Form::Headers, &view);
        assert_eq!((headers_in(&few.message.unwrap()), few.alone), (MAX_HEADERS_ANNOUNCE, false));
        // Made anew and from what has been made.
        for _ in 0..2 {
            let many = log.announce(log.head() - 9, log.head(), Form::Headers, &view);
            assert_eq!((many.message.unwrap(), many.alone), (news[19].inv_message.clone(), true));
            assert!(!many.missed);
        }
    }

    #[test]
    fn a_branch_that_comes_back_is_named_once() {
        let (_, old) = chain(6, 3, 1);
        let (_, other) = chain(7, 3, 2);
        let (view, back) = chain(8, 3, 1);
        let mut log = BlockLog::new(MAGIC);
        let cursor = log.head();
        for news in [&old[3..], &other[3..], &back[3..]] {
            log.append(news, Instant(7));
        }
        let told = log.announce(cursor, log.head(), Form::Headers, &view).message.unwrap();
        let Step::Message { command, payload, .. } = split(MAGIC, &told) else { panic!("{told:?}") };
        let Ok(Message::Headers(list)) = parse(&command, payload) else { panic!("{command:?}") };
        let named: Vec<_> = list.iter().map(|header| sha256d(header)).collect();
        assert_eq!(named, back[3..].iter().map(|news| news.hash).collect::<Vec<_>>());
    }

    #[test]
    fn who_falls_off_the_log_hears_of_the_tip() {
        let (view, news) = chain(200, 0, 0);
        let mut log = BlockLog::new(MAGIC);
        log.append(&news, Instant(7));
        let told = log.announce(0, log.head(), Form::Headers, &view);
        assert!(told.missed);
        assert_eq!(told.message.unwrap(), news[199].inv_message);
        assert!(log.entries.len() <= BLOCK_LOG);
        assert!(log.recent(&news[199].hash).is_some());
        assert!(log.recent(&news[199 - RECENT_BLOCKS].hash).is_none());
    }

    #[test]
    fn a_client_with_filters_hears_when_the_filter_is_here() {
        let (view, news) = chain(5, 0, 0);
        let mut log = BlockLog::new(MAGIC);
        log.append(&news[1..], Instant(7));
        log.set_filters_to(2);
        let to = log.filtered_head(&view);
        assert_eq!(to, 2);
        log.set_filters_to(4);
        assert_eq!(log.filtered_head(&view), 4);
    }
}
