//! A link of the rig's own to the node behind a target: it hears of blocks and transactions when the node has them, so that
//! announcements of the relay in front are measured from there.
//!
//! One thread with a blocking socket. When the link is lost it is tried again every second; meanwhile the first client that
//! hears of a thing is its origin.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use breakwater::wire::{Magic, write};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::behaviour::Behaviour;
use super::client::{Client, Context, Flow};
use super::engine::Shared;
use super::measure::Tally;
use super::origin::Known;

/// Time for the connection, and for each look at whether to end.
const PATIENCE: Duration = Duration::from_millis(250);
/// Most bytes of a message in parts.
const MOST_INPUT: usize = 8 * 1024 * 1024;

/// The link. Ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    over: Arc<AtomicBool>,
    linked: Arc<AtomicBool>,
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
        let (over, linked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (end, tell) = (over.clone(), linked.clone());
        let thread = std::thread::Builder::new().name("rig-watch".into()).spawn(move || {
            while !end.load(Ordering::Acquire) {
                // Whatever it failed with, it is tried again; the report says whether there was a link.
                let _ = listen(node, magic, &shared, &end, &tell);
                std::thread::sleep(PATIENCE);
            }
        })?;
        Ok(Watch { over, linked, thread: Some(thread) })
    }

    /// True once the node has completed a handshake.
    pub fn was_linked(&self) -> bool {
        self.linked.load(Ordering::Acquire)
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

fn listen(
    node: SocketAddr,
    magic: Magic,
    shared: &Shared,
    over: &AtomicBool,
    linked: &AtomicBool,
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
            linked.store(true, Ordering::Release);
        }
    }
    Ok(())
}
