//! The folder of a report. Each file is written under another name and renamed, so that nobody reads half of one; an
//! older report is replaced, with the `.hgrm` files that it names as its own; other files are left alone.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use super::{Results, hgrm, html, json};
use crate::Outcome;
use crate::rig::measure::{LATENCIES, Tally};

/// The name of the contract's file.
pub const REPORT: &str = "report.json";
/// What the sum over all behaviours is called in names of files.
const ALL: &str = "all";

/// Writes every form of the results into a folder, which is made when it is not there.
///
/// # Errors
/// A file cannot be written; the sentence names it.
pub fn write(folder: &Path, results: &Results) -> Outcome {
    fs::create_dir_all(folder)
        .map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
    let histograms = histograms(results);
    let names: Vec<String> = histograms.iter().map(|(name, _)| name.clone()).collect();
    let older = of_older(folder);
    for (name, text) in &histograms {
        put(folder, name, text)?;
    }
    put(folder, "samples.jsonl", &json::samples(results))?;
    put(folder, "report.html", &html::page(results)?)?;
    // Last, so that who finds it finds the others.
    put(folder, REPORT, &format!("{:#}\n", json::report(results, &names)))?;
    older.iter().filter(|name| !names.contains(name)).try_for_each(|name| remove(&folder.join(name)))
}

/// The `.hgrm` files: one for each latency that was measured, for each behaviour and for all of them.
fn histograms(results: &Results) -> Vec<(String, String)> {
    let total = results.total();
    let names = results.names();
    let tallies = results.behaviours.iter().map(|behaviour| &behaviour.tally);
    let all = std::iter::once((ALL, &total));
    all.chain(names.iter().map(String::as_str).zip(tallies))
        .flat_map(|(name, tally)| of_one(name, tally))
        .collect()
}

fn of_one(name: &str, tally: &Tally) -> Vec<(String, String)> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let measured =
        LATENCIES.iter().zip(tally.latencies()).filter_map(|(kind, latency)| Some((kind, latency.get()?)));
    measured.map(|(kind, histogram)| (format!("{name}.{kind}.hgrm"), hgrm::text(histogram))).collect()
}

/// The `.hgrm` files an older report in this folder says are its own.
fn of_older(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join(REPORT)).unwrap_or_default();
    let older: Value = serde_json::from_str(&text).unwrap_or_default();
    let names = older["files"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // Whatever the file says: nothing outside the folder is removed.
    names.filter(|name| name.ends_with(".hgrm") && !name.contains('/')).map(str::to_owned).collect()
}

fn put(folder: &Path, name: &str, text: &str) -> Outcome {
    let path = folder.join(name);
    let unfinished = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &path));
    written.map_err(|error| {
        // What is left of it, if anything, is of no use to anybody; the first error is the one to tell.
        let _ = fs::remove_file(&unfinished);
        format!("{} cannot be written: {error}", path.display()).into()
    })
}

fn remove(path: &Path) -> Outcome {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("{} of an older report cannot be removed: {error}", path.display()).into())
        }
        _ => Ok(()),
    }
}
