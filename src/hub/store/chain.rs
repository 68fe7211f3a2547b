//! Headers and filter records of the best chain, on disk.
//!
//! Three files of records by height: `headers` (80 bytes: the header), `headersums` (4 bytes: its CRC-32, which tells
//! a damaged tip from a good one; below the tip the successor's link does) and `cfheaders` (64 bytes: filter
//! header, filter hash; each proves itself, because a filter header is the hash of its filter hash and the one before).
//!
//! Does not check proof of work and does not choose between chains.
//!
//! Invariants: there is always at least the genesis header; there are never more filter records than headers; before
//! a header is replaced, the filter records from its height on are durably cut, so that no crash leaves the filter
//! of one chain beside the header of another.

use std::ops::Range;
use std::sync::Arc;

use crate::base::limits::STORE_RECENT;
use crate::feed::chain_view::{FILTER_BYTES, FilterRecord, Frozen, HEADER_BYTES, Record};
use crate::io::Disk;
use crate::wire::{self, Hash, sha256d};

use super::error::StoreError;
use super::records::Records;

const SUM_BYTES: usize = 4;
/// Below this many records a second thread costs more than it saves.
const PARALLEL_FROM: u32 = 16_384;
/// More threads than this do not make start-up faster: memory is the bound then.
const MAX_THREADS: u32 = 8;
/// A genesis record that differs in at most this many bytes is damage, not another network's.
const DAMAGED_BYTES: usize = 2;

/// The record files of the chain.
#[derive(Debug)]
pub(super) struct ChainFiles {
    headers: Records,
    sums: Records,
    filters: Records,
    genesis: [u8; HEADER_BYTES],
}

impl ChainFiles {
    /// Opens and checks; cuts what does not fit.
    pub(super) fn open(
        disk: &dyn Disk,
        genesis: [u8; HEADER_BYTES],
        repairs: &mut Vec<String>,
    ) -> Result<ChainFiles, StoreError> {
        let headers = Records::open(disk, "headers", HEADER_BYTES, &genesis, repairs)?;
        let sums = Records::open(disk, "headersums", SUM_BYTES, &sum(&genesis), repairs)?;
        let filters = Records::open(disk, "cfheaders", FILTER_BYTES, &[], repairs)?;
        let mut files = ChainFiles { headers, sums, filters, genesis };
        files.check_genesis(disk, repairs)?;
        files.check_headers(disk, repairs)?;
        files.check_filters(disk, repairs)?;
        Ok(files)
    }

    /// Number of headers, at least one.
    pub(super) fn headers(&self) -> u32 {
        self.headers.count()
    }

    /// Number of filter records, at most `headers()`.
    pub(super) fn filters(&self) -> u32 {
        self.filters.count()
    }

    /// See `Store::write_headers`.
    pub(super) fn write_headers(
        &mut self,
        disk: &dyn Disk,
        from: u32,
        headers: &[[u8; HEADER_BYTES]],
    ) -> Result<(), StoreError> {
        let what = "headers";
        if from > self.headers() || (from == 0 && headers.is_empty()) {
            return Err(StoreError::Gap { what, height: from, have: self.headers() + 1 });
        }
        let mut previous = match from {
            0 => [0; 32],
            _ => sha256d(&self.headers.read::<HEADER_BYTES>(from - 1)?),
        };
        for (height, header) in (from..).zip(headers) {
            if header[4..36] != previous || (height == 0 && *header != self.genesis) {
                return Err(StoreError::Unlinked { what, height });
            }
            previous = sha256d(header);
        }
        self.filters.truncate(disk, from)?;
        self.headers.replace(disk, from, headers.as_flattened())?;
        let sums: Vec<u8> = headers.iter().flat_map(sum).collect();
        self.sums.replace(disk, from, &sums).inspect_err(|_| self.headers.forget(from))
    }

    /// See `Store::write_filter_records`.
    pub(super) fn write_filters(
        &mut self,
        disk: &dyn Disk,
        from: u32,
        records: &[FilterRecord],
    ) -> Result<(), StoreError> {
        let what = "filter records";
        let (end, have) = (from.saturating_add(records.len() as u32), self.headers());
        if from > self.filters() {
            return Err(StoreError::Gap { what, height: from, have: self.filters() + 1 });
        }
        if end > have {
            return Err(StoreError::Gap { what, height: end - 1, have });
        }
        let mut previous = match from {
            0 => [0; 32],
            _ => header_of(&self.filters.read::<FILTER_BYTES>(from - 1)?),
        };
        let mut bytes = Vec::with_capacity(records.len() * FILTER_BYTES);
        for (height, record) in (from..).zip(records) {
            if filter_header(&record.hash, &previous) != record.header {
                return Err(StoreError::Unlinked { what, height });
            }
            previous = record.header;
            bytes.extend_from_slice(&record.header);
            bytes.extend_from_slice(&record.hash);
        }
        self.filters.replace(disk, from, &bytes)
    }

    /// See `Store::freeze`.
    pub(super) fn freeze(&mut self, heights: u32) -> Result<Arc<Frozen>, StoreError> {
        if heights > self.headers() {
            return Err(StoreError::Gap {
                what: "frozen headers",
                height: heights - 1,
                have: self.headers(),
            });
        }
        let filters = self.filters().min(heights);
        let (header_bytes, filter_bytes) = (self.headers.view(heights)?, self.filters.view(filters)?);
        self.headers.freeze(heights);
        self.filters.freeze(filters);
        Ok(Arc::new(Frozen::new(header_bytes, filter_bytes)))
    }

    /// All but the last records frozen, and these.
    pub(super) fn split(&mut self) -> Result<(Arc<Frozen>, Vec<Record>), StoreError> {
        let heights = self.headers().saturating_sub(STORE_RECENT);
        let mut recent = Vec::with_capacity((self.headers() - heights) as usize);
        for height in heights..self.headers() {
            let header = self.headers.read::<HEADER_BYTES>(height)?;
            let filter = match height < self.filters() {
                true => Some(self.filters.read::<FILTER_BYTES>(height)?),
                false => None,
            };
            recent.push(Record { header, hash: sha256d(&header), filter: filter.map(|f| filter_record(&f)) });
        }
        Ok((self.freeze(heights)?, recent))
    }

    /// Record 0 is this network's; a damaged one is written again.
    fn check_genesis(&mut self, disk: &dyn Disk, repairs: &mut Vec<String>) -> Result<(), StoreError> {
        let name = self.headers.name();
        if self.headers() == 0 {
            self.headers.replace(disk, 0, &self.genesis)?;
            repairs.push(format!("{name}: it was empty, the genesis block was written again"));
            return Ok(());
        }
        let first = self.headers.read::<HEADER_BYTES>(0)?;
        if first == self.genesis {
            return Ok(());
        }
        let differing = first.iter().zip(&self.genesis).filter(|(a, b)| a != b).count();
        let linked =
            self.headers() > 1 && self.headers.read::<HEADER_BYTES>(1)?[4..36] == sha256d(&self.genesis);
        if !(linked || differing <= DAMAGED_BYTES || first == [0; HEADER_BYTES]) {
            return Err(StoreError::OtherNetwork {
                file: name,
                found: wire::display(&sha256d(&first)),
                expected: wire::display(&sha256d(&self.genesis)),
            });
        }
        repairs.push(format!("{name}: the damaged genesis record was written again"));
        self.headers.repair(0, &self.genesis)
    }

    fn check_headers(&mut self, disk: &dyn Disk, repairs: &mut Vec<String>) -> Result<(), StoreError> {
        let count = self.headers();
        let (header_map, sum_map) = (self.headers.view(count)?, self.sums.view(self.sums.count())?);
        let (headers, sums) = (header_map.as_chunks().0, sum_map.as_chunks().0);
        let good = first_bad(count, |range| first_bad_header(headers, sums, range)).unwrap_or(count);
        // Its sum may be damaged, but the genesis record was compared whole.
        let good = good.max(1);
        // Sums that are damaged, missing or too many are made again from the headers their successors vouch for.
        let right: Vec<[u8; SUM_BYTES]> = headers.iter().take(good as usize).map(sum).collect();
        let same = sums.iter().zip(&right).take_while(|(a, b)| a == b).count();
        let sums_good = same == right.len() && same == sums.len();
        // Nothing mapped is cut or written.
        drop((header_map, sum_map));
        if good < count {
            let (name, cut) = (self.headers.name(), count - good);
            repairs
                .push(format!("{name}: {cut} records from height {good} on are damaged or do not link; cut"));
            self.filters.truncate(disk, good)?;
            self.headers.truncate(disk, good)?;
        }
        if !sums_good {
            let rest = right.get(same..).unwrap_or_default().as_flattened();
            self.sums.replace(disk, same as u32, rest)?;
            repairs.push(format!("{}: written again from height {same} on", self.sums.name()));
        }
        Ok(())
    }

    fn check_filters(&mut self, disk: &dyn Disk, repairs: &mut Vec<String>) -> Result<(), StoreError> {
        let (count, most) = (self.filters(), self.headers());
        let map = self.filters.view(count)?;
        let filters = map.as_chunks().0;
        let good =
            first_bad(count.min(most), |range| first_bad_filter(filters, range)).unwrap_or(count.min(most));
        drop(map);
        if good < count {
            let (name, cut) = (self.filters.name(), count - good);
            let why = if good == most { "have no header" } else { "do not follow from one another" };
            repairs.push(format!("{name}: {cut} records from height {good} on {why}; cut"));
            self.filters.truncate(disk, good)?;
        }
        Ok(())
    }
}

/// First height of the range whose header neither its sum nor its successor vouches for, or that does not link.
fn first_bad_header(
    headers: &[[u8; HEADER_BYTES]],
    sums: &[[u8; SUM_BYTES]],
    range: Range<u32>,
) -> Option<u32> {
    let mut previous = match range.start {
        0 => [0; 32],
        start => sha256d(headers.get(start as usize - 1)?),
    };
    for height in range {
        let header = headers.get(height as usize)?;
        let hash = sha256d(header);
        let linked = header[4..36] == previous;
        let sound = sums.get(height as usize) == Some(&sum(header))
            || headers.get(height as usize + 1).is_some_and(|next| next[4..36] == hash);
        if !(linked && sound) {
            return Some(height);
        }
        previous = hash;
    }
    None
}

/// First height of the range whose filter header is not made from its filter hash and the one before.
fn first_bad_filter(filters: &[[u8; FILTER_BYTES]], range: Range<u32>) -> Option<u32> {
    let mut previous = match range.start {
        0 => [0; 32],
        start => header_of(filters.get(start as usize - 1)?),
    };
    for height in range {
        let record = filter_record(filters.get(height as usize)?);
        if filter_header(&record.hash, &previous) != record.header {
            return Some(height);
        }
        previous = record.header;
    }
    None
}

/// Asks all cores for the first bad record below `count`: 900,000 records are hashed twice over, which one core
/// alone could not do within the start-up time promised.
fn first_bad(count: u32, check: impl Fn(Range<u32>) -> Option<u32> + Sync) -> Option<u32> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32).min(MAX_THREADS);
    if count < PARALLEL_FROM || threads == 1 {
        return check(0..count);
    }
    let step = count.div_ceil(threads);
    let check = &check;
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|i| (i * step).min(count)..((i + 1) * step).min(count))
            .map(|range| (range.start, scope.spawn(move || check(range))))
            .collect();
        // A thread that could not finish counts as having found its first record bad.
        parts.into_iter().filter_map(|(start, part)| part.join().unwrap_or(Some(start))).min()
    })
}

/// BIP157: a filter header is the hash of the filter hash and the previous filter header (zero for genesis).
pub(super) fn filter_header(hash: &Hash, previous: &Hash) -> Hash {
    let mut both = [0; FILTER_BYTES];
    both[..32].copy_from_slice(hash);
    both[32..].copy_from_slice(previous);
    sha256d(&both)
}

fn header_of(record: &[u8; FILTER_BYTES]) -> Hash {
    filter_record(record).header
}

fn filter_record(record: &[u8; FILTER_BYTES]) -> FilterRecord {
    let mut out = FilterRecord { header: [0; 32], hash: [0; 32] };
    out.header.copy_from_slice(&record[..32]);
    out.hash.copy_from_slice(&record[32..]);
    out
}

fn sum(header: &[u8; HEADER_BYTES]) -> [u8; SUM_BYTES] {
    crc32fast::hash(header).to_le_bytes()
}
