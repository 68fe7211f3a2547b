//! Two reports side by side.

use std::fs;
use std::process::ExitCode;

use breakwater_rig::rig::report::compare::{Args, Form, run, text as compared};
use breakwater_rig::rig::report::{TargetUse, write};
use clap::Parser as _;
use serde_json::Value;

use super::json;
use super::made::well;

#[test]
fn a_report_compared_with_itself_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &well()).unwrap();
    let json: Value = serde_json::from_str(
        &compared(folder.path(), &folder.path().join("report.json"), Form::Json).unwrap(),
    )
    .unwrap();
    assert_eq!(json["differences"], serde_json::json!([]));
    let numbers = json["numbers"].as_object().unwrap();
    assert!(numbers.len() > 100 && numbers.contains_key("behaviours.pinger.latency_us.ping.p999"));
    for (path, number) in numbers {
        let same = if number["a"].is_null() { number["ratio"].is_null() } else { number["ratio"] == 1.0 };
        assert!(same, "{path}: {number}");
    }
    let table = compared(folder.path(), folder.path(), Form::Table { colour: true }).unwrap();
    let rows: Vec<&str> = table.lines().skip(4).collect();
    assert!(rows.len() > 100 && rows.iter().all(|row| row.ends_with(" 1.00")), "{table}");
    assert!(!table.contains("differs") && !table.contains('\x1b'));
}

#[test]
fn a_comparison_says_what_differs() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut results = well();
    write(a.path(), &results).unwrap();
    results.machine.kernel = "7.0.0".to_owned();
    results.asked.ramp = "50/s".to_owned();
    results.target =
        results.target.map(|target| TargetUse { rss: 26_000_000, kernel_per_client: None, ..target });
    results.behaviours[0].tally.counts.lost = 4;
    write(b.path(), &results).unwrap();
    let table = compared(a.path(), b.path(), Form::Table { colour: true }).unwrap();
    let row = |name: &str| {
        let found = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        found.unwrap_or_else(|| panic!("{name}: {table}")).to_owned()
    };
    assert!(table.contains("differs in machine.kernel: 6.18.0 / 7.0.0"), "{table}");
    assert!(table.contains("differs in asked.ramp: 1000/s / 50/s"), "{table}");
    let words = |name: &str| row(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("target.rss_bytes_per_client")[1..], ["300", "600", "\x1b[31m", "2.00\x1b[0m"]);
    assert_eq!(words("target.kernel_bytes_per_client")[1..], ["3,900", "-", "-"]);
    assert!(row("clients.lost").contains("from 0") && row("clients.lost").contains("\x1b[31m"));
    let plain = compared(a.path(), b.path(), Form::Table { colour: false }).unwrap();
    assert!(!plain.contains('\x1b') && plain.contains("from 0"));
}

#[test]
fn what_is_no_report_is_named_with_its_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let error = || compared(folder.path(), folder.path(), Form::Json).unwrap_err();
    assert!(error().contains(path.to_str().unwrap()) && error().contains("cannot be read"), "{}", error());
    fs::write(&path, "no").unwrap();
    assert!(error().contains("is no JSON"), "{}", error());
    fs::write(&path, "{}").unwrap();
    assert!(error().contains("field format is missing"), "{}", error());
    write(folder.path(), &well()).unwrap();
    let whole = json(folder.path());
    let spoil = |change: fn(&mut Value)| {
        let mut report = whole.clone();
        change(&mut report);
        fs::write(&path, report.to_string()).unwrap();
        compared(folder.path(), folder.path(), Form::Json).unwrap_err()
    };
    let error = spoil(|report| report["latency_us"]["ping"]["p99"] = "fast".into());
    assert!(error.contains("field latency_us.ping.p99 is \"fast\", expected a number or null"), "{error}");
    let error = spoil(|report| drop(report["target"].as_object_mut().unwrap().remove("rss_bytes")));
    assert!(error.contains("field target.rss_bytes is missing"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

#[test]
fn the_status_is_two_only_for_what_is_no_report() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &well()).unwrap();
    let status = |b: &str| {
        let words = ["compare", folder.path().to_str().unwrap(), b, "--json"];
        run(&Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args)
    };
    assert_eq!(status(folder.path().to_str().unwrap()), ExitCode::SUCCESS);
    assert_eq!(status("/nowhere"), ExitCode::from(2));
}
