//! Streams cut anywhere, on both sides of the cipher.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::EXPANSION;
use super::{frame, frames, messages, open_all, pair};

/// Some messages of all sizes, with and without a number, among them empty ones.
fn stream() -> Vec<u8> {
    let sizes = [0, 1, 8, 15, 16, 17, 40, 63, 64, 65, 127, 128, 129, 1_000];
    let names = ["ping", "verack", "tx"];
    let made = sizes.iter().zip(names.iter().cycle());
    made.flat_map(|(size, name)| frame(name, &(0..*size).map(|n| n as u8).collect::<Vec<u8>>())).collect()
}

#[test]
fn frames_cut_in_two_anywhere_are_sealed_as_in_one() {
    let stream = stream();
    let (mut whole, _) = pair();
    let mut want = Vec::new();
    whole.seal(&stream, &mut want);
    for cut in 0..=stream.len() {
        let (mut a, _) = pair();
        let mut out = Vec::new();
        a.seal(&stream[..cut], &mut out);
        a.seal(&stream[cut..], &mut out);
        assert!(out == want, "cut at {cut}");
    }
}

#[test]
fn frames_in_pieces_of_any_size_are_sealed_as_in_one() {
    let stream = stream().repeat(20);
    let (mut whole, mut reader) = pair();
    let mut want = Vec::new();
    whole.seal(&stream, &mut want);
    for size in 1..200 {
        let (mut a, _) = pair();
        let mut out = Vec::new();
        stream.chunks(size).for_each(|piece| a.seal(piece, &mut out));
        assert!(out == want, "pieces of {size}");
    }
    assert!(open_all(&mut reader, want) == frames(&stream), "more than one key");
}

#[test]
fn a_block_in_slices_of_a_file() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut block = vec![0; 3_999_999];
    rng.fill(&mut block[..]);
    let bytes = [frame("ping", &[1; 8]), frame("block", &block), frame("ping", &[2; 8])].concat();
    let (mut a, mut b) = pair();
    let mut out = Vec::new();
    bytes.chunks(128 * 1024).for_each(|slice| a.seal(slice, &mut out));
    let found = open_all(&mut b, out);
    assert_eq!(found.len(), 3);
    assert!(found[1].1 == block);
}

#[test]
fn packets_in_pieces_are_opened_as_in_one() {
    let stream = stream().repeat(20);
    let mut sealed = Vec::new();
    pair().0.seal(&stream, &mut sealed);
    let want = frames(&stream);
    for size in (1..100).chain([4_096, usize::MAX]) {
        let (_, mut b) = pair();
        let (mut have, mut plain) = (Vec::new(), Vec::new());
        for piece in sealed.chunks(size) {
            have.extend_from_slice(piece);
            let opened = b.open(&mut have).unwrap();
            plain.extend_from_slice(&have[..opened.plain]);
            assert!(opened.need > have.len() - opened.used && opened.need >= EXPANSION && !opened.closed);
            have.drain(..opened.used);
        }
        assert!(have.is_empty() && messages(&plain) == want, "pieces of {size}");
    }
}

#[test]
fn a_cut_stream_waits_for_the_rest() {
    let mut sealed = Vec::new();
    pair().0.seal(&frame("ping", &[1; 8]), &mut sealed);
    let (_, mut b) = pair();
    for end in 0..sealed.len() {
        let mut have = sealed[..end].to_vec();
        let opened = b.open(&mut have).unwrap();
        assert_eq!((opened.plain, opened.used), (0, 0));
        assert_eq!(opened.need, if end < 3 { EXPANSION } else { sealed.len() });
        assert_eq!(have, sealed[..end], "what is not whole stays as it is");
    }
    assert_eq!(open_all(&mut b, sealed).len(), 1);
}
