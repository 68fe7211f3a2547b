//! `breakwater-rig run` on real sockets: its contract with scripts (exit status, report.json), honest counting when the target
//! refuses, dies, or hangs, Ctrl-C, and that it loads a relay and nodes that are not ours alike.
//!
//! Targets: the relay's own binary in front of a stub node; a stub node itself; bcoin (npm), and Bitcoin Core when `BITCOIND` names one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

mod foreign;
mod transports;
mod world;

use std::net::TcpListener;
use std::time::Duration;

use world::{Rig, World, free};

#[test]
fn a_run_against_the_relay_does_what_was_asked() {
    let world = World::start();
    let run = Rig::new(&world.relay())
        .args(&["--clients", "300", "--ramp", "1000/s", "--for", "3s", "--seed", "7", "--ping-every", "1s"])
        .args(&["--behaviour", "idle=0.9", "--behaviour", "pinger=0.1", "--watch", &world.node().to_string()])
        .start();
    run.until_ready(300);
    let hash = world.mine();
    let (status, report) = run.end();
    assert_eq!(status, Some(0), "{report:#}");
    let clients = &report["clients"];
    for (field, wanted) in [("asked", 300), ("connected", 300), ("handshaken", 300), ("lost", 0)] {
        assert_eq!(clients[field], wanted, "{field}");
    }
    assert_eq!(clients["refused"], serde_json::json!({}));
    assert_eq!(report["latency_us"]["block_announce"]["count"], 300, "block {hash:?}");
    assert_eq!(report["latency_us"]["connect"]["count"], 300);
    let pings = &report["pings"];
    assert!(pings["sent"].as_u64().unwrap() >= 300, "{pings}");
    assert_eq!(pings["sent"], pings["answered"], "{pings}");
    assert_eq!(report["behaviours"]["pinger"]["clients"]["asked"], 30);
    assert_eq!(report["origin"], "node");
    assert!(report["target"]["rss_bytes"].as_u64().unwrap() > 0, "the relay's process was found by its port");
}

#[test]
fn transactions_reach_everybody_and_are_counted() {
    let world = World::start();
    let run = Rig::new(&world.relay()).args(&["--clients", "50", "--ramp", "all", "--for", "4s"]).start();
    run.until_ready(50);
    world.make_txs(30);
    let (status, report) = run.end();
    assert_eq!(status, Some(0));
    assert_eq!(report["behaviours"]["idle"]["counts"]["txs_heard"], 50 * 30, "{report:#}");
    assert!(report["latency_us"]["tx_announce"]["count"].as_u64().unwrap() >= 50);
}

#[test]
fn clients_that_churn_are_not_lost() {
    let world = World::start();
    let (status, report) = Rig::new(&world.relay())
        .args(&["--clients", "100", "--ramp", "all", "--for", "4s", "--churn", "0.5"])
        .start()
        .end();
    assert_eq!(status, Some(0), "{report:#}");
    assert_eq!(report["clients"]["lost"], 0);
    let counters = &report["behaviours"]["idle"]["counts"];
    let handshakes = counters["handshakes"].as_u64().unwrap();
    assert!(handshakes >= 200, "{handshakes} handshakes of 100 clients of which half leave each second");
    assert_eq!(counters["handshakes"], counters["connections"]);
}

#[test]
fn a_target_that_refuses_is_counted_and_the_run_ends_early() {
    let (status, report) =
        Rig::new(&free()).args(&["--clients", "40", "--ramp", "all", "--for", "300s"]).start().end();
    assert_eq!(status, Some(3));
    assert_eq!(report["clients"]["refused"]["connection refused"], 40, "{report:#}");
    assert_eq!(report["clients"]["connected"], 0);
    assert!(report["wall_seconds"].as_f64().unwrap() < 60.0, "nobody was left to wait for");
}

#[test]
fn sources_that_are_not_this_hosts_are_refusals_with_their_reason() {
    let world = World::start();
    let (status, report) = Rig::new(&world.relay())
        .args(&["--clients", "10", "--ramp", "all", "--for", "300s", "--sources", "10.99.0.0/24"])
        .start()
        .end();
    assert_eq!(status, Some(3));
    assert_eq!(report["clients"]["refused"]["no source address or port left"], 10, "{report:#}");
}

#[test]
fn a_target_that_dies_is_counted_and_the_run_ends_early() {
    let mut world = World::start();
    let run = Rig::new(&world.relay()).args(&["--clients", "60", "--ramp", "all", "--for", "300s"]).start();
    run.until_ready(60);
    world.kill_relay();
    let (status, report) = run.end();
    assert_eq!(status, Some(3));
    assert_eq!(report["clients"]["lost"], 60, "{report:#}");
    assert_eq!(report["clients"]["handshaken"], 60);
}

#[test]
fn a_target_that_says_nothing_is_given_up() {
    // Accepts nothing and says nothing: connections stay in its backlog.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    std::fs::write(&file, "handshake_timeout = \"1s\"\nclients = 5\nramp = \"all\"\nduration = \"300s\"\n")
        .unwrap();
    let (status, report) =
        Rig::new(&mute.local_addr().unwrap()).args(&["--scenario", file.to_str().unwrap()]).start().end();
    assert_eq!(status, Some(3));
    assert_eq!(report["clients"]["refused"]["handshake timed out"], 5, "{report:#}");
}

#[test]
fn an_interrupted_run_writes_its_report() {
    let world = World::start();
    let run = Rig::new(&world.relay()).args(&["--clients", "20", "--ramp", "all", "--for", "300s"]).start();
    run.until_ready(20);
    run.interrupt();
    let (status, report) = run.end();
    assert_eq!(status, Some(0));
    assert_eq!(report["interrupted"], true);
    assert_eq!(report["clients"]["handshaken"], 20);
    assert_eq!(report["clients"]["lost"], 0);
}

#[test]
fn more_clients_than_one_ring_holds_get_more_rings() {
    let world = World::start();
    let (status, report) = Rig::new(&world.relay())
        .args(&["--clients", "100", "--ramp", "all", "--for", "1s", "--rings", "4"])
        .start()
        .end();
    assert_eq!(status, Some(0));
    assert_eq!(report["asked"]["rings"], 4);
    assert_eq!(report["clients"]["handshaken"], 100);
}

#[test]
fn bad_scenarios_are_one_sentence_and_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    for (text, says) in [
        ("clents = 5", "clents"),
        ("targets = [\"127.0.0.1:1\"]\nclients = 5\nramp = \"fast\"", "`ramp` is fast"),
        ("targets = [\"127.0.0.1:1\"]\nclients = 5\n[[behaviour]]\nname = \"idel\"", "idel"),
        ("targets = [\"8.8.8.8:8333\"]\nclients = 5", "--i-operate-this-target"),
        ("clients = 5", "`targets`"),
    ] {
        std::fs::write(&file, text).unwrap();
        let (status, said) = world::said(&["run", "--scenario", file.to_str().unwrap()]);
        assert_eq!(status, Some(2), "{text}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        assert!(said.contains(says), "{text}: {said}");
    }
    for bad in
        [&["run", "--target"][..], &["run", "--clients", "x"], &["fly"], &["run", "--behaviour", "x=1"]]
    {
        let (status, said) = world::said(bad);
        assert_eq!((status, said.trim().lines().count()), (Some(2), 1), "{bad:?}: {said}");
    }
}

#[test]
fn attackers_get_what_the_table_says_and_harm_nobody() {
    let world = World::start();
    let (status, report) = Rig::new(&world.relay())
        .args(&["--clients", "200", "--ramp", "all", "--for", "6s", "--ping-every", "1s"])
        .args(&["--behaviour", "idle=0.5", "--behaviour", "attackers=0.5"])
        .start()
        .end();
    assert_eq!(status, Some(0), "{report:#}");
    let attackers = &report["behaviours"]["attackers"];
    assert_eq!(attackers["errors"], serde_json::json!({}), "each row has its outcome");
    assert!(attackers["counts"]["thrown_out"].as_u64().unwrap() > 20, "{attackers}");
    assert!(attackers["counts"]["forgiven"].as_u64().unwrap() > 20, "{attackers}");
    assert_eq!(report["behaviours"]["idle"]["clients"]["lost"], 0);
}

#[test]
fn the_mix_of_a_network_goes_through_the_relay() {
    let world = World::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    let parts = ["idle", "pinger", "wallet", "ibd", "tip", "scanner", "reconnector"];
    let parts: String = parts.iter().map(|name| format!("[[behaviour]]\nname = \"{name}\"\n")).collect();
    std::fs::write(&file, format!("clients = 70\nramp = \"all\"\nduration = \"8s\"\n{parts}")).unwrap();
    let run = Rig::new(&world.relay()).args(&["--scenario", file.to_str().unwrap()]).start();
    run.until_ready(30);
    for _ in 0..3 {
        world.make_txs(5);
        world.mine();
        std::thread::sleep(Duration::from_secs(1));
    }
    let (status, report) = run.end();
    let of = |name: &str, counter: &str| report["behaviours"][name]["counts"][counter].as_u64().unwrap();
    assert_eq!(status, Some(0), "{report:#}");
    assert!(of("wallet", "answers") >= 10 * 3, "headers, filter headers, filters: {report:#}");
    assert!(of("ibd", "blocks_received") >= 10 * 150, "{report:#}");
    assert!(of("tip", "blocks_heard") >= 10 * 3, "{report:#}");
    assert!(of("scanner", "connections") > 10, "a scanner comes again");
    assert!(report["latency_us"]["request"]["count"].as_u64().unwrap() > 0);
    for name in ["idle", "pinger", "wallet", "ibd", "tip", "scanner", "reconnector"] {
        assert_eq!(report["behaviours"][name]["errors"], serde_json::json!({}), "{name}");
    }
}
