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
    assert_judges(name, &text);
}

#[track_caller]
fn assert_judges(name: &str, text: &str) {
    assert!(
        text.contains("at most") || text.contains("at least"),
        "{name} gives a number against its target: {text}"
    );
}

fn tiny_over(name: &str, transport: &str) -> String {
    let text = bench(&[name, "--tiny", "--transport", transport]);
    assert!(!text.contains("NaN"), "{name} over {transport}: {text}");
    text
}

#[test]
fn fanout_and_idle_run_over_each_transport() {
    assert_judges("fanout", &tiny_over("fanout", "tls"));
    tiny_over("fanout", "v2");
    assert_judges("idle", &tiny_over("idle", "tls"));
    assert_judges("idle", &tiny_over("idle", "v2"));
}

/// Needs the binary `breakwater`, as `compare`.
#[test]
fn storm_runs() {
    let text = bench(&["storm", "--tiny"]);
    assert_judges("storm", &text);
    for met in ["newcomers that did not become ready", "connected clients lost", "blocks skipped"] {
        let line = text.lines().find(|line| line.contains(met)).unwrap();
        assert!(line.contains("0 (at most 0: met)"), "{text}");
    }
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

/// As `compare_runs`: those that speak TLS. Each says what its handshakes cost, and took the tickets.
#[test]
fn compare_with_tls_runs() {
    let text = bench(&["compare", "--tls", "--tiny"]);
    let rows = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    let compared = rows("full handshakes per second of its CPU");
    assert!(compared >= 1, "{text}");
    assert_eq!(rows("resumed handshakes per second of its CPU"), compared, "{text}");
    let taken = text.lines().filter(|line| line.contains("of those that offered a ticket, resumed"));
    assert!(taken.clone().count() == compared && taken.clone().all(|line| line.contains(" 100 %")), "{text}");
    for name in ["nats", "mosquitto", "nginx", "haproxy"] {
        assert!(text.contains(name), "who is not there is named: {text}");
    }
}

/// Needs the binary `breakwater`, as `compare`.
#[test]
fn million_runs() {
    million("plain");
}

/// As above.
#[test]
fn million_runs_over_tls() {
    let text = million("tls");
    for met in ["handshakes that failed", "resumed TLS handshakes"] {
        assert!(text.contains(met), "{text}");
    }
}

fn million(transport: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().to_str().unwrap();
    let text = bench(&["million", "--tiny", "--transport", transport, "--report", report]);
    for met in [
        "clients lost or refused",
        "announcements of transactions that did not come",
        "behind the newest block",
    ] {
        let line = text.lines().find(|line| line.contains(met)).unwrap();
        assert!(line.contains("0 (at most 0: met)"), "{text}");
    }
    assert!(folder.path().join("report.json").is_file());
    text
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

/// Needs the binary `breakwater`, as those below. Scanners come, and clients that sync get what they asked for.
#[test]
fn aether_runs() {
    let text = bench(&["aether", "--tiny"]);
    assert_judges("aether", &text);
    for what in ["connections begun by scanners", "syncing clients refused", "syncing clients lost"] {
        assert_met(&text, what);
    }
    assert!(text.contains("relay: ended per second, probe_too_often"), "scanners are refused: {text}");
}

#[test]
fn aether_runs_with_every_scan_served() {
    let text = bench(&["aether", "--tiny", "--let-in"]);
    assert_met(&text, "syncing clients refused");
    assert!(!text.contains("probe_too_often"), "{text}");
}

#[test]
fn control_runs() {
    let text = bench(&["control", "--tiny"]);
    assert_judges("control", &text);
    for what in ["that are still connected", "newcomers from there refused", "others that were ended"] {
        assert_met(&text, what);
    }
    assert!(!text.contains("not measured"), "{text}");
}

#[test]
fn attack_runs() {
    let text = bench(&["attack", "--tiny"]);
    assert_judges("attack", &text);
    for what in
        ["honest clients lost", "blocks skipped", "relay: VmRSS at the most", "what waits in them, MB"]
    {
        assert_met(&text, what);
    }
    for attack in ["flood", "loris", "hammer", "stalled"] {
        assert!(text.contains(&format!("block at the honest, {attack}")), "{text}");
    }
    let one = bench(&["attack", "--tiny", "--only", "loris"]);
    assert!(one.contains("honest, loris") && !one.contains("honest, flood"), "{one}");
}

/// As above.
#[test]
fn priority_runs() {
    let text = bench(&["priority", "--tiny"]);
    assert_judges("priority", &text);
    for what in ["free newcomers refused at the full house", "priority clients turned away"] {
        assert_met(&text, what);
    }
    assert!(!text.contains("not measured"), "{text}");
}

#[track_caller]
fn assert_met(text: &str, what: &str) {
    let line = text.lines().find(|line| line.contains(what));
    assert!(line.is_some_and(|line| line.contains(": met)")), "{what}: {text}");
}
