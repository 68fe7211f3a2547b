//! Starts the shards: listening addresses, links, threads, rings.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::Failure;
use crate::base::sizes::sweep_per_turn;
use crate::base::{Nonces, ServiceId, ShardId};
use crate::control::Config;
use crate::control::services::ServiceConfig;
use crate::hub::command;
use crate::link::{self, Doorbell, HubEnd};
use crate::ring::{self, Ring, RingConfig};
use crate::shard::{ListenerKind, Service, Shard, ShardConfig};
use crate::transport::tls;

/// What keeps ports, by service.
type Reserved = Vec<Vec<OwnedFd>>;

/// Shards that run and wait for the hub to open them.
pub(super) struct Host {
    /// The hub's ends of the links, one per shard.
    pub(super) links: Vec<HubEnd>,
    /// Wakes the hub.
    pub(super) bell: Doorbell,
    /// Where clients connect, ports resolved.
    pub(super) addresses: Vec<SocketAddr>,
    /// Where clients connect with TLS.
    pub(super) tls_addresses: Vec<SocketAddr>,
    /// The services, in the order of their numbers, ports resolved.
    pub(super) services: Vec<command::Service>,
    threads: Vec<JoinHandle<()>>,
    /// Keeps the ports ours while no shard listens, by service.
    reserved: Reserved,
}

impl Host {
    /// Starts the shards of a configuration; each makes its ring on its own thread.
    pub(super) fn start(
        config: &Config,
        nonces: Nonces,
        seed: u64,
        tls: Option<Arc<tls::Server>>,
    ) -> Result<Host, Failure> {
        let mut addresses = Vec::new();
        let mut reserved: Reserved = config.every_service().iter().map(|_| Vec::new()).collect();
        let mut listeners = Vec::new();
        for (at, listener) in config.every_listener() {
            let (address, socket) = ring::reserve(at).map_err(|e| Failure::Other(e.to_string()))?;
            addresses.push(address);
            if let Some(its) = reserved.get_mut(usize::from(listener.service.0)) {
                its.push(socket);
            }
            listeners.push(listener);
        }
        let services = config.every_service();
        let rules = |(number, service)| config.rules(ServiceId(number as u8), service);
        let services: Vec<Service> = services.iter().enumerate().map(rules).collect();
        let other = |error: std::io::Error| Failure::Other(format!("no doorbell: {error}"));
        let bell = Doorbell::new().map_err(other)?;
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let (ready, started) = mpsc::sync_channel(config.shards);
        let on_core = config.shards.div_ceil(cores.len().max(1));
        let (mut links, mut threads) = (Vec::new(), Vec::new());
        for n in 0..config.shards {
            let shard_bell = Doorbell::new().map_err(other)?;
            let (hub_end, shard_end) = link::pair(shard_bell.clone(), bell.clone()).map_err(other)?;
            links.push(hub_end);
            let ring = RingConfig {
                listeners: addresses.clone(),
                doorbell: shard_bell,
                shares_core: on_core > 1,
                ..RingConfig::sized(config.clients_per_shard())
            };
            let shard = ShardConfig {
                id: ShardId(n as u16),
                magic: config.magic(),
                max_clients: config.clients_per_shard(),
                max_per_address: config.max_per_address,
                listeners: listeners.clone(),
                services: services.clone(),
                probe_exempt: config.probes.exempt.clone(),
                costs: config.costs.clone(),
                probe_limits: config.probes.limits.per_shard(config.shards as u32),
                capacity: config.treasury().part(config.shards as u64),
                house: config.rules,
                v2: config.v2,
                tls: tls.clone(),
                handshakes: config.handshakes.share(config.shards as u32),
                secret: rand::random(),
                tx_interval: config.tx_interval,
                buffer_budget: config.buffer_bytes,
                sweep: sweep_per_turn(on_core),
                nonces,
                seed: seed.wrapping_add(n as u64),
            };
            let core = (!cores.is_empty()).then(|| cores[n % cores.len()]);
            let ready = ready.clone();
            let thread = std::thread::Builder::new().name(format!("shard-{n}")).spawn(move || {
                if let Some(core) = core
                    && !core_affinity::set_for_current(core)
                {
                    tracing::warn!(shard = n, "the shard could not be pinned to its core");
                }
                if on_core > 1 {
                    ring::ask_for_short_slices();
                }
                let ring = match Ring::new(ring) {
                    Ok(ring) => ring,
                    Err(error) => {
                        let _ = ready.send(Err(error.to_string()));
                        return;
                    }
                };
                let mut shard = Shard::new(shard, ring, shard_end);
                let _ = ready.send(Ok(()));
                let mut gone = 0;
                while shard.turn() {
                    if shard.core().crowds_gone() != gone {
                        gone = shard.core().crowds_gone();
                        ring::give_memory_back();
                    }
                }
            });
            threads
                .push(thread.map_err(|error| Failure::Other(format!("no thread for shard {n}: {error}")))?);
        }
        drop(ready);
        for result in started.iter().take(config.shards) {
            result.map_err(Failure::Other)?;
        }
        let of = |kind| {
            let all = addresses.iter().zip(&listeners);
            all.filter(|(_, listener)| listener.kind == kind).map(|(at, _)| *at).collect::<Vec<_>>()
        };
        let shown = |(number, service): (usize, &ServiceConfig)| {
            let number = ServiceId(number as u8);
            let its = addresses.iter().zip(&listeners).filter(|(_, listener)| listener.service == number);
            config.shown(service, its.map(|(at, _)| *at).collect())
        };
        let services = config.every_service().iter().enumerate().map(shown).collect();
        let (addresses, tls_addresses) = (of(ListenerKind::Plain), of(ListenerKind::Tls));
        Ok(Host { services, links, bell, addresses, tls_addresses, threads, reserved })
    }

    /// Waits for the shards to end; the hub has told them to.
    pub(super) fn join(threads: Vec<JoinHandle<()>>) {
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a shard ended by a panic");
            }
        }
    }

    /// Splits off what the hub needs.
    pub(super) fn split(self) -> (Vec<HubEnd>, Doorbell, Vec<JoinHandle<()>>, Reserved) {
        (self.links, self.bell, self.threads, self.reserved)
    }
}
