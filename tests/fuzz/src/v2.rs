//! BIP324: handshakes and packets that somebody else may have made or changed.

use breakwater::transport::v2::{Handshake, MAX_HANDSHAKE_BYTES, Session};
use breakwater::transport::{Role, Shake};
use breakwater::wire::{Framing, Step, split};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::{MAGIC, mend};

/// A head of two bytes (role and whether the other side is honest; size of the pieces), then what we get: as it is, or as
/// patches of three bytes (where, what) to an honest side's bytes.
pub fn v2_handshake(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<2>() else { return };
    let (role, other) = match head[0] & 1 {
        0 => (Role::Initiator, Role::Responder),
        _ => (Role::Responder, Role::Initiator),
    };
    let mut said = Vec::new();
    let mut ours = Handshake::new(role, MAGIC, &mut SmallRng::seed_from_u64(1), &mut said);
    let honest = head[0] & 2 != 0;
    let mut theirs = Vec::new();
    let mut reply = None;
    match honest {
        true => {
            let other = Handshake::new(other, MAGIC, &mut SmallRng::seed_from_u64(2), &mut theirs);
            reply = Some(other);
            if role == Role::Initiator {
                reply = answer(reply, &mut said, &mut theirs);
            }
        }
        false => theirs = rest.to_vec(),
    }
    let changed = honest && patch(&mut theirs, rest);
    let (mut have, mut out, mut at) = (Vec::new(), Vec::new(), 0);
    let piece = usize::from(head[1]).max(1) * 4;
    let mut heard_from_us = false;
    loop {
        let Some(piece) = theirs.get(at..(at + piece).min(theirs.len())).filter(|piece| !piece.is_empty())
        else {
            assert!(!honest || changed || at < theirs.len(), "an honest side is understood");
            return;
        };
        at += piece.len();
        have.extend_from_slice(piece);
        match ours.step(&mut have, &mut out) {
            Shake::Failed(_) => {
                assert!(!honest || changed, "an honest side is understood");
                return;
            }
            Shake::Done { used, .. } => {
                assert!(used <= have.len() && honest);
                return;
            }
            Shake::More { handshake, used } => {
                have.drain(..used);
                assert!(have.len() < MAX_HANDSHAKE_BYTES, "{} bytes wait", have.len());
                ours = handshake;
            }
        }
        // An initiator that has our key says the rest.
        if role == Role::Responder && honest && !heard_from_us && !out.is_empty() {
            heard_from_us = true;
            reply = answer(reply, &mut out.clone(), &mut theirs);
        }
    }
}

fn answer(other: Option<Box<Handshake>>, input: &mut [u8], out: &mut Vec<u8>) -> Option<Box<Handshake>> {
    match other?.step(input, out) {
        Shake::More { handshake, .. } => Some(handshake),
        Shake::Done { .. } | Shake::Failed(_) => None,
    }
}

/// Patches of three bytes: offset, and what is XORed there. True exactly when something is different.
fn patch(bytes: &mut [u8], patches: &[u8]) -> bool {
    let before = bytes.to_vec();
    for [low, high, mask] in patches.as_chunks::<3>().0 {
        if let Some(byte) = bytes.get_mut(usize::from(u16::from_le_bytes([*low, *high]))) {
            *byte ^= mask;
        }
    }
    before != bytes
}

/// A head of five bytes (sizes of the pieces sealed and opened; a patch), then a stream of v1 frames. What is opened is what
/// was sealed, or, changed on the way, its beginning.
pub fn v2_packets(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<5>() else { return };
    let mut stream = rest.to_vec();
    mend(&mut stream);
    let (want, sealable) = frames(&stream);
    stream.truncate(sealable);
    let (mut a, mut b) = pair();
    let mut sealed = Vec::new();
    for piece in stream.chunks(usize::from(head[0]).max(1)) {
        let before = sealed.len();
        a.seal(piece, &mut sealed);
        assert!(sealed.len() - before <= Session::sealed_len(piece.len()));
    }
    let changed = patch(&mut sealed, &head[2..5]);
    let (mut have, mut plain) = (Vec::new(), Vec::new());
    let mut broken = false;
    for piece in sealed.chunks(usize::from(head[1]).max(1) * 8) {
        have.extend_from_slice(piece);
        match b.open(&mut have) {
            Ok(opened) => {
                assert!(opened.plain <= opened.used && opened.need > have.len() - opened.used);
                plain.extend_from_slice(&have[..opened.plain]);
                have.drain(..opened.used);
            }
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    let found = messages(&plain);
    match changed {
        true => assert!(want.starts_with(&found)),
        false => assert!(!broken && want == found),
    }
}

/// The messages of a v1 stream, and how far it can be sealed: headers with lengths that cannot be are not made by us.
fn frames(stream: &[u8]) -> (Vec<(String, Vec<u8>)>, usize) {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        match split(MAGIC, &stream[at..]) {
            Step::Message { command, payload, used } => {
                found.push((command.name().to_owned(), payload.to_vec()));
                at += used;
            }
            Step::Drop { used, .. } => at += used,
            Step::Need(_) => return (found, stream.len()),
            Step::End(_) => return (found, at),
        }
    }
}

fn messages(mut plain: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while !plain.is_empty() {
        match Framing::V2.split(plain) {
            Step::Message { command, payload, used } => {
                found.push((command.name().to_owned(), payload.to_vec()));
                plain = &plain[used..];
            }
            Step::Drop { used, .. } => plain = &plain[used..],
            other => panic!("{other:?} in what was opened"),
        }
    }
    found
}

/// Both ends of a session.
fn pair() -> (Box<Session>, Box<Session>) {
    let mut rng = SmallRng::seed_from_u64(3);
    let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
    let a = Handshake::new(Role::Initiator, MAGIC, &mut rng, &mut to_b);
    let b = Handshake::new(Role::Responder, MAGIC, &mut rng, &mut to_a);
    let Shake::More { handshake: b, used } = b.step(&mut to_b, &mut to_a) else { panic!("half a handshake") };
    to_b.drain(..used);
    let Shake::Done { session: a, .. } = a.step(&mut to_a, &mut to_b) else { panic!("an initiator is done") };
    let Shake::Done { session: b, .. } = b.step(&mut to_b, &mut to_a) else { panic!("a responder is done") };
    (a, b)
}
