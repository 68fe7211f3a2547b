//! The transport of one client, as its shard keeps it: two words, and a box only when there are keys.

use super::{Opened, tls, v2};
use crate::base::End;
use crate::wire::{Framing, Magic};

/// Where a client's transport stands.
#[derive(Debug, Default)]
pub enum Channel {
    /// Accepted where v1 and v2 are taken; its first bytes have not told which.
    #[default]
    Fresh,
    /// v1 without encryption.
    Plain,
    /// Accepted where TLS is spoken; its first record is not whole.
    TlsFresh,
    /// The TLS handshake is under way.
    TlsShaking(Box<tls::Handshake>),
    /// TLS is open.
    Tls(Box<tls::Session>),
    /// Its first bytes are no v1 message: the key of a BIP324 exchange is expected.
    V2Fresh,
    /// The key exchange of BIP324 is under way.
    V2Shaking(Box<v2::Handshake>),
    /// BIP324 is open.
    V2(Box<v2::Session>),
}

const _: () = assert!(size_of::<Channel>() == 16);

impl Channel {
    /// True exactly when messages can be read and sent.
    pub fn is_open(&self) -> bool {
        matches!(self, Channel::Plain | Channel::Tls(_) | Channel::V2(_))
    }

    /// True exactly when what is sent has to be sealed.
    pub fn is_sealed(&self) -> bool {
        matches!(self, Channel::Tls(_) | Channel::V2(_))
    }

    /// How messages stand in what is opened.
    pub fn framing(&self, magic: Magic) -> Framing {
        match self {
            Channel::V2(_) => Framing::V2,
            _ => Framing::V1(magic),
        }
    }

    /// Opens the records at the front of `bytes` in place. Only for channels that are sealed; the others open nothing.
    pub fn open(&mut self, bytes: &mut [u8], reply: &mut Vec<u8>) -> Result<Opened, End> {
        match self {
            Channel::Tls(session) => session.open(bytes, reply),
            Channel::V2(session) => session.open(bytes),
            _ => Ok(Opened { plain: bytes.len(), used: bytes.len(), need: 0, closed: false }),
        }
    }

    /// Seals frames, appended to `out`. Only for channels that are sealed; the others copy.
    pub fn seal(&mut self, frames: &[u8], out: &mut Vec<u8>) {
        match self {
            Channel::Tls(session) => session.seal(frames, out),
            Channel::V2(session) => session.seal(frames, out),
            _ => out.extend_from_slice(frames),
        }
    }

    /// Bytes that [`Channel::seal`] appends at most for so many bytes of frames.
    pub fn sealed_len(&self, frames: usize) -> usize {
        match self {
            Channel::Tls(_) => tls::Session::sealed_len(frames),
            Channel::V2(_) => v2::Session::sealed_len(frames),
            _ => frames,
        }
    }

    /// Says that we send no more, where the transport has a word for it.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if let Channel::Tls(session) = self {
            session.close(out);
        }
    }
}
