//! `breakwater top` on a real terminal (a pty) in front of a real relay.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

mod support;

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use pty_process::blocking::{self, Pty};
use support::client::{Client, Options};
use support::relay::Relay;
use support::stub_node::StubServer;
use support::wait::{self, PATIENCE};

/// A terminal of 80 by 24, what stands on it, and a shell in it that runs `top`.
struct Tty {
    pty: Arc<Pty>,
    screen: Arc<Mutex<vt100::Parser>>,
    child: Child,
}

impl Tty {
    /// Says the terminal's settings before `top` and behind it.
    fn start(arguments: &str) -> Tty {
        let (pty, pts) = blocking::open().expect("a pty");
        pty.resize(pty_process::Size::new(24, 80)).unwrap();
        let program = env!("CARGO_BIN_EXE_breakwater");
        let line = format!(
            "echo before:$(stty -g); '{program}' top {arguments}; echo status:$?; echo behind:$(stty -g); read wait"
        );
        let child = blocking::Command::new("sh")
            .args(["-c", &line])
            .env("TERM", "xterm-256color")
            .spawn(pts)
            .unwrap();
        let (pty, screen) = (Arc::new(pty), Arc::new(Mutex::new(vt100::Parser::default())));
        let (reader, parser) = (pty.clone(), screen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // EIO when the last of the terminal's programs has ended.
            while let Ok(count @ 1..) = (&*reader).read(&mut bytes) {
                parser.lock().unwrap().process(&bytes[..count]);
            }
        });
        Tty { pty, screen, child }
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn press(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    fn shows(&self, words: &str) {
        let found = || self.text().contains(words).then_some(());
        let started = std::time::Instant::now();
        while found().is_none() {
            assert!(started.elapsed() < PATIENCE, "{words:?} is not on the screen:\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// What a line that begins so goes on with.
    fn line(&self, start: &str) -> String {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no {start:?} in\n{text}")).to_owned()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // The shell's `read`; and when the test has failed before that, whatever stands there.
        let _ = (&*self.pty).write_all(b"\x03\n\n");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(node: &StubServer, extra: &[&str]) -> Relay {
    let mut relay =
        Relay::prepare([node.address()], &[&["--shards", "2", "--max-clients", "1000"], extra].concat());
    relay.spawn();
    relay.wait_ready();
    relay
}

fn client(relay: &Relay, source: [u8; 4]) -> Client {
    let mut client = Client::open(relay.listen(), Some(IpAddr::from(source))).unwrap();
    client.handshake(&Options::default()).unwrap();
    client.ping();
    client
}

#[test]
fn a_client_is_seen_found_and_kicked_and_the_terminal_given_back() {
    let node = StubServer::start(3);
    let mut relay = start(&node, &[]);
    let (mut first, mut second) = (client(&relay, [127, 3, 1, 1]), client(&relay, [127, 3, 1, 2]));
    let socket = relay.data_dir().join("regtest/admin.sock");
    let tty = Tty::start(&format!("--socket '{}'", socket.display()));
    tty.shows("2 of 1000, 2 ready");
    tty.shows("tip 3 ");
    assert!(tty.screen.lock().unwrap().screen().alternate_screen());
    node.mine();
    tty.shows("tip 4 ");
    tty.shows("announced to 2: p50");

    tty.press("\t");
    tty.shows("127.3.1.1:");
    tty.shows("127.3.1.2:");
    tty.press("/127.3.1.2\r");
    tty.shows("filter 127.3.1.2: page 1, 1 clients");
    wait::for_("the other one to be left out", || !tty.text().contains("127.3.1.1:"));
    tty.press("k");
    tty.shows(&format!("({})? y / n", second.local_address()));
    tty.press("n");
    tty.shows("nothing was done");
    second.ping();
    tty.press("k");
    tty.shows("? y / n");
    tty.press("y");
    tty.shows("done: 1 client");
    second.expect_closed(PATIENCE);
    first.ping();
    tty.press("\x1b");
    tty.shows("all: page 1, 1 clients");
    tty.shows("127.3.1.1:");

    // The relay goes away and comes back at the same place.
    relay.kill();
    tty.shows("no answer, trying again");
    relay.restart();
    let _third = client(&relay, [127, 3, 1, 3]);
    tty.shows("127.3.1.3:");
    wait::for_("the trouble to be over", || !tty.text().contains("no answer"));

    tty.press("q");
    tty.shows("status:0");
    tty.shows("behind:");
    assert!(!tty.screen.lock().unwrap().screen().alternate_screen());
    assert!(!tty.screen.lock().unwrap().screen().hide_cursor());
    assert_eq!(tty.line("before:"), tty.line("behind:"), "the terminal is as it was");
    assert!(relay.stop().success());
}

#[test]
fn over_tcp_with_a_token() {
    let node = StubServer::start(1);
    let (dir, at) = (tempfile::tempdir().unwrap(), support::ports::free().to_string());
    let file = dir.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123\n").unwrap();
    let file = file.to_str().unwrap();
    let mut relay = start(&node, &["--admin", &at, "--admin-token-file", file]);
    let tty = Tty::start(&format!("--url http://{at}"));
    tty.shows("no answer, trying again: the header Authorization must be Bearer");
    tty.press("\x03");
    tty.shows("status:0");
    let tty = Tty::start(&format!("--url http://{at} --token-file '{file}'"));
    tty.shows("0 of 1000, 0 ready");
    // Another size is drawn anew, and one that is too small says so.
    tty.pty.resize(pty_process::Size::new(10, 40)).unwrap();
    tty.shows("40 x 10 is too small");
    tty.pty.resize(pty_process::Size::new(24, 80)).unwrap();
    tty.shows("0 of 1000, 0 ready");
    // SIGTERM gives the terminal back, too.
    let shell = tty.child.id();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let killed = Command::new("kill").arg(children.trim()).status().unwrap();
    assert!(killed.success(), "{children:?}");
    tty.shows("status:0");
    assert!(!tty.screen.lock().unwrap().screen().alternate_screen());
    assert!(relay.stop().success());
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let mut top = Command::new(env!("CARGO_BIN_EXE_breakwater"));
    let output = top.args(["top", "--socket", "/nowhere"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
    assert!(text.contains("top needs a terminal"), "{text}");
}
