//! The `breakwater` binary as a process of its own, in front of given nodes, for benchmarks and tests of the whole program.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use breakwater::control::Config;
use breakwater::control::plan::{Demand, Plan, plan};

use crate::admin::AdminClient;
use crate::certificate::Passing;
use crate::lines::Lines;
use crate::rig::scenario::Transport;
use crate::{Outcome, os};

/// Part of the log line with which the relay says that clients may come.
pub(crate) const READY: &str = "event=ready";
/// Longest time from the start to `READY`: a busy host, many shards.
pub const START: Duration = Duration::from_secs(120);

/// The file of [`RelayProcess::configured`], in the relay's folder.
const CONFIGURATION: &str = "relay.toml";

/// Descriptors of the process left to everything but clients.
const SPARE_FILES: u64 = 300;
/// The kernel spreads connections over rings by a hash: each has room for this share more than its part.
const UNEVEN: f64 = 0.02;

/// Rings that hold so many clients with this process's limit of open files, at least one a core, and the room of each.
///
/// # Errors
/// The limit cannot be read.
pub(crate) fn rings_for(clients: u32) -> Outcome<(u32, u32)> {
    let limit = breakwater::ring::raise_file_limit()?.saturating_sub(SPARE_FILES);
    let room = u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, 1 << 20);
    let all = (f64::from(clients) * (1.0 + UNEVEN)) as u32 + 500;
    let rings = all.div_ceil(room).max(os::cores() as u32);
    Ok((rings, all.div_ceil(rings).max(500).min(room)))
}

/// The `breakwater` that lies beside this program.
///
/// # Errors
/// It is not there.
pub(crate) fn beside() -> Outcome<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("breakwater");
    if program.is_file() {
        return Ok(program);
    }
    Err(format!("{}: build it first (cargo build --release --workspace)", program.display()).into())
}

/// A relay on regtest, to be started: everybody is let in.
pub(crate) fn command(program: &Path, nodes: &[SocketAddr], listen: SocketAddr, data: &Path) -> Command {
    let mut command = closed(program, nodes, listen, data);
    command.arg("--open-door");
    command
}

/// The same with the door as it is by default, or as a configuration says.
fn closed(program: &Path, nodes: &[SocketAddr], listen: SocketAddr, data: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["run", "--network", "regtest", "--listen", &listen.to_string()]);
    nodes.iter().for_each(|node| {
        command.args(["--node", &node.to_string()]);
    });
    command.arg("--data-dir").arg(data);
    command
}

/// A free address, and a folder for the data of the relay that listens there.
fn place() -> Outcome<(SocketAddr, PathBuf)> {
    let address = free()?;
    let folder = format!("breakwater-bench-{}-{}", std::process::id(), address.port());
    Ok((address, std::env::temp_dir().join(folder)))
}

/// The relay; killed when dropped, its data with it.
#[derive(Debug)]
pub struct RelayProcess {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
    tls: Option<Tls>,
}

/// A listener for TLS.
#[derive(Debug)]
struct Tls {
    address: SocketAddr,
    certificate: Passing,
}

/// A port of 127.0.0.1 that nobody listens on.
fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl RelayProcess {
    /// Starts the `breakwater` that lies beside this program, with room for `clients`, and waits until it is ready.
    pub(crate) fn with_room(node: SocketAddr, clients: u32, transport: Transport) -> Outcome<RelayProcess> {
        let (rings, each) = rings_for(clients)?;
        let flags = ["--shards", &rings.to_string(), "--max-clients", &(rings * each).to_string()];
        match transport {
            Transport::Plain | Transport::V2 => RelayProcess::start(&beside()?, &[node], &flags),
            Transport::Tls => RelayProcess::start_tls(&beside()?, &[node], &flags),
        }
    }

    /// Starts a relay on a free port of 127.0.0.1, with these flags of `run` besides, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends before it is ready, or is not ready within [`START`].
    pub fn start(program: &Path, nodes: &[SocketAddr], flags: &[&str]) -> Outcome<RelayProcess> {
        RelayProcess::started(program, nodes, flags, None)
    }

    /// As [`RelayProcess::start`], with a listener for TLS besides and a certificate made for it.
    ///
    /// # Errors
    /// As [`RelayProcess::start`], or the certificate cannot be written.
    pub fn start_tls(program: &Path, nodes: &[SocketAddr], flags: &[&str]) -> Outcome<RelayProcess> {
        let address = free()?;
        let tls = Tls { address, certificate: Passing::make(&format!("tls-{}", address.port()))? };
        RelayProcess::started(program, nodes, flags, Some(tls))
    }

    fn started(
        program: &Path,
        nodes: &[SocketAddr],
        flags: &[&str],
        tls: Option<Tls>,
    ) -> Outcome<RelayProcess> {
        let (address, folder) = place()?;
        let mut command = command(program, nodes, address, &folder);
        if let Some(Tls { address, certificate: Passing { certificate, .. } }) = &tls {
            command.args(["--tls-listen", &address.to_string()]);
            command.arg("--tls-certificate").arg(&certificate.chain).arg("--tls-key").arg(&certificate.key);
        }
        command.args(flags);
        RelayProcess::spawn(program, command, address, folder, tls)
    }

    /// Starts the `breakwater` that lies beside this program with the keys of a configuration file, with room for `clients`, and
    /// waits until it is ready. The door is as the configuration says.
    pub(crate) fn configured(node: SocketAddr, clients: u32, keys: &str) -> Outcome<RelayProcess> {
        let ((rings, each), program) = (rings_for(clients)?, beside()?);
        let (address, folder) = place()?;
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(CONFIGURATION);
        std::fs::write(&file, format!("shards = {rings}\nmax_clients = {}\n{keys}", rings * each))?;
        let mut command = closed(&program, &[node], address, &folder);
        command.arg("--config").arg(file);
        RelayProcess::spawn(&program, command, address, folder, None)
    }

    fn spawn(
        program: &Path,
        mut command: Command,
        address: SocketAddr,
        folder: PathBuf,
        tls: Option<Tls>,
    ) -> Outcome<RelayProcess> {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let log = child.stderr.take();
        let relay = RelayProcess { child, address, folder, tls };
        let lines = Lines::of(log.ok_or("no log of the relay")?);
        let (start, mut said) = (Instant::now(), String::new());
        while let Some(line) = lines
            .next(START.saturating_sub(start.elapsed()))
            .map_err(|_| format!("the relay was not ready within {START:?}; it said last: {}", said.trim()))?
        {
            if line.contains(READY) {
                return Ok(relay);
            }
            said = line;
        }
        Err(format!("the relay ended before it was ready: {}", said.trim()).into())
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients of a transport connect.
    pub fn address_for(&self, transport: Transport) -> SocketAddr {
        match (transport, &self.tls) {
            (Transport::Tls, Some(tls)) => tls.address,
            _ => self.address,
        }
    }

    /// The certificate of the listener for TLS, PEM.
    pub fn certificate(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.certificate.certificate.chain.as_path())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its admin interface.
    pub(crate) fn admin(&self) -> AdminClient {
        AdminClient::new(self.folder.join("regtest").join("admin.sock"))
    }

    /// What its memory is planned to be.
    ///
    /// # Errors
    /// It was not started by [`RelayProcess::configured`].
    pub(crate) fn plan(&self) -> Outcome<Plan> {
        let nodes = toml::Value::Array(vec![toml::Value::String("127.0.0.1:1".into())]);
        let flags = toml::Table::from_iter([("nodes".to_string(), nodes)]);
        let config = Config::load(Some(&self.folder.join(CONFIGURATION)), flags)?;
        Ok(plan(Demand::new(&config, u64::from(config.max_clients))))
    }

    /// Ends it now, as a crash would.
    pub fn kill(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// VmRSS, bytes; 0 when it is gone.
    pub(crate) fn resident(&self) -> f64 {
        os::resident(self.pid()).map_or(0.0, |(_, rss)| rss as f64)
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
