//! Clients of the rig for benchmarks that run the relay themselves: any transport, pinned to the load's core.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::LOAD_CORE;
use crate::rig::engine::{Engine, Shared};
use crate::rig::measure::{Levels, Tally};
use crate::rig::scenario::{Scenario, Transport, Wish, part};
use crate::{MAGIC, Outcome, certificate, os};

/// From one look at the engine to the next; its threads report five times a second.
const LOOK: Duration = Duration::from_millis(20);

/// Clients of one behaviour, connecting or connected.
pub(crate) struct Crowd {
    engine: Engine,
    totals: Vec<Tally>,
    levels: Levels,
    pub(crate) clients: u32,
}

/// What a scenario of listeners over a transport is; `ca`: the certificate that is trusted, for TLS.
pub(crate) fn scenario(
    target: SocketAddr,
    transport: Transport,
    ca: Option<&Path>,
    clients: u32,
    behaviour: &str,
) -> Outcome<Scenario> {
    let wish = Wish {
        targets: vec![target.to_string()],
        clients: Some(u64::from(clients)),
        parts: vec![part(behaviour)?],
        ramp: Some("all".to_string()),
        transport: Some(transport.name().to_string()),
        tls_ca: ca.map(Path::to_path_buf),
        tls_name: Some(certificate::NAME.to_string()),
        ..Wish::default()
    };
    Ok(Scenario::new(wish, false)?)
}

impl Crowd {
    /// Begins to connect them, on the load's core. The caller's thread is on `core` afterwards: threads begin where the one is
    /// that starts them.
    pub(crate) fn start(scenario: Scenario, core: usize) -> Outcome<Crowd> {
        os::pin(LOAD_CORE);
        let crowd = Crowd::start_anywhere(scenario);
        os::pin(core);
        crowd
    }

    /// The same on whatever core.
    pub(crate) fn start_anywhere(scenario: Scenario) -> Outcome<Crowd> {
        let clients = scenario.clients;
        let engine = Engine::start(Arc::new(scenario), Shared::new(1, MAGIC))?;
        Ok(Crowd { engine, totals: vec![Tally::default()], levels: Levels::default(), clients })
    }

    /// What they have measured, and how many of them there are.
    pub(crate) fn look(&mut self) -> (&Tally, Levels) {
        self.levels = self.engine.look(&mut self.totals);
        (&self.totals[0], self.levels)
    }

    /// Waits until `done`, at most `limit`.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Tally, Levels) -> bool,
    ) -> Outcome {
        let start = Instant::now();
        loop {
            let (tally, levels) = self.look();
            if done(tally, levels) {
                return Ok(());
            }
            if let Some((why, _)) = tally.refused.iter().chain(&tally.errors).next() {
                return Err(format!("clients of the benchmark failed before {what}: {why}").into());
            }
            if start.elapsed() > limit || self.engine.has_failed() {
                return Err(format!("not within {limit:?}: {what}").into());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until all are ready.
    pub(crate) fn ready(&mut self, limit: Duration) -> Outcome {
        let clients = u64::from(self.clients);
        self.wait("all clients ready", limit, |_, levels| levels.ready == clients)
    }

    /// Closes all connections.
    pub(crate) fn leave(self) -> Outcome {
        self.engine.close(false);
        self.engine.join()
    }
}
