//! What a shard counts. Plain numbers of its own; the hub gets a copy once a second and publishes the sums.

use crate::base::{End, Fault};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// Totals since the shard's start.
        #[derive(Clone, Debug)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// Clients ended, by reason.
            pub ends: [u64; End::ALL.len()],
            /// Messages dropped without ending the client, by fault.
            pub faults: [u64; Fault::ALL.len()],
        }

        impl Default for Counters {
            fn default() -> Counters {
                Counters { $($name: 0,)+ ends: [0; End::ALL.len()], faults: [0; Fault::ALL.len()] }
            }
        }

        /// Names and descriptions of the plain counters, in the order of [`Counters::values`].
        pub const NAMES: &[(&str, &str)] = &[$((stringify!($name), concat!($($doc),+))),+];

        impl Counters {
            /// The plain counters, in the order of [`NAMES`].
            pub fn values(&self) -> Vec<u64> {
                vec![$(self.$name),+]
            }
        }
    };
}

counters! {
    /// Connections accepted by the kernel and given to the shard.
    accepted;
    /// Accepts the kernel refused for want of descriptors or memory.
    accept_failed;
    /// Times the shard left the listening group because its table was full.
    left_group;
    /// Cost units served.
    cost;
    /// Requests that waited because their client was over its capacity.
    over_capacity;
    /// Probes that became sessions.
    promoted;
    /// Handshakes completed.
    handshakes;
    /// Steps of transport handshakes.
    transport_steps;
    /// TLS sessions opened by a full handshake.
    tls_full;
    /// TLS sessions resumed by a ticket.
    tls_resumed;
    /// Tickets offered and not taken: the handshake was a full one.
    tls_tickets_refused;
    /// BIP324 sessions opened.
    v2_sessions;
    /// Times TLS listeners stopped accepting because too many handshakes were in progress.
    tls_held;
    /// Free clients that gave way to a better one.
    replaced;
    /// Free clients ended because the total capacity fell, or priority clients needed it.
    shed;
    /// Clients paused because more recharged than the relay can serve.
    frozen;
    /// Messages received whole and well framed.
    messages_in;
    /// Bytes received.
    bytes_in;
    /// Sends completed.
    sends;
    /// Bytes sent.
    bytes_out;
    /// Pings answered.
    pings_answered;
    /// Pings sent.
    pings_sent;
    /// Block announcements sent: one per client and message.
    block_announcements;
    /// Times a client had fallen off the log of blocks and heard of the tip alone.
    block_log_missed;
    /// Transaction announcements sent: one per client and message.
    tx_announcements;
    /// Transactions not announced to a client because it had fallen off the log.
    tx_skipped;
    /// Requests answered from the shard's own memory.
    served_local;
    /// Requests passed to the hub.
    wants;
    /// Requests the hub could not answer.
    wants_missing;
    /// Requests answered too late: the client had left.
    wants_stale;
    /// Bytes served from files.
    file_bytes;
    /// Transactions received from clients that the shard had not seen.
    tx_in;
    /// Transactions received from clients that the shard had seen.
    tx_duplicate;
    /// Transaction announcements of clients that the shard or enough others had heard.
    tx_inv_known;
    /// Transaction announcements of clients passed to the hub.
    tx_inv_passed;
    /// Transaction announcements of clients dropped because the hub was behind.
    tx_inv_dropped;
    /// Times clients waited because the hub was behind.
    hub_congested;
    /// Entries the hub had not taken when the shard had to end.
    untold;
    /// Times a client waited for a buffer because the shard's budget was used up.
    buffer_waits;
    /// Turns of the shard's loop.
    turns;
}

impl Counters {
    /// Counts an end.
    pub fn end(&mut self, end: End) {
        self.ends[end as usize] += 1;
    }

    /// Counts a fault.
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }
}
