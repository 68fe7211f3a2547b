//! An open session: packets in, packets out.
//!
//! Invariants: the length of a packet is decrypted once, however often its beginning is given; a packet that is longer than a
//! message may be ends the session before its contents are waited for; after an error the session is of no use.

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::cipher::Cipher;
use super::keys::Keys;
use super::stream::Stream;
use super::transcode::{Head, Part};
use super::{EXPANSION, HEADER, IGNORE, LENGTH, TAG};
use crate::base::End;
use crate::base::limits::{HEADER_LEN, MAX_MESSAGE};
use crate::transport::Opened;
use crate::wire::v2::LONG_TYPE;

/// Most bytes of a packet's contents.
const MAX_CONTENTS: usize = MAX_MESSAGE + LONG_TYPE;
/// `Session::length` while the length of the next packet is not known.
const UNKNOWN: u32 = u32::MAX;

/// An open session.
pub struct Session {
    id: [u8; 32],
    send: Cipher,
    recv: Cipher,
    /// A frame that was sealed in part.
    part: Option<Box<Part>>,
    /// The length of the packet whose beginning is here.
    length: u32,
    decoys: u32,
}

const _: () = assert!(size_of::<Session>() <= 240, "kept for every client");

/// A packet opened in place: header and contents stand behind its length.
pub(super) struct Packet {
    /// Bytes of all of it.
    pub(super) total: usize,
    /// True exactly when it is a decoy.
    pub(super) is_decoy: bool,
}

impl Session {
    pub(super) fn new(keys: Keys) -> Session {
        Session {
            id: keys.id,
            send: Cipher::new(keys.send_length, keys.send_packet),
            recv: Cipher::new(keys.recv_length, keys.recv_packet),
            part: None,
            length: UNKNOWN,
            decoys: 0,
        }
    }

    /// The session id (BIP324), for people to compare.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// Decoys received. They are not bounded: one costs what any message of its length costs, and the bounds of a turn and
    /// of a message's length hold for it, too.
    pub fn decoys(&self) -> u32 {
        self.decoys
    }

    /// Opens the whole packets at the front of `bytes`, in place: the plaintext is [`crate::wire::Framing::V2`], decoys left out.
    ///
    /// # Errors
    /// `V2BadPacket`: one does not authenticate. `Oversize`: one is longer than a message may be.
    pub fn open(&mut self, bytes: &mut [u8]) -> Result<Opened, End> {
        let (mut used, mut plain) = (0, 0);
        let mut aead = None;
        while let Some(packet) = self.open_packet(&mut aead, &[], MAX_CONTENTS, &mut bytes[used..])? {
            if !packet.is_decoy {
                let contents = packet.total - EXPANSION;
                let length = (contents as u32).to_le_bytes();
                bytes.copy_within(used + LENGTH + HEADER..used + LENGTH + HEADER + contents, plain + LENGTH);
                bytes[plain..plain + LENGTH].copy_from_slice(&length[..LENGTH]);
                plain += LENGTH + contents;
            }
            used += packet.total;
        }
        let need = if self.length == UNKNOWN { EXPANSION } else { EXPANSION + self.length as usize };
        Ok(Opened { plain, used, need, closed: false })
    }

    /// Opens the packet at the front of `bytes`, if it is whole. `aead` is kept by the caller from packet to packet.
    pub(super) fn open_packet(
        &mut self,
        aead: &mut Option<LessSafeKey>,
        aad: &[u8],
        most: usize,
        bytes: &mut [u8],
    ) -> Result<Option<Packet>, End> {
        let Some((length, rest)) = bytes.split_first_chunk_mut::<LENGTH>() else { return Ok(None) };
        if self.length == UNKNOWN {
            let mut length = *length;
            self.recv.crypt_length(&mut length);
            self.length = u32::from_le_bytes([length[0], length[1], length[2], 0]);
        }
        let contents = self.length as usize;
        if contents > most {
            return Err(End::Oversize);
        }
        let Some(sealed) = rest.get_mut(..HEADER + contents + TAG) else { return Ok(None) };
        if aead.is_none() {
            *aead = self.recv.aead();
        }
        let key = aead.as_ref().ok_or(End::V2BadPacket)?;
        key.open_in_place(self.recv.nonce(), Aad::from(aad), sealed).map_err(|_| End::V2BadPacket)?;
        let is_decoy = sealed[0] & IGNORE != 0;
        if self.recv.step() {
            *aead = None;
        }
        self.length = UNKNOWN;
        self.decoys = self.decoys.saturating_add(u32::from(is_decoy));
        Ok(Some(Packet { total: EXPANSION + contents, is_decoy }))
    }

    /// Seals v1 frames, which may be cut anywhere: what a frame lacks comes with the next call.
    pub fn seal(&mut self, mut frames: &[u8], out: &mut Vec<u8>) {
        let mut aead = None;
        while !frames.is_empty() {
            let (head, rest) = match self.part.take().map(|part| *part) {
                Some(Part::Payload(stream, left)) => {
                    frames = self.go_on(stream, left, frames, out);
                    continue;
                }
                Some(Part::Header(mut header, have)) => {
                    let more = frames.len().min(HEADER_LEN - have);
                    header[have..have + more].copy_from_slice(&frames[..more]);
                    if have + more < HEADER_LEN {
                        self.part = Some(Box::new(Part::Header(header, have + more)));
                        return;
                    }
                    (Head::read(&header), &frames[more..])
                }
                None => match frames.split_first_chunk::<HEADER_LEN>() {
                    Some((header, rest)) => (Head::read(header), rest),
                    None => {
                        let mut header = [0; HEADER_LEN];
                        header[..frames.len()].copy_from_slice(frames);
                        self.part = Some(Box::new(Part::Header(header, frames.len())));
                        return;
                    }
                },
            };
            frames = match rest.split_at_checked(head.payload) {
                Some((payload, rest)) => {
                    self.seal_packet(&mut aead, &[], 0, &[head.message_type(), payload], out);
                    rest
                }
                None => {
                    let stream = self.begin(&head, out);
                    aead = None;
                    self.go_on(stream, head.payload, rest, out)
                }
            };
        }
    }

    /// Bytes that [`Session::seal`] appends at most for so many bytes of frames.
    pub fn sealed_len(frames: usize) -> usize {
        // A frame loses its header of 24 bytes and gains at most 33: expansion and a name. One header may have been here in
        // part, and the tag of a message that was begun earlier may come.
        let most = frames + HEADER_LEN - 1;
        most + (EXPANSION + LONG_TYPE - HEADER_LEN) * (most / HEADER_LEN + 1) + TAG
    }

    /// Seals one packet.
    pub(super) fn seal_packet(
        &mut self,
        aead: &mut Option<LessSafeKey>,
        aad: &[u8],
        header: u8,
        contents: &[&[u8]],
        out: &mut Vec<u8>,
    ) {
        let length: usize = contents.iter().map(|part| part.len()).sum();
        out.reserve(EXPANSION + length);
        self.seal_length(length, out);
        let start = out.len();
        out.push(header);
        contents.iter().for_each(|part| out.extend_from_slice(part));
        if aead.is_none() {
            *aead = self.send.aead();
        }
        let sealed = aead
            .as_ref()
            .map(|key| key.seal_in_place_separate_tag(self.send.nonce(), Aad::from(aad), &mut out[start..]));
        match sealed {
            Some(Ok(tag)) => out.extend_from_slice(tag.as_ref()),
            // Never happens (the AEAD takes 64 GB). Plaintext must not leave; without a tag the peer ends the connection.
            _ => out[start..].fill(0),
        }
        if self.send.step() {
            *aead = None;
        }
    }

    fn seal_length(&self, length: usize, out: &mut Vec<u8>) {
        let length = (length as u32).to_le_bytes();
        let mut length = [length[0], length[1], length[2]];
        self.send.crypt_length(&mut length);
        out.extend_from_slice(&length);
    }

    /// The beginning of a packet whose payload is not all here.
    fn begin(&mut self, head: &Head, out: &mut Vec<u8>) -> Box<Stream> {
        self.seal_length(head.contents(), out);
        let mut stream = Box::new(Stream::new(self.send.packet_key(), self.send.nonce_bytes()));
        self.send.step();
        let start = out.len();
        out.push(0);
        out.extend_from_slice(head.message_type());
        stream.seal(&mut out[start..]);
        stream
    }

    /// More of a payload. Returns what belongs to the next frame.
    fn go_on<'a>(
        &mut self,
        mut stream: Box<Stream>,
        left: usize,
        frames: &'a [u8],
        out: &mut Vec<u8>,
    ) -> &'a [u8] {
        let (now, rest) = frames.split_at(left.min(frames.len()));
        out.reserve(now.len() + TAG);
        let start = out.len();
        out.extend_from_slice(now);
        stream.seal(&mut out[start..]);
        match left - now.len() {
            0 => out.extend_from_slice(&stream.finish()),
            left => self.part = Some(Box::new(Part::Payload(stream, left))),
        }
        rest
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys are nobody's business.
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
