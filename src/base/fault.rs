//! What a client did wrong and was forgiven: the message is dropped and counted, the client stays, as in Bitcoin Core
//! (net_processing.cpp `ProcessMessages`: an exception while reading a message is logged, not punished).

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal;)+) => {
        /// A message dropped without ending the client.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Fault { $($(#[doc = $doc])+ $name),+ }

        impl Fault {
            /// Every fault, in the order of the counters.
            pub const ALL: &'static [Fault] = &[$(Fault::$name),+];

            /// The label of the fault's counter, stable for dashboards.
            pub fn label(self) -> &'static str {
                match self { $(Fault::$name => $label),+ }
            }
        }
    };
}

faults! {
    /// The checksum does not fit the payload.
    BadChecksum = "bad_checksum";
    /// The command is not printable ASCII padded with zeros.
    BadCommand = "bad_command";
    /// A command we do not know.
    UnknownCommand = "unknown_command";
    /// The payload is shorter than its fields (a short ping among them).
    Short = "short";
    /// A count is not encoded in its shortest form.
    NonCanonical = "non_canonical";
    /// A message before `version`.
    BeforeVersion = "before_version";
    /// A message between `version` and `verack` that belongs after it.
    BeforeVerack = "before_verack";
    /// A second `version` or `verack`.
    Redundant = "redundant";
    /// A block nobody asked for.
    UnrequestedBlock = "unrequested_block";
    /// Headers nobody asked for (their proof of work is checked all the same).
    UnrequestedHeaders = "unrequested_headers";
    /// A `tx` that does not decode.
    BadTx = "bad_tx";
    /// An answer to nothing: pong with another nonce, `blocktxn`, filters.
    UnrequestedAnswer = "unrequested_answer";
    /// Addresses a client offers: not taken up, because we give out siblings and what the node told us.
    UnwantedAddr = "unwanted_addr";
    /// A second `getaddr` on one connection.
    SecondGetAddr = "second_getaddr";
    /// An inv of a transaction from a client that said it relays none, or beyond what is remembered.
    ExcessInv = "excess_inv";
}
