//! Python's ssl module: tests/support/peers/tls/python_ssl.py.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::wait::PATIENCE;

use super::life;
use super::scene::Scene;
use super::tunnel::Tunnel;

/// A script of ours, below tests/support/peers/tls.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/peers/tls").join(name)
}

/// Two connections with an orderly end, the second with the first one's session, and then a life with the second's.
pub fn lives_and_reuses_sessions() {
    let scene = Scene::new();
    let mut command = Command::new("python3");
    command.arg(script("python_ssl.py")).args(["127.0.0.1", &scene.tls.port().to_string()]);
    command.arg(scene.papers.authority()).arg("2");
    let (tunnel, mut client) = Tunnel::open(command);
    life::whole(&mut client, &scene.node);
    client.shut_down_sending();
    client.expect_closed(PATIENCE);
    let (status, said) = tunnel.end();
    assert!(status.success(), "{status}: {said}");

    let facts: Vec<serde_json::Value> =
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let reused: Vec<_> = facts.iter().map(|f| f["reused"].as_bool()).collect();
    assert_eq!(reused, [Some(false), Some(true), Some(true)], "{said}");
    assert!(facts.iter().all(|f| f["version"] == "TLSv1.3"), "{said}");
    assert!(facts[..2].iter().all(|f| f["has_ticket"] == true), "{said}");
}
