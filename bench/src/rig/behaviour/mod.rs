//! What clients do after (or instead of) the handshake: one small sans-IO state machine each.
//!
//! | name | what it does |
//! |---|---|
//! | `idle` | listens: blocks and transactions by inv |
//! | `mute` | connects, says nothing, counts messages: for floors |
//! | `pinger` | pings every 2 s, as bitcoinj does |
//! | `wallet` | headers, compact filters, blocks that match |
//! | `ibd` | initial block download, again and again |
//! | `paced` | headers and blocks at a pace of its own |
//! | `listener`, `persistent` | asks for headers once and listens; comes again whatever happens |
//! | `tip` | a full node at the tip: compact blocks, transactions |
//! | `submitter` | submits valid regtest transactions at a rate |
//! | `scanner` | asks for addresses and leaves, as a crawler |
//! | `reconnector` | stays for 1 to 10 s, comes back |
//! | `slow`, `stalled` | ask for much and read little, or nothing |
//! | `attackers`, `attack-...` | the rows of the table of bad input, mixed or one alone |
//! | `prober`, `loris`, `hammer` | floods of connections, of bytes one by one, of requests |
//! | `tls-...`, `v2-probe` | attack the transport's handshake, from below |
//!
//! - `request`: questions and when they are answered; `follow`: the chain of headers; both parts of several behaviours
//! - `shared`: what all clients of the process have in common
//!
//! A behaviour adds to [`super::client`], which does the handshake, answers pings and measures announcements.

pub mod attack;
mod deaf;
mod follow;
mod ibd;
mod idle;
mod listener;
mod mute;
mod paced;
mod pinger;
mod reconnector;
mod request;
mod scanner;
pub mod shared;
mod submitter;
mod tip;
mod wallet;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Block;
use bitcoin::consensus::deserialize;
use breakwater::base::Instant;
use breakwater::wire::{Message, Services};

use super::client::{Context, Flow, Reading};
use super::measure::Tally;
use super::scenario::Transport;

/// What a behaviour says in `version` and right after.
#[derive(Debug, Clone, Copy)]
pub struct Hello {
    /// Service bits.
    pub services: Services,
    /// Whether it wants transactions (BIP37 relay flag).
    pub relay: bool,
    /// Height it claims.
    pub height: i32,
    /// Whether it sends `wtxidrelay` and `sendaddrv2` to those who understand them.
    pub modern: bool,
}

impl Default for Hello {
    /// A light client that wants transactions.
    fn default() -> Hello {
        Hello { services: Services::empty(), relay: true, height: 0, modern: true }
    }
}

/// What the end of a connection by the target means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// The client is lost.
    Lost,
    /// It is what the client deserves; it comes again after this pause.
    Deserved {
        /// Microseconds.
        again_us: u32,
    },
}

/// One kind of client. All methods have an answer for those that care about little.
pub trait Behaviour: fmt::Debug + Send {
    /// Connected. Some: the behaviour speaks for itself from the first byte and there is no handshake.
    fn connected(&mut self, _: &mut Context<'_>) -> Option<Flow> {
        None
    }

    /// What it says of itself.
    fn hello(&self) -> Hello {
        Hello::default()
    }

    /// The handshake is complete.
    fn ready(&mut self, _: &mut Context<'_>) -> Flow {
        Flow::Go
    }

    /// A message has come; pings are answered and announcements measured already.
    fn message(&mut self, _: &mut Context<'_>, _: &Message<'_>) -> Flow {
        Flow::Go
    }

    /// What the target sends cannot be read, for this reason.
    fn unreadable(&mut self, _: &mut Context<'_>, why: &'static str) -> Flow {
        Flow::Broken(why)
    }

    /// The moment of [`Behaviour::next_wake`] has come.
    fn wake(&mut self, _: &mut Context<'_>) -> Flow {
        Flow::Go
    }

    /// When it wants to be woken; asked after every call.
    fn next_wake(&self) -> Instant {
        Instant::FAR
    }

    /// How it reads; asked when the connection is there and after every wake.
    fn reading(&self) -> Reading {
        Reading::All
    }

    /// The connection is over; the next one begins anew.
    fn ended(&mut self, _: &mut Tally) {}

    /// What it means when the target ends the connection.
    fn on_end(&self) -> OnEnd {
        OnEnd::Lost
    }

    /// What to count as an error when the target ends the connection now, beside what [`Behaviour::on_end`] says.
    fn complaint(&self) -> Option<&'static str> {
        None
    }

    /// After [`Flow::Leave`]: microseconds until it connects again; `None` when it is done for good.
    fn again_us(&self) -> Option<u32> {
        None
    }

    /// True exactly when it comes again, after the pause of [`Behaviour::on_end`], though it could not even connect.
    fn is_stubborn(&self) -> bool {
        false
    }

    /// True exactly when it must hear of every block while it is connected.
    fn counts_blocks(&self) -> bool {
        true
    }

    /// True exactly when what it sent last was a part of a message, so that nobody may send anything in between.
    fn is_mid_message(&self) -> bool {
        false
    }

    /// True exactly when the next `headers` message answers a question of its own, and so announces nothing.
    fn asks_headers(&self) -> bool {
        false
    }
}

/// What is said about a behaviour in the help, and how one is made.
pub struct Kind {
    /// Its name in flags and scenario files.
    pub name: &'static str,
    /// One line.
    pub what: &'static str,
    /// True exactly when it does what nobody may do to a host that is not theirs.
    pub attack: bool,
    /// What it can be said over.
    pub over: Over,
    /// Makes one.
    pub make: fn(&Options) -> Box<dyn Behaviour>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Which transports a behaviour can be said over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// All of them.
    Any,
    /// Those with v1 messages inside: plain and TLS.
    V1,
    /// It speaks below the transport, bytes as they are; usually with a target of this one.
    Raw(Transport),
}

/// What a scenario can set for a behaviour; each uses what it understands.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Pause between two of whatever it repeats, microseconds; 0 for the behaviour's own.
    pub every_us: u64,
    /// Things per second of all its clients together (transactions of the submitter).
    pub rate: f64,
    /// Bytes at a time (slow reader); 0 for its own.
    pub bytes: u32,
    /// Every so many-th block counts as one whose filter matches (wallet); 0 for its own, `u32::MAX` for none.
    pub nth: u32,
    /// Height of the first filter that is asked for (wallet).
    pub start: u32,
    /// Output scripts that are watched (wallet); none: made up from the seed.
    pub watch: Arc<[Vec<u8>]>,
    /// Does it once and not over and over (initial block download).
    pub once: bool,
}

/// All of them.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "idle",
        what: "listens: blocks and transactions by inv",
        attack: false,
        over: Over::Any,
        make: idle::make,
    },
    Kind {
        name: "mute",
        what: "connects and says nothing; counts messages",
        attack: false,
        over: Over::Any,
        make: mute::make,
    },
    Kind {
        name: "pinger",
        what: "pings every 2 s, as bitcoinj does",
        attack: false,
        over: Over::Any,
        make: pinger::make,
    },
    Kind {
        name: "wallet",
        what: "compact filters: headers, filters, matching blocks",
        attack: false,
        over: Over::Any,
        make: wallet::make,
    },
    Kind {
        name: "ibd",
        what: "downloads all blocks from genesis on, again and again",
        attack: false,
        over: Over::Any,
        make: ibd::make,
    },
    Kind {
        name: "paced",
        what: "asks for headers and blocks every 100 ms",
        attack: false,
        over: Over::Any,
        make: paced::make,
    },
    Kind {
        name: "listener",
        what: "asks for headers once and listens: blocks by headers",
        attack: false,
        over: Over::Any,
        make: listener::make,
    },
    Kind {
        name: "persistent",
        what: "as listener, and comes again however it is received",
        attack: false,
        over: Over::Any,
        make: listener::persistent,
    },
    Kind {
        name: "tip",
        what: "full node at the tip: compact blocks, transactions",
        attack: false,
        over: Over::Any,
        make: tip::make,
    },
    Kind {
        name: "submitter",
        what: "submits valid regtest transactions at a rate",
        attack: false,
        over: Over::Any,
        make: submitter::make,
    },
    Kind {
        name: "scanner",
        what: "asks for addresses, leaves, comes again",
        attack: false,
        over: Over::Any,
        make: scanner::make,
    },
    Kind {
        name: "reconnector",
        what: "stays for 1 to 10 s and comes back",
        attack: false,
        over: Over::Any,
        make: reconnector::make,
    },
    Kind {
        name: "slow",
        what: "asks for blocks, reads 1,000 bytes per 100 ms",
        attack: true,
        over: Over::Any,
        make: deaf::slow,
    },
    Kind {
        name: "stalled",
        what: "asks for blocks and never reads",
        attack: true,
        over: Over::Any,
        make: deaf::stalled,
    },
    Kind {
        name: "prober",
        what: "shakes hands, leaves and comes again at once",
        attack: true,
        over: Over::Any,
        make: attack::visit::prober,
    },
    Kind {
        name: "loris",
        what: "its version, or a long message, a byte a second",
        attack: true,
        over: Over::Any,
        make: attack::visit::loris,
    },
    Kind {
        name: "hammer",
        what: "as many questions as it can get answered",
        attack: true,
        over: Over::Any,
        make: attack::hammer::make,
    },
    Kind {
        name: "attackers",
        what: "all rows of bad input in turn",
        attack: true,
        over: Over::Any,
        make: attack::mixed,
    },
    Kind {
        name: "tls-silent",
        what: "connects and says nothing to a TLS listener",
        attack: true,
        over: Over::Raw(Transport::Tls),
        make: attack::raw::silent,
    },
    Kind {
        name: "tls-hello-flood",
        what: "full TLS handshakes, left after the ClientHello",
        attack: true,
        over: Over::Raw(Transport::Tls),
        make: attack::raw::hello_flood,
    },
    Kind {
        name: "tls-garbage",
        what: "what is no TLS, or breaks off inside of it",
        attack: true,
        over: Over::Raw(Transport::Tls),
        make: attack::raw::garbage,
    },
    Kind {
        name: "v2-probe",
        what: "63 random bytes of a BIP324 key, then nothing",
        attack: true,
        over: Over::Raw(Transport::V2),
        make: attack::raw::probe,
    },
    row::<0>(),
    row::<1>(),
    row::<2>(),
    row::<3>(),
    row::<4>(),
    row::<5>(),
    row::<6>(),
    row::<7>(),
    row::<8>(),
    row::<9>(),
    row::<10>(),
    row::<11>(),
    row::<12>(),
    row::<13>(),
    row::<14>(),
    row::<15>(),
    row::<16>(),
    row::<17>(),
];

/// The behaviour of this name.
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

const fn row<const ROW: usize>() -> Kind {
    let row = &attack::rows::ROWS[ROW];
    let over = if row.v1 { Over::V1 } else { Over::Any };
    Kind { name: row.name, what: row.what, attack: true, over, make: attack::alone::<ROW> }
}

// A row without a name of its own would be reached only in the mix.
const _: () = assert!(attack::rows::ROWS.len() == 18);

/// One of its sixteen things a client looks at closely, and not every client at the same.
fn sampled(height: u32, number: u32) -> bool {
    height.wrapping_add(number).is_multiple_of(16)
}

/// What is wrong with a block's inside.
fn check_block(payload: &[u8]) -> Result<(), &'static str> {
    match deserialize::<Block>(payload) {
        Ok(block) if block.check_merkle_root() => Ok(()),
        Ok(_) => Err("a block with a wrong merkle root"),
        Err(_) => Err("a block that cannot be read"),
    }
}

/// The pause of a scenario, or else a behaviour's own, in microseconds.
fn pause(options: &Options, own: Duration) -> u32 {
    let own = u64::try_from(own.as_micros()).unwrap_or(u64::MAX);
    let us = if options.every_us == 0 { own } else { options.every_us };
    u32::try_from(us).unwrap_or(u32::MAX)
}
