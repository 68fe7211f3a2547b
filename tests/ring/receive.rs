//! Receiving, ends of streams, want of buffers.

use std::io::{Read, Write};
use std::time::Duration;

use breakwater::base::limits::{CROWD, RECV_BUFFER};
use breakwater::io::{Done, IoEnd, Kernel, Op, Payload};
use breakwater::ring::RingConfig;
use bytes::Bytes;

use super::rig::*;

#[test]
fn a_part_is_as_long_as_was_asked_for() {
    let mut rig = Rig::local();
    let (mut stream, client, conn) = rig.pair();
    stream.write_all(&vec![7; 20_000]).unwrap();
    rig.run_for(Duration::from_millis(20));
    for (most, length) in [(256, 256), (300, 288), (1, 16), (u16::MAX, 4_080), (1_600, 1_600)] {
        rig.ring.push(Op::ReceivePart { client, conn, most });
        assert_eq!(rig.received(client).map(|bytes| bytes.len()), Ok(length), "of {most}");
    }
    assert_eq!(rig.receive(client, conn).map(|bytes| bytes.len()), Ok(RECV_BUFFER), "a whole buffer again");
}

#[test]
fn bytes_come_in_order_and_an_echo_goes_back() {
    let mut rig = Rig::local();
    let (mut stream, client, conn) = rig.pair();
    rig.ring.push(Op::Receive { client, conn });
    rig.run_for(Duration::from_millis(10));
    assert!(rig.dones.is_empty(), "nothing has come yet");
    stream.write_all(b"ping").unwrap();
    let bytes = rig.received(client).unwrap();
    rig.ring.push(Op::Send { client, conn, payload: Payload::Shared(Bytes::from(bytes)) });
    assert_eq!(rig.sent(client), (4, Ok(())));
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"ping");
    // More than a buffer holds: in pieces, the later ones without a poll.
    let long: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
    stream.write_all(&long).unwrap();
    let mut got = Vec::new();
    while got.len() < long.len() {
        got.extend(rig.receive(client, conn).unwrap());
    }
    assert_eq!(got, long);
    stream.write_all(b"!").unwrap();
    assert_eq!(rig.receive(client, conn), Ok(b"!".to_vec()));
}

#[test]
fn half_closed_is_closed_for_receiving_and_open_for_sending() {
    let mut rig = Rig::local();
    let (mut stream, client, conn) = rig.pair();
    stream.write_all(b"last").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rig.receive(client, conn), Ok(b"last".to_vec()));
    assert_eq!(rig.receive(client, conn), Err(IoEnd::Closed));
    rig.send(client, conn, b"answer".to_vec());
    assert_eq!(rig.sent(client), (6, Ok(())));
    rig.ring.push(Op::Close { client, conn, reset: false });
    rig.look();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
}

#[test]
fn a_reset_is_told_from_an_end() {
    let mut rig = Rig::local();
    let (stream, client, conn) = rig.pair();
    rig.ring.push(Op::Receive { client, conn });
    rig.look();
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(rig.received(client), Err(IoEnd::Reset));
    rig.send(client, conn, b"too late".to_vec());
    assert_eq!(rig.sent(client), (8, Err(IoEnd::Reset)));
}

#[test]
fn without_buffers_receives_wait_and_none_is_forgotten() {
    let mut rig = Rig::new(RingConfig { listeners: vec![any_port()], buffers: 2, ..RingConfig::default() });
    let mut peers: Vec<_> = (0..8).map(|_| rig.pair()).collect();
    for (stream, client, conn) in &mut peers {
        stream.write_all(b"x").unwrap();
        rig.ring.push(Op::Receive { client: *client, conn: *conn });
    }
    rig.run_for(Duration::from_millis(50));
    assert_eq!(rig.dones.len(), 2, "two buffers, two received");
    let starved = rig.ring.counters();
    assert!(starved.no_buffers >= 6, "{starved:?}");
    rig.run_for(Duration::from_millis(50));
    assert_eq!(rig.ring.counters().no_buffers, starved.no_buffers, "parked, not spinning");
    // One that is parked leaves, and is answered.
    let (_stream, client, conn) = peers.pop().unwrap();
    rig.ring.push(Op::Close { client, conn, reset: false });
    let end = rig.ring.now() + PATIENCE;
    let mut heard = 0;
    while heard < 8 {
        assert!(rig.ring.now() < end, "only {heard} of 8 were answered");
        for done in std::mem::take(&mut rig.dones) {
            heard += 1;
            match done {
                Done::Received { buffer, len, .. } => {
                    assert_eq!(rig.ring.received(buffer, len), b"x");
                    rig.ring.push(Op::Recycle(buffer));
                }
                Done::ReceiveEnded { client: who, why: IoEnd::Reset } => assert_eq!(who, client),
                other => panic!("{other:?}"),
            }
        }
        rig.run_for(Duration::from_millis(5));
    }
    assert_eq!(heard, 8, "each once");
}

#[test]
fn ends_of_streams_use_no_buffers_up() {
    let mut rig = Rig::new(RingConfig { listeners: vec![any_port()], buffers: 4, ..RingConfig::default() });
    for _ in 0..20 {
        let (stream, client, conn) = rig.pair();
        drop(stream);
        assert_eq!(rig.receive(client, conn), Err(IoEnd::Closed));
        rig.ring.push(Op::Close { client, conn, reset: false });
    }
    let (mut stream, client, conn) = rig.pair();
    stream.write_all(b"x").unwrap();
    assert_eq!(rig.receive(client, conn), Ok(b"x".to_vec()));
    assert_eq!(rig.ring.counters().no_buffers, 0);
}

/// The memory of a crowd's buffers is given back only while nobody is connected: what the kernel has put into a buffer for a
/// newcomer, with the completion not yet seen, must stay.
#[test]
fn what_a_newcomer_sent_survives_a_crowd_that_has_gone() {
    let mut rig =
        Rig::new(RingConfig { listeners: vec![any_port()], sq_entries: 4, ..RingConfig::default() });
    let crowd: Vec<_> = (0..=CROWD).map(|_| rig.pair()).collect();
    let (mut stream, client, conn) = (&crowd[0].0, crowd[0].1, crowd[0].2);
    stream.write_all(b"x").unwrap();
    rig.ring.push(Op::Receive { client, conn });
    let late = rig.expect("Received", |done| match done {
        Done::Received { buffer, .. } => Some(*buffer),
        _ => None,
    });
    crowd.iter().for_each(|(_, _, conn)| rig.ring.push(Op::Close { client, conn: *conn, reset: false }));
    rig.look();

    let idle: Vec<_> = (0..8).map(|_| rig.pair()).collect();
    let (mut stream, client, conn) = rig.pair();
    let sent: Vec<u8> = (0..20_000u32).map(|n| n as u8 | 1).collect();
    stream.write_all(&sent).unwrap();
    let mut got = rig.receive(client, conn).unwrap();
    // More is there, so this one reads at once; the polls fill the submission queue, which takes it to the kernel.
    rig.ring.push(Op::Receive { client, conn });
    idle.iter().for_each(|(_, client, conn)| rig.ring.push(Op::Receive { client: *client, conn: *conn }));
    rig.ring.push(Op::Recycle(late));
    got.extend(rig.received(client).unwrap());
    assert_eq!(got, sent[..got.len()]);
}
