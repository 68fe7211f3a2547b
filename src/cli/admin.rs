//! Puts the admin interface into a relay: its sockets before start-up, its server and what reads files again inside the hub's runtime.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Failure;
use super::reload::Reloader;
use crate::control::admin::{self, Admin, Events, Hooks, Listeners};
use crate::control::admin_config::AdminConfig;
use crate::control::logs;
use crate::control::metrics::Exposition;
use crate::hub::command::{Command, TagNames};

/// An admin interface that listens and does not answer yet.
#[derive(Debug)]
pub(super) struct Door {
    listeners: Listeners,
    /// What happens is told here.
    pub(super) events: Events,
    /// In words, for the log.
    pub(super) name: String,
}

impl Door {
    /// Binds its sockets. The network's folder must be there.
    pub(super) fn open(config: &AdminConfig) -> Result<Door, Failure> {
        let listen = config.listen().map_err(|error| Failure::Usage(error.to_string()))?;
        let listeners = Listeners::bind(&listen).map_err(|error| Failure::Other(error.to_string()))?;
        let socket = config.socket.as_ref().map(|path| path.display().to_string());
        let names = [socket, listeners.address().map(|at| format!("http://{at}"))];
        let name = names.into_iter().flatten().collect::<Vec<_>>().join(",");
        Ok(Door { listeners, events: Events::new(), name })
    }

    /// What starts the server once there is a way for commands.
    pub(super) fn serve(
        self,
        metrics: Exposition,
        tags: TagNames,
        reloader: Reloader,
    ) -> Box<dyn FnOnce(mpsc::Sender<Command>)> {
        Box::new(move |commands| {
            tokio_uring::spawn(reloader.run(commands.clone()));
            let hooks = Hooks {
                metrics: Arc::new(move || metrics.render()),
                log_level: Arc::new(|level| {
                    logs::set_level(level)?;
                    tracing::info!(event = %"log_level", %level, "an operator has set how much is logged");
                    Ok(())
                }),
            };
            let relay_ends = commands.clone();
            let admin = Admin { commands, events: self.events, tags, hooks };
            let listeners = self.listeners;
            tokio_uring::spawn(async move {
                let ended = async move { relay_ends.closed().await };
                if let Err(error) = admin::serve(listeners, admin, ended).await {
                    tracing::error!(event = %"admin", %error, "the admin interface cannot be served");
                }
            });
        })
    }
}
