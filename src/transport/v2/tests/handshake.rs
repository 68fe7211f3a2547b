//! First bytes, and handshakes that fail.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::super::{First, Handshake, KEY, MAX_GARBAGE, MAX_HANDSHAKE_BYTES, TERMINATOR, first};
use super::meeting::feed;
use super::{MAGIC, frame, messages};
use crate::base::End;
use crate::transport::{Kind, Pipe, Role, Shake};
use crate::wire::write;

#[test]
fn the_first_bytes_tell() {
    let ours = frame("version", &[0; 80]);
    let mut other = ours.clone();
    other[..4].copy_from_slice(&[0xf9, 0xbe, 0xb4, 0xd9]);
    for (bytes, want) in [(&ours, First::V1), (&other, First::OtherNetwork)] {
        for seen in 0..16 {
            assert_eq!(first(MAGIC, &bytes[..seen]), First::Incomplete, "{seen} bytes");
        }
        for seen in 16..40 {
            assert_eq!(first(MAGIC, &bytes[..seen]), want);
        }
    }
    // Another message at the start is no v1 for the BIP; so are zeros that are none.
    for (bytes, from) in [(frame("ping", &[0; 8]), 5), (b"GET / HTTP/1.1".to_vec(), 5)] {
        for seen in 0..bytes.len().min(20) {
            let want = if seen < from { First::Incomplete } else { First::V2 };
            assert_eq!(first(MAGIC, &bytes[..seen]), want, "{seen} bytes");
        }
    }
    let mut nearly = ours.clone();
    nearly[15] = 1;
    assert_eq!((first(MAGIC, &nearly[..15]), first(MAGIC, &nearly[..16])), (First::Incomplete, First::V2));
}

fn begin(role: Role, magic: [u8; 4], out: &mut Vec<u8>) -> Option<Box<Handshake>> {
    Some(Handshake::new(role, magic, &mut StdRng::seed_from_u64(1), out))
}

#[test]
fn a_responder_is_silent_until_the_key_is_whole_and_then_says_all() {
    let mut out = Vec::new();
    let mut responder = begin(Role::Responder, MAGIC, &mut out);
    let mut have = Vec::new();
    let session = feed(&mut responder, &mut vec![0xaa; KEY - 1], &mut have, 1, &mut out).unwrap();
    assert!(session.is_none() && out.is_empty() && responder.as_ref().unwrap().awaits_key());
    feed(&mut responder, &mut vec![0xaa], &mut have, 1, &mut out).unwrap();
    assert!(out.len() >= KEY + TERMINATOR + 20 && !responder.unwrap().awaits_key());
}

#[test]
fn garbage_without_a_terminator_ends_with_byte_4111() {
    for piece in [1, 1_000, usize::MAX] {
        for (garbage, want) in
            [(MAX_GARBAGE + TERMINATOR - 1, None), (MAX_GARBAGE + TERMINATOR, Some(End::V2Garbage))]
        {
            let mut out = Vec::new();
            let mut responder = begin(Role::Responder, MAGIC, &mut out);
            let result =
                feed(&mut responder, &mut vec![0x55; KEY + garbage], &mut Vec::new(), piece, &mut out);
            assert_eq!(result.err(), want);
        }
    }
}

#[test]
fn a_handshake_with_another_network_fails() {
    let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
    let mut a = begin(Role::Initiator, [1, 2, 3, 4], &mut to_b);
    let mut b = begin(Role::Responder, MAGIC, &mut to_a);
    feed(&mut b, &mut to_b, &mut Vec::new(), usize::MAX, &mut to_a).unwrap();
    // The terminators differ: to each the other's is garbage.
    assert!(feed(&mut a, &mut to_a, &mut Vec::new(), usize::MAX, &mut to_b).unwrap().is_none());
}

#[test]
fn changed_garbage_and_changed_packets_end_it() {
    // Both sides are ours; what the responder gets is changed at one byte.
    let run = |change: Option<usize>| {
        let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
        let mut a = begin(Role::Initiator, MAGIC, &mut to_b);
        let mut b = begin(Role::Responder, MAGIC, &mut to_a);
        let mut have = Vec::new();
        let sent = to_b.len();
        feed(&mut b, &mut to_b.clone(), &mut have, usize::MAX, &mut to_a).unwrap();
        to_b.clear();
        assert!(feed(&mut a, &mut to_a, &mut Vec::new(), usize::MAX, &mut to_b).unwrap().is_some());
        // Garbage is still unused: it may be changed in the caller's buffer as on the way.
        assert_eq!(have.len(), sent - KEY);
        have.append(&mut to_b);
        if let Some(at) = change {
            have[at] ^= 1;
        }
        let garbage = sent - KEY;
        match b.take().unwrap().step(&mut have, &mut to_a) {
            Shake::Done { used, .. } => (Ok(used), have.len(), garbage),
            Shake::More { .. } => (Ok(0), have.len(), garbage),
            Shake::Failed(end) => (Err(end), have.len(), garbage),
        }
    };
    let (used, length, garbage) = run(None);
    assert!(garbage > 0);
    assert_eq!(used, Ok(length));
    for at in 0..garbage {
        assert_eq!(run(Some(at)).0, Err(End::V2BadPacket), "garbage byte {at}");
    }
    for at in garbage..garbage + TERMINATOR {
        assert_eq!(run(Some(at)).0, Ok(0), "no terminator with byte {at} changed");
    }
    for at in garbage + TERMINATOR + 3..length {
        assert_eq!(run(Some(at)).0, Err(End::V2BadPacket), "version packet byte {at}");
    }
}

#[test]
fn a_long_packet_before_the_version_is_refused() {
    let (_, mut out) = (0, Vec::new());
    let other = bip324::Handshake::new(MAGIC, bip324::Role::Initiator).unwrap();
    let mut said = vec![0; KEY];
    let other = other.send_key(None, &mut said).unwrap();
    let mut ours = begin(Role::Responder, MAGIC, &mut out);
    let mut have = Vec::new();
    feed(&mut ours, &mut said, &mut have, usize::MAX, &mut out).unwrap();
    let other = other.receive_key(out[..KEY].try_into().unwrap()).unwrap();
    let decoy = [0; 4_096];
    let mut said = vec![0; bip324::Handshake::<bip324::ReceivedKey<'_>>::send_version_len(Some(&[&decoy]))];
    other.send_version(&mut said, Some(&[&decoy])).unwrap();
    said.truncate(TERMINATOR + 3);
    let result = feed(&mut ours, &mut said, &mut have, usize::MAX, &mut out);
    assert_eq!(result.err(), Some(End::Oversize));
    assert_eq!(MAX_HANDSHAKE_BYTES, 8_226);
}

/// Moves bytes between two pipes until there are none, in pieces.
fn carry(a: &mut Pipe, b: &mut Pipe, mut to_b: Vec<u8>, piece: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut to_a, mut at_a, mut at_b) = (Vec::new(), Vec::new(), Vec::new());
    while !to_a.is_empty() || !to_b.is_empty() {
        for piece in std::mem::take(&mut to_b).chunks_mut(piece) {
            b.received(piece, &mut at_b, &mut to_a).unwrap();
        }
        for piece in std::mem::take(&mut to_a).chunks_mut(piece) {
            a.received(piece, &mut at_a, &mut to_b).unwrap();
        }
    }
    (at_a, at_b)
}

#[test]
fn a_pipe_speaks_what_the_other_speaks() {
    let mut rng = StdRng::seed_from_u64(1);
    let early = frame("version", &[0; 80]);
    for piece in [1, 50, usize::MAX] {
        for kind in [Kind::Plain, Kind::V2] {
            let mut wire = Vec::new();
            let mut a = match kind {
                Kind::V2 => Pipe::v2(MAGIC, &mut rng, &mut wire),
                _ => Pipe::plain(MAGIC),
            };
            let mut b = Pipe::accept(MAGIC, &mut rng);
            b.send(&frame("pong", &[1; 8]), &mut Vec::new());
            a.send(&early, &mut wire);
            assert_eq!(a.bytes_waiting(), if kind == Kind::V2 { early.len() } else { 0 });
            let (at_a, at_b) = carry(&mut a, &mut b, wire, piece);
            assert!(a.is_open() && b.is_open() && a.bytes_waiting() == 0);
            assert_eq!((a.kind(), b.kind()), (kind, kind));
            assert_eq!(a.session_id(), b.session_id());
            assert_eq!(a.session_id().is_some(), kind == Kind::V2);
            match kind {
                Kind::V2 => {
                    assert_eq!(messages(&at_b), [("version".to_owned(), vec![0; 80])]);
                    assert_eq!(messages(&at_a), [("pong".to_owned(), vec![1; 8])]);
                }
                _ => assert_eq!((at_a, at_b), (frame("pong", &[1; 8]), early.clone())),
            }
        }
    }
}

#[test]
fn a_pipe_is_over_once() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut b = Pipe::accept([1, 2, 3, 4], &mut rng);
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        assert_eq!(b.received(&mut frame("version", &[]), &mut plain, &mut out), Err(End::WrongMagic));
    }
    b.send(&frame("ping", &[]), &mut out);
    assert!(plain.is_empty() && out.is_empty() && b.end() == Some(End::WrongMagic) && !b.is_open());
    // More waits than may.
    let mut a = Pipe::v2(MAGIC, &mut rng, &mut out);
    let mut long = Vec::new();
    write::raw(&mut long, MAGIC, "block", &vec![0; 4_000_000]);
    a.send(&long, &mut out);
    assert_eq!(a.end(), None);
    a.send(&[0], &mut out);
    assert_eq!((a.end(), a.bytes_waiting()), (Some(End::NoBuffer), 0));
}
