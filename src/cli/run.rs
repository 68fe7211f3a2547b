//! `breakwater run`: checks the host, opens the store, starts the shards, runs the hub on this thread.

use std::path::Path;
use std::sync::Arc;

use toml::Table;

use super::Failure;
use super::admin::Door;
use super::doctor;
use super::host::Host;
use super::observe::Log;
use super::reload::{Reloader, Reloads, Source};
use crate::admission::{Bans, Ledger, RECENT};
use crate::base::Nonces;
use crate::control::config::{Config, network_name};
use crate::control::host::Finding;
use crate::control::{logs, metrics};
use crate::hub::command::{Info, TagNames};
use crate::hub::driver::{self, HubHandle, Surroundings};
use crate::hub::state::StateFolder;
use crate::hub::store::{FolderDisk, Store, StoreConfig};
use crate::hub::{Hub, HubConfig, NodeAddr};
use crate::ring;
use crate::transport::tls;

/// Runs until SIGTERM or SIGINT.
pub(super) fn run((mut config, table): (Config, Table), source: Source) -> Result<(), Failure> {
    logs::start(config.log_json, config.log_level);
    let tls = load_tls(&config)?;
    check_host(&mut config)?;
    let metrics = metrics::start(config.metrics).map_err(Failure::Other)?;
    let seed = rand::random();
    let nonces = Nonces::new(rand::random());
    // The store first: a folder that cannot be used is known before a port is taken.
    let store = open_store(&config)?;
    let door = Door::open(&config.admin)?;
    let host = Host::start(&config, nonces, seed, tls.clone())?;
    let mut log = Log::new(&host.addresses, &host.tls_addresses, door.events.clone());
    let services = host.services.clone();
    let (links, bell, threads, reserved) = host.split();
    let drain = HubHandle::new(bell.clone());
    let (reloader, reloads) = Reloader::new(source, (config.clone(), table), tls, drain.clone());
    on_signal(drain.clone(), reloads.clone())?;
    tracing::info!(
        event = %"start",
        network = network_name(config.network),
        shards = config.shards,
        max_clients = config.max_clients,
        admin = %door.name,
        "breakwater {}",
        env!("CARGO_PKG_VERSION")
    );
    let hub_config = hub_config(&config, seed, nonces);
    let (store, opened) = store;
    let make = |now, unix| {
        Hub::new(hub_config, store, opened, now, unix)
            .map_err(|error| Failure::Other(format!("store: {error}")))
    };
    // On an error nobody has told the shards to end: they are not waited for, they end with the process.
    let state = StateFolder(config.network_dir());
    let tags = load(&state, driver::TAGS, TagNames::from_json)?.unwrap_or_default();
    let around = Surroundings {
        links,
        bell,
        handle: drain,
        observer: &mut log,
        info: info(&config),
        services,
        bans: load_bans(&state)?,
        treasury: config.treasury(),
        ledger: load_ledger(&state)?,
        serve: door.serve(metrics, tags.clone(), reloader),
        tags,
        state,
        reserved,
        newcomers: config.newcomers(),
        live: Box::new(reloads),
    };
    driver::run(make, around)?;
    Host::join(threads);
    tracing::info!(event = %"end", "all clients closed, the store is synced");
    Ok(())
}

/// Most lines about settings that cost clients time or connections.
const ADVICE_LINES: usize = 3;

/// Refuses what the host cannot carry, before anything is opened; what is only worse than it could be gets a line in the log.
fn check_host(config: &mut Config) -> Result<(), Failure> {
    file_limit()?;
    let verdict = doctor::examine(config, Path::new("/"), false)?;
    if let Some(refusal) = verdict.refusal() {
        return Err(Failure::Usage(refusal));
    }
    let advice: Vec<&Finding> = verdict.advice().collect();
    for finding in advice.iter().take(ADVICE_LINES) {
        let Finding { what, value, wanted, .. } = finding;
        let mend = finding.mend.as_deref().unwrap_or("run `breakwater doctor`");
        tracing::warn!("host: {what} is {value}, wanted {wanted}: {mend}");
    }
    let more = advice.len().saturating_sub(ADVICE_LINES);
    if more > 0 {
        tracing::warn!("host: {more} more settings could be better: run `breakwater doctor`");
    }
    Ok(())
}

/// The limit of open files, raised as far as it goes.
pub(super) fn file_limit() -> Result<u64, Failure> {
    ring::raise_file_limit().map_err(|error| Failure::Other(format!("the limit of open files: {error}")))
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Other(format!("the hub cannot run: {error}"))
    }
}

/// The hub's part of the configuration.
pub(super) fn hub_config(config: &Config, seed: u64, nonces: Nonces) -> HubConfig {
    HubConfig {
        network: config.network,
        nodes: config.nodes.iter().cloned().map(NodeAddr).collect(),
        shards: config.shards as u16,
        keep: config.keep,
        mempool_bytes: config.mempool_bytes,
        siblings: config.siblings.clone(),
        v2: config.v2,
        allow_mempool: config.allow_mempool,
        user_agent: config.user_agent.clone(),
        seed,
        nonces,
    }
}

/// The bans of the last time.
pub(super) fn load_bans(state: &StateFolder) -> Result<Bans, Failure> {
    Ok(load(state, driver::BANS, Bans::from_json)?.unwrap_or_default())
}

/// The accounts of the last time, and what hosts owed then.
pub(super) fn load_ledger(state: &StateFolder) -> Result<Ledger, Failure> {
    let read = |text: &str| Ledger::from_json(text, RECENT);
    let mut ledger = Ledger::new(RECENT);
    for name in [driver::ACCOUNTS, driver::HOSTS] {
        load(state, name, read)?.iter().for_each(|part| ledger.merge(part));
    }
    Ok(ledger)
}

/// A file of the operator's decisions; none when there is none.
fn load<T, E: std::fmt::Display>(
    state: &StateFolder,
    name: &str,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::Other(format!("{}: {error}", state.0.join(name).display()));
    let text = state.load(name).map_err(|error| failed(&error))?;
    text.map(|text| read(&text).map_err(|error| failed(&error))).transpose()
}

/// What the operator is told of the configuration.
pub(super) fn info(config: &Config) -> Info {
    Info {
        network: network_name(config.network),
        user_agent: config.user_agent.clone(),
        max_clients: u64::from(config.max_clients),
        ..Info::default()
    }
}

/// Opens the network's store, one process at a time.
pub(super) fn open_store(config: &Config) -> Result<(Store, crate::hub::store::Opened), Failure> {
    let dir = config.network_dir();
    let name = dir.display();
    let disk =
        FolderDisk::open(&dir).map_err(|error| Failure::Other(format!("data folder {name}: {error}")))?;
    let mut genesis = [0; 80];
    let header = bitcoin::consensus::serialize(&bitcoin::constants::genesis_block(config.network).header);
    genesis.copy_from_slice(header.get(..80).unwrap_or(&[0; 80]));
    let store = StoreConfig {
        magic: config.magic(),
        genesis,
        keep: config.keep,
        cache_bytes: config.cache_bytes,
        segment_bytes: crate::base::limits::SEGMENT_BYTES,
    };
    Store::open(Box::new(disk), store).map_err(|error| Failure::Other(format!("data folder {name}: {error}")))
}

/// Certificates and keys, when a listener speaks TLS.
fn load_tls(config: &Config) -> Result<Option<Arc<tls::Server>>, Failure> {
    if !config.speaks_tls() {
        return Ok(None);
    }
    tls::Server::load(&config.tls.setup, None).map(Some).map_err(|error| Failure::Usage(error.to_string()))
}

/// SIGTERM and SIGINT drain, SIGHUP reads configuration and certificates again; the thread that waits for them ends with the process.
fn on_signal(drain: HubHandle, reloads: Reloads) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::Other(format!("signals cannot be handled: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let listen = |kind| {
        let _inside = runtime.enter();
        signal(kind).map_err(failed)
    };
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hup = listen(SignalKind::hangup())?;
    let wait = async move {
        let name = loop {
            tokio::select! {
                _ = term.recv() => break "SIGTERM",
                _ = int.recv() => break "SIGINT",
                _ = hup.recv() => reloads.hangup(),
            }
        };
        tracing::info!(event = %"drain", signal = name, "draining");
        drain.drain();
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(wait))
        .map_err(failed)?;
    Ok(())
}
