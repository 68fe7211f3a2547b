//! A file of fixed-size records by height: `PREFIX-GGGG.dat`, where GGGG is the generation.
//!
//! Does not know what the records mean; `chain` checks them.
//!
//! Invariants:
//! - Records below `frozen` are mapped by somebody and never changed in place: replacing one of them writes a new
//!   generation (write, sync, rename, sync the folder, remove the old one). The highest generation is the valid one.
//! - What `replace` returned `Ok` for survives a crash. After an error the records from `from` on are gone and the
//!   ones below it are as they were.
//! - `dirty` is true exactly when the file may hold something beyond `count` that a crash could bring back.

use crate::io::{Disk, FileRef};

use super::error::{Named, StoreError};

/// Bytes copied at a time into a new generation.
const COPY: usize = 1 << 20;

/// One file of records.
#[derive(Debug)]
pub(super) struct Records {
    prefix: &'static str,
    record: usize,
    generation: u32,
    file: FileRef,
    count: u32,
    frozen: u32,
    dirty: bool,
    /// True exactly when the current generation's name may not survive a crash yet.
    unnamed: bool,
}

impl Records {
    /// Opens the highest generation and removes the rest; creates the first with `initial` when there is none.
    pub(super) fn open(
        disk: &dyn Disk,
        prefix: &'static str,
        record: usize,
        initial: &[u8],
        repairs: &mut Vec<String>,
    ) -> Result<Records, StoreError> {
        let mut found: Vec<(u32, String)> = Vec::new();
        for (name, _) in disk.list("").named("list", "data directory")? {
            let Some(rest) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')) else {
                continue;
            };
            if let Some(Ok(generation)) = rest.strip_suffix(".dat").map(str::parse) {
                found.push((generation, name));
            } else if rest.ends_with(".tmp") {
                disk.remove(&name).named("remove", &name)?;
                repairs.push(format!("{name}: an unfinished replacement was removed"));
            }
        }
        found.sort();
        let Some((generation, _)) = found.pop() else {
            return Records::create(disk, prefix, record, initial);
        };
        let name = file_name(prefix, generation);
        let file = disk.open(&name).named("open", &name)?;
        // A killed process may have left records that are seen but not on the disk yet: what is reported must last.
        file.sync().named("sync", &name)?;
        disk.sync_folder("").named("sync", "data directory")?;
        let len = file.len().named("look at", &name)?;
        let count = (len / record as u64) as u32;
        let torn = len % record as u64;
        let mut records =
            Records { prefix, record, generation, file, count, frozen: 0, dirty: torn > 0, unnamed: false };
        if torn > 0 {
            repairs.push(format!("{name}: {torn} bytes of a torn record were cut"));
            records.truncate(disk, count)?;
        }
        // The newer name is durable by now.
        for (_, old) in found {
            disk.remove(&old).named("remove", &old)?;
            repairs.push(format!("{old}: superseded by {name}, removed"));
        }
        Ok(records)
    }

    fn create(
        disk: &dyn Disk,
        prefix: &'static str,
        record: usize,
        initial: &[u8],
    ) -> Result<Records, StoreError> {
        let (name, temporary) = (file_name(prefix, 1), temporary_name(prefix, 1));
        let file = disk.open(&temporary).named("create", &temporary)?;
        file.write_at(0, initial).named("write", &temporary)?;
        file.sync().named("sync", &temporary)?;
        disk.rename(&temporary, &name).named("rename", &temporary)?;
        disk.sync_folder("").named("sync", "data directory")?;
        let count = (initial.len() / record) as u32;
        Ok(Records { prefix, record, generation: 1, file, count, frozen: 0, dirty: false, unnamed: false })
    }

    /// Number of records.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Name of the current generation's file.
    pub(super) fn name(&self) -> String {
        file_name(self.prefix, self.generation)
    }

    /// The first `count` records as memory, without freezing them.
    pub(super) fn view(&self, count: u32) -> Result<bytes::Bytes, StoreError> {
        self.file.map(self.offset(count)).named("map", &self.name())
    }

    /// The records below `count` are mapped by somebody from now on.
    pub(super) fn freeze(&mut self, count: u32) {
        self.frozen = self.frozen.max(count.min(self.count));
    }

    /// One record.
    pub(super) fn read<const N: usize>(&self, height: u32) -> Result<[u8; N], StoreError> {
        let mut out = [0; N];
        let got = self.file.read_at(self.offset(height), &mut out).named("read", &self.name())?;
        if got < N { Err(short()).named("read", &self.name()) } else { Ok(out) }
    }

    /// Replaces all records from `from` (at most `count()`) on by `bytes`, durably.
    pub(super) fn replace(&mut self, disk: &dyn Disk, from: u32, bytes: &[u8]) -> Result<(), StoreError> {
        if from < self.frozen {
            return self.regenerate(disk, from, bytes);
        }
        self.count = self.count.min(from);
        self.dirty = true;
        let (at, end) = (self.offset(from), self.offset(from) + bytes.len() as u64);
        let name = self.name();
        let written = self.file.write_at(at, bytes).named("write", &name);
        let synced = written
            .and_then(|()| self.file.set_len(end).named("cut", &name))
            .and_then(|()| self.file.sync().named("sync", &name))
            .and_then(|()| self.sync_name(disk));
        match synced {
            Ok(()) => {
                self.count = from + (bytes.len() / self.record) as u32;
                self.dirty = false;
            }
            // Whatever part was written must not be taken for records; `dirty` has it cut again before the next use.
            Err(_) => drop(self.file.set_len(at)),
        }
        synced
    }

    /// Cuts durably to at most `count` records; also when the file may hold remains of a failed write.
    pub(super) fn truncate(&mut self, disk: &dyn Disk, count: u32) -> Result<(), StoreError> {
        if self.dirty || self.count > count {
            let from = self.count.min(count);
            self.replace(disk, from, &[])?;
        }
        Ok(())
    }

    /// Overwrites a single damaged record. Only before anything is frozen.
    pub(super) fn repair(&mut self, height: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let name = self.name();
        self.file.write_at(self.offset(height), bytes).named("write", &name)?;
        self.file.sync().named("sync", &name)
    }

    /// Forgets the records from `from` on without touching the frozen ones; they are cut at the next write.
    pub(super) fn forget(&mut self, from: u32) {
        if self.count > from {
            self.count = from;
            self.dirty = true;
        }
    }

    /// Writes a new file with the records below `from` and then `bytes`, and lets it take the place of this one.
    fn regenerate(&mut self, disk: &dyn Disk, from: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let generation = self.generation + 1;
        let temporary = temporary_name(self.prefix, generation);
        let old = self.name();
        let made = self.write_generation(disk, &temporary, from, bytes).and_then(|file| {
            let renamed = disk.rename(&temporary, &file_name(self.prefix, generation));
            renamed.named("rename", &temporary).map(|()| file)
        });
        self.count = self.count.min(from);
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // The old file still holds the old records from `from` on; they go with the next write.
                self.dirty = true;
                let _ = disk.remove(&temporary);
                return Err(error);
            }
        };
        *self = Records { generation, file, frozen: 0, dirty: false, unnamed: true, ..*self };
        self.sync_name(disk).inspect_err(|_| self.dirty = true)?;
        self.count = from + (bytes.len() / self.record) as u32;
        // A leftover is removed at the next start.
        let _ = disk.remove(&old);
        Ok(())
    }

    fn write_generation(
        &self,
        disk: &dyn Disk,
        name: &str,
        from: u32,
        bytes: &[u8],
    ) -> Result<FileRef, StoreError> {
        let file = disk.open(name).named("create", name)?;
        file.set_len(0).named("cut", name)?;
        let (mut at, end) = (0, self.offset(from));
        let mut buffer = vec![0; COPY.min(end as usize)];
        while at < end {
            let part = &mut buffer[..COPY.min((end - at) as usize)];
            if self.file.read_at(at, part).named("read", &self.name())? < part.len() {
                return Err(short()).named("read", &self.name());
            }
            file.write_at(at, part).named("write", name)?;
            at += part.len() as u64;
        }
        file.write_at(end, bytes).named("write", name)?;
        file.sync().named("sync", name)?;
        Ok(file)
    }

    fn sync_name(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        if self.unnamed {
            disk.sync_folder("").named("sync", "data directory")?;
            self.unnamed = false;
        }
        Ok(())
    }

    fn offset(&self, height: u32) -> u64 {
        u64::from(height) * self.record as u64
    }
}

fn file_name(prefix: &str, generation: u32) -> String {
    format!("{prefix}-{generation:04}.dat")
}

fn temporary_name(prefix: &str, generation: u32) -> String {
    format!("{prefix}-{generation:04}.tmp")
}

fn short() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "shorter than it was written")
}
