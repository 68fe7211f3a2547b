//! Java's TLS (JSSE): tests/support/peers/tls/Jsse.java. Only where a JDK is installed.

use std::process::Command;

use crate::support::client::{Client, Options};
use crate::support::wait::PATIENCE;

use super::life;
use super::python::script;
use super::scene::Scene;
use super::tunnel::{Tunnel, assert_said};

/// True exactly when there is a `java` that compiles what it runs.
fn is_there() -> bool {
    let modules = Command::new("java").arg("--list-modules").output();
    modules.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("jdk.compiler"))
}

/// Two sessions, and a third with a KeyUpdate that asks for one after every 200 bytes or so.
pub fn lives_and_updates_keys() {
    if !is_there() {
        println!("NOT TESTED: JSSE (needs a JDK)");
        return;
    }
    let scene = Scene::new();
    let (limits, first) = (scene.papers.path("security"), scene.papers.path("first"));
    std::fs::write(&limits, "jdk.tls.keyLimits=AES/GCM/NoPadding KeyUpdate 200").expect("file");
    std::fs::write(&first, version()).expect("file");
    let mut command = Command::new("java");
    command.arg(format!("-Djava.security.properties={}", limits.display()));
    command.arg("-Djavax.net.debug=ssl,handshake").arg(script("Jsse.java"));
    command.args(["localhost", &scene.tls.port().to_string()]).arg(scene.papers.authority());
    command.arg("3").arg(&first);
    let (tunnel, mut client) = Tunnel::open(command);
    life::whole(&mut client, &scene.node);
    for _ in 0..5 {
        life::goes_on(&mut client, &scene.node);
    }
    client.shut_down_sending();
    client.expect_closed(PATIENCE);
    let (status, said) = tunnel.end();
    assert!(status.success(), "{status}: {said}");
    for line in
        ["TLSv1.3 TLS_AES_256_GCM_SHA384", "close_notify", "Produced KeyUpdate", "Consuming KeyUpdate"]
    {
        assert_said(&said, line);
    }
    scene.wait_metric("breakwater_tls_resumed_total{", "", 2);
    assert_eq!(scene.metric("breakwater_tls_full_total{", ""), 1);
    assert_eq!(scene.metric("breakwater_tls_resumed_total{", ""), 2);
}

/// A version message.
fn version() -> Vec<u8> {
    use bitcoin::consensus::serialize;
    use bitcoin::p2p::Magic;
    use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let client = Client::open(listener.local_addr().expect("port"), None).expect("our own port");
    let version = client.version_message(&Options::default());
    serialize(&RawNetworkMessage::new(Magic::REGTEST, NetworkMessage::Version(version)))
}
