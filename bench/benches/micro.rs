//! Wall time of the micro benchmarks' subjects; see `breakwater_rig::micro`.
//!
//! divan rather than criterion: a handful of crates instead of a plotting library and rayon, items per second beside each
//! time, and `cargo test` runs each subject once, so that none rots.
//!
//!     cargo bench -p breakwater-rig                 all of them
//!     cargo bench -p breakwater-rig -- seen         some
//!     cargo test -p breakwater-rig --bench micro    each once, measuring nothing

use breakwater_rig::micro::{self, Group, Subject};
use divan::Bencher;
use divan::counter::ItemsCount;

/// mimalloc as in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Shown by its name without the group.
#[derive(Clone, Copy)]
struct Named(&'static Subject);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.0.name;
        f.pad(name.split_once('/').map_or(name, |(_, name)| name))
    }
}

fn named(all: &'static [Subject]) -> impl Iterator<Item = Named> {
    all.iter().map(Named)
}

fn run(bencher: Bencher<'_, '_>, Named(subject): Named) {
    let round = match (subject.make)() {
        Ok(round) => round,
        Err(error) => {
            eprintln!("{}: {error}", subject.name);
            std::process::exit(1);
        }
    };
    bencher.counter(ItemsCount::new(subject.items)).bench_local(round);
}

#[divan::bench(args = named(Group::Wire.subjects()))]
fn wire(bencher: Bencher<'_, '_>, subject: Named) {
    run(bencher, subject);
}

#[divan::bench(args = named(Group::Sweep.subjects()))]
fn sweep(bencher: Bencher<'_, '_>, subject: Named) {
    run(bencher, subject);
}

#[divan::bench(args = named(Group::Seen.subjects()))]
fn seen(bencher: Bencher<'_, '_>, subject: Named) {
    run(bencher, subject);
}

#[divan::bench(args = named(Group::Link.subjects()))]
fn link(bencher: Bencher<'_, '_>, subject: Named) {
    run(bencher, subject);
}

#[divan::bench(args = named(micro::CROSS))]
fn cross_thread(bencher: Bencher<'_, '_>, subject: Named) {
    run(bencher, subject);
}
