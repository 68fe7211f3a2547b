//! A folder of segments: whole messages one behind the other as they go to a v1 client, and an index.
//!
//! Messages are appended, synced, then indexed; a message's bytes never change, only whole segments are removed.
//! Does not decide what is worth keeping (`Store` does) and does not know heights beyond "highest in this segment".
//!
//! Invariants:
//! - An index record is written only after the data it points to, and the segment's name, were synced.
//! - Bytes are served only after their checksum and hash were verified once since start.
//! - A segment's number is never used again while the index may still name it.
//! - Memory per message is one map entry (32 bytes and a control byte; 38 to 75 bytes with the map's slack).

mod open;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::base::limits::{STORE_NOTES, STORE_OPEN_SEGMENTS, STORE_UNSYNCED};
use crate::io::{Disk, FileRef};
use crate::link::Extent;
use crate::wire::{self, Hash, Magic};

use super::check;
use super::error::{Named, StoreError};
use super::index::{Entry, Index, Kind};

/// The first 15 bytes of the hash (its random ones) and the kind. What is served is compared with the whole hash.
type Key = [u8; 16];

#[derive(Clone, Copy, Debug)]
struct Place {
    height: u32,
    segment: u32,
    offset: u32,
    /// The length; the highest bit is set once the bytes were verified.
    len: u32,
}

const VERIFIED: u32 = 1 << 31;
const _: () = assert!(size_of::<(Key, Place)>() == 32);

impl Place {
    fn len(self) -> u32 {
        self.len & !VERIFIED
    }

    fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.len())
    }
}

#[derive(Debug, Default)]
pub(super) struct Segment {
    /// Bytes that belong to messages; the next one begins here.
    len: u64,
    /// Highest height of a message in it.
    highest: u32,
    /// When something of it was last asked for, in turns of `Folder::clock`.
    used: u64,
    /// True exactly when nothing may be appended: its end is not trusted.
    sealed: bool,
}

/// One folder.
#[derive(Debug)]
pub(super) struct Folder {
    name: &'static str,
    magic: Magic,
    segment_bytes: u64,
    index: Index,
    places: HashMap<Key, Place>,
    segments: BTreeMap<u32, Segment>,
    /// The segment appended to.
    active: Option<u32>,
    /// Number of the next new segment.
    next: u32,
    /// Put, but not yet in the index. At most `STORE_UNSYNCED` (and what one segment holds, at start).
    pending: Vec<Entry>,
    /// Segments with bytes that are not synced; kept open, so that the sync hears of their write errors. At most
    /// `STORE_OPEN_SEGMENTS`.
    unsynced: BTreeMap<u32, FileRef>,
    /// True exactly when a name in the folder may not survive a crash yet.
    unnamed: bool,
    /// Segments kept open for reading, with their last use. At most `STORE_OPEN_SEGMENTS`.
    handles: HashMap<u32, (FileRef, u64)>,
    clock: u64,
    /// What was found damaged, in sentences. At most `STORE_NOTES`.
    notes: Vec<String>,
    damaged: u64,
}

impl Folder {
    /// True exactly when the message is here, acknowledged or not.
    pub(super) fn has(&self, kind: Kind, hash: &Hash) -> bool {
        self.places.contains_key(&key(kind, hash))
    }

    /// Appends a message that was checked by the caller. Does nothing when it is here already.
    pub(super) fn put(
        &mut self,
        disk: &dyn Disk,
        kind: Kind,
        hash: &Hash,
        height: u32,
        message: &[u8],
    ) -> Result<(), StoreError> {
        if self.has(kind, hash) {
            return Ok(());
        }
        self.sync_if_many(disk)?;
        let number = self.room(disk, message.len() as u64)?;
        let file = self.handle(disk, number)?;
        let Some(segment) = self.segments.get_mut(&number) else { return Ok(()) };
        let offset = segment.len;
        if let Err(error) = file.write_at(offset, message) {
            // What was written in part is overwritten by the next message, or cut at the next start.
            let _ = file.set_len(offset);
            return Err(error).named("write", &file_name(self.name, number));
        }
        segment.len += message.len() as u64;
        segment.highest = segment.highest.max(height);
        self.clock += 1;
        segment.used = self.clock;
        self.unsynced.insert(number, file);
        let (offset, len) = (offset as u32, message.len() as u32);
        self.places.insert(key(kind, hash), Place { height, segment: number, offset, len });
        self.pending.push(Entry { kind, hash: *hash, height, segment: number, offset, len });
        Ok(())
    }

    /// The segment the next message of this length goes to.
    fn room(&mut self, disk: &dyn Disk, len: u64) -> Result<u32, StoreError> {
        if let Some(number) = self.active
            && let Some(segment) = self.segments.get(&number)
            && (segment.len == 0 || segment.len + len <= self.segment_bytes)
        {
            return Ok(number);
        }
        let number = self.next;
        // From here the name may exist, even when opening fails.
        self.unnamed = true;
        self.handle(disk, number)?;
        self.next = self.next.saturating_add(1);
        self.segments.insert(number, Segment::default());
        self.active = Some(number);
        Ok(number)
    }

    /// Keeps what waits for a sync bounded, in memory and in open files.
    fn sync_if_many(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        if self.pending.len() >= STORE_UNSYNCED || self.unsynced.len() >= STORE_OPEN_SEGMENTS {
            self.sync(disk)?;
        }
        Ok(())
    }

    /// Acknowledges all puts: data, then names, then index.
    pub(super) fn sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        while let Some((number, file)) = self.unsynced.first_key_value() {
            let number = *number;
            if let Err(error) = file.sync() {
                // The kernel has dropped the bytes, and a second sync would succeed without them (fsync(2)).
                self.lose(number);
                return Err(error).named("sync", &file_name(self.name, number));
            }
            self.unsynced.remove(&number);
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        self.sync_names(disk)?;
        let records: Vec<_> = self.pending.iter().map(Entry::encode).collect();
        self.index.append(&records)?;
        self.pending.clear();
        Ok(())
    }

    fn sync_names(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        if self.unnamed {
            disk.sync_folder(self.name).named("sync", self.name)?;
            self.unnamed = false;
        }
        Ok(())
    }

    /// Forgets the puts of a segment that could not be synced and never appends to it again.
    fn lose(&mut self, number: u32) {
        let (lost, kept): (Vec<_>, Vec<_>) =
            self.pending.drain(..).partition(|entry| entry.segment == number);
        self.pending = kept;
        for entry in &lost {
            self.places.remove(&key(entry.kind, &entry.hash));
        }
        self.unsynced.remove(&number);
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.sealed = true;
            segment.len = lost.iter().map(|e| u64::from(e.offset)).min().unwrap_or(segment.len);
        }
        self.active = self.active.filter(|active| *active != number);
        self.note(
            lost.len() as u64,
            format!(
                "{}: {} messages could not be synced and were forgotten",
                file_name(self.name, number),
                lost.len()
            ),
        );
    }

    /// Where a message lies; verified on its first use since start.
    pub(super) fn locate(&mut self, disk: &dyn Disk, kind: Kind, hash: &Hash) -> Option<Extent> {
        let key = key(kind, hash);
        if self.places.get(&key)?.len & VERIFIED == 0 {
            self.read(disk, kind, hash)?;
        }
        let place = *self.places.get(&key)?;
        match self.handle(disk, place.segment) {
            Ok(file) => Some(Extent { file, offset: u64::from(place.offset), len: place.len() }),
            Err(error) => {
                self.drop_damaged(kind, hash, &error.to_string());
                None
            }
        }
    }

    /// A message in memory; verified on its first use since start.
    pub(super) fn read(&mut self, disk: &dyn Disk, kind: Kind, hash: &Hash) -> Option<Bytes> {
        let place = *self.places.get(&key(kind, hash))?;
        match self.read_place(disk, kind, hash, place) {
            Ok(bytes) => {
                if let Some(place) = self.places.get_mut(&key(kind, hash)) {
                    place.len |= VERIFIED;
                }
                Some(bytes)
            }
            Err(why) => {
                self.drop_damaged(kind, hash, &why);
                None
            }
        }
    }

    fn read_place(
        &mut self,
        disk: &dyn Disk,
        kind: Kind,
        hash: &Hash,
        place: Place,
    ) -> Result<Bytes, String> {
        let file = self.handle(disk, place.segment).map_err(|e| e.to_string())?;
        let mut bytes = vec![0; place.len() as usize];
        let got = file.read_at(u64::from(place.offset), &mut bytes).map_err(|e| e.to_string())?;
        if got < bytes.len() {
            return Err(format!("only {got} bytes are there"));
        }
        if place.len & VERIFIED == 0 {
            check::whole(self.magic, kind, hash, &bytes)?;
        }
        Ok(bytes.into())
    }

    fn drop_damaged(&mut self, kind: Kind, hash: &Hash, why: &str) {
        let Some(place) = self.places.remove(&key(kind, hash)) else { return };
        self.pending.retain(|entry| !(entry.kind == kind && entry.hash == *hash));
        let file = file_name(self.name, place.segment);
        let (command, hash) = (kind.command(), wire::display(hash));
        self.note(1, format!("{file}: {command} of {hash} at byte {} was dropped: {why}", place.offset));
    }

    fn note(&mut self, count: u64, sentence: String) {
        self.damaged += count;
        if self.notes.len() < STORE_NOTES {
            self.notes.push(sentence);
        }
    }

    /// Removes segments whose messages are all below a height; not the one appended to.
    pub(super) fn drop_below(&mut self, disk: &dyn Disk, height: u32) -> Result<u64, StoreError> {
        let old = |(number, segment): (&u32, &Segment)| {
            (segment.highest < height && self.active != Some(*number)).then_some(*number)
        };
        let victims = self.segments.iter().filter_map(old).collect();
        self.drop_segments(disk, &victims)
    }

    /// Removes the segments used longest ago until at most `limit` bytes are left; the one appended to goes last.
    pub(super) fn shrink(&mut self, disk: &dyn Disk, limit: u64) -> Result<u64, StoreError> {
        let mut left = self.bytes();
        let mut by_use: Vec<_> =
            self.segments.iter().map(|(n, s)| (self.active == Some(*n), s.used, *n, s.len)).collect();
        by_use.sort_unstable();
        let mut victims = BTreeSet::new();
        for (_, _, number, len) in by_use {
            if left <= limit {
                break;
            }
            left -= len;
            victims.insert(number);
        }
        self.drop_segments(disk, &victims)
    }

    fn drop_segments(&mut self, disk: &dyn Disk, victims: &BTreeSet<u32>) -> Result<u64, StoreError> {
        if victims.is_empty() {
            return Ok(0);
        }
        match self.rewrite_index(disk, victims) {
            // A full disk must not keep us from making room: the next start, or a later rewrite, drops the records.
            Ok(()) | Err(StoreError::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        self.places.retain(|_, place| !victims.contains(&place.segment));
        self.pending.retain(|entry| !victims.contains(&entry.segment));
        self.active = self.active.filter(|active| !victims.contains(active));
        let mut result = Ok(victims.len() as u64);
        for number in victims {
            self.segments.remove(number);
            self.unsynced.remove(number);
            self.handles.remove(number);
            let file = file_name(self.name, *number);
            // One that cannot be removed is an orphan from now on and goes at the next start.
            if let Err(error) = disk.remove(&file).named("remove", &file) {
                result = Err(error);
            }
        }
        result
    }

    /// Writes the index again without the records of these segments and those of messages dropped before.
    fn rewrite_index(&mut self, disk: &dyn Disk, without: &BTreeSet<u32>) -> Result<(), StoreError> {
        let places = &self.places;
        let keep = |entry: &Entry| {
            let place = places.get(&key(entry.kind, &entry.hash));
            !without.contains(&entry.segment)
                && place.is_some_and(|p| p.segment == entry.segment && p.offset == entry.offset)
        };
        // The rename may have happened even when an error comes back.
        self.unnamed = true;
        self.index.rewrite(disk, keep)?;
        self.sync_names(disk)
    }

    fn handle(&mut self, disk: &dyn Disk, number: u32) -> Result<FileRef, StoreError> {
        self.clock += 1;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.used = self.clock;
        }
        if let Some((file, used)) = self.handles.get_mut(&number) {
            *used = self.clock;
            return Ok(file.clone());
        }
        if self.handles.len() >= STORE_OPEN_SEGMENTS
            && let Some(oldest) = self.handles.iter().min_by_key(|(_, (_, used))| *used).map(|(n, _)| *n)
        {
            self.handles.remove(&oldest);
        }
        let name = file_name(self.name, number);
        let file = disk.open(&name).named("open", &name)?;
        self.handles.insert(number, (file.clone(), self.clock));
        Ok(file)
    }

    /// Bytes of all messages, damaged ones included.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    /// Messages that can be asked for.
    pub(super) fn messages(&self) -> u64 {
        self.places.len() as u64
    }

    /// Messages found damaged since start.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Sentences about them, once.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

fn key(kind: Kind, hash: &Hash) -> Key {
    let mut out = [0; 16];
    out[..15].copy_from_slice(&hash[..15]);
    out[15] = kind as u8;
    out
}

fn file_name(folder: &str, number: u32) -> String {
    format!("{folder}/{number:08}.seg")
}
