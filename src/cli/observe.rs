//! What the hub tells becomes log lines and metrics.

use std::net::SocketAddr;

use bitcoin::hex::DisplayHex as _;
use ipnet::IpNet;

use crate::base::{ClientRef, End, ShardId, Tags};
use crate::control::admin::{Events, What};
use crate::control::metrics;
use crate::hub::command::Capacities;
use crate::hub::driver::Observer;
use crate::hub::session::LinkKind;
use crate::hub::treasury::Happened;
use crate::hub::{Hub, HubEvent, NodeAddr};
use crate::link::ShardReport;
use crate::wire::{self, Hash};

/// The observer of `breakwater run`.
#[derive(Debug)]
pub(super) struct Log {
    listen: String,
    tls: String,
    ready: bool,
    /// For who watches.
    events: Events,
}

impl Log {
    /// Where clients connect, plain and with TLS, for the line that says so.
    pub(super) fn new(listen: &[SocketAddr], tls: &[SocketAddr], events: Events) -> Log {
        let list = |at: &[SocketAddr]| at.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        Log { listen: list(listen), tls: list(tls), ready: false, events }
    }
}

impl Observer for Log {
    fn event(&mut self, event: &HubEvent) {
        tell(&self.events, event);
        match event {
            HubEvent::NodeUp { node, kind, user_agent, services, height, v2 } => {
                let (kind, transport) = (kind.label(), if v2.is_some() { "v2" } else { "v1" });
                // As Bitcoin Core shows it (getpeerinfo).
                let session = v2.as_ref().map(|id| id.to_lower_hex_string());
                tracing::info!(
                    event = %"node_up", %node, kind, transport, session, user_agent, services, height, "node connected"
                );
            }
            HubEvent::FallsBack { node, kind } => {
                let kind = kind.label();
                tracing::info!(event = %"node_v1", %node, kind, "node does not answer BIP324: connecting in v1");
            }
            HubEvent::NodeDown { node, kind, reason, refused } => {
                let kind = kind.label();
                match (*refused, self.ready) {
                    (true, _) => tracing::warn!(event = %"node_left", %node, kind, reason, "node left"),
                    (false, true) => {
                        tracing::warn!(event = %"node_down", %node, kind, reason, "no link to the node")
                    }
                    (false, false) => tracing::warn!(
                        event = %"node_down", %node, kind, reason,
                        "no link to the node: clients are accepted when one answers"
                    ),
                }
            }
            HubEvent::Tip { height, hash } => {
                tracing::info!(event = %"tip", height, hash = wire::display(hash), "new tip");
            }
            HubEvent::Reorg { fork_height, disconnected, connected } => {
                tracing::warn!(event = %"reorg", fork_height, disconnected, connected, "reorganisation");
            }
            HubEvent::Repair(text) => tracing::warn!(event = %"repair", "store repaired: {text}"),
            HubEvent::Damage(text) => tracing::warn!(event = %"damage", "store damaged: {text}"),
            HubEvent::StoreFailed(text) => tracing::error!(event = %"store_failed", "{text}"),
            HubEvent::StoreBack => tracing::info!(event = %"store_back", "the store writes again"),
            HubEvent::TxRefused { wtxid } => {
                tracing::debug!(event = %"tx_refused", wtxid = wire::display(wtxid), "no node accepted the transaction");
            }
            HubEvent::OpenWithoutNode => {
                tracing::warn!(event = %"open_without_node", "no node answers: clients are served from the store");
            }
        }
    }

    fn ready(&mut self, height: u32, hash: &Hash) {
        self.ready = true;
        let (listen, tls, hash) = (&self.listen, &self.tls, wire::display(hash));
        if tls.is_empty() {
            tracing::info!(event = %"ready", %listen, height, hash, "clients are accepted");
        } else {
            tracing::info!(event = %"ready", %listen, %tls, height, hash, "clients are accepted");
        }
    }

    fn report(&mut self, shard: ShardId, report: &ShardReport) {
        metrics::publish(shard, report);
    }

    fn happened(&mut self, what: Happened) {
        if !self.events.is_watched() {
            return;
        }
        let (what, tags) = match what {
            Happened::Connect { client, peer, service, transport, tags } => {
                (What::Connect { client, peer, service: service.0, transport }, tags)
            }
            Happened::Disconnect { client, peer, reason, tags } => (ended(client, peer, reason), tags),
            Happened::Price { client, balance, tags } => {
                (What::Price { client, positive: balance.positive, negative: balance.negative }, tags)
            }
            Happened::ClientCapacity { client, capacity, tags } => {
                (What::ClientCapacity { client, capacity }, tags)
            }
            Happened::TotalCapacity { capacity, after } => {
                let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                (What::TotalCapacity { capacity, after }, Tags::default())
            }
        };
        self.events.happened(what, tags);
    }

    fn capacities(&mut self, capacities: &Capacities) {
        let Capacities { total, connected, priority_connected, .. } = *capacities;
        self.events.set_capacities(total, connected, priority_connected);
        metrics::capacities(capacities);
    }

    fn unbanned(&mut self, network: IpNet) {
        self.events.happened(What::Unban { network }, Tags::default());
    }

    fn second(&mut self, hub: &Hub, dropped: u64) {
        metrics::publish_hub(hub, dropped);
    }
}

/// Tells who watches by the admin interface.
pub(super) fn tell(events: &Events, event: &HubEvent) {
    if events.is_watched()
        && let Some(what) = told(event)
    {
        events.happened(what, Tags::default());
    }
}

fn told(event: &HubEvent) -> Option<What> {
    let link = |node: &NodeAddr, kind: &LinkKind, up, reason| {
        Some(What::NodeLink { node: node.to_string(), link: kind.label(), up, reason })
    };
    match event {
        HubEvent::NodeUp { node, kind, .. } => link(node, kind, true, None),
        HubEvent::NodeDown { node, kind, reason, .. } => link(node, kind, false, Some(reason.clone())),
        HubEvent::Tip { height, hash } => {
            Some(What::Tip { height: *height, hash: wire::display(hash).to_string() })
        }
        _ => None,
    }
}

/// Whom we have ended is told apart from who has left.
fn ended(client: ClientRef, peer: SocketAddr, reason: End) -> What {
    match reason {
        End::Kicked | End::Banned | End::Drained | End::Replaced => What::Kick { client, peer, reason },
        _ => What::Disconnect { client, peer, reason },
    }
}
