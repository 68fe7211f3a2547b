//! `breakwater ctl` against the real server: every call as a subcommand, tables, JSON, one sentence for an error.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use breakwater::base::Tags;
use breakwater::control::admin::{Event, What};
use serde_json::Value;

use crate::relay::NOW;
use crate::server::{Server, TOKEN, Tcp};
use crate::support::wait;

fn command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
    command.arg("ctl").arg("--socket").arg(&server.socket).args(arguments).stdin(Stdio::null());
    command
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    command(server, arguments).output().expect("the binary starts")
}

/// What it prints when it ends well.
#[track_caller]
fn said(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one sentence of an error with this status; nothing on standard output.
#[track_caller]
fn sentence(output: &Output, status: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(
        output.stdout.is_empty() && text.lines().count() == 1 && text.starts_with("breakwater: "),
        "{text}"
    );
    text
}

#[test]
fn clients_are_a_table_of_eighty_columns() {
    let server = Server::start(Tcp::No);
    let text = said(&server, &["clients", "--limit", "3", "--class", "free"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["ID", "ADDRESS", "CLASS", "OVER", "FOR", "RTT", "IN", "OUT", "AGENT"]
    );
    assert_eq!(
        lines[1].split_whitespace().collect::<Vec<_>>()[..8],
        ["0-1-7", "10.0.0.1:50000", "free", "v2", "1s", "-", "1.0k", "2.0M"]
    );
    assert!(lines[4].starts_with("more: --after 0-"), "{text}");
    assert_eq!(lines.len(), 5);
    // Where the name begins, which is the last and is cut on a terminal, all else stands within eighty.
    assert!(lines[1..4].iter().all(|line| line.find("10.0.0.") == lines[0].find("ADDRESS")), "{text}");
    assert!(
        lines[0]
            .find("AGENT")
            .is_some_and(|at| at < 70 && lines[1..4].iter().all(|line| line[at..].starts_with('/')))
    );
    let all = said(&server, &["clients", "--all", "--transport", "tls"]);
    assert_eq!((all.lines().count(), all.matches("AGENT").count()), (101, 1));
}

#[test]
fn json_is_the_servers_own() {
    let server = Server::start(Tcp::No);
    for (arguments, path) in [
        (&["info"][..], "/info"),
        (&["clients", "--limit", "2"], "/clients?limit=2"),
        (&["client", "1-2-7"], "/clients/1-2-7"),
        (&["nodes"], "/nodes"),
        (&["services"], "/services"),
        (&["bans"], "/bans"),
        (&["defaults"], "/defaults"),
        (&["throttles"], "/throttles"),
        (&["priority"], "/priority"),
        (&["tags"], "/tags"),
        (&["ready"], "/readyz"),
    ] {
        let json: Value = serde_json::from_str(&said(&server, &[arguments, &["--json"]].concat())).unwrap();
        assert_eq!(json, server.expect(200, "GET", path, None), "{arguments:?}");
        assert!(!said(&server, arguments).contains('{'), "{arguments:?}: a table is no JSON");
    }
    let pages = said(&server, &["clients", "--all", "--limit", "100", "--json"]);
    let pages: Vec<Value> = pages.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(pages.iter().map(|page| page["clients"].as_array().unwrap().len()).sum::<usize>(), 300);
}

#[test]
fn each_call_asks_the_relay_for_what_was_typed() {
    let server = Server::start(Tcp::No);
    let key = format!("key:{}", "0a".repeat(32));
    let cases: &[(&[&str], &str, &str)] = &[
        (&["kick", "0-1-7", "0-2-7"], "2 clients", "End(Kicked)"),
        (&["kick", "0-1-7"], "1 client", "End(Kicked)"),
        (&["kick", "--network", "10.0.0.0/30", "--service", "0"], "4 clients", "service: Some(ServiceId(0))"),
        (&["pause", "--for", "1.5s", "--everybody"], "300 clients", "Pause(1.5s)"),
        (
            &["throttle", "0-1-7", "--down", "2MB", "--up", "none"],
            "1 client",
            "down: Bytes(2000000), up: Unlimited",
        ),
        (&["tag", "0-1-7", "--add", "gold", "--add", "old"], "1 client", "add: Tags(3)"),
        (&["kick", "--tag", "gold", "--tag", "old", "--class", "free"], "0 clients", "tags: Tags(3)"),
        (&["remove-tag", "old"], "0 clients", "remove: Tags(2)"),
        (&["set", "0-1-7", "--capacity", "9", "--factors", "1,2,0.5"], "1 client", "request: 0.5"),
        (
            &["ban", "192.0.2.0/24", "--for", "1h", "--reason", "floods"],
            "3 clients",
            "ban 192.0.2.0/24 3600s \"floods\"",
        ),
        (&["unban", "192.0.2.0/24"], "", "unban 192.0.2.0/24"),
        (&["add-node", "v2:[::1]:8333"], "", "node v2:[::1]:8333"),
        (&["remove-node", "v2:[::1]:8333"], "", "no node v2:[::1]:8333"),
        (
            &["set-identity", "192.0.2.0/24", "--capacity", "5", "--tag", "gold"],
            "capacity",
            "account 192.0.2.0/24",
        ),
        (&["set-identity", &key, "--capacity", "5"], &key, "account key:0a"),
        (&["add-balance", "192.0.2.0/24", "50"], "0 -> 50", "balance 192.0.2.0/24 50"),
        (&["add-balance", "192.0.2.0/24", "-20"], "50 -> 30", "balance 192.0.2.0/24 -20"),
        (&["balance", "192.0.2.0/24"], "positive  30", "balance"),
        (&["identity", "192.0.2.0/24"], "balance.positive  30", "account"),
        (&["remove-identity", &key], "", "no account key:0a"),
        (
            &["set-defaults", "--connected-bias", "2m", "--up", "1kB"],
            "connected_bias",
            "connected_bias: Some(120)",
        ),
        (&["set-throttle", "class:free", "--down", "1G"], "", "throttle Class(Free) Bytes(1000000000) Keep"),
        (&["set-throttle", "service:3", "--up", "5"], "", "throttle Service(ServiceId(3)) Keep Bytes(5)"),
        (&["set-throttle", "all", "--up", "none"], "", "throttle All Keep Unlimited"),
        (
            &["add-service", "light", "--listen", "127.0.0.1:8444", "--tls", "--sessions", "5"],
            "service 1",
            "probes: 50",
        ),
        (&["change-service", "1", "--sessions", "6", "--bits", "all"], "max_sessions", "bits: Some(None)"),
        (&["service", "1"], "max_sessions  6", "services"),
        (&["drain-service", "0"], "77 clients", "drain 0"),
        (&["remove-service", "0"], "77 clients", "no service 0"),
        (&["reload"], "changed", "reload"),
        (&["reload-certificates"], "2 certificates", "certificates"),
    ];
    for (arguments, answer, asked) in cases {
        let text = said(&server, arguments);
        assert!(text.contains(answer) && (!answer.is_empty() || text.is_empty()), "{arguments:?}: {text:?}");
        assert!(server.last().contains(asked), "{arguments:?}: {asked:?} is not in {:?}", server.last());
    }
    assert!(said(&server, &["throttles"]).contains("service:3"));
    said(&server, &["log-level", "trace"]);
    assert_eq!(*server.level.lock().unwrap(), Some(tracing::Level::TRACE));
    assert_eq!(said(&server, &["metrics"]), "breakwater_clients 300\n");
    assert_eq!(said(&server, &["ready"]), "ready\n");
}

#[test]
fn an_error_is_one_sentence_and_a_status() {
    let server = Server::start(Tcp::No);
    for (arguments, words) in [
        (&["kick", "9-9-9"][..], "ids: 9-9-9 is unknown"),
        (&["client", "none"], "id: none, expected a client's id: SHARD-SLOT-GENERATION"),
        (&["ban", "here", "--for", "1h"], "network: here, expected"),
        (&["clients", "--limit", "0"], "limit: 0, expected 1 to 1000"),
        (&["events", "--kind", "news"], "kind: news, expected one of connect"),
    ] {
        let text = sentence(&run(&server, arguments), 1);
        assert!(text.contains(words), "{arguments:?}: {words:?} is not in {text}");
    }
    *server.has_tip.lock().unwrap() = false;
    assert!(sentence(&run(&server, &["ready"]), 1).contains("no tip is known"));
    let before = server.asked.lock().unwrap().len();
    for (arguments, words) in [
        (&["kick"][..], "--everybody"),
        (&["kick", "0-1-7", "--everybody"], "one of these three"),
        (&["pause", "0-1-7", "--for", "soon"], "--for is soon, expected a time"),
        (&["throttle", "0-1-7", "--down", "fast"], "--down is fast, expected bytes a second"),
        (&["set-throttle", "some", "--up", "1"], "SCOPE is some"),
        (&["add-service", "x", "--listen", "127.0.0.1:1"], "--sessions is missing"),
        (&["log-level", "loud"], "loud"),
        (&["frobnicate"], "frobnicate"),
        (&["info", "--url", "http://127.0.0.1:1"], "--socket"),
    ] {
        let text = sentence(&run(&server, arguments), 2);
        assert!(text.contains(words), "{arguments:?}: {words:?} is not in {text}");
    }
    assert_eq!(server.asked.lock().unwrap().len(), before);
}

#[test]
fn a_relay_that_is_not_there_is_said_so() {
    let output = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
        command.arg("ctl").args(arguments).output().unwrap()
    };
    let text = sentence(&output(&["--socket", "/nowhere/admin.sock", "info"]), 1);
    assert!(text.contains("/nowhere/admin.sock") && text.contains("is the relay running"), "{text}");
    assert!(sentence(&output(&["--url", "https://h:1", "info"]), 2).contains("ssh -L"));
    let text = sentence(&output(&["--url", "http://h:1", "--token-file", "/nowhere", "info"]), 1);
    assert!(text.contains("--token-file /nowhere"), "{text}");
}

#[test]
fn over_tcp_it_shows_its_token() {
    let server = Server::start(Tcp::Token);
    let url = format!("http://{}", server.address.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let run = |token: &str| {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
        command.args(["ctl", "--url", &url, "--token-file"]).arg(&file).arg("info").output().unwrap()
    };
    assert!(run(TOKEN).status.success());
    assert!(sentence(&run("another-token-of-length"), 1).contains("the token of admin_token_file"));
}

#[test]
fn events_are_followed_until_the_relay_ends() {
    let mut server = Server::start(Tcp::No);
    let mut command = command(&server, &["events", "--kind", "tip"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    wait::for_("a watcher", || server.events.is_watched());
    let what = What::Tip { height: 7, hash: "ab".into() };
    let event = Event {
        time: NOW,
        what,
        tags: Tags::default(),
        total_capacity: 100,
        connected_capacity: 60,
        priority_connected_capacity: 6,
    };
    server.events.tell(event);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, format!("{NOW} tip hash=ab height=7 capacity=60/100\n"));
    server.stop();
    assert!(child.wait().unwrap().success());
}

#[test]
fn shells_get_their_completions() {
    for (shell, words) in [("bash", "set-throttle"), ("zsh", "set-throttle"), ("fish", "set-throttle")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
        let output = command.args(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(words), "{shell}");
    }
}
