//! `breakwater calibrate` as a program: what it prints is a table that the configuration takes; it ends when it is told to and leaves
//! nothing behind. What the numbers are depends on the host and is not looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use breakwater::admission::{Costs, Kind};

fn calibrate(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
    command.arg("calibrate").args(arguments).env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

fn entries(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    std::fs::read_dir(folder).unwrap().map(name).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn what_it_prints_is_taken_by_the_configuration() {
    for transport in ["v2", "plain"] {
        let temporary = tempfile::tempdir().unwrap();
        let output =
            calibrate(temporary.path(), &["--for", "2s", "--transport", transport]).output().unwrap();
        let (said, printed) = (text(&output.stderr), text(&output.stdout));
        assert!(output.status.success(), "{said}");
        assert_eq!(entries(temporary.path()), Vec::<String>::new(), "left behind");

        let file: toml::Table = printed.parse().expect("TOML");
        let table = file["costs"].as_table().expect("a table");
        assert_eq!(table.len(), Kind::ALL.len(), "{printed}");
        let costs = Costs::from_toml(table).expect("a table of costs");
        for kind in Kind::ALL {
            assert!(costs.max_cost(*kind, 1) > 0, "{} costs nothing: {printed}", kind.key());
            let measured = costs.price(*kind) != Costs::default().price(*kind);
            assert_eq!(measured, *kind != Kind::Refused, "{}: {printed}", kind.key());
        }

        // As an operator does it.
        let config = temporary.path().join("breakwater.toml");
        std::fs::write(&config, format!("nodes = [\"127.0.0.1:9\"]\n{printed}")).unwrap();
        let mut plan = Command::new(env!("CARGO_BIN_EXE_breakwater"));
        let plan = plan.args(["plan", "--max-clients", "100", "--config"]).arg(&config).output().unwrap();
        assert!(plan.status.success(), "{}", text(&plan.stderr));
    }
}

#[test]
fn it_ends_with_its_relay_when_it_is_told_to() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = calibrate(temporary.path(), &["--for", "1h"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("asking for") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it has ended early");
    }
    assert_eq!(entries(temporary.path()).len(), 1, "the relay's folder");
    // The shell's kill is there even where procps is not.
    let kill = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.id())).status().unwrap();
    assert!(kill.success());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(rest, "breakwater: interrupted: nothing is printed of a table in parts\n");
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "");
    assert_eq!(entries(temporary.path()), Vec::<String>::new(), "left behind");
}

#[test]
fn bad_usage_is_status_2_and_one_sentence() {
    let temporary = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], words: &[&str]| {
        let Output { status, stdout, stderr } = calibrate(temporary.path(), arguments).output().unwrap();
        let said = text(&stderr);
        assert_eq!((status.code(), stdout.len(), said.lines().count()), (Some(2), 0, 1), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{word:?} is not in {said:?}"));
    };
    refused(&["--for", "1s"], &["--for", "1s", "2s to 1h"]);
    refused(&["--for", "soon"], &["--for", "soon", "40s"]);
    refused(&["--transport", "pigeon"], &["--transport", "pigeon"]);
    refused(&["stray"], &["stray"]);
}
