//! Random operations on a disk with random faults and crashes, against a model of what was acknowledged.
//!
//! `STORE_SEED=n` replays one seed, `STORE_SEEDS=n` runs the first n.

use std::collections::BTreeMap;

use breakwater::feed::chain_view::ChainView;
use breakwater::hub::store::{Keep, Store, StoreConfig, StoreError};
use breakwater::wire::sha256d;

use crate::disk::{Dice, Fail, SimDisk};
use crate::made::{GENESIS, block, config, filter, filter_hash, filter_records, headers_behind, read_filter};

/// What must be there: the oracle of the random test.
#[derive(Default)]
struct Model {
    /// Headers that must be there, in this order.
    headers: Vec<[u8; 80]>,
    /// True exactly when there may be more behind them, after a failed write.
    more: bool,
    /// At least this many filter records.
    filters: usize,
    /// Number of block -> height, acknowledged or not.
    blocks: BTreeMap<u64, (u32, bool)>,
    filter_messages: BTreeMap<u64, (u32, bool)>,
    /// Messages below this height may be gone.
    lowest: u32,
}

struct World {
    disk: SimDisk,
    config: StoreConfig,
    store: Store,
    model: Model,
    dice: Dice,
    salt: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let keep = if dice.below(2) == 0 { Keep::All } else { Keep::Last(20) };
        let (disk, config) = (SimDisk::new(), config(keep));
        let (store, _) = Store::open(Box::new(disk.clone()), config.clone()).unwrap();
        let model = Model { headers: vec![GENESIS], ..Model::default() };
        World { disk, config, store, model, dice, salt: seed << 32 }
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..3 => self.write_headers(),
            3..5 => self.write_filters(),
            5..9 => self.put_block(),
            9..12 => self.put_filter(),
            12..15 => self.sync(),
            15 => {
                let most = self.store.counters().headers;
                let _ = self.store.freeze(self.dice.below(u64::from(most) + 1) as u32);
            }
            16 => self.prune(),
            17 => {
                let kinds = [Fail::Write, Fail::Sync, Fail::Open, Fail::Rename, Fail::SyncFolder];
                self.disk.fail_next(kinds[self.dice.below(5) as usize]);
            }
            18 => {
                let space = self.dice.below(3_000);
                self.disk.set_space(if self.dice.below(2) == 0 { Some(space) } else { None });
            }
            _ => match self.dice.below(3) {
                0 => self.disk.stop_after(self.dice.below(12)),
                1 => self.crash(),
                _ => self.check_running(),
            },
        }
    }

    fn write_headers(&mut self) {
        let have = self.store.counters().headers;
        assert_eq!(have as usize, self.model.headers.len());
        let depth = match self.dice.below(3) {
            0 => self.dice.below(u64::from(have)) as u32,
            _ => 0,
        };
        let from = (have - depth).max(1);
        self.salt += 1;
        let previous = sha256d(&self.model.headers[from as usize - 1]);
        let new = headers_behind(previous, self.dice.below(8) as u32, self.salt);
        let result = self.store.write_headers(from, &new);
        if let Err(StoreError::Gap { .. } | StoreError::Unlinked { .. }) = result {
            panic!("{result:?}");
        }
        match result {
            Ok(()) => {
                self.model.headers.truncate(from as usize);
                self.model.headers.extend(new);
                self.model.more = false;
            }
            // Nothing may have been touched at all, when reading the predecessor failed.
            Err(_) => {
                self.model.more = true;
                self.model.headers.truncate(self.store.counters().headers as usize);
                assert!(self.model.headers.len() >= from as usize);
            }
        }
        self.model.filters = self.model.filters.min(from as usize);
    }

    fn write_filters(&mut self) {
        let have = self.store.counters().filter_records as usize;
        let from = have - self.dice.below(have.min(4) as u64 + 1) as usize;
        let to = (from + self.dice.below(10) as usize).min(self.model.headers.len());
        let records = filter_records([0; 32], &self.model.headers);
        match self.store.write_filter_records(from as u32, &records[from..to.max(from)]) {
            Ok(()) => self.model.filters = to.max(from),
            Err(StoreError::Gap { .. } | StoreError::Unlinked { .. }) => panic!("filters {from} to {to}"),
            Err(_) => self.model.filters = self.model.filters.min(from),
        }
    }

    fn height(&mut self) -> u32 {
        self.model.lowest + self.dice.below(30) as u32
    }

    fn put_block(&mut self) {
        let (number, height) = (self.dice.below(200), self.height());
        let (hash, message) = block(number);
        let had = self.store.has_block(&hash);
        if self.store.put_block(&hash, height, &message, self.dice.below(3) > 0).is_ok() && !had {
            self.model.blocks.insert(number, (height, false));
        }
    }

    fn put_filter(&mut self) {
        let (number, height) = (self.dice.below(200), self.height());
        let (hash, message) = filter(number);
        let had = self.store.has_filter(&hash);
        if self.store.put_filter(&hash, height, &message, self.dice.below(3) > 0).is_ok() && !had {
            self.model.filter_messages.insert(number, (height, false));
        }
    }

    fn sync(&mut self) {
        if self.store.sync().is_ok() {
            // Those forgotten by an earlier failed sync say so.
            let store = &self.store;
            self.model.blocks.retain(|n, _| store.has_block(&block(*n).0));
            self.model.filter_messages.retain(|n, _| store.has_filter(&block(*n).0));
            self.model.blocks.values_mut().for_each(|(_, acknowledged)| *acknowledged = true);
            self.model.filter_messages.values_mut().for_each(|(_, acknowledged)| *acknowledged = true);
        }
    }

    fn prune(&mut self) {
        if let Keep::Last(n) = self.config.keep {
            let tip = self.model.lowest + n + self.dice.below(10) as u32;
            self.model.lowest = (tip + 1).saturating_sub(n);
            let _ = self.store.prune(tip);
            let lowest = self.model.lowest;
            self.model.blocks.retain(|_, (height, _)| *height >= lowest);
            self.model.filter_messages.retain(|_, (height, _)| *height >= lowest);
        }
    }

    fn crash(&mut self) {
        if self.dice.below(4) == 0 {
            self.disk.kill();
        } else {
            self.disk.crash(self.dice.next());
        }
        self.disk.set_space(None);
        // Start-up itself is interrupted now and then.
        if self.dice.below(3) == 0 {
            self.disk.stop_after(self.dice.below(6));
            let _ = Store::open(Box::new(self.disk.clone()), self.config.clone());
            self.disk.crash(self.dice.next());
        }
        let (store, opened) = Store::open(Box::new(self.disk.clone()), self.config.clone()).unwrap();
        self.store = store;
        let view = ChainView::new(opened.frozen, opened.recent);
        let headers: Vec<[u8; 80]> = (0..view.len()).map(|height| *view.header(height).unwrap()).collect();
        assert!(headers.starts_with(&self.model.headers), "acknowledged headers");
        assert!(self.model.more || headers.len() == self.model.headers.len(), "headers nobody wrote");
        let filters = (0..view.len()).take_while(|height| view.filter(*height).is_some()).count();
        assert!(
            filters >= self.model.filters,
            "{filters} filter records, {} acknowledged",
            self.model.filters
        );
        for height in 0..filters as u32 {
            let right = filter_hash(view.hash(height).unwrap());
            assert_eq!(view.filter(height).unwrap().1, &right, "another block's filter at {height}");
        }
        (self.model.headers, self.model.more, self.model.filters) = (headers, false, filters);
        for number in 0..200 {
            let (hash, message) = block(number);
            let (got, must) = (self.store.read_block(&hash), self.model.blocks.get(&number));
            assert!(got.as_ref().is_none_or(|got| *got == message));
            assert!(got.is_some() || !must.is_some_and(|(_, acknowledged)| *acknowledged), "block {number}");
            // One that was not acknowledged may have come back, indexed with a height the model does not know.
            if !must.is_some_and(|(_, acknowledged)| *acknowledged) {
                self.model.blocks.remove(&number);
            }
            let got = read_filter(&mut self.store, &hash);
            let must = self.model.filter_messages.get(&number);
            assert!(got.as_ref().is_none_or(|got| *got == filter(number).1));
            assert!(got.is_some() || !must.is_some_and(|(_, acknowledged)| *acknowledged), "filter {number}");
            if !must.is_some_and(|(_, acknowledged)| *acknowledged) {
                self.model.filter_messages.remove(&number);
            }
        }
    }

    fn check_running(&mut self) {
        self.disk.no_faults();
        for (number, (_, acknowledged)) in &self.model.blocks {
            let got = self.store.read_block(&block(*number).0);
            assert!(got.is_some() || !acknowledged, "block {number}");
            assert!(got.is_none_or(|got| got == block(*number).1));
        }
        self.store.put_block(&block(500).0, self.model.lowest + 40, &block(500).1, true).unwrap();
        self.store.sync().unwrap();
        self.sync();
    }
}

#[test]
fn whatever_fails_what_was_acknowledged_is_there_and_nothing_false_is() {
    let seeds = match std::env::var("STORE_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).unwrap(),
        Err(_) => 0..std::env::var("STORE_SEEDS").map_or(500, |n| n.parse().unwrap()),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..120 {
                world.step();
            }
            world.crash();
        });
        assert!(run.is_ok(), "replay with STORE_SEED={seed} cargo test --test store whatever");
    }
}
