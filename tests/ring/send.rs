//! Sending, closing, late completions, full queues.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use breakwater::base::{ClientId, Conn};
use breakwater::io::{Done, IoEnd, Kernel, ListenerId, Op};
use breakwater::ring::RingConfig;

use super::rig::*;

#[test]
fn a_payload_larger_than_the_socket_buffer_arrives_whole() {
    let mut rig = Rig::local();
    let (stream, client, conn) = rig.pair();
    let payload: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let expected = payload.clone();
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        (&stream).take(20_000_000).read_to_end(&mut got).unwrap();
        got
    });
    rig.send(client, conn, payload);
    assert_eq!(rig.sent(client), (20_000_000, Ok(())));
    assert!(reader.join().unwrap() == expected, "the bytes differ");
}

#[test]
fn a_peer_that_reads_little_at_a_time_costs_no_thread() {
    const TOTAL: usize = 16_000_000;
    let mut rig = Rig::local();
    let (stream, client, conn) = rig.pair();
    // A small window, so that the sender wakes hundreds of times.
    socket2::SockRef::from(&stream).set_recv_buffer_size(64 * 1024).unwrap();
    let reader = thread::spawn(move || {
        let (mut got, mut buffer) = (0, [0; 4_096]);
        while got < TOTAL {
            got += (&stream).read(&mut buffer).unwrap();
            thread::sleep(Duration::from_micros(100));
        }
    });
    rig.send(client, conn, vec![3; TOTAL]);
    assert_eq!(rig.sent(client), (TOTAL, Ok(())));
    reader.join().unwrap();
    // SAFETY: gettid takes nothing.
    let worker = format!("iou-wrk-{}", unsafe { libc::gettid() });
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = names.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    assert_eq!(names.filter(|name| name.trim() == worker).count(), 0);
}

#[test]
fn a_peer_that_never_reads_blocks_nobody_and_close_gives_the_payload_back() {
    let mut rig = Rig::local();
    let (stuck, client, conn) = rig.pair();
    let (mut lively, other, other_conn) = rig.pair();
    rig.ring.push(Op::Receive { client, conn });
    rig.send(client, conn, vec![1; 30_000_000]);
    rig.run_for(Duration::from_millis(100));
    assert!(rig.dones.is_empty(), "pending: {}", rig.dones.len());
    lively.write_all(b"hello").unwrap();
    assert_eq!(rig.receive(other, other_conn), Ok(b"hello".to_vec()));
    rig.ring.push(Op::Close { client, conn, reset: true });
    assert_eq!(rig.received(client), Err(IoEnd::Reset));
    assert_eq!(rig.sent(client), (30_000_000, Err(IoEnd::Reset)));
    let end = end_of(&stuck);
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "unsent data is thrown away");
}

#[test]
fn a_close_with_an_armed_poll_reaches_the_peer_at_once() {
    let mut rig = Rig::local();
    let (stream, client, conn) = rig.pair();
    rig.ring.push(Op::Receive { client, conn });
    rig.look();
    rig.ring.push(Op::Close { client, conn, reset: false });
    assert_eq!(rig.received(client), Err(IoEnd::Reset));
    rig.look();
    end_of(&stream).unwrap();
    let (stream, client, conn) = rig.pair();
    rig.ring.push(Op::Receive { client, conn });
    rig.look();
    rig.ring.push(Op::Close { client, conn, reset: true });
    rig.look();
    rig.look();
    assert_eq!(end_of(&stream).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(rig.received(client), Err(IoEnd::Reset));
}

#[test]
fn a_late_completion_never_reaches_the_next_user_of_a_connection() {
    let config = RingConfig { listeners: vec![any_port()], max_clients: 1, ..RingConfig::default() };
    let mut rig = Rig::new(config);
    for round in 0..50u32 {
        let (mut stream, client, conn) = rig.pair();
        rig.ring.push(Op::Receive { client, conn });
        rig.look();
        // The poll fires and the recv may be under way when the close comes.
        stream.write_all(&round.to_be_bytes()).unwrap();
        if round % 2 == 0 {
            rig.look();
        }
        rig.ring.push(Op::Close { client, conn, reset: false });
        let next = rig.connect();
        let (second, conn, peer) = rig.accepted();
        assert_eq!(peer, next.local_addr().unwrap());
        rig.ring.push(Op::Receive { client: second, conn });
        (&next).write_all(b"mine").unwrap();
        assert_eq!(rig.received(second), Ok(b"mine".to_vec()));
        let _ = rig.received(client);
        rig.ring.push(Op::Close { client: second, conn, reset: false });
        rig.dones.retain(|done| !matches!(done, Done::AcceptFailed { .. }));
        assert!(rig.dones.is_empty(), "{:?}", rig.dones);
    }
    assert_eq!(rig.ring.counters().no_buffers, 0);
}

#[test]
fn wrong_operations_are_answered_and_harm_nothing() {
    let mut rig = Rig::local();
    let client = ClientId { slot: 1, generation: 1 };
    for conn in [Conn(0), Conn(77), Conn(u32::MAX)] {
        assert_eq!(rig.receive(client, conn), Err(IoEnd::Error(libc::EBADF)));
        rig.send(client, conn, vec![1]);
        assert_eq!(rig.sent(client), (1, Err(IoEnd::Error(libc::EBADF))));
        rig.ring.push(Op::Close { client, conn, reset: true });
    }
    rig.ring.push(Op::Recycle(breakwater::io::BufferId(60_000)));
    rig.ring.push(Op::Recycle(breakwater::io::BufferId(0)));
    assert!(rig.ring.received(breakwater::io::BufferId(0), 10).is_empty(), "not lent");
    rig.ring.push(Op::StopListening(ListenerId(9)));
    rig.ring.push(Op::Listen(ListenerId(9)));
    let (_stream, client, conn) = rig.pair();
    rig.ring.push(Op::Receive { client, conn });
    assert_eq!(rig.receive(client, conn), Err(IoEnd::Error(libc::EALREADY)));
    rig.send(client, conn, Vec::new());
    assert_eq!(rig.sent(client), (0, Ok(())));
}

#[test]
fn tiny_queues_lose_nothing() {
    let mut rig = Rig::new(RingConfig {
        listeners: vec![any_port()],
        sq_entries: 4,
        cq_entries: 4,
        ..RingConfig::default()
    });
    let mut peers: Vec<_> = (0..100).map(|_| rig.pair()).collect();
    for round in 0..5 {
        for (_, client, conn) in &peers {
            rig.ring.push(Op::Receive { client: *client, conn: *conn });
            rig.send(*client, *conn, vec![round; 8]);
        }
        for (stream, ..) in &mut peers {
            stream.write_all(&[round; 3]).unwrap();
        }
        for (stream, client, _) in &mut peers {
            assert_eq!(rig.sent(*client), (8, Ok(())));
            assert_eq!(rig.received(*client), Ok(vec![round; 3]));
            let mut got = [0; 8];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, [round; 8]);
        }
    }
    assert!(rig.dones.is_empty());
    assert!(rig.ring.counters().cq_overflow > 0, "counted: {:?}", rig.ring.counters());
}

#[test]
fn a_ring_dropped_with_everything_outstanding_ends_all_connections() {
    let mut rig = Rig::local();
    let (idle, client, conn) = rig.pair();
    rig.ring.push(Op::Receive { client, conn });
    let (stuck, client, conn) = rig.pair();
    rig.send(client, conn, vec![1; 30_000_000]);
    rig.look();
    let addr = rig.addr();
    drop(rig);
    let _ = end_of(&idle);
    let _ = end_of(&stuck);
    assert!(TcpStream::connect(addr).is_err());
}

/// The kernel takes little for a peer that does not read: with what tcp_wmem allows it would be 4 MB.
#[test]
fn a_peer_that_never_reads_does_not_have_the_kernel_keep_megabytes() {
    const EACH: usize = 64 * 1024;
    let mut rig = Rig::local();
    let (mut stuck, client, conn) = rig.pair();
    // As one that reads fast and then stops: the window and the kernel's buffer have grown.
    let reader = thread::spawn(move || {
        let mut got = vec![0; 8_000_000];
        stuck.read_exact(&mut got).unwrap();
        stuck
    });
    rig.send(client, conn, vec![1; 8_000_000]);
    assert_eq!(rig.sent(client).1, Ok(()));
    let stuck = reader.join().unwrap();
    let mut taken = 0;
    while taken < 64 * 1024 * 1024 {
        rig.send(client, conn, vec![1; EACH]);
        rig.run_for(Duration::from_millis(100));
        if rig.dones.is_empty() {
            break;
        }
        assert_eq!(rig.sent(client), (EACH, Ok(())));
        taken += EACH;
    }
    // What waits here, without what has reached the peer: it is in the peer's own buffer.
    let peer = stuck.local_addr().unwrap();
    let waiting = waiting(rig.addr(), peer);
    assert!(waiting > 0 && waiting < 1_500_000, "{waiting} bytes wait in our socket");
}

/// Bytes that the kernel keeps of us for a peer (tx_queue of proc_net_tcp).
fn waiting(own: std::net::SocketAddr, peer: std::net::SocketAddr) -> u64 {
    let port = |word: &str| u16::from_str_radix(word.rsplit_once(':').unwrap().1, 16).unwrap();
    let text = fs::read_to_string("/proc/net/tcp").unwrap();
    let of = |line: &str| -> Option<u64> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = port(words[1]) == own.port() && port(words[2]) == peer.port();
        ours.then(|| u64::from_str_radix(words[4].split_once(':').unwrap().0, 16).unwrap())
    };
    text.lines().skip(1).find_map(of).unwrap()
}
