//! `breakwater-rig compare A B`: two reports side by side, with the ratio B/A of every number.
//!
//! It judges nothing: what differs in machine, commit or workload is said above the numbers, and the status is 0.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::files::REPORT;
use super::json::FORMAT;
use super::words::{QUANTILES, digits, grouped};
use crate::rig::measure::LATENCIES;

/// What is compared.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A report: its folder, or its report.json.
    a: PathBuf,
    /// The other one; ratios are B/A.
    b: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Sections of a report that are compared, in this order.
const SECTIONS: [&str; 11] = [
    "clients",
    "transport",
    "latency_us",
    "target",
    "rig",
    "blocks",
    "transactions",
    "pings",
    "requests",
    "counts",
    "errors",
];
/// Percentage from which a ratio is coloured.
const NOTABLE: f64 = 0.05;

/// Prints the comparison. Status 0; 2 when a report cannot be read or is none.
pub fn run(args: &Args) -> ExitCode {
    let out = std::io::stdout();
    // https://no-color.org
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let form = if args.json { Form::Json } else { Form::Table { colour } };
    match text(&args.a, &args.b, form) {
        Ok(text) => {
            // A reader that has gone away is no reason to end with an error.
            let _ = out.lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("breakwater-rig compare: {error}");
            ExitCode::from(2)
        }
    }
}

/// How a comparison is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table {
        /// Whether notable ratios are green or red.
        colour: bool,
    },
    /// One object.
    Json,
}

/// The comparison of two reports, each given by its folder or its report.json.
///
/// # Errors
/// One cannot be read, or lacks a field of the contract: a sentence that names file and field.
pub fn text(a: &Path, b: &Path, form: Form) -> Result<String, String> {
    let (a, b) = (Report::read(a)?, Report::read(b)?);
    Ok(match form {
        Form::Table { colour } => table(&a, &b, colour),
        Form::Json => format!("{:#}\n", as_json(&a, &b)),
    })
}

struct Report {
    path: PathBuf,
    value: Value,
}

impl Report {
    fn read(path: &Path) -> Result<Report, String> {
        let path = if path.is_dir() { path.join(REPORT) } else { path.to_owned() };
        let text = fs::read_to_string(&path).map_err(|error| {
            format!(
                "{} cannot be read ({error}): give the folder of a report, or its {REPORT}",
                path.display()
            )
        })?;
        let value = serde_json::from_str(&text)
            .map_err(|error| format!("{} is no JSON ({error}): give a {REPORT}", path.display()))?;
        let report = Report { path, value };
        report.check()?;
        Ok(report)
    }

    /// Every field of the contract, with its type.
    fn check(&self) -> Result<(), String> {
        let format = self.value.get("format").and_then(Value::as_u64);
        if format != Some(FORMAT) {
            return Err(self.wrong("format", self.value.get("format"), &FORMAT.to_string()));
        }
        for field in ["asked", "connected", "handshaken", "lost"] {
            self.number(&["clients", field], false)?;
        }
        for kind in &LATENCIES[..5] {
            self.number(&["latency_us", kind, "count"], false)?;
            for field in QUANTILES.iter().map(|(name, _, _)| *name).chain(["max"]) {
                self.number(&["latency_us", kind, field], true)?;
            }
        }
        for field in ["cpu_seconds", "rss_bytes", "rss_bytes_per_client", "kernel_bytes_per_client"] {
            self.number(&["target", field], true)?;
        }
        for path in [&["clients", "refused"][..], &["behaviours"], &["machine"]] {
            self.typed(path, "an object", Value::is_object)?;
        }
        self.typed(&["commit"], "a string", Value::is_string)
    }

    fn number(&self, path: &[&str], or_null: bool) -> Result<(), String> {
        let expected = if or_null { "a number or null" } else { "a number" };
        self.typed(path, expected, |value| value.is_number() || or_null && value.is_null())
    }

    fn typed(&self, path: &[&str], expected: &str, is: impl Fn(&Value) -> bool) -> Result<(), String> {
        let value = path.iter().try_fold(&self.value, |value, field| value.get(field));
        match value {
            Some(value) if is(value) => Ok(()),
            value => Err(self.wrong(&path.join("."), value, expected)),
        }
    }

    fn wrong(&self, field: &str, value: Option<&Value>, expected: &str) -> String {
        let found = value.map_or("missing".to_owned(), |value| format!("{:.60}", value.to_string()));
        format!(
            "{}: field {field} is {found}, expected {expected}: give a {REPORT} of this version of breakwater-rig",
            self.path.display()
        )
    }

    /// Every number of the sections, by its path; those of the behaviours only when there are several, since the one's are
    /// those of all.
    fn numbers(&self) -> Vec<(String, Option<f64>)> {
        let mut found = vec![("wall_seconds".to_owned(), self.value["wall_seconds"].as_f64())];
        found.push(("ramp_seconds".to_owned(), self.value["ramp_seconds"].as_f64()));
        collect(&self.value, "", &mut found);
        if let Some(behaviours) =
            self.value["behaviours"].as_object().filter(|behaviours| behaviours.len() > 1)
        {
            for (name, behaviour) in behaviours {
                collect(behaviour, &format!("behaviours.{name}."), &mut found);
            }
        }
        found
    }
}

fn collect(report: &Value, prefix: &str, found: &mut Vec<(String, Option<f64>)>) {
    for section in SECTIONS {
        match &report[section] {
            Value::Object(fields) if section == "latency_us" => {
                for (kind, latency) in LATENCIES.iter().filter_map(|kind| Some((kind, fields.get(*kind)?))) {
                    let order = QUANTILES.iter().map(|(name, _, _)| *name).chain(["max", "mean", "count"]);
                    found
                        .extend(order.map(|name| {
                            (format!("{prefix}{section}.{kind}.{name}"), latency[name].as_f64())
                        }));
                }
            }
            Value::Object(fields) => walk(&format!("{prefix}{section}"), fields, found),
            _ => {}
        }
    }
}

fn walk(path: &str, fields: &Map<String, Value>, found: &mut Vec<(String, Option<f64>)>) {
    for (name, value) in fields {
        match value {
            Value::Object(inner) => walk(&format!("{path}.{name}"), inner, found),
            // A name, not an amount.
            _ if name == "pid" => {}
            Value::Number(_) | Value::Null => found.push((format!("{path}.{name}"), value.as_f64())),
            _ => {}
        }
    }
}

struct Pair {
    path: String,
    a: Option<f64>,
    b: Option<f64>,
}

impl Pair {
    /// B/A; equal numbers are 1, zeros too; `None` when one is missing or A is 0.
    fn ratio(&self) -> Option<f64> {
        match (self.a?, self.b?) {
            (a, b) if a == b => Some(1.0),
            (0.0, _) => None,
            (a, b) => Some(b / a),
        }
    }

    /// 1 when more is better, -1 when less is, 0 when neither can be said.
    fn sense(&self) -> i8 {
        let less = [
            "latency_us.",
            "target.",
            "rig.",
            "errors.",
            "clients.refused.",
            "clients.lost",
            "transport.failed",
            "blocks.skipped",
        ];
        let more = ["clients.connected", "clients.handshaken"];
        let path = self
            .path
            .strip_prefix("behaviours.")
            .and_then(|rest| Some(rest.split_once('.')?.1))
            .unwrap_or(&self.path);
        let neither = path.ends_with(".count") || path.ends_with(".clients") || path.ends_with("_before");
        match () {
            () if neither => 0,
            () if less.iter().any(|start| path.starts_with(start)) => -1,
            () if more.contains(&path) => 1,
            () => 0,
        }
    }
}

/// Numbers of both in the order of A; what only B has follows.
fn pairs(a: &Report, b: &Report) -> Vec<Pair> {
    let (of_a, of_b) = (a.numbers(), b.numbers());
    let in_b = |path: &str| of_b.iter().find(|(other, _)| other == path).and_then(|(_, number)| *number);
    let only_b = of_b.iter().filter(|(path, _)| !of_a.iter().any(|(other, _)| other == path));
    let mut pairs: Vec<Pair> =
        of_a.iter().map(|(path, a)| Pair { path: path.clone(), a: *a, b: in_b(path) }).collect();
    pairs.extend(only_b.map(|(path, b)| Pair { path: path.clone(), a: None, b: *b }));
    pairs
}

/// What makes the two runs different ones: machine, commit and workload, one line each.
fn differences(a: &Report, b: &Report) -> Vec<String> {
    let mut found = Vec::new();
    for section in ["commit", "machine", "asked", "origin", "interrupted"] {
        let (a, b) = (&a.value[section], &b.value[section]);
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                let mut fields: Vec<&String> =
                    a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).collect();
                // The load is another one each time.
                fields.retain(|field| *field != "load_before" && a.get(*field) != b.get(*field));
                let said =
                    |side: &Map<String, Value>, field: &String| side.get(field).map_or("-".to_owned(), plain);
                found
                    .extend(fields.iter().map(|f| format!("{section}.{f}: {} / {}", said(a, f), said(b, f))));
            }
            _ if a != b => found.push(format!("{section}: {} / {}", plain(a), plain(b))),
            _ => {}
        }
    }
    found
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn as_json(a: &Report, b: &Report) -> Value {
    let numbers: Map<String, Value> = pairs(a, b)
        .iter()
        .map(|pair| (pair.path.clone(), json!({ "a": pair.a, "b": pair.b, "ratio": pair.ratio() })))
        .collect();
    json!({
        "a": a.path.display().to_string(),
        "b": b.path.display().to_string(),
        "differences": differences(a, b),
        "numbers": numbers,
    })
}

fn table(a: &Report, b: &Report, colour: bool) -> String {
    let mut out = format!("A  {}\nB  {}\n", a.path.display(), b.path.display());
    for line in differences(a, b) {
        out.push_str(&format!("differs in {line}\n"));
    }
    // What neither has measured is no line.
    let pairs: Vec<Pair> =
        pairs(a, b).into_iter().filter(|pair| pair.a.is_some() || pair.b.is_some()).collect();
    let cells: Vec<[String; 4]> =
        pairs.iter().map(|p| [p.path.clone(), said(p.a), said(p.b), ratio_said(p)]).collect();
    let width = |n: usize, least: usize| cells.iter().map(|row| row[n].len()).max().unwrap_or(0).max(least);
    let (first, second, third) = (width(0, 0), width(1, 1), width(2, 1));
    out.push_str(&format!("\n{:first$}  {:>second$}  {:>third$}  {:>8}\n", "", "A", "B", "B/A"));
    for (pair, [path, a, b, ratio]) in pairs.iter().zip(&cells) {
        let (before, after) = if colour { paint(pair) } else { ("", "") };
        out.push_str(&format!("{path:first$}  {a:>second$}  {b:>third$}  {before}{ratio:>8}{after}\n"));
    }
    out
}

fn said(number: Option<f64>) -> String {
    match number {
        None => "-".to_owned(),
        Some(n) if n >= 1e3 || n >= 0.0 && n.fract() == 0.0 => grouped(n.round() as u64),
        Some(n) => digits(n),
    }
}

fn ratio_said(pair: &Pair) -> String {
    match (pair.ratio(), pair.a, pair.b) {
        (Some(ratio), ..) => format!("{ratio:.2}"),
        (None, Some(_), Some(_)) => "from 0".to_owned(),
        (None, ..) => "-".to_owned(),
    }
}

/// Green for better, red for worse, where that can be said.
fn paint(pair: &Pair) -> (&'static str, &'static str) {
    let change = match (pair.ratio(), pair.a, pair.b) {
        (Some(ratio), ..) => ratio - 1.0,
        (None, Some(_), Some(_)) => f64::INFINITY,
        (None, ..) => 0.0,
    };
    match change * f64::from(pair.sense()) {
        better if better > NOTABLE => ("\x1b[32m", "\x1b[0m"),
        worse if worse < -NOTABLE => ("\x1b[31m", "\x1b[0m"),
        _ => ("", ""),
    }
}
