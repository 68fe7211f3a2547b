//! The `breakwater` binary as a process of its own, in front of a given node, for benchmarks of the whole program.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{Outcome, os};

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
    let room = u32::try_from(limit).unwrap_or(u32::MAX).min(1 << 20).max(1);
    let all = (f64::from(clients) * (1.0 + UNEVEN)) as u32 + 500;
    let rings = all.div_ceil(room).max(os::cores() as u32);
    Ok((rings, all.div_ceil(rings).max(500).min(room)))
}

/// The relay; killed when dropped, its data with it.
pub(crate) struct RelayProcess {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl RelayProcess {
    /// Starts the `breakwater` that lies beside this program, with room for `clients`, and waits until it is ready.
    ///
    /// # Errors
    /// It is not there, or ends before it is ready.
    pub(crate) fn start(node: SocketAddr, clients: u32) -> Outcome<RelayProcess> {
        let program = std::env::current_exe()?.with_file_name("breakwater");
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder =
            std::env::temp_dir().join(format!("breakwater-bench-{}-{}", std::process::id(), address.port()));
        let (rings, each) = rings_for(clients)?;
        let mut child = Command::new(&program)
            .args([
                "run",
                "--network",
                "regtest",
                "--node",
                &node.to_string(),
                "--listen",
                &address.to_string(),
            ])
            .args(["--shards", &rings.to_string(), "--max-clients", &(rings * each).to_string()])
            .arg("--data-dir")
            .arg(&folder)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!("{}: {error}; build it first (cargo build --release)", program.display())
            })?;
        let Some(log) = child.stderr.take() else { return Err("no log of the relay".into()) };
        let relay = RelayProcess { child, address, folder };
        let (mut log, mut line, mut said) = (BufReader::new(log), String::new(), String::new());
        while log.read_line(&mut line)? > 0 {
            if line.contains("event=ready") {
                // Whatever it says later must not block it.
                std::thread::spawn(move || std::io::copy(&mut log.by_ref(), &mut std::io::sink()));
                return Ok(relay);
            }
            said = std::mem::take(&mut line);
        }
        Err(format!("the relay ended before it was ready: {}", said.trim()).into())
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// VmRSS, bytes; 0 when it is gone.
    pub(crate) fn resident(&self) -> f64 {
        os::resident(self.pid()).map_or(0.0, |(_, rss)| rss as f64)
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
