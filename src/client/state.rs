//! What is kept per client: two cache lines, and a pointer to more only while it is doing something.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Account;
use crate::base::limits::{
    CLOSE_TIMEOUT, HANDSHAKE_TIMEOUT, MESSAGE_TIMEOUT, PING_INTERVAL, PONG_TIMEOUT, SEND_TIMEOUT,
    TRANSPORT_TIMEOUT,
};
use crate::base::{Conn, End, Instant};
use crate::transport::Channel;

bitflags::bitflags! {
    /// What is true of a client now. Each line says when exactly.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Flags: u32 {
        /// `version` has come.
        const VERSION = 1;
        /// `verack` has come: the handshake is complete.
        const READY = 1 << 1;
        /// It sent `wtxidrelay`: transactions are named by wtxid.
        const WTXID = 1 << 2;
        /// It sent `sendaddrv2`.
        const ADDRV2 = 1 << 3;
        /// It sent `sendheaders`.
        const HEADERS = 1 << 4;
        /// It sent `sendcmpct` with version 2.
        const COMPACT = 1 << 5;
        /// Its last `sendcmpct` of version 2 asked for high bandwidth.
        const HIGH_BANDWIDTH = 1 << 6;
        /// It wants transactions announced: fRelay was set, and its feefilter does not say "none".
        const RELAY = 1 << 7;
        /// It has asked for filters: it hears of a block when its filter is here.
        const FILTERS = 1 << 8;
        /// Its headers are known to reach our tip of some moment, and it has heard of every block since.
        const SYNCED = 1 << 9;
        /// It has had its `getaddr` answered.
        const ADDRESSES_GIVEN = 1 << 10;
        /// A send is outstanding at the kernel.
        const SENDING = 1 << 11;
        /// A receive is outstanding at the kernel.
        const RECEIVING = 1 << 12;
        /// A ping of ours is unanswered.
        const PING_OUT = 1 << 13;
        /// A message has begun and is not complete.
        const PARTIAL = 1 << 14;
        /// What has been sent ends inside a message: nothing else may be sent but its rest.
        const MID_MESSAGE = 1 << 15;
        /// It waits in one of the shard's queues (hub congested, no buffer).
        const QUEUED = 1 << 16;
        /// It was promised every block (NETWORK) in our `version`.
        const PROMISED_ALL = 1 << 18;
        /// fRelay was set in `version`.
        const ASKED_RELAY = 1 << 17;
        /// It waits for a step of its transport's handshake.
        const STEPPING = 1 << 19;
        /// Its last word (an alert, close_notify) is on its way; then it ends.
        const CLOSING = 1 << 20;
        /// It is not read before an instant: throttled, over its capacity, or paused.
        const HELD = 1 << 21;
        /// What it has asked for is not sent on before an instant.
        const HELD_DOWN = 1 << 22;
        /// Its turn has come to be sent a piece that it has waited for.
        const GRANTED = 1 << 23;
        /// It has a throttle of its own.
        const THROTTLED = 1 << 24;
        /// The operator has paused it: it is `HELD` until the pause is over.
        const PAUSED = 1 << 25;
        /// It has asked for work, and the hub has been asked whether there is room for it.
        const KNOCKED = 1 << 26;
        /// An account pays for it.
        const PAYS = 1 << 27;
        /// It is in the list of those whose buffers recharge.
        const RECHARGING = 1 << 28;
    }
}

/// An address in 18 bytes instead of the 32 of `SocketAddr`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr {
    ip: [u8; 16],
    port: u16,
}

impl From<SocketAddr> for PeerAddr {
    fn from(at: SocketAddr) -> PeerAddr {
        let ip = match at.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        PeerAddr { ip: ip.octets(), port: at.port() }
    }
}

impl From<PeerAddr> for SocketAddr {
    fn from(at: PeerAddr) -> SocketAddr {
        SocketAddr::new(IpAddr::from(at.ip).to_canonical(), at.port)
    }
}

impl std::fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

/// One client. Times are whole seconds of the kernel's clock.
///
/// `A` is what the shard hangs on a client that is in the middle of something.
#[derive(Debug)]
pub struct Client<A> {
    /// Its connection.
    pub conn: Conn,
    /// What is true of it.
    pub flags: Flags,
    /// First block announcement it has not been sent.
    pub blocks: u32,
    /// First transaction announcement it has not been sent.
    pub txs: u32,
    /// Who it is.
    pub peer: PeerAddr,
    /// When it connected.
    pub since: u32,
    /// When the last byte came.
    pub heard: u32,
    /// When the outstanding ping was sent.
    pub pinged: u32,
    /// When the outstanding send was begun.
    pub send_begun: u32,
    /// When the message in parts was begun; in a transport's handshake, when it was the peer's turn.
    pub message_begun: u32,
    /// Height behind the last hash of our answer to its last getblocks; 0 when that has been followed up.
    pub continue_at: u32,
    /// Nonce of the outstanding ping.
    pub ping_nonce: u64,
    /// Lowest fee rate it wants to hear of, satoshi per 1,000 virtual bytes; u32::MAX for all that are higher.
    pub fee_filter: u32,
    /// What it has taken and may take.
    pub account: Account,
    /// Its transport.
    pub channel: Channel,
    /// Present only while it is in the middle of something.
    pub active: Option<Box<A>>,
}

const _: () =
    assert!(size_of::<Client<u64>>() <= 160, "an idle client is two and a half cache lines, keys apart");

/// What is due for a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing before this second.
    At(u32),
    /// A ping.
    Ping,
    /// Its end.
    End(End),
}

impl<A> Client<A> {
    /// A client that has just been accepted.
    pub fn new(
        now: Instant,
        conn: Conn,
        peer: SocketAddr,
        channel: Channel,
        account: Account,
        (blocks, txs): (u32, u32),
    ) -> Client<A> {
        let now = now.secs();
        Client {
            conn,
            flags: Flags::empty(),
            blocks,
            txs,
            peer: peer.into(),
            since: now,
            heard: now,
            pinged: now,
            send_begun: now,
            message_begun: now,
            continue_at: 0,
            ping_nonce: 0,
            fee_filter: 0,
            account,
            channel,
            active: None,
        }
    }

    /// True exactly when it has all of these flags.
    pub fn is(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }

    /// What is due at `now`. The earliest deadline counts; an end goes before a ping.
    pub fn due(&self, now: Instant) -> Due {
        let now = now.secs();
        let mut next = u32::MAX;
        // A v2 exchange begins with the first byte, a TLS handshake with the connection: both count from its beginning.
        // Who waits for a step of ours is not late.
        let shaking =
            !matches!(self.channel, Channel::Fresh) && !self.channel.is_open() && !self.is(Flags::STEPPING);
        let deadlines = [
            (self.is(Flags::CLOSING), self.send_begun, CLOSE_TIMEOUT, End::Stalled),
            (shaking, self.message_begun, TRANSPORT_TIMEOUT, End::TransportTimeout),
            (!self.is(Flags::READY), self.since, HANDSHAKE_TIMEOUT, End::HandshakeTimeout),
            (self.is(Flags::SENDING), self.send_begun, SEND_TIMEOUT, End::Stalled),
            (
                self.is(Flags::PARTIAL) && !self.is(Flags::HELD),
                self.message_begun,
                MESSAGE_TIMEOUT,
                End::SlowMessage,
            ),
            (self.is(Flags::PING_OUT), self.pinged, PONG_TIMEOUT, End::PingTimeout),
        ];
        for (counts, from, span, end) in deadlines {
            if counts {
                let at = from.saturating_add(whole_seconds(span));
                if now >= at {
                    return Due::End(end);
                }
                next = next.min(at);
            }
        }
        if self.is(Flags::READY) && !self.is(Flags::PING_OUT) {
            let at = self.heard.max(self.pinged).saturating_add(whole_seconds(PING_INTERVAL));
            // A client that is being sent something will be heard of by that send's deadline.
            if now >= at && !self.is(Flags::SENDING) {
                return Due::Ping;
            }
            next = next.min(at.max(now + 1));
        }
        if matches!(self.channel, Channel::Fresh) {
            // A key exchange may begin meanwhile, and has a deadline of its own.
            next = next.min(now.saturating_add(whole_seconds(TRANSPORT_TIMEOUT)));
        }
        Due::At(next)
    }
}

fn whole_seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ServiceId;

    fn client() -> Client<u64> {
        Client::new(
            Instant(0),
            Conn(1),
            "192.0.2.1:8333".parse().unwrap(),
            Channel::Plain,
            Account::new(Instant(0), ServiceId(0), 1),
            (0, 0),
        )
    }

    fn at(secs: u64) -> Instant {
        Instant(secs * 1_000_000_000)
    }

    #[test]
    fn deadlines_come_in_order() {
        let mut c = client();
        assert_eq!(c.due(at(59)), Due::At(60));
        assert_eq!(c.due(at(60)), Due::End(End::HandshakeTimeout));
        c.flags |= Flags::READY;
        assert_eq!(c.due(at(60)), Due::At(120));
        assert_eq!(c.due(at(120)), Due::Ping);
        c.flags |= Flags::PING_OUT;
        c.pinged = 120;
        assert_eq!(c.due(at(1319)), Due::At(1320));
        assert_eq!(c.due(at(1320)), Due::End(End::PingTimeout));
        c.flags |= Flags::SENDING;
        c.send_begun = 130;
        assert_eq!(c.due(at(250)), Due::End(End::Stalled));
        c.flags.remove(Flags::SENDING);
        c.flags |= Flags::PARTIAL;
        c.message_begun = 200;
        assert_eq!(c.due(at(320)), Due::End(End::SlowMessage));
    }

    #[test]
    fn addresses_survive_their_compact_form() {
        for text in ["192.0.2.1:8333", "[2001:db8::1]:18444"] {
            let at: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(PeerAddr::from(at)), at);
        }
    }
}
