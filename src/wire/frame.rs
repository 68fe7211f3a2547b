//! The v1 message frame: magic 4, command 12, length 4 (little-endian), checksum 4, payload.

use crate::base::limits::{HEADER_LEN, MAX_MESSAGE};
use crate::base::{End, Fault};

/// The network's four bytes at the start of each message.
pub type Magic = [u8; 4];

/// A command name, padded with zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Command(pub [u8; 12]);

impl Command {
    /// Pads a name of at most 12 bytes.
    pub const fn new(name: &str) -> Command {
        let bytes = name.as_bytes();
        let mut out = [0u8; 12];
        let mut i = 0;
        while i < bytes.len() && i < 12 {
            out[i] = bytes[i];
            i += 1;
        }
        Command(out)
    }

    /// The name without its padding; empty when it is not ASCII.
    pub fn name(&self) -> &str {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(12);
        std::str::from_utf8(&self.0[..end]).unwrap_or("")
    }

    /// True exactly when it is printable ASCII followed by zeros only (Bitcoin Core `IsMessageTypeValid`).
    pub fn is_valid(&self) -> bool {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(12);
        self.0[..end].iter().all(|b| (0x20..=0x7e).contains(b)) && self.0[end..].iter().all(|b| *b == 0)
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.name())
    }
}

/// What the front of a stream holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Not a whole message yet: this many bytes are needed from the front (the header's length until
    /// the header is here, then the whole message's).
    Need(usize),
    /// A message; `used` bytes belong to it.
    Message {
        /// Its command.
        command: Command,
        /// Its payload.
        payload: &'a [u8],
        /// Bytes of the stream it takes.
        used: usize,
    },
    /// A message to be dropped; `used` bytes belong to it.
    Drop {
        /// Why.
        fault: Fault,
        /// Bytes of the stream it takes.
        used: usize,
    },
    /// The stream cannot be read any further.
    End(End),
}

/// How messages stand in a stream once its transport has been opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// v1 frames, on plain TCP or inside TLS.
    V1(Magic),
    /// The contents of BIP324 packets, each behind its length: 3 bytes little-endian, then the message type (one byte, or
    /// zero and 12 bytes of name), then the payload. The transport has checked them, so there is no checksum.
    V2,
}

impl Framing {
    /// Looks at the front of a stream.
    pub fn split(self, bytes: &[u8]) -> Step<'_> {
        match self {
            Framing::V1(magic) => split(magic, bytes),
            Framing::V2 => super::v2::split(bytes),
        }
    }
}

/// First four bytes of the payload's double SHA-256.
pub fn checksum(payload: &[u8]) -> [u8; 4] {
    let hash = super::sha256d(payload);
    [hash[0], hash[1], hash[2], hash[3]]
}

/// Looks at the front of a stream.
pub fn split(magic: Magic, bytes: &[u8]) -> Step<'_> {
    let seen = bytes.len().min(4);
    if bytes[..seen] != magic[..seen] {
        return Step::End(End::WrongMagic);
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Step::Need(HEADER_LEN);
    };
    let mut command = [0u8; 12];
    command.copy_from_slice(&header[4..16]);
    let command = Command(command);
    let length = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
    if length > MAX_MESSAGE {
        return Step::End(End::Oversize);
    }
    let used = HEADER_LEN + length;
    let Some(payload) = rest.get(..length) else { return Step::Need(used) };
    if checksum(payload) != header[20..24] {
        return Step::Drop { fault: Fault::BadChecksum, used };
    }
    if !command.is_valid() {
        return Step::Drop { fault: Fault::BadCommand, used };
    }
    Step::Message { command, payload, used }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::write;

    const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

    fn ping() -> Vec<u8> {
        let mut out = Vec::new();
        write::ping(&mut out, MAGIC, 7);
        out
    }

    #[test]
    fn every_prefix_needs_more_and_the_whole_is_a_message() {
        let bytes = ping();
        for cut in 0..bytes.len() {
            let want = if cut < HEADER_LEN { HEADER_LEN } else { bytes.len() };
            assert_eq!(split(MAGIC, &bytes[..cut]), Step::Need(want));
        }
        assert!(matches!(split(MAGIC, &bytes), Step::Message { used: 32, .. }));
    }

    #[test]
    fn magic_is_refused_at_the_first_wrong_byte() {
        assert_eq!(split(MAGIC, &[0xfb]), Step::End(End::WrongMagic));
        assert_eq!(split(MAGIC, b"GET / HTTP/1.1"), Step::End(End::WrongMagic));
    }

    #[test]
    fn oversize_is_refused_with_the_header() {
        let mut bytes = ping();
        bytes[16..20].copy_from_slice(&(MAX_MESSAGE as u32 + 1).to_le_bytes());
        assert_eq!(split(MAGIC, &bytes[..HEADER_LEN]), Step::End(End::Oversize));
    }

    #[test]
    fn bad_checksum_and_bad_command_are_dropped_whole() {
        let mut bytes = ping();
        bytes[30] ^= 1;
        assert_eq!(split(MAGIC, &bytes), Step::Drop { fault: Fault::BadChecksum, used: 32 });
        let mut bytes = ping();
        bytes[10] = b'x';
        assert_eq!(split(MAGIC, &bytes), Step::Drop { fault: Fault::BadCommand, used: 32 });
    }
}
