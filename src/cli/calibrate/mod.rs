//! `breakwater calibrate`: measures on this host what requests cost and prints the table as the key `costs` takes it.
//!
//! This program once more as a relay with one shard, a stub node behind it, and clients that ask for one thing after the
//! other, all on 127.0.0.1. What the kernel says that the relay's threads have run, divided by the requests, is what one
//! has cost: shard and hub together, system calls included. Capacity is in the same unit, a microsecond of a core.
//!
//! - `scene`: the chain, the node, transactions to submit
//! - `relay`: the relay and its run time
//! - `peer`: one client
//! - `asks`: requests of a few shapes for each kind
//! - `measure`: asks, and divides
//!
//! Not measured: what the node does, what a network card costs, clients that come and go, and the price of a refused
//! transaction, which is a penalty and keeps its default. On loopback the sender does the receiver's TCP, too.

mod asks;
mod measure;
mod peer;
mod relay;
mod scene;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::measure::{Bench, Measured};
use self::peer::Transport;
use self::relay::Relay;
use self::scene::Scene;
use super::Failure;
use crate::admission::{Costs, Fit, Kind, Known, Price, Sample, fit};
use crate::control::duration;

/// Noise beyond this is worth a word.
const NOISY: f64 = 0.15;
/// What becomes of a kind that was not measured.
const KEPT: &str = "not measured, keeps its default";

#[derive(Args, Debug)]
pub(super) struct CalibrateArgs {
    /// How long is measured in all, 2s to 1h; the longer, the less noise.
    #[arg(long = "for", value_name = "TIME", default_value = "40s")]
    duration: String,
    /// What clients speak. BIP324 has the dearest bytes, so that nobody else costs more.
    #[arg(long, value_enum, default_value_t = Transport::V2)]
    transport: Transport,
}

/// Measures and prints.
///
/// # Errors
/// The host does not allow it, or the relay did not answer as it should: one sentence.
pub(super) fn calibrate(args: &CalibrateArgs) -> Result<(), Failure> {
    let times = Duration::from_secs(2)..=Duration::from_secs(3_600);
    let time = duration(&args.duration).ok().filter(|time| times.contains(time)).ok_or_else(|| {
        Failure::Usage(format!("--for is {}, expected a time from 2s to 1h such as 40s", args.duration))
    })?;
    let interrupted = on_signal()?;
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, its costs are not those of a release build");
    }
    eprintln!("making a chain, starting a relay in front of it");
    let mut scene = Scene::start()?;
    let relay = Relay::start(scene.node())?;
    scene.go_on()?;
    let mut bench = Bench::new(relay, args.transport, interrupted)?;
    let all = asks::of_the_chain(&scene);
    let large = scene.large.first().ok_or_else(|| Failure::Other("no transaction was made".into()))?;
    let of_txs = asks::of_transactions(&scene.small, large);
    // `mempool` is asked twice, when it holds few and when it holds many.
    let shapes = all.len() + of_txs.len() + 2;
    let each = time / u32::try_from(shapes).unwrap_or(u32::MAX);
    eprintln!("asking for {shapes} things, {:.1} s each", each.as_secs_f64());
    let mut found: BTreeMap<&str, Vec<Measured>> = BTreeMap::new();
    let mut take = |kind: Kind, measured| found.entry(kind.key()).or_default().push(measured);
    for ask in &all {
        take(ask.kind, bench.measure(ask, each)?);
    }
    for txs in [&scene.large, &scene.small] {
        take(Kind::Submit, bench.submit(&scene, txs)?);
        take(Kind::Mempool, bench.measure(&asks::mempool(), each)?);
    }
    for ask in &of_txs {
        take(ask.kind, bench.measure(ask, each)?);
    }
    let samples =
        |(key, of): (&&'static str, &Vec<Measured>)| (*key, of.iter().map(|one| one.sample).collect());
    let (costs, fits) = prices(&found.iter().map(samples).collect());
    table(&fits, &found);
    let head = format!(
        "# Measured by `breakwater calibrate` {} over {}, on {} cores. {}\n",
        env!("CARGO_PKG_VERSION"),
        if args.transport == Transport::V2 { "BIP324" } else { "plain TCP" },
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "`refused` is a penalty, not measured."
    );
    let text = format!("{head}[costs]\n{}", costs.to_toml());
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::Other(format!("standard output: {error}")))
}

/// The table, and of each kind how its price came about.
fn prices(samples: &BTreeMap<&str, Vec<Sample>>) -> (Costs, Vec<(Kind, Option<Fit>)>) {
    let mut costs = Costs::default();
    let mut fits = Vec::new();
    let find = |kind: Kind, known| fit(samples.get(kind.key()).map_or(&[][..], Vec::as_slice), known);
    // Bytes cost the same whatever is in them, as far as it cannot be told from the items.
    let bytes = find(Kind::Block, Known::default()).map_or(costs.price(Kind::Block), |fit| fit.price);
    let per_kib = Some(units(bytes.per_kib));
    let hashes = find(Kind::FilterHeaders, Known { per_kib, ..Known::default() });
    for kind in Kind::ALL {
        let known = match kind {
            Kind::Block | Kind::CompactBlock | Kind::BlockTxn | Kind::Tx => Known::default(),
            // One transaction is one request.
            Kind::Submit => Known { base: Some(0.0), ..Known::default() },
            // One answer holds all that there are; each of them is a filter header.
            Kind::FilterCheckpoints => {
                let item = hashes.map_or(costs.price(*kind), |fit| fit.price).per_item;
                Known { per_item: Some(units(item)), per_kib, ..Known::default() }
            }
            Kind::Ping | Kind::Other => Known { per_item: Some(0.0), per_kib, ..Known::default() },
            _ => Known { per_kib, ..Known::default() },
        };
        let found = match kind {
            // Answered once in a connection's life, so it cannot be asked over and over. The answer lies ready: a message in, one out.
            Kind::Addresses => find(Kind::Ping, Known { per_item: Some(0.0), per_kib, ..Known::default() }),
            _ => find(*kind, known),
        };
        if let Some(found) = found {
            costs.set(*kind, found.price);
        }
        fits.push((*kind, found));
    }
    (costs, fits)
}

/// Thousandths of a unit as units.
fn units(milli: u32) -> f64 {
    f64::from(milli) / 1_000.0
}

/// For people: what was found, beside the default.
fn table(fits: &[(Kind, Option<Fit>)], found: &BTreeMap<&str, Vec<Measured>>) {
    let row = |price: Price| {
        let [base, item, kib] = [price.base, price.per_item, price.per_kib].map(units);
        format!("{base:>9.2} {item:>9.3} {kib:>7.3}")
    };
    let head = format!("{:>9} {:>9} {:>7}", "base", "per item", "per KiB");
    eprintln!("{:<10} {head}   {:>27}   {:>6} {:>6}", "units", "default of these", "off by", "noise");
    let mut noisy = 0;
    for (kind, fit) in fits {
        let (key, default) = (kind.key(), row(Costs::default().price(*kind)));
        let Some(fit) = fit else {
            eprintln!("{key:<10} {KEPT:>27}   {default}");
            continue;
        };
        let noise = found.get(key).into_iter().flatten().map(|one| one.noise).fold(0.0, f64::max);
        noisy += u32::from(noise > NOISY);
        let (off, noise) = (fit.error * 100.0, noise * 100.0);
        eprintln!("{key:<10} {}   {default}   {off:>4.0} % {noise:>4.0} %", row(fit.price));
    }
    if noisy > 0 {
        eprintln!(
            "{noisy} of these were measured with more than {:.0} % of noise: the host does other things; try again, or --for 5m",
            NOISY * 100.0
        );
    }
}

/// Becomes true with SIGINT or SIGTERM: the relay has to end with us. The thread that waits ends with the process.
fn on_signal() -> Result<Arc<AtomicBool>, Failure> {
    let failed = |error: std::io::Error| Failure::Other(format!("signals cannot be handled: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    };
    let (mut interrupt, mut terminate) = (signals.0.map_err(failed)?, signals.1.map_err(failed)?);
    let set = Arc::new(AtomicBool::new(false));
    let set_by = set.clone();
    let wait = async move {
        tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        set_by.store(true, Ordering::Relaxed);
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(wait));
    thread.map_err(failed)?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(items: f64, kib: f64, units: f64) -> Sample {
        Sample { items, kib, units }
    }

    #[test]
    fn bytes_are_priced_by_blocks_where_items_hide_them() {
        let samples = BTreeMap::from([
            ("block", vec![sample(1.0, 0.0, 30.0), sample(10.0, 0.0, 210.0), sample(1.0, 1_000.0, 530.0)]),
            ("headers", vec![sample(1.0, 0.1, 8.07), sample(2_000.0, 160.0, 8.0 + 40.0 + 80.0)]),
            ("cfheaders", vec![sample(1.0, 0.0, 6.1), sample(2_000.0, 0.0, 206.0)]),
            ("cfcheckpt", vec![sample(10.0, 0.0, 6.0)]),
            ("ping", vec![sample(1.0, 0.0, 4.0)]),
            ("submit", vec![sample(1.0, 0.1, 100.1), sample(1.0, 100.0, 200.0)]),
        ]);
        let (costs, fits) = prices(&samples);
        let near = |kind: Kind, wanted: [f64; 3]| {
            let price = costs.price(kind);
            let found = [price.base, price.per_item, price.per_kib].map(units);
            for (found, wanted) in found.iter().zip(wanted) {
                assert!((found - wanted).abs() <= 0.01 + wanted * 0.01, "{}: {found} {wanted}", kind.key());
            }
        };
        near(Kind::Block, [10.0, 20.0, 0.5]);
        near(Kind::Headers, [8.0, 0.02, 0.5]);
        near(Kind::FilterHeaders, [6.0, 0.1, 0.5]);
        near(Kind::FilterCheckpoints, [5.0, 0.1, 0.5]);
        near(Kind::Ping, [4.0, 0.0, 0.5]);
        near(Kind::Addresses, [4.0, 0.0, 0.5]);
        near(Kind::Submit, [0.0, 100.0, 1.0]);
        // What nobody has measured keeps its default.
        assert_eq!(costs.price(Kind::Refused), Costs::default().price(Kind::Refused));
        let kept = fits.iter().filter(|(_, fit)| fit.is_none()).count();
        // getaddr has its price from ping.
        assert_eq!(kept, Kind::ALL.len() - samples.len() - 1);
    }
}
