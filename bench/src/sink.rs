//! Clients that swallow: a thread whose connections ask for something and throw away a known number of bytes.
//!
//! Bytes are discarded in the kernel (MSG_TRUNC), so that what is measured is whoever sends them. Nothing is checked but
//! their number.

#![allow(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use breakwater::base::limits::{HEADER_LEN, PROTOCOL_VERSION};
use breakwater::wire::{Services, Version, write};
use bytes::Bytes;

use crate::{MAGIC, Outcome, os};

/// A connection that gives nothing for this long fails.
const SILENCE: Duration = Duration::from_secs(60);

/// One round: what each connection says, and how many bytes it then takes.
pub(crate) struct Round {
    /// By connection.
    pub(crate) requests: Vec<Bytes>,
    /// The same for each.
    pub(crate) bytes: u64,
}

/// The thread with the connections.
pub(crate) struct Sink {
    rounds: SyncSender<Round>,
    done: Receiver<()>,
    thread: JoinHandle<Outcome>,
}

impl Sink {
    /// Connects, with a handshake when `shake`; [`Sink::is_done`] says when all are ready.
    pub(crate) fn start(target: SocketAddr, count: u32, shake: bool, core: usize) -> Sink {
        let (rounds, orders) = mpsc::sync_channel(1);
        let (tell, done) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            os::pin(core);
            let mut streams = Vec::new();
            for _ in 0..count {
                let mut stream = TcpStream::connect(target)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(SILENCE))?;
                if shake {
                    handshake(&mut stream, target)?;
                }
                streams.push(stream);
            }
            let _ = tell.send(());
            for round in orders {
                swallow(&mut streams, &round)?;
                // Whoever asked may be gone.
                let _ = tell.send(());
            }
            Ok(())
        });
        Sink { rounds, done, thread }
    }

    /// Begins a round.
    pub(crate) fn begin(&self, round: Round) -> Outcome {
        self.rounds.send(round).map_err(|_| "the clients have ended".into())
    }

    /// True once when the connections are ready, and once after each round.
    ///
    /// # Errors
    /// The thread has ended.
    pub(crate) fn is_done(&self) -> Outcome<bool> {
        match self.done.try_recv() {
            Ok(()) => Ok(true),
            Err(mpsc::TryRecvError::Empty) => Ok(false),
            Err(mpsc::TryRecvError::Disconnected) => Err("the clients have ended".into()),
        }
    }

    /// Waits for the same.
    pub(crate) fn wait(&self) -> Outcome {
        self.done.recv().map_err(|_| "the clients have ended".into())
    }

    /// Closes all connections.
    pub(crate) fn stop(self) -> Outcome {
        drop((self.rounds, self.done));
        self.thread.join().map_err(|_| "the clients ended by a panic")?
    }
}

/// Shakes hands, and reads on until a ping of ours is answered: what the relay says of itself is through.
pub(crate) fn handshake(stream: &mut TcpStream, target: SocketAddr) -> Outcome {
    let version = Version {
        version: PROTOCOL_VERSION,
        services: Services::empty(),
        time: 1_700_000_000,
        receiver: target,
        nonce: 7 << 40 | u64::from(stream.local_addr()?.port()),
        user_agent: b"/breakwater-sink:0.1/",
        start_height: 0,
        relay: false,
    };
    let mut out = Vec::new();
    write::version(&mut out, MAGIC, &version);
    write::empty(&mut out, MAGIC, "verack");
    write::ping(&mut out, MAGIC, 1);
    stream.write_all(&out)?;
    loop {
        if frame(stream)?.starts_with(b"pong\0") {
            return Ok(());
        }
    }
}

/// Reads a message; gives its command.
pub(crate) fn frame(stream: &mut TcpStream) -> Outcome<[u8; 12]> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header)?;
    let mut command = [0; 12];
    command.copy_from_slice(&header[4..16]);
    let mut length = [0; 4];
    length.copy_from_slice(&header[16..20]);
    std::io::copy(&mut stream.take(u32::from_le_bytes(length).into()), &mut std::io::sink())?;
    Ok(command)
}

fn swallow(streams: &mut [TcpStream], round: &Round) -> Outcome {
    for (stream, request) in streams.iter_mut().zip(&round.requests) {
        stream.write_all(request)?;
    }
    let mut left: Vec<u64> = streams.iter().map(|_| round.bytes).collect();
    let mut polls: Vec<libc::pollfd> = streams
        .iter()
        .map(|stream| libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let mut place = vec![0u8; 1 << 20];
    while left.iter().any(|left| *left > 0) {
        // SAFETY: as many entries as are named; an entry with a negative descriptor is passed over.
        if unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as u64, SILENCE.as_millis() as i32) } == 0 {
            return Err(format!("nothing came for {SILENCE:?}").into());
        }
        for (poll, left) in polls.iter_mut().zip(&mut left).filter(|(poll, _)| poll.revents != 0) {
            let most = (*left).min(place.len() as u64) as usize;
            let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
            // SAFETY: `most` bytes are writable at `place`.
            let got = unsafe { libc::recv(poll.fd, place.as_mut_ptr().cast(), most, flags) };
            if got <= 0 {
                return Err("a connection has ended".into());
            }
            *left -= got as u64;
            if *left == 0 {
                poll.fd = -1;
            }
        }
    }
    Ok(())
}
