//! The end of a run on the terminal: rows for people, and the verdict in words. The HTML shows the same rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use breakwater::control::plan::human;

use super::words::{QUANTILES, at_quantile, digits, grouped, per, seconds, several, span};
use super::{Measured, Results};
use crate::rig::behaviour;
use crate::rig::measure::{Counts, LATENCIES, Tally};

/// Rows under a heading; the first column is text, the others are numbers (but see [`Grid::is_words`]).
#[derive(Debug, Clone, Default)]
pub struct Grid {
    /// What it is about.
    pub title: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// As many cells as columns in each.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    fn new(title: &str, head: &[&str]) -> Grid {
        Grid { title: title.to_owned(), head: owned(head), rows: Vec::new() }
    }

    /// True exactly when the second column holds words, too, and is the last.
    pub fn is_words(&self) -> bool {
        self.head.len() == 2
    }

    fn row(&mut self, first: &str, others: impl IntoIterator<Item = String>) {
        self.rows.push(std::iter::once(first.to_owned()).chain(others).collect());
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Everything a run ends with on standard output.
pub fn text(results: &Results) -> String {
    let mut out = String::new();
    for grid in [clients(results), latencies(results), target(results), traffic(results), reasons(results)] {
        if !grid.rows.is_empty() {
            lay_out(&mut out, &grid);
        }
    }
    let _ = writeln!(out, "{}", verdict(results));
    out
}

fn lay_out(out: &mut String, grid: &Grid) {
    let all = || std::iter::once(&grid.head).chain(&grid.rows);
    let width =
        |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..grid.head.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in all() {
        let mut line = String::new();
        for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match place {
                0 => write!(line, "{cell:<width$}"),
                _ if grid.is_words() => write!(line, "  {cell}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out.push('\n');
}

/// Clients by behaviour, and in all when there are several.
pub fn clients(results: &Results) -> Grid {
    let mut grid =
        Grid::new("Clients", &["clients", "asked", "connected", "ready", "lost", "refused", "thrown out"]);
    let mut row = |name: &str, asked: u64, tally: &Tally| {
        let counts = &tally.counts;
        let numbers = [
            asked,
            counts.connected,
            counts.handshaken,
            counts.lost,
            tally.refused_total(),
            counts.thrown_out,
        ];
        grid.row(name, numbers.map(grouped));
    };
    for (name, behaviour) in results.names().iter().zip(&results.behaviours) {
        row(name, behaviour.asked, &behaviour.tally);
    }
    if results.behaviours.len() > 1 {
        row("all", results.behaviours.iter().map(|behaviour| behaviour.asked).sum(), &results.total());
    }
    // Only attackers are thrown out, and most runs have none.
    if results.total().counts.thrown_out == 0 {
        grid.head.pop();
        grid.rows.iter_mut().for_each(|row| drop(row.pop()));
    }
    grid
}

/// Latencies of all behaviours together.
pub fn latencies(results: &Results) -> Grid {
    let mut grid = latency_grid("Latency", "latency");
    latency_rows(&mut grid, "", &results.total());
    grid
}

/// Latencies of each behaviour.
pub fn latencies_by_behaviour(results: &Results) -> Grid {
    let mut grid = latency_grid("Latency by behaviour", "behaviour, latency");
    for (name, behaviour) in results.names().iter().zip(&results.behaviours) {
        latency_rows(&mut grid, &format!("{name}, "), &behaviour.tally);
    }
    grid
}

fn latency_grid(title: &str, first: &str) -> Grid {
    let mut grid = Grid::new(title, &[first]);
    grid.head.extend(QUANTILES.iter().map(|(_, name, _)| (*name).to_owned()));
    grid.head.extend(owned(&["max", "count"]));
    grid
}

fn latency_rows(grid: &mut Grid, prefix: &str, tally: &Tally) {
    for (kind, latency) in LATENCIES.iter().zip(tally.latencies()) {
        let Some(histogram) = latency.get().filter(|histogram| !histogram.is_empty()) else { continue };
        let quantiles = QUANTILES.iter().filter_map(|(_, _, q)| at_quantile(Some(histogram), *q)).map(span);
        let others = [span(histogram.max()), grouped(histogram.len())];
        grid.row(&format!("{prefix}{}", spoken(kind)), quantiles.chain(others));
    }
}

/// A kind of latency for people.
pub fn spoken(kind: &str) -> &str {
    match kind {
        "block_announce" => "block announced",
        "tx_announce" => "transaction announced",
        "lateness" => "lateness of the rig",
        "transport" => "transport open (TLS, v2)",
        other => other,
    }
}

/// What the target and the rig used.
pub fn target(results: &Results) -> Grid {
    let mut grid = Grid::new("Target and rig", &["used", "in all", "per client", "per announcement"]);
    let none = || "-".to_owned();
    let bytes = |b: Option<f64>| b.map_or_else(none, |b| human(b as u64));
    let us = |us: Option<f64>| us.map_or_else(none, |us| format!("{} us", digits(us)));
    let total = results.total();
    if let Some(used) = &results.target {
        let cpu = per(used.cpu.as_secs_f64() * 1e6, total.counts.connected);
        let in_all = seconds(used.cpu.as_secs_f64());
        grid.row("target, CPU", [in_all, us(cpu), us(used.cpu_per_announcement(&total))]);
        grid.row("target, resident", [human(used.rss), bytes(used.rss_per_client()), none()]);
        let kernel = used.kernel_per_client.map(|bytes| bytes as f64);
        grid.row("target, kernel sockets", [none(), bytes(kernel), none()]);
    }
    let cpu = per(results.rig_cpu.as_secs_f64() * 1e6, total.counts.connected);
    grid.row("rig, CPU", [seconds(results.rig_cpu.as_secs_f64()), us(cpu), none()]);
    grid.row("rig, resident", [human(results.rig_rss), bytes(results.rig_rss_per_client()), none()]);
    for share in &results.rig_plan {
        let what = format!("rig, planned: {} over {}", share.name, share.transport);
        grid.row(&what, [none(), human(share.bytes as u64), none()]);
    }
    grid
}

/// What went to and fro; only what was used.
pub fn traffic(results: &Results) -> Grid {
    let mut grid = Grid::new("Traffic", &["traffic", ""]);
    let counts: Counts = results.total().counts;
    let mut row = |used: u64, what: &str, text: String| {
        if used > 0 {
            grid.row(what, [text]);
        }
    };
    let blocks = u64::from(results.blocks);
    let heard = |heard: u64| format!("heard {}", several(heard, "time", "times"));
    let skipped = grouped(counts.blocks_skipped);
    row(blocks, "blocks", format!("{}, {}, skipped {skipped}", grouped(blocks), heard(counts.blocks_heard)));
    let txs = u64::from(results.txs);
    row(txs, "transactions", format!("{}, {}", grouped(txs), heard(counts.txs_heard)));
    let (submitted, given) = (grouped(counts.txs_submitted), grouped(counts.txs_given));
    row(counts.txs_submitted, "submissions", format!("{submitted}, fetched {given}"));
    let (answered, dropped) = (grouped(counts.pongs), grouped(counts.pings_dropped));
    row(counts.pings, "pings", format!("{}, answered {answered}, dropped {dropped}", grouped(counts.pings)));
    let (answered, missing) = (grouped(counts.answers), grouped(counts.not_found));
    row(
        counts.requests,
        "requests",
        format!("{}, answered {answered}, not found {missing}", grouped(counts.requests)),
    );
    let (per_second, most) = results.transport_rates();
    let pace =
        per_second.map_or(String::new(), |n| format!(", {} a second while ramping", grouped(n as u64)));
    row(
        counts.transport_begun,
        "transports",
        format!(
            "{} full, {} resumed, {} v2, {} failed{pace}, most in a second {}",
            grouped(counts.transport_full),
            grouped(counts.transport_resumed),
            grouped(counts.transport_v2),
            grouped(counts.transport_failed),
            grouped(most as u64),
        ),
    );
    let attacks = counts.thrown_out + counts.forgiven;
    row(
        attacks,
        "attacks",
        format!("thrown out {}, forgiven {}", grouped(counts.thrown_out), grouped(counts.forgiven)),
    );
    row(counts.messages_in, "messages", format!("{} received", grouped(counts.messages_in)));
    let volume = format!("{} received, {} sent", human(counts.bytes_in), human(counts.bytes_out));
    row(counts.bytes_in + counts.bytes_out, "bytes", volume);
    let ramp = results
        .ramp
        .map_or("not completed".to_owned(), |ramp| format!("ready after {}", seconds(ramp.as_secs_f64())));
    grid.row("time", [format!("{}, {ramp}", seconds(results.wall.as_secs_f64()))]);
    grid
}

/// Refusals and errors by reason, of all behaviours.
pub fn reasons(results: &Results) -> Grid {
    let mut grid = Grid::new("Refusals and errors", &["reason", "refused", "errors"]);
    let total = results.total();
    let mut both: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    total.refused.iter().for_each(|(reason, n)| both.entry(reason).or_default().0 += n);
    total.errors.iter().for_each(|(reason, n)| both.entry(reason).or_default().1 += n);
    for (reason, (refused, errors)) in both {
        grid.row(reason, [grouped(refused), grouped(errors)]);
    }
    grid
}

/// The outcome in one line: whether everybody connected and stayed, or what went wrong.
pub fn verdict(results: &Results) -> String {
    let total = results.total();
    let asked: u64 = results.behaviours.iter().map(|behaviour| behaviour.asked).sum();
    let counts = &total.counts;
    let mut wrong = Vec::new();
    if counts.connected < asked {
        wrong.push(format!(
            "{} of {} connected",
            grouped(counts.connected),
            several(asked, "client", "clients")
        ));
    }
    let unready: u64 = results.behaviours.iter().map(unready).sum();
    if unready > 0 {
        wrong.push(format!("{} connected without ever becoming ready", grouped(unready)));
    }
    let errors: u64 = total.errors.values().sum();
    // When the sums agree, the errors are the reasons of the losses; otherwise other things went wrong, too.
    if counts.lost > 0 && errors == counts.lost {
        wrong.push(format!("{} lost: {}", grouped(counts.lost), listed(&total.errors)));
    } else {
        if counts.lost > 0 {
            wrong.push(format!("{} lost", grouped(counts.lost)));
        }
        if errors > 0 {
            wrong.push(format!("{}: {}", several(errors, "error", "errors"), listed(&total.errors)));
        }
    }
    if total.refused_total() > 0 {
        wrong.push(format!("{} refused: {}", grouped(total.refused_total()), listed(&total.refused)));
    }
    if counts.blocks_skipped > 0 {
        let skipped = several(counts.blocks_skipped, "announcement of a block", "announcements of blocks");
        wrong.push(format!("{skipped} never came"));
    }
    let said = match (wrong.is_empty(), asked) {
        (false, _) => wrong.join("; "),
        (true, 0) => "no client was asked for".to_owned(),
        (true, 1) => "the client connected and was not lost".to_owned(),
        (true, _) => format!("all {} clients connected and none was lost", grouped(asked)),
    };
    if results.interrupted { format!("ended early; {said}") } else { said }
}

/// Connected clients that should have completed a handshake and did not; attackers need not.
fn unready(behaviour: &Measured) -> u64 {
    if behaviour::find(&behaviour.name).is_some_and(|kind| kind.attack) {
        return 0;
    }
    behaviour.tally.counts.connected.saturating_sub(behaviour.tally.counts.handshaken)
}

/// "closed by target", or "10 closed by target, 2 reset" when there are several.
fn listed(reasons: &BTreeMap<&'static str, u64>) -> String {
    match reasons.len() {
        1 => reasons.keys().copied().collect(),
        _ => reasons
            .iter()
            .map(|(reason, n)| format!("{} {reason}", grouped(*n)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
