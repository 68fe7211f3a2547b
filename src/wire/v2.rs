//! The contents of BIP324 packets: message types of one byte, or zero and a name.

use super::{Command, Magic, Step};
use crate::base::limits::MAX_MESSAGE;
use crate::base::{End, Fault};

/// Bytes of the length in front of each packet's contents.
pub const LENGTH: usize = 3;
/// Bytes of a message type that has no number: zero, then the name padded with zeros.
pub const LONG_TYPE: usize = 13;

/// Names by number (BIP324 "v2 Bitcoin P2P message structure": 1 to 28; `feature` BIP434; 0 says that a name follows).
/// 29 to 36 are proposed for BIP183, which we do not speak.
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

/// Commands that have a number.
const NUMBERED: usize = 29;

/// Numbers by name, in the order of [`key`]: five comparisons, for this is on the way of everything that is sent.
const NUMBERS: [(u128, u8); NUMBERED] = numbers();

const fn key(command: &Command) -> u128 {
    let mut bytes = [0; 16];
    let mut i = 0;
    while i < command.0.len() {
        bytes[i] = command.0[i];
        i += 1;
    }
    u128::from_be_bytes(bytes)
}

const fn numbers() -> [(u128, u8); NUMBERED] {
    let mut sorted = [(0, 0); NUMBERED];
    let (mut len, mut n) = (0, 1);
    while n < NAMES.len() {
        if !NAMES[n].is_empty() {
            let entry = (key(&Command::new(NAMES[n])), n as u8);
            let mut at = len;
            while at > 0 && sorted[at - 1].0 > entry.0 {
                sorted[at] = sorted[at - 1];
                at -= 1;
            }
            sorted[at] = entry;
            len += 1;
        }
        n += 1;
    }
    assert!(len == NUMBERED);
    sorted
}

/// The number of a command, when it has one.
pub fn number(command: &Command) -> Option<u8> {
    let found = NUMBERS.binary_search_by_key(&key(command), |(key, _)| *key).ok()?;
    NUMBERS.get(found).map(|(_, number)| *number)
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
    // The length alone leaves room for a name.
    if rest.len() > MAX_MESSAGE + if *first == 0 { LONG_TYPE - 1 } else { 0 } {
        return Step::End(End::Oversize);
    }
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

/// Appends the messages of a stream of [`super::Framing::V2`] as v1 frames, for those who know only these. What v1 has no
/// word for (an unknown number, contents that are too short) is left out. Returns the bytes read: those of whole messages.
pub fn to_v1(magic: Magic, bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    // Each step reads at least a length.
    loop {
        match split(&bytes[at..]) {
            Step::Message { command, payload, used } => {
                super::write::raw(out, magic, command.name(), payload);
                at += used;
            }
            Step::Drop { used, .. } => at += used,
            Step::Need(_) | Step::End(_) => return at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(contents: &[u8]) -> Vec<u8> {
        [&(contents.len() as u32).to_le_bytes()[..LENGTH], contents].concat()
    }

    /// BIP324's table and BIP434, written down once more.
    const TABLE: &str = "1 addr 2 block 3 blocktxn 4 cmpctblock 5 feefilter 6 filteradd 7 filterclear 8 filterload 9 getblocks \
                         10 getblocktxn 11 getdata 12 getheaders 13 headers 14 inv 15 mempool 16 merkleblock 17 notfound \
                         18 ping 19 pong 20 sendcmpct 21 tx 22 getcfilters 23 cfilter 24 getcfheaders 25 cfheaders \
                         26 getcfcheckpt 27 cfcheckpt 28 addrv2 37 feature";

    #[test]
    fn numbers_and_names_are_those_of_the_bip() {
        let words: Vec<&str> = TABLE.split_whitespace().collect();
        let table: Vec<(u8, &str)> =
            words.chunks(2).map(|pair| (pair[0].parse().unwrap(), pair[1])).collect();
        assert_eq!(table.len(), NUMBERED);
        for (n, name) in &table {
            assert_eq!(number(&Command::new(name)), Some(*n), "{name}");
        }
        for n in 1..=255u8 {
            let bytes = stream(&[n, 9]);
            let want = match table.iter().find(|(number, _)| *number == n) {
                Some((_, name)) => Step::Message { command: Command::new(name), payload: &[9], used: 5 },
                None => Step::Drop { fault: Fault::UnknownCommand, used: 5 },
            };
            assert_eq!(split(&bytes), want, "{n}");
        }
        for name in ["", "version", "verack", "pin", "pingg", "wtxidrelay"] {
            assert_eq!(number(&Command::new(name)), None, "{name}");
        }
    }

    #[test]
    fn every_prefix_needs_more_and_a_name_is_read() {
        let bytes = stream(b"\0version\0\0\0\0\0abc");
        for cut in 0..bytes.len() {
            assert_eq!(split(&bytes[..cut]), Step::Need(if cut < LENGTH { LENGTH } else { bytes.len() }));
        }
        let want = Step::Message { command: Command::new("version"), payload: b"abc", used: bytes.len() };
        assert_eq!(split(&bytes), want);
    }

    #[test]
    fn a_stream_is_said_again_in_v1() {
        let magic = [1, 2, 3, 4];
        let bytes = [stream(&[18, 9]), stream(&[99]), stream(b"\0version\0\0\0\0\0abc")].concat();
        let mut want = Vec::new();
        super::super::write::raw(&mut want, magic, "ping", &[9]);
        super::super::write::raw(&mut want, magic, "version", b"abc");
        let mut out = Vec::new();
        assert_eq!(to_v1(magic, &[&bytes[..], &[5, 0]].concat(), &mut out), bytes.len());
        assert_eq!(out, want);
    }

    #[test]
    fn short_contents_and_bad_names_are_dropped_whole() {
        for (contents, fault) in [
            (&b""[..], Fault::Short),
            (b"\0version", Fault::Short),
            (b"\0ping\0x\0\0\0\0\0\0", Fault::BadCommand),
        ] {
            let bytes = stream(contents);
            assert_eq!(split(&bytes), Step::Drop { fault, used: bytes.len() });
        }
    }

    #[test]
    fn a_payload_is_as_long_as_in_v1_at_the_most() {
        let with = |kind: &[u8], payload: usize| stream(&[kind, &vec![0; payload][..]].concat());
        for kind in [&[2][..], b"\0block\0\0\0\0\0\0\0"] {
            assert!(matches!(split(&with(kind, MAX_MESSAGE)), Step::Message { .. }));
            assert_eq!(split(&with(kind, MAX_MESSAGE + 1)), Step::End(End::Oversize));
        }
    }
}
