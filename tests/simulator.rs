//! The simulator's tests: first of the simulated kernel, then of the relay in a simulated world.
//!
//! `BREAKWATER_SIM_SEEDS` says how many seeds are tried (default 1,000), `BREAKWATER_SIM_SEED` picks one and prints its trace.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

mod sim;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use sim::echo;
use sim::faults::Faults;

#[test]
fn a_calm_network_echoes_everything() {
    let outcome = echo::run(1, Faults::none(), 20, 0);
    assert_eq!((outcome.whole, outcome.cut), (20, 0));
    assert!(outcome.bytes > 1_000_000);
}

#[test]
fn the_kernel_keeps_its_rules_under_faults() {
    let mut cut = 0;
    for seed in 0..60 {
        let faults = Faults::draw(&mut SmallRng::seed_from_u64(seed));
        let outcome = echo::run(seed, faults, 12, (seed % 4) as u32 * 3);
        cut += outcome.cut;
    }
    assert!(cut > 0, "no connection was ever cut: the faults do nothing");
}

#[test]
fn a_full_table_delays_and_loses_nobody() {
    let mut faults = Faults::none();
    faults.table = 3;
    assert_eq!(echo::run(5, faults, 20, 0).whole, 20);
}

#[test]
fn two_buffers_are_enough_for_progress() {
    let mut faults = Faults::none();
    faults.buffers = 2;
    assert_eq!(echo::run(6, faults, 20, 0).whole, 20);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..10 {
        let run = || echo::run(seed, Faults::draw(&mut SmallRng::seed_from_u64(seed)), 8, 3);
        assert_eq!(run(), run(), "seed {seed}");
    }
    assert_ne!(echo::run(1, Faults::none(), 4, 0).hash, echo::run(2, Faults::none(), 4, 0).hash);
}
