//! The rows of the table.

use super::Beside;
use super::measure::Figures;
use crate::report::Report;

/// Rows of one contestant, each beside its floor and breakwater's.
pub(super) fn add(report: &mut Report, name: &str, beside: &Beside, base: Option<&Beside>) {
    let figures = &beside.figures;
    let mut plain = |key: &str, text: &str, value: f64, unit: &str| {
        report.number(&format!("{name}_{key}"), &format!("{name:10}  {text}"), value, unit);
    };
    plain("subscribers", "subscribers", f64::from(figures.subscribers), "");
    plain("floor_before_us", "bare send loop before it, CPU per delivery", beside.before.cpu_us, "us");
    plain("floor_after_us", "bare send loop after it, CPU per delivery", beside.after.cpu_us, "us");
    let base = base.filter(|_| name != "breakwater");
    // A time until the last of so many is compared with one of as many only.
    let as_many =
        base.filter(|base| base.figures.subscribers.abs_diff(figures.subscribers) * 50 < figures.subscribers);
    let mut row =
        |key: &str, text: &str, unit: &str, base: Option<&Beside>, take: fn(&Figures) -> Option<f64>| {
            let Some(value) = take(figures) else { return };
            let floor = beside.floor(take);
            let theirs = base.and_then(|base| {
                let theirs = take(&base.figures)?;
                // Each by its own floor, where there is one.
                let speed = if floor > 0.0 { floor / base.floor(take) } else { 1.0 };
                Some(theirs * speed)
            });
            let others = [("breakwater", theirs.unwrap_or(0.0)), ("floor", floor)];
            report.compared(&format!("{name}_{key}"), &format!("{name:10}  {text}"), value, unit, &others);
        };
    row("cpu_us", "CPU per delivery", "us", base, |of| Some(of.cpu_us));
    row("last_ms", "publication to last delivery, median", "ms", as_many, |of| Some(of.last_ms));
    row("idle_memory", "its memory per subscriber, idle", "B", base, |of| of.idle_memory);
    row("whole_memory", "all of its memory by its subscribers, idle", "B", base, |of| of.whole_memory);
    row("memory", "its memory per subscriber, after traffic", "B", base, |of| of.memory);
    row("slab", "kernel slab per subscriber, all sockets, whole host", "B", base, |of| of.slab);
    row("connect_per_s", "connections or handshakes a second", "", base, |of| {
        Some(f64::from(of.subscribers) / of.connect_s)
    });
    row("connect_us", "CPU per connection or handshake", "us", base, |of| Some(of.connect_us));
    row("idle_percent", "CPU while idle, of a core", "%", base, |of| of.idle_percent);
    row("full_per_s", "full handshakes per second of its CPU", "", base, |of| {
        of.handshakes.map(|of| of.full)
    });
    row("resumed_per_s", "resumed handshakes per second of its CPU", "", base, |of| {
        of.handshakes.map(|of| of.resumed)
    });
    row("resumed_percent", "of those that offered a ticket, resumed", "%", None, |of| {
        of.handshakes.map(|of| of.taken)
    });
    if beside.relative() < 1.0 {
        let doubt = "cheaper than the bare loop beside it, which cannot be: the host was too busy, run again";
        report.note(&format!("{name}, DOUBTFUL"), doubt);
    }
}
