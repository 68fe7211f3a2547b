//! Conformance of handshake, record layer and alerts, judged by others: a suite of ours on tlslite-ng, and tlsfuzzer.
//!
//! tlsfuzzer is not in a package registry, so it runs only when TLSFUZZER names a checkout. Which of its scripts concern us,
//! with which arguments, and why the others do not, is the table tests/support/peers/tls/tlsfuzzer.toml.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use serde::Deserialize;

use crate::support::wait;

use super::papers::Papers;
use super::python::script;
use super::scene::Scene;

/// Scripts that run at a time: they mostly wait.
const AT_ONCE: usize = 4;

/// What the cases of our own suite must have been counted as.
const ENDS: [&str; 8] = [
    "not_tls",
    "tls_alert",
    "tls_bad_record",
    "tls_handshake",
    "tls_limit",
    "tls_overflow",
    "tls_unexpected",
    "tls_version",
];

/// The Python with tlslite-ng that ci/install-peers has made.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/tls/bin/python");
    assert!(python.exists(), "{} is missing: run ci/test once, or ci/install-peers", python.display());
    python
}

/// Every case of our own suite.
pub fn tlslite() {
    let scene = Scene::new();
    let mut command = Command::new(python());
    command.arg(script("conformance.py")).args(["127.0.0.1", &scene.tls.port().to_string()]);
    let output = command.output().expect("python");
    let said = words(&output);
    assert!(output.status.success(), "{}", without(&said, "PASS "));
    assert!(said.lines().filter(|line| line.starts_with("PASS ")).count() > 400, "{said}");

    // Each way to end was counted, and nothing of so many broken connections is left.
    for reason in ENDS {
        scene.wait_metric("breakwater_ends_total{", &format!("reason=\"{reason}\""), 1);
    }
    wait::for_("no client is left", || scene.metric("breakwater_clients{", "") == 0);
    assert_eq!(scene.metric("breakwater_clients_tls{", ""), 0);
}

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    script: Vec<Script>,
    left_out: Vec<LeftOut>,
}

/// A script that concerns us.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    name: String,
    /// The kind of the server's key.
    #[serde(default)]
    key: Key,
    #[serde(default)]
    arguments: Vec<String>,
    /// Conversations that do not concern us.
    #[serde(default)]
    except: Vec<Except>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Key {
    #[default]
    Rsa,
    Ecdsa,
}

/// Conversations of a script that are left out, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Except {
    names: Vec<String>,
    #[allow(dead_code)] // For the reader.
    why: String,
}

/// A script that does not concern us, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeftOut {
    name: String,
    #[allow(dead_code)] // For the reader.
    why: String,
}

/// The scripts of tlsfuzzer for TLS 1.3, as the table says.
pub fn tlsfuzzer() {
    let Some(checkout) = std::env::var_os("TLSFUZZER").map(PathBuf::from) else {
        println!("NOT TESTED: tlsfuzzer (set TLSFUZZER=/path/to/checkout)");
        return;
    };
    let text = std::fs::read_to_string(script("tlsfuzzer.toml")).expect("the table");
    let table: Table = toml::from_str(&text).expect("tlsfuzzer.toml");
    assert_complete(&table, &checkout);
    let (rsa, ecdsa) = (Scene::with_papers(Papers::with_rsa(), ""), Scene::new());
    let (waiting, bad) = (Mutex::new(table.script.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(next) = waiting.lock().expect("scripts").next() else { return };
                    let relay = if next.key == Key::Rsa { rsa.tls } else { ecdsa.tls };
                    let output = run(&checkout, next, relay);
                    let said = words(&output);
                    println!("tlsfuzzer {}: {}", next.name, totals(&said));
                    if !output.status.success() {
                        bad.lock().expect("failures").push(format!("==== {}\n{}", next.name, tail(&said)));
                    }
                }
            });
        }
    });
    let bad = bad.into_inner().expect("failures");
    assert!(bad.is_empty(), "{} scripts failed\n{}", bad.len(), bad.join("\n"));
}

/// Every script for TLS 1.3 of the checkout is in the table, so that a new one is noticed.
fn assert_complete(table: &Table, checkout: &Path) {
    let known: BTreeSet<String> = (table.script.iter().map(|s| s.name.clone()))
        .chain(table.left_out.iter().map(|s| s.name.clone()))
        .collect();
    let entries = std::fs::read_dir(checkout.join("scripts")).expect("TLSFUZZER/scripts");
    let files = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
    let there: BTreeSet<String> = files
        .filter_map(|file| Some(file.strip_prefix("test-tls13-")?.strip_suffix(".py")?.to_string()))
        .collect();
    let unknown: Vec<_> = there.difference(&known).collect();
    assert!(unknown.is_empty(), "tlsfuzzer.toml says nothing of {unknown:?}");
}

fn run(checkout: &Path, wanted: &Script, relay: SocketAddr) -> Output {
    let mut command = Command::new(python());
    command.arg(script("tlsfuzzer_script.py")).arg(checkout).arg(format!("test-tls13-{}", wanted.name));
    command.args(["-h", "127.0.0.1", "-p", &relay.port().to_string()]).args(&wanted.arguments);
    for name in wanted.except.iter().flat_map(|except| &except.names) {
        command.args(["-e", name]);
    }
    command.output().expect("python")
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn without(said: &str, beginning: &str) -> String {
    said.lines().filter(|line| !line.starts_with(beginning)).collect::<Vec<_>>().join("\n")
}

/// The counts at the end of a script's output.
fn totals(said: &str) -> String {
    let wanted = ["TOTAL: ", "PASS: ", "FAIL: "];
    let lines = said.lines().filter(|line| wanted.iter().any(|w| line.starts_with(w)));
    lines.collect::<Vec<_>>().join(", ")
}

/// What failed, and the last words.
fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty() && *line != "OK").collect();
    let errors = lines.iter().filter(|line| line.contains("Error: ")).take(5);
    let last = &lines[lines.len().saturating_sub(25)..];
    errors.chain(last).copied().collect::<Vec<_>>().join("\n")
}
