//! A session pair without a socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::transport::Pipe;
use crate::wire::{Framing, Magic, Step, write};

const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

#[test]
fn two_pipes_of_ours_understand_each_other() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut wire = Vec::new();
    let mut a = Pipe::v2(MAGIC, &mut rng, &mut wire);
    let mut b = Pipe::accept(MAGIC, &mut rng);
    let mut ping = Vec::new();
    write::ping(&mut ping, MAGIC, 7);
    a.send(&ping, &mut wire);
    let (mut to_a, mut to_b, mut at_a, mut at_b) = (Vec::new(), wire, Vec::new(), Vec::new());
    for _ in 0..4 {
        b.received(&mut std::mem::take(&mut to_b), &mut at_b, &mut to_a).unwrap();
        a.received(&mut std::mem::take(&mut to_a), &mut at_a, &mut to_b).unwrap();
    }
    assert!(a.is_open() && b.is_open());
    assert_eq!(a.session_id(), b.session_id());
    assert_eq!(a.framing(), Framing::V2);
    let Step::Message { command, payload, used } = Framing::V2.split(&at_b) else { panic!("{at_b:?}") };
    assert_eq!((command.name(), payload, used), ("ping", &7u64.to_le_bytes()[..], at_b.len()));
}
