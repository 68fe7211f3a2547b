//! The web page of a real relay in a headless Chromium, driven by Playwright.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use support::client::Client;
use support::relay::Relay;
use support::stub_node::StubServer;

/// A browser with one page.
struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Browser {
    fn start() -> Browser {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = root.join("target/peers/page");
        assert!(modules.join("installed").exists(), "Playwright is missing: run ci/install-peers");
        let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
        let chromium = chromium.into_iter().find(|path| Path::new(path).exists());
        let chromium = chromium.expect("Chromium is missing: run ci/install-peers");
        let mut child = Command::new("node")
            .arg(root.join("tests/support/peers/page/browser.js"))
            .args([modules.as_os_str(), chromium.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node.js starts");
        let (to, from) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Browser { child, to, from }
    }

    #[track_caller]
    fn ask(&mut self, command: Value) -> Value {
        writeln!(self.to.as_mut().unwrap(), "{command}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{command}: {line:?}"));
        assert!(answer.get("failed").is_none(), "{command}: {answer}");
        answer["ok"].clone()
    }

    /// Waits until the text of what the selector names matches.
    #[track_caller]
    fn text(&mut self, selector: &str, matches: &str) -> String {
        let text = self.ask(json!({"name": "text", "selector": selector, "matches": matches}));
        text.as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn open(&mut self, at: SocketAddr) -> Value {
        self.ask(json!({"name": "open", "url": format!("http://{at}/")}))
    }

    /// Errors and warnings in the console, and requests to elsewhere, since the last time.
    #[track_caller]
    fn troubles(&mut self) -> (Vec<String>, Vec<String>) {
        let troubles = self.ask(json!({"name": "troubles"}));
        let list = |name: &str| serde_json::from_value(troubles[name].clone()).unwrap();
        (list("console"), list("foreign"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its input's end is its own.
        drop(self.to.take());
        let _ = self.child.wait();
    }
}

/// A relay whose admin interface is on TCP, and where.
fn relay(node: &StubServer, extra: &[&str]) -> (Relay, SocketAddr) {
    let at = support::ports::free();
    let address = at.to_string();
    let arguments = ["--shards", "2", "--max-clients", "1000", "--admin", &address];
    let mut relay = Relay::prepare([node.address()], &[&arguments, extra].concat());
    relay.spawn();
    relay.wait_ready();
    (relay, at)
}

fn nothing() -> (Vec<String>, Vec<String>) {
    (Vec::new(), Vec::new())
}

#[test]
fn the_page_shows_a_relay_as_it_lives() {
    let node = StubServer::start(3);
    let (mut relay, at) = relay(&node, &[]);
    let mut browser = Browser::start();
    let answer = browser.open(at);
    let policy = answer["headers"]["content-security-policy"].as_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");

    browser.text("#state", "^live$");
    browser.text("#height", "^3$");
    browser.text("#clients", "^0$");
    browser.text("#relay", "regtest, since");
    browser.text("#nodes tbody tr", &format!("{}up", node.address()));
    browser.text("#services tbody tr", "openplain");

    let mut client = Client::connect(relay.listen());
    client.ping();
    browser.text("#clients", "^1$");
    browser.text("#plain", "^1$");
    browser.text("#clients_plot text", "^1$");
    // Shards say what they do once they have reported twice.
    browser.text("#shards tbody tr:nth-child(2)", "%");
    node.mine();
    browser.text("#height", "^4$");
    browser.text("#events tbody tr", "tip4");
    let tip = browser.text("#tip", "^[0-9a-f]{64}$");
    browser.text("#events tbody tr", &tip);
    browser.text("#told", "^1$");
    browser.text("#p99", " ms$");
    let drawn = |id: &str| json!({"name": "run", "script": format!("document.querySelector('#{id} path').getAttribute('d').length")});
    assert!(browser.ask(drawn("clients_plot")).as_u64() > Some(10));
    assert!(browser.ask(drawn("latency_plot")).as_u64() > Some(10));
    drop(client);
    browser.text("#clients", "^0$");
    assert_eq!(browser.troubles(), nothing());

    // It goes away and comes back: that a request then fails is in the console, as it should be.
    relay.kill();
    browser.text("#state", "^no answer, trying again$");
    relay.restart();
    browser.text("#state", "^live$");
    browser.text("#height", "^4$");
    node.mine();
    browser.text("#events tbody tr", "tip5");
    assert_eq!(browser.troubles().1, nothing().1);
    assert!(relay.stop().success());
}

#[test]
fn a_token_is_asked_for_and_kept_in_the_tab() {
    let node = StubServer::start(1);
    let dir = tempfile::tempdir().unwrap();
    let (file, token) = (dir.path().join("token"), "0123456789abcdef0123");
    std::fs::write(&file, token).unwrap();
    let (mut relay, at) = relay(&node, &["--admin-token-file", file.to_str().unwrap()]);
    let mut browser = Browser::start();
    browser.open(at);
    browser.text("#state", "^locked$");
    assert_eq!(browser.ask(json!({"name": "visible", "selector": "#main"})), false);
    browser.ask(json!({"name": "fill", "selector": "#token", "text": "wrong-and-wrong-again"}));
    browser.ask(json!({"name": "click", "selector": "#door button"}));
    browser.text("#refused", "^the token is missing or wrong$");
    browser.ask(json!({"name": "fill", "selector": "#token", "text": token}));
    browser.ask(json!({"name": "click", "selector": "#door button"}));
    browser.text("#state", "^live$");
    browser.text("#height", "^1$");
    assert_eq!(browser.ask(json!({"name": "visible", "selector": "#door"})), false);
    // The stream of events needs it, too.
    node.mine();
    browser.text("#events tbody tr", "tip2");
    browser.troubles();
    // In this tab alone, and not in the address.
    browser.open(at);
    browser.text("#state", "^live$");
    let kept = json!({"name": "run", "script": "[sessionStorage.getItem('token'), localStorage.length, location.href]"});
    assert_eq!(browser.ask(kept), json!([token, 0, format!("http://{at}/")]));
    assert_eq!(browser.troubles(), nothing());
    assert!(relay.stop().success());
}
