//! The demo and the examples, as a newcomer would run them. The demo's relay is what the examples are tried on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;

use bitcoin::Block;
use bitcoin::consensus::deserialize;

/// A running `breakwater demo`, ended by its id when a test fails.
struct Demo {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    relay: String,
}

impl Demo {
    /// Starts it; its first line says where the relay is.
    fn start(span: &str, clients: &str) -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_breakwater"))
            .args(["demo", "--for", span, "--clients", clients, "--plain-output"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut head = String::new();
        out.read_line(&mut head).unwrap();
        let relay = head.split("relay at ").nth(1).and_then(|rest| rest.split(',').next());
        let relay = relay.map(str::to_owned).unwrap_or_default();
        assert!(relay.starts_with("127.0.0.1:"), "{head:?}");
        Demo { child, out, relay }
    }

    /// Waits for its end; status, standard output and standard error.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut text, mut errors) = (String::new(), String::new());
        self.out.read_to_string(&mut text).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code(), text, errors)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs an example. `cargo test` has built all of them; `cargo test --test demo` has not.
fn example(name: &str, args: &[&str]) -> Output {
    static BUILT: Once = Once::new();
    let own = std::env::current_exe().unwrap();
    let path: PathBuf = own.parent().unwrap().parent().unwrap().join("examples").join(name);
    BUILT.call_once(|| {
        if !path.exists() {
            let build =
                Command::new(env!("CARGO")).args(["build", "--profile", "test", "--examples"]).status();
            assert!(build.unwrap().success());
        }
    });
    Command::new(&path).args(args).output().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_demo_shows_clients_that_follow_and_ends_by_itself() {
    let demo = Demo::start("8s", "30");
    let id = demo.child.id();
    let (status, text, errors) = demo.end();
    assert_eq!(status, Some(0), "{text}{errors}");
    assert!(text.lines().filter(|line| line.contains("clients 30/30")).count() >= 2, "{text}");
    for part in [
        "30 of 30 clients became ready",
        "Every client heard every block: yes.",
        "3 of kind wallet",
        "Nothing broke.",
        "p50 ",
        "B of the relay and",
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    each_transport_heard_every_block(&text);
    let wallets = text.lines().find(|line| line.starts_with("Wallets submitted")).unwrap();
    assert!(!wallets.contains("submitted 0 "), "{wallets}");
    let own = format!("breakwater-demo-{id}-");
    let left: Vec<_> = std::fs::read_dir(std::env::temp_dir())
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&own))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Ten of the thirty clients came over each transport, as the relay counted, and the summary says of each that they heard blocks.
fn each_transport_heard_every_block(text: &str) {
    let line = text.lines().find(|line| line.starts_with("By transport: ")).expect(text);
    for name in ["plain", "v2", "TLS"] {
        let after = line.split(&format!("10 clients over {name} heard of blocks ")).nth(1).expect(line);
        let (heard, rest) = after.split_once(" times, ").expect(line);
        assert!(heard.parse::<u32>().unwrap() >= 10, "{line}");
        assert!(rest.starts_with("10 of them of every one"), "{line}");
    }
    let sessions = line.split("TLS sessions: ").nth(1).expect(line);
    let numbers = sessions.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    let [full, resumed] = numbers.collect::<Vec<u32>>()[..] else { panic!("{line}") };
    assert!(full >= 1 && resumed >= 1 && full + resumed == 10, "{line}");
    assert!(text.lines().any(|line| line.contains("plain 10 v2 10 TLS 10")), "{text}");
}

#[test]
fn the_demo_refuses_bad_usage_with_status_two() {
    for args in [["--for", "soon"], ["--clients", "2"], ["--clients", "15001"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_breakwater")).arg("demo").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output));
        assert_eq!(String::from_utf8_lossy(&output.stderr).trim().lines().count(), 1, "{}", text(&output));
    }
}

#[test]
fn examples_work_on_the_relay_of_a_demo_that_a_signal_ends() {
    // Built before the demo begins.
    let help = example("block_grabber", &[]);
    assert!(text(&help).contains("usage"), "{}", text(&help));
    let demo = Demo::start("300s", "10");

    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let grabbed = example("block_grabber", &[&demo.relay, "120", path]);
    assert!(grabbed.status.success(), "{}", text(&grabbed));
    let block: Block = deserialize(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(block.bip34_block_height().unwrap(), 120);
    assert!(text(&grabbed).contains(&block.block_hash().to_string()), "{}", text(&grabbed));
    let tip = example("block_grabber", &[&demo.relay]);
    assert!(tip.status.success(), "{}", text(&tip));
    let above = example("block_grabber", &[&demo.relay, "1000000"]);
    assert!(!above.status.success() && text(&above).contains("above the tip"), "{}", text(&above));

    let peers = example("two_thousand_peers", &[&demo.relay, "--peers", "200", "--seconds", "7"]);
    let said = text(&peers);
    assert!(peers.status.success(), "{said}");
    assert!(said.contains("ready: 200 of 200 peers"), "{said}");
    assert!(said.contains("from 8 addresses"), "{said}");
    assert!(!said.contains(" 0 announcements of blocks"), "{said}");

    let pid = demo.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let (status, text, errors) = demo.end();
    assert_eq!(status, Some(0), "{text}{errors}");
    assert!(text.contains("ended by a signal"), "{text}");
    assert!(text.contains("Every client heard every block: yes."), "{text}");
}

#[test]
fn examples_go_nowhere_but_to_loopback_unless_told() {
    // 203.0.113.0/24 is nobody's (RFC 5737); nothing is sent there.
    for name in ["block_grabber", "two_thousand_peers"] {
        let output = example(name, &["203.0.113.1:8333"]);
        assert!(!output.status.success());
        assert!(text(&output).contains("not a loopback address"), "{}", text(&output));
    }
}

#[test]
fn a_download_is_simulated_and_takes_longer_on_a_slower_link() {
    let seconds = |mbit: &str| {
        let output = example(
            "initial_block_download",
            &["--blocks", "150", "--block-bytes", "100000", "--delay-ms", "20", "--mbit", mbit],
        );
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let line =
            said.lines().find(|line| line.starts_with("blocks: 150")).unwrap_or_else(|| panic!("{said}"));
        let word = line.split(' ').rev().nth(1).unwrap();
        word.parse::<f64>().unwrap()
    };
    let (fast, slow) = (seconds("100"), seconds("5"));
    assert!(slow > 2.0 * fast, "{fast} s, {slow} s");
    let output = example("initial_block_download", &["--mbit", "0"]);
    assert!(!output.status.success(), "{}", text(&output));
}
