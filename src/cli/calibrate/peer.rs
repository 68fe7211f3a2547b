//! A client on a blocking socket: shakes hands, asks, and counts what comes until the answer is there.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::ValueEnum;

use crate::base::limits::PROTOCOL_VERSION;
use crate::cli::Failure;
use crate::stub::MAGIC;
use crate::stub_host::unix_time;
use crate::transport::Pipe;
use crate::wire::{Message, Services, Step, Version, parse, write};

/// Longest wait for the next bytes of an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes read at a time.
const READ: usize = 256 * 1024;

/// What is spoken with the relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Transport {
    /// v1, not encrypted.
    Plain,
    /// BIP324.
    V2,
}

/// What has to come before the next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Until {
    /// Messages of this name,
    pub(super) command: &'static str,
    /// so many.
    pub(super) count: u32,
}

/// What has come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Got {
    /// Bytes on the socket.
    pub(super) bytes: u64,
    /// Entries of `inv` messages.
    pub(super) entries: u64,
}

/// A client.
#[derive(Debug)]
pub(super) struct Peer {
    stream: TcpStream,
    pipe: Pipe,
    /// What has been opened and not been looked at.
    plain: Vec<u8>,
    /// To be sent.
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Peer {
    /// Connects and shakes hands. It wants to hear of no transactions.
    pub(super) fn connect(address: SocketAddr, transport: Transport) -> Result<Peer, Failure> {
        let stream = TcpStream::connect(address).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = stream.map_err(|error| failed(&error))?;
        let mut out = Vec::new();
        let pipe = match transport {
            Transport::Plain => Pipe::plain(MAGIC),
            Transport::V2 => Pipe::v2(MAGIC, &mut rand::rng(), &mut out),
        };
        let mut peer = Peer { stream, pipe, plain: Vec::new(), out, buffer: vec![0; READ] };
        let mut hello = Vec::new();
        let version = Version {
            version: PROTOCOL_VERSION,
            services: Services::empty(),
            time: i64::try_from(unix_time()).unwrap_or(i64::MAX),
            receiver: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            nonce: rand::random(),
            user_agent: b"/breakwater-calibrate/",
            start_height: 0,
            relay: false,
        };
        write::version(&mut hello, MAGIC, &version);
        write::empty(&mut hello, MAGIC, "wtxidrelay");
        write::empty(&mut hello, MAGIC, "verack");
        peer.ask(&hello)?;
        peer.wait(Until { command: "verack", count: 1 })?;
        // What follows the handshake of its own accord (sendheaders, feefilter, ...) comes before the answer to this.
        let mut ping = Vec::new();
        write::ping(&mut ping, MAGIC, 1);
        peer.ask(&ping)?;
        peer.wait(Until { command: "pong", count: 1 })?;
        Ok(peer)
    }

    /// Sends messages, given as v1 frames.
    pub(super) fn ask(&mut self, frames: &[u8]) -> Result<(), Failure> {
        self.pipe.send(frames, &mut self.out);
        self.flush()
    }

    /// Reads until all of that has come.
    pub(super) fn wait(&mut self, until: Until) -> Result<Got, Failure> {
        let (mut got, mut left) = (Got::default(), until.count);
        loop {
            self.look(until.command, &mut left, &mut got)?;
            if left == 0 {
                return Ok(got);
            }
            let count = self.stream.read(&mut self.buffer).map_err(|error| {
                Failure::Other(format!(
                    "no {} came ({} of {} were missing): {error}",
                    until.command, left, until.count
                ))
            })?;
            if count == 0 {
                return Err(Failure::Other(format!(
                    "the relay has closed a connection instead of sending {}",
                    until.command
                )));
            }
            got.bytes += count as u64;
            let came = self.buffer.get_mut(..count).unwrap_or_default();
            self.pipe.received(came, &mut self.plain, &mut self.out).map_err(|end| {
                Failure::Other(format!("a connection with the relay ended: {}", end.label()))
            })?;
            self.flush()?;
        }
    }

    /// Looks at the whole messages that have come.
    fn look(&mut self, command: &str, left: &mut u32, got: &mut Got) -> Result<(), Failure> {
        let mut at = 0;
        // Before the transport is open there is nothing.
        while self.pipe.is_open() && *left > 0 {
            match self.pipe.framing().split(self.plain.get(at..).unwrap_or_default()) {
                Step::Need(_) => break,
                Step::Message { command: name, payload, used } => {
                    at += used;
                    match parse(&name, payload) {
                        Ok(Message::Ping(nonce)) => {
                            let mut pong = Vec::new();
                            write::pong(&mut pong, MAGIC, nonce);
                            self.pipe.send(&pong, &mut self.out);
                        }
                        Ok(Message::Inv(list)) => got.entries += list.len() as u64,
                        Ok(Message::NotFound(list)) => {
                            return Err(Failure::Other(format!(
                                "the relay has not {} of what was asked for",
                                list.len()
                            )));
                        }
                        _ => {}
                    }
                    *left -= u32::from(name.name() == command);
                }
                Step::Drop { .. } | Step::End(_) => {
                    return Err(Failure::Other("the relay has sent what is no message".into()));
                }
            }
        }
        self.plain.drain(..at);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() {
            return Ok(());
        }
        let result = self.stream.write_all(&self.out).map_err(|error| failed(&error));
        self.out.clear();
        result
    }
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::Other(format!("a connection with the relay: {error}"))
}
