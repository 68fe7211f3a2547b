//! The ring against the real kernel: loopback sockets, real files, a real seccomp filter.

#![allow(unsafe_code)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use breakwater::base::{ClientId, Conn, Instant};
use breakwater::io::{Done, File, IoEnd, Kernel, ListenerId, Op, Payload};
use breakwater::link::Doorbell;
use breakwater::ring::{ProbeError, Ring, RingConfig, RingError, probe, reserve};
use bytes::Bytes;

const PATIENCE: Duration = Duration::from_secs(10);
const LISTENER: ListenerId = ListenerId(0);

struct Rig {
    ring: Ring,
    dones: Vec<Done>,
    next_slot: u32,
}

impl Rig {
    fn new(config: RingConfig) -> Rig {
        let listeners = config.listeners.len();
        let mut ring = Ring::new(config).unwrap();
        (0..listeners).for_each(|id| ring.push(Op::Listen(ListenerId(id as u8))));
        let mut rig = Rig { ring, dones: Vec::new(), next_slot: 0 };
        rig.look();
        rig
    }

    fn local() -> Rig {
        Rig::new(RingConfig { listeners: vec![any_port()], ..RingConfig::default() })
    }

    fn addr(&self) -> SocketAddr {
        self.ring.local_addr(LISTENER).unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn look(&mut self) {
        self.ring.wait(Instant(0), &mut self.dones);
    }

    /// Runs for a while, gathering what comes.
    fn run_for(&mut self, span: Duration) {
        let end = self.ring.now() + span;
        while self.ring.now() < end {
            self.ring.wait(end, &mut self.dones);
        }
    }

    /// Waits until something fits, and takes it out.
    fn expect<T>(&mut self, what: &str, mut fits: impl FnMut(&Done) -> Option<T>) -> T {
        let end = self.ring.now() + PATIENCE;
        loop {
            if let Some(index) = self.dones.iter().position(|done| fits(done).is_some()) {
                return fits(&self.dones.remove(index)).unwrap();
            }
            assert!(self.ring.now() < end, "no {what} came; there is {:?}", self.dones);
            self.ring.wait(end, &mut self.dones);
        }
    }

    fn accepted(&mut self) -> (ClientId, Conn, SocketAddr) {
        let (conn, peer) = self.expect("Accepted", |done| match done {
            Done::Accepted { conn, peer, .. } => Some((*conn, *peer)),
            _ => None,
        });
        self.next_slot += 1;
        (ClientId { slot: self.next_slot, generation: 7 }, conn, peer)
    }

    /// A peer and our side of it.
    fn pair(&mut self) -> (TcpStream, ClientId, Conn) {
        let stream = self.connect();
        let (client, conn, _) = self.accepted();
        (stream, client, conn)
    }

    /// Receives once, copies and recycles.
    fn receive(&mut self, client: ClientId, conn: Conn) -> Result<Vec<u8>, IoEnd> {
        self.ring.push(Op::Receive { client, conn });
        self.received(client)
    }

    fn received(&mut self, client: ClientId) -> Result<Vec<u8>, IoEnd> {
        let (buffer, len) = self.expect("Received", |done| match done {
            Done::Received { client: who, buffer, len } if *who == client => Some(Ok((*buffer, *len))),
            Done::ReceiveEnded { client: who, why } if *who == client => Some(Err(*why)),
            _ => None,
        })?;
        let bytes = self.ring.received(buffer, len).to_vec();
        self.ring.push(Op::Recycle(buffer));
        Ok(bytes)
    }

    fn send(&mut self, client: ClientId, conn: Conn, bytes: Vec<u8>) {
        self.ring.push(Op::Send { client, conn, payload: Payload::Owned(bytes) });
    }

    fn sent(&mut self, client: ClientId) -> (usize, Result<(), IoEnd>) {
        self.expect("Sent", |done| match done {
            Done::Sent { client: who, payload, result } if *who == client => {
                Some((payload.as_slice().len(), *result))
            }
            _ => None,
        })
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// What a peer finds at the end of its stream: `Ok` for FIN.
fn end_of(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut sink = vec![0; 1 << 20];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

// ---- accepting -----------------------------------------------------------------------------------------

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
    more.iter().for_each(|_| drop(right.accepted()));
    left.run_for(Duration::from_millis(20));
    assert_eq!(left.dones.len(), before);
}

// ---- receiving -----------------------------------------------------------------------------------------

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
    let mut heard = 0;
    let end = rig.ring.now() + PATIENCE;
    while heard < 8 && rig.ring.now() < end {
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
        rig.ring.wait(end, &mut rig.dones);
        if heard + rig.dones.len() >= 8 {
            heard += std::mem::take(&mut rig.dones).len();
        }
    }
    assert_eq!(heard, 8);
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

// ---- sending and closing -------------------------------------------------------------------------------

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

// ---- files, doorbell, time -----------------------------------------------------------------------------

#[derive(Debug)]
struct Plain {
    file: fs::File,
    with_fd: bool,
}

impl File for Plain {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn map(&self, _: u64) -> io::Result<Bytes> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn raw_fd(&self) -> Option<RawFd> {
        self.with_fd.then(|| self.file.as_raw_fd())
    }
}

#[test]
fn files_are_read_at_an_offset_to_their_end() {
    let mut rig = Rig::local();
    let client = ClientId { slot: 5, generation: 5 };
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 253) as u8).collect();
    for with_fd in [true, false] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(Plain { file, with_fd });
        for (offset, len, read) in
            [(0, 300_000, 300_000), (1_000, 10, 10), (299_990, 100, 10), (400_000, 9, 0)]
        {
            let buffer = b"before".to_vec();
            rig.ring.push(Op::Read { client, file: file.clone(), offset, len, buffer });
            let (buffer, result) = rig.expect("Read", |done| match done {
                Done::Read { buffer, result, .. } => Some((buffer.clone(), *result)),
                _ => None,
            });
            assert_eq!(result, Ok(read));
            let start = (offset as usize).min(bytes.len());
            assert_eq!(&buffer[..6], b"before");
            assert!(buffer[6..] == bytes[start..start + read as usize]);
        }
    }
    let folder = Arc::new(Plain { file: fs::File::open("/").unwrap(), with_fd: true });
    rig.ring.push(Op::Read { client, file: folder, offset: 0, len: 9, buffer: Vec::new() });
    let result = rig.expect("Read", |done| match done {
        Done::Read { result, .. } => Some(*result),
        _ => None,
    });
    assert_eq!(result, Err(libc::EISDIR));
}

#[test]
fn the_doorbell_wakes_again_and_again() {
    let doorbell = Doorbell::new().unwrap();
    let mut rig = Rig::new(RingConfig { doorbell: doorbell.clone(), ..RingConfig::default() });
    for _ in 0..3 {
        doorbell.will_sleep();
        let ringer = doorbell.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            ringer.ring();
        });
        rig.expect("Doorbell", |done| matches!(done, Done::Doorbell).then_some(()));
        thread.join().unwrap();
    }
    rig.run_for(Duration::from_millis(20));
    assert!(rig.dones.is_empty(), "rung once, heard once");
}

#[test]
fn waiting_ends_in_time_and_a_turn_is_bounded() {
    let mut rig = Rig::local();
    let start = rig.ring.now();
    rig.ring.wait(start + Duration::from_millis(30), &mut rig.dones);
    let waited = rig.ring.now().since(start);
    assert!(waited >= Duration::from_millis(30) && waited < Duration::from_secs(2), "{waited:?}");
    assert!(rig.dones.is_empty());
    let client = ClientId { slot: 1, generation: 1 };
    (0..1_500).for_each(|_| rig.ring.push(Op::Receive { client, conn: Conn(9) }));
    rig.look();
    assert_eq!(rig.dones.len(), 1_024);
    rig.look();
    assert_eq!(rig.dones.len(), 1_500);
    assert!(rig.ring.unix_time() > 1_700_000_000);
}

// ---- set-up --------------------------------------------------------------------------------------------

#[test]
fn a_file_table_above_the_limit_is_named_with_its_remedy() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if limit.rlim_cur >= 1 << 24 {
        return;
    }
    let max_clients = limit.rlim_cur as u32 + 1;
    let error = Ring::new(RingConfig { max_clients, ..RingConfig::default() }).err().unwrap();
    assert!(matches!(error, RingError::FileLimit { .. }), "{error}");
    let text = error.to_string();
    for part in [&max_clients.to_string(), &limit.rlim_cur.to_string(), "more shards"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let foreign = TcpListener::bind(any_port()).unwrap();
    let addr = foreign.local_addr().unwrap();
    let error = Ring::new(RingConfig { listeners: vec![addr], ..RingConfig::default() }).err().unwrap();
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[test]
fn a_wrong_number_is_named() {
    for config in [
        RingConfig { buffers: 3, ..RingConfig::default() },
        RingConfig { max_clients: 0, ..RingConfig::default() },
        RingConfig { cq_entries: 5, ..RingConfig::default() },
    ] {
        assert!(matches!(Ring::new(config), Err(RingError::Config { .. })));
    }
}

const CHILD: &str = "BREAKWATER_TEST_SECCOMP_CHILD";

#[test]
fn a_seccomp_refusal_is_called_by_its_name() {
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(probe(), Err(ProbeError::Seccomp { errno: libc::EPERM }));
        let error = Ring::new(RingConfig::default()).err().unwrap();
        assert!(error.to_string().contains("seccomp"), "{error}");
        return;
    }
    if fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|value| value.trim() != "0") {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_seccomp_refusal_is_called_by_its_name"]).env(CHILD, "1");
    // SAFETY: between fork and exec only two prctl(2) calls are made.
    unsafe { child.pre_exec(deny_io_uring_setup) };
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A filter that answers io_uring_setup (425 on every architecture) with EPERM and allows the rest.
fn deny_io_uring_setup() -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        op(LOAD, 0, 0, 0),
        op(EQUAL, 0, 1, 425),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid for the length given; the kernel copies it.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
