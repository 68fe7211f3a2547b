//! The real server, on the kind of runtime that the hub has, with a relay that is none behind it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc as sync};
use std::thread::JoinHandle;

use breakwater::control::admin::{Admin, Events, Hooks, Listen, Listeners, Token, serve};
use breakwater::hub::command::TagNames;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::http::{self, Answer, exchange, request};
use super::relay::{Asked, World};

/// The token of a server that wants one.
pub const TOKEN: &str = "correct-horse-battery-staple";

pub struct Server {
    pub socket: PathBuf,
    pub address: Option<SocketAddr>,
    pub events: Events,
    pub tags: TagNames,
    pub asked: Asked,
    pub has_tip: Arc<Mutex<bool>>,
    pub level: Arc<Mutex<Option<tracing::Level>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

/// Whether there is a TCP socket, and what it asks for.
#[derive(Clone, Copy, PartialEq)]
pub enum Tcp {
    No,
    Open,
    Token,
}

impl Server {
    pub fn start(tcp: Tcp) -> Server {
        Server::with_queue(tcp, 64, true)
    }

    /// With room for so many commands, answered or not.
    pub fn with_queue(tcp: Tcp, room: usize, answered: bool) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let address = (tcp != Tcp::No).then(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let token = (tcp == Tcp::Token).then(|| Token::new(TOKEN).unwrap());
        let listen = Listen { socket: Some(socket.clone()), address, token };
        let listeners = Listeners::bind(&listen).expect("free addresses");
        let address = listeners.address();
        let (events, tags) = (Events::new(), TagNames::new());
        let (asked, has_tip, level) = (Asked::default(), Arc::new(Mutex::new(true)), Arc::default());
        let (commands, inbox) = mpsc::channel(room);
        let (stop, stopped) = oneshot::channel::<()>();
        let set: Arc<Mutex<Option<tracing::Level>>> = Arc::clone(&level);
        let hooks = Hooks {
            metrics: Arc::new(|| "breakwater_clients 300\n".to_owned()),
            log_level: Arc::new(move |level| {
                *set.lock().unwrap() = Some(level);
                Ok(())
            }),
        };
        let admin = Admin { commands, events: events.clone(), tags: tags.clone(), hooks };
        let world = World::new(asked.clone(), has_tip.clone());
        let (ready, is_ready) = sync::channel();
        let thread = std::thread::spawn(move || {
            tokio_uring::start(async move {
                // One that is silent keeps what it was asked.
                let (mut inbox, mut relay) = (Some(inbox), None);
                if answered {
                    relay = inbox.take().map(|inbox| tokio_uring::spawn(world.run(inbox)));
                }
                ready.send(()).unwrap();
                let stopped = async move { drop(stopped.await) };
                serve(listeners, admin, stopped).await.expect("it serves");
                if let Some(relay) = relay {
                    relay.abort();
                }
            });
        });
        is_ready.recv().unwrap();
        let stop = Some(stop);
        Server { socket, address, events, tags, asked, has_tip, level, stop, thread: Some(thread), _dir: dir }
    }

    /// A request over the Unix socket.
    pub fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        let path = if path.starts_with("/api") || path.ends_with('z') || path == "/metrics" {
            path.to_owned()
        } else {
            format!("/api/v1{path}")
        };
        self.raw(&request(method, &path, body, ""))
    }

    pub fn raw(&self, bytes: &[u8]) -> Answer {
        exchange(http::unix(&self.socket), bytes)
    }

    /// JSON of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u16, method: &str, path: &str, body: Option<&str>) -> Value {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, status, "{method} {path} {body:?}: {}", answer.body);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// A refusal with this status and field, of which the relay hears nothing. `expected` is in what was expected.
    #[track_caller]
    pub fn refused(&self, status: u16, call: (&str, &str, Option<&str>), field: &str, expected: &str) {
        let before = self.asked.lock().unwrap().len();
        let answer = self.expect(status, call.0, call.1, call.2);
        let error = &answer["error"];
        assert_eq!(error["field"], field, "{call:?}: {answer}");
        let said = error["expected"].as_str().unwrap_or("");
        assert!(said.contains(expected), "{call:?}: {expected:?} is not in {answer}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(field)), "{answer}");
        assert_eq!(self.asked.lock().unwrap().len(), before, "{call:?}: the relay was asked");
    }

    /// What the relay was asked last.
    pub fn last(&self) -> String {
        self.asked.lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// Ends it, and waits for that.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
