//! A folder read back at start: the index, what the index does not name but the segments hold, and the rest cut.
//!
//! Reads no message that the index names: those are verified on their first use.
//!
//! Invariant: what is cut or removed is no whole message with a right checksum, or one that is elsewhere as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use crate::hub::store::error::{Named, StoreError};
use crate::hub::store::index::{Damage, Entry, Index};
use crate::hub::store::recover;
use crate::io::Disk;
use crate::wire::{Hash, Magic};

use super::{Folder, Key, Place, VERIFIED, file_name, key};

/// What the index said that is not so, by segment: number of entries that point to nothing.
type Lost = BTreeMap<u32, u64>;

impl Folder {
    /// Reads the index, drops what does not fit the segments, indexes again what the index has lost, removes the rest.
    /// `heights` tells the height of a block of the best chain; others count as the highest.
    pub(in crate::hub::store) fn open(
        disk: &dyn Disk,
        name: &'static str,
        magic: Magic,
        segment_bytes: u64,
        heights: &dyn Fn(&Hash) -> Option<u32>,
        repairs: &mut Vec<String>,
    ) -> Result<Folder, StoreError> {
        let on_disk = list(disk, name, repairs)?;
        let mut places: HashMap<Key, Place> = HashMap::new();
        let mut lost = Lost::new();
        let mut next = on_disk.last_key_value().map_or(0, |(number, _)| number.saturating_add(1));
        let (index, damage) = Index::open(disk, name, |entry| {
            next = next.max(entry.segment.saturating_add(1));
            let place =
                Place { height: entry.height, segment: entry.segment, offset: entry.offset, len: entry.len };
            match on_disk.get(&entry.segment) {
                Some(len) if place.len < VERIFIED && place.end() <= *len => {
                    places.insert(key(entry.kind, &entry.hash), place);
                }
                _ => *lost.entry(entry.segment).or_default() += 1,
            }
        })?;
        let mut folder = Folder {
            name,
            magic,
            segment_bytes,
            index,
            places,
            segments: BTreeMap::new(),
            active: None,
            next,
            pending: Vec::new(),
            unsynced: BTreeMap::new(),
            unnamed: false,
            handles: HashMap::new(),
            clock: 0,
            notes: Vec::new(),
            damaged: 0,
        };
        for place in folder.places.values() {
            let segment = folder.segments.entry(place.segment).or_default();
            segment.len = segment.len.max(place.end());
            segment.highest = segment.highest.max(place.height);
            segment.sealed = lost.contains_key(&place.segment);
        }
        report(name, &damage, &lost, &on_disk, repairs);
        let gaps = folder.gaps(&on_disk, damage.inside > 0);
        folder.recover(disk, gaps, heights, repairs)?;
        folder.cut_orphans(disk, &on_disk, repairs)?;
        if damage.inside > 0 || !lost.is_empty() {
            // On a full disk the damaged records stay until a later rewrite; they are dropped at each start.
            let _ = folder.rewrite_index(disk, &BTreeSet::new());
        }
        // What was recovered is served already; if it cannot be indexed now (full disk), a later sync will.
        let _ = folder.sync(disk);
        let last = folder.segments.iter().next_back();
        folder.active = last.filter(|(_, s)| !s.sealed && s.len < segment_bytes).map(|(number, _)| *number);
        Ok(folder)
    }

    /// The bytes that no entry covers: behind the last entry of each segment and, when asked, between entries.
    fn gaps(&self, on_disk: &BTreeMap<u32, u64>, between: bool) -> Vec<(u32, Range<u64>)> {
        let mut gaps = Vec::new();
        for (number, len) in on_disk {
            let from = self.segments.get(number).map_or(0, |segment| segment.len);
            if from < *len {
                gaps.push((*number, from..*len));
            }
        }
        if between {
            let mut covered: Vec<(u32, u64, u64)> =
                self.places.values().map(|p| (p.segment, u64::from(p.offset), p.end())).collect();
            covered.sort_unstable();
            let mut before = (u32::MAX, 0);
            for (number, offset, end) in covered {
                let from = if before.0 == number { before.1 } else { 0 };
                if from < offset {
                    gaps.push((number, from..offset));
                }
                before = (number, end.max(from));
            }
        }
        gaps
    }

    /// Puts the whole messages found in the gaps back into the index (at the next sync).
    fn recover(
        &mut self,
        disk: &dyn Disk,
        gaps: Vec<(u32, Range<u64>)>,
        heights: &dyn Fn(&Hash) -> Option<u32>,
        repairs: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let highest = self.segments.values().map(|segment| segment.highest).max().unwrap_or(0);
        for (number, gap) in gaps {
            let file = self.handle(disk, number)?;
            let found = recover::scan(&file, self.magic, gap).named("read", &file_name(self.name, number))?;
            let mut count = 0;
            for message in
                found.into_iter().filter(|message| !self.has(message.kind, &message.hash)).collect::<Vec<_>>()
            {
                let (Ok(offset), height) =
                    (u32::try_from(message.offset), heights(&message.hash).unwrap_or(highest))
                else {
                    continue;
                };
                let recover::Found { kind, hash, len, .. } = message;
                let place = Place { height, segment: number, offset, len: len | VERIFIED };
                let segment = self.segments.entry(number).or_default();
                segment.len = segment.len.max(place.end());
                segment.highest = segment.highest.max(height);
                self.places.insert(key(kind, &hash), place);
                self.pending.push(Entry { kind, hash, height, segment: number, offset, len });
                self.unsynced.insert(number, file.clone());
                count += 1;
            }
            self.sync_if_many(disk)?;
            if count > 0 {
                let file = file_name(self.name, number);
                repairs
                    .push(format!("{file}: {count} messages that the index did not name were indexed again"));
            }
        }
        Ok(())
    }

    /// Removes segments without entries and cuts bytes behind the last entry of the others.
    fn cut_orphans(
        &self,
        disk: &dyn Disk,
        on_disk: &BTreeMap<u32, u64>,
        repairs: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        for (number, len) in on_disk {
            let file = file_name(self.name, *number);
            match self.segments.get(number) {
                None => {
                    disk.remove(&file).named("remove", &file)?;
                    repairs.push(format!("{file}: it holds nothing whole, removed"));
                }
                Some(segment) if segment.len < *len => {
                    disk.open(&file).and_then(|f| f.set_len(segment.len)).named("cut", &file)?;
                    repairs.push(format!(
                        "{file}: {} bytes that are no whole message were cut",
                        len - segment.len
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// The segments and their lengths; an unfinished index is removed.
fn list(disk: &dyn Disk, name: &str, repairs: &mut Vec<String>) -> Result<BTreeMap<u32, u64>, StoreError> {
    let mut segments = BTreeMap::new();
    for (file, len) in disk.list(name).named("list", name)? {
        if let Some(Ok(number)) = file.strip_suffix(".seg").map(str::parse::<u32>) {
            segments.insert(number, len);
        } else if file == "index.tmp" {
            let file = format!("{name}/{file}");
            disk.remove(&file).named("remove", &file)?;
            repairs.push(format!("{file}: an unfinished index was removed"));
        }
    }
    Ok(segments)
}

fn report(name: &str, damage: &Damage, lost: &Lost, on_disk: &BTreeMap<u32, u64>, repairs: &mut Vec<String>) {
    if damage.tail > 0 {
        repairs.push(format!("{name}/index.dat: a torn tail of {} bytes was cut", damage.tail));
    }
    if damage.inside > 0 {
        repairs.push(format!("{name}/index.dat: {} damaged records were dropped", damage.inside));
    }
    for (number, count) in lost {
        let what = if on_disk.contains_key(number) { "shorter than its index says" } else { "missing" };
        repairs.push(format!("{}: {what}; {count} messages were dropped", file_name(name, *number)));
    }
}
