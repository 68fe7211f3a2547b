//! The description is complete, and schemathesis finds no answer that it does not tell of.

use std::path::Path;
use std::process::Command;

use breakwater::control::admin::description;
use serde_json::Value;

use crate::server::{Server, Tcp};

#[test]
fn every_call_is_described_with_every_way_it_may_fail() {
    let server = Server::start(Tcp::No);
    let served = server.expect(200, "GET", "/api/v1/openapi.json", None);
    let made: Value = serde_json::from_str(&description().to_json().unwrap()).unwrap();
    assert_eq!(served, made);
    let paths = served["paths"].as_object().unwrap();
    let calls = paths.values().flat_map(|path| path.as_object().unwrap().values());
    let mut number = 0;
    for call in calls {
        let id = call["operationId"].as_str().unwrap_or_default();
        assert!(call["summary"].as_str().is_some_and(|text| text.len() > 5), "{id}");
        for status in ["400", "401", "403", "404", "405", "408", "409", "413", "415", "503", "504"] {
            let answer = &call["responses"][status]["content"]["application/json"];
            assert_eq!(answer["schema"]["$ref"], "#/components/schemas/Problem", "{id} {status}");
        }
        number += 1;
    }
    assert_eq!(number, 39, "{:?}", paths.keys().collect::<Vec<_>>());
}

#[test]
fn schemathesis_finds_nothing() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/tls/bin/schemathesis");
    assert!(program.exists(), "{} is missing: run ci/install-peers", program.display());
    let server = Server::start(Tcp::Open);
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}/api/v1/openapi.json", server.address.unwrap());
    let output = Command::new(program)
        .current_dir(dir.path())
        .args([
            "run",
            &url,
            "--workers",
            "2",
            "--max-examples",
            "20",
            "--seed",
            "1",
            "--generation-database",
            "none",
        ])
        .args([
            "--phases",
            "coverage,fuzzing",
            "--request-timeout",
            "20",
            "--no-color",
            "--max-failures",
            "10",
        ])
        // A stream has no end to wait for: tests/admin/watch.rs reads it.
        .args(["--exclude-path", "/api/v1/events"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .output()
        .expect("schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(server.asked.lock().unwrap().len() > 100, "hardly anything was asked: {said}");
}
