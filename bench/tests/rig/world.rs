//! A stub node, the relay's own binary in front of it, and runs of the rig's binary.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use breakwater_rig::Outcome;
use breakwater_rig::relay_process::RelayProcess;
use breakwater_rig::rig::node::{Fleet, Plan};
use breakwater_rig::rig::scenario::Transport;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// A port nobody listens on.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A process that ends with its handle.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct World {
    node: Fleet,
    relay: RelayProcess,
}

impl World {
    pub fn start() -> World {
        World::with(RelayProcess::start)
    }

    /// With a listener for TLS besides.
    pub fn start_tls() -> World {
        World::with(RelayProcess::start_tls)
    }

    fn with(start: fn(&Path, &[SocketAddr], &[&str]) -> Outcome<RelayProcess>) -> World {
        let node = Fleet::start(&Plan::default()).unwrap();
        // Built by `cargo test --workspace`, as an integration test's program beside ours.
        let program = PathBuf::from(env!("CARGO_BIN_EXE_breakwater-rig")).with_file_name("breakwater");
        let relay = start(&program, &node.addresses(), &[])
            .unwrap_or_else(|error| panic!("{error}: cargo build --workspace makes it"));
        World { node, relay }
    }

    pub fn relay_tls(&self) -> SocketAddr {
        self.relay.address_for(Transport::Tls)
    }

    pub fn certificate(&self) -> &Path {
        self.relay.certificate().unwrap()
    }

    pub fn relay(&self) -> SocketAddr {
        self.relay.address()
    }

    pub fn node(&self) -> SocketAddr {
        self.node.addresses()[0]
    }

    pub fn mine(&self) -> breakwater::wire::Hash {
        self.node.mine().unwrap().hash
    }

    pub fn make_txs(&self, count: usize) {
        assert_eq!(self.node.make_txs(count).unwrap().hashes.len(), count);
    }

    pub fn kill_relay(&mut self) {
        self.relay.kill();
    }
}

/// A run that is being put together.
pub struct Rig {
    args: Vec<String>,
    folder: tempfile::TempDir,
}

impl Rig {
    pub fn new(target: &SocketAddr) -> Rig {
        Rig::without_target().args(&["--target", &target.to_string()])
    }

    /// Over TLS, with the relay's certificate.
    pub fn new_tls(world: &World) -> Rig {
        let (target, ca) =
            (format!("tls://{}", world.relay_tls()), world.certificate().display().to_string());
        Rig::without_target().args(&["--target", &target, "--tls-ca", &ca, "--tls-name", "localhost"])
    }

    pub fn without_target() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report").display().to_string();
        let args = ["run", "--network", "regtest", "--plain-output", "--report", &report];
        Rig { args: args.iter().map(ToString::to_string).collect(), folder }
    }

    pub fn args_of(mut self, args: &[String]) -> Rig {
        self.args.extend_from_slice(args);
        self
    }

    pub fn args(mut self, args: &[&str]) -> Rig {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    pub fn start(self) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_breakwater-rig"))
            .args(&self.args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Running { process: Process(child), said: std::cell::RefCell::new(said), folder: self.folder }
    }
}

pub struct Running {
    process: Process,
    said: std::cell::RefCell<BufReader<ChildStderr>>,
    folder: tempfile::TempDir,
}

impl Running {
    /// Waits for a line that says that so many are ready (the plain view: `ready N of`).
    #[track_caller]
    pub fn until_ready(&self, clients: u64) {
        let mut line = String::new();
        while self.said.borrow_mut().read_line(&mut line).unwrap() > 0 {
            let mut words = line.split_whitespace().skip_while(|word| *word != "ready").skip(1);
            let ready = words.next().and_then(|word| word.replace(',', "").parse::<u64>().ok());
            if ready.is_some_and(|ready| ready >= clients) {
                return;
            }
            line.clear();
        }
        panic!("the rig ended before {clients} clients were ready");
    }

    pub fn interrupt(&self) {
        let pid = self.process.0.id().to_string();
        assert!(Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status().unwrap().success());
    }

    /// Waits for its end: exit status and report.json.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, Value) {
        let start = Instant::now();
        let mut said = self.said.into_inner();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = said.read_to_string(&mut text);
            text
        });
        let status = loop {
            if let Some(status) = self.process.0.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the rig hangs");
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = reader.join().unwrap();
        let path = self.folder.path().join("report/report.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}; it said: {said}"));
        (status.code(), serde_json::from_str(&text).unwrap())
    }
}

/// Exit status and standard error of a call that ends by itself.
pub fn said(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_breakwater-rig")).args(args).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
