//! The relay as `breakwater run` starts it, its hub on a thread of its own, its store in a folder that is removed. The
//! certificate it shows to clients over TLS is made at the start and signed by itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use toml::{Table, Value};

use super::board::Board;
use crate::admission::{Bans, Ledger, RECENT};
use crate::base::{Nonces, ShardId};
use crate::cli::admin::Door;
use crate::cli::host::Host;
use crate::cli::observe;
use crate::cli::reload::{Reloader, Source};
use crate::cli::{Failure, open_door, run};
use crate::control::admin::Events;
use crate::control::{Config, metrics};
use crate::hub::command::TagNames;
use crate::hub::driver::{self, HubHandle, Observer, Surroundings};
use crate::hub::state::StateFolder;
use crate::hub::{Hub, HubEvent};
use crate::link::ShardReport;
use crate::transport::tls::{self, Pem};
use crate::wire::Hash;

/// From start to the node's tip being known.
const READY: Duration = Duration::from_secs(30);
/// Room in each shard beyond all of the demo's clients, so that others may be tried: examples/two_thousand_peers.
const SPARE: u64 = 4_096;

/// Where clients connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    /// v1 and v2.
    pub(super) open: SocketAddr,
    /// TLS.
    pub(super) tls: SocketAddr,
}

/// The name in the certificate.
pub(super) const NAME: &str = "localhost";

/// The running relay.
#[derive(Debug)]
pub(super) struct Relay {
    /// Where clients connect.
    pub(super) addresses: Addresses,
    /// Its certificate: what clients trust.
    pub(super) certificate: Pem,
    /// The admin interface's socket.
    pub(super) admin: PathBuf,
    hub: JoinHandle<Result<(), Failure>>,
    drain: HubHandle,
    _folder: Folder,
}

impl Relay {
    /// True exactly when the hub has ended without being asked.
    pub(super) fn has_ended(&self) -> bool {
        self.hub.is_finished()
    }

    /// Drains the relay and waits for its end; its folder is removed.
    pub(super) fn drain(self) -> Result<(), Failure> {
        self.drain.drain();
        join(self.hub)
    }
}

/// Starts the relay for this many clients (and more, as far as the limit of open `files` goes) and waits until it accepts
/// them.
pub(super) fn start(
    board: &Arc<Board>,
    node: SocketAddr,
    clients: usize,
    files: u64,
) -> Result<Relay, Failure> {
    let folder = Folder::new()?;
    let (server, certificate) = self_signed()?;
    let config = config(&folder.0, node, clients, files)?;
    let (seed, nonces) = (rand::random(), Nonces::new(rand::random()));
    let host = Host::start(&config, nonces, seed, Some(server.clone()))?;
    let (Some(open), Some(tls)) = (host.addresses.first().copied(), host.tls_addresses.first().copied())
    else {
        return Err(Failure::Other("the relay has not the two addresses it was given".into()));
    };
    let drain = HubHandle::new(host.bell.clone());
    let asked = drain.clone();
    let (ready, told) = mpsc::sync_channel(1);
    let board = board.clone();
    let admin = config.admin.socket.clone().unwrap_or_default();
    let work = move || {
        let services = host.services.clone();
        let (links, bell, threads, reserved) = host.split();
        // Opened on this thread: the store stays where it is made.
        let (store, opened) = run::open_store(&config)?;
        let door = Door::open(&config.admin)?;
        let metrics = metrics::start(None).map_err(Failure::Other)?;
        let mut watch = Watch { board, ready, events: door.events.clone() };
        let hub_config = run::hub_config(&config, seed, nonces);
        let make = |now, unix| {
            Hub::new(hub_config, store, opened, now, unix)
                .map_err(|error| Failure::Other(format!("store: {error}")))
        };
        // What is made here has no files that could be read again.
        let source = Source { file: None, flags: Table::new() };
        let read = (config.clone(), Table::new());
        let (reloader, reloads) = Reloader::new(source, read, Some(server), asked.clone());
        // On an error nobody has told the shards to end: they end with the process.
        let tags = TagNames::new();
        let around = Surroundings {
            links,
            bell,
            handle: asked,
            observer: &mut watch,
            info: run::info(&config),
            services,
            bans: Bans::default(),
            treasury: config.treasury(),
            ledger: Ledger::new(RECENT),
            state: StateFolder(config.network_dir()),
            tags: tags.clone(),
            serve: door.serve(metrics, tags, reloader),
            reserved,
            newcomers: config.newcomers(),
            live: Box::new(reloads),
        };
        driver::run(make, around)?;
        Host::join(threads);
        Ok(())
    };
    let hub = std::thread::Builder::new()
        .name("hub".into())
        .spawn(work)
        .map_err(|error| Failure::Other(format!("no thread for the hub: {error}")))?;
    match told.recv_timeout(READY) {
        Ok(()) => {
            Ok(Relay { addresses: Addresses { open, tls }, certificate, admin, hub, drain, _folder: folder })
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(Failure::Other(format!("the relay was not ready within {} s", READY.as_secs())))
        }
        // The hub has ended: it says why.
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            join(hub)?;
            Err(Failure::Other("the relay ended before it was ready".into()))
        }
    }
}

fn join(hub: JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    hub.join().unwrap_or_else(|_| Err(Failure::Other("the hub ended by a panic".into())))
}

/// A TLS server with a certificate made now, and the certificate. The key is in memory only.
fn self_signed() -> Result<(Arc<tls::Server>, Pem), Failure> {
    let failed = |what: &dyn std::fmt::Display| Failure::Other(format!("no certificate for TLS: {what}"));
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([NAME.to_owned()]).map_err(|error| failed(&error))?;
    let chain = Pem::Text(cert.pem());
    let certificate = tls::Certificate { chain: chain.clone(), key: Pem::Text(signing_key.serialize_pem()) };
    let setup = tls::Setup { certificates: vec![certificate], ..tls::Setup::default() };
    let server = tls::Server::load(&setup, None).map_err(|error| failed(&error))?;
    Ok((server, chain))
}

fn config(folder: &Path, node: SocketAddr, clients: usize, files: u64) -> Result<Config, Failure> {
    let text = |text: &str| Value::String(text.to_owned());
    let flags = Table::from_iter([
        ("network".to_owned(), text("regtest")),
        ("nodes".to_owned(), Value::Array(vec![text(&node.to_string())])),
        ("listen".to_owned(), Value::Array(vec![text("127.0.0.1:0")])),
        ("data_dir".to_owned(), text(&folder.to_string_lossy())),
        ("keep".to_owned(), text("all")),
    ]);
    let flags = flags.into_iter().chain(open_door()).collect();
    let mut config = Config::load(None, flags).map_err(|error| Failure::Other(error.to_string()))?;
    // What it shows there is not read from files.
    config.tls.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    // The kernel spreads clients over the shards as it likes: each has room for all of them.
    let each = (clients as u64 + SPARE).min(files);
    config.max_clients = u32::try_from(each * config.shards as u64).unwrap_or(u32::MAX);
    Ok(config)
}

/// Writes what the relay says on the board.
struct Watch {
    board: Arc<Board>,
    ready: mpsc::SyncSender<()>,
    events: Events,
}

impl Observer for Watch {
    fn event(&mut self, event: &HubEvent) {
        observe::tell(&self.events, event);
        self.board.lock().hub_event(event);
    }

    fn ready(&mut self, _: u32, _: &Hash) {
        // Said once; if nobody waits any more, nobody needs it.
        let _ = self.ready.try_send(());
    }

    fn report(&mut self, shard: ShardId, report: &ShardReport) {
        metrics::publish(shard, report);
        self.board.lock().shard(shard, report);
    }

    fn second(&mut self, hub: &Hub, dropped: u64) {
        metrics::publish_hub(hub, dropped);
        self.board.lock().hub(hub, dropped);
    }
}

/// A temporary folder, removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, Failure> {
        let name = format!("breakwater-demo-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)
            .map_err(|error| Failure::Other(format!("temporary folder {}: {error}", path.display())))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "the temporary folder could not be removed");
        }
    }
}
