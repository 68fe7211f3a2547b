//! What is seen of a run while it goes on: a live view on a terminal, a line every five seconds elsewhere. On standard
//! error, so that standard output holds nothing but the table at the end.
//!
//! It measures nothing and reads no clock: time is that of the samples.

use std::io::{IsTerminal as _, Write};

use breakwater::cli::live::{Live, Room};
use breakwater::control::plan::human;
use hdrhistogram::Histogram;

use super::measure::Tally;
use super::report::Sample;
use super::report::words::{QUANTILES, at_quantile, digits, grouped, seconds, span};

/// Seconds from one line to the next.
const LINE_EVERY: f64 = 5.0;
/// Characters of the bar.
const BAR: usize = 32;

/// Where a run is shown.
pub struct View {
    out: Box<dyn Write + Send>,
    /// `None`: lines instead of a drawing.
    live: Option<(Live, fn() -> Room)>,
    /// Clients asked.
    asked: u64,
    /// When the next line is due, seconds since the start.
    due: f64,
}

impl View {
    /// On standard error; lines when asked for, and where that is no terminal.
    pub fn new(asked: u64, plain: bool) -> View {
        let live = !plain && std::io::stderr().is_terminal();
        View::onto(Box::new(std::io::stderr()), asked, live.then_some(|| Room::of(&std::io::stderr())))
    }

    /// Onto something else, for tests; a terminal says what room it has.
    pub fn onto(out: Box<dyn Write + Send>, asked: u64, terminal: Option<fn() -> Room>) -> View {
        View { out, live: terminal.map(|room| (Live::new(), room)), asked, due: 0.0 }
    }

    /// How it stands: the last second, and everything so far.
    pub fn show(&mut self, sample: &Sample, total: &Tally) {
        let text = match &mut self.live {
            Some((live, room)) => live.redraw(&drawing(sample, total, self.asked), room()),
            None if sample.at < self.due => return,
            None => {
                // Samples come about every second, not exactly: half a second early is in time.
                self.due = sample.at + LINE_EVERY - 0.5;
                line(sample, total, self.asked) + "\n"
            }
        };
        // A reader that has gone away is no reason to end the run.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    /// The last drawing stays; what comes next begins below it.
    pub fn end(mut self) {
        if self.live.is_some() {
            let _ = self.out.write_all(b"\n").and_then(|()| self.out.flush());
        }
    }
}

fn line(sample: &Sample, total: &Tally, asked: u64) -> String {
    let target = match sample.target_rss {
        0 => String::new(),
        rss => format!("  target {} {} cores", human(rss), digits(sample.target_cores)),
    };
    format!(
        "{:>7}  open {} ready {} of {} refused {} lost {}  {} handshakes/s {} messages/s {}/s  ping {}  \
         blocks {} waiting {} {}{target}  rig {} cores",
        seconds(sample.at.floor()),
        grouped(sample.open),
        grouped(sample.ready),
        grouped(asked),
        grouped(sample.refused),
        grouped(sample.lost),
        rate(sample.handshakes_s),
        rate(sample.messages_s),
        human(sample.bytes_in_s.max(0.0) as u64),
        two(total.ping.get()),
        sample.blocks,
        grouped(sample.behind),
        two(total.block_announce.get()),
        digits(sample.rig_cores),
    )
}

fn drawing(sample: &Sample, total: &Tally, asked: u64) -> Vec<String> {
    let row = |what: &str, value: String| format!("  {what:<13} {value}");
    let share = if asked == 0 { 1.0 } else { (sample.ready as f64 / asked as f64).clamp(0.0, 1.0) };
    let full = (share * BAR as f64) as usize;
    let bar = format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full));
    let mut lines = vec![
        row("time", seconds(sample.at.floor())),
        row("ready", format!("{bar} {} of {}", grouped(sample.ready), grouped(asked))),
        row(
            "clients",
            format!(
                "{} open, {} refused, {} lost",
                grouped(sample.open),
                grouped(sample.refused),
                grouped(sample.lost)
            ),
        ),
        row(
            "per second",
            format!(
                "{} handshakes, {} messages, {} received",
                rate(sample.handshakes_s),
                rate(sample.messages_s),
                human(sample.bytes_in_s.max(0.0) as u64)
            ),
        ),
        row("block", newest(sample)),
    ];
    let second = |half: u64, most: u64| match half {
        0 => "-".to_owned(),
        _ => format!("p50 {} p99 {}", span(half), span(most)),
    };
    let latencies = [
        ("handshake", None, total.handshake.get()),
        ("ping", Some(second(sample.ping_p50, sample.ping_p99)), total.ping.get()),
        ("block heard", Some(second(sample.block_p50, sample.block_p99)), total.block_announce.get()),
        ("tx heard", None, total.tx_announce.get()),
    ];
    for (what, now, so_far) in latencies {
        lines.push(row(what, all(so_far)));
        // On a line of its own: both do not fit into 80 columns.
        lines.extend(now.map(|now| row("  this second", now)));
    }
    let target = match sample.target_rss {
        0 => "not on this machine".to_owned(),
        rss => format!("{} resident, {} cores", human(rss), digits(sample.target_cores)),
    };
    lines.push(row("target", target));
    lines.push(row(
        "rig",
        format!("{} cores; kernel slab of the host {}", digits(sample.rig_cores), human(sample.slab)),
    ));
    lines
}

fn newest(sample: &Sample) -> String {
    match (sample.blocks, sample.behind) {
        (0, _) => "none announced yet".to_owned(),
        (blocks, 0) => format!("number {} has reached all {} ready clients", blocks, grouped(sample.ready)),
        (blocks, behind) => format!(
            "{} of {} ready clients wait for number {}",
            grouped(behind),
            grouped(sample.ready),
            blocks
        ),
    }
}

fn rate(per_second: f64) -> String {
    grouped(per_second.max(0.0).round() as u64)
}

fn two(histogram: Option<&Histogram<u64>>) -> String {
    let said = |quantile| at_quantile(histogram, quantile).map_or("-".to_owned(), span);
    format!("p50 {} p99 {}", said(0.5), said(0.99))
}

fn all(histogram: Option<&Histogram<u64>>) -> String {
    let Some(measured) = histogram.filter(|histogram| !histogram.is_empty()) else { return "-".to_owned() };
    let said = QUANTILES
        .iter()
        .filter_map(|(_, name, q)| Some(format!("{name} {}", span(at_quantile(histogram, *q)?))));
    format!("{} max {}", said.collect::<Vec<_>>().join(" "), span(measured.max()))
}
