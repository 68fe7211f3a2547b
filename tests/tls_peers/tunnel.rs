//! A program that connects by TLS and copies its standard input and output becomes a stream for the tests' P2P client.
//!
//! Such programs also talk: of certificates, sessions, alerts. P2P messages are told from that by their magic, so that a
//! program can be used in the mode in which it says most and takes commands. What is sent to it is handed over in whole
//! messages, each beginning a read of the program's: none of them looks like a command.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::wait;

/// First bytes of every message on regtest.
const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

/// Bytes of a message's header.
const HEADER: usize = 24;

/// The program; ended by its id with this handle.
pub struct Tunnel {
    name: String,
    child: Child,
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    text: Arc<Mutex<String>>,
    dir: TempDir,
}

impl Tunnel {
    /// Starts the program; the client has said nothing yet.
    #[track_caller]
    pub fn open(mut command: Command) -> (Tunnel, Client) {
        let name = command.get_program().to_string_lossy().into_owned();
        let dir = tempfile::tempdir().expect("temporary directory");
        let errors = File::create(dir.path().join("stderr")).expect("file");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}, which ci/install-peers installs: {e}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("port");
        let client = Client::open(listener.local_addr().expect("port"), None).expect("our own port");
        let (ours, _) = listener.accept().expect("our own client");

        let stdin = Arc::new(Mutex::new(child.stdin.take()));
        let text = Arc::default();
        let to_program = (ours.try_clone().expect("socket"), Arc::clone(&stdin));
        std::thread::spawn(move || feed(to_program.0, &to_program.1));
        let stdout = child.stdout.take().expect("piped");
        let from_program = Arc::clone(&text);
        std::thread::spawn(move || divide(stdout, ours, &from_program));
        (Tunnel { name, child, stdin, text, dir }, client)
    }

    /// A command to the program itself, such as `K` to `openssl s_client`. What was sent before must have been answered,
    /// or the program may read both at once.
    pub fn command(&self, line: &str) {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = stdin.as_mut().expect("the program's input is open");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("the program reads");
        stdin.flush().expect("the program reads");
    }

    /// What the program has said so far: standard output without the messages, then standard error.
    pub fn said(&self) -> String {
        let errors = std::fs::read(self.dir.path().join("stderr")).unwrap_or_default();
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{text}\n{}", String::from_utf8_lossy(&errors))
    }

    /// Waits until the program has said this so many times.
    #[track_caller]
    pub fn wait_said(&self, what: &str, times: usize) {
        wait::for_(&format!("{what:?} {times} times from {}", self.name), || {
            self.said().matches(what).count() >= times
        });
    }

    /// Waits for the program to end by itself; its status, and all it has said.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, String) {
        let what = format!("end of {}", self.name);
        let status = wait::until(&what, wait::PATIENCE, || self.child.try_wait().expect("wait"));
        // The reader of its output may be a moment behind.
        let text = Arc::clone(&self.text);
        wait::for_("end of the program's output", || Arc::strong_count(&text) == 2);
        (status, self.said())
    }

    /// A file in the tunnel's own folder, for what a program writes.
    pub fn folder(&self) -> PathBuf {
        Path::new(self.dir.path()).to_path_buf()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {} (pid {}) said\n{}\n----", self.name, self.child.id(), self.said());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Client to program, until the client ends; then the program's input ends, too.
fn feed(mut from: TcpStream, to: &Mutex<Option<ChildStdin>>) {
    let mut buffer = [0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        let mut stdin = to.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = stdin.as_mut().filter(|_| read > 0) else {
            *stdin = None;
            return;
        };
        if open.write_all(&buffer[..read]).and_then(|()| open.flush()).is_err() {
            return;
        }
    }
}

/// Program to client and to what it has said, until the program's output ends.
fn divide(mut from: ChildStdout, mut to: TcpStream, text: &Mutex<String>) {
    let mut buffer = [0; 64 * 1024];
    let mut waiting = Vec::new();
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        waiting.extend_from_slice(&buffer[..read]);
        let (messages, said, used) = split(&waiting);
        waiting.drain(..used);
        text.lock().unwrap_or_else(PoisonError::into_inner).push_str(&said);
        let _ = to.write_all(&messages);
    }
    text.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&waiting));
    let _ = to.shutdown(Shutdown::Write);
}

/// The whole messages in `bytes`, the text between them, and how many bytes both were.
fn split(bytes: &[u8]) -> (Vec<u8>, String, usize) {
    let (mut messages, mut text, mut at) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        if !rest.starts_with(&MAGIC[..rest.len().min(MAGIC.len())]) {
            text.push(rest[0]);
            at += 1;
            continue;
        }
        let Some(length) = rest.get(16..20) else { break };
        let whole = HEADER + u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(message) = rest.get(..whole) else { break };
        messages.extend_from_slice(message);
        at += whole;
    }
    (messages, String::from_utf8_lossy(&text).into_owned(), at)
}

/// The program's words that hold `what`, for a failed assertion.
#[track_caller]
pub fn assert_said(said: &str, what: &str) {
    assert!(said.contains(what), "{what:?} is not in what the program said:\n{said}");
}
