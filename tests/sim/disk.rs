//! A disk in memory that fails on demand and forgets on a crash what was not synced. Seeded and deterministic.
//!
//! What a crash may do, each decided by the seed, for each write since the file's last successful `sync`: keep it,
//! lose it, or keep only its beginning; a lost or torn write that extended the file may leave zeros in its place. A
//! creation, removal or rename since the folder's last `sync_folder` is kept or lost. A `sync` that fails has dropped
//! what it should have written (as Linux does with dirty pages), though reads still see it until the crash.
//!
//! It does not model time, permissions or sectors: bytes that were synced stay, unless `flip` or `truncate` is called.
//! After a crash every handle from before it answers with an error, like a process that has died.

#![allow(dead_code, unreachable_pub)] // Each test binary compiles this module and uses its own part of it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};

use breakwater::io::{Disk, File, FileRef};
use bytes::Bytes;

/// An operation that can be made to fail once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fail {
    /// `read_at` and `map`: EIO.
    Read,
    /// `write_at`: the first half is written, then EIO.
    Write,
    /// `sync`: EIO, and what was to be synced is lost at the next crash.
    Sync,
    /// `open`: EIO.
    Open,
    /// `rename`: EIO.
    Rename,
    /// `sync_folder`: EIO.
    SyncFolder,
}

impl Fail {
    pub const ALL: [Fail; 6] =
        [Fail::Read, Fail::Write, Fail::Sync, Fail::Open, Fail::Rename, Fail::SyncFolder];
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default, Debug)]
struct State {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    nodes: Vec<Node>,
    fail: Vec<Fail>,
    space: Option<u64>,
    stop_after: Option<u64>,
    stopped: bool,
    epoch: u64,
}

/// One creation, rename or removal: `gone` no longer has a file, `here` has this one.
#[derive(Clone, Debug)]
struct NameChange {
    folder: String,
    gone: Option<String>,
    here: Option<(String, usize)>,
}

#[derive(Default, Debug)]
struct Node {
    data: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl SimDisk {
    /// An empty disk without faults.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// The machine loses power: what was not synced is kept, lost or torn, as the seed says.
    pub fn crash(&self, seed: u64) {
        let mut dice = Dice(seed);
        let mut state = self.state();
        let state = &mut *state;
        for change in std::mem::take(&mut state.name_changes) {
            if dice.below(2) == 0 {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        for node in &mut state.nodes {
            for change in std::mem::take(&mut node.unsynced) {
                match dice.below(3) {
                    0 => change.apply(&mut node.durable, usize::MAX),
                    1 => change.tear(&mut node.durable, &mut dice),
                    _ => {}
                }
            }
            node.data = node.durable.clone();
        }
        state.fail.clear();
        state.stop_after = None;
        state.stopped = false;
        state.epoch += 1;
    }

    /// The process ends without the machine losing anything (kill -9).
    pub fn kill(&self) {
        let mut state = self.state();
        state.fail.clear();
        state.stop_after = None;
        state.stopped = false;
        state.epoch += 1;
    }

    /// The next operation of this kind fails.
    pub fn fail_next(&self, kind: Fail) {
        self.state().fail.push(kind);
    }

    /// No fault is pending any more.
    pub fn no_faults(&self) {
        let mut state = self.state();
        state.fail.clear();
        state.stop_after = None;
        state.stopped = false;
        state.space = None;
    }

    /// After this many more changing operations everything fails, until `crash`, `kill` or `no_faults`.
    pub fn stop_after(&self, operations: u64) {
        self.state().stop_after = Some(operations);
    }

    /// Bytes that may still be added to files; `None` is no bound. Beyond it writes do what fits, then ENOSPC.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.state().space = bytes;
    }

    /// Inverts a bit of a file (bit 0 is the lowest of byte 0); false when the file is not that long.
    pub fn flip(&self, name: &str, bit: u64) -> bool {
        let mut state = self.state();
        let Some(node) = state.names.get(name).copied() else { return false };
        let node = &mut state.nodes[node];
        let (byte, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        for data in [&mut node.data, &mut node.durable] {
            match data.get_mut(byte) {
                Some(byte) => *byte ^= mask,
                None => return false,
            }
        }
        true
    }

    /// Cuts a file, synced bytes and all.
    pub fn truncate(&self, name: &str, len: u64) {
        let mut state = self.state();
        if let Some(node) = state.names.get(name).copied() {
            let node = &mut state.nodes[node];
            node.data.truncate(len as usize);
            node.durable.truncate(len as usize);
        }
    }

    /// All files with their lengths.
    pub fn files(&self) -> Vec<(String, u64)> {
        let state = self.state();
        state.names.iter().map(|(name, node)| (name.clone(), state.nodes[*node].data.len() as u64)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn fails(&mut self, kind: Fail) -> io::Result<()> {
        if self.stopped {
            return Err(eio());
        }
        match self.fail.iter().position(|f| *f == kind) {
            Some(at) => {
                self.fail.remove(at);
                Err(eio())
            }
            None => Ok(()),
        }
    }

    /// Counts an operation that changes something.
    fn step(&mut self) -> io::Result<()> {
        match &mut self.stop_after {
            Some(0) => {
                self.stopped = true;
                Err(eio())
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((name, node)) = &self.here {
            names.insert(name.clone(), *node);
        }
    }
}

impl Change {
    /// Does the change, a write up to `most` bytes.
    fn apply(&self, data: &mut Vec<u8>, most: usize) {
        match self {
            Change::Write(offset, bytes) => {
                let bytes = &bytes[..bytes.len().min(most)];
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if data.len() < end && !bytes.is_empty() {
                    data.resize(end, 0);
                }
                if !bytes.is_empty() {
                    data[start..end].copy_from_slice(bytes);
                }
            }
            Change::SetLen(len) => data.resize(*len as usize, 0),
        }
    }

    fn tear(&self, data: &mut Vec<u8>, dice: &mut Dice) {
        if let Change::Write(offset, bytes) = self {
            let most = dice.below(bytes.len() as u64 + 1) as usize;
            self.apply(data, most);
            let end = *offset as usize + bytes.len();
            if data.len() < end && dice.below(2) == 0 {
                data.resize(end, 0);
            }
        }
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn folder_of(name: &str) -> String {
    name.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default()
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<FileRef> {
        let mut state = self.state();
        state.fails(Fail::Open)?;
        let node = match state.names.get(name) {
            Some(node) => *node,
            None => {
                state.step()?;
                let node = state.nodes.len();
                state.nodes.push(Node::default());
                let here = Some((name.to_owned(), node));
                state.rename(NameChange { folder: folder_of(name), gone: None, here });
                node
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), node, epoch: state.epoch }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        let files = state.names.iter().filter(|(name, _)| folder_of(name) == folder);
        let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(files.map(|(name, node)| (last(name), state.nodes[*node].data.len() as u64)).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.stopped {
            return Err(eio());
        }
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.step()?;
        let len = state.names.get(name).map_or(0, |node| state.nodes[*node].data.len() as u64);
        if let Some(space) = &mut state.space {
            *space += len;
        }
        state.rename(NameChange { folder: folder_of(name), gone: Some(name.to_owned()), here: None });
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.fails(Fail::Rename)?;
        let Some(node) = state.names.get(from).copied() else { return Err(io::ErrorKind::NotFound.into()) };
        state.step()?;
        let here = Some((to.to_owned(), node));
        state.rename(NameChange { folder: folder_of(to), gone: Some(from.to_owned()), here });
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state();
        state.fails(Fail::SyncFolder)?;
        state.step()?;
        let state = &mut *state;
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.name_changes).into_iter().partition(|c| c.folder == folder);
        state.name_changes = later;
        now.iter().for_each(|change| change.apply(&mut state.durable_names));
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: usize,
    epoch: u64,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.epoch == self.epoch { Ok(state) } else { Err(eio()) }
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.nodes[self.node].data.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        state.fails(Fail::Read)?;
        let data = &state.nodes[self.node].data;
        let rest = data.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let state = &mut *state;
        if state.stopped {
            return Err(eio());
        }
        let mut result = state.step();
        let mut most = if result.is_err() { bytes.len() / 3 } else { bytes.len() };
        if state.fails(Fail::Write).is_err() && result.is_ok() {
            result = Err(eio());
            most = bytes.len() / 2;
        }
        let node = &mut state.nodes[self.node];
        if let Some(space) = &mut state.space {
            let len = node.data.len() as u64;
            let grows = |most: usize| (offset + most as u64).saturating_sub(len);
            if grows(most) > *space {
                most = (len + *space).saturating_sub(offset).min(most as u64) as usize;
                result = Err(io::Error::from_raw_os_error(28));
            }
            *space -= grows(most);
        }
        if most > 0 {
            let change = Change::Write(offset, bytes[..most].to_vec());
            change.apply(&mut node.data, usize::MAX);
            node.unsynced.push(change);
        }
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        if state.stopped {
            return Err(eio());
        }
        state.step()?;
        let state = &mut *state;
        let node = &mut state.nodes[self.node];
        if let Some(space) = &mut state.space {
            *space += (node.data.len() as u64).saturating_sub(len);
        }
        Change::SetLen(len).apply(&mut node.data, 0);
        node.unsynced.push(Change::SetLen(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        if state.stopped {
            return Err(eio());
        }
        state.step()?;
        let result = state.fails(Fail::Sync);
        let node = &mut state.nodes[self.node];
        let changes = std::mem::take(&mut node.unsynced);
        if result.is_ok() {
            changes.iter().for_each(|change| change.apply(&mut node.durable, usize::MAX));
        }
        result
    }

    fn map(&self, len: u64) -> io::Result<Bytes> {
        let mut state = self.state()?;
        state.fails(Fail::Read)?;
        let data = &state.nodes[self.node].data;
        match data.get(..len as usize) {
            Some(part) => Ok(Bytes::copy_from_slice(part)),
            None => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{len} bytes of {}", data.len())))
            }
        }
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

/// splitmix64: small, seeded, the same on every machine and version.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }
}
