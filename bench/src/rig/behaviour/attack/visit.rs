//! Those who take connections: the prober comes, shakes hands, leaves and comes again; the slow loris comes and hardly speaks.
//!
//! ```text
//!   prober          connected --handshake--> getaddr, leaves ---pause---> again
//!   loris, even     connected --> its version, a byte at a time
//!   loris, odd      connected --handshake--> a block of 4 MB, a byte at a time
//!   ended by the target, or not even let in: again after the same pause
//! ```
//! However they are received they come again, so they are no measure of the target; who is connected beside them is.

use std::time::Duration;

use breakwater::base::Instant;
use breakwater::base::limits::{HEADER_LEN, MAX_MESSAGE, PROTOCOL_VERSION};
use breakwater::wire::{Services, Version, write};

use crate::rig::behaviour::{Behaviour, Hello, OnEnd, Options, pause};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Pause between two connections of a prober: as fast as it can.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Pause between two bytes of the loris, and before it comes again.
const DRIP: Duration = Duration::from_secs(1);
/// Room for what is made of a message: a version, or the header of a block.
const MADE: usize = 256;

#[derive(Debug)]
struct Prober {
    again_us: u32,
}

impl Behaviour for Prober {
    fn hello(&self) -> Hello {
        Hello { relay: false, ..Hello::default() }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        write::empty(cx.out, cx.magic, "getaddr");
        Flow::Leave
    }

    fn on_end(&self) -> OnEnd {
        OnEnd::Deserved { again_us: self.again_us }
    }

    fn again_us(&self) -> Option<u32> {
        Some(self.again_us)
    }

    fn is_stubborn(&self) -> bool {
        true
    }

    fn counts_blocks(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Loris {
    /// When the next byte is due; far while it speaks as others do.
    next: Instant,
    drip_us: u32,
    /// Bytes of its message sent.
    said: u16,
    /// True exactly when it shakes hands first.
    shakes: bool,
}

impl Behaviour for Loris {
    fn connected(&mut self, cx: &mut Context<'_>) -> Option<Flow> {
        self.shakes = !cx.number.is_multiple_of(2);
        if self.shakes {
            return None;
        }
        self.next = cx.now;
        Some(Flow::Go)
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        self.next = cx.now;
        Flow::Go
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.next > cx.now {
            return Flow::Go;
        }
        let byte = self.whole(cx).get(usize::from(self.said)).copied();
        // Beyond what is made it goes on with zeros: a block of 4 MB takes it 46 days.
        cx.out.push(byte.unwrap_or(0));
        self.said = self.said.saturating_add(1);
        self.next = cx.now + Duration::from_micros(u64::from(self.drip_us));
        Flow::Go
    }

    fn next_wake(&self) -> Instant {
        self.next
    }

    fn ended(&mut self, _: &mut Tally) {
        (self.next, self.said) = (Instant::FAR, 0);
    }

    fn on_end(&self) -> OnEnd {
        OnEnd::Deserved { again_us: self.drip_us }
    }

    fn again_us(&self) -> Option<u32> {
        Some(self.drip_us)
    }

    fn is_stubborn(&self) -> bool {
        true
    }

    fn counts_blocks(&self) -> bool {
        false
    }

    fn is_mid_message(&self) -> bool {
        self.next != Instant::FAR
    }
}

impl Loris {
    /// What it says, as far as it is made.
    fn whole(&self, cx: &Context<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(MADE);
        if self.shakes {
            write::raw(&mut out, cx.magic, "block", &[]);
            // The header of a message of full length; its checksum is never looked at.
            out[16..20].copy_from_slice(&(MAX_MESSAGE as u32).to_le_bytes());
            out.truncate(HEADER_LEN);
        } else {
            let version = Version {
                version: PROTOCOL_VERSION,
                services: Services::empty(),
                time: cx.unix_start.cast_signed(),
                receiver: cx.target,
                nonce: u64::from(cx.number) + 1,
                user_agent: b"/breakwater-rig:loris/",
                start_height: 0,
                relay: false,
            };
            write::version(&mut out, cx.magic, &version);
        }
        out
    }
}

pub(in crate::rig::behaviour) fn prober(options: &Options) -> Box<dyn Behaviour> {
    Box::new(Prober { again_us: pause(options, AT_ONCE) })
}

pub(in crate::rig::behaviour) fn loris(options: &Options) -> Box<dyn Behaviour> {
    Box::new(Loris { next: Instant::FAR, drip_us: pause(options, DRIP), said: 0, shakes: false })
}
