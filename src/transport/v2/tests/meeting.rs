//! Our handshake with the crate's.

use bip324::{CipherSession, GarbageResult, PacketType, VersionResult};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::super::session::Session;
use super::super::{Handshake, KEY};
use super::{MAGIC, frame, messages};
use crate::base::End;
use crate::transport::{Role, Shake};

/// How the other side behaves.
pub struct Manner<'a> {
    pub garbage: &'a [u8],
    pub decoys: &'a [&'a [u8]],
    /// Our input comes in pieces of so many bytes.
    pub piece: usize,
}

/// Bytes of ours that the crate has accepted, and the two open sessions.
pub fn meet(role: Role, manner: &Manner<'_>, seed: u64) -> (Box<Session>, CipherSession) {
    let (mut to_other, mut to_us, mut have) = (Vec::new(), Vec::new(), Vec::new());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut ours = Some(Handshake::new(role, MAGIC, &mut rng, &mut to_other));
    let theirs = match role {
        Role::Initiator => bip324::Role::Responder,
        Role::Responder => bip324::Role::Initiator,
    };
    let mut said = vec![0; KEY + manner.garbage.len()];
    let other = bip324::Handshake::new(MAGIC, theirs).unwrap();
    let other = other.send_key(Some(manner.garbage), &mut said).unwrap();
    to_us.append(&mut said);
    // Our key is there at once, or when theirs has come.
    let mut session = feed(&mut ours, &mut to_us, &mut have, manner.piece, &mut to_other).unwrap();
    let other = other.receive_key(to_other[..KEY].try_into().unwrap()).unwrap();
    let mut said =
        vec![0; bip324::Handshake::<bip324::ReceivedKey<'_>>::send_version_len(Some(manner.decoys))];
    let other = other.send_version(&mut said, Some(manner.decoys)).unwrap();
    to_us.append(&mut said);
    if session.is_none() {
        session = feed(&mut ours, &mut to_us, &mut have, manner.piece, &mut to_other).unwrap();
    }
    assert!(have.is_empty(), "nothing is left over");
    let GarbageResult::FoundGarbage { handshake: mut other, consumed_bytes } =
        other.receive_garbage(&to_other[KEY..]).unwrap()
    else {
        panic!("no terminator in {} bytes", to_other.len());
    };
    let mut version = to_other[KEY + consumed_bytes..].to_vec();
    let length = other.decrypt_packet_len(version[..3].try_into().unwrap()).unwrap();
    assert_eq!(version.len(), 3 + length, "our version packet is the last that we send");
    let VersionResult::Complete { cipher } = other.receive_version(&mut version[3..]).unwrap() else {
        panic!("our version packet is no decoy");
    };
    (session.unwrap(), cipher)
}

/// Gives all of `input` to the handshake, piece by piece.
pub fn feed(
    handshake: &mut Option<Box<Handshake>>,
    input: &mut Vec<u8>,
    have: &mut Vec<u8>,
    piece: usize,
    out: &mut Vec<u8>,
) -> Result<Option<Box<Session>>, End> {
    for piece in std::mem::take(input).chunks(piece) {
        have.extend_from_slice(piece);
        match handshake.take().unwrap().step(have, out) {
            Shake::More { handshake: next, used } => {
                have.drain(..used);
                *handshake = Some(next);
            }
            Shake::Done { session, used } => {
                have.drain(..used);
                return Ok(Some(session));
            }
            Shake::Failed(end) => return Err(end),
        }
    }
    Ok(None)
}

const ROLES: [Role; 2] = [Role::Initiator, Role::Responder];

#[test]
fn garbage_of_every_kind_of_length() {
    for role in ROLES {
        for length in [0, 1, 15, 16, 17, 1_000, 4_094, 4_095] {
            for piece in [1, 7, 4_096, usize::MAX] {
                let garbage: Vec<u8> = (0..length).map(|n| n as u8).collect();
                let (ours, theirs) =
                    meet(role, &Manner { garbage: &garbage, decoys: &[], piece }, length as u64);
                assert_eq!(ours.id(), theirs.id());
            }
        }
    }
}

#[test]
fn our_garbage_is_short_and_differs() {
    let lengths: std::collections::BTreeSet<usize> = (0..200)
        .map(|seed| {
            let mut out = Vec::new();
            Handshake::new(Role::Initiator, MAGIC, &mut StdRng::seed_from_u64(seed), &mut out);
            out.len() - KEY
        })
        .collect();
    assert!(lengths.len() > 40 && lengths.contains(&0) && lengths.last() == Some(&63), "{lengths:?}");
}

#[test]
fn decoys_before_the_version_packet() {
    let long = [9; 4_095];
    for role in ROLES {
        for piece in [1, 100, usize::MAX] {
            let manner = Manner { garbage: &[1, 2, 3], decoys: &[b"", b"decoy", &long, b""], piece };
            let (ours, theirs) = meet(role, &manner, 5);
            assert_eq!((ours.id(), ours.decoys()), (theirs.id(), 4));
        }
    }
}

#[test]
fn packets_both_ways_over_many_keys() {
    for role in ROLES {
        let (mut ours, mut theirs) = meet(role, &Manner { garbage: &[], decoys: &[], piece: usize::MAX }, 6);
        let (mut sealed, mut said, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..1_000u32 {
            let payload = n.to_le_bytes().repeat(n as usize % 50);
            ours.seal(&frame("ping", &payload), &mut sealed);
            if n % 5 == 0 {
                said.extend(theirs.outbound().encrypt_to_vec(b"decoy", PacketType::Decoy, None));
            }
            let contents = [&[18], &payload[..]].concat();
            said.extend(theirs.outbound().encrypt_to_vec(&contents, PacketType::Genuine, None));
            sent.push(("ping".to_owned(), payload));
        }
        let mut rest = &sealed[..];
        for (_, payload) in &sent {
            let length = theirs.inbound().decrypt_packet_len(rest[..3].try_into().unwrap());
            let (kind, plain) = theirs.inbound().decrypt_to_vec(&rest[3..3 + length], None).unwrap();
            // A header without flags, and ping's number.
            assert_eq!((kind, &plain[..2], &plain[2..]), (PacketType::Genuine, &[0, 18][..], &payload[..]));
            rest = &rest[3 + length..];
        }
        assert!(rest.is_empty());
        let opened = ours.open(&mut said).unwrap();
        assert_eq!(opened.used, said.len());
        assert!(messages(&said[..opened.plain]) == sent);
        assert_eq!(ours.decoys(), 200);
    }
}
