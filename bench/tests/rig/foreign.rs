//! Targets that are not ours: bcoin, and Bitcoin Core when `BITCOIND` names one.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{Process, Rig, free};

fn until_listening(at: std::net::SocketAddr) {
    let start = Instant::now();
    while std::net::TcpStream::connect(at).is_err() {
        assert!(start.elapsed() < Duration::from_secs(60), "{at} does not listen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// As the relay's own tests start it (tests/support/bcoin.rs); installed by ci/install-peers.
fn bcoin(at: std::net::SocketAddr, folder: &std::path::Path) -> Process {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let modules = std::env::var_os("BCOIN_MODULES")
        .map_or_else(|| root.join("target/peers/bcoin/node_modules"), std::path::PathBuf::from);
    let settings = serde_json::json!({
        "dir": folder, "p2p": at.port(), "rpc": free().port(), "filters": false, "bloom": false, "version": 70_015,
    });
    let child = Command::new("node")
        .arg(root.join("tests/support/peers/bcoin-node.js"))
        .arg(settings.to_string())
        .env("BCOIN_MODULES", modules)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("node.js: ci/install-peers says what is needed");
    Process(child)
}

#[test]
fn bcoin_is_loaded_like_the_relay() {
    let (at, folder) = (free(), tempfile::tempdir().unwrap());
    let _node = bcoin(at, folder.path());
    until_listening(at);
    let (status, report) = Rig::new(&at)
        .args(&["--clients", "60", "--ramp", "100/s", "--for", "4s", "--ping-every", "1s"])
        .args(&[
            "--behaviour",
            "idle=0.7",
            "--behaviour",
            "pinger=0.1",
            "--behaviour",
            "ibd=0.1",
            "--behaviour",
            "tip=0.1",
        ])
        .start()
        .end();
    assert_eq!(status, Some(0), "{report:#}");
    assert_eq!(report["clients"]["handshaken"], 60);
    assert_eq!(report["pings"]["sent"], report["pings"]["answered"]);
}

#[test]
fn bitcoin_core_is_loaded_like_the_relay() {
    let Some(bitcoind) = std::env::var_os("BITCOIND") else {
        eprintln!("NOT TESTED: the rig against Bitcoin Core (set BITCOIND)");
        return;
    };
    let (at, onion, rpc, folder) = (free(), free(), free(), tempfile::tempdir().unwrap());
    let child = Command::new(bitcoind)
        .args(["-regtest", "-listenonion=0", "-discover=0", "-dnsseed=0", "-fixedseeds=0", "-natpmp=0"])
        .args(["-printtoconsole=0", "-maxconnections=200", "-blockfilterindex=1", "-peerblockfilters=1"])
        .arg(format!("-datadir={}", folder.path().display()))
        .arg(format!("-rpcport={}", rpc.port()))
        .arg(format!("-bind={onion}=onion"))
        .arg(format!("-whitebind=noban@{at}"))
        .spawn()
        .unwrap();
    let _node = Process(child);
    until_listening(at);
    let (status, report) = Rig::new(&at)
        .args(&["--clients", "100", "--ramp", "100/s", "--for", "4s", "--ping-every", "1s"])
        .args(&[
            "--behaviour",
            "idle=0.7",
            "--behaviour",
            "pinger=0.1",
            "--behaviour",
            "wallet=0.1",
            "--behaviour",
            "tip=0.1",
        ])
        .start()
        .end();
    assert_eq!(status, Some(0), "{report:#}");
    assert_eq!(report["clients"]["handshaken"], 100);
    assert_eq!(report["pings"]["sent"], report["pings"]["answered"]);
}
