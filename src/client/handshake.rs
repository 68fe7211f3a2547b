//! The inbound handshake, in Bitcoin Core's order: their version; our version, wtxidrelay, sendaddrv2, verack; their
//! features and verack; then sendcmpct and feefilter.

use super::{Client, Flags};
use crate::base::limits::{FEEFILTER_NO_TX, MIN_PROTOCOL_VERSION, PROTOCOL_VERSION, WTXID_RELAY_VERSION};
use crate::base::{End, Nonces, UnixTime};
use crate::wire::{Magic, Services, Version, write};

/// What we say of ourselves at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Greeting<'a> {
    /// The network.
    pub magic: Magic,
    /// What we serve now.
    pub services: Services,
    /// Our name (BIP14).
    pub user_agent: &'a [u8],
    /// Our tip now; wallets reject a stale one.
    pub height: u32,
    /// Wall clock.
    pub unix: UnixTime,
    /// The process's nonces.
    pub nonces: Nonces,
    /// Lowest fee rate the node takes, satoshi per 1,000 virtual bytes.
    pub fee_filter: u64,
}

/// Their `version` has come: answers it.
pub(super) fn on_version<A>(
    client: &mut Client<A>,
    version: &Version<'_>,
    greeting: &Greeting<'_>,
    out: &mut Vec<u8>,
) -> Result<(), End> {
    if greeting.nonces.is_ours(version.nonce) {
        return Err(End::SelfConnection);
    }
    if version.version < MIN_PROTOCOL_VERSION {
        return Err(End::BadVersion);
    }
    client.flags |= Flags::VERSION;
    if version.relay {
        client.flags |= Flags::ASKED_RELAY | Flags::RELAY;
    }
    client.flags.set(Flags::PROMISED_ALL, greeting.services.contains(Services::NETWORK));
    let magic = greeting.magic;
    let ours = Version {
        version: PROTOCOL_VERSION,
        services: greeting.services,
        time: greeting.unix as i64,
        receiver: client.peer.into(),
        nonce: greeting.nonces.make(u64::from(client.conn.0) ^ version.nonce),
        user_agent: greeting.user_agent,
        start_height: greeting.height as i32,
        relay: true,
    };
    write::version(out, magic, &ours);
    if version.version >= WTXID_RELAY_VERSION {
        write::empty(out, magic, "wtxidrelay");
        write::empty(out, magic, "sendaddrv2");
    }
    write::empty(out, magic, "verack");
    Ok(())
}

/// Their `verack` has come: the client is ready.
pub(super) fn on_verack<A>(client: &mut Client<A>, greeting: &Greeting<'_>, out: &mut Vec<u8>) {
    client.flags |= Flags::READY;
    // Low bandwidth: blocks come from the node; we only say that we speak compact blocks.
    write::send_cmpct(out, greeting.magic, false, 2);
    // Also for those who want no transactions: it says which ones they may send.
    if greeting.fee_filter > 0 {
        write::fee_filter(out, greeting.magic, greeting.fee_filter);
    }
}

/// Their feefilter: at or above [`FEEFILTER_NO_TX`] they want no transactions at all. The relay knows no input values,
/// so it cannot tell the fee rate of a transaction: lower filters are kept for the record and not applied (BIP133 lets a
/// node announce what a peer filters).
pub(super) fn on_fee_filter<A>(client: &mut Client<A>, rate: u64) {
    client.fee_filter = u32::try_from(rate).unwrap_or(u32::MAX);
    let wants = client.is(Flags::ASKED_RELAY) && rate < FEEFILTER_NO_TX;
    client.flags.set(Flags::RELAY, wants);
}
