//! A ring with peers to talk to.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use breakwater::base::{ClientId, Conn, Instant};
use breakwater::io::{Done, IoEnd, Kernel, ListenerId, Op, Payload};
use breakwater::ring::{Ring, RingConfig};

pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const LISTENER: ListenerId = ListenerId(0);

pub(super) struct Rig {
    pub(super) ring: Ring,
    pub(super) dones: Vec<Done>,
    next_slot: u32,
}

impl Rig {
    pub(super) fn new(config: RingConfig) -> Rig {
        let listeners = config.listeners.len();
        let mut ring = Ring::new(config).unwrap();
        (0..listeners).for_each(|id| ring.push(Op::Listen(ListenerId(id as u8))));
        let mut rig = Rig { ring, dones: Vec::new(), next_slot: 0 };
        rig.look();
        rig
    }

    pub(super) fn local() -> Rig {
        Rig::new(RingConfig { listeners: vec![any_port()], ..RingConfig::default() })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.ring.local_addr(LISTENER).unwrap()
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(super) fn look(&mut self) {
        self.ring.wait(Instant(0), &mut self.dones);
    }

    /// Runs for a while, gathering what comes.
    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.ring.now() + span;
        while self.ring.now() < end {
            self.ring.wait(end, &mut self.dones);
        }
    }

    /// Waits until something fits, and takes it out.
    pub(super) fn expect<T>(&mut self, what: &str, mut fits: impl FnMut(&Done) -> Option<T>) -> T {
        let end = self.ring.now() + PATIENCE;
        loop {
            if let Some(index) = self.dones.iter().position(|done| fits(done).is_some()) {
                return fits(&self.dones.remove(index)).unwrap();
            }
            assert!(self.ring.now() < end, "no {what} came; there is {:?}", self.dones);
            self.ring.wait(end, &mut self.dones);
        }
    }

    pub(super) fn accepted(&mut self) -> (ClientId, Conn, SocketAddr) {
        let (conn, peer) = self.expect("Accepted", |done| match done {
            Done::Accepted { conn, peer, .. } => Some((*conn, *peer)),
            _ => None,
        });
        self.next_slot += 1;
        (ClientId { slot: self.next_slot, generation: 7 }, conn, peer)
    }

    /// A peer and our side of it.
    pub(super) fn pair(&mut self) -> (TcpStream, ClientId, Conn) {
        let stream = self.connect();
        let (client, conn, _) = self.accepted();
        (stream, client, conn)
    }

    /// Receives once, copies and recycles.
    pub(super) fn receive(&mut self, client: ClientId, conn: Conn) -> Result<Vec<u8>, IoEnd> {
        self.ring.push(Op::Receive { client, conn });
        self.received(client)
    }

    pub(super) fn received(&mut self, client: ClientId) -> Result<Vec<u8>, IoEnd> {
        let (buffer, len) = self.expect("Received", |done| match done {
            Done::Received { client: who, buffer, len } if *who == client => Some(Ok((*buffer, *len))),
            Done::ReceiveEnded { client: who, why } if *who == client => Some(Err(*why)),
            _ => None,
        })?;
        let bytes = self.ring.received(buffer, len).to_vec();
        self.ring.push(Op::Recycle(buffer));
        Ok(bytes)
    }

    pub(super) fn send(&mut self, client: ClientId, conn: Conn, bytes: Vec<u8>) {
        self.ring.push(Op::Send { client, conn, payload: Payload::Owned(bytes) });
    }

    pub(super) fn sent(&mut self, client: ClientId) -> (usize, Result<(), IoEnd>) {
        self.expect("Sent", |done| match done {
            Done::Sent { client: who, payload, result } if *who == client => {
                Some((payload.as_slice().len(), *result))
            }
            _ => None,
        })
    }
}

pub(super) fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// What a peer finds at the end of its stream: `Ok` for FIN.
pub(super) fn end_of(mut stream: &TcpStream) -> io::Result<()> {
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
