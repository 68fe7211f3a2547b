//! The second screen: a page of clients.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::data::Client;
use super::model::Model;
use super::overview::{head, millis};
use crate::cli::ctl::show::{amount, span};

/// Draws it.
pub(super) fn draw(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let rows = model.rows();
    let [what, table] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(heading(model, rows.len())), what);
    let widths = [9, 21, 5, 5, 6, 4, 4, 5].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    let names = ["ID", "ADDRESS", "CLASS", "OVER", "AGE", "IN", "OUT", "PING", "NAME"];
    let chosen = model.chosen_at(&rows);
    let drawn = Table::new(rows.into_iter().map(row), widths)
        .header(head(&names))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(chosen);
    frame.render_stateful_widget(drawn, table, &mut state);
}

fn heading(model: &Model, shown: usize) -> Line<'_> {
    let filter = match model.filter.text() {
        "" => "all".to_owned(),
        text => format!("filter {text}"),
    };
    let more = if model.next.is_some() { ", n: more" } else { "" };
    let turned = if model.order.reversed { ", turned round" } else { "" };
    let order = model.order.column.label();
    Line::from(format!("{filter}: page {}, {shown} clients{more}; by {order}{turned}", model.page_number()))
}

fn row(client: &Client) -> Row<'_> {
    let class = if client.class == "priority" { "prio" } else { client.class.as_str() };
    Row::new([
        Cell::from(client.id.as_str()),
        Cell::from(client.address.as_str()),
        Cell::from(if client.paused { "pause" } else { class }),
        Cell::from(client.transport.as_str()),
        Cell::from(span(Some(client.connected))),
        Cell::from(amount(Some(client.bytes_in))),
        Cell::from(amount(Some(client.bytes_out))),
        Cell::from(millis(client.round_trip)),
        Cell::from(client.user_agent.as_str()),
    ])
}
