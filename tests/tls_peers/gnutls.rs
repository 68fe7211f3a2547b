//! `gnutls-cli` (Debian: gnutls-bin).

use std::process::Command;

use crate::support::wait::PATIENCE;

use super::life;
use super::scene::Scene;
use super::tunnel::{Tunnel, assert_said};

fn cli(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new("gnutls-cli");
    command.args(["--port", &scene.tls.port().to_string(), "--x509cafile"]);
    command.arg(scene.papers.authority());
    command.args(arguments).arg("localhost");
    command
}

/// A life; all that it said. Its end of input is a close_notify.
#[track_caller]
fn lives(scene: &Scene, arguments: &[&str]) -> String {
    let (tunnel, mut client) = Tunnel::open(cli(scene, arguments));
    life::whole(&mut client, &scene.node);
    client.shut_down_sending();
    client.expect_closed(PATIENCE);
    let (status, said) = tunnel.end();
    assert!(status.success(), "{status}: {said}");
    said
}

/// A full handshake.
pub fn full() {
    let scene = Scene::new();
    let said = lives(&scene, &[]);
    for line in ["The certificate is trusted", "(TLS1.3", "Handshake was completed"] {
        assert_said(&said, line);
    }
}

/// It connects, leaves, and comes back with its ticket.
pub fn resumed() {
    let scene = Scene::new();
    let said = lives(&scene, &["--resume", "--waitresumption"]);
    assert_said(&said, "*** This is a resumed session");
}

/// Each of the three suites.
pub fn suites() {
    let scene = Scene::new();
    for suite in ["AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"] {
        let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+{suite}");
        assert_said(&lives(&scene, &["--priority", &priority]), &format!("({suite})"));
    }
}

/// It asks for small records (record_size_limit), which a server may leave unanswered.
pub fn small_records() {
    let scene = Scene::new();
    assert_said(&lives(&scene, &["--recordsize", "1024"]), "Handshake was completed");
}

/// A client that knows nothing newer than TLS 1.2.
pub fn old_version_is_refused() {
    let scene = Scene::new();
    let (tunnel, mut client) = Tunnel::open(cli(&scene, &["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2"]));
    client.expect_closed(PATIENCE);
    let (status, said) = tunnel.end();
    assert!(!status.success(), "{said}");
    assert_said(&said, "Fatal error: A TLS fatal alert has been received");
    assert_said(&said.to_lowercase(), "protocol version");
}
