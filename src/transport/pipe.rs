//! A whole connection of any transport, with its buffers.

use crate::base::End;
use crate::wire::Framing;

/// A connection's transport.
#[derive(Debug)]
pub struct Pipe {
    framing: Framing,
}

impl Pipe {
    /// No encryption.
    pub fn plain(magic: crate::wire::Magic) -> Pipe {
        Pipe { framing: Framing::V1(magic) }
    }

    /// How messages stand in what is opened; final once `is_open`.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Bytes have come from the socket: what they open to is appended to `plain`, what has to be sent to `out`.
    pub fn received(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, _out: &mut Vec<u8>) -> Result<(), End> {
        plain.extend_from_slice(bytes);
        Ok(())
    }

    /// Frames to be sent. Before the handshake is complete they wait.
    pub fn send(&mut self, frames: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(frames);
    }
}
