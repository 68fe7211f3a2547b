//! Every benchmark runs at its smallest, so that none rots. Nothing is said about time.

#![allow(clippy::unwrap_used)] // A test may panic; that is how it fails.

use std::process::Command;

fn tiny(name: &str) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_breakwater-bench")).args([name, "--tiny"]).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {error}{text}");
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
