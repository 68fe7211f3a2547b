//! What the relay looks like from outside: its counters, and what must hold when nothing is going on.

use breakwater::base::End;
use breakwater::base::end::Side;
use breakwater::io::ListenerId;
use breakwater::link::ShardReport;

use super::relay::{Core, Relay};

impl Relay {
    /// The hub's counters, for a failing run.
    pub fn describe(&self) -> String {
        let Some(hub) = &self.hub else { return "no hub".into() };
        let counters = hub.counters().list().into_iter().filter(|(_, _, count)| *count > 0);
        let counters: Vec<String> = counters.map(|(name, _, count)| format!("{name} {count}")).collect();
        format!("hub: {}\n  store: {:?}", counters.join(", "), hub.store_counters())
    }

    /// What must hold when nothing is going on.
    pub fn check_idle(&self) -> Result<(), String> {
        for (index, core) in self.cores.iter().enumerate() {
            let out = self.net.borrow().port(core.port).buffers_out();
            if out > 0 {
                return Err(format!("shard {index} idle holds {out} receive buffers"));
            }
            let bytes = core.shard.core().buffer_bytes();
            if bytes > 0 {
                return Err(format!("shard {index} idle has {bytes} bytes of buffers in use"));
            }
            let connections = self.net.borrow().port(core.port).connections();
            if connections != core.shard.core().clients() as usize {
                return Err(format!(
                    "shard {index} has {} clients on {connections} connections",
                    core.shard.core().clients()
                ));
            }
            let shaking = core.shard.core().transport_handshakes();
            if shaking != Default::default() {
                return Err(format!("shard {index} idle has {shaking:?}"));
            }
            let port = self.net.borrow();
            for listener in [ListenerId(0), ListenerId(1)] {
                if port.port(core.port).holds(listener) {
                    return Err(format!("shard {index} idle holds {listener:?}"));
                }
            }
        }
        Ok(())
    }

    /// TLS sessions, full and resumed, and sessions of BIP324 since the process started.
    pub fn sessions(&self) -> [u64; 3] {
        let counters = |core: &Core| {
            let c = core.shard.core().counters();
            [c.tls_full, c.tls_resumed, c.v2_sessions]
        };
        self.cores.iter().map(counters).fold([0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]])
    }

    /// Times TLS listeners were held since the process started.
    pub fn held(&self) -> u64 {
        self.cores.iter().map(|core| core.shard.core().counters().tls_held).sum()
    }

    /// True exactly when a client that keeps all rules may be ended for this.
    pub fn is_honest(&self, end: End) -> bool {
        // A client may be ahead of a relay that has lost power, and ask for what that has not heard of again yet.
        let ahead = end == End::BadFilterRequest && self.starts > 1;
        end.side() != Side::Peer || ahead
    }

    /// Clients connected, all shards together.
    pub fn clients(&self) -> u32 {
        self.cores.iter().map(|core| core.shard.core().clients()).sum()
    }
}

/// Counters that must add up at every moment.
pub fn check_report(report: &ShardReport) -> Result<(), String> {
    let names = breakwater::shard::counters::NAMES;
    let accepted = names.iter().position(|(name, _)| *name == "accepted").map_or(0, |at| report.counters[at]);
    let ended: u64 = report.ends.iter().sum();
    if accepted != ended + u64::from(report.clients) {
        return Err(format!("accepted {accepted}, ended {ended}, connected {}", report.clients));
    }
    if report.ready > report.clients {
        return Err(format!("{} of {} clients are ready", report.ready, report.clients));
    }
    Ok(())
}
