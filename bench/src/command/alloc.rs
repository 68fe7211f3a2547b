//! Allocations of a shard's thread per message in steady state.
//!
//! A counting allocator counts while the shard turns, not while the benchmark plays the hub. Each kind of message runs
//! once to warm up (buffers enter the pool, vectors find their size) and is then counted.

use breakwater::wire::{Inv, InvKind, write};
use bytes::Bytes;
use serde_json::json;

use super::{Common, LOAD_CORE, RELAY_CORE};
use crate::made;
use crate::relay::{self, Relay};
use crate::report::Report;
use crate::swarm::{Manner, Plan, Swarm};
use crate::{MAGIC, Outcome, os};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients.
    #[arg(long, default_value_t = 320)]
    clients: u32,
    /// Messages of each client, and announcements of each kind.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let (clients, rounds) = if args.common.tiny { (20, 3) } else { (args.clients, args.rounds) };
    let mut report = Report::new("alloc", json!({ "clients": clients, "rounds": rounds }));
    os::pin(RELAY_CORE);
    let (address, _held) = relay::reserve()?;
    let mut relay = Relay::open(0, address, clients)?;
    let plan =
        Plan { target: address, clients, manner: Manner::Wallet, source: 1, core: LOAD_CORE, pings: None };
    let swarm = Swarm::start(plan)?;
    relay.turn_until("handshakes", |relay| relay.counters().handshakes >= u64::from(clients))?;
    swarm.wait("handshakes", relay::PATIENCE, |_| swarm.is_ready())?;
    let mut bench = Bench { relay, swarm };
    // Transactions in the log, for inv and getdata.
    bench.announce(1, |relay| relay.make_txs(10))?;
    let tx = made::tx(3);
    let mut worst: f64 = 0.0;
    for (key, text, message) in requests(&bench.relay, &tx) {
        let answered = key != "inv";
        bench.ask(1, &message, answered)?;
        let allocations = bench.ask(rounds, &message, answered)?;
        let per = allocations as f64 * 1_000.0 / (rounds * u64::from(clients)) as f64;
        worst = worst.max(per);
        report.number(&format!("{key}_per_1000"), &format!("{text}, allocations per 1,000"), per, "");
    }
    for (key, text, make) in ANNOUNCEMENTS {
        bench.announce(2, make)?;
        let allocations = bench.announce(rounds, make)? as f64;
        report.number(
            &format!("{key}_each"),
            &format!("{text}, allocations for all clients"),
            allocations / rounds as f64,
            "",
        );
        let per = allocations * 1_000.0 / (rounds * u64::from(clients)) as f64;
        report.number(&format!("{key}_per_1000"), "  the same per 1,000 messages", per, "");
    }
    report.ratio("worst request, allocations per 1,000 messages", worst, 1.0);
    report.finish(args.common)
}

type Make = fn(&mut Relay) -> breakwater::link::ToShard;

const ANNOUNCEMENTS: [(&str, &str, Make); 2] = [
    ("block", "announcement of a block", |relay| relay.make_block()),
    ("txs", "announcement of 10 transactions", |relay| relay.make_txs(10)),
];

/// What clients ask, with the name of each.
fn requests(relay: &Relay, tx: &breakwater::feed::TxNews) -> Vec<(&'static str, &'static str, Bytes)> {
    let made = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        fill(&mut out);
        Bytes::from(out)
    };
    let one = |kind, hash| std::iter::once(Inv { kind, hash });
    let locator = relay.chain().hash(50);
    vec![
        ("ping", "ping", made(&|out| write::ping(out, MAGIC, 7))),
        (
            "inv",
            "inv of a transaction that is known",
            made(&|out| write::inventory(out, MAGIC, "inv", one(InvKind::Wtx, tx.wtxid))),
        ),
        (
            "getdata_wtx",
            "getdata of a transaction in the log, by wtxid",
            made(&|out| write::inventory(out, MAGIC, "getdata", one(InvKind::Wtx, tx.wtxid))),
        ),
        (
            "getdata_tx",
            "getdata of a transaction in the log, without witness",
            made(&|out| write::inventory(out, MAGIC, "getdata", one(InvKind::Tx, tx.txid))),
        ),
        (
            "getheaders",
            "getheaders, answered by 2,000",
            made(&|out| write::locator(out, MAGIC, "getheaders", std::iter::once(&locator), &[0; 32])),
        ),
    ]
}

struct Bench {
    relay: Relay,
    swarm: Swarm,
}

impl Bench {
    /// Every client sends the message `rounds` times, one after the other. Returns the shard's allocations.
    fn ask(&mut self, rounds: u64, message: &Bytes, answered: bool) -> Outcome<u64> {
        let before = self.relay.allocations;
        for _ in 0..rounds {
            for group in 0..self.swarm.clients().div_ceil(GROUP) {
                self.ask_group(group, message, answered)?;
            }
        }
        self.swarm.check()?;
        Ok(self.relay.allocations - before)
    }

    /// Some clients at a time: each shard has a bounded number of buffers to use again.
    fn ask_group(&mut self, group: u32, message: &Bytes, answered: bool) -> Outcome {
        let members = group * GROUP..((group + 1) * GROUP).min(self.swarm.clients());
        let count = u64::from(members.end - members.start);
        let before = (self.relay.counters().messages_in, self.relay.counters().sends);
        for client in members {
            self.swarm.send(client, message.clone());
        }
        self.relay.turn_until("answers", |relay| {
            let counters = relay.counters();
            counters.messages_in >= before.0 + count && (!answered || counters.sends >= before.1 + count)
        })
    }

    /// Announces `rounds` times to all. Returns the shard's allocations.
    fn announce(&mut self, rounds: u64, make: Make) -> Outcome<u64> {
        let before = self.relay.allocations;
        for _ in 0..rounds {
            let entry = make(&mut self.relay);
            let sends = self.relay.counters().sends + u64::from(self.swarm.clients());
            self.relay.announce(entry)?;
            self.relay.turn_until("an announcement", |relay| relay.counters().sends >= sends)?;
        }
        Ok(self.relay.allocations - before)
    }
}

/// Clients that ask at a time.
const GROUP: u32 = 32;
