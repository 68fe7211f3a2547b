//! One client without its socket: what it says, and what it makes of what it hears.

use std::net::SocketAddr;

use breakwater::base::limits::PROTOCOL_VERSION;
use breakwater::wire::{Command, Inv, InvKind, Message, Services, Step, Version, parse, split, write};

use super::raw::Raw;
use crate::MAGIC;

/// How the clients of a swarm behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Connects and says nothing; counts messages. The other side of the floor.
    Mute,
    /// Handshake as a wallet does it, with relay=1; answers pings; hears of blocks by inv.
    Wallet,
    /// As `Wallet`, and fetches each block that is announced.
    Fetcher,
    /// Subscribes to a server of another kind.
    Raw(&'static Raw),
}

/// What a client has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Ready,
    Block,
    Txs,
    Pong(u64),
    Other,
}

/// The first thing a client says.
pub(super) fn greet(manner: Manner, target: SocketAddr, nonce: u64, out: &mut Vec<u8>) {
    match manner {
        Manner::Mute => return,
        Manner::Raw(raw) => return out.extend_from_slice(raw.greeting),
        Manner::Wallet | Manner::Fetcher => {}
    }
    let version = Version {
        version: PROTOCOL_VERSION,
        services: Services::empty(),
        time: 1_700_000_000,
        receiver: target,
        nonce,
        user_agent: b"/breakwater-swarm:0.1/",
        start_height: 0,
        relay: true,
    };
    write::version(out, MAGIC, &version);
}

/// Reads whole messages off the front of `bytes`; replies go to `out`. Returns the bytes used.
///
/// # Errors
/// The stream cannot be read any further.
pub(super) fn read(
    manner: Manner,
    bytes: &[u8],
    out: &mut Vec<u8>,
    mut heard: impl FnMut(Heard),
) -> Result<usize, ()> {
    if let Manner::Raw(raw) = manner {
        return raw.read(bytes, out, heard);
    }
    let mut used = 0;
    loop {
        match split(MAGIC, bytes.get(used..).unwrap_or(&[])) {
            Step::Need(_) => return Ok(used),
            Step::Message { command, payload, used: length } => {
                used += length;
                if let Some(what) = take(manner, &command, payload, out) {
                    heard(what);
                }
            }
            Step::Drop { .. } | Step::End(_) => return Err(()),
        }
    }
}

fn take(manner: Manner, command: &Command, payload: &[u8], out: &mut Vec<u8>) -> Option<Heard> {
    Some(match parse(command, payload).ok()? {
        Message::Version(_) => {
            write::empty(out, MAGIC, "wtxidrelay");
            write::empty(out, MAGIC, "sendaddrv2");
            write::empty(out, MAGIC, "verack");
            return None;
        }
        Message::Verack => Heard::Ready,
        // Said by the relay as part of its greeting.
        Message::WtxidRelay | Message::SendAddrV2 | Message::SendCmpct { .. } | Message::FeeFilter(_) => {
            return None;
        }
        Message::Ping(nonce) => {
            write::pong(out, MAGIC, nonce);
            Heard::Other
        }
        Message::Pong(nonce) => Heard::Pong(nonce),
        Message::Inv(list) => {
            let is_block = |inv: &Inv| inv.kind == InvKind::Block;
            match list.iter().find(is_block) {
                Some(inv) if manner == Manner::Fetcher => {
                    let wanted = Inv { kind: InvKind::WitnessBlock, hash: inv.hash };
                    write::inventory(out, MAGIC, "getdata", std::iter::once(wanted));
                    Heard::Other
                }
                Some(_) => Heard::Block,
                None => Heard::Txs,
            }
        }
        Message::Headers(_) => Heard::Other,
        // For a fetcher the block is what it waited for.
        Message::Block(_) => Heard::Block,
        _ => Heard::Other,
    })
}
