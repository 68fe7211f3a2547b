//! The admin interface: HTTP and JSON, on a Unix socket, and on TCP when that is configured.
//!
//! A handler checks what it was given, makes a `hub::command::Command`, and waits for the answer. It knows no shard and no
//! client by itself, and decides nothing about them.
//!
//! - `listen`: sockets; who may connect
//! - `serve`: connections, their bounds and times
//! - `guard`: tokens, and browsers that were led here by somebody else's page
//! - `problem`: every error as JSON
//! - `extract`: bodies, queries and path segments, read strictly
//! - `events`: what happens, and those who watch it
//! - `routes`: the calls
//! - `openapi`: their description
//!
//! Invariants:
//! - runs on the hub's thread and never blocks it; nothing here waits without an end
//! - connections, bodies, headers, watchers and what waits for them are bounded by the numbers below
//! - what is not understood in full is refused with the field, and the relay is not asked

mod events;
mod extract;
mod guard;
mod listen;
mod openapi;
mod problem;
mod routes;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use events::{Event, Events, What};
pub use guard::Token;
pub use listen::{Listen, ListenError, Listeners, short_way};
pub use openapi::description;
pub use serve::serve;
pub(super) use serve::serve_app;

use crate::hub::command::{Command, Refusal, Reply, TagNames};
use crate::hub::desk;
use problem::Problem;

/// Connections at a time, all sockets together; the rest waits in the kernel's queue.
const CONNECTIONS: usize = 64;
/// Connections of them that may watch events: some are left for who wants to do something about it.
const WATCHERS: usize = 32;
/// Events that wait for a watcher; one more and it is dropped.
const WATCHER_QUEUE: usize = 1_024;
/// Most bytes of a body.
const BODY_BYTES: usize = 64 * 1024;
/// Most bytes of a request line and its headers.
const HEADER_BYTES: usize = 16 * 1024;
/// A request's headers, and then its body, must be there after this; an idle connection is closed after it.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// A connection that takes nothing of an answer for this long is closed.
const STALL_TIME: Duration = Duration::from_secs(30);
/// The relay has answered by then: the desk gives up at `desk::ADMIN_TIMEOUT`.
const ANSWER_TIME: Duration = Duration::from_secs(desk::ADMIN_TIMEOUT.as_secs() + 1);
/// Time for requests in progress when the relay ends.
const END_TIME: Duration = Duration::from_secs(1);

/// What is not the hub's to do.
#[derive(Clone)]
pub struct Hooks {
    /// The metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Sets how much is logged; an error is a sentence.
    pub log_level: Arc<dyn Fn(tracing::Level) -> Result<(), String> + Send + Sync>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

/// What the calls need.
#[derive(Clone, Debug)]
pub struct Admin {
    /// To the relay.
    pub commands: mpsc::Sender<Command>,
    /// What happens.
    pub events: Events,
    /// Names of tags.
    pub tags: TagNames,
    /// The rest.
    pub hooks: Hooks,
}

impl Admin {
    /// Asks the relay, and waits for its answer.
    async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Command) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(make(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Problem::from(Refusal::Busy),
            mpsc::error::TrySendError::Closed(_) => Problem::ending(),
        })?;
        match tokio::time::timeout(ANSWER_TIME, answer).await {
            Ok(Ok(result)) => result.map_err(Problem::from),
            Ok(Err(_)) => Err(Problem::ending()),
            Err(_) => Err(Refusal::Late.into()),
        }
    }
}

const _: () = assert!(WATCHERS < CONNECTIONS);
