//! Single clients on blocking sockets whose every moment is noted: when an answer is here, when the connection has ended, when
//! bytes have come. For what is measured of one client, where the rig measures crowds.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use breakwater::base::limits::{HEADER_LEN, MAX_BLOCKS_IN_FLIGHT, PROTOCOL_VERSION};
use breakwater::stub::client::Headers;
use breakwater::wire::{Hash, Inv, InvKind, Message, Services, Step, Version, parse, sha256d, split, write};
use socket2::{Domain, Socket, Type};

use crate::{MAGIC, Outcome};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes read at a time.
const READ: usize = 256 * 1024;
/// Arrivals of a download that are kept: hours at any rate this host reaches.
const MOST_ARRIVALS: usize = 4_000_000;

/// A client.
#[derive(Debug)]
pub(crate) struct Witness {
    stream: TcpStream,
    input: Vec<u8>,
    buffer: Vec<u8>,
}

/// What came of waiting for something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came<T> {
    /// It is here.
    Yes(T),
    /// The relay has ended the connection.
    Ended,
    /// Time is over.
    Late,
}

impl Witness {
    /// Connects from an address of this host, and shakes hands.
    ///
    /// # Errors
    /// It cannot, or the relay does not want it.
    pub(crate) fn connect(target: SocketAddr, source: Ipv4Addr) -> Outcome<Witness> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&target.into(), PATIENCE)?;
        socket.set_tcp_nodelay(true)?;
        let mut witness = Witness { stream: socket.into(), input: Vec::new(), buffer: vec![0; READ] };
        let version = Version {
            version: PROTOCOL_VERSION,
            services: Services::empty(),
            time: 1_700_000_000,
            receiver: target,
            nonce: 7,
            user_agent: b"/breakwater-witness:0.1/",
            start_height: 0,
            relay: false,
        };
        let mut out = Vec::new();
        write::version(&mut out, MAGIC, &version);
        write::empty(&mut out, MAGIC, "verack");
        witness.say(&out)?;
        match witness.until(PATIENCE, |message| matches!(message, Message::Verack).then_some(()))? {
            Came::Yes(()) => Ok(witness),
            other => Err(format!("a single client from {source} got no verack: {other:?}").into()),
        }
    }

    /// Where it connects from.
    pub(crate) fn address(&self) -> Outcome<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends bytes.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> Outcome {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Waits for the end of the connection.
    pub(crate) fn end(&mut self, limit: Duration) -> Outcome<bool> {
        Ok(self.until(limit, |_| None::<()>)? == Came::Ended)
    }

    /// One ping and its pong.
    pub(crate) fn ping(&mut self, nonce: u64, limit: Duration) -> Outcome<bool> {
        let mut out = Vec::new();
        write::ping(&mut out, MAGIC, nonce);
        self.say(&out)?;
        let pong = |message: &Message<'_>| matches!(message, Message::Pong(n) if *n == nonce).then_some(());
        Ok(self.until(limit, pong)? == Came::Yes(()))
    }

    /// Asks for headers from genesis on: the blocks' hashes.
    pub(crate) fn headers(&mut self) -> Outcome<Came<Vec<Hash>>> {
        let mut out = Vec::new();
        let genesis = *Headers::genesis(MAGIC).tip();
        write::locator(&mut out, MAGIC, "getheaders", [genesis].iter(), &[0; 32]);
        self.say(&out)?;
        self.until(PATIENCE, |message| match message {
            Message::Headers(list) => Some(list.iter().map(|header| sha256d(header)).collect()),
            _ => None,
        })
    }

    /// Reads until `wanted` makes something of a message.
    fn until<T>(&mut self, limit: Duration, wanted: impl Fn(&Message<'_>) -> Option<T>) -> Outcome<Came<T>> {
        let start = Instant::now();
        loop {
            let mut used = 0;
            while let Step::Message { command, payload, used: length } =
                split(MAGIC, self.input.get(used..).unwrap_or(&[]))
            {
                used += length;
                if let Some(found) = parse(&command, payload).ok().as_ref().and_then(&wanted) {
                    self.input.drain(..used);
                    return Ok(Came::Yes(found));
                }
            }
            self.input.drain(..used);
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(Came::Late);
            }
            match self.read(left)? {
                Some(0) => return Ok(Came::Ended),
                Some(bytes) => self.input.extend_from_slice(&self.buffer[..bytes]),
                None => return Ok(Came::Late),
            }
        }
    }

    /// Bytes that came within `limit`; 0 at the end, however it ended.
    fn read(&mut self, limit: Duration) -> Outcome<Option<usize>> {
        self.stream.set_read_timeout(Some(limit))?;
        match self.stream.read(&mut self.buffer) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Ok(Some(0))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A client that downloads the same blocks over and over and notes what comes when. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Download {
    arrivals: Arc<Mutex<Vec<(Instant, u32)>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Download {
    /// Begins: these blocks, at most 16, each of so many bytes without the message's header.
    pub(crate) fn start(mut witness: Witness, blocks: &[Hash], block_bytes: usize) -> Outcome<Download> {
        let (arrivals, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS_IN_FLIGHT)];
        let list = blocks.iter().map(|hash| Inv { kind: InvKind::WitnessBlock, hash: *hash });
        let (mut question, round) = (Vec::new(), blocks.len() * (block_bytes + HEADER_LEN));
        write::inventory(&mut question, MAGIC, "getdata", list);
        let (noted, end) = (arrivals.clone(), over.clone());
        let thread = std::thread::Builder::new().name("download".into()).spawn(move || {
            let mut awaited = 0;
            while !end.load(Ordering::Acquire) {
                // The next question is there before the last one is answered.
                if awaited <= round && witness.say(&question).is_ok() {
                    awaited += round;
                }
                match witness.read(Duration::from_millis(200)) {
                    Ok(Some(bytes)) if bytes > 0 => {
                        awaited = awaited.saturating_sub(bytes);
                        let mut arrivals = noted.lock().unwrap_or_else(PoisonError::into_inner);
                        if arrivals.len() < MOST_ARRIVALS {
                            arrivals.push((Instant::now(), bytes as u32));
                        }
                    }
                    Ok(None) => {}
                    // Its end is seen by who looks for arrivals.
                    _ => return,
                }
            }
        })?;
        Ok(Download { arrivals, over, thread: Some(thread) })
    }

    /// What came between two moments.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<(Instant, u32)> {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.iter().filter(|(at, _)| (from..to).contains(at)).copied().collect()
    }

    /// Bytes per second between two moments: of the arrivals between, from the first to the last. What comes in lumps counts from
    /// the beginning of one to the beginning of another, so that where the window cuts makes no difference.
    pub(crate) fn rate(&self, from: Instant, to: Instant) -> f64 {
        rate(&self.between(from, to))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It looks at least five times a second.
            let _ = thread.join();
        }
    }
}

/// Silence that tells one lump from the next.
const GAP: Duration = Duration::from_millis(10);
/// Lumps that make a rate.
const LUMPS: usize = 5;

fn rate(arrivals: &[(Instant, u32)]) -> f64 {
    let (Some((first, _)), Some((last, at_last))) = (arrivals.first(), arrivals.last()) else { return 0.0 };
    let sum = |part: &[(Instant, u32)]| part.iter().map(|(_, bytes)| f64::from(*bytes)).sum::<f64>();
    let gap = |n: &usize| arrivals[*n].0 - arrivals[n - 1].0 >= GAP;
    let begins: Vec<usize> = (1..arrivals.len()).filter(gap).collect();
    if let (true, Some(from), Some(to)) = (begins.len() >= LUMPS, begins.first(), begins.last()) {
        return sum(&arrivals[*from..*to]) / (arrivals[*to].0 - arrivals[*from].0).as_secs_f64();
    }
    let span = (*last - *first).as_secs_f64();
    if span > 0.0 { (sum(arrivals) - f64::from(*at_last)) / span } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_lumps_does_not_depend_on_the_window() {
        let start = Instant::now();
        // 100 KB every 100 ms in two parts.
        let lump = |n: u64| {
            let at = start + Duration::from_millis(100 * n);
            [(at, 60_000), (at + Duration::from_millis(1), 40_000)]
        };
        let all: Vec<(Instant, u32)> = (0..20).flat_map(lump).collect();
        for cut in 0..4 {
            let rate = rate(&all[cut..all.len() - cut]);
            assert!((rate - 1e6).abs() < 1.0, "{rate}");
        }
        let steady: Vec<(Instant, u32)> =
            (0..1_001).map(|n| (start + Duration::from_millis(n), 1_000)).collect();
        assert!((rate(&steady) - 1e6).abs() < 1.0);
        assert_eq!((rate(&[]), rate(&all[..1])), (0.0, 0.0));
    }
}
