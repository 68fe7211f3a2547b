//! The model drawn: a head, one of the screens, a foot with what may be typed.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::model::{Mode, Model, Screen};
use super::{list, overview};
use crate::cli::ctl::show::span;

/// The least that everything fits into.
pub(super) const LEAST: (u16, u16) = (80, 24);

pub(super) const DIM: Style = Style::new().add_modifier(Modifier::DIM);
pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
pub(super) const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

const HELP: [&str; 16] = [
    "Tab        overview, clients",
    "q, Ctrl-C  end",
    "",
    "Clients",
    "arrows     choose; PgUp, PgDn by ten, Home, End",
    "n  p       next page, page before (a page is 1,000 clients)",
    "s  r       order by the next column; turn it round (within the page)",
    "/          filter: class:free transport:tls service:0 tag:gold 192.0.2.0/24,",
    "           and words, looked for in the page; Esc: no filter",
    "k          kick the client",
    "b          ban its network for a time",
    "t          throttle it",
    "c          give it another capacity",
    "           nothing is done before y",
    "",
    "any key goes back",
];

/// Draws it.
pub(super) fn draw(model: &Model, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{} x {} is too small: {} x {} wanted", area.width, area.height, LEAST.0, LEAST.1);
        return frame.render_widget(Paragraph::new(text), area);
    }
    let [head, body, said, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(0),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(header(model)), head);
    match model.screen {
        Screen::Overview => overview::draw(model, frame, body),
        Screen::Clients => list::draw(model, frame, body),
    }
    frame.render_widget(Paragraph::new(message(model)), said);
    frame.render_widget(Paragraph::new(footer(model)), foot);
    if model.mode == Mode::Help {
        help(frame, area);
    }
}

fn header(model: &Model) -> Vec<Line<'_>> {
    let Some(snapshot) = &model.snapshot else {
        let text = if model.away.is_some() { "" } else { "asking the relay" };
        return vec![Line::styled("breakwater", BOLD), Line::from(text)];
    };
    let info = &snapshot.info;
    let up = span(Some(now().saturating_sub(info.started) as f64));
    let first = Line::from(vec![
        Span::styled("breakwater ", BOLD),
        Span::raw(format!("{} {}, up {up}", info.version, info.network)),
    ]);
    let tip = match (info.height, &info.tip) {
        (Some(height), Some(tip)) => format!("tip {height} {tip}"),
        _ => "no tip is known yet".to_owned(),
    };
    vec![first, Line::from(tip)]
}

/// Trouble first.
fn message(model: &Model) -> Line<'_> {
    match (&model.away, &model.said) {
        (Some(why), _) => Line::styled(format!("no answer, trying again: {why}"), BAD),
        (None, Some(Ok(text))) => Line::from(text.as_str()),
        (None, Some(Err(text))) => Line::styled(text.as_str(), BAD),
        (None, None) => match &model.mode {
            Mode::Line(prompt, _) => Line::styled(prompt.hint(), DIM),
            _ => Line::default(),
        },
    }
}

fn footer(model: &Model) -> Line<'_> {
    match &model.mode {
        Mode::Line(prompt, text) => {
            Line::from(vec![Span::styled(prompt.label(), BOLD), Span::raw(text.as_str()), Span::raw("_")])
        }
        Mode::Confirm(deed) => Line::styled(format!("{} y / n", deed.words), BAD),
        _ if model.screen == Screen::Clients => {
            Line::styled("/ filter  s r order  n p page  k kick  b ban  t throttle  c capacity  Tab ? q", DIM)
        }
        _ => Line::styled("Tab clients  ? help  q end", DIM),
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let [_, middle, _] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(HELP.len() as u16 + 2),
        Constraint::Fill(1),
    ])
    .areas(area);
    let text: Vec<Line<'_>> = HELP.into_iter().map(Line::from).collect();
    frame.render_widget(Clear, middle);
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title("Keys")), middle);
}

/// Seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
