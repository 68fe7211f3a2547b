//! A link of the rig's own to the node behind a target: it hears of blocks and transactions when the node has them, so that
//! announcements of the relay in front are measured from there.
//!
//! One thread with a blocking socket. When the link is lost it is tried again after a quarter of a second; meanwhile the first
//! client that hears of a thing is its origin, so that after a loss the node is not the origin of all.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use breakwater::wire::{Framing, Magic, write};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::behaviour::Behaviour;
use super::client::{Client, Context, Flow};
use super::engine::Shared;
use super::measure::Tally;
use super::origin::Known;

/// Time for the connection, from one attempt to the next, and for each look at whether to end.
const PATIENCE: Duration = Duration::from_millis(250);
/// Most bytes of a message in parts.
const MOST_INPUT: usize = 8 * 1024 * 1024;

/// There was no link yet.
const NEVER: u8 = 0;
/// There is a link, and always was since the first.
const STAYED: u8 = 1;
/// A link was lost, whether or not there is one again.
const LOST: u8 = 2;

/// The link. Ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    over: Arc<AtomicBool>,
    linked: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

/// Hears of blocks by headers, as soon as they are there.
#[derive(Debug)]
struct Watcher;

impl Behaviour for Watcher {
    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        write::empty(cx.out, cx.magic, "sendheaders");
        Flow::Go
    }
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(node: SocketAddr, magic: Magic, shared: Arc<Shared>) -> std::io::Result<Watch> {
        let (over, linked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU8::new(NEVER)));
        let (end, tell) = (over.clone(), linked.clone());
        let thread = std::thread::Builder::new().name("rig-watch".into()).spawn(move || {
            while !end.load(Ordering::Acquire) {
                // Whatever it failed with, it is tried again; the report says whether there was a link.
                let _ = listen(node, magic, &shared, &end, &tell);
                if !end.load(Ordering::Acquire) {
                    step(&tell, STAYED, LOST);
                }
                std::thread::sleep(PATIENCE);
            }
        })?;
        Ok(Watch { over, linked, thread: Some(thread) })
    }

    /// True exactly when the node has completed a handshake and the link was not lost since.
    pub fn stayed_linked(&self) -> bool {
        self.linked.load(Ordering::Acquire) == STAYED
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It looks at least every PATIENCE; a panic there ends the watching, not the run.
            let _ = thread.join();
        }
    }
}

/// Goes on from one state; leaves any other alone.
fn step(linked: &AtomicU8, from: u8, to: u8) {
    let _ = linked.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
}

fn listen(
    node: SocketAddr,
    magic: Magic,
    shared: &Shared,
    over: &AtomicBool,
    linked: &AtomicU8,
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&node, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut client, mut tally, mut known) =
        (Client::new(Box::new(Watcher)), Tally::default(), Known::default());
    // The watcher has nothing in common with the clients.
    let common = crate::rig::behaviour::shared::Shared::new(0, magic);
    let (mut rng, mut out) = (SmallRng::seed_from_u64(0), Vec::new());
    let (mut input, mut buffer, mut begun) = (Vec::new(), vec![0; 64 * 1024], false);
    while !over.load(Ordering::Acquire) && input.len() < MOST_INPUT {
        let got = match begun {
            false => 0,
            true => match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(got) => got,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            },
        };
        input.extend_from_slice(&buffer[..got]);
        let mut cx = Context {
            now: shared.now(),
            unix_start: shared.unix_start,
            magic,
            framing: Framing::V1(magic),
            target: node,
            ping_every: Duration::ZERO,
            number: u32::MAX,
            out: &mut out,
            tally: &mut tally,
            shared: &common,
            origins: &shared.origins,
            known: &mut known,
            rng: &mut rng,
        };
        let (used, flow) = match std::mem::replace(&mut begun, true) {
            false => (0, client.start(&mut cx)),
            true => client.received(&mut cx, &input),
        };
        input.drain(..used);
        stream.write_all(&out)?;
        out.clear();
        if flow != Flow::Go {
            return Ok(());
        }
        if client.is_ready() {
            step(linked, NEVER, STAYED);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    fn until(what: &str, fits: impl Fn() -> bool) {
        let start = Instant::now();
        while !fits() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what} did not come");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_link_that_was_lost_does_not_count_when_it_is_back() {
        let magic = breakwater::stub::MAGIC;
        let node = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Shared::new(1, magic);
        let watch = Watch::start(node.local_addr().unwrap(), magic, shared).unwrap();
        assert!(!watch.stayed_linked(), "no handshake yet");
        let greet = || {
            let mut stream = node.accept().unwrap().0;
            let mut out = Vec::new();
            write::empty(&mut out, magic, "verack");
            stream.write_all(&out).unwrap();
            stream
        };
        let first = greet();
        until("a link", || watch.stayed_linked());
        drop(first);
        until("the loss", || !watch.stayed_linked());
        let mut second = greet();
        // Its answer to the handshake (sendheaders) has come: the link is there again.
        let (mut input, mut buffer) = (Vec::new(), [0; 512]);
        while !input.windows(11).any(|bytes| bytes == b"sendheaders") {
            let got = second.read(&mut buffer).unwrap();
            assert!(got > 0, "the watch left");
            input.extend_from_slice(&buffer[..got]);
        }
        assert!(!watch.stayed_linked());
    }
}
