//! `report.json`, the contract between a run and whoever reads it later (bench/README.md documents every field), and
//! `samples.jsonl`.
//!
//! A latency that was not measured has count 0 and null percentiles; what is not known of the target is null. A field is
//! never left out, so that a reader need not guess what its absence means.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::words::{QUANTILES, at_quantile, per};
use super::{Results, TargetUse};
use crate::machine;
use crate::rig::measure::{LATENCIES, Tally};

/// The number of this layout; a reader refuses one it does not know.
pub const FORMAT: u64 = 1;

/// The whole report; `files` are the names of the `.hgrm` files beside it.
pub fn report(results: &Results, files: &[String]) -> Value {
    let total = results.total();
    let asked = results.behaviours.iter().map(|measured| measured.asked).sum();
    let mut report = measured(&total, asked);
    let behaviours: Map<String, Value> = results
        .names()
        .into_iter()
        .zip(&results.behaviours)
        .map(|(name, behaviour)| (name, measured(&behaviour.tally, behaviour.asked)))
        .collect();
    report["blocks"]["announced"] = json!(results.blocks);
    report["transactions"]["announced"] = json!(results.txs);
    let (ramp, most) = results.transport_rates();
    report["transport"]["per_second"] = json!(ramp);
    report["transport"]["most_per_second"] = json!(most);
    let about = json!({
        "format": FORMAT,
        "commit": machine::commit(),
        "machine": results.machine,
        "asked": results.asked,
        "started": results.started,
        "wall_seconds": results.wall.as_secs_f64(),
        "ramp_seconds": results.ramp.map(|ramp| ramp.as_secs_f64()),
        "interrupted": results.interrupted,
        "origin": results.origin,
        "target": target(results, &total),
        "rig": rig(results),
        "at_end": results.levels,
        "behaviours": behaviours,
        "files": files,
    });
    if let (Value::Object(report), Value::Object(about)) = (&mut report, about) {
        report.extend(about);
    }
    report
}

/// One line per sample.
pub fn samples(results: &Results) -> String {
    let mut out = String::new();
    for sample in &results.samples {
        out.push_str(&json!(sample).to_string());
        out.push('\n');
    }
    out
}

/// What is said of a behaviour and of all of them together.
fn measured(tally: &Tally, asked: u64) -> Value {
    let counts = &tally.counts;
    let latencies: Map<String, Value> = LATENCIES
        .iter()
        .zip(tally.latencies())
        .map(|(name, l)| ((*name).to_owned(), latency(l.get())))
        .collect();
    json!({
        "clients": {
            "asked": asked,
            "connected": counts.connected,
            "handshaken": counts.handshaken,
            "lost": counts.lost,
            "refused": by_reason(&tally.refused),
        },
        "transport": {
            "begun": counts.transport_begun,
            "full": counts.transport_full,
            "resumed": counts.transport_resumed,
            "v2": counts.transport_v2,
            "failed": counts.transport_failed,
        },
        "latency_us": latencies,
        "blocks": { "heard": counts.blocks_heard, "skipped": counts.blocks_skipped },
        "transactions": { "heard": counts.txs_heard, "submitted": counts.txs_submitted, "given": counts.txs_given },
        "pings": { "sent": counts.pings, "answered": counts.pongs, "dropped": counts.pings_dropped },
        "requests": { "sent": counts.requests, "answered": counts.answers, "not_found": counts.not_found },
        "counts": counts,
        "errors": by_reason(&tally.errors),
    })
}

fn by_reason(reasons: &BTreeMap<&'static str, u64>) -> Value {
    reasons.iter().map(|(reason, n)| ((*reason).to_owned(), json!(n))).collect::<Map<_, _>>().into()
}

fn latency(histogram: Option<&Histogram<u64>>) -> Value {
    let measured = histogram.filter(|histogram| !histogram.is_empty());
    let mut fields: Map<String, Value> = QUANTILES
        .iter()
        .map(|(name, _, quantile)| ((*name).to_owned(), json!(at_quantile(measured, *quantile))))
        .collect();
    fields.insert("max".to_owned(), json!(measured.map(Histogram::max)));
    fields.insert("mean".to_owned(), json!(measured.map(Histogram::mean)));
    fields.insert("count".to_owned(), json!(measured.map_or(0, Histogram::len)));
    Value::Object(fields)
}

fn target(results: &Results, total: &Tally) -> Value {
    let known = results.target.as_ref();
    let us = |span: std::time::Duration| span.as_secs_f64() * 1e6;
    json!({
        "pid": known.map(|target| target.pid),
        "clients": known.map(|target| target.clients),
        "cpu_seconds": known.map(|target| target.cpu.as_secs_f64()),
        "cpu_seconds_after_ramp": known.map(|target| target.cpu_after_ramp.as_secs_f64()),
        "cpu_us_per_client": known.and_then(|target| per(us(target.cpu), total.counts.connected)),
        "cpu_us_per_announcement": known.and_then(|target| target.cpu_per_announcement(total)),
        "rss_bytes": known.map(|target| target.rss),
        "rss_bytes_before": known.map(|target| target.rss_before),
        "rss_bytes_per_client": known.and_then(TargetUse::rss_per_client),
        "kernel_bytes_per_client": known.and_then(|target| target.kernel_per_client),
    })
}

fn rig(results: &Results) -> Value {
    let planned = results.rig_plan.iter();
    let planned: Map<String, Value> =
        planned.map(|s| (format!("{} over {}", s.name, s.transport), json!(s.bytes))).collect();
    json!({
        "cpu_seconds": results.rig_cpu.as_secs_f64(),
        "rss_bytes": results.rig_rss,
        "rss_bytes_before": results.rig_rss_before,
        "rss_bytes_per_client": results.rig_rss_per_client(),
        "planned_bytes": planned,
    })
}
