//! `breakwater top`: a running relay on a terminal, live, and a hand on its clients. It knows nothing of the relay but its admin
//! interface, and asks it once a second: an overview, and at most a page of clients.
//!
//! - `model`: what is shown, and what a key does; no terminal and no relay in it
//! - `data`: answers; `filter`, `order`: which clients, and how; `deed`: what is done to them
//! - `view`, `overview`, `list`: the model drawn
//! - here: the terminal, the calls, and the way between them

mod data;
mod deed;
mod filter;
mod list;
mod model;
mod order;
mod overview;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::Failure;
use super::ctl::PlaceArgs;
use super::ctl::client::Client;
use data::Snapshot;
use model::{Ask, Message, Model};

/// From one look at the relay to the next.
const EVERY: Duration = Duration::from_secs(1);
/// How long the keyboard is waited for before it is looked whether that is still wanted.
const KEYBOARD: Duration = Duration::from_millis(100);
/// Messages that wait to be handled; keys wait in the terminal meanwhile.
const MESSAGES: usize = 64;

/// Where the relay is.
#[derive(Args, Debug)]
pub(super) struct TopArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

/// Shows it until `q`.
pub(super) fn top(args: &TopArgs) -> Result<(), Failure> {
    let client = Client::new(args.place.endpoint()?);
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let text = "top needs a terminal; for scripts there is `breakwater ctl info --json`";
        return Err(Failure::Usage(text.to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Other(format!("no runtime: {error}")))?;
    // Restored by `Restore`, and by ratatui's hook when the program panics.
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let _restore = Restore;
    runtime.block_on(show(&client, &mut terminal))
}

/// Gives the terminal back as it was, however the program ends.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // The terminal may be gone; there is nobody to tell then.
        let _ = ratatui::try_restore();
    }
}

fn failed(error: std::io::Error) -> Failure {
    Failure::Other(format!("the terminal: {error}"))
}

async fn show(client: &Client, terminal: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
    let (sender, mut inbox) = mpsc::channel(MESSAGES);
    let _keyboard = Keyboard::listen(sender.clone())?;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let mut model = Model::new();
    while !model.quits {
        terminal.draw(|frame| view::draw(&model, frame)).map_err(failed)?;
        let message = tokio::select! {
            _ = ticks.tick() => Some(Message::Tick),
            _ = terminated.recv() => return Ok(()),
            heard = inbox.recv() => match heard {
                Some(Heard::Message(message)) => Some(message),
                Some(Heard::Resized) => None,
                Some(Heard::Lost(error)) => return Err(failed(error)),
                None => return Ok(()),
            },
        };
        for ask in message.map(|message| model.update(message)).unwrap_or_default() {
            let (client, sender) = (client.clone(), sender.clone());
            tokio::spawn(async move {
                // Nobody hears it when the program ends.
                let _ = sender.send(Heard::Message(call(&client, ask).await)).await;
            });
        }
    }
    Ok(())
}

/// What comes to the loop.
enum Heard {
    Message(Message),
    Resized,
    /// The terminal cannot be read any more.
    Lost(std::io::Error),
}

/// The thread that reads the terminal; it ends with this.
struct Keyboard(Arc<AtomicBool>);

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Keyboard {
    fn listen(sender: mpsc::Sender<Heard>) -> Result<Keyboard, Failure> {
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let read = move || {
            while !end.load(Ordering::Relaxed) {
                let heard = match event::poll(KEYBOARD).and_then(|any| any.then(event::read).transpose()) {
                    Ok(Some(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                        Heard::Message(Message::Key(key))
                    }
                    Ok(Some(Event::Resize(..))) => Heard::Resized,
                    Ok(_) => continue,
                    Err(error) => Heard::Lost(error),
                };
                let lost = matches!(heard, Heard::Lost(_));
                if sender.blocking_send(heard).is_err() || lost {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("keyboard".into()).spawn(read);
        thread.map_err(|error| Failure::Other(format!("no thread: {error}")))?;
        Ok(Keyboard(ended))
    }
}

/// Does what the model asks.
async fn call(client: &Client, ask: Ask) -> Message {
    match ask {
        Ask::Snapshot => Message::Snapshot(snapshot(client).await.map(Box::new)),
        Ask::Page(number, path) => Message::Page(number, get(client, &path).await),
        Ask::Do { method, path, body } => {
            let answer = client.call(method, &path, Some(&body)).await.map_err(words);
            Message::Done(answer.map(|text| {
                let value = serde_json::from_str::<Value>(&text).unwrap_or(Value::Null);
                value["clients"].as_u64()
            }))
        }
    }
}

async fn snapshot(client: &Client) -> Result<Snapshot, String> {
    let info = get(client, "/api/v1/info").await?;
    let mut services: Value = get(client, "/api/v1/services").await?;
    let mut nodes: Value = get(client, "/api/v1/nodes").await?;
    Ok(Snapshot { info, services: read(services["services"].take())?, nodes: read(nodes["nodes"].take())? })
}

async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, String> {
    let text = client.call("GET", path, None).await.map_err(words)?;
    serde_json::from_str(&text).map_err(|error| format!("{path}: the answer cannot be read: {error}"))
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("the answer cannot be read: {error}"))
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Usage(text) | Failure::Other(text) => text,
    }
}
