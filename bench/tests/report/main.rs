//! What a run says at its end and on its way, from made-up results: every form is read back. Nothing is measured here.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may panic; that is how it fails.

mod compare;
mod made;
mod view;

use std::fs;
use std::path::Path;

use breakwater_rig::rig::report::{Results, table, write};
use serde_json::Value;

use made::{nothing, well};

fn json(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("report.json")).unwrap()).unwrap()
}

/// Every field of the contract in issue 3 with its type; `null` says whether percentiles and the target are null.
fn keeps_the_contract(report: &Value, null: bool) {
    let number = |value: &Value, what: &str| assert!(value.is_number(), "{what} is {value}");
    for field in ["asked", "connected", "handshaken", "lost"] {
        assert!(report["clients"][field].is_u64(), "clients.{field} is {}", report["clients"][field]);
    }
    assert!(report["clients"]["refused"].is_object());
    for kind in ["connect", "handshake", "ping", "block_announce", "tx_announce"] {
        let latency = &report["latency_us"][kind];
        number(&latency["count"], kind);
        for field in ["p50", "p90", "p99", "p999", "max"] {
            assert_eq!(latency[field].is_null(), null, "{kind}.{field} is {}", latency[field]);
            assert!(null || latency[field].is_u64(), "{kind}.{field} is {}", latency[field]);
        }
        assert_eq!(latency["count"] == 0, null);
    }
    for field in ["cpu_seconds", "rss_bytes", "rss_bytes_per_client", "kernel_bytes_per_client"] {
        let value = report["target"].get(field).unwrap_or_else(|| panic!("target.{field} is missing"));
        assert!(if null { value.is_null() } else { value.is_number() }, "target.{field} is {value}");
    }
    for field in ["cpu", "kernel"] {
        assert!(report["machine"][field].is_string());
    }
    for field in ["cores", "memory_bytes", "load_before"] {
        number(&report["machine"][field], field);
    }
    assert!(!report["commit"].as_str().unwrap().is_empty());
    assert!(report["behaviours"].is_object());
}

#[test]
fn the_report_keeps_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    let results = well();
    write(folder.path(), &results).unwrap();
    let report = json(folder.path());
    keeps_the_contract(&report, false);
    assert_eq!(report["clients"]["asked"], 10_000);
    assert_eq!(report["behaviours"]["idle"]["clients"]["handshaken"], 9_000);
    assert_eq!(report["behaviours"]["pinger"]["latency_us"]["connect"]["count"], 1_000);
    assert_eq!(report["behaviours"]["idle"]["latency_us"]["ping"]["p50"], Value::Null);
    assert_eq!(report["target"]["rss_bytes_per_client"], 300.0);
    assert_eq!(report["target"]["kernel_bytes_per_client"], 3_900);
    // A second over three blocks and a transaction, each heard by 10,000.
    assert_eq!(report["target"]["cpu_us_per_announcement"], 25.0);
    assert_eq!(report["rig"]["rss_bytes_per_client"], 1_000.0);
    assert_eq!(report["blocks"], serde_json::json!({ "announced": 3, "heard": 30_000, "skipped": 0 }));
    assert_eq!(report["pings"], serde_json::json!({ "sent": 1_000, "answered": 998, "dropped": 2 }));
    let total = results.total();
    let ping = total.ping.get().unwrap();
    assert_eq!(report["latency_us"]["ping"]["p99"], ping.value_at_quantile(0.99));
    assert_eq!(report["latency_us"]["ping"]["max"], ping.max());
}

#[test]
fn the_report_of_a_run_that_measured_nothing_has_every_field() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &nothing()).unwrap();
    let report = json(folder.path());
    keeps_the_contract(&report, true);
    assert_eq!(report["ramp_seconds"], Value::Null);
    assert_eq!(report["rig"]["rss_bytes_per_client"], Value::Null);
    assert_eq!(report["files"], serde_json::json!([]));
    page_is_whole(folder.path());
}

#[test]
fn refusals_and_errors_are_told_by_reason() {
    let mut results = well();
    let tally = &mut results.behaviours[1].tally;
    (0..3).for_each(|_| tally.refuse("connection refused"));
    (0..12).for_each(|_| tally.error("closed by target"));
    tally.counts.lost = 12;
    tally.counts.connected -= 3;
    tally.counts.handshaken -= 3;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &results).unwrap();
    let report = json(folder.path());
    assert_eq!(report["clients"]["refused"]["connection refused"], 3);
    assert_eq!(report["errors"]["closed by target"], 12);
    assert_eq!(
        table::verdict(&results),
        "9,997 of 10,000 clients connected; 12 lost: closed by target; 3 refused: connection refused"
    );
}

#[test]
fn the_table_ends_with_the_verdict() {
    let text = table::text(&well());
    let last = text.lines().last().unwrap();
    assert_eq!(last, "all 10,000 clients connected and none was lost");
    let row = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(&format!("{name}  ")))
            .unwrap_or_else(|| panic!("{name}: {text}"))
    };
    let words: Vec<&str> = row("all").split_whitespace().collect();
    assert_eq!(words, ["all", "10,000", "10,000", "10,000", "0", "0"]);
    assert!(row("target, resident").contains("300 B"));
    assert!(row("target, CPU").contains("25.0 us"));
    for (kind, count) in [("connect", "10,000"), ("ping", "1,000"), ("block announced", "30,000")] {
        let cells: Vec<&str> = row(kind)[kind.len()..].split("  ").filter(|cell| !cell.is_empty()).collect();
        assert_eq!((cells.len(), cells[5].trim()), (6, count), "{}", row(kind));
        assert!(cells[..5].iter().all(|cell| cell.ends_with("us") || cell.ends_with("ms")), "{}", row(kind));
    }
    assert_eq!(table::verdict(&nothing()), "no client was asked for");
    assert_eq!(
        table::verdict(&Results { interrupted: true, ..nothing() }),
        "ended early; no client was asked for"
    );
}

#[test]
fn percentile_files_say_what_the_histograms_say() {
    let folder = tempfile::tempdir().unwrap();
    let results = well();
    write(folder.path(), &results).unwrap();
    let total = results.total();
    let ping = total.ping.get().unwrap();
    let text = fs::read_to_string(folder.path().join("all.ping.hgrm")).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
    assert_eq!(lines.next(), Some(""));
    let (rows, footer): (Vec<&str>, Vec<&str>) = lines.partition(|line| !line.starts_with('#'));
    let rows: Vec<Vec<f64>> =
        rows.iter().map(|row| row.split_whitespace().map(|cell| cell.parse().unwrap()).collect()).collect();
    assert!(rows.len() > 20);
    for row in &rows {
        let (ms, quantile, count) = (row[0], row[1], row[2]);
        let us = (ms * 1e3).round() as u64;
        // The least value that so many are not above; the slack is for shares cut to twelve decimals.
        let (with, without) =
            (ping.count_between(0, us), ping.count_between(0, ping.lowest_equivalent(us) - 1));
        let share = quantile * ping.len() as f64;
        assert!(without as f64 <= share + 1e-6 && share <= with as f64 + 1e-6, "{quantile}: {us}");
        assert_eq!(with, count as u64);
        assert_eq!(row.len(), if quantile < 1.0 { 4 } else { 3 });
        assert!(quantile == 1.0 || (row[3] - 1.0 / (1.0 - quantile)).abs() < 0.01 * row[3]);
    }
    assert_eq!(rows.last().unwrap()[1..], [1.0, ping.len() as f64]);
    assert_eq!(footer.len(), 3);
    assert!(footer[1].contains(&format!("Total count    = {:>12}", ping.len())), "{}", footer[1]);
    // Nothing measured, no file; what there is, is listed.
    assert!(
        !folder.path().join("idle.ping.hgrm").exists() && folder.path().join("pinger.ping.hgrm").exists()
    );
    let files = json(folder.path())["files"].as_array().unwrap().len();
    let there = fs::read_dir(folder.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "hgrm")
    });
    assert_eq!((files, there.count()), (17, 17));
}

#[test]
fn samples_are_a_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let results = well();
    write(folder.path(), &results).unwrap();
    let text = fs::read_to_string(folder.path().join("samples.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), results.samples.len());
    assert_eq!(lines[130]["open"], 10_000);
    assert_eq!(lines[130]["blocks"], 4);
}

#[test]
fn a_report_replaces_an_older_one_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("new/one");
    write(&inside, &well()).unwrap();
    fs::write(inside.join("mine.ping.hgrm"), "mine").unwrap();
    fs::write(inside.join("notes.txt"), "mine").unwrap();
    write(&inside, &nothing()).unwrap();
    let mut names: Vec<String> =
        fs::read_dir(&inside).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["mine.ping.hgrm", "notes.txt", "report.html", "report.json", "samples.jsonl"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write(&file.join("report"), &nothing()).unwrap_err().to_string();
    assert!(error.contains(file.join("report").to_str().unwrap()), "{error}");
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.jsonl");
    // A folder stands where the file shall be.
    fs::create_dir_all(path.join("full")).unwrap();
    let error = write(folder.path(), &nothing()).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["samples.jsonl"]);
}

/// Reads the page as XML; gives the number of drawings.
fn page_is_whole(folder: &Path) -> usize {
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    let mut reader = quick_xml::Reader::from_str(&page);
    let (mut open, mut drawings) = (Vec::new(), 0);
    loop {
        use quick_xml::events::Event;
        match reader.read_event().unwrap() {
            Event::Eof => break,
            Event::Start(tag) => {
                looks_inward(&tag);
                drawings += usize::from(tag.name().as_ref() == b"svg");
                open.push(tag.name().as_ref().to_vec());
            }
            Event::Empty(tag) => looks_inward(&tag),
            // The reader itself refuses an end without its beginning.
            Event::End(_) => drop(open.pop().unwrap()),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{} tags are left open", open.len());
    assert!(!page.contains("@import") && !page.contains("url("), "the style fetches something");
    assert!(!page.contains("NaN") && !page.contains("inf"), "a number is none");
    drawings
}

/// Nothing is fetched and nothing runs.
fn looks_inward(tag: &quick_xml::events::BytesStart<'_>) {
    let name = String::from_utf8(tag.name().as_ref().to_vec()).unwrap();
    assert!(!["script", "link", "iframe", "image", "img", "object"].contains(&name.as_str()), "<{name}>");
    for attribute in tag.attributes() {
        let attribute = attribute.unwrap();
        let key = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
        assert!(!key.ends_with("href") && key != "src" && !key.starts_with("on"), "<{name} {key}>");
    }
}

#[test]
fn the_page_is_one_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = well();
    results.asked.targets = vec!["<b>&\"evil\"".to_owned()];
    write(folder.path(), &results).unwrap();
    assert_eq!(page_is_whole(folder.path()), 6);
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("all 10,000 clients connected and none was lost"));
    assert!(page.contains("Some &lt;CPU&gt; &amp; more") && !page.contains("<b>"));
    // The colours of the style are those plotters writes, or a dark page would not be recoloured.
    assert!(page.contains("svg [stroke=\"#15803D\"]") && page.contains(" stroke=\"#15803D\" "));
    if let Some(keep) = std::env::var_os("REPORT_KEEP") {
        write(Path::new(&keep), &results).unwrap();
    }
}
