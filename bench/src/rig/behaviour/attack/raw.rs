//! Attacks on a transport's handshake, from below it: bytes as they are, on a bare connection.
//!
//! ```text
//!   connected --> says its bytes (or nothing) and holds --end by the target--> thrown out: comes again after a pause
//!                 the flood: says a ClientHello and leaves, comes again after a pause
//! ```
//! Whoever is still there after `PATIENCE` counts as an error: a handshake that stands still is to be ended.

use std::time::Duration;

use breakwater::base::Instant;
use rand::Rng as _;

use crate::rig::behaviour::{Behaviour, OnEnd, Options, pause};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Pause between two attacks of one client.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause between two connections of the flood.
const FLOOD: Duration = Duration::from_millis(100);
/// Longer than any handshake may take.
const PATIENCE: Duration = Duration::from_secs(150);
/// One byte less than a key of BIP324: the target cannot know yet what it is.
const PROBE: usize = 63;

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Silent,
    HelloFlood,
    Garbage,
    Probe,
}

#[derive(Debug)]
struct Raw {
    /// When patience ends.
    wake: Instant,
    again_us: u32,
    /// Connections so far: decides which garbage comes next.
    round: u32,
    what: What,
}

impl Behaviour for Raw {
    fn connected(&mut self, cx: &mut Context<'_>) -> Option<Flow> {
        self.wake = cx.now + PATIENCE;
        self.round = self.round.wrapping_add(1);
        match self.what {
            What::Silent => {}
            What::Probe => random(cx, PROBE),
            What::HelloFlood => {
                client_hello(cx);
                return Some(Flow::Leave);
            }
            What::Garbage => match self.round % 4 {
                // Nothing of TLS; a handshake record without a message; a ClientHello and then garbage; a bare alert.
                0 => random(cx, 64),
                1 => {
                    cx.out.extend_from_slice(&[22, 3, 1, 0, 64]);
                    random(cx, 64);
                }
                2 => {
                    client_hello(cx);
                    cx.out.extend_from_slice(&[23, 3, 3, 0, 64]);
                    random(cx, 64);
                }
                _ => cx.out.extend_from_slice(&[21, 3, 3, 0, 2, 2, 0]),
            },
        }
        Some(Flow::Go)
    }

    fn unreadable(&mut self, _: &mut Context<'_>, _: &'static str) -> Flow {
        // Alerts and handshake messages of the target; it ends the connection, not we.
        Flow::Go
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if cx.now < self.wake {
            return Flow::Go;
        }
        cx.tally.error(match self.what {
            What::Silent => "tls-silent: not thrown out",
            What::HelloFlood => "tls-hello-flood: not thrown out",
            What::Garbage => "tls-garbage: not thrown out",
            What::Probe => "v2-probe: not thrown out",
        });
        Flow::Leave
    }

    fn next_wake(&self) -> Instant {
        self.wake
    }

    fn ended(&mut self, _: &mut Tally) {
        self.wake = Instant::FAR;
    }

    fn on_end(&self) -> OnEnd {
        OnEnd::Deserved { again_us: self.again_us }
    }

    fn again_us(&self) -> Option<u32> {
        Some(self.again_us)
    }

    fn counts_blocks(&self) -> bool {
        false
    }
}

fn random(cx: &mut Context<'_>, bytes: usize) {
    let end = cx.out.len() + bytes;
    cx.out.resize_with(end, || cx.rng.random());
}

/// A ClientHello of TLS 1.3 that any server goes on with: X25519 (every 32 bytes are a public key), the usual suites (RFC 8446
/// section 4.1.2).
fn client_hello(cx: &mut Context<'_>) {
    let mut body = vec![3, 3];
    body.extend_from_slice(&cx.rng.random::<[u8; 32]>());
    body.push(32);
    body.extend_from_slice(&cx.rng.random::<[u8; 32]>());
    // Suites: 3; compression: none.
    body.extend_from_slice(&[0, 6, 0x13, 1, 0x13, 2, 0x13, 3, 1, 0]);
    let mut extensions = Vec::with_capacity(80);
    // supported_versions: 1.3; supported_groups: X25519.
    extensions.extend_from_slice(&[0, 43, 0, 3, 2, 3, 4]);
    extensions.extend_from_slice(&[0, 10, 0, 4, 0, 2, 0, 29]);
    // signature_algorithms: ECDSA P-256 and P-384, RSA-PSS, Ed25519.
    extensions.extend_from_slice(&[0, 13, 0, 10, 0, 8, 4, 3, 5, 3, 8, 4, 8, 7]);
    // key_share: X25519.
    extensions.extend_from_slice(&[0, 51, 0, 38, 0, 36, 0, 29, 0, 32]);
    extensions.extend_from_slice(&cx.rng.random::<[u8; 32]>());
    // All lengths are a few hundred at the most.
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(&extensions);
    let length = body.len() as u16;
    cx.out.extend_from_slice(&[22, 3, 1]);
    cx.out.extend_from_slice(&(length + 4).to_be_bytes());
    cx.out.extend_from_slice(&[1, 0]);
    cx.out.extend_from_slice(&length.to_be_bytes());
    cx.out.extend_from_slice(&body);
}

pub(in crate::rig::behaviour) fn silent(options: &Options) -> Box<dyn Behaviour> {
    make(What::Silent, options, AGAIN)
}

pub(in crate::rig::behaviour) fn hello_flood(options: &Options) -> Box<dyn Behaviour> {
    make(What::HelloFlood, options, FLOOD)
}

pub(in crate::rig::behaviour) fn garbage(options: &Options) -> Box<dyn Behaviour> {
    make(What::Garbage, options, AGAIN)
}

pub(in crate::rig::behaviour) fn probe(options: &Options) -> Box<dyn Behaviour> {
    make(What::Probe, options, AGAIN)
}

fn make(what: What, options: &Options, again: Duration) -> Box<dyn Behaviour> {
    Box::new(Raw { wake: Instant::FAR, again_us: pause(options, again), round: 0, what })
}
