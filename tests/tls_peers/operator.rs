//! What an operator does while clients are there: restarts, fleets, reloads of certificates.

use std::net::SocketAddr;

use crate::support::wait;

use super::life;
use super::native::Native;
use super::papers::Papers;
use super::scene::{Scene, quoted};

/// With a file for ticket keys a session outlives the relay that gave it.
pub fn tickets_outlive_a_restart() {
    let papers = Papers::new();
    let settings = format!("tls_ticket_key = {}", quoted(&papers.ticket_key()));
    let mut scene = Scene::with_papers(papers, &settings);
    let native = Native::new(&scene.papers, None);
    assert!(!native.visit(scene.tls).resumed);
    assert!(native.visit(scene.tls).resumed);
    assert!(scene.relay.stop().success());
    scene.relay.restart();
    assert!(native.visit(scene.tls).resumed, "after a restart with the same file");
}

/// Without the file nobody is refused: the old ticket is worth nothing, and a full handshake follows.
pub fn without_the_file_a_restart_forgets() {
    let mut scene = Scene::new();
    let native = Native::new(&scene.papers, None);
    native.visit(scene.tls);
    assert!(native.visit(scene.tls).resumed);
    assert!(scene.relay.stop().success());
    scene.relay.restart();
    assert!(!native.visit(scene.tls).resumed);
    assert!(native.visit(scene.tls).resumed, "with the new ticket");
}

/// Relays that share the file take each other's tickets.
pub fn a_fleet_shares_tickets() {
    let papers = Papers::new();
    let settings = format!("tls_ticket_key = {}", quoted(&papers.ticket_key()));
    let scene = Scene::with_papers(papers, &settings);
    let (_relay, sister) = scene.sister(&settings);
    let native = Native::new(&scene.papers, None);
    assert!(!native.visit(scene.tls).resumed);
    assert!(native.visit(sister).resumed, "the sister takes the ticket");
    assert!(native.visit(scene.tls).resumed, "and gives one that is taken here");
}

/// SIGHUP: new handshakes are shown the new certificate, who is connected stays, tickets are still good.
pub fn reload() {
    let mut scene = Scene::new();
    let (old, renewed) =
        (scene.certificate.certificate(), scene.papers.server(&["localhost.renewed", "localhost"]));
    let native = Native::new(&scene.papers, None);
    let mut connected = native.connect(scene.tls);
    life::whole(&mut connected.client, &scene.node);
    assert_eq!(connected.facts().certificate, old);

    renewed.replace(&scene.certificate);
    scene.relay.process().hang_up();
    wait_certificate(&scene.papers, scene.tls, &renewed.certificate());
    assert!(native.visit(scene.tls).resumed, "a ticket from before the reload");
    life::goes_on(&mut connected.client, &scene.node);

    // And once more, so that nothing was good for one reload only.
    scene.papers.server(&["localhost.again", "localhost"]).replace(&scene.certificate);
    scene.relay.process().hang_up();
    wait_certificate(&scene.papers, scene.tls, &scene.certificate.certificate());
    life::goes_on(&mut connected.client, &scene.node);
}

/// A certificate that cannot be used is named with the reason, and the one before stays in use.
pub fn broken_reload() {
    let mut scene = Scene::new();
    let good = scene.certificate.certificate();
    let other = scene.papers.server(&["localhost.other", "localhost"]);
    let chain = scene.certificate.chain.display().to_string();
    let key = scene.certificate.key.display().to_string();
    let native = Native::new(&scene.papers, None);
    let mut connected = native.connect(scene.tls);
    life::whole(&mut connected.client, &scene.node);

    // The key of another certificate, then no PEM, then no file.
    std::fs::copy(&other.key, &scene.certificate.key).expect("key");
    scene.relay.process().hang_up();
    scene.wait_log(&["ERROR", &key]);
    std::fs::write(&scene.certificate.chain, "no certificate").expect("chain");
    scene.relay.process().hang_up();
    scene.wait_log(&["ERROR", &chain]);
    std::fs::remove_file(&scene.certificate.key).expect("key");
    std::fs::copy(&other.chain, &scene.certificate.chain).expect("chain");
    scene.relay.process().hang_up();
    scene.wait_log(&["ERROR", &key, "No such file"]);

    assert_eq!(Native::new(&scene.papers, None).visit(scene.tls).certificate, good);
    life::goes_on(&mut connected.client, &scene.node);

    // The next good one is taken.
    std::fs::copy(&other.key, &scene.certificate.key).expect("key");
    scene.relay.process().hang_up();
    wait_certificate(&scene.papers, scene.tls, &other.certificate());
}

/// A ticket that was given without a client certificate opens nothing at a relay that demands one.
pub fn tickets_do_not_go_around_client_certificates() {
    let papers = Papers::new();
    let ticket_key = format!("tls_ticket_key = {}", quoted(&papers.ticket_key()));
    let (own, authority) = (papers.client("wallet.example"), quoted(&papers.authority()));
    let scene = Scene::with_papers(papers, &ticket_key);
    let required = format!("{ticket_key}\ntls_client_auth = \"required\"\ntls_client_ca = {authority}");
    let (_relay, strict) = scene.sister(&required);

    let anonymous = Native::new(&scene.papers, None);
    anonymous.visit(scene.tls);
    assert!(anonymous.visit(scene.tls).resumed);
    // In TLS 1.3 a client learns that it was refused only after its own last flight.
    let refused = anonymous.try_connect(strict).map(|mut c| c.client.handshake(&Default::default()).is_err());
    assert!(refused.unwrap_or(true), "an anonymous ticket let somebody in");

    let known = Native::new(&scene.papers, Some(&own));
    assert!(!known.visit(strict).resumed);
    assert!(known.visit(strict).resumed, "its own ticket is good");
}

/// Waits until a client without a ticket is shown this certificate.
#[track_caller]
fn wait_certificate(papers: &Papers, address: SocketAddr, expected: &[u8]) {
    wait::for_("handshakes with the new certificate", || {
        Native::new(papers, None).visit(address).certificate == expected
    });
}
