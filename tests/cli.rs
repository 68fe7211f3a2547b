//! The command line is a contract: exit statuses, one sentence on standard error, the line that says `event=ready`,
//! what each program prints. Scripts outside this repository rely on every line here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::client::Client;
use support::relay::{Relay, STOP};
use support::stub_node::StubServer;
use support::{ports, wait};

const NODE: &str = "127.0.0.1:9";

fn breakwater(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the binary starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The one sentence on standard error.
#[track_caller]
fn sentence(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "one line on standard error: {text}");
    assert!(text.starts_with("breakwater: "), "{text}");
    lines[0].to_owned()
}

/// Status 2, nothing on standard output, and one sentence that holds all of `words`.
#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let output = breakwater(arguments);
    let said = sentence(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said:?}");
    }
}

/// The same for a configuration file with this text (and a node, when it names none).
#[track_caller]
fn file_refused(text: &str, words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("breakwater.toml");
    std::fs::write(&file, text).unwrap();
    refused(&["run", "--node", NODE, "--config", file.to_str().unwrap()], words);
}

// ---- status 2 ------------------------------------------------------------------------------------------

#[test]
fn bad_usage_is_status_2_and_one_sentence() {
    refused(&[], &["a command is missing", "--help"]);
    refused(&["frobnicate"], &["frobnicate"]);
    refused(&["run", "--frobnicate"], &["--frobnicate"]);
    refused(&["run", "--node"], &["--node"]);
    refused(&["run", "--node", NODE, "stray"], &["stray"]);
    refused(&["run", "--node", NODE, "--shards", "two"], &["--shards", "two"]);
    refused(&["config"], &["a command is missing", "--help"]);
    refused(&["plan", "--max-clients", "many"], &["--max-clients", "many"]);
    refused(&["demo", "--for", "soon"], &["--for", "soon", "60s"]);
    refused(&["demo", "--clients", "2"], &["--clients", "2"]);
}

#[test]
fn bad_values_name_key_value_and_expectation() {
    refused(&["run"], &["nodes", "at least one HOST:PORT", "--node"]);
    for (flag, value, key, expected) in [
        ("--network", "bitcoin", "network", "\"mainnet\", \"testnet4\", \"signet\", \"regtest\""),
        ("--node", "nowhere", "nodes", "HOST:PORT"),
        ("--node", "host:0", "nodes", "HOST:PORT"),
        ("--node", "host:70000", "nodes", "HOST:PORT"),
        ("--listen", "localhost:1", "listen", "ADDRESS:PORT"),
        ("--listen", "127.0.0.1", "listen", "ADDRESS:PORT"),
        ("--keep", "some", "keep", "\"all\", or a number"),
        ("--keep", "0", "keep", "\"all\", or a number"),
        ("--shards", "5000", "shards", "0 to 1024"),
        ("--max-clients", "99999999999", "max_clients", "a whole number"),
        ("--log-format", "xml", "log_format", "\"human\", \"json\""),
        ("--log-level", "loud", "log_level", "\"error\", \"warn\", \"info\", \"debug\", \"trace\""),
        ("--metrics", "9000", "metrics", "ADDRESS:PORT"),
    ] {
        let arguments = ["run", "--node", NODE, flag, value];
        refused(&arguments, &[&format!("`{key}`"), value, expected]);
    }
    for negative in ["--shards=-1", "--max-clients=-1", "--keep=-1"] {
        refused(&["run", "--node", NODE, negative], &["-1", "number"]);
    }
}

#[test]
fn bad_settings_of_encryption_name_key_file_and_expectation() {
    let tls = "tls_listen = [\"127.0.0.1:0\"]\n";
    file_refused(tls, &["`tls_certificates`", "--tls-certificate"]);
    file_refused("tls_client_auth = \"required\"", &["`tls_client_ca`", "a PEM file"]);
    file_refused("tls_client_auth = \"maybe\"", &["`tls_client_auth`", "maybe", "\"required\""]);
    file_refused("tls_certificates = [{ chain = \"a\", key = \"b\" }]", &["`tls_listen`", "--tls-listen"]);
    file_refused("listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", &["`listen`", "each address once"]);
    file_refused("tls_certificates = [{ chain = \"a\" }]", &["`tls_certificates`", "chain", "key"]);
    file_refused("tls_certificates = [{ chain = \"a\", key = 3 }]", &["`tls_certificates`"]);
    file_refused("handshakes = 0", &["`handshakes`", "1 to"]);
    file_refused("tls_full_per_second = -1", &["`tls_full_per_second`", "-1"]);
    file_refused("v2 = \"yes\"", &["`v2`", "true or false"]);
    file_refused("listen = []", &["`listen`", "`tls_listen`"]);
    let both = "listen = [\"127.0.0.1:8999\"]\ntls_listen = [\"127.0.0.1:8999\"]\n\
                tls_certificates = [{ chain = \"a\", key = \"b\" }]";
    file_refused(both, &["`tls_listen`", "other addresses"]);
    refused(&["run", "--node", NODE, "--tls-certificate", "a.pem"], &["--tls-key"]);
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    let (chain_name, key_name) = (chain.to_str().unwrap(), key.to_str().unwrap());
    let data = dir.path().join("data");
    let arguments = [
        "run",
        "--network",
        "regtest",
        "--node",
        NODE,
        "--listen",
        "127.0.0.1:0",
        "--tls-listen",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
        "--tls-certificate",
        chain_name,
        "--tls-key",
        key_name,
    ];
    refused(&arguments, &[chain_name, "No such file"]);
    let (one, two) = (self_signed(), self_signed());
    std::fs::write(&chain, "nothing").unwrap();
    std::fs::write(&key, &one.1).unwrap();
    refused(&arguments, &[chain_name, "expected"]);
    std::fs::write(&chain, two.0).unwrap();
    refused(&arguments, &[key_name, chain_name, "the private key that the certificate was made for"]);
    assert!(!data.exists(), "nothing is made before the certificates are known to be good");
}

/// Chain and key as PEM.
fn self_signed() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn a_bad_configuration_file_is_named_with_its_line() {
    file_refused("max_client = 3", &["`max_client`", "did you mean `max_clients`"]);
    file_refused("networks = \"regtest\"", &["`networks`", "did you mean `network`"]);
    file_refused("shards = \"two\"", &["`shards`", "\"two\"", "0 to 1024"]);
    file_refused("buffer_mb = 1", &["`buffer_mb`", "1", "8"]);
    file_refused("siblings = [\"here\"]", &["`siblings`", "here", "ADDRESS:PORT"]);
    file_refused("keep = true", &["`keep`", "true", "\"all\", or a number"]);
    file_refused("[table]\nkey = 1", &["`table`"]);
    file_refused("shards = 1\nlisten = [", &["breakwater.toml", "line 2"]);
    file_refused("shards = 1\nshards = 2", &["breakwater.toml", "line 2"]);
    refused(
        &["run", "--node", NODE, "--config", "/nowhere/at/all.toml"],
        &["/nowhere/at/all.toml", "No such file"],
    );
    let dir = tempfile::tempdir().unwrap();
    refused(&["run", "--node", NODE, "--config", dir.path().to_str().unwrap()], &["irectory"]);
    let name = format!("user_agent = \"{}\"", "x".repeat(257));
    file_refused(&name, &["`user_agent`", "256"]);
    file_refused("network = \"reg\\ntest\"", &["`network`", "reg\\ntest", "regtest"]);
    file_refused("\"a\\nb\" = 1", &["`a\\nb`"]);
    // Not text.
    let file = dir.path().join("binary.toml");
    std::fs::write(&file, [0xff, 0xfe, 0]).unwrap();
    refused(&["run", "--node", NODE, "--config", file.to_str().unwrap()], &["binary.toml"]);
}

// ---- what is printed -----------------------------------------------------------------------------------

#[test]
fn version_and_help() {
    let output = breakwater(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), format!("breakwater {}\n", env!("CARGO_PKG_VERSION")));
    for (command, flags) in [
        (
            vec!["run"],
            vec![
                "--network",
                "--node",
                "--listen",
                "--data-dir",
                "--keep",
                "--shards",
                "--max-clients",
                "--config",
                "--log-format",
                "--metrics",
            ],
        ),
        (vec!["demo"], vec!["--for", "--clients", "--plain-output"]),
        (vec!["plan"], vec!["--max-clients", "--shards", "--config"]),
        (vec!["doctor"], vec!["--clients", "--shards", "--config", "--json", "--untracked", "Status 1"]),
        (vec!["config"], vec!["default"]),
        (vec![], vec!["run", "demo", "config", "plan", "doctor", "--version"]),
    ] {
        let output = breakwater(&[&command[..], &["--help"]].concat());
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert!(output.stderr.is_empty(), "{command:?}");
        for flag in flags {
            assert!(stdout(&output).contains(flag), "{command:?} --help does not name {flag}");
        }
    }
}

#[test]
fn a_plan_is_a_table() {
    let output = breakwater(&["plan", "--max-clients", "1000000"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let text = stdout(&output);
    assert!(text.lines().count() > 5, "{text}");
    assert!(text.contains("1000000") && text.contains("GB"), "{text}");
}

#[test]
fn the_default_configuration_is_a_configuration() {
    let output = breakwater(&["config", "default"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.lines().filter(|line| line.starts_with('#')).count() > 20, "its comments are the manual");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("default.toml");
    std::fs::write(&file, &text).unwrap();
    // Every key of the file is read; what is missing is the node, which has no default.
    refused(&["run", "--config", file.to_str().unwrap()], &["nodes"]);
    let node = StubServer::start(1);
    let mut relay = Relay::prepare([node.address()], &["--config", file.to_str().unwrap()]);
    relay.spawn();
    relay.wait_ready();
    assert_eq!(relay.stop().code(), Some(0));
}

// ---- status 1 ------------------------------------------------------------------------------------------

/// Runs a relay that cannot start: status 1, and of all lines on standard error only the last is no log line.
#[track_caller]
fn fails(arguments: &[&str], words: &[&str]) {
    let output = breakwater(arguments);
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let said: Vec<&str> = text.lines().filter(|line| line.starts_with("breakwater: ")).collect();
    assert_eq!(said.len(), 1, "one sentence: {text}");
    assert_eq!(text.lines().last(), Some(said[0]), "at the end: {text}");
    for word in words {
        assert!(said[0].contains(word), "{word:?} is not in {:?}", said[0]);
    }
}

fn run_arguments<'a>(listen: &'a str, data: &'a Path) -> Vec<&'a str> {
    let data = data.to_str().unwrap();
    vec![
        "run",
        "--network",
        "regtest",
        "--node",
        NODE,
        "--listen",
        listen,
        "--data-dir",
        data,
        "--shards",
        "1",
    ]
}

#[test]
fn a_port_in_use_is_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    fails(&run_arguments(&address, dir.path()), &[&address]);
    let free = ports::free().to_string();
    let mut arguments = run_arguments(&free, dir.path());
    arguments.extend(["--metrics", &address]);
    fails(&arguments, &["metrics", &address]);
}

#[test]
fn a_data_folder_that_cannot_be_used_is_status_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "x").unwrap();
    let free = ports::free().to_string();
    fails(&run_arguments(&free, &file), &["a-file"]);
}

#[test]
fn two_processes_on_one_folder_or_one_port() {
    let node = StubServer::start(1);
    let mut first = Relay::prepare([node.address()], &["--shards", "1"]);
    first.spawn();
    first.wait_ready();
    let free = ports::free().to_string();
    let data = first.data_dir();
    fails(&run_arguments(&free, &data), &[data.to_str().unwrap()]);
    let listen = first.listen().to_string();
    let dir = tempfile::tempdir().unwrap();
    fails(&run_arguments(&listen, dir.path()), &[&listen]);
    // The first one noticed nothing.
    Client::connect(first.listen()).ping();
    assert_eq!(first.stop().code(), Some(0));
}

// ---- status 0 ------------------------------------------------------------------------------------------

#[test]
fn sigterm_and_sigint_end_it_within_five_seconds_with_clients_connected() {
    let node = StubServer::start(5);
    for interrupt in [false, true] {
        let mut relay = Relay::prepare([node.address()], &["--shards", "2"]);
        relay.spawn();
        relay.wait_ready();
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(relay.listen())).collect();
        let strangers: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(relay.listen()).unwrap()).collect();
        clients.iter_mut().for_each(Client::ping);
        let asked = Instant::now();
        if interrupt {
            relay.process().interrupt();
        } else {
            relay.process().terminate();
        }
        let status = relay.process().wait_end(STOP);
        assert!(asked.elapsed() < STOP, "took {:?}", asked.elapsed());
        assert_eq!(status.code(), Some(0), "{}", relay.log());
        clients.iter_mut().for_each(|client| client.expect_closed(Duration::from_secs(5)));
        drop(strangers);
    }
}

#[test]
fn sigterm_before_a_node_is_there() {
    let mut relay = Relay::prepare([NODE.parse::<SocketAddr>().unwrap()], &["--shards", "1"]);
    relay.spawn();
    wait::for_("event=start", || relay.log().contains("event=start"));
    assert_eq!(relay.stop().code(), Some(0));
}

// ---- logs ----------------------------------------------------------------------------------------------

#[test]
fn the_ready_line_for_people() {
    let node = StubServer::start(3);
    let mut relay = Relay::prepare([node.address()], &[]);
    relay.spawn();
    relay.wait_ready();
    let log = relay.log();
    let ready: Vec<&str> = log.lines().filter(|line| line.contains("event=ready")).collect();
    let tip = breakwater::wire::display(&node.with(|node| node.chain().tip_hash()));
    let listen = format!("listen={}", relay.listen());
    assert_eq!(ready.len(), 1, "{log}");
    for word in [listen.as_str(), "height=3", &tip] {
        assert!(ready[0].contains(word), "{word:?} is not in {:?}", ready[0]);
    }
    // Ready is true: a client is served at once.
    Client::connect(relay.listen()).ping();
    assert!(!log.contains('\x1b'), "no colours in a file: {log}");
    relay.stop();
}

#[test]
fn the_ready_line_for_programs() {
    let node = StubServer::start(3);
    let mut relay = Relay::prepare([node.address()], &["--log-format", "json"]);
    relay.spawn();
    relay.wait_ready();
    let tip = breakwater::wire::display(&node.with(|node| node.chain().tip_hash()));
    let log = relay.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let ready: Vec<&Value> = lines.iter().filter(|line| line["event"] == "ready").collect();
    assert_eq!(ready.len(), 1, "{log}");
    assert_eq!(ready[0]["height"].as_u64(), Some(3));
    assert_eq!(ready[0]["hash"], Value::String(tip));
    assert_eq!(ready[0]["listen"], Value::String(relay.listen().to_string()));
    relay.stop();
}

#[test]
fn every_address_is_listened_on_and_named() {
    let node = StubServer::start(1);
    let second = ports::free();
    let text = second.to_string();
    let mut relay = Relay::prepare([node.address()], &["--listen", &text]);
    relay.spawn();
    relay.wait_ready();
    for address in [relay.listen(), second] {
        assert!(relay.log().contains(&address.to_string()));
        Client::connect(address).ping();
    }
    relay.stop();
}

// ---- metrics -------------------------------------------------------------------------------------------

fn scrape(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn the_list_of_metrics_in_the_tree_is_the_programs() {
    let file = include_str!("../src/control/metrics/list.md");
    let made = stdout(&breakwater(&["metrics", "--markdown"]));
    assert!(file == made, "write it anew: breakwater metrics --markdown > src/control/metrics/list.md");
}

#[test]
fn every_documented_metric_is_there() {
    let listed = stdout(&breakwater(&["metrics"]));
    let names: Vec<&str> = listed
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() > 40, "{listed}");
    let texts = listed.lines().filter(|line| line.starts_with(' '));
    assert!(
        texts.clone().count() == names.len() && texts.clone().all(|text| text.trim().len() > 5),
        "{listed}"
    );
    let node = StubServer::start(3);
    let at = ports::free();
    let address = at.to_string();
    let mut relay = Relay::prepare([node.address()], &["--metrics", &address]);
    relay.spawn();
    relay.wait_ready();
    let mut client = Client::connect(relay.listen());
    client.ping();
    node.mine();
    // What a line names, of the listed: a histogram's lines have endings.
    let listed_of = |line: &str| {
        let name = line.split(['{', ' ']).next().unwrap_or("");
        let ends = ["", "_bucket", "_sum", "_count"].map(|end| name.strip_suffix(end));
        ends.into_iter().flatten().find(|name| names.contains(name)).map(str::to_owned)
    };
    wait::for_("every metric", || {
        let text = scrape(at).unwrap_or_default();
        let seen: BTreeSet<String> = text.lines().filter_map(listed_of).collect();
        names.iter().all(|name| seen.contains(*name) && text.contains(&format!("# HELP {name} ")))
    });
    let text = scrape(at).unwrap();
    let served = text.split_once("\r\n\r\n").unwrap().1;
    let samples = served.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let undocumented: Vec<&str> = samples.filter(|line| listed_of(line).is_none()).collect();
    assert!(undocumented.is_empty(), "not documented: {undocumented:?}");
    // Type and labels are as the list says.
    for line in listed.lines().filter(|line| !line.starts_with(' ')) {
        let (name, rest) = line.split_once(" {").unwrap();
        let (labels, kind) = rest.split_once("} ").unwrap();
        let kind = kind.split(',').next().unwrap();
        assert!(served.contains(&format!("# TYPE {name} {kind}\n")), "{line}");
        let bucket = served.lines().find(|line| listed_of(line).as_deref() == Some(name)).unwrap();
        let inside =
            bucket.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(in_, _)| in_);
        let mut said: Vec<&str> =
            inside.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name).collect();
        let mut wanted: Vec<&str> = labels.split(", ").filter(|label| !label.is_empty()).collect();
        said.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(said, wanted, "{line}");
    }
    // Nothing else is served there.
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET /other HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    relay.stop();
}
