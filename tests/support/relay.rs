//! The breakwater process, started as an operator would start it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use super::node::Node;
use super::process::Process;
use super::{ports, wait};

/// The contract: SIGTERM and SIGINT end the process within this time.
pub const STOP: Duration = Duration::from_secs(5);

const READY: Duration = Duration::from_secs(60);

pub struct Relay {
    /// First, so that it is dropped before the directory it writes to.
    process: Option<Process>,
    dir: TempDir,
    listen: SocketAddr,
    arguments: Vec<String>,
}

impl Relay {
    /// A relay in front of these nodes; returns when it has said `event=ready`.
    #[track_caller]
    pub fn start(nodes: &[&Node]) -> Relay {
        Relay::start_with(nodes, &[])
    }

    /// The same, with more arguments, such as `&["--keep", "all"]`.
    #[track_caller]
    pub fn start_with(nodes: &[&Node], extra: &[&str]) -> Relay {
        let mut relay = Relay::prepare(nodes.iter().map(|node| node.p2p()), extra);
        relay.spawn();
        relay.wait_ready();
        relay
    }

    /// A relay that was not started yet.
    pub fn prepare(nodes: impl IntoIterator<Item = SocketAddr>, extra: &[&str]) -> Relay {
        let listen = ports::free();
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut arguments: Vec<String> = ["run", "--network", "regtest"].map(String::from).to_vec();
        for node in nodes {
            arguments.extend(["--node".to_string(), node.to_string()]);
        }
        let data = dir.path().join("data");
        arguments.extend(["--listen".to_string(), listen.to_string()]);
        arguments.extend(["--data-dir".to_string(), data.display().to_string()]);
        arguments.extend(extra.iter().map(|a| a.to_string()));
        Relay { process: None, dir, listen, arguments }
    }

    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "the relay is still running");
        let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
        command.args(&self.arguments);
        self.process = Some(Process::spawn("breakwater", command, &self.dir.path().join("log")));
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        let process = self.process.as_mut().expect("the relay is not running");
        wait::until("event=ready of the relay", READY, || {
            let log = process.log();
            if log.lines().any(|line| line.contains("event=ready") || line.contains("\"event\":\"ready\"")) {
                return Some(());
            }
            if let Some(status) = process.ended() {
                panic!("the relay ended at its start ({status}):\n{log}");
            }
            None
        });
    }

    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    pub fn data_dir(&self) -> PathBuf {
        Path::new(self.dir.path()).join("data")
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the relay is not running")
    }

    pub fn log(&mut self) -> String {
        self.process().log()
    }

    /// SIGTERM; the status, within the contract's time.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process().terminate();
        let status = self.process().wait_end(STOP);
        self.process = None;
        status
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Starts again on the same directory and address.
    #[track_caller]
    pub fn restart(&mut self) {
        self.spawn();
        self.wait_ready();
    }
}
