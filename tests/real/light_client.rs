//! The crate bip157 (kyoto) as the relay's client: a real light client, with the relay as its only peer.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bip157::chain::ChainState;
use bip157::chain::checkpoints::HashCheckpoint;
use bip157::{Builder, Client, Event, IndexedFilter, Network, Requester, ServiceFlags, TrustedPeer};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, ScriptBuf, Transaction, WPubkeyHash};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::scene::{LONG, Scene};
use crate::support::chain;
use crate::support::node::Kind;
use crate::support::wait::{self, PATIENCE};

/// Headers and filters to the tip, the block that a filter points to, a broadcast, the next block, a reorganisation.
pub fn whole_life(kind: Kind) {
    let scene = Scene::new(kind, LONG);
    // Somewhere in the chain somebody pays the wallet.
    let wallet = ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(b"the light client's only key"));
    scene.node.send_raw(&chain::pay(&scene.node.coin(1), &wallet));
    let paid = scene.node.mine(1)[0];
    let tip = *scene.node.mine(5).last().expect("hashes");

    let mut client = LightClient::start(scene.relay.listen());
    client.sync_to(tip);
    assert_eq!(client.filters.len() as u32, LONG + 6, "a filter for every block");
    let matching = client.matching(&wallet);
    assert_eq!(matching, [paid], "the filters point to the one block with the payment");
    let block = client.wait(client.requester.get_block(paid)).expect("block");
    assert_eq!(block.block, scene.node.block(paid));
    assert_eq!(block.height, LONG + 1);
    // An old one, which the relay does not keep.
    let old = scene.node.block_at(3);
    let block = client.wait(client.requester.get_block(old.block_hash())).expect("block");
    assert_eq!(block.block, old);

    let tx = chain::spend(&scene.node.coin(2));
    client.broadcast(&tx);
    wait::for_("light client's transaction in the mempool", || scene.node.has_in_mempool(tx.compute_txid()));

    let next = scene.node.mine(1)[0];
    client.sync_to(next);
    let fork = chain::fork(&scene.node, scene.node.height() - 2, 3);
    for block in &fork {
        scene.node.submit_block(block);
    }
    client.sync_to(fork[2].block_hash());
    client.stop();
}

pub struct LightClient {
    runtime: Runtime,
    node: JoinHandle<Result<(), bip157::NodeError>>,
    events: UnboundedReceiver<Event>,
    pub requester: Requester,
    /// The last filter seen of each height.
    pub filters: BTreeMap<u32, IndexedFilter>,
}

impl LightClient {
    /// A client that knows nothing but the genesis block and one peer. It ends when it loses that peer.
    pub fn start(peer: SocketAddr) -> LightClient {
        LightClient::start_with(TrustedPeer::from_socket_addr(peer))
    }

    /// The same over BIP324: the crate speaks it with peers that are said to know it, and with them nothing else.
    pub fn start_v2(peer: SocketAddr) -> LightClient {
        let mut peer = TrustedPeer::from_socket_addr(peer);
        peer.set_services(ServiceFlags::P2P_V2);
        LightClient::start_with(peer)
    }

    fn start_with(peer: TrustedPeer) -> LightClient {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("runtime");
        let (node, client) = Builder::new(Network::Regtest)
            .chain_state(ChainState::Checkpoint(HashCheckpoint::from_genesis(Network::Regtest)))
            .add_peer(peer)
            .whitelist_only()
            .fetch_witness_data()
            .build();
        let Client { requester, mut info_rx, mut warn_rx, event_rx } = client;
        let node = runtime.spawn(node.run());
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    Some(_) = info_rx.recv() => {}
                    Some(warning) = warn_rx.recv() => println!("bip157: {warning}"),
                    else => return,
                }
            }
        });
        LightClient { runtime, node, events: event_rx, requester, filters: BTreeMap::new() }
    }

    /// Waits until headers and filters are here up to this block.
    #[track_caller]
    pub fn sync_to(&mut self, tip: BlockHash) {
        loop {
            let next = async { tokio::time::timeout(PATIENCE, self.events.recv()).await };
            let event = self.runtime.block_on(next);
            match event.unwrap_or_else(|_| panic!("bip157 says nothing; waiting for {tip}")) {
                Some(Event::IndexedFilter(filter)) => {
                    self.filters.insert(filter.height(), filter);
                }
                Some(Event::FiltersSynced(update)) if update.tip().hash == tip => return,
                Some(_) => {}
                None => panic!("bip157 ended; waiting for {tip}"),
            }
        }
    }

    /// The blocks whose filters match a script.
    pub fn matching(&self, script: &ScriptBuf) -> Vec<BlockHash> {
        let found = self.filters.values().filter(|f| f.contains_any(std::iter::once(script)));
        found.map(IndexedFilter::block_hash).collect()
    }

    #[track_caller]
    pub fn broadcast(&self, tx: &Transaction) {
        let sent = self.wait(self.requester.submit_package(tx.clone())).expect("bip157 runs");
        assert_eq!(sent, tx.compute_wtxid());
    }

    #[track_caller]
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(PATIENCE, future).await };
        self.runtime.block_on(limited).unwrap_or_else(|_| panic!("bip157 did not answer within {PATIENCE:?}"))
    }

    pub fn stop(self) {
        assert!(!self.node.is_finished(), "bip157 lost its peer");
        let _ = self.requester.shutdown();
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}
