//! What a message means for this client.

use super::handshake::{Greeting, on_fee_filter, on_verack, on_version};
use super::{Client, Flags};
use crate::base::{End, Fault};
use crate::wire::{Hash, HashList, HeaderList, InvList, Message, WireError, sha256d, write};

/// What the shard has to do for a message.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Effect<'a> {
    /// Nothing: the message is dealt with.
    None,
    /// A forgiven fault, to be counted.
    Fault(Fault),
    /// `version` has come, with this name.
    Hello(&'a [u8]),
    /// The handshake is complete.
    Ready,
    /// A ping was answered.
    Pinged,
    /// Our ping was answered.
    Ponged,
    GetHeaders {
        locator: HashList<'a>,
        stop: Hash,
    },
    GetBlocks {
        locator: HashList<'a>,
        stop: Hash,
    },
    GetData(InvList<'a>),
    GetBlockTxn {
        block: Hash,
        indexes: &'a [u8],
    },
    GetCFilters {
        start: u32,
        stop: Hash,
    },
    GetCFHeaders {
        start: u32,
        stop: Hash,
    },
    GetCFCheckpt {
        stop: Hash,
    },
    /// First getaddr of the connection.
    GetAddr,
    Mempool,
    /// Announcements; only those of transactions matter.
    Inv(InvList<'a>),
    Tx(&'a [u8]),
    NotFound(InvList<'a>),
}

/// Takes a message. Replies that need nothing but the client are appended to `out`.
pub fn handle<'a, A>(
    client: &mut Client<A>,
    message: Result<Message<'a>, WireError>,
    greeting: &Greeting<'_>,
    out: &mut Vec<u8>,
) -> Result<Effect<'a>, End> {
    let message = match message {
        Ok(message) => message,
        Err(error) => return error.outcome().map(Effect::Fault),
    };
    if !client.is(Flags::VERSION) {
        return match message {
            Message::Version(version) => {
                on_version(client, &version, greeting, out).map(|()| Effect::Hello(version.user_agent))
            }
            _ => Ok(Effect::Fault(Fault::BeforeVersion)),
        };
    }
    if !client.is(Flags::READY) {
        return Ok(match message {
            Message::Version(_) => Effect::Fault(Fault::Redundant),
            Message::Verack => {
                on_verack(client, greeting, out);
                Effect::Ready
            }
            Message::WtxidRelay => with(client, Flags::WTXID),
            Message::SendAddrV2 => with(client, Flags::ADDRV2),
            Message::Feature | Message::Unknown(_) => Effect::None,
            // Some clients send these before verack; Bitcoin Core takes them then, too.
            Message::SendHeaders => with(client, Flags::HEADERS),
            Message::SendCmpct { announce, version } => on_send_cmpct(client, announce, version),
            _ => Effect::Fault(Fault::BeforeVerack),
        });
    }
    Ok(match message {
        Message::Version(_) | Message::Verack => Effect::Fault(Fault::Redundant),
        Message::WtxidRelay | Message::SendAddrV2 => return Err(End::LateFeature),
        Message::Feature => Effect::None,
        Message::Ping(nonce) => {
            write::pong(out, greeting.magic, nonce);
            Effect::Pinged
        }
        Message::Pong(nonce) if client.is(Flags::PING_OUT) && nonce == client.ping_nonce => {
            client.flags.remove(Flags::PING_OUT);
            Effect::Ponged
        }
        Message::Pong(_) => Effect::Fault(Fault::UnrequestedAnswer),
        Message::SendHeaders => with(client, Flags::HEADERS),
        Message::SendCmpct { announce, version } => on_send_cmpct(client, announce, version),
        Message::FeeFilter(rate) => {
            on_fee_filter(client, rate);
            Effect::None
        }
        Message::GetHeaders { locator, stop } => Effect::GetHeaders { locator, stop },
        Message::GetBlocks { locator, stop } => Effect::GetBlocks { locator, stop },
        Message::GetData(list) => Effect::GetData(list),
        Message::Inv(list) => Effect::Inv(list),
        Message::NotFound(list) => Effect::NotFound(list),
        Message::Tx(payload) => Effect::Tx(payload),
        Message::Headers(list) => return on_headers(list),
        Message::Block(payload) | Message::CmpctBlock(payload) => return on_block(payload),
        Message::GetBlockTxn { block, indexes } => Effect::GetBlockTxn { block, indexes },
        Message::GetCFilters { filter_type, start, stop } => {
            basic(client, filter_type)?;
            Effect::GetCFilters { start, stop }
        }
        Message::GetCFHeaders { filter_type, start, stop } => {
            basic(client, filter_type)?;
            Effect::GetCFHeaders { start, stop }
        }
        Message::GetCFCheckpt { filter_type, stop } => {
            basic(client, filter_type)?;
            Effect::GetCFCheckpt { stop }
        }
        Message::GetAddr if client.is(Flags::ADDRESSES_GIVEN) => Effect::Fault(Fault::SecondGetAddr),
        Message::GetAddr => {
            client.flags |= Flags::ADDRESSES_GIVEN;
            Effect::GetAddr
        }
        Message::Addr(..) | Message::AddrV2(..) => Effect::Fault(Fault::UnwantedAddr),
        Message::Mempool => Effect::Mempool,
        Message::Bloom => return Err(End::BloomNotServed),
        Message::BlockTxn(_)
        | Message::CFilter { .. }
        | Message::CFHeaders { .. }
        | Message::CFCheckpt { .. } => Effect::Fault(Fault::UnrequestedAnswer),
        Message::Unknown(_) => Effect::Fault(Fault::UnknownCommand),
    })
}

fn with<'a, A>(client: &mut Client<A>, flag: Flags) -> Effect<'a> {
    client.flags |= flag;
    Effect::None
}

/// Only version 2 (witness) compact blocks are spoken, as in Bitcoin Core since 25.0.
fn on_send_cmpct<'a, A>(client: &mut Client<A>, announce: bool, version: u64) -> Effect<'a> {
    if version == 2 {
        client.flags |= Flags::COMPACT;
        client.flags.set(Flags::HIGH_BANDWIDTH, announce);
    }
    Effect::None
}

/// Only basic filters (type 0) exist.
fn basic<A>(client: &mut Client<A>, filter_type: u8) -> Result<(), End> {
    client.flags |= Flags::FILTERS;
    if filter_type == 0 { Ok(()) } else { Err(End::BadFilterRequest) }
}

/// Headers nobody asked for: the node tells us of blocks. A follower announces its tip this way, which is no
/// fault of the kind that ends it, unless the work is not there or the list is torn.
fn on_headers<'a>(list: HeaderList<'_>) -> Result<Effect<'a>, End> {
    let mut last: Option<Hash> = None;
    for header in list.iter() {
        let hash = checked_hash(header)?;
        if last.is_some_and(|last| last != header[4..36]) {
            return Err(End::InvalidHeaders);
        }
        last = Some(hash);
    }
    Ok(Effect::Fault(Fault::UnrequestedHeaders))
}

fn on_block<'a>(payload: &[u8]) -> Result<Effect<'a>, End> {
    let Some(header) = payload.first_chunk::<80>() else { return Ok(Effect::Fault(Fault::Short)) };
    checked_hash(header)?;
    Ok(Effect::Fault(Fault::UnrequestedBlock))
}

/// The hash of a header whose proof of work meets its own target. Whether that target is the right one is the node's to say.
fn checked_hash(header: &[u8; 80]) -> Result<Hash, End> {
    let hash = sha256d(header);
    let bits = u32::from_le_bytes([header[72], header[73], header[74], header[75]]);
    let target = bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(bits));
    let met = bitcoin::Target::from_le_bytes(hash) <= target;
    // The sign bit or an exponent past 256 bits reads as zero or as an overflow in rust-bitcoin.
    let sane = bits & 0x0080_0000 == 0 && (bits >> 24) <= 34;
    if met && sane { Ok(hash) } else { Err(End::InvalidHeaders) }
}
