//! What may go wrong, and how often. Drawn from the seed: each kind of fault is wholly off in about half of the runs,
//! so that one kind cannot hide another behind it (swarm testing).

use rand::Rng;
use rand::rngs::SmallRng;

/// Probabilities are per occasion (a write, a receive, an accept, a read); times in microseconds.
#[derive(Clone, Debug)]
pub struct Faults {
    /// True exactly when faults may happen. Delays and splits stay: they are not faults.
    pub on: bool,
    /// One-way latency of a connection, chosen once each.
    pub latency_us: (u64, u64),
    /// Further delay of each segment.
    pub jitter_us: u64,
    /// Socket buffers (sender and receiver together), chosen once per direction, bytes.
    pub socket: (usize, usize),
    /// Provided receive buffers of each kernel.
    pub buffers: u16,
    /// Connections a kernel's table holds; accepting more fails with ENFILE.
    pub table: u32,
    /// A write arrives late by `stall_us`.
    pub stall: f64,
    /// How late.
    pub stall_us: (u64, u64),
    /// The connection is reset during a write.
    pub reset: f64,
    /// An accept fails with EMFILE.
    pub accept: f64,
    /// A receive finds no buffer for a while although there are some.
    pub no_buffers: f64,
    /// A completion is late by up to 5 ms.
    pub late_done: f64,
    /// A send fails with ENOBUFS.
    pub send: f64,
    /// A receive fails with ETIMEDOUT.
    pub receive: f64,
    /// A file read by the ring fails with EIO.
    pub read: f64,
}

impl Faults {
    /// No faults, quick network.
    pub fn none() -> Faults {
        Faults {
            on: false,
            latency_us: (50, 500),
            jitter_us: 20,
            socket: (65_536, 262_144),
            buffers: 256,
            table: 4_096,
            stall: 0.0,
            stall_us: (0, 1),
            reset: 0.0,
            accept: 0.0,
            no_buffers: 0.0,
            late_done: 0.0,
            send: 0.0,
            receive: 0.0,
            read: 0.0,
        }
    }

    /// The faults of a run.
    pub fn draw(rng: &mut SmallRng) -> Faults {
        let mut maybe = |most: f64| if rng.random_bool(0.5) { rng.random_range(0.0..most) } else { 0.0 };
        let mut faults = Faults {
            on: true,
            stall: maybe(0.002),
            reset: maybe(0.004),
            accept: maybe(0.2),
            no_buffers: maybe(0.05),
            late_done: maybe(0.3),
            send: maybe(0.001),
            receive: maybe(0.001),
            read: maybe(0.05),
            ..Faults::none()
        };
        // Small buffers on a long way would be slower than any client that could follow the chain.
        let slow = rng.random_range(0..3);
        faults.latency_us = [(20, 200), (100, 5_000), (1_000, 150_000)][slow];
        faults.jitter_us = [10, 1_000, 20_000][rng.random_range(0..=slow)];
        faults.socket = [(2_048, 4_096), (8_192, 65_536), (65_536, 262_144)][rng.random_range(slow..3)];
        faults.buffers = [4, 16, 256][rng.random_range(0..3)];
        faults.stall_us = [(100_000, 2_000_000), (1_000_000, 30_000_000), (60_000_000, 200_000_000)]
            [rng.random_range(0..3)];
        faults
    }
}
