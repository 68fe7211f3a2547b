//! The plots of `report.html` as SVG text, drawn by plotters without fonts: the reader's browser sets the text.
//!
//! The colours are those of a light page; the page recolours them for a dark one by their names (see [`PALETTE`]). Legends
//! are the page's, so they wrap.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;

use super::words::{QUANTILES, at_quantile, grouped, span};
use super::{Results, Sample, table};
use crate::Outcome;
use crate::rig::measure::LATENCIES;

/// Colours of lines, on a light page and on a dark one; a kind of latency has the one of its place in [`LATENCIES`].
pub const PALETTE: [(RGBColor, RGBColor); 8] = [
    (RGBColor(0x25, 0x63, 0xeb), RGBColor(0x7a, 0xa7, 0xff)),
    (RGBColor(0xc2, 0x57, 0x0c), RGBColor(0xff, 0x9f, 0x5a)),
    (RGBColor(0x15, 0x80, 0x3d), RGBColor(0x5b, 0xd6, 0x8a)),
    (RGBColor(0xa2, 0x1c, 0xaf), RGBColor(0xe5, 0x8a, 0xf0)),
    (RGBColor(0x0e, 0x74, 0x90), RGBColor(0x4f, 0xd0, 0xe6)),
    (RGBColor(0xb9, 0x1c, 0x1c), RGBColor(0xff, 0x80, 0x80)),
    (RGBColor(0x57, 0x53, 0x4e), RGBColor(0xc4, 0xbe, 0xb7)),
    (RGBColor(0x85, 0x4d, 0x0e), RGBColor(0xe3, 0xc0, 0x6a)),
];
/// Text of the axes, as in [`PALETTE`].
pub const INK: (RGBColor, RGBColor) = (RGBColor(0x4b, 0x55, 0x63), RGBColor(0xae, 0xb6, 0xc2));
/// Lines of the grid, as in [`PALETTE`].
pub const GRID: (RGBColor, RGBColor) = (RGBColor(0xd9, 0xdc, 0xe1), RGBColor(0x34, 0x3a, 0x44));

/// Units of the drawing; the page shows it at half that and less, so a line is placed more finely than to a pixel.
const SIZE: (u32, u32) = (1_600, 640);
const FONT: (&str, u32) = ("sans-serif", 32);
/// Most points of a curve.
const POINTS: usize = 600;

/// A plot and what is written around it.
#[derive(Debug)]
pub struct Plot {
    /// What it shows.
    pub title: &'static str,
    /// How to read it, one sentence.
    pub note: String,
    /// Names of the lines with their places in [`PALETTE`].
    pub legend: Vec<(String, usize)>,
    /// The drawing; `None` when nothing of it was measured.
    pub svg: Option<String>,
}

/// A line: its pieces, between which nothing was measured.
struct Line {
    name: String,
    colour: usize,
    pieces: Vec<Vec<(f64, f64)>>,
}

impl Line {
    fn new(name: &str, colour: usize, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.to_owned(), colour, pieces: vec![points] }
    }

    /// A value per sample; 0 stands for "not measured" when `gaps`.
    fn of(samples: &[Sample], name: &str, colour: usize, gaps: bool, value: impl Fn(&Sample) -> f64) -> Line {
        let points: Vec<(f64, f64)> = samples.iter().map(|sample| (sample.at, value(sample))).collect();
        let known = |point: &(f64, f64)| !gaps || point.1 > 0.0;
        let pieces = points.split(|point| !known(point)).filter(|piece| !piece.is_empty());
        Line { name: name.to_owned(), colour, pieces: pieces.map(<[_]>::to_vec).collect() }
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.pieces.iter().flatten()
    }
}

/// Where an axis begins and ends, its marks, and what is written at them.
struct Axis {
    from: f64,
    to: f64,
    marks: Vec<f64>,
    label: Box<dyn Fn(f64) -> String>,
    title: &'static str,
}

impl Axis {
    /// From 0 to a round number.
    fn linear(title: &'static str, most: f64, label: impl Fn(f64) -> String + 'static) -> Axis {
        let step = round_step(most / 5.0);
        let to = (most / step).ceil().max(1.0) * step;
        let marks = (0..=(to / step).round() as u32).map(|n| f64::from(n) * step).collect();
        Axis { from: 0.0, to, marks, label: Box::new(label), title }
    }

    /// Seconds since the start.
    fn time(samples: &[Sample]) -> Axis {
        let to = samples.iter().map(|sample| sample.at).fold(1.0, f64::max);
        let steps =
            [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];
        let step = steps.into_iter().map(f64::from).find(|step| to / step <= 8.0).unwrap_or(to / 8.0);
        let marks = (0..=(to / step) as u32).map(|n| f64::from(n) * step).collect();
        let label = move |at: f64| match step {
            ..60.0 => format!("{at:.0} s"),
            60.0..3_600.0 => format!("{:.0} min", at / 60.0),
            _ => format!("{:.1} h", at / 3_600.0),
        };
        Axis { from: 0.0, to, marks, label: Box::new(label), title: "since the start" }
    }

    /// Logarithms of microseconds, between round numbers.
    fn log_us(title: &'static str, lines: &[Line]) -> Axis {
        let values = || lines.iter().flat_map(Line::points).map(|point| point.1);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        let round: Vec<f64> =
            (0..11).flat_map(|decade| [1.0, 2.0, 5.0].map(|n: f64| n.log10() + f64::from(decade))).collect();
        // The slack is for what rounding does to a logarithm.
        let from = round.iter().rev().find(|mark| **mark <= least + 1e-9).copied().unwrap_or(0.0);
        let to = round.iter().find(|mark| **mark >= most - 1e-9 && **mark > from).copied().unwrap_or(11.0);
        let whole = |mark: f64| (mark - mark.round()).abs() < 1e-9;
        let inside = round.into_iter().filter(|mark| (from..=to).contains(mark));
        let marks = inside.filter(|mark| to - from < 2.5 || whole(*mark)).collect();
        Axis { from, to, marks, label: Box::new(|mark| short_us(10f64.powf(mark).round())), title }
    }
}

/// plotters asks an axis where a value stands and where its marks are.
struct Marked<'a>(&'a Axis);

impl Ranged for Marked<'_> {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let share = (value - self.0.from) / (self.0.to - self.0.from);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.0.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.0.from..self.0.to
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let magnitude = 10f64.powf(step.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|n| n * magnitude)
        .find(|round| *round >= step * 0.999)
        .unwrap_or(10.0 * magnitude)
}

/// Microseconds with their unit, without needless digits.
fn short_us(us: f64) -> String {
    match us {
        ..1e3 => format!("{us} us"),
        ..1e6 => format!("{} ms", us / 1e3),
        _ => format!("{} s", us / 1e6),
    }
}

fn short_bytes(bytes: f64) -> String {
    match bytes {
        ..1e3 => format!("{bytes:.0} B"),
        ..1e6 => format!("{} KB", (bytes / 1e2).round() / 10.0),
        ..1e9 => format!("{} MB", (bytes / 1e5).round() / 10.0),
        _ => format!("{} GB", (bytes / 1e7).round() / 100.0),
    }
}

/// All plots, in the order of the page.
///
/// # Errors
/// plotters refuses; it writes to memory, so this should not happen.
pub fn all(results: &Results) -> Outcome<Vec<Plot>> {
    Ok(vec![
        percentiles(results)?,
        fan_out(results)?,
        clients(&results.samples)?,
        over_time(&results.samples)?,
        memory(&results.samples)?,
        cpu(&results.samples)?,
    ])
}

fn percentiles(results: &Results) -> Outcome<Plot> {
    let total = results.total();
    let mut lines = Vec::new();
    for (colour, (kind, latency)) in LATENCIES.iter().zip(total.latencies()).enumerate() {
        let Some(histogram) = latency.get().filter(|histogram| !histogram.is_empty()) else { continue };
        let steps = histogram.iter_quantiles(5).filter(|step| step.quantile_iterated_to() < 1.0);
        let mut points: Vec<(f64, f64)> = steps
            .map(|step| (-(1.0 - step.quantile_iterated_to()).log10(), log(step.value_iterated_to())))
            .collect();
        // The largest stands where one of so many stands.
        let last = (histogram.len() as f64).log10().max(points.last().map_or(0.0, |point| point.0));
        points.push((last, log(histogram.max())));
        lines.push(Line::new(table::spoken(kind), colour, points));
    }
    let nines = lines.iter().flat_map(Line::points).map(|point| point.0).fold(2.0, f64::max).ceil();
    let marks = [0.0, 0.301].into_iter().chain((1..=nines as u32).map(f64::from)).collect();
    let label = |nines: f64| match nines.round() as u32 {
        0 if nines > 0.1 => "50 %".to_owned(),
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more as usize - 2)),
    };
    let x = Axis { from: 0.0, to: nines, marks, label: Box::new(label), title: "percentile" };
    let y = Axis::log_us("latency", &lines);
    let note =
        "Each step to the right is ten times rarer; both axes are logarithmic. All behaviours together.";
    plot("Latency by percentile", note.to_owned(), lines, x, y)
}

fn log(us: u64) -> f64 {
    (us.max(1) as f64).log10()
}

fn fan_out(results: &Results) -> Outcome<Plot> {
    let total = results.total();
    let title = "Fan-out of blocks";
    let Some(histogram) = total.block_announce.get().filter(|histogram| !histogram.is_empty()) else {
        return plot(title, String::new(), Vec::new(), Axis::time(&[]), Axis::time(&[]));
    };
    let end = at_quantile(Some(histogram), 0.999).unwrap_or(1).max(1);
    // Those who never heard were not reached, either.
    let all = (histogram.len() + total.counts.blocks_skipped) as f64;
    let (mut reached, mut points) = (0, vec![(0.0, 0.0)]);
    for step in histogram.iter_recorded().take_while(|step| step.value_iterated_to() <= end) {
        reached += step.count_since_last_iteration();
        points.push((step.value_iterated_to() as f64, reached as f64 * 100.0 / all));
    }
    let lines = vec![Line::new("block announced", 3, thinned(points))];
    let since =
        if results.origin == "node" { "the node had the block" } else { "the first client heard of it" };
    let note = format!(
        "Share of all clients and blocks whose announcement had come by then, counted from when {since}. Ends at p99.9; the \
         slowest took {}.",
        span(histogram.max())
    );
    let x = Axis::linear("since the block", end as f64, short_us);
    plot(title, note, lines, x, Axis::linear("clients reached", 100.0, |share| format!("{share:.0} %")))
}

/// At most [`POINTS`] of them, the last among them.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let (every, last) = (points.len().div_ceil(POINTS).max(1), points.len().saturating_sub(1));
    points
        .into_iter()
        .enumerate()
        .filter(|(n, _)| n % every == 0 || *n == last)
        .map(|(_, point)| point)
        .collect()
}

fn clients(samples: &[Sample]) -> Outcome<Plot> {
    let lines = vec![
        Line::of(samples, "open", 0, false, |sample| sample.open as f64),
        Line::of(samples, "ready", 2, false, |sample| sample.ready as f64),
        Line::of(samples, "waiting for the newest block", 3, false, |sample| sample.behind as f64),
    ];
    let y = up_to_most("clients", &lines, |n| grouped(n.round() as u64));
    let note = "Open connections, clients whose handshake is complete, and those that have not heard of the newest block.";
    plot("Clients", note.to_owned(), lines, Axis::time(samples), y)
}

fn over_time(samples: &[Sample]) -> Outcome<Plot> {
    let log = |us: u64| if us == 0 { 0.0 } else { log(us).max(1e-9) };
    let [half, most] = [QUANTILES[0].1, QUANTILES[2].1];
    let lines = vec![
        Line::of(samples, &format!("ping {half}"), 2, true, |sample| log(sample.ping_p50)),
        Line::of(samples, &format!("ping {most}"), 4, true, |sample| log(sample.ping_p99)),
        Line::of(samples, &format!("block {half}"), 3, true, |sample| log(sample.block_p50)),
        Line::of(samples, &format!("block {most}"), 5, true, |sample| log(sample.block_p99)),
    ];
    let y = Axis::log_us("latency", &lines);
    let note =
        "Of the time since the sample before, mostly a second; where nothing was measured there is a gap."
            .to_owned();
    plot("Latency over time", note, lines, Axis::time(samples), y)
}

fn memory(samples: &[Sample]) -> Outcome<Plot> {
    let before = samples.first().map_or(0, |sample| sample.slab);
    let mut lines = vec![
        Line::of(samples, "target, resident", 0, true, |sample| sample.target_rss as f64),
        Line::of(samples, "kernel slab, growth", 1, false, |sample| {
            sample.slab.saturating_sub(before) as f64
        }),
    ];
    if samples.iter().all(|sample| sample.slab == 0) {
        lines.pop();
    }
    let y = up_to_most("memory", &lines, short_bytes);
    let note = "Resident memory of the target, and what the slab of the whole host has grown by since the start (sockets of both \
                ends, when both are here)."
        .to_owned();
    plot("Memory", note, lines, Axis::time(samples), y)
}

fn cpu(samples: &[Sample]) -> Outcome<Plot> {
    let known = samples.iter().any(|sample| sample.target_cores > 0.0);
    let target = known.then(|| Line::of(samples, "target", 0, false, |sample| sample.target_cores));
    let rig = Line::of(samples, "rig", 1, false, |sample| sample.rig_cores);
    let lines: Vec<Line> = target.into_iter().chain([rig]).collect();
    let y = up_to_most("cores", &lines, |cores| format!("{}", (cores * 1e3).round() / 1e3));
    let note = "Cores in use. When the rig uses all it has, it measures itself.".to_owned();
    plot("CPU", note, lines, Axis::time(samples), y)
}

fn up_to_most(title: &'static str, lines: &[Line], label: impl Fn(f64) -> String + 'static) -> Axis {
    let most = lines.iter().flat_map(Line::points).map(|point| point.1).fold(0.0, f64::max);
    Axis::linear(title, if most > 0.0 { most } else { 1.0 }, label)
}

fn plot(title: &'static str, note: String, lines: Vec<Line>, x: Axis, y: Axis) -> Outcome<Plot> {
    let lines: Vec<Line> = lines.into_iter().filter(|line| line.points().next().is_some()).collect();
    let svg = if lines.is_empty() { None } else { Some(draw(title, &lines, &x, &y)?) };
    Ok(Plot { title, note, legend: lines.into_iter().map(|line| (line.name, line.colour)).collect(), svg })
}

fn draw(title: &str, lines: &[Line], x: &Axis, y: &Axis) -> Outcome<String> {
    let mut svg = String::new();
    draw_into(&mut svg, lines, x, y)
        .map_err(|error| format!("the plot \"{title}\" cannot be drawn: {error}"))?;
    Ok(svg)
}

fn draw_into(
    svg: &mut String,
    lines: &[Line],
    x: &Axis,
    y: &Axis,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin_top(24)
        .margin_right(60)
        .x_label_area_size(96)
        .y_label_area_size(170)
        .build_cartesian_2d(Marked(x), Marked(y))?;
    let text = FONT.into_font().color(&INK.0);
    chart
        .configure_mesh()
        .bold_line_style(GRID.0.stroke_width(2))
        .light_line_style(TRANSPARENT)
        .axis_style(GRID.0.stroke_width(2))
        .label_style(text.clone())
        .axis_desc_style(text)
        .x_label_formatter(&|at| (x.label)(*at))
        .y_label_formatter(&|at| (y.label)(*at))
        .x_labels(x.marks.len())
        .y_labels(y.marks.len())
        .x_desc(x.title)
        .y_desc(y.title)
        .draw()?;
    for line in lines {
        let (colour, _) = PALETTE[line.colour % PALETTE.len()];
        for piece in &line.pieces {
            chart.draw_series(LineSeries::new(piece.iter().copied(), colour.stroke_width(4)))?;
            if let [alone] = piece[..] {
                chart.draw_series([Circle::new(alone, 7, colour.filled())])?;
            }
        }
    }
    area.present()
}
