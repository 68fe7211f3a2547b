//! `report.html`: one file with everything in it, light and dark as the reader's browser asks. No script, no font, nothing
//! fetched; well-formed as XML, so that a test can read it.

use std::fmt::Write as _;

use plotters::style::RGBColor;

use super::plot::{self, GRID, INK, PALETTE, Plot};
use super::table::{self, Grid};
use super::{Results, words};
use crate::Outcome;
use crate::machine;

/// The page.
///
/// # Errors
/// A plot cannot be drawn.
pub fn page(results: &Results) -> Outcome<String> {
    let mut out = String::new();
    let title = format!("breakwater-rig: {}", results.asked.targets.join(", "));
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n\
         <h1>{}</h1>\n<p class=\"verdict\">{}</p>\n",
        escaped(&title),
        colours(),
        escaped(&title),
        escaped(&table::verdict(results)),
    );
    about(&mut out, results);
    for grid in [table::clients(results), table::latencies(results), table::target(results)] {
        rows(&mut out, &grid);
    }
    for plot in plot::all(results)? {
        figure(&mut out, &plot);
    }
    for grid in [table::traffic(results), table::reasons(results), table::latencies_by_behaviour(results)] {
        rows(&mut out, &grid);
    }
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

const STYLE: &str = "\
:root { --back: #ffffff; --ink: #1f2430; --soft: #5b6472; --line: #d9dce1; --stripe: #f6f7f9; }
body { margin: 2rem auto; padding: 0 1rem; max-width: 60rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
p { margin: .25rem 0; }
.verdict { font-size: 1.1rem; font-weight: 600; }
.note, .about, th { color: var(--soft); }
.note, .about { font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 500; }
.words th, .words td { text-align: left; }
th:first-child, td:first-child { text-align: left; padding-left: .25rem; }
tbody tr:nth-child(even) { background: var(--stripe); }
figure { margin: 0; }
svg { display: block; width: 100%; min-width: 36rem; height: auto; }
svg text { font-family: system-ui, sans-serif; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: .5rem 0 0; list-style: none; font-size: .875rem; }
.legend i { display: inline-block; width: 1.25rem; height: .25rem; border-radius: 2px; margin-right: .4rem;
  vertical-align: middle; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14171c; --ink: #e4e7ec; --soft: #9aa3b0; --line: #343a44; --stripe: #1a1e25; }
}
@media print { body { max-width: none; } figure, table { break-inside: avoid; } }
";

/// Colours of the legends, and those of the drawings on a dark page: a rule outweighs the attribute plotters writes.
fn colours() -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    for (place, (on_light, on_dark)) in PALETTE.into_iter().enumerate() {
        let _ = writeln!(light, ".c{place} {{ background: {}; }}", hex(on_light));
        let _ = writeln!(dark, "  .c{place} {{ background: {}; }}", hex(on_dark));
    }
    for (on_light, on_dark) in PALETTE.into_iter().chain([INK, GRID]) {
        let (from, to) = (hex(on_light), hex(on_dark));
        let _ = writeln!(dark, "  svg [stroke=\"{from}\"] {{ stroke: {to}; }}");
        let _ = writeln!(dark, "  svg [fill=\"{from}\"] {{ fill: {to}; }}");
    }
    format!("{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")
}

/// As plotters writes it: an attribute selector is exact.
fn hex(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

/// What was asked, where, and from which sources.
fn about(out: &mut String, results: &Results) {
    let (asked, machine) = (&results.asked, &results.machine);
    let churn = if asked.churn > 0.0 {
        format!(", {} % leave and come back per second", asked.churn * 100.0)
    } else {
        String::new()
    };
    let workload = format!(
        "{}, {}, {}, ramp {}, then {}{churn}; seed {}, {}",
        asked.network,
        asked.transport,
        words::several(asked.clients, "client", "clients"),
        asked.ramp,
        words::seconds(asked.seconds),
        asked.seed,
        words::several(asked.rings, "ring", "rings"),
    );
    let host = format!(
        "{}, {}, {} of memory, Linux {}, load before {}; commit {}; started {}; announcements measured from: {}",
        machine.cpu,
        words::several(machine.cores as u64, "core", "cores"),
        breakwater::control::plan::human(machine.memory_bytes),
        machine.kernel,
        machine.load_before,
        machine::commit(),
        crate::report::utc(results.started),
        results.origin,
    );
    for line in [workload, host] {
        let _ = writeln!(out, "<p class=\"about\">{}</p>", escaped(&line));
    }
}

fn rows(out: &mut String, grid: &Grid) {
    if grid.rows.is_empty() {
        return;
    }
    let cells = |row: &[String], tag: &str| -> String {
        row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect()
    };
    let class = if grid.is_words() { " class=\"words\"" } else { "" };
    let _ = writeln!(out, "<h2>{}</h2>\n<div class=\"wide\"><table{class}>", escaped(&grid.title));
    let _ = writeln!(out, "<thead><tr>{}</tr></thead>\n<tbody>", cells(&grid.head, "th"));
    for row in &grid.rows {
        let _ = writeln!(out, "<tr>{}</tr>", cells(row, "td"));
    }
    out.push_str("</tbody></table></div>\n");
}

fn figure(out: &mut String, plot: &Plot) {
    let _ = writeln!(out, "<h2>{}</h2>", escaped(plot.title));
    let Some(svg) = &plot.svg else {
        out.push_str("<p class=\"note\">Nothing of this was measured.</p>\n");
        return;
    };
    let _ = writeln!(
        out,
        "<figure><figcaption class=\"note\">{}</figcaption>\n<ul class=\"legend\">",
        escaped(&plot.note)
    );
    for (name, colour) in &plot.legend {
        let _ = writeln!(out, "<li><i class=\"c{colour}\"></i>{}</li>", escaped(name));
    }
    let _ = writeln!(out, "</ul>\n<div class=\"wide\">{svg}</div></figure>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
