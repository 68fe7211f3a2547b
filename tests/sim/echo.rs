//! A hand-written shard that echoes, and a world of echo clients: tests of the simulated kernel itself.
//!
//! It counts what the rules of `io` promise: one `Done` per `Op`, payloads and buffers given back, bytes in order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use breakwater::base::{ClientId, Conn, Instant};
use breakwater::io::{Done, Kernel, ListenerId, Op, Payload};
use breakwater::link::Doorbell;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::faults::Faults;
use super::kernel::{SharedNet, SimKernel};
use super::net::{Net, News, To};
use super::pipe::TcpId;

/// Echoes what it receives; half-duplex: a receive is armed when the echo is sent.
#[derive(Debug)]
struct EchoShard {
    kernel: SimKernel,
    clients: BTreeMap<ClientId, Conn>,
    generation: u32,
    receives: i64,
    sends: i64,
    accept_errors: u64,
    leave_every: u32,
}

impl EchoShard {
    fn new(kernel: SimKernel, leave_every: u32) -> EchoShard {
        let clients = BTreeMap::new();
        let mut shard = EchoShard {
            kernel,
            clients,
            generation: 0,
            receives: 0,
            sends: 0,
            accept_errors: 0,
            leave_every,
        };
        shard.kernel.push(Op::Listen(ListenerId(0)));
        shard
    }

    fn receive(&mut self, client: ClientId, conn: Conn) {
        self.receives += 1;
        self.kernel.push(Op::Receive { client, conn });
    }

    fn turn(&mut self) {
        let mut dones = Vec::new();
        self.kernel.wait(Instant::FAR, &mut dones);
        for done in dones {
            self.handle(done);
        }
    }

    fn handle(&mut self, done: Done) {
        match done {
            Done::Accepted { conn, .. } => {
                self.generation += 1;
                let client = ClientId { slot: conn.0, generation: self.generation };
                self.clients.insert(client, conn);
                self.receive(client, conn);
            }
            Done::AcceptFailed { .. } => self.accept_errors += 1,
            Done::Bound { .. } | Done::Unbound(_) => {}
            Done::Received { client, buffer, len } => {
                self.receives -= 1;
                let bytes = self.kernel.received(buffer, len).to_vec();
                self.kernel.push(Op::Recycle(buffer));
                let Some(&conn) = self.clients.get(&client) else { return };
                self.sends += 1;
                self.kernel.push(Op::Send { client, conn, payload: Payload::Owned(bytes) });
                if self.leave_every != 0 && self.generation.is_multiple_of(self.leave_every) {
                    // Closing with a send outstanding: its payload must still come back.
                    self.close(client, true);
                }
            }
            Done::ReceiveEnded { client, .. } => {
                self.receives -= 1;
                self.close(client, false);
            }
            Done::Sent { client, payload, result } => {
                self.sends -= 1;
                assert!(!payload.as_slice().is_empty());
                match (self.clients.get(&client), result) {
                    (Some(&conn), Ok(())) => self.receive(client, conn),
                    (Some(_), Err(_)) => self.close(client, true),
                    (None, _) => {}
                }
            }
            Done::Read { .. } | Done::Doorbell => {}
        }
    }

    fn close(&mut self, client: ClientId, reset: bool) {
        if let Some(conn) = self.clients.remove(&client) {
            self.kernel.push(Op::Close { client, conn, reset });
        }
    }
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of the trace.
    pub hash: u64,
    /// Clients that got everything back.
    pub whole: usize,
    /// Clients whose connection was reset or refused.
    pub cut: usize,
    /// Bytes the shard echoed to clients that got everything.
    pub bytes: usize,
}

#[derive(Debug)]
struct EchoClient {
    sent: Vec<u8>,
    got: Vec<u8>,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Going,
    Whole,
    Cut,
}

/// Runs `clients` clients against an echo shard; `leave_every` as a fault of the shard's own making.
pub fn run(seed: u64, faults: Faults, clients: usize, leave_every: u32) -> Outcome {
    let mut rng = SmallRng::seed_from_u64(seed);
    let net: SharedNet = Rc::new(RefCell::new(Net::new(seed, 1_700_000_000, faults, false)));
    let port = net.borrow_mut().add_port(Doorbell::silent());
    let mut shard = EchoShard::new(SimKernel::new(net.clone(), port), leave_every);
    let mut book: BTreeMap<TcpId, EchoClient> = BTreeMap::new();
    for actor in 0..clients as u64 {
        shard_turns(&net, port, &mut shard);
        let peer = ([127, 0, 0, 1], 40_000 + actor as u16).into();
        let tcp = net.borrow_mut().connect(actor, To::Listener(ListenerId(0)), peer);
        let length = rng.random_range(1..200_000);
        let sent = (0..length).map(|_| rng.random()).collect();
        book.insert(tcp, EchoClient { sent, got: Vec::new(), state: State::Going });
    }
    let end = net.borrow().now() + Duration::from_secs(3_600);
    loop {
        shard_turns(&net, port, &mut shard);
        while let Some((actor, tcp, news)) = { net.borrow_mut().take_news() } {
            hear(&net, &mut book, actor, tcp, news);
        }
        let next =
            { net.borrow().next_event() }.unwrap_or(Instant::FAR).min(net.borrow().port(port).next_wake());
        if next > end {
            break;
        }
        net.borrow_mut().run_until(next);
    }
    settle(&net.borrow(), port, &shard, &book)
}

fn shard_turns(net: &SharedNet, port: usize, shard: &mut EchoShard) {
    while net.borrow().port(port).next_wake() <= net.borrow().now() {
        net.borrow_mut().turn_begins(port);
        shard.turn();
        net.borrow_mut().turn_ends(port);
    }
}

fn hear(net: &SharedNet, book: &mut BTreeMap<TcpId, EchoClient>, actor: u64, tcp: TcpId, news: News) {
    let Some(client) = book.get_mut(&tcp) else { return };
    match news {
        News::Connected => net.borrow_mut().send(tcp, actor, &client.sent),
        News::Bytes(bytes) => {
            client.got.extend(bytes);
            assert!(client.sent.starts_with(&client.got), "net {tcp}: bytes changed or out of order");
            if client.got.len() == client.sent.len() {
                client.state = State::Whole;
                net.borrow_mut().close(tcp, actor, false);
            }
        }
        News::Refused | News::Reset | News::Fin => {
            client.state = State::Cut;
            net.borrow_mut().close(tcp, actor, false);
        }
        News::Incoming => {}
    }
}

fn settle(net: &Net, port: usize, shard: &EchoShard, book: &BTreeMap<TcpId, EchoClient>) -> Outcome {
    let stuck: Vec<_> = book.iter().filter(|(_, c)| c.state == State::Going).map(|(id, _)| id).collect();
    assert!(stuck.is_empty(), "clients neither served nor cut: {stuck:?}");
    assert_eq!((shard.receives, shard.sends), (0, 0), "operations without an answer");
    assert_eq!(net.port(port).buffers_out(), 0, "buffers not recycled");
    assert_eq!((net.port(port).connections(), net.connections()), (0, 0), "connections left open");
    assert_eq!(shard.accept_errors, net.port(port).counters.accept_errors);
    let whole = || book.values().filter(|c| c.state == State::Whole);
    Outcome {
        hash: net.trace().hash(),
        whole: whole().count(),
        cut: book.len() - whole().count(),
        bytes: whole().map(|c| c.got.len()).sum(),
    }
}
