//! Who is compared: how each is started, how its subscribers behave, how it is published to.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::certificate::{self, Certificate};
use super::publish::{self, Publisher, Rpc};
use super::server::{Folder, Server, find, free};
use super::stub::Stub;
use crate::floor::Floor;
use crate::swarm::{Begin, Manner};
use crate::{Outcome, relay_process};
use std::net::SocketAddr;

/// One of the compared.
#[derive(Clone, Copy)]
pub(super) struct Contestant {
    /// As in the table.
    pub(super) name: &'static str,
    /// How its subscribers behave.
    pub(super) manner: Manner,
    /// Most subscribers it is given, of those asked for; the reason is with the function that says so.
    pub(super) most: fn(Limits) -> u32,
    /// How its TLS begins; who has none is left out of `--tls`.
    pub(super) tls: Option<Begin>,
    /// Starts it.
    pub(super) start: fn(Setting) -> Outcome<Started>,
}

/// How a contestant is started.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    /// With room for so many connections.
    pub(super) connections: u32,
    /// With TLS, under this certificate.
    pub(super) certificate: Option<&'a Certificate>,
}

impl Setting<'_> {
    /// The one that fits.
    fn pick(&self, plain: &'static str, tls: &'static str) -> &'static str {
        if self.certificate.is_some() { tls } else { plain }
    }

    /// A new folder, with the certificate where there is one.
    fn folder(&self) -> Outcome<Folder> {
        let folder = Folder::new()?;
        self.certificate.map_or(Ok(()), |certificate| certificate.write(folder.path()))?;
        Ok(folder)
    }
}

/// What bounds the number of subscribers.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// RLIMIT_NOFILE.
    pub(super) files: u32,
    /// Asked for on the command line, for full nodes.
    pub(super) full_node: u32,
}

/// A contestant at work. The publisher goes first: a node behind must outlive nobody.
pub(super) struct Started {
    pub(super) publisher: Publisher,
    pub(super) server: Server,
    /// Where subscribers connect.
    pub(super) address: SocketAddr,
}

/// Descriptors a server needs for itself.
const OWN_FILES: u32 = 200;

fn by_files(limits: Limits) -> u32 {
    limits.files.saturating_sub(OWN_FILES)
}

/// A proxy needs two descriptors per connection.
fn by_files_twice(limits: Limits) -> u32 {
    by_files(limits) / 2
}

/// Half a megabyte and several milliseconds per peer: fewer, so that a run ends.
fn full_node(limits: Limits) -> u32 {
    limits.full_node.min(by_files(limits))
}

/// In the order they are measured; breakwater is first, because the others are held against it.
#[rustfmt::skip]
pub(super) const ALL: &[Contestant] = &[
    Contestant { name: "breakwater", manner: Manner::Wallet, most: by_files, tls: Some(Begin::AtOnce), start: breakwater },
    Contestant { name: "redis", manner: publish::RESP_SUBSCRIBER, most: by_files, tls: None, start: redis },
    Contestant { name: "nats", manner: publish::NATS_SUBSCRIBER, most: by_files, tls: Some(Begin::BehindLine), start: nats },
    Contestant { name: "mosquitto", manner: publish::MQTT_SUBSCRIBER, most: by_files, tls: Some(Begin::AtOnce), start: mosquitto },
    Contestant { name: "bcoin", manner: Manner::Wallet, most: full_node, tls: None, start: bcoin },
    Contestant { name: "bitcoind", manner: Manner::Wallet, most: full_node, tls: None, start: bitcoind },
    Contestant { name: "nginx", manner: Manner::Mute, most: by_files_twice, tls: Some(Begin::AtOnce), start: nginx },
    Contestant { name: "haproxy", manner: Manner::Mute, most: by_files_twice, tls: Some(Begin::AtOnce), start: haproxy },
];

/// The `breakwater` binary that lies beside this one, in front of the stub node.
fn breakwater(setting: Setting) -> Outcome<Started> {
    let program = relay_process::beside()?;
    let (node, plain, folder) = (Stub::start()?, free()?, setting.folder()?);
    let mut command = relay_process::command(&program, &[node.address()], plain, &folder.path().join("data"));
    command.args(["--shards", "1"]);
    let address = if setting.certificate.is_some() { free()? } else { plain };
    if setting.certificate.is_some() {
        let settings = folder.configure(include_str!("../../../compare/tls/breakwater.toml"), &[])?;
        command.arg("--config").arg(settings).args(["--tls-listen", &address.to_string()]);
        command.arg("--tls-certificate").arg(folder.path().join(certificate::CHAIN));
        command.arg("--tls-key").arg(folder.path().join(certificate::KEY));
    }
    let mut server = Server::start(folder, &command)?;
    let log = server.log_path();
    server.until(relay_process::READY, || {
        std::fs::read_to_string(&log).ok().filter(|text| text.contains(relay_process::READY))
    })?;
    Ok(Started { publisher: Publisher::Stub(node), server, address })
}

/// A server with a configuration file and its publisher, which comes without TLS: by a listener of its own where the
/// configuration has one.
fn configured(
    mut command: Command,
    template: &str,
    setting: Setting,
    publisher: fn(SocketAddr) -> Outcome<Publisher>,
) -> Outcome<Started> {
    let (address, plain, folder) = (free()?, free()?, setting.folder()?);
    let values = [
        ("{port}", address.port().to_string()),
        ("{plain}", plain.port().to_string()),
        ("{connections}", (setting.connections + 100).to_string()),
    ];
    command.arg(folder.configure(template, &values)?);
    let mut server = Server::start(folder, &command)?;
    let entrance = if template.contains("{plain}") { plain } else { address };
    server.listens(entrance)?;
    Ok(Started { publisher: publisher(entrance)?, server, address })
}

fn redis(setting: Setting) -> Outcome<Started> {
    let command = Command::new(find("redis-server")?);
    configured(command, include_str!("../../../compare/redis.conf"), setting, publish::resp)
}

fn nats(setting: Setting) -> Outcome<Started> {
    let mut command = Command::new(find("nats-server")?);
    command.arg("-c");
    let (plain, tls) =
        (include_str!("../../../compare/nats.conf"), include_str!("../../../compare/tls/nats.conf"));
    configured(command, setting.pick(plain, tls), setting, publish::nats)
}

fn mosquitto(setting: Setting) -> Outcome<Started> {
    let mut command = Command::new(find("mosquitto")?);
    command.arg("-c");
    let (plain, tls) = (
        include_str!("../../../compare/mosquitto.conf"),
        include_str!("../../../compare/tls/mosquitto.conf"),
    );
    configured(command, setting.pick(plain, tls), setting, publish::mqtt)
}

/// A proxy in front of a sink that takes connections and sends to them.
fn proxy(mut command: Command, template: &str, setting: Setting) -> Outcome<Started> {
    let (address, folder, connections) = (free()?, setting.folder()?, setting.connections);
    let sink = Floor::open(connections)?;
    let values = [
        ("{port}", address.port().to_string()),
        ("{sink}", sink.address().port().to_string()),
        ("{connections}", (connections + 10).to_string()),
        ("{files}", (2 * connections + OWN_FILES).to_string()),
    ];
    command.arg(folder.configure(template, &values)?);
    let mut server = Server::start(folder, &command)?;
    // Not by connecting: the sink would take that connection for a subscriber.
    server.until("it listens", || listens(address.port()).then_some(()))?;
    Ok(Started { publisher: Publisher::Sink(Box::new(sink)), server, address })
}

fn nginx(setting: Setting) -> Outcome<Started> {
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    if !module.is_file() {
        return Err("libnginx-mod-stream is not installed (bench/compare/install)".into());
    }
    let mut command = Command::new(find("nginx")?);
    command.arg("-c");
    let (plain, tls) =
        (include_str!("../../../compare/nginx.conf"), include_str!("../../../compare/tls/nginx.conf"));
    proxy(command, setting.pick(plain, tls), setting)
}

fn haproxy(setting: Setting) -> Outcome<Started> {
    let mut command = Command::new(find("haproxy")?);
    command.args(["-db", "-f"]);
    let (plain, tls) =
        (include_str!("../../../compare/haproxy.conf"), include_str!("../../../compare/tls/haproxy.conf"));
    proxy(command, setting.pick(plain, tls), setting)
}

/// True exactly when something listens on this port of 127.0.0.1, as /proc/net/tcp has it.
fn listens(port: u16) -> bool {
    let local = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let mut lines = table.lines().map(|line| line.split_whitespace().skip(1));
    // State 0A is LISTEN.
    lines.any(|mut fields| fields.next() == Some(&local) && fields.nth(1) == Some("0A"))
}

/// The launcher of the integration tests, told to take so many and to log errors only.
fn bcoin(setting: Setting) -> Outcome<Started> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let modules = match std::env::var_os("BCOIN_MODULES") {
        Some(path) => PathBuf::from(path),
        None => root.join("target/peers/bcoin/node_modules"),
    };
    if !modules.join("bcoin").is_dir() {
        return Err("bcoin is not installed (ci/install-peers)".into());
    }
    let (address, rpc, folder) = (free()?, free()?, Folder::new()?);
    let settings = json!({
        "dir": folder.path(), "p2p": address.port(), "rpc": rpc.port(), "inbound": setting.connections + 10, "log": "error",
    });
    let mut command = Command::new(find("node")?);
    command
        .arg(root.join("tests/support/peers/bcoin-node.js").canonicalize()?)
        .arg(settings.to_string())
        .env("BCOIN_MODULES", modules.canonicalize()?);
    node(folder, &command, address, Rpc::new(rpc))
}

/// Its binary is not part of this project: BITCOIND names it.
fn bitcoind(setting: Setting) -> Outcome<Started> {
    let Some(program) = std::env::var_os("BITCOIND").filter(|path| !path.is_empty()) else {
        return Err("BITCOIND is not set".into());
    };
    let (address, onion, rpc, folder) = (free()?, free()?, free()?, Folder::new()?);
    let mut command = Command::new(program);
    command
        .args(["-regtest", "-server=1", "-rpcuser=bench", "-rpcpassword=bench", "-rpcallowip=127.0.0.1"])
        .args(["-listenonion=0", "-discover=0", "-dnsseed=0", "-fixedseeds=0", "-natpmp=0"])
        .args(["-printtoconsole=0", "-nodebuglogfile"])
        .arg(format!("-datadir={}", folder.path().display()))
        .arg(format!("-rpcbind={rpc}"))
        .arg(format!("-bind={onion}=onion"))
        .arg(format!("-bind={address}"))
        .arg(format!("-maxconnections={}", setting.connections + 100));
    node(folder, &command, address, Rpc::new(rpc))
}

/// A full node with ten blocks, which has left its initial block download.
fn node(folder: Folder, command: &Command, address: SocketAddr, rpc: Rpc) -> Outcome<Started> {
    let mut server = Server::start(folder, command)?;
    server.until("its RPC answers", || rpc.call("getblockcount", json!([])).ok())?;
    rpc.mine(10)?;
    server.listens(address)?;
    Ok(Started { publisher: Publisher::Node(rpc), server, address })
}
