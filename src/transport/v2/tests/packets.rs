//! Packets that are right, and packets that are not.

use super::super::{EXPANSION, IGNORE};
use super::{frame, open_all, pair};
use crate::base::End;
use crate::base::limits::MAX_MESSAGE;
use crate::transport::v2::Session;
use crate::wire::v2::LONG_TYPE;
use crate::wire::{Framing, Step};

#[test]
fn names_with_and_without_a_number() {
    let (mut a, mut b) = pair();
    let mut out = Vec::new();
    let sizes =
        [("ping", 1), ("addrv2", 1), ("feature", 1), ("version", 13), ("verack", 13), ("sendtxrcncl", 13)];
    for (name, type_len) in sizes {
        let before = out.len();
        a.seal(&frame(name, b"payload"), &mut out);
        assert_eq!(out.len() - before, EXPANSION + type_len + 7, "{name}");
    }
    let found = open_all(&mut b, out);
    assert!(found.iter().map(|(name, _)| &name[..]).eq(sizes.map(|(name, _)| name)));
    assert!(found.iter().all(|(_, payload)| payload == b"payload"));
}

#[test]
fn many_keys_both_ways() {
    let (mut a, mut b) = pair();
    for n in 0..3 * 224 + 10u32 {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        a.seal(&frame("ping", &n.to_le_bytes()), &mut there);
        b.seal(&frame("pong", &n.to_le_bytes()), &mut back);
        b.seal(&frame("pong", &[]), &mut back);
        assert_eq!(open_all(&mut b, there), [("ping".to_owned(), n.to_le_bytes().to_vec())]);
        assert_eq!(open_all(&mut a, back).len(), 2);
    }
}

#[test]
fn an_opened_stream_lacks_the_decoys() {
    let (mut a, mut b) = pair();
    let mut out = Vec::new();
    for n in 0..20u8 {
        a.seal_packet(&mut None, &[], IGNORE, &[&[n; 300]], &mut out);
        a.seal(&frame("ping", &[n]), &mut out);
        // Flags of the future are not looked at (BIP324).
        a.seal_packet(&mut None, &[], 0x7f, &[&[19, n]], &mut out);
    }
    let found = open_all(&mut b, out);
    assert_eq!((found.len(), b.decoys()), (40, 20));
    assert_eq!(found[39], ("pong".to_owned(), vec![19]));
}

#[test]
fn what_is_not_in_the_table_is_dropped_by_the_framing() {
    for (contents, fault) in [
        (&[][..], crate::base::Fault::Short),
        (&[0][..], crate::base::Fault::Short),
        (&[29, 1][..], crate::base::Fault::UnknownCommand),
        (&[36][..], crate::base::Fault::UnknownCommand),
        (&[38][..], crate::base::Fault::UnknownCommand),
        (&[255][..], crate::base::Fault::UnknownCommand),
        (b"\0ping\0x\0\0\0\0\0\0", crate::base::Fault::BadCommand),
    ] {
        let (mut a, mut b) = pair();
        let mut out = Vec::new();
        a.seal_packet(&mut None, &[], 0, &[contents], &mut out);
        let opened = b.open(&mut out).unwrap();
        assert_eq!(Framing::V2.split(&out[..opened.plain]), Step::Drop { fault, used: 3 + contents.len() });
    }
}

#[test]
fn a_changed_bit_anywhere_ends_it() {
    let (mut a, _) = pair();
    let mut sealed = Vec::new();
    a.seal(&frame("ping", &[5; 8]), &mut sealed);
    // Behind the length, which only says how much to wait for.
    for at in 3..sealed.len() {
        let (_, mut b) = pair();
        let mut bytes = sealed.clone();
        bytes[at] ^= 1;
        assert_eq!(b.open(&mut bytes), Err(End::V2BadPacket), "byte {at}");
    }
    for at in 0..3 {
        let (_, mut b) = pair();
        let mut bytes = sealed.clone();
        bytes[at] ^= 0x10;
        bytes.resize(5_000_000, 0);
        assert!(matches!(b.open(&mut bytes), Err(End::V2BadPacket | End::Oversize)), "byte {at}");
    }
}

#[test]
fn replayed_reordered_and_lost_packets_end_it() {
    let (mut a, _) = pair();
    let packets: Vec<Vec<u8>> = (0..3u8)
        .map(|n| {
            let mut out = Vec::new();
            a.seal(&frame("ping", &[n; 8]), &mut out);
            out
        })
        .collect();
    for order in [&[0, 0][..], &[0, 2], &[1], &[0, 1, 1], &[0, 1, 0]] {
        let (_, mut b) = pair();
        let (last, before) = order.split_last().unwrap();
        for n in before {
            open_all(&mut b, packets[*n].clone());
        }
        // The length of a packet that is not the next one is noise: it may ask for more than there is.
        let mut bytes = packets[*last].clone();
        bytes.resize(5_000_000, 0);
        assert!(matches!(b.open(&mut bytes), Err(End::V2BadPacket | End::Oversize)), "{order:?}");
    }
}

#[test]
fn a_long_packet_is_refused_with_its_length() {
    let most = MAX_MESSAGE + LONG_TYPE;
    for (contents, fits) in [(most, true), (most + 1, false), ((1 << 24) - 1, false)] {
        let (mut a, mut b) = pair();
        let mut out = Vec::new();
        a.seal_packet(&mut None, &[], 0, &[&vec![0; contents]], &mut out);
        let start = b.open(&mut out[..3]);
        match fits {
            true => {
                assert_eq!(start.unwrap().need, EXPANSION + contents);
                assert_eq!(b.open(&mut out).unwrap().plain, 3 + contents);
            }
            false => assert_eq!(start, Err(End::Oversize)),
        }
    }
}

#[test]
fn the_bound_of_what_sealing_appends_holds_and_is_reached() {
    let (name, empty) = (frame("verack", &[]), frame("sendheaders", &[]));
    let stream = [&name[..], &empty, &frame("ping", &[0; 8]), &frame("wtxidrelay", &[1])].concat().repeat(30);
    let mut most = 0;
    for size in 1..200 {
        let (mut a, _) = pair();
        for piece in stream.chunks(size) {
            let mut out = Vec::new();
            a.seal(piece, &mut out);
            assert!(out.len() <= Session::sealed_len(piece.len()), "{} for {size}", out.len());
            most = most.max(100 * out.len() / Session::sealed_len(piece.len()));
        }
    }
    assert!(most > 60, "the bound is {most} per cent full at the most");
}
