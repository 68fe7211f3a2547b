//! What a shard spends per client to announce a block, and to find that nobody is behind.

use std::hint::black_box;

use breakwater::admission::{Costs, ProbeLimits};
use breakwater::base::limits::{BUFFER_BUDGET, SWEEP_PER_TURN, TX_INTERVAL};
use breakwater::base::{ClientId, Conn, Nonces, ShardId};
use breakwater::feed::blocks::inv_message;
use breakwater::io::{Op, Payload};
use breakwater::link::{self, Doorbell, HouseRules, HubEnd, ToShard};
use breakwater::shard::{HandshakeLimits, ListenerKind, Service, Shard, ShardConfig};
use bytes::Bytes;

use super::blank::Blank;
use super::{Round, Subject};
use crate::made::Chain;
use crate::{MAGIC, Outcome};

pub(super) const ALL: &[Subject] = &[
    each("sweep/nothing new", || Ok(Scene::new()?.nothing())),
    each("sweep/nothing new, floor: cursors", || {
        let cursors = vec![7u32; CLIENTS as usize];
        Ok(Box::new(move || {
            let behind = black_box(&cursors).iter().filter(|cursor| **cursor != black_box(7)).count();
            black_box(behind);
        }))
    }),
    each("sweep/one block", || Ok(Scene::new()?.block())),
    each("sweep/one block, floor: operations", || {
        let (message, mut ops) = (inv_message(MAGIC, &[3; 32]), Vec::new());
        Ok(Box::new(move || {
            for slot in 0..CLIENTS {
                ops.push(send(slot, &message));
                if ops.len() == SWEEP_PER_TURN {
                    black_box(&mut ops).clear();
                }
            }
            black_box(&mut ops).clear();
        }))
    }),
];

const fn each(name: &'static str, make: fn() -> Outcome<Round>) -> Subject {
    Subject { name, items: CLIENTS as u64, make }
}

const CLIENTS: u32 = 10_000;
/// Turns after which nothing is on its way any more: a turn takes 1,024 completions, a greeting is a few sends.
const SETTLED: u32 = 100;
/// Turns after which a sweep that finds nothing is over: it looks at sixteen times as many clients as it may send to.
const TURNS: u32 = CLIENTS / (16 * SWEEP_PER_TURN as u32) + 2;

fn send(slot: u32, message: &Bytes) -> Op {
    let client = ClientId { slot, generation: 1 };
    Op::Send { client, conn: Conn(slot), payload: Payload::Shared(message.clone()) }
}

/// A shard with clients that are ready, and its hub.
struct Scene {
    shard: Shard<Blank>,
    hub: HubEnd,
    /// The announcement of a block, the same at each round: to the log it is a new one.
    block: ToShard,
}

impl Scene {
    fn new() -> Outcome<Scene> {
        let (mut hub, end) = link::pair(Doorbell::silent(), Doorbell::silent())?;
        let config = ShardConfig {
            id: ShardId(0),
            magic: MAGIC,
            max_clients: CLIENTS + 200,
            max_per_address: 0,
            listeners: vec![ListenerKind::Plain.into()],
            v2: false,
            tls: None,
            handshakes: HandshakeLimits::free(1_024),
            secret: [7; 32],
            services: vec![Service::open(b"/breakwater:bench/")],
            probe_limits: ProbeLimits::none(),
            capacity: u64::MAX,
            house: HouseRules::open(),
            probe_exempt: Vec::new(),
            costs: Costs::default(),
            tx_interval: TX_INTERVAL,
            buffer_budget: BUFFER_BUDGET,
            sweep: SWEEP_PER_TURN,
            nonces: Nonces::new(0x5eed_0000_0000_0000),
            seed: 1,
        };
        let mut chain = Chain::new();
        for entry in [chain.introduction(), ToShard::Open] {
            hub.push(entry).map_err(|_| "the queue to the shard is full")?;
        }
        let block = chain.block();
        let mut scene = Scene { shard: Shard::new(config, Blank::new(CLIENTS), end), hub, block };
        // What is not ready after so many turns never will be.
        for _ in 0..CLIENTS {
            scene.turn();
            if scene.shard.core().counters().handshakes == u64::from(CLIENTS) {
                break;
            }
        }
        // What was sent behind the handshake is over.
        (0..SETTLED).for_each(|_| scene.turn());
        let ready = scene.shard.core().counters().handshakes;
        if ready != u64::from(CLIENTS) {
            return Err(format!("{ready} of {CLIENTS} clients are ready").into());
        }
        Ok(scene)
    }

    fn turn(&mut self) {
        self.shard.turn();
        while self.hub.pop().is_some() {}
    }

    fn nothing(mut self) -> Round {
        Box::new(move || {
            // The height stays: the shard looks at everybody and finds that nobody is behind.
            let told = self.hub.push(ToShard::FiltersTo(0)).is_ok();
            for _ in 0..TURNS {
                self.turn();
            }
            black_box(told);
        })
    }

    fn block(mut self) -> Round {
        Box::new(move || {
            let sends = self.shard.core().counters().sends + u64::from(CLIENTS);
            let told = self.hub.push(self.block.clone()).is_ok();
            while told && self.shard.core().counters().sends < sends {
                self.turn();
            }
        })
    }
}
