//! The dashboard and the alert rules: they can be read, and name only metrics, labels and label values that there are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use breakwater::control::metrics::{Kind, documented};
use breakwater::control::ops::{ALERTS, DASHBOARD};
use breakwater::shard::regimes::Regime;
use serde_json::Value;

/// Labels by the name of what is served: a histogram's lines have endings.
fn served() -> BTreeMap<String, Vec<&'static str>> {
    let ends = |kind| if kind == Kind::Histogram { &["_bucket", "_sum", "_count"][..] } else { &[""] };
    let lines = documented().into_iter().flat_map(|metric| {
        let labels: Vec<&str> = metric.labels.split(", ").collect();
        let names = ends(metric.kind).iter().map(move |end| format!("{}{end}", metric.name));
        names.map(move |name| (name, labels.clone())).collect::<Vec<_>>()
    });
    lines.collect()
}

/// Names of ours in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    expression.split(word).filter(|word| word.starts_with("breakwater_"))
}

#[track_caller]
fn is_sound(expression: &str) {
    let served = served();
    let mut known = vec!["instance", "job"];
    for name in names(expression) {
        known.extend(served.get(name).unwrap_or_else(|| panic!("{name} is in no list: {expression}")));
    }
    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
        assert_eq!(expression.matches(open).count(), expression.matches(close).count(), "{expression}");
    }
    // by (...) and label matchers.
    let by = expression
        .split("by (")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .flat_map(|list| list.split(", "));
    let inside = expression.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let matched = inside.flat_map(|list| list.split(',')).filter_map(|pair| pair.split(['=', '!']).next());
    for label in by.chain(matched) {
        assert!(known.contains(&label), "{label} is no label of it: {expression}");
    }
    for regime in expression.split("regime=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(Regime::ALL.iter().any(|known| known.label() == regime), "{regime}: {expression}");
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    let mut ids: Vec<u64> = Vec::new();
    for panel in panels {
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()));
        ids.extend(panel["id"].as_u64());
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            assert!(
                names(expression).count() > 0 && expression.contains("instance=~\"$instance\""),
                "{expression}"
            );
            is_sound(expression);
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), panels.len(), "each has a number of its own");
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        is_sound(variable["query"]["query"].as_str().unwrap_or("").trim_start_matches("label_values"));
    }
}

#[test]
fn the_alerts_can_be_read_and_ask_for_what_there_is() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/tls/bin/python");
    assert!(python.exists(), "{} is missing: run ci/install-peers", python.display());
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.argv[1]), sys.stdout)";
    let output = Command::new(python).args(["-c", script, ALERTS]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rules: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() >= 8);
    for rule in rules {
        let (name, expression) = (rule["alert"].as_str().unwrap(), rule["expr"].as_str().unwrap());
        assert!(name.starts_with("Breakwater"), "{name}");
        is_sound(expression);
        assert!(["page", "warn"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        for text in ["summary", "description"] {
            let text = rule["annotations"][text].as_str().unwrap();
            assert!(text.len() > 10, "{name}");
            names(text).for_each(is_sound);
        }
    }
    // Prometheus' own word for it, where it is installed.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("breakwater.yml");
    std::fs::write(&file, ALERTS).unwrap();
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/promtool");
    let promtool = if unpacked.exists() { unpacked } else { "promtool".into() };
    let check = Command::new(promtool).args(["check", "rules"]).arg(&file).stdin(Stdio::null()).output();
    if let Ok(check) = check {
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&[check.stdout, check.stderr].concat())
        );
    }
}

#[test]
fn the_program_prints_them() {
    for (what, text) in [("dashboard", DASHBOARD), ("alerts", ALERTS)] {
        let output = Command::new(env!("CARGO_BIN_EXE_breakwater")).args(["config", what]).output().unwrap();
        assert!(output.status.success() && output.stdout == text.as_bytes(), "{what}");
    }
}
