//! The simulator's tests: first of the simulated kernel, then of the relay in a simulated world.
//!
//! `BREAKWATER_SIM_SEEDS` says how many seeds are tried (default 1,000), `BREAKWATER_SIM_SEED` picks one and prints its trace.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

mod sim;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use sim::attack::{ALL, Attack};
use sim::echo;
use sim::faults::Faults;
use sim::world::{Outcome, World};

/// Failing seeds shown at most.
const MOST_FAILURES: usize = 5;

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

/// Runs a seed; a failure says how to see it again.
fn try_seed(seed: u64, print: bool) -> Result<Outcome, String> {
    let run = || World::new(seed, print).run();
    let result = std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    result.map_err(|why| {
        format!(
            "seed {seed}: {why}\nreplay: BREAKWATER_SIM_SEED={seed} cargo test --test simulator a_thousand_seeds -- --nocapture"
        )
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

#[test]
fn a_thousand_seeds() {
    if let Some(seed) = number("BREAKWATER_SIM_SEED") {
        let outcome = try_seed(seed, true).unwrap_or_else(|why| panic!("{why}"));
        eprintln!("{outcome:#?}");
        return;
    }
    let seeds = number("BREAKWATER_SIM_SEEDS").unwrap_or(1_000);
    let next = AtomicU64::new(1);
    let (outcomes, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds || failures.lock().unwrap().len() >= MOST_FAILURES {
                break;
            }
            match try_seed(seed, false) {
                Ok(outcome) => outcomes.lock().unwrap().push(outcome),
                Err(why) => failures.lock().unwrap().push(why),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n\n"));
    let outcomes = outcomes.into_inner().unwrap();
    let sum = |what: fn(&Outcome) -> u64| outcomes.iter().map(what).sum::<u64>();
    println!(
        "{} seeds: {} lines, {} cut, {} blocks and {} transactions announced, {} submitted, {} starts",
        outcomes.len(),
        sum(|o| o.lines),
        sum(|o| o.cut),
        sum(|o| o.block_news),
        sum(|o| o.tx_invs),
        sum(|o| o.submissions as u64),
        sum(|o| u64::from(o.starts)),
    );
    let sessions = |at: usize| outcomes.iter().map(|o| o.sessions[at]).sum::<u64>();
    let mut hits: BTreeMap<(Attack, &str), u64> = BTreeMap::new();
    for (attack, count) in outcomes.iter().flat_map(|o| &o.hits) {
        *hits.entry(*attack).or_default() += count;
    }
    println!(
        "at the end: {} full and {} resumed TLS sessions, {} of BIP324; TLS held {} times; attacks {hits:?}",
        sessions(0),
        sessions(1),
        sessions(2),
        sum(|o| o.held),
    );
    let missing: Vec<Attack> =
        ALL.iter().map(|(attack, _)| *attack).filter(|a| !hits.keys().any(|(b, _)| a == b)).collect();
    assert!(seeds < 500 || missing.is_empty(), "attacks that never came to anything: {missing:?}");
    assert!(seeds < 50 || (0..3).all(|at| sessions(at) > 0) && sum(|o| o.held) > 0);
    // A storm in which nothing happens proves nothing.
    assert!(
        seeds < 50 || (sum(|o| o.cut) > 0 && sum(|o| o.tx_invs) > 0 && sum(|o| o.submissions as u64) > 0)
    );
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 1..=5 {
        let run = || {
            try_seed(seed, false)
                .map(|outcome| (outcome.hash, outcome.lines))
                .unwrap_or_else(|why| panic!("{why}"))
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}
