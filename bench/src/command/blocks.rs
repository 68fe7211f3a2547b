//! CPU time of the shard's thread per block of 1 MB sent, against bare loops that send the same bytes to as many
//! connections: a recent block from memory, and old ones from the store's files through the ring.
//!
//! Relay and bare loop take turns on the same thread, each with connections of its own. In a round every client gets a few
//! blocks. The files are in the page cache: what a disk adds is the same for both.

use std::path::PathBuf;

use breakwater::hub::store::FolderDisk;
use breakwater::io::Disk as _;
use breakwater::link::Extent;
use breakwater::wire::{Hash, Inv, InvKind, write};
use bytes::Bytes;
use serde_json::json;

use super::{Common, LOAD_CORE, RELAY_CORE, quartile};
use crate::bare::{Feeder, Source};
use crate::relay::{self, Relay};
use crate::report::Report;
use crate::sink::{Round, Sink};
use crate::{MAGIC, Outcome, os};

/// Of the bare loop's bytes per second, at least.
const TARGET: f64 = 0.8;
/// Rounds of each before those that count.
const WARM_UP: usize = 1;
/// Blocks of a file.
const IN_FILE: usize = 64;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients.
    #[arg(long, default_value_t = 100)]
    clients: u32,
    /// Blocks each client asks for in a round, by one getdata; a node in its initial download has 16 in flight.
    #[arg(long, default_value_t = 4)]
    each: usize,
    /// Rounds measured, of each kind.
    #[arg(long, default_value_t = 16)]
    rounds: usize,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let tiny = args.common.tiny;
    let (clients, rounds) = if tiny { (5, 2) } else { (args.clients, args.rounds) };
    let bytes = if tiny { 300_000 } else { 1_000_000 };
    let mut report = Report::new(
        "blocks",
        json!({ "clients": clients, "each": args.each, "rounds": rounds, "bytes": bytes }),
    );
    os::pin(RELAY_CORE);
    let (address, _held) = relay::reserve()?;
    let mut relay = Relay::open(0, address, clients)?;
    let block = relay.make_large_block(bytes);
    relay.announce(block)?;
    relay.turn();
    let segment = Segment::make(bytes)?;
    relay.serve_files(segment.extents.clone());
    let mut feeder = Feeder::open(clients)?;
    let bare = Sink::start(feeder.address(), clients, false, LOAD_CORE);
    feeder.accept(clients)?;
    bare.wait()?;
    let real = Sink::start(address, clients, true, LOAD_CORE);
    while !real.is_done()? {
        relay.turn();
    }
    let mut bench = Bench { relay, feeder, real, bare, clients, each: args.each, segment };
    let mut columns: [Vec<f64>; 4] = Default::default();
    for round in 0..WARM_UP + rounds {
        let spent =
            [bench.bare_memory()?, bench.relay_memory()?, bench.bare_file(round)?, bench.relay_file(round)?];
        if round >= WARM_UP {
            columns.iter_mut().zip(spent).for_each(|(column, spent)| column.push(spent));
        }
    }
    let [bare_memory, relay_memory, bare_file, relay_file] = columns.map(|mut column| quartile(&mut column));
    report.number("floor_memory_us", "bare send loop, CPU per block", bare_memory, "us");
    report.number("relay_memory_us", "relay, recent block, CPU per block", relay_memory, "us");
    report.number("floor_file_us", "bare read and send loop, CPU per block", bare_file, "us");
    report.number("relay_file_us", "relay, block of the store, CPU per block", relay_file, "us");
    let gigabytes = bytes as f64 / relay_memory / 1_000.0;
    report.number("relay_gb_per_second", "relay, recent block, per second of CPU", gigabytes, "GB");
    report.bound("memory_ratio", "from memory, relay to bare loop", bare_memory / relay_memory, TARGET, true);
    let worst = (bare_memory / relay_memory).min(bare_file / relay_file);
    report.bound("file_ratio", "from files, relay to bare loop", bare_file / relay_file, TARGET, true);
    report.at_least("the lesser of the two", worst, TARGET);
    bench.real.stop()?;
    bench.bare.stop()?;
    report.finish(args.common)
}

struct Bench {
    relay: Relay,
    feeder: Feeder,
    real: Sink,
    bare: Sink,
    clients: u32,
    each: usize,
    segment: Segment,
}

impl Bench {
    /// Microseconds of CPU per block, as all of these.
    fn bare_memory(&mut self) -> Outcome<f64> {
        let message = self.segment.message.clone();
        self.floor(Source::Memory(&message))
    }

    fn bare_file(&mut self, round: usize) -> Outcome<f64> {
        let offsets: Vec<u64> =
            self.heights(round).map(|height| self.segment.extents[height % IN_FILE].offset).collect();
        let len = self.segment.message.len();
        let fd = self.segment.extents[0].file.raw_fd().ok_or("the segment has no descriptor")?;
        self.floor(Source::File { fd, offsets: &offsets, len })
    }

    fn floor(&mut self, source: Source<'_>) -> Outcome<f64> {
        // They ask, too: the bare loop's work begins and is spread as the relay's.
        let requests = vec![get_blocks([0; 32], self.each); self.clients as usize];
        self.bare.begin(Round { requests, bytes: (self.segment.message.len() * self.each) as u64 })?;
        let before = os::thread_cpu();
        self.feeder.feed(source, self.each)?;
        let spent = os::thread_cpu() - before;
        self.bare.wait()?;
        Ok(spent.as_secs_f64() * 1e6 / f64::from(self.clients) / self.each as f64)
    }

    fn relay_memory(&mut self) -> Outcome<f64> {
        let request = get_blocks(self.relay.chain().tip(), self.each);
        self.serve(vec![request; self.clients as usize])
    }

    fn relay_file(&mut self, round: usize) -> Outcome<f64> {
        let requests = self
            .heights(round)
            .map(|height| get_blocks(self.relay.chain().hash(height), self.each))
            .collect();
        self.serve(requests)
    }

    fn serve(&mut self, requests: Vec<Bytes>) -> Outcome<f64> {
        let len = (self.segment.message.len() * self.each) as u64;
        let want = self.relay.counters().bytes_out + len * u64::from(self.clients);
        self.real.begin(Round { requests, bytes: len })?;
        let before = os::thread_cpu();
        self.relay.turn_until("blocks", |relay| relay.counters().bytes_out >= want)?;
        let spent = os::thread_cpu() - before;
        self.real.wait()?;
        Ok(spent.as_secs_f64() * 1e6 / f64::from(self.clients) / self.each as f64)
    }

    /// An old block for each client.
    fn heights(&self, round: usize) -> impl Iterator<Item = usize> + use<> {
        let clients = self.clients as usize;
        (0..clients).map(move |n| 1 + (round * clients + n) % 1_000)
    }
}

/// A getdata of a block with witness, so many times.
pub(super) fn get_blocks(hash: Hash, times: usize) -> Bytes {
    let mut out = Vec::new();
    let wanted = vec![Inv { kind: InvKind::WitnessBlock, hash }; times];
    write::inventory(&mut out, MAGIC, "getdata", wanted.into_iter());
    out.into()
}

/// A file of blocks as the store has them; removed at the end.
pub(super) struct Segment {
    folder: PathBuf,
    /// A block with its frame.
    pub(super) message: Bytes,
    /// Where each lies.
    pub(super) extents: Vec<Extent>,
}

impl Segment {
    /// Blocks of so many bytes behind the header.
    pub(super) fn make(bytes: usize) -> Outcome<Segment> {
        let mut message = Vec::new();
        write::raw(&mut message, MAGIC, "block", &vec![0x5a; 80 + bytes]);
        let folder = std::env::temp_dir().join(format!("breakwater-bench-{}", std::process::id()));
        let mut segment = Segment { folder, message: message.into(), extents: Vec::new() };
        let file = FolderDisk::open(&segment.folder)?.open("blocks")?;
        for number in 0..IN_FILE {
            let offset = (number * segment.message.len()) as u64;
            file.write_at(offset, &segment.message)?;
            segment.extents.push(Extent { file: file.clone(), offset, len: segment.message.len() as u32 });
        }
        Ok(segment)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // A temporary folder that stays is a nuisance, no error.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
