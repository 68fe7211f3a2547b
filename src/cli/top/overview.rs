//! The first screen: clients, services, shards and nodes.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::data::{Info, Latency, Node, Rates, Service, Shard, Snapshot};
use super::model::Model;
use super::view::{BAD, DIM};
use crate::cli::ctl::show::amount;
use crate::shard::regimes::Regime;

/// Rows of a table with its head; what does not fit is counted in the last row.
const SERVICES: usize = 5;
const NODES: usize = 4;

/// Draws it.
pub(super) fn draw(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let Some(snapshot) = &model.snapshot else { return };
    let services = snapshot.services.len().clamp(1, SERVICES - 1) as u16 + 1;
    let nodes = snapshot.nodes.len().clamp(1, NODES - 1) as u16 + 1;
    let [clients, service_rows, node_rows, shards] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(services),
        Constraint::Length(nodes),
        Constraint::Min(3),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(sums(&snapshot.info)), clients);
    frame.render_widget(service_table(&snapshot.services), service_rows);
    frame.render_widget(node_table(&snapshot.nodes), node_rows);
    frame.render_widget(shard_table(snapshot, model, shards.height), shards);
}

fn sums(info: &Info) -> Vec<Line<'static>> {
    let plain = info.clients.saturating_sub(info.tls + info.v2);
    let free = info.sessions.saturating_sub(info.priority);
    vec![
        Line::from(format!("clients   {} of {}, {} ready", info.clients, info.max_clients, info.ready)),
        Line::from(format!("          plain {plain}  v2 {}  tls {}", info.v2, info.tls)),
        Line::from(format!(
            "          probe {}  free {free}  priority {}    mempool {}",
            info.probes, info.priority, info.mempool
        )),
        Line::from(format!("blocks    last two announced to {}", latency(&info.announcements))),
    ]
}

fn latency(seen: &Latency) -> String {
    match seen.clients {
        0 => "nobody yet".to_owned(),
        n => format!("{n}: p50 {}  p99 {}  max {}", millis(seen.p50), millis(seen.p99), millis(seen.max)),
    }
}

/// Seconds in a short form.
pub(super) fn millis(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(time) if time < 0.010 => format!("{:.1}ms", time * 1e3),
        Some(time) if time < 1.0 => format!("{:.0}ms", time * 1e3),
        Some(time) if time < 10.0 => format!("{time:.1}s"),
        Some(time) => format!("{time:.0}s"),
    }
}

fn service_table(services: &[Service]) -> Table<'static> {
    let fits = SERVICES - 1;
    let mut rows: Vec<Row<'static>> = services.iter().take(fits).map(service_row).collect();
    and_more(&mut rows, services.len(), fits);
    let widths = [3, 12, 8, 5, 14, 15].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    Table::new(rows, widths).header(head(&["ID", "SERVICE", "STATE", "OVER", "SESSIONS", "PROBES", "LISTEN"]))
}

fn service_row(service: &Service) -> Row<'static> {
    let (state, style) = if service.draining { ("draining", BAD) } else { ("open", Style::new()) };
    Row::new([
        Cell::from(service.id.to_string()),
        Cell::from(service.name.clone()),
        Cell::from(state).style(style),
        Cell::from(if service.tls { "tls" } else { "plain" }),
        Cell::from(format!("{}/{}", service.sessions, service.max_sessions)),
        Cell::from(format!("{}/{}", service.probes, service.max_probes)),
        Cell::from(service.listen.join(" ")),
    ])
}

fn node_table(nodes: &[Node]) -> Table<'static> {
    let fits = NODES - 1;
    let row = |node: &Node| {
        let (state, style) = if node.up { ("up", Style::new()) } else { ("down", BAD) };
        Row::new([
            Cell::from(node.node.clone()),
            Cell::from(state).style(style),
            Cell::from(node.transport.clone().unwrap_or_default()),
            Cell::from(node.losses.to_string()),
            Cell::from(node.user_agent.clone().unwrap_or_default()),
        ])
    };
    let mut rows: Vec<Row<'static>> = nodes.iter().take(fits).map(row).collect();
    and_more(&mut rows, nodes.len(), fits);
    let widths = [28, 5, 5, 6].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    Table::new(rows, widths).header(head(&["NODE", "LINK", "OVER", "LOST", "NAME"]))
}

/// The last row says how many there are besides.
fn and_more(rows: &mut Vec<Row<'static>>, all: usize, fits: usize) {
    if all > fits {
        rows.pop();
        rows.push(Row::new([Cell::from("..."), Cell::from(format!("and {} more", all - fits + 1))]));
    }
}

/// The busiest first when not all fit.
fn shard_table(snapshot: &Snapshot, model: &Model, height: u16) -> Table<'static> {
    let mut shards: Vec<&Shard> = snapshot.info.per_shard.iter().collect();
    let fits = usize::from(height.saturating_sub(1));
    if shards.len() > fits {
        let busy = |shard: &Shard| model.rates.get(&shard.shard).map_or(0.0, Rates::busy);
        shards.sort_by(|a, b| busy(b).total_cmp(&busy(a)));
    }
    let mut rows: Vec<Row<'static>> =
        shards.iter().take(fits).map(|shard| shard_row(shard, model.rates.get(&shard.shard))).collect();
    and_more(&mut rows, shards.len(), fits);
    let names = ["SHARD", "CLIENTS", "BUSY", "IN/s", "OUT/s", "P50", "P99"].into_iter();
    let names: Vec<&str> = names.chain(Regime::ALL.iter().map(|regime| short(*regime))).collect();
    let widths = [5, 7, 4, 5, 5, 6, 6].into_iter().chain(Regime::ALL.iter().map(|_| 3));
    Table::new(rows, widths.map(Constraint::Length)).header(head(&names))
}

fn shard_row(shard: &Shard, rates: Option<&Rates>) -> Row<'static> {
    let part = |part: f64| format!("{:.0}", part * 100.0);
    let rate =
        |rate: fn(&Rates) -> f64| rates.map_or("-".to_owned(), |rates| amount(Some(rate(rates) as u64)));
    let busy = rates.map_or("-".to_owned(), |rates| part(rates.busy()) + "%");
    let fixed = [
        shard.shard.to_string(),
        shard.clients.to_string(),
        busy,
        rate(|rates| rates.bytes_in),
        rate(|rates| rates.bytes_out),
        millis(shard.announcements.p50),
        millis(shard.announcements.p99),
    ];
    let regimes = Regime::ALL.iter().enumerate().map(|(n, _)| match rates {
        Some(rates) => part(rates.regimes.get(n).copied().unwrap_or(0.0)),
        None => "-".to_owned(),
    });
    Row::new(fixed.into_iter().chain(regimes).map(Cell::from))
}

/// Three letters of a regime.
fn short(regime: Regime) -> &'static str {
    match regime {
        Regime::Idle => "IDL",
        Regime::Kernel => "KER",
        Regime::Handle => "HDL",
        Regime::Link => "LNK",
        Regime::Announce => "ANN",
        Regime::Handshake => "SHK",
        Regime::Operator => "OPR",
        Regime::Timers => "TIM",
    }
}

/// A table's head.
pub(super) fn head(names: &[&str]) -> Row<'static> {
    Row::new(names.iter().map(|name| Cell::from((*name).to_owned()))).style(DIM)
}
