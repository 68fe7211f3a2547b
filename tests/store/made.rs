//! Things to store, each made from a number, so that a test can say what it should get back.

use breakwater::feed::chain_view::FilterRecord;
use breakwater::hub::store::{Keep, Opened, Store, StoreConfig};
use breakwater::wire::{Hash, Magic, sha256d, write};

use crate::disk::{Dice, SimDisk};

pub const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];
pub const GENESIS: [u8; 80] = {
    let mut header = [0; 80];
    header[0] = 1;
    header[68] = 9;
    header
};

pub fn config(keep: Keep) -> StoreConfig {
    StoreConfig { magic: MAGIC, genesis: GENESIS, keep, cache_bytes: 1 << 20, segment_bytes: 4096 }
}

pub fn open(disk: &SimDisk) -> (Store, Opened) {
    Store::open(Box::new(disk.clone()), config(Keep::All)).unwrap()
}

/// `count` headers behind `previous`; the salt makes branches differ.
pub fn headers_behind(mut previous: Hash, count: u32, salt: u64) -> Vec<[u8; 80]> {
    (0..count)
        .map(|n| {
            let mut header = [0; 80];
            header[0] = 2;
            header[4..36].copy_from_slice(&previous);
            header[36..44].copy_from_slice(&salt.to_le_bytes());
            header[76..].copy_from_slice(&n.to_le_bytes());
            previous = sha256d(&header);
            header
        })
        .collect()
}

/// The filter hash that belongs to a block: wrong beside any other block.
pub fn filter_hash(block: &Hash) -> Hash {
    sha256d(&[&block[..], b"filter"].concat())
}

pub fn filter_records(mut previous: Hash, headers: &[[u8; 80]]) -> Vec<FilterRecord> {
    let record = |header: &[u8; 80]| {
        let hash = filter_hash(&sha256d(header));
        previous = sha256d(&[hash, previous].concat());
        FilterRecord { header: previous, hash }
    };
    headers.iter().map(record).collect()
}

/// A whole chain with genesis, and its filter records.
pub fn chain(count: u32, salt: u64) -> (Vec<[u8; 80]>, Vec<FilterRecord>) {
    let mut headers = vec![GENESIS];
    headers.extend(headers_behind(sha256d(&GENESIS), count - 1, salt));
    let filters = filter_records([0; 32], &headers);
    (headers, filters)
}

/// A block that belongs to a number, with its message.
pub fn block(number: u64) -> (Hash, Vec<u8>) {
    let mut dice = Dice(number);
    let mut payload = vec![0; 80 + dice.below(1500) as usize];
    payload.iter_mut().for_each(|byte| *byte = dice.next() as u8);
    let mut out = Vec::new();
    write::raw(&mut out, MAGIC, "block", &payload);
    (sha256d(&payload[..80]), out)
}

pub fn filter(number: u64) -> (Hash, Vec<u8>) {
    let hash = block(number).0;
    let mut dice = Dice(number ^ 77);
    let mut payload = vec![0];
    payload.extend_from_slice(&hash);
    payload.extend((0..dice.below(600)).map(|_| dice.next() as u8));
    let mut out = Vec::new();
    write::raw(&mut out, MAGIC, "cfilter", &payload);
    (hash, out)
}

/// The filter's bytes by its extent, as a shard would read them.
pub fn read_filter(store: &mut Store, hash: &Hash) -> Option<Vec<u8>> {
    let extents = store.filters(std::slice::from_ref(hash), u32::MAX)?;
    let extent = &extents[0];
    let mut out = vec![0; extent.len as usize];
    assert_eq!(extent.file.read_at(extent.offset, &mut out).unwrap(), out.len());
    Some(out)
}
