//! Initial block download by one client: headers first, then every block with 16 requests in flight, from a relay that has
//! them in files; against what a bare pair of sockets carries to the same receiver.
//!
//! The hub's part (which file a block lies in) is answered at once by the benchmark on the shard's thread: of a real hub it
//! lacks the wake-up of another thread per block, some 10 of the 500 us that a block takes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use breakwater::base::limits::{HEADER_LEN, MAX_BLOCKS_IN_FLIGHT};
use breakwater::wire::{Hash, write};
use serde_json::json;

use super::blocks::{Segment, get_blocks};
use super::{Common, LOAD_CORE, RELAY_CORE, median};
use crate::relay::{self, Relay};
use crate::report::Report;
use crate::{MAGIC, Outcome, os, sink};

/// Of the bare pair's bytes per second, at least.
const TARGET: f64 = 0.5;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Blocks of 1 MB downloaded in each round.
    #[arg(long, default_value_t = 256)]
    blocks: usize,
    /// Rounds of each.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let tiny = args.common.tiny;
    let (blocks, rounds) = if tiny { (20, 1) } else { (args.blocks.min(2_000), args.rounds) };
    let bytes = if tiny { 200_000 } else { 1_000_000 };
    let mut report = Report::new("ibd", json!({ "blocks": blocks, "rounds": rounds, "bytes": bytes }));
    os::pin(RELAY_CORE);
    let segment = Segment::make(bytes)?;
    let (mut bare, mut real) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(bare_pair(&segment, blocks)?);
        real.push(relayed(&segment, blocks)?);
    }
    let total = (blocks * segment.message.len()) as f64;
    let column = |rounds: &[Spent], what: fn(&Spent) -> Duration| {
        total / 1e6 / median(&mut rounds.iter().map(|r| what(r).as_secs_f64()).collect::<Vec<_>>())
    };
    let (b, r) = (column(&bare, |s| s.wall), column(&real, |s| s.wall));
    report.number("floor_mb_per_second", "bare pair", b, "MB/s");
    report.number("relay_mb_per_second", "relay", r, "MB/s");
    report.number("floor_cpu", "bare sender, per second of its CPU", column(&bare, |s| s.cpu), "MB");
    report.number("relay_cpu", "relay, per second of the shard's CPU", column(&real, |s| s.cpu), "MB");
    report.at_least("relay to bare pair", r / b, TARGET);
    report.finish(args.common)
}

struct Spent {
    cpu: Duration,
    wall: Duration,
}

fn bare_pair(segment: &Segment, blocks: usize) -> Outcome<Spent> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let receiver = std::thread::spawn(move || {
        os::pin(LOAD_CORE);
        let mut stream = TcpStream::connect(address)?;
        receive(&mut stream, blocks, |_, _| Ok(()))
    });
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let (cpu, start) = (os::thread_cpu(), Instant::now());
    for _ in 0..blocks {
        stream.write_all(&segment.message)?;
    }
    let cpu = os::thread_cpu() - cpu;
    join(receiver)?;
    Ok(Spent { cpu, wall: start.elapsed() })
}

fn relayed(segment: &Segment, blocks: usize) -> Outcome<Spent> {
    let (address, _held) = relay::reserve()?;
    let mut relay = Relay::open(0, address, 10)?;
    relay.serve_files(segment.extents.clone());
    let hashes: Vec<Hash> = (0..=blocks).map(|height| relay.chain().hash(height)).collect();
    let receiver = std::thread::spawn(move || {
        os::pin(LOAD_CORE);
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        sink::handshake(&mut stream, address)?;
        let mut ask = Vec::new();
        write::locator(&mut ask, MAGIC, "getheaders", hashes.iter().take(1), &[0; 32]);
        stream.write_all(&ask)?;
        while !sink::frame(&mut stream)?.starts_with(b"headers\0") {}
        for hash in hashes.iter().skip(1).take(MAX_BLOCKS_IN_FLIGHT) {
            stream.write_all(&get_blocks(*hash, 1))?;
        }
        receive(&mut stream, blocks, |stream, got| match hashes.get(got + MAX_BLOCKS_IN_FLIGHT) {
            Some(hash) => Ok(stream.write_all(&get_blocks(*hash, 1))?),
            None => Ok(()),
        })
    });
    let want = (blocks * segment.message.len()) as u64;
    let (cpu, start) = (os::thread_cpu(), Instant::now());
    relay.turn_until("the chain", |relay| relay.counters().file_bytes >= want)?;
    let cpu = os::thread_cpu() - cpu;
    // The last chunk is on its way; what is left is the receiver's.
    relay.turn();
    join(receiver)?;
    Ok(Spent { cpu, wall: start.elapsed() })
}

fn join(receiver: JoinHandle<Outcome>) -> Outcome {
    receiver.join().map_err(|_| "the receiver ended by a panic")?
}

/// Reads until so many blocks have come, and says after each how many they are.
fn receive(
    stream: &mut TcpStream,
    blocks: usize,
    mut next: impl FnMut(&mut TcpStream, usize) -> Outcome,
) -> Outcome {
    let (mut place, mut got) = (vec![0u8; 256 * 1024], 0);
    // The header of a message as far as it has come, then the bytes of its payload that are missing.
    let (mut header, mut missing) = (Vec::with_capacity(HEADER_LEN), 0);
    while got < blocks {
        let count = stream.read(&mut place)?;
        if count == 0 {
            return Err("the sender has closed".into());
        }
        let mut rest = &place[..count];
        while !rest.is_empty() {
            if header.len() < HEADER_LEN {
                let part = rest.len().min(HEADER_LEN - header.len());
                header.extend_from_slice(&rest[..part]);
                rest = &rest[part..];
                if header.len() < HEADER_LEN {
                    break;
                }
                let mut length = [0; 4];
                length.copy_from_slice(&header[16..20]);
                missing = u32::from_le_bytes(length) as usize;
            }
            let part = rest.len().min(missing);
            (rest, missing) = (&rest[part..], missing - part);
            if missing == 0 {
                if header[4..].starts_with(b"block\0") {
                    got += 1;
                    next(stream, got)?;
                }
                header.clear();
            }
        }
    }
    Ok(())
}
