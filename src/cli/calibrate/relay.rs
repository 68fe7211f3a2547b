//! The relay that is measured: this program once more as `run`, a process of its own, so that the kernel counts its time apart
//! from that of the node and the clients. Ends with its handle, its folder with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::cli::Failure;

/// From the start to the line that says `ready`.
const READY: Duration = Duration::from_secs(60);
/// How long after its last answer a thread of the relay is surely asleep: the kernel brings its time up to date then.
const ASLEEP: Duration = Duration::from_millis(5);
/// The relay is at rest when it has used less than this part of a core for `REST`.
const AT_REST: f64 = 0.02;
const REST: Duration = Duration::from_millis(400);
/// Longest wait for that: it stores the chain first.
const SETTLE: Duration = Duration::from_secs(60);

/// Nobody waits for capacity, but it is accounted for as always; and `mempool` is answered, so that it can be measured.
const CONFIG: &str = "free_capacity = 4_000_000_000\nmax_capacity = 4_000_000_000_000\n\
                      total_recharge = 4_000_000_000_000\nprobe_seconds = 0\nallow_mempool = true\n";

/// A running relay.
#[derive(Debug)]
pub(super) struct Relay {
    child: Child,
    folder: PathBuf,
    /// Where clients connect.
    pub(super) address: SocketAddr,
    /// Nanoseconds that its threads have run, by thread. Those that have ended stay.
    run: BTreeMap<u32, u64>,
}

/// A process and a folder that end with their owner.
#[derive(Debug)]
struct Started(Option<Child>, PathBuf);

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
        remove(&self.1);
    }
}

impl Relay {
    /// Starts it in front of a node, with one shard, and waits until it accepts clients and is at rest.
    pub(super) fn start(node: SocketAddr) -> Result<Relay, Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Failure::Other(format!("{what}: {error}"));
        let name = format!("breakwater-calibrate-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let folder = std::env::temp_dir().join(name);
        let mut made = fs::DirBuilder::new();
        let at = |error| failed(&format!("temporary folder {}", folder.display()), &error);
        made.mode(0o700).create(&folder).map_err(at)?;
        let mut started = Started(None, folder.clone());
        let config = folder.join("calibrate.toml");
        fs::write(&config, CONFIG).map_err(|error| failed(&config.display().to_string(), &error))?;
        let program = std::env::current_exe().map_err(|error| failed("this program's file", &error))?;
        let mut command = Command::new(program);
        command.args(["run", "--network", "regtest", "--listen", "127.0.0.1:0", "--shards", "1"]);
        command.args(["--max-clients", "1000", "--keep", "all", "--admin-socket", "off"]);
        command.args(["--log-format", "json", "--log-level", "info", "--node", &format!("v1:{node}")]);
        command.arg("--data-dir").arg(&folder).arg("--config").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed("the relay cannot be started", &error))?;
        let log = child.stderr.take();
        started.0 = Some(child);
        let log = log.ok_or_else(|| Failure::Other("the relay has no log".into()))?;
        let address = ready(&lines(log)?)?;
        let (child, folder) = (started.0.take(), std::mem::take(&mut started.1));
        let child = child.ok_or_else(|| Failure::Other("the relay has ended".into()))?;
        let mut relay = Relay { child, folder, address, run: BTreeMap::new() };
        relay.settle()?;
        Ok(relay)
    }

    /// The time that its threads have run until now.
    pub(super) fn cpu(&mut self) -> Result<Duration, Failure> {
        std::thread::sleep(ASLEEP);
        let pid = self.child.id();
        let folder = format!("/proc/{pid}/task");
        let failed = |what: String, error: &dyn std::fmt::Display| {
            Failure::Other(format!("{what}, expected the run time of the relay's threads: {error}"))
        };
        let tasks = fs::read_dir(&folder).map_err(|error| failed(folder.clone(), &error))?;
        for task in tasks.flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let file = task.path().join("schedstat");
            let text = match fs::read_to_string(&file) {
                Ok(text) => text,
                // It has ended meanwhile.
                Err(_) if !task.path().exists() => continue,
                Err(error) => return Err(failed(file.display().to_string(), &error)),
            };
            // Nanoseconds run, nanoseconds waited, times run (Documentation/scheduler/sched-stats.rst).
            let run = text.split_whitespace().next().and_then(|field| field.parse().ok());
            let run = run.ok_or_else(|| failed(file.display().to_string(), &format!("it says {text:?}")))?;
            self.run.insert(tid, run);
        }
        if self.run.is_empty() {
            return Err(Failure::Other("the relay has ended while it was measured".into()));
        }
        Ok(Duration::from_nanos(self.run.values().sum()))
    }

    /// Waits until it is at rest; the part of a core that it uses then.
    pub(super) fn settle(&mut self) -> Result<f64, Failure> {
        let until = Instant::now() + SETTLE;
        loop {
            let (before, start) = (self.cpu()?, Instant::now());
            std::thread::sleep(REST);
            let used = (self.cpu()?.saturating_sub(before)).as_secs_f64() / start.elapsed().as_secs_f64();
            if used < AT_REST {
                return Ok(used);
            }
            if Instant::now() > until {
                return Err(Failure::Other(format!(
                    "the relay is still busy {} s after its start ({:.0} % of a core)",
                    SETTLE.as_secs(),
                    used * 100.0
                )));
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        end(&mut self.child);
        remove(&self.folder);
    }
}

fn end(child: &mut Child) {
    // It may have ended already, which is as good; what it has stored is thrown away.
    let _ = child.kill();
    let _ = child.wait();
}

fn remove(folder: &PathBuf) {
    if !folder.as_os_str().is_empty()
        && let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != ErrorKind::NotFound
    {
        eprintln!("breakwater: temporary folder {}: {error}", folder.display());
    }
}

/// Its log, line by line, read on a thread until it ends: it must not wait for us. Lines that find no room are left out.
fn lines(log: ChildStderr) -> Result<Receiver<String>, Failure> {
    let (say, said) = sync_channel(64);
    let read = move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let _ = say.try_send(line);
        }
    };
    let thread = std::thread::Builder::new().name("log".into()).spawn(read);
    thread.map_err(|error| Failure::Other(format!("no thread for the relay's log: {error}")))?;
    Ok(said)
}

/// Waits for the line that says where clients connect.
fn ready(lines: &Receiver<String>) -> Result<SocketAddr, Failure> {
    let until = Instant::now() + READY;
    let mut last = String::new();
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => match listens(&line) {
                Some(address) => return Ok(address),
                None => last = line,
            },
            Err(RecvTimeoutError::Timeout) => {
                return Err(Failure::Other(format!(
                    "the relay was not ready within {} s; it said last: {last}",
                    READY.as_secs()
                )));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let last = last.trim_start_matches("breakwater: ");
                return Err(Failure::Other(format!("the relay ended before it was ready: {last}")));
            }
        }
    }
}

/// The address in the line with `event=ready`.
fn listens(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    (line.get("event")? == "ready").then_some(())?;
    line.get("listen")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_in_the_line_that_says_ready() {
        let line = r#"{"level":"INFO","event":"ready","listen":"127.0.0.1:4444","height":3}"#;
        assert_eq!(listens(line), Some(SocketAddr::from(([127, 0, 0, 1], 4_444))));
        for other in
            [r#"{"event":"tip","listen":"127.0.0.1:4444"}"#, r#"{"event":"ready"}"#, "breakwater: no"]
        {
            assert_eq!(listens(other), None, "{other}");
        }
    }

    #[test]
    fn a_relay_that_ends_early_is_quoted() {
        let (say, said) = sync_channel(4);
        say.send("breakwater: the host is too small".to_owned()).unwrap();
        drop(say);
        let Err(Failure::Other(text)) = ready(&said) else { panic!("it has ended") };
        assert_eq!(text, "the relay ended before it was ready: the host is too small");
    }
}
