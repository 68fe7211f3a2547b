//! The rig over TLS and BIP324: who is ready, what is heard, how handshakes are counted, and what is refused by name.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use breakwater::transport::Shake;
use breakwater::transport::tls::{Acceptor, Server, Session};
use breakwater_rig::certificate::Certificate;
use serde_json::{Value, json};

use crate::world::{Rig, World};

/// What a certificate that is not believed is refused with.
const REFUSED: &str = "the TLS handshake failed (certificate, name or message)";

/// Writes a scenario, given what goes into it besides the targets; its flags.
fn scenario(folder: &Path, world: &World, text: &str) -> Vec<String> {
    let (plain, tls) = (world.relay(), world.relay_tls());
    let ca = world.certificate().display();
    let head =
        format!("targets = [\"{plain}\", \"tls://{tls}\"]\ntls_ca = \"{ca}\"\ntls_name = \"localhost\"\n");
    let file = folder.join("scenario.toml");
    std::fs::write(&file, head + text).unwrap();
    vec!["--scenario".into(), file.display().to_string()]
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Every handshake that was begun has come to one end.
#[track_caller]
fn assert_adds_up(report: &Value) {
    let of = |field: &str| number(&report["transport"][field]);
    assert_eq!(
        of("begun"),
        of("full") + of("resumed") + of("v2") + of("failed"),
        "{:#}",
        report["transport"]
    );
}

#[test]
fn a_third_on_each_transport_hears_the_block() {
    let world = World::start_tls();
    let folder = tempfile::tempdir().unwrap();
    let part = |transport: &str| format!("[[behaviour]]\nname = \"idle\"\ntransport = \"{transport}\"\n");
    let parts: String = ["plain", "v2", "tls"].map(part).concat();
    let text = format!("clients = 120\nramp = \"all\"\nduration = \"3s\"\n{parts}");
    let run = Rig::without_target().args_of(&scenario(folder.path(), &world, &text)).start();
    run.until_ready(120);
    world.mine();
    let (status, report) = run.end();
    assert_eq!(status, Some(0), "{report:#}");
    assert_eq!(report["asked"]["transport"], "plain, v2, tls");
    assert_eq!(report["clients"]["handshaken"], 120);
    assert_eq!(report["latency_us"]["block_announce"]["count"], 120);
    assert_eq!(report["latency_us"]["transport"]["count"], 80);
    assert_eq!(report["latency_us"]["handshake"]["count"], 120);
    let of = |behaviour: &str, field: &str| number(&report["behaviours"][behaviour]["transport"][field]);
    assert_eq!((of("idle", "begun"), of("idle-2", "v2"), of("idle-2", "begun")), (0, 40, 40));
    assert_eq!(of("idle-3", "full") + of("idle-3", "resumed"), 40);
    assert!(
        of("idle-3", "full") >= 1 && of("idle-3", "resumed") >= 20,
        "{:#}",
        report["behaviours"]["idle-3"]
    );
    assert_adds_up(&report);
}

#[test]
fn those_who_come_again_resume_as_far_as_they_were_told_to() {
    let world = World::start_tls();
    for (resume, churn) in [("0", "0"), ("100", "0.5")] {
        let (status, report) = Rig::new_tls(&world)
            .args(&["--clients", "60", "--ramp", "all", "--for", "3s", "--resume", resume, "--churn", churn])
            .start()
            .end();
        assert_eq!(status, Some(0), "{report:#}");
        let of = |field: &str| number(&report["transport"][field]);
        match resume {
            "0" => assert_eq!((of("full"), of("resumed")), (60, 0)),
            _ => assert!(of("resumed") > 60 && of("full") < 60, "{:#}", report["transport"]),
        }
        assert_adds_up(&report);
        assert_eq!(report["errors"], json!({}), "{report:#}");
    }
}

#[test]
fn a_certificate_or_name_that_is_not_believed_is_refused_by_name() {
    let world = World::start_tls();
    let folder = tempfile::tempdir().unwrap();
    let other = Certificate::make(folder.path()).unwrap();
    let target = format!("tls://{}", world.relay_tls());
    let ca = world.certificate().display().to_string();
    let others = other.chain.display().to_string();
    for (trusted, name) in [(&others, "localhost"), (&ca, "elsewhere.example")] {
        let (status, report) = Rig::without_target()
            .args(&["--target", &target, "--tls-ca", trusted, "--tls-name", name])
            .args(&["--clients", "10", "--ramp", "all", "--for", "300s"])
            .start()
            .end();
        assert_eq!(status, Some(3), "{report:#}");
        assert_eq!(report["clients"]["refused"], json!({ REFUSED: 10 }), "{report:#}");
        assert_eq!(
            (&report["clients"]["connected"], &report["clients"]["handshaken"]),
            (&json!(10), &json!(0))
        );
        assert_eq!(report["transport"]["failed"], 10);
        assert_adds_up(&report);
    }
}

#[test]
fn a_relay_that_dies_loses_its_encrypted_clients() {
    let mut world = World::start_tls();
    let folder = tempfile::tempdir().unwrap();
    let parts = "[[behaviour]]\nname = \"idle\"\ntransport = \"v2\"\n[[behaviour]]\nname = \"idle\"\ntransport = \"tls\"\n";
    let text = format!("clients = 40\nramp = \"all\"\nduration = \"300s\"\n{parts}");
    let run = Rig::without_target().args_of(&scenario(folder.path(), &world, &text)).start();
    run.until_ready(40);
    world.kill_relay();
    let (status, report) = run.end();
    assert_eq!(status, Some(3), "{report:#}");
    assert_eq!(report["clients"]["lost"], 40);
    assert_eq!(report["behaviours"]["idle"]["clients"]["lost"], 20);
    let errors = |of: &Value| of.as_object().unwrap().values().map(number).sum::<u64>();
    assert_eq!(errors(&report["errors"]), 40, "{report:#}");
    assert!(report["behaviours"]["idle-2"]["errors"].get("closed by the target").is_none(), "{report:#}");
    assert_adds_up(&report);
}

#[test]
fn attackers_over_each_transport_get_what_the_table_says() {
    let world = World::start_tls();
    let folder = tempfile::tempdir().unwrap();
    for transport in ["v2", "tls"] {
        let part = |name: &str| format!("[[behaviour]]\nname = \"{name}\"\ntransport = \"{transport}\"\n");
        let text = format!(
            "clients = 120\nramp = \"all\"\nduration = \"6s\"\nping_every = \"1s\"\n{}{}",
            part("idle"),
            part("attackers")
        );
        let (status, report) =
            Rig::without_target().args_of(&scenario(folder.path(), &world, &text)).start().end();
        assert_eq!(status, Some(0), "{transport}: {report:#}");
        let attackers = &report["behaviours"]["attackers"];
        assert_eq!(attackers["errors"], json!({}), "{transport}: each row has its outcome");
        assert!(number(&attackers["counts"]["thrown_out"]) > 10, "{transport}: {attackers:#}");
        assert!(number(&attackers["counts"]["forgiven"]) > 10, "{transport}: {attackers:#}");
        assert_eq!(report["behaviours"]["idle"]["clients"]["lost"], 0);
        assert_adds_up(&report);
    }
}

#[test]
fn attacks_from_below_the_transport_are_thrown_out_and_harm_nobody() {
    let world = World::start_tls();
    let folder = tempfile::tempdir().unwrap();
    let attacks = ["tls-silent", "tls-garbage", "tls-hello-flood", "v2-probe"];
    let parts: String = attacks.map(|name| format!("[[behaviour]]\nname = \"{name}\"\n")).concat();
    let idle = "[[behaviour]]\nname = \"idle\"\ntransport = \"tls\"\n";
    // The relay gives a silent one 10 s.
    let text =
        format!("clients = 50\nramp = \"all\"\nduration = \"13s\"\nping_every = \"1s\"\n{idle}{parts}");
    let (status, report) =
        Rig::without_target().args_of(&scenario(folder.path(), &world, &text)).start().end();
    assert_eq!(status, Some(0), "{report:#}");
    assert_eq!(report["errors"], json!({}), "{report:#}");
    let of = |name: &str, counter: &str| number(&report["behaviours"][name]["counts"][counter]);
    for name in ["tls-silent", "tls-garbage", "v2-probe"] {
        assert!(of(name, "thrown_out") >= 10, "{name}: {:#}", report["behaviours"][name]);
        assert_eq!(of(name, "transport_begun"), 0, "{name} speaks below the transport");
    }
    assert!(of("tls-hello-flood", "connections") > 100, "{:#}", report["behaviours"]["tls-hello-flood"]);
    assert_eq!(of("idle", "pongs"), of("idle", "pings"));
}

#[test]
fn who_leaves_says_close_notify() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(folder.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let server = certificate.server().unwrap();
    let (spoke, told) = std::sync::mpsc::sync_channel(1);
    let sink = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve(stream, &server, || spoke.send(()).unwrap())
    });
    let run = rig_to(target, &certificate).start();
    // Its version message has come.
    told.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    run.interrupt();
    let (_, report) = run.end();
    assert_eq!(sink.join().unwrap(), Some("close_notify"), "{report:#}");
    assert_eq!(report["transport"]["full"], 1);
}

fn rig_to(target: SocketAddr, certificate: &Certificate) -> Rig {
    let (target, ca) = (format!("tls://{target}"), certificate.chain.display().to_string());
    Rig::without_target()
        .args(&["--target", &target, "--tls-ca", &ca, "--tls-name", "localhost", "--clients", "1"])
        .args(&["--ramp", "all", "--for", "300s"])
}

/// A server that takes a handshake and reads: `heard` is called at the first plaintext. How the connection ended.
fn serve(mut stream: TcpStream, server: &Arc<Server>, heard: impl FnOnce()) -> Option<&'static str> {
    let mut handshake = Some(Acceptor::new(server).begin().unwrap());
    let (mut session, mut heard): (Option<Box<Session>>, _) = (None, Some(heard));
    let (mut input, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let got = stream.read(&mut buffer).ok()?;
        if got == 0 {
            return Some("FIN alone");
        }
        input.extend_from_slice(&buffer[..got]);
        let mut out = Vec::new();
        if let Some(going) = handshake.take() {
            let used = match going.step(&mut input, &mut out) {
                Shake::More { handshake: more, used } => {
                    handshake = Some(more);
                    used
                }
                Shake::Done { session: open, used } => {
                    session = Some(open);
                    used
                }
                Shake::Failed(end) => panic!("{end}"),
            };
            input.drain(..used);
        }
        if let Some(session) = &mut session {
            let opened = session.open(&mut input, &mut out).unwrap();
            if opened.closed {
                return Some("close_notify");
            }
            if opened.plain > 0
                && let Some(heard) = heard.take()
            {
                heard();
            }
            input.drain(..opened.used);
        }
        stream.write_all(&out).ok()?;
    }
}
