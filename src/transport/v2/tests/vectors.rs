//! The BIP's own test vectors; see tests/data/bip324/ORIGIN.md.

use std::collections::HashMap;

use bitcoin::secp256k1::PublicKey;
use bitcoin::secp256k1::ellswift::ElligatorSwift;

use super::super::keys::Pair;
use super::super::session::Session;
use super::super::{EXPANSION, HEADER, IGNORE, LENGTH};
use crate::transport::Role;

const PACKETS: &str = include_str!("../../../../tests/data/bip324/packet_encoding_test_vectors.csv");
const DECODING: &str = include_str!("../../../../tests/data/bip324/ellswift_decode_test_vectors.csv");
const MAINNET: [u8; 4] = [0xf9, 0xbe, 0xb4, 0xd9];

fn rows(text: &str) -> Vec<HashMap<&str, &str>> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines.map(|line| names.iter().copied().zip(line.split(',')).collect()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().unwrap()
}

#[test]
fn keys_and_packets() {
    let rows = rows(PACKETS);
    assert_eq!(rows.len(), 7);
    for row in rows {
        let (role, other) = match row["in_initiating"] {
            "1" => (Role::Initiator, Role::Responder),
            _ => (Role::Responder, Role::Initiator),
        };
        let pair = Pair::new(array(row["in_priv_ours"]), [0; 32]);
        let (ours, theirs) = (array(row["in_ellswift_ours"]), array(row["in_ellswift_theirs"]));
        let keys = pair.exchange(role, MAINNET, ours, theirs).unwrap();
        let named = match role {
            Role::Initiator => ["mid_initiator_l", "mid_initiator_p", "mid_responder_l", "mid_responder_p"],
            Role::Responder => ["mid_responder_l", "mid_responder_p", "mid_initiator_l", "mid_initiator_p"],
        };
        let found = [&keys.send_length, &keys.send_packet, &keys.recv_length, &keys.recv_packet];
        for (name, key) in named.iter().zip(found) {
            assert_eq!(key[..], hex(row[*name]), "{name}");
        }
        assert_eq!(keys.send_terminator[..], hex(row["mid_send_garbage_terminator"]));
        assert_eq!(keys.recv_terminator[..], hex(row["mid_recv_garbage_terminator"]));
        assert_eq!(keys.id[..], hex(row["out_session_id"]));

        // What the other side has is the same, the other way round.
        let shared = array::<32>(row["mid_shared_secret"]);
        let mut reader = Session::new(super::super::keys::derive(other, MAINNET, &shared).unwrap());
        let mut sender = Session::new(keys);
        let mut out = Vec::new();
        for _ in 0..row["in_idx"].parse::<usize>().unwrap() {
            sender.seal_packet(&mut None, &[], 0, &[], &mut out);
        }
        let count = reader.open(&mut out).unwrap().plain / LENGTH;
        assert_eq!(count.to_string(), row["in_idx"]);

        let contents = hex(row["in_contents"]).repeat(row["in_multiply"].parse().unwrap());
        let (aad, ignore) = (hex(row["in_aad"]), row["in_ignore"] == "1");
        let mut packet = Vec::new();
        sender.seal_packet(&mut None, &aad, if ignore { IGNORE } else { 0 }, &[&contents], &mut packet);
        assert!(row["out_ciphertext"].is_empty() || packet == hex(row["out_ciphertext"]));
        assert!(packet.ends_with(&hex(row["out_ciphertext_endswith"])));
        let opened = reader.open_packet(&mut None, &aad, usize::MAX, &mut packet).unwrap().unwrap();
        assert_eq!((opened.total, opened.is_decoy), (EXPANSION + contents.len(), ignore));
        assert_eq!(packet[LENGTH + HEADER..][..contents.len()], contents);
    }
}

#[test]
fn public_keys_are_decoded() {
    let rows = rows(DECODING);
    assert_eq!(rows.len(), 76);
    for row in rows {
        let key = PublicKey::from_ellswift(ElligatorSwift::from_array(array(row["ellswift"])));
        assert_eq!(key.x_only_public_key().0.serialize()[..], hex(row["x"]), "{}", row["comment"]);
    }
}

#[test]
fn our_public_key_is_that_of_the_private_key() {
    for row in rows(PACKETS) {
        let secret = array(row["in_priv_ours"]);
        let public = Pair::new(secret, [3; 32]).public().unwrap();
        let key = PublicKey::from_ellswift(ElligatorSwift::from_array(public));
        assert_eq!(key.x_only_public_key().0.serialize()[..], hex(row["mid_x_ours"]));
    }
    // No key of the group: made one.
    for secret in [[0; 32], [0xff; 32]] {
        assert!(Pair::new(secret, [3; 32]).public().is_some());
    }
}
