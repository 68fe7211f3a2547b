//! A full house, and a priority client that comes: how long until its first question is answered.
//!
//! ```text
//!   free clients take every session slot, and more of them wait at the door all the time
//!   a free newcomer from elsewhere is refused: the house is full
//!   an account for a network is made over the admin interface, and given a balance
//!   --rounds times: the house is full again; a client of that network connects, shakes hands, asks for headers, has them
//! ```
//! The time is from the begin of the connect to the last byte of the headers. The free clients are those of the rig, in this
//! process; each comes again half a second after it was refused or had to give way, so that the slot the priority client leaves
//! behind is taken before the next round.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Common;
use super::million::node;
use crate::admin::AdminClient;
use crate::crowd::{self, Crowd};
use crate::relay_process::RelayProcess;
use crate::report::Report;
use crate::rig::engine::Shared;
use crate::rig::scenario::{Sources, Transport};
use crate::witness::{Came, Witness};
use crate::{MAGIC, Outcome};

/// Milliseconds that the slowest may take.
const TARGET: f64 = 100.0;
/// Free clients for each session slot: those who find none keep trying.
const CROWD: f64 = 1.3;
/// Addresses of the free clients, of the free newcomer, and of the priority clients.
const FREE_FROM: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const NEWCOMER: Ipv4Addr = Ipv4Addr::new(127, 8, 0, 1);
const PRIORITY: [u8; 3] = [127, 9, 0];
/// Longest wait for a full house.
const FULL: Duration = Duration::from_secs(120);
/// From one look at the house to the next.
const LOOK: Duration = Duration::from_millis(100);
/// Balance that is given: hours of anything.
const BALANCE: i64 = 1_000_000_000_000;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Session slots, all taken by free clients.
    #[arg(long, default_value_t = 2_000)]
    slots: u32,
    /// Priority clients that come, one after the other.
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Cost units a second that they are guaranteed.
    #[arg(long, default_value_t = 200_000)]
    capacity: u64,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let (slots, rounds) = if args.common.tiny { (20, 3) } else { (args.slots, args.rounds.max(1)) };
    let workload = json!({ "slots": slots, "rounds": rounds, "capacity": args.capacity });
    let mut report = Report::new("priority", workload);
    let node = node(&Shared::new(1, MAGIC))?;
    let keys = format!(
        "session_slots = {slots}\nprobe_slots = {}\nprobe_every_seconds = 0\nprobe_seconds = 0\n",
        slots * 10
    );
    let relay = RelayProcess::configured(node.addresses()[0], slots * 11, &keys)?;
    let (admin, address) = (relay.admin(), relay.address());
    let clients = (f64::from(slots) * CROWD).ceil() as u32 + 8;
    let mut scenario = crowd::scenario(address, Transport::Plain, None, clients, "persistent")?;
    scenario.sources = Sources::Range { first: FREE_FROM.into(), count: clients };
    let crowd = Crowd::start_anywhere(scenario)?;
    full(&admin)?;
    let refused = matches!(Witness::connect(address, NEWCOMER)?.headers()?, Came::Ended);
    let network = format!("{}.{}.{}.0%2F24", PRIORITY[0], PRIORITY[1], PRIORITY[2]);
    admin.call("PUT", &format!("/priority/{network}"), Some(&json!({ "capacity": args.capacity })))?;
    admin.post(&format!("/balances/{network}/add"), &json!({ "amount": BALANCE }))?;
    let (mut times, mut turned_away) = (Vec::new(), 0u32);
    for round in 0..rounds {
        full(&admin)?;
        let source = Ipv4Addr::new(PRIORITY[0], PRIORITY[1], PRIORITY[2], 1 + (round % 250) as u8);
        let start = Instant::now();
        let mut client = Witness::connect(address, source)?;
        match client.headers()? {
            Came::Yes(_) => times.push(start.elapsed().as_secs_f64() * 1e3),
            Came::Ended | Came::Late => turned_away += 1,
        }
    }
    crowd.leave()?;
    let missing = if times.is_empty() { f64::NAN } else { 0.0 };
    times.sort_by(f64::total_cmp);
    let p50 = times.get(times.len() / 2).copied().unwrap_or(missing);
    let max = times.last().copied().unwrap_or(missing);
    report.bound(
        "refused",
        "free newcomers refused at the full house",
        f64::from(u8::from(refused)),
        1.0,
        true,
    );
    report.bound("turned_away", "priority clients turned away", f64::from(turned_away), 0.0, false);
    report.number("p50_ms", "priority client: from its connect to its headers, median", p50, "ms");
    report.ratio("the slowest, ms", max, TARGET);
    report.finish(args.common)
}

/// Waits until every session slot is taken.
fn full(admin: &AdminClient) -> Outcome {
    let start = Instant::now();
    loop {
        let info = admin.call("GET", "/info", None)?;
        let (taken, all) = (info["sessions"].as_u64(), info["max_sessions"].as_u64());
        if taken.is_some() && taken >= all {
            return Ok(());
        }
        if start.elapsed() > FULL {
            return Err(
                format!("the house is not full within {FULL:?}: {taken:?} of {all:?} session slots").into()
            );
        }
        std::thread::sleep(LOOK);
    }
}
