//! Why a client's connection ended: one enum, one counter each, said from whose side.

/// Whose doing the end was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client broke a rule of the protocol.
    Peer,
    /// The client left of its own accord.
    Left,
    /// A limit of ours was reached.
    Limit,
    /// A deadline passed.
    Time,
    /// The kernel reported an error.
    Kernel,
    /// We are ending (drain, shutdown).
    Us,
}

macro_rules! ends {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal, $side:ident;)+) => {
        /// The reason a client's connection ended.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum End { $($(#[doc = $doc])+ $name),+ }

        impl End {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [End] = &[$(End::$name),+];

            /// The label of the reason's counter, stable for dashboards.
            pub fn label(self) -> &'static str {
                match self { $(End::$name => $label),+ }
            }

            /// Whose doing it was.
            pub fn side(self) -> Side {
                match self { $(End::$name => Side::$side),+ }
            }
        }
    };
}

ends! {
    /// The client closed its side (FIN); a half-closed client counts as gone, as in Bitcoin Core.
    Closed = "closed", Left;
    /// The client reset the connection.
    Reset = "reset", Left;
    /// The stream closed in the middle of a message.
    Truncated = "truncated", Left;
    /// Message header without our network's magic.
    WrongMagic = "wrong_magic", Peer;
    /// Message header announces more than 4,000,000 bytes.
    Oversize = "oversize", Peer;
    /// The protocol version is below 31800.
    BadVersion = "bad_version", Peer;
    /// Our own nonce came back: we are talking to ourselves.
    SelfConnection = "self_connection", Peer;
    /// `wtxidrelay` or `sendaddrv2` after `verack` (BIP339, BIP155).
    LateFeature = "late_feature", Peer;
    /// More than 50,000 entries in inv or getdata, 2,000 headers, 1,000 addresses or 101 locator hashes.
    TooManyEntries = "too_many_entries", Peer;
    /// Headers whose proof of work is not valid, or that do not connect within themselves.
    InvalidHeaders = "invalid_headers", Peer;
    /// getcfilters, getcfheaders or getcfcheckpt of an unknown stop hash or a range that is too long (BIP157).
    BadFilterRequest = "bad_filter_request", Peer;
    /// A filter request although we do not offer the service.
    FiltersNotServed = "filters_not_served", Peer;
    /// `mempool` although we do not offer it, or a BIP37 message (filterload, filteradd, filterclear).
    BloomNotServed = "bloom_not_served", Peer;
    /// A block deeper than 288 was asked while only NETWORK_LIMITED is offered (BIP159).
    TooDeep = "too_deep", Peer;
    /// getblocktxn names a transaction index that the block does not have (BIP152).
    BadBlockTxn = "bad_blocktxn", Peer;
    /// The first bytes are no TLS record, or no ClientHello that can be read.
    NotTls = "not_tls", Peer;
    /// The client offers no TLS 1.3; answered by the alert protocol_version.
    TlsVersion = "tls_version", Peer;
    /// The TLS handshake failed for another reason: no common suite, a bad certificate, a message out of order.
    TlsHandshake = "tls_handshake", Peer;
    /// The client ended the TLS session by an alert of its own.
    TlsAlert = "tls_alert", Peer;
    /// A record that does not authenticate (bad_record_mac): corrupted, replayed, reordered or cut.
    TlsBadRecord = "tls_bad_record", Peer;
    /// A record longer than TLS 1.3 allows (record_overflow).
    TlsOverflow = "tls_overflow", Peer;
    /// A record or handshake message that does not belong there (unexpected_message, decode_error, illegal_parameter).
    TlsUnexpected = "tls_unexpected", Peer;
    /// Too many records under one key, or too many key updates or empty records in a row.
    TlsLimit = "tls_limit", Peer;
    /// The stream closed without close_notify: it may have been cut.
    NoCloseNotify = "no_close_notify", Left;
    /// The garbage of a BIP324 handshake has no terminator within 4,111 bytes.
    V2Garbage = "v2_garbage", Peer;
    /// A BIP324 packet that does not authenticate.
    V2BadPacket = "v2_bad_packet", Peer;
    /// No room in the shard's table.
    Full = "full", Limit;
    /// More connections from the address than `max_per_address`.
    PerAddress = "per_address", Limit;
    /// No probe slot was free.
    NoProbeSlot = "no_probe_slot", Limit;
    /// Its address, or its /24 or /48, has come too often without asking for anything.
    ProbeTooOften = "probe_too_often", Limit;
    /// It asked for work and no session slot was free; it was told of other relays, if any are known.
    NoSession = "no_session", Limit;
    /// It asked for work, all capacity was given out, and no free client was worse than it.
    NoCapacity = "no_capacity", Limit;
    /// A free client, or a priority client of low priority, that gave way: to a better one, or because the total capacity fell.
    Replaced = "replaced", Limit;
    /// A probe that has asked for nothing for too long.
    ProbeOver = "probe_over", Time;
    /// More handshakes in progress than the shard allows: the oldest one, a key exchange that is slow, or the newcomer gave way.
    HandshakeEvicted = "handshake_evicted", Limit;
    /// A long message was being gathered while the shard's buffers were used up.
    NoBuffer = "no_buffer", Limit;
    /// The TLS handshake or the key exchange of BIP324 did not complete in time.
    TransportTimeout = "transport_timeout", Time;
    /// `verack` did not come within 60 s.
    HandshakeTimeout = "handshake_timeout", Time;
    /// No pong within 20 minutes of our ping.
    PingTimeout = "ping_timeout", Time;
    /// The client took nothing of what we sent for too long.
    Stalled = "stalled", Time;
    /// A message was begun and not completed in time (one byte a second).
    SlowMessage = "slow_message", Time;
    /// Receiving failed with another error of the kernel.
    ReceiveError = "receive_error", Kernel;
    /// Sending failed with another error of the kernel.
    SendError = "send_error", Kernel;
    /// An operator ended it.
    Kicked = "kicked", Us;
    /// An operator banned where it comes from.
    Banned = "banned", Us;
    /// Its service was removed.
    Drained = "drained", Us;
    /// The relay is shutting down.
    Shutdown = "shutdown", Us;
    /// The store could not give what had been promised (disk error in the middle of a message).
    StoreFailed = "store_failed", Us;
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}
