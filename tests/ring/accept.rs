//! Accepting, the full table, leaving and joining the group.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use breakwater::io::{Done, Kernel, ListenerId, Op};
use breakwater::ring::{RingConfig, reserve};

use super::rig::*;

#[test]
fn the_peer_is_known_with_the_connection_on_both_families() {
    let mut listeners = vec![any_port()];
    let v6 = TcpListener::bind("[::1]:0").is_ok();
    if v6 {
        listeners.push("[::1]:0".parse().unwrap());
    }
    let mut rig = Rig::new(RingConfig { listeners, ..RingConfig::default() });
    for id in 0..1 + u8::from(v6) {
        let stream = TcpStream::connect(rig.ring.local_addr(ListenerId(id)).unwrap()).unwrap();
        let (listener, peer) = rig.expect("Accepted", |done| match done {
            Done::Accepted { listener, peer, .. } => Some((*listener, *peer)),
            _ => None,
        });
        assert_eq!((listener, peer), (ListenerId(id), stream.local_addr().unwrap()));
    }
}

#[test]
fn many_connections_at_once_have_each_their_own_peer() {
    let mut rig = Rig::local();
    let streams: Vec<_> = (0..300).map(|_| rig.connect()).collect();
    let mut expected: Vec<_> = streams.iter().map(|s| s.local_addr().unwrap()).collect();
    let mut seen: Vec<_> = (0..300).map(|_| rig.accepted().2).collect();
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
}

#[test]
fn a_full_table_leaves_newcomers_in_the_backlog_until_a_close() {
    let config = RingConfig { listeners: vec![any_port()], max_clients: 2, ..RingConfig::default() };
    let mut rig = Rig::new(config);
    let (_one, first, conn) = rig.pair();
    let (_two, ..) = rig.pair();
    let mut waiting = rig.connect();
    let errno = rig.expect("AcceptFailed", |done| match done {
        Done::AcceptFailed { errno, .. } => Some(*errno),
        _ => None,
    });
    assert_eq!(errno, libc::ENFILE);
    let entered = rig.ring.counters().enters;
    rig.run_for(Duration::from_millis(150));
    assert!(rig.dones.is_empty(), "{:?}", rig.dones);
    assert!(rig.ring.counters().enters - entered < 20, "it spins");
    assert_eq!(rig.ring.counters().accept_errors, 1, "reported once");
    rig.ring.push(Op::Close { client: first, conn, reset: false });
    let (client, conn, peer) = rig.accepted();
    assert_eq!(peer, waiting.local_addr().unwrap());
    waiting.write_all(b"here").unwrap();
    assert_eq!(rig.receive(client, conn), Ok(b"here".to_vec()));
}

#[test]
fn stop_listening_takes_what_is_queued_then_refuses_then_listens_again() {
    let mut rig = Rig::local();
    // More than accepts in flight, so that some are still in the backlog.
    let streams: Vec<_> = (0..200).map(|_| rig.connect()).collect();
    rig.ring.push(Op::StopListening(LISTENER));
    for _ in &streams {
        rig.accepted();
    }
    rig.run_for(Duration::from_millis(50));
    assert_eq!(TcpStream::connect(rig.addr()).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    rig.ring.push(Op::Listen(LISTENER));
    rig.look();
    let stream = rig.connect();
    assert_eq!(rig.accepted().2, stream.local_addr().unwrap());
    // And once more, the same way.
    rig.ring.push(Op::StopListening(LISTENER));
    rig.run_for(Duration::from_millis(50));
    assert!(TcpStream::connect(rig.addr()).is_err());
}

#[test]
fn listening_again_while_draining_works() {
    let mut rig = Rig::local();
    rig.ring.push(Op::StopListening(LISTENER));
    rig.look();
    rig.ring.push(Op::Listen(LISTENER));
    rig.run_for(Duration::from_millis(20));
    rig.pair();
    rig.ring.push(Op::StopListening(LISTENER));
    rig.run_for(Duration::from_millis(50));
    assert!(TcpStream::connect(rig.addr()).is_err());
}

#[test]
fn when_one_ring_leaves_the_group_all_newcomers_reach_the_other() {
    let (addr, _held) = reserve(any_port()).unwrap();
    let config = || RingConfig { listeners: vec![addr], ..RingConfig::default() };
    let (mut left, mut right) = (Rig::new(config()), Rig::new(config()));
    let streams: Vec<_> = (0..64).map(|_| left.connect()).collect();
    left.run_for(Duration::from_millis(20));
    right.run_for(Duration::from_millis(20));
    assert_eq!(left.dones.len() + right.dones.len(), streams.len());
    assert!(!left.dones.is_empty() && !right.dones.is_empty(), "the kernel spreads them");
    left.ring.push(Op::StopListening(LISTENER));
    left.run_for(Duration::from_millis(20));
    let before = left.dones.len();
    let more: Vec<_> = (0..64).map(|_| right.connect()).collect();
    right.dones.clear();
    for _ in &more {
        right.accepted();
    }
    left.run_for(Duration::from_millis(20));
    assert_eq!(left.dones.len(), before);
}
