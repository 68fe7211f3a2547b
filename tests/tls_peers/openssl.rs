//! `openssl s_client`, in its interactive mode: it tells of the session and takes commands between messages.

use std::path::Path;
use std::process::Command;

use crate::support::client::Client;

use super::life;
use super::papers::Papers;
use super::scene::{Scene, entry};
use super::tunnel::{Tunnel, assert_said};

/// s_client to the scene's relay, which has to show a certificate of the scene's authority.
fn s_client(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &scene.tls.to_string(), "-verify_return_error", "-CAfile"]);
    command.arg(scene.papers.authority());
    command.args(arguments);
    command
}

fn open(scene: &Scene, arguments: &[&str]) -> (Tunnel, Client) {
    Tunnel::open(s_client(scene, arguments))
}

/// A life with these arguments, ended by its command Q (a close_notify); all that it said.
#[track_caller]
fn lives(scene: &Scene, arguments: &[&str]) -> String {
    let (tunnel, mut client) = open(scene, arguments);
    life::whole(&mut client, &scene.node);
    tunnel.command("Q");
    let (status, said) = tunnel.end();
    assert!(status.success(), "{status}: {said}");
    said
}

/// It cannot connect; all that it said.
#[track_caller]
fn refused(scene: &Scene, arguments: &[&str]) -> String {
    let (tunnel, mut client) = open(scene, arguments);
    client.expect_closed(crate::support::wait::PATIENCE);
    let (status, said) = tunnel.end();
    assert!(!status.success(), "{status}: {said}");
    said
}

/// A full handshake.
pub fn full() {
    let scene = Scene::new();
    let said = lives(&scene, &["-servername", "localhost"]);
    for line in ["New, TLSv1.3", "Verify return code: 0 (ok)", "subject=CN = localhost"] {
        assert_said(&said, line);
    }
    assert_said(&said, "Max Early Data: 0");
}

/// The ticket of one session opens the next.
pub fn resumed() {
    let scene = Scene::new();
    let ticket = scene.papers.path("session").display().to_string();
    assert_said(&lives(&scene, &["-sess_out", &ticket]), "New, TLSv1.3");
    assert_said(&lives(&scene, &["-sess_in", &ticket]), "Reused, TLSv1.3");
    // A ticket is good for more than one session, as several connections of a browser are.
    assert_said(&lives(&scene, &["-sess_in", &ticket]), "Reused, TLSv1.3");
}

/// Its KeyUpdates: `K` asks for ours in return, `k` does not. Traffic goes on both ways after each.
pub fn key_updates() {
    let scene = Scene::new();
    let trace = scene.papers.path("trace");
    let (tunnel, mut client) = open(&scene, &["-msg", "-msgfile", &trace.display().to_string()]);
    life::whole(&mut client, &scene.node);
    for (index, (command, theirs)) in
        [("K", 1), ("k", 1), ("K", 2), ("K", 3), ("k", 3)].into_iter().enumerate()
    {
        tunnel.command(command);
        tunnel.wait_said("KEYUPDATE", index + 1);
        life::goes_on(&mut client, &scene.node);
        assert_eq!(count(&trace, "<<< TLS 1.3", "KeyUpdate"), theirs, "after {command}");
    }
    assert_eq!(count(&trace, ">>> TLS 1.3", "KeyUpdate"), 5, "s_client sent all of them");
    assert!(!tunnel.said().contains("alert"), "{}", tunnel.said());
    tunnel.command("Q");
    assert!(tunnel.end().0.success());
}

/// TLS 1.2 and older are refused with the alert for that.
pub fn old_versions_are_refused() {
    let scene = Scene::new();
    assert_said(&refused(&scene, &["-tls1_2"]), "alert protocol version");
    // SECLEVEL=0, or s_client would refuse to say so. rustls misses the signature_algorithms of TLS 1.2 before it looks at the
    // version, and then says handshake_failure.
    for version in ["-tls1_1", "-tls1"] {
        let said = refused(&scene, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(
            ["alert protocol version", "alert handshake failure"].iter().any(|a| said.contains(a)),
            "{said}"
        );
    }
    lives(&scene, &["-tls1_3"]);
}

/// Each of the three suites.
pub fn suites() {
    let scene = Scene::new();
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        assert_said(&lives(&scene, &["-ciphersuites", suite]), &format!("Cipher is {suite}"));
    }
    assert_said(&refused(&scene, &["-ciphersuites", "TLS_AES_128_CCM_SHA256"]), "alert handshake failure");
}

/// Padded records and small ones.
pub fn records() {
    let scene = Scene::new();
    for arguments in [&["-record_padding", "4096"][..], &["-max_send_frag", "512"], &["-maxfraglen", "512"]] {
        lives(&scene, arguments);
    }
}

/// Each of the groups, a HelloRetryRequest among them, and one that we do not have.
pub fn groups() {
    let scene = Scene::new();
    for group in ["X25519", "P-256", "P-384", "P-521:P-256"] {
        lives(&scene, &["-groups", group]);
    }
    assert_said(&refused(&scene, &["-groups", "P-521"]), "alert handshake failure");
}

/// Without ALPN anybody is welcome; with it, those who offer ours.
pub fn alpn() {
    let scene = Scene::new();
    assert_said(&lives(&scene, &["-alpn", "h2,bitcoin/1"]), "ALPN protocol: bitcoin/1");
    assert_said(&lives(&scene, &[]), "No ALPN negotiated");
    // s_client has no name for this alert, which is number 120.
    assert_said(&refused(&scene, &["-alpn", "http/1.1"]), "no application protocol");
}

/// The certificate is the one for the name asked for; the first one for those who ask for another or for none.
pub fn names() {
    let papers = Papers::new();
    let first = papers.server(&["localhost"]);
    let second = papers.server(&["relay.example", "*.wild.example"]);
    let settings = format!("tls_certificates = [{}, {}]", entry(&first), entry(&second));
    let scene = Scene::with_papers(papers, &settings);
    for (name, subject) in [
        ("localhost", "localhost"),
        ("relay.example", "relay.example"),
        ("a.wild.example", "relay.example"),
        ("unknown.example", "localhost"),
    ] {
        assert_said(&lives(&scene, &["-servername", name]), &format!("subject=CN = {subject}"));
    }
    assert_said(&lives(&scene, &["-noservername"]), "subject=CN = localhost");
}

/// A relay that ends says so to its clients: close_notify, not only an end of the stream.
pub fn close_notify_of_a_relay_that_ends() {
    let mut scene = Scene::new();
    let trace = scene.papers.path("trace");
    let (tunnel, mut client) = open(&scene, &["-msg", "-msgfile", &trace.display().to_string()]);
    life::whole(&mut client, &scene.node);
    assert!(scene.relay.stop().success());
    client.expect_closed(crate::support::wait::PATIENCE);
    let (status, said) = tunnel.end();
    assert!(status.success(), "{status}: {said}");
    assert_eq!(count(&trace, "<<< TLS 1.3, Alert", "warning close_notify"), 1);
}

/// A certificate of the client's: shown when it may be, demanded when it must be.
pub fn client_certificates() {
    let papers = Papers::new();
    let (good, bad) = (papers.client("wallet.example"), Papers::of("another authority"));
    let foreign = bad.client("foreign.example");
    let authority = super::scene::quoted(&papers.authority());
    let file = |path: &Path| path.display().to_string();
    let shown = ["-cert".into(), file(&good.chain), "-key".into(), file(&good.key)];
    let unknown = ["-cert".into(), file(&foreign.chain), "-key".into(), file(&foreign.key)];
    let shown = shown.each_ref().map(String::as_str);
    let unknown = unknown.each_ref().map(String::as_str);

    let optional = format!("tls_client_auth = \"optional\"\ntls_client_ca = {authority}");
    let scene = Scene::with_papers(papers, &optional);
    assert_said(&lives(&scene, &shown), "Acceptable client certificate CA names");
    lives(&scene, &[]);
    assert_said(&refused(&scene, &unknown), "alert unknown ca");
    let Scene { papers, .. } = scene;

    let required = format!("tls_client_auth = \"required\"\ntls_client_ca = {authority}");
    let scene = Scene::with_papers(papers, &required);
    lives(&scene, &shown);
    assert_said(&refused(&scene, &[]), "alert certificate required");
    assert_said(&refused(&scene, &unknown), "alert unknown ca");

    // With a ticket nothing is shown again; the identity comes with the ticket.
    let ticket = scene.papers.path("session").display().to_string();
    assert_said(&lives(&scene, &[&shown[..], &["-sess_out", &ticket]].concat()), "New, TLSv1.3");
    assert_said(&lives(&scene, &["-sess_in", &ticket]), "Reused, TLSv1.3");
}

/// Lines of an s_client trace that hold both.
fn count(trace: &Path, direction: &str, what: &str) -> usize {
    let text = std::fs::read_to_string(trace).expect("trace");
    text.lines().filter(|line| line.contains(direction) && line.contains(what)).count()
}
