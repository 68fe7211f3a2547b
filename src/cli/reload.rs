//! Reads configuration and certificates again while the relay runs: what SIGHUP and the admin interface ask for.
//!
//! Everything is read and checked before anything changes. What changes then goes the way of the operator's own commands, step by step. A
//! key that counts only at a start is named as such and left as it is, so that it is named again the next time.
//!
//! Invariant: `Reloader::config` is what is in force, also after a step has failed; so the next reload does the steps that are left.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};
use toml::Table;

use crate::base::ServiceId;
use crate::control::config::{Config, ConfigError};
use crate::control::logs;
use crate::control::services::{FIRST, ServiceConfig};
use crate::hub::NodeAddr;
use crate::hub::command::{Command, Refusal, Reloaded, Reply, ServiceChange, ServiceInfo};
use crate::hub::driver::{HubHandle, Live};
use crate::ring;
use crate::transport::tls;

/// Requests that wait; one more is refused as busy.
const WAITING: usize = 8;
/// Keys whose change takes effect with a reload, besides nodes and services.
const SIMPLE: [&str; 5] = [LOG_LEVEL, TLS[0], TLS[1], TLS[2], TLS[3]];
const LOG_LEVEL: &str = "log_level";
const TLS: [&str; 4] = ["tls_certificates", "tls_client_auth", "tls_client_ca", "tls_ticket_key"];
/// Keys that are slots of the first service.
const SLOTS: [&str; 2] = ["session_slots", "probe_slots"];

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Its file, if there is one.
    pub(super) file: Option<PathBuf>,
    /// What goes before the file.
    pub(super) flags: Table,
}

impl Source {
    pub(super) fn read(&self) -> Result<(Config, Table), ConfigError> {
        Config::read(self.file.as_deref(), self.flags.clone())
    }
}

/// What is asked of the reader.
#[derive(Debug)]
enum Request {
    Configuration(Reply<Reloaded>),
    Certificates(Reply<u64>),
    /// SIGHUP: both, told to the log.
    Both,
}

/// The hand of others on the reader.
#[derive(Clone, Debug)]
pub(super) struct Reloads {
    requests: mpsc::Sender<Request>,
    has_tls: Arc<AtomicBool>,
}

impl Reloads {
    /// SIGHUP has come.
    pub(super) fn hangup(&self) {
        if self.requests.try_send(Request::Both).is_err() {
            tracing::error!(event = %"reload", "not read again: too many reloads are under way");
        }
    }
}

impl Live for Reloads {
    fn reserve(&mut self, at: SocketAddr) -> io::Result<(SocketAddr, OwnedFd)> {
        ring::reserve_now(at)
    }

    fn has_tls(&self) -> bool {
        self.has_tls.load(Ordering::Relaxed)
    }

    fn reload(&mut self, reply: Reply<Reloaded>) {
        if let Err(error) = self.requests.try_send(Request::Configuration(reply))
            && let Request::Configuration(reply) = error.into_inner()
        {
            drop(reply.send(Err(Refusal::Busy)));
        }
    }

    fn reload_certificates(&mut self, reply: Reply<u64>) {
        if let Err(error) = self.requests.try_send(Request::Certificates(reply))
            && let Request::Certificates(reply) = error.into_inner()
        {
            drop(reply.send(Err(Refusal::Busy)));
        }
    }
}

/// Reads again when asked.
#[derive(Debug)]
pub(super) struct Reloader {
    source: Source,
    /// As it is in force: keys that wait for a restart have their old value.
    config: Config,
    table: Table,
    tls: Option<Arc<tls::Server>>,
    handle: HubHandle,
    requests: mpsc::Receiver<Request>,
    has_tls: Arc<AtomicBool>,
}

/// What is to be done about the services.
#[derive(Debug, Default)]
struct ServiceSteps {
    /// By name; without a number it is gone already.
    removed: Vec<(String, Option<ServiceId>)>,
    /// As they are then.
    changed: Vec<(ServiceConfig, Option<(ServiceId, ServiceChange)>)>,
    added: Vec<ServiceConfig>,
}

/// Nodes to be added and to be removed.
#[derive(Debug, Default)]
struct NodeSteps {
    add: Vec<String>,
    remove: Vec<String>,
    /// All of the file, when something changes about them.
    after: Option<Vec<String>>,
}

impl Reloader {
    /// For a relay that runs with this configuration, read from there, and these certificates.
    pub(super) fn new(
        source: Source,
        (config, table): (Config, Table),
        tls: Option<Arc<tls::Server>>,
        handle: HubHandle,
    ) -> (Reloader, Reloads) {
        let (sender, requests) = mpsc::channel(WAITING);
        let has_tls = Arc::new(AtomicBool::new(tls.is_some()));
        let reloads = Reloads { requests: sender, has_tls: has_tls.clone() };
        (Reloader { source, config, table, tls, handle, requests, has_tls }, reloads)
    }

    /// Until nobody can ask any more.
    pub(super) async fn run(mut self, commands: mpsc::Sender<Command>) {
        while let Some(request) = self.requests.recv().await {
            // Whoever asked may have gone.
            match request {
                Request::Configuration(reply) => drop(reply.send(self.configuration(&commands).await)),
                Request::Certificates(reply) => drop(reply.send(self.certificates())),
                Request::Both => self.both(&commands).await,
            }
        }
    }

    async fn both(&mut self, commands: &mpsc::Sender<Command>) {
        if self.tls.is_none() && self.source.file.is_none() {
            return tracing::info!(event = %"reload", "SIGHUP: nothing to read again");
        }
        if self.source.file.is_some() {
            match self.configuration(commands).await {
                Ok(Reloaded { changed, restart }) => {
                    let (changed, restart) = (changed.join(","), restart.join(","));
                    tracing::info!(event = %"reload", changed, restart, "configuration read again");
                }
                Err(error) => {
                    tracing::error!(event = %"reload", "configuration not taken over: {error}");
                }
            }
        }
        if self.tls.is_some() {
            match self.certificates() {
                Ok(certificates) => {
                    tracing::info!(event = %"reload", certificates, "certificates read again")
                }
                Err(error) => {
                    tracing::error!(event = %"reload", "certificates not read again, the old ones stay: {error}");
                }
            }
        }
    }

    /// The files of the configuration in force, anew.
    fn certificates(&mut self) -> Result<u64, Refusal> {
        let Some(server) = self.load(&self.config)? else {
            return Err(Refusal::Conflict("no certificates are configured (`tls_certificates`)".to_string()));
        };
        self.use_tls(Some(server));
        Ok(self.config.tls.setup.certificates.len() as u64)
    }

    /// What cannot be used changes nothing; the error names the file.
    fn load(&self, config: &Config) -> Result<Option<Arc<tls::Server>>, Refusal> {
        if config.tls.setup.certificates.is_empty() {
            return Ok(None);
        }
        let loaded = tls::Server::load(&config.tls.setup, self.tls.as_deref());
        loaded.map(Some).map_err(|error| Refusal::Conflict(error.to_string()))
    }

    fn use_tls(&mut self, server: Option<Arc<tls::Server>>) {
        if let Some(server) = server {
            self.has_tls.store(true, Ordering::Relaxed);
            self.handle.reload(server.clone());
            self.tls = Some(server);
        }
    }

    async fn configuration(&mut self, commands: &mpsc::Sender<Command>) -> Result<Reloaded, Refusal> {
        let (mut fresh, table) = self.source.read().map_err(refused)?;
        // As many as at the start, whatever this host would be given now: slots are parts of it.
        fresh.max_clients = self.config.max_clients;
        let mut reloaded = Reloaded::default();
        let differs = |key: &str| table.get(key) != self.table.get(key);
        // Nobody who speaks TLS is left without a certificate while there are listeners for it.
        let emptied = fresh.tls.setup.certificates.is_empty() && self.tls.is_some();
        let server = if emptied { None } else { self.load(&fresh)? };
        let there = ask(commands, Command::Services).await?;
        let services = self.service_steps(&fresh, &there, &mut reloaded)?;
        let nodes = self.node_steps(&fresh, commands, &mut reloaded).await?;
        for key in SIMPLE.into_iter().filter(|key| differs(key)) {
            let waits = emptied && TLS.contains(&key);
            let list = if waits { &mut reloaded.restart } else { &mut reloaded.changed };
            list.push(key.to_string());
        }
        let live: BTreeSet<&str> = SIMPLE.into_iter().chain(SLOTS).chain(["nodes", "services"]).collect();
        reloaded
            .restart
            .extend(table.keys().filter(|key| differs(key) && !live.contains(key.as_str())).cloned());

        // From here on it counts. What another operator does at the same moment can still make a step fail: it is named then, and what was
        // done before it is kept as in force.
        if fresh.log_level != self.config.log_level {
            logs::set_level(fresh.log_level).map_err(Refusal::Conflict)?;
            self.config.log_level = fresh.log_level;
            self.keep(&table, &[LOG_LEVEL]);
        }
        if !emptied {
            self.use_tls(server);
            self.config.tls.setup = fresh.tls.setup.clone();
            self.keep(&table, &TLS);
        }
        self.do_services(&fresh, services, commands).await?;
        self.do_nodes(nodes, commands).await?;
        reloaded.changed.sort_unstable();
        reloaded.restart.sort_unstable();
        Ok(reloaded)
    }

    /// These keys are in force as they stand there.
    fn keep(&mut self, table: &Table, keys: &[&str]) {
        for key in keys {
            if let Some(value) = table.get(*key) {
                self.table.insert((*key).to_string(), value.clone());
            }
        }
    }

    async fn do_services(
        &mut self,
        fresh: &Config,
        steps: ServiceSteps,
        commands: &mpsc::Sender<Command>,
    ) -> Result<(), Refusal> {
        for (name, id) in steps.removed {
            if let Some(service) = id {
                let done = ask(commands, |reply| Command::RemoveService { service, reply }).await;
                done.map_err(|why| stopped(&format!("service {name} is removed"), &why))?;
            }
            self.config.services.retain(|service| service.name != name);
        }
        for (kept, change) in steps.changed {
            if let Some((service, change)) = change {
                let done = ask(commands, |reply| Command::ChangeService { service, change, reply }).await;
                done.map_err(|why| stopped(&format!("service {} changes", kept.name), &why))?;
            }
            if kept.name == FIRST {
                (self.config.session_slots, self.config.probe_slots) = (kept.session_slots, kept.probe_slots);
            } else if let Some(old) =
                self.config.services.iter_mut().find(|service| service.name == kept.name)
            {
                *old = kept;
            }
        }
        for service in steps.added {
            let listen = [service.listen.as_slice(), &service.tls_listen].concat();
            let shown = fresh.shown(&service, listen);
            let done = ask(commands, |reply| Command::AddService { service: shown, reply }).await;
            done.map_err(|why| stopped(&format!("service {} is added", service.name), &why))?;
            self.config.services.push(service);
        }
        Ok(())
    }

    async fn do_nodes(&mut self, steps: NodeSteps, commands: &mpsc::Sender<Command>) -> Result<(), Refusal> {
        for node in steps.add {
            let name = node.clone();
            let done = ask(commands, |reply| Command::AddNode { node, reply }).await;
            done.map_err(|why| stopped(&format!("node {name} is added"), &why))?;
            self.config.nodes.push(name);
        }
        for node in steps.remove {
            let name = node.clone();
            let done = ask(commands, |reply| Command::RemoveNode { node, reply }).await;
            done.map_err(|why| stopped(&format!("node {name} is removed"), &why))?;
            self.config.nodes.retain(|other| place(other) != name);
        }
        if let Some(after) = steps.after {
            self.config.nodes = after;
        }
        Ok(())
    }

    /// What changes about services, by name; what is the same in the file as before is left as an operator may have made it since.
    fn service_steps(
        &self,
        fresh: &Config,
        there: &[ServiceInfo],
        reloaded: &mut Reloaded,
    ) -> Result<ServiceSteps, Refusal> {
        let mut steps = ServiceSteps::default();
        let id = |name: &str| there.iter().find(|info| info.service.name == name).map(|info| info.id);
        let (before, after) = (self.config.every_service(), fresh.every_service());
        let goes = |old: &&ServiceConfig| after.iter().all(|new| new.name != old.name);
        // These are free when what is new comes.
        let leaving = before.iter().filter(goes).flat_map(|old| old.listen.iter().chain(&old.tls_listen));
        let leaving: Vec<SocketAddr> = leaving.copied().collect();
        for new in &after {
            let name = &new.name;
            let key = if name == FIRST { SLOTS.join(",") } else { format!("services.{name}") };
            let Some(old) = before.iter().find(|old| old.name == *name) else {
                if id(name).is_some() {
                    return Err(Refusal::Conflict(format!(
                        "service {name} is there already, and not by the file"
                    )));
                }
                if !new.listen.is_empty() && !new.tls_listen.is_empty() {
                    // Added live, a service speaks one of both.
                    reloaded.restart.push(key);
                    continue;
                }
                probe(new, &leaving)?;
                reloaded.changed.push(key);
                steps.added.push(new.clone());
                continue;
            };
            let moved = (&old.listen, &old.tls_listen) != (&new.listen, &new.tls_listen);
            let kept = ServiceConfig {
                listen: old.listen.clone(),
                tls_listen: old.tls_listen.clone(),
                ..new.clone()
            };
            if moved && name != FIRST {
                reloaded.restart.push(format!("{key}.listen"));
            }
            if kept == *old {
                continue;
            }
            let change = id(name).map(|id| {
                let keys = SLOTS.iter().filter(|key| fresh_differs(old, new, key));
                match name == FIRST {
                    true => reloaded.changed.extend(keys.map(|key| (*key).to_string())),
                    false => reloaded.changed.push(key),
                }
                let shown = fresh.shown(new, Vec::new());
                let change = ServiceChange {
                    name: None,
                    bits: Some(shown.bits),
                    user_agent: Some(shown.user_agent),
                    sessions: Some(shown.sessions),
                    probes: Some(shown.probes),
                };
                (id, change)
            });
            steps.changed.push((kept, change));
        }
        for old in before.iter().filter(goes) {
            reloaded.changed.push(format!("services.{}", old.name));
            steps.removed.push((old.name.clone(), id(&old.name)));
        }
        Ok(steps)
    }

    /// Nodes to be added and to be removed, as the file has changed and as they are there.
    async fn node_steps(
        &self,
        fresh: &Config,
        commands: &mpsc::Sender<Command>,
        reloaded: &mut Reloaded,
    ) -> Result<NodeSteps, Refusal> {
        let places = |nodes: &[String]| nodes.iter().map(|node| place(node)).collect::<BTreeSet<_>>();
        let (before, after) = (places(&self.config.nodes), places(&fresh.nodes));
        let there = ask(commands, Command::Nodes).await?;
        let there = places(&there.into_iter().map(|info| info.node).collect::<Vec<_>>());
        let is_new = |node: &&String| !before.contains(&place(node)) && !there.contains(&place(node));
        let add: Vec<String> = fresh.nodes.iter().filter(is_new).cloned().collect();
        let is_gone = |node: &&String| !after.contains(*node) && there.contains(*node);
        let remove: Vec<String> = before.iter().filter(is_gone).cloned().collect();
        let after = (before != after).then(|| fresh.nodes.clone());
        if after.is_some() {
            reloaded.changed.push("nodes".to_string());
        } else if self.config.nodes.iter().collect::<BTreeSet<_>>() != fresh.nodes.iter().collect() {
            // The same places, spoken with in another way.
            reloaded.restart.push("nodes".to_string());
        }
        Ok(NodeSteps { add, remove, after })
    }
}

/// What tells nodes apart.
fn place(node: &str) -> String {
    NodeAddr(node.to_string()).host_port().to_string()
}

/// A step has failed behind others.
fn stopped(step: &str, why: &Refusal) -> Refusal {
    let rest = "what comes before this in a reload has taken effect, the rest has not: reload again";
    Refusal::Conflict(format!("the reload stopped where {step}: {why}; {rest}"))
}

fn fresh_differs(old: &ServiceConfig, new: &ServiceConfig, key: &str) -> bool {
    match key {
        "session_slots" => old.session_slots != new.session_slots,
        _ => old.probe_slots != new.probe_slots,
    }
}

/// Whether the addresses of a service can be listened on, those `leaving` apart.
fn probe(service: &ServiceConfig, leaving: &[SocketAddr]) -> Result<(), Refusal> {
    for at in service.listen.iter().chain(&service.tls_listen).filter(|at| !leaving.contains(at)) {
        if let Err(error) = ring::reserve_now(*at) {
            let expected = format!("an address that can be listened on: {error}");
            return Err(Refusal::Value { field: "services", value: at.to_string(), expected });
        }
    }
    Ok(())
}

/// Asks the relay as an operator does.
async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<T, Refusal> {
    let ending = || Refusal::Conflict("the relay is ending".to_string());
    let (reply, answer) = oneshot::channel();
    commands.send(command(reply)).await.map_err(|_| ending())?;
    answer.await.unwrap_or_else(|_| Err(ending()))
}

fn refused(error: ConfigError) -> Refusal {
    match error {
        ConfigError::Value { key, value, expected } => Refusal::Value { field: key, value, expected },
        ConfigError::UnknownKey { key, hint } => {
            let expected = format!("a key that there is{hint}");
            Refusal::Value { field: "configuration", value: key, expected }
        }
        error => Refusal::Conflict(error.to_string()),
    }
}
