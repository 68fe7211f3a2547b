//! Where in a stream of v1 frames we stand, and what a frame's header becomes.

use super::stream::Stream;
use crate::base::limits::HEADER_LEN;
use crate::wire::Command;
use crate::wire::v2::{LONG_TYPE, number};

/// A frame that is here in part.
pub(super) enum Part {
    /// Of its header so many bytes are here.
    Header([u8; HEADER_LEN], usize),
    /// Its packet has been begun; so many bytes of the payload are to come.
    Payload(Box<Stream>, usize),
}

/// A frame's header, read.
pub(super) struct Head {
    bytes: [u8; LONG_TYPE],
    type_len: usize,
    /// Bytes of the payload.
    pub(super) payload: usize,
}

impl Head {
    /// Frames are made by us: magic and checksum are not looked at.
    pub(super) fn read(header: &[u8; HEADER_LEN]) -> Head {
        let mut name = [0; 12];
        name.copy_from_slice(&header[4..16]);
        let payload = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
        let mut bytes = [0; LONG_TYPE];
        let type_len = match number(&Command(name)) {
            Some(number) => {
                bytes[0] = number;
                1
            }
            None => {
                bytes[1..].copy_from_slice(&name);
                LONG_TYPE
            }
        };
        Head { bytes, type_len, payload }
    }

    /// The message type as it stands in the packet.
    pub(super) fn message_type(&self) -> &[u8] {
        &self.bytes[..self.type_len]
    }

    /// Bytes of the packet's contents.
    pub(super) fn contents(&self) -> usize {
        self.type_len + self.payload
    }
}
