//! One TCP connection as two byte streams with bounded buffers.

use std::collections::VecDeque;
use std::net::SocketAddr;

use breakwater::base::Instant;
use breakwater::io::IoEnd;

/// A connection of the simulated network; never reused.
pub type TcpId = u32;

/// Whose an end of a connection is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// In a listener's backlog, or not yet there.
    Nobody,
    /// A shard's kernel and the number there.
    Port(usize, u32),
    /// Something outside of the shards: a client, the hub's side of a node link, a node.
    Actor(u64),
}

/// What travels, in order.
#[derive(Debug)]
pub enum Segment {
    /// Bytes.
    Data(Vec<u8>),
    /// The end of the stream.
    Fin,
}

/// The way from one end to the other.
#[derive(Debug)]
pub struct Pipe {
    /// Most bytes in flight and unread together.
    pub capacity: usize,
    /// Bytes in flight and unread.
    pub used: usize,
    /// On the way, oldest first; one `Arrive` event each.
    pub flight: VecDeque<Segment>,
    /// There and unread.
    pub arrived: VecDeque<u8>,
    /// True exactly when the end of the stream is on its way or there.
    pub fin_sent: bool,
    /// True exactly when the end of the stream is there.
    pub fin_arrived: bool,
    /// When the last segment arrives: segments never overtake one another.
    pub last_at: Instant,
}

/// One end of a connection.
#[derive(Debug)]
pub struct TcpEnd {
    /// Whose it is.
    pub owner: Owner,
    /// True exactly when the owner has not closed it and no reset has come.
    pub open: bool,
    /// Why nothing works any more, once a reset or an error has come.
    pub dead: Option<IoEnd>,
    /// An actor's bytes that the socket has not taken yet.
    pub out: VecDeque<u8>,
    /// True exactly when the end of the stream follows `out`.
    pub fin_wanted: bool,
    /// True exactly when an actor takes what arrives; a port's end takes by `Op::Receive`.
    pub reading: bool,
    /// Towards the other end.
    pub pipe: Pipe,
}

impl TcpEnd {
    /// An open end with nothing sent.
    pub fn new(owner: Owner, capacity: usize) -> TcpEnd {
        let pipe = Pipe {
            capacity,
            used: 0,
            flight: VecDeque::new(),
            arrived: VecDeque::new(),
            fin_sent: false,
            fin_arrived: false,
            last_at: Instant(0),
        };
        TcpEnd { owner, open: true, dead: None, out: VecDeque::new(), fin_wanted: false, reading: true, pipe }
    }
}

/// A connection: end 0 connected, end 1 was connected to.
#[derive(Debug)]
pub struct Tcp {
    /// The ends.
    pub ends: [TcpEnd; 2],
    /// Address of end 0.
    pub peer: SocketAddr,
    /// One-way latency, microseconds.
    pub latency_us: u64,
    /// How its segments are cut.
    pub cut: Cut,
}

/// How a stream is cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As written.
    Whole,
    /// At 1,460 bytes.
    Mtu,
    /// Anywhere.
    Any,
    /// A byte at a time, for the first bytes of each write.
    Bytes,
}
