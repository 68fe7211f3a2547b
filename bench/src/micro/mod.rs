//! Subjects of the micro benchmarks: one small thing each, set up once and run over and over, with a bare floor beside it.
//!
//! `bench/benches/micro.rs` takes their wall time (divan), `breakwater-bench instructions` and bench/callgrind count
//! their instructions. A round does the same work each time, so that two counts can be subtracted.
//!
//! - `wire`: bytes to messages and back; floors: the checksum alone, a copy of the same bytes
//! - `sweep`: a shard of 10,000 clients on a kernel that does nothing; floors: bare loops over cursors and operations
//! - `seen`: the set of hashes heard; floor: a `HashSet`
//! - `link`: hub to shard; floor: bare rtrb

#![forbid(unsafe_code)]

mod blank;
mod link;
mod seen;
mod sweep;
mod wire;

use crate::Outcome;

/// One round of a subject that has been set up.
pub type Round = Box<dyn FnMut()>;

/// One thing to measure.
#[derive(Debug)]
pub struct Subject {
    /// `<group>/<name>`; floors say so.
    pub name: &'static str,
    /// Items a round handles: messages, clients, hashes or entries.
    pub items: u64,
    /// Sets it up.
    pub make: fn() -> Outcome<Round>,
}

/// The groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// Bytes to messages and back.
    Wire,
    /// A shard that announces.
    Sweep,
    /// Hashes heard.
    Seen,
    /// Hub to shard.
    Link,
}

impl Group {
    /// Its subjects. Rounds run on one thread and do the same work each time.
    pub fn subjects(self) -> &'static [Subject] {
        match self {
            Group::Wire => wire::ALL,
            Group::Sweep => sweep::ALL,
            Group::Seen => seen::ALL,
            Group::Link => link::ALL,
        }
    }
}

/// Across threads, where waiting is part of the work: for wall time only.
pub const CROSS: &[Subject] = link::CROSS;
