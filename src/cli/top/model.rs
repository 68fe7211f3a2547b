//! What is shown and what is typed, without terminal and relay: a message goes in, at most one question to the relay comes out.
//!
//! - bounded: one snapshot, one page of at most [`PAGE`] clients, one question of each kind under way
//! - nothing is done to a client before its confirmation was answered with `y`

use std::collections::BTreeMap;
use std::net::IpAddr;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::data::{Client, Page, Rates, Snapshot};
use super::deed::{Deed, Prompt};
use super::filter::Filter;
use super::order::Order;

/// Clients of a page: what the relay gives at once.
pub(super) const PAGE: usize = 1_000;
/// Longest line that is typed.
const LINE: usize = 120;

/// What happens to the model.
#[derive(Debug)]
pub(super) enum Message {
    /// A key.
    Key(KeyEvent),
    /// A second has passed.
    Tick,
    /// How the relay is, or why that is not known.
    Snapshot(Result<Box<Snapshot>, String>),
    /// The page asked for by this number.
    Page(u64, Result<Page, String>),
    /// What a deed came to: to how many clients.
    Done(Result<Option<u64>, String>),
}

/// What is asked of the relay.
#[derive(Debug, PartialEq)]
pub(super) enum Ask {
    Snapshot,
    /// A path, and the number of the question.
    Page(u64, String),
    Do {
        method: &'static str,
        path: String,
        body: Value,
    },
}

/// Which of the two screens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Screen {
    Overview,
    Clients,
}

/// What the keys go to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mode {
    /// The screen.
    Browse,
    /// A line that is typed.
    Line(Prompt, String),
    /// Whether it shall be done.
    Confirm(Deed),
    Help,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) screen: Screen,
    pub(super) mode: Mode,
    pub(super) snapshot: Option<Box<Snapshot>>,
    pub(super) rates: BTreeMap<u16, Rates>,
    /// Why the relay does not answer; none while it does.
    pub(super) away: Option<String>,
    /// What was done last, or why not.
    pub(super) said: Option<Result<String, String>>,
    pub(super) clients: Vec<Client>,
    pub(super) filter: Filter,
    pub(super) order: Order,
    /// The id of the client that is chosen: it stays chosen when the order changes.
    pub(super) chosen: Option<String>,
    /// Where the pages before this one began; the last is this one's.
    pages: Vec<Option<String>>,
    pub(super) next: Option<String>,
    /// Number of the last question for a page; answers to earlier ones are passed over.
    asked: u64,
    snapshot_asked: bool,
    page_asked: bool,
    pub(super) quits: bool,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            screen: Screen::Overview,
            mode: Mode::Browse,
            snapshot: None,
            rates: BTreeMap::new(),
            away: None,
            said: None,
            clients: Vec::new(),
            filter: Filter::default(),
            order: Order::default(),
            chosen: None,
            pages: vec![None],
            next: None,
            asked: 0,
            snapshot_asked: false,
            page_asked: false,
            quits: false,
        }
    }

    /// Which page this is, from 1.
    pub(super) fn page_number(&self) -> usize {
        self.pages.len()
    }

    /// Clients as they are shown: in order, those that the words of the filter leave.
    pub(super) fn rows(&self) -> Vec<&Client> {
        let mut rows: Vec<&Client> =
            self.clients.iter().filter(|client| self.filter.leaves(client)).collect();
        self.order.sort(&mut rows);
        rows
    }

    /// Place of the chosen one in these rows.
    pub(super) fn chosen_at(&self, rows: &[&Client]) -> Option<usize> {
        rows.iter().position(|client| Some(&client.id) == self.chosen.as_ref())
    }

    pub(super) fn update(&mut self, message: Message) -> Vec<Ask> {
        match message {
            Message::Tick => self.refresh(),
            Message::Snapshot(Ok(new)) => {
                self.snapshot_asked = false;
                self.away = None;
                self.take(new);
                Vec::new()
            }
            Message::Snapshot(Err(why)) => {
                self.snapshot_asked = false;
                self.away = Some(why);
                Vec::new()
            }
            Message::Page(number, result) => {
                if number == self.asked {
                    self.page_asked = false;
                    self.take_page(result);
                }
                Vec::new()
            }
            Message::Done(result) => {
                self.said = Some(result.map(|clients| match clients {
                    Some(1) => "done: 1 client".to_owned(),
                    Some(n) => format!("done: {n} clients"),
                    None => "done".to_owned(),
                }));
                self.refresh()
            }
            Message::Key(key) => self.key(key),
        }
    }

    /// The questions of a second, but for those that wait for an answer already.
    fn refresh(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        if !self.snapshot_asked {
            self.snapshot_asked = true;
            asks.push(Ask::Snapshot);
        }
        if self.screen == Screen::Clients && !self.page_asked {
            asks.push(self.ask_page());
        }
        asks
    }

    fn ask_page(&mut self) -> Ask {
        self.page_asked = true;
        self.asked += 1;
        let after = self.pages.last().cloned().flatten();
        Ask::Page(self.asked, self.filter.path(after.as_deref(), PAGE))
    }

    fn take(&mut self, new: Box<Snapshot>) {
        let same = self.snapshot.as_ref().is_some_and(|old| old.info.started == new.info.started);
        if !same {
            self.rates.clear();
        }
        for shard in &new.info.per_shard {
            let old =
                self.snapshot.iter().flat_map(|old| &old.info.per_shard).find(|old| old.shard == shard.shard);
            if let Some(rates) = old.filter(|_| same).and_then(|old| Rates::between(old, shard)) {
                self.rates.insert(shard.shard, rates);
            }
        }
        self.snapshot = Some(new);
    }

    fn take_page(&mut self, result: Result<Page, String>) {
        match result {
            Ok(page) => {
                (self.clients, self.next) = (page.clients, page.next);
                let rows = self.rows();
                if self.chosen_at(&rows).is_none() {
                    self.chosen = rows.first().map(|client| client.id.clone());
                }
            }
            // Whether the relay is there at all the overview says.
            Err(why) => self.said = Some(Err(why)),
        }
    }

    fn key(&mut self, key: KeyEvent) -> Vec<Ask> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            self.quits = true;
            return Vec::new();
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.browse(key.code),
            Mode::Help => Vec::new(),
            Mode::Line(prompt, text) => self.line(prompt, text, key.code),
            Mode::Confirm(deed) => match key.code {
                KeyCode::Char('y' | 'Y') => vec![deed.ask()],
                KeyCode::Char('n' | 'N') | KeyCode::Esc => {
                    self.said = Some(Ok("nothing was done".to_owned()));
                    Vec::new()
                }
                _ => {
                    self.mode = Mode::Confirm(deed);
                    Vec::new()
                }
            },
        }
    }

    fn browse(&mut self, code: KeyCode) -> Vec<Ask> {
        self.said = None;
        match code {
            KeyCode::Char('q') => self.quits = true,
            KeyCode::Char('?') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Tab => {
                self.screen = match self.screen {
                    Screen::Overview => Screen::Clients,
                    Screen::Clients => Screen::Overview,
                };
                return self.refresh();
            }
            code if self.screen == Screen::Clients => return self.browse_clients(code),
            _ => {}
        }
        Vec::new()
    }

    fn browse_clients(&mut self, code: KeyCode) -> Vec<Ask> {
        match code {
            KeyCode::Up => self.move_by(-1),
            KeyCode::Down => self.move_by(1),
            KeyCode::PageUp => self.move_by(-10),
            KeyCode::PageDown => self.move_by(10),
            KeyCode::Home => self.move_by(isize::MIN),
            KeyCode::End => self.move_by(isize::MAX),
            KeyCode::Char('s') => self.order.next(),
            KeyCode::Char('r') => self.order.reverse(),
            KeyCode::Char('/') => self.mode = Mode::Line(Prompt::Filter, self.filter.text().to_owned()),
            KeyCode::Char('n') => {
                if let Some(next) = self.next.take() {
                    self.pages.push(Some(next));
                    return vec![self.ask_page()];
                }
            }
            KeyCode::Char('p') if self.pages.len() > 1 => {
                self.pages.pop();
                return vec![self.ask_page()];
            }
            KeyCode::Esc if !self.filter.text().is_empty() => return self.set_filter(Filter::default()),
            KeyCode::Char(letter @ ('k' | 'b' | 't' | 'c')) => self.begin(letter),
            _ => {}
        }
        Vec::new()
    }

    fn move_by(&mut self, by: isize) {
        let rows = self.rows();
        let Some(last) = rows.len().checked_sub(1) else { return };
        let at = self.chosen_at(&rows).unwrap_or(0).saturating_add_signed(by).min(last);
        self.chosen = rows.get(at).map(|client| client.id.clone());
    }

    /// Something shall be done to the chosen client.
    fn begin(&mut self, letter: char) {
        let rows = self.rows();
        let Some(client) = self.chosen_at(&rows).and_then(|at| rows.get(at)).map(|client| (*client).clone())
        else {
            self.said = Some(Err("no client is chosen".to_owned()));
            return;
        };
        let address = client.address.parse::<std::net::SocketAddr>().map(|at| at.ip().to_canonical());
        self.mode = match letter {
            'k' => Mode::Confirm(Deed::kick(&client)),
            'b' => {
                let network = address.map(network_of).unwrap_or_default();
                Mode::Line(Prompt::Ban, format!("{network} 24h"))
            }
            't' => Mode::Line(Prompt::Throttle(Box::new(client)), String::new()),
            _ => {
                let capacity = client.capacity.to_string();
                Mode::Line(Prompt::Capacity(Box::new(client)), capacity)
            }
        };
    }

    fn line(&mut self, prompt: Prompt, mut text: String, code: KeyCode) -> Vec<Ask> {
        match code {
            KeyCode::Esc => return Vec::new(),
            KeyCode::Enter => return self.entered(prompt, &text),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char(letter) if text.len() < LINE && !letter.is_control() => text.push(letter),
            _ => {}
        }
        self.mode = Mode::Line(prompt, text);
        Vec::new()
    }

    /// A line that cannot be read stays, with the reason.
    fn entered(&mut self, prompt: Prompt, text: &str) -> Vec<Ask> {
        let read = match &prompt {
            Prompt::Filter => match Filter::read(text) {
                Ok(filter) => return self.set_filter(filter),
                Err(why) => Err(why),
            },
            Prompt::Ban => Deed::ban(text),
            Prompt::Throttle(client) => Deed::throttle(client, text),
            Prompt::Capacity(client) => Deed::capacity(client, text),
        };
        match read {
            Ok(deed) => {
                self.said = None;
                self.mode = Mode::Confirm(deed);
            }
            Err(why) => {
                self.said = Some(Err(why));
                self.mode = Mode::Line(prompt, text.to_owned());
            }
        }
        Vec::new()
    }

    fn set_filter(&mut self, filter: Filter) -> Vec<Ask> {
        (self.filter, self.pages, self.said) = (filter, vec![None], None);
        vec![self.ask_page()]
    }
}

/// The identity of a free client: its IPv4 address, or its IPv6 /64.
fn network_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => ipnet::Ipv6Net::new_assert(address, 64).trunc().to_string(),
    }
}

/// The body of a call about one client.
pub(super) fn about(client: &Client) -> serde_json::Map<String, Value> {
    [("ids".to_owned(), json!([client.id]))].into_iter().collect()
}
