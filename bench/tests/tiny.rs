//! Every benchmark runs at its smallest, so that none rots. Nothing is said about time.

#![allow(clippy::unwrap_used)] // A test may panic; that is how it fails.

use std::process::Command;

/// What the benchmark prints; it must end well.
fn bench(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_breakwater-bench")).args(words).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {error}{text}");
    text.into_owned()
}

fn tiny(name: &str) {
    let text = bench(&[name, "--tiny"]);
    assert!(
        text.contains("at most") || text.contains("at least"),
        "{name} gives a number against its target: {text}"
    );
}

#[test]
fn fanout_runs() {
    tiny("fanout");
}

#[test]
fn ping_runs() {
    tiny("ping");
}

#[test]
fn idle_runs() {
    tiny("idle");
}

#[test]
fn alloc_runs() {
    tiny("alloc");
}

#[test]
fn tls_runs() {
    tiny("tls");
}

#[test]
fn floors_run() {
    tiny("floors");
}

/// Needs the binary `breakwater` beside the benchmark's: `cargo test --workspace` builds it. Of the others those run that
/// are installed.
#[test]
fn compare_runs() {
    tiny("compare");
}

/// Needs the binary `breakwater`, as `compare`.
#[test]
fn million_runs() {
    let folder = tempfile::tempdir().unwrap();
    let text = bench(&["million", "--tiny", "--report", folder.path().to_str().unwrap()]);
    for met in [
        "clients lost or refused",
        "announcements of transactions that did not come",
        "behind the newest block",
    ] {
        let line = text.lines().find(|line| line.contains(met)).unwrap();
        assert!(line.contains("0 (at most 0: met)"), "{text}");
    }
    assert!(folder.path().join("report.json").is_file());
}

#[test]
fn every_subject_whose_instructions_are_counted_runs() {
    for group in ["wire", "sweep", "seen", "link"] {
        let list = bench(&["instructions", "--what", group]);
        assert!(!list.is_empty());
        for line in list.lines() {
            let (number, _) = line.split_once('\t').unwrap();
            bench(&["instructions", "--what", group, "--subject", number]);
        }
    }
}

#[test]
fn handshake_runs() {
    tiny("handshake");
}

#[test]
fn blocks_runs() {
    tiny("blocks");
}

#[test]
fn ibd_runs() {
    tiny("ibd");
}

#[test]
fn scale_runs() {
    tiny("scale");
}
