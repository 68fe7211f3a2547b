//! The index of a folder of segments: an append-only file of fixed-size records, each with its own CRC.
//!
//! Does not know what lies in the segments and does not keep the records in memory.
//!
//! Invariants: records below `len` were synced, after the data they point to; a damaged record never hides another
//! one; the file is only ever replaced whole, by a new one that was synced before.

use crate::io::{Disk, FileRef};
use crate::wire::Hash;

use super::error::{Named, StoreError};

/// Bytes of a record: hash 32, height 4, segment 4, offset 4, length 4, kind 4, CRC-32 of these 4; little-endian.
pub(super) const RECORD: usize = 56;
/// Records read at a time.
const READ: usize = 16_384;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Kind {
    /// A whole `block` message.
    Block = 1,
    /// A whole `cfilter` message.
    Filter = 2,
}

impl Kind {
    /// The command of its messages.
    pub(super) fn command(self) -> &'static str {
        match self {
            Kind::Block => "block",
            Kind::Filter => "cfilter",
        }
    }
}

/// Where a message lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) hash: Hash,
    pub(super) height: u32,
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Entry {
    /// As on disk.
    pub(super) fn encode(&self) -> [u8; RECORD] {
        let mut out = [0; RECORD];
        out[..32].copy_from_slice(&self.hash);
        let fields = [self.height, self.segment, self.offset, self.len, self.kind as u32];
        for (place, field) in out[32..52].as_chunks_mut::<4>().0.iter_mut().zip(fields) {
            *place = field.to_le_bytes();
        }
        let crc = crc32fast::hash(&out[..52]);
        out[52..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` exactly when the record is damaged.
    pub(super) fn decode(bytes: &[u8; RECORD]) -> Option<Entry> {
        let mut fields = bytes[32..].as_chunks::<4>().0.iter().map(|field| u32::from_le_bytes(*field));
        let mut next = || fields.next();
        let (height, segment, offset, len, kind, crc) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        if crc32fast::hash(&bytes[..52]) != crc {
            return None;
        }
        let kind = match kind {
            1 => Kind::Block,
            2 => Kind::Filter,
            _ => return None,
        };
        Some(Entry { kind, hash: *bytes.first_chunk()?, height, segment, offset, len })
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct Index {
    folder: &'static str,
    file: FileRef,
    len: u64,
}

/// What `Index::open` met besides good records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Damage {
    /// Damaged records with good ones behind them.
    pub(super) inside: u64,
    /// Bytes behind the last good record.
    pub(super) tail: u64,
}

impl Index {
    /// Opens the file, gives each good record to `each` in the order written, and cuts a torn tail.
    pub(super) fn open(
        disk: &dyn Disk,
        folder: &'static str,
        mut each: impl FnMut(Entry),
    ) -> Result<(Index, Damage), StoreError> {
        let name = name(folder);
        let file = disk.open(&name).named("open", &name)?;
        let all = file.len().named("look at", &name)?;
        let mut index = Index { folder, file, len: all - all % RECORD as u64 };
        let (mut good, mut records) = (0, 0);
        let mut position = 0;
        index.scan(|record| {
            position += RECORD as u64;
            if let Some(entry) = Entry::decode(record) {
                (good, records) = (position, records + 1);
                each(entry);
            }
        })?;
        index.len = good;
        if good < all {
            // If this fails the tail is overwritten by the next records, or met again at the next start.
            let _ = index.file.set_len(good);
        }
        // A killed process may have left records that are seen but not on the disk yet: what is reported must last.
        index.file.sync().named("sync", &name)?;
        disk.sync_folder(folder).named("sync", folder)?;
        Ok((index, Damage { inside: good / RECORD as u64 - records, tail: all - good }))
    }

    /// Appends records durably. After an error none of them counts, and they may be appended again.
    pub(super) fn append(&mut self, records: &[[u8; RECORD]]) -> Result<(), StoreError> {
        let name = name(self.folder);
        let bytes = records.as_flattened();
        let written = self.file.write_at(self.len, bytes).named("write", &name);
        match written.and_then(|()| self.file.sync().named("sync", &name)) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                let _ = self.file.set_len(self.len);
                Err(error)
            }
        }
    }

    /// Replaces the file by one that holds only the records `keep` wants. `Ok` means written and renamed; the
    /// caller syncs the folder before it relies on it. After an error the old file is in place.
    pub(super) fn rewrite(
        &mut self,
        disk: &dyn Disk,
        keep: impl Fn(&Entry) -> bool,
    ) -> Result<(), StoreError> {
        let (name, temporary) = (name(self.folder), format!("{}/index.tmp", self.folder));
        match self.write_copy(disk, &temporary, keep) {
            Ok((file, len)) => {
                if let Err(error) = disk.rename(&temporary, &name) {
                    let _ = disk.remove(&temporary);
                    return Err(error).named("rename", &temporary);
                }
                (self.file, self.len) = (file, len);
                Ok(())
            }
            Err(error) => {
                let _ = disk.remove(&temporary);
                Err(error)
            }
        }
    }

    fn write_copy(
        &self,
        disk: &dyn Disk,
        name: &str,
        keep: impl Fn(&Entry) -> bool,
    ) -> Result<(FileRef, u64), StoreError> {
        let file = disk.open(name).named("create", name)?;
        file.set_len(0).named("cut", name)?;
        let (mut len, mut part) = (0, Vec::new());
        let mut result = Ok(());
        let mut flush = |part: &mut Vec<u8>| {
            if result.is_ok() {
                result = file.write_at(len, part).named("write", name);
            }
            len += part.len() as u64;
            part.clear();
        };
        self.scan(|record| {
            if Entry::decode(record).is_some_and(|entry| keep(&entry)) {
                part.extend_from_slice(record);
            }
            if part.len() >= READ * RECORD {
                flush(&mut part);
            }
        })?;
        flush(&mut part);
        result?;
        file.sync().named("sync", name)?;
        Ok((file, len))
    }

    /// Gives every record, good or not, in order.
    fn scan(&self, mut each: impl FnMut(&[u8; RECORD])) -> Result<(), StoreError> {
        let name = name(self.folder);
        let mut buffer = vec![0; (READ * RECORD).min(self.len as usize)];
        let mut at = 0;
        while at < self.len {
            let part = &mut buffer[..((self.len - at) as usize).min(READ * RECORD)];
            let got = self.file.read_at(at, part).named("read", &name)?;
            let whole = part[..got].as_chunks::<RECORD>().0;
            whole.iter().for_each(&mut each);
            if whole.is_empty() {
                break;
            }
            at += (whole.len() * RECORD) as u64;
        }
        Ok(())
    }
}

fn name(folder: &str) -> String {
    format!("{folder}/index.dat")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_every_flipped_bit_is_noticed() {
        let entry = Entry { kind: Kind::Filter, hash: [7; 32], height: 1, segment: 2, offset: 3, len: 4 };
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes), Some(entry));
        for bit in 0..RECORD * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry::decode(&bytes), None, "bit {bit}");
        }
        assert_eq!(Entry::decode(&[0; RECORD]), None);
    }
}
