//! What a hostile connection does to its transport, and what has to come of it.

use breakwater::base::End;
use rustls::AlertDescription;

use super::transport::Speaks;

/// How the rules of a transport are broken. Where nothing else is said, the handshake of the transport and that of the
/// messages is complete before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Attack {
    /// A bit of a record is flipped.
    Flip,
    /// A record comes again.
    Replay,
    /// Two records change places.
    Swap,
    /// A record is cut and the stream ends.
    Cut,
    /// A record is cut and the rest never comes.
    Hold,
    /// The stream ends between records.
    End,
    /// close_notify in the middle; the connection stays.
    Notify,
    /// Key updates that ask for ours, in the middle of traffic both ways; then close_notify. Nothing is wrong with it.
    Updates,
    /// Key updates and nothing else.
    Flood,
    /// A record that is longer than allowed is announced.
    Long,
    /// A record that is not encrypted.
    Clear,
    /// Somebody on the way changes what the relay sends; the client says so by an alert.
    Corrupted,
    /// A v1 message in the middle of packets.
    V1InV2,
    /// A flipped bit in what the client says first.
    FlipFirst,
    /// A flipped bit in what it says next, before the handshake is complete.
    FlipSecond,
    /// A key of BIP324, and nothing more.
    Probe,
    /// A key of BIP324, and garbage without end.
    Garbage,
    /// A ClientHello to the listener without TLS.
    TlsToPlain,
    /// A v1 message to the listener with TLS.
    PlainToTls,
    /// Half a ClientHello, and nothing more.
    HalfHello,
    /// Nothing is said.
    Silent,
}

use Attack::{
    Clear, Corrupted, Cut, Flip, FlipFirst, FlipSecond, Flood, Garbage, HalfHello, Hold, Long, Notify,
    PlainToTls, Probe, Replay, Silent, Swap, TlsToPlain, Updates, V1InV2,
};

const TLS: Speaks = Speaks::Tls { resume: true };
const FULL: Speaks = Speaks::Tls { resume: false };

/// Each attack with who can make it.
pub const ALL: &[(Attack, Speaks)] = &[
    (Flip, TLS),
    (Flip, FULL),
    (Flip, Speaks::V2),
    (Replay, TLS),
    (Replay, Speaks::V2),
    (Swap, TLS),
    (Swap, Speaks::V2),
    (Cut, TLS),
    (Cut, Speaks::V2),
    (Hold, TLS),
    (Hold, Speaks::V2),
    (Attack::End, TLS),
    (Attack::End, Speaks::V2),
    (Notify, TLS),
    (Updates, TLS),
    (Updates, FULL),
    (Flood, TLS),
    (Long, TLS),
    (Clear, TLS),
    (Corrupted, TLS),
    (V1InV2, Speaks::V2),
    (FlipFirst, TLS),
    (FlipFirst, FULL),
    (FlipFirst, Speaks::V2),
    (FlipSecond, TLS),
    (FlipSecond, FULL),
    (FlipSecond, Speaks::V2),
    (Probe, Speaks::V2),
    (Garbage, Speaks::V2),
    (TlsToPlain, FULL),
    (PlainToTls, Speaks::Plain),
    (HalfHello, FULL),
    (Silent, FULL),
];

/// What a flip in the handshake may come to, which nobody can say without doing the handshake himself. Where it changes nothing
/// that matters (the version in a record's header), the client leaves.
const FLIPPED_TLS: &[End] = &[
    End::NotTls,
    End::TlsVersion,
    End::TlsHandshake,
    End::TlsAlert,
    End::TlsBadRecord,
    End::TlsOverflow,
    End::TlsUnexpected,
    End::TransportTimeout,
    End::SlowMessage,
    End::NoCloseNotify,
];
const FLIPPED_V2: &[End] =
    &[End::V2BadPacket, End::Oversize, End::TransportTimeout, End::SlowMessage, End::Closed];

impl Attack {
    /// True exactly when it begins with the first byte.
    pub fn is_early(self) -> bool {
        matches!(
            self,
            FlipFirst | FlipSecond | Probe | Garbage | TlsToPlain | PlainToTls | HalfHello | Silent
        )
    }

    /// What has to come of it: one of these reasons, and for TLS one of these alerts (none: none).
    pub fn outcome(self, speaks: Speaks) -> (&'static [End], &'static [AlertDescription]) {
        use AlertDescription as A;
        let is_tls = matches!(speaks, Speaks::Tls { .. });
        match self {
            // What it comes to depends on the byte: see `flipped`.
            Flip => (&[], &[]),
            FlipFirst | FlipSecond if is_tls => (FLIPPED_TLS, &[]),
            FlipFirst | FlipSecond => (FLIPPED_V2, &[]),
            Replay | Swap if is_tls => (&[End::TlsBadRecord], &[A::BadRecordMac]),
            // Their lengths come out as anything: too long, or longer than what there is.
            Replay | Swap | V1InV2 => (&[End::V2BadPacket, End::Oversize, End::SlowMessage], &[]),
            Cut => (&[End::Truncated], &[]),
            Hold => (&[End::SlowMessage], &[]),
            Attack::End if is_tls => (&[End::NoCloseNotify], &[]),
            Attack::End => (&[End::Closed], &[]),
            Notify | Updates => (&[End::Closed], &[]),
            Flood => (&[End::TlsLimit], &[A::UnexpectedMessage]),
            Long => (&[End::TlsOverflow], &[A::RecordOverflow]),
            Clear => (&[End::TlsUnexpected], &[A::UnexpectedMessage]),
            Corrupted => (&[End::TlsAlert], &[]),
            Probe | TlsToPlain | HalfHello | Silent => (&[End::TransportTimeout], &[]),
            Garbage => (&[End::V2Garbage], &[]),
            PlainToTls => (&[End::NotTls], &[A::DecodeError]),
        }
    }
}

/// What comes of flipping `bit` of byte `at` of a sealed unit of `len` bytes.
pub fn flipped(
    speaks: Speaks,
    unit: &[u8],
    at: usize,
    bit: u8,
) -> (&'static [End], &'static [AlertDescription]) {
    use AlertDescription as A;
    let mask = 1usize << bit;
    match (speaks, at) {
        (Speaks::V2, 0..3) => {
            // The contents of a ping are 9 bytes; the length is XORed with a key stream.
            let length = (unit.len() - 20) ^ (mask << (8 * at));
            match length {
                4_000_014.. => (&[End::Oversize], &[]),
                _ if length > unit.len() - 20 => (&[End::SlowMessage], &[]),
                _ => (&[End::V2BadPacket], &[]),
            }
        }
        (Speaks::V2, _) => (&[End::V2BadPacket], &[]),
        (_, 0) => (&[End::TlsUnexpected], &[A::UnexpectedMessage]),
        (_, 3 | 4) => {
            let length = usize::from(u16::from_be_bytes([unit[3], unit[4]]));
            let new = length ^ if at == 3 { mask << 8 } else { mask };
            match new {
                _ if new > 16_384 + 256 => (&[End::TlsOverflow], &[A::RecordOverflow]),
                _ if new > length => (&[End::SlowMessage], &[]),
                _ => (&[End::TlsBadRecord], &[A::BadRecordMac]),
            }
        }
        _ => (&[End::TlsBadRecord], &[A::BadRecordMac]),
    }
}
