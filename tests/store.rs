//! The store on a disk that fails, forgets and lies: what was acknowledged is there, nothing false is, and it goes on.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // Tests.

#[path = "sim/disk.rs"]
mod disk;
#[path = "store/made.rs"]
mod made;
#[path = "store/world.rs"]
mod world;

use breakwater::base::limits;
use breakwater::feed::chain_view::{ChainView, FilterRecord};
use breakwater::hub::store::{FolderDisk, Keep, Opened, Store, StoreConfig, StoreError};
use breakwater::wire::{Hash, sha256d};
use disk::{Dice, Fail, SimDisk};
use made::{GENESIS, block, chain, config, filter, filter_records, headers_behind, open, read_filter};

fn view(opened: Opened) -> ChainView {
    ChainView::new(opened.frozen, opened.recent)
}

fn assert_chain(view: &ChainView, headers: &[[u8; 80]], filters: &[FilterRecord]) {
    assert_eq!(view.len() as usize, headers.len());
    for (height, header) in (0..).zip(headers) {
        assert_eq!(view.header(height), Some(header), "header {height}");
        let filter = filters.get(height as usize).map(|f| (&f.header, &f.hash));
        assert_eq!(view.filter(height), filter, "filter record {height}");
    }
}

#[test]
fn a_new_store_has_genesis_and_a_clean_end_needs_no_repair() {
    let disk = SimDisk::new();
    let (store, opened) = open(&disk);
    assert_eq!(opened.repairs, Vec::<String>::new());
    assert_eq!((opened.recent.len(), opened.recent[0].header), (1, GENESIS));
    assert_eq!(store.counters().headers, 1);
    drop(store);
    disk.crash(1);
    let (_, opened) = open(&disk);
    assert_eq!(opened.repairs, Vec::<String>::new());
    assert_chain(&view(opened), &[GENESIS], &[]);
}

#[test]
fn headers_and_filter_records_come_back_frozen_and_recent() {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk);
    let (headers, filters) = chain(5_000, 1);
    store.write_headers(1, &headers[1..3_000]).unwrap();
    store.write_headers(3_000, &headers[3_000..]).unwrap();
    store.write_filter_records(0, &filters[..4_000]).unwrap();
    disk.crash(2);
    let (_, opened) = open(&disk);
    assert_eq!((opened.frozen.len(), opened.recent.len()), (2_952, 2_048));
    assert_chain(&view(opened), &headers, &filters[..4_000]);
}

#[test]
fn records_that_do_not_fit_are_refused_and_change_nothing() {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk);
    let (headers, filters) = chain(10, 1);
    let other = chain(10, 2).0;
    assert!(matches!(store.write_headers(2, &headers[2..]), Err(StoreError::Gap { have: 2, .. })));
    assert!(matches!(store.write_headers(0, &[]), Err(StoreError::Gap { .. })));
    assert!(matches!(store.write_headers(1, &headers[2..]), Err(StoreError::Unlinked { height: 1, .. })));
    assert!(matches!(store.write_headers(0, &other[1..2]), Err(StoreError::Unlinked { height: 0, .. })));
    store.write_headers(1, &headers[1..]).unwrap();
    assert!(matches!(store.write_filter_records(1, &filters[1..]), Err(StoreError::Gap { .. })));
    assert!(matches!(
        store.write_filter_records(0, &chain(11, 1).1),
        Err(StoreError::Gap { height: 10, .. })
    ));
    assert!(matches!(
        store.write_filter_records(0, &filters[1..]),
        Err(StoreError::Unlinked { height: 0, .. })
    ));
    assert!(store.freeze(11).is_err());
    let counters = store.counters();
    assert_eq!((counters.headers, counters.filter_records, counters.write_errors), (10, 0, 0));
}

#[test]
fn a_reorganisation_cuts_filters_and_one_below_the_frozen_part_leaves_old_maps_alone() {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk);
    let (old, old_filters) = chain(100, 1);
    store.write_headers(1, &old[1..]).unwrap();
    store.write_filter_records(0, &old_filters).unwrap();
    let frozen = store.freeze(80).unwrap();
    assert_eq!((frozen.len(), frozen.filter(79).is_some(), frozen.filter(80)), (80, true, None));
    for (fork, generation) in [(90, 1), (50, 2)] {
        let new = headers_behind(sha256d(&old[fork - 1]), 60, fork as u64);
        store.write_headers(fork as u32, &new).unwrap();
        let counters = store.counters();
        assert_eq!((counters.headers, counters.filter_records), (fork as u32 + 60, fork as u32));
        let files: Vec<_> =
            disk.files().into_iter().filter(|(name, _)| name.starts_with("headers-")).collect();
        assert_eq!(files, [(format!("headers-{generation:04}.dat"), (fork as u64 + 60) * 80)]);
    }
    assert_eq!(frozen.header(79), Some(&old[79]));
    let new = headers_behind(sha256d(&old[49]), 60, 50);
    let whole = [&old[..50], &new].concat();
    let filters = filter_records([0; 32], &whole);
    store.write_filter_records(50, &filters[50..]).unwrap();
    disk.crash(3);
    assert_chain(&view(open(&disk).1), &whole, &filters);
}

#[test]
fn another_networks_directory_is_refused_and_a_damaged_genesis_is_repaired() {
    let disk = SimDisk::new();
    let headers = chain(3, 1).0;
    open(&disk).0.write_headers(1, &headers[1..]).unwrap();
    let mut other = config(Keep::All);
    other.genesis = [7; 80];
    let error = Store::open(Box::new(disk.clone()), other).unwrap_err();
    assert!(matches!(error, StoreError::OtherNetwork { .. }));
    assert!(error.to_string().contains("another network"), "{error}");
    disk.flip("headers-0001.dat", 300);
    let (_, opened) = open(&disk);
    assert_eq!(opened.repairs.len(), 1, "{:?}", opened.repairs);
    assert_chain(&view(opened), &headers, &[]);
}

#[test]
fn messages_are_checked_when_they_come_in() {
    let (mut store, _) = open(&SimDisk::new());
    let ((hash, message), (_, filter)) = (block(1), filter(1));
    let mut other_magic = message.clone();
    other_magic[0] ^= 1;
    for bad in [&message[..20], &message[..message.len() - 1], &other_magic, &filter, &block(2).1] {
        let error = store.put_block(&hash, 1, bad, true).unwrap_err();
        assert!(matches!(error, StoreError::Malformed { what: "block", .. }), "{error}");
    }
    assert!(store.put_filter(&hash, 1, &message, true).is_err());
    assert!(!store.has_block(&hash));
    // A wrong checksum is met on the first use, and never served.
    let mut wrong = message.clone();
    wrong[20] ^= 1;
    store.put_block(&hash, 1, &wrong, true).unwrap();
    assert!(store.read_block(&hash).is_none() && !store.has_block(&hash));
    assert_eq!((store.take_damage().len(), store.counters().damaged), (1, 1));
    store.put_block(&hash, 1, &message, true).unwrap();
    assert_eq!(store.read_block(&hash).unwrap(), message);
}

#[test]
fn neighbouring_filters_are_merged_up_to_the_bound() {
    let (mut store, _) = open(&SimDisk::new());
    let all: Vec<_> = (0..40).map(filter).collect();
    for (hash, message) in &all {
        store.put_filter(hash, 1, message, true).unwrap();
    }
    let hashes: Vec<Hash> = all.iter().map(|(hash, _)| *hash).collect();
    let wanted: Vec<u8> = all.iter().flat_map(|(_, message)| message.clone()).collect();
    for bound in [0, 700, 1_500, u32::MAX] {
        let extents = store.filters(&hashes, bound).unwrap();
        let mut got = Vec::new();
        for extent in &extents {
            assert!(bound < 700 || extent.len <= bound);
            let mut part = vec![0; extent.len as usize];
            extent.file.read_at(extent.offset, &mut part).unwrap();
            got.extend(part);
        }
        assert_eq!(got, wanted);
        match bound {
            0 => assert_eq!(extents.len(), 40),
            u32::MAX => assert!(extents.len() < 10, "only as many as segments: {}", extents.len()),
            _ => assert!(extents.len() < 40),
        }
    }
    assert!(store.filters(&[hashes[0], block(99).0], 1).is_none());
}

#[test]
fn pruning_keeps_the_window_and_extents_stay_readable() {
    let folder = tempfile::tempdir().unwrap();
    let real = || Box::new(FolderDisk::open(folder.path()).unwrap());
    let (mut store, _) = Store::open(real(), config(Keep::Last(10))).unwrap();
    for n in 0..100 {
        let ((hash, message), (_, filter)) = (block(n), filter(n));
        store.put_block(&hash, n as u32, &message, true).unwrap();
        store.put_filter(&hash, n as u32, &filter, true).unwrap();
    }
    store.sync().unwrap();
    let extent = store.block(&block(0).0).unwrap();
    assert!(extent.file.raw_fd().is_some());
    store.prune(99).unwrap();
    assert!(!store.has_block(&block(0).0) && !store.has_filter(&block(0).0));
    let mut bytes = vec![0; extent.len as usize];
    extent.file.read_at(extent.offset, &mut bytes).unwrap();
    assert_eq!(bytes, block(0).1);
    let counters = store.counters();
    assert!(counters.pruned_segments > 5 && counters.blocks < 20, "{counters:?}");
    drop((store, extent));
    let (mut store, opened) = Store::open(real(), config(Keep::Last(10))).unwrap();
    assert_eq!(opened.repairs, Vec::<String>::new());
    for n in 90..100 {
        assert_eq!(store.read_block(&block(n).0).unwrap(), block(n).1);
        assert_eq!(read_filter(&mut store, &block(n).0).unwrap(), filter(n).1);
    }
}

#[test]
fn the_cache_is_bounded_and_what_was_used_last_stays() {
    let disk = SimDisk::new();
    let config = StoreConfig { cache_bytes: 16_384, ..config(Keep::Last(10)) };
    let (mut store, _) = Store::open(Box::new(disk.clone()), config.clone()).unwrap();
    let favourite = block(0);
    for n in 0..200 {
        let (hash, message) = block(n);
        store.put_block(&hash, 1, &message, false).unwrap();
        assert_eq!(store.read_block(&favourite.0).unwrap(), favourite.1, "after {n}");
        assert!(store.counters().cache_bytes <= 16_384);
    }
    store.sync().unwrap();
    let counters = store.counters();
    assert!(counters.evicted_segments > 10 && counters.cached > 10 && counters.blocks == 0, "{counters:?}");
    disk.crash(5);
    let (mut store, opened) = Store::open(Box::new(disk), StoreConfig { cache_bytes: 0, ..config }).unwrap();
    assert_eq!(opened.repairs, Vec::<String>::new());
    assert_eq!(store.read_block(&favourite.0).unwrap(), favourite.1);
    store.prune(100).unwrap();
    assert_eq!((store.counters().cached, store.counters().cache_bytes), (0, 0));
    store.put_block(&favourite.0, 1, &favourite.1, false).unwrap();
    assert!(store.has_block(&favourite.0), "a cache too small for anything holds one message");
}

#[test]
fn a_full_disk_loses_nothing_and_later_puts_succeed() {
    for space in 0..60 {
        let disk = SimDisk::new();
        let (mut store, _) = open(&disk);
        let headers = chain(20, 1).0;
        store.write_headers(1, &headers[1..5]).unwrap();
        store.put_block(&block(0).0, 0, &block(0).1, true).unwrap();
        store.sync().unwrap();
        disk.set_space(Some(space * 100));
        let mut full = 0;
        for n in 1..10 {
            full += u32::from(matches!(
                store.put_block(&block(n).0, 1, &block(n).1, true),
                Err(StoreError::Full { .. })
            ));
            full += u32::from(matches!(store.sync(), Err(StoreError::Full { .. })));
        }
        full += u32::from(matches!(store.write_headers(5, &headers[5..]), Err(StoreError::Full { .. })));
        assert!(full > 0 && store.counters().full == u64::from(full));
        disk.set_space(None);
        for n in 0..10 {
            store.put_block(&block(n).0, 1, &block(n).1, true).unwrap();
        }
        store.write_headers(store.counters().headers, &headers[store.counters().headers as usize..]).unwrap();
        store.sync().unwrap();
        disk.crash(space);
        let (mut store, opened) = open(&disk);
        assert_eq!(opened.repairs, Vec::<String>::new());
        assert_chain(&view(opened), &headers, &[]);
        for n in 0..10 {
            assert_eq!(store.read_block(&block(n).0).unwrap(), block(n).1);
        }
    }
}

#[test]
fn pruning_works_on_a_full_disk() {
    let disk = SimDisk::new();
    let (mut store, _) = Store::open(Box::new(disk.clone()), config(Keep::Last(5))).unwrap();
    for n in 0..50 {
        store.put_block(&block(n).0, n as u32, &block(n).1, true).unwrap();
    }
    store.sync().unwrap();
    disk.set_space(Some(0));
    store.prune(49).unwrap();
    assert!(store.counters().pruned_segments > 3);
    store.put_block(&block(50).0, 50, &block(50).1, true).unwrap();
}

#[test]
fn a_read_error_is_reported_and_the_block_is_there_again_after_a_start() {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk);
    let (hash, message) = block(1);
    store.put_block(&hash, 1, &message, true).unwrap();
    store.sync().unwrap();
    disk.fail_next(Fail::Read);
    assert!(store.block(&hash).is_none() && !store.has_block(&hash));
    assert_eq!(store.take_damage().len(), 1);
    disk.kill();
    assert_eq!(open(&disk).0.read_block(&hash).unwrap(), message);
}

/// A store with something in every file, all acknowledged.
fn filled() -> SimDisk {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk);
    let (headers, filters) = chain(60, 1);
    store.write_headers(1, &headers[1..]).unwrap();
    store.write_filter_records(0, &filters).unwrap();
    for n in 0..20 {
        store.put_block(&block(n).0, n as u32, &block(n).1, n % 4 != 0).unwrap();
        store.put_filter(&block(n).0, n as u32, &filter(n).1, n % 4 != 0).unwrap();
        store.sync().unwrap();
    }
    disk
}

/// Nothing false is served; returns how many headers, filter records, blocks and filters are left, and
/// whether anything was reported.
fn whats_left(disk: &SimDisk) -> (u32, u32, usize, usize, bool) {
    let (mut store, opened) = open(disk);
    let mut reported = !opened.repairs.is_empty();
    let view = view(opened);
    let (headers, filters) = chain(60, 1);
    for height in 0..view.len() {
        assert_eq!(view.header(height), Some(&headers[height as usize]));
        let right = &filters[height as usize];
        assert!(view.filter(height).is_none_or(|f| f == (&right.header, &right.hash)));
    }
    let blocks = (0..20).filter(|n| store.read_block(&block(*n).0).is_some_and(|b| b == block(*n).1)).count();
    let some = (0..20).filter(|n| store.block(&block(*n).0).is_some()).count();
    assert_eq!(some, blocks, "what is served is right");
    let filters =
        (0..20).filter_map(|n| read_filter(&mut store, &block(n).0).map(|f| assert_eq!(f, filter(n).1)));
    let filters = filters.count();
    reported |= !store.take_damage().is_empty();
    // And it goes on.
    store.put_block(&block(100).0, 5, &block(100).1, true).unwrap();
    store.sync().unwrap();
    (store.counters().headers, store.counters().filter_records, blocks, filters, reported)
}

#[test]
fn a_flipped_bit_costs_at_most_what_it_touches_and_is_reported() {
    let names = filled().files();
    assert_eq!(whats_left(&filled()), (60, 60, 20, 20, false));
    for seed in 0..600 {
        let mut dice = Dice(seed);
        let disk = filled();
        let (name, len) = &names[dice.below(names.len() as u64) as usize];
        if *len == 0 {
            continue;
        }
        let bit = dice.below(len * 8);
        assert!(disk.flip(name, bit));
        let (headers, filters, blocks, block_filters, reported) = whats_left(&disk);
        let context = format!("seed {seed}: {name} bit {bit}");
        assert!(reported, "{context}");
        let touched = (bit / 8 / if name.starts_with("headers-") { 80 } else { 64 }) as u32;
        match name.split_once(['-', '/']).unwrap().0 {
            "headers" if touched == 0 => assert_eq!(headers, 60, "{context}"),
            "headers" => assert_eq!((headers, filters), (touched, touched), "{context}"),
            "headersums" => assert!(headers >= 59, "{context}"),
            "cfheaders" => assert_eq!((headers, filters), (60, touched), "{context}"),
            _ => {}
        }
        // A segment loses the message that was touched, anything else none: a lost index record is made again.
        let lost = 40 - blocks - block_filters;
        assert_eq!(lost, usize::from(name.ends_with(".seg")), "{context}");
        // A second start finds it repaired, but for what only reading can find.
        disk.kill();
        let again = whats_left(&disk);
        assert_eq!(
            (again.0, again.1, again.2, again.3),
            (headers, filters, blocks, block_filters),
            "{context}"
        );
    }
}

#[test]
fn a_truncated_file_costs_at_most_what_it_held() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let disk = filled();
        let names = disk.files();
        let (name, len) = &names[dice.below(names.len() as u64) as usize];
        let cut = dice.below(*len);
        disk.truncate(name, cut);
        let (headers, filters, blocks, block_filters, reported) = whats_left(&disk);
        let context = format!("seed {seed}: {name} cut to {cut} of {len}");
        assert!(reported || *len == 0, "{context}");
        if !name.starts_with("headers") {
            assert_eq!(headers, 60, "{context}");
        }
        if name.contains('/') {
            assert_eq!((headers, filters), (60, 60), "{context}");
        }
        if !name.ends_with(".seg") {
            assert_eq!((blocks, block_filters), (20, 20), "{context}");
        }
        disk.kill();
        let again = whats_left(&disk);
        assert_eq!(
            (again.0, again.1, again.2, again.3),
            (headers, filters, blocks, block_filters),
            "{context}"
        );
    }
}

/// A small block: for tests that need many.
fn small(number: u32) -> (Hash, Vec<u8>) {
    let mut payload = vec![1; 80];
    payload[..4].copy_from_slice(&number.to_le_bytes());
    let mut out = Vec::new();
    breakwater::wire::write::raw(&mut out, config(Keep::All).magic, "block", &payload);
    (sha256d(&payload), out)
}

#[test]
fn what_waits_for_a_sync_is_bounded_and_so_are_the_sentences_about_damage() {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk);
    let most = limits::STORE_UNSYNCED as u32;
    for n in 0..=most {
        let (hash, mut message) = small(n);
        // The first ones have a wrong checksum.
        message[20] ^= u8::from(n < 1_100);
        store.put_block(&hash, n, &message, true).unwrap();
    }
    disk.crash(1);
    let (mut store, _) = open(&disk);
    assert!(store.counters().blocks >= u64::from(most) - 1_100, "{:?}", store.counters());
    for n in 0..most {
        let (hash, message) = small(n);
        let got = store.read_block(&hash);
        assert!(if n < 1_100 { got.is_none() } else { got.unwrap() == message }, "block {n}");
    }
    assert_eq!(store.counters().damaged, 1_100);
    assert_eq!(store.take_damage().len(), limits::STORE_NOTES);
    assert!(store.take_damage().is_empty());
}

#[test]
fn many_segments_need_few_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FolderDisk::open(folder.path()).unwrap();
    let config = StoreConfig { segment_bytes: 1, ..config(Keep::All) };
    let (mut store, _) = Store::open(Box::new(disk), config).unwrap();
    let count = limits::STORE_OPEN_SEGMENTS as u32 + 50;
    for n in 0..count {
        store.put_block(&small(n).0, n, &small(n).1, true).unwrap();
    }
    store.sync().unwrap();
    for n in 0..count {
        assert_eq!(store.read_block(&small(n).0).unwrap(), small(n).1);
    }
    let links = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    let open = links.filter(|link| link.starts_with(folder.path().join("blocks"))).count();
    assert!(open <= limits::STORE_OPEN_SEGMENTS + 1, "{open} descriptors: the segments and the index");
}

#[test]
fn a_start_with_900_000_headers_is_quick() {
    let folder = tempfile::tempdir().unwrap();
    let real = || Box::new(FolderDisk::open(folder.path()).unwrap());
    let (headers, filters) = chain(900_000, 1);
    let (mut store, _) = Store::open(real(), config(Keep::All)).unwrap();
    store.write_headers(1, &headers[1..]).unwrap();
    store.write_filter_records(0, &filters).unwrap();
    drop(store);
    let start = std::time::Instant::now();
    let (_, opened) = Store::open(real(), config(Keep::All)).unwrap();
    let took = start.elapsed();
    println!("start with 900,000 headers and filter records: {} ms", took.as_millis());
    assert_eq!(opened.repairs, Vec::<String>::new());
    assert_eq!(opened.frozen.len() + opened.recent.len() as u32, 900_000);
    assert_eq!(opened.frozen.height(&sha256d(&headers[77_777])), Some(77_777));
    // Other tests share the cores; the promise of 2 s is measured alone.
    assert!(took.as_secs() < 10, "{took:?}");
}
