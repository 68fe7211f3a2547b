//! What clients are promised, and when they are let in.
//!
//! Service bits say truly what is served:
//! - WITNESS always, P2P_V2 as configured.
//! - NETWORK when every block can be given: from the store (`keep = "all"` and complete), or on demand through a node with
//!   NODE_NETWORK that is up or was up within `NODE_GRACE` (a restart of the node is no reason to break a promise
//!   that will hold again before a client has read it).
//! - NETWORK_LIMITED when the last 288 blocks can be given: from the store, or through any such node.
//! - COMPACT_FILTERS when all filter headers up to the tip's neighbourhood are known and every filter can be given the
//!   same two ways.
//!
//! When every node is away for longer, the bits shrink to what the store alone gives; connected clients keep what they
//! were told in `version`, newcomers are told the truth.

use std::sync::Arc;

use super::{Hub, HubEvent, Output};
use crate::base::Instant;
use crate::base::limits::{FILTERS_PATIENCE, LIMITED_BLOCKS, NODE_GRACE, OPEN_WITHOUT_NODE};
use crate::hub::store::Keep;
use crate::link::{Policy, ToShard};
use crate::wire::Services;

/// What has been said to the shards.
#[derive(Debug)]
pub(super) struct Promise {
    /// True exactly when shards have been told to accept clients.
    pub(super) open: bool,
    /// True exactly when `Ready` has been given out.
    pub(super) ready: bool,
    said: Option<Arc<Policy>>,
    /// When clients are let in without a node.
    open_at: Instant,
    /// True exactly when the window was complete once; the check is linear, so it is made when downloads end.
    stored: bool,
    /// While everything but filters is ready: how many filter headers there were, and since when no more came.
    filters_wait: Option<(u64, Instant)>,
}

impl Promise {
    pub(super) fn new(now: Instant) -> Promise {
        let open_at = now + OPEN_WITHOUT_NODE;
        Promise { open: false, ready: false, said: None, open_at, stored: false, filters_wait: None }
    }

    /// Something of the kept window is missing.
    pub(super) fn incomplete(&mut self) {
        self.stored = false;
    }
}

impl Hub {
    /// Lets clients in when everything they may ask for first is here.
    pub(super) fn try_open(&mut self) {
        if self.promise.ready || self.drained.is_some() {
            return;
        }
        // A node that is up but has not given its headers may be ahead; it does so or is left.
        let synced = self.nodes.list.iter().any(|n| n.synced)
            && self.nodes.list.iter().all(|n| n.synced || !n.is_up());
        let (height, hash) = self.chain.tip();
        if !synced || !self.tip_is_here() || !(self.filters_are_here() || self.filters_stalled()) {
            return;
        }
        self.promise.ready = true;
        self.open();
        self.out.push_back(Output::Ready { height, hash });
    }

    fn tip_is_here(&mut self) -> bool {
        let (height, hash) = self.chain.tip();
        // A new regtest chain has its genesis block only, which nobody asks for.
        height == 0
            || self.blocks.recent.contains_key(&hash)
            || self.keeper.has(&super::keeper::Piece::Block(hash))
    }

    /// True exactly when the node promises filters and gives none for `FILTERS_PATIENCE`: it is still building its index.
    /// Clients without filters need not wait for that; the service is promised when the headers are here.
    fn filters_stalled(&mut self) -> bool {
        let (count, now) = (self.counters.filter_headers, self.now);
        match self.promise.filters_wait {
            Some((before, since)) if before == count => now >= since + FILTERS_PATIENCE,
            _ => {
                self.promise.filters_wait = Some((count, now));
                self.wake_at(now + FILTERS_PATIENCE);
                false
            }
        }
    }

    fn filters_are_here(&self) -> bool {
        let tip = self.chain.tip().0;
        let served = self.nodes.list.iter().any(|node| node.synced && node.has_filters());
        !served || (self.chain.filters_to() == Some(tip) && (tip == 0 || self.filter_here(tip)))
    }

    /// Tells the shards the chain, the policy, and to accept.
    fn open(&mut self) {
        if self.promise.open {
            self.publish();
            self.policy_changed();
            return;
        }
        self.promise.open = true;
        self.publish_first();
        self.policy_changed();
        self.tell_addresses();
        self.tell_all(&ToShard::Open);
    }

    /// Computes the policy anew and tells it when it is another.
    pub(super) fn policy_changed(&mut self) {
        if !self.promise.open {
            return;
        }
        let fee_filter = self.nodes.list.iter().filter_map(|n| n.peer.as_ref()).map(|p| p.fee_filter).min();
        let fee_filter =
            fee_filter.unwrap_or_else(|| self.promise.said.as_ref().map_or(0, |said| said.fee_filter));
        let policy = Policy { services: self.services(), fee_filter, mempool: self.config.allow_mempool };
        if self.promise.said.as_deref() == Some(&policy) {
            return;
        }
        let policy = Arc::new(policy);
        self.promise.said = Some(policy.clone());
        self.tell_all(&ToShard::Policy(policy));
    }

    fn services(&self) -> Services {
        let now = self.now;
        let reachable = |wanted: Services| {
            self.nodes.list.iter().any(|node| {
                let fresh = node.is_up() || node.last_up.is_some_and(|at| now.since(at) < NODE_GRACE);
                fresh && node.services.contains(wanted)
            })
        };
        let all = matches!(self.config.keep, Keep::All);
        let limited_stored = match self.config.keep {
            Keep::All => self.promise.stored,
            Keep::Last(n) => self.promise.stored && n >= LIMITED_BLOCKS,
        };
        let network = (all && self.promise.stored) || reachable(Services::NETWORK);
        let limited = network || limited_stored || reachable(Services::NETWORK_LIMITED);
        let (tip, known) = (self.chain.tip().0, self.chain.filters_to());
        // The tip's own filter header may lag; clients hear of the tip when it is here.
        let headers = known.is_some_and(|to| to + LIMITED_BLOCKS > tip);
        let filters = headers && ((all && self.promise.stored) || reachable(Services::COMPACT_FILTERS));
        let mut services = Services::WITNESS;
        services.set(Services::P2P_V2, self.config.v2);
        services.set(Services::NETWORK, network);
        services.set(Services::NETWORK_LIMITED, limited);
        services.set(Services::COMPACT_FILTERS, filters);
        services
    }

    /// Time passes: opening without a node, promises that lapse.
    pub(super) fn tick_policy(&mut self) {
        let now = self.now;
        let complete = self.blocks_complete() && self.filters_complete();
        if complete && !self.promise.stored {
            self.promise.stored = true;
        }
        self.try_open();
        if !self.promise.open && self.drained.is_none() {
            if now >= self.promise.open_at && self.chain.tip().0 > 0 && !self.nodes.any_up() {
                self.out.push_back(Output::Event(HubEvent::OpenWithoutNode));
                self.open();
            } else {
                let at = self.promise.open_at.max(now + std::time::Duration::from_millis(100));
                self.wake_at(at);
            }
        }
        self.policy_changed();
    }

    fn filters_complete(&self) -> bool {
        let served = self.nodes.list.iter().any(|node| node.services.contains(Services::COMPACT_FILTERS));
        !served || self.filters_done()
    }
}
