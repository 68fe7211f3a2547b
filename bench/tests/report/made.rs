//! Results made up for the tests: nothing, and a run in which all went well.

use std::time::Duration;

use breakwater_rig::machine::Machine;
use breakwater_rig::rig::measure::{Levels, Tally};
use breakwater_rig::rig::report::{Asked, Measured, Results, Sample, TargetUse};

/// A run in which nothing happened.
pub fn nothing() -> Results {
    Results {
        asked: Asked {
            targets: vec!["127.0.0.1:18444".to_owned()],
            network: "regtest".to_owned(),
            clients: 0,
            ramp: "1000/s".to_owned(),
            seconds: 30.0,
            transport: "plain".to_owned(),
            seed: 7,
            rings: 1,
            churn: 0.0,
        },
        behaviours: vec![Measured { name: "idle".to_owned(), asked: 0, tally: Tally::default() }],
        levels: Levels::default(),
        target: None,
        samples: Vec::new(),
        blocks: 0,
        txs: 0,
        origin: "first client",
        wall: Duration::from_secs(3),
        ramp: None,
        rig_cpu: Duration::from_millis(20),
        rig_rss: 10_000_000,
        rig_rss_before: 9_000_000,
        rig_plan: Vec::new(),
        interrupted: false,
        started: 1_795_000_000,
        machine: Machine {
            cpu: "Some <CPU> & more".to_owned(),
            cores: 2,
            kernel: "6.18.0".to_owned(),
            memory_bytes: 8_000_000_000,
            load_before: 0.5,
        },
    }
}

/// Numbers that look like those of a run, the same every time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Mostly about `middle` microseconds, rarely much more.
    fn latency(&mut self, middle: f64) -> Duration {
        let tail = 1.0 / (1.0 - self.next()).powf(0.35);
        Duration::from_micros((middle * (0.4 + 0.6 * self.next()) * tail) as u64)
    }
}

fn tally(dice: &mut Dice, clients: u64, pings: bool) -> Tally {
    let mut tally = Tally::default();
    for n in 0..clients {
        tally.connect.record(dice.latency(300.0));
        tally.handshake.record(dice.latency(2_500.0));
        for _ in 0..3 {
            tally.block_announce.record(dice.latency(9_000.0) + Duration::from_micros(n * 4));
        }
        tally.tx_announce.record(dice.latency(400_000.0));
        tally.lateness.record(dice.latency(30.0));
        if pings {
            tally.ping.record_scheduled(dice.latency(450.0), Duration::from_secs(2));
        }
    }
    let counts = &mut tally.counts;
    (counts.attempts, counts.connections, counts.connected) = (clients, clients, clients);
    (counts.handshakes, counts.handshaken) = (clients, clients);
    (counts.blocks_heard, counts.txs_heard) = (3 * clients, clients);
    (counts.messages_in, counts.bytes_in, counts.bytes_out) = (9 * clients, 800 * clients, 300 * clients);
    if pings {
        (counts.pings, counts.pongs, counts.pings_dropped) = (clients, clients - 2, 2);
    }
    tally
}

/// A run of 10,000 clients of two behaviours, all of them well.
pub fn well() -> Results {
    let mut dice = Dice(1);
    let mut results = nothing();
    results.asked.clients = 10_000;
    results.behaviours = vec![
        Measured { name: "idle".to_owned(), asked: 9_000, tally: tally(&mut dice, 9_000, false) },
        Measured { name: "pinger".to_owned(), asked: 1_000, tally: tally(&mut dice, 1_000, true) },
    ];
    results.levels = Levels { open: 10_000, ready: 10_000, begun: 10_000, ..Levels::default() };
    results.target = Some(TargetUse {
        pid: 4_711,
        cpu: Duration::from_secs(4),
        cpu_after_ramp: Duration::from_secs(1),
        rss_before: 20_000_000,
        rss: 23_000_000,
        kernel_per_client: Some(3_900),
        clients: 10_000,
    });
    (results.blocks, results.txs, results.origin) = (3, 400, "node");
    (results.wall, results.ramp) = (Duration::from_secs(130), Some(Duration::from_secs(40)));
    results.rig_rss = 19_000_000;
    results.samples = (0..=130).map(|second| sample(&mut dice, f64::from(second))).collect();
    results
}

fn sample(dice: &mut Dice, at: f64) -> Sample {
    let open = (at * 250.0).min(10_000.0);
    let block = at > 40.0 && at % 30.0 < 1.0;
    Sample {
        at,
        open: open as u64,
        ready: (open * 0.995) as u64,
        handshakes_s: if at < 40.0 { 250.0 } else { 0.0 },
        messages_s: 2_000.0 * dice.next(),
        bytes_in_s: 90_000.0,
        blocks: (at / 30.0) as u32,
        ping_p50: if at < 3.0 { 0 } else { 200 + (90.0 * dice.next()) as u64 },
        ping_p99: if at < 3.0 { 0 } else { 800 + (4_000.0 * dice.next()) as u64 },
        block_p50: if block { 20_000 } else { 0 },
        block_p99: if block { 45_000 } else { 0 },
        behind: if block { 1_200 } else { 0 },
        target_rss: 20_000_000 + (open * 300.0) as u64,
        target_cores: if at < 40.0 { 0.5 } else { 0.06 + 0.02 * dice.next() },
        rig_cores: if at < 40.0 { 0.4 } else { 0.1 },
        slab: 800_000_000 + (open * 7_800.0) as u64,
        ..Sample::default()
    }
}
