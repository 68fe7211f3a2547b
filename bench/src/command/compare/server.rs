//! One server under comparison: its process, its configuration file, its temporary folder.
//!
//! Pinned by taskset(1) to the core of what is measured; its output goes to a file of the folder. It ends by its process
//! id when dropped, and the folder with it; by setpriv(1) it ends as well when the benchmark is killed.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::super::RELAY_CORE;
use crate::{Outcome, os};

/// From the start of a process to its first answer; node.js compiles first.
pub(super) const START: Duration = Duration::from_secs(60);

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Outcome<Folder> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("breakwater-compare-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Fills in a template of bench/compare/ and writes it; returns its path.
    pub(super) fn configure(&self, template: &str, values: &[(&str, String)]) -> Outcome<PathBuf> {
        let folder = self.0.display().to_string();
        let filled = values
            .iter()
            .fold(template.replace("{dir}", &folder), |text, (key, value)| text.replace(key, value));
        let path = self.0.join("conf");
        fs::write(&path, filled)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the temporary folder, and named after us.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that serves.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    command: String,
    /// After the process, so that it is removed after its end.
    folder: Folder,
}

impl Server {
    /// Starts `command` on the measured core.
    pub(super) fn start(folder: Folder, command: &Command) -> Outcome<Server> {
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", &RELAY_CORE.to_string()]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            value.map(|value| pinned.env(key, value));
        }
        let log = File::create(folder.path().join("log"))?;
        let shown = shown(&pinned);
        // setpriv(1): when the benchmark is killed, the kernel ends the server as well.
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL"]).arg(pinned.get_program()).args(pinned.get_args());
        tied.envs(pinned.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let child = tied
            .current_dir(folder.path())
            // Some of them end with their standard input; it stays open as long as this does.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("setpriv (package util-linux): {error}"))?;
        Ok(Server { child, command: shown, folder })
    }

    /// The command line, as it was started.
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    pub(super) fn cpu(&self) -> Outcome<Duration> {
        os::process_clock(self.child.id()).ok_or_else(|| self.gone())
    }

    /// Resident memory without pages of files, bytes.
    pub(super) fn resident(&self) -> Outcome<u64> {
        os::resident_own(self.child.id()).ok_or_else(|| self.gone())
    }

    /// Tries until it works, at most [`START`].
    pub(super) fn until<T>(&mut self, what: &str, mut attempt: impl FnMut() -> Option<T>) -> Outcome<T> {
        let start = Instant::now();
        loop {
            if let Some(value) = attempt() {
                return Ok(value);
            }
            if self.child.try_wait()?.is_some() {
                return Err(self.gone());
            }
            if start.elapsed() > START {
                return Err(format!("not within {START:?}: {what}; it says: {}", self.last_words()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it listens.
    pub(super) fn listens(&mut self, address: SocketAddr) -> Outcome {
        self.until("it listens", || TcpStream::connect(address).ok()).map(drop)
    }

    /// Where its output goes.
    pub(super) fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The log's last line that says something.
    fn last_words(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_string()
    }

    fn gone(&self) -> Box<dyn std::error::Error + Send + Sync> {
        format!("the server has ended; it says: {}", self.last_words()).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command line for people, with the variables it needs.
fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (key, value) in command.get_envs() {
        words.push(format!("{}={}", key.display(), value.unwrap_or_default().display()));
    }
    words.push(command.get_program().display().to_string());
    words.extend(command.get_args().map(|word| word.display().to_string()));
    let quoted = |word: &String| {
        if word.contains([' ', '"', '{', '(', '*']) { format!("'{word}'") } else { word.clone() }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The program's path, looked for in PATH and where Debian keeps servers.
pub(super) fn find(program: &str) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| format!("{program} is not installed (bench/compare/install)").into())
}

/// A free port of 127.0.0.1.
pub(super) fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
