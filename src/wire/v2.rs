//! The contents of BIP324 packets: message types of one byte, or zero and a name.

use super::{Command, Step};
use crate::base::limits::MAX_MESSAGE;
use crate::base::{End, Fault};

/// Bytes of the length in front of each packet's contents.
pub const LENGTH: usize = 3;
/// Bytes of a message type that has no number: zero, then the name padded with zeros.
pub const LONG_TYPE: usize = 13;

/// Names by number (BIP324 "v2 Bitcoin P2P message structure"; 0 says that a name follows).
const NAMES: [&str; 38] = [
    "",
    "addr",
    "block",
    "blocktxn",
    "cmpctblock",
    "feefilter",
    "filteradd",
    "filterclear",
    "filterload",
    "getblocks",
    "getblocktxn",
    "getdata",
    "getheaders",
    "headers",
    "inv",
    "mempool",
    "merkleblock",
    "notfound",
    "ping",
    "pong",
    "sendcmpct",
    "tx",
    "getcfilters",
    "cfilter",
    "getcfheaders",
    "cfheaders",
    "getcfcheckpt",
    "cfcheckpt",
    "addrv2",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "feature",
];

/// The number of a command, when it has one.
pub fn number(command: &Command) -> Option<u8> {
    // A dozen comparisons of 12 bytes: nothing beside the sealing.
    (1..NAMES.len() as u8).find(|n| {
        let name = NAMES[usize::from(*n)];
        !name.is_empty() && Command::new(name) == *command
    })
}

/// Looks at the front of a stream of [`super::Framing::V2`].
pub fn split(bytes: &[u8]) -> Step<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Step::Need(LENGTH) };
    let length = u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize;
    if length > MAX_MESSAGE + LONG_TYPE {
        return Step::End(End::Oversize);
    }
    let used = LENGTH + length;
    let Some(contents) = rest.get(..length) else { return Step::Need(used) };
    let Some((first, rest)) = contents.split_first() else {
        return Step::Drop { fault: Fault::Short, used };
    };
    if *first != 0 {
        return match NAMES.get(usize::from(*first)) {
            Some(name) if !name.is_empty() => {
                Step::Message { command: Command::new(name), payload: rest, used }
            }
            _ => Step::Drop { fault: Fault::UnknownCommand, used },
        };
    }
    let Some((name, payload)) = rest.split_first_chunk::<12>() else {
        return Step::Drop { fault: Fault::Short, used };
    };
    let command = Command(*name);
    if !command.is_valid() {
        return Step::Drop { fault: Fault::BadCommand, used };
    }
    Step::Message { command, payload, used }
}
